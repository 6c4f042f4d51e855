"""What stands around rendered people: rooms, streets, open country, photographs.

Frame: as in canvas. Everything is lit by the light that people stand in.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from ktn_jax.data.backgrounds import draw_shapes, plain_background
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
from ktn_jax.data.lights import Light, irradiance
from ktn_jax.data.photographs import (
    NO_PHOTOS,
    Photographs,
    sample_cutout,
    sample_patch,
    sample_photo,
)
from ktn_jax.data.textures import Texture, blend, noise, photo_texture, sample_texture

_PHOTO_SHARE = 0.75  # of scenes, where there are photographs
_GROUNDS = {  # texture kinds, texel in metres, colours or None for any
    "grass": ("grass leaves rough", 0.006, [(60, 90, 25), (110, 140, 50), (70, 100, 40)]),
    "snow": ("clouds rough", 0.02, [(205, 212, 225), (245, 247, 250), (225, 230, 238)]),
    "sand": ("clouds rough waves", 0.008, [(190, 165, 120), (225, 205, 165)]),
    "water": ("waves", 0.02, [(20, 50, 80), (70, 110, 130), (190, 210, 220)]),
    "earth": ("rough speckle", 0.006, [(80, 60, 40), (130, 105, 75), (105, 90, 70)]),
    "asphalt": ("speckle rough", 0.004, [(70, 70, 72), (110, 108, 105)]),
    "paving": ("tiles bricks", 0.008, [(110, 105, 100), (170, 160, 150), (140, 130, 120)]),
    "floor": ("planks tiles cloth rough clouds", 0.006, None),
}


class Site(NamedTuple):
    """Where people stand, and the dice that decide what else is there."""

    rng: np.random.Generator
    view: View
    light: Light
    photos: Photographs
    spots: np.ndarray  # [k, 2] metres (right, ahead) that stay free; at least one


def sample_kind(rng: np.random.Generator, variety: float, photos: Photographs) -> str:
    """ "plain", "photo", "room", "street" or "country"."""
    if rng.random() > variety:
        return "plain"
    if photos.scenes and rng.random() < _PHOTO_SHARE:
        return "photo"
    return str(rng.choice(["plain", "room", "street", "country"], p=[0.15, 0.4, 0.2, 0.25]))


def draw_surroundings(site: Site, kind: str, *, variety: float) -> Canvas:
    """Surroundings of one of sample_kind's kinds, on a canvas to go on with."""
    rng, view, _, photos, _ = site
    size = view.camera.size
    if kind == "photo":
        photo = np.asarray(sample_photo(rng, photos.scenes, size))
        canvas = Canvas(view.camera, photo.astype(np.float32) / 255)
    elif kind == "plain":
        canvas = Canvas(view.camera, plain_background(rng, size, variety))
    else:
        canvas = Canvas(view.camera, _sky(site))
        {"room": _room, "street": _street, "country": _country}[kind](canvas, site)
    if rng.random() < 0.5 * variety and kind != "plain":
        for _ in range(rng.integers(1, 4)):
            _stand_thing(canvas, site)
    if rng.random() < 0.12 * variety and kind != "plain":  # limb-like shapes and others
        backdrop = Image.fromarray(_to_bytes(canvas.image))
        draw_shapes(backdrop, rng, rng.integers(1, 7))
        canvas.image = np.asarray(backdrop, np.float32) / 255
    if variety and rng.random() < 0.6:
        canvas.image = blur(canvas.image, 0.012 * size * rng.random() ** 2)
    return canvas


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """The image out of focus. image: [h, w, 3] f32 in [0, 1]; radius: pixels."""
    canvas = Image.fromarray(_to_bytes(image))
    canvas = canvas.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(canvas).astype(np.float32) / 255


def ground_mask(view: View) -> np.ndarray:
    """Pixels that look at the ground plane, up to some way off. [size, size] bool."""
    line = (np.arange(view.camera.size) + 0.5 - view.camera.size / 2) / view.camera.focal
    falls = view.up[0] * line[None, :] + view.up[1] * line[:, None] + view.up[2]
    return falls < -view.height / 60


def level_texture(
    rng: np.random.Generator, kind: str, photos: Photographs = NO_PHOTOS
) -> Texture:
    """A texture of one of _GROUNDS, now and then cut from a photograph."""
    kinds, texel, tones = _GROUNDS[kind]
    texel = texel * rng.uniform(0.5, 2)
    if photos.scenes and rng.random() < 0.2:
        return photo_texture(sample_patch(rng, photos.scenes, 128), texel)
    texture = sample_texture(rng, kinds, texel)
    if tones is None:
        return _mute(texture, rng)
    stops = np.array(tones) / 255 * rng.normal(1, 0.12) * rng.normal(1, 0.05, 3)
    return texture._replace(colors=blend(stops))


def thing_texture(
    rng: np.random.Generator, photos: Photographs, texel: float = 0.004
) -> Texture:
    """A texture that any thing may have."""
    if photos.scenes and rng.random() < 0.5:
        return photo_texture(sample_patch(rng, photos.scenes), texel)
    kinds = "clouds clouds rough cloth planks speckle tiles waves glyphs leaves"
    return sample_texture(rng, kinds, texel * rng.uniform(0.4, 3))


def light_on(light: Light, normal: np.ndarray) -> np.ndarray:
    """Light on a flat face. normal: [3]. Returns [3]."""
    return irradiance(light, normal[None], None)[0]


def _mute(texture: Texture, rng: np.random.Generator) -> Texture:
    """A texture in the colours of floors and walls: mostly pale or brown, with little
    contrast."""
    colors = texture.colors
    mean = colors.mean(0)
    goal = mean
    if rng.random() < 0.75:
        warm = np.array([1, 0.93, 0.82]) if rng.random() < 0.6 else np.ones(3)
        goal = rng.uniform(0.25, 0.95) * (warm + rng.normal(0, 0.03, 3))
    contrast = rng.uniform(0.05, 0.7) ** 1.3
    muted = np.clip(goal + contrast * (colors - mean), 0, 1)
    return texture._replace(colors=muted.astype(np.float32))


def _sky(site: Site) -> np.ndarray:
    """Sky all over, brighter towards the horizon, with clouds. [size, size, 3]."""
    rng, view, light, *_ = site
    size, focal = view.camera.size, view.camera.focal
    line = (np.arange(size, dtype=np.float32) + 0.5 - size / 2) / focal
    x, y = line[None, :], line[:, None]
    up, right = view.up.astype(np.float32), view.right.astype(np.float32)
    rise = np.maximum(up[0] * x + up[1] * y + up[2], 0.02)
    side = right[0] * x + right[1] * y + right[2]
    zenith = np.array([70, 120, 190]) / 255 * rng.normal(1, 0.15)
    if rng.random() < 0.4:
        zenith = np.full(3, rng.uniform(0.5, 0.9)) * rng.normal(1, 0.03, 3)
    low = np.array([0.8, 0.85, 0.9]) * rng.normal(1, 0.06, 3)
    share = np.clip(rise * rng.uniform(1, 2.5), 0, 1)[..., None]
    base = low + share * (zenith - low)
    clouds = sample_texture(rng, "clouds", 0.02)._replace(
        colors=np.linspace(0, 1, 256, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    )
    found = clouds.look_up(
        (side / rise).ravel() + 50, (1 / rise).ravel(), (1 / rise**2).ravel() / focal
    ).reshape(size, size, 3)
    amount = np.clip((found - rng.uniform(0, 1)) * 2.5, 0, 1) * rng.uniform(0, 1)
    image = base + amount * (0.95 - base)
    bright = np.clip(0.35 + 0.75 * light.sky.mean() + 0.3 * light.lamps.sum() / 3, 0.1, 1.3)
    return np.clip(image * bright, 0, 1).astype(np.float32)


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


def _room(canvas: Canvas, site: Site) -> None:
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
    wall = _mute(wall, rng)
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
    for _ in range(rng.integers(0, 7)):
        at = rng.uniform([left, 0.5], [right, back])
        at = at @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        size = rng.uniform([0.3, 0.3, 0.3], [1.8, 1.1, 1.0])
        if rng.random() < 0.2:
            size[1] = rng.uniform(1.2, 2.2)
        turn = yaw if rng.random() < 0.7 else rng.uniform(0, 2)
        _stand_box(canvas, site, at=at, size=size, yaw=turn)


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


def _street(canvas: Canvas, site: Site) -> None:
    """Asphalt or paving between buildings, with trees, cars, posts."""
    rng, view, light, photos, spots = site
    kind = str(rng.choice(["asphalt", "paving", "paving", "earth", "grass"]))
    _ground(canvas, view, light, level_texture(rng, kind, photos))
    far = spots[:, 1].max()
    for _ in range(rng.integers(2, 8)):
        size = rng.uniform([4, 3, 4], [16, 18, 12])
        at = (rng.normal(0, 14), far + size[2] / 2 + size[0] / 2 + rng.gamma(1.2, 9))
        kinds = "windows windows windows bricks tiles planks"
        texture = sample_texture(rng, kinds, rng.uniform(0.02, 0.06))
        yaw = rng.choice([0, 0.2, -0.3, 0.8])
        _stand_box(canvas, site, at=at, size=size, yaw=yaw, texture=texture)
    _scatter(canvas, site, trees=rng.integers(0, 5))
    for _ in range(rng.integers(0, 4)):  # cars, or market stalls
        at = (rng.normal(0, 6), far + rng.gamma(2, 4))
        yaw, texture = rng.uniform(0, 3), sample_texture(rng, "clouds", 0.1)
        for size, lift in (((4.2, 0.65, 1.7), 0.3), ((2.2, 0.6, 1.5), 0.95)):
            size = np.array(size) * rng.uniform(0.9, 1.1)
            _stand_box(canvas, site, at=at, size=size, yaw=yaw, texture=texture, lift=lift)


def _country(canvas: Canvas, site: Site) -> None:
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
            size = (post, rng.uniform(0.9, 1.4), post)
            at = (number * 1.7, ahead)
            _stand_box(canvas, site, at=at, size=size, yaw=0, texture=texture)


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


def _stand_box(
    canvas: Canvas,
    site: Site,
    *,
    at: Sequence[float],
    size: Sequence[float],
    yaw: float,
    texture: Texture | None = None,
    lift: float = 0.0,
) -> None:
    """A box on the ground, unless somebody stands there or it fills the view."""
    rng, view, light, photos, spots = site
    reach = np.hypot(size[0], size[2]) / 2 + 0.25
    if np.linalg.norm(spots - at, axis=1).min() < reach or np.hypot(*at) < reach + 0.4:
        return
    nearer = at[1] - reach < spots[:, 1].max()
    if nearer and size[1] > 0.8 and rng.random() < 0.8:
        return  # few tall things in front
    texture = texture or thing_texture(rng, photos)

    def paint(normal: np.ndarray) -> Paint:
        return plain_paint(texture, light_on(light, normal))

    for panel in box_panels(view, tuple(at), tuple(size), yaw=yaw, paint=paint, lift=lift):
        canvas.draw(panel)


def _stand_thing(canvas: Canvas, site: Site) -> None:
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


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to u8."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
