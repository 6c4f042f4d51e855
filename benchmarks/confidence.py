"""How often the charts that an export finds are right, by how sure it says it is.

    python -m benchmarks.confidence EXPORT --gt=COCO.json --images=FOLDER [--limit=60]

A pixel that was given to somebody is right where its chart is the one it shows. Charts are
known at the annotated points: a person's points that were given to somebody stand for all
of the person's pixels that were. Such pixels beside all people are wrong; crowds and people
without points are left out. Prints tables in Markdown.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from ktn_jax.data.annotations import read_people
from ktn_jax.data.images import decode_image
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.geometry import Affine
from ktn_jax.predictor import MIN_SCORE, load
from ktn_jax.records import Example, Person, Prediction

BINS = 10
KEPT = (1.0, 0.75, 0.5, 0.25, 0.1)  # of the surest pixels
ENOUGH = 10  # points of a person, to say which share is right


class Pixels(NamedTuple):
    """Pixels that were given to somebody."""

    confidence: np.ndarray  # [n] f64 in [0, 1]
    right: np.ndarray  # [n] bool
    on_person: np.ndarray  # [n] bool, False beside all people
    weight: np.ndarray  # [n] f64 pixels that each stands for


class Match(NamedTuple):
    """One person found, and the annotated person whose pixels it shares most."""

    confidence: float  # mean over its pixels
    right: float  # share of the points on its pixels
    quality: float
    iou: float


def read_pixels(people: Sequence[Person], found: Sequence[Prediction]) -> Pixels:
    """One image's pixels. people, found: in pixels of the same image."""
    chart, sure = np.zeros((2, *people[0].mask.shape), np.uint8)
    for one in found:
        x, y, width, height = one.bbox
        mine = one.iuv[..., 0] > 0
        chart[y : y + height, x : x + width][mine] = one.iuv[..., 0][mine]
        sure[y : y + height, x : x + width][mine] = one.confidence[mine]
    beside = (chart > 0) & ~np.any([person.mask for person in people], axis=0)
    no = np.zeros(beside.sum(), bool)
    gathered = [Pixels(sure[beside] / 255, no, no, np.ones(len(no)))]
    for person in people:
        if person.points is not None:
            y, x = _indices(person)
            shown = chart[y, x] > 0
            y, x, truth = y[shown], x[shown], person.points.chart[shown]
            stands = (chart[person.mask] > 0).sum() / max(len(y), 1)
            right, yes = chart[y, x] == truth, np.ones(len(y), bool)
            gathered.append(Pixels(sure[y, x] / 255, right, yes, stands * yes))
    return Pixels(*map(np.concatenate, zip(*gathered, strict=True)))


def match(one: Prediction, people: Sequence[Person]) -> Match | None:
    """A person found beside the truth; None where too few points lie on its pixels."""
    chart = np.zeros(people[0].mask.shape, np.uint8)
    x, y, width, height = one.bbox
    chart[y : y + height, x : x + width] = one.iuv[..., 0]
    mask = chart > 0
    iou = [(mask & p.mask).sum() / (mask | p.mask).sum() for p in people]
    best = people[int(np.argmax(iou))]
    if best.points is None:
        return None
    at = chart[_indices(best)]
    if (at > 0).sum() < ENOUGH:
        return None
    mean = one.confidence[one.iuv[..., 0] > 0].mean() / 255
    right = (at == best.points.chart)[at > 0].mean()
    return Match(float(mean), float(right), one.quality, float(max(iou)))


def _indices(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of a person's annotated points."""
    last = np.array(person.mask.shape) - 1
    y, x = np.clip(person.points.yx.astype(int), 0, last).T
    return y, x


def table(pixels: Pixels) -> list[str]:
    """The rows by confidence, then the mean distance from the diagonal."""
    bins = np.minimum((pixels.confidence * BINS).astype(int), BINS - 1)
    head = "| confidence | share of pixels | its mean | right | right, on people |"
    rows, gap = [head, "|---|---|---|---|---|"], 0.0
    for number in np.unique(bins):
        mine = bins == number
        share = pixels.weight[mine].sum() / pixels.weight.sum()
        mean = np.average(pixels.confidence[mine], weights=pixels.weight[mine])
        right = _share_right(pixels, mine)
        on_people = _share_right(pixels, mine & pixels.on_person)
        gap += share * abs(mean - right)
        name = f"{number / BINS:.1f} - {(number + 1) / BINS:.1f}"
        rows.append(
            f"| {name} | {share:.3f} | {mean:.2f} | {right:.2f} | {on_people:.2f} |"
        )
    return [*rows, "", f"mean gap between confidence and share right: {gap:.3f}"]


def kept_table(pixels: Pixels) -> list[str]:
    """The share right of the surest pixels."""
    order = np.argsort(-pixels.confidence, kind="stable")
    share = np.cumsum(pixels.weight[order]) / pixels.weight.sum()
    rows = ["| surest share kept | confidence from | right |", "|---|---|---|"]
    for kept in KEPT:
        mine = order[: np.searchsorted(share, kept) + 1]
        least = pixels.confidence[mine[-1]]
        rows.append(f"| {kept:.2f} | {least:.2f} | {_share_right(pixels, mine):.2f} |")
    return rows


def _share_right(pixels: Pixels, which: np.ndarray) -> float:
    weight = pixels.weight[which]
    return float((pixels.right[which] * weight).sum() / max(weight.sum(), 1e-9))


def annotated(gt: Mapping[str, Any], images: Path, limit: int) -> Iterator[Example]:
    """The first `limit` images with their people."""
    own: dict[int, list[dict[str, Any]]] = {}
    for annotation in gt["annotations"]:
        own.setdefault(annotation["image_id"], []).append(annotation)
    for entry in gt["images"][:limit]:
        path = images / entry["file_name"]
        if not path.is_file():
            raise UserError(f"no image {path}; --images names their folder")
        image = decode_image(path.read_bytes())
        people = read_people(own.get(entry["id"], []), *image.shape[:2])
        yield Example(entry["id"], image, people, Affine())


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.confidence", description=__doc__.splitlines()[0]
    )
    parser.add_argument("export", type=Path, help="folder of an export")
    parser.add_argument("--gt", type=Path, required=True, help="DensePose-COCO json")
    parser.add_argument("--images", type=Path, required=True, help="their folder")
    parser.add_argument("--limit", type=int, default=60, help="images, the first ones")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE)
    flags = parser.parse_args(arguments)
    model = load(flags.export, min_score=flags.min_score)
    pixels: list[Pixels] = []
    matches: list[Match] = []
    for example in annotated(json.loads(flags.gt.read_text()), flags.images, flags.limit):
        found = model(example.image)
        if example.people:
            pixels.append(read_pixels(example.people, found))
            matches += filter(None, (match(one, example.people) for one in found))
    if not matches:
        raise UserError("nobody with points was found; raise --limit or lower --min-score")
    every = Pixels(*map(np.concatenate, zip(*pixels, strict=True)))
    print("\n".join([*table(every), "", *kept_table(every), ""]))
    mean, right, quality, iou = np.array(matches).T
    print(
        f"{len(matches)} people: rank correlation of mean confidence and share of points "
        f"right {spearmanr(mean, right).statistic:.2f}, of quality and mask IoU "
        f"{spearmanr(quality, iou).statistic:.2f} (means {quality.mean():.2f}, "
        f"{iou.mean():.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
