"""Things between people and the camera, and photographs of things in their hands.

Frame: as in canvas. What goes along with a body's bones is in things.
"""

import functools

import numpy as np

from ktn_jax.anatomy import KEYPOINTS
from ktn_jax.data.canvas import (
    Canvas,
    Panel,
    cut_paint,
    image_paint,
    plain_paint,
)
from ktn_jax.data.photographs import sample_cutout
from ktn_jax.data.sites import Site, light_on, thing_texture
from ktn_jax.data.textures import sample_texture

_AT = {name: index for index, name in enumerate(KEYPOINTS)}


def hold_cutout(canvas: Canvas, site: Site, keypoints: np.ndarray) -> None:
    """Draws a cut-out or a blob by a hand. keypoints: [17, 3] camera metres."""
    side = str(site.rng.choice(("left", "right")))
    elbow, wrist = keypoints[_AT[f"{side}_elbow"]], keypoints[_AT[f"{side}_wrist"]]
    hand = wrist + 0.4 * (wrist - elbow)
    if hand[2] < 0.3:
        return
    toward = -hand / np.linalg.norm(hand)
    hand = hand + site.rng.choice([0.06, -0.04]) * toward  # before the hand or behind it
    _show(canvas, site, hand, site.rng.uniform(0.1, 0.5))


def stand_before(canvas: Canvas, site: Site) -> None:
    """Draws bars, a table's edge or a thing between people and the camera."""
    near = max(0.75 * site.spots[:, 1].min(), 0.3)
    away = near * site.rng.uniform(0.5, 1.0)  # metres from the camera
    wide = site.view.camera.size * away / site.view.camera.focal  # that the image shows
    match site.rng.integers(4):
        case 0:
            _stand_table(canvas, site, away=away, wide=wide)
        case 1:
            _stand_bars(canvas, site, away=away, wide=wide)
        case _:
            tall = wide * site.rng.uniform(0.12, 0.6)
            middle = np.append(site.rng.uniform([-0.5, -0.1], 0.5) * wide, away)
            _show(canvas, site, middle, tall)


def _stand_table(canvas: Canvas, site: Site, *, away: float, wide: float) -> None:
    """Draws something that hides all below an edge."""
    rng = site.rng
    slant = rng.normal(0, 0.06)
    across = np.array([np.cos(slant), np.sin(slant), 0])
    down = np.array([-across[1], across[0], 0])
    paint = plain_paint(thing_texture(rng, site.photos, wide / 400), _lit(site))
    corner = np.array([-wide, rng.uniform(0.15, 0.45) * wide, away])
    canvas.draw(Panel(corner, across, down, 3 * wide, 2 * wide, paint))


def _stand_bars(canvas: Canvas, site: Site, *, away: float, wide: float) -> None:
    """Draws one to four posts or rails."""
    rng = site.rng
    turn = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05)
    along = np.array([np.sin(turn), np.cos(turn), 0])
    side = np.array([along[1], -along[0], 0])
    thick = wide * rng.uniform(0.008, 0.05)
    paint = plain_paint(sample_texture(rng, "clouds planks", wide / 200), _lit(site))
    first, gap = rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.4)
    for number in range(rng.integers(1, 5)):
        middle = np.array([0, 0, away]) + side * wide * (first + number * gap)
        corner = middle - wide * along - side * thick / 2
        canvas.draw(Panel(corner, side, along, thick, 2 * wide, paint))


def _show(canvas: Canvas, site: Site, middle: np.ndarray, tall: float) -> None:
    """Draws a cut-out photograph, or a blob, that faces the camera."""
    rng, view, _, photos, _ = site
    pixels = int(np.clip(tall * view.camera.focal / middle[2], 4, view.camera.size))
    if photos.cutouts:
        image = sample_cutout(rng, photos.cutouts, pixels)
        wide = tall * image.shape[1] / image.shape[0]
        paint = image_paint(image, (tall, wide), 0.4 + 0.6 * _lit(site))
    else:
        wide = tall * rng.uniform(0.4, 2)
        blob = _blob(int(rng.integers(8)))
        paint = cut_paint(
            thing_texture(rng, photos, tall / 60), blob, (tall, wide), _lit(site)
        )
    turn = rng.normal(0, 0.3)
    across = np.array([np.cos(turn), np.sin(turn), 0])
    down = np.array([-across[1], across[0], 0])
    corner = middle - across * wide / 2 - down * tall / 2
    canvas.draw(Panel(corner, across, down, wide, tall, paint))


def _lit(site: Site) -> np.ndarray:
    """Light on what faces the camera. [3]."""
    return light_on(site.light, np.array([0, -0.3, -0.95]))


@functools.cache
def _blob(number: int) -> np.ndarray:
    """One of some outlines of things: boxes, balls, stars with soft corners. [64, 64]."""
    rng = np.random.default_rng([11, number])
    y, x = np.mgrid[:64, :64] / 31.5 - 1
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    waves = rng.normal(0, 0.3 / np.arange(1, 7))
    edge = 0.75 + sum(
        wave * np.cos(count * angle + rng.uniform(0, 6))
        for count, wave in enumerate(waves, start=1)
    )
    if number % 3 == 0:  # a box
        edge = 0.9 / np.maximum(abs(np.cos(angle)), abs(np.sin(angle)))
    return (radius < edge).astype(np.float32)
