"""A small residual backbone with GroupNorm, for training from scratch on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    ConvNormRelu,
    conv1x1,
    conv3x3,
    group_norm,
    recomputed,
)

Array = jax.Array


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is projected where the shape changes."""

    width: int
    strides: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = ConvNormRelu(self.width, strides=self.strides, dtype=self.dtype, name="first")(
            x
        )
        y = conv3x3(self.width, dtype=self.dtype, name="second")(y)
        y = group_norm(self.width, dtype=self.dtype, name="second_norm")(y)
        if x.shape != y.shape:
            x = x[:, :: self.strides, :: self.strides]
            x = conv1x1(self.width, dtype=self.dtype, name="shortcut")(x)
        return nn.relu(x + y)


class SmallBackbone(nn.Module):
    """Image -> C2..C5 at strides 4, 8, 16, 32."""

    widths: tuple[int, ...]  # channels of C2..C5
    depths: tuple[int, ...]  # residual blocks of C2..C5
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        """x: [B, H, W, 3] normalised, H and W divisible by 32."""
        first = self.widths[0]
        x = ConvNormRelu(first // 2, strides=2, dtype=self.dtype, name="stem1")(x)
        x = ConvNormRelu(first, strides=2, dtype=self.dtype, name="stem2")(x)
        residual = recomputed(Residual, self.remat)
        levels = []
        for level, (width, depth) in enumerate(
            zip(self.widths, self.depths, strict=True), 2
        ):
            for block in range(depth):
                strides = 2 if block == 0 and level > 2 else 1
                name = f"stage{level}_{block}"
                x = residual(width, strides, dtype=self.dtype, name=name)(x)
            levels.append(x)
        return tuple(levels)
