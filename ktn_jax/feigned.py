"""Keypoints as a network sees them that was trained on photographs, made of true ones.

MoveNet sees the keypoints of rendered people worse than those of photographed ones. Who
learns to go by them on rendered scenes learns to doubt them, and goes on doubting on
photographs. So second charts learn with heat-maps that are feigned: blobs as wide and as
sure as MoveNet's on photographs, with its kinds of mistakes.
"""

import jax
import jax.numpy as jnp

from ktn_jax.anatomy import MIRRORED_KEYPOINT

Array = jax.Array

SIGMA, REACH = 1.5, 5  # cells, of MoveNet's blobs, whatever a person's size
PERSON, JOINT = 3, 6  # squares a side of the canvas that are seen alike
NOTHING = 0.1  # share of images of which no keypoint is seen
SWAPPED = 0.06  # share of places where left and right are exchanged
MISSED = 0.1  # share of keypoints hardly seen
NEXT_DOOR = 0.4  # share of an image's kinds of keypoint that are seen a cell aside
ELSEWHERE = 0.06  # and of those seen once more, where nothing is


def keypoints(key: Array, image_id: Array, heat: Array) -> Array:
    """[B, h, w, 17] heat-maps in [0, 1] in place of what the prior sees.

    key: the step's.   image_id: [B]; what is drawn hangs on the step and the image, not on
    the device.   heat: Targets.keypoints, 1 at every annotated keypoint.
    """
    keys = jax.vmap(lambda image: jax.random.fold_in(key, image))(image_id)
    return jax.vmap(_one)(keys, heat)


def _one(key: Array, heat: Array) -> Array:
    """One image's. heat: [h, w, 17]."""
    keys = iter(jax.random.split(key, 10))
    height, width, kinds = heat.shape

    def somewhere(squares: int, channels: int = 1) -> Array:
        """[h, w, channels] in [0, 1), the same within a square."""
        drawn = jax.random.uniform(next(keys), (squares, squares, channels))
        return jax.image.resize(drawn, (height, width, channels), "nearest")

    def some(share: float, count: int = kinds) -> Array:
        return jax.random.uniform(next(keys), (count,)) < share

    peaks = (heat == 1).astype(jnp.float32)
    mirrored = peaks[..., MIRRORED_KEYPOINT]
    peaks = jnp.where(somewhere(PERSON) < SWAPPED, mirrored, peaks)
    sure = (0.15 + 0.75 * somewhere(PERSON) ** 0.7) * (
        0.35 + 0.65 * somewhere(JOINT, kinds)
    )
    seen = peaks * jnp.where(somewhere(JOINT, kinds) < MISSED, 0.05, sure)
    # the other side's lights up as well, often as brightly
    seen += 0.9 * somewhere(PERSON + 1) ** 2 * seen[..., MIRRORED_KEYPOINT]
    aside = jax.random.randint(next(keys), (2,), -1, 2)
    seen = jnp.where(some(NEXT_DOOR), jnp.roll(seen, aside, (0, 1)), seen)
    far = jax.random.randint(next(keys), (2,), 0, height)
    seen += 0.5 * some(ELSEWHERE) * jnp.roll(seen, far, (0, 1))
    return jnp.where(some(NOTHING, 1), 0.0, jnp.minimum(_blobs(seen), 1))


def _blobs(peaks: Array) -> Array:
    """Every cell's number spread as a Gaussian of height one. peaks: [h, w, C]."""
    steps = jnp.arange(-REACH, REACH + 1)
    row = jnp.exp(-(steps**2) / (2 * SIGMA**2))
    for axis in (0, 1):
        edges = [(REACH, REACH) if a == axis else (0, 0) for a in range(3)]
        padded, cells = jnp.pad(peaks, edges), peaks.shape[axis]
        peaks = sum(
            share * jax.lax.slice_in_dim(padded, i, i + cells, axis=axis)
            for i, share in enumerate(row)
        )
    return peaks
