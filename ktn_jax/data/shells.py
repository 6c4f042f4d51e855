"""Sheets that hang off the body: skirts and coat tails, long hair, brims, bags.

One idea: a shell is a grid of points around the base body in the T pose (metres, X left,
Y up, Z front). It moves with the bones below it, and a face has the chart, and its
corners the (U, V), of the body's points nearest to them: what a person who labels a
photograph would say lies under the cloth.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from ktn_jax.anatomy import COARSE, COARSE_OF_CHART
from ktn_jax.body import load_body, skin_matrix, t_pose

CONE, CURTAIN, BALL, BRIM, PACK = range(1, 6)  # shells; 0 is the body itself
_STEP = 0.035  # metres between a cone's rows
_TORSO, _HANDS, _FEET, _UPPER_LEGS, _LOWER_LEGS, _UPPER_ARMS, _, _HEAD = range(
    1, len(COARSE)
)
HEAD_MIDDLE = np.array([0.0, 0.745, 0.058])


class Shell(NamedTuple):
    """One grid of points; r rows, c columns, n = r c."""

    points: np.ndarray  # [n, 3] f64, in the T pose
    outward: np.ndarray  # [n, 3] unit
    around: np.ndarray  # [n] radians from the front to the left, or what runs across
    weights: np.ndarray  # [n, b] of bones, rows sum to 1
    faces: np.ndarray  # [f, 3] i64, counter-clockwise seen from outside
    under: tuple[int, ...]  # coarse parts that may lie under it


@functools.cache
def build_shells() -> dict[int, Shell]:
    """All shells, by kind."""
    return {
        CONE: _cone(),
        CURTAIN: _curtain(),
        BALL: _ball(),
        BRIM: _brim(),
        PACK: _pack(),
    }


def label_faces(
    points: np.ndarray, faces: np.ndarray, *, under: tuple[int, ...], body: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Charts [f] and corner (U, V) [f, 3, 2] of a shell, from the nearest body points.

    points: [n, 3]; faces: [f, 3].   under: coarse parts to look at.   body: corners
    [g, 3, 3], chart [g] and uv [g, 3, 2] of a body's faces, in the T pose.
    """
    corners, chart, uv = (value[np.isin(COARSE_OF_CHART[body[1]], under)] for value in body)
    nearest = find_nearest(points[faces].mean(1), corners)[0]
    found = chart[nearest]
    result = np.zeros((len(faces), 3, 2))
    for name in np.unique(found):
        mine, there = np.flatnonzero(found == name), np.flatnonzero(chart == name)
        at, weights = find_nearest(points[faces[mine]].reshape(-1, 3), corners[there])
        value = np.einsum("kc,kcd->kd", weights, uv[there[at]])
        result[mine] = value.reshape(-1, 3, 2)
    return found, result


def find_nearest(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face nearest to each point [k], and barycentrics [k, 3] of its nearest place.

    points: [k, 3].   corners: [g, 3, 3].
    """
    number = min(24, len(corners))
    _, near = cKDTree(corners.mean(1)).query(points, number)
    near = near.reshape(len(points), number)
    weights = _closest_weights(points[:, None], corners[near])
    place = np.einsum("knc,kncd->knd", weights, corners[near])
    best = np.linalg.norm(place - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    return near[rows, best], weights[rows, best]


def _closest_weights(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentrics of a triangle's place nearest to a point. [..., 3]."""
    a, b, c = np.moveaxis(corners, -2, 0)
    ab, ac, ap = b - a, c - a, point - a
    aa, bb, cross = (ab * ab).sum(-1), (ac * ac).sum(-1), (ab * ac).sum(-1)
    pa, pb = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(aa * bb - cross**2, 1e-18)
    v, w = (bb * pa - cross * pb) / area, (aa * pb - cross * pa) / area
    inner = np.stack([1 - v - w, v, w], -1)
    choices = [inner]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[..., first, :], corners[..., second, :]
        way = end - start
        share = ((point - start) * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-18)
        share = np.clip(share, 0, 1)
        edge = np.zeros_like(inner)
        edge[..., first], edge[..., second] = 1 - share, share
        choices.append(edge)
    choices = np.stack(choices)
    away = np.linalg.norm(
        np.einsum("e...c,...cd->e...d", choices, corners) - point, axis=-1
    )
    away[0] = np.where(inner.min(-1) >= 0, away[0], np.inf)
    best = away.argmin(0)
    return np.take_along_axis(choices, best[None, ..., None], 0)[0]


def ramp(value: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smoothly from 0 at `start` to 1 at `end`; any shape."""
    share = np.clip((value - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def _grid_faces(rows: int, columns: int, *, closed: bool) -> np.ndarray:
    """Two triangles per cell of a grid whose rows go down, columns to the left. [f, 3]."""
    row, column = np.indices((rows - 1, columns if closed else columns - 1))
    here, right = row * columns + column, row * columns + (column + 1) % columns
    below, corner = here + columns, right + columns
    cells = np.stack([here, below, corner, here, corner, right], axis=-1)
    return cells.reshape(-1, 3)


def _bone_weights(shares: dict[str, np.ndarray]) -> np.ndarray:
    """Named shares as a table. [n, b]."""
    bones = load_body().bones
    table = np.zeros((len(next(iter(shares.values()))), len(bones)))
    for name, share in shares.items():
        table[:, bones.index(name)] += share
    return table


def _trunk_weights(points: np.ndarray) -> np.ndarray:
    """Means of the skin weights of trunk vertices near each point. [n, b]."""
    straight = t_pose().vertices
    bones = load_body().bones
    trunk = [bones.index(b) for b in ("pelvis", "spine_01", "spine_02", "spine_03")]
    weights = skin_matrix().toarray()
    inside = np.flatnonzero(weights[:, trunk].sum(1) > 0.5)
    _, near = cKDTree(straight[inside]).query(points, 8)
    return weights[inside[near]].mean(1)


def _cone() -> Shell:
    """A tube around hips and both legs, from the chest to the ankles."""
    straight = t_pose().vertices
    heights = np.arange(0.27, -0.75, -_STEP)
    around = np.arange(32) * 2 * np.pi / 32
    rings = []
    wide, front, back = 0.0, -1.0, 1.0
    for y in heights:
        slab = straight[
            (np.abs(straight[:, 1] - y) < 0.03) & (np.abs(straight[:, 0]) < 0.27)
        ]
        if y < 0.1:  # it falls straight down from the hips
            slab = np.concatenate([slab, [[wide, y, front], [-wide, y, back]]])
        wide = np.abs(slab[:, 0]).max()
        front, back = slab[:, 2].max(), slab[:, 2].min()
        x, z = np.sin(around), np.cos(around)
        x, z = (np.sign(v) * np.abs(v) ** 0.85 for v in (x, z))  # a boxy ellipse
        depth = (front - back) / 2 + 0.01
        rings.append(
            np.stack([(wide + 0.01) * x, 0 * x + y, (front + back) / 2 + depth * z])
        )
    points = np.stack(rings).transpose(0, 2, 1).reshape(-1, 3)
    x, y = points[:, 0], points[:, 1]
    legs, calves, left = ramp(y, 0.1, -0.14), ramp(y, -0.28, -0.46), ramp(x, -0.11, 0.11)
    weights = (1 - legs)[:, None] * _trunk_weights(points)
    for side, share in (("l", left), ("r", 1 - left)):
        names = {f"thigh_{side}": 1 - calves, f"calf_{side}": calves}
        for name, part in names.items():
            weights += _bone_weights({name: legs * share * part})
    angle = np.tile(around, len(heights))
    outward = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    faces = _grid_faces(len(heights), len(around), closed=True)
    under = (_TORSO, _UPPER_LEGS, _LOWER_LEGS, _FEET)
    return Shell(points, outward, angle, weights, faces, under)


def _curtain() -> Shell:
    """Hair from ear to ear around the back of the head, down to the waist."""
    heights = np.arange(0.83, 0.2, -0.03)
    around = np.radians(np.linspace(48, 312, 25))
    low = ramp(heights, 0.64, 0.5)[:, None]
    top = ramp(heights, 0.74, 0.84)[:, None]
    wide = (0.093 + 0.03 * low) * (1 - 0.35 * top)
    deep = (0.108 + 0.012 * low) * (1 - 0.3 * top)
    middle = 0.055 - 0.02 * low
    x = wide * np.sin(around)
    z = middle + deep * np.cos(around)
    y = np.broadcast_to(heights[:, None], x.shape)
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    angle = np.tile(around, len(heights))
    head = ramp(points[:, 1], 0.5, 0.66)
    weights = _bone_weights({"head": head, "spine_03": 1 - head})
    outward = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    faces = _grid_faces(len(heights), len(around), closed=False)
    return Shell(points, outward, angle, weights, faces, (_HEAD, _TORSO))


def _globe(middle: np.ndarray, radii: tuple, power: float) -> tuple[np.ndarray, ...]:
    """A blunt ball: points, outward, around, faces. power < 1 makes it a box."""
    down, around = np.linspace(0.02, np.pi - 0.02, 9), np.arange(14) * 2 * np.pi / 14
    down, around = (g.ravel() for g in np.meshgrid(down, around, indexing="ij"))
    x, y, z = np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)
    outward = np.stack([x, y, z], axis=1)
    blunt = np.sign(outward) * np.abs(outward) ** power
    points = middle + blunt * radii
    return points, outward, around, _grid_faces(9, 14, closed=True)


def _ball() -> Shell:
    """A knot of hair at the back of the head."""
    points, outward, around, faces = _globe(np.array([0, 0.79, -0.055]), (0.045,) * 3, 1)
    weights = _bone_weights({"head": np.ones(len(points))})
    return Shell(points, outward, around, weights, faces, (_HEAD,))


def _brim() -> Shell:
    """A ring around the head at the height of the hairline."""
    around = np.arange(32) * 2 * np.pi / 32
    rings = []
    for out in (-0.02, 0.03, 0.08):
        x, z = (0.09 + out) * np.sin(around), 0.058 + (0.108 + out) * np.cos(around)
        rings.append(np.stack([x, np.full(32, 0.795) - 0.25 * out, z], axis=1))
    points, angle = np.concatenate(rings), np.tile(around, 3)
    outward = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    weights = _bone_weights({"head": np.ones(len(points))})
    return Shell(points, outward, angle, weights, _grid_faces(3, 32, closed=True), (_HEAD,))


def _pack() -> Shell:
    """A backpack."""
    middle = np.array([0, 0.33, -0.125])
    points, outward, around, faces = _globe(middle, (0.15, 0.21, 0.095), 0.55)
    half = np.full(len(points), 0.5)
    weights = _bone_weights({"spine_02": half, "spine_03": half})
    return Shell(points, outward, around, weights, faces, (_TORSO,))
