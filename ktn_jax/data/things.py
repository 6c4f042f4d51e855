"""Things near people: in their hands, under their feet, between them and the camera.

Frame: as in canvas.
"""

import functools
from collections.abc import Sequence

import numpy as np

from ktn_jax.anatomy import KEYPOINTS
from ktn_jax.data.canvas import (
    Canvas,
    Paint,
    Panel,
    box_panels,
    cut_paint,
    image_paint,
    plain_paint,
)
from ktn_jax.data.photographs import sample_cutout
from ktn_jax.data.surroundings import Site, light_on, thing_texture
from ktn_jax.data.textures import Texture, sample_texture

_HELD = ("ball", "stick", "racket", "bag", "phone", "board", "umbrella", "cutout")
_AT = {name: index for index, name in enumerate(KEYPOINTS)}


def give_things(canvas: Canvas, site: Site, keypoints: np.ndarray) -> None:
    """Draws what a person holds, stands or sits on. keypoints: [17, 3] camera metres."""
    rng = site.rng
    kind = str(rng.choice(("held", "skis", "board"), p=(0.84, 0.1, 0.06)))
    if kind == "held":
        _hold(canvas, site, keypoints, str(rng.choice(_HELD)))
    elif kind == "skis":
        _ski(canvas, site, keypoints)
    else:
        ankles = keypoints[[_AT["left_ankle"], _AT["right_ankle"]]]
        along = ankles[1] - ankles[0]
        along /= max(np.linalg.norm(along), 1e-3)
        middle = ankles.mean(0) - 0.1 * site.view.up
        half = rng.uniform(0.4, 0.9) * along
        paint = plain_paint(sample_texture(rng, "clouds glyphs tiles", 0.01), _lit(site))
        side = np.cross(along, site.view.up)
        _strip(canvas, middle - half, middle + half, rng.uniform(0.18, 0.35), paint, side)


def draw_seat(canvas: Canvas, site: Site, keypoints: np.ndarray) -> None:
    """Draws something to sit on under hips that are near the ground and over the knees."""
    rng, view, light, photos, _ = site
    hips = keypoints[[_AT["left_hip"], _AT["right_hip"]]].mean(0)
    knees = keypoints[[_AT["left_knee"], _AT["right_knee"]]].mean(0)
    high = hips @ view.up + view.height - 0.12
    neck = keypoints[[_AT["left_shoulder"], _AT["right_shoulder"]]].mean(0)
    upright = (neck - hips) @ view.up > 0.3
    if not 0.2 < high < 0.6 or abs((hips - knees) @ view.up) > 0.2 or not upright:
        return
    back = hips - knees
    at = hips + 0.1 * back
    texture = thing_texture(rng, photos)

    def paint(normal: np.ndarray) -> Paint:
        return plain_paint(texture, light_on(light, normal))

    size = (rng.uniform(0.4, 1.2), high, rng.uniform(0.3, 0.45))
    yaw = np.arctan2(-(back @ view.right), back @ view.ahead)
    middle = (at @ view.right, at @ view.ahead)
    for panel in box_panels(view, middle, size, yaw=yaw, paint=paint):
        canvas.draw(panel)


def stand_before(canvas: Canvas, site: Site) -> None:
    """Draws bars, a table's edge or a thing between people and the camera."""
    rng, view, _, photos, spots = site
    near = max(0.75 * spots[:, 1].min(), 0.3)
    away = near * rng.uniform(0.5, 1.0)  # metres from the camera
    wide = view.camera.size * away / view.camera.focal  # metres that the image shows
    kind = str(rng.choice(("bars", "table", "thing", "thing")))
    if kind == "table":
        low = rng.uniform(0.15, 0.45) * wide
        slant = rng.normal(0, 0.06)
        across = np.array([np.cos(slant), np.sin(slant), 0])
        down = np.array([-across[1], across[0], 0])
        paint = plain_paint(thing_texture(rng, photos, wide / 400), _lit(site))
        corner = np.array([-wide, low, away])
        canvas.draw(Panel(corner, across, down, 3 * wide, 2 * wide, paint))
        return
    if kind == "bars":
        turn, count = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05), rng.integers(1, 5)
        along = np.array([np.sin(turn), np.cos(turn), 0])
        side = np.array([along[1], -along[0], 0])
        thick = wide * rng.uniform(0.008, 0.05)
        paint = plain_paint(sample_texture(rng, "clouds planks", wide / 200), _lit(site))
        first, gap = rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.4)
        for number in range(count):
            middle = np.array([0, 0, away]) + side * wide * (first + number * gap)
            _strip(canvas, middle - wide * along, middle + wide * along, thick, paint)
        return
    tall = wide * rng.uniform(0.12, 0.6)
    middle = np.append(rng.uniform([-0.5, -0.1], 0.5) * wide, away)
    _show(canvas, site, middle, tall)


def _hold(canvas: Canvas, site: Site, keypoints: np.ndarray, kind: str) -> None:
    """Draws a thing in the left or the right hand."""
    rng, view, _, photos, _ = site
    side = str(rng.choice(("left", "right")))
    elbow, wrist = keypoints[_AT[f"{side}_elbow"]], keypoints[_AT[f"{side}_wrist"]]
    forearm = (wrist - elbow) / max(np.linalg.norm(wrist - elbow), 1e-3)
    hand = wrist + 0.1 * forearm
    if hand[2] < 0.3:
        return
    toward = -hand / np.linalg.norm(hand)
    hand = hand + rng.choice([0.05, -0.04]) * toward  # before the hand or behind it
    paint = plain_paint(thing_texture(rng, photos, 0.003), _lit(site))
    match kind:
        case "ball":
            _disc(canvas, site, hand, rng.uniform(0.04, 0.16))
        case "stick" | "racket":
            way = rng.normal(size=3) + rng.choice([0, 1.5]) * forearm - view.up
            way /= np.linalg.norm(way)
            long = rng.uniform(0.5, 1.7) if kind == "stick" else 0.45
            back = rng.uniform(0, 0.3) * long
            tip = hand + (long - back) * way
            _strip(canvas, hand - back * way, tip, rng.uniform(0.012, 0.05), paint)
            if kind == "racket":
                _disc(canvas, site, tip + 0.1 * way, 0.13)
        case "bag" | "phone" | "board":
            wide, tall = {
                "bag": rng.uniform(0.2, 0.5, 2),
                "phone": rng.uniform(0.07, 0.25) * np.array([1, rng.uniform(0.6, 1.8)]),
                "board": rng.uniform([0.3, 0.8], [0.6, 1.7]),
            }[kind]
            lift = {"bag": 0.0, "phone": tall / 2, "board": tall / 2}[kind]
            top = hand + lift * view.up
            _strip(canvas, top, top - tall * view.up, wide, paint)
        case "umbrella":
            tip = hand + 0.75 * view.up
            _strip(canvas, hand, tip, 0.02, paint)
            wide = rng.uniform(0.8, 1.2)
            cover = cut_paint(
                thing_texture(rng, photos), _half_disc(), (wide / 2.5, wide), _lit(site)
            )
            corner = tip - wide / 2 * view.right + 0.05 * view.up
            canvas.draw(Panel(corner, view.right, -view.up, wide, wide / 2.5, cover))
        case _:
            _show(canvas, site, hand, rng.uniform(0.1, 0.5))


def _ski(canvas: Canvas, site: Site, keypoints: np.ndarray) -> None:
    """Draws skis under both feet, or none, and poles in both hands."""
    rng, view, *_ = site
    hips = keypoints[_AT["left_hip"]] - keypoints[_AT["right_hip"]]
    front = np.cross(hips, view.up) + 0.1 * rng.normal(size=3)
    front -= (front @ view.up) * view.up
    front /= max(np.linalg.norm(front), 1e-3)
    paint = plain_paint(sample_texture(rng, "clouds glyphs", 0.01), _lit(site))
    for side in ("left", "right"):
        ankle = keypoints[_AT[f"{side}_ankle"]]
        sole = ankle - 0.09 * view.up
        toward = np.cross(front, view.up)
        _strip(canvas, sole - 0.7 * front, sole + 0.9 * front, 0.09, paint, toward)
        hand = keypoints[_AT[f"{side}_wrist"]]
        hand = hand + 0.25 * (hand - keypoints[_AT[f"{side}_elbow"]])
        way = -view.up - rng.uniform(0, 1.2) * front + 0.3 * rng.normal(size=3)
        tip = hand + way / np.linalg.norm(way) * rng.uniform(0.8, 1.2)
        _strip(canvas, hand, tip, 0.018, paint)


def _strip(
    canvas: Canvas,
    start: np.ndarray,
    end: np.ndarray,
    width: float,
    paint: Paint,
    side: np.ndarray | None = None,
) -> None:
    """Draws a flat bar from start to end; `side` is across it, by default as seen best."""
    length = np.linalg.norm(end - start)
    down = (end - start) / max(length, 1e-6)
    across = np.cross(down, start) if side is None else side - (side @ down) * down
    size = np.linalg.norm(across)
    if size < 1e-6:
        return
    across = across / size
    canvas.draw(Panel(start - across * width / 2, across, down, width, length, paint))


def _disc(canvas: Canvas, site: Site, middle: np.ndarray, radius: float) -> None:
    """Draws a ball, as a shaded disc that faces the camera."""
    texture = thing_texture(site.rng, site.photos, radius / 60)
    paint = _ball_paint(texture, radius, _lit(site))
    corner = middle - radius * np.array([1, 1, 0])
    x, y, _ = np.eye(3)
    canvas.draw(Panel(corner, x, y, 2 * radius, 2 * radius, paint))


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


def _ball_paint(texture: Texture, radius: float, light: np.ndarray) -> Paint:
    """Paint of a ball of some radius, brighter at its top."""
    whole = plain_paint(texture, light)

    def paint(u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple:
        color, _ = whole(u, v, footprint)
        x, y = u / radius - 1, v / radius - 1
        away = np.hypot(x, y)
        shade = 1.15 - 0.35 * away**2 - 0.3 * y
        cover = np.clip((1 - away) * radius / footprint + 0.5, 0, 1)
        return color * shade[:, None], cover

    return paint


@functools.cache
def _half_disc() -> np.ndarray:
    """An open umbrella from the side. [64, 128] f32."""
    y, x = np.mgrid[:64, :128] / 64
    rim = 0.12 * abs(np.sin(6 * np.pi * x / 2))
    inside = (np.hypot(x - 1, (y - 1) * 1.02) < 1) & (y < 0.98 - rim)
    return inside.astype(np.float32)


@functools.cache
def _blob(number: int) -> np.ndarray:
    """One of some outlines of things: boxes, balls, stars with soft corners. [64, 64]."""
    rng = np.random.default_rng([11, number])
    y, x = np.mgrid[:64, :64] / 31.5 - 1
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    waves: Sequence[float] = rng.normal(0, 0.3 / np.arange(1, 7))
    edge = 0.75 + sum(
        wave * np.cos(count * angle + rng.uniform(0, 6))
        for count, wave in enumerate(waves, start=1)
    )
    if number % 3 == 0:  # a box
        edge = 0.9 / np.maximum(abs(np.cos(angle)), abs(np.sin(angle)))
    return (radius < edge).astype(np.float32)
