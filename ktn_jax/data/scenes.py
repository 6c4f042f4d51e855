"""Scenes of people: who stands where, and the picture with its exact labels.

Frame: as in render: camera metres, continuous pixels (y, x).
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ktn_jax.data.backgrounds import develop, sample_background, sample_occluder
from ktn_jax.data.figures import Figure, paint_hits, place_figure
from ktn_jax.data.looks import sample_waves
from ktn_jax.data.outfits import sample_look
from ktn_jax.data.poses import sample_person
from ktn_jax.data.render import Camera, Caster, Hits
from ktn_jax.data.things import sample_things

_GAP = 0.5  # metres between people's middles, at least
_NEAR = 1.4  # metres from the camera to a body's middle, at least
_TRIES = 10
# Odds of one to four people, in varied and in plain scenes.
_MANY, _FEW = np.array([[0.3, 0.35, 0.22, 0.13], [0.5, 0.3, 0.14, 0.06]])


class Light(NamedTuple):
    """A lamp at infinity and light from all around."""

    direction: np.ndarray  # [3] unit, towards the lamp
    lamp: np.ndarray  # [3] RGB strength
    ambient: np.ndarray  # [3]


class Scene(NamedTuple):
    """All that a picture is made from."""

    figures: tuple[Figure, ...]
    camera: Camera
    light: Light
    background: np.ndarray  # [2 size, 2 size, 3] f64 in [0, 1]
    occluder: np.ndarray  # [2 size, 2 size] bool: covered by a thing in front
    occluder_color: np.ndarray  # [3]


class Picture(NamedTuple):
    """An image and what each pixel's centre shows."""

    image: np.ndarray  # [size, size, 3] u8 RGB
    person: np.ndarray  # [size, size] i64 index of the figure, -1 none
    chart: np.ndarray  # [size, size] i64 1..24, 0 none
    uv: np.ndarray  # [size, size, 2] f64 in [0, 1]
    depth: np.ndarray  # [size, size] f64 metres, inf where nobody is
    keypoint_depth: np.ndarray  # [figures, 17] of the surface before each keypoint
    keypoint_person: np.ndarray  # [figures, 17] whose surface that is, -1 none


def sample_scene(rng: np.random.Generator, size: int, variety: float = 1.0) -> Scene:
    """A random scene of one to four people, now and then with a far crowd.

    variety: 0..1, how far poses, clothes, framing and surroundings stray from the plain.
    """
    camera = Camera(focal=size * rng.uniform(0.9, 2.2), size=size)
    tilt = Rotation.from_euler("XZ", rng.normal([6, 0], [9, 4]), degrees=True)
    figures: list[Figure] = []
    count = rng.choice([1, 2, 3, 4], p=variety * _MANY + (1 - variety) * _FEW)
    most = 0.9 + 0.2 * variety - 0.1 * (count > 1)
    common = most - (0.35 + 0.3 * variety) * rng.random()
    for _ in range(count):
        spread = 0.16 if count == 1 else 0.27
        place = rng.normal([0.5, 0.5], [spread, 0.05 + 0.04 * variety])
        tall = np.clip(common * rng.uniform(0.8, 1.2), 0.25, 1.1)
        _add_figure(figures, rng, camera, tilt, variety=variety, place=place, tall=tall)
    if rng.random() < 0.03 + 0.05 * variety:
        middle = rng.uniform([0.15, 0.3], [0.85, 0.5])
        for _ in range(rng.integers(4, 7)):
            place = middle + rng.normal(0, [0.07, 0.01])
            tall = rng.uniform(0.15, 0.22)
            group = {"place": place, "tall": tall, "crowd": True}
            _add_figure(figures, rng, camera, tilt, variety=variety, **group)
    occluder = np.zeros((2 * size, 2 * size), bool)
    return Scene(
        figures=tuple(figures),
        camera=camera,
        light=_sample_light(rng),
        background=sample_background(rng, 2 * size, variety),
        occluder=sample_occluder(rng, 2 * size)
        if rng.random() < 0.12 * variety
        else occluder,
        occluder_color=rng.uniform(0.05, 0.8, 3),
    )


def render_scene(scene: Scene, rng: np.random.Generator) -> Picture:
    """The picture of a scene; rng is for the photograph's noise alone."""
    size = scene.camera.size
    caster = Caster(scene.figures, scene.camera)
    hits = caster.cast(_centers(size, 1))
    # a pixel's label is that of its centre, as its colour is mostly
    hidden = scene.occluder[1::2, 1::2].ravel()
    seen = hits.hit & ~hidden
    kept = seen[hits.hit]
    vertices = [f.vertices for f in scene.figures]
    keypoints = np.concatenate([f.keypoints for f in scene.figures])
    before = caster.cast(scene.camera.project(keypoints))

    def fill(value: np.ndarray, empty: float, where: np.ndarray) -> np.ndarray:
        full = np.full((len(where), *value.shape[1:]), empty, value.dtype)
        full[where] = value
        return full

    def map_of(value: np.ndarray, empty: float) -> np.ndarray:
        full = fill(value[kept], empty, seen)
        return full.reshape(size, size, *value.shape[1:])

    shape = (len(scene.figures), -1)
    return Picture(
        image=develop(_color(scene, caster), rng),
        person=map_of(hits.person, -1),
        chart=map_of(hits.chart(), 0),
        uv=map_of(hits.uv(), 0),
        depth=map_of(
            np.where(hits.person < 0, np.inf, hits.points(vertices)[:, 2]), np.inf
        ),
        keypoint_depth=fill(before.points(vertices)[:, 2], np.inf, before.hit).reshape(
            shape
        ),
        keypoint_person=fill(before.person, -1, before.hit).reshape(shape),
    )


def _add_figure(
    figures: list[Figure],
    rng: np.random.Generator,
    camera: Camera,
    tilt: Rotation,
    *,
    variety: float,
    place: np.ndarray,
    tall: float,
    crowd: bool = False,
) -> None:
    """Appends one more person who does not stand inside another, if there is room.

    place: (x, y) of the middle, tall: the height when standing; shares of the image.
    """
    person, look = sample_person(rng, variety), sample_look(rng, variety)
    height = person.height
    things = sample_things(rng, person.style, person.stance) if person.style else ()
    # most people in photographs face the camera, more or less
    turned = rng.random() < 0.25 + 0.35 * variety
    yaw = rng.uniform(-180, 180) if turned else rng.normal(0, 40)
    lie = rng.choice([0, 90, -90], p=[1 - 0.06 * variety, *[0.03 * variety] * 2])
    turn = tilt * Rotation.from_euler("ZY", [lie, yaw], degrees=True)
    for _ in range(_TRIES):
        depth = max(camera.focal * height / (tall * camera.size), _NEAR)
        middle = np.append((place - 0.5) * camera.size * depth / camera.focal, depth)
        apart = [np.linalg.norm(middle - figure.middle) for figure in figures]
        if min(apart, default=np.inf) > _GAP:  # the first one always fits
            wrinkles = tuple(sample_waves(rng, 0.09) for _ in range(3))
            figures.append(
                place_figure(
                    person,
                    look,
                    turn=turn,
                    middle=middle,
                    wrinkles=wrinkles,
                    things=things,
                    crowd=crowd,
                    pixels=camera.focal * height / depth,
                )
            )
            return
        place = np.clip(place + rng.normal(0, 0.1, 2) * (1, 0.3), 0.05, 0.95)
        tall = tall * rng.uniform(0.8, 1.1)


def _sample_light(rng: np.random.Generator) -> Light:
    direction = rng.normal([0, -0.9, -0.6], [0.8, 0.5, 0.6])
    tint = rng.normal(1, 0.05, 3)
    ambient = rng.uniform(0.3, 0.65)
    return Light(
        direction / np.linalg.norm(direction),
        tint * rng.uniform(0.45, 0.85),
        (2 - tint) * ambient,
    )


def _color(scene: Scene, caster: Caster) -> np.ndarray:
    """The scene's colours at twice the size. [2 size, 2 size, 3] f64."""
    image = scene.background.copy()
    hits = caster.cast(_centers(scene.camera.size, 2))
    flat = image.reshape(-1, 3)
    flat[hits.hit] = _shade(scene, hits)
    cover = scene.occluder_color * (0.7 + 0.3 * scene.background[::-1])
    image[scene.occluder] = cover[scene.occluder]
    return image


def _shade(scene: Scene, hits: Hits) -> np.ndarray:
    """Lit colours of what was hit. [k, 3]."""
    color, normals, _ = paint_hits(scene.figures, hits)
    light = scene.light
    lit = np.clip(normals @ light.direction, 0, None)[:, None]
    sky = 0.85 - 0.15 * normals[:, 1:2]  # what faces down is darker; y points down
    return color * (light.ambient * sky + light.lamp * lit)


def _centers(size: int, fine: int) -> np.ndarray:
    """Centres of all pixels, cut `fine` times each way, row by row. [k, 2]."""
    line = (np.arange(size * fine) + 0.5) / fine
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
