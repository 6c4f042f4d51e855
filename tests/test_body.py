"""The body's cut into charts, its poses, and its scale."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ktn_jax import anatomy, body, rig

X, Y, Z = np.eye(3)
# How U and V grow over the T pose (X the subject's left, Y up, Z front): DensePose's.
# None: no straight direction (a hand's U runs round it, a foot's V too).
GROWTH = {
    1: (-Y, -X),
    2: (-Y, -X),
    3: (None, -X - Z),
    4: (None, X - Z),
    5: (Z - Y, None),
    6: (Y - Z, None),
    7: (-Y, -X),
    8: (-Y, X),
    9: (Y, X),
    10: (Y, -X),
    11: (Y, -X),
    12: (Y, X),
    13: (-Y, -X),
    14: (-Y, X),
    15: (X, Y),
    16: (-X, Y),
    17: (X, Y),
    18: (-X, Y),
    19: (-X, -Z),
    20: (X, -Z),
    21: (X, Z),
    22: (-X, Z),
    23: (Z, Y),
    24: (-Z, Y),
}
# Mean normal of the left and middle charts of DensePose's mesh in the T pose, weighted by
# area, and their shares of the whole area.
NORMAL = {
    1: (0.01, 0.16, -0.99),
    2: (-0.01, 0.18, 0.98),
    8: (-0.11, -0.17, -0.98),
    10: (0.41, -0.23, 0.88),
    12: (0.15, 0.01, -0.99),
    14: (-0.15, -0.19, 0.97),
    15: (0.24, -0.29, 0.93),
    17: (0.15, 0.34, -0.93),
    19: (0.15, -0.92, 0.36),
    21: (0.04, 0.94, -0.35),
    24: (0.99, 0.14, 0.01),
}
AREA = {1: 0.123, 2: 0.169, 4: 0.020, 5: 0.031, 8: 0.057, 10: 0.070, 12: 0.030}
AREA |= {14: 0.031, 15: 0.019, 17: 0.024, 19: 0.014, 21: 0.016, 24: 0.040}
FACING = {1: -Z, 2: Z, 7: -Z, 8: -Z, 9: Z, 10: Z, 11: -Z, 12: -Z, 13: Z, 14: Z}
FACING |= {15: Z, 16: Z, 17: -Z, 18: -Z, 19: -Y, 20: -Y, 21: Y, 22: Y, 23: -X, 24: X}
PART_OF_BONE = {  # the left ones; a bone's part is the word in its name
    "thigh": "upper leg",
    "calf": "lower leg",
    "foot": "foot",
    "ball": "foot",
    "upperarm": "upper arm",
    "lowerarm": "lower arm",
    "hand": "hand",
} | dict.fromkeys(("thumb", "index", "middle", "ring", "pinky"), "hand")
# mean distances within a part that the official metric is scaled by, metres
OFFICIAL = [0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150]


@pytest.fixture(scope="module")
def straight() -> np.ndarray:
    return body.t_pose().vertices


@pytest.fixture(scope="module")
def corners(straight: np.ndarray) -> np.ndarray:
    return straight[body.load_body().faces]


def face_normals(corners: np.ndarray) -> np.ndarray:
    """Outward normals, twice the area long."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def test_every_chart_has_area_and_the_two_sides_share_it(corners):
    area = np.linalg.norm(face_normals(corners), axis=1) / 2
    by_chart = np.bincount(body.cut_charts().chart, area, minlength=25)
    assert by_chart[0] == 0
    assert by_chart[1:].min() > 0.015  # a forearm's half, square metres
    np.testing.assert_allclose(by_chart[anatomy.MIRRORED_CHART], by_chart, rtol=1e-3)


def test_faces_carry_the_part_of_the_bone_that_moves_them(corners):
    loaded = body.load_body()
    bone = loaded.skin_bones[loaded.faces[:, 0], 0]  # sorted: the first weighs most
    part = anatomy.PART_OF_CHART[body.cut_charts().chart]
    expected = []
    for name in loaded.bones:
        word = PART_OF_BONE.get(name.split("_")[0])
        side = {"l": "left ", "r": "right "}.get(name[-1])
        trunk = "head" if name in ("head", "neck_01") else "torso"
        expected.append(anatomy.PARTS.index(side + word if word else trunk))
    agrees = np.array(expected)[bone] == part
    area = np.linalg.norm(face_normals(corners), axis=1)
    # seams run between bones, and the foot reaches above the ankle
    assert np.average(agrees, weights=area) > 0.95


def test_left_is_left_and_front_is_front(corners, straight):
    chart = body.cut_charts().chart
    for index, name in enumerate(anatomy.CHARTS):
        side = {"left": 1, "right": -1}.get(
            next(iter({*name.split()} & {"left", "right"}), "")
        )
        if side:
            assert (side * corners[chart == index].mean(1)[:, 0] > 0).all(), name
    normal = face_normals(corners)
    for index, side in FACING.items():
        total = normal[chart == index].sum(0)
        assert total @ side > 0.5 * np.linalg.norm(total), anatomy.CHARTS[index]
    keypoints = body.find_keypoints(straight)
    for point, name in zip(keypoints, anatomy.KEYPOINTS, strict=True):
        if name != "nose":
            assert (point[0] > 0) == name.startswith("left"), name
    nose, ear = (anatomy.KEYPOINTS.index(n) for n in ("nose", "left_ear"))
    assert keypoints[nose, 2] > keypoints[ear, 2] + 0.05


@pytest.mark.parametrize("chart", NORMAL)
def test_charts_face_where_the_official_mesh_s_do(corners, chart):
    total = face_normals(corners)[body.cut_charts().chart == chart].sum(0)
    cosine = total @ NORMAL[chart] / np.linalg.norm(total) / np.linalg.norm(NORMAL[chart])
    assert np.degrees(np.arccos(cosine)) < 16


def test_charts_have_the_official_mesh_s_shares_of_the_area(corners):
    area = np.linalg.norm(face_normals(corners), axis=1)
    share = np.bincount(body.cut_charts().chart, area, minlength=25) / area.sum()
    # another body: its feet are larger
    np.testing.assert_allclose(share[list(AREA)], list(AREA.values()), rtol=0.28)


def test_a_hand_opens_at_the_thumb_from_its_palm_to_its_back(corners):
    charts, up = body.cut_charts(), face_normals(corners)[:, 1]
    left, u = charts.chart == 4, charts.uv[..., 0].mean(1)
    assert np.average(u, weights=left * np.clip(up, 0, None)) > 0.62  # there .68
    assert np.average(u, weights=left * np.clip(-up, 0, None)) < 0.38  # there .32


def test_mirrored_points_follow_the_mirror_rule(corners):
    charts = body.cut_charts()
    centers = corners.mean(1)
    away, twin = cKDTree(centers).query(centers * (-1, 1, 1))
    assert away.max() < 1e-6  # the mesh is its own mirror image
    np.testing.assert_array_equal(charts.chart[twin], anatomy.MIRRORED_CHART[charts.chart])
    # corner by corner: the twin's corner nearest to the mirrored corner
    gaps = corners[twin][:, None] - (corners * (-1, 1, 1))[:, :, None]
    same = np.linalg.norm(gaps, axis=-1).argmin(2)
    found = np.take_along_axis(charts.uv[twin], same[..., None], axis=1)
    chart = np.repeat(charts.chart, 3)
    wanted = anatomy.mirror_uv(chart, charts.uv.reshape(-1, 2))
    np.testing.assert_allclose(found.reshape(-1, 2), wanted, atol=1e-6)


def test_uv_fills_the_unit_square():
    charts = body.cut_charts()
    assert charts.uv.min() >= 0
    assert charts.uv.max() <= 1
    for chart in range(1, 25):
        assert (np.ptp(charts.uv[charts.chart == chart], axis=(0, 1)) > 0.85).all()


@pytest.mark.parametrize("chart", GROWTH)
def test_u_and_v_grow_as_on_the_official_mesh(corners, chart):
    charts = body.cut_charts()
    mine = charts.chart == chart
    position, uv = corners[mine].reshape(-1, 3), charts.uv[mine].reshape(-1, 2)
    for value, axis in zip(uv.T, GROWTH[chart], strict=True):
        if axis is not None:
            assert np.corrcoef(value, position @ axis)[0, 1] > 0.7


def test_the_metric_mesh_is_one_closed_surface_of_standard_height():
    mesh = body.metric_mesh()
    number = len(mesh.vertices)
    np.testing.assert_array_equal(np.unique(mesh.faces), np.arange(number))
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 2).all()
    assert number - len(edges) + len(mesh.faces) == 2  # Euler: a sphere
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(number, number))
    assert connected_components(graph, directed=False)[0] == 1
    assert np.ptp(mesh.vertices[:, 1]) == pytest.approx(1.79)


def test_every_vertex_has_a_record_and_none_is_double():
    mesh = body.metric_mesh()
    np.testing.assert_array_equal(np.unique(mesh.vertex), np.arange(len(mesh.vertices)))
    records = np.column_stack([mesh.vertex, mesh.chart, mesh.uv.round(5)])
    assert len(np.unique(records, axis=0)) == len(records)
    assert (mesh.chart.dtype, mesh.uv.dtype, mesh.vertex.dtype) == ("i4", "f4", "i8")


def test_distances_within_parts_have_the_official_scale():
    mesh, chart = body.metric_mesh(), body.cut_charts().chart
    corners = mesh.vertices[mesh.faces]
    area = np.linalg.norm(face_normals(corners), axis=1)
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    length = np.linalg.norm(mesh.vertices[edges[:, 0]] - mesh.vertices[edges[:, 1]], axis=1)
    graph = sparse.csr_matrix((length, edges.T), shape=(len(mesh.vertices),) * 2)
    rng = np.random.default_rng(0)
    for coarse, official in enumerate(OFFICIAL, start=1):
        inside = anatomy.COARSE_OF_CHART[chart] == coarse
        if anatomy.COARSE[coarse] not in ("torso", "head"):
            inside &= corners[:, :, 0].mean(1) > 0  # one limb, not both
        faces = np.flatnonzero(inside)
        share = area[faces] / area[faces].sum()
        points = mesh.faces[rng.choice(faces, 150, p=share), 0]
        mean = dijkstra(graph, directed=False, indices=points[:40])[:, points].mean()
        # our hands are smaller, our heads keep more neck; 12 % elsewhere
        loose = anatomy.COARSE[coarse] in ("hands", "head")
        assert mean == pytest.approx(official, rel=0.25 if loose else 0.12)


def test_no_bend_is_the_t_pose(straight):
    keypoints = dict(zip(anatomy.KEYPOINTS, body.find_keypoints(straight), strict=True))
    arm = keypoints["left_wrist"] - keypoints["left_shoulder"]
    leg = keypoints["right_ankle"] - keypoints["right_hip"]
    assert arm @ X > 0.98 * np.linalg.norm(arm)
    assert leg @ -Y > 0.98 * np.linalg.norm(leg)


def test_a_bent_elbow_brings_the_hand_forward_and_keeps_bones_long():
    loaded = body.load_body()
    elbow = loaded.bones.index("lowerarm_l")
    bends = np.tile(np.eye(3), (len(loaded.bones), 1, 1))
    bends[elbow] = Rotation.from_euler("y", -90, degrees=True).as_matrix()
    posed = body.pose_shape(loaded.base, bends)
    forearm = posed.joints[loaded.bones.index("hand_l")] - posed.joints[elbow]
    rest = loaded.base.joints[loaded.bones.index("hand_l")] - loaded.base.joints[elbow]
    assert np.linalg.norm(forearm) == pytest.approx(np.linalg.norm(rest))
    assert forearm @ Z == pytest.approx(np.linalg.norm(rest), rel=1e-3)


def test_shapes_mix_linearly_and_unknown_names_are_refused():
    tall = body.mix_shape({"african-male-young": 1.0})
    half = body.mix_shape({"african-male-young": 0.5})
    base = body.load_body().base
    np.testing.assert_allclose(half.vertices, (tall.vertices + base.vertices) / 2)
    assert np.ptp(tall.vertices[:, 1]) > np.ptp(base.vertices[:, 1]) + 0.05
    with pytest.raises(ValueError, match="giant"):
        body.mix_shape({"giant": 1.0})


def chain_of_two(turn):
    """Two bones: still, and turned about the joint at (1, 2, 3); and points near it."""
    joint = np.array([1.0, 2.0, 3.0])
    still = np.column_stack([np.eye(3), np.zeros(3)])
    moved = np.column_stack([turn.as_matrix(), joint - turn.apply(joint)])
    points = joint + np.random.default_rng(0).normal(size=(20, 3))
    return np.stack([still, moved]), joint, points


@pytest.mark.parametrize("degrees", [30, 110, 170])
def test_rounded_skin_turns_by_a_share_of_the_bend(degrees):
    axis = np.array([2.0, -1, 2]) / 3
    ways, joint, points = chain_of_two(Rotation.from_rotvec(np.radians(degrees) * axis))
    half = Rotation.from_rotvec(np.radians(degrees / 2) * axis)
    weights = sparse.csr_matrix(np.full((20, 2), 0.5))
    moved = rig.skin_rounded(weights, ways, points, np.array([-1, 0]))
    np.testing.assert_allclose(moved, half.apply(points - joint) + joint, atol=1e-12)


def test_rounded_skin_goes_the_short_way_and_carries_what_has_one_bone():
    """Turns of 110 and 275 degrees: as scipy signs their quaternions, opposite."""
    one, two = (Rotation.from_euler("x", x, degrees=True) for x in (110, 275))
    ways = np.zeros((2, 3, 4))
    ways[:, :, :3] = one.as_matrix(), two.as_matrix()
    points = np.random.default_rng(1).normal(size=(3, 3))
    weights = sparse.csr_matrix([[1, 0], [0, 1], [0.5, 0.5]])
    moved = rig.skin_rounded(weights, ways, points, np.array([-1, 0]))
    between = Rotation.from_euler("x", 192.5, degrees=True)
    for turn, start, end in zip((one, two, between), points, moved, strict=True):
        np.testing.assert_allclose(turn.apply(start), end, atol=1e-12)


def test_rounded_skin_is_the_linear_one_on_bones_with_a_size():
    rng = np.random.default_rng(2)
    ways = np.zeros((4, 3, 4))
    sizes = rng.uniform(0.5, 2, (4, 1, 1))
    ways[:, :, :3] = sizes * Rotation.random(4, rng=3).as_matrix()
    ways[:, :, 3] = rng.normal(size=(4, 3))
    points = rng.normal(size=(9, 3)).astype(np.float32)
    weights = sparse.csr_matrix(np.eye(4, dtype=np.float32)[rng.integers(0, 4, 9)])
    moved = rig.skin_rounded(weights, ways, points, np.array([-1, 0, 1, 2]))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, rig.skin_points(weights, ways, points), atol=1e-5)
