"""What is cut out of a canvas, against a loop over the photograph's pixels."""

import math

import numpy as np
import pytest

from ktn_jax import inference
from ktn_jax.geometry import Affine
from ktn_jax.structs import Instances

CANVAS = (14, 18)


def three_people(rng):
    """Instances on one canvas, in blocks of random labels, with much ragged edge."""
    owner = rng.integers(-1, 3, (7, 9)).astype(np.int8).repeat(2, 0).repeat(2, 1)
    owner[rng.random(CANVAS) < 0.1] = -1
    somebody = owner >= 0
    chart = rng.integers(1, 4, CANVAS).astype(np.uint8) * somebody
    return Instances(
        valid=np.ones(3, bool),
        score=np.array([0.9, 0.8, 0.7], np.float32),
        quality=np.ones(3, np.float32),
        box=np.array([[0, 0, *CANVAS]] * 3, np.float32),
        keypoints=np.zeros((3, 17, 3), np.float32),
        owner=owner,
        chart=chart,
        uv=rng.integers(0, 256, (*CANVAS, 2)).astype(np.uint8),
        parts=rng.integers(1, 3, CANVAS).astype(np.uint8) * somebody,
        confidence=rng.integers(0, 256, CANVAS).astype(np.uint8),
    )


def around(at, length):
    """The two pixels around a position on one axis, and their shares."""
    low = math.floor(at - 0.5)
    part = at - 0.5 - low
    return [
        (min(max(low + step, 0), length - 1), share)
        for step, share in ((0, 1 - part), (1, part))
    ]


def favourite(labels, shares):
    """The label with the largest sum of shares, the first of equals."""
    sums = {label: 0.0 for label in labels}
    for label, share in zip(labels, shares, strict=True):
        sums[label] += share
    return max(sums, key=sums.get)


def pixel_by_hand(k, found, y, x):
    """(chart, U, V, part, confidence) of person k at a canvas position, or zeros."""
    cells = [
        ((i, j), a * b) for i, a in around(y, CANVAS[0]) for j, b in around(x, CANVAS[1])
    ]
    mine = [(cell, share) for cell, share in cells if found.owner[cell] == k]
    if sum(share for _, share in mine) <= 0.5:
        return (0,) * 5
    shares = [share for _, share in mine]
    chart = favourite([found.chart[cell] for cell, _ in mine], shares)
    part = favourite([found.parts[cell] for cell, _ in mine], shares)
    same = [(cell, share) for cell, share in mine if found.chart[cell] == chart]
    planes = (found.uv[..., 0], found.uv[..., 1], found.confidence)
    u, v, confidence = (
        sum(share * plane[cell] for cell, share in same) / sum(share for _, share in same)
        for plane in planes
    )
    return chart, u, v, part, confidence


@pytest.mark.parametrize("strip", [1, 1 << 16])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (2.37, 3.19), (0.73, 0.61)])
def test_every_pixel_weighs_the_four_around_it(scale, strip, monkeypatch):
    monkeypatch.setattr(inference, "STRIP", strip)
    found = three_people(np.random.default_rng(5))
    size = tuple(round(s * n) for s, n in zip(scale, CANVAS, strict=True))
    people = inference.unpack(found, Affine(scale), size, 7)
    assert [one.image_id for one in people] == [7] * 3
    owners = np.zeros(size, int)
    for k, one in enumerate(people):
        x0, y0, width, height = one.bbox
        assert one.iuv.shape == (height, width, 3)
        read = np.dstack([one.iuv, one.parts, one.confidence])
        for i in range(height):
            for j in range(width):
                y, x = (y0 + i + 0.5) / scale[0], (x0 + j + 0.5) / scale[1]
                by_hand = pixel_by_hand(k, found, y, x)
                np.testing.assert_allclose(read[i, j], by_hand, atol=0.501)
        owners[y0 : y0 + height, x0 : x0 + width] += one.mask
    assert owners.max() == 1  # no two share a pixel
    assert all(one.mask.any() for one in people)


def test_a_photograph_of_the_canvas_s_size_is_the_canvas():
    found = three_people(np.random.default_rng(6))
    for k, one in enumerate(inference.unpack(found, Affine(), CANVAS, 0)):
        mine = found.owner == k
        np.testing.assert_array_equal(one.chart, found.chart * mine)
        np.testing.assert_array_equal(one.iuv[..., 1:], found.uv * mine[..., None])
        np.testing.assert_array_equal(one.parts, found.parts * mine)
        np.testing.assert_array_equal(one.confidence, found.confidence * mine)
        for plane in (one.iuv, one.parts, one.confidence):  # as OpenCV wants them
            assert plane.flags.c_contiguous


def test_who_has_no_pixel_of_the_photograph_is_nobody():
    found = three_people(np.random.default_rng(7))
    found.owner[found.owner == 1] = -1
    assert len(inference.unpack(found, Affine((2.0, 2.0)), (28, 36), 0)) == 2
    found.box[0] = [5, 5, 5, 5]  # no extent
    assert len(inference.unpack(found, Affine((2.0, 2.0)), (28, 36), 0)) == 1
