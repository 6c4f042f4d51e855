"""The body knowledge graph: how much each keypoint, part and person row says of a chart.

A = 0.3 (V + G + R) for keypoints and parts and 0.5 (V + G) for the person (the authors'
weights). R are rules of anatomy, G is the likeness of the words, V is what is seen
together. V is counted from annotations and is left out (zero) where nobody counted.
The paper's form gives the two charts of a limb the same row, so a network with a frozen
graph could never tell them apart; `split_pairs` adds the words front, back, inner and
outer, which break the tie. See README, deviations.
"""

import csv
import functools
from importlib import resources
from typing import NamedTuple

import numpy as np

from ktn_jax.anatomy import CHARTS, KEYPOINTS, NUM_CHARTS, PART_OF_CHART, PARTS

# keypoint -> charts whose surface it lies in or next to
CHARTS_OF_KEYPOINT = {
    "nose": (23, 24),
    "left_eye": (23, 24),
    "right_eye": (23, 24),
    "left_ear": (23, 24),
    "right_ear": (23, 24),
    "left_shoulder": (1, 2, 15, 17),
    "right_shoulder": (1, 2, 16, 18),
    "left_elbow": (15, 17, 19, 21),
    "right_elbow": (16, 18, 20, 22),
    "left_wrist": (4, 19, 21),
    "right_wrist": (3, 20, 22),
    "left_hip": (1, 2, 8, 10),
    "right_hip": (1, 2, 7, 9),
    "left_knee": (8, 10, 12, 14),
    "right_knee": (7, 9, 11, 13),
    "left_ankle": (5, 12, 14),
    "right_ankle": (6, 11, 13),
}

# The six person rows, in the order of the instance head: level, side, facing. The paper
# does not say what its six box rows mean; these words cover the directions of a body.
PERSON_WORDS = (
    ("full", "middle", ""),
    ("full", "middle", "front"),
    ("full", "middle", "back"),
    ("upper", "middle", ""),
    ("lower", "middle", ""),
    ("full", "left", ""),
)


class Graph(NamedTuple):
    """The three matrices that a knowledge transfer starts from; row 0 is zero."""

    keypoint: np.ndarray  # [25, 17] f32
    part: np.ndarray  # [25, 15] f32; column 0 is zero
    person: np.ndarray  # [25, 6] f32


def build_graph(
    *,
    rules: bool = True,
    words: bool = True,
    split_pairs: bool = True,
    visual: Graph | None = None,
) -> Graph:
    """The graph from its relations.

    rules, words: whether R and G count.   visual: normalised co-occurrence V, or None.
    split_pairs: whether the words tell the two charts of a limb apart.
    """
    zero = Graph(*(np.zeros((NUM_CHARTS, n), np.float32) for n in (17, 15, 6)))
    rule = Graph(_keypoint_rules(), _part_rules(), zero.person) if rules else zero
    word = _word_likeness(split_pairs) if words else zero
    seen = visual or zero
    keypoint, part, person = (
        weight * (v + g + r)
        for weight, v, g, r in zip((0.3, 0.3, 0.5), seen, word, rule, strict=True)
    )
    return Graph(keypoint, part, person)


def _keypoint_rules() -> np.ndarray:
    matrix = np.zeros((NUM_CHARTS, len(KEYPOINTS)), np.float32)
    for column, name in enumerate(KEYPOINTS):
        matrix[list(CHARTS_OF_KEYPOINT[name]), column] = 1
    return matrix


def _part_rules() -> np.ndarray:
    matrix = np.zeros((NUM_CHARTS, len(PARTS)), np.float32)
    matrix[np.arange(1, NUM_CHARTS), PART_OF_CHART[1:]] = 1
    return matrix


# --- words ----------------------------------------------------------------------


@functools.cache
def word_vectors() -> dict[str, np.ndarray]:
    """GloVe 6B 100-d vectors of the body's words, scaled to length 1 (PDDL)."""
    text = resources.files("ktn_jax.assets").joinpath("glove_body_words.csv").read_text()
    rows = {row[0]: np.array(row[1:], np.float32) for row in csv.reader(text.splitlines())}
    return {word: vector / np.linalg.norm(vector) for word, vector in rows.items()}


def _phrase(level: str, side: str, facing: str, noun: str) -> np.ndarray:
    """[400] unit vector of four words in fixed places; an empty word is zero."""
    zero = np.zeros(100, np.float32)
    vectors = [word_vectors()[w] if w else zero for w in (level, side, facing, noun)]
    joined = np.concatenate(vectors)
    return joined / np.linalg.norm(joined)


def _first(name: str, words: tuple[str, ...], otherwise: str) -> str:
    return next((word for word in words if word in name.split()), otherwise)


def _chart_phrase(name: str, split_pairs: bool) -> np.ndarray:
    # the vocabulary has no inner and outer: in a rest pose they face front and back
    name = name.replace("inner", "front").replace("outer", "back")
    facing = _first(name, ("front", "back"), "")
    noun = _first(name, ("torso", "hand", "foot", "leg", "arm", "head"), "body")
    if not split_pairs and noun != "torso":
        facing = ""
    level = _first(name, ("upper", "lower"), "full")
    return _phrase(level, _first(name, ("left", "right"), "middle"), facing, noun)


def _part_phrase(name: str) -> np.ndarray:
    noun = _first(name, ("torso", "hand", "foot", "leg", "arm", "head"), "body")
    level = _first(name, ("upper", "lower"), "full")
    return _phrase(level, _first(name, ("left", "right"), "middle"), "", noun)


def _keypoint_phrase(name: str) -> np.ndarray:
    side, _, noun = name.rpartition("_")
    return _phrase("", side or "middle", "", noun)


def _word_likeness(split_pairs: bool) -> Graph:
    """Cosines of the phrases; background has none."""
    charts = np.stack([_chart_phrase(name, split_pairs) for name in CHARTS])
    keypoints = np.stack([_keypoint_phrase(name) for name in KEYPOINTS])
    parts = np.stack([_part_phrase(name) for name in PARTS])
    person = np.stack([_phrase(*words, "person") for words in PERSON_WORDS])
    likeness = [charts @ other.T for other in (keypoints, parts, person)]
    for matrix in likeness:
        matrix[0] = 0
    likeness[1][:, 0] = 0
    return Graph(*(np.maximum(matrix, 0) for matrix in likeness))
