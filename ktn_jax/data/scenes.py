"""Scenes of people: surroundings, people and things, and the picture with exact labels.

Frame: as in render: camera metres, continuous pixels (y, x).
"""

from typing import NamedTuple

import numpy as np

from ktn_jax.data.canvas import Canvas
from ktn_jax.data.effects import develop
from ktn_jax.data.figures import Figure, paint_hits
from ktn_jax.data.foreground import hold_cutout, stand_before
from ktn_jax.data.lights import Light, irradiance, mirrored, sample_light, suit_light
from ktn_jax.data.looks import SKIN
from ktn_jax.data.photographs import NO_PHOTOS, Photographs
from ktn_jax.data.placing import Group, place_people
from ktn_jax.data.render import NO_LAMPS, Camera, Caster, Hits
from ktn_jax.data.shadows import creases, ground_shade
from ktn_jax.data.sites import Site
from ktn_jax.data.surroundings import draw_surroundings, ground_mask, sample_kind

_SMALL = 2500  # pixels: smaller figures are smooth all over, larger ones at their edges
_STEP = 0.06  # metres between neighbours that make an edge
_OFFSETS = np.array([(-3, -1), (-1, 3), (1, -3), (3, 1)]) / 8  # pixels


class Scene(NamedTuple):
    """All that a picture is made from."""

    figures: tuple[Figure, ...]
    camera: Camera
    light: Light
    background: np.ndarray  # [size, size, 3] f32, about 0..1: all but people
    barrier: np.ndarray  # [size, size] f32 metres: people further away are hidden
    variety: float


class Picture(NamedTuple):
    """An image and what each pixel's centre shows."""

    image: np.ndarray  # [size, size, 3] u8 RGB
    person: np.ndarray  # [size, size] i64 index of the figure, -1 none
    chart: np.ndarray  # [size, size] i64 1..24, 0 none
    uv: np.ndarray  # [size, size, 2] f32 in [0, 1]
    depth: np.ndarray  # [size, size] f32 metres, inf where nobody is
    keypoint_depth: np.ndarray  # [figures, 17] of the surface before each keypoint
    keypoint_person: np.ndarray  # [figures, 17] whose surface that is, -1 none


def sample_scene(
    rng: np.random.Generator,
    size: int,
    variety: float = 1.0,
    photos: Photographs = NO_PHOTOS,
) -> Scene:
    """A random scene: nobody to six people, now and then with a far crowd.

    variety: 0..1, how far poses, clothes, light, framing, surroundings and photograph
    stray from the plain.   photos: of places without people, and of things.
    """
    group = place_people(rng, size, variety, photos)
    kind = sample_kind(rng, variety, photos)
    if not group.grounded and kind != "photo":
        kind = "plain"
    light = sample_light(rng, group.view.up, variety, kind == "room")
    site = Site(rng, group.view, light, photos, group.spots)
    canvas = draw_surroundings(site, kind, variety=variety)
    if kind == "photo" and rng.random() < 0.75:
        light = suit_light(light, canvas.image, rng)
        site = site._replace(light=light)
    if group.grounded and group.figures:
        _darken_ground(canvas, site, group)
    for figure in group.figures:
        if not figure.crowd and rng.random() < 0.06 * variety:
            hold_cutout(canvas, site, figure.keypoints)
    if rng.random() < 0.2 * variety:
        stand_before(canvas, site)
    return Scene(
        figures=group.figures,
        camera=group.view.camera,
        light=light,
        background=canvas.image,
        barrier=canvas.barrier(),
        variety=variety,
    )


def render_scene(scene: Scene, rng: np.random.Generator) -> Picture:
    """The picture of a scene; rng is for what the camera does to it alone."""
    size = scene.camera.size
    if not scene.figures:
        return _empty_picture(develop(scene.background, rng, scene.variety))
    lamps = scene.light.directions if scene.light.shadow else NO_LAMPS
    caster = Caster(scene.figures, scene.camera, lamps)
    vertices = [figure.vertices for figure in scene.figures]
    hits = caster.cast(_centers(size))
    depth = hits.points(vertices)[:, 2]
    # a pixel's label is that of its centre, as its colour is mostly
    whole = _Filler(hits.hit, (size, size))
    seen = hits.hit.copy()
    kept = depth < scene.barrier.ravel()[hits.hit]
    seen[hits.hit] = kept
    shown = _Filler(seen, (size, size))
    keypoints = np.concatenate([f.keypoints for f in scene.figures])
    before = caster.cast(scene.camera.project(keypoints))
    joints = _Filler(before.hit, (len(scene.figures), -1))
    image = _color(
        scene,
        caster,
        hits,
        figure=whole.map(hits.figure, -1),
        depth=whole.map(depth, np.inf),
    )
    person = hits.person[kept]
    return Picture(
        image=develop(image, rng, scene.variety),
        person=shown.map(person, -1),
        chart=shown.map(hits.chart()[kept], 0),
        uv=shown.map(hits.uv()[kept], 0),
        depth=shown.map(np.where(person < 0, np.inf, depth[kept]), np.inf),
        keypoint_depth=joints.map(before.points(vertices)[:, 2], np.inf),
        keypoint_person=joints.map(before.person, -1),
    )


class _Filler(NamedTuple):
    """Where some values of a map are."""

    where: np.ndarray  # [k] bool
    shape: tuple[int, int]

    def map(self, value: np.ndarray, empty: float) -> np.ndarray:
        """The whole map: values in their places, `empty` elsewhere."""
        full = np.full((len(self.where), *value.shape[1:]), empty, value.dtype)
        full[self.where] = value
        return full.reshape(*self.shape, *value.shape[1:])


def _empty_picture(image: np.ndarray) -> Picture:
    """A picture that shows nobody."""
    shape = image.shape[:2]
    return Picture(
        image=image,
        person=np.full(shape, -1),
        chart=np.zeros(shape, int),
        uv=np.zeros((*shape, 2), np.float32),
        depth=np.full(shape, np.inf, np.float32),
        keypoint_depth=np.zeros((0, 17)),
        keypoint_person=np.zeros((0, 17), int),
    )


def _darken_ground(canvas: Canvas, site: Site, group: Group) -> None:
    """Lays people's shadows on the ground, in place."""
    bodies = [f.vertices for f in group.figures if not f.crowd]
    if not bodies:
        return
    shade = ground_shade(site.view, site.light, np.concatenate(bodies))
    free = ground_mask(site.view) & ~canvas.hides
    canvas.image = canvas.image * np.where(free, shade, 1)[..., None]


def _color(
    scene: Scene, caster: Caster, hits: Hits, *, figure: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """The scene's colours. [size, size, 3] f32.

    figure, depth: [size, size] of all hits, whether hidden by the barrier or not.
    """
    size = scene.camera.size
    image = scene.background.reshape(-1, 3).copy()
    barrier = scene.barrier.ravel()
    open_light = creases(depth).ravel()
    fine = _find_edges(figure, depth).ravel()
    plain = hits.hit & ~fine & (depth.ravel() < barrier)
    at = np.flatnonzero(plain)
    image[at] = _shade(scene, caster, hits.pick(plain[hits.hit]), open_light[at])
    at = np.flatnonzero(fine)
    centers = np.column_stack(np.divmod(at, size)) + 0.5
    samples = (centers[:, None] + _OFFSETS).reshape(-1, 2)
    at = np.repeat(at, len(_OFFSETS))
    some = caster.cast(samples)
    near = some.points([f.vertices for f in scene.figures])[:, 2]
    clear = near < barrier[at[some.hit]]
    some = some.pick(clear)
    color = image[at]
    color[some.hit] = _shade(scene, caster, some, open_light[at[some.hit]])
    image[at[:: len(_OFFSETS)]] = color.reshape(-1, len(_OFFSETS), 3).mean(1)
    return image.reshape(size, size, 3)


def _find_edges(figure: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Pixels that one ray does not do justice to. [size, size] bool."""
    edge = np.zeros(figure.shape, bool)
    known = np.where(figure >= 0, depth, 1e3)
    for axis in (0, 1):
        steep = abs(np.diff(known, axis=axis)) > _STEP
        pad = [(0, 0), (0, 0)]
        for side in ((1, 0), (0, 1)):
            pad[axis] = side
            edge |= np.pad(steep, pad)
    counts = np.bincount(figure[figure >= 0], minlength=1)
    small = np.append(counts < _SMALL, False)  # the last one is nobody's
    return edge | small[figure]


def _shade(scene: Scene, caster: Caster, hits: Hits, open_light: np.ndarray) -> np.ndarray:
    """Lit colours of what was hit. [k, 3] f32. open_light: [k], see creases."""
    color, normals, covers = paint_hits(scene.figures, hits)
    light = scene.light
    points = hits.points([figure.vertices for figure in scene.figures])
    lit = None
    if light.shadow:
        lit = 1 - light.shadow * ~caster.reach(points, normals)
    fall = irradiance(light, normals, lit) * open_light[:, None]
    shine = 0.0
    if light.gloss:
        toward = -points / np.linalg.norm(points, axis=1, keepdims=True)
        shine = mirrored(light, normals, toward) * np.where(covers == SKIN, 1.0, 0.25)
        shine = (shine if lit is None else shine * lit[:, 0])[:, None] * light.lamps[0]
    return (color * fall + shine).astype(np.float32)


def _centers(size: int) -> np.ndarray:
    """Centres of all pixels, row by row. [size * size, 2]."""
    line = np.arange(size) + 0.5
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
