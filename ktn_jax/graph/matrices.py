"""The three matrices, rule by rule and relation by relation.

The paper's form gives the two charts of a limb the same rows, so a network with a frozen
graph could never tell them apart; `split_pairs` adds the words that do (see words.py).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ktn_jax.anatomy import KEYPOINTS, NUM_CHARTS, PART_OF_CHART, PARTS
from ktn_jax.graph.words import shipped_words, word_likeness

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
# what the instance head's six rows say, in its order
PERSON_ROWS = ("mask", "centre", "quality", "offset y", "offset x", "bandwidth")
RELATIONS = ("rules", "words", "visual")  # R, G, V


class Graph(NamedTuple):
    """A matrix for each source of knowledge, charts down; row 0 is zero."""

    keypoint: np.ndarray  # [25, 17] f32
    part: np.ndarray  # [25, 15] f32; column 0 is zero
    person: np.ndarray  # [25, 6] f32


WEIGHTS = (0.3, 0.3, 0.5)  # of the sum of relations in each matrix, the authors'
EPSILON = 1e-12  # a row or column never counted gives 0 / EPSILON, not 0 / 0


def build_graph(
    *,
    rules: bool = True,
    words: bool = True,
    split_pairs: bool = True,
    visual: Graph | None = None,
    vectors: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    """The graph from its relations.

    rules, words: whether R and G count.   visual: normalised co-occurrence V, or None.
    split_pairs: whether the words tell the two charts of a limb apart; False is the
    paper's own form.   vectors: of words (words.read_words), or None for ours.
    """
    zero = empty_graph()
    rule = Graph(_keypoint_rules(), _part_rules(), zero.person) if rules else zero
    word = zero
    if words:
        vectors = shipped_words() if vectors is None else vectors
        word = Graph(*word_likeness(vectors, split_pairs=split_pairs))
    seen = visual or zero
    return Graph(
        *(w * (v + g + r) for w, v, g, r in zip(WEIGHTS, seen, word, rule, strict=True))
    )


def normalise(counts: Graph) -> Graph:
    """V in 0..1: counts c_ij / sqrt(row_i col_j), zero where nothing was counted.

    The person's columns are normalised one by one, as the authors' single one is: a
    column that is there several times must not weaken itself.
    """
    person = [_share(counts.person[:, [column]]) for column in range(len(PERSON_ROWS))]
    return Graph(_share(counts.keypoint), _share(counts.part), np.concatenate(person, 1))


def empty_graph() -> Graph:
    """Zeros in the shapes of a graph."""
    columns = (len(KEYPOINTS), len(PARTS), len(PERSON_ROWS))
    return Graph(*(np.zeros((NUM_CHARTS, number), np.float32) for number in columns))


def _share(counts: np.ndarray) -> np.ndarray:
    norms = np.sqrt(counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True))
    return (counts / np.maximum(norms, EPSILON)).astype(np.float32)


def _keypoint_rules() -> np.ndarray:
    matrix = np.zeros((NUM_CHARTS, len(KEYPOINTS)), np.float32)
    for column, name in enumerate(KEYPOINTS):
        matrix[list(CHARTS_OF_KEYPOINT[name]), column] = 1
    return matrix


def _part_rules() -> np.ndarray:
    matrix = np.zeros((NUM_CHARTS, len(PARTS)), np.float32)
    matrix[np.arange(1, NUM_CHARTS), PART_OF_CHART[1:]] = 1
    return matrix
