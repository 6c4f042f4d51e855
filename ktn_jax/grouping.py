"""Fields of one image -> who they show, and whose every pixel is. Pure jax, fixed shapes.

Ours, bottom-up: peaks of the centre map are seeds; a cell belongs to the seed that its vote
and tag fit; K instances cost the same whether they are people or not. Arrays are without
batch axis, [h, w] cells at stride 4, [H, W] canvas pixels; the codec puts them together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ktn_jax import embedding, maps
from ktn_jax.geometry import STRIDE
from ktn_jax.structs import Fields

Array = jax.Array

WORST_FIT = -9.0  # logits of belonging end here, so that one cell cannot spoil its
# neighbours' pixels when logits are interpolated
NEAR_ZERO = 1e-6
SURE = 0.1  # score from which on an instance claims pixels as any other does


class Found(NamedTuple):
    """Whom one look shows, before they are compared."""

    fit: Array  # [K, h, w] logits of belonging
    belongs: Array  # [K, h, w]
    score: Array  # [K]
    quality: Array  # [K]
    tag: Array  # [K, T]


def find_peaks(center: Array) -> Array:
    """[h, w] probability of an anchor where it is a 3x3 maximum, else 0."""
    heat = jax.nn.sigmoid(center)
    return jnp.where(heat >= maps.local_max(heat), heat, 0.0)


def fit_cells(fields: Fields, seeds: embedding.Seeds) -> Array:
    """[K, h, w] logit of every cell's belonging to every seed, not below WORST_FIT."""
    vote = embedding.votes(fields)
    fit = jax.vmap(lambda seed: embedding.logit(vote, fields.tag, seed))(seeds)
    return jnp.maximum(fit, WORST_FIT)


def sharpen(fields: Fields, seeds: embedding.Seeds) -> embedding.Seeds:
    """Seeds after one E-M step: place and tag become the mean of what belongs to them.

    On toy crowds the step lifts mean instance IoU by .1.
    """
    belongs = jnp.exp(fit_cells(fields, seeds)) * jax.nn.sigmoid(fields.mask)
    count = belongs.sum((1, 2))[:, None]

    def mean(values: Array) -> Array:
        return jnp.tensordot(belongs, values, 2) / jnp.maximum(count, NEAR_ZERO)

    enough = count > 1.0  # at least a cell: else the peak's own reading stays
    return seeds.replace(
        vote=jnp.where(enough, mean(embedding.votes(fields)), seeds.vote),
        tag=jnp.where(enough, mean(fields.tag), seeds.tag),
    )


def mean_posterior(belongs: Array) -> Array:
    """[K] how undisputed the cells of each instance are, in [0, 1]."""
    mine = belongs > 0.5
    share = belongs / jnp.maximum(belongs.max(0), NEAR_ZERO)
    return (share * mine).sum((1, 2)) / jnp.maximum(mine.sum((1, 2)), 1)


def mean_sureness(chart: Array, belongs: Array) -> Array:
    """[K] the probability of the likeliest of the 24 charts, mean over each instance.

    chart: [h, w, 25] logits.   belongs: [K, h, w]. GPS ranks people by how well their
    surface is known, of which a mask says little.
    """
    sure = jax.nn.softmax(chart[..., 1:]).max(-1)
    return jnp.tensordot(belongs, sure, 2) / jnp.maximum(belongs.sum((1, 2)), NEAR_ZERO)


def find_repeated(belongs: Array, score: Array, max_overlap: float, look: Array) -> Array:
    """[K] whether a better instance shares too much of the same cells.

    belongs: [K, h, w] in order of falling score.   look: [K] which of several each was
    found in. This is matrix NMS (Wang et al. 2020) with a hard end: a rival that is a
    repeat itself counts for less. Overlap is IoU; from one look to another it is the
    share of the smaller, for what one takes for a person may be a piece in the other.
    """
    flat = belongs.reshape(len(score), -1)
    shared = flat @ flat.T
    area = jnp.diagonal(shared)
    union = area[:, None] + area[None] - shared
    least = jnp.minimum(area[:, None], area[None])
    whole = jnp.where(look[:, None] == look[None], union, least)
    overlap = shared / jnp.maximum(whole, NEAR_ZERO)
    better = jnp.tril(overlap, -1)  # row i: overlaps with the better ones
    own = better.max(1)  # how much the rival itself repeats somebody
    return (better * (1 - own[None])).max(1) > max_overlap


def claim(score: Array) -> Array:
    """[K] what is added to an instance's fits where others want the pixel: <= 0.

    log(score / SURE) below SURE. A prior: a piece that is hardly anybody, and that a reader
    will leave out by its score, leaves a head to the person whose it may well be.
    """
    return jnp.log(jnp.clip(score / SURE, NEAR_ZERO, 1))


def read_owners(looks: Sequence[Fields], look: Array, fit: Array, valid: Array) -> Fields:
    """Every cell's Fields from the look in which its owner was found.

    look: [K] whose each instance is.   fit: [K, h, w] by which they compete.   valid: [K].
    """
    if len(looks) == 1:
        return looks[0]
    whose = look[jnp.where(valid[:, None, None], fit, -jnp.inf).argmax(0)]  # [h, w]

    def chosen(*values: Array) -> Array:
        own = whose.reshape(*whose.shape, *(1,) * (values[0].ndim - 2))
        return jax.lax.select_n(jnp.broadcast_to(own, values[0].shape), *values)

    return jax.tree.map(chosen, *looks)


def assign(fit: Array, claims: Array, valid: Array, floor: Array) -> Array:
    """[H, W] i8 the valid instance that a pixel fits best, -1 where none exceeds floor.

    fit: [K, h, w].   claims: [K], added to fits when they are compared, not at the floor.
    Fits are interpolated, not votes: half-way between two people's cells the mean of their
    votes points at a third place, the mean of their fits does not. A loop with a running
    best: no [K, H, W] array is ever built.
    """

    def step(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        top, owner = best
        here = maps.upsample(fit[k])
        claimed = here + claims[k]
        wins = (claimed > top) & (here > floor) & valid[k]
        return jnp.where(wins, claimed, top), jnp.where(wins, k, owner).astype(jnp.int8)

    shape = (fit.shape[1] * STRIDE, fit.shape[2] * STRIDE)
    start = (jnp.full(shape, -jnp.inf), jnp.full(shape, -1, jnp.int8))
    return jax.lax.fori_loop(0, valid.shape[0], step, start)[1]


def find_boxes(owner: Array, instances: int, quantile: float) -> tuple[Array, Array]:
    """[K, 4] (y0, x0, y1, x1) around each instance's pixels, [K] whether it has any.

    A share `quantile` of the pixels may lie beyond each side: a few stray pixels must
    not ruin a box, for the metric forgives by box overlap.
    """
    ids = jnp.arange(instances, dtype=owner.dtype)
    rows = jax.lax.map(lambda k: (owner == k).sum(1), ids)  # [K, H]
    columns = jax.lax.map(lambda k: (owner == k).sum(0), ids)
    count = rows.sum(1, keepdims=True)
    (y0, y1), (x0, x1) = (ends(sums, count, quantile) for sums in (rows, columns))
    return jnp.stack([y0, x0, y1, x1], -1).astype(jnp.float32), count[:, 0] > 0


def ends(histogram: Array, count: Array, quantile: float) -> tuple[Array, Array]:
    """[K] first and one past the last of rows or columns, a quantile left out on each side.

    histogram: [K, n] pixels, or cells, of a row or column.   count: [K, 1] of all.
    """
    below = jnp.cumsum(histogram, 1)
    first = (below > quantile * count).argmax(1)
    last = (below >= (1 - quantile) * count).argmax(1)
    return first, last + 1


def read_keypoints(logits: Array, belongs: Array) -> Array:
    """[K, 17, 3] (y, x canvas pixels, score): each instance's strongest cell, refined.

    logits: [h, w, 17].   belongs: [K, h, w]. A hidden joint may lie on another person,
    so cells that are not the instance's own still count for a little.
    """
    width = logits.shape[1]
    heat = jax.nn.sigmoid(logits)
    weight = 0.05 + 0.95 * belongs.reshape(len(belongs), -1)

    def one_joint(plane: Array) -> Array:
        cell = (weight * plane.reshape(1, -1)).argmax(1)
        near = maps.shifted(plane, 0.0).reshape(9, -1)[:, cell]  # [9, K]
        near = near / jnp.maximum(near.sum(0), NEAR_ZERO)
        dy, dx = jnp.repeat(jnp.arange(3) - 1, 3), jnp.tile(jnp.arange(3) - 1, 3)
        y = (cell // width + 0.5 + dy @ near) * STRIDE
        x = (cell % width + 0.5 + dx @ near) * STRIDE
        return jnp.stack([y, x, plane.reshape(-1)[cell]], axis=-1)

    return jax.vmap(one_joint, in_axes=-1, out_axes=1)(heat)
