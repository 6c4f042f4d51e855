"""Ray casting of dressed bodies: which figure, face and place on it a pixel shows.

Frame: camera, metres, x right, y down, z away; continuous pixels (y, x), pixel centres
at +0.5. A body's Y-up frame turns into it by half a turn about X.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

FLIP = np.diag([1.0, -1.0, -1.0])  # Y up, facing us -> camera
NO_LAMPS = np.zeros((0, 3))


class Mesh(NamedTuple):
    """What does not move of a figure; f faces, n vertices."""

    faces: np.ndarray  # [f, 3] i32
    chart: np.ndarray  # [f] i64 1..24, 0 on things
    uv: np.ndarray  # [f, 3, 2] f32 in [0, 1]
    position: np.ndarray  # [n, 3] f32 canonical, see looks
    worn: np.ndarray  # [f] i8 what a sheet's or a thing's face shows; -1 on the body


class Solid(Protocol):
    """What can be hit: anything with a mesh and where its vertices are."""

    mesh: Mesh
    vertices: np.ndarray  # [n, 3] camera metres


class Camera(NamedTuple):
    """A pinhole at the origin that looks along z."""

    focal: float  # pixels
    size: int  # pixels, of the square image; its centre is on the axis

    def project(self, points: np.ndarray) -> np.ndarray:
        """Where camera points appear. points: [..., 3]. Returns [..., 2] (y, x)."""
        return self.focal * points[..., 1::-1] / points[..., 2:] + self.size / 2

    def rays(self, yx: np.ndarray) -> np.ndarray:
        """Directions with z = 1 through pixels. yx: [k, 2]. Returns [k, 3]."""
        xy = (yx[:, ::-1] - self.size / 2) / self.focal
        return np.column_stack([xy, np.ones(len(xy), xy.dtype)])


class Hits(NamedTuple):
    """What rays meet first; `hit` selects the rays that meet anything."""

    hit: np.ndarray  # [rays] bool
    figure: np.ndarray  # [k] i64, for each hit
    face: np.ndarray  # [k] i64, among all faces of all figures
    weights: np.ndarray  # [k, 3] barycentric
    mesh: Mesh  # of all figures, one after the other

    @property
    def person(self) -> np.ndarray:
        """Whose surface was hit, -1 where it is a thing's. [k]."""
        return np.where(self.chart() > 0, self.figure, -1)

    def points(
        self, values: Sequence[np.ndarray], some: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Values given at each figure's vertices, [n, d] each. Returns [k, d].

        some: indices of the hits to look at, or all.
        """
        return self._blend(np.concatenate(list(values)), some)

    def position(self) -> np.ndarray:
        """Canonical positions. [k, 3]."""
        return self._blend(self.mesh.position, slice(None))

    def _blend(self, values: np.ndarray, some: np.ndarray | slice) -> np.ndarray:
        faces, weights = self.mesh.faces[self.face[some]], self.weights[some]
        return sum(  # three times faster than one product of triples
            weights[:, corner, None] * values[faces[:, corner]] for corner in range(3)
        )

    def chart(self) -> np.ndarray:
        """Charts. [k] 1..24, 0 on things."""
        return self.mesh.chart[self.face]

    def uv(self) -> np.ndarray:
        """Chart coordinates. [k, 2] in [0, 1]."""
        return np.einsum("kc,kcd->kd", self.weights, self.mesh.uv[self.face])

    def pick(self, kept: np.ndarray) -> "Hits":
        """Some of the hits; the other rays count as misses. kept: [k] bool."""
        hit = self.hit.copy()
        hit[self.hit] = kept
        return Hits(hit, self.figure[kept], self.face[kept], self.weights[kept], self.mesh)


class Caster:
    """Figures ready to be hit by rays."""

    def __init__(
        self, solids: Sequence[Solid], camera: Camera, lamps: np.ndarray = NO_LAMPS
    ) -> None:
        """lamps: [lamps, 3] unit, the directions that `reach` will be asked for."""
        self._camera, self._lamps = camera, lamps
        self._mesh = _join([solid.mesh for solid in solids])
        counts = [len(solid.mesh.faces) for solid in solids]
        self._person = np.repeat(np.arange(len(solids)), counts)
        vertices = np.concatenate([s.vertices for s in solids]).astype(np.float32)
        self._kept = _met_faces(vertices, self._mesh, lamps)
        self._scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self._scene, vertices, self._mesh.faces[self._kept])
        seen = [camera.project(solid.vertices) for solid in solids]
        self._boxes = [(yx.min(0), yx.max(0)) for yx in seen]

    def cast(self, yx: np.ndarray) -> Hits:
        """What is seen at pixels. yx: [rays, 2]."""
        hit = np.zeros(len(yx), bool)
        y, x = yx.T
        for (top, left), (bottom, right) in self._boxes:  # most rays pass by all
            hit |= (y >= top) & (y <= bottom) & (x >= left) & (x <= right)
        rays = self._camera.rays(yx[hit]).astype(np.float32)
        found = self._scene.run(np.zeros_like(rays), rays, output=1)
        meets = found["primID"] >= 0
        hit[hit] = meets
        u, v = found["u"][meets], found["v"][meets]
        face = self._kept[found["primID"][meets]]
        weights = np.column_stack([1 - u - v, u, v])
        return Hits(hit, self._person[face], face, weights, self._mesh)

    def reach(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Whether nobody stands between surface points and the lamps. [k, lamps] bool.

        points, normals: [k, 3]. Points that face away from a lamp count as reached.
        """
        reached = np.ones((len(points), len(self._lamps)), bool)
        for lamp, direction in enumerate(self._lamps):
            asked = normals @ direction > 0
            # a little off the surface, which is of flat faces
            start = points[asked] + 0.015 * (normals[asked] + direction)
            rays = np.broadcast_to(direction, start.shape).astype(np.float32)
            blocked = self._scene.run(start.astype(np.float32), rays, query="OCCLUDED")
            reached[asked, lamp] = blocked < 0
        return reached


def _met_faces(vertices: np.ndarray, mesh: Mesh, lamps: np.ndarray) -> np.ndarray:
    """Faces a ray may meet: of a closed body those that face us or a lamp; all sheets.

    A ray from the eye enters a body where its surface faces us; one to a lamp leaves it
    where it faces the lamp. Fewer faces are sooner built into the tree.
    """
    a, b, c = (vertices[mesh.faces[:, corner]] for corner in range(3))
    b, c = b - a, c - a
    x = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
    y = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
    z = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    met = (a[:, 0] * x + a[:, 1] * y + a[:, 2] * z < 0) | (mesh.worn >= 0)
    for lamp in lamps:
        met |= lamp[0] * x + lamp[1] * y + lamp[2] * z > 0
    return np.flatnonzero(met)


def _join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    first = np.cumsum([0] + [len(mesh.position) for mesh in meshes])
    faces = [m.faces + np.int32(f) for m, f in zip(meshes, first, strict=False)]
    rest = [np.concatenate(values) for values in list(zip(*meshes, strict=True))[1:]]
    return Mesh(np.concatenate(faces), *rest)
