"""A second map beside the decoder's: coarser, twice as wide. The paper has none.

Decoder and head tell everything from 64 channels at stride 4. A map of 128 at stride 8,
with three blocks, adds a fifth to a training step on two CPU cores (benchmarks/runs.md).
What it says is added to the decoder's map, at first nothing, so that a trained network goes
on from where it was.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.context import Context
from ktn_jax.models.layers import (
    WideningBlock,
    conv1x1,
    group_norm,
    pixel_shuffle,
    space_to_depth,
    upsample_nearest,
)

Array = jax.Array

PERSON_BLOCKS, SURFACE_BLOCKS = 1, 2  # before anybody is told apart, and after


class WideMap(nn.Module):
    """All backbones' C3 to C5 -> one map at stride 8, from before anybody is told apart."""

    width: int
    context: int = 0  # rounds of attention at stride 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *backbones: Sequence[Array]) -> Array:
        """backbones: of each C3 to C5, [B, h, w, *]. Returns [B, H/8, W/8, width]."""
        above: Array | None = None
        for level in (5, 4, 3):
            here = sum(
                conv1x1(self.width, dtype=self.dtype, name=f"lateral{level}_{i}")(
                    levels[level - 3]
                )
                for i, levels in enumerate(backbones)
            )
            above = here if above is None else here + upsample_nearest(above)
            if level == 4 and self.context:
                look = Context(self.width, self.context, self.dtype, name="context")
                above += look(*(levels[1:] for levels in backbones))
        x = nn.relu(group_norm(self.width, dtype=self.dtype, name="norm")(above))
        for i in range(PERSON_BLOCKS):
            x = WideningBlock(self.width, dtype=self.dtype, name=f"block{i}")(x)
        return x


class WideSurface(nn.Module):
    """The wide map, once every cell has been told where it lies within its person."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, wide: Array, x: Array) -> Array:
        """wide: [B, h, w, width].   x: [B, 2h, 2w, *], what is known at stride 4."""
        known = conv1x1(self.width, bias=True, dtype=self.dtype, name="known")
        norm = group_norm(self.width, dtype=self.dtype, name="norm")
        wide = nn.relu(norm(wide + known(space_to_depth(x))))
        for i in range(SURFACE_BLOCKS):
            wide = WideningBlock(self.width, dtype=self.dtype, name=f"block{i}")(wide)
        return wide


class Addition(nn.Module):
    """A map at stride 8 brought to stride 4 by a pixel-shuffle; at first nothing."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, wide: Array) -> Array:
        """wide: [B, h, w, *]. Returns [B, 2h, 2w, width]."""
        grow = conv1x1(
            4 * self.width, start=nn.initializers.zeros, dtype=self.dtype, name="grow"
        )
        return pixel_shuffle(grow(wide))
