"""A body of our own: its shapes, its poses, and its surface cut into the 24 charts.

One idea: everything about charts is decided once, in the T pose, on the left half of
the mesh; the right half is its mirror image, so the mirror rule of anatomy holds exactly.
Frame: metres, X the subject's left, Y up, Z front. Bends are rotations relative to the
T pose (palms down, thumbs front), about the T pose's own X, Y and Z.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ktn_jax.anatomy import MIRRORED_CHART, NUM_CHARTS, NUM_KEYPOINTS, mirror_uv
from ktn_jax.rig import skin_points, straighten

ASSET = Path(__file__).parent / "assets" / "body.npz"
HEIGHT = 1.79  # metres; at this height geodesics have the scale of the official metric
_METRIC_SHAPES = (  # a plain adult, the young of three origins and two sexes
    "caucasian-male-young",
    "caucasian-female-young",
    "african-male-young",
    "african-female-young",
    "asian-male-young",
    "asian-female-young",
)
_X, _Y, _Z = np.eye(3)


class Shape(NamedTuple):
    """A body at rest."""

    vertices: np.ndarray  # [n, 3] f64 metres
    joints: np.ndarray  # [b, 3] f64 metres


class Body(NamedTuple):
    """The asset as it is loaded; faces f, vertices n, bones b, targets t."""

    base: Shape  # in the rest pose, an A pose
    targets: np.ndarray  # [t, n, 3] f32 metres to add
    joint_targets: np.ndarray  # [t, b, 3] f32
    target_names: tuple[str, ...]
    bones: tuple[str, ...]  # parents come first
    parents: np.ndarray  # [b] i64, -1 at the root
    skin_bones: np.ndarray  # [n, 4] i64
    skin_weights: np.ndarray  # [n, 4] f64, rows sum to 1
    keypoints: sparse.csr_matrix  # [17, n] rows sum to 1
    faces: np.ndarray  # [f, 3] i64; the second half mirrors the first (left) half
    mirror: np.ndarray  # [n] i64 the vertex at (-x, y, z)
    straighten: np.ndarray  # [b, 3, 3] rotation of each bone from rest to the T pose


class Charts(NamedTuple):
    """The surface cut: which chart a face lies in, and (U, V) at its corners."""

    chart: np.ndarray  # [f] i64 1..24
    uv: np.ndarray  # [f, 3, 2] f64 in [0, 1]


class MetricMesh(NamedTuple):
    """The body as a metric space, with its points by chart and (U, V).

    A record is one distinct (vertex, chart, uv): on a seam a vertex has several.
    """

    vertices: np.ndarray  # [n, 3] f64 metres, standing HEIGHT tall
    faces: np.ndarray  # [f, 3] i64, one closed surface
    chart: np.ndarray  # [M] i32 1..24
    uv: np.ndarray  # [M, 2] f32 in [0, 1]
    vertex: np.ndarray  # [M] i64, the record's vertex


@functools.cache
def load_body() -> Body:
    """The body in this package; read once."""
    with np.load(ASSET, allow_pickle=False) as asset:
        data = dict(asset)
    base = Shape(data["vertices"].astype(float), data["joints"].astype(float))
    bones = tuple(map(str, data["bones"]))
    mirror = data["mirror"].astype(int)
    left = data["faces"].astype(int)
    weights = data["skin_weights"].astype(float)
    regressor = (
        data["keypoint_weights"].astype(float),
        (data["keypoint_rows"], data["keypoint_vertices"]),
    )
    return Body(
        base=base,
        targets=data["targets"].astype(np.float32),
        joint_targets=data["joint_targets"],
        target_names=tuple(map(str, data["target_names"])),
        bones=bones,
        parents=data["parents"].astype(int),
        skin_bones=data["skin_bones"].astype(int),
        skin_weights=weights / weights.sum(1, keepdims=True),
        keypoints=sparse.csr_matrix(regressor, shape=(NUM_KEYPOINTS, len(base.vertices))),
        faces=np.concatenate([left, mirror[left][:, ::-1]]),
        mirror=mirror,
        straighten=straighten(base.joints, bones),
    )


def mix_shape(weights: dict[str, float]) -> Shape:
    """The rest body moved towards named targets.

    weights: target name -> share; 1 is the whole target, shares add up.
    """
    body = load_body()
    unknown = set(weights) - set(body.target_names)
    if unknown:
        raise ValueError(f"no shape {sorted(unknown)}; there are {body.target_names}")
    share = np.array([weights.get(name, 0.0) for name in body.target_names])
    return Shape(
        body.base.vertices + np.tensordot(share, body.targets, 1),
        body.base.joints + np.tensordot(share, body.joint_targets, 1),
    )


def pose_bones(joints: np.ndarray, bends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each bone's way from rest to a pose [b, 3, 4], and the posed joints [b, 3].

    joints: [b, 3] at rest.   bends: as of pose_shape.
    """
    body = load_body()
    turn = np.empty_like(bends)
    posed = np.empty_like(joints)
    world = np.empty_like(bends)  # the bone from rest to the pose
    for bone, parent in enumerate(body.parents):
        turn[bone] = bends[bone] if parent < 0 else turn[parent] @ bends[bone]
        world[bone] = turn[bone] @ body.straighten[bone]
        posed[bone] = joints[bone]
        if parent >= 0:
            posed[bone] = posed[parent] + world[parent] @ (joints[bone] - joints[parent])
    shift = posed - np.einsum("bij,bj->bi", world, joints)
    return np.concatenate([world, shift[:, :, None]], axis=2), posed


def pose_shape(shape: Shape, bends: np.ndarray) -> Shape:
    """A shape posed by linear blend skinning.

    bends: [b, 3, 3] rotations; all identity is the T pose. A bend turns about the
    bone's joint and carries everything further out along.
    """
    ways, joints = pose_bones(shape.joints, bends)
    return Shape(skin_points(skin_matrix(), ways, shape.vertices), joints)


@functools.cache
def skin_matrix() -> sparse.csr_matrix:
    """The body's skin weights. [n, b] f64, rows sum to 1."""
    body = load_body()
    number, most = body.skin_bones.shape
    rows = np.arange(0, number * most + 1, most)
    entries = (body.skin_weights.ravel(), body.skin_bones.ravel(), rows)
    return sparse.csr_matrix(entries, shape=(number, len(body.bones)))


def find_keypoints(vertices: np.ndarray) -> np.ndarray:
    """The 17 COCO keypoints of a posed body. vertices: [n, 3]. Returns [17, 3]."""
    return load_body().keypoints @ vertices


def t_pose() -> Shape:
    """The base shape in the T pose, in which charts are cut."""
    body = load_body()
    return pose_shape(body.base, np.tile(np.eye(3), (len(body.bones), 1, 1)))


def metric_mesh() -> MetricMesh:
    """The plain adult at HEIGHT, for geodesics in the official scale."""
    body, charts = load_body(), cut_charts()
    share = 1 / len(_METRIC_SHAPES)
    vertices = mix_shape(dict.fromkeys(_METRIC_SHAPES, share)).vertices
    used, faces = np.unique(body.faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = vertices[used] * (HEIGHT / np.ptp(vertices[used, 1]))
    corners = np.column_stack(
        [
            np.repeat(charts.chart, 3),
            faces.ravel(),
            # corners of one chart agree to rounding unless a cut runs between them
            charts.uv.reshape(-1, 2).round(6),
        ]
    )
    records = np.unique(corners, axis=0)
    return MetricMesh(
        vertices=vertices,
        faces=faces,
        chart=records[:, 0].astype(np.int32),
        uv=records[:, 2:].astype(np.float32),
        vertex=records[:, 1].astype(np.int64),
    )


class _Rule(NamedTuple):
    """How a left (or middle) chart is laid out; directions are in the T pose."""

    bones: tuple[str, ...]  # the faces these bones move
    center: np.ndarray  # the side of the bones' axis the chart lies on
    along: np.ndarray  # one coordinate grows this way, as a rule along the axis
    around: np.ndarray  # the other grows around the axis, this way at the center
    u_is_along: bool
    turn: float = 0  # degrees: the chart lies this far from `center` towards `around`
    squeeze: tuple[float, float, float] = (1, 1, 1)  # of x, y, z before angles are taken
    ball: bool = False  # along by latitude: blunt ends keep a spread of values
    reach: float = 100  # degrees around from .5 to 1; a seam's teeth pass 90
    shift: tuple[float, float, float] = (0, 0, 0)  # metres from the middle to the axis
    slope: float = 0  # by which the axis rises towards the front
    lean: float = 0  # by which the axis moves forward as it rises

    def angle(self, points: np.ndarray) -> np.ndarray:
        """Degrees around the axis from the chart's center, to 180. points: [..., 3]."""
        angle = np.degrees(np.arctan2(points @ self.around, points @ self.center))
        return 180 - (180 - angle + self.turn) % 360


_TORSO = ("Root", "pelvis", "spine_01", "spine_02", "spine_03", "clavicle_l")
_HEAD = ("head", "neck_01")
_FOOT = ("foot_l", "ball_l")
_HAND = (
    "hand_l",
    *(f"{finger}_0{i}_l" for finger in ("pinky", "ring", "middle") for i in (1, 2, 3)),
    *(f"{finger}_0{i}_l" for finger in ("index", "thumb") for i in (1, 2, 3)),
)
_WIDE = (0.6, 1, 1)  # the trunk is wider than deep
_LEFT_HAND = 4
_ANKLE = 0.03  # metres: how far the foot's chart reaches above the ankle's joint
_SEAT = 0.03  # metres: how far the legs' charts reach above the hip's joint, at the back
_BACK = (0, 0, -0.01)  # the trunk's sides are the front's
_LOW = (0.015, -0.035, 0)  # a foot lies low, and outward, in the box with its ankle
# fmt: off
_RULES = {  # growth of U and V, turns: DensePose's, read off its mesh in the T pose
    1: _Rule(_TORSO, -_Z, -_Y, -_X, True, squeeze=_WIDE, lean=0.03, shift=_BACK, reach=90),
    2: _Rule(_TORSO, _Z, -_Y, -_X, True, squeeze=_WIDE, lean=0.03, shift=_BACK, reach=90),
    _LEFT_HAND: _Rule(_HAND, _Y, _X - _Z, _Z, False),
    5: _Rule(_FOOT, -_X, _Z - _Y, _Y, True, 20, reach=180, shift=_LOW, slope=-0.2),
    8: _Rule(("thigh_l",), -_Z, -_Y, _X, True, 5, shift=(-0.025, 0, 0)),
    10: _Rule(("thigh_l",), _Z, _Y, -_X, True, -30, shift=(-0.025, 0, 0)),
    12: _Rule(("calf_l",), -_Z, _Y, _X, True, 10),
    14: _Rule(("calf_l",), _Z, -_Y, _X, True, -5),
    15: _Rule(("upperarm_l",), _Z, _X, _Y, True, -20, reach=110),
    17: _Rule(("upperarm_l",), -_Z, _X, _Y, True, 25, reach=110),
    19: _Rule(("lowerarm_l",), -_Y, -_X, -_Z, True, -10, reach=110),
    21: _Rule(("lowerarm_l",), _Y, _X, _Z, True, -20, reach=110),
    24: _Rule(_HEAD, _X, _Y, -_Z, False, ball=True, reach=90),
}
# fmt: on


@functools.cache
def cut_charts() -> Charts:
    """Chart and corner (U, V) of every face of the body."""
    body = load_body()
    left = body.faces[: len(body.faces) // 2]
    corners = t_pose().vertices[left]
    region = _regions(left)
    chart = np.zeros(len(left), int)
    uv = np.zeros((len(left), 3, 2))
    for bones in dict.fromkeys(rule.bones for rule in _RULES.values()):
        inside = np.flatnonzero(np.isin(region, [body.bones.index(b) for b in bones]))
        names = [name for name, rule in _RULES.items() if rule.bones == bones]
        lay = _lay_hand if names == [_LEFT_HAND] else _lay_around
        chart[inside], uv[inside] = lay(corners[inside], names)
    mirrored = mirror_uv(np.repeat(chart, 3), uv.reshape(-1, 2)).reshape(uv.shape)
    return Charts(
        np.concatenate([chart, MIRRORED_CHART[chart]]),
        np.concatenate([uv, mirrored[:, ::-1]]),
    )


def _regions(faces: np.ndarray) -> np.ndarray:
    """The first bone of each face's region: that whose bones move it most. [f].

    But for two levels: a foot begins above its ankle, and the thighs have the seat.
    """
    body = load_body()
    weights = np.zeros((len(body.base.vertices), len(body.bones)))
    np.put_along_axis(weights, body.skin_bones, body.skin_weights, axis=1)
    groups = list(dict.fromkeys(rule.bones for rule in _RULES.values()))
    member = np.array([[bone in group for group in groups] for bone in body.bones])
    best = (weights @ member)[faces].sum(1).argmax(1)
    region = np.array([body.bones.index(group[0]) for group in groups])[best]
    straight, ankle = t_pose(), body.bones.index("foot_l")
    thigh, trunk = body.bones.index("thigh_l"), body.bones.index(_TORSO[0])
    places, joints = straight.vertices[faces].mean(1), straight.joints
    foot = places[:, 1] < joints[ankle, 1] + _ANKLE
    seat = (region == trunk) & (places[:, 1] < joints[thigh, 1] + _SEAT)
    seat &= places[:, 2] < joints[thigh, 2]
    return np.select([foot, seat], [ankle, thigh], region)


def _lay_around(corners: np.ndarray, names: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Charts that wrap an axis. corners: [k, 3, 3]. Returns ([k], [k, 3, 2])."""
    rules = [_RULES[name] for name in names]
    low, high = corners.min((0, 1)), corners.max((0, 1))
    middle = (low + high) / 2
    if rules[0].bones in (_TORSO, _HEAD):  # halves: their axis lies in the mirror plane
        middle[0] = 0.0
    local = corners - middle - rules[0].shift
    local[..., 1] -= rules[0].slope * local[..., 2]
    local[..., 2] -= rules[0].lean * local[..., 1]
    local *= rules[0].squeeze
    mean = local.mean(1)
    pick = np.argmin([np.abs(rule.angle(mean)) for rule in rules], axis=0)
    uv = np.zeros((*corners.shape[:2], 2))
    for index, rule in enumerate(rules):
        mine = pick == index
        along, around = _along(local[mine], rule), _around(local[mine], rule)
        uv[mine, :, 0], uv[mine, :, 1] = (
            (along, around) if rule.u_is_along else (around, along)
        )
    return np.array(names)[pick], uv


def _along(local: np.ndarray, rule: _Rule) -> np.ndarray:
    """Place along the axis in [0, 1]. local: [k, 3, 3] about the middle."""
    value = local @ rule.along
    if rule.ball:
        value = np.arctan2(value, np.linalg.norm(local * (rule.along == 0), axis=-1))
    return (value - value.min()) / np.ptp(value)


def _around(local: np.ndarray, rule: _Rule) -> np.ndarray:
    """Angle around the axis, .5 at the chart's center. local: [k, 3, 3]."""
    home = rule.angle(local.mean(1))[:, None]
    # a corner is as near to its face's middle as may be: no face wraps round
    angle = home + 180 - (180 - rule.angle(local) + home) % 360
    return np.clip(0.5 + angle / (2 * rule.reach), 0.0, 1.0)


def _lay_hand(corners: np.ndarray, names: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The hand opened like a book at the thumb's edge: palm, then back."""
    (name,) = names
    rule = _RULES[name]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    across = corners @ rule.around
    across = (across - across.min()) / np.ptp(across) / 2
    palm = (normal @ rule.center < 0)[:, None]
    along = corners @ rule.along
    along = (along - along.min()) / np.ptp(along)
    uv = np.stack([np.where(palm, 0.5 - across, 0.5 + across), along], axis=-1)
    return np.full(len(corners), name), uv


assert set(_RULES) | {int(MIRRORED_CHART[c]) for c in _RULES} == set(range(1, NUM_CHARTS))
