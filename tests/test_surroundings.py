"""What is around rendered people: perspective, light, shadows, photographs, effects."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from ktn_jax.data import people, photographs, placing, scenes, surroundings, textures
from ktn_jax.data.canvas import Canvas, Panel, box_panels, plain_paint, world_view
from ktn_jax.data.effects import develop
from ktn_jax.data.foreground import hold_cutout, stand_before
from ktn_jax.data.lights import Light, irradiance, mirrored, sample_light, suit_light
from ktn_jax.data.photographs import Photographs, find_pictures
from ktn_jax.data.render import Camera, Caster
from ktn_jax.data.shadows import creases, ground_shade
from ktn_jax.data.sites import Site
from ktn_jax.errors import UserError

SIZE = 96
LEVEL = world_view(Camera(focal=100.0, size=SIZE), Rotation.identity(), 1.5)
X, Y, Z = np.eye(3)
WHITE = np.ones(3)
GREEN = (20, 200, 40)


def light_from(direction: np.ndarray, **changes) -> Light:
    direction = np.array([direction], float)
    direction /= np.linalg.norm(direction)
    light = Light(direction, np.ones((1, 3)), 0.5 * WHITE, 0.1 * WHITE, -Y, 1.0, 0.5)
    return light._replace(**changes)


def flat(color: tuple[float, float, float]) -> textures.Texture:
    texels = textures.photo_texture(np.full((8, 8, 3), color, np.uint8), 0.01)
    return texels


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two green photographs and one that must not be used."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep").mkdir()
    for name, color in (("b.jpg", GREEN), ("deep/a.png", GREEN), ("me.jpg", (255, 0, 0))):
        Image.new("RGB", (200, 150), color).save(folder / name)
    (folder / "exclude.txt").write_text("# people\nme.*  # that is me\n")
    (folder / "notes.txt").write_text("not a picture")
    return folder


# --- perspective -----------------------------------------------------------------------


def test_a_panel_covers_what_a_pinhole_shows_of_it():
    canvas = Canvas(LEVEL.camera, np.zeros((SIZE, SIZE, 3)))
    corner = np.array([-0.5, -0.25, 4.0])  # 1 m by 0.5 m, 4 m away: 25 by 12.5 pixels
    canvas.draw(Panel(corner, X, Y, 1.0, 0.5, plain_paint(flat(GREEN), 1.0)))
    painted = canvas.image[..., 1].sum() / (GREEN[1] / 255)
    assert painted == pytest.approx(25 * 12.5, rel=0.02)
    rows, columns = np.nonzero(np.isfinite(canvas.depth))
    assert (columns.min(), columns.max()) == (48 - 12, 48 + 11)
    np.testing.assert_allclose(canvas.depth[rows, columns], 4.0, rtol=1e-5)


def test_the_nearer_panel_hides_the_other_in_any_order():
    for order in (1, -1):
        canvas = Canvas(LEVEL.camera, np.zeros((SIZE, SIZE, 3)))
        for depth, color in [(3.0, (255, 0, 0)), (2.0, GREEN)][::order]:
            corner = np.array([-0.2, -0.2, depth])
            canvas.draw(Panel(corner, X, Y, 0.4, 0.4, plain_paint(flat(color), 1.0)))
        np.testing.assert_allclose(canvas.image[48, 48] * 255, GREEN, atol=1)


def test_the_horizon_is_where_a_tilted_camera_sees_it():
    # looking down by 10 degrees raises the horizon by focal * tan(10 degrees) = 17.6
    tilt = Rotation.from_euler("x", 10, degrees=True)
    view = world_view(Camera(focal=100.0, size=SIZE), tilt, 1.5)
    ground = surroundings.ground_mask(view)
    first = np.flatnonzero(ground.any(1)).min()
    assert 48 - 17.6 <= first <= 48 - 17.6 + 4  # it counts from some way off on
    place = view.place(0, 0, 8.0)
    row = view.camera.project(place)[0]
    assert row > 48 - 17.6
    assert np.linalg.norm(place) == pytest.approx(np.hypot(1.5, 8.0))


def test_a_box_stands_on_the_ground_with_its_front_towards_us():
    faces = []
    panels = box_panels(
        LEVEL, (0.0, 4.0), (1.0, 2.5, 1.0), yaw=0.0, paint=lambda n: faces.append(n)
    )
    # taller than the camera and straight ahead: of six faces only the front is seen
    assert len(panels) == 1
    np.testing.assert_allclose(faces[0], -Z, atol=1e-12)
    assert panels[0].origin[1] == pytest.approx(1.5 - 2.5)
    assert panels[0].origin[2] == pytest.approx(3.5)


def test_a_texture_far_away_is_its_mean():
    texture = textures.sample_texture(np.random.default_rng(0), "tiles", 0.01)
    places = np.random.default_rng(1).uniform(0, 2.56, (2, 4000))
    near = texture.look_up(*places, np.full(4000, 0.01))
    far = texture.look_up(*places, np.full(4000, 10.0))
    assert far.std(0).max() < 0.3 * near.std(0).max()
    np.testing.assert_allclose(far.mean(0), near.mean(0), atol=0.05)


# --- light and shadows -----------------------------------------------------------------


def test_light_falls_by_the_cosine_and_from_sky_and_ground():
    light = light_from([0, -1, 0])
    slanted = np.array([[0, -np.cos(1.0), np.sin(1.0)]])
    up, down = -Y[None], Y[None]
    np.testing.assert_allclose(irradiance(light, up, None), 1 + 0.5)
    np.testing.assert_allclose(irradiance(light, down, None), 0.1)
    expected = np.cos(1.0) + 0.1 + (0.5 + 0.5 * np.cos(1.0)) * 0.4
    np.testing.assert_allclose(irradiance(light, slanted, None), expected)
    shaded = irradiance(light, up, np.zeros((1, 1)))
    np.testing.assert_allclose(shaded, 0.5)
    two = light._replace(directions=np.array([-Y, -X]), lamps=np.array([WHITE, 2 * WHITE]))
    both = -np.sqrt(0.5) * (X + Y)[None]  # half-way between the lamps
    ambient = 0.1 + (0.5 + 0.5 * np.sqrt(0.5)) * 0.4
    fall = irradiance(two, both, np.array([[0.25, 1.0]]))
    np.testing.assert_allclose(fall, np.sqrt(0.5) * (0.25 + 2) + ambient)


def test_a_highlight_is_where_the_lamp_is_mirrored():
    light = light_from([1, 0, -1])
    normals = np.stack([np.array([np.sin(a), 0, -np.cos(a)]) for a in (0, 0.39, 0.9)])
    shine = mirrored(light, normals, np.tile(-Z, (3, 1)))
    assert shine.argmax() == 1  # half of 45 degrees
    assert shine[1] == pytest.approx(0.5, rel=0.01)


def test_a_dark_photograph_dims_the_light():
    light = light_from([0, -1, 0])
    dim = suit_light(light, np.full((4, 4, 3), 0.05), np.random.default_rng(0))
    red = suit_light(light, np.full((4, 4, 3), [0.9, 0.2, 0.2]), np.random.default_rng(0))
    assert dim.sky.mean() < 0.8 * light.sky.mean()
    assert red.sky[0] > red.sky[2]


def test_a_shadow_reaches_as_far_as_the_sun_is_low():
    # a pole of 1 m, 6 m ahead; the sun at 45 degrees to the left throws 1 m to the right
    pole = np.stack([LEVEL.place(0, up, 6.0) for up in np.linspace(0, 1, 200)])
    light = light_from([-1, -1, 0], sky=0.01 * WHITE, ground=0 * WHITE)
    shade = ground_shade(LEVEL, light, pole[None])
    row = int(LEVEL.camera.project(LEVEL.place(0, 0, 6.0))[0])
    columns = np.flatnonzero(shade[row - 2 : row + 3].min(0) < 0.7)
    foot, tip = (LEVEL.camera.project(LEVEL.place(x, 0, 6.0))[1] for x in (0, 1))
    assert columns.min() == pytest.approx(foot, abs=4)
    assert columns.max() == pytest.approx(tip, abs=4)
    clear = ground_shade(LEVEL, light._replace(shadow=0.0), pole[None])
    assert clear[row, int(tip) - 2] > 0.99


def test_every_lamp_throws_a_shadow_of_its_own_strength():
    pole = np.stack([LEVEL.place(0, up, 6.0) for up in np.linspace(0, 1, 200)])
    directions = np.array([[-1, -1, 0], [1, -1, 0]]) / np.sqrt(2)
    light = light_from([0, -1, 0], sky=WHITE, ground=0 * WHITE)
    light = light._replace(directions=directions, lamps=np.array([2 * WHITE, WHITE]))
    shade = ground_shade(LEVEL, light, pole[None])
    dark = []  # 2 and 1 of the 4 that fall there
    for side in (0.6, -0.6):
        row, column = LEVEL.camera.project(LEVEL.place(side, 0, 6.0)).astype(int)
        dark.append(1 - shade[row - 2 : row + 3, column].min())
    assert dark[0] == pytest.approx(2 * dark[1], rel=0.05)
    assert 0.3 < dark[0] <= 0.5


def test_a_body_between_point_and_lamp_shades_it():
    group = placing.place_people(np.random.default_rng(4), SIZE, 0.0)
    figure = group.figures[0]
    other = figure._replace(vertices=figure.vertices + np.float32(3) * X.astype("f4"))
    trunk = figure.keypoints[[5, 6, 11, 12]].mean(0)
    point, normal = (trunk + 1.5 * X)[None], -Y[None]  # between the two
    beyond = (trunk + 4.5 * X)[None]
    left = np.array([-1, -0.01, 0]) / np.linalg.norm([-1, -0.01, 0])

    lamps = np.array([left, left * (-1, 1, 1), -Y])
    caster = Caster((figure, other), group.view.camera, lamps)
    between, outside = caster.reach(
        np.concatenate([point, beyond]), np.tile(normal, (2, 1))
    )
    assert between.tolist() == [False, False, True]
    assert outside.tolist() == [False, True, True]


def test_creases_are_dark_and_flat_places_are_not():
    depth = np.full((48, 48), np.inf)
    depth[8:40, 8:40] = 3.0
    np.testing.assert_allclose(creases(depth), 1.0, atol=1e-5)
    depth[8:40, 23:25] = 3.3
    shade = creases(depth)
    assert shade[24, 24] < 0.8
    assert shade[24, 12] == pytest.approx(1.0, abs=1e-5)


def test_plain_light_is_one_lamp_without_shadows():
    for seed in range(5):
        light = sample_light(np.random.default_rng(seed), -Y, 0.0)
        assert (len(light.lamps), light.shadow, light.gloss) == (1, 0.0, 0.0)


# --- people on the ground --------------------------------------------------------------


@pytest.fixture(scope="module")
def groups() -> list[placing.Group]:
    return [placing.place_people(np.random.default_rng(i), 256, 1.0) for i in range(60)]


def body_of(figure: placing.Figure) -> np.ndarray:
    """Vertices without those of things."""
    return figure.vertices[np.unique(figure.mesh.faces[figure.mesh.chart > 0])]


def test_a_posed_group_stands_together_and_faces_the_camera(monkeypatch):
    monkeypatch.setattr(placing, "_POSED", 1.0)
    apart, front = [], []
    for seed in range(40):
        group = placing.place_people(np.random.default_rng(seed), 64, 1.0)
        middles = np.array([f.middle for f in group.figures if not f.crowd])
        if len(middles) < 2:
            continue
        for i, figure in enumerate(group.figures[: len(middles)]):
            others = np.delete(middles, i, 0)[:, [0, 2]]
            apart.append(np.linalg.norm(others - middles[i, [0, 2]], axis=1).min())
            left, right = figure.keypoints[[5, 6], 0]  # shoulders
            front.append(left > right)
    assert len(apart) > 30
    assert np.quantile(apart, 0.9) < 1.2  # metres
    assert np.mean(front) > 0.9


def test_people_stand_on_one_ground(groups):
    feet = [
        (body_of(figure) @ group.view.up).min() + group.view.height
        for group in groups
        for figure in group.figures
    ]
    assert np.mean(np.abs(feet) < 1e-3) > 0.85  # the others jump
    assert min(feet) > -1e-3


def test_spots_say_where_people_are(groups):
    for group in groups:
        for figure, spot in zip(group.figures, group.spots, strict=False):
            middle = (figure.vertices.min(0) + figure.vertices.max(0)) / 2
            seen = (middle @ group.view.right, middle @ group.view.ahead)
            np.testing.assert_allclose(seen, spot, atol=0.6)


def test_cameras_differ_in_height_pitch_and_distance(groups):
    height = [group.view.height for group in groups]
    pitch = np.degrees([np.arcsin(group.view.ahead[1]) for group in groups])
    away = [group.spots[0, 1] for group in groups]
    assert min(height) < 1 and max(height) > 2
    assert min(pitch) < -10 and max(pitch) > 5  # down, and up
    assert min(away) < 1 and max(away) > 8


def test_a_person_beside_another_does_not_stand_in_it():
    group = placing.place_people(np.random.default_rng(1), SIZE, 0.0)
    figure = group.figures[0]

    def moved(by: float) -> placing.Figure:
        return figure._replace(keypoints=figure.keypoints + by * X)

    assert placing.overlap(figure, moved(0.05))
    assert not placing.overlap(figure, moved(2.0))
    for group in (
        placing.place_people(np.random.default_rng(s), SIZE, 1.0) for s in (3, 5)
    ):
        near = [figure for figure in group.figures if not figure.crowd]
        for index, one in enumerate(near):
            assert not any(placing.overlap(one, other) for other in near[:index])


def test_plain_scenes_have_people_and_nothing_in_front_of_them():
    for seed in range(6):
        scene = scenes.sample_scene(np.random.default_rng(seed), SIZE, 0.0)
        assert np.isinf(scene.barrier).all()
        assert 1 <= sum(not figure.crowd for figure in scene.figures) <= 4


# --- things in front -------------------------------------------------------------------


def test_what_a_thing_hides_is_labelled_as_nothing():
    scene = scenes.sample_scene(np.random.default_rng(2), SIZE, 0.0)
    before = scenes.render_scene(scene, np.random.default_rng(0))
    row = int(np.median(np.nonzero(before.person >= 0)[0]))
    barrier = scene.barrier.copy()
    barrier[:row] = 0.5  # in front of everybody
    barrier[row:] = 100.0  # behind everybody
    background = scene.background.copy()
    background[:row] = (0, 1, 0)
    hidden = scene._replace(barrier=barrier, background=background)
    after = scenes.render_scene(hidden, np.random.default_rng(0))
    assert (after.person[:row] == -1).all() and (after.chart[:row] == 0).all()
    np.testing.assert_array_equal(after.person[row:], before.person[row:])
    seen = after.image[: row - 4][before.person[: row - 4] >= 0].astype(int)
    assert (seen[:, 1] > seen[:, 0] + 60).all()  # the thing's green, not skin or cloth


def site_of(scene: scenes.Scene, seed: int) -> Site:
    view = LEVEL._replace(camera=scene.camera)
    light = light_from([0, -1, -1])
    spots = np.array([[0.0, scene.figures[0].middle[2]]])
    return Site(np.random.default_rng(seed), view, light, Photographs(), spots)


def test_held_things_are_drawn_by_the_hand():
    scene = scenes.sample_scene(np.random.default_rng(2), SIZE, 0.0)
    wrists = scene.figures[0].keypoints[9:11]
    for seed in range(8):
        canvas = Canvas(scene.camera, np.zeros((SIZE, SIZE, 3)))
        hold_cutout(canvas, site_of(scene, seed), scene.figures[0].keypoints)
        rows, columns = np.nonzero(np.isfinite(canvas.depth))
        assert len(rows)
        middle = np.array([rows.mean(), columns.mean()])
        away = np.linalg.norm(scene.camera.project(wrists) - middle, axis=1).min()
        metre = scene.camera.focal / wrists[0, 2]  # in pixels
        assert away < 0.35 * metre
        assert abs(canvas.depth[rows, columns] - wrists[:, 2].mean()).max() < 0.5


def test_things_in_front_are_nearer_than_people():
    scene = scenes.sample_scene(np.random.default_rng(2), SIZE, 0.0)
    for seed in range(8):
        canvas = Canvas(scene.camera, np.zeros((SIZE, SIZE, 3)))
        stand_before(canvas, site_of(scene, seed))
        barrier = canvas.barrier()
        near = barrier[np.isfinite(barrier)]
        assert (near < 0.8 * scene.figures[0].middle[2]).all()


def test_hits_picked_out_keep_what_they_hit():
    group = placing.place_people(np.random.default_rng(1), SIZE, 1.0)
    caster = Caster(group.figures, group.view.camera)
    hits = caster.cast(np.indices((SIZE, SIZE)).reshape(2, -1).T + 0.5)
    mesh = hits.mesh._replace(chart=np.zeros_like(hits.mesh.chart))  # all are things
    kept = np.random.default_rng(0).random(len(hits.face)) < 0.5
    some = hits._replace(mesh=mesh).pick(kept)
    np.testing.assert_array_equal(np.flatnonzero(some.hit), np.flatnonzero(hits.hit)[kept])
    for field in ("figure", "face", "weights"):
        np.testing.assert_array_equal(getattr(some, field), getattr(hits, field)[kept])


# --- nobody ----------------------------------------------------------------------------


def test_a_scene_without_people_is_an_image_without_annotations(monkeypatch, tmp_path):
    monkeypatch.setattr(placing, "_EMPTY", 1.0)
    monkeypatch.setattr(placing, "_add_crowd", lambda *_: None)
    scene, picture = people.make_scene(0, "train", 0, SIZE)
    assert scene.figures == () and (picture.person == -1).all()
    assert picture.image.shape == (SIZE, SIZE, 3)
    people.render_dataset(tmp_path, train=2, val=0, size=SIZE, seed=0)
    data = json.loads((tmp_path / "annotations/densepose_train2014.json").read_text())
    assert len(data["images"]) == 2 and data["annotations"] == []


def test_now_and_then_nobody_is_there():
    rng = np.random.default_rng(0)
    empty = [not placing.place_people(rng, 64, 1.0).figures for _ in range(120)]
    assert 1 <= sum(empty) <= 12  # 4 % expected


# --- photographs -----------------------------------------------------------------------


def test_photographs_are_found_sorted_without_the_excluded(photos):
    found = [Path(path).relative_to(photos).as_posix() for path in find_pictures([photos])]
    assert found == ["b.jpg", "deep/a.png"]


def test_a_whole_folder_can_be_excluded(tmp_path):
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "exclude.txt").write_text("a/\n")
    assert [Path(path).name for path in find_pictures([tmp_path])] == ["y.png"]


def test_folders_without_photographs_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no photographs"):
        find_pictures([tmp_path])


def test_a_broken_photograph_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a jpeg")
    files = find_pictures([tmp_path])
    with pytest.raises(UserError, match=r"broken\.jpg"):
        photographs.sample_photo(np.random.default_rng(0), files, 32)


def test_most_varied_scenes_show_photographs_where_there_are_some(photos):
    given = Photographs(find_pictures([photos]))
    rng = np.random.default_rng(0)
    kinds = [surroundings.sample_kind(rng, 1.0, given) for _ in range(400)]
    assert np.mean([kind == "photo" for kind in kinds]) == pytest.approx(0.75, abs=0.07)
    site = Site(rng, LEVEL, light_from([0, -1, 0]), given, np.zeros((1, 2)))
    image = surroundings.draw_surroundings(site, "photo", variety=0.0).image
    green, others = image[..., 1], image[..., [0, 2]].max(-1)
    assert (green > others + 0.1).all()
    assert surroundings.sample_kind(rng, 0.0, given) == "plain"


def test_photographs_and_processes_change_no_byte(photos, tmp_path):
    numbers = {"train": 3, "val": 0, "size": 64, "seed": 1}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        people.render_dataset(out, **numbers, processes=processes, photos=[photos])
    files = sorted(p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*.*"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


# --- shards ----------------------------------------------------------------------------


def test_shards_join_into_the_same_data_set(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    people.render_dataset(whole, train=4, val=1, size=64, seed=2)
    people.render_dataset(parts, train=2, val=1, size=64, seed=2)
    people.render_dataset(parts, train=2, val=0, size=64, seed=2, first=2)
    people.render_dataset(parts, train=1, val=0, size=64, seed=2, first=2)  # once more
    files = sorted(p.relative_to(whole) for p in whole.rglob("*.*"))
    assert len(files) == 7
    for file in files:
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file


def test_a_first_scene_past_the_ids_is_refused(tmp_path):
    for first in (-1, 500_000):
        with pytest.raises(UserError, match=str(first)):
            people.render_dataset(tmp_path, train=1, val=0, first=first)


# --- effects ---------------------------------------------------------------------------


def test_effects_move_nothing():
    image = np.full((64, 64, 3), 0.2, np.float32)
    image[20:36, 24:44] = 0.8
    for seed in range(60):
        photo = develop(image, np.random.default_rng(seed)).astype(float).mean(-1)
        light = np.clip(photo - (photo[:10].mean() + photo[28, 34]) / 2, 0, None)
        if light.max() < 20:  # nothing is left of the contrast
            continue
        light[:12], light[44:], light[:, :14], light[:, 54:] = 0, 0, 0, 0
        rows, columns = np.indices(light.shape)
        middle = [(axis * light).sum() / light.sum() for axis in (rows, columns)]
        np.testing.assert_allclose(middle, (27.5, 33.5), atol=0.7)


def test_effects_are_mild_where_scenes_are_plain():
    image = np.full((48, 48, 3), 0.5, np.float32)
    for seed in range(20):
        photo = develop(image, np.random.default_rng(seed), 0.0)
        assert photo.dtype == np.uint8
        assert 85 < photo.mean() < 170
        assert photo.astype(float).mean((0, 1)).std() < 15
