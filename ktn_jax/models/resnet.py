"""ResNet-50 and -101 (He et al. 2016) -> C2..C5. Names are torchvision's, "." as "_"."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    backbone_norm,
    conv,
    conv1x1,
    conv3x3,
    max_pool,
    recomputed,
)

Array = jax.Array

STEM = 64  # channels after the first convolution, and of the first blocks' 3x3
EXPANSION = 4  # a block's output channels per channel of its 3x3


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut, which is projected where the shape changes."""

    width: int  # channels of the 3x3
    norm: str  # one of layers.NORMS
    strides: int = 1
    stride_in_1x1: bool = False  # MSRA's place for the stride; else the 3x3, torchvision's
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        early, late = (self.strides, 1) if self.stride_in_1x1 else (1, self.strides)
        y = conv1x1(self.width, dtype=self.dtype, name="conv1")(x[:, ::early, ::early])
        y = nn.relu(self._norm(y, "bn1"))
        y = conv3x3(self.width, strides=late, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(self._norm(y, "bn2"))
        y = conv1x1(EXPANSION * self.width, dtype=self.dtype, name="conv3")(y)
        y = self._norm(y, "bn3")
        if x.shape != y.shape:
            x = x[:, :: self.strides, :: self.strides]
            x = conv1x1(y.shape[-1], dtype=self.dtype, name="downsample_0")(x)
            x = self._norm(x, "downsample_1")
        return nn.relu(x + y)

    def _norm(self, x: Array, name: str) -> Array:
        return backbone_norm(self.norm, x.shape[-1], dtype=self.dtype, name=name)(x)


class ResNet(nn.Module):
    """Image -> C2..C5 at strides 4, 8, 16, 32."""

    depths: tuple[int, ...]  # blocks of C2..C5
    norm: str  # one of layers.NORMS
    stride_in_1x1: bool = False
    remat: bool = False
    stem: int = STEM
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        """x: [B, H, W, 3] normalised, H and W divisible by 32."""
        x = conv(self.stem, 7, strides=2, padding=3, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(backbone_norm(self.norm, self.stem, dtype=self.dtype, name="bn1")(x))
        x = max_pool(x, 3, strides=2, padding=1)
        block = recomputed(Bottleneck, self.remat)
        levels = []
        for layer, depth in enumerate(self.depths, 1):
            for number in range(depth):
                x = block(
                    self.stem * 2 ** (layer - 1),
                    self.norm,
                    strides=2 if number == 0 and layer > 1 else 1,
                    stride_in_1x1=self.stride_in_1x1,
                    dtype=self.dtype,
                    name=f"layer{layer}_{number}",
                )(x)
            levels.append(x)
        return tuple(levels)
