"""HRNet (Sun et al. 2019) -> its four resolutions. Names are the official, "." as "_".

Stage s keeps s branches at strides 4, 8, ... side by side; a module is four blocks in
each branch, then every branch gets the sum of all branches, brought to its resolution.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.layers import (
    backbone_norm,
    conv1x1,
    conv3x3,
    recomputed,
    upsample_nearest,
)
from ktn_jax.models.resnet import Bottleneck

Array = jax.Array

STEM = 64  # channels of both stem convolutions and of the first stage's 3x3
BLOCKS = 4  # in a branch of a module, and in the first stage
MODULES = {2: 1, 3: 4, 4: 3}  # of stages 2 to 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an identity shortcut; the shape stays."""

    norm: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        y = x
        for number in (1, 2):
            y = conv3x3(width, dtype=self.dtype, name=f"conv{number}")(y)
            y = backbone_norm(self.norm, width, dtype=self.dtype, name=f"bn{number}")(y)
            y = nn.relu(y) if number == 1 else y
        return nn.relu(x + y)


class FusedBranches(nn.Module):
    """One module: blocks within the branches, then an exchange between all of them."""

    norm: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, branches: Sequence[Array]) -> tuple[Array, ...]:
        """branches: [B, h / 2^i, w / 2^i, C_i]. Returns the same shapes."""
        deeper = []
        for i, x in enumerate(branches):
            for number in range(BLOCKS):
                name = f"branches_{i}_{number}"
                x = BasicBlock(self.norm, dtype=self.dtype, name=name)(x)
            deeper.append(x)
        count = range(len(deeper))
        return tuple(nn.relu(sum(self._bring(deeper, i, j) for j in count)) for i in count)

    def _bring(self, branches: Sequence[Array], i: int, j: int) -> Array:
        """Branch j at the resolution and with the channels of branch i."""
        x, width, name = branches[j], branches[i].shape[-1], f"fuse_layers_{i}_{j}"
        if j > i:
            x = conv1x1(width, dtype=self.dtype, name=f"{name}_0")(x)
            x = self._norm(x, f"{name}_1")
            return upsample_nearest(x, 2 ** (j - i))
        for step in range(i - j):
            last = step == i - j - 1
            wide = width if last else x.shape[-1]
            layer = conv3x3(wide, strides=2, dtype=self.dtype, name=f"{name}_{step}_0")
            x = self._norm(layer(x), f"{name}_{step}_1")
            x = x if last else nn.relu(x)
        return x

    def _norm(self, x: Array, name: str) -> Array:
        return backbone_norm(self.norm, x.shape[-1], dtype=self.dtype, name=name)(x)


class HRNet(nn.Module):
    """Image -> maps at strides 4, 8, 16, 32 with width, 2, 4 and 8 width channels."""

    width: int  # channels of the finest branch: 32 or 48
    norm: str  # one of layers.NORMS
    remat: bool = False
    stem: int = STEM
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        """x: [B, H, W, 3] normalised, H and W divisible by 32."""
        for number in (1, 2):
            x = self._halve(x, self.stem, f"conv{number}", f"bn{number}")
        block = recomputed(Bottleneck, self.remat)
        for number in range(BLOCKS):
            name = f"layer1_{number}"
            x = block(self.stem, self.norm, dtype=self.dtype, name=name)(x)
        module = recomputed(FusedBranches, self.remat)
        branches = (x,)
        for stage, modules in MODULES.items():
            branches = self._add_branch(branches, f"transition{stage - 1}")
            for number in range(modules):
                name = f"stage{stage}_{number}"
                branches = module(self.norm, dtype=self.dtype, name=name)(branches)
        return branches

    def _add_branch(self, branches: Sequence[Array], name: str) -> tuple[Array, ...]:
        """One branch more, at half the coarsest's resolution."""
        widths = [self.width * 2**i for i in range(len(branches) + 1)]
        new = len(branches)
        coarse = self._halve(
            branches[-1], widths[-1], f"{name}_{new}_0_0", f"{name}_{new}_0_1"
        )
        kept = branches
        if branches[0].shape[-1] != widths[0]:  # only the first stage's output
            x = conv3x3(widths[0], dtype=self.dtype, name=f"{name}_0_0")(branches[0])
            kept = (nn.relu(self._norm(x, f"{name}_0_1")),)
        return (*kept, coarse)

    def _halve(self, x: Array, width: int, name: str, norm: str) -> Array:
        x = conv3x3(width, strides=2, dtype=self.dtype, name=name)(x)
        return nn.relu(self._norm(x, norm))

    def _norm(self, x: Array, name: str) -> Array:
        return backbone_norm(self.norm, x.shape[-1], dtype=self.dtype, name=name)(x)
