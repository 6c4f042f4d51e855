"""Reading and resizing dense maps of one image, in jax. Callers vmap over the batch.

Frame as in structs: the centre of cell (i, j) lies at ((i + 0.5), (j + 0.5)) * STRIDE.
Everything is per image on purpose: a gather that indexes the batch axis would make a
sharded step exchange whole maps between devices.
"""

import jax
import jax.numpy as jnp

from ktn_jax.geometry import STRIDE

Array = jax.Array


def cell_centers(height: int, width: int) -> Array:
    """[height, width, 2] canvas position (y, x) of every cell centre."""
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return (jnp.stack([y, x], axis=-1) + 0.5) * STRIDE


def _corners(yx: Array, height: int, width: int) -> tuple[Array, Array]:
    """The four cells around each point, and their bilinear weights.

    yx: [..., 2] canvas pixels. Returns flat cell indices [..., 4] and weights [..., 4].
    """
    cells = yx / STRIDE - 0.5  # cell centres sit at (i + 0.5) * STRIDE
    low = jnp.floor(cells)
    part = cells - low
    index, weight = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            y = jnp.clip(low[..., 0] + dy, 0, height - 1).astype(jnp.int32)
            x = jnp.clip(low[..., 1] + dx, 0, width - 1).astype(jnp.int32)
            index.append(y * width + x)
            wy = part[..., 0] if dy else 1 - part[..., 0]
            wx = part[..., 1] if dx else 1 - part[..., 1]
            weight.append(wy * wx)
    return jnp.stack(index, axis=-1), jnp.stack(weight, axis=-1)


def sample_points(field: Array, yx: Array) -> Array:
    """Bilinear values of one image's field at points.

    field: [h, w, C].   yx: [N, 2] canvas pixels.   Returns [N, C].
    Points beyond the outermost cell centres take the border's value.
    """
    height, width, channels = field.shape
    index, weight = _corners(yx, height, width)
    return jnp.einsum("nkc,nk->nc", field.reshape(-1, channels)[index], weight)


def sample_channel(field: Array, channel: Array, yx: Array) -> Array:
    """Bilinear values of one chosen channel a point.

    field: [h, w, C, D].   channel: [N] in 0..C-1.   yx: [N, 2].   Returns [N, D].
    """
    height, width, channels, depth = field.shape
    index, weight = _corners(yx, height, width)
    rows = field.reshape(-1, depth)[index * channels + channel[:, None]]
    return jnp.einsum("nkd,nk->nd", rows, weight)


def _upsample_axis(x: Array, axis: int) -> Array:
    before = jnp.concatenate([_edge(x, axis, 0), x], axis)
    after = jnp.concatenate([x, _edge(x, axis, -1)], axis)
    low = jax.lax.slice_in_dim(before, 0, x.shape[axis], axis=axis)
    high = jax.lax.slice_in_dim(after, 1, x.shape[axis] + 1, axis=axis)
    phases = []
    for phase in range(STRIDE):
        at = (phase + 0.5) / STRIDE - 0.5  # of the output pixel, in cells from x[i]
        phases.append(x + (x - low) * at if at < 0 else x + (high - x) * at)
    stacked = jnp.stack(phases, axis + 1)
    shape = list(x.shape)
    shape[axis] *= STRIDE
    return stacked.reshape(shape)


def _edge(x: Array, axis: int, index: int) -> Array:
    return jnp.expand_dims(jnp.take(x, index, axis=axis), axis)


def upsample(x: Array) -> Array:
    """[h, w, ...] -> [H, W, ...] by bilinear interpolation with half-pixel centres.

    Written as shifted sums: jax.image.resize takes three times as long on a CPU.
    """
    return _upsample_axis(_upsample_axis(x, 0), 1)


def shifted(x: Array, fill: float) -> Array:
    """The nine 3x3 neighbours of every cell. x: [h, w, ...]. Returns [9, h, w, ...]."""
    pad = [(1, 1), (1, 1)] + [(0, 0)] * (x.ndim - 2)
    padded = jnp.pad(x, pad, constant_values=fill)
    height, width = x.shape[:2]
    return jnp.stack(
        [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    )


def local_mean(x: Array) -> Array:
    """3x3 mean of [h, w, C]; cells beyond the border do not count."""
    count = shifted(jnp.ones(x.shape[:2], x.dtype), 0.0).sum(0)
    return shifted(x, 0.0).sum(0) / count[..., None]


def local_max(x: Array) -> Array:
    """3x3 maximum of [h, w]."""
    return shifted(x, -jnp.inf).max(0)
