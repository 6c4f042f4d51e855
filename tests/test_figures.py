"""Figures: what their meshes say, what they wear, and how they stand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ktn_jax import anatomy, body, rig
from ktn_jax.data import (
    clearance,
    figures,
    looks,
    outfits,
    people,
    poses,
    scenes,
    shells,
    styles,
    template,
    thin,
    things,
)
from ktn_jax.data.garments import dress, worn_faces
from ktn_jax.data.render import Camera, Caster

LEVELS = list(thin.LEVELS)
FOLDS = tuple(looks.sample_waves(np.random.default_rng(i), 0.1) for i in range(3))
STILL = np.tile(np.eye(3), (len(body.load_body().bones), 1, 1))


def plain_look(**changes) -> looks.Look:
    """Thin plain clothes, but for what is said."""
    look = outfits.sample_look(np.random.default_rng(0), 0)
    return look._replace(hair_length=1.0, beard=0.0, gloves=False)._replace(**changes)


def dressed(
    look: looks.Look, bends: np.ndarray = STILL, yaw: float = 0, along: tuple = ()
) -> figures.Figure:
    """A figure 3.5 m away."""
    person = poses.Person(np.zeros(len(body.load_body().target_names)), bends)
    return figures.place_figure(
        person,
        look,
        turn=Rotation.from_euler("y", yaw, degrees=True),
        middle=np.array([0, 0, 3.5]),
        wrinkles=FOLDS,
        things=along,
    )


def cast(figure: figures.Figure, size: int = 128):
    """Hits at pixel centres, as rows."""
    line = np.arange(size) + 0.5
    yx = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    return yx, Caster([figure], Camera(1.5 * size, size)).cast(yx)


def leg(name: str, degrees: float) -> np.ndarray:
    """The T pose with one thigh swung out."""
    bends = STILL.copy()
    bends[body.load_body().bones.index(name)] = Rotation.from_euler(
        "z", degrees, degrees=True
    ).as_matrix()
    return bends


@pytest.mark.parametrize("level", LEVELS)
def test_every_corner_of_a_thin_mesh_is_the_bodys_own(level):
    made, whole = template.load_template(level), body.load_body()
    charts = body.cut_charts()
    straight = body.t_pose().vertices.astype(np.float32)
    own = made.face_shell == 0
    wanted = {
        (*straight[vertex], chart, *uv)
        for vertex, chart, uv in zip(
            whole.faces.ravel(),
            np.repeat(charts.chart, 3),
            charts.uv.reshape(-1, 2).astype(np.float32),
            strict=True,
        )
    }
    places = made.position[made.faces[own]]
    for triple, chart, uv in zip(places, made.chart[own], made.uv[own], strict=True):
        for place, pair in zip(triple, uv, strict=True):
            assert (*place, chart, *pair) in wanted


@pytest.mark.parametrize("level", LEVELS)
def test_a_thin_mesh_is_closed_and_close_to_the_body(level):
    made = template.load_template(level)
    faces = made.faces[made.face_shell == 0]
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 2).all()
    corners = made.position[faces].astype(float)
    points = body.t_pose().vertices[np.unique(body.load_body().faces)]
    face, weights = shells.find_nearest(points, corners)
    place = np.einsum("kc,kcd->kd", weights, corners[face])
    away = np.linalg.norm(place - points, axis=1)
    assert np.quantile(away, 0.98) < 2.5 * thin.LEVELS[level][1]


def test_the_nearest_place_is_the_best_of_many():
    rng = np.random.default_rng(0)
    corners, points = rng.normal(size=(6, 3, 3)), rng.normal(size=(20, 3))
    face, weights = shells.find_nearest(points, corners)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1)
    found = np.linalg.norm(np.einsum("kc,kcd->kd", weights, corners[face]) - points, axis=1)
    samples = np.einsum("sc,fcd->fsd", rng.dirichlet([0.5] * 3, 4000), corners)
    tried = np.linalg.norm(points[:, None, None] - samples, axis=-1).min((1, 2))
    assert (found <= tried + 1e-9).all()
    assert (tried - found).max() < 0.1


@pytest.mark.parametrize("kind", [shells.CONE, shells.CURTAIN, shells.BRIM, shells.PACK])
def test_a_shell_says_what_body_lies_nearest(kind):
    made = template.load_template()
    mine, own = made.face_shell == kind, made.face_shell == 0
    under = shells.build_shells()[kind].under
    assert np.isin(anatomy.COARSE_OF_CHART[made.chart[mine]], under).all()
    # points spread over the body's faces, by brute force
    weights = np.random.default_rng(0).dirichlet([1] * 3, 12)
    able = own & np.isin(anatomy.COARSE_OF_CHART[made.chart], under)
    places = np.einsum("sc,fcd->fsd", weights, made.position[made.faces[able]])
    uv = np.einsum("sc,fcd->fsd", weights, made.uv[able]).reshape(-1, 2)
    chart = np.repeat(made.chart[able], len(weights))
    places = places.reshape(-1, 3)
    right, off = [], []
    for face in np.flatnonzero(mine)[::7]:
        center = made.position[made.faces[face]].mean(0)
        away = np.linalg.norm(places - center, axis=1)
        best = away.argmin()
        right.append(chart[best] == made.chart[face])
        if right[-1]:
            off.append(np.abs(uv[best] - made.uv[face].mean(0)).max())
    assert np.mean(right) > 0.9
    assert np.median(off) < 0.06


def test_a_skirt_fills_the_gap_between_the_legs():
    apart = leg("thigh_l", 25)
    bare = plain_look(hem=0.0, rise=0.1, waist=0.1)
    skirt = bare._replace(hems=(looks.Hem(looks.BOTTOM, 0.16, -0.5, 0.1),))
    places = []
    for look in (bare, skirt):
        figure = dressed(look, apart)
        yx, hits = cast(figure)
        knees = Camera(192, 128).project(figure.keypoints[[13, 14]])
        middle = 0.6 * knees.mean(0) + 0.4 * Camera(192, 128).project(
            figure.keypoints[[11, 12]]
        ).mean(0)
        places.append(hits.hit[np.linalg.norm(yx - middle, axis=1).argmin()])
    assert places == [False, True]
    shown = hits.mesh.worn[hits.face] == looks.BOTTOM
    assert set(hits.chart()[shown]) <= {1, 2, *range(7, 15)}


def test_clothes_do_not_change_the_label_of_bare_skin():
    rng = np.random.default_rng(5)
    bare = dressed(plain_look())
    for _ in range(6):
        look = outfits.sample_look(rng)._replace(pack=False, hat=1.0, hood=False)
        figure = dressed(look)
        (_, there), (_, here) = cast(bare), cast(figure)
        _, _, covers = figures.paint_hits([figure], here)
        skin = np.zeros(len(here.hit), bool)
        skin[here.hit] = covers == looks.SKIN
        both = skin & there.hit
        chart, uv = np.zeros((2, len(skin)), int), np.zeros((2, len(skin), 2))
        for row, hits in enumerate((there, here)):
            chart[row, hits.hit], uv[row, hits.hit] = hits.chart(), hits.uv()
        same = chart[0, both] == chart[1, both]
        assert both.sum() > 40
        assert same.mean() > 0.9  # cloth's edges hide or move a few
        assert np.quantile(np.abs(uv[0, both] - uv[1, both])[same], 0.9) < 0.06


def test_bare_skin_stays_where_the_body_is():
    made = template.load_template()
    rng = np.random.default_rng(2)
    for _ in range(20):
        look = outfits.sample_look(rng)
        worn = looks.cover(look, made.position, coarse=made.coarse)
        bare = (worn == looks.SKIN) & (made.shell == 0)
        assert np.abs(dress(look, made)[0][bare]).max(initial=0) < 1e-6


def test_keypoints_are_those_of_the_body_without_clothes():
    rng = np.random.default_rng(1)
    person = poses.sample_person(rng)._replace(head=1.0)
    middle = np.array([0.1, 0.2, 4])
    thin_look, coat = plain_look(), plain_look(coat=-0.1, sole=0.03)
    both = [
        figures.place_figure(
            person, look, turn=Rotation.identity(), middle=middle, wrinkles=FOLDS
        )
        for look in (thin_look, coat)
    ]
    np.testing.assert_allclose(both[0].keypoints, both[1].keypoints)
    shape = body.mix_shape(
        dict(zip(body.load_body().target_names, person.shares, strict=True))
    )
    ways, _ = body.pose_bones(shape.joints, person.bends)
    parents = body.load_body().parents
    whole = rig.skin_rounded(body.skin_matrix(), ways, shape.vertices, parents)
    wanted = body.find_keypoints(whole)
    found = both[0].keypoints * (1, -1, -1)
    np.testing.assert_allclose(found - found.mean(0), wanted - wanted.mean(0), atol=1e-4)
    used = np.unique(body.load_body().faces)
    assert person.height == pytest.approx(np.ptp(shape.vertices[used, 1]), abs=0.012)


def test_joints_under_thick_sleeves_are_seen():
    look = plain_look(coat=-0.1, sleeve=0.6)
    coat = look.cloth[looks.COAT]._replace(thickness=0.01, loose=0.09, waves=FOLDS[0])
    figure = dressed(look._replace(cloth=look.cloth | {looks.COAT: coat}))
    elbow, nose = anatomy.KEYPOINTS.index("left_elbow"), 0
    assert figure.slack[elbow] > 0.04
    assert figure.slack[nose] < 1e-6
    scene = scenes.sample_scene(np.random.default_rng(0), 160)
    flags = []
    for slack in (figure.slack, 0 * figure.slack):
        picture = scenes.Picture(
            image=np.zeros((160, 160, 3), np.uint8),
            person=np.zeros((160, 160), int),
            chart=np.ones((160, 160), int),
            uv=np.zeros((160, 160, 2)),
            depth=np.ones((160, 160)),
            keypoint_depth=figure.keypoints[None, :, 2] - 0.12,
            keypoint_person=np.zeros((1, 17), int),
        )
        one = scene._replace(
            figures=(figure._replace(slack=slack),), camera=Camera(200, 160)
        )
        (person,) = people.annotate(one, picture, np.random.default_rng(0), 1)
        flags.append(person["keypoints"][3 * elbow + 2])
    assert flags == [2, 1]


def test_a_head_grows_about_its_own_joint():
    person = poses.sample_person(np.random.default_rng(4))._replace(head=1.0)
    bones, template_ = body.load_body().bones, template.load_template()
    moved = []
    for size in (1.0, 1.2):
        ways, joints = poses.pose_person(person._replace(head=size))
        at = joints[bones.index("head")]
        head = template_.weights[:, bones.index("head")].toarray()[:, 0] > 0.999
        rest = template_.rest + np.tensordot(
            person.shares.astype(np.float32), template_.targets, 1
        )
        posed = body.skin_points(template_.weights, ways, rest)
        moved.append((posed[head] - at, posed[~head & (template_.coarse < 8)]))
    np.testing.assert_allclose(moved[1][0], 1.2 * moved[0][0], atol=1e-5)
    below = np.linalg.norm(moved[1][1] - moved[0][1], axis=1)
    assert np.median(below) == 0


def test_a_hand_comes_where_it_reaches():
    loaded = body.load_body()
    straight = body.t_pose().joints
    for reach in (styles.HIP, styles.CHIN, styles.CROSSED, styles.BAR, styles.BEHIND):
        upper, elbow = poses.solve_reach(reach)
        np.testing.assert_allclose(upper @ upper.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(upper) == pytest.approx(1)
        bends = STILL.copy()
        bends[loaded.bones.index("upperarm_l")] = upper
        bends[loaded.bones.index("lowerarm_l")] = Rotation.from_euler(
            "y", -elbow, degrees=True
        ).as_matrix()
        _, joints = body.pose_bones(loaded.base.joints, bends)
        wrist = joints[loaded.bones.index("hand_l")]
        shoulder = straight[loaded.bones.index("upperarm_l")]
        wanted = np.array(reach[:3]) - shoulder
        way = wrist - shoulder
        assert way @ wanted > 0.999 * np.linalg.norm(way) * np.linalg.norm(wanted)
        assert np.linalg.norm(way) == pytest.approx(
            min(np.linalg.norm(wanted), 0.4545), abs=2e-3
        )


def test_joints_keep_within_human_limits():
    loaded = body.load_body()
    rng = np.random.default_rng(0)
    hinge = [loaded.bones.index(f"{b}_{s}") for b in ("calf", "lowerarm") for s in "lr"]
    neck = [loaded.bones.index(b) for b in ("neck_01", "head")]
    for _ in range(150):
        bends = poses.sample_bends(rng, *poses.draw_style(rng))
        np.testing.assert_allclose(bends @ bends.transpose(0, 2, 1), STILL, atol=1e-9)
        # a knee folds back, an elbow to the front, and neither goes beyond straight
        for bone in hinge[:2]:
            assert bends[bone][1, 2] < 1e-9
            assert np.degrees(np.arccos(bends[bone][1, 1])) < 150
        for bone, side in zip(hinge[2:], (1, -1), strict=True):
            assert side * bends[bone][2, 0] > -1e-9
            assert np.degrees(np.arccos(np.clip(bends[bone][0, 0], -1, 1))) < 172
        turned = bends[neck[0]] @ bends[neck[1]]
        assert np.degrees(np.arccos(turned[2, 2])) < 90


def test_most_sampled_people_keep_clear_of_themselves():
    rng = np.random.default_rng(0)
    clear = []
    for _ in range(60):
        person = poses.sample_person(rng)
        _, joints = body.pose_bones(poses.mix_joints(person.shares), person.bends)
        clear.append(clearance.is_clear(joints))
    assert np.mean(clear) > 0.9
    folded = STILL.copy()  # a forearm through the chest
    bones = body.load_body().bones
    folded[bones.index("upperarm_l")] = Rotation.from_euler(
        "z", -85, degrees=True
    ).as_matrix()
    folded[bones.index("lowerarm_l")] = Rotation.from_euler(
        "z", -100, degrees=True
    ).as_matrix()
    _, joints = body.pose_bones(body.load_body().base.joints, folded)
    assert not clearance.is_clear(joints)


def test_plain_people_wear_no_shells_and_varied_ones_all():
    rng = np.random.default_rng(0)
    made = template.load_template()
    seen = []
    for variety in (0, 1):
        worn = [worn_faces(outfits.sample_look(rng, variety), made) for _ in range(120)]
        seen.append({k for w in worn for k in np.unique(made.face_shell[w > -2]).tolist()})
    assert seen == [{0}, set(range(6))]


def test_bulky_clothes_stand_well_off_the_body_and_a_whole_suit_is_of_one_colour():
    made = template.load_template()
    worn = (looks.TOP, looks.COAT, looks.BOTTOM)
    plain = plain_look()
    far, suits = {}, set()
    for put_on in (outfits._dress_everyday, outfits._dress_bulky):
        rng = np.random.default_rng(3)
        drawn = [put_on(rng, plain) for _ in range(20)]
        off = []
        for look in drawn:
            shift, covers = dress(look, made)
            mine = (made.shell == 0) & np.isin(covers, worn)
            off.append(np.linalg.norm(shift[mine], axis=1).mean())
        far[put_on] = np.mean(off)
    for look in drawn:
        coat, legs = (look.cloth[kind].color for kind in (looks.COAT, looks.BOTTOM))
        suits.add((look.scarf, bool(look.hems), np.array_equal(coat, legs)))
    assert suits == {(True, False, True), (False, True, False)}
    assert far[outfits._dress_bulky] > 2 * far[outfits._dress_everyday] > 0.02


def test_the_same_seed_draws_the_same_figure():
    twins = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        twins.append((poses.sample_person(rng), outfits.sample_look(rng)))
    np.testing.assert_array_equal(twins[0][0].bends, twins[1][0].bends)
    pair = [dressed(look, person.bends) for person, look in twins]
    np.testing.assert_array_equal(pair[0].vertices, pair[1].vertices)
    np.testing.assert_array_equal(pair[0].mesh.worn, pair[1].mesh.worn)


def test_cloth_can_be_cut_from_a_photograph():
    rng = np.random.default_rng(0)
    patch = rng.random((30, 40, 3)).astype(np.float32)
    look = plain_look()
    cloth = look.cloth[looks.TOP]._replace(pattern="patch", patch=patch, weave=0.0)
    look = look._replace(cloth=look.cloth | {looks.TOP: cloth})
    figure = dressed(look)
    _, hits = cast(figure)
    color, _, covers = figures.paint_hits([figure], hits)
    top = covers == looks.TOP
    known = {tuple(c) for c in patch.reshape(-1, 3).tolist()}
    assert top.sum() > 200
    assert {tuple(c) for c in color[top].tolist()} <= known
    assert len(np.unique(color[top], axis=0)) > 50
    drawn = [outfits.sample_look(rng, 1.0, patch) for _ in range(10)]
    assert any(c.pattern == "patch" for one in drawn for c in one.cloth.values())


def test_a_thing_hides_the_body_and_is_nobody():
    rng = np.random.default_rng(0)
    wall = things.Thing(
        points=np.array([(-1, -0.3, 1.0), (1, -0.3, 1), (1, 0.3, 1), (-1, 0.3, 1)]),
        faces=np.array([(0, 1, 2), (0, 2, 3)], np.int32),
        bones=("pelvis", "pelvis"),
        share=np.zeros(4),
        cloth=plain_look().cloth[looks.TOP],
    )
    figure = dressed(plain_look(), along=(wall,))
    scene = scenes.sample_scene(rng, 128)
    scene = scene._replace(
        figures=(figure,),
        camera=Camera(192, 128),
        barrier=np.full((128, 128), np.inf),
    )
    picture = scenes.render_scene(scene, rng)
    row, column = scene.camera.project(figure.keypoints[[11, 0]]).astype(int).T
    assert picture.person[row, column].tolist() == [-1, 0]
    assert (picture.chart[row, column] > 0).tolist() == [False, True]
    assert picture.keypoint_person[0, [11, 0]].tolist() == [-1, 0]
    assert np.isinf(picture.depth[row[0], column[0]])
    _, hits = cast(figure)
    color, _, covers = figures.paint_hits([figure], hits)
    shown = color[covers == things.FIRST]
    assert len(shown) > 1000
    assert np.abs(shown - wall.cloth.color).max() < 1e-5


@pytest.mark.parametrize("style", list(styles.STYLES))
def test_things_go_where_their_bones_go(style):
    rng = np.random.default_rng(0)
    drawn = [thing for _ in range(8) for thing in things.sample_things(rng, style, "sit")]
    loaded = body.load_body()
    turn = Rotation.from_euler("xyz", (40, 70, 10), degrees=True).as_matrix()
    bends = STILL.copy()
    bends[0] = turn  # the root carries all bones along
    straight = body.t_pose().joints
    ways, joints = body.pose_bones(loaded.base.joints, bends)
    for thing in drawn:
        assert set(thing.bones) <= set(loaded.bones)
        assert thing.faces.max() < len(thing.points)
        placed = things.place_thing(thing, ways, joints)
        wanted = (thing.points - straight[0]) @ turn.T + joints[0]
        np.testing.assert_allclose(placed, wanted, atol=1e-9)


def test_styles_bring_their_things():
    rng = np.random.default_rng(0)
    skis = next(filter(None, (things.sample_things(rng, "ski", "") for _ in range(9))))
    assert {bone for ski in skis for bone in ski.bones} >= {"foot_l", "foot_r"}
    assert things.sample_things(np.random.default_rng(1), "everyday", "tailor") == ()
