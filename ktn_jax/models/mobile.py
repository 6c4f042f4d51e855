"""Mobile backbones -> C2..C5, for small machines: EfficientNet-Lite0, MobileNetV2.

Lite0: Tan & Le 2019, Liu 2020. MobileNetV2: Sandler et al. 2018, 1.5 times as wide, as in
MoveNet MultiPose. Both: inverted bottlenecks, no squeeze-excite, ReLU6, TensorFlow's SAME
padding. Names are those of the torch port of Lite0's published weights, "." as "_" and
without leading "_".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    Depthwise,
    FrozenNorm,
    backbone_norm,
    conv,
    conv1x1,
    recomputed,
)

Array = jax.Array

HEAD = 1280  # channels before Lite0's classifier
NORM_EPSILON = 1e-3  # of the published BatchNorms


class Stage(NamedTuple):
    """A run of inverted bottlenecks; the stride is the first one's."""

    repeats: int
    size: int  # of the depthwise kernel
    strides: int
    expansion: int
    width: int  # of the output
    level: int | None  # of the pyramid that its output is, as in C2


class Architecture(NamedTuple):
    """A mobile network up to its classifier."""

    stem: int  # channels after the first convolution
    stages: tuple[Stage, ...]

    def levels_of(self, outputs: Sequence[Array]) -> tuple[Array, ...]:
        """C2..C5 of the outputs of every stage."""
        return tuple(x for x, s in zip(outputs, self.stages, strict=True) if s.level)


MOBILE = {
    "efficientnet_lite0": Architecture(
        32,
        (
            Stage(1, 3, 1, 1, 16, None),
            Stage(2, 3, 2, 6, 24, 2),
            Stage(2, 5, 2, 6, 40, 3),
            Stage(3, 3, 2, 6, 80, None),
            Stage(3, 5, 1, 6, 112, 4),
            Stage(4, 5, 2, 6, 192, None),
            Stage(1, 3, 1, 6, 320, 5),
        ),
    ),
    "mobilenetv2_150": Architecture(
        48,
        (
            Stage(1, 3, 1, 1, 24, None),
            Stage(2, 3, 2, 6, 40, 2),
            Stage(3, 3, 2, 6, 48, 3),
            Stage(4, 3, 2, 6, 96, None),
            Stage(3, 3, 1, 6, 144, 4),
            Stage(3, 3, 2, 6, 240, None),
            Stage(1, 3, 1, 6, 480, 5),
        ),
    ),
}


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise, 1x1 projection; a shortcut where the shape stays."""

    size: int
    strides: int
    expansion: int
    width: int
    norm: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inner = self.expansion * x.shape[-1]
        y = x
        if self.expansion > 1:
            y = conv1x1(inner, dtype=self.dtype, name="expand_conv")(y)
            y = nn.relu6(self._norm(y, "bn0"))
        y = Depthwise(self.size, self.strides, dtype=self.dtype, name="depthwise_conv")(y)
        y = nn.relu6(self._norm(y, "bn1"))
        y = conv1x1(self.width, dtype=self.dtype, name="project_conv")(y)
        y = self._norm(y, "bn2")
        return x + y if x.shape == y.shape else y

    def _norm(self, x: Array, name: str) -> Array:
        return backbone_norm(self.norm, x.shape[-1], dtype=self.dtype, name=name)(x)


class MobileBackbone(nn.Module):
    """Image -> C2..C5 at strides 4, 8, 16, 32."""

    architecture: Architecture
    norm: str  # one of layers.NORMS
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, every: bool = False) -> tuple[Array, ...]:
        """x: [B, H, W, 3], RGB about -1 to 1, H and W divisible by 32.

        every: whether to return the output of every stage, not of those that end a level.
        """
        stem, stages = self.architecture
        x = conv(stem, 3, strides=2, padding="SAME", dtype=self.dtype, name="conv_stem")(x)
        x = nn.relu6(backbone_norm(self.norm, stem, dtype=self.dtype, name="bn0")(x))
        block = recomputed(InvertedBottleneck, self.remat)
        outputs, number = [], 0
        for stage in stages:
            for repeat in range(stage.repeats):
                x = block(
                    stage.size,
                    stage.strides if repeat == 0 else 1,
                    stage.expansion,
                    stage.width,
                    self.norm,
                    dtype=self.dtype,
                    name=f"blocks_{number}",
                )(x)
                number += 1
            outputs.append(x)
        return tuple(outputs) if every else self.architecture.levels_of(outputs)


class LiteClassifier(nn.Module):
    """Lite0's C5 -> ImageNet logits: what shows that published weights were read rightly.

    No part of the backbone; nothing but a check needs it.
    """

    classes: int = 1000

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, h, w, 320]. Returns [B, classes]."""
        x = conv1x1(HEAD, name="conv_head")(x)
        x = nn.relu6(FrozenNorm(name="bn1")(x)).mean((1, 2))
        return nn.Dense(self.classes, name="fc")(x)
