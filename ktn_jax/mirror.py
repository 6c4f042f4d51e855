"""Fields of a mirrored image, brought back: what a flip test averages.

A left-right mirror exchanges left and right charts, parts and keypoints, turns U or V of
some charts over and every vote's x around; the rule for U, V is that of anatomy.
"""

import jax
import jax.numpy as jnp

from ktn_jax.anatomy import MIRRORED_CHART, MIRRORED_KEYPOINT, MIRRORED_PART, TURNED_UV
from ktn_jax.structs import Array, Fields

MIRRORED_BOX = (0, 1, 4, 3, 2)  # of Fields.detected


def mirror_fields(fields: Fields) -> Fields:
    """Fields of the image from those of its mirror image, or the other way round."""
    fields = jax.tree.map(lambda x: x[:, :, ::-1], fields)  # every leaf is [B, h, w, ...]
    uv = jnp.where(TURNED_UV, 1 - fields.uv, fields.uv)
    if fields.prior_keypoints is not None:
        sighted = fields.prior_keypoints[..., MIRRORED_KEYPOINT]
        fields = fields.replace(prior_keypoints=sighted)
    if fields.prior_chart is not None:
        chart = fields.prior_chart[..., MIRRORED_CHART[1:] - 1]
        fields = fields.replace(prior_chart=chart)
    if fields.detected is not None:
        fields = fields.replace(detected=fields.detected[..., jnp.array(MIRRORED_BOX)])
    return fields.replace(
        parts=fields.parts[..., MIRRORED_PART],
        chart=fields.chart[..., MIRRORED_CHART],
        uv=uv[..., MIRRORED_CHART, :],
        keypoints=fields.keypoints[..., MIRRORED_KEYPOINT],
        offset=fields.offset * jnp.array([1.0, -1.0]),
    )


def average(one: Fields, other: Fields) -> Fields:
    """The mean of two Fields of one image: logits, not labels; tags [..., T] become 2 T.

    Tags are free: what rises from left to right falls in a mirror, and a mean of both says
    nothing. Side by side their squared distances are the mean of both images'.
    """
    mean = jax.tree.map(lambda a, b: (a + b) / 2, one, other)
    return mean.replace(tag=jnp.sqrt(0.5) * jnp.concatenate([one.tag, other.tag], axis=-1))


def flip(image: Array) -> Array:
    """The mirror image. image: [B, H, W, 3]."""
    return image[:, :, ::-1]
