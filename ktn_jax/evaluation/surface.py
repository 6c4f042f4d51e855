"""The body surface that GPS measures on: charts, their (U, V), and geodesic distances.

A surface is a list of records (chart, uv, vertex). Along a seam two records with
different charts share one merged vertex, and distances are between merged vertices,
0-based, in metres. Distances come packed from the official files, or from our own body
by the heat method.
"""

import hashlib
import os
import zipfile
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import potpourri3d
from scipy.io import loadmat
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ktn_jax.errors import UserError
from ktn_jax.evaluation.packed import TABLE, PackedDistances, read_table
from ktn_jax.files import atomic

BODY = "body"  # the name of our own surface where a directory could stand
MESH_FIELDS = ("vertices", "faces", "chart", "uv", "vertex")  # of a mesh in an npz
_FAR = 1000.0  # between charts; distances inside of one are at most sqrt(2)


class Distances(Protocol):
    """Geodesic distances between merged vertices."""

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Metres from vertex a[i] to vertex b[i], f64. a is the ground truth's."""


class Surface:
    """Body surface with a nearest-record search in each chart.

    chart: [M] 1..24.   uv: [M, 2] in [0, 1].   vertex: [M] merged vertex, 0-based.
    """

    def __init__(
        self, chart: np.ndarray, uv: np.ndarray, *, vertex: np.ndarray, distances: Distances
    ) -> None:
        self.chart = np.asarray(chart, np.int64)
        self.uv = np.asarray(uv, np.float64)
        self.vertex = np.asarray(vertex, np.int64)
        self._charts = np.unique(self.chart)
        self.num_vertices = int(self.vertex.max()) + 1
        self.distances = distances
        self._tree = cKDTree(self._apart(self.chart, self.uv))

    def closest(self, chart: np.ndarray, uv: np.ndarray) -> np.ndarray:
        """Merged vertex nearest in (U, V) among the chart's records, the first if tied.

        chart: [n].   uv: [n, 2].   Returns [n] i64; -1 where chart is not on the
        surface (background, or a number that is none of 1..24).
        """
        chart, uv = np.asarray(chart), np.asarray(uv, np.float64).reshape(-1, 2)
        vertices = np.full(len(chart), -1, np.int64)
        known = np.flatnonzero(self._has(chart))
        if known.size:
            vertices[known] = self.vertex[self._nearest(chart[known], uv[known])]
        return vertices

    def _has(self, chart: np.ndarray) -> np.ndarray:
        """Whether the surface has each chart of [n], which may be any numbers."""
        return (chart[:, None] == self._charts).any(axis=1)

    def _nearest(self, chart: np.ndarray, uv: np.ndarray) -> np.ndarray:
        """Record nearest to each uv [n, 2] in its chart [n]; the first one in a tie."""
        distance, record = self._tree.query(self._apart(chart, uv), k=2)
        best = record[:, 0]
        # A tree does not say which of two equals it returns, the metric takes the first
        # of the list; so whatever is close to a tie is decided by looking at all.
        tied = distance[:, 1] <= distance[:, 0] * (1 + 1e-9) + 1e-12
        for label in np.unique(chart[tied]):
            here = np.flatnonzero(tied & (chart == label))
            records = np.flatnonzero(self.chart == label)
            best[here] = records[cdist(self.uv[records], uv[here]).argmin(axis=0)]
        return best

    @staticmethod
    def _apart(chart: np.ndarray, uv: np.ndarray) -> np.ndarray:
        """[n, 3]: one space for all charts, in which no two come near each other."""
        return np.column_stack([_FAR * chart, uv])

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Geodesic metres from a[i] (ground truth) to b[i], f64."""
        return self.distances.between(np.asarray(a, np.int64), np.asarray(b, np.int64))


class HeatDistances:
    """Distances on a mesh by the heat method, a row a source, solved when asked for.

    The method is not quite symmetric; the first argument, the ground truth's vertex, is
    always the source, so a pair has one value. Rows are kept as float16 (1 mm at 2 m) in
    one table of n x n, which bounds the memory; with a cache directory the table is a
    file there, and another run finds the rows.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        *,
        cache_dir: str | os.PathLike | None = None,
    ) -> None:
        self._vertices = np.ascontiguousarray(vertices, np.float64)
        self._faces = np.ascontiguousarray(faces, np.int64)
        self._cache_dir = cache_dir
        self._rows = self._open_rows(cache_dir)

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Metres from source a[i] to b[i]; 0 for a vertex and itself."""
        a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
        self._solve(np.unique(a))
        return np.where(a == b, 0.0, self._rows[a, b].astype(np.float64))

    def __reduce__(self) -> tuple[Any, ...]:
        # another process has a solver of its own; it shares the rows through the file
        make = partial(HeatDistances, cache_dir=self._cache_dir)
        return make, (self._vertices, self._faces)

    @cached_property
    def _solver(self) -> potpourri3d.MeshHeatMethodDistanceSolver:
        return potpourri3d.MeshHeatMethodDistanceSolver(self._vertices, self._faces)

    def _solve(self, sources: np.ndarray) -> None:
        """Fills the rows of sources that are not known yet."""
        # The distance of a vertex to itself is never read, so that cell says instead
        # whether its row is there; it is written last, after the row has reached disk.
        missing = sources[self._rows[sources, sources] == 0]
        for source in missing:
            row = self._solver.compute_distance(int(source))
            if not np.isfinite(row).all():
                raise UserError(
                    f"the distances from vertex {source} are not finite; the mesh must "
                    "be one connected surface without empty faces"
                )
            row[source] = 0
            self._rows[source] = row
        if missing.size and isinstance(self._rows, np.memmap):
            self._rows.flush()
        self._rows[missing, missing] = 1

    def _open_rows(self, cache_dir: str | os.PathLike | None) -> np.ndarray:
        n = len(self._vertices)
        if cache_dir is None:
            return np.zeros((n, n), np.float16)  # pages are taken as rows are written
        digest = hashlib.sha256(self._vertices.tobytes() + self._faces.tobytes())
        path = Path(cache_dir) / f"heat_{digest.hexdigest()[:16]}.f16"
        if not path.exists() or path.stat().st_size != 2 * n * n:
            with atomic(path) as file:
                file.truncate(2 * n * n)
        return np.memmap(path, np.float16, "r+", shape=(n, n))


def load_surface(
    name: str | os.PathLike, *, cache_dir: str | os.PathLike | None = None
) -> Surface:
    """The surface called "body" (ours), one of an .npz, or DensePose's of a directory."""
    if os.fspath(name) == BODY:
        return load_body(cache_dir=cache_dir)
    if Path(name).suffix == ".npz":
        return load_mesh(name, cache_dir=cache_dir)
    return load_official(name, cache_dir=cache_dir)


def load_body(*, cache_dir: str | os.PathLike | None = None) -> Surface:
    """Our own CC0 body, with heat distances kept in cache_dir if given."""
    from ktn_jax import body  # here: the official surface does not need a body

    mesh = body.metric_mesh()
    distances = HeatDistances(mesh.vertices, mesh.faces, cache_dir=cache_dir)
    return Surface(mesh.chart, mesh.uv, vertex=mesh.vertex, distances=distances)


def load_mesh(
    path: str | os.PathLike, *, cache_dir: str | os.PathLike | None = None
) -> Surface:
    """A surface without a table: distances are computed on its mesh by the heat method.

    path: an npz of vertices [n, 3] in metres, faces [f, 3] (0-based, one connected
    surface), and of records chart [m] 1..24, uv [m, 2] in [0, 1], vertex [m] (0-based).
    """
    try:
        with np.load(path) as arrays:
            mesh = {name: arrays[name] for name in MESH_FIELDS}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no npz of the arrays {MESH_FIELDS}: {error}") from error
    numbers = np.concatenate([mesh["faces"].ravel(), mesh["vertex"].ravel()])
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= len(mesh["vertices"]):
        raise UserError(
            f"{path} names vertices {numbers.min()}..{numbers.max()}, but has "
            f"{len(mesh['vertices'])}; they count from 0"
        )
    distances = HeatDistances(mesh["vertices"], mesh["faces"], cache_dir=cache_dir)
    return Surface(mesh["chart"], mesh["uv"], vertex=mesh["vertex"], distances=distances)


def load_official(
    directory: str | os.PathLike, *, cache_dir: str | os.PathLike | None = None
) -> Surface:
    """DensePose's own surface from the three files of its evaluation data.

    A table that cannot be mapped where it lies is unpacked once into cache_dir, or, if
    there is none, into a temporary file (1.5 GB for the official one).
    """
    records = loadmat(_find(directory, "SMPL_subdiv.mat"))
    merge = loadmat(_find(directory, "SMPL_SUBDIV_TRANSFORM.mat"))["index"]
    path = _find(directory, f"{TABLE}.pkl", f"{TABLE}.mat")
    table = read_table(path, cache_dir=None if cache_dir is None else Path(cache_dir))
    vertex = merge.ravel().astype(np.int64) - 1  # the file counts from 1
    n = int(vertex.max()) + 1
    if len(table) != n * (n - 1) // 2:
        raise UserError(
            f"{path} holds {len(table)} distances, but {n} vertices need "
            f"{n * (n - 1) // 2}; take all three files from the same release"
        )
    return Surface(
        records["Part_ID_subdiv"].ravel(),
        np.stack([records["U_subdiv"].ravel(), records["V_subdiv"].ravel()], axis=-1),
        vertex=vertex,
        distances=PackedDistances(table),
    )


class ChartMesh(NamedTuple):
    """DensePose's mesh cut into charts: for textures, and to name SMPL's vertices."""

    faces: np.ndarray  # [f, 3] i64 rows of uv and vertex, 0-based
    chart: np.ndarray  # [f] i64 1..24
    uv: np.ndarray  # [r, 2] f64 in [0, 1]
    vertex: np.ndarray  # [r] i64 vertex of SMPL, 0-based; seams share one


def load_chart_mesh(directory: str | os.PathLike) -> ChartMesh:
    """The cut mesh of UV_Processed.mat, which counts from 1."""
    mesh = loadmat(_find(directory, "UV_Processed.mat"))
    return ChartMesh(
        faces=mesh["All_Faces"].astype(np.int64) - 1,
        chart=mesh["All_FaceIndices"].ravel().astype(np.int64),
        uv=np.stack([mesh["All_U_norm"].ravel(), mesh["All_V_norm"].ravel()], axis=-1),
        vertex=mesh["All_vertices"].ravel().astype(np.int64) - 1,
    )


def _find(directory: str | os.PathLike, *names: str) -> Path:
    for name in names:
        if (Path(directory) / name).is_file():
            return Path(directory) / name
    raise UserError(
        f"{' or '.join(names)} is not in {os.fspath(directory)!r}. It belongs to "
        "DensePose's evaluation data (CC BY-NC, so not shipped here): get "
        "SMPL_subdiv.mat, SMPL_SUBDIV_TRANSFORM.mat, Pdist_matrix.pkl and "
        "UV_Processed.mat with the DensePose project's instructions, or use the surface "
        f"{BODY!r}"
    )
