"""Fields of one canvas at several sizes, together by how large people are on it.

Charts are best of people about as large as most whom the network learnt from: who is
larger is seen as a whole on a smaller canvas, who is smaller is seen closer on a larger
one. Sizes are roots of the area that is seen, in canvas pixels.
"""

import jax
import jax.numpy as jnp

from ktn_jax import embedding
from ktn_jax.structs import Array, Fields

SMALLER, LARGER = 7, 14  # the other canvases' sides, in tenths, where fields are joined
COMPETING = (7, 5)  # those of canvases whose people compete
LARGE, SMALL = 120.0, 60.0  # sizes of people of whom two canvases count alike
LEAST = 84.0  # the same on a smaller canvas, in its own pixels
NO_HEAT = 1e-9  # in place of 0, which has no logit
SURFACE = ("parts", "chart", "uv", "keypoints")


def resize(image: Array, tenths: int, multiple: int) -> Array:
    """The canvas at so many tenths of its size, both sides rounded to a multiple.

    image: [B, H, W, 3] u8, H and W multiples of `multiple` and at least twice it.
    Returns [B, h, w, 3] f32.
    """
    batch, *sides, channels = image.shape
    # whole numbers alone, for sides may be symbols
    sides = [(tenths * (n // multiple) + 5) // 10 * multiple for n in sides]
    shape = (batch, *sides, channels)
    return jax.image.resize(image.astype(jnp.float32), shape, "linear")


def join(fields: Fields, smaller: Fields, larger: Fields) -> Fields:
    """The Fields, with large people read on the smaller canvas, small ones on the larger.

    How large is what a cell's own bandwidth says; from one canvas to the next it takes an
    octave. The larger one also says where small people are, the smaller one does not: there
    people who stand together become one, and pieces of photographed people are lost. Who
    is who, and what the prior sees, stays with the middle one.
    """
    octaves = jnp.log2(embedding.size_of(fields.bandwidth))
    large = _is_large(fields.bandwidth, LARGE)
    small = jnp.clip(jnp.log2(SMALL) - octaves + 0.5, 0, 1)
    surface = SURFACE if fields.prior_chart is None else (*SURFACE, "prior_chart")
    joined = _mixed(fields, smaller, large, surface)
    return _mixed(joined, larger, small, ("mask", *surface))


def _mixed(one: Fields, other: Fields, share: Array, names: tuple[str, ...]) -> Fields:
    """One's Fields with a share, [B, h, w], of some of the other's, of any canvas."""

    def mixed(name: str) -> Array:
        here, there = getattr(one, name), getattr(other, name)
        weight = share.reshape(*share.shape, *(1,) * (here.ndim - 3))
        return here + weight * (_resized(there, share.shape[1:]) - here)

    return one.replace(**{name: mixed(name) for name in names})


def bring_large(smaller: Fields, like: Fields) -> Fields:
    """A smaller canvas's Fields in the cells and canvas pixels of these.

    Its anchors count as far as the people are large even there; of others there are none.
    """
    height, width = cells = like.center.shape[1:]
    rows, columns = smaller.center.shape[1:]
    grow = jnp.array([height / rows, width / columns])
    brought = jax.tree.map(lambda values: _resized(values, cells), smaller)
    bandwidth = brought.bandwidth + jnp.log(grow).mean()
    heat = _is_large(brought.bandwidth, LEAST) * jax.nn.sigmoid(brought.center)
    if brought.detected is not None:
        reach = jnp.concatenate([jnp.ones(1), grow, grow])  # the logit, then the sides
        brought = brought.replace(detected=brought.detected * reach)
    return brought.replace(
        offset=brought.offset * grow,
        bandwidth=bandwidth,
        center=jnp.log(heat + NO_HEAT) - jnp.log1p(-heat),
    )


def _resized(values: Array, cells: tuple[int, ...]) -> Array:
    """A map, [B, h, w, ...], at so many rows and columns of cells."""
    shape = (values.shape[0], *cells, *values.shape[3:])
    return jax.image.resize(values, shape, "linear")


def _is_large(bandwidth: Array, size: float) -> Array:
    """How far the people of cells are large, 0..1: from 0 to 1 it takes an octave.

    size: of whom it is a half.
    """
    octaves = jnp.log2(embedding.size_of(bandwidth))
    return jnp.clip(octaves - jnp.log2(size) + 0.5, 0, 1)
