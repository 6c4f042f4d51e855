"""Convolutions, norms, pooling and reshapes that every other module is made of. NHWC.

Some are rewritten for XLA's CPU backend, which is slow at the gradients of 1x1 and
depthwise convolutions, of pooling and of norms by group; tests hold each to the plain
operation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array
Dtype = Any

Padding = int | str  # pixels on every side (torch's), or "SAME" (TensorFlow's)
Pads = tuple[tuple[int, int], ...]  # pixels before and after, of rows and columns

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve3x3(x: Array, kernel: Array, dilation: int = 1) -> Array:
    """[B, h, w, I] by [3, 3, I, O], borders padded by zeros. Returns [B, h, w, O]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((dilation, dilation),) * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve_forward(
    x: Array, kernel: Array, dilation: int
) -> tuple[Array, tuple[Array, Array]]:
    return convolve3x3(x, kernel, dilation), (x, kernel)


def _convolve_backward(
    dilation: int, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = kept
    of_x = convolve3x3(gradient, kernel[::-1, ::-1].swapaxes(2, 3), dilation)
    return of_x, _kernel_gradient(x, gradient, dilation=dilation).astype(kernel.dtype)


convolve3x3.defvjp(_convolve_forward, _convolve_backward)


def _kernel_gradient(x: Array, gradient: Array, *, dilation: int) -> Array:
    """[3, 3, I, O]. On CPUs as one product of matrices: two to five times as fast."""

    def shifted(values: Array, axis: int) -> Array:
        """[cells, 3 C]: the values before, at and after each cell along an axis."""
        reach = [(0, 0)] * 4
        reach[axis] = (dilation, dilation)
        wide = jnp.pad(values, reach)
        size = values.shape[axis]
        three = [
            jax.lax.slice_in_dim(wide, i * dilation, i * dilation + size, axis=axis)
            for i in range(3)
        ]
        return jnp.concatenate(three, axis=-1).reshape(-1, 3 * values.shape[-1])

    def one_product(x: Array, gradient: Array) -> Array:
        # x moved along rows, the gradient the other way along columns: all nine pairs
        pairs = shifted(x, 2).T @ shifted(gradient, 1)
        pairs = pairs.reshape(3, x.shape[-1], 3, gradient.shape[-1])
        return pairs[:, :, ::-1].transpose(2, 0, 1, 3)

    def convolution(x: Array, gradient: Array) -> Array:
        shape = (3, 3, x.shape[-1], gradient.shape[-1])
        kernel = jnp.zeros(shape, x.dtype)
        plain = functools.partial(convolve3x3.fun, dilation=dilation)
        (of_kernel,) = jax.linear_transpose(lambda k: plain(x, k), kernel)(gradient)
        return of_kernel

    return jax.lax.platform_dependent(x, gradient, cpu=one_product, default=convolution)


def conv1x1(
    width: int, *, name: str, bias: bool = False, dtype: Dtype = jnp.float32
) -> nn.Dense:
    """A 1x1 convolution. As a matrix product its weight gradient is 14x faster on CPUs."""
    return nn.Dense(
        width,
        use_bias=bias,
        kernel_init=he_fan_out,
        dtype=dtype,
        dot_general=_dot_general,
        name=name,
    )


def _dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What nn.Dense calls for its product."""
    return matrix_product(x, kernel)


@jax.custom_vjp
def matrix_product(x: Array, kernel: Array) -> Array:
    """[..., I] by [I, O]. Returns [..., O].

    The derived gradient of the kernel would turn the whole map around, cell by cell, and
    with it compute anew all that made it: a backbone takes three times as long on CPUs.
    """
    return x @ kernel


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _product_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rows, columns = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    return gradient @ kernel.T, rows.T @ columns


matrix_product.defvjp(_product_forward, _product_backward)


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


@functools.partial(jax.jit, static_argnames=("strides", "padding"))
def depthwise(x: Array, kernel: Array, *, strides: int, padding: Padding) -> Array:
    """[B, h, w, C] by [k, k, 1, C], as a sum of shifted products.

    XLA's grouped convolution takes 5 to 40 times as long on CPUs. Jitted so that
    summary.py knows its multiplications by this function's name.
    """
    pads = _pads(x, kernel.shape[0], strides, padding)
    return _shifted_products(x, kernel, strides, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted_products(x: Array, kernel: Array, strides: int, pads: Pads) -> Array:
    taps = kernel.reshape(-1, kernel.shape[-1])
    shifted = _shifted(x, kernel.shape[0], strides, pads, 0.0)
    return sum(tap * y for tap, y in zip(taps, shifted, strict=True))


def _products_forward(
    x: Array, kernel: Array, strides: int, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_products(x, kernel, strides, pads), (x, kernel)


def _products_backward(
    strides: int, pads: Pads, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Gradients of x and kernel; XLA compiles derived ones five times as long."""
    x, kernel = kept
    size = kernel.shape[0]
    # x's is such a sum as well: flipped taps over the outputs, moved apart by the stride
    around = [
        (size - 1 - low, inputs + low - (outputs - 1) * strides - 1, strides - 1)
        for inputs, outputs, (low, _) in zip(
            x.shape[1:3], gradient.shape[1:3], pads, strict=True
        )
    ]
    zero = jnp.zeros((), gradient.dtype)
    apart = jax.lax.pad(gradient, zero, [(0, 0, 0), *around, (0, 0, 0)])
    of_x = _shifted_products(apart, kernel[::-1, ::-1], 1, ((0, 0), (0, 0)))
    seen = [y * gradient for y in _shifted(x, size, strides, pads, 0.0)]
    return of_x, _sums(seen).reshape(kernel.shape).astype(kernel.dtype)


_shifted_products.defvjp(_products_forward, _products_backward)


def _sums(arrays: Sequence[Array]) -> Array:
    """[n, C]: each of n arrays [B, h, w, C] summed to its channels, float32.

    On CPUs in one pass: a pass each costs up to four times as long, and to compile. Not
    elsewhere: a GPU may lack the shared memory for 25 sums at a time.
    """
    arrays = [x.astype(jnp.float32) for x in arrays]

    def one_pass(*arrays: Array) -> Array:
        zeros = (jnp.zeros((), jnp.float32),) * len(arrays)
        return jnp.stack(jax.lax.reduce(arrays, zeros, _add_all, (0, 1, 2)))

    def a_pass_each(*arrays: Array) -> Array:
        return jnp.stack([x.sum((0, 1, 2)) for x in arrays])

    return jax.lax.platform_dependent(*arrays, cpu=one_pass, default=a_pass_each)


def _add_all(these: Sequence[Array], those: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(these, those, strict=True))


def max_pool(x: Array, size: int, *, strides: int, padding: Padding) -> Array:
    """The maximum of each size x size window, as a maximum of shifted arrays."""
    pads = _pads(x, size, strides, padding)
    return functools.reduce(jnp.maximum, _shifted(x, size, strides, pads, -jnp.inf))


def _pads(x: Array, size: int, strides: int, padding: Padding) -> Pads:
    if not isinstance(padding, str):
        return ((padding, padding),) * 2
    window = (size,) * 2, (strides,) * 2
    return tuple(jax.lax.padtype_to_pads(x.shape[1:3], *window, padding))


def _shifted(x: Array, size: int, strides: int, pads: Pads, fill: float) -> list[Array]:
    """What each of a window's size x size places sees, row by row: [B, h', w', C] each."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    last = [n - size for n in x.shape[1:3]]
    return [
        x[:, i : i + last[0] + 1 : strides, j : j + last[1] + 1 : strides]
        for i in range(size)
        for j in range(size)
    ]


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
