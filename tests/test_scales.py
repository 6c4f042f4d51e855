"""Two sizes of one canvas: shrinking, enlarging, and whose surface is read on which."""

import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import scales
from ktn_jax.structs import Fields

WIDE = {"parts": (15,), "chart": (25,), "uv": (25, 2), "keypoints": (17,), "offset": (2,),
        "tag": (4,)}  # fmt: skip


def fields(height, width, value):
    """Every field holds one number."""
    return Fields(**{
        name: jnp.full((1, height, width, *WIDE.get(name, ())), value, jnp.float32)
        for name in Fields.__dataclass_fields__
    })  # fmt: skip


@pytest.mark.parametrize(
    ("size", "small"),
    [((64, 96), (32, 64)), ((320, 320), (224, 224)), ((256, 320), (192, 224))],
)
def test_the_canvas_shrinks_to_multiples(size, small):
    ramp = jnp.tile(
        jnp.arange(size[1], dtype=jnp.float32)[None, None, :, None], (1, size[0], 1, 3)
    )
    shrunk = np.asarray(scales.shrink(ramp, 32))
    assert shrunk.shape == (1, *small, 3)
    # away from the ends what a pixel shows of a ramp is its centre
    middle = (np.arange(small[1]) + 0.5) * size[1] / small[1] - 0.5
    np.testing.assert_allclose(shrunk[0, 4, 3:-3, 0], middle[3:-3], atol=0.05)


def tau(size):
    """The bandwidth field of people of a size: sigma = 16 e^tau is .4 of it."""
    return np.log(0.4 * size / 16)


@pytest.mark.parametrize(
    ("size", "share"), [(60, 0), (84, 0), (120, 0.5), (140, 0.72239), (171, 1), (240, 1)]
)
def test_the_surface_of_large_people_is_the_coarse_fields_and_who_is_who_stays(size, share):
    fine = fields(16, 24, 1.0).replace(bandwidth=jnp.full((1, 16, 24), tau(size)))
    joined = scales.join(fine, fields(8, 6, 3.0))
    for name in Fields.__dataclass_fields__:
        value = getattr(joined, name)
        assert value.shape == (1, 16, 24, *WIDE.get(name, ())), name
        if name == "bandwidth":
            np.testing.assert_array_equal(value, fine.bandwidth)
        else:
            mine = name in ("mask", "center", "offset", "tag", "quality")
            expected = 1.0 if mine else 1 + 2 * share
            np.testing.assert_allclose(value, expected, rtol=1e-4, err_msg=name)


def test_each_cell_is_joined_by_what_it_says_itself():
    sizes = np.full((1, 4, 8), 50.0)
    sizes[0, 1, 2] = 500.0
    fine = fields(4, 8, 0.0).replace(bandwidth=jnp.asarray(tau(sizes), jnp.float32))
    joined = scales.join(fine, fields(2, 4, 1.0))
    np.testing.assert_allclose(joined.chart[..., 7], sizes == 500, atol=1e-6)


def test_the_coarse_fields_are_interpolated_between_cell_centres():
    fine, coarse = fields(4, 8, 0.0), fields(2, 4, 0.0)
    fine = fine.replace(bandwidth=jnp.full((1, 4, 8), tau(500.0)))
    ramp = jnp.arange(4, dtype=jnp.float32)[None, None].repeat(2, 1)
    joined = scales.join(fine, coarse.replace(chart=ramp[..., None].repeat(25, -1)))
    # cell x of the fine ones lies at (x + .5) / 2 - .5 of the coarse ones
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    np.testing.assert_allclose(joined.chart[0, 1, :, 3], expected, atol=1e-6)
