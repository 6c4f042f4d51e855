"""Feature pyramids: C2..C5 (or C3..C5) -> P2..P5 of one width. FPN, and HRNet's own."""

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
    """Lin et al. 2017: top-down sums of lateral 1x1 convolutions, smoothed by a 3x3.

    A second backbone's maps join by laterals of their own, which start as nothing.
    """

    width: int
    first: int = 2  # the finest level's number: its stride is 2^first
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, levels: Sequence[Array], prior: Sequence[Array] = ()
    ) -> tuple[Array, ...]:
        """levels: from the first to C5, [B, H/s, W/s, *]; prior: none or as many, likewise.

        Returns as many, finest first.
        """
        outputs, above = [], None
        for level in reversed(range(self.first, self.first + len(levels))):
            lateral = conv1x1(
                self.width, bias=True, dtype=self.dtype, name=f"lateral{level}"
            )
            here = lateral(levels[level - self.first])
            if prior:
                join = conv1x1(
                    self.width,
                    start=nn.initializers.zeros,
                    dtype=self.dtype,
                    name=f"prior{level}",
                )
                here = here + join(prior[level - self.first])
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
    first: int = 2  # the finest level's number: its stride is 2^first
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Array]) -> tuple[Array, ...]:
        """levels: from the first to C5, [B, H/s, W/s, *]. Returns as many, finest first."""
        first = self.first
        joined = sum(
            upsample_bilinear(
                conv1x1(
                    self.width, bias=level == first, dtype=self.dtype, name=f"reduce{level}"
                )(x),
                2 ** (level - first),
            )
            for level, x in enumerate(levels, first)
        )
        return tuple(
            conv3x3(self.width, bias=True, dtype=self.dtype, name=f"output{level}")(
                average_pool(joined, 2 ** (level - first))
            )
            for level in range(first, first + len(levels))
        )
