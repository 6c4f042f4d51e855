"""The one map from image to canvas, against loops and numbers worked by hand."""

import numpy as np
import pytest

from ktn_jax.geometry import Affine, letterbox

MAPS = [
    Affine(),
    Affine((0.5, 0.5), (3.25, -7.5)),
    Affine((1.7, 2.3), (-11.0, 4.0)),
    Affine((1.0, -1.0), (0.0, 30.0)),
    Affine((0.8, -0.45), (2.0, 21.5)),
]


@pytest.mark.parametrize("affine", MAPS)
def test_inverse_leads_back(affine):
    points = np.random.default_rng(0).uniform(-50, 50, (20, 2))
    np.testing.assert_allclose(affine.inverse()(affine(points)), points, atol=1e-9)
    np.testing.assert_allclose(affine(affine.inverse()(points)), points, atol=1e-9)


@pytest.mark.parametrize("first", MAPS)
@pytest.mark.parametrize("second", MAPS)
def test_then_is_one_map_after_the_other(first, second):
    points = np.random.default_rng(1).uniform(-50, 50, (20, 2))
    both = first.then(second)
    np.testing.assert_allclose(both(points), second(first(points)), atol=1e-9)
    assert both.flips == (first.flips != second.flips)


def test_points_are_y_x_and_boxes_are_x_y_width_height():
    # y: 2 * 3 + 1 = 7;  x: 10 - 4 = 6
    affine = Affine((2.0, -1.0), (1.0, 10.0))
    np.testing.assert_allclose(affine(np.array([3.0, 4.0])), [7, 6])
    # x from 4..9 becomes 1..6, y from 3..5 becomes 7..11
    box = affine.boxes(np.array([4.0, 3.0, 5.0, 2.0]))
    np.testing.assert_allclose(box, [1, 7, 5, 4])


def test_boxes_enclose_their_moved_corners():
    rng = np.random.default_rng(2)
    boxes = np.concatenate([rng.uniform(-9, 9, (8, 2)), rng.uniform(0, 9, (8, 2))], 1)
    for affine in MAPS:
        for (x, y, w, h), moved in zip(boxes, affine.boxes(boxes), strict=True):
            corners = affine(np.array([[y, x], [y + h, x + w]]))
            low, high = corners.min(0), corners.max(0)
            expected = [low[1], low[0], high[1] - low[1], high[0] - low[0]]
            np.testing.assert_allclose(moved, expected, atol=1e-9)


@pytest.mark.parametrize("affine", MAPS)
def test_labels_take_the_source_pixel_under_each_centre(affine):
    labels = np.random.default_rng(3).integers(0, 14, (17, 23)).astype(np.uint8)
    moved = affine.labels(labels, (25, 31), outside=99)
    assert moved.dtype == np.uint8
    for i in range(25):
        for j in range(31):
            y = (i + 0.5 - affine.shift[0]) / affine.scale[0]
            x = (j + 0.5 - affine.shift[1]) / affine.scale[1]
            inside = 0 <= y < 17 and 0 <= x < 23
            expected = labels[int(y), int(x)] if inside else 99
            assert moved[i, j] == expected, (i, j)


def test_a_flip_of_labels_is_the_reversed_map_and_undoes_itself():
    labels = np.random.default_rng(4).random((6, 9)) < 0.5
    mirror = Affine((1.0, -1.0), (0.0, 9.0))
    flipped = mirror.labels(labels, labels.shape, outside=False)
    np.testing.assert_array_equal(flipped, labels[:, ::-1])
    np.testing.assert_array_equal(mirror.labels(flipped, (6, 9), False), labels)
    assert mirror.flips and not mirror.then(mirror).flips


def test_letterbox_fits_the_image_and_touches_one_border():
    # 480 x 640 on 256 x 256: the width decides, 256 / 640 = 0.4
    affine = letterbox((480, 640), (256, 256))
    assert affine == Affine((0.4, 0.4), (0.0, 0.0))
    np.testing.assert_allclose(affine(np.array([480.0, 640.0])), [192, 256])
    assert letterbox((640, 480), (320, 512)).scale == (0.5, 0.5)
