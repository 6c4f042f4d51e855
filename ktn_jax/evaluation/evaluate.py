"""A network's people on a split, and what every metric says of them.

The network runs in jax; from there on all is numpy and the official rules.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ktn_jax import inference
from ktn_jax.data import pipeline
from ktn_jax.data.coco_directory import Record
from ktn_jax.evaluation import results, two_d
from ktn_jax.evaluation.parts import part_target
from ktn_jax.evaluation.standalone import evaluate_results
from ktn_jax.evaluation.surface import Surface
from ktn_jax.formats.coco import result_entry
from ktn_jax.geometry import Affine
from ktn_jax.records import Prediction


def detect(
    run: inference.Predict, source: Sequence[Record], *, canvas: int, batch_size: int
) -> Iterator[tuple[Record, list[Prediction]]]:
    """Every record of a split with the people found on it, in order."""
    batches = pipeline.eval_batches(source, canvas=(canvas, canvas), batch_size=batch_size)
    for number, batch in enumerate(batches):
        found = inference.host(run(batch.image))
        for row in np.flatnonzero(batch.valid):
            record = source[number * batch_size + int(row)]
            size = (int(record["height"]), int(record["width"]))
            to_image = Affine(*map(tuple, batch.to_image[row].tolist()))
            instances = inference.one_image(found, int(row))
            yield (
                record,
                inference.unpack(instances, to_image, size, int(record["image_id"])),
            )


def evaluate_split(
    run: inference.Predict,
    source: Sequence[Record],
    gt: dict[str, Any],
    surface: Surface,
    *,
    canvas: int,
    batch_size: int,
    results_path: Path,
    **settings: Any,
) -> dict[str, Any]:
    """Statistics by metric, of results that are written to a json file on the way.

    gt: the split's DensePose-COCO json.   canvas: side in pixels.
    settings: evaluate_results's.   parts_miou: of the network's own part maps.
    """
    confusion = np.zeros((1, 1), np.int64)
    found = detect(run, source, canvas=canvas, batch_size=batch_size)
    with results.writer(results_path) as write:
        for record, people in tqdm(found, total=len(source), unit="image", desc="eval"):
            size = (int(record["height"]), int(record["width"]))
            for person in people:
                write(result_entry(person, size))
            truth = part_target(pipeline.ground_truth(record), size)
            confusion = confusion + two_d.part_confusion(part_map(people, size), truth)
    entries = results.load_results(results_path)
    return {
        **evaluate_results(gt, entries, surface, **settings),
        "parts_miou": two_d.mean_iou(confusion),
    }


def part_map(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W] u8 part of every pixel; predictions never share one."""
    parts = np.zeros(size, np.uint8)
    for person in people:
        x, y, width, height = person.bbox
        box = parts[y : y + height, x : x + width]
        box[person.parts > 0] = person.parts[person.parts > 0]
    return parts
