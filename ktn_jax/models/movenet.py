"""MoveNet MultiPose's own neck and keypoint head, on the backbone that is our prior.

Google's (Apache-2.0), after CenterNet (Zhou et al. 2019); the layers are read off the
published graph. It was trained on photographs of people, which our own heads never see.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.anatomy import NUM_KEYPOINTS
from ktn_jax.models.layers import Depthwise, conv1x1, upsample_bilinear

Array = jax.Array

MOVENET = "mobilenetv2_150"  # the backbone, of mobile.MOBILE
TOP = 1280  # channels on the coarsest level
STAGES = {2: 1, 3: 2, 4: 3, 5: 6}  # level -> which of the backbone's stages it reads
NECK = {5: 64, 4: 32, 3: 24, 2: 24}  # level -> channels that it hands on
WIDE = 96  # channels before the heat-maps


class MoveNetKeypoints(nn.Module):
    """Outputs of every stage of the backbone -> logits of 17 keypoints at stride 4."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[Array]) -> Array:
        """stages: of MobileBackbone("mobilenetv2_150"). Returns [B, h, w, 17]."""
        maps = {level: stages[stage] for level, stage in STAGES.items()}
        x = nn.relu6(self._conv(TOP, "top")(maps[5]))
        x = self._conv(NECK[5], "lateral5")(x)
        for level in (4, 3, 2):
            lateral = self._conv(x.shape[-1], f"lateral{level}")(maps[level])
            x = self._separable(NECK[level], f"{level}")(upsample_bilinear(x, 2) + lateral)
        return self._conv(NUM_KEYPOINTS, "keypoints")(self._separable(WIDE, "")(x))

    def _separable(self, width: int, place: str) -> Any:
        """3x3 of each channel, 1x1 of all, ReLU."""
        deep = Depthwise(3, dtype=self.dtype, name=f"depthwise{place}")
        point = self._conv(width, f"pointwise{place}")
        return lambda x: nn.relu(point(deep(x)))

    def _conv(self, width: int, name: str) -> nn.Dense:
        return conv1x1(width, bias=True, dtype=self.dtype, name=name)
