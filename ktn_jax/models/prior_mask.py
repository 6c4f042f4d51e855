"""A second person mask, told from the prior's maps alone. Ours.

What learns from rendered scenes learns what gives rendered people away, too: edges, grain,
light that is not the photograph's. A mask needs little more than that, so on photographs it
is the one that suffers. The prior was trained on photographs of people, never on ours, and
what it does not see cannot be learnt from it (benchmarks/runs.md).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import conv1x1, pixel_shuffle
from ktn_jax.models.wide import WideMap

Array = jax.Array

ROUNDS = 1  # of attention at stride 16


class PriorMask(nn.Module):
    """C3 to C5 of the prior -> a logit of somebody at stride 4."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """maps: [B, h, w, *] at strides 8, 16, 32. Returns [B, H/4, W/4] f32."""
        x = WideMap(self.width, ROUNDS, self.dtype, name="wide")(maps)
        grow = conv1x1(4, bias=True, dtype=self.dtype, name="grow")
        return pixel_shuffle(grow(x))[..., 0].astype(jnp.float32)
