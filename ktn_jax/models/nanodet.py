"""NanoDet-g, a detector trained on photographs: where it sees people, and how surely.

Lyu's (github.com/RangiLyu/nanodet, Apache-2.0), after GFL (Li et al. 2020); the layers are
read off the published graph. It knows eighty kinds of things apart and never saw a rendered
person, so a bear or a chair that our own maps take for somebody hardly deceives it. Only
its person class is kept.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax import maps
from ktn_jax.geometry import STRIDE
from ktn_jax.models.layers import (
    average_pool,
    conv1x1,
    conv3x3,
    max_pool,
    upsample_bilinear,
    upsample_nearest,
)

Array = jax.Array

NANODET = "nanodet_g"  # model.detector
BGR_MEAN, BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
SLOPE = 0.1  # of what is below 0
WIDTHS, ROUNDS = (32, 64, 128, 256), (1, 2, 2, 3)  # of the stages at strides 4 to 32
NECK = 128  # channels of the pyramid
LEVELS = (3, 4, 5)  # that see people, at strides 8, 16, 32
BINS = 11  # a side lies 0 to 10 strides from the cell's centre
SIDES = 4  # left, up, right, down in the graph; up, left, down, right in Fields
OUTPUTS = 1 + SIDES * BINS  # the person's logit, and how likely each distance is
CONVOLUTIONS = (  # in the graph's order
    "stem",
    *(f"stage{2 + i}_{k}" for i, n in enumerate(ROUNDS) for k in range(2 * n + 2)),
    *(f"lateral{level}" for level in LEVELS),
    *(f"{name}{level}" for level in LEVELS for name in ("mix", "out")),
)


class NanoDet(nn.Module):
    """Image -> boxes of people, as Fields.detected has them."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """image: [B, H, W, 3] RGB in 0..255. Returns [B, H/4, W/4, 3, 5] f32."""
        x = image[..., ::-1].astype(jnp.float32) - jnp.array(BGR_MEAN)
        x = (x / jnp.array(BGR_STD)).astype(self.dtype)
        x = self._mixed(x, "stem", WIDTHS[0], strides=2)
        x = max_pool(x, 3, strides=2, padding=1)
        stages = []
        for i in range(len(WIDTHS)):
            x = self._stage(x, i)
            stages.append(x)
        fine, middle, coarse = (
            conv1x1(NECK, bias=True, dtype=self.dtype, name=f"lateral{level}")(stage)
            for level, stage in zip(LEVELS, stages[1:], strict=True)
        )
        middle = middle + upsample_bilinear(coarse, 2)
        fine = fine + upsample_bilinear(middle, 2)
        middle = middle + average_pool(fine, 2)
        coarse = coarse + average_pool(middle, 2)
        seen = [
            self._boxes(x, level)
            for x, level in zip((fine, middle, coarse), LEVELS, strict=True)
        ]
        return jnp.stack(seen, axis=3)

    def _stage(self, x: Array, index: int) -> Array:
        """A 3x3 convolution, rounds of two, and the start beside the end."""
        width, names = WIDTHS[index], iter(range(2 * ROUNDS[index] + 2))

        def conv(x: Array, width: int, strides: int = 1) -> Array:
            return self._mixed(x, f"stage{2 + index}_{next(names)}", width, strides=strides)

        start = x = conv(x, width, strides=2 if index else 1)
        for _ in range(ROUNDS[index]):
            first = conv(x, width // 2)
            x = jnp.concatenate([conv(first, width // 2), first], axis=-1)
        return jnp.concatenate([conv(x, width), start], axis=-1)

    def _mixed(self, x: Array, name: str, width: int, *, strides: int = 1) -> Array:
        layer = conv3x3(width, strides=strides, bias=True, dtype=self.dtype, name=name)
        return nn.leaky_relu(layer(x), SLOPE)

    def _boxes(self, x: Array, level: int) -> Array:
        """One level's [B, h, w, C] -> [B, H/4, W/4, 5], see Fields.detected."""
        stride = 2**level
        out = conv1x1(OUTPUTS, bias=True, dtype=self.dtype, name=f"out{level}")
        x = out(self._mixed(x, f"mix{level}", NECK)).astype(jnp.float32)
        likely = jax.nn.softmax(x[..., 1:].reshape(*x.shape[:-1], SIDES, BINS))
        left, up, right, down = jnp.moveaxis(likely @ jnp.arange(BINS) * stride, -1, 0)
        seen = jnp.stack([x[..., 0], up, left, down, right], axis=-1)
        seen = upsample_nearest(seen, stride // STRIDE)
        # from the centre of the level's cell to that of ours
        off = maps.cell_centers(*seen.shape[1:3]) % stride - stride / 2
        return seen + jnp.concatenate([jnp.zeros_like(off[..., :1]), off, -off], axis=-1)
