"""Fields of a mirrored image, brought back: what a flip test averages.

A left-right mirror exchanges left and right charts, parts and keypoints, turns U or V of
some charts over and every vote's x around; the rule for U, V is that of anatomy.
"""

import jax
import jax.numpy as jnp

from ktn_jax.anatomy import MIRRORED_CHART, MIRRORED_KEYPOINT, MIRRORED_PART, TURNED_UV
from ktn_jax.structs import Array, Fields


def mirror_fields(fields: Fields) -> Fields:
    """Fields of the image from those of its mirror image, or the other way round."""
    fields = jax.tree.map(lambda x: x[:, :, ::-1], fields)  # every leaf is [B, h, w, ...]
    uv = jnp.where(TURNED_UV, 1 - fields.uv, fields.uv)
    return fields.replace(
        parts=fields.parts[..., MIRRORED_PART],
        chart=fields.chart[..., MIRRORED_CHART],
        uv=uv[..., MIRRORED_CHART, :],
        keypoints=fields.keypoints[..., MIRRORED_KEYPOINT],
        offset=fields.offset * jnp.array([1.0, -1.0]),
    )


def average(one: Fields, other: Fields) -> Fields:
    """The mean of two Fields of one image: logits, not labels."""
    return jax.tree.map(lambda a, b: (a + b) / 2, one, other)


def flip(image: Array) -> Array:
    """The mirror image. image: [B, H, W, 3]."""
    return image[:, :, ::-1]
