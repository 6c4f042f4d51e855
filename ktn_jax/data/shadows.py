"""Shadows of bodies on the ground, and the dark in creases.

One idea: a body's vertices lie so close that thrown onto the ground along the light they
are its shadow; nothing has to be traced.
"""

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from ktn_jax.data.canvas import View
from ktn_jax.data.lights import Light

_COARSE = 2  # pixels a side of a shadow's cell
_TOUCH = 0.35  # metres over the ground within which a body darkens it


def ground_shade(view: View, light: Light, bodies: np.ndarray) -> np.ndarray:
    """How much of the light on the ground bodies leave. [size, size] f32 in 0..1.

    bodies: [people, n, 3] camera metres.
    """
    points = bodies.reshape(-1, 3)[::2]
    over = points @ view.up + view.height
    soft = view.camera.size * (0.006 if light.shadow > 0.6 else 0.02)
    shade = np.ones((view.camera.size,) * 2, np.float32)
    direct = light.lamps.mean(1)
    shares = light.shadow * direct / max(direct.sum() + light.sky.mean(), 1e-6)
    for direction, share in zip(light.directions, shares, strict=True):
        slope = direction @ view.up
        if share > 0.05 and slope > 0.12:
            thrown = points - (over / slope)[:, None] * direction
            shade -= np.float32(share) * _splat(view, thrown, soft)
    low = points[over < _TOUCH]
    under = low - (low @ view.up + view.height)[:, None] * view.up
    return shade * (1 - 0.45 * _splat(view, under, 0.012 * view.camera.size))


def creases(depth: np.ndarray) -> np.ndarray:
    """How much light from all around reaches each pixel's surface, 0.6..1.

    depth: [h, w] metres, inf where nothing is. What lies deeper than what is beside it
    gets less.
    """
    known = np.isfinite(depth)
    size = max(3, len(depth) // 24 | 1)
    filled = np.where(known, depth, 0).astype(np.float32)
    total = ndimage.uniform_filter(filled, size, mode="constant")
    share = ndimage.uniform_filter(known.astype(np.float32), size, mode="constant")
    deeper = filled - total / np.maximum(share, 1e-3)
    return 1 - 0.4 * np.clip(deeper / 0.15, 0, 1) * known


def _splat(view: View, points: np.ndarray, blur: float) -> np.ndarray:
    """Where points of the ground are seen, blurred. [size, size] f32 in 0..1."""
    size = view.camera.size
    cells = -(-size // _COARSE)
    points = points[points[:, 2] > 0.1]
    row, column = (view.camera.project(points) / _COARSE).astype(int).T
    inside = (row >= 0) & (row < cells) & (column >= 0) & (column < cells)
    grid = np.zeros((cells, cells), np.uint8)
    grid[row[inside], column[inside]] = 255
    image = Image.fromarray(grid).filter(ImageFilter.MaxFilter(3))
    image = image.filter(ImageFilter.GaussianBlur(blur / _COARSE + 0.3))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / 255
