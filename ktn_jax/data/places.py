"""Rooms, streets and open country, built of panels.

Frame: as in canvas. People's spots stay free.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ktn_jax.data.canvas import (
    Canvas,
    Paint,
    Panel,
    View,
    box_panels,
    cut_paint,
    image_paint,
    plain_paint,
)
from ktn_jax.data.lights import Light
from ktn_jax.data.photographs import sample_cutout
from ktn_jax.data.sites import Site, level_texture, light_on, mute, thing_texture
from ktn_jax.data.textures import Texture, noise, sample_texture


class Block(NamedTuple):
    """A box of a thing that stands on the ground; metres."""

    right: float  # from the thing's middle
    ahead: float
    wide: float
    high: float
    deep: float
    lift: float = 0.0


def build_room(canvas: Canvas, site: Site) -> None:
    """Floor, walls and ceiling around people and camera, with furniture."""
    rng, view, light, photos, spots = site
    _ground(canvas, view, light, level_texture(rng, "floor", photos))
    yaw = rng.normal(0, 0.5)
    across = np.cos(yaw) * view.right + np.sin(yaw) * view.ahead
    inward = np.cos(yaw) * view.ahead - np.sin(yaw) * view.right
    turned = spots @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    right = max(turned[:, 0].max(), 0) + 0.5 + rng.gamma(1.5, 1.2)
    left = min(turned[:, 0].min(), 0) - 0.5 - rng.gamma(1.5, 1.2)
    back = max(turned[:, 1].max(), 0) + 0.5 + rng.gamma(1.5, 1.2)
    high = max(rng.uniform(2.3, 3.6), view.height + 0.4)
    wall = sample_texture(rng, "clouds clouds clouds bricks planks tiles cloth", 0.01)
    wall = mute(wall, rng)
    top = view.place(0, high, 0)
    ceiling = plain_paint(
        wall._replace(colors=0.8 + 0.1 * wall.colors), light_on(light, -view.up) + 0.2
    )
    canvas.draw(Panel(top, across, inward, np.inf, np.inf, ceiling, hides=False))
    walls = (
        (top + across * left + inward * back, across, right - left, -inward),
        (top + across * left - inward * 4, inward, back + 4, across),
        (top + across * right + inward * back, -inward, back + 4, -across),
    )
    for corner, along, wide, normal in walls:
        glow = light_on(light, normal) * rng.uniform(0.8, 1.1)
        paint = plain_paint(wall, glow)
        panel = Panel(corner, along, -view.up, wide, high, paint, hides=False)
        canvas.draw(panel)
        for _ in range(rng.poisson(0.6 * wide / 2)):
            _hang(canvas, site, wall=panel, normal=normal, glow=glow)
    for _ in range(rng.integers(0, 9)):
        at = rng.uniform([left, 0.5], [right, back])
        at = at @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        turn = yaw + rng.choice([0, 0, np.pi / 2, np.pi, rng.uniform(0, 6)])
        _stand(canvas, site, _sample_furniture(rng), at=at, yaw=turn)


def _sample_furniture(rng: np.random.Generator) -> list[Block]:
    """A table, chair, sofa, shelf or box, perhaps with something on it."""
    wide, deep, high = rng.uniform([0.4, 0.35, 0.3], [1.8, 0.9, 1.1])
    leg = rng.uniform(0.02, 0.06)
    match rng.integers(6):
        case 0:
            high = rng.uniform(0.4, 1.0)
            blocks = [*_legs(wide, deep, leg, high), Block(0, 0, wide, 0.04, deep, high)]
        case 1:  # a chair: seat, back, legs
            wide, high = rng.uniform(0.35, 0.5), rng.uniform(0.4, 0.5)
            blocks = [*_legs(wide, wide, leg, high), Block(0, 0, wide, 0.04, wide, high)]
            blocks.append(Block(0, wide / 2, wide, rng.uniform(0.3, 0.6), 0.03, high))
        case 2:  # a sofa
            wide = rng.uniform(0.8, 2.2)
            blocks = [Block(0, 0, wide, 0.42, 0.8), Block(0, 0.35, wide, 0.45, 0.2, 0.42)]
            blocks += [Block(x * wide / 2, 0, 0.18, 0.6, 0.8) for x in (-1, 1)]
            return blocks
        case 3:  # a cupboard
            high = rng.uniform(1.1, 2.1)
            blocks = [Block(0, 0, min(wide, 1.2), high, 0.45)]
        case 4:  # a lamp or a plant: a stem with a top
            high = rng.uniform(0.5, 1.6)
            blocks = [Block(0, 0, leg, high, leg), Block(0, 0, 0.3, 0.3, 0.3, high)]
        case _:
            blocks = [Block(0, 0, wide, high, deep)]
    top = blocks[-1].lift + blocks[-1].high
    for _ in range(rng.integers(0, 3)):
        x, size = rng.uniform(-0.4, 0.4) * wide, rng.uniform(0.05, 0.3, 3)
        blocks.append(Block(x, 0, *size, top))
    return blocks


def _legs(wide: float, deep: float, leg: float, high: float) -> list[Block]:
    """Four legs under a top."""
    return [
        Block(x * (wide - leg) / 2, z * (deep - leg) / 2, leg, high, leg)
        for x in (-1, 1)
        for z in (-1, 1)
    ]


def _hang(
    canvas: Canvas, site: Site, *, wall: Panel, normal: np.ndarray, glow: np.ndarray
) -> None:
    """A picture, window, door or shelf on a wall, with a frame."""
    rng, view, _, photos, _ = site
    width, height = rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.3)
    at = rng.uniform(0, max(wall.width - width, 0.1))
    drop = rng.uniform(0.2, wall.height - 0.9)
    if rng.random() < 0.3:  # a door or a cupboard: down to the floor
        height = min(rng.uniform(1.6, 2.2), wall.height - 0.1)
        drop, width = wall.height - height, rng.uniform(0.7, 1.4)
    if rng.random() < 0.4:
        texture = sample_texture(rng, "shelves shelves glyphs windows", width / 256)
    else:
        texture = thing_texture(rng, photos, width / 250)
    shine = glow * rng.uniform(0.6, 1.1)
    if rng.random() < 0.25:  # a window or a screen: it shines of itself
        shine = rng.uniform(0.8, 1.6, 3).clip(None, 1.5)
    frame = sample_texture(rng, "clouds planks", 0.01)
    along, up = wall.across, view.up
    place = wall.origin + along * at - up * drop
    for edge, paint in ((0.04, plain_paint(frame, glow)), (0, plain_paint(texture, shine))):
        start = place + normal * (0.02 - edge / 4) + (up - along) * edge
        size = (width + 2 * edge, height + 2 * edge)
        canvas.draw(Panel(start, along, -up, *size, paint, hides=False))


def build_street(canvas: Canvas, site: Site) -> None:
    """Asphalt or paving between buildings, with trees, cars, posts."""
    rng, view, light, photos, spots = site
    kind = str(rng.choice(["asphalt", "paving", "paving", "earth", "grass"]))
    _ground(canvas, view, light, level_texture(rng, kind, photos))
    far = spots[:, 1].max()
    for _ in range(rng.integers(2, 8)):
        wide, high, deep = rng.uniform([4, 3, 4], [16, 18, 12])
        at = (rng.normal(0, 14), far + wide / 2 + deep / 2 + rng.gamma(1.2, 9))
        kinds = "windows windows windows bricks tiles planks"
        texture = sample_texture(rng, kinds, rng.uniform(0.02, 0.06))
        yaw = rng.choice([0, 0.2, -0.3, 0.8])
        block = Block(0, 0, wide, high, deep)
        _stand(canvas, site, [block], at=at, yaw=yaw, texture=texture)
    _scatter(canvas, site, trees=rng.integers(0, 5))
    for _ in range(rng.integers(0, 4)):  # cars, or market stalls
        at = (rng.normal(0, 6), far + rng.gamma(2, 4))
        yaw, texture = rng.uniform(0, 3), sample_texture(rng, "clouds", 0.1)
        long, wide = rng.uniform([3.6, 1.6], [4.8, 1.9])
        cabin = Block(-0.05 * long, 0, 0.55 * long, 0.6, 0.9 * wide, 0.95)
        blocks = [Block(0, 0, long, 0.65, wide, 0.3), cabin]
        blocks += [
            Block(x * 0.32 * long, z * 0.45 * wide, 0.6, 0.6, 0.2)
            for x in (-1, 1)
            for z in (-1, 1)
        ]
        _stand(canvas, site, blocks, at=at, yaw=yaw, texture=texture)


def build_country(canvas: Canvas, site: Site) -> None:
    """Grass, snow, sand or water under the sky, with hills and trees."""
    rng, view, light, photos, spots = site
    kind = str(rng.choice(["grass", "snow", "sand", "water", "earth"],
                          p=[0.4, 0.25, 0.12, 0.1, 0.13]))  # fmt: skip
    texture = level_texture(rng, kind, photos)
    for far in (400, 200)[: rng.integers(0, 3)]:  # hills, as far walls with a wavy edge
        tall = far * rng.uniform(0.03, 0.3)
        outline = np.cumsum(rng.normal(size=200)) * rng.uniform(0.02, 0.12)
        outline = 0.5 + 0.5 * np.sin(outline)
        mask = (np.linspace(1, 0, 64)[:, None] < outline).astype(np.float32)
        cover = level_texture(rng, kind if rng.random() < 0.5 else "grass")
        haze = 0.7 * cover.colors if cover.colors is not None else None
        cover = cover._replace(scale=2, colors=haze)
        wide = far * 5
        paint = cut_paint(cover, mask, (tall, wide), light_on(light, view.up) * 0.9)
        corner = view.place(-wide / 2, tall, far)
        canvas.draw(Panel(corner, view.right, -view.up, wide, tall, paint, hides=False))
    _ground(canvas, view, light, texture)
    _scatter(canvas, site, trees=rng.integers(0, 14))
    if rng.random() < 0.3:  # a fence
        ahead, post = spots[:, 1].max() + rng.gamma(2, 2), rng.uniform(0.04, 0.1)
        texture = sample_texture(rng, "planks clouds", 0.01)
        for number in range(-8, 9):
            block = Block(0, 0, post, rng.uniform(0.9, 1.4), post)
            at = (number * 1.7, ahead)
            _stand(canvas, site, [block], at=at, yaw=0.0, texture=texture)


def _scatter(canvas: Canvas, site: Site, *, trees: int) -> None:
    """Trees and bushes here and there behind people."""
    rng, view, light, _, spots = site
    far = spots[:, 1].max()
    for _ in range(trees):
        ahead = far + 0.5 + rng.gamma(1.5, 8)
        at = (rng.normal(0, 0.35) * ahead, ahead)
        tall = rng.uniform(3, 12) if rng.random() < 0.7 else rng.uniform(0.4, 2)
        wide = tall * rng.uniform(0.4, 1.0)
        texture = level_texture(rng, "grass")._replace(scale=1 / rng.uniform(0.01, 0.04))
        paint = cut_paint(
            texture,
            _tree_mask(int(rng.integers(8))),
            (tall, wide),
            light_on(light, -view.ahead),
        )
        corner = view.place(at[0] - wide / 2, tall, ahead)
        canvas.draw(Panel(corner, view.right, -view.up, wide, tall, paint))


def _stand(
    canvas: Canvas,
    site: Site,
    blocks: Sequence[Block],
    *,
    at: Sequence[float],
    yaw: float,
    texture: Texture | None = None,
) -> None:
    """Blocks on the ground, unless somebody stands there or they fill the view.

    at: (right, ahead) metres.   yaw: radians.
    """
    rng, view, light, photos, spots = site
    reach = 0.25 + max(
        np.hypot(abs(b.right) + b.wide / 2, abs(b.ahead) + b.deep / 2) for b in blocks
    )
    if np.linalg.norm(spots - at, axis=1).min() < reach or np.hypot(*at) < reach + 0.4:
        return
    nearer = at[1] - reach < spots[:, 1].max()
    if nearer and max(b.lift + b.high for b in blocks) > 0.8 and rng.random() < 0.8:
        return  # few tall things in front
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    texture = texture or thing_texture(rng, photos)

    def paint(normal: np.ndarray) -> Paint:
        return plain_paint(texture, light_on(light, normal))

    for block in blocks:
        middle = tuple(np.asarray(at) + turn @ (block.right, block.ahead))
        size = (block.wide, block.high, block.deep)
        panels = box_panels(view, middle, size, yaw=yaw, paint=paint, lift=block.lift)
        for panel in panels:
            canvas.draw(panel)
        if rng.random() < 0.3:  # of another stuff from here on
            texture = thing_texture(rng, photos)


def stand_thing(canvas: Canvas, site: Site) -> None:
    """A cut-out or a tree-like thing upright on the ground, behind or beside people."""
    rng, view, light, photos, spots = site
    ahead = max(spots[:, 1].max() * rng.uniform(0.7, 1.6), 0.8)
    tall = rng.uniform(0.2, 1.3) * max(ahead / 4, 0.3)
    aside = rng.normal(0, 0.3) * view.camera.size * ahead / view.camera.focal
    if np.linalg.norm(spots - (aside, ahead), axis=1).min() < 0.35:
        return
    pixels = int(np.clip(tall * view.camera.focal / ahead, 6, view.camera.size))
    glow = light_on(light, -view.ahead)
    if photos.cutouts:
        image = sample_cutout(rng, photos.cutouts, pixels)
        wide = tall * image.shape[1] / image.shape[0]
        paint = image_paint(image, (tall, wide), 0.4 + 0.6 * glow)
    else:
        wide = tall * rng.uniform(0.3, 1.5)
        mask = _tree_mask(int(rng.integers(8)))
        paint = cut_paint(thing_texture(rng, photos), mask, (tall, wide), glow)
    corner = view.place(aside - wide / 2, tall, ahead)
    canvas.draw(Panel(corner, view.right, -view.up, wide, tall, paint))


@functools.cache
def _tree_mask(number: int) -> np.ndarray:
    """One of some outlines of trees. [256, 256] f32 in [0, 1]."""
    rng = np.random.default_rng([7, number])
    y, x = np.mgrid[:256, :256] / 256
    if number % 2:  # a conifer
        crown = 1.1 * (0.92 - abs(x - 0.5) * rng.uniform(1.8, 2.2)) - (1 - y)
    else:
        crown = 0.42 - np.hypot(x - 0.5, (y - 0.42) * rng.uniform(0.9, 1.1))
    crown = crown + 0.07 * noise(rng, 1.0)
    trunk = (abs(x - 0.5) < 0.035) & (y > 0.5)
    return np.maximum(np.clip(crown * 12, 0, 1), trunk).astype(np.float32)


def _ground(canvas: Canvas, view: View, light: Light, texture: Texture) -> None:
    """The ground plane, hazier far away."""
    paint = plain_paint(texture, light_on(light, view.up))
    haze = canvas.image[canvas.image.shape[0] // 2].mean(0)

    def hazy(u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple:
        color, cover = paint(u, v, footprint)
        far = np.clip(footprint * canvas.camera.focal / 150, 0, 0.8)[:, None]
        return color + far * (haze - color), cover

    foot = view.place(0, 0, 0)
    canvas.draw(Panel(foot, view.right, view.ahead, np.inf, np.inf, hazy, hides=False))
