"""What every rendered person is made from: a thinned body and all shells, ready to pose.

One idea: the rest shape, its targets, skin weights and labels of body and shells lie in
one set of arrays, so that a person is two products: shape, then pose.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from ktn_jax.anatomy import COARSE, COARSE_OF_CHART
from ktn_jax.body import cut_charts, find_keypoints, load_body, skin_matrix, t_pose
from ktn_jax.data.shells import Shell, build_shells, label_faces
from ktn_jax.rig import skin_points

ASSET = Path(__file__).parents[1] / "assets" / "thin.npz"
_TOE_ROUNDS = 30  # more, until the toes are one
_ROUNDS = 12  # of averaging over neighbours, for cloth that does not show toes


class Template(NamedTuple):
    """Body and shells; n vertices, f faces."""

    rest: np.ndarray  # [n, 3] f32, rest pose, metres
    targets: np.ndarray  # [t, n, 3] f32
    weights: sparse.csr_matrix  # [n, b] f32
    position: np.ndarray  # [n, 3] f32 canonical: in the T pose
    outward: np.ndarray  # [n, 3] f32 unit, in the rest pose
    smooth: np.ndarray  # [n, 3] f32 to the smoothed surface, in the rest pose
    around: np.ndarray  # [n] f32 a shell's angle; 0 on the body
    coarse: np.ndarray  # [n] i64 coarse part
    shell: np.ndarray  # [n] i64 which shell, 0 the body
    faces: np.ndarray  # [f, 3] i32
    face_shell: np.ndarray  # [f] i64
    chart: np.ndarray  # [f] i64 1..24
    uv: np.ndarray  # [f, 3, 2] f32


class Markers(NamedTuple):
    """The vertices that make up keypoints."""

    rest: np.ndarray  # [m, 3] f32
    targets: np.ndarray  # [t, m, 3] f32
    weights: sparse.csr_matrix  # [m, b] f32
    keypoints: sparse.csr_matrix  # [17, m]


@functools.cache
def load_template(level: str = "near") -> Template:
    """The template of a level of thin.LEVELS."""
    with np.load(ASSET) as asset:
        corners = asset[level].astype(int)
    body, charts, straight = load_body(), cut_charts(), t_pose().vertices
    used, faces = np.unique(body.faces.ravel()[corners], return_inverse=True)
    faces = faces.reshape(-1, 3)
    chart, uv = charts.chart[corners[:, 0] // 3], charts.uv.reshape(-1, 2)[corners]
    coarse = np.ones(len(used), int)
    coarse[faces] = COARSE_OF_CHART[chart][:, None]
    rest = body.base.vertices[used]
    whole = Template(
        rest=rest,
        targets=body.targets[:, used],
        weights=skin_matrix()[used],
        position=straight[used],
        outward=_vertex_normals(rest, faces),
        smooth=_smooth(rest, faces, feet=coarse == COARSE.index("feet")) - rest,
        around=np.zeros(len(used)),
        coarse=coarse,
        shell=np.zeros(len(used), int),
        faces=faces,
        face_shell=np.zeros(len(faces), int),
        chart=chart,
        uv=uv,
    )
    labels = (straight[used][faces], chart, uv)
    pieces = [_hang(kind, shell, labels) for kind, shell in build_shells().items()]
    return _join([whole, *pieces])


@functools.cache
def load_markers() -> Markers:
    """What find_keypoints needs, and no more."""
    body = load_body()
    used = np.unique(body.keypoints.indices)
    return Markers(
        body.base.vertices[used].astype(np.float32),
        body.targets[:, used],
        skin_matrix()[used].astype(np.float32),
        body.keypoints[:, used],
    )


@functools.cache
def near_keypoints(level: str) -> np.ndarray:
    """The body's vertices in a template nearest to each keypoint. [17, 8]."""
    template = load_template(level)
    own = np.flatnonzero(template.shell == 0)
    return own[
        cKDTree(template.position[own]).query(find_keypoints(t_pose().vertices), 8)[1]
    ]


def _hang(kind: int, shell: Shell, labels: tuple) -> Template:
    """A shell as a template of its own. labels: as of label_faces."""
    body = load_body()
    number = len(shell.points)
    weights = sparse.csr_matrix(shell.weights)
    still = np.zeros((len(body.bones), 3, 4))
    still[:, :, :3] = body.straighten
    joints = t_pose().joints
    still[:, :, 3] = joints - np.einsum("bij,bj->bi", body.straighten, body.base.joints)
    blend = (shell.weights @ still.reshape(-1, 12)).reshape(-1, 3, 4)
    back = np.linalg.inv(blend[:, :, :3])  # from the T pose to rest
    rest = np.einsum("nij,nj->ni", back, shell.points - blend[:, :, 3])
    # a shell grows with the body's vertices under it
    parts = np.flatnonzero(np.isin(_full_coarse(), shell.under))
    _, near = cKDTree(t_pose().vertices[parts]).query(shell.points, 16)
    outward = np.einsum("nij,nj->ni", back, shell.outward)
    chart, uv = label_faces(shell.points, shell.faces, under=shell.under, body=labels)
    coarse = np.ones(number, int)
    coarse[shell.faces] = COARSE_OF_CHART[chart][:, None]
    assert np.allclose(skin_points(weights, still, rest), shell.points, atol=1e-9)
    return Template(
        rest=rest,
        targets=body.targets[:, parts[near]].astype(float).mean(2),
        weights=weights,
        position=shell.points,
        outward=outward,
        smooth=np.zeros((number, 3)),
        around=shell.around,
        coarse=coarse,
        shell=np.full(number, kind),
        faces=shell.faces,
        face_shell=np.full(len(shell.faces), kind),
        chart=chart,
        uv=uv,
    )


def _join(pieces: list[Template]) -> Template:
    """One template of several, with the types promised above."""
    first = np.cumsum([0] + [len(p.rest) for p in pieces])
    joined = {}
    for name in Template._fields:
        values = [getattr(p, name) for p in pieces]
        if name == "faces":
            values = [v + start for v, start in zip(values, first, strict=False)]
        if name == "weights":
            joined[name] = sparse.vstack(values).tocsr().astype(np.float32)
        else:
            joined[name] = np.concatenate(values, axis=1 if name == "targets" else 0)
            if joined[name].dtype.kind == "f":
                joined[name] = joined[name].astype(np.float32)
    return Template(**joined | {"faces": joined["faces"].astype(np.int32)})


def _full_coarse() -> np.ndarray:
    """A coarse part for each of the body's vertices. [n] 1..8."""
    coarse = np.ones(len(load_body().base.vertices), int)
    coarse[load_body().faces] = COARSE_OF_CHART[cut_charts().chart][:, None]
    return coarse


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit outward normals, by face areas. [n, 3]."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = gather(faces, len(vertices)) @ normal
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def gather(faces: np.ndarray, number: int) -> sparse.csr_matrix:
    """Sums values of faces at their vertices. [number, f]."""
    rows = (
        np.ones(faces.size, np.float32),
        (faces.ravel(), np.repeat(np.arange(len(faces)), 3)),
    )
    return sparse.csr_matrix(rows, shape=(number, len(faces)))


def _smooth(vertices: np.ndarray, faces: np.ndarray, *, feet: np.ndarray) -> np.ndarray:
    """The surface after rounds of averaging over neighbours. [n, 3]. feet: [n] bool."""
    edges = faces[:, [0, 1, 1, 2, 2, 0, 1, 0, 2, 1, 0, 2]].reshape(-1, 2)
    shape = (len(vertices),) * 2
    near = sparse.csr_matrix((np.ones(len(edges)), edges.T), shape=shape)
    near.data[:] = 1
    near = sparse.diags(1 / np.maximum(np.asarray(near.sum(1)).ravel(), 1)) @ near
    for step in range(2 * _ROUNDS):  # Taubin's: shrink, then grow a little less
        share = 0.5 if step % 2 == 0 else -0.45
        vertices = vertices + share * (near @ vertices - vertices)
    shoe = vertices
    for _ in range(_TOE_ROUNDS):
        shoe = 0.5 * (near @ shoe + shoe)
    return np.where(feet[:, None], shoe, vertices)
