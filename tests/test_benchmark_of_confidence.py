"""The reliability of charts by hand: four columns of people, one beside them."""

import numpy as np
import pytest

from benchmarks import confidence
from ktn_jax.records import Person, Points, Prediction

SIZE = (4, 10)


def annotated(column, charts, crowd=False):
    """Four pixels of a column, rows of charts a point each; 0: no point."""
    mask = np.zeros(SIZE, bool)
    mask[:, column] = True
    rows = np.flatnonzero(charts)
    yx = np.array([[row + 0.5, column + 0.5] for row in rows], np.float32)
    chart = np.array(charts, np.int32)[rows]
    points = Points(yx, chart, np.zeros((len(rows), 2), np.float32))
    points = None if crowd else points
    return Person(1, np.zeros(4), 4.0, crowd, mask, None, points, None)


def found(x, charts, sure, quality=0.5):
    """Charts and confidences [4, n] from column x on."""
    charts, sure = np.array(charts, np.uint8), np.array(sure, np.uint8)
    iuv = np.stack([charts, charts, charts], axis=-1)
    box = np.array([x, 0, charts.shape[1], 4], np.int32)
    return Prediction(0, box, 0.9, quality, iuv, charts, np.zeros((17, 3)), sure)


def test_points_stand_for_their_person_s_pixels_and_the_ground_beside_is_wrong():
    people = [annotated(2, [5, 6, 0, 7]), annotated(7, [], crowd=True)]
    one = found(
        2, [[5, 9], [5, 9], [5, 0], [0, 0]], [[51, 54], [102, 255], [153, 0], [0, 0]]
    )
    in_crowd = found(7, [[3]] * 4, [[255]] * 4)
    pixels = confidence.read_pixels(people, [one, in_crowd])
    order = np.argsort(pixels.confidence)
    # three pixels of column 2 were found; the two points on them stand for 1.5 each
    assert pixels.confidence[order] * 255 == pytest.approx([51, 54, 102, 255])
    assert pixels.right[order].tolist() == [True, False, False, False]
    assert pixels.on_person[order].tolist() == [True, False, True, False]
    assert pixels.weight[order].tolist() == [1.5, 1.0, 1.5, 1.0]
    rows = confidence.table(pixels)
    assert rows[2] == "| 0.2 - 0.3 | 0.500 | 0.20 | 0.60 | 1.00 |"  # 1.5 of 2.5, of 1.5
    assert rows[4] == "| 0.9 - 1.0 | 0.200 | 1.00 | 0.00 | 0.00 |"
    low = (1.5 * 51 + 54) / 2.5 / 255
    gap = 0.5 * (0.6 - low) + 0.3 * 0.4 + 0.2 * 1
    assert rows[-1].endswith(f"{gap:.3f}")
    kept = confidence.kept_table(pixels)
    assert kept[2] == "| 1.00 | 0.20 | 0.30 |"  # 1.5 of 5
    assert kept[-1] == "| 0.10 | 1.00 | 0.00 |"


def test_a_person_is_matched_by_pixels_and_judged_by_the_points_on_them(monkeypatch):
    monkeypatch.setattr(confidence, "ENOUGH", 3)
    people = [annotated(2, [5, 5, 6, 6]), annotated(3, [5, 5, 5, 5])]
    one = found(2, [[5], [5], [5], [0]], [[51], [102], [153], [0]], quality=0.7)
    # three of four pixels of the first person; its first two points are right
    expected = (0.4, 2 / 3, 0.7, 0.75)
    assert confidence.match(one, people) == pytest.approx(expected)
    monkeypatch.setattr(confidence, "ENOUGH", 4)
    assert confidence.match(one, people) is None
