"""Convolutions with gradients of their own: sums of products that CPUs are quick at. NHWC.

XLA's CPU backend is slow at the derived gradients of 1x1, 3x3 and depthwise kernels; tests
hold each function to the plain operation.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array

Padding = int | str  # pixels on every side (torch's), or "SAME" (TensorFlow's)
Pads = tuple[tuple[int, int], ...]  # pixels before and after, of rows and columns


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


@jax.custom_vjp
def matrix_product(x: Array, kernel: Array) -> Array:
    """[..., I] by [I, O]. Returns [..., O].

    The derived gradient of the kernel would turn the whole map around, cell by cell, and
    with it compute anew all that made it: a backbone takes three times as long on CPUs.
    """
    return x @ kernel


def _matrix_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matrix_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    rows, columns = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    return gradient @ kernel.T, rows.T @ columns


matrix_product.defvjp(_matrix_forward, _matrix_backward)


@functools.partial(jax.jit, static_argnames=("strides", "padding"))
def depthwise(x: Array, kernel: Array, *, strides: int, padding: Padding) -> Array:
    """[B, h, w, C] by [k, k, 1, C], as a sum of shifted products.

    XLA's grouped convolution takes 5 to 40 times as long on CPUs. Jitted so that
    summary.py knows its multiplications by this function's name.
    """
    pads = pads_of(x, kernel.shape[0], strides, padding)
    return _shifted_products(x, kernel, strides, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted_products(x: Array, kernel: Array, strides: int, pads: Pads) -> Array:
    taps = kernel.reshape(-1, kernel.shape[-1])
    shifted = shifted_views(x, kernel.shape[0], strides, pads, 0.0)
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
    seen = [y * gradient for y in shifted_views(x, size, strides, pads, 0.0)]
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


def pads_of(x: Array, size: int, strides: int, padding: Padding) -> Pads:
    if not isinstance(padding, str):
        return ((padding, padding),) * 2
    window = (size,) * 2, (strides,) * 2
    return tuple(jax.lax.padtype_to_pads(x.shape[1:3], *window, padding))


def shifted_views(
    x: Array, size: int, strides: int, pads: Pads, fill: float
) -> list[Array]:
    """What each of a window's size x size places sees, row by row: [B, h', w', C] each."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    last = [n - size for n in x.shape[1:3]]
    return [
        x[:, i : i + last[0] + 1 : strides, j : j + last[1] + 1 : strides]
        for i in range(size)
        for j in range(size)
    ]
