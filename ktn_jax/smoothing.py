"""Steadier predictions along a video: less flicker of charts, U, V and keypoints.

Each person's maps and keypoints are compared with the own last ones, moved along with
the body; the mask stays that of the frame, so that no outline lags. What differs little
is averaged, what differs much is believed at once or a frame later.
Frame: pixels of the video's frames, (y, x).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ktn_jax.records import Prediction

_SHARE = 0.4  # of a frame in the running means of U, V and charts
_JUMP = 40  # 255ths: U or V that differ by more are another surface point
_SWITCH = 0.5  # running mean of a chart's votes below which it gives way
_SEARCH = 2  # steps that a body's motion is looked for around that of its mask's mean
_FINE = 80  # pixels: root of the area of people for whom a step is one pixel
_CUTOFF = 2.0  # hertz: what joints at rest are held to
_SPEEDUP = 6.0  # hertz more for every size of the own body a second
_SPEED_CUTOFF = 2.0  # hertz, of the speed itself
_FORGOTTEN = 30  # frames after which somebody out of sight starts anew


class State(NamedTuple):
    """What is remembered of one person."""

    seen: int  # number of the frame
    seconds: float  # of the frame
    corner: np.ndarray  # [2] of the maps
    chart: np.ndarray  # [h, w] u8
    uv: np.ndarray  # [h, w, 2] f32, 255ths
    votes: np.ndarray  # [h, w] f32 running share of the frames that agree with chart
    keypoints: np.ndarray  # [17, 2]
    speed: np.ndarray  # [17, 2] a second


class Smoother:
    """Steadies the people of one video, whose frames it is given in order."""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}
        self._frame = 0

    def update(self, people: Sequence[Prediction], seconds: float) -> list[Prediction]:
        """The people of the next frame, steadied. They must have their `track`.

        seconds: of the frame. Boxes, scores, masks and parts stay as they are.
        """
        self._frame += 1
        steadied = []
        for person in people:
            old = self._states.get(person.track)
            if old is None:
                state = _begin(person, seconds, self._frame)
            else:
                state = _steady(old, person, seconds, self._frame)
            self._states[person.track] = state
            iuv = np.dstack([state.chart, np.rint(state.uv).astype(np.uint8)])
            keypoints = np.c_[state.keypoints, person.keypoints[:, 2]]
            steadied.append(
                person._replace(iuv=iuv, keypoints=keypoints.astype(np.float32))
            )
        self._states = {
            track: state
            for track, state in self._states.items()
            if self._frame - state.seen <= _FORGOTTEN
        }
        return steadied


def _begin(person: Prediction, seconds: float, frame: int) -> State:
    chart = person.iuv[..., 0]
    return State(
        seen=frame,
        seconds=seconds,
        corner=person.bbox[1::-1].astype(int),
        chart=chart,
        uv=person.iuv[..., 1:].astype(np.float32),
        votes=np.ones(chart.shape, np.float32),
        keypoints=person.keypoints[:, :2].astype(float),
        speed=np.zeros((len(person.keypoints), 2)),
    )


def _steady(old: State, person: Prediction, seconds: float, frame: int) -> State:
    """The state after one more frame."""
    new = _begin(person, seconds, frame)
    shift = _shift(old, new)
    chart, uv, votes = _steady_maps(old, new, shift)
    size = np.sqrt(max((new.chart > 0).sum(), 1))
    # in the body's own frame: who walks by evenly holds still there
    carried = old._replace(keypoints=old.keypoints + shift)
    keypoints, speed = _euro(carried, new.keypoints, seconds - old.seconds, size)
    return new._replace(chart=chart, uv=uv, votes=votes, keypoints=keypoints, speed=speed)


def _steady_maps(
    old: State, new: State, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chart, U V and votes of the new frame's pixels."""
    before, known = _carry(old, new, shift)
    chart, uv, votes = (plane[before] for plane in (old.chart, old.uv, old.votes))
    known &= (chart > 0) & (new.chart > 0)
    agree = known & (chart == new.chart)
    votes = (1 - _SHARE) * votes + _SHARE * agree
    stays = known & (votes >= _SWITCH)
    near = agree & (np.abs(new.uv - uv) < _JUMP).all(-1)
    mean = uv + _SHARE * (new.uv - uv)
    kept = stays & ~agree  # the last chart is believed, and with it its U, V
    return (
        np.where(stays, chart, new.chart),
        np.where(near[..., None], mean, np.where(kept[..., None], uv, new.uv)),
        np.where(stays, votes, np.where(known, 1 - votes, 1)).astype(np.float32),
    )


def _carry(
    old: State, new: State, shift: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Where each new pixel was in the old maps: indices, and whether it was in them."""
    back = new.corner - old.corner - np.rint(shift).astype(int)
    at = [np.arange(n) + b for n, b in zip(new.chart.shape, back, strict=True)]
    inside = [(a >= 0) & (a < n) for a, n in zip(at, old.chart.shape, strict=True)]
    held = [a.clip(0, n - 1) for a, n in zip(at, old.chart.shape, strict=True)]
    return np.ix_(*held), np.logical_and.outer(*inside)


def _shift(old: State, new: State) -> np.ndarray:
    """[2] whole pixels that the body has moved: as far as most charts agree.

    The mask's mean place says about how far; an arm that is lifted moves it too, so the
    neighbourhood is searched. Large people are looked at in larger steps.
    """
    step = max(1, int(np.sqrt((new.chart > 0).sum()) / _FINE))
    grid = np.s_[::step, ::step]
    start = np.rint(_middle(new) - _middle(old))

    def agreement(shift: np.ndarray) -> int:
        (rows, columns), known = _carry(old, new, shift)
        chart = old.chart[rows[::step], columns[:, ::step]]
        return (known[grid] & (chart == new.chart[grid]) & (chart > 0)).sum()

    reach = step * np.arange(-_SEARCH, _SEARCH + 1)
    shifts = [np.add(start, (y, x)) for y in reach for x in reach]
    shifts.sort(key=lambda shift: np.abs(shift - start).sum())  # of equals the nearest
    return max(shifts, key=agreement)


def _middle(state: State) -> np.ndarray:
    """[2] mean place of the mask's pixels."""
    mask = state.chart > 0
    sums = [mask.sum(1 - axis) @ np.arange(n) for axis, n in enumerate(mask.shape)]
    return np.array(sums) / max(mask.sum(), 1) + state.corner


def _euro(
    old: State, measured: np.ndarray, passed: float, size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and speeds by the one-euro filter (Casiez et al., CHI 2012).

    measured: [17, 2].   passed: seconds since the last frame.   size: root of the
    person's area, so that a child far away and an adult close by are alike.
    """
    passed = max(passed, 1e-3)
    speed = (measured - old.keypoints) / passed
    speed = old.speed + _weight(_SPEED_CUTOFF, passed) * (speed - old.speed)
    fast = np.linalg.norm(speed, axis=1, keepdims=True) / size
    share = _weight(_CUTOFF + _SPEEDUP * fast, passed)
    return old.keypoints + share * (measured - old.keypoints), speed


def _weight(cutoff: float | np.ndarray, passed: float) -> float | np.ndarray:
    """Share of a new value in a first-order low-pass. cutoff: hertz, passed: seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * passed))
