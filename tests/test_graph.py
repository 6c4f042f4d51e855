"""The body graph: its relations against cosines by hand, its file, its command."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ktn_jax.anatomy import CHARTS, KEYPOINTS, PARTS
from ktn_jax.errors import EXIT_USER_ERROR, UserError
from ktn_jax.graph import (
    PERSON_ROWS,
    Graph,
    build_graph,
    read_graph,
    shipped_visual,
    show,
    write_graph,
)
from ktn_jax.graph.__main__ import main
from ktn_jax.graph.show import draw, table
from ktn_jax.graph.words import needed_words, read_words


def row(name):
    return CHARTS.index(name)


@pytest.fixture(scope="module")
def vectors():
    with open("ktn_jax/assets/glove_body_words.csv") as file:
        return {line[0]: np.array(line[1:], float) for line in csv.reader(file)}


def cosine(vectors, one, other):
    a, b = (np.concatenate([vectors[w] for w in words.split()]) for words in (one, other))
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_the_paper_s_words_are_cosines_of_joined_vectors(vectors):
    graph = build_graph(rules=False, split_pairs=False)
    knee, shin = KEYPOINTS.index("right_knee"), PARTS.index("right lower leg")
    for chart in ("right lower leg front", "right upper leg back"):  # all are "right leg"
        expected = 0.3 * cosine(vectors, "right knee", "right leg")
        assert graph.keypoint[row(chart), knee] == pytest.approx(expected, abs=1e-6)
        expected = 0.3 * cosine(vectors, "lower right leg", "full right leg")
        assert graph.part[row(chart), shin] == pytest.approx(expected, abs=1e-6)
    nose = 0.3 * cosine(vectors, "middle nose", "back torso")
    assert graph.keypoint[row("torso back"), 0] == pytest.approx(nose, abs=1e-6)
    person = 0.5 * cosine(vectors, "full middle person", "full left head")
    np.testing.assert_allclose(graph.person[row("head left")], person, atol=1e-6)


def test_our_words_say_level_side_and_facing_too(vectors):
    unit = {word: vector / np.linalg.norm(vector) for word, vector in vectors.items()}
    graph = build_graph(rules=False)
    front = "full middle front person"
    chart = "upper right front leg"
    expected = 0.5 * cosine(unit, front, chart)
    found = graph.person[row("right upper leg front"), 1]
    assert found == pytest.approx(expected, abs=1e-6)
    # a knee faces neither way and has no level: an empty place counts for nothing
    knee = np.concatenate([unit["right"], unit["middle"], unit["knee"]]) / np.sqrt(3)
    leg = np.concatenate([unit["right"], unit["front"], unit["leg"]]) / np.sqrt(4)
    found = graph.keypoint[row("right lower leg front"), KEYPOINTS.index("right_knee")]
    assert found == pytest.approx(0.3 * knee @ leg, abs=1e-6)


def test_relations_add_up_with_the_authors_weights_and_background_has_none():
    visual = Graph(*(np.full_like(matrix, 0.25) for matrix in build_graph()))
    parts = [
        build_graph(words=False),
        build_graph(rules=False),
        build_graph(rules=False, words=False, visual=visual),
    ]
    for whole, *terms in zip(build_graph(visual=visual), *parts, strict=True):
        np.testing.assert_allclose(whole, sum(terms), atol=1e-6)
    rules, words, seen = parts
    np.testing.assert_allclose(seen.keypoint, 0.3 * 0.25)
    np.testing.assert_allclose(seen.person, 0.5 * 0.25)
    assert not rules.person.any()
    # every chart has a part; face 5 x 2, wrists and ankles 4 x 3, other joints 8 x 4
    assert (rules.part > 0).sum() == 24 and (rules.keypoint > 0).sum() == 54
    assert set(np.unique(rules.part)) == {np.float32(0), np.float32(0.3)}
    for graph in (rules, words):
        assert not any(matrix[0].any() for matrix in graph) and not graph.part[:, 0].any()


@pytest.mark.parametrize(("rules", "distinct"), [(True, 16), (False, 12)])
def test_the_paper_s_form_ties_the_charts_of_a_limb(rules, distinct):
    """Eight pairs; without rules upper and lower limbs too, for every chart is "full"."""
    graph = build_graph(rules=rules, split_pairs=False)
    rows = np.concatenate(graph, axis=1)[1:]
    gaps = np.abs(rows[:, None] - rows).max(-1)
    first_of_its_kind = [not (gaps[i, :i] < 1e-5).any() for i in range(24)]
    assert sum(first_of_its_kind) == distinct


def test_vectors_of_a_user_s_own_file(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{word} " + " ".join(map(str, rng.normal(size=7))) for word in needed_words()]
    text = tmp_path / "glove.7d.txt"
    text.write_text("\n".join(["the 1 2", *lines, "leg 0 0 0", "zebra x"]) + "\n")
    table = tmp_path / "own.csv"
    table.write_text("\n".join(lines).replace(" ", ","))
    read = read_words(text)
    assert {vector.shape for vector in read.values()} == {(7,)}
    for a, b in zip(
        build_graph(vectors=read), build_graph(vectors=read_words(table)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    ours = build_graph(vectors=read, split_pairs=False, rules=False).keypoint[1, 0]
    nose = 0.3 * cosine(read, "middle nose", "back torso")
    assert ours == pytest.approx(nose, abs=1e-6) and nose != build_graph().keypoint[1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[2:], r"no vector for: ankle, arm; give a set"),
        (lambda lines: ["ankle 1 2", *lines], "different lengths"),
        (lambda lines: ["ankle one two", *lines], "'ankle' is no vector but 'one two'"),
        (lambda lines: ["ankle 0 0 0", *lines], "'ankle' is no vector"),
        (lambda lines: ["ankle 1 nan 0", *lines], "'ankle' is no vector"),
    ],
)
def test_word_files_that_will_not_do(tmp_path, change, message):
    lines = [f"{word} 1 2 3" for word in needed_words()]
    (tmp_path / "words.txt").write_text("\n".join(change(lines)))
    with pytest.raises(UserError, match=message):
        read_words(tmp_path / "words.txt")
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        read_words(tmp_path / "none.txt")


# --- the file -------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """An npz of the default graph, and its arrays."""
    write_graph(tmp_path / "graph.npz", build_graph(), ["rules", "words"])
    with np.load(tmp_path / "graph.npz") as file:
        return tmp_path / "graph.npz", dict(file)


def test_a_stored_graph_comes_back_with_its_names(stored):
    path, arrays = stored
    for a, b in zip(read_graph(path), build_graph(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert tuple(arrays["charts"]) == CHARTS and tuple(arrays["keypoints"]) == KEYPOINTS
    assert tuple(arrays["parts"]) == PARTS and tuple(arrays["person_rows"]) == PERSON_ROWS
    assert list(arrays["relations"]) == ["rules", "words"]


def swapped(names):
    return np.concatenate([names[:3], names[[4, 3]], names[5:]])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("keypoint", lambda a: a.T, r"keypoint is float32 \[17, 25\], expected .*25, 17"),
        ("part", lambda a: a[:, 1:], r"part is float32 \[25, 14\]"),
        ("person", lambda a: a.astype(str), "person is <U"),
        ("person", lambda a: a * np.nan, "person holds nan"),
        ("keypoint", None, "has no keypoint; make one"),
        ("parts", None, "has no parts"),
        ("keypoints", swapped, "keypoints has 'right_ear' where 'left_ear' belongs"),
        ("charts", lambda a: a[:-1], "charts has 'nothing' where 'head left' belongs"),
    ],
)
def test_files_that_are_no_graph_of_ours(stored, key, change, message):
    path, arrays = stored
    old = arrays.pop(key)
    if change:
        arrays[key] = change(old)
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message):
        read_graph(path)


def test_files_that_are_no_graph_at_all(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz cannot be read: No such file"):
        read_graph(tmp_path / "none.npz")
    for content in (b"", b"PK\x03\x04 broken", b"text", b"\x93NUMPY"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"is not an npz file .* --out=FILE\.npz"):
            read_graph(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(UserError, match="is not an npz file"):
        read_graph(tmp_path / "b.npy")


# --- the command ----------------------------------------------------------------


def test_the_command_saves_prints_and_draws_all_three_relations(tmp_path, capsys):
    out, plot = tmp_path / "graph.npz", tmp_path / "graph.png"
    assert main([f"--out={out}", f"--plot={plot}"]) == 0
    said = capsys.readouterr().out
    expected = build_graph(visual=shipped_visual())
    for a, b in zip(read_graph(out), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert said.startswith(table(expected)) and "(rules, words, visual)" in said
    with Image.open(plot) as picture:
        assert picture.size == draw(expected, "").size


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--no-visual"], {}),
        (["--relations=rules,words"], {}),
        (["--no-visual", "--no-words"], {"words": False}),
        (["--relations=words"], {"rules": False}),
        (["--no-visual", "--paper-words"], {"split_pairs": False}),
    ],
)
def test_each_relation_can_be_left_out(tmp_path, arguments, options):
    assert main([*arguments, f"--out={tmp_path / 'g.npz'}"]) == 0
    for a, b in zip(read_graph(tmp_path / "g.npz"), build_graph(**options), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--relations=rules,sound"], "unknown relation 'sound'"),
        (["--relations=words", "--no-words"], "no relation is left"),
        (["--no-visual", "--coco=a.json"], "--coco is for the relation 'visual'"),
        (["--relations=rules", "--glove=a.txt"], "--glove is for the relation 'words'"),
        (["--coco=a.json", "--visual-genome=b.json"], "give one of them"),
        (["--coco=none.json"], "no file none.json"),
        (["--visual-genome=none.json"], "none.json cannot be read"),
        (["--glove=none.txt"], "none.txt cannot be read"),
    ],
)
def test_what_the_command_does_not_take(arguments, message, capsys):
    assert main(arguments) == EXIT_USER_ERROR
    said = capsys.readouterr()
    assert message in said.err and len(said.err.strip().splitlines()) == 1


def test_the_table_holds_every_entry_by_its_names():
    graph = build_graph()
    blocks = table(graph).split("\n\n")
    for block, matrix in zip(blocks, graph, strict=True):
        lines = block.splitlines()[4:]  # the name, and three lines of columns
        assert [line[:22].strip() for line in lines] == list(CHARTS[1:])
        cells = [line[22:].replace(".", "0").split() for line in lines]
        np.testing.assert_allclose(np.array(cells, float) / 100, matrix[1:], atol=0.00501)
    heads = [line[22:] for line in blocks[1].splitlines()[1:4]]
    column = PARTS.index("right upper leg")
    assert [h[4 * column : 4 * column + 4].strip() for h in heads] == ["R", "up", "leg"]


def test_the_picture_is_dark_where_the_graph_says_much():
    graph = Graph(*(np.zeros_like(matrix) for matrix in build_graph()))
    graph.part[14, 9] = 0.8
    picture = np.asarray(draw(graph, "").convert("RGB"), int)
    dark = np.argwhere(np.abs(picture - show.RAMP[-1]).max(-1) < 12)
    # row 13 below the background; right of the names, 17 keypoints, a gap and 9 parts
    corner = (
        show.TOP + show.LABELS[1] + 13 * show.CELL,
        show.LABELS[0] + (17 + 9) * show.CELL + show.GAP,
    )
    np.testing.assert_array_equal(dark.min(0), corner)
    np.testing.assert_array_equal(np.ptp(dark, axis=0) + 1, show.CELL - 1)


def test_the_graph_needs_no_picture_library_and_no_data_set_reader():
    code = "import sys, ktn_jax.graph; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "numpy" in loaded
    assert not {"PIL", "matplotlib", "tensorflow_datasets", "jax"}.intersection(loaded)
