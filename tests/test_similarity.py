"""GPS, mask IoU and box IoU of a pair: the official numbers, then rule by rule.

The body of the small cases is a line: chart 1 has vertices 0..10 at U = 0, .1 .. 1, chart
2 has 11..21 likewise, and neighbours are 0.1 m apart.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as rle
from scipy.ndimage import zoom

from ktn_jax.errors import UserError
from ktn_jax.evaluation.average_precision import measure_scenes
from ktn_jax.evaluation.challenge import Detection, Scene, load_ground_truth
from ktn_jax.evaluation.encoded import decode_rle, encode_iuv
from ktn_jax.evaluation.results import load_results
from ktn_jax.evaluation.similarity import KAPPA_OF_CHART, measure
from ktn_jax.evaluation.surface import Surface, load_official

REFERENCE = Path(__file__).parent / "reference" / "evaluator"


class LineDistances:
    def between(self, a, b):
        return np.abs(a - b) * 0.1


U = np.tile(np.arange(11) / 10, 2)
LINE = Surface(
    np.repeat([1, 2], 11),
    np.stack([U, np.zeros(22)], axis=-1),
    vertex=np.arange(22),
    distances=LineDistances(),
)


def person(bbox, points=(), **fields):
    """points: (dp_x, dp_y, dp_I, dp_U) each; V is 0 on the line."""
    columns = list(zip(*points, strict=True)) or [()] * 4
    dp = dict(zip(("dp_x", "dp_y", "dp_I", "dp_U"), map(list, columns), strict=True))
    dp["dp_V"] = [0.0] * len(points)
    return {"id": 1, "bbox": bbox, "area": 1e4, **dp, **fields}


def detection(bbox, iuv, score=0.5):
    uv_shape, uv_data = encode_iuv(iuv)
    entry = {"uv_shape": uv_shape, "uv_data": uv_data}
    return Detection(1, np.array(bbox, float), score, entry)


def plain(height, width, chart=1, u=0.0):
    """A map of one chart and U everywhere."""
    iuv = np.zeros((height, width, 3), np.uint8)
    iuv[..., 0], iuv[..., 1] = chart, round(255 * u)
    return iuv


def one(a_detection, a_person, size=(100, 200)):
    """Similarities of the only pair in an image of size (height, width)."""
    found = measure(Scene(1, 1, *size, (a_person,), (a_detection,)), LINE)
    return SimpleNamespace(**{k: v.item() for k, v in found._asdict().items()})


# --- the official numbers ------------------------------------------------------------


@pytest.fixture(scope="module")
def official():
    gt = load_ground_truth(REFERENCE / "gt.json.gz")
    results = load_results(REFERENCE / "results.json.gz")
    return measure_scenes(gt, results, load_official(REFERENCE))


def test_every_official_gps_is_met(official):
    pairs = json.loads((REFERENCE / "expected.json").read_text())["gps_pairs"]
    found = {f"{scene.image_id}/{scene.category_id}": (scene, s) for scene, s in official}
    assert len(pairs) == 10 and set(pairs) <= set(found)
    for key, expected in pairs.items():
        scene, similarity = found[key]
        assert [d.id for d in scene.detections] == expected["dt_ids"]
        assert [p["id"] for p in scene.people] == expected["gt_ids"]
        np.testing.assert_allclose(similarity.gps, expected["gps"], atol=1e-6)


def test_every_mask_iou_is_that_of_whole_image_masks(official):
    # the official way: both masks painted on an empty image, one compared with the other
    compared = 0
    for scene, similarity in official:
        truths = [painted_person(annotation, scene) for annotation in scene.people]
        for i, found in enumerate(scene.detections):
            mask = painted(found.iuv()[..., 0] > 0, found.bbox, scene)
            for j, (annotation, truth) in enumerate(zip(scene.people, truths, strict=True)):
                base = mask.sum() if annotation["iscrowd"] else (mask | truth).sum()
                iou = (mask & truth).sum() / base if base else 0.0
                assert similarity.mask_iou[i, j] == pytest.approx(iou, abs=1e-12)
                gpsm = np.sqrt(similarity.gps[i, j] * iou)
                assert similarity.gpsm[i, j] == pytest.approx(gpsm, abs=1e-12)
                compared += iou > 0
    assert compared > 200


MARGIN = 1000  # an image in the middle of a larger one, so that nothing has to be cut


def painted(mask, bbox, scene):
    canvas = np.zeros((scene.height + 2 * MARGIN, scene.width + 2 * MARGIN), bool)
    x, y, width, height = bbox
    top, left = MARGIN + int(y), MARGIN + int(x)
    canvas[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    canvas[MARGIN + int(y + height) :] = False
    canvas[:, MARGIN + int(x + width) :] = False
    return canvas[MARGIN:-MARGIN, MARGIN:-MARGIN]


def painted_person(annotation, scene):
    if "dp_masks" in annotation:
        union = np.zeros((256, 256))
        for part in filter(None, annotation["dp_masks"]):
            union[decode_rle(part)] = 1
        _, _, width, height = annotation["bbox"]
        scaled = zoom(union, (height / 256, width / 256), order=1, prefilter=False)
        return painted(scaled > 0.5, annotation["bbox"], scene)
    shapes = annotation["segmentation"]
    if isinstance(shapes, list):
        shapes = rle.merge(rle.frPyObjects(shapes, scene.height, scene.width))
    return decode_rle(shapes)


# --- GPS, rule by rule ---------------------------------------------------------------


def test_a_point_scores_by_distance_and_by_the_annotated_part():
    # vertex 0 is annotated, vertex 3 estimated: g = .3, torso kappa = .351,
    # exp(-.09 / (2 x .123201)) = exp(-.365257) = .694018
    found = one(
        detection([0, 0, 10, 10], plain(10, 10, u=0.3)),
        person([0, 0, 10, 10], [(0, 0, 1, 0)]),
    )
    assert found.gps == pytest.approx(0.694018, abs=1e-6)


def test_every_chart_has_the_kappa_of_its_part():
    # torso, hands, feet, upper legs, lower legs, upper arms, lower arms, head
    kappa = [0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150]
    expected = np.repeat(kappa, [2, 2, 2, 4, 4, 4, 4, 2])  # charts 1 .. 24
    np.testing.assert_array_equal(KAPPA_OF_CHART[1:], expected)


def test_another_chart_is_no_error_in_itself():
    # vertex 10 (chart 1, U = 1) annotated, vertex 11 (chart 2, U = 0) estimated: g = .1,
    # exp(-.01 / .246402) = .960228
    found = one(
        detection([0, 0, 10, 10], plain(10, 10, chart=2)),
        person([0, 0, 10, 10], [(0, 0, 1, 1)]),
    )
    assert found.gps == pytest.approx(0.960228, abs=1e-6)


def test_points_lie_at_255ths_of_the_box():
    # 127.5 x 100 / 255 = 50 exactly; by 256ths it would be 49.8, pixel 49
    iuv = plain(10, 100, u=1.0)
    iuv[:, 50] = plain(10, 1)[:, 0]
    found = one(
        detection([0, 0, 100, 10], iuv), person([0, 0, 100, 10], [(127.5, 0, 1, 0)])
    )
    assert found.gps == 1


@pytest.mark.parametrize(("start", "score"), [(0.7, 1), (0.999, 1), (1.0, 0), (1.5, 0)])
def test_truncation_keeps_a_point_just_before_the_box(start, score):
    # the point is at 0; in the box's frame at -start, and int(-.7) is 0, int(-1) is -1
    box = [start, start, 10, 10]
    found = one(detection(box, plain(10, 10)), person([0, 0, 10, 10], [(0, 0, 1, 0)]))
    assert found.gps == score


def test_points_outside_the_box_count_as_zero():
    # box columns 0..9; the points are at 0, 9.9 (in), and 10 (out): 2 of 3
    points = [(x * 255 / 20, 0, 1, 0) for x in (0, 9.9, 10)]
    found = one(detection([0, 0, 10, 10], plain(10, 10)), person([0, 0, 20, 10], points))
    assert found.gps == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [0, 25, 255])
def test_background_and_unknown_labels_score_zero(label):
    iuv = plain(10, 10)
    iuv[0, 0, 0] = label
    points = [(0, 0, 1, 0), (200, 200, 1, 0)]
    found = one(detection([0, 0, 10, 10], iuv), person([0, 0, 10, 10], points))
    assert found.gps == 0.5


def test_points_without_a_chart_leave_the_mean():
    points = [(0, 0, 0, 0), (0, 0, 1, 0), (250, 250, 0, 0)]
    found = one(detection([0, 0, 9, 9], plain(9, 9)), person([0, 0, 9, 9], points))
    assert found.gps == 1


@pytest.mark.parametrize("annotated", [True, False])
def test_a_person_without_points_has_no_gps(annotated):
    target = person([0, 0, 10, 10])
    if not annotated:
        target = {k: v for k, v in target.items() if not k.startswith("dp_")}
    assert one(detection([0, 0, 10, 10], plain(10, 10)), target).gps == 0


# --- masks and boxes, rule by rule ---------------------------------------------------


def square(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_a_person_mask_is_zoomed_rounded_and_cut():
    # box (3, 2) with 10.4 x 20.6: the zoom gives 10 x 21 pixels, and the image keeps
    # columns 3 .. int(13.4) - 1 (10) and rows 2 .. int(22.6) - 1 (20): 200 pixels
    whole = rle.encode(np.asfortranarray(np.ones((256, 256), np.uint8)))
    target = person(
        [3, 2, 10.4, 20.6], dp_masks=[whole, [], {}], segmentation=square(0, 0, 1, 1)
    )
    assert one(detection([3, 2, 10, 20], plain(20, 10)), target).mask_iou == 1
    # one row more: 200 / 210
    assert one(detection([3, 2, 10, 21], plain(21, 10)), target).mask_iou == pytest.approx(
        200 / 210
    )


@pytest.mark.parametrize("kind", ["polygon", "counts", "compressed"])
def test_without_dp_masks_the_segmentation_is_the_mask(kind):
    image = np.zeros((100, 200), np.uint8, order="F")
    image[10:30, 20:60] = 1
    packed = rle.encode(image)
    # column-major runs: 20 columns and 10 rows of background, then 40 columns of 20
    counts = [20 * 100 + 10, *([20, 80] * 40)]
    counts[-1] += 2000 * 7 - 10  # 200 x 100 pixels in all
    segmentation = {
        "polygon": square(20, 10, 40, 20),
        "counts": {"size": [100, 200], "counts": counts},
        "compressed": packed,
    }[kind]
    target = person([20, 10, 40, 20], segmentation=segmentation)
    assert one(detection([20, 10, 40, 20], plain(20, 40)), target).mask_iou == 1


@pytest.mark.parametrize("fields", [{}, {"segmentation": []}, {"dp_masks": [[]] * 14}])
def test_without_any_mask_it_is_empty(fields):
    found = one(detection([0, 0, 10, 10], plain(10, 10)), person([0, 0, 10, 10], **fields))
    assert (found.mask_iou, found.box_iou) == (0, 1)


def test_a_map_larger_than_its_box_is_cut():
    # box 4.6 x 3.2 at (10.5, 5.9): columns 10 .. int(15.1) - 1 (5 of them), rows 5 ..
    # int(9.1) - 1 (4), though the map is 8 x 8. Points end at int(4.6) = 4 columns: this
    # one, 14.7 - 10.5 = 4.2 from its left, is outside
    target = person([10, 5, 8, 8], [(4.7 * 255 / 8, 0.95 * 255 / 8, 1, 0)])
    target["segmentation"] = square(10, 5, 8, 8)  # 64 pixels
    found = one(detection([10.5, 5.9, 4.6, 3.2], plain(8, 8)), target)
    assert found.mask_iou == pytest.approx(20 / 64)
    assert found.gps == 0


def test_a_map_smaller_than_its_box_is_refused():
    with pytest.raises(UserError, match=r"result 1: its map of 10 x 20 .* height first"):
        one(detection([0, 0, 10, 20], plain(10, 20)), person([0, 0, 9, 9], [(0, 0, 1, 0)]))


@pytest.mark.parametrize(("x", "shared"), [(-6.5, 3), (193.2, 7), (-40, 0), (300, 0)])
def test_masks_end_at_the_image(x, shared):
    # columns int(x) .. int(x + 10) - 1 of an image 200 wide: -6 .. 2 leave 3, 193 .. 202
    # leave 7
    target = person([0, 0, 200, 100], segmentation=square(0, 0, 200, 100))
    found = one(detection([x, 0, 10, 10], plain(10, 10)), target)
    assert found.mask_iou == pytest.approx(shared * 10 / 20_000)


def test_a_crowd_is_compared_with_the_detection_only():
    target = person([0, 0, 100, 100], segmentation=square(0, 0, 100, 100), iscrowd=1)
    found = one(detection([90, 0, 20, 10], plain(10, 20)), target)
    # half of the detection, in mask and in box; a union would be 10,100 pixels
    assert (found.mask_iou, found.box_iou) == (0.5, 0.5)
    target["iscrowd"] = 0
    found = one(detection([90, 0, 20, 10], plain(10, 20)), target)
    assert found.mask_iou == found.box_iou == pytest.approx(100 / 10_100)


def test_a_detection_far_from_everyone_is_never_decoded():
    far = Detection(1, np.array([50.0, 50, 10, 10]), 0.5, {"uv_data": "?", "uv_shape": []})
    found = one(
        far, person([0, 0, 50, 50], [(0, 0, 1, 0)], segmentation=square(0, 0, 9, 9))
    )
    assert (found.gps, found.mask_iou) == (0, 0)
