"""Part maps of whole images, predicted and annotated, and the mIoU of what charts say.

A network of ours has a part map of its own; of anybody's results the charts make one,
each chart being of one part.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ktn_jax.anatomy import NUM_CHARTS, PART_OF_CHART, UNKNOWN_PART
from ktn_jax.data.annotations import PERSON_CATEGORY, read_people
from ktn_jax.evaluation import two_d
from ktn_jax.evaluation.challenge import Detection, group_scenes
from ktn_jax.evaluation.similarity import paste
from ktn_jax.records import Person

MIN_SCORE = 0.5  # detections below are not painted, as one would not show them


def measure_charts(gt: dict[str, Any], results: list[dict[str, Any]]) -> float:
    """Mean IoU of parts, of detections from MIN_SCORE on; -1 without any annotated part.

    An image's detections are painted by ascending score, as far as the metric sees them.
    """
    annotations = defaultdict(list)
    for annotation in gt["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    confusion = np.zeros((1, 1), np.int64)
    for scene in group_scenes(gt, results):
        if scene.category_id != PERSON_CATEGORY:
            continue
        size = (scene.height, scene.width)
        shown = [d for d in scene.detections[::-1] if d.score >= MIN_SCORE]
        target = part_target(read_people(annotations[scene.image_id], *size), size)
        confusion = confusion + two_d.part_confusion(chart_part_map(shown, size), target)
    return two_d.mean_iou(confusion) if confusion.size > 1 else -1.0


def chart_part_map(detections: Iterable[Detection], size: tuple[int, int]) -> np.ndarray:
    """[H, W] u8 part of every pixel by the detections' charts; later ones paint over."""
    parts = np.zeros(size, np.uint8)
    for detection in detections:
        chart = detection.iuv()[..., 0]
        label = PART_OF_CHART[np.where(chart < NUM_CHARTS, chart, 0)].astype(np.uint8)
        patch = paste(label, detection.bbox, size=size)
        height, width = patch.mask.shape
        box = parts[patch.top : patch.top + height, patch.left : patch.left + width]
        np.copyto(box, patch.mask, where=patch.mask > 0)
    return parts


def part_target(people: Sequence[Person], size: tuple[int, int]) -> np.ndarray:
    """[H, W] u8 annotated parts; unknown in crowds and on people without part labels."""
    target = np.zeros(size, np.uint8)
    for person in sorted(people, key=lambda p: not p.crowd):  # people over crowds
        if person.crowd or person.parts is None:
            target[person.mask] = UNKNOWN_PART
            continue
        seen = person.mask | (person.parts > 0)
        target[seen] = person.parts[seen]
    return target
