"""The circle: people -> Targets -> perfect Fields -> Instances, and edges of encode."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from ktn_jax import grouping
from ktn_jax.anatomy import UNKNOWN_PART
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE
from tests.scenes import CODEC, perfect_fields, scene, surface_at

SIZE = 192
SCENES = {
    "nobody": [],
    "one": [(40, 60, 140, 110)],
    "two apart": [(20, 10, 150, 60), (30, 110, 170, 160)],
    "overlap": [(20, 40, 150, 100), (50, 80, 170, 140)],
    "at the borders": [(-20, -10, 90, 44), (100, 140, 220, 230)],
    # a border between two people is known to a cell only, so this one lies on cells
    "one inside another": [(10, 20, 180, 170), (60, 68, 132, 120)],
    "eight": [
        (4 + 94 * row, 4 + 46 * column, 84 + 94 * row, 40 + 46 * column)
        for row in range(2)
        for column in range(4)
    ],
}


@pytest.fixture(scope="module")
def decode():
    return jax.jit(CODEC.decode)


def circle(boxes, decode):
    people = scene(boxes, SIZE)
    targets = CODEC.encode(people, (SIZE, SIZE))
    # encode keeps the largest first; name each slot's box again by its visible size
    order = sorted(range(len(people)), key=lambda i: -people[i].mask.sum())
    by_slot = [boxes[i] for i in order]
    found = decode(perfect_fields(targets, by_slot))
    return (
        [people[i] for i in order],
        by_slot,
        jax.tree.map(lambda x: np.asarray(x[0]), found),
    )


def matches(people, found):
    """Instance number of every person, by the pixels they share."""
    rows = []
    for person in people:
        owners = found.owner[person.mask]
        rows.append(int(np.bincount(owners[owners >= 0], minlength=1).argmax()))
    return rows


@pytest.mark.parametrize("name", SCENES)
def test_everyone_is_found_once(name, decode):
    people, _, found = circle(SCENES[name], decode)
    assert found.valid.sum() == len(people)
    assert len(set(matches(people, found))) == len(people)
    assert (found.score[found.valid] > 0.5).all()


@pytest.mark.parametrize("name", SCENES)
def test_boxes_are_right_to_a_pixel(name, decode):
    people, _, found = circle(SCENES[name], decode)
    for person, k in zip(people, matches(people, found), strict=True):
        seen = np.argwhere(person.mask)
        box = np.r_[seen.min(0), seen.max(0) + 1]
        assert np.abs(found.box[k] - box).max() <= 1, (box, found.box[k])


@pytest.mark.parametrize("name", SCENES)
def test_every_visible_pixel_goes_to_its_person(name, decode):
    """All pixels of cells that one person covers and whose neighbours agree.

    At a silhouette bilinear logits round corners off, by less than half a cell: there a
    pixel may be nobody's, but nowhere another person's (two people's borders fall
    between cells, so pixels within half a cell of them are left out).
    """
    people, _, found = circle(SCENES[name], decode)
    for person, k in zip(people, matches(people, found), strict=True):
        inner = binary_erosion(person.mask, np.ones((STRIDE + 1,) * 2))
        assert (found.owner[inner] == k).mean() > 0.999
    nobody = ~np.any([p.mask for p in people] or [np.zeros((SIZE, SIZE), bool)], axis=0)
    assert (found.owner[nobody] >= 0).mean() < 0.01


@pytest.mark.parametrize("name", [n for n in SCENES if n != "nobody"])
def test_uv_returns_within_two_hundredths(name, decode):
    people, boxes, found = circle(SCENES[name], decode)
    for person, box in zip(people, boxes, strict=True):
        # pixels all of whose four cells are the person's own
        inner = binary_erosion(person.mask, np.ones((2 * STRIDE + 1,) * 2))
        at = np.argwhere(inner) + 0.5
        chart, uv = surface_at(at, box)
        assert np.abs(found.uv[inner] / 255 - uv).max() <= 0.02
        # 4 bands of charts: a pixel within half a cell of a border may go either way
        assert (found.chart[inner] == chart).mean() > 0.9


def test_confidence_is_the_chart_s_share_of_the_24_times_the_mask(decode):
    people = scene(SCENES["one"], SIZE)
    fields = perfect_fields(CODEC.encode(people, (SIZE, SIZE)), SCENES["one"])
    logits = np.random.default_rng(0).normal(size=25)
    logits[[0, 7]] = 20, 7  # background is the mask's affair
    found = decode(fields.replace(chart=0 * fields.chart + logits))
    share = np.exp(logits[1:]).max() / np.exp(logits[1:]).sum()
    inner = binary_erosion(people[0].mask, np.ones((2 * STRIDE + 1,) * 2))
    sure = np.asarray(found.confidence[0])
    assert sure.dtype == np.uint8
    assert (sure[inner] == round(255 * 0.99 * share)).all()  # perfect_fields' mask: .99
    assert (sure[np.asarray(found.owner[0]) < 0] == 0).all()
    # bilinear logits: at the silhouette the mask is in doubt, and so is the pixel
    rim = (np.asarray(found.owner[0]) == 0) & ~inner
    assert sure[rim].min() < 0.7 * sure[inner].min()


def test_keypoints_return_within_half_a_cell(decode):
    people, _, found = circle(SCENES["two apart"], decode)
    for person, k in zip(people, matches(people, found), strict=True):
        error = np.abs(found.keypoints[k, :, :2] - person.keypoints[:, :2])
        assert error.max() <= STRIDE / 2


def test_crowds_and_the_beyond_teach_nothing():
    person, region = scene([(40, 40, 100, 80), (120, 100, 180, 180)], SIZE)
    inside = np.ones((SIZE // STRIDE,) * 2, bool)
    inside[:, -4:] = False
    targets = CODEC.encode([person, region._replace(crowd=True)], (SIZE, SIZE), inside)
    assert targets.people_valid.sum() == 1
    crowd = np.s_[120 // 4 : 180 // 4, 100 // 4 : 176 // 4]
    for valid in (targets.mask_valid, targets.keypoints_valid):
        assert not valid[crowd].any() and not valid[:, -4:].any()
    assert (targets.parts[crowd] == UNKNOWN_PART).all()
    assert targets.mask_valid[:28, :-4].all()


def test_people_without_dense_annotation_have_unknown_parts_but_a_mask():
    (person,) = scene([(40, 40, 100, 80)], SIZE)
    bare = person._replace(points=None, parts=None, keypoints=None)
    targets = CODEC.encode([bare], (SIZE, SIZE))
    body = np.s_[10:25, 10:20]
    assert (targets.mask[body] == 1).all() and not targets.points_valid.any()
    assert (targets.parts[body] == UNKNOWN_PART).all()
    assert not targets.keypoints_valid[body].any()


def test_anchor_lies_on_the_person_even_where_the_centroid_does_not():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40:140, 40:60] = mask[40:140, 120:140] = mask[40:60, 40:140] = True  # an arch
    (person,) = scene([(40, 40, 140, 140)], SIZE)
    targets = CODEC.encode([person._replace(mask=mask)], (SIZE, SIZE))
    y, x = targets.anchors[0].astype(int)
    assert mask[y, x] and targets.center[y // STRIDE, x // STRIDE] == 1


def test_too_many_points_are_thinned_and_too_many_people_drop_the_smallest():
    boxes = [(10, 4 + 16 * i, 60 + 4 * i, 16 + 16 * i) for i in range(11)]
    targets = CODEC.encode(scene(boxes, SIZE), (SIZE, SIZE))
    assert targets.points_valid.sum() == min(11 * 30, CODEC.max_points)
    assert targets.people_valid.all() and targets.owner.max() == CODEC.max_people - 1
    smallest = np.s_[4:14, 2:3]  # boxes[0], 50 px high
    assert (targets.owner[smallest] == -1).all() and (targets.mask[smallest] > 0).all()


def test_every_cell_of_a_heat_map_is_the_gaussian_to_the_last_bit():
    """Also far from the point, where only denormal numbers are left, and beyond."""
    size, sides = 512, [(40, 40, 60, 60), (100, 300, 420, 500)]
    people = scene(sides, size)
    at = people[0].keypoints.copy()
    at[:3, :2] = [(-30.0, 50.0), (50.0, 700.0), (3.0, 511.5)]  # a transform may round
    people[0] = people[0]._replace(keypoints=at)
    found = CODEC.encode(people, (size, size)).keypoints
    cells = np.arange(size // STRIDE) + 0.5
    expected = np.zeros(found.shape, np.float32)
    for person, (y0, x0, y1, x1) in zip(people, sides, strict=True):
        sigma = max(1.0, 0.05 * np.sqrt((y1 - y0) * (x1 - x0) / STRIDE**2))
        for number, (y, x, _) in enumerate(person.keypoints / STRIDE):
            down = np.exp(-((cells - y) ** 2) / (2 * sigma**2))
            across = np.exp(-((cells - x) ** 2) / (2 * sigma**2))
            value = (down[:, None] * across).astype(np.float32)
            value[
                (np.floor(cells) == np.floor(y))[:, None] & (np.floor(cells) == np.floor(x))
            ] = 1
            expected[..., number] = np.maximum(expected[..., number], value)
    np.testing.assert_array_equal(found, expected)
    tiny = np.finfo(np.float32).tiny
    assert ((found > 0) & (found < tiny)).any() and (found == 0).any()


def test_a_narrower_bandwidth_is_that_of_a_smaller_tau():
    people = scene(SCENES["overlap"], SIZE)
    fields = perfect_fields(CODEC.encode(people, (SIZE, SIZE)), SCENES["overlap"])
    # far too wide, so that it matters: one person is all there is
    wide = np.full_like(fields.bandwidth, np.log(4 / 16) + 2.0)
    fields = fields.replace(bandwidth=wide, tag=0 * fields.tag)
    narrow = dataclasses.replace(CODEC, bandwidth_scale=0.25)
    found = jax.jit(narrow.decode)(fields)
    shifted = fields.replace(bandwidth=fields.bandwidth + np.log(0.25))
    expected = jax.jit(CODEC.decode)(shifted)
    np.testing.assert_array_equal(found.owner, expected.owner)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-5)
    assert (
        np.asarray(found.owner) != np.asarray(jax.jit(CODEC.decode)(fields).owner)
    ).any()


def test_a_bandwidth_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"bandwidth_scale 0 must be above 0"):
        dataclasses.replace(CODEC, bandwidth_scale=0)


def test_tags_are_those_of_each_person_s_cells(decode):
    """perfect_fields gives every cell of slot s the tag (2 s, 2 s, 2 s, 2 s)."""
    people, _, found = circle(SCENES["eight"], decode)
    expected = np.repeat(2.0 * np.arange(len(people))[:, None], 4, axis=1)
    np.testing.assert_allclose(found.tag[matches(people, found)], expected, atol=0.1)
    assert not found.tag[~found.valid].any()


def test_scores_count_the_mean_probability_of_the_likeliest_chart():
    people = scene(SCENES["eight"], SIZE)
    targets = CODEC.encode(people, (SIZE, SIZE))
    fields = perfect_fields(targets, SCENES["eight"])
    owner = np.asarray(targets.owner)
    chart = np.zeros(fields.chart.shape, np.float32)
    chart[..., 0] = 20.0  # background, which is the mask's affair
    chart[0, ..., 5] = np.where(owner < 0, 9.0, np.log(23) + 0.4 * owner)
    counting = dataclasses.replace(CODEC, chart_score=True)
    plain = jax.jit(CODEC.decode)(fields)
    sure = jax.jit(counting.decode)(fields.replace(chart=chart))
    for slot in range(len(people)):
        y, x = STRIDE * np.argwhere(owner == slot).mean(0).astype(int)
        old, new = (f.score[0, int(f.owner[0, y, x])] for f in (plain, sure))
        likeliest = 1 / (1 + np.exp(-0.4 * slot))  # of 24: e^height against 23
        np.testing.assert_allclose(new / old, likeliest, rtol=5e-3)
    assert (np.diff(sure.score[0]) <= 0).all()


def test_a_doubtful_person_leaves_disputed_pixels_to_a_surer_one():
    """A strip of a's votes a little nearer to b; b has it only where b is somebody."""
    boxes = SCENES["two apart"]
    targets = CODEC.encode(scene(boxes, SIZE), (SIZE, SIZE))
    fields = perfect_fields(
        targets, sorted(boxes, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))
    )
    owner, anchors = np.asarray(targets.owner), targets.anchors[:2]
    size = STRIDE * np.sqrt([(owner == k).sum() for k in (0, 1)])
    sigma = 0.4 * size
    share = np.linspace(0, 1, 1001)  # of the way from a to b
    way = (anchors[1] - anchors[0])[None] * share[:, None]
    far = np.square(way).sum(1) / (2 * sigma[0] ** 2)
    near = np.square(way - way[-1]).sum(1) / (2 * sigma[1] ** 2)
    vote = anchors[0] + way[np.argmin(np.abs(far - near - 0.35))]
    strip = np.zeros(owner.shape, bool)
    first = np.argwhere(owner == 0)[:, 0].min()
    strip[first + 1 : first + 6] = True  # its middle row knows no others
    strip &= owner == 0
    centers = (np.stack(np.indices(owner.shape), -1) + 0.5) * STRIDE
    offset = np.where(strip[..., None], vote - centers, fields.offset[0])
    fields = fields.replace(offset=offset[None].astype(np.float32), tag=0 * fields.tag)
    y, x = STRIDE * np.argwhere(strip).mean(0).astype(int) + 1
    for quality, expected in ((6.0, 1), (np.log(0.065 / 0.935), 0)):
        unsure = np.where(owner == 1, quality, 6.0)[None].astype(np.float32)
        found = jax.jit(CODEC.decode)(fields.replace(quality=unsure))
        at = [found.owner[0, *anchor] for anchor in anchors.astype(int)]
        assert found.valid[0].sum() == 2 and at[0] != at[1]
        assert found.owner[0, y, x] == at[expected]


def test_a_score_below_sure_lowers_a_claim_by_its_logarithm():
    score = np.array([0.9, grouping.SURE, grouping.SURE / 2, 0.0], np.float32)
    claim = np.asarray(grouping.claim(score))
    np.testing.assert_allclose(claim[:3], [0, 0, -np.log(2)], atol=1e-6)
    assert -20 < claim[3] < -10


def test_nobody_loses_undisputed_pixels_by_a_low_score():
    people = scene(SCENES["two apart"], SIZE)
    fields = perfect_fields(CODEC.encode(people, (SIZE, SIZE)), SCENES["two apart"])
    fields = fields.replace(tag=0 * fields.tag)
    decode = jax.jit(dataclasses.replace(CODEC, min_score=1e-6).decode)
    sure, unsure = (
        decode(fields.replace(quality=fields.quality - less)) for less in (0, 16)
    )
    assert unsure.score.max() < 1e-3 and unsure.valid.sum() == sure.valid.sum() == 2
    np.testing.assert_array_equal(unsure.owner >= 0, sure.owner >= 0)
