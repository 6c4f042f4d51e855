"""Makes the geodesic coordinates of our body's charts.

    python -m ktn_jax.evaluation.geodesic_coordinates --out=ktn_jax/assets/geodesic.npz

Points on a grid of every chart are laid out in a space of few dimensions so that straight
distances there, and similarities, equal those over the body's surface: classical
scaling, then descent on the errors.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ktn_jax import files
from ktn_jax.evaluation.surface import Surface, load_body
from ktn_jax.geodesic import similarity

GRID = 6  # squares of (U, V) along each side of a chart
DIMENSIONS = 6  # more lower the error no further
NEAR = 0.6  # metres: points farther apart are not similar at all
FAR_WEIGHT, DISTANCE_WEIGHT = 0.1, 0.02  # of far pairs; of distances beside similarities
STEPS, RATE = 200, 3e-3  # of Adam


def measure_distances(surface: Surface) -> np.ndarray:
    """[n, n] metres between the grid's points; n = 24 GRID^2, by chart, U and V."""
    middles = (np.arange(GRID) + 0.5) / GRID
    uv = np.stack(np.meshgrid(middles, middles, indexing="ij"), -1).reshape(-1, 2)
    chart = np.repeat(np.arange(1, 25), GRID**2)
    vertex = surface.closest(chart, np.tile(uv, (24, 1)))
    rows = [surface.distance(np.full_like(vertex, one), vertex) for one in vertex]
    distance = np.stack(rows)
    return (distance + distance.T) / 2  # the heat method is not quite symmetric


def lay_out(distance: np.ndarray) -> np.ndarray:
    """[n, DIMENSIONS] f32 points whose straight distances are about the given ones."""
    n = len(distance)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centring @ np.square(distance) @ centring / 2)
    start = vectors[:, -DIMENSIONS:] * np.sqrt(np.maximum(values[-DIMENSIONS:], 0))
    wanted = similarity(jnp.square(distance))
    weight = np.where(distance < NEAR, 1, FAR_WEIGHT) * (1 - np.eye(n))

    def error(points: jax.Array) -> jax.Array:
        squared = jnp.square(points[:, None] - points[None]).sum(-1)
        off = jnp.sqrt(jnp.maximum(squared, 1e-12)) - distance
        return jnp.mean(
            jnp.square(similarity(squared) - wanted)
            + DISTANCE_WEIGHT * weight * jnp.square(off)
        )

    tx = optax.adam(RATE)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        points, state = carry
        updates, state = tx.update(jax.grad(error)(points), state)
        return (optax.apply_updates(points, updates), state), None

    points = jnp.asarray(start, jnp.float32)
    descend = jax.jit(lambda carry: jax.lax.scan(step, carry, length=STEPS))
    (points, _), _ = descend((points, tx.init(points)))
    return np.asarray(points)


def main() -> None:
    """Write the asset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    out = parser.parse_args().out
    distance = measure_distances(load_body()).astype(np.float32)
    points = lay_out(distance).reshape(24, GRID, GRID, DIMENSIONS)
    with files.atomic(out) as file:
        np.savez_compressed(file, points=points)


if __name__ == "__main__":
    main()
