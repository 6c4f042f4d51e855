"""How far an export and another DensePose say the same of photographs: a JSON line each.

    python -m benchmarks.agreement EXPORT --reference=RESULTS.json --images=FOLDER

RESULTS.json is the other's, in a form that eval.py reads; a photograph belongs to the
image_id that its name ends in (COCO_val2014_000000000785.jpg: 785). Neither is the truth.
iou compares the pixels on which either shows anybody; charts, parts and their U and V
are of the pixels on which both do, u and v where the chart is the same, too. Where
people overlap the surer one lies on top. The last line is of all pixels together.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktn_jax import predictor
from ktn_jax.anatomy import PART_OF_CHART
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.evaluation.encoded import read_iuv
from ktn_jax.evaluation.results import load_results

SURE = 0.5  # score from which on somebody whom the other found counts
PICTURES = {".jpg", ".jpeg", ".png"}

Person = tuple[float, Sequence[float], np.ndarray]  # score, bbox (x, y, ..), iuv [h, w, 3]


def lay(people: Iterable[Person], size: tuple[int, int]) -> np.ndarray:
    """All people of a photograph on one canvas, the surer on top. [H, W, 3] i64 I, U, V."""
    canvas = np.zeros((*size, 3), int)
    for _, bbox, iuv in sorted(people, key=lambda person: person[0]):
        x, y = int(bbox[0]), int(bbox[1])
        iuv = iuv[: size[0] - y, : size[1] - x]
        window = canvas[y : y + iuv.shape[0], x : x + iuv.shape[1]]
        np.copyto(window, iuv, where=iuv[..., :1] > 0)
    return canvas


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Sums over the pixels of a photograph, as of lay; `rates` divides them."""
    mine, other = ours[..., 0], theirs[..., 0]
    both, same = (mine > 0) & (other > 0), (mine > 0) & (mine == other)
    away = np.abs(ours - theirs)[same] / 255
    return {
        "both": int(both.sum()),
        "either": int(((mine > 0) | (other > 0)).sum()),
        "same": int(same.sum()),
        "parts": int((PART_OF_CHART[mine] == PART_OF_CHART[other])[both].sum()),
        "u": float(away[:, 1].sum()),
        "v": float(away[:, 2].sum()),
    }


def rates(sums: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of photographs' sums together: iou, charts, parts; mean differences u and v."""
    total = {name: sum(one[name] for one in sums) for name in sums[0]}
    same, both = max(total["same"], 1), max(total["both"], 1)
    answer = {
        "iou": total["both"] / max(total["either"], 1),
        "charts": total["same"] / both,
        "parts": total["parts"] / both,
        "u": total["u"] / same,
        "v": total["v"] / same,
    }
    return {name: round(value, 3) for name, value in answer.items()}


def find_photographs(folder: Path) -> dict[int, Path]:
    """Image id -> photograph, by the number that its name ends in."""
    names = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES)
    ends = ((re.search(r"\d+$", path.stem), path) for path in names)
    return {int(end[0]): path for end, path in ends if end}


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement", description=__doc__.splitlines()[0]
    )
    parser.add_argument("export", type=Path, help="folder of an export")
    parser.add_argument("--reference", type=Path, required=True, help="the other's results")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    flags = parser.parse_args(arguments)
    theirs: dict[int, list[Person]] = {}
    for entry in load_results(flags.reference):
        people = theirs.setdefault(entry["image_id"], [])
        if entry["score"] >= SURE:
            people.append((entry["score"], entry["bbox"], read_iuv(entry.whole())))
    if not theirs:
        raise UserError(f"{flags.reference} holds nobody")
    paths = find_photographs(flags.images)
    if missing := set(theirs) - set(paths):
        raise UserError(
            f"{flags.images} has no photograph whose name ends in {min(missing)}, "
            f"an image_id of {flags.reference}"
        )
    model, sums = predictor.load(flags.export), []
    for number, people in theirs.items():
        image = predictor.pixels(paths[number])
        ours = [(one.score, one.bbox, one.iuv) for one in model(image)]
        sums.append(compare(*(lay(some, image.shape[:2]) for some in (ours, people))))
        print(json.dumps({"image": paths[number].name} | rates(sums[-1:])), flush=True)
    print(json.dumps({"photographs": len(sums)} | rates(sums)))


if __name__ == "__main__":
    sys.exit(main())
