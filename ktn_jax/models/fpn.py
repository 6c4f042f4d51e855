"""Feature pyramids: C2..C5 -> P2..P5 of one width. FPN, and HRNet's own."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    average_pool,
    conv1x1,
    conv3x3,
    upsample_bilinear,
    upsample_nearest,
)

Array = jax.Array


class FPN(nn.Module):
    """Lin et al. 2017: top-down sums of lateral 1x1 convolutions, smoothed by a 3x3."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Array]) -> tuple[Array, ...]:
        """levels: C2..C5, [B, H/s, W/s, *] at strides 4..32. Returns P2..P5."""
        outputs, above = [], None
        for level in range(len(levels) + 1, 1, -1):
            lateral = conv1x1(
                self.width, bias=True, dtype=self.dtype, name=f"lateral{level}"
            )
            here = lateral(levels[level - 2])
            above = here if above is None else here + upsample_nearest(above)
            smooth = conv3x3(self.width, bias=True, dtype=self.dtype, name=f"output{level}")
            outputs.append(smooth(above))
        return tuple(outputs[::-1])


class HRFPN(nn.Module):
    """Sun et al. 2019: all levels joined at the finest, then averaged down again.

    Theirs: up-sample (bilinear), concatenate, reduce by a 1x1 convolution. Reducing each
    level before it is up-sampled gives the same sum, and the wide map is never made.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Array]) -> tuple[Array, ...]:
        """levels: [B, H/s, W/s, *] at strides 4..32. Returns P2..P5."""
        joined = sum(
            upsample_bilinear(
                conv1x1(
                    self.width, bias=level == 2, dtype=self.dtype, name=f"reduce{level}"
                )(x),
                2 ** (level - 2),
            )
            for level, x in enumerate(levels, 2)
        )
        return tuple(
            conv3x3(self.width, bias=True, dtype=self.dtype, name=f"output{level}")(
                average_pool(joined, 2 ** (level - 2))
            )
            for level in range(2, 2 + len(levels))
        )
