"""Two sizes of one canvas: halving, enlarging, and what is averaged."""

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
    ("size", "half"), [((64, 96), (32, 32)), ((128, 192), (64, 96)), ((96, 192), (32, 96))]
)
def test_the_canvas_is_halved_to_multiples(size, half):
    ramp = jnp.tile(
        jnp.arange(size[1], dtype=jnp.uint8)[None, None, :, None], (1, size[0], 1, 3)
    )
    small = np.asarray(scales.shrink(ramp, 32))
    assert small.shape == (1, *half, 3)
    if size[1] == 2 * half[1]:  # away from the ends a ramp's mean is its middle
        middle = np.arange(half[1]) * 2 + 0.5
        np.testing.assert_allclose(small[0, 4, 2:-2, 0], middle[2:-2], atol=1e-3)


def test_the_surface_is_averaged_and_who_is_who_stays():
    both = scales.average(fields(16, 24, 1.0), fields(8, 6, 3.0))
    for name in Fields.__dataclass_fields__:
        value = getattr(both, name)
        assert value.shape == (1, 16, 24, *WIDE.get(name, ())), name
        mine = name in ("center", "offset", "bandwidth", "tag", "quality")
        np.testing.assert_allclose(value, 1.0 if mine else 2.0, err_msg=name)


def test_the_coarse_fields_are_interpolated_between_cell_centres():
    fine, coarse = fields(4, 8, 0.0), fields(2, 4, 0.0)
    ramp = jnp.arange(4, dtype=jnp.float32)[None, None].repeat(2, 1)
    both = scales.average(fine, coarse.replace(mask=ramp))
    # cell x of the fine ones lies at (x + .5) / 2 - .5 of the coarse ones
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3) / 2
    np.testing.assert_allclose(both.mask[0, 1], expected, atol=1e-6)
