"""Fields of one canvas at two sizes, brought together: what a two-size test averages."""

import jax
import jax.numpy as jnp

from ktn_jax.structs import Array, Fields

AVERAGED = ("mask", "parts", "chart", "uv", "keypoints")


def shrink(image: Array, multiple: int) -> Array:
    """The canvas at half its size, both sides rounded down to a multiple.

    image: [B, H, W, 3] u8, H and W multiples of `multiple` and at least twice it.
    """
    batch, height, width, channels = image.shape
    half = (height // multiple // 2 * multiple, width // multiple // 2 * multiple)
    shape = (batch, *half, channels)
    return jax.image.resize(image.astype(jnp.float32), shape, "linear")


def average(fine: Fields, coarse: Fields) -> Fields:
    """The fine Fields with what they say of the surface averaged over the two sizes.

    Who is who stays with the fine ones: seen at half the size, people who stand together
    become one.
    """
    batch, height, width = fine.center.shape

    def mean(name: str) -> Array:
        one, other = getattr(fine, name), getattr(coarse, name)
        shape = (batch, height, width, *other.shape[3:])
        return (one + jax.image.resize(other, shape, "linear")) / 2

    return fine.replace(**{name: mean(name) for name in AVERAGED})
