"""Pictures of predictions: the IUV image, and charts and people drawn over a photograph."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ktn_jax.anatomy import NUM_CHARTS, SKELETON
from ktn_jax.records import Prediction

Rgb = np.ndarray

OPACITY = 0.65  # of charts over the photograph
KEYPOINT_SHOWN = 0.2  # score below which a joint is not drawn


@functools.cache
def chart_colors() -> Rgb:
    """[25, 3] u8: hues go round the body; the two charts of a limb differ in brightness."""
    import colorsys

    colors = [(0.0, 0.0, 0.0)]
    for chart in range(1, NUM_CHARTS):
        hue = (chart - 1) / (NUM_CHARTS - 1)
        colors.append(colorsys.hsv_to_rgb(hue, 0.75, 1.0 if chart % 2 else 0.75))
    return (np.array(colors) * 255).round().astype(np.uint8)


def full_iuv(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] u8 (chart, 255 U, 255 V) of a whole image. size: (H, W).

    No two people share a pixel, so their order does not matter.
    """
    iuv = np.zeros((*size, 3), np.uint8)
    for person in people:
        x, y, w, h = person.bbox
        seen = person.iuv[..., 0] > 0
        iuv[y : y + h, x : x + w][seen] = person.iuv[seen]
    return iuv


def overlay(image: Rgb, people: Sequence[Prediction]) -> Rgb:
    """The photograph in grey with charts in colour, U V shading, boxes and skeletons.

    image: [H, W, 3] u8 RGB. Returns the same shape.
    """
    iuv = full_iuv(people, image.shape[:2])
    grey = image.mean(-1, keepdims=True).repeat(3, axis=-1)
    shade = 0.55 + 0.45 * iuv[..., 1:].mean(-1, keepdims=True) / 255
    color = chart_colors()[iuv[..., 0]] * shade
    seen = iuv[..., :1] > 0
    mixed = np.where(seen, (1 - OPACITY) * grey + OPACITY * color, grey)
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for person in people:
        _draw_person(draw, person)
    return np.asarray(picture)


def _draw_person(draw: ImageDraw.ImageDraw, person: Prediction) -> None:
    x, y, w, h = (int(v) for v in person.bbox)
    draw.rectangle((x, y, x + w - 1, y + h - 1), outline=(255, 255, 255))
    number = f"{person.track}: " if person.track else ""
    draw.text((x + 2, y + 1), f"{number}{person.score:.2f}", fill=(255, 255, 255))
    for a, b in SKELETON:
        first, second = person.keypoints[a - 1], person.keypoints[b - 1]
        if min(first[2], second[2]) >= KEYPOINT_SHOWN:
            draw.line((first[1], first[0], second[1], second[0]), fill=(255, 255, 255))
