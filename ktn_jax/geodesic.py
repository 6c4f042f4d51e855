"""Geodesic coordinates of surface points, and the similarity that a chart can expect.

A pixel's chart is a guess among 24, and a wrong one costs as far as it lies from the truth:
the back of an arm is near its front, a hand is not. So charts are compared by how near the
pixel's point on each can expect to lie, if their probabilities are right. Distances come
from coordinates whose differences are about the geodesic distances of our body.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

ASSET = Path(__file__).parent / "assets" / "geodesic.npz"
# metres: an error of this size costs 1 - exp(-1/2). One for all parts: with GPS's, which
# forgives most on the torso, arms and legs grow into that
SCALE = 0.15


@functools.cache
def load_points() -> np.ndarray:
    """[24, G, G, D] f32 metres: our body's charts, by chart, U, V; see assets/LICENSES.md.

    They stand at the centres of a grid of G x G squares of (U, V).
    """
    with np.load(ASSET) as arrays:
        return arrays["points"]


def locate(uv: Array) -> Array:
    """Geodesic coordinates of a point on each chart. uv: [..., 24, 2] -> [..., 24, D].

    Linear between the grid's points, the nearest one beyond them.
    """
    points = load_points()
    hats = _hats(uv, points.shape[1])  # [..., 24, 2, G]
    along_v = jnp.einsum("...cv,cuvd->...cud", hats[..., 1, :], points)
    return jnp.einsum("...cu,...cud->...cd", hats[..., 0, :], along_v)


def locate_on(chart: Array, uv: Array) -> Array:
    """Geodesic coordinates of points, each on one chart. [...] 1..24, [..., 2] -> [..., D].

    As of `locate`; a chart of 0 gives no place that means anything.
    """
    points = load_points()
    hats = _hats(uv, points.shape[1])
    own = jnp.asarray(points)[chart - 1]  # [..., G, G, D]
    return jnp.einsum("...u,...v,...uvd->...d", hats[..., 0, :], hats[..., 1, :], own)


def _hats(uv: Array, size: int) -> Array:
    """[..., 2, size] how much each of the grid's rows and columns has to say of points.

    Hats and products, not gathers: 24 x G x G terms a cell cost little on any device.
    """
    cell = jnp.clip(uv * size - 0.5, 0, size - 1)
    return jnp.maximum(1 - jnp.abs(cell[..., None] - jnp.arange(size)), 0)


def similarity(squared: Array) -> Array:
    """1 for the same point, falling with the squared distance in metres^2."""
    return jnp.exp(-squared / (2 * SCALE**2))


def expected_similarity(logits: Array, uv: Array) -> Array:
    """The similarity that a pixel's point on each chart can expect, [..., 24] in (0, 1].

    Its logarithm is finite: no two points of the body are so far apart that it underflows.
    logits: [..., 24] of the charts.   uv: [..., 24, 2] the point on each, if it is that.
    """
    probability = jax.nn.softmax(logits)
    where = locate(uv)

    def of_one(chosen: Array) -> Array:
        apart = jnp.square(chosen[..., None, :] - where).sum(-1)
        return (probability * similarity(apart)).sum(-1)

    # one chart after the other: no map of 24 x 24 numbers a cell
    return jnp.moveaxis(jax.lax.map(of_one, jnp.moveaxis(where, -2, 0)), 0, -1)
