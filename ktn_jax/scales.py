"""Fields of one canvas at two sizes, brought together: what a two-size test averages."""

import jax
import jax.numpy as jnp

from ktn_jax.structs import Array, Fields


def shrink(image: Array, multiple: int) -> Array:
    """The canvas at half its size, both sides rounded down to a multiple.

    image: [B, H, W, 3] u8, H and W multiples of `multiple` and at least twice it.
    """
    batch, height, width, channels = image.shape
    half = (height // multiple // 2 * multiple, width // multiple // 2 * multiple)
    shape = (batch, *half, channels)
    return jax.image.resize(image.astype(jnp.float32), shape, "linear")


def average(fine: Fields, coarse: Fields) -> Fields:
    """The mean of two Fields of one canvas at two sizes, in the frame of the fine ones.

    Votes and bandwidths are lengths and grow with the canvas. The tag is the fine ones':
    a tag only means something beside others of the same pass.
    """
    batch, height, width = fine.center.shape
    ratio = jnp.array([height / coarse.center.shape[1], width / coarse.center.shape[2]])

    def enlarged(x: Array) -> Array:
        return jax.image.resize(x, (batch, height, width, *x.shape[3:]), "linear")

    coarse = jax.tree.map(enlarged, coarse)
    coarse = coarse.replace(
        offset=coarse.offset * ratio, bandwidth=coarse.bandwidth + jnp.log(ratio).mean()
    )
    both = jax.tree.map(lambda a, b: (a + b) / 2, fine, coarse)
    return both.replace(tag=fine.tag)
