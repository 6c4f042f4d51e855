"""What an export makes of moving people, frame by frame and smoothed: one JSON line each.

    python -m benchmarks.video EXPORT [--sequences 5 --frames 30 --people 1]

Rendered people walk to and fro and change their pose before a camera at rest, with noise
of its own in every frame; labels are exact. Numbers, all means over frames:
    uv_error      |U, V| from the truth where the chart is right
    uv_jitter     change of that error from a frame to the next, followed along the surface
    chart_error   share of a person's pixels on a wrong chart
    chart_flips   share of surface points whose chart changes from a frame to the next
    joint_error, joint_jitter   the same of keypoints (median), over root of area
    found         people found a frame; tracks: numbers given, ideally the people
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ktn_jax.data.figures import Figure, place_figure
from ktn_jax.data.looks import sample_waves
from ktn_jax.data.outfits import sample_look
from ktn_jax.data.poses import sample_person
from ktn_jax.data.scenes import Picture, Scene, render_scene, sample_scene
from ktn_jax.errors import one_line_errors
from ktn_jax.pictures import full_iuv
from ktn_jax.predictor import MIN_SCORE, Predictor, load
from ktn_jax.records import Prediction
from ktn_jax.smoothing import Smoother
from ktn_jax.tracking import Tracker

RATE = 25  # frames a second
NOISE = 4.0  # grey values, of the camera, anew in every frame
TALL = 0.6  # of the image, a person nearest to the camera
NEAR = 0.015  # of U and V between two frames' pixels of one surface point


class Shown(NamedTuple):
    """One frame and the truth."""

    image: np.ndarray  # [S, S, 3] u8
    chart: np.ndarray  # [S, S] 0..24
    uv: np.ndarray  # [S, S, 2]
    keypoints: np.ndarray  # [people, 17, 2] (y, x)


class Seen(NamedTuple):
    """One frame's predictions beside the truth."""

    truth: Shown
    chart: np.ndarray  # [S, S]
    right: np.ndarray  # [S, S] bool: somebody, and the chart is the true one
    error: np.ndarray  # [S, S, 2] of U, V
    joints: np.ndarray  # [people, 17, 2] errors over root of area; nan where not found


def moving(seed: int, frames: int, people: int, size: int) -> Iterator[Shown]:
    """The frames of one sequence: poses there and back, places from side to side."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, size, 0.0)
    while not scene.figures:
        scene = sample_scene(rng, size, 0.0)
    cast = [_walker(rng, scene, number) for number in range(people)]
    grain = np.random.default_rng([seed, 1])
    for share in np.linspace(0, 1, frames):
        now = scene._replace(figures=tuple(walk(share) for walk in cast))
        # the same dice for every frame: exposure and colour do not change
        picture = render_scene(now, np.random.default_rng([seed, 2]))
        yield _shown(now, picture, grain)


def _walker(rng: np.random.Generator, scene: Scene, number: int) -> Any:
    """A function from the share of the sequence, 0..1, to one person's figure."""
    camera = scene.camera
    first, last = sample_person(rng, 0.3), sample_person(rng, 0.3)
    look = sample_look(rng, 0.3)
    waves = tuple(sample_waves(rng, 0.09) for _ in range(3))
    yaw = rng.normal(0, 25)
    depth = camera.focal * first.height / (TALL * camera.size) + 0.6 * number
    ends = (-0.25, 0.2) if number % 2 == 0 else (0.22, -0.2)
    between = np.swapaxes(first.bends, 1, 2) @ last.bends
    turns = Rotation.from_matrix(between).as_rotvec()

    def walk(share: float) -> Figure:
        there = 0.5 - 0.5 * np.cos(2 * np.pi * share)
        bends = first.bends @ Rotation.from_rotvec(there * turns).as_matrix()
        across = (ends[0] + (ends[1] - ends[0]) * share) * camera.size
        return place_figure(
            first._replace(bends=bends),
            look,
            turn=Rotation.from_euler("Y", yaw + 20 * there, degrees=True),
            middle=np.array([across * depth / camera.focal, 0, depth]),
            wrinkles=waves,
            pixels=camera.focal * first.height / depth,
        )

    return walk


def _shown(scene: Scene, picture: Picture, grain: np.random.Generator) -> Shown:
    noise = grain.normal(0, NOISE, picture.image.shape)
    return Shown(
        image=np.clip(picture.image + noise, 0, 255).astype(np.uint8),
        chart=picture.chart,
        uv=picture.uv,
        keypoints=np.stack([scene.camera.project(f.keypoints) for f in scene.figures]),
    )


def compare(truth: Shown, people: Sequence[Prediction]) -> Seen:
    """Predictions beside the truth; keypoints of whoever is nearest."""
    iuv = full_iuv(people, truth.chart.shape)
    area = (truth.chart > 0).sum() / len(truth.keypoints)
    joints = np.full(truth.keypoints.shape, np.nan)
    if people:
        apart = np.stack([p.keypoints[:, :2] for p in people])
        apart = apart[None] - truth.keypoints[:, None]
        nearest = np.abs(apart).mean((2, 3)).argmin(1)
        joints = apart[np.arange(len(joints)), nearest] / np.sqrt(area)
    return Seen(
        truth=truth,
        chart=iuv[..., 0],
        right=(iuv[..., 0] == truth.chart) & (truth.chart > 0),
        error=iuv[..., 1:] / 255 - truth.uv,
        joints=joints,
    )


def errors(seen: Seen) -> dict[str, float]:
    """How wrong one frame is."""
    both = (seen.chart > 0) & (seen.truth.chart > 0)
    return {
        "uv_error": float(np.abs(seen.error[seen.right]).mean()),
        "chart_error": float(1 - seen.right.sum() / max(both.sum(), 1)),
        "joint_error": float(np.nanmedian(np.abs(seen.joints))),
    }


def jitter(last: Seen, seen: Seen) -> dict[str, float]:
    """What changes between two frames though the surface does not."""
    first, second = follow(last.truth, seen.truth)
    charts = last.chart[first], seen.chart[second]
    known = (charts[0] > 0) & (charts[1] > 0)
    right = last.right[first] & seen.right[second]
    change = np.abs(seen.error[second] - last.error[first])
    return {
        "uv_jitter": float(change[right].mean()),
        "chart_flips": float((charts[0] != charts[1])[known].mean()),
        "joint_jitter": float(np.nanmedian(np.abs(seen.joints - last.joints))),
    }


def follow(last: Shown, now: Shown) -> tuple[tuple, tuple]:
    """Pixels of two frames, as indices, that show the same surface points."""
    first, second = [np.zeros((0, 2), int)], [np.zeros((0, 2), int)]
    for chart in np.unique(last.chart[last.chart > 0]):
        old, new = (np.argwhere(shown.chart == chart) for shown in (last, now))
        if not len(new):
            continue
        tree = cKDTree(now.uv[tuple(new.T)])
        apart, index = tree.query(last.uv[tuple(old.T)], distance_upper_bound=NEAR)
        first.append(old[np.isfinite(apart)])
        second.append(new[index[np.isfinite(apart)]])
    return tuple(np.concatenate(first).T), tuple(np.concatenate(second).T)


def run_sequence(
    model: Predictor, frames: Iterator[Shown], min_score: float
) -> list[dict[str, Any]]:
    """The line of the bare predictions and that of the smoothed ones."""
    tracker, smoother = Tracker(start=min_score), Smoother()
    lines: list[list[dict[str, float]]] = [[], []]
    last: list[Seen | None] = [None, None]
    tracks: set[int] = set()
    for index, truth in enumerate(frames):
        people = tracker.update(model(truth.image))
        tracks |= {person.track for person in people}
        ways = people, smoother.update(people, index / RATE)
        for way, predictions in enumerate(ways):
            seen = compare(truth, predictions)
            numbers = errors(seen) | {"found": float(len(people))}
            if last[way] is not None:
                numbers |= jitter(last[way], seen)
            lines[way].append(numbers)
            last[way] = seen
    return [
        {"smooth": bool(way), "tracks": len(tracks)} | _mean(line)
        for way, line in enumerate(lines)
    ]


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of whatever the rows have."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: round(float(np.nanmean([r[name] for r in rows if name in r])), 5)
        for name in names
    }


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.video", description=__doc__.splitlines()[0]
    )
    parser.add_argument("export", type=Path, help="folder of an export")
    parser.add_argument("--sequences", type=int, default=5)
    parser.add_argument("--frames", type=int, default=30, help="of each")
    parser.add_argument("--people", type=int, default=1, help="in each")
    parser.add_argument("--size", type=int, default=320, help="pixels a side")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE)
    flags = parser.parse_args(arguments)
    model = load(flags.export, min_score=flags.min_score / 2)
    table: list[list[dict[str, Any]]] = [[], []]
    for seed in range(1, flags.sequences + 1):
        frames = moving(seed, flags.frames, flags.people, flags.size)
        for way, line in enumerate(run_sequence(model, frames, flags.min_score)):
            table[way].append(line)
            print(json.dumps({"sequence": seed, **line}), flush=True)
    for lines in table:
        whole = {"sequence": "all", "smooth": lines[0]["smooth"]}
        print(json.dumps(_mean(lines) | whole), flush=True)


if __name__ == "__main__":
    sys.exit(main())
