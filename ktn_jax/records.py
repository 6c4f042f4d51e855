"""What passes between rooms on the host: ragged numpy records, no jax.

Frame: absolute pixels of the image (or of the canvas, once transformed), (y, x) order in
arrays, pixel centres at +0.5. chart = one of 24 surface charts (dp_I, 0 background);
part = one of 14 body parts (dp_masks); person = annotated, instance = decoded.
"""

from typing import NamedTuple

import numpy as np

from ktn_jax.geometry import Affine


class Points(NamedTuple):
    """Annotated surface points of one person, a row each."""

    yx: np.ndarray  # [n, 2] f32 pixels
    chart: np.ndarray  # [n] i32 1..24
    uv: np.ndarray  # [n, 2] f32 in [0, 1]


class Person(NamedTuple):
    """One annotated person."""

    id: int  # annotation id
    bbox: np.ndarray  # [4] f32 (x, y, width, height)
    area: float  # px^2, as annotated
    crowd: bool  # a region of many people: nothing is learnt inside it
    mask: np.ndarray  # [H, W] bool
    keypoints: np.ndarray | None  # [17, 3] f32 (y, x, 0 absent | 1 hidden | 2 visible)
    points: Points | None  # None: no DensePose on this person (ignored, not background)
    parts: np.ndarray | None  # [H, W] u8 0..14, 255 unknown; None without dp_masks


class Example(NamedTuple):
    """One image and its people."""

    image_id: int
    image: np.ndarray  # [H, W, 3] u8 RGB
    people: tuple[Person, ...]
    to_image: Affine  # pixels of this example -> pixels of the file's image


class Prediction(NamedTuple):
    """One person found, in pixels of the file's image."""

    image_id: int
    bbox: np.ndarray  # [4] i32 (x, y, width, height), equal to the size of iuv
    score: float  # in [0, 1]
    quality: float  # predicted mask IoU, in [0, 1]
    iuv: np.ndarray  # [height, width, 3] u8: chart (0 not this person), 255 U, 255 V
    parts: np.ndarray  # [height, width] u8 0..14
    keypoints: np.ndarray  # [17, 3] f32 (y, x, score in [0, 1])
    # [height, width] u8: 255 P(the chart is right), 0 not this person; None: not known
    confidence: np.ndarray | None = None
    tag: np.ndarray | None = None  # [T] f32 what tells people apart; None: not known
    track: int = 0  # the same along a video, from 1; 0: a photograph

    @property
    def chart(self) -> np.ndarray:
        """[height, width] u8 chart of each pixel of the box, 0 not this person."""
        return self.iuv[..., 0]

    @property
    def uv(self) -> np.ndarray:
        """[height, width, 2] f32 U, V in [0, 1]."""
        return self.iuv[..., 1:].astype(np.float32) / 255

    @property
    def mask(self) -> np.ndarray:
        """[height, width] bool whether a pixel of the box is this person's."""
        return self.iuv[..., 0] > 0
