"""Relation G: how alike the words of a chart are to those of a keypoint, part or person.

Both are phrases of words in fixed places; their likeness is the cosine of the joined word
vectors. There are two sets of phrases: the paper's, in which the charts of a limb share
their words, and ours, with a place for front and back beside the one for left and right.
"""

import csv
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from ktn_jax.anatomy import CHARTS, KEYPOINTS, PARTS
from ktn_jax.errors import UserError

Phrase = tuple[str, ...]  # "" leaves a place empty
Phrases = tuple[list[Phrase], list[Phrase]]  # of the 24 charts, and of a matrix's columns
Vectors = Mapping[str, np.ndarray]

NOUNS = ("torso", "hand", "foot", "leg", "arm", "head")
# The six person rows: level, side, facing. The paper does not say what its six box rows
# mean and gives them the same words; these cover the directions of a body.
PERSON_WORDS = (
    ("full", "middle", "middle"),
    ("full", "middle", "front"),
    ("full", "middle", "back"),
    ("upper", "middle", "middle"),
    ("lower", "middle", "middle"),
    ("full", "left", "middle"),
)


def word_likeness(vectors: Vectors, *, split_pairs: bool) -> list[np.ndarray]:
    """G of keypoints [25, 17], parts [25, 15] and the person [25, 6]; background has none.

    vectors: of every word in needed_words(), of any one length.
    split_pairs: our phrases; else the paper's, where charts of a limb share their words.
    """
    if split_pairs:  # no word shall outweigh another by the length of its vector
        vectors = {
            word: vector / np.linalg.norm(vector) for word, vector in vectors.items()
        }
    matrices = []
    for charts, others in _own_phrases() if split_pairs else _paper_phrases():
        likeness = _directions(vectors, charts) @ _directions(vectors, others).T
        matrices.append(np.pad(likeness, ((1, 0), (0, 0))))
    keypoint, part, person = matrices
    return [keypoint, np.pad(part, ((0, 0), (1, 0))), person]


def needed_words() -> list[str]:
    """The words that either set of phrases uses, sorted."""
    pairs = itertools.chain(*_own_phrases(), *_paper_phrases())
    phrases = itertools.chain(*pairs)
    return sorted(set(itertools.chain(*phrases)) - {""})


@functools.cache
def shipped_words() -> Vectors:
    """GloVe 6B 100-d vectors of the body's words (PDDL)."""
    text = resources.files("ktn_jax.assets").joinpath("glove_body_words.csv").read_text()
    return {row[0]: np.array(row[1:], np.float32) for row in csv.reader(text.splitlines())}


def read_words(path: Path) -> Vectors:
    """Vectors of the needed words from a file.

    Its lines are `word v1 v2 ...`, GloVe's form, or the same with commas in a .csv.
    Raises UserError where a word is missing or a vector is none.
    """
    separator = "," if path.suffix == ".csv" else " "
    wanted = set(needed_words())
    found: dict[str, np.ndarray] = {}
    try:
        # whole sets are a gigabyte long: read by line, no further than needed
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                word, _, numbers = line.strip().partition(separator)
                if word in wanted - found.keys():
                    found[word] = _read_vector(path, word, numbers.split(separator))
                if len(found) == len(wanted):
                    break
    except OSError as error:
        raise UserError(f"word vectors {path} cannot be read: {error.strerror}") from error
    if missing := sorted(wanted - found.keys()):
        raise UserError(
            f"{path} has no vector for: {', '.join(missing)}; give a set with lines of "
            "`word v1 v2 ...` (GloVe's form, or commas in a .csv) that has them all"
        )
    if len({len(vector) for vector in found.values()}) > 1:
        raise UserError(f"{path} has vectors of different lengths; give a whole set")
    return found


def _read_vector(path: Path, word: str, numbers: Sequence[str]) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError:
        vector = np.full(1, np.nan)
    if not vector.any() or not np.isfinite(vector).all():
        raise UserError(
            f"{path}: the line of {word!r} is no vector but {' '.join(numbers)[:40]!r}; "
            "give numbers after the word"
        )
    return vector


def _directions(vectors: Vectors, phrases: Iterable[Phrase]) -> np.ndarray:
    """[n, places * length] of length 1: each phrase's vectors joined."""
    nothing = np.zeros_like(next(iter(vectors.values())))
    rows = [[vectors[word] if word else nothing for word in words] for words in phrases]
    joined = np.stack([np.concatenate(row) for row in rows])
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


# --- phrases --------------------------------------------------------------------


def _own_phrases() -> list[Phrases]:
    """Level, side, facing, noun; what is on neither side, or faces neither way, is middle.

    Front and back are unlike middle by different amounts, as left and right are: so the
    charts of a limb differ in every matrix, whichever of them a network draws on.
    """
    charts = [
        (_level(name), _side(name), _facing(name), _noun(name)) for name in CHARTS[1:]
    ]
    keypoints = [("", side, "middle", noun) for side, noun in _keypoint_words()]
    parts = [(_level(name), _side(name), "middle", _noun(name)) for name in PARTS[1:]]
    person = [(*words, "person") for words in PERSON_WORDS]
    return [(charts, keypoints), (charts, parts), (charts, person)]


def _paper_phrases() -> list[Phrases]:
    """Place and noun for keypoints; level, place and noun for parts and the person.

    The place is front or back on the torso and the side elsewhere; every chart is full.
    """
    places = [_facing(name) if "torso" in name else _side(name) for name in CHARTS[1:]]
    short = [(place, _noun(name)) for place, name in zip(places, CHARTS[1:], strict=True)]
    charts = [("full", *words) for words in short]
    parts = [(_level(name), _side(name), _noun(name)) for name in PARTS[1:]]
    person = [("full", "middle", "person")] * len(PERSON_WORDS)
    return [(short, _keypoint_words()), (charts, parts), (charts, person)]


def _keypoint_words() -> list[Phrase]:
    """Side and noun of every keypoint."""
    split = [name.rpartition("_") for name in KEYPOINTS]
    return [(side or "middle", noun) for side, _, noun in split]


def _first(name: str, words: tuple[str, ...], otherwise: str) -> str:
    return next((word for word in words if word in name.split()), otherwise)


def _level(name: str) -> str:
    return _first(name, ("upper", "lower"), "full")


def _side(name: str) -> str:
    return _first(name, ("left", "right"), "middle")


def _facing(name: str) -> str:
    # the vocabulary has no inner and outer: in a rest pose they face front and back
    name = name.replace("inner", "front").replace("outer", "back")
    return _first(name, ("front", "back"), "middle")


def _noun(name: str) -> str:
    return _first(name, NOUNS, "")
