"""What crosses jit: fixed-size arrays with validity masks. Read this file first.

Letters: B images, H W canvas pixels, h w = H/4 W/4 field cells, N annotated points,
P people (padded), K decoded instances (padded).
Frame: canvas pixels, (y, x) order, pixel centres at +0.5, origin top left; the centre of
cell (i, j) lies at ((i + 0.5) * STRIDE, (j + 0.5) * STRIDE).
chart = one of 24 surface charts, part = one of 14 body parts, 0 is background in both;
person = annotated, instance = decoded. Padded slots hold zeros and nothing may read them.
"""

from typing import Any

import jax
from flax import struct

Array = jax.Array
Params = Any  # a tree of arrays


@struct.dataclass
class Targets:
    """What the losses compare Fields with; made by codec.encode on the host."""

    points_yx: Array  # [B, N, 2] f32 canvas pixels
    points_chart: Array  # [B, N] i32 1..24, 0 where padded
    points_uv: Array  # [B, N, 2] f32 in [0, 1]
    points_valid: Array  # [B, N] bool
    mask: Array  # [B, h, w] f32 share of the cell that people cover
    mask_valid: Array  # [B, h, w] bool; False on crowds and beyond the image's border
    parts: Array  # [B, h, w] i32 0..14, 255 unknown
    keypoints: Array  # [B, h, w, 17] f32 heat-maps in [0, 1]
    keypoints_valid: Array  # [B, h, w] bool; False on crowds, un-annotated people
    center: Array  # [B, h, w] f32 heat-map, exactly 1 at a person's anchor cell
    owner: Array  # [B, h, w] i32 0..P-1: person seen in the cell, -1 none
    anchors: Array  # [B, P, 2] f32 canvas pixels: the point a person's pixels vote for
    boxes: Array  # [B, P, 4] f32 canvas pixels (y0, x0, y1, x1) of the visible pixels
    people_valid: Array  # [B, P] bool


@struct.dataclass
class Batch:
    """One global batch."""

    image: Array  # [B, H, W, 3] u8 RGB; the network normalises
    valid: Array  # [B] bool; False pads the last batch of an evaluation
    image_id: Array  # [B] i64
    to_image: Array  # [B, 2, 2] f64 (scale, shift) x (y, x): canvas -> image pixels
    targets: Targets | None


@struct.dataclass
class Fields:
    """The network's dense output at stride 4, float32."""

    mask: Array  # [B, h, w] logit: a person
    parts: Array  # [B, h, w, 15] logits
    chart: Array  # [B, h, w, 25] logits
    uv: Array  # [B, h, w, 25, 2] for each chart; row 0 is never read
    keypoints: Array  # [B, h, w, 17] logits
    center: Array  # [B, h, w] logit: an anchor lies here
    offset: Array  # [B, h, w, 2] canvas pixels to the own person's anchor
    bandwidth: Array  # [B, h, w] tau; sigma = BANDWIDTH * exp(tau) canvas pixels
    tag: Array  # [B, h, w, T] free instance tag
    quality: Array  # [B, h, w] logit of the mask IoU, read at the anchor
    # [B, h, w, 17] logits: keypoints as model.prior's own head sees them; None: not there
    prior_keypoints: Array | None = None
    # [B, h, w] logit: a person, from the prior's maps alone; None: not there
    prior_mask: Array | None = None
    # [B, h, w, 24] logits of charts 1 to 24, from the prior's maps and keypoints; None:
    # not there
    prior_chart: Array | None = None
    # [B, h, w, 3, 5] people as model.detector sees them, at its strides 8, 16, 32: logit,
    # and how far the box reaches up, left, down, right of the cell's centre in canvas
    # pixels; None: not there
    detected: Array | None = None


@struct.dataclass
class Mean:
    """A loss or metric term before its division: add, then divide once."""

    total: Array
    count: Array


@struct.dataclass
class Instances:
    """People found on a canvas; made by codec.decode inside jit."""

    valid: Array  # [B, K] bool
    score: Array  # [B, K] f32 in [0, 1]
    quality: Array  # [B, K] f32 in [0, 1]
    box: Array  # [B, K, 4] f32 canvas pixels (y0, x0, y1, x1)
    keypoints: Array  # [B, K, 17, 3] f32 (y, x canvas pixels, score in [0, 1])
    owner: Array  # [B, H, W] i8 instance of a canvas pixel, -1 none
    chart: Array  # [B, H, W] u8 0..24, 0 where nobody is
    uv: Array  # [B, H, W, 2] u8: 255 U, 255 V
    parts: Array  # [B, H, W] u8 0..14
    tag: Array | None = None  # [B, K, T] f32; None: not known
    # [B, H, W] u8: 255 P(somebody is here, and of this chart); None: not known
    confidence: Array | None = None


@struct.dataclass
class TrainState:
    """All that training changes, and the frozen part it needs."""

    step: Array  # i32, number of finished steps
    params: Params
    frozen: Params  # frozen norms of a pretrained backbone; {} without
    ema: Params  # running average of params; {} when off
    opt_state: Any  # optax's
