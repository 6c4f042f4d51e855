"""Where AP is lost: by kind of image and person, by part, by chart, by kind of error.

All is of GPSm, reads what the metric has measured, and changes none of its numbers.
"""

from typing import Any

import numpy as np
from pycocotools import mask as rle

from ktn_jax.anatomy import COARSE, COARSE_OF_CHART, NUM_CHARTS
from ktn_jax.evaluation import breakdown
from ktn_jax.evaluation.average_precision import (
    Matches,
    Measured,
    average_matches,
    match_scene,
    mean,
    read_status,
)
from ktn_jax.evaluation.breakdown import Outcome, classify, match_all
from ktn_jax.evaluation.challenge import Scene
from ktn_jax.evaluation.point_errors import CHART_KINDS, KIND_OF_PAIR, PointErrors

PEOPLE = {"1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5+": (5, np.inf)}  # both ends in
OVERLAP = {"0-0.1": (0, 0.1), "0.1-0.3": (0.1, 0.3), "0.3-1": (0.3, np.inf)}  # end out
SIDES = {  # px: the root of a person's area, both ends in as in the metric's own ranges
    "0-32": (0, 32),
    "32-64": (32, 64),
    "64-96": (64, 96),
    "96-192": (96, 192),
    "192+": (192, 1e5),
}
LISTED = 10  # images of each list

Rows = dict[str, dict[str, float | int]]


def diagnose(measured: list[Measured], errors: list[PointErrors]) -> dict[str, Any]:
    """The diagnosis, ready for json; a value that nothing could be measured for is -1.

    by_people    {"1", "2", "3-4", "5+": row}: images by their number of people
    by_overlap   {"0-0.1", ..: row}: images by the largest IoU of two people's boxes
    by_size      {"0-32", ..: row}: people by the root of their area in pixels
                 row: AP, AP50, AR of GPSm, and how many images, people (and only these
                 people; by_size has no images) count
    by_part      {coarse part: {gps, points}}: mean score of the part's points
    charts       {"right", "left/right", ..: share of the points}, see CHART_KINDS
    confusion    [24][25] points by annotated chart 1..24 and found chart 0..24
    errors       {kind: {count, gain}}, see breakdown.KINDS
    best, worst  [{image_id, score, people, missed, wrong}], see rank_images
    by_part, charts and confusion are of the points of people who are found, that is, on
    whom a detection has a mask IoU of .5 at least. Crowd regions are no people here.
    """
    matches = match_all(measured)
    categories = [one.scene.category_id for one in measured]
    outcomes = [
        classify(one, error, matches=match)
        for one, error, match in zip(measured, errors, matches, strict=True)
    ]
    scenes = [one.scene for one in measured]
    counts = np.array([len(_people(scene)) for scene in scenes])
    overlaps = np.array([overlap(scene) for scene in scenes])
    confusion = count_charts(errors)
    ranked = rank_images(measured, outcomes)
    return {
        "by_people": {
            name: _row(matches, categories, (counts >= low) & (counts <= high))
            for name, (low, high) in PEOPLE.items()
        },
        "by_overlap": {
            name: _row(
                matches, categories, (counts > 0) & (overlaps >= low) & (overlaps < high)
            )
            for name, (low, high) in OVERLAP.items()
        },
        "by_size": {name: _size_row(measured, sides) for name, sides in SIDES.items()},
        "by_part": score_parts(errors),
        "charts": share_kinds(confusion),
        "confusion": confusion[1:].tolist(),
        "errors": breakdown.summarise(outcomes, categories),
        "best": ranked[::-1][:LISTED],
        "worst": ranked[:LISTED],
    }


def overlap(scene: Scene) -> float:
    """The largest IoU of the boxes of two of a scene's people; 0 for fewer than two."""
    boxes = np.array([person["bbox"] for person in _people(scene)], np.float64)
    if len(boxes) < 2:
        return 0.0
    iou = rle.iou(boxes, boxes, [0] * len(boxes))[np.triu_indices(len(boxes), k=1)]
    return float(np.nan_to_num(iou).max())  # two boxes of no size have none


def count_charts(errors: list[PointErrors]) -> np.ndarray:
    """Points by (annotated, found) chart, [25, 25] i64; 0 is background."""
    truth = np.concatenate([np.zeros(0, np.int64), *(e.truth for e in errors)])
    found = np.concatenate([np.zeros(0, np.int64), *(e.found for e in errors)])
    pairs = np.bincount(truth * NUM_CHARTS + found, minlength=NUM_CHARTS**2)
    return pairs.reshape(NUM_CHARTS, NUM_CHARTS)


def share_kinds(confusion: np.ndarray) -> dict[str, float]:
    """Share of all points by what the found chart is to the annotated one."""
    total = confusion.sum()
    return {
        name: float(confusion[KIND_OF_PAIR == number].sum() / total) if total else -1.0
        for number, name in enumerate(CHART_KINDS)
    }


def score_parts(errors: list[PointErrors]) -> Rows:
    """By coarse part: mean score of its points (its GPS), and how many there are."""
    truth = np.concatenate([np.zeros(0, np.int64), *(e.truth for e in errors)])
    score = np.concatenate([np.zeros(0), *(e.score for e in errors)])
    part = COARSE_OF_CHART[truth]
    points = np.bincount(part, minlength=len(COARSE))
    total = np.bincount(part, score, minlength=len(COARSE))
    return {
        name: {
            "gps": float(total[i] / points[i]) if points[i] else -1.0,
            "points": int(points[i]),
        }
        for i, name in enumerate(COARSE)
        if i
    }


def rank_images(
    measured: list[Measured], outcomes: list[Outcome]
) -> list[dict[str, float | int]]:
    """Every scene with somebody to find, the worst first; of equals the first stays so.

    score: mean over its counted people of the largest GPSm that any detection has with
    them.   missed: people whom none takes at GPSm .5.   wrong: detections, likewise.
    """
    rows: list[dict[str, float | int]] = []
    for (scene, similarity), outcome in zip(measured, outcomes, strict=True):
        counted = ~read_status(scene).ignored
        if not counted.any():
            continue
        best = similarity.gpsm.max(axis=0, initial=0.0)[counted]
        rows.append(
            {
                "image_id": scene.image_id,
                "score": float(best.mean()),
                "people": int(counted.sum()),
                "missed": int((counted & ~outcome.taken).sum()),
                "wrong": int((outcome.kind >= 0).sum()),
            }
        )
    return sorted(rows, key=lambda row: row["score"])


def _people(scene: Scene) -> list[dict[str, Any]]:
    return [person for person in scene.people if not person.get("iscrowd", 0)]


def _row(
    matches: list[Matches], categories: list[int], chosen: np.ndarray
) -> dict[str, float | int]:
    """The row of chosen scenes [S] bool."""
    at = chosen.nonzero()[0]
    here = [matches[i] for i in at]
    row = _average(here, [categories[i] for i in at])
    return row | {"images": len(here), "people": sum(match.num_people for match in here)}


def _size_row(
    measured: list[Measured], sides: tuple[float, float]
) -> dict[str, float | int]:
    """The row of people in a range of sides, by the metric's rules for area ranges."""
    area = (sides[0] ** 2, sides[1] ** 2)
    here = [match_scene(*one, metric="gpsm", area=area) for one in measured]
    row = _average(here, [one.scene.category_id for one in measured])
    return row | {"people": sum(match.num_people for match in here)}


def _average(matches: list[Matches], categories: list[int]) -> dict[str, float | int]:
    precision, recall = average_matches(matches, categories)
    return {"AP": mean(precision), "AP50": mean(precision[:, 0]), "AR": mean(recall)}
