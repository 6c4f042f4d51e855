"""Pictures in the colours that image generators and try-on models were trained on.

All of them are one rule, detectron2's: a plane of the IUV image, scaled to 0..255 and
truncated, goes through a colour map and is blended over a canvas where somebody is.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.formats.colormaps import PARULA, VIRIDIS
from ktn_jax.pictures import full_iuv
from ktn_jax.records import Prediction

OPACITY = 0.7  # detectron2's
CONTOURS = 10  # steps of U and of V between lines
_SCALE = {"I": 255 / (NUM_CHARTS - 1), "U": 1.0, "V": 1.0}  # of a plane of bytes


def colored(
    canvas: np.ndarray,
    people: Sequence[Prediction],
    *,
    plane: str,
    colors: np.ndarray,
    opacity: float,
) -> np.ndarray:
    """[H, W, 3] u8: one plane in colour over a canvas.

    canvas: [H, W, 3] u8.   plane: "I", "U" or "V".   colors: [256, 3] u8.
    """
    iuv = full_iuv(people, canvas.shape[:2])
    value = (iuv[..., "IUV".index(plane)] * np.float32(_SCALE[plane])).astype(np.uint8)
    mixed = (canvas * (1 - opacity) + colors[value] * opacity).astype(np.uint8)
    return np.where(iuv[..., :1] > 0, mixed, canvas)


def grey(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] u8 of equal channels: the photograph's luma (ITU-R 601)."""
    luma = np.asarray(Image.fromarray(image).convert("L"))
    return luma[..., None].repeat(3, axis=-1)


def over_grey(
    image: np.ndarray, people: Sequence[Prediction], *, plane: str, colors: np.ndarray
) -> np.ndarray:
    """detectron2's dp_segm, dp_u, dp_v: a plane at 0.7 over the grey photograph."""
    return colored(grey(image), people, plane=plane, colors=colors, opacity=OPACITY)


def magic_animate(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] u8 as vid2densepose makes them: viridis at 0.7 over viridis(0)."""
    return colored(
        _filled(size, VIRIDIS[0]), people, plane="I", colors=VIRIDIS, opacity=OPACITY
    )


def controlnet(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] u8 as controlnet_aux makes them: opaque viridis over viridis(0)."""
    return colored(
        _filled(size, VIRIDIS[0]), people, plane="I", colors=VIRIDIS, opacity=1.0
    )


def viton(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] u8 as in VITON-HD's image-densepose: opaque parula over black."""
    return colored(_filled(size, (0, 0, 0)), people, plane="I", colors=PARULA, opacity=1.0)


def contour(image: np.ndarray, people: Sequence[Prediction]) -> np.ndarray:
    """[H, W, 3] u8: lines of equal U and of equal V, in parula, over the photograph.

    A pixel is on a line where U (or V) passes a tenth between it and the next pixel to
    the right or below that shows the same chart of the same person.
    """
    drawn = image.copy()
    for person in people:
        x, y, width, height = person.bbox
        box = drawn[y : y + height, x : x + width]
        for plane in (1, 2):
            step = person.iuv[..., plane].astype(int) * CONTOURS // 256
            level = _crossed(step, person.iuv[..., 0])
            on = level > 0
            box[on] = PARULA[level[on] * 255 // CONTOURS]
    return drawn


def _crossed(step: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """[h, w] the step entered between a pixel and its next ones; 0 where none is."""
    level = np.zeros(step.shape, int)
    for axis in (0, 1):
        here, there = (
            np.s_[:-1, :] if axis == 0 else np.s_[:, :-1],
            np.s_[1:, :] if axis == 0 else np.s_[:, 1:],
        )
        same = (chart[here] == chart[there]) & (chart[here] > 0)
        passed = same & (step[here] != step[there])
        higher = np.where(passed, np.maximum(step[here], step[there]), 0)
        level[here] = np.maximum(level[here], higher)
    return level


def _filled(size: tuple[int, int], color: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.full((*size, 3), color, np.uint8)
