"""Rendered people: labels are exact, and the data set reads back as DensePose-COCO."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.spatial.transform import Rotation

from ktn_jax import anatomy, body
from ktn_jax.data import figures, people, poses, scenes
from ktn_jax.data.looks import sample_waves
from ktn_jax.data.outfits import sample_look
from ktn_jax.data.outlines import trace_mask
from ktn_jax.data.render import Camera

# pycocotools' decode hands numpy 2 an array in the old way
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")

SIZE, SEED = 160, 3
NUMBERS = {"train": 6, "val": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    people.render_dataset(out, **NUMBERS, size=SIZE, seed=SEED, processes=1)
    return out


def read(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / people.SPLITS[split][1]).read_text())


@pytest.fixture(scope="module")
def train(folder: Path) -> dict:
    return read(folder, "train")


@pytest.fixture(scope="module")
def pictures() -> list[scenes.Picture]:
    return [people.make_scene(SEED, "train", i, SIZE)[1] for i in range(6)]


def lone_scene(turn: Rotation, bends: np.ndarray | None = None) -> scenes.Scene:
    """One person in the middle; the T pose where no bends are given."""
    rng = np.random.default_rng(0)
    camera = Camera(focal=1.5 * SIZE, size=SIZE)
    loaded = body.load_body()
    if bends is None:
        bends = np.tile(np.eye(3), (len(loaded.bones), 1, 1))
    figure = figures.place_figure(
        poses.Person(np.zeros(len(loaded.target_names)), bends),
        sample_look(rng, 0),
        turn=turn,
        middle=np.array([0.0, 0.0, 3.5]),
        wrinkles=tuple(sample_waves(rng, 0.1) for _ in range(3)),
    )
    scene = scenes.sample_scene(rng, SIZE)
    nothing = np.full_like(scene.barrier, np.inf)
    return scene._replace(figures=(figure,), camera=camera, barrier=nothing)


def annotate_lone(turn: Rotation) -> dict[str, np.ndarray]:
    """Keypoints by name, (x, y, flag) each."""
    scene = lone_scene(turn)
    rng = np.random.default_rng(0)
    (person,) = people.annotate(scene, scenes.render_scene(scene, rng), rng, 1)
    table = np.reshape(person["keypoints"], (17, 3))
    return dict(zip(anatomy.KEYPOINTS, table, strict=True))


def test_a_pixels_chart_and_uv_lead_back_to_the_pixel():
    scene, picture = people.make_scene(SEED, "train", 0, SIZE)
    rng = np.random.default_rng(0)
    pixels = rng.permutation(np.argwhere(picture.chart > 0))[:400]
    errors = []
    for row, column in pixels:
        figure = scene.figures[picture.person[row, column]]
        mesh = figure.mesh
        mine = np.flatnonzero(mesh.chart == picture.chart[row, column])
        first, second, third = np.moveaxis(mesh.uv[mine].astype(float), 1, 0)
        # barycentrics in the (U, V) plane of every face of the chart, by Cramer's rule
        to, a, b = picture.uv[row, column] - first, second - first, third - first
        area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        area = np.where(np.abs(area) < 1e-12, np.nan, area)
        s = (to[:, 0] * b[:, 1] - to[:, 1] * b[:, 0]) / area
        t = (a[:, 0] * to[:, 1] - a[:, 1] * to[:, 0]) / area
        weights = np.column_stack([1 - s - t, s, t])
        found = weights.min(1) > -1e-4  # nan compares false
        places = np.einsum(
            "kc,kcd->kd", weights[found], figure.vertices[mesh.faces[mine[found]]]
        )
        seen = scene.camera.project(places)
        away = np.linalg.norm(seen - (row + 0.5, column + 0.5), axis=1)
        errors.append(away.min(initial=np.inf))
    # faces that a chart's edge squeezes to a line have no inverse
    assert np.mean(np.array(errors) < 1) > 0.97


def test_the_nearest_person_is_the_one_seen():
    scene = lone_scene(Rotation.identity())
    (far,) = scene.figures
    near = far._replace(
        vertices=far.vertices - np.eye(3)[2], keypoints=far.keypoints - np.eye(3)[2]
    )
    scene = scene._replace(figures=(far, near))
    picture = scenes.render_scene(scene, np.random.default_rng(0))
    assert picture.person[SIZE // 2, SIZE // 2] == 1
    depth = picture.depth[picture.person == 1]
    assert 2.2 < depth.min() and depth.max() < 2.8  # 2.5 m, half a body thick


def test_a_frontal_persons_left_is_on_the_pictures_right():
    keypoints = annotate_lone(Rotation.identity())
    assert keypoints["left_shoulder"][0] > keypoints["right_shoulder"][0] + 10
    assert keypoints["left_ankle"][1] > keypoints["left_hip"][1] + 20
    assert all(flag == 2 for *_, flag in keypoints.values())


def test_keypoints_are_pixel_indices():
    # the nose of a body that faces us, 3.5 m away, focal 240: half a pixel less than
    # where it is seen, pixel centres being at +0.5
    scene = lone_scene(Rotation.identity())
    x, y, z = scene.figures[0].keypoints[0]
    nose = annotate_lone(Rotation.identity())["nose"]
    assert nose[0] == pytest.approx(240 * x / z + SIZE / 2 - 0.5, abs=0.006)
    assert nose[1] == pytest.approx(240 * y / z + SIZE / 2 - 0.5, abs=0.006)


def test_a_person_seen_from_behind_hides_the_face():
    keypoints = annotate_lone(Rotation.from_euler("y", 180, degrees=True))
    assert keypoints["left_shoulder"][0] < keypoints["right_shoulder"][0] - 10
    for name in ("nose", "left_eye", "right_eye"):
        assert keypoints[name][2] == 1


def test_front_and_back_show_their_own_charts():
    for yaw, seen, hidden in ((0, 2, 1), (180, 1, 2)):
        scene = lone_scene(Rotation.from_euler("y", yaw, degrees=True))
        chart = scenes.render_scene(scene, np.random.default_rng(0)).chart
        assert (chart == seen).sum() > 20 * (chart == hidden).sum()


def test_the_json_is_coco(folder, train):
    coco = COCO(str(folder / "annotations" / people.SPLITS["train"][1]))
    assert len(coco.getImgIds()) == NUMBERS["train"]
    assert coco.cats[1]["keypoints"] == list(anatomy.KEYPOINTS)
    for image in train["images"]:
        with Image.open(folder / "train2014" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"]) == (SIZE, SIZE)
    ids = [a["id"] for split in NUMBERS for a in read(folder, split)["annotations"]]
    assert min(ids) >= 1
    assert len(set(ids)) == len(ids)


def dense(data: dict, pictures: list[scenes.Picture]):
    """People with chart points, and the picture each is in."""
    for person in data["annotations"]:
        if "dp_x" in person:
            yield person, pictures[person["image_id"] - 1]


def test_points_land_on_pixels_that_show_their_chart(train, pictures):
    seen = 0
    for person, picture in dense(train, pictures):
        x, y, width, height = person["bbox"]
        column = x + np.array(person["dp_x"]) * width / 256
        row = y + np.array(person["dp_y"]) * height / 256
        np.testing.assert_allclose([row % 1, column % 1], 0.5, atol=1e-3)
        at = row.astype(int), column.astype(int)
        np.testing.assert_array_equal(picture.chart[at], person["dp_I"])
        uv = np.column_stack([person["dp_U"], person["dp_V"]])
        np.testing.assert_allclose(picture.uv[at], uv, atol=1e-5)
        seen += len(uv)
    assert seen > 300


def test_part_masks_agree_with_the_points(train, pictures):
    for person, _ in dense(train, pictures):
        assert len(person["dp_masks"]) == 14
        parts = np.zeros((256, 256), int)
        for part, code in enumerate(person["dp_masks"], start=1):
            if code:
                parts[coco_mask.decode(code) > 0] = part
        at = np.array(person["dp_y"]).astype(int), np.array(person["dp_x"]).astype(int)
        chart = np.array(person["dp_I"], int)
        np.testing.assert_array_equal(parts[at], anatomy.PART_OF_CHART[chart])


def test_polygons_boxes_and_areas_agree_with_the_pixels(train, pictures):
    people_seen = [a for a in train["annotations"] if not a["iscrowd"]]
    assert people_seen
    for person in people_seen:
        picture = pictures[person["image_id"] - 1]
        codes = coco_mask.frPyObjects(person["segmentation"], SIZE, SIZE)
        mask = coco_mask.decode(coco_mask.merge(codes)) > 0
        overlaps = []
        for index in range(picture.person.max() + 1):
            visible = picture.person == index
            overlaps.append((mask & visible).sum() / (mask | visible).sum())
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.95
        rows, columns = np.nonzero(picture.person == best)
        assert person["area"] == len(rows)
        x, y, width, height = person["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert all(len(polygon) >= 6 for polygon in person["segmentation"])


def test_a_mask_with_holes_and_islands_survives_its_polygons():
    mask = np.zeros((60, 80), bool)
    mask[5:50, 10:60] = True
    mask[15:25, 20:30] = mask[30:40, 35:50] = False
    mask[52:58, 65:75] = True
    polygons = trace_mask(mask)
    codes = coco_mask.frPyObjects(polygons, *mask.shape)
    again = coco_mask.decode(coco_mask.merge(codes)) > 0
    assert (mask & again).sum() / (mask | again).sum() > 0.98
    assert len(polygons) >= 3


def test_visible_keypoints_lie_on_their_person(train, pictures):
    flags = []
    for person in train["annotations"]:
        picture = pictures[person["image_id"] - 1]
        table = np.reshape(person["keypoints"], (17, 3))
        assert person["num_keypoints"] == (table[:, 2] > 0).sum()
        assert (table[table[:, 2] == 0] == 0).all()
        x, y, width, height = person["bbox"]
        for column, row in table[table[:, 2] == 2, :2]:
            assert x <= column + 0.5 <= x + width and y <= row + 0.5 <= y + height
            assert picture.person[int(row + 0.5), int(column + 0.5)] >= 0
        flags += table[:, 2].tolist()
    assert set(flags) == {0, 1, 2}


def test_a_far_crowd_is_one_region():
    scene = lone_scene(Rotation.identity())
    (figure,) = scene.figures
    beside = figure._replace(vertices=figure.vertices + np.array([1.5, 0, 8]), crowd=True)
    scene = scene._replace(figures=(figure, beside, beside))
    picture = scenes.render_scene(scene, np.random.default_rng(0))
    person, crowd = people.annotate(scene, picture, np.random.default_rng(0), 7)
    assert (person["iscrowd"], crowd["iscrowd"]) == (0, 1)
    region = coco_mask.decode(crowd["segmentation"]) > 0
    np.testing.assert_array_equal(region, picture.person > 0)
    assert "dp_x" not in crowd


def test_one_seed_gives_the_same_bytes_with_one_process_or_two(folder, tmp_path):
    people.render_dataset(tmp_path, **NUMBERS, size=SIZE, seed=SEED, processes=2)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) == 2 + sum(NUMBERS.values())
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_splits_and_seeds_give_other_scenes(folder):
    first = {
        (
            folder / people.SPLITS[split][0] / read(folder, split)["images"][0]["file_name"]
        ).read_bytes()
        for split in NUMBERS
    }
    other = people.make_scene(SEED + 1, "train", 0, SIZE)[1].image
    same = people.make_scene(SEED, "train", 0, SIZE)[1].image
    assert len(first) == 2
    assert (other != same).any()


def test_senseless_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train=-1"):
        people.render_dataset(tmp_path, train=-1, val=0)


def test_a_split_of_no_images_is_no_split(tmp_path):
    people.render_dataset(tmp_path, train=1, val=0, size=64)
    assert [p.name for p in (tmp_path / "annotations").iterdir()] == [
        "densepose_train2014.json"
    ]
