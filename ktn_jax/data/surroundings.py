"""What stands around rendered people: rooms, streets, open country, photographs.

Frame: as in canvas. Everything is lit by the light that people stand in.
"""

import numpy as np
from PIL import Image, ImageFilter

from ktn_jax.data.backgrounds import draw_shapes, plain_background
from ktn_jax.data.canvas import Canvas, View
from ktn_jax.data.photographs import Photographs, sample_photo
from ktn_jax.data.places import build_country, build_room, build_street, stand_thing
from ktn_jax.data.sites import Site
from ktn_jax.data.textures import sample_texture

_PHOTO_SHARE = 0.75  # of scenes, where there are photographs
_BUILDERS = {"room": build_room, "street": build_street, "country": build_country}


def sample_kind(rng: np.random.Generator, variety: float, photos: Photographs) -> str:
    """One of "plain", "photo", "room", "street" and "country"."""
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
        _BUILDERS[kind](canvas, site)
    # things behind are as sharp as people in every second scene: what is sharp among
    # blur must not give people away
    late = rng.random() < 0.5
    if kind != "plain" and not late:
        _blur_some(canvas, rng, variety)
    if rng.random() < 0.5 * variety and kind != "plain":
        for _ in range(rng.integers(1, 4)):
            stand_thing(canvas, site)
    if rng.random() < 0.12 * variety and kind != "plain":  # limb-like shapes and others
        backdrop = Image.fromarray(_to_bytes(canvas.image))
        draw_shapes(backdrop, rng, rng.integers(1, 7))
        canvas.image = np.asarray(backdrop, np.float32) / 255
    if kind == "plain" or late:
        _blur_some(canvas, rng, variety)
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


def _blur_some(canvas: Canvas, rng: np.random.Generator, variety: float) -> None:
    """Puts what is drawn so far out of focus, now and then."""
    if variety and rng.random() < 0.6:
        canvas.image = blur(canvas.image, 0.012 * canvas.camera.size * rng.random() ** 2)


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


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to u8."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
