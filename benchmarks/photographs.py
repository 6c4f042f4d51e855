"""What an export makes of annotated photographs: one JSON line a person, a last one of all.

    python -m benchmarks.photographs EXPORT [--gt COCO.json --images FOLDER]

For each annotated person the found person that overlaps it most is taken: mask_iou is
their masks' overlap, keypoints the share of the visible COCO keypoints whose pixel shows
a chart that the body has there (graph/matrices.CHARTS_OF_KEYPOINT; a pixel of nobody, or
of somebody else, counts as wrong). The last line sums up: person-pixel IoU (anybody
annotated against anybody found, crowds aside) over photographs where people are more
than SHARE of the pixels, people by the root of their area, and how many photographs of
nobody show somebody. Without --gt: the skier in examples/.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktn_jax import predictor
from ktn_jax.anatomy import KEYPOINTS
from ktn_jax.data.annotations import read_people
from ktn_jax.errors import one_line_errors
from ktn_jax.graph.matrices import CHARTS_OF_KEYPOINT
from ktn_jax.records import Person, Prediction

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHARE = 0.01  # of a photograph's pixels show people, where its IoU counts
SIZES = {"small": (0, 32), "medium": (32, 96), "large": (96, np.inf)}  # COCO's, pixels


class Photo(NamedTuple):
    """How much of one photograph is right."""

    both: int  # pixels that show people and are found to
    truth: int  # pixels that show people
    shown: int  # pixels found to show people, crowds' aside
    pixels: int
    people: int  # annotated, crowds among them
    found: int

    @property
    def iou(self) -> float:
        """Person-pixel IoU; NaN where nobody is and nobody is found."""
        either = self.truth + self.shown - self.both
        return self.both / either if either else float("nan")


def check_pixels(
    people: Sequence[Person], found: Sequence[Prediction], size: tuple
) -> Photo:
    """All people of a photograph against all found. size: (height, width)."""
    truth, crowd, shown = (np.zeros(size, bool) for _ in range(3))
    for person in people:
        (crowd if person.crowd else truth)[person.mask] = True
    for one in found:
        shown |= _chart(one, size) > 0
    shown &= truth | ~crowd
    return Photo(
        both=int((truth & shown).sum()),
        truth=int(truth.sum()),
        shown=int(shown.sum()),
        pixels=truth.size,
        people=len(people),
        found=len(found),
    )


def check_person(person: Person, found: Sequence[Prediction]) -> dict[str, Any]:
    """The best match of an annotated person and how well it fits."""
    best: dict[str, Any] = {"score": 0.0, "mask_iou": 0.0, "keypoints": 0.0}
    for one in found:
        chart = _chart(one, person.mask.shape)
        mask = chart > 0
        iou = (mask & person.mask).sum() / max((mask | person.mask).sum(), 1)
        if iou > best["mask_iou"]:
            shares = {"mask_iou": float(iou), "keypoints": _on_their_charts(person, chart)}
            best = {"score": float(one.score), **shares}
    return {name: round(value, 3) for name, value in best.items()}


def summarize(photos: Sequence[Photo], lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all photographs and people. lines: of people, as printed."""
    some = [photo for photo in photos if photo.truth > SHARE * photo.pixels]
    nobody = [photo for photo in photos if not photo.people]
    answer: dict[str, Any] = {"photographs": len(photos), "with_people": len(some)}
    if some:
        ious = [photo.iou for photo in some]
        both, truth, shown = (
            sum(getattr(photo, name) for photo in some)
            for name in ("both", "truth", "shown")
        )
        answer |= {
            "iou": np.mean(ious),
            "iou_median": np.median(ious),
            "iou_pooled": both / (truth + shown - both),
            "precision": both / max(shown, 1),
            "recall": both / truth,
        }
    if nobody:
        wrong = np.mean([photo.found > 0 for photo in nobody])
        answer |= {"of_nobody": len(nobody), "somebody_there": wrong}
    for name, (low, high) in SIZES.items():
        own = [line for line in lines if low <= line["side"] < high]
        if own:
            answer[name] = {
                "people": len(own),
                "mask_iou": np.mean([line["mask_iou"] for line in own]),
                "found": np.mean([line["mask_iou"] > 0.5 for line in own]),
            }
            visible = sum(line["visible"] for line in own)
            if visible:
                right = sum(
                    one["visible"] * one["keypoints"] for one in own if one["visible"]
                )
                answer[name] |= {"visible": visible, "keypoints": right / visible}
    return answer


def _chart(found: Prediction, size: tuple[int, ...]) -> np.ndarray:
    """A found person's charts in their photograph. [H, W] i64, 0 elsewhere."""
    chart = np.zeros(size, int)
    x, y, width, height = found.bbox
    chart[y : y + height, x : x + width] = found.iuv[..., 0]
    return chart


def _visible(person: Person) -> int:
    """How many keypoints are annotated as visible."""
    return 0 if person.keypoints is None else int((person.keypoints[:, 2] == 2).sum())


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
    parser.add_argument("--canvas", type=int, help="pixels; default: the export's")
    flags = parser.parse_args(arguments)
    model = predictor.load(flags.export, min_score=flags.min_score, canvas=flags.canvas)
    coco = json.loads(flags.gt.read_text())
    photos, lines = [], []
    for entry in coco["images"]:
        image = predictor.pixels(flags.images / entry["file_name"])
        found = model(image)
        own = [a for a in coco["annotations"] if a["image_id"] == entry["id"]]
        people = read_people(own, *image.shape[:2])
        photos.append(check_pixels(people, found, image.shape[:2]))
        for person in people:
            if not person.crowd:
                about = {"image": entry["file_name"], "person": person.id}
                about |= {
                    "side": round(person.mask.sum() ** 0.5),
                    "visible": _visible(person),
                }
                lines.append(about | check_person(person, found))
                print(json.dumps(lines[-1]), flush=True)
    print(json.dumps(_rounded(summarize(photos, lines))))


def _rounded(value: Any) -> Any:
    """Numbers that read well."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return int(value) if isinstance(value, int | np.integer) else round(float(value), 3)


if __name__ == "__main__":
    sys.exit(main())
