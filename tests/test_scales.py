"""Three sizes of one canvas: how large they are, and which people are read on which."""

import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import scales
from ktn_jax.structs import Fields

WIDE = {"parts": (15,), "chart": (25,), "uv": (25, 2), "keypoints": (17,), "offset": (2,),
        "tag": (4,), "prior_chart": (24,), "detected": (3, 5)}  # fmt: skip
UNTOUCHED = ("center", "offset", "tag", "quality", "prior_keypoints", "prior_mask",
             "detected")  # fmt: skip


def fields(height, width, value):
    """Every field holds one number."""
    return Fields(**{
        name: jnp.full((1, height, width, *WIDE.get(name, ())), value, jnp.float32)
        for name in Fields.__dataclass_fields__
    })  # fmt: skip


@pytest.mark.parametrize(
    ("size", "tenths", "other"),
    [
        ((64, 96), 7, (32, 64)),
        ((320, 320), 7, (224, 224)),
        ((256, 320), 7, (192, 224)),
        ((64, 96), 14, (96, 128)),
        ((256, 320), 14, (352, 448)),
    ],
)
def test_the_canvas_is_resized_to_multiples(size, tenths, other):
    ramp = jnp.tile(
        jnp.arange(size[1], dtype=jnp.float32)[None, None, :, None], (1, size[0], 1, 3)
    )
    resized = np.asarray(scales.resize(ramp, tenths, 32))
    assert resized.shape == (1, *other, 3)
    # away from the ends what a pixel shows of a ramp is its centre
    middle = (np.arange(other[1]) + 0.5) * size[1] / other[1] - 0.5
    np.testing.assert_allclose(resized[0, 4, 3:-3, 0], middle[3:-3], atol=0.05)


def tau(size):
    """The bandwidth field of people of a size: sigma = 16 e^tau is .4 of it."""
    return np.log(0.4 * size / 16)


@pytest.mark.parametrize(
    ("size", "large", "small"),
    [
        (25, 0, 1), (42, 0, 1), (50, 0, 0.76303), (60, 0, 0.5), (84.8528, 0, 0),
        (120, 0.5, 0), (140, 0.72239, 0), (171, 1, 0), (240, 1, 0),
    ],
)  # fmt: skip
def test_people_are_read_where_their_size_is_best_and_who_is_who_stays(size, large, small):
    fine = fields(16, 24, 1.0).replace(bandwidth=jnp.full((1, 16, 24), tau(size)))
    joined = scales.join(fine, fields(8, 6, 3.0), fields(32, 36, -4.0))
    for name in Fields.__dataclass_fields__:
        value = getattr(joined, name)
        assert value.shape == (1, 16, 24, *WIDE.get(name, ())), name
        if name == "bandwidth":
            np.testing.assert_array_equal(value, fine.bandwidth)
        elif name in UNTOUCHED:
            np.testing.assert_allclose(value, 1.0, err_msg=name)
        else:
            expected = 1.0 - 5 * small + (2 * large if name != "mask" else 0)
            np.testing.assert_allclose(value, expected, rtol=1e-4, err_msg=name)


def test_each_cell_is_joined_by_what_it_says_itself():
    sizes = np.full((1, 4, 8), 100.0)
    sizes[0, 1, 2], sizes[0, 3, 7] = 500.0, 20.0
    fine = fields(4, 8, 0.0).replace(bandwidth=jnp.asarray(tau(sizes), jnp.float32))
    chart = scales.join(fine, fields(2, 4, 1.0), fields(8, 16, 2.0)).chart[..., 7]
    expected = np.zeros((1, 4, 8))
    expected[0, 1, 2], expected[0, 3, 7] = 1.0, 2.0
    # 100 px are a little above LARGE's lower end
    expected[expected == 0] = np.log2(100 / 120) + 0.5
    np.testing.assert_allclose(chart, expected, atol=1e-6)


def test_the_other_fields_are_interpolated_between_cell_centres():
    fine, coarse = fields(4, 8, 0.0), fields(2, 4, 0.0)
    fine = fine.replace(bandwidth=jnp.full((1, 4, 8), tau(500.0)))
    ramp = jnp.arange(4, dtype=jnp.float32)[None, None].repeat(2, 1)
    ramp = ramp[..., None].repeat(25, -1)
    chart = scales.join(fine, coarse.replace(chart=ramp), fine).chart[0, 1, :, 3]
    # cell x of the fine ones lies at (x + .5) / 2 - .5 of the coarse ones
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    np.testing.assert_allclose(chart, expected, atol=1e-6)
