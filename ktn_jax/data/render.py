"""Ray casting of posed bodies: which body, face and place on it a pixel shows.

Frame: camera, metres, x right, y down, z away; continuous pixels (y, x), pixel centres
at +0.5. A body's Y-up frame turns into it by half a turn about X.
"""

from typing import NamedTuple

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from scipy import sparse

from ktn_jax.body import cut_charts, load_body

FLIP = np.diag([1.0, -1.0, -1.0])  # Y up, facing us -> camera


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
        return np.column_stack([xy, np.ones(len(xy))])


class Hits(NamedTuple):
    """What rays meet first; `hit` selects the rays that meet anything."""

    hit: np.ndarray  # [rays] bool
    person: np.ndarray  # [k] i64, for each hit
    face: np.ndarray  # [k] i64
    weights: np.ndarray  # [k, 3] barycentric

    def mix(self, corners: np.ndarray) -> np.ndarray:
        """Values between a face's corners. corners: [k, 3, d]. Returns [k, d]."""
        return np.einsum("kc,kcd->kd", self.weights, corners)

    def points(self, vertices: np.ndarray) -> np.ndarray:
        """Values given at each person's vertices. [people, n, d]. Returns [k, d]."""
        return self.mix(vertices[self.person[:, None], load_body().faces[self.face]])

    def chart(self) -> np.ndarray:
        """Charts. [k] 1..24."""
        return cut_charts().chart[self.face]

    def uv(self) -> np.ndarray:
        """Chart coordinates. [k, 2] in [0, 1]."""
        return self.mix(cut_charts().uv[self.face])


class Caster:
    """Bodies ready to be hit by rays. vertices: [people, n, 3] camera metres."""

    def __init__(self, vertices: np.ndarray, camera: Camera) -> None:
        self._camera = camera
        triangles = vertices[:, load_body().faces]
        first, second, third = np.moveaxis(triangles, 2, 0)
        normal = np.cross(second - first, third - first)
        # closed surfaces: what a ray meets first always faces the camera
        self._origin = np.argwhere((normal * first).sum(-1) < 0)
        kept = triangles[tuple(self._origin.T)]
        self._scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self._scene, kept.astype(np.float32))
        seen = camera.project(vertices)
        self._boxes = np.stack([seen.min(1), seen.max(1)], axis=1)

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
        u, v = found["u"][meets].astype(float), found["v"][meets].astype(float)
        person, face = self._origin[found["primID"][meets]].T
        return Hits(hit, person, face, np.column_stack([1 - u - v, u, v]))


def vertex_normals(vertices: np.ndarray) -> np.ndarray:
    """Unit outward normals, by face areas. vertices: [n, 3]. Returns [n, 3]."""
    faces = load_body().faces
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    shape = (len(vertices), len(faces))
    rows = (np.ones(faces.size), (faces.ravel(), np.repeat(np.arange(len(faces)), 3)))
    total = sparse.csr_matrix(rows, shape=shape) @ normal
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
