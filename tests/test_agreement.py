"""The benchmark that compares an export with another DensePose."""

import numpy as np
import pytest

from benchmarks.agreement import compare, find_photographs, lay, rates
from ktn_jax.anatomy import PART_OF_CHART


def test_the_surer_person_lies_on_top_and_boxes_end_at_the_edge():
    low, high = np.full((3, 3, 3), 2), np.full((2, 2, 3), 5)
    high[0, 0] = 0  # not this person
    canvas = lay([(0.9, (1, 1), high), (0.2, (0, 0), low)], (3, 2))
    np.testing.assert_array_equal(canvas[..., 0], [[2, 2], [2, 2], [2, 5]])
    assert canvas.shape == (3, 2, 3)


def test_rates_are_those_of_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(2):
        pair = rng.integers(0, 256, (2, 9, 7, 3))
        pair[..., 0] = rng.integers(0, 5, (2, 9, 7))
        pairs.append(pair)
    either = both = same = parts = 0
    away = np.zeros(2)
    for ours, theirs in pairs:
        for a, b in zip(ours.reshape(-1, 3), theirs.reshape(-1, 3), strict=True):
            either += a[0] > 0 or b[0] > 0
            if a[0] and b[0]:
                both += 1
                parts += PART_OF_CHART[a[0]] == PART_OF_CHART[b[0]]
                if a[0] == b[0]:
                    same += 1
                    away += abs(a[1:] - b[1:]) / 255
    expected = {"iou": both / either, "charts": same / both, "parts": parts / both}
    expected |= {"u": away[0] / same, "v": away[1] / same}
    assert rates([compare(*pair) for pair in pairs]) == pytest.approx(expected, abs=5e-4)


def test_a_photograph_that_neither_finds_anybody_in_says_nothing():
    nobody = np.zeros((2, 2, 3), int)
    assert set(rates([compare(nobody, nobody)]).values()) == {0.0}


def test_photographs_go_by_the_number_that_their_name_ends_in(tmp_path):
    for name in ("COCO_val2014_000000000785.jpg", "7.PNG", "9.txt", "nobody.jpg"):
        (tmp_path / name).touch()
    found = {number: path.name for number, path in find_photographs(tmp_path).items()}
    assert found == {785: "COCO_val2014_000000000785.jpg", 7: "7.PNG"}
