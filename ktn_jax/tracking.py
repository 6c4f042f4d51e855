"""Who is who along a video: every person gets a number that stays from frame to frame.

Each track foretells where its person should be now; tracks and people are then paired so
that the sum of their disagreements in place, outline and tag is least. A track that
nobody fits waits for a while, and a person whom no track fits starts one.
Frame: pixels of the video's frames, (y, x); speeds are pixels a frame.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ktn_jax.records import Prediction

PATIENCE = 30  # frames that a person may be missing: a second of most videos

# A disagreement of 1 is one standard deviation and a half, as in the embedding.
_PLACE = 0.3  # standard deviation of a foretold centre, in roots of a person's area
_DRIFT = 0.03  # what every missed frame adds to it
_FARTHEST = 0.8  # and its end
_OUTLINE = 2.0  # disagreement of outlines that share nothing
_TAG_WEIGHT = 1.0  # tags one unit apart weigh like places one deviation apart
_LIMIT = 6.0  # pairs that disagree more are two people
_GAIN = 0.5  # share of a surprise that goes into the speed, and into the tag
_DAMPING = 0.95  # of the speed of a person out of sight, a frame


class Track(NamedTuple):
    """One person, as far as known."""

    id: int  # from 1, in order of appearance
    person: Prediction  # as last seen
    seen_at: np.ndarray  # [2] where the centre was then
    center: np.ndarray  # [2] where it should be now
    speed: np.ndarray  # [2]
    tag: np.ndarray | None  # [T] running mean
    missed: int  # frames since it was seen

    @property
    def spread(self) -> float:
        """Standard deviation of the foretold centre, pixels."""
        share = min(_PLACE + _DRIFT * self.missed, _FARTHEST)
        return share * float(np.sqrt(max(_mask(self.person).sum(), 1)))


class Tracker:
    """Numbers the people of one video, whose frames it is given in order."""

    def __init__(self, *, start: float = 0.0, patience: int = PATIENCE) -> None:
        """start: score that begins a track; one that has begun goes on below it.

        patience: frames that a person may be missing and still be known again.
        """
        self._start, self._patience = start, patience
        self._tracks: list[Track] = []
        self._last = 0

    def update(self, people: Sequence[Prediction]) -> list[Prediction]:
        """The people of the next frame with their `track`, in the order given.

        People who neither fit a track nor reach `start` are left out.
        """
        tracks = [_foretell(track) for track in self._tracks]
        number = dict(_pair(tracks, people))
        numbered, followed = [], []
        for index, person in enumerate(people):
            if index in number:
                track = _follow(tracks[number[index]], person)
            elif person.score >= self._start:
                self._last += 1
                track = _begin(self._last, person)
            else:
                continue
            followed.append(track)
            numbered.append(person._replace(track=track.id))
        waiting = [t for k, t in enumerate(tracks) if k not in number.values()]
        self._tracks = followed + [t for t in waiting if t.missed <= self._patience]
        return numbered


def disagreement(track: Track, person: Prediction) -> float:
    """How little a person is what a track foretells; 0 is perfect, _LIMIT the end."""
    away = np.square(_center(person) - track.center).sum()
    place = away / (2 * track.spread**2)
    if place > _LIMIT:  # outlines cost more to compare
        return _LIMIT
    tags = 0.0
    if track.tag is not None and person.tag is not None:
        tags = _TAG_WEIGHT**2 * float(np.square(person.tag - track.tag).sum()) / 2
    outlines = _OUTLINE * (1 - outline_iou(track, person))
    return min(place + tags + outlines, _LIMIT)


def outline_iou(track: Track, person: Prediction) -> float:
    """IoU of a person's mask and the track's last one, moved to where it should be."""
    shift = np.floor(track.center - track.seen_at + 0.5).astype(int)
    first, second = _mask(track.person), _mask(person)
    x, y, _, _ = track.person.bbox
    corner = np.array([y, x]) + shift
    other = np.array([person.bbox[1], person.bbox[0]])
    low = np.maximum(corner, other)
    high = np.minimum(corner + first.shape, other + second.shape)
    shared = 0
    if (high > low).all():
        (top, left), (bottom, right) = low - corner, high - corner
        mine = first[top:bottom, left:right]
        (top, left), (bottom, right) = low - other, high - other
        shared = (mine & second[top:bottom, left:right]).sum()
    return float(shared / max(first.sum() + second.sum() - shared, 1))


def _pair(tracks: Sequence[Track], people: Sequence[Prediction]) -> list[tuple[int, int]]:
    """Pairs (person, track) of least disagreement in all; those at the limit are none."""
    cost = np.array([[disagreement(t, p) for p in people] for t in tracks])
    cost = cost.reshape(len(tracks), len(people))
    rows, columns = linear_sum_assignment(cost)
    return [
        (int(person), int(track))
        for track, person in zip(rows, columns, strict=True)
        if cost[track, person] < _LIMIT
    ]


def _begin(number: int, person: Prediction) -> Track:
    center = _center(person)
    return Track(number, person, center, center, np.zeros(2), person.tag, 0)


def _foretell(track: Track) -> Track:
    """The track a frame later, as if nobody had been seen."""
    speed = track.speed * (_DAMPING if track.missed else 1.0)
    return track._replace(center=track.center + speed, speed=speed, missed=track.missed + 1)


def _follow(track: Track, person: Prediction) -> Track:
    """The track after its person was seen."""
    center = _center(person)
    tag = track.tag
    if tag is not None and person.tag is not None:
        tag = tag + _GAIN * (person.tag - tag)
    return Track(
        id=track.id,
        person=person,
        seen_at=center,
        center=center,
        speed=track.speed + _GAIN * (center - track.center) / track.missed,
        tag=tag,
        missed=0,
    )


def _mask(person: Prediction) -> np.ndarray:
    """[height, width] bool of the person's box."""
    return person.iuv[..., 0] > 0


def _center(person: Prediction) -> np.ndarray:
    """[2] mean of the mask's pixels; of the box where an empty mask leaves none."""
    x, y, width, height = (int(v) for v in person.bbox)
    mask = _mask(person)
    rows, columns = mask.sum(1), mask.sum(0)
    if not rows.any():
        return np.array([y + height / 2, x + width / 2])
    return np.array([
        y + rows @ (np.arange(height) + 0.5) / rows.sum(),
        x + columns @ (np.arange(width) + 0.5) / columns.sum(),
    ])  # fmt: skip
