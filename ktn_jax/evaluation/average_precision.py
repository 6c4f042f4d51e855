"""AP of GPS, GPSm and mask IoU, equal to the official DensePose evaluator's.

Scenes are measured once; for every metric and area range detections are then matched
greedily, and the matches of all scenes make one precision-recall curve. The rules about
who is ignored are the metric as everybody reports it, oddities included.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from ktn_jax.errors import UserError
from ktn_jax.evaluation.challenge import Scene, group_scenes
from ktn_jax.evaluation.point_errors import PointErrors
from ktn_jax.evaluation.similarity import Similarity, inspect
from ktn_jax.evaluation.surface import Surface

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0, 1e5**2), "m": (32**2, 96**2), "l": (96**2, 1e5**2)}  # ends included
IGNORED_BOX_IOU = 0.8  # an unmatched detection on the box of an ignored person
METRICS: dict[str, Callable[[Similarity], np.ndarray]] = {
    "gps": lambda similarity: similarity.gps,
    "gpsm": lambda similarity: similarity.gpsm,
    "iou": lambda similarity: similarity.mask_iou,
}
STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
# of empty results, as the official code has it: not 0, but not measured
NOTHING = {metric: dict.fromkeys(STATS, -1.0) for metric in METRICS}


class Measured(NamedTuple):
    """A scene and its similarities; detections by descending score."""

    scene: Scene
    similarity: Similarity


class People(NamedTuple):
    """What matching needs of a scene's people, each [P]."""

    ignored: np.ndarray  # bool: no points, or out of the area range
    crowd: np.ndarray  # bool: may be matched again and again
    has_id: np.ndarray  # bool: an annotation id other than 0


class Matches(NamedTuple):
    """The outcome for a scene; T thresholds, D detections."""

    score: np.ndarray  # [D] descending
    matched: np.ndarray  # [T, D] bool
    ignored: np.ndarray  # [T, D] bool
    num_people: int  # those not ignored


def evaluate_densepose(
    gt: dict[str, Any],
    results: list[dict[str, Any]],
    surface: Surface,
    *,
    processes: int = 1,
) -> dict[str, dict[str, float]]:
    """STATS of "gps", "gpsm" and "iou", fractions of 1; -1 where nothing is to be found.

    gt: a DensePose-COCO json's content.   results: a list in challenge form.
    """
    if not results:
        return dict(NOTHING)
    return summarise_all(measure_scenes(gt, results, surface, processes=processes))


def measure_scenes(
    gt: dict[str, Any],
    results: list[dict[str, Any]],
    surface: Surface,
    *,
    processes: int = 1,
) -> list[Measured]:
    """Similarity of every (detection, person) pair, a scene at a time.

    More than one process pays from some hundred images on; jax is not in them.
    """
    return inspect_scenes(gt, results, surface, processes=processes)[0]


def inspect_scenes(
    gt: dict[str, Any],
    results: list[dict[str, Any]],
    surface: Surface,
    *,
    processes: int = 1,
) -> tuple[list[Measured], list[PointErrors]]:
    """Every scene measured, and what became of its points; see measure_scenes."""
    if processes < 1:
        raise UserError(f"processes is {processes}; at least 1 is needed")
    scenes = group_scenes(gt, results)
    if processes == 1:
        found = [_inspect(scene, surface) for scene in scenes]
    else:
        with ProcessPoolExecutor(
            processes,
            mp_context=get_context("spawn"),  # a fork of a process with jax may hang
            initializer=_keep_surface,
            initargs=(surface,),
        ) as pool:
            found = list(pool.map(_inspect_with_kept, scenes, chunksize=8))
    measured = [Measured(scene, one[0]) for scene, one in zip(scenes, found, strict=True)]
    return measured, [errors for _, errors in found]


def summarise_all(measured: list[Measured]) -> dict[str, dict[str, float]]:
    """STATS of "gps", "gpsm" and "iou" over all scenes."""
    return {metric: summarise(measured, metric) for metric in METRICS}


def summarise(measured: list[Measured], metric: str) -> dict[str, float]:
    """STATS of one metric over all scenes."""
    curves = {area: average(measured, metric, area=area) for area in AREAS}
    stats = {}
    for name, index in (("AP", 0), ("AR", 1)):
        values = {area: curve[index] for area, curve in curves.items()}
        stats |= {
            name: mean(values["all"]),
            f"{name}50": mean(values["all"][:, _at(0.5)]),
            f"{name}75": mean(values["all"][:, _at(0.75)]),
            f"{name}m": mean(values["m"]),
            f"{name}l": mean(values["l"]),
        }
    return stats


def average(
    measured: list[Measured], metric: str, *, area: str
) -> tuple[np.ndarray, np.ndarray]:
    """Precision [C, T, 101] at RECALLS and recall [C, T] of C categories.

    All are -1 for a category without people.
    """
    matches = [match_scene(*one, metric=metric, area=AREAS[area]) for one in measured]
    return average_matches(matches, [one.scene.category_id for one in measured])


def average_matches(
    matches: list[Matches], categories: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """As average, of scenes' matches at T thresholds and the scenes' categories."""
    rows = []
    for category in sorted(set(categories)):
        here = [m for m, c in zip(matches, categories, strict=True) if c == category]
        if sum(match.num_people for match in here):
            rows.append(accumulate(here))
        else:
            shape = (len(here[0].matched), len(RECALLS))
            rows.append((-np.ones(shape), -np.ones(shape[0])))
    if not rows:
        return -np.ones((1, len(THRESHOLDS), len(RECALLS))), -np.ones((1, len(THRESHOLDS)))
    precision, recall = zip(*rows, strict=True)
    return np.stack(precision), np.stack(recall)


def match_scene(
    scene: Scene, similarity: Similarity, *, metric: str, area: tuple[float, float]
) -> Matches:
    """A scene's detections matched by a metric, in the eyes of an area range."""
    low, high = area
    people = read_status(scene, area=area)
    matched, ignored = match(METRICS[metric](similarity), similarity.box_iou, people=people)
    # detections are measured by their box, people by their annotated area
    boxes = np.array([d.bbox[2] * d.bbox[3] for d in scene.detections], np.float64)
    ignored |= ~matched & ((boxes < low) | (boxes > high))
    score = np.array([detection.score for detection in scene.detections])
    return Matches(score, matched, ignored, int((~people.ignored).sum()))


def read_status(scene: Scene, *, area: tuple[float, float] = AREAS["all"]) -> People:
    """Who of a scene's people counts within an area range."""
    low, high = area
    areas = np.array([person["area"] for person in scene.people], np.float64)
    pointless = np.array(["dp_x" not in person for person in scene.people], bool)
    return People(
        ignored=pointless | (areas < low) | (areas > high),
        crowd=np.array([person.get("iscrowd", 0) for person in scene.people], bool),
        has_id=np.array([person["id"] != 0 for person in scene.people], bool),
    )


def match(
    similarity: np.ndarray, box_iou: np.ndarray, *, people: People
) -> tuple[np.ndarray, np.ndarray]:
    """(matched, ignored) [T, D] bool of detections [D, P], by descending score."""
    # where nobody is to be found (or nobody is at all), no detection is wrong
    ignored = np.full((len(THRESHOLDS), len(similarity)), people.ignored.all())
    if not people.ignored.size:
        return np.zeros_like(ignored), ignored
    person = assign(similarity, people=people)
    given = person >= 0
    matched = given & people.has_id[person]  # the official matches hold ids,
    ignored = np.where(given, people.ignored[person], ignored)  # and 0 reads as none
    near = (box_iou >= IGNORED_BOX_IOU).any(axis=1) & ~matched[-1]
    if near.any():
        taken = np.zeros(len(people.ignored), bool)
        taken[person[-1][given[-1]]] = True
        _match_boxes(
            matched, ignored, near=near, taken=taken, box_iou=box_iou, people=people
        )
    return matched, ignored


def assign(similarity: np.ndarray, *, people: People) -> np.ndarray:
    """The person [T, D] that each detection takes at each threshold; -1 for none.

    similarity: [D, P] of detections by descending score.
    """
    thresholds = np.minimum(THRESHOLDS, 1 - 1e-10)
    taken_by = np.full((len(thresholds), len(similarity)), -1)
    taken = np.zeros((len(thresholds), len(people.ignored)), bool)
    for detection in (similarity >= thresholds[0]).any(axis=1).nonzero()[0]:
        row = similarity[detection]
        able = (~taken | people.crowd) & (row >= thresholds[:, None])  # [T, P]
        # an ignored person is taken only where no other one can be
        regular = (able & ~people.ignored).any(axis=1, keepdims=True)
        able &= ~(regular & people.ignored)
        at = able.any(axis=1).nonzero()[0]
        person = _last_argmax(np.where(able, row, -1.0))[at]
        taken_by[at, detection] = person
        taken[at, person] = True
    return taken_by


def _match_boxes(
    matched: np.ndarray,
    ignored: np.ndarray,
    *,
    near: np.ndarray,
    taken: np.ndarray,
    box_iou: np.ndarray,
    people: People,
) -> None:
    """Forgives detections whose box is that of an ignored person, in place.

    The official code runs this after its loop over thresholds with the loop's variable,
    so it looks at the matches of the last threshold and decides for all of them, which
    may also take back that a detection was ignored. It is part of the metric.
    near: [D] bool, unmatched there and on a box.   taken: [P] bool, who is, there.
    """
    for detection in near.nonzero()[0]:
        able = (~taken | people.crowd) & (box_iou[detection] >= IGNORED_BOX_IOU)
        if not able.any():
            continue
        # the best box; among equals an ignored person's, and of those the last
        best = able & (box_iou[detection] == box_iou[detection][able].max())
        person = np.lexsort((people.ignored, best))[-1]
        ignored[:, detection] = people.ignored[person]
        if people.ignored[person]:
            matched[-1, detection] = people.has_id[person]
            taken[person] = True


def accumulate(matches: list[Matches]) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T, 101] at RECALLS and final recall [T] of all scenes' matches."""
    order = np.argsort(-np.concatenate([m.score for m in matches]), kind="stable")
    matched = np.concatenate([m.matched for m in matches], axis=1)[:, order]
    counted = ~np.concatenate([m.ignored for m in matches], axis=1)[:, order]
    true = np.cumsum(matched & counted, axis=1, dtype=np.float64)
    false = np.cumsum(~matched & counted, axis=1, dtype=np.float64)
    recall = true / sum(m.num_people for m in matches)
    precision = true / (true + false + np.spacing(1))
    # from the right: the best precision at this recall or a higher one
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))  # 0 beyond the last recall
    at_recalls = [
        envelope[np.searchsorted(reached, RECALLS, side="left")]
        for envelope, reached in zip(precision, recall, strict=True)
    ]
    return np.stack(at_recalls), recall.max(axis=1, initial=0.0)


def mean(values: np.ndarray) -> float:
    """Mean over everything measured; -1 if nothing is."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0


def _inspect(scene: Scene, surface: Surface) -> tuple[Similarity, PointErrors]:
    try:
        return inspect(scene, surface)
    except UserError as error:
        raise UserError(f"image {scene.image_id}: {error}") from error


_kept: dict[str, Surface] = {}  # in a process of the pool: what is sent only once


def _keep_surface(surface: Surface) -> None:
    _kept["surface"] = surface


def _inspect_with_kept(scene: Scene) -> tuple[Similarity, PointErrors]:
    return _inspect(scene, _kept["surface"])


def _last_argmax(values: np.ndarray) -> np.ndarray:
    """Index of each row's largest value, the last one in a tie. values: [n, P]."""
    return values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)


def _at(threshold: float) -> int:
    return int(np.abs(THRESHOLDS - threshold).argmin())
