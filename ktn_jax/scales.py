"""Fields of one canvas at two sizes, brought together by how large people are on it.

Charts are best of people about as large as those the network learnt from: who is larger
is seen as a whole on a smaller canvas, and who is smaller would vanish there.
"""

import jax
import jax.numpy as jnp

from ktn_jax import embedding
from ktn_jax.structs import Array, Fields

SMALLER = (7, 10)  # the second canvas, as a fraction of the first
LARGE = 120.0  # canvas pixels (the root of the area that is seen) where both count alike
JOINED = ("parts", "chart", "uv", "keypoints")


def shrink(image: Array, multiple: int) -> Array:
    """The canvas at 7/10 of its size, both sides rounded to a multiple.

    image: [B, H, W, 3] u8, H and W multiples of `multiple` and at least twice it. Returns
    [B, h, w, 3] f32.
    """
    batch, *sides, channels = image.shape
    over, under = SMALLER
    small = [(over * (n // multiple) + under // 2) // under * multiple for n in sides]
    shape = (batch, *small, channels)
    return jax.image.resize(image.astype(jnp.float32), shape, "linear")


def join(fine: Fields, coarse: Fields) -> Fields:
    """The fine Fields, of large people with what the coarse ones say of the surface.

    How large is what the fine ones' bandwidths say; half an octave around LARGE both
    count. Where somebody is, and who is who, stays with the fine ones: seen smaller, people
    who stand together become one, and pieces of photographed people are lost.
    """
    batch, height, width = fine.center.shape
    size = embedding.size_of(fine.bandwidth)
    share = jnp.clip(jnp.log2(size / LARGE) + 0.5, 0, 1)  # of the coarse ones

    def mixed(name: str) -> Array:
        one, other = getattr(fine, name), getattr(coarse, name)
        shape = (batch, height, width, *other.shape[3:])
        weight = share.reshape(*share.shape, *(1,) * (one.ndim - 3))
        return one + weight * (jax.image.resize(other, shape, "linear") - one)

    return fine.replace(**{name: mixed(name) for name in JOINED})
