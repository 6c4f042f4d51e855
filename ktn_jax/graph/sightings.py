"""V from DensePose annotations: how often a pixel of something lies by a chart's point.

"By" is within NEAR times the square root of the person's box, whatever its shape. Every
person adds to chart i and column j the share of j's pixels that lie by a point of i:
a visible keypoint is one pixel, so it adds 1 or 0; a part adds a share of its area. The
person's rows go by what the head asks there: rows told by every pixel (mask, offsets,
bandwidth) get 1 where the chart is seen at all, rows told at the anchor (centre, quality)
where the anchor, the pixel nearest the middle, lies by a point of the chart.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ktn_jax.anatomy import NUM_CHARTS, NUM_PARTS, UNKNOWN_PART
from ktn_jax.data.annotations import read_people
from ktn_jax.data.coco_directory import read_json
from ktn_jax.graph.matrices import PERSON_ROWS, Graph, empty_graph
from ktn_jax.records import Person, Points

# Keypoints of 375 rendered people: at .08 every rule of anatomy is met and 93 % of V lies
# on the rules; at .04 two rules are never met, at .14 a quarter of V lies off them.
NEAR = 0.08
VISIBLE = 2  # COCO's flag of a keypoint that is seen
SAMPLES = 64  # part pixels looked at along a box, about; more change V by .004 at most
AT_ANCHOR = np.isin(PERSON_ROWS, ("centre", "quality"))


def count_people(paths: Sequence[Path], *, progress: bool = False) -> tuple[Graph, int]:
    """Counts over DensePose-COCO json files, and the number of people counted.

    People without chart points count for nothing. Raises UserError on other files.
    """
    total = [matrix.astype(np.float64) for matrix in empty_graph()]
    people = 0
    for path in paths:
        images, annotations = read_json(path)
        for image in tqdm(images, desc=path.name, unit="image", disable=not progress):
            size = image["height"], image["width"]
            for person in read_people(annotations[image["id"]], *size):
                if person.points is not None and len(person.points.chart):
                    people += 1
                    for matrix, share in zip(total, count_person(person), strict=True):
                        matrix += share
    return Graph(*total), people


def count_person(person: Person) -> Graph:
    """What one person with points adds to the counts: each entry a share in 0..1."""
    near = NEAR * np.sqrt(person.bbox[2] * person.bbox[3])
    keypoint, part, rows = empty_graph()
    if person.keypoints is not None:
        seen = person.keypoints[:, 2] == VISIBLE
        keypoint[:, seen] = _beside(person.keypoints[seen, :2], person.points, near).T
    if person.parts is not None:
        yx, labels = _part_pixels(person)
        pixels = np.eye(NUM_PARTS)[labels]  # [n, 15] one-hot
        beside = _beside(yx, person.points, near)
        part = beside.T @ pixels / np.maximum(pixels.sum(0), 1)
    rows[np.unique(person.points.chart)] = ~AT_ANCHOR
    if person.mask.any():
        rows += np.outer(_beside(_anchor(person), person.points, near)[0], AT_ANCHOR)
    return Graph(keypoint, part, rows)


def _beside(yx: np.ndarray, points: Points, near: float) -> np.ndarray:
    """[n, 25] 1 where a pixel lies by a point of the chart. yx: [n, 2] image pixels."""
    squared = np.square(yx[:, None] - points.yx).sum(-1)
    charts = np.eye(NUM_CHARTS)[points.chart]
    return ((squared <= near**2) @ charts > 0).astype(np.float64)


def _part_pixels(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Centres [n, 2] and labels [n] of pixels on known parts; large people are thinned."""
    step = max(1, round(float(np.sqrt(person.bbox[2] * person.bbox[3])) / SAMPLES))
    thinned = person.parts[::step, ::step]
    at = np.argwhere((thinned > 0) & (thinned != UNKNOWN_PART))
    return at * step + 0.5, thinned[tuple(at.T)]


def _anchor(person: Person) -> np.ndarray:
    """[1, 2] the centre of the mask's pixel nearest its middle, as in training."""
    pixels = np.argwhere(person.mask) + 0.5
    nearest = np.square(pixels - pixels.mean(0)).sum(1).argmin()
    return pixels[[nearest]]
