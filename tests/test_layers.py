"""Each layer that is rewritten for CPUs against the plain operation of XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ktn_jax.models import layers, products

SIZE = (8, 7)  # even and odd: "SAME" pads them differently


def image(shape, seed=0):
    """Distinct values, so that no maximum is a tie."""
    count = int(np.prod(shape))
    values = np.random.default_rng(seed).permutation(count) / count - 0.5
    return jnp.asarray(values.reshape(shape), jnp.float32)


def weighted(function):
    """A number whose gradient tells every output apart."""

    def total(*arguments):
        y = function(*arguments)
        return (y * image(y.shape, 7)).sum()

    return total


def assert_same(ours, plain, *arguments):
    """Equal values and equal gradients in every argument."""
    np.testing.assert_allclose(ours(*arguments), plain(*arguments), atol=1e-5)
    places = tuple(range(len(arguments)))
    gradients = [jax.grad(weighted(f), places)(*arguments) for f in (ours, plain)]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def pads(padding):
    return padding if isinstance(padding, str) else ((padding, padding),) * 2


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(("width", "padding"), [(3, 1), (5, 2), (3, "SAME"), (5, "SAME")])
def test_depthwise_equals_a_grouped_convolution(strides, width, padding):
    def ours(x, kernel):
        return products.depthwise(x, kernel, strides=strides, padding=padding)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides, strides),
            pads(padding),
            feature_group_count=x.shape[-1],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    assert_same(ours, plain, image((2, *SIZE, 4)), image((width, width, 1, 4), 1))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, "SAME"])
def test_max_pool_equals_a_window_reduction(strides, padding):
    def ours(x):
        return layers.max_pool(x, 3, strides=strides, padding=padding)

    def plain(x):
        outer = ((0, 0), *pads(padding), (0, 0)) if padding != "SAME" else "SAME"
        window = (1, 3, 3, 1), (1, strides, strides, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window, outer)

    assert_same(ours, plain, image((2, *SIZE, 3)))


@pytest.mark.parametrize("strides", [1, 2])
def test_a_1x1_convolution_is_a_matrix_product_of_every_other_cell(strides):
    dense = layers.conv1x1(5, name="dense")

    def ours(x, kernel):
        return dense.apply({"params": {"kernel": kernel}}, x[:, ::strides, ::strides])

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel[None, None],
            (strides, strides),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    assert_same(ours, plain, image((2, *SIZE, 4)), image((4, 5), 1))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_bilinear_up_sampling_equals_resize(factor):
    x = image((2, 3, 5, 2))
    shape = (2, 3 * factor, 5 * factor, 2)
    assert_same(
        lambda x: layers.upsample_bilinear(x, factor),
        lambda x: jax.image.resize(x, shape, "bilinear"),
        x,
    )


def test_average_pool_is_the_mean_of_squares():
    x = image((1, 4, 6, 2))
    ours = layers.average_pool(x, 2)
    assert ours.shape == (1, 2, 3, 2)
    assert ours[0, 1, 2, 1] == pytest.approx(float(x[0, 2:, 4:, 1].mean()))


def test_a_frozen_norm_scales_and_shifts_and_has_no_parameter():
    norm = layers.FrozenNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((1, 2)))
    assert set(variables) == {"frozen"}
    frozen = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([1.0, -1.0])}
    np.testing.assert_allclose(norm.apply({"frozen": frozen}, jnp.ones((1, 2))), [[3, 2]])


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_group_norm_is_flax_s_own(groups):
    x = 0.3 + image((2, *SIZE, 12))
    plain = nn.GroupNorm(groups, epsilon=layers.NORM_EPSILON)
    weights = {"params": {"scale": 1 + image((12,)), "bias": image((12,), 1)}}
    fresh = layers.GroupNorm(groups).init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, weights)
    assert_same(
        lambda x, w: layers.GroupNorm(groups).apply(w, x),
        lambda x, w: plain.apply(w, x),
        x,
        weights,
    )


@pytest.mark.parametrize("dilation", [1, 2, 6])
def test_a_3x3_convolution_has_the_gradients_of_xla_s(dilation):
    keys = jax.random.split(jax.random.key(dilation), 3)
    x = jax.random.normal(keys[0], (2, 7, 9, 5))
    kernel = jax.random.normal(keys[1], (3, 3, 5, 4))
    towards = jax.random.normal(keys[2], (2, 7, 9, 4))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((dilation, dilation),) * 2, rhs_dilation=(dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def ours(x, kernel):
        return products.convolve3x3(x, kernel, dilation)

    expected, pull = jax.vjp(plain, x, kernel)
    found, ours_pull = jax.vjp(ours, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for ours_of, of in zip(ours_pull(towards), pull(towards), strict=True):
        np.testing.assert_allclose(ours_of, of, atol=1e-4)


def test_a_matrix_product_has_its_derived_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    kernel = jax.random.normal(jax.random.key(1), (5, 6))
    towards = jax.random.normal(jax.random.key(2), (2, 3, 4, 6))
    _, pull = jax.vjp(products.matrix_product, x, kernel)
    of_x, of_kernel = pull(towards)
    np.testing.assert_allclose(of_x, np.einsum("bhwo,io->bhwi", towards, kernel), atol=1e-5)
    np.testing.assert_allclose(of_kernel, np.einsum("bhwi,bhwo->io", x, towards), atol=1e-5)
