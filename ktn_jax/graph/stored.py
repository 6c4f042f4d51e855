"""A graph in a file: its three matrices, the names of rows and columns, its relations."""

import io
import zipfile
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from ktn_jax import files
from ktn_jax.anatomy import CHARTS, KEYPOINTS, PARTS
from ktn_jax.errors import UserError
from ktn_jax.graph.matrices import PERSON_ROWS, WEIGHTS, Graph, empty_graph

NAMES = {
    "charts": CHARTS,
    "keypoints": KEYPOINTS,
    "parts": PARTS,
    "person_rows": PERSON_ROWS,
}
SHIPPED_VISUAL = "graph_visual.npz"  # made by the command in assets/LICENSES.md


def write_graph(path: Path, graph: Graph, relations: Sequence[str]) -> None:
    """Write an npz: keypoint, part, person, the lists of NAMES, relations."""
    arrays = {name: matrix.astype(np.float32) for name, matrix in graph._asdict().items()}
    names = {key: np.array(value) for key, value in NAMES.items()}
    with files.atomic(path) as file:
        np.savez(file, **arrays, **names, relations=np.array(relations))


def read_graph(path: Path | Traversable) -> Graph:
    """The graph of an npz; raises UserError where names, shapes or numbers are not ours."""
    arrays = _read_arrays(path)
    for key, names in NAMES.items():
        stored = tuple(arrays[key].ravel().tolist())
        if stored != names:
            pairs = zip((*stored, "nothing"), (*names, "nothing"), strict=False)
            theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
            raise UserError(
                f"graph {path}: {key} has {theirs!r} where {ours!r} belongs; keep names "
                "and order of a file made by python -m ktn_jax.graph"
            )
    for name, zero in empty_graph()._asdict().items():
        matrix = arrays[name]
        if matrix.shape != zero.shape or matrix.dtype.kind != "f":
            raise UserError(
                f"graph {path}: {name} is {matrix.dtype} {list(matrix.shape)}, expected "
                f"float32 {list(zero.shape)}: charts down, then the names of the columns"
            )
        if not np.isfinite(matrix).all():
            raise UserError(f"graph {path}: {name} holds nan or infinity; build it anew")
    return Graph(*(arrays[name].astype(np.float32) for name in Graph._fields))


def shipped_visual() -> Graph:
    """V of the rendered people, for those who have counted nothing of their own."""
    stored = read_graph(resources.files("ktn_jax.assets").joinpath(SHIPPED_VISUAL))
    # the file is a graph of V alone, so A = 0.3 V and 0.5 V
    return Graph(*(a / w for a, w in zip(stored, WEIGHTS, strict=True)))


def _read_arrays(path: Path | Traversable) -> dict[str, np.ndarray]:
    remedy = "make one with python -m ktn_jax.graph --out=FILE.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"graph {path} cannot be read: {error.strerror}; {remedy}"
        ) from error
    try:
        with np.load(io.BytesIO(content)) as stored:
            arrays = dict(stored)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"graph {path} is not an npz file of numbers; {remedy}") from error
    if missing := [key for key in (*Graph._fields, *NAMES) if key not in arrays]:
        raise UserError(f"graph {path} has no {', '.join(missing)}; {remedy}")
    return arrays
