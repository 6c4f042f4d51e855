"""A network's people on a split, and what every metric says of them.

The network runs in jax; from there on all is numpy and the official rules.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ktn_jax import inference
from ktn_jax.anatomy import UNKNOWN_PART
from ktn_jax.data import pipeline
from ktn_jax.data.densepose_coco import Record
from ktn_jax.evaluation import average_precision, two_d
from ktn_jax.evaluation.encoded import encode_iuv
from ktn_jax.evaluation.surface import Surface
from ktn_jax.geometry import Affine
from ktn_jax.records import Person, Prediction

Results = list[dict[str, Any]]


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


def result_entry(person: Prediction, size: tuple[int, int]) -> dict[str, Any]:
    """A prediction as one entry of a results file: challenge form, plus COCO's fields.

    size: (height, width) of the image. Keypoints are pixel indices, as COCO's are.
    """
    x, y, width, height = (int(v) for v in person.bbox)
    mask = np.zeros(size, np.uint8, order="F")
    mask[y : y + height, x : x + width] = person.iuv[..., 0] > 0
    rle = coco_mask.encode(mask)
    uv_shape, uv_data = encode_iuv(person.iuv)
    joints = np.c_[person.keypoints[:, 1::-1] - 0.5, person.keypoints[:, 2]]
    return {
        "image_id": person.image_id,
        "category_id": 1,
        "score": round(person.score, 6),
        "bbox": [x, y, width, height],
        "uv_shape": list(uv_shape),
        "uv_data": uv_data,
        "keypoints": [round(float(v), 3) for v in joints.ravel()],
        "segmentation": {"size": list(size), "counts": rle["counts"].decode("ascii")},
    }


def evaluate_split(
    run: inference.Predict,
    source: Sequence[Record],
    gt: dict[str, Any],
    surface: Surface,
    *,
    canvas: int,
    batch_size: int,
) -> tuple[dict[str, Any], Results]:
    """Statistics by metric, and the results they are of.

    gt: the split's DensePose-COCO json.   canvas: side in pixels.
    """
    results: Results = []
    confusion = np.zeros((1, 1), np.int64)
    found = detect(run, source, canvas=canvas, batch_size=batch_size)
    for record, people in tqdm(found, total=len(source), unit="image", desc="eval"):
        size = (int(record["height"]), int(record["width"]))
        results += [result_entry(person, size) for person in people]
        truth = part_target(pipeline.ground_truth(record), size)
        confusion = confusion + two_d.part_confusion(part_map(people, size), truth)
    return {
        **average_precision.evaluate_densepose(gt, results, surface),
        "keypoints": two_d.evaluate_keypoints(gt, results),
        "masks": two_d.evaluate_masks(gt, results),
        "parts_miou": two_d.mean_iou(confusion),
    }, results


def part_map(people: Sequence[Prediction], size: tuple[int, int]) -> np.ndarray:
    """[H, W] u8 part of every pixel; predictions never share one."""
    parts = np.zeros(size, np.uint8)
    for person in people:
        x, y, width, height = person.bbox
        box = parts[y : y + height, x : x + width]
        box[person.parts > 0] = person.parts[person.parts > 0]
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
