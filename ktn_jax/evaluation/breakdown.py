"""What kind of error each detection is at GPSm .5, and what AP50 would gain without it.

The manner is that of TIDE (Bolya et al. 2020), the kinds are those of surfaces. Whether a
detection is right, wrong or ignored is the official matching's; a kind is given to the
wrong ones alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ktn_jax.evaluation.average_precision import (
    AREAS,
    Matches,
    Measured,
    assign,
    average_matches,
    match_scene,
    mean,
    read_status,
)
from ktn_jax.evaluation.point_errors import PLACED_IOU, PointErrors

ALIKE = 0.5  # GPSm, and of GPS alone: from here on two are alike
TOUCHING_IOU = 0.1  # of masks: below, a detection has to do with nobody
# Kinds of a wrong detection; its person is the one of largest mask IoU (of GPS in the
# second "bad mask"), people whom the metric ignores being out of the question.
KINDS = (
    "duplicate",  # GPSm >= .5 with somebody whom a higher score has taken
    "wrong part",  # mask IoU >= .5, GPS < .5, lost mostly on points put on another part
    "wrong uv",  # the same, lost mostly within the right part
    "bad mask",  # the same, lost mostly on background; or GPS >= .5 and mask IoU < .5
    "poor overlap",  # mask IoU .1 to .5 and GPS < .5
    "false",  # mask IoU < .1 with everybody
)
MISSED = "missed"  # people not taken, and not the person of a wrong detection but "false"


class Outcome(NamedTuple):
    """A scene's detections [D] and people [P] at GPSm .5."""

    matches: Matches  # at this one threshold
    kind: np.ndarray  # [D] i64 number in KINDS; -1 where right or ignored
    person: np.ndarray  # [D] i64 whom a wrong detection is about; -1 nobody
    taken: np.ndarray  # [P] bool
    missed: np.ndarray  # [P] bool


def classify(measured: Measured, errors: PointErrors, *, matches: Matches) -> Outcome:
    """The outcome for a scene. matches: its own by GPSm, all areas, at all thresholds."""
    people = read_status(measured.scene)
    matches = matches._replace(matched=matches.matched[:1], ignored=matches.ignored[:1])
    taken = np.zeros(len(people.ignored), bool)
    kind = np.full(len(matches.score), -1)
    person = kind.copy()
    if people.ignored.all():
        return Outcome(matches, kind, person, taken, taken)
    given = assign(measured.similarity.gpsm, people=people)[0]
    taken[given[given >= 0]] = True
    for index in (~(matches.matched | matches.ignored)[0]).nonzero()[0]:
        kind[index], person[index] = _judge(
            measured, errors, index, counted=(~people.ignored).nonzero()[0]
        )
    about = np.zeros(len(taken), bool)
    about[person[person >= 0]] = True
    return Outcome(matches, kind, person, taken, ~(taken | about | people.ignored))


def _judge(
    measured: Measured, errors: PointErrors, index: int, *, counted: np.ndarray
) -> tuple[int, int]:
    """(kind, person) of a wrong detection. counted: people whom the metric counts."""
    similarity = measured.similarity
    gpsm, gps, mask_iou = (
        values[index, counted]
        for values in (similarity.gpsm, similarity.gps, similarity.mask_iou)
    )
    on = int(counted[mask_iou.argmax()])
    if gpsm.max() >= ALIKE:
        return KINDS.index("duplicate"), int(counted[gpsm.argmax()])
    if mask_iou.max() >= PLACED_IOU:
        unseen, misplaced = errors.unseen[index, on], errors.misplaced[index, on]
        within = 1 - similarity.gps[index, on] - unseen - misplaced
        lost = {"wrong part": misplaced, "wrong uv": within, "bad mask": unseen}
        return KINDS.index(max(lost, key=lost.__getitem__)), on
    if gps.max() >= ALIKE:
        return KINDS.index("bad mask"), int(counted[gps.argmax()])
    if mask_iou.max() >= TOUCHING_IOU:
        return KINDS.index("poor overlap"), on
    return KINDS.index("false"), -1


def summarise(
    outcomes: list[Outcome], categories: list[int]
) -> dict[str, dict[str, float | int]]:
    """By kind (and MISSED): how many there are, and the gain in AP50 of GPSm.

    gain: AP50 if the errors of that kind alone were mended, less AP50; -1 with nobody to
    be found. Mended means: a detection counts for its person, if nobody else does; else
    (and a false one or a duplicate always) it is gone; and missed people are gone.
    """
    now = _ap50([outcome.matches for outcome in outcomes], categories)
    rows: dict[str, dict[str, float | int]] = {}
    for number, name in enumerate((*KINDS, MISSED)):
        if name == MISSED:
            count = sum(int(outcome.missed.sum()) for outcome in outcomes)
        else:
            count = sum(int((outcome.kind == number).sum()) for outcome in outcomes)
        mended = _ap50([mend(outcome, name) for outcome in outcomes], categories)
        # with all people missed nobody is left to be found, and nothing is wrong
        gain = (mended if mended >= 0 else 1.0) - now if now >= 0 else -1.0
        rows[name] = {"count": count, "gain": gain}
    return rows


def mend(outcome: Outcome, name: str) -> Matches:
    """The matches [1, D] without the errors of a kind, see summarise."""
    matches = outcome.matches
    if name == MISSED:
        left = matches.num_people - int(outcome.missed.sum())
        return matches._replace(num_people=left)
    wrong = (outcome.kind == KINDS.index(name)).nonzero()[0]
    if not wrong.size:
        return matches
    matched, ignored = matches.matched.copy(), matches.ignored.copy()
    ignored[0, wrong] = True
    taken = outcome.taken.copy()
    for index in wrong:  # by descending score
        person = outcome.person[index]
        if person >= 0 and not taken[person]:
            matched[0, index], ignored[0, index] = True, False
            taken[person] = True
    return matches._replace(matched=matched, ignored=ignored)


def match_all(measured: list[Measured]) -> list[Matches]:
    """The matches of all scenes by GPSm, whatever the area."""
    return [match_scene(*one, metric="gpsm", area=AREAS["all"]) for one in measured]


def _ap50(matches: list[Matches], categories: list[int]) -> float:
    return mean(average_matches(matches, categories)[0])


Breakdown = Mapping[str, Mapping[str, float | int]]
