"""Dressed people before the camera: their surface, and its unlit colours.

Frame: as in render: camera metres.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ktn_jax.anatomy import COARSE_OF_CHART
from ktn_jax.body import load_body
from ktn_jax.data.garments import dress, worn_faces
from ktn_jax.data.looks import SKIN, Look, Waves
from ktn_jax.data.paints import paint
from ktn_jax.data.poses import Person, pose_person
from ktn_jax.data.render import FLIP, Hits, Mesh
from ktn_jax.data.template import Template, load_markers, load_template, near_keypoints
from ktn_jax.data.things import FIRST, Thing, place_thing
from ktn_jax.rig import skin_rounded

_FAR = 90  # pixels: smaller figures are made of fewer faces


class Figure(NamedTuple):
    """A dressed person in front of the camera."""

    vertices: np.ndarray  # [n, 3] f32 the visible surface, over the clothes
    normals: np.ndarray  # [n, 3] f32 outward, turned by folds, not of unit length
    keypoints: np.ndarray  # [17, 3]
    slack: np.ndarray  # [17] metres of cloth and hair over each keypoint
    mesh: Mesh
    look: Look
    middle: np.ndarray  # [3] of the body without clothes
    crowd: bool  # one of a far group that nobody tells apart


def place_figure(
    person: Person,
    look: Look,
    *,
    turn: Rotation,
    middle: np.ndarray,
    wrinkles: tuple[Waves, Waves, Waves],
    things: tuple[Thing, ...] = (),
    crowd: bool = False,
    pixels: float = np.inf,
) -> Figure:
    """A person dressed and put before the camera.

    turn: in the Y-up frame; none faces us.   middle: [3] camera metres, where the middle
    of the body comes.   pixels: about how tall the figure appears.
    """
    level = "far" if pixels < _FAR else "near"
    things_cloth = {FIRST + i: thing.cloth for i, thing in enumerate(things)}
    template, markers = load_template(level), load_markers()
    share = person.shares.astype(np.float32)
    ways, joints = pose_person(person)
    parents = load_body().parents
    rest = markers.rest + np.tensordot(share, markers.targets, 1)
    bare = skin_rounded(markers.weights, ways, rest, parents)
    rest = template.rest + np.tensordot(share, template.targets, 1)
    shift, covers = dress(look, template)
    posed = skin_rounded(template.weights, ways, rest + shift, parents)
    center = (bare.min(0) + bare.max(0)) / 2
    matrix = FLIP @ turn.as_matrix()
    mesh, used = _cut(look, template)
    mesh = _add_things(mesh, things)
    beside = [place_thing(thing, ways, joints) for thing in things]
    vertices = (np.concatenate([posed[used], *beside]) - center) @ matrix.T + middle
    vertices = vertices.astype(np.float32)
    covers = np.concatenate([covers[used], *[len(t.points) * [SKIN] for t in things]])
    return Figure(
        vertices=vertices,
        normals=_crease(look, wrinkles, mesh, covers, _normals(vertices, mesh.faces)),
        keypoints=(markers.keypoints @ bare - center) @ matrix.T + middle,
        slack=np.linalg.norm(shift, axis=1)[near_keypoints(level)].mean(1),
        mesh=mesh,
        look=look._replace(cloth=look.cloth | things_cloth),
        middle=middle,
        crowd=crowd,
    )


def paint_hits(
    figures: Sequence[Figure], hits: Hits
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unlit colours [k, 3], unit normals towards the eye's side [k, 3], and covers [k]."""
    position = hits.position()
    normals = hits.points([figure.normals for figure in figures])
    coarse = COARSE_OF_CHART[hits.chart()]
    worn = hits.mesh.worn[hits.face]
    color, covers = np.zeros_like(position), np.zeros(len(position), np.int8)
    for index, figure in enumerate(figures):
        mine = np.flatnonzero(hits.figure == index)
        at = position[mine]
        color[mine], covers[mine] = paint(
            figure.look, at, coarse=coarse[mine], worn=worn[mine]
        )
    inside = np.flatnonzero(worn >= 0)  # sheets may be seen from within
    eye = hits.points([figure.vertices for figure in figures], inside)
    normals[inside] *= -np.sign((normals[inside] * eye).sum(1, keepdims=True))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return color, normals, covers


def _cut(look: Look, template: Template) -> tuple[Mesh, np.ndarray]:
    """The mesh of what is worn, and which of the template's vertices it has. [n]."""
    worn = worn_faces(look, template)
    kept = np.flatnonzero(worn > -2)
    faces = template.faces[kept]
    seen = template.shell == 0
    seen[faces] = True
    used = np.flatnonzero(seen)
    place = np.cumsum(seen, dtype=np.int32) - np.int32(1)
    mesh = Mesh(
        faces=place[faces],
        chart=template.chart[kept],
        uv=template.uv[kept],
        position=template.position[used],
        worn=worn[kept],
    )
    return mesh, used


def _add_things(mesh: Mesh, things: Sequence[Thing]) -> Mesh:
    """The mesh with things after it, which are on no chart."""
    for index, thing in enumerate(things):
        number, first = len(thing.faces), np.int32(len(mesh.position))
        mesh = Mesh(
            faces=np.concatenate([mesh.faces, thing.faces + first]),
            chart=np.concatenate([mesh.chart, np.zeros(number, int)]),
            uv=np.concatenate([mesh.uv, np.zeros((number, 3, 2), np.float32)]),
            position=np.concatenate([mesh.position, thing.points.astype(np.float32)]),
            worn=np.concatenate([mesh.worn, np.full(number, FIRST + index, np.int8)]),
        )
    return mesh


def _crease(
    look: Look, folds: Sequence[Waves], mesh: Mesh, covers: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    """Normals turned by folds of the cloth; skin stays smooth. All [n, ...]."""
    deep = np.zeros(FIRST, np.float32)
    for kind, cloth in look.cloth.items():
        deep[kind] = cloth.crease
    turned = [field(mesh.position) for field in folds]
    return normals + deep[covers][:, None] * np.stack(turned, axis=1)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit outward normals, by face areas. vertices: [n, 3]. Returns [n, 3]."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    total = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), len(vertices))
            for axis in range(3)
        ],
        axis=1,
    ).astype(np.float32)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
