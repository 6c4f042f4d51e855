"""What is wrong with a COCO + DensePose directory, found before a run stumbles over it.

Every annotation is parsed once, as training will parse it. What is found is a note (known
of the official files and harmless), odd (used all the same) or a fault (training or the
build would stop there).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ktn_jax.data.annotations import DP_GRID, PERSON_CATEGORY, read_people
from ktn_jax.data.coco_directory import (
    DataError,
    Record,
    find_image,
    find_images,
    read_document,
    without_surface,
)
from ktn_jax.data.images import image_fault
from ktn_jax.errors import UserError
from ktn_jax.records import Person

LEVELS = ("note", "odd", "fault")
OFFICIAL = {  # split -> images, people with points; of the makers' table
    "train": (26_437, 39_210),
    "valminusminival": (5_984, 7_297),
    "minival": (1_508, 2_243),
}
SHARED_IDS = {"minival", "valminusminival"}  # splits that may share annotation ids
ROUNDING = 0.01  # by which U, V may leave the unit square, as the reader clips them
BORDER = 1.0  # pixels by which boxes and keypoints may leave the image
SHOWN = 3  # examples of each kind of finding

Ids = dict[str, set]  # split -> its annotation ids


class Finding(NamedTuple):
    """Something of one split that deserves a word."""

    level: str  # of LEVELS
    what: str
    where: str = ""  # an annotation, an image


class Report:
    """Findings, counted by kind."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        self._counts: Counter = Counter()
        self.totals: dict[str, tuple[int, int]] = {}  # split -> images, with points

    def add(self, split: str, finding: Finding) -> None:
        """Count a finding; the first few of a kind are kept as examples."""
        kind = (finding.level, split, finding.what)
        self._counts[kind] += 1
        if len(self._examples[kind]) < SHOWN and finding.where:
            self._examples[kind].append(finding.where)

    def number(self, level: str) -> int:
        """How many findings there are of a level."""
        return sum(n for (one, *_), n in self._counts.items() if one == level)

    def lines(self) -> Iterator[str]:
        """A line for every kind of finding, the worst last."""
        for (level, split, what), count in sorted(
            self._counts.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0])
        ):
            examples = self._examples[level, split, what]
            more = ", ..." if count > len(examples) else ""
            where = f": {', '.join(examples)}{more}" if examples else ""
            yield f"{level:5} {split}: {count} x {what}{where}"


def check_directory(
    root: Path,
    jsons: dict[str, Path],
    *,
    official: bool = True,
    needs_surface: bool = True,
    sample: int = 200,
    progress: bool = False,
) -> Report:
    """What is found in all splits.

    jsons: find_jsons's.   official: compare counts with those of the official files.
    sample: how many images of a split are read, evenly spaced.
    """
    report, ids = Report(), {}
    for split, path in jsons.items():
        try:
            document = read_document(path)
        except DataError as error:
            report.add(split, Finding("fault", str(error)))
            continue
        counts = (
            len({image["id"] for image in document["images"]}),
            sum("dp_x" in one for one in document["annotations"]),
        )
        report.totals[split] = counts
        if needs_surface and not counts[1]:
            report.add(split, Finding("fault", str(without_surface(path))))
        if official and counts != OFFICIAL.get(split, counts):
            report.add(split, Finding("odd", _other_counts(split, counts)))
        for finding in _check_ids(split, document, ids):
            report.add(split, finding)
        for finding in _check_images(root, document["images"], sample):
            report.add(split, finding)
        for finding in check_annotations(document, label=split, progress=progress):
            report.add(split, finding)
    return report


def check_annotations(
    document: Record, *, label: str = "", progress: bool = False
) -> Iterator[Finding]:
    """Findings of all annotations, each parsed once. label: of the progress bar."""
    sizes = {i["id"]: (i["height"], i["width"]) for i in document["images"]}
    bar = tqdm(
        document["annotations"],
        desc=f"{label}: annotations",
        unit="",
        mininterval=1,
        disable=not progress,
    )
    for annotation in bar:
        if annotation.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY:
            continue
        where = f"annotation {annotation.get('id')}"
        if annotation["image_id"] not in sizes:
            yield Finding("odd", "annotation of an image that the json lacks", where)
            continue
        size = sizes[annotation["image_id"]]
        try:
            (person,) = read_people([annotation], *size)
        except UserError as error:
            yield Finding("fault", "annotation that cannot be read", str(error))
            continue
        for level, what in [*_known(annotation, person), *_odd(annotation, person, size)]:
            yield Finding(level, what, where)


def _other_counts(split: str, counts: tuple[int, int]) -> str:
    """The finding of a split that is not of the official size."""
    images, people = OFFICIAL[split]
    return (
        f"{counts[0]} images and {counts[1]} people with points, not the official "
        f"{images} and {people} (of a set of your own say --own)"
    )


def _check_ids(split: str, document: Record, ids: Ids) -> Iterator[Finding]:
    """Ids that are used twice. ids: of the splits before this one, which joins them."""
    for kind in ("images", "annotations"):
        counts = Counter(entry.get("id") for entry in document[kind])
        for number in [number for number, count in counts.items() if count > 1]:
            yield Finding("odd", f"id that two {kind} have", str(number))
    mine = {entry.get("id") for entry in document["annotations"]}
    for other, theirs in ids.items():
        for number in sorted(mine & theirs, key=str):
            level = "note" if {split, other} == SHARED_IDS else "odd"
            yield Finding(level, f"annotation id that {other} has too", str(number))
    ids[split] = mine


def _check_images(root: Path, images: Sequence[Record], sample: int) -> Iterator[Finding]:
    """Files that are not there, and those of a sample that cannot be read."""
    try:
        find_images(root, images)
    except DataError as error:
        yield Finding("fault", str(error))
    number = min(max(sample, 0), len(images))
    for row in np.linspace(0, len(images) - 1, number).round().astype(int):
        image = images[row]
        path = find_image(root, image["file_name"])
        if path is None:
            continue
        if reason := image_fault(path.read_bytes(), (image["height"], image["width"])):
            what = f"unreadable image among {number} looked at; the build leaves it out"
            yield Finding("odd", what, f"{path.name} {reason}")


def _known(annotation: Record, person: Person) -> Iterator[tuple[str, str]]:
    """Peculiarities of the official files, all of them allowed for."""
    if person.crowd:
        return
    if person.keypoints is None:
        yield "note", "person without keypoints"
    masks, segmentation = annotation.get("dp_masks"), annotation.get("segmentation")
    if isinstance(masks, dict) and masks:
        yield "note", "person with one mask instead of 14 parts"
    elif "dp_x" in annotation and person.parts is None:
        yield "note", "person with points but empty part masks"
    if isinstance(segmentation, list) and any(len(p) < 6 for p in segmentation):
        yield "note", "person with a polygon of fewer than three points, which is dropped"
    if "dp_x" in annotation and 0 in annotation["dp_I"]:
        yield "note", "person with points on no chart (dp_I 0), which are dropped"


def _odd(
    annotation: Record, person: Person, size: tuple[int, int]
) -> Iterator[tuple[str, str]]:
    """What can be read but is not as it should be. size: (height, width)."""
    x, y, width, height = person.bbox
    if min(width, height) <= 0:
        yield "odd", "box without area"
    if min(x, y) < -BORDER or y + height > size[0] + BORDER or x + width > size[1] + BORDER:
        yield "odd", "box that leaves the image"
    if person.crowd:
        return
    if not person.mask.any():
        yield "odd", "person without a pixel, of whom nothing is learnt"
    if person.keypoints is not None:
        yx = person.keypoints[person.keypoints[:, 2] > 0, :2]
        if (yx < -BORDER).any() or (yx > np.add(size, BORDER)).any():
            yield "odd", "keypoint beyond the image"
    if "dp_x" not in annotation:
        return
    grid = np.array([annotation["dp_x"], annotation["dp_y"]], np.float64)
    if (grid < 0).any() or (grid > DP_GRID).any():
        yield "odd", f"point beyond its box (dp_x, dp_y not in 0..{DP_GRID})"
    uv = np.array([annotation["dp_U"], annotation["dp_V"]], np.float64)
    if (uv < -ROUNDING).any() or (uv > 1 + ROUNDING).any():
        yield "odd", "U or V beyond 0..1, which is clipped"
