"""What the prior and the detector say of people, and how far it is heeded. Ours.

Both were trained on photographs, our own maps on rendered people: where they differ, theirs
is often the better eye on photographs (benchmarks/runs.md). Arrays of a single image are
without batch axis, as in grouping.
"""

import jax
import jax.numpy as jnp

from ktn_jax import grouping, maps
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE
from ktn_jax.grouping import NEAR_ZERO
from ktn_jax.structs import Fields

Array = jax.Array

CONFIRMING, CONFIRMED = 5, 0.3  # keypoints; their mean from which on a score stays
DETECTED = 0.5  # a box's probability times its overlap from which on it is a person's
COVERED = 0.3  # probability of a box from which on what it holds may be a person
NO_COVER = 0.02  # of what no box holds


def heed(
    fields: Fields, *, prior_mask: float, prior_chart: float, detector_mask: float
) -> Fields:
    """A batch's Fields with what prior and detector say of mask and charts.

    Arguments are fields of config.codec; UserError where the network lacks what one needs.
    """
    shares = (("prior_mask", "mask", prior_mask), ("prior_chart", "chart", prior_chart))
    for name, own, share in shares:
        if not share:
            continue
        first, second = getattr(fields, own), getattr(fields, name)
        if second is None:
            raise UserError(
                f"codec.{name}={share} needs what is told from the prior's maps alone, and "
                f"this network does not; train it with --config.model.{name}=96, or set "
                f"codec.{name} to 0"
            )
        if own == "chart":  # the background's logit is nobody else's
            second = jnp.concatenate([first[..., :1], second], axis=-1)
        fields = fields.replace(**{own: first + share * (second - first)})
    if not detector_mask:
        return fields
    falls = detector_mask * jax.vmap(outside)(boxes_of(fields))
    return fields.replace(mask=fields.mask - falls)


def keypoints_of(fields: Fields) -> Array:
    """[..., h, w, 17] logits that the prior sees; UserError where there are none."""
    if fields.prior_keypoints is None:
        raise UserError(
            "codec.prior_score needs the keypoints that a network's prior sees, and "
            "this one has none; set --config.model.prior_keypoints=True (an export: "
            "--prior-keypoints=FILE), or prior_score=false"
        )
    return fields.prior_keypoints


def boxes_of(fields: Fields) -> Array:
    """[..., h, w, 3, 5], see Fields.detected; UserError where no detector is."""
    if fields.detected is None:
        raise UserError(
            "codec.detector_score and detector_mask need a network with a detector, and "
            "this one has none; set --config.model.detector=nanodet_g (an export: "
            "--detector=FILE), or detector_score=false and detector_mask=0"
        )
    return fields.detected


def confirm(score: Array, sighted: Array, belongs: Array) -> Array:
    """[K] scores, lowered where the prior does not see keypoints too.

    score: [K].   sighted: [h, w, 17] logits.   belongs: [K, h, w]. The seeing is the mean
    of the CONFIRMING surest keypoints among an instance's own cells; below CONFIRMED a
    score falls in proportion. What was trained on photographs is harder to deceive by a
    chair.
    """
    heat = jax.nn.sigmoid(sighted)
    own = belongs > 0.5

    def surest(plane: Array) -> Array:
        return jnp.where(own, plane, 0).max((1, 2))

    each = jax.lax.map(surest, jnp.moveaxis(heat, -1, 0))  # [17, K]
    seen = jax.lax.top_k(each.T, CONFIRMING)[0].mean(-1)
    return score * jnp.minimum(seen / CONFIRMED, 1)


def detect(score: Array, detected: Array, belongs: Array, quantile: float) -> Array:
    """[K] roots of scores, lowered where the detector sees no such person.

    score: [K].   detected: [h, w, 3, 5], see Fields.   belongs: [K, h, w].   quantile: of
    grouping.ends. The seeing is the largest product of a box's probability and its IoU
    with the box around an instance's own cells; below DETECTED a score falls in
    proportion. A root, for what the detector confirms our own maps need not be sure of.
    """
    height, width = belongs.shape[1:]
    centers = maps.cell_centers(height, width)[:, :, None]
    last = jnp.array([height, width]) * STRIDE
    low = jnp.clip(centers - detected[..., 1:3], 0, last)
    high = jnp.clip(centers + detected[..., 3:5], 0, last)
    own = belongs > 0.5
    count = own.sum((1, 2))[:, None]
    (y0, y1), (x0, x1) = (grouping.ends(own.sum(axis), count, quantile) for axis in (2, 1))
    start, stop = (STRIDE * jnp.stack(yx, -1) for yx in ((y0, x0), (y1, x1)))

    def surest(box: tuple[Array, Array]) -> Array:
        sides = jnp.minimum(box[1], high) - jnp.maximum(box[0], low)
        shared = jnp.maximum(sides, 0).prod(-1)
        union = (high - low).prod(-1) + (box[1] - box[0]).prod() - shared
        return (jax.nn.sigmoid(detected[..., 0]) * shared / (union + NEAR_ZERO)).max()

    seen = jnp.where(count[:, 0] > 0, jax.lax.map(surest, (start, stop)), 0.0)
    return jnp.sqrt(score) * jnp.minimum(seen / DETECTED, 1)


def outside(detected: Array) -> Array:
    """[h, w] log(COVERED / p) >= 0, p the surest box that holds a cell's centre.

    detected: [h, w, 3, 5], see Fields; of each level's own cells one in the middle is read.
    """
    height, width = detected.shape[:2]
    centers = maps.cell_centers(height, width)
    sure, low, high = [], [], []
    for level in range(detected.shape[2]):
        own = (slice(1 << level, None, 2 << level),) * 2
        one = detected[*own, level]
        sure.append(jax.nn.sigmoid(one[..., 0]).reshape(-1))
        low.append((centers[own] - one[..., 1:3]).reshape(-1, 2))
        high.append((centers[own] + one[..., 3:5]).reshape(-1, 2))
    sure, low, high = (jnp.concatenate(x) for x in (sure, low, high))
    rows, columns = centers[:, 0, 0], centers[0, :, 1]
    holds = ((low[:, :1] < rows) & (rows < high[:, :1]))[:, :, None] & (
        (low[:, 1:] < columns) & (columns < high[:, 1:])
    )[:, None]
    cover = jnp.where(holds, sure[:, None, None], 0.0).max(0)
    return jnp.maximum(jnp.log(COVERED / jnp.maximum(cover, NO_COVER)), 0)
