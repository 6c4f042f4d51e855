"""Convolutions, norms, pooling and reshapes that every other module is made of. NHWC.

Pooling and norms by group are rewritten for XLA's CPU backend, which is slow at their
gradients, as products.py's convolutions are; tests hold each to the plain operation.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.models.products import (
    Padding,
    convolve3x3,
    depthwise,
    matrix_product,
    pads_of,
    shifted_views,
)

Array = jax.Array
Dtype = Any

NORMS = ("group", "frozen")  # of a backbone
NORM_EPSILON = 1e-5  # of GroupNorm's variance, torch's default

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # the paper's code
# a depthwise kernel's fan-out would count the other channels' outputs too
he_depthwise = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def conv(
    width: int,
    size: int,
    *,
    name: str,
    padding: Padding,
    strides: int = 1,
    dilation: int = 1,
    bias: bool = False,
    dtype: Dtype = jnp.float32,
) -> nn.Conv:
    """A size x size convolution."""
    kind = size, strides, padding

    def product(x: Array, kernel: Array, *args: Any, **keywords: Any) -> Array:
        if kind == (3, 1, dilation):
            return convolve3x3(x, kernel, dilation)
        return jax.lax.conv_general_dilated(x, kernel, *args, **keywords)

    return nn.Conv(
        width,
        (size, size),
        strides=strides,
        padding=padding,
        kernel_dilation=dilation,
        use_bias=bias,
        kernel_init=he_fan_out,
        dtype=dtype,
        conv_general_dilated=product,
        name=name,
    )


def conv3x3(
    width: int,
    *,
    name: str,
    strides: int = 1,
    dilation: int = 1,
    bias: bool = False,
    dtype: Dtype = jnp.float32,
) -> nn.Conv:
    """A 3x3 convolution that keeps alignment at any stride (pads by the dilation)."""
    layer = functools.partial(conv, strides=strides, dilation=dilation, bias=bias)
    return layer(width, 3, padding=dilation, dtype=dtype, name=name)


def conv1x1(
    width: int,
    *,
    name: str,
    bias: bool = False,
    start: nn.initializers.Initializer = he_fan_out,
    dtype: Dtype = jnp.float32,
) -> nn.Dense:
    """A 1x1 convolution. As a matrix product its weight gradient is 14x faster on CPUs."""
    return nn.Dense(
        width,
        use_bias=bias,
        kernel_init=start,
        dtype=dtype,
        dot_general=_dot_general,
        name=name,
    )


def _dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What nn.Dense calls for its product."""
    return matrix_product(x, kernel)


class GroupNorm(nn.Module):
    """GroupNorm (Wu & He 2018) over groups of neighbouring channels, statistics in float32.

    Sums over space come before any grouping, and one multiplication and addition a value
    after it: flax's own, which regroups the whole map, takes twice the time on CPUs.
    """

    groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        wide = x.astype(jnp.float32)

        def mean(values: Array) -> Array:
            each = values.mean((1, 2)).reshape(-1, self.groups, channels // self.groups)
            return each.mean(-1).repeat(channels // self.groups, axis=-1)  # [B, C]

        center = mean(wide)
        variance = jnp.maximum(mean(jnp.square(wide)) - jnp.square(center), 0)
        gain = scale * jax.lax.rsqrt(variance + NORM_EPSILON)
        shift = bias - center * gain
        return (wide * gain[:, None, None] + shift[:, None, None]).astype(self.dtype)


def group_norm(width: int, *, name: str, dtype: Dtype = jnp.float32) -> GroupNorm:
    """GroupNorm with the paper's 32 groups, or groups of eight channels in narrow nets."""
    groups = 32 if width >= 256 else max(1, width // 8)
    return GroupNorm(groups, dtype=dtype, name=name)


class FrozenNorm(nn.Module):
    """A trained BatchNorm as the scale and bias it comes to; both stay as they are.

    They live in the collection "frozen", which no optimiser sees.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        scale = self.variable("frozen", "scale", jnp.ones, shape).value
        bias = self.variable("frozen", "bias", jnp.zeros, shape).value
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)


def backbone_norm(
    kind: str, width: int, *, name: str, dtype: Dtype = jnp.float32
) -> nn.Module:
    """The norm of a backbone: one of NORMS, of the same name and shapes in either form."""
    if kind == "frozen":
        return FrozenNorm(dtype=dtype, name=name)
    return group_norm(width, name=name, dtype=dtype)


def recomputed(module: type[nn.Module], remat: bool) -> Callable[..., nn.Module]:
    """The module; with remat, its activations are computed anew in the backward pass.

    Parameters keep their names where the module is given one.
    """
    return nn.remat(module) if remat else module


class ConvNormRelu(nn.Module):
    """3x3 (or 1x1) convolution without bias, GroupNorm, ReLU."""

    width: int
    kernel: int = 3
    strides: int = 1
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.kernel == 1:
            x = conv1x1(self.width, name="conv", dtype=self.dtype)(x)
        else:
            layer = functools.partial(conv3x3, strides=self.strides, dilation=self.dilation)
            x = layer(self.width, name="conv", dtype=self.dtype)(x)
        return nn.relu(group_norm(self.width, name="norm", dtype=self.dtype)(x))


class WideningBlock(nn.Module):
    """Width to twice that by a 3x3, back by a 1x1, added to its input; at first nothing.

    Which chart a cell shows hangs on what it looks like and where it lies together, more
    than one convolution can say. The paper has none: its charts see a cut-out box. The sum
    is not rectified: a block after which every number is cut off at zero learns no more.
    """

    width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        wide = ConvNormRelu(2 * self.width, dtype=self.dtype, name="wide")(x)
        kernel = self.param("kernel", nn.initializers.zeros, (2 * self.width, self.width))
        return x + matrix_product(wide, kernel.astype(self.dtype))


class Depthwise(nn.Module):
    """A size x size convolution of each channel with a kernel of its own."""

    size: int
    strides: int = 1
    padding: Padding = "SAME"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", he_depthwise, shape)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return depthwise(x, kernel, strides=self.strides, padding=self.padding)


def max_pool(x: Array, size: int, *, strides: int, padding: Padding) -> Array:
    """The maximum of each size x size window, as a maximum of shifted arrays."""
    pads = pads_of(x, size, strides, padding)
    return functools.reduce(jnp.maximum, shifted_views(x, size, strides, pads, -jnp.inf))


def space_to_depth(x: Array) -> Array:
    """[B, 2h, 2w, C] -> [B, h, w, 4C], nothing lost.

    Channel blocks in the order (even row, even col), (even, odd), (odd, even), (odd, odd).
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c)


def pixel_shuffle(x: Array) -> Array:
    """[B, h, w, 4C] -> [B, 2h, 2w, C]; channel 4c + 2i + j goes to row i, column j."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def upsample_nearest(x: Array, factor: int = 2) -> Array:
    """[B, h, w, C] -> [B, factor h, factor w, C]."""
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def upsample_bilinear(x: Array, factor: int) -> Array:
    """[B, h, w, C] -> [B, factor h, factor w, C]; half-pixel centres, the border repeats.

    factor: 1 or even. Every output lies between two inputs of an axis, so each phase of
    an axis is one lerp; 2 to 5 times faster on CPUs than jax.image.resize.
    """
    for axis in (1, 2) if factor > 1 else ():
        x = _stretch(x, axis, factor)
    return x


def _stretch(x: Array, axis: int, factor: int) -> Array:
    size = x.shape[axis]
    before = jnp.concatenate([_part(x, axis, 0, 1), _part(x, axis, 0, size - 1)], axis)
    after = jnp.concatenate([_part(x, axis, 1, size), _part(x, axis, size - 1, size)], axis)
    phases = []
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5  # from the input's centre, in inputs
        other = after if place > 0 else before
        phases.append(x + abs(place) * (other - x))
    shape = (*x.shape[:axis], factor * size, *x.shape[axis + 1 :])
    return jnp.stack(phases, axis + 1).reshape(shape)


def _part(x: Array, axis: int, start: int, stop: int) -> Array:
    return jax.lax.slice_in_dim(x, start, stop, axis=axis)


def average_pool(x: Array, factor: int) -> Array:
    """[B, factor h, factor w, C] -> [B, h, w, C], the mean of each square."""
    b, h, w, c = x.shape
    return x.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))
