"""Feature pyramid (Lin et al. 2017): C2..C5 -> P2..P5 of one width."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import conv1x1, conv3x3, upsample_nearest

Array = jax.Array


class FPN(nn.Module):
    """Top-down sums of lateral 1x1 convolutions, each level smoothed by a 3x3."""

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
