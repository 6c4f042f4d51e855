"""A second person mask and second charts, told from the prior alone. Ours.

What learns from rendered scenes learns what gives rendered people away, too: edges, grain,
light that is not the photograph's. The prior was trained on photographs of people, never on
ours, and what it does not see cannot be learnt from it. A mask needs little more than its
maps, so on photographs it is what suffers most and gains most; charts gain as two opinions
gain over one, and by the keypoints that the prior sees. Small heads, and some channels are
out at every step of training: what fits rendered scenes better fits photographs no better
(benchmarks/runs.md).
"""

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.geometry import STRIDE
from ktn_jax.models.layers import (
    conv1x1,
    conv3x3,
    max_pool,
    pixel_shuffle,
    upsample_bilinear,
)

Array = jax.Array

BLOCKS = 2  # 3x3 convolutions, each added to its input
DROPS = "channels"  # the random numbers that say which channels are out; none: all are in
CHANNELS = "movenet_channels.npz"  # their means and deviations, see assets/LICENSES.md
LEAST = 0.1  # deviation that a channel is divided by
HEAT = 2.0  # what keypoints' probabilities are multiplied by
KEPT = 0.7  # share of the prior's channels that a step of training is shown


class PriorHead(nn.Module):
    """What both heads begin with."""

    width: int
    dtype: Any = jnp.float32

    def _trunk(self, maps: Sequence[Array], heat: Array | None = None) -> Array:
        """C3 to C5 of the prior, and keypoints if wanted -> [B, H/8, W/8, width].

        heat: [B, H/4, W/4, 17] in [0, 1].
        """
        x: Array | None = None
        for level in (5, 4, 3):
            lateral = conv1x1(
                self.width,
                bias=level == 5,
                start=nn.initializers.lecun_normal(),
                dtype=self.dtype,
                name=f"lateral{level}",
            )
            here = lateral(self._shown(self._standard(maps[level - 3], level)))
            if heat is not None:
                cells = 2**level // STRIDE
                strongest = max_pool(heat, cells, strides=cells, padding=0)
                guide = conv1x1(self.width, dtype=self.dtype, name=f"guide{level}")
                here = here + guide(HEAT * strongest.astype(self.dtype))
            x = here if x is None else here + upsample_bilinear(x, 2)
        x = nn.relu(x)
        for i in range(BLOCKS):
            block = conv3x3(self.width, bias=True, dtype=self.dtype, name=f"block{i}")
            x = x + nn.relu(block(x))
        return x

    def _standard(self, x: Array, level: int) -> Array:
        """The map with every channel about 0 and 1 wide, as counted on rendered scenes.

        Its channels lie up to eight deviations from 0; of them as they are nothing is
        learnt in reasonable time.
        """
        kept = {
            name: self.variable(
                "frozen", f"{name}{level}", lambda n=name: channels()[f"{n}{level}"]
            )
            for name in ("mean", "deviation")
        }
        mean, deviation = (v.value.astype(self.dtype) for v in kept.values())
        return (x - mean) / jnp.maximum(deviation, LEAST)

    def _shown(self, x: Array) -> Array:
        """The map without some of its channels, the same of a whole batch, in training."""
        if not self.has_rng(DROPS):
            return x
        shown = jax.random.bernoulli(self.make_rng(DROPS), KEPT, x.shape[-1:])
        return x * shown / KEPT


class PriorMask(PriorHead):
    """A logit of somebody at stride 4, from the prior's maps alone."""

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """maps: [B, h, w, *] at strides 8, 16, 32. Returns [B, H/4, W/4] f32."""
        start = nn.initializers.zeros
        grow = conv1x1(4, bias=True, start=start, dtype=self.dtype, name="grow")
        return pixel_shuffle(grow(self._trunk(maps)))[..., 0].astype(jnp.float32)


class PriorChart(PriorHead):
    """Logits of the 24 charts at stride 4, from the prior's maps and keypoints."""

    @nn.compact
    def __call__(self, maps: Sequence[Array], heat: Array) -> Array:
        """maps: as PriorMask's.   heat: [B, H/4, W/4, 17] in [0, 1]: keypoints as seen.

        Returns [B, H/4, W/4, 24] f32, of charts 1 to 24.
        """
        start = nn.initializers.zeros
        x = self._trunk(maps, heat)
        x = conv1x1(NUM_CHARTS - 1, bias=True, start=start, dtype=self.dtype, name="chart")(
            x
        )
        return upsample_bilinear(x.astype(jnp.float32), 2)


@functools.cache
def channels() -> Mapping[str, np.ndarray]:
    """mean3 to mean5 and deviation3 to deviation5 of MoveNet's C3 to C5, f32 each."""
    with resources.files("ktn_jax.assets").joinpath(CHANNELS).open("rb") as file:
        return dict(np.load(file))
