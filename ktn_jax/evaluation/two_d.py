"""Measures in the image plane: keypoint AP, person mask AP, and mean IoU of parts.

The first two are pycocotools' own, on the same ground truth and results files as
DensePose's; the third adds up one confusion matrix over all images.
"""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ktn_jax.anatomy import NUM_KEYPOINTS, NUM_PARTS, UNKNOWN_PART
from ktn_jax.errors import UserError

# positions in COCOeval.stats
_KEYPOINT_STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
_MASK_STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def evaluate_keypoints(
    gt: dict[str, Any], results: list[dict[str, Any]]
) -> dict[str, float] | None:
    """COCO's keypoint AP (OKS) as fractions; None if gt or results have no keypoints.

    results[i]["keypoints"]: 51 floats x, y, anything. People without labelled keypoints
    are ignored, as COCO has it.
    """
    found = _select(results, "keypoints")
    if not found or not any("keypoints" in a for a in gt["annotations"]):
        return None
    for entry in found:
        if len(entry["keypoints"]) != 3 * NUM_KEYPOINTS:
            raise UserError(
                f"a result in image {entry['image_id']} has {len(entry['keypoints'])} "
                f"numbers in keypoints; expected are {3 * NUM_KEYPOINTS}, x, y and "
                "score of each"
            )
    people = [_with_keypoints(annotation) for annotation in gt["annotations"]]
    return _evaluate({**gt, "annotations": people}, found, kind="keypoints")


def evaluate_masks(
    gt: dict[str, Any], results: list[dict[str, Any]]
) -> dict[str, float] | None:
    """COCO's person mask AP as fractions; None if results have no segmentation.

    results[i]["segmentation"]: compressed run lengths of the image's size. People
    without a segmentation do not exist for it.
    """
    found = _select(results, "segmentation")
    people = [a for a in gt["annotations"] if a.get("segmentation")]
    if not found or not people:
        return None
    return _evaluate({**gt, "annotations": people}, found, kind="segm")


def part_confusion(
    predicted: np.ndarray, target: np.ndarray, *, unknown: int = UNKNOWN_PART
) -> np.ndarray:
    """Pixels by (target, predicted) part, [15, 15] i64; add it up over images.

    predicted, target: 0..14 of any one shape; target may be unknown, which leaves the
    pixel out.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"part maps of shapes {predicted.shape} and {target.shape}; resize the "
            "prediction to the image first"
        )
    known = target != unknown
    if max(predicted[known].max(initial=0), target[known].max(initial=0)) >= NUM_PARTS:
        raise ValueError(f"a part label is not one of 0..{NUM_PARTS - 1} (or {unknown})")
    pair = target[known].astype(np.int64) * NUM_PARTS + predicted[known]
    return np.bincount(pair, minlength=NUM_PARTS**2).reshape(NUM_PARTS, NUM_PARTS)


def part_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of every label with background, [15]; nan where the target never has it."""
    shared = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - shared
    occurs = confusion.sum(axis=1) > 0
    return np.divide(shared, union, out=np.full(len(shared), np.nan), where=occurs)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU of the 14 parts that the target has; -1 if it has none.

    Background is no part and does not count in the mean, though a part drawn on
    background does count against that part.
    """
    iou = part_iou(confusion)[1:]
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else -1.0


def _select(results: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    # Nothing but this field is kept: with a bbox in it, pycocotools would take the area
    # of the box for that of the mask or of the keypoints.
    fields = ("image_id", "category_id", "score", field)
    return [{name: r[name] for name in fields} for r in results if r.get(field)]


def _with_keypoints(annotation: dict[str, Any]) -> dict[str, Any]:
    """The annotation with keypoints and their number, which some files leave out."""
    keypoints = annotation.get("keypoints") or [0] * 3 * NUM_KEYPOINTS
    labelled = sum(visible > 0 for visible in keypoints[2::3])
    return {**annotation, "keypoints": keypoints, "num_keypoints": labelled}


def _evaluate(
    gt: dict[str, Any], results: list[dict[str, Any]], *, kind: str
) -> dict[str, float]:
    """COCOeval's statistics by name, without its printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        # copies: pycocotools writes into what it is given
        truth.dataset = {**gt, "annotations": [dict(a) for a in gt["annotations"]]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = _KEYPOINT_STATS if kind == "keypoints" else _MASK_STATS
    return dict(zip(names, map(float, evaluation.stats), strict=False))
