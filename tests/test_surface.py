"""Nearest records, the official files, heat distances on meshes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.spatial.distance import cdist

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.errors import UserError
from ktn_jax.evaluation.surface import (
    HeatDistances,
    Surface,
    load_chart_mesh,
    load_official,
    load_surface,
)

REFERENCE = Path(__file__).parent / "reference" / "evaluator"


# --- nearest records ---------------------------------------------------


def grid_surface():
    """Charts 1 and 2, each a 5 x 5 grid of (U, V) at 0, 1/4 .. 1; records shuffled."""
    uv = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2) / 4
    chart, uv = np.repeat([1, 2], 25), np.tile(uv, (2, 1))
    order = np.random.default_rng(1).permutation(50)
    vertex = np.arange(50) // 2  # neighbouring records share a vertex
    return Surface(chart[order], uv[order], vertex=vertex, distances=None)


def test_closest_is_the_first_record_of_all_nearest_ones():
    surface = grid_surface()
    # centres of cells (4 records tie), of edges (2), records themselves (1), and others
    steps = np.arange(9) / 8
    queries = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    queries = np.concatenate([queries, np.random.default_rng(2).random((200, 2))])
    for chart in (1, 2):
        records = np.flatnonzero(surface.chart == chart)
        first = cdist(surface.uv[records], queries).argmin(axis=0)  # the first of equals
        found = surface.closest(np.full(len(queries), chart), queries)
        np.testing.assert_array_equal(found, surface.vertex[records[first]])


def test_the_official_template_agrees_with_a_search_of_all_records():
    surface = load_official(REFERENCE)
    levels = np.random.default_rng(3).integers(0, 256, (2000, 2)) / 255
    for chart in range(1, NUM_CHARTS):
        records = np.flatnonzero(surface.chart == chart)
        first = cdist(surface.uv[records], levels).argmin(axis=0)
        found = surface.closest(np.full(len(levels), chart), levels)
        np.testing.assert_array_equal(found, surface.vertex[records[first]])


def test_labels_off_the_surface_have_no_vertex():
    chart, nowhere = np.array([0, 1, 3, 25, 255], np.uint8), [0.9, 0.9]
    found = grid_surface().closest(chart, np.tile(nowhere, (5, 1)))
    np.testing.assert_array_equal(found >= 0, [False, True, False, False, False])
    one = Surface([5], [[0.5, 0.5]], vertex=[0], distances=None)
    np.testing.assert_array_equal(one.closest([5, 4], [nowhere, nowhere]), [0, -1])


@pytest.mark.parametrize(
    "absent", ["SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "Pdist_matrix.pkl"]
)
def test_a_missing_official_file_is_named_with_its_directory(absent, tmp_path):
    for path in REFERENCE.iterdir():
        if path.name != absent:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UserError) as error:
        load_surface(tmp_path)
    for word in (absent, str(tmp_path), "CC BY-NC", "DensePose"):
        assert word in str(error.value)


def test_tables_of_another_template_are_refused(tmp_path):
    for path in REFERENCE.glob("*.mat"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "Pdist_matrix.pkl").write_bytes(pickle.dumps(np.zeros(79_800)))
    with pytest.raises(UserError, match="79800 distances, but 832 vertices need 345696"):
        load_official(tmp_path)


def test_official_vertices_count_from_0_and_share_seams():
    surface = load_official(REFERENCE)
    merge = loadmat(REFERENCE / "SMPL_SUBDIV_TRANSFORM.mat")["index"].ravel()
    np.testing.assert_array_equal(surface.vertex, merge.astype(int) - 1)
    assert (len(surface.chart), surface.num_vertices) == (864, 832)


# --- heat distances ------------------------------------------------------------------


def sphere(parallels=40, meridians=80):
    """A unit sphere of latitude rings and two poles: vertices and faces."""
    theta = np.pi * np.arange(1, parallels) / parallels
    phi = 2 * np.pi * np.arange(meridians) / meridians
    t, p = (grid.ravel() for grid in np.meshgrid(theta, phi, indexing="ij"))
    ring = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], axis=-1)
    vertices = np.concatenate([ring, [[0, 0, 1], [0, 0, -1]]])
    number = np.arange(len(ring)).reshape(parallels - 1, meridians)
    east = np.roll(number, -1, axis=1)
    north, south = len(ring), len(ring) + 1
    faces = [
        np.stack([number[:-1], number[1:], east[1:]], axis=-1).reshape(-1, 3),
        np.stack([number[:-1], east[1:], east[:-1]], axis=-1).reshape(-1, 3),
        np.stack([np.full(meridians, north), number[0], east[0]], axis=-1),
        np.stack([np.full(meridians, south), east[-1], number[-1]], axis=-1),
    ]
    return vertices, np.concatenate(faces)


def test_heat_distances_on_a_sphere_are_great_circles():
    vertices, faces = sphere()
    distances = HeatDistances(vertices, faces)
    rng = np.random.default_rng(4)
    a, b = rng.choice(len(vertices), 20)[:, None], rng.choice(len(vertices), 200)
    a, b = (side.ravel() for side in np.broadcast_arrays(a, b))
    angle = np.arccos(np.clip((vertices[a] * vertices[b]).sum(axis=1), -1, 1))
    found, near = distances.between(a, b), angle < 0.5
    # the method shortens the longest ways by up to 3 % of pi, which GPS does not see any
    # more; near ones, which it does, are good to half an edge of this mesh, .04
    np.testing.assert_allclose(found, angle, atol=0.03 * np.pi)
    np.testing.assert_allclose(found[near], angle[near], atol=0.04)
    assert (distances.between(a, a) == 0).all()


class Solver:
    """Counts; its distances tell the source: source + target / 1000."""

    def __init__(self, n):
        self.n, self.sources = n, []

    def compute_distance(self, source):
        self.sources.append(source)
        return source + np.arange(self.n) / 1000


def counted(distances, n):
    distances.__dict__["_solver"] = Solver(n)
    return distances._solver.sources


def test_the_ground_truth_vertex_is_the_source_and_is_solved_once():
    vertices, faces = sphere(4, 5)
    distances = HeatDistances(vertices, faces)
    sources = counted(distances, len(vertices))
    found = distances.between(np.array([3, 3, 5, 3]), np.array([1, 5, 3, 3]))
    # 3 + .001, 3 + .005, 5 + .003, and 0 for itself; float16 has 3 decimal digits
    np.testing.assert_allclose(found, [3.001, 3.005, 5.003, 0], rtol=1e-3)
    distances.between(np.array([5, 3]), np.array([0, 0]))
    assert sources == [3, 5]


def test_rows_are_found_again_in_the_cache_directory(tmp_path):
    vertices, faces = sphere(4, 5)
    a, b = np.array([3, 5]), np.array([1, 2])
    first = HeatDistances(vertices, faces, cache_dir=tmp_path / "new").between(a, b)
    again = HeatDistances(vertices, faces, cache_dir=tmp_path / "new")
    sources = counted(again, len(vertices))
    np.testing.assert_array_equal(again.between(a, b), first)
    assert sources == []
    sources = counted(sent := pickle.loads(pickle.dumps(again)), len(vertices))
    np.testing.assert_array_equal(sent.between(a, b), first)
    assert sources == []
    other = HeatDistances(2 * vertices, faces, cache_dir=tmp_path / "new")
    sources = counted(other, len(vertices))
    other.between(a, b)
    assert sources == [3, 5]  # another mesh has its own rows


def test_a_row_that_may_not_be_on_disk_is_solved_again(tmp_path, monkeypatch):
    vertices, faces = sphere(4, 5)
    a, b = np.array([3]), np.array([1])
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(np.memmap, "flush", lambda _: (_ for _ in ()).throw(OSError))
        HeatDistances(vertices, faces, cache_dir=tmp_path).between(a, b)
    again = HeatDistances(vertices, faces, cache_dir=tmp_path)
    sources = counted(again, len(vertices))
    again.between(a, b)
    assert sources == [3]


def test_a_mesh_in_two_pieces_is_refused():
    vertices, faces = sphere(4, 5)
    distances = HeatDistances(vertices, faces)
    distances.__dict__["_solver"] = Solver(len(vertices))
    distances._solver.compute_distance = lambda _: np.full(len(vertices), np.nan)
    with pytest.raises(ValueError, match="one connected surface"):
        distances.between(np.array([0]), np.array([1]))


def test_a_mesh_of_one_s_own_needs_no_table(tmp_path):
    vertices, faces = sphere(10, 20)
    records = {"chart": [3, 3], "uv": [[0.0, 0.0], [1.0, 1.0]], "vertex": [181, 180]}
    path = tmp_path / "mesh.npz"
    np.savez(path, vertices=vertices, faces=faces, **records)
    surface = load_surface(path)
    ends = surface.closest([3, 3], [[0.1, 0.2], [0.9, 0.9]])
    np.testing.assert_array_equal(ends, [181, 180])  # the south pole and the north one
    assert surface.distance(ends[:1], ends[1:]) == pytest.approx(np.pi, rel=0.1)
    np.savez(path, vertices=vertices, faces=faces + 1, **records)
    with pytest.raises(UserError, match=r"names vertices 1\.\.182, but has 182.*from 0"):
        load_surface(path)
    np.savez(path, vertices=vertices)
    with pytest.raises(UserError, match=r"no npz of the arrays .*'faces'"):
        load_surface(path)


def test_our_body_has_every_chart_and_human_distances():
    body = load_surface("body")
    assert set(body.chart) == set(range(1, NUM_CHARTS))
    middle = body.closest(np.array([3, 4, 5, 23]), np.full((4, 2), 0.5))
    hands, hand_to_foot = body.distance(middle[[0, 0]], middle[[1, 2]])
    # the arms' span is about the height, 1.79 m, less the fingers; hand to the other
    # side's foot is an arm, a flank and a leg
    assert 1.2 < hands < 1.9
    assert 1.2 < hand_to_foot < 2.4


def test_the_cut_mesh_of_the_official_file_counts_from_0(tmp_path):
    """Two triangles of charts 3 and 4 that share an edge, cut: rows 1, 2 and 3, 4."""
    content = {
        "All_Faces": np.array([[1, 2, 5], [3, 4, 6]], np.uint16),
        "All_FaceIndices": np.array([[3], [4]], np.uint8),
        "All_U_norm": np.array([[0.0, 0.5, 0.0, 0.5, 1.0, 1.0]]).T,
        "All_V_norm": np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]).T,
        "All_vertices": np.array([[1, 2, 1, 2, 3, 4]], np.uint16),
    }
    savemat(tmp_path / "UV_Processed.mat", content)
    mesh = load_chart_mesh(tmp_path)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 4], [2, 3, 5]])
    np.testing.assert_array_equal(mesh.vertex[mesh.faces], [[0, 1, 2], [0, 1, 3]])
    np.testing.assert_array_equal(mesh.chart, [3, 4])
    np.testing.assert_array_equal(mesh.uv[3], [0.5, 0.4])
    with pytest.raises(UserError, match=r"UV_Processed\.mat is not in"):
        load_chart_mesh(tmp_path / "nowhere")
