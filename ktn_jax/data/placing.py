"""Who stands where, seen by which camera.

One idea: in varied scenes all people share level ground, so that their sizes agree with
their places; the camera's height and pitch follow from how the first one is framed.
Frame: camera metres; places on the ground are (right, ahead) metres from the camera.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ktn_jax.anatomy import KEYPOINTS, SKELETON
from ktn_jax.data.canvas import View, world_view
from ktn_jax.data.figures import Figure, place_figure
from ktn_jax.data.looks import sample_waves
from ktn_jax.data.outfits import sample_look
from ktn_jax.data.photographs import NO_PHOTOS, Photographs, sample_patch
from ktn_jax.data.poses import Person, sample_person
from ktn_jax.data.render import Camera
from ktn_jax.data.things import sample_things

_GAP = 0.5  # metres between people's middles, at least, where there is no ground
_NEAR = 1.4  # metres from the camera to a body's middle, at least
_CLOSE = 0.6  # the same on the ground, where a head may fill the image
_TRIES = 10
# Odds of one to four people without ground, in varied and in plain scenes; with ground
# of one to six.
_MANY, _FEW = np.array([[0.3, 0.35, 0.22, 0.13], [0.5, 0.3, 0.14, 0.06]])
_ON_GROUND = np.array([0.46, 0.27, 0.13, 0.07, 0.04, 0.03])
_EMPTY = 0.04  # of varied scenes show nobody
_POSED = 0.5  # of groups stand in a row for their picture
_SHOTS = (  # odds; a standing body's height over the image's; share of the body aimed at
    (0.48, (0.5, 1.1), 0.5),
    (0.2, (1.15, 2.2), 0.72),
    (0.1, (2.2, 4.0), 0.88),  # head and shoulders
    (0.08, (0.2, 0.5), 0.5),
    (0.05, (1.3, 3.5), 0.2),  # legs
    (0.09, (1.8, 5.0), 0.5),  # a trunk, an arm, a lap
)
_CUT = 1.5  # a first body taller than this many images is often cut by their sides
_THICK = 0.11  # metres from the middle of a trunk or a thigh to where clothes begin
_LIMBS = np.array(SKELETON).T - 1  # [2, limbs]
_TRUNK = [
    KEYPOINTS.index(f"{s}_{p}") for p in ("shoulder", "hip") for s in ("left", "right")
]


class Group(NamedTuple):
    """People before a camera."""

    figures: tuple[Figure, ...]
    view: View
    spots: np.ndarray  # [k, 2] (right, ahead) of people; one where there is nobody
    grounded: bool  # whether they stand on the view's ground


def place_people(
    rng: np.random.Generator,
    size: int,
    variety: float,
    photos: Photographs = NO_PHOTOS,
) -> Group:
    """A random camera with people before it; see sample_scene."""
    if rng.random() < variety:
        return _on_ground(rng, size, variety, photos)
    camera = Camera(focal=size * rng.uniform(0.9, 2.2), size=size)
    pitch, roll = rng.normal([6, 0], [9, 4])
    tilt = Rotation.from_euler("XZ", [pitch, roll], degrees=True)
    view = world_view(camera, tilt, 1.5)
    figures: list[Figure] = []
    count = rng.choice([1, 2, 3, 4], p=variety * _MANY + (1 - variety) * _FEW)
    most = 0.9 + 0.2 * variety - 0.1 * (count > 1)
    common = most - (0.35 + 0.3 * variety) * rng.random()
    for _ in range(count):
        spread = 0.16 if count == 1 else 0.27
        place = rng.normal([0.5, 0.5], [spread, 0.05 + 0.04 * variety])
        tall = np.clip(common * rng.uniform(0.8, 1.2), 0.25, 1.1)
        _add_floating(figures, rng, view, tilt, variety=variety, place=place, tall=tall)
    if rng.random() < 0.03 + 0.05 * variety:
        middle = rng.uniform([0.15, 0.3], [0.85, 0.5])
        for _ in range(rng.integers(4, 7)):
            place = middle + rng.normal(0, [0.07, 0.01])
            tall = rng.uniform(0.15, 0.22)
            group = {"place": place, "tall": tall, "crowd": True}
            _add_floating(figures, rng, view, tilt, variety=variety, **group)
    spots = np.array([_spot(view, figure.middle) for figure in figures])
    return Group(tuple(figures), view, spots, grounded=False)


def overlap(first: Figure, second: Figure) -> bool:
    """Whether two bodies would be inside one another. Touching is allowed."""
    a, b = _spine(first.keypoints), _spine(second.keypoints)
    if np.linalg.norm(a.mean(0) - b.mean(0)) > 3:
        return False
    trunks = np.linalg.norm(a[:, None] - b[None], axis=-1).min()
    limbs = min(
        np.linalg.norm(_bones(one.keypoints)[:, None] - other[None], axis=-1).min()
        for one, other in ((first, b), (second, a))
    )
    return bool(trunks < 2 * _THICK or limbs < 1.3 * _THICK)


def _add_floating(
    figures: list[Figure],
    rng: np.random.Generator,
    view: View,
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
    camera = view.camera
    person, look = sample_person(rng, variety), sample_look(rng, variety)
    things = sample_things(rng, person.style, person.stance) if person.style else ()
    turn = tilt * _sample_turn(rng, variety)
    for _ in range(_TRIES):
        depth = max(camera.focal * person.height / (tall * camera.size), _NEAR)
        middle = np.append((place - 0.5) * camera.size * depth / camera.focal, depth)
        apart = [np.linalg.norm(middle - figure.middle) for figure in figures]
        if min(apart, default=np.inf) > _GAP:  # the first one always fits
            figures.append(
                place_figure(
                    person,
                    look,
                    turn=turn,
                    middle=middle,
                    wrinkles=tuple(sample_waves(rng, 0.09) for _ in range(3)),
                    things=things,
                    crowd=crowd,
                    pixels=camera.focal * person.height / depth,
                )
            )
            return
        place = np.clip(place + rng.normal(0, 0.1, 2) * (1, 0.3), 0.05, 0.95)
        tall = tall * rng.uniform(0.8, 1.1)


def _on_ground(
    rng: np.random.Generator, size: int, variety: float, photos: Photographs
) -> Group:
    """People on level ground, the first one framed as photographers do."""
    count = 0 if rng.random() < _EMPTY else 1 + rng.choice(6, p=_ON_GROUND)
    posed = count > 1 and rng.random() < _POSED
    odds, talls, aims = zip(*_SHOTS, strict=True)
    shot = rng.choice(len(_SHOTS), p=odds)
    tall = np.exp(rng.uniform(*np.log(talls[shot])))
    # millimetres of a 36 mm film, whose width is the image's
    millimetres = np.clip(np.exp(rng.normal(np.log(45), 0.55)), 20, 200)
    camera = Camera(focal=size * millimetres / 36, size=size)
    person = sample_person(rng, variety, "everyday" if posed else "")
    away = max(camera.focal * person.height / (tall * size), _CLOSE)
    cast = Cast(rng, camera, variety, photos, posed)
    first = cast.dress(person, away)
    aside = 0.3 if tall > _CUT else 0.13 if count < 2 else 0.2
    across = rng.normal(0.5, aside)
    reach = np.ptp(first.vertices[:, 1])
    view = _frame(rng, camera, away=away, aim=aims[shot] * reach)
    spot = np.array([(across - 0.5) * size * away / camera.focal, away])
    figures, spots = [_stand(first, view, spot, rng)][:count], [spot]
    for _ in range(count - 1):
        _add_beside(figures, spots, cast, view)
    if rng.random() < 0.08:
        _add_crowd(figures, spots, cast, view)
    return Group(tuple(figures), view, np.array(spots), grounded=True)


class Cast(NamedTuple):
    """What it takes to dress one more person."""

    rng: np.random.Generator
    camera: Camera
    variety: float
    photos: Photographs
    posed: bool  # whether they stand in a row and face the camera

    def dress(self, person: Person, away: float, crowd: bool = False) -> Figure:
        """A figure at the origin, seen by a level camera. away: metres, for detail."""
        rng = self.rng
        level = Rotation.from_euler("Y", rng.normal(0, 15), degrees=True)
        turn = level if self.posed else _sample_turn(rng, self.variety)
        things = sample_things(rng, person.style, person.stance) if person.style else ()
        patch = None
        if self.photos.scenes and rng.random() < 0.3:
            patch = sample_patch(rng, self.photos.scenes) / np.float32(255)
        return place_figure(
            person,
            sample_look(rng, self.variety, patch),
            turn=turn,
            middle=np.zeros(3),
            wrinkles=tuple(sample_waves(rng, 0.09) for _ in range(3)),
            things=things,
            crowd=crowd,
            pixels=self.camera.focal * person.height / away,
        )


def _frame(rng: np.random.Generator, camera: Camera, *, away: float, aim: float) -> View:
    """A view that shows what is `aim` metres over the ground near the image's middle."""
    eye, low, high = rng.normal(1.45, 0.25), rng.uniform(0.3, 1.1), rng.uniform(1.8, 4)
    height = rng.choice([eye, low, high], p=[0.6, 0.2, 0.2])
    drop = rng.normal(0, 0.07)  # below the middle, in shares of the image
    pitch = np.arctan2(height - aim, away) - np.arctan(drop * camera.size / camera.focal)
    roll = rng.normal(0, np.radians(4 if rng.random() < 0.85 else 15))
    tilt = Rotation.from_euler("ZX", [roll, np.clip(pitch, -0.9, 1.3)])
    return world_view(camera, tilt, max(height, 0.2))


def _add_beside(
    figures: list[Figure], spots: list[np.ndarray], cast: Cast, view: View
) -> None:
    """Appends one more person on the ground, near another or anywhere, if there is room."""
    rng = cast.rng
    person = sample_person(rng, cast.variety, "everyday" if cast.posed else "")
    close = rng.random() < 0.2
    figure = None
    for attempt in range(_TRIES):
        wider = 1 + 0.1 * attempt
        if cast.posed:
            spot = _in_row(rng, spots, wider)
        elif close:
            spot = _close_by(rng, spots, wider)
        else:
            spot = _anywhere(rng, spots, cast.camera)
        if spot[1] < _CLOSE:
            continue
        figure = figure or cast.dress(person, spot[1])
        there = _stand(figure, view, spot, rng)
        if not any(overlap(there, other) for other in figures):
            figures.append(there)
            spots.append(spot)
            return


def _in_row(rng: np.random.Generator, spots: list[np.ndarray], wider: float) -> np.ndarray:
    """A spot at one end of a row across the view, or behind somebody in it."""
    if rng.random() < 0.25:
        right, ahead = spots[rng.integers(len(spots))]
        step = rng.normal(0, 0.25), wider * rng.uniform(0.35, 0.7)
    else:
        end, side = (min, -1) if rng.random() < 0.5 else (max, 1)
        right, ahead = end(spots, key=lambda spot: spot[0])
        step = side * wider * rng.uniform(0.3, 0.65), rng.normal(0, 0.12)
    return np.array([right + step[0], ahead + step[1]])


def _close_by(
    rng: np.random.Generator, spots: list[np.ndarray], wider: float
) -> np.ndarray:
    """A spot beside, before or behind somebody."""
    turn, apart = rng.uniform(0, 2 * np.pi), wider * rng.uniform(0.35, 0.9)
    spot = spots[rng.integers(len(spots))]
    return spot + apart * np.array([np.cos(turn), 0.6 * np.sin(turn)])


def _anywhere(
    rng: np.random.Generator, spots: list[np.ndarray], camera: Camera
) -> np.ndarray:
    """A spot in view, about as far away as the first person's."""
    away = spots[0][1] * np.exp(rng.normal(0.1, 0.3))
    wide = camera.size * away / camera.focal
    aside = rng.uniform(-0.5, 0.5, 2) * wide
    # people before one another are rarer in photographs than dice would have it
    return np.array([max(aside, key=lambda x: abs(x - spots[0][0])), away])


def _add_crowd(
    figures: list[Figure], spots: list[np.ndarray], cast: Cast, view: View
) -> None:
    """Appends a far group that nobody tells apart."""
    rng, camera = cast.rng, cast.camera
    away = max(camera.focal * 1.7 / (rng.uniform(0.08, 0.2) * camera.size), 2 * spots[0][1])
    middle = rng.uniform(-0.4, 0.4) * camera.size * away / camera.focal
    for _ in range(rng.integers(4, 8)):
        spot = np.array([middle, away]) + rng.normal(0, [0.8, 0.4])
        figure = cast.dress(sample_person(rng, cast.variety), away, crowd=True)
        figures.append(_stand(figure, view, spot, rng))
        spots.append(spot)


def _stand(
    figure: Figure, view: View, spot: np.ndarray, rng: np.random.Generator
) -> Figure:
    """A dressed figure put on the ground; a few of them jump."""
    matrix = np.stack([view.right, -view.up, view.ahead], axis=1)
    lift = rng.uniform(0.1, 0.7) if rng.random() < 0.04 else 0.0
    body = figure.mesh.faces[figure.mesh.chart > 0]  # without things
    lowest = figure.vertices[body.ravel(), 1].max()  # y points down
    shift = view.place(spot[0], lift + lowest, spot[1])
    return figure._replace(
        vertices=(figure.vertices @ matrix.T + shift).astype(np.float32),
        normals=(figure.normals @ matrix.T).astype(np.float32),
        keypoints=figure.keypoints @ matrix.T + shift,
        middle=shift,
    )


def _sample_turn(rng: np.random.Generator, variety: float) -> Rotation:
    """How a person is turned, in the Y-up frame: most face us, some lie."""
    # most people in photographs face the camera, more or less
    turned = rng.random() < 0.25 + 0.2 * variety
    yaw = rng.uniform(-180, 180) if turned else rng.normal(0, 40)
    lie = rng.choice([0, 90, -90], p=[1 - 0.06 * variety, *[0.03 * variety] * 2])
    return Rotation.from_euler("ZY", [lie, yaw], degrees=True)


def _spot(view: View, point: np.ndarray) -> np.ndarray:
    """Where a camera point is over the ground. [2] (right, ahead)."""
    return np.array([point @ view.right, point @ view.ahead])


def _spine(keypoints: np.ndarray) -> np.ndarray:
    """Points down the middle of a trunk, and the head. [7, 3]."""
    shoulders, hips = keypoints[_TRUNK[:2]].mean(0), keypoints[_TRUNK[2:]].mean(0)
    share = np.linspace(0, 1, 5)[:, None]
    return np.concatenate(
        [shoulders + share * (hips - shoulders), keypoints[3:5].mean(0)[None], hips[None]]
    )


def _bones(keypoints: np.ndarray) -> np.ndarray:
    """Points along the limbs. [k, 3]."""
    start, end = keypoints[_LIMBS]
    share = np.linspace(0, 1, 4)[:, None, None]
    return (start + share * (end - start)).reshape(-1, 3)
