"""Attention within the wide map: every cell at stride 16 sees the whole image. Ours.

A convolution sees a neighbourhood, and from there one leg is much like the other, a back
like a front, and a hand like anybody's. Self-attention (Vaswani et al. 2017) compares a
cell with all others, at the stride where an image has few: 400 at 320 px.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    WideningBlock,
    conv1x1,
    group_norm,
    upsample_nearest,
)

Array = jax.Array

HEAD_WIDTH = 32  # channels of an attention head: 8 pairs a direction
WAVELENGTHS = (4.0, 256.0)  # cells a turn of the first pair and of the last


class Context(nn.Module):
    """All backbones' C4 and C5 -> what is added to the wide map at stride 16."""

    width: int
    rounds: int  # of a convolution and an attention
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *backbones: Sequence[Array]) -> Array:
        """backbones: of each C4 and C5, [B, h, w, *]. Returns [B, H/16, W/16, width]."""
        fine, coarse = (
            sum(
                conv1x1(self.width, dtype=self.dtype, name=f"lateral{level}_{i}")(x)
                for i, x in enumerate(maps)
            )
            for level, maps in enumerate(zip(*backbones, strict=True), 4)
        )
        norm = group_norm(self.width, dtype=self.dtype, name="norm")
        x = nn.relu(norm(fine + upsample_nearest(coarse)))
        for i in range(self.rounds):
            x = nn.relu(WideningBlock(self.width, dtype=self.dtype, name=f"block{i}")(x))
            x = x + Attention(self.width, dtype=self.dtype, name=f"attention{i}")(x)
        start = nn.initializers.zeros  # a trained network goes on from where it was
        return conv1x1(self.width, start=start, dtype=self.dtype, name="project")(x)


class Attention(nn.Module):
    """Self-attention over all cells of a normalised map, at first nothing."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, h, w, width], width divisible by HEAD_WIDTH. Returns the same shape."""
        b, h, w, _ = x.shape
        x = group_norm(self.width, dtype=self.dtype, name="norm")(x)
        query, key, value = (
            conv1x1(self.width, dtype=self.dtype, name=name)(x).reshape(
                b, h, w, -1, HEAD_WIDTH
            )
            for name in ("query", "key", "value")
        )
        seen = jax.nn.dot_product_attention(
            *(y.reshape(b, h * w, -1, HEAD_WIDTH) for y in (turn(query), turn(key), value))
        )
        start = nn.initializers.zeros
        project = conv1x1(self.width, start=start, dtype=self.dtype, name="project")
        return project(seen.reshape(b, h, w, self.width))


def turn(x: Array) -> Array:
    """Channels turned by where their cell lies, half by its row, half by its column.

    x: [B, h, w, heads, HEAD_WIDTH]. Returns the same shape. Products of what two cells
    have hang on how far they are apart, not on where they are (Su et al. 2021, RoPE).
    """
    b, h, w, heads, channels = x.shape
    pairs = channels // 4
    waves = jnp.geomspace(*WAVELENGTHS, pairs)
    rows, columns = (2 * jnp.pi * jnp.arange(n)[:, None] / waves for n in (h, w))
    angle = jnp.stack(
        [
            jnp.broadcast_to(rows[:, None], (h, w, pairs)),
            jnp.broadcast_to(columns[None], (h, w, pairs)),
        ],
        axis=-2,
    )[:, :, None]  # [h, w, 1, 2, pairs]
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    a, z = jnp.moveaxis(x.reshape(b, h, w, heads, 2, 2, pairs), -2, 0)
    turned = jnp.stack([a * cos - z * sin, a * sin + z * cos], axis=-2)
    return turned.reshape(x.shape)
