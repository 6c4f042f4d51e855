"""The instance embedding: which cell belongs to which person. One formula, two readers.

Every cell p votes for its person's anchor, e(p) = p + offset(p), and carries a free tag
t(p). A person k is known by what its anchor's neighbourhood says: the place mu, the
bandwidth sigma and the tag. A cell belongs to k as much as its vote and tag agree:

    logit_k(p) = -|e(p) - mu_k|^2 / (2 sigma_k^2) - TAG_WEIGHT^2 |t(p) - t_k|^2 / 2

Losses read it at annotated anchors, the codec at the peaks it finds. Ours, after the
spatial embeddings of Neven et al. (2019) and associative embedding (Newell et al. 2017).
"""

import jax
import jax.numpy as jnp
from flax import struct

from ktn_jax import maps
from ktn_jax.geometry import STRIDE
from ktn_jax.structs import Fields

Array = jax.Array

BANDWIDTH = 16.0  # sigma in canvas pixels where tau = 0
SIGMA_OF_SIZE = 0.4  # what is taught, of the square root of the area that is seen
TAU_LIMIT = 3.0  # |tau| is clipped here, so that no sigma vanishes
TAG_WEIGHT = 1.0  # beta; 1: tags one unit apart weigh like votes one sigma apart


@struct.dataclass
class Seeds:
    """What K instances are known by."""

    vote: Array  # [K, 2] mu, canvas pixels
    sigma: Array  # [K] canvas pixels
    tag: Array  # [K, T]


def votes(fields: Fields) -> Array:
    """[h, w, 2] canvas position every cell votes for. fields: one image's."""
    return maps.cell_centers(*fields.center.shape) + fields.offset


def sigma(tau: Array) -> Array:
    """Bandwidth in canvas pixels of a raw bandwidth."""
    return BANDWIDTH * jnp.exp(jnp.clip(tau, -TAU_LIMIT, TAU_LIMIT))


def bandwidth_of(size: Array) -> Array:
    """The raw bandwidth of people of a size in canvas pixels, [P]."""
    tau = jnp.log(SIGMA_OF_SIZE * size / BANDWIDTH)
    return jnp.clip(tau, -TAU_LIMIT, TAU_LIMIT)


def size_of(tau: Array) -> Array:
    """The size in canvas pixels of the people whom a raw bandwidth speaks of."""
    return sigma(tau) / SIGMA_OF_SIZE


def read_seeds(fields: Fields, cell: Array) -> Seeds:
    """Seeds from the 3x3 mean around cells.

    fields: one image's.   cell: [K] flat cell index.
    """
    columns = [votes(fields), fields.bandwidth[..., None], fields.tag]
    around = maps.local_mean(jnp.concatenate(columns, axis=-1))
    rows = around.reshape(-1, around.shape[-1])[cell]
    return Seeds(vote=rows[:, :2], sigma=sigma(rows[:, 2]), tag=rows[:, 3:])


def logit(vote: Array, tag: Array, seed: Seeds) -> Array:
    """How well cells agree with one seed; 0 is perfect, exp(.) > 1/2 is "belongs".

    vote: [..., 2].   tag: [..., T].   seed: a Seeds row, fields [2], [], [T].
    Returns [...].
    """
    place = jnp.square(vote - seed.vote).sum(-1) / (2 * jnp.square(seed.sigma))
    return -place - TAG_WEIGHT**2 * jnp.square(tag - seed.tag).sum(-1) / 2


def anchor_cells(yx: Array, height: int, width: int) -> Array:
    """Flat index of the cells that hold points. yx: [P, 2] canvas pixels."""
    cell = jnp.floor(yx / STRIDE).astype(jnp.int32)
    y = jnp.clip(cell[:, 0], 0, height - 1)
    x = jnp.clip(cell[:, 1], 0, width - 1)
    return y * width + x
