"""Part maps that charts make up, and their mean IoU with the annotated ones."""

import numpy as np
import pytest
from pycocotools import mask as rle

from ktn_jax.evaluation import parts
from ktn_jax.evaluation.standalone import evaluate_results
from tests.test_average_precision import annotation, dataset, result
from tests.test_similarity import LINE, detection, plain

TORSO, HEAD = 1, 14  # parts; their charts are 1, 2 and 23, 24


def test_charts_are_painted_as_their_parts_and_later_ones_over():
    front = plain(10, 10, chart=24)
    front[:5, :, 0] = 0  # background paints nothing
    front[9, :, 0] = 200  # nor does what is no chart
    shown = [
        detection([2, 1, 10, 10], plain(10, 10, chart=2)),
        detection([7, 1, 10, 10], front),
    ]
    found = parts.chart_part_map(shown, (20, 15))
    expected = np.zeros((20, 15), np.uint8)
    expected[1:11, 2:12] = TORSO
    expected[6:10, 7:15] = HEAD  # the image ends at 15
    np.testing.assert_array_equal(found, expected)


def whole_person(part):
    """The person of test_average_precision, all of whose 96 x 96 box is one part."""
    grid = rle.encode(np.asfortranarray(np.ones((256, 256), np.uint8)))
    masks = [[] for _ in range(14)]
    masks[part - 1] = grid | {"counts": grid["counts"].decode()}
    return annotation(1, dp_masks=masks)


@pytest.mark.parametrize(
    ("results", "miou"),
    [
        ([result(0.5)], 1),
        ([result(0.49)], 0),  # not shown
        # over half of it, with a higher score, the same part: still all of it
        ([result(0.9, box=(0, 0, 48, 96)), result(0.5)], 1),
        # 96 x 96 of 192 x 96 pixels: background called torso counts against the torso
        ([result(0.5), result(0.9, box=(96, 0, 96, 96))], 0.5),
        ([], 0),
    ],
)
def test_the_mean_iou_of_parts_by_charts(results, miou):
    found = evaluate_results(dataset(whole_person(TORSO)), results, LINE, chart_parts=True)
    assert found["chart_parts_miou"] == pytest.approx(miou)


def test_it_is_not_measured_unless_asked_for_and_if_there_is_no_part():
    gt = dataset(annotation(1))
    assert "chart_parts_miou" not in evaluate_results(gt, [result(0.5)], LINE)
    assert parts.measure_charts(gt, [result(0.5)]) == -1
    assert parts.measure_charts(dataset(), []) == -1
