"""MID, the multi-instance decoder: P2..P5 -> one refined map at stride 4 (paper, sec. MID).

Given P3..P5 it does the same at stride 8, where it can be twice as wide for a like price.

It keeps what down-sampling would lose (space-to-depth, pixel-shuffle) and looks at
several scales at once. Its background suppression is a loss: the person mask, which we
put on the whole map because there are no regions of interest here.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    ConvNormRelu,
    conv1x1,
    conv3x3,
    pixel_shuffle,
    recomputed,
    space_to_depth,
    upsample_nearest,
)

Array = jax.Array

DILATIONS = (1, 2, 3)  # of MID's three 3x3 branches, beside a 1x1


class MID(nn.Module):
    """The authors' second form: bottom-up aggregation, up-sampling, four branches."""

    width: int
    first: int = 2  # the finest level's number: its stride is 2^first
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Sequence[Array]) -> Array:
        """pyramid: first to P5, each [B, h, w, width]. Returns the finest's shape."""
        levels = self._aggregate(pyramid)
        merged = sum(self._raise(x, level) for level, x in enumerate(levels, self.first))
        block = recomputed(ConvNormRelu, self.remat)
        one = block(self.width, kernel=1, dtype=self.dtype, name="branch0")
        branches = [one(merged)]
        for i, dilation in enumerate(DILATIONS, 1):
            wide = block(self.width, dilation=dilation, dtype=self.dtype, name=f"branch{i}")
            branches.append(wide(merged))
        project = conv1x1(self.width, bias=True, dtype=self.dtype, name="project")
        return project(jnp.concatenate(branches, axis=-1))

    def _aggregate(self, pyramid: Sequence[Array]) -> list[Array]:
        """Bottom-up: every level gets all that the finer one knows."""
        levels = [pyramid[0]]
        for level, here in enumerate(pyramid[1:], self.first + 1):
            below = space_to_depth(levels[-1])
            adapt = conv3x3(self.width, bias=True, dtype=self.dtype, name=f"adapt{level}")
            levels.append(here + nn.relu(adapt(below)))
        return levels

    def _raise(self, x: Array, level: int) -> Array:
        """One level brought to the finest, a pixel-shuffle for each factor of two.

        The paper's figure draws a cascade between levels; its code, which we follow,
        raises each level on its own and sums.
        """
        for step in range(max(1, level - self.first)):
            name = f"raise{level}_{step}"
            x = nn.relu(conv3x3(self.width, bias=True, dtype=self.dtype, name=name)(x))
            if level > self.first:
                grow = conv1x1(
                    4 * self.width, bias=True, dtype=self.dtype, name=name + "_grow"
                )
                x = pixel_shuffle(nn.relu(grow(x)))
        return x


class PlainDecoder(nn.Module):
    """What MID is compared with: the pyramid's levels up-sampled and summed."""

    width: int
    first: int = 2  # the finest level's number, of which nothing depends here
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Sequence[Array]) -> Array:
        """pyramid: first to P5, each [B, h, w, width]. Returns the finest's shape."""
        merged = sum(upsample_nearest(x, 2**i) for i, x in enumerate(pyramid))
        block = recomputed(ConvNormRelu, self.remat)
        return block(self.width, dtype=self.dtype, name="smooth")(merged)
