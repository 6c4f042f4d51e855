"""Flat things in perspective: a picture with depth, on which panels are drawn.

One idea: ground, walls, boxes, trees, sticks and photographs cut out are all rectangles
in space with something painted on them, so that one rule decides what hides what.
Frame: camera, metres, x right, y down, z away; the world stands on a ground plane.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from ktn_jax.data.render import FLIP, Camera
from ktn_jax.data.textures import Texture

_NEAR, _FAR = 0.05, 3000.0  # metres; nothing nearer or further is drawn
# (u, v, footprint of a pixel), each [k] metres -> colours [k, 3], opacity [k]
Paint = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class View(NamedTuple):
    """A camera that stands over level ground."""

    camera: Camera
    right: np.ndarray  # [3] unit, level
    up: np.ndarray  # [3] unit
    ahead: np.ndarray  # [3] unit, level
    height: float  # metres over the ground

    def place(self, right: float, up: float, ahead: float) -> np.ndarray:
        """The camera point at world metres; up counts from the ground. [3]."""
        up = up - self.height
        return right * self.right + up * self.up + ahead * self.ahead


class Panel(NamedTuple):
    """A rectangle in space, seen from both sides."""

    origin: np.ndarray  # [3] its first corner
    across: np.ndarray  # [3] unit
    down: np.ndarray  # [3] unit, at a right angle
    width: float  # metres; inf for a plane that never ends
    height: float
    paint: Paint
    hides: bool = True  # whether it can hide people


class Canvas:
    """A picture under construction: colours, and how far away they are."""

    def __init__(self, camera: Camera, image: np.ndarray) -> None:
        """image: [size, size, 3] f32 of what lies infinitely far away."""
        self.camera, self.image = camera, image.astype(np.float32)
        self.depth = np.full(image.shape[:2], np.inf, np.float32)
        self.hides = np.zeros(image.shape[:2], bool)
        line = (np.arange(camera.size, dtype=np.float32) + 0.5 - camera.size / 2) / (
            camera.focal
        )
        self.x, self.y = line[None, :], line[:, None]  # rays are (x, y, 1)

    def draw(self, panel: Panel) -> None:
        """Paints a panel where nothing nearer is. Edges are smooth."""
        rows, columns = self._window(panel)
        x, y = self.x[:, columns], self.y[rows]
        if not x.size or not y.size:
            return
        normal = np.cross(panel.across, panel.down).astype(np.float32)
        slope = normal[0] * x + normal[1] * y + normal[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(panel.origin @ normal) / slope
        u = depth * _dot(panel.across, x, y) - np.float32(panel.origin @ panel.across)
        v = depth * _dot(panel.down, x, y) - np.float32(panel.origin @ panel.down)
        known = self.depth[rows, columns]
        footprint = depth / np.float32(self.camera.focal)
        slack = footprint / 2
        met = (depth > _NEAR) & (depth < np.minimum(known, _FAR))
        if np.isfinite(panel.width):
            met &= (u > -slack) & (u < panel.width + slack)
        if np.isfinite(panel.height):
            met &= (v > -slack) & (v < panel.height + slack)
        row, column = np.nonzero(met)
        if not len(row):
            return
        u, v, footprint = u[row, column], v[row, column], footprint[row, column]
        color, cover = panel.paint(u, v, footprint)
        cover = cover * _covered(u, panel.width, footprint)
        cover = cover * _covered(v, panel.height, footprint)
        depth = depth[row, column]
        row, column = row + rows.start, column + columns.start
        old = self.image[row, column]
        self.image[row, column] = old + cover[:, None] * (color - old)
        solid = cover > 0.5
        row, column = row[solid], column[solid]
        self.depth[row, column] = depth[solid]
        self.hides[row, column] = panel.hides

    def barrier(self) -> np.ndarray:
        """Depth of what can hide people; inf elsewhere. [size, size] f32."""
        return np.where(self.hides, self.depth, np.float32(np.inf))

    def _window(self, panel: Panel) -> tuple[slice, slice]:
        """Rows and columns that a panel may touch."""
        size = self.camera.size
        whole = slice(0, size)
        if not np.isfinite(panel.width + panel.height):
            return whole, whole
        side, fall = panel.across * panel.width, panel.down * panel.height
        corners = panel.origin + np.stack([0 * side, side, fall, side + fall])
        if corners[:, 2].max() < _NEAR:
            return slice(0, 0), slice(0, 0)
        if corners[:, 2].min() < _NEAR:
            return whole, whole
        seen = self.camera.project(corners)
        low = np.clip(np.floor(seen.min(0)) - 1, 0, size).astype(int)
        high = np.clip(np.ceil(seen.max(0)) + 1, 0, size).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1])


def world_view(camera: Camera, tilt: Rotation, height: float) -> View:
    """A view whose upright things are turned by `tilt`, a rotation in the Y-up frame."""
    right, up, ahead = (FLIP @ tilt.as_matrix() @ np.diag([1, 1, -1])).T
    return View(camera, right, up, ahead, height)


def plain_paint(texture: Texture, light: np.ndarray) -> Paint:
    """Paint of a texture under light. light: [3] or a number."""
    light = np.asarray(light, np.float32)

    def paint(u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple:
        return texture.look_up(u, v, footprint) * light, np.ones(len(u), np.float32)

    return paint


def cut_paint(
    texture: Texture, mask: np.ndarray, size: tuple[float, float], light: np.ndarray
) -> Paint:
    """Paint of a texture through a mask. mask: [m, n] 0..1.  size: (height, width)."""
    whole = plain_paint(texture, light)

    def paint(u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple:
        color, _ = whole(u, v, footprint)
        # one step of a fine mask may be much smaller than a pixel
        steps = float(footprint.min()) * min(
            mask.shape[0] / size[0], mask.shape[1] / size[1]
        )
        fit = mask
        if steps >= 2:
            fit = np.asarray(Image.fromarray(mask).reduce(min(int(steps), *mask.shape)))
        return color, fit[_cells(u, v, size, fit.shape)]

    return paint


def image_paint(image: np.ndarray, size: tuple[float, float], light: np.ndarray) -> Paint:
    """Paint of an image that fills a panel. image: [h, w, 4] u8.  size: metres."""
    light = np.asarray(light, np.float32) / 255

    def paint(u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple:
        texel = image[_cells(u, v, size, image.shape[:2])].astype(np.float32)
        return texel[:, :3] * light, texel[:, 3] / 255

    return paint


def box_panels(
    view: View,
    middle: tuple[float, float],
    size: tuple[float, float, float],
    *,
    yaw: float,
    paint: Callable[[np.ndarray], Paint],
    lift: float = 0.0,
) -> list[Panel]:
    """Faces of a box on the ground that can be seen.

    middle: (right, ahead) metres.   size: (width, height, depth).   yaw: radians.
    paint: of a face's outward normal [3].   lift: metres over the ground.
    """
    across = np.cos(yaw) * view.right + np.sin(yaw) * view.ahead
    inward = np.cos(yaw) * view.ahead - np.sin(yaw) * view.right
    width, height, depth = size
    foot = view.place(middle[0], lift, middle[1])
    panels = []
    sides = ((across, inward, width, depth), (inward, -across, depth, width))
    for along, back, wide, deep in sides:
        for sign in (1, -1):
            normal = -sign * back
            corner = foot + normal * deep / 2 - sign * along * wide / 2
            if normal @ corner < 0:
                corner = corner + view.up * height
                turned = sign * along
                panels.append(Panel(corner, turned, -view.up, wide, height, paint(normal)))
    for normal, level in ((view.up, height), (-view.up, 0.0)):
        corner = foot + view.up * level - across * width / 2 - inward * depth / 2
        if normal @ corner < 0:
            panels.append(Panel(corner, across, inward, width, depth, paint(normal)))
    return panels


def _dot(direction: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rays (x, y, 1) along a direction."""
    a, b, c = direction.astype(np.float32)
    return a * x + b * y + c


def _covered(at: np.ndarray, length: float, footprint: np.ndarray) -> np.ndarray:
    """Share of a pixel of width `footprint` at a place that lies in [0, length]. [k]."""
    start = np.clip(at / footprint + 0.5, 0, 1)
    if not np.isfinite(length):
        return np.ones_like(start)
    return start - np.clip((at - length) / footprint + 0.5, 0, 1)


def _cells(
    u: np.ndarray, v: np.ndarray, size: tuple[float, float], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a grid that fills a panel. size: (height, width) metres."""
    row = np.clip(v * (shape[0] / size[0]), 0, shape[0] - 1).astype(np.int32)
    column = np.clip(u * (shape[1] / size[1]), 0, shape[1] - 1).astype(np.int32)
    return row, column
