"""What becomes of annotated points: which chart is put there, and what GPS loses by it.

Beside the official numbers: read where maps are decoded anyway, used by the diagnosis.
"""

from typing import NamedTuple

import numpy as np

from ktn_jax.anatomy import MIRRORED_CHART, MIRRORED_PART, NUM_CHARTS, PART_OF_CHART

PLACED_IOU = 0.5  # of masks: from here on a detection lies on a person
# What a found chart is to the annotated one, in the order of KIND_OF_PAIR's numbers.
CHART_KINDS = (
    "right",  # the annotated chart
    "left/right",  # its mirror image
    "front/back",  # the other chart of the same part (of an arm: inner and outer)
    "both",  # any chart of the mirrored part that is not the mirror image
    "wrong part",  # a chart of yet another part
    "background",  # no chart, or the point is outside the detection's box
)


class PointErrors(NamedTuple):
    """Of a scene with D detections and P people; n points of people who are found.

    Found by: the detection of the largest mask IoU, if that is PLACED_IOU at least.
    """

    unseen: np.ndarray  # [D, P] f64 GPS lost on points outside or on background
    misplaced: np.ndarray  # [D, P] f64 GPS lost on points put on another part
    truth: np.ndarray  # [n] u8 annotated chart
    found: np.ndarray  # [n] u8 chart of the map there; 0 background or outside
    score: np.ndarray  # [n] f64 the point's share in GPS, 0..1


def read_errors(
    score: np.ndarray,
    label: np.ndarray,
    *,
    chart: np.ndarray,
    person: np.ndarray,
    mask_iou: np.ndarray,
) -> PointErrors:
    """Errors of a scene's N points.

    score: [D, N], exp(-g^2 / (2 kappa^2)).   label: [D, N] u8 charts of the maps.
    chart, person: [N] the annotated chart, and whose the point is.   mask_iou: [D, P].
    """
    owner = person[:, None] == np.arange(mask_iou.shape[1])  # [N, P]
    share = owner / np.maximum(owner.sum(axis=0), 1)
    part = PART_OF_CHART[np.where(label < NUM_CHARTS, label, 0)]
    unseen = part == 0  # these score 0, so all of them is lost
    elsewhere = ~unseen & (part != PART_OF_CHART[chart])
    by = mask_iou.argmax(axis=0)  # [P]; of equals the one with the highest score
    placed = mask_iou.max(axis=0) >= PLACED_IOU
    points = placed[person].nonzero()[0]
    here = by[person[points]], points
    return PointErrors(
        unseen=unseen @ share,
        misplaced=((1 - score) * elsewhere) @ share,
        truth=chart[points].astype(np.uint8),
        found=np.where(unseen, 0, label)[here].astype(np.uint8),
        score=score[here],
    )


def no_errors(shape: tuple[int, int]) -> PointErrors:
    """Errors of a scene without detections or without people. shape: (D, P)."""
    nothing = np.zeros(0, np.uint8)
    return PointErrors(
        np.zeros(shape), np.zeros(shape), nothing, nothing, nothing.astype(np.float64)
    )


def _kind_of_pair() -> np.ndarray:
    """[25, 25] number of CHART_KINDS by annotated and by found chart."""
    truth, found = np.indices((NUM_CHARTS, NUM_CHARTS))
    part, found_part = PART_OF_CHART[truth], PART_OF_CHART[found]
    rules = [
        found == truth,
        found == 0,
        found == MIRRORED_CHART[truth],  # before the next: the head's charts are its halves
        found_part == part,
        found_part == MIRRORED_PART[part],
    ]
    return np.select(rules, [0, 5, 1, 2, 3], default=4)


KIND_OF_PAIR = _kind_of_pair()
