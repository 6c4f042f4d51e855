"""What an export makes of annotated photographs: one JSON line an image.

    python -m benchmarks.photographs EXPORT [--gt COCO.json --images FOLDER]

For each annotated person the found person that overlaps it most is taken: mask_iou is
their masks' overlap, keypoints the share of the visible COCO keypoints whose pixel shows
a chart that the body has there (graph/matrices.CHARTS_OF_KEYPOINT; a pixel of nobody, or
of somebody else, counts as wrong). Without --gt: the skier in examples/.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktn_jax import predictor
from ktn_jax.anatomy import KEYPOINTS
from ktn_jax.data.annotations import read_people
from ktn_jax.errors import one_line_errors
from ktn_jax.graph.matrices import CHARTS_OF_KEYPOINT
from ktn_jax.records import Person, Prediction

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def check_person(person: Person, found: Sequence[Prediction]) -> dict[str, Any]:
    """The best match of an annotated person and how well it fits."""
    best: dict[str, Any] = {"score": 0.0, "mask_iou": 0.0, "keypoints": 0.0}
    for one in found:
        chart = np.zeros(person.mask.shape, int)
        x, y, width, height = one.bbox
        chart[y : y + height, x : x + width] = one.iuv[..., 0]
        mask = chart > 0
        iou = (mask & person.mask).sum() / max((mask | person.mask).sum(), 1)
        if iou > best["mask_iou"]:
            shares = {"mask_iou": float(iou), "keypoints": _on_their_charts(person, chart)}
            best = {"score": float(one.score), **shares}
    return {name: round(value, 3) for name, value in best.items()}


def _on_their_charts(person: Person, chart: np.ndarray) -> float:
    """Share of a person's visible keypoints on a chart they may lie on."""
    if person.keypoints is None:
        return float("nan")
    right = [
        chart[int(y), int(x)] in CHARTS_OF_KEYPOINT[name]
        for name, (y, x, visible) in zip(KEYPOINTS, person.keypoints, strict=True)
        if visible == 2
    ]
    return float(np.mean(right)) if right else float("nan")


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("export", type=Path, help="folder of an export")
    parser.add_argument("--gt", type=Path, default=EXAMPLES / "skier.json")
    parser.add_argument("--images", type=Path, default=EXAMPLES, help="their folder")
    parser.add_argument("--min-score", type=float, default=predictor.MIN_SCORE)
    flags = parser.parse_args(arguments)
    model = predictor.load(flags.export, min_score=flags.min_score)
    coco = json.loads(flags.gt.read_text())
    for entry in coco["images"]:
        image = predictor.pixels(flags.images / entry["file_name"])
        found = model(image)
        own = [a for a in coco["annotations"] if a["image_id"] == entry["id"]]
        people = read_people(own, *image.shape[:2])
        for person in people:
            if not person.crowd:
                line = {"image": entry["file_name"], "person": person.id}
                print(json.dumps({**line, **check_person(person, found)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
