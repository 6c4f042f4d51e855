"""Relation V: what is counted, against little files counted by hand."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ktn_jax.anatomy import KEYPOINTS, PART_OF_CHART, PARTS
from ktn_jax.errors import UserError
from ktn_jax.graph import Graph, build_graph, genome, read_graph, shipped_visual
from ktn_jax.graph.__main__ import main
from ktn_jax.graph.genome import count_relationships
from ktn_jax.graph.matrices import normalise
from ktn_jax.graph.sightings import count_people

TORSO, HANDS, ARMS, LOWER_ARMS, HEAD = (
    [1, 2],
    [3, 4],
    list(range(15, 23)),
    list(range(19, 23)),
    [23, 24],
)


def zeros():
    return Graph(*(np.zeros((25, columns)) for columns in (17, 15, 6)))


def test_counts_are_divided_by_the_roots_of_their_sums_and_nothing_stays_nothing():
    counts = zeros()
    counts.keypoint[3, [9, 10]] = 4, 12  # row sum 16
    counts.keypoint[4, 9] = 5  # column sums 9 and 12
    counts.person[1:4, 0] = 9, 16, 0  # sum 25
    counts.person[1, 5] = 7
    seen = normalise(counts)
    expected = zeros()
    expected.keypoint[3, [9, 10]] = 4 / np.sqrt(16 * 9), 12 / np.sqrt(16 * 12)
    expected.keypoint[4, 9] = 5 / np.sqrt(5 * 9)
    # a person's column by itself: c / sqrt(c * sum)
    expected.person[1:3, 0] = 9 / np.sqrt(9 * 25), 16 / np.sqrt(16 * 25)
    expected.person[1, 5] = 1
    for a, b in zip(seen, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# --- Visual Genome --------------------------------------------------------------


def relation(subject, object, ids=(1, 2)):
    ends = {"subject": subject, "object": object}
    named = {
        key: {"name": name, "object_id": i}
        for (key, name), i in zip(ends.items(), ids, strict=True)
    }
    return {"predicate": "on", **named}


@pytest.fixture
def miniature(tmp_path):
    """Two images in the form of relationships.json."""
    names = {"subject": {"names": ["Nose"]}, "object": {"names": ["face", "head"]}}
    images = [
        {
            "image_id": 1,
            "relationships": [
                relation("elbow", "arm"),
                relation("man", "left hand"),
                relation("hands", "man's hip"),
            ],
        },
        {"image_id": 2, "relationships": []},
        {
            "image_id": 3,
            "relationships": [
                names,
                relation("hand of the man", "hip"),
                relation("forearm", "right thigh"),
                relation("woman", "arm"),  # "arm" alone is in both vocabularies
                relation("ankle", "dog"),  # so is "ankle"
                relation("hand", "hand", ids=(5, 5)),  # a thing and itself
                relation("hand bag", "arm"),  # nothing of a body
                relation("table leg", "arm"),
            ],
        },
    ]
    (tmp_path / "relationships.json").write_text(json.dumps(images, indent=1))
    return tmp_path / "relationships.json"


def test_relations_of_visual_genome_by_hand(miniature):
    expected = zeros()
    keypoint, part, person = expected
    elbows, wrists, hips = [7, 8], [9, 10], [11, 12]
    # elbow - arm: both readings say the same, so it counts once
    keypoint[np.ix_(ARMS, elbows)] += 1
    part[np.ix_(ARMS, [10, 11, 12, 13])] += 1
    # man - left hand
    person[4] += 1
    # hands - hip, in either image: the hand's chart by the hip, the hip's by the wrist
    keypoint[np.ix_(HANDS, hips)] += 2
    keypoint[np.ix_(TORSO, wrists)] += 2
    part[np.ix_(HANDS, [1])] += 2
    part[np.ix_(TORSO, [2, 3])] += 2
    # nose - face
    keypoint[np.ix_(HEAD, [0])] += 1
    # forearm - right thigh: charts 7 and 9 by the wrist, the lower arms' by the right hip
    keypoint[np.ix_([7, 9], wrists)] += 1
    keypoint[np.ix_(LOWER_ARMS, [12])] += 1
    part[np.ix_([7, 9], [12, 13])] += 1
    part[np.ix_(LOWER_ARMS, [6])] += 1
    # woman - arm
    person[ARMS] += 1
    for a, b in zip(count_relationships(miniature), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_is_read_alike_in_pieces_of_any_size(miniature, monkeypatch):
    whole = count_relationships(miniature)
    for size in (1, 7, 1000):
        monkeypatch.setattr(genome, "CHUNK", size)
        for a, b in zip(count_relationships(miniature), whole, strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_side_and_level_meets_every_other_alike(tmp_path):
    """Where the authors' script pairs upper with left and lower with right."""
    path = tmp_path / "relationships.json"
    path.write_text(json.dumps([{"relationships": [relation("leg", "arm")]}]))
    part = count_relationships(path).part
    legs = [i for i, name in enumerate(PARTS) if "leg" in name]
    assert (part[np.ix_(ARMS, legs)] == 1).all() and (part[7:15, 10:14] == 1).all()
    assert part.sum() == 2 * 8 * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no whole json list"),
        ('{"a": 1}', "no whole json list"),
        ('[{"relationships": []}, {"relat', "no whole json list"),
        ('[{"relationships": []}', "no whole json list"),
        ('[{"regions": []}]', r"not Visual Genome's.*KeyError\('relationships'\)"),
        ('[{"relationships": [{"subject": {"name": "a"}}]}]', r"KeyError\('object'\)"),
        ("[1, 2]", "not Visual Genome's"),
        ('[{"relationships": [{"subject": {}, "object": {}}]}]', "KeyError"),
    ],
)
def test_files_that_are_not_visual_genome_s(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        count_relationships(tmp_path / "a.json")


# --- DensePose ------------------------------------------------------------------


def encode(mask):
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"counts": code["counts"].decode(), "size": [256, 256]}


def annotation(**changes):
    """A person whose box is 64 x 64 at the origin, so "by" is within .08 * 64 = 5.12 px.

    Points (row, column): chart 3 at (10, 10), chart 20 at (10, 16), chart 2 at (40, 40)
    and (40, 50). Parts: right hand in row 10, columns 8..17; torso in row 40, 40..43.
    """
    rows, columns = [10, 10, 40, 40], [10, 16, 40, 50]
    masks = {2: np.s_[40:44, 32:72], 1: np.s_[160:164, 160:176]}  # 4 grid cells a pixel
    parts = [[] for _ in range(14)]
    for part, place in masks.items():
        mask = np.zeros((256, 256))
        mask[place] = 1
        parts[part - 1] = encode(mask)
    keypoints = np.zeros((17, 3))
    keypoints[KEYPOINTS.index("right_wrist")] = 12, 10, 2  # centre at row 10.5, 12.5
    keypoints[KEYPOINTS.index("right_hip")] = 40, 36, 2
    keypoints[KEYPOINTS.index("left_wrist")] = 12, 10, 1  # hidden
    keypoints[KEYPOINTS.index("nose")] = 60, 2, 2  # by nothing
    return {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "area": 14.0,
        "bbox": [0.0, 0.0, 64.0, 64.0],
        "keypoints": keypoints.ravel().tolist(),
        "dp_x": [4.0 * x for x in columns],
        "dp_y": [4.0 * y for y in rows],
        "dp_I": [3, 20, 2, 2],
        "dp_U": [0.5] * 4,
        "dp_V": [0.5] * 4,
        "dp_masks": parts,
        **changes,
    }


@pytest.fixture
def dense(tmp_path):
    """Two json files: the person, with a crowd and one without points; the person again."""
    images = [{"id": 1, "file_name": "a.jpg", "height": 64, "width": 64}]
    plain = {k: v for k, v in annotation(id=2).items() if not k.startswith("dp_")}
    crowd = annotation(id=3, iscrowd=1)
    paths = []
    for name, annotations in (("a", [annotation(), plain, crowd]), ("b", [annotation()])):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"images": images, "annotations": annotations}))
    return paths


def by_hand():
    """Counts of one person: r^2 = 26.2."""
    counts = zeros()
    keypoint, part, person = counts
    # wrist to chart 3: .5^2 + 2.5^2; to 20: .5^2 + 3.5^2. hip to chart 2: 3.5^2 + .5^2
    keypoint[[3, 20], KEYPOINTS.index("right_wrist")] = 1
    keypoint[2, KEYPOINTS.index("right_hip")] = 1
    # hand pixels 8.5 .. 17.5 within 5.09 of 10 are 8.5 .. 14.5, of 16 are 11.5 .. 17.5
    part[[3, 20], 2] = 0.7
    part[2, 1] = 1
    # mean of the mask's 14 pixels: (19.1, 21.3); nearest is (10.5, 17.5), by chart 20
    person[[2, 3, 20], :] = 1, 0, 0, 1, 1, 1
    person[20, [1, 2]] = 1
    return counts


def test_what_lies_by_charts_in_a_densepose_json_by_hand(dense):
    counts, people = count_people(dense)
    assert people == 2
    for a, b in zip(counts, by_hand(), strict=True):
        np.testing.assert_allclose(a, 2 * b, atol=1e-6)


def test_near_grows_with_the_person(dense, tmp_path):
    """The same person twice as large gives the same counts."""
    document = json.loads(dense[1].read_text())
    (person,) = document["annotations"]
    person["bbox"] = [0, 0, 128, 128]
    keypoints = np.reshape(person["keypoints"], (17, 3))
    keypoints[:, :2] = 2 * (keypoints[:, :2] + 0.5) - 0.5
    person["keypoints"] = keypoints.ravel().tolist()
    document["images"][0].update(height=128, width=128)
    (tmp_path / "large.json").write_text(json.dumps(document))
    counts, _ = count_people([tmp_path / "large.json"])
    for name in ("keypoint", "part"):
        ours = getattr(counts, name)
        np.testing.assert_allclose(ours, getattr(by_hand(), name), atol=0.06)


def test_the_command_counts_both_kinds(dense, miniature, tmp_path, capsys):
    files = (["--coco", *map(str, dense)], [f"--visual-genome={miniature}"])
    counts = (by_hand(), count_relationships(miniature))
    for arguments, expected in zip(files, counts, strict=True):
        out = tmp_path / "graph.npz"
        assert main([*arguments, "--relations=visual", f"--out={out}"]) == 0
        graph = build_graph(rules=False, words=False, visual=normalise(expected))
        for a, b in zip(read_graph(out), graph, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert "counted on 2 people" in capsys.readouterr().out


def test_plain_coco_has_nothing_to_count(dense, tmp_path):
    document = json.loads(dense[0].read_text())
    document["annotations"] = document["annotations"][1:2]
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="plain COCO"):
        count_people([tmp_path / "c.json"])


def test_the_shipped_counts_agree_with_anatomy():
    """Every rule was seen, and most of what was seen lies on the rules."""
    rules, visual = build_graph(words=False), shipped_visual()
    for name in ("keypoint", "part"):
        stated, seen = getattr(rules, name) > 0, getattr(visual, name)
        assert seen.shape == stated.shape and not seen[0].any() and seen.max() <= 1
        assert seen[stated].min() > 0.02  # the ear on the far side of the head
        assert seen[stated].sum() > 0.6 * seen.sum()
        assert (seen[1:].argmax(1) == (stated * seen)[1:].argmax(1)).all()
    assert (visual.part[1:].argmax(1) == PART_OF_CHART[1:]).all()
    assert (visual.person.argmax(0)[1:3] == 2).all()  # most anchors lie on the belly
