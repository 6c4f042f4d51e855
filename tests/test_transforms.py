"""What is drawn on an image stays on its content, whatever happens to the image."""

import dataclasses

import numpy as np
import pytest
from scipy.io import savemat

from ktn_jax.anatomy import MIRRORED_CHART, MIRRORED_KEYPOINT, MIRRORED_PART, UNKNOWN_PART
from ktn_jax.data import transforms
from ktn_jax.data.transforms import PAD, Augment
from ktn_jax.geometry import Affine
from ktn_jax.records import Example, Person, Points

SIZE = (120, 160)
CANVAS = (96, 128)
STILL = Augment(canvas=CANVAS, scale_min=1.0, scale_max=1.0, flip=0.0, color=0.0)
RADIUS = 12  # pixels of the disc that stands for a person


def disc_example(at, *, radius=RADIUS):
    """One person: a bright blob on black whose centre, (y, x), everything refers to."""
    yx = np.stack(np.indices(SIZE), -1) + 0.5
    distance = np.linalg.norm(yx - at, axis=-1)
    blob = 255 * np.exp(-(distance**2) / (2 * 3.0**2))
    image = np.repeat(blob[..., None], 3, axis=-1).round().astype(np.uint8)
    mask = distance < radius
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[9] = (*at, 2)
    person = Person(
        id=1,
        bbox=np.array([at[1] - radius, at[0] - radius, 2 * radius, 2 * radius], np.float32),
        area=400.0,
        crowd=False,
        mask=mask,
        keypoints=keypoints,
        points=Points(
            yx=np.array([at], np.float32),
            chart=np.array([4], np.int32),
            uv=np.array([[0.2, 0.7]], np.float32),
        ),
        parts=np.where(mask, np.where(distance < radius - 2, 3, UNKNOWN_PART), 0).astype(
            np.uint8
        ),
    )
    return Example(5, image, (person,), Affine())


def busy_example(seed=0):
    """Two people and a crowd in noise, with every field filled."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    people = []
    for number, (x, y, width, height) in enumerate([(10, 20, 50, 60), (70, 30, 60, 80)]):
        mask = np.zeros(SIZE, bool)
        mask[y : y + height, x : x + width] = rng.random((height, width)) < 0.9
        keypoints = np.zeros((17, 3), np.float32)
        keypoints[:, :2] = np.array([y, x]) + rng.uniform(1, 40, (17, 2))
        keypoints[:, 2] = rng.integers(0, 3, 17)
        keypoints[keypoints[:, 2] == 0] = 0
        points = Points(
            yx=(np.array([y, x]) + rng.uniform(0, 50, (30, 2))).astype(np.float32),
            chart=rng.integers(1, 25, 30).astype(np.int32),
            uv=rng.random((30, 2)).astype(np.float32),
        )
        parts = rng.integers(0, 15, SIZE).astype(np.uint8)
        parts[~mask] = 0
        parts[mask & (rng.random(SIZE) < 0.1)] = UNKNOWN_PART
        bbox = np.array([x, y, width, height], np.float32)
        people.append(Person(number + 1, bbox, 2e3, False, mask, keypoints, points, parts))
    crowd = np.zeros(SIZE, bool)
    crowd[5:15, 100:140] = True
    box = np.array([100, 5, 40, 10], np.float32)
    people.append(Person(9, box, 400.0, True, crowd, None, None, None))
    return Example(6, image, tuple(people), Affine())


def centre_of(weights):
    """(y, x) of the centre of mass, pixel centres at +0.5."""
    yx = np.stack(np.indices(weights.shape), -1) + 0.5
    return (yx * weights[..., None]).sum((0, 1)) / weights.sum()


def assert_equal(one, other, *, atol=0.0):
    """Every field of two examples."""
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_allclose(np.array(one.to_image), np.array(other.to_image))
    assert one.image_id == other.image_id
    for first, second in zip(one.people, other.people, strict=True):
        for name, value in first._asdict().items():
            expected = getattr(second, name)
            if isinstance(value, Points):
                for a, b in zip(value, expected, strict=True):
                    np.testing.assert_allclose(a, b, atol=atol)
            elif value is None or isinstance(value, int | float):
                assert value == expected
            else:
                assert value.dtype == expected.dtype
                np.testing.assert_allclose(value, expected, atol=atol)


def test_everything_stays_on_the_blob_it_was_drawn_on():
    settings = Augment(canvas=CANVAS, scale_min=0.6, scale_max=2.0, flip=0.5, color=0.0)
    checked, flipped = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        at = rng.uniform(2 * RADIUS, np.array(SIZE) - 2 * RADIUS)
        moved = transforms.augment(disc_example(at), settings, rng=rng)
        if not moved.people:
            continue
        (person,) = moved.people
        scale = abs(moved.to_image.inverse().scale[0])
        low, size = person.bbox[1::-1], person.bbox[:1:-1]
        if (size < 2 * RADIUS * scale - 1e-3).any():
            continue  # cut by the border: the centre of mass is not the centre
        checked += 1
        flipped += moved.to_image.flips
        # The padding is grey, the picture beneath the blob black.
        light = np.where(person.mask, moved.image[..., 0], 0).astype(float)
        seen = centre_of(light)
        # 0.6 px: half a pixel for nearest labels, and the 8-bit blob.
        np.testing.assert_allclose(person.points.yx[0], seen, atol=0.6)
        keypoint = person.keypoints[person.keypoints[:, 2] > 0]
        np.testing.assert_allclose(keypoint[0, :2], seen, atol=0.6)
        np.testing.assert_allclose(centre_of(person.mask), seen, atol=0.6)
        left_or_right_hand = 2 if moved.to_image.flips else 3
        hand = person.parts == left_or_right_hand
        np.testing.assert_allclose(centre_of(hand), seen, atol=0.6)
        np.testing.assert_allclose(low + size / 2, seen, atol=0.6)
        np.testing.assert_allclose(moved.to_image(person.points.yx[0]), at, atol=1e-3)
    assert checked > 20 and 5 < flipped < checked - 5


def test_a_flip_exchanges_left_and_right_in_every_field():
    example = disc_example((40.5, 30.0))
    flipped = transforms.flip(example)
    (person,) = flipped.people
    np.testing.assert_array_equal(flipped.image, example.image[:, ::-1])
    np.testing.assert_array_equal(person.mask, example.people[0].mask[:, ::-1])
    # x 30 -> 160 - 30; left hand (chart 4) -> right hand (3), where U turns over
    np.testing.assert_allclose(person.points.yx, [[40.5, 130]])
    np.testing.assert_array_equal(person.points.chart, [3])
    np.testing.assert_allclose(person.points.uv, [[0.8, 0.7]])
    np.testing.assert_allclose(person.keypoints[10], [40.5, 130, 2])  # the other wrist
    assert not np.delete(person.keypoints, 10, axis=0).any()
    np.testing.assert_allclose(person.bbox, [118, 28.5, 24, 24])
    assert set(np.unique(person.parts)) == {0, 2, UNKNOWN_PART}


def test_two_flips_are_none():
    example = busy_example()
    twice = transforms.flip(transforms.flip(example))
    # 1e-5: x -> 160 - x rounds in single precision
    assert_equal(twice, example, atol=1e-5)


def test_a_flip_agrees_with_the_tables_of_the_anatomy():
    example = busy_example()
    flipped = transforms.flip(example)
    for before, after in zip(example.people[:2], flipped.people[:2], strict=True):
        np.testing.assert_array_equal(
            after.points.chart, MIRRORED_CHART[before.points.chart]
        )
        np.testing.assert_array_equal(
            after.keypoints[:, 2], before.keypoints[MIRRORED_KEYPOINT, 2]
        )
        known = before.parts != UNKNOWN_PART
        expected = np.where(known, MIRRORED_PART[np.where(known, before.parts, 0)], 255)
        np.testing.assert_array_equal(after.parts[:, ::-1], expected)


def test_symmetry_tables_are_read_by_chart_then_v_then_u(tmp_path):
    v, u = np.mgrid[0:256, 0:256] / 255
    cells = {
        "U_transforms": np.empty((1, 24), object),
        "V_transforms": np.empty((1, 24), object),
    }
    for chart in range(1, 25):
        cells["U_transforms"][0, chart - 1] = u / 2 + chart / 100
        cells["V_transforms"][0, chart - 1] = v / 4 + chart / 200
    savemat(tmp_path / "symmetry.mat", cells)
    symmetry = transforms.load_symmetry(tmp_path / "symmetry.mat")
    assert symmetry.shape == (25, 256, 256, 2)
    flipped = transforms.flip(disc_example((40, 30)), symmetry)
    # chart 4, (U, V) = (.2, .7): cells int(51) and int(178.5); 51/255/2 + .04 and
    # 178/255/4 + .02
    np.testing.assert_allclose(flipped.people[0].points.uv, [[0.14, 0.19451]], atol=1e-5)
    np.testing.assert_array_equal(flipped.people[0].points.chart, [3])


def test_a_file_without_symmetry_tables_is_refused_by_name(tmp_path):
    savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    (tmp_path / "text.mat").write_text("not a mat file")
    for name in ("other.mat", "text.mat", "missing.mat"):
        with pytest.raises(ValueError, match=f"{name}.*UV_symmetry_transforms.mat"):
            transforms.load_symmetry(tmp_path / name)


def test_what_falls_off_the_canvas_is_cut():
    example = busy_example()
    # 30 pixels to the left and 10 up, at the file's scale: x from 30..158, y 10..106
    moved = transforms.place(example, Affine((1.0, 1.0), (-10.0, -30.0)), canvas=CANVAS)
    np.testing.assert_array_equal(moved.image, example.image[10:106, 30:158])
    for before, after in zip(example.people, moved.people, strict=True):
        np.testing.assert_array_equal(after.mask, before.mask[10:106, 30:158])
    first = moved.people[0]
    np.testing.assert_allclose(first.bbox, [0, 10, 30, 60])  # 10..60 -> -20..30, cut at 0
    np.testing.assert_array_equal(first.parts, example.people[0].parts[10:106, 30:158])
    before = example.people[0].points
    kept = before.yx[:, 1] >= 30
    assert 0 < kept.sum() < 30
    np.testing.assert_allclose(first.points.yx, before.yx[kept] - (10, 30), atol=1e-4)
    np.testing.assert_array_equal(first.points.chart, before.chart[kept])
    np.testing.assert_array_equal(first.points.uv, before.uv[kept])
    keypoints = example.people[0].keypoints
    out = keypoints[:, 1] < 30
    assert not first.keypoints[out].any()
    np.testing.assert_array_equal(first.keypoints[~out, 2], keypoints[~out, 2])


def test_people_off_the_canvas_are_dropped():
    moved = transforms.place(busy_example(), Affine(shift=(-10.0, -65.0)), canvas=CANVAS)
    assert [person.id for person in moved.people] == [2, 9]


def test_the_whole_image_lands_in_the_corner_of_a_letterbox():
    example = disc_example((60, 80))._replace(image=np.full((*SIZE, 3), 200, np.uint8))
    boxed = transforms.letterbox_example(example, (100, 80))
    # 80 / 160 = 0.5: rows 0..60 show the image, the rest is padding
    assert (boxed.image[:60] == 200).all() and (boxed.image[60:] == PAD).all()
    np.testing.assert_allclose(boxed.people[0].points.yx, [[30, 40]])
    assert boxed.to_image == Affine((2.0, 2.0), (-0.0, -0.0))
    assert boxed.people[0].area == 100.0


def test_resampling_keeps_half_pixel_centres_at_any_shift():
    """A ramp stays the ramp: a map that is half a pixel off would change it by 1.5."""
    ramp = np.broadcast_to(np.arange(160)[None, :, None] * 1.5, (120, 160, 3))
    example = Example(1, ramp.astype(np.uint8), (), Affine())
    for factor in (0.4, 0.75, 1.3, 2.1):
        for shift in (-7.3, 0.0, 4.6):
            moved = transforms.place(
                example, Affine((factor, factor), (0.0, shift)), canvas=CANVAS
            )
            x = moved.to_image(np.stack([np.zeros(128), np.arange(128) + 0.5], -1))[:, 1]
            inner = (x > 6) & (x < 154)  # the border's pixels average fewer neighbours
            expected = (x - 0.5) * 1.5
            # 1.0: the ramp was truncated to 8 bits, and rounded once more
            np.testing.assert_allclose(moved.image[5, inner, 0], expected[inner], atol=1.0)


def test_placing_composes_with_where_the_example_came_from():
    once = transforms.letterbox_example(disc_example((60, 80)), (60, 80))
    twice = transforms.place(once, Affine((1.5, 1.5), (-7.0, 2.0)), canvas=CANVAS)
    np.testing.assert_allclose(twice.to_image(twice.people[0].points.yx), [[60, 80]])


def test_a_mirroring_map_is_refused():
    with pytest.raises(ValueError, match="mirrors"):
        transforms.place(busy_example(), Affine((1.0, -1.0)), canvas=CANVAS)


def test_somebody_always_stays_in_view():
    example = busy_example()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        to_canvas = transforms.random_placement(example, CANVAS, scale=4.0, rng=rng)
        centres = to_canvas(np.array([[50.0, 35.0], [70.0, 100.0]]))  # of the two boxes
        assert any(((c >= -1e-6) & (c <= np.array(CANVAS) + 1e-6)).all() for c in centres)


def test_no_padding_where_the_image_is_large_enough():
    example = disc_example((60, 80))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        to_canvas = transforms.random_placement(example, CANVAS, scale=1.5, rng=rng)
        low, high = to_canvas(np.zeros(2)), to_canvas(np.array(SIZE))
        assert (low <= 1e-6).all() and (high >= np.array(CANVAS) - 1e-6).all()


def test_stretch_changes_height_over_width_alone():
    example, ratios = disc_example((60, 80), radius=40), []
    settings = dataclasses.replace(STILL, stretch=0.25)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        placed = transforms.augment(example, settings, rng=rng)
        mask = placed.people[0].mask  # the disc, now an ellipse, which the canvas holds
        height, width = mask.any(1).sum(), mask.any(0).sum()
        ratios.append(height / width)
        # letterbox makes the radius 32 px; the area stays
        np.testing.assert_allclose(mask.sum(), np.pi * 32**2, rtol=0.01)
        down, right = placed.to_image.inverse().scale
        np.testing.assert_allclose(ratios[-1], down / right, rtol=0.03)
    assert 0.78 < min(ratios) < 0.85 and 1.2 < max(ratios) < 1.28


def test_stretch_below_nothing_is_refused():
    with pytest.raises(ValueError, match="stretch"):
        dataclasses.replace(STILL, stretch=-0.1)


def test_without_colour_changes_the_image_is_untouched():
    image = busy_example().image
    varied = transforms.vary_colour(image, STILL, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(varied, image)


def test_grey_keeps_luma_and_equals_over_channels():
    image = busy_example().image
    settings = Augment(CANVAS, 1.0, 1.0, 0.0, 0.0, grey=1.0)
    varied = transforms.vary_colour(image, settings, rng=np.random.default_rng(0))
    luma = image @ np.array([0.299, 0.587, 0.114])
    # 1.0: rounding, and coefficients of three digits
    np.testing.assert_allclose(varied, np.repeat(luma[..., None], 3, -1), atol=1.0)


def test_colour_changes_are_bounded_and_leave_grey_grey():
    grey = np.full((*SIZE, 3), 100, np.uint8)
    settings = Augment(CANVAS, 1.0, 1.0, 0.0, 0.3, hue=0.1)
    levels = []
    for seed in range(30):
        varied = transforms.vary_colour(grey, settings, rng=np.random.default_rng(seed))
        assert np.ptp(varied) <= 1  # neither saturation nor hue colours a grey
        levels.append(int(varied[0, 0, 0]))
    # On one level only brightness shows: 100 * (1 +- 0.3)
    assert 69 <= min(levels) < 85 and 115 < max(levels) <= 131


def test_blur_and_noise_happen_when_asked():
    image = busy_example().image.astype(float)
    for name, sign in (("blur", -1), ("noise", 1)):
        settings = Augment(CANVAS, 1.0, 1.0, 0.0, 0.0, **{name: 1.0})
        flat = (image // 4 + 96).astype(np.uint8)
        varied = transforms.vary_colour(flat, settings, rng=np.random.default_rng(1))
        assert varied.dtype == np.uint8
        assert sign * (varied.std() - flat.std()) > 0.05


def test_the_same_generator_gives_the_same_example():
    settings = Augment(CANVAS, 0.5, 2.0, 0.5, 0.3, 0.02, 0.2, 0.2, 0.2, 0.1)
    one, same, other = (
        transforms.augment(busy_example(), settings, rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert_equal(one, same)
    assert (one.image != other.image).any()


@pytest.mark.parametrize("scales", [(0.0, 1.0), (2.0, 1.0)])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(ValueError, match="scale_min"):
        Augment(CANVAS, *scales, flip=0.5, color=0.0)
