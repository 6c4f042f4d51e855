"""V from Visual Genome: how often people say that one thing of the body is by another.

A relation counts where one end names a keypoint, part or person and the *other* end names
the surface of a chart; one word alone is no relation. What a name leaves open (a "hand"
may be either) is counted for all that fit, so every side meets every side alike; what it
says ("left hand") narrows it. Both differ from the authors' script on purpose.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktn_jax.anatomy import CHARTS, KEYPOINTS, PARTS
from ktn_jax.errors import UserError
from ktn_jax.graph.matrices import PERSON_ROWS, Graph, empty_graph

CHUNK = 1 << 20  # characters read at a time; the whole file is half a gigabyte
LONGEST_ITEM = 64 << 20  # characters; no image has so many relations

PERSONS = frozenset(
    "person people human man men woman women boy girl child children kid guy lady baby "
    "player skier surfer rider skateboarder snowboarder body".split()
)
# words of a surface -> our noun and level; charts and parts share their nouns
SURFACES = {
    **{word: (word, "") for word in ("torso", "hand", "foot", "leg", "arm", "head")},
    **dict.fromkeys(("body", "chest", "stomach", "belly", "waist"), ("torso", "")),
    **dict.fromkeys(("shoulder", "hip"), ("torso", "")),
    **dict.fromkeys(("palm", "fist", "finger", "thumb", "glove"), ("hand", "")),
    **dict.fromkeys(("ankle", "toe", "heel", "feet"), ("foot", "")),
    **dict.fromkeys(("thigh", "lap"), ("leg", "upper")),
    "shin": ("leg", "lower"),
    "elbow": ("arm", ""),
    "biceps": ("arm", "upper"),
    "forearm": ("arm", "lower"),
    **dict.fromkeys(("face", "neck", "forehead", "chin", "hair"), ("head", "")),
}
# words of a place -> the keypoint that lies there
JOINTS = {
    **{name.rpartition("_")[2]: name.rpartition("_")[2] for name in KEYPOINTS},
    **dict.fromkeys(("torso", "body"), "shoulder"),
    "arm": "elbow",
    **dict.fromkeys(("hand", "forearm"), "wrist"),
    **dict.fromkeys(("thigh", "buttock"), "hip"),
    **dict.fromkeys(("lap", "shin"), "knee"),
    **dict.fromkeys(("foot", "feet"), "ankle"),
}
NOUNS = PERSONS.union(SURFACES, JOINTS)
SIDES = frozenset(("left", "right", "upper", "lower"))
FILLERS = frozenset(("a", "an", "the", "his", "her", "their"))


class Mention(NamedTuple):
    """What a name may mean: indices into charts and into the columns of each matrix."""

    charts: tuple[int, ...] = ()
    keypoint: tuple[int, ...] = ()
    part: tuple[int, ...] = ()
    person: tuple[int, ...] = ()


def count_relationships(path: Path) -> Graph:
    """How many relations of a relationships.json join each chart and each column."""
    pairs: Counter = Counter()
    for image in _items(path):
        try:
            pairs.update(filter(None, map(_ends, image["relationships"])))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise UserError(
                f"{path} is not Visual Genome's relationships.json ({error!r}): a list of "
                'images with "relationships", each with a named "subject" and "object"'
            ) from error
    counts = Graph(*(matrix.astype(np.float64) for matrix in empty_graph()))
    for (one, other), number in pairs.items():
        ends = read_name(one), read_name(other)
        for column, matrix in counts._asdict().items():
            # a set: where both readings say the same, the relation is one all the same
            met = {(a.charts, getattr(b, column)) for a, b in (ends, ends[::-1])}
            for charts, columns in met:
                matrix[np.ix_(charts, columns)] += number
    return counts


@functools.cache
def read_name(name: str) -> Mention:
    """What a name means: "hand", "left hand", "man's left hands", "hand of a man".

    Empty where it has words that we do not know: a hand bag is no hand.
    """
    *before, last = re.sub(r"'s?\b", "", name.lower()).split(" of ")[0].split() or [""]
    noun = last if last in NOUNS else last.removesuffix("s")
    if not PERSONS.union(SIDES, FILLERS).issuperset(before):
        return Mention()
    said = SIDES.intersection(before)
    surface, level = SURFACES.get(noun, ("", ""))
    narrowed = said | ({level} - {""})
    return Mention(
        charts=_fitting(CHARTS, surface, narrowed),
        keypoint=_fitting(KEYPOINTS, JOINTS.get(noun, ""), said),
        part=_fitting(PARTS, surface, narrowed),
        person=tuple(range(len(PERSON_ROWS))) if noun in PERSONS else (),
    )


def _fitting(names: tuple[str, ...], noun: str, said: set[str]) -> tuple[int, ...]:
    """Indices of the names with a noun, narrowed by the words that any of them knows."""
    words = {i: set(re.split("[ _]", name)) for i, name in enumerate(names)}
    fitting = {i: known for i, known in words.items() if noun in known}
    for word in said:  # nobody has a left torso: such a word says nothing
        if any(word in known for known in fitting.values()):
            fitting = {i: known for i, known in fitting.items() if word in known}
    return tuple(fitting)


def _ends(relation: dict[str, Any]) -> tuple[str, str] | None:
    """The names of a relation's two ends; None where a thing is related to itself."""
    ends = relation["subject"], relation["object"]
    ids = [end.get("object_id") for end in ends]
    if None not in ids and ids[0] == ids[1]:
        return None
    one, other = (str(end["name"] if "name" in end else end["names"][0]) for end in ends)
    return one, other


def _items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of a file that is one long json list, one at a time.

    Parsed at once, the file's half gigabyte would take several in memory.
    """
    decode, between = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(CHUNK).lstrip()
            at = 1 if text.startswith("[") else len(text)
            while True:
                at = between.match(text, at).end()
                if text[at : at + 1] == "]":
                    return
                try:
                    item, at = decode(text, at)
                except json.JSONDecodeError:  # not read to its end yet, or broken
                    more = file.read(CHUNK)
                    if not more or len(text) - at > LONGEST_ITEM:
                        raise
                    text, at = text[at:] + more, 0
                    continue
                yield item
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of json or of utf-8
        raise UserError(
            f"{path} is no whole json list ({error}); give Visual Genome's "
            "relationships.json, unpacked"
        ) from error
