"""Steadier predictions along a video: less flicker of charts, U, V and keypoints.

Each person's maps are compared with the own last ones, moved along with the body; the
mask stays that of the frame, so that no outline lags. What differs little is averaged,
what differs much is believed at once: noise is small, motion is not.
Frame: pixels of the video's frames, (y, x).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.records import Prediction

_SHARE = 0.4  # of a frame in the running means of U, V and charts
_JUMP = 40  # 255ths: U or V that differ by more are another surface point
_SWITCH = 0.5  # running mean of a chart's votes below which it gives way
_FEW = 12  # pixels: the motion of a smaller chart is that of the whole person
_CUTOFF, _SPEEDUP, _SPEED_CUTOFF = 2.0, 6.0, 2.0  # hertz; a person's size; hertz: see _euro
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
    chart, uv, votes = _steady_maps(old, new)
    size = np.sqrt(max((new.chart > 0).sum(), 1))
    keypoints, speed = _euro(old, new.keypoints, seconds - old.seconds, size)
    return new._replace(chart=chart, uv=uv, votes=votes, keypoints=keypoints, speed=speed)


def _steady_maps(old: State, new: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chart, U V and votes of the new frame's pixels."""
    before, known = _carry(old, new)
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


def _carry(old: State, new: State) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Where each new pixel was in the old maps: indices, and whether it was in them.

    Every chart moves as the mean place of its pixels does, hence limbs on their own.
    """
    shift = _shifts(old, new)[new.chart]
    rows, columns = np.indices(new.chart.shape)
    y = rows + new.corner[0] - old.corner[0] - shift[..., 0]
    x = columns + new.corner[1] - old.corner[1] - shift[..., 1]
    height, width = old.chart.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)), inside


def _shifts(old: State, new: State) -> np.ndarray:
    """[25, 2] whole pixels that each chart has moved; row 0 is the whole person's."""
    (first, many), (second, more) = (_places(s.chart, s.corner) for s in (old, new))
    moved = np.tile(second[0] - first[0], (NUM_CHARTS, 1))
    sure = np.minimum(many, more) >= _FEW
    moved[sure] = (second - first)[sure]
    return np.rint(moved).astype(int)


def _places(chart: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[25, 2] mean place and [25] number of every chart's pixels; row 0: of all."""
    yx = np.argwhere(chart > 0)
    label = chart[chart > 0]
    count = np.bincount(label, minlength=NUM_CHARTS)
    total = np.stack([np.bincount(label, yx[:, a], NUM_CHARTS) for a in (0, 1)], axis=1)
    count[0], total[0] = count.sum(), total.sum(0)
    return total / np.maximum(count, 1)[:, None] + corner, count


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
