"""DensePose-COCO json -> Person: every unit, every odd shape that the files hold."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ktn_jax.anatomy import UNKNOWN_PART
from ktn_jax.data.annotations import DP_GRID, read_people

SIZE = (60, 80)


def entry(**fields):
    """An annotated person in the square 20..40 x 10..30 (x, y)."""
    return {
        "id": 7,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": 400.0,
        "bbox": [20, 10, 20, 20],
        "segmentation": [[20, 10, 40, 10, 40, 30, 20, 30]],
    } | fields


def surface(**fields):
    """Two surface points for an entry."""
    return {
        "dp_x": [0.0, 128.0],
        "dp_y": [64.0, 256.0],
        "dp_I": [2.0, 23.0],
        "dp_U": [0.25, 0.5],
        "dp_V": [0.75, 1.0],
    } | fields


def compressed(mask):
    """COCO's compressed run lengths, by COCO's own coder."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def plain(mask):
    """Uncompressed run lengths, background first, down the columns."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def grid_rows(first, last):
    """A part's mask: the rows first..last of the box's grid."""
    grid = np.zeros((DP_GRID, DP_GRID), bool)
    grid[first:last] = True
    return grid


def read(annotation):
    (person,) = read_people([annotation], *SIZE)
    return person


def test_points_are_in_256ths_of_the_box():
    points = read(entry(**surface())).points
    # x = 20 + 20 * 0 / 256 and 20 + 20 * 128 / 256; y = 10 + 20 * 64 / 256 and 10 + 20
    np.testing.assert_allclose(points.yx, [[15, 20], [30, 30]])
    np.testing.assert_array_equal(points.chart, [2, 23])
    np.testing.assert_allclose(points.uv, [[0.25, 0.75], [0.5, 1.0]])
    assert (points.yx.dtype, points.chart.dtype) == (np.float32, np.int32)


def test_points_on_no_chart_are_dropped_and_uv_is_clipped():
    fields = surface(dp_I=[0.0, 5.0], dp_U=[0.1, 1.0001], dp_V=[0.1, -0.0002])
    points = read(entry(**fields)).points
    np.testing.assert_array_equal(points.chart, [5])
    np.testing.assert_allclose(points.uv, [[1, 0]])


def test_a_person_without_dense_pose_has_no_points_and_one_without_body_points_has_zero():
    assert read(entry()).points is None
    assert len(read(entry(**surface(dp_I=[0, 0]))).points.chart) == 0


def test_keypoints_move_to_pixel_centres_and_absent_ones_are_zero():
    values = [0.0] * 51
    values[0:3] = [30, 12, 2]  # nose at x 30, y 12
    values[15:18] = [22, 18, 1]  # left shoulder, hidden
    keypoints = read(entry(keypoints=values)).keypoints
    np.testing.assert_array_equal(keypoints[0], [12.5, 30.5, 2])
    np.testing.assert_array_equal(keypoints[5], [18.5, 22.5, 1])
    assert not keypoints[[1, 2, 3, 4, *range(6, 17)]].any()
    assert keypoints.dtype == np.float32


@pytest.mark.parametrize("fields", [{}, {"keypoints": []}, {"keypoints": [0] * 51}])
def test_unannotated_keypoints_are_none(fields):
    assert read(entry(**fields)).keypoints is None


def test_every_form_of_segmentation_gives_the_same_mask():
    square = np.zeros(SIZE, bool)
    square[10:30, 20:40] = True
    encoded = compressed(square)
    as_bytes = encoded | {"counts": encoded["counts"].encode()}
    polygon = [[20, 10, 40, 10, 40, 30, 20, 30]]
    for segmentation in (encoded, as_bytes, plain(square), polygon):
        mask = read(entry(segmentation=segmentation)).mask
        np.testing.assert_array_equal(mask, square)
        assert mask.dtype == bool


def test_run_lengths_agree_with_cocos_own_decoder():
    rng = np.random.default_rng(0)
    for _ in range(40):
        size = tuple(rng.integers(1, 70, 2).tolist())
        mask = rng.random(size) < rng.random()
        (person,) = read_people([entry(segmentation=compressed(mask))], *size)
        np.testing.assert_array_equal(person.mask, mask)


def test_polygons_of_two_points_are_dropped():
    square = read(entry()).mask
    two = read(entry(segmentation=[[0, 0, 9, 9], *entry()["segmentation"]])).mask
    np.testing.assert_array_equal(two, square)
    assert not read(entry(segmentation=[[0, 0, 9, 9]])).mask.any()


def test_part_masks_lie_on_the_box_and_the_later_one_wins():
    masks = [[]] * 14
    masks[0] = compressed(grid_rows(0, 128))  # torso: upper half, y 10..20
    masks[13] = compressed(grid_rows(64, 192))  # head: y 15..25
    person = read(entry(**surface(dp_masks=masks)))
    expected = np.zeros(SIZE, np.uint8)
    expected[10:15, 20:40] = 1
    expected[15:25, 20:40] = 14
    expected[25:30, 20:40] = UNKNOWN_PART  # the fringe: segmentation without part
    np.testing.assert_array_equal(person.parts, expected)
    assert person.parts.dtype == np.uint8


def test_parts_keep_their_place_where_the_box_leaves_the_image():
    masks = [None] * 14
    masks[1] = compressed(grid_rows(0, 256))
    fields = {"bbox": [-10.5, 50, 21, 20], "segmentation": [[0, 50, 9, 50, 9, 60, 0, 60]]}
    parts = read(entry(**fields, dp_masks=masks)).parts
    # pixel centres x + 0.5 < -10.5 + 21 = 10.5: columns 0..9
    np.testing.assert_array_equal(np.argwhere(parts == 2).max(0), [59, 9])
    np.testing.assert_array_equal(np.argwhere(parts == 2).min(0), [50, 0])


@pytest.mark.parametrize("empty", [[], {}, None, ""])
def test_empty_part_masks_are_no_part_annotation(empty):
    assert read(entry(**surface(dp_masks=[empty] * 14))).parts is None
    assert read(entry(**surface(dp_masks=empty))).parts is None


def test_a_single_part_mask_is_a_foreground_and_names_no_part():
    single = compressed(grid_rows(0, 128))
    person = read(entry(**surface(dp_masks=single)))
    assert person.parts is None
    assert person.mask.sum() == 400  # the segmentation, where there is one
    person = read(entry(segmentation=[], **surface(dp_masks=single)))
    assert person.parts is None
    assert person.mask.sum() == 200  # else the upper half of the box


def test_of_a_crowd_only_the_mask_is_read():
    square = np.zeros(SIZE, bool)
    square[5:9, 5:9] = True
    fields = surface(
        keypoints=[30, 12, 2] * 17, dp_masks=[compressed(grid_rows(0, 9))] * 14
    )
    person = read(entry(iscrowd=1, segmentation=plain(square), **fields))
    assert person.crowd
    np.testing.assert_array_equal(person.mask, square)
    assert (person.keypoints, person.points, person.parts) == (None, None, None)


def test_other_categories_are_left_out_and_order_is_kept():
    entries = [entry(id=3), entry(id=4, category_id=18), entry(id=2)]
    people = read_people(entries, *SIZE)
    assert [person.id for person in people] == [3, 2]
    assert (people[0].area, people[0].bbox.tolist()) == (400.0, [20, 10, 20, 20])


RUNS = compressed(np.eye(*SIZE, dtype=bool))
BAD = [
    ("bbox", [20, 10, 20]),
    ("bbox", [20, 10, float("nan"), 20]),
    ("area", None),
    ("keypoints", [1, 2, 3]),
    ("keypoints", [1, 2, 5] * 17),
    ("segmentation", [1.0, 2.0, 3.0]),
    ("segmentation", [[1, 2, 3, 4, 5, 6, 7]]),
    ("segmentation", {"size": [60, 80], "counts": [10, 20]}),
    ("segmentation", {"size": [80, 60], "counts": [4800]}),
    ("segmentation", {"size": [60, 80], "counts": RUNS["counts"][:-9]}),
    ("segmentation", {"size": [60, 80], "counts": "\u00e9"}),
    ("segmentation", {"counts": "11"}),
    ("dp_y", [1.0]),
    ("dp_x", ["left", 3]),
    ("dp_U", [0.5, None]),
    ("dp_I", [1.0, 25.0]),
    ("dp_I", [1.5, 2.0]),
    ("dp_masks", [[]] * 13 + [RUNS]),
    ("dp_masks", [[], compressed(grid_rows(0, 9))]),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_malformed_field_is_named_with_its_annotation_and_value(field, value):
    good = entry(**surface(keypoints=[0] * 51))
    read(good)
    with pytest.raises(ValueError, match=f"annotation 7: {field} ") as error:
        read(good | {field: value})
    assert repr(value)[:70] in str(error.value)


def test_a_polygon_far_off_is_refused_before_it_is_drawn():
    """Its edges are walked pixel by pixel: a stray exponent would take for ever."""
    with pytest.raises(ValueError, match="segmentation a polygon leaves the image by far"):
        read(entry(segmentation=[[20, 10, 40, 10, 2000, 30]]))


def test_a_vertex_json_is_refused_by_name():
    fields = {"dp_x": [1.0], "dp_y": [1.0], "dp_vertex": [5], "ref_model": "smpl_27554"}
    with pytest.raises(ValueError, match=r"dp_I is missing .a vertex json"):
        read(entry(**fields))
