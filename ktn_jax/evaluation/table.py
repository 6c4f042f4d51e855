"""The numbers of an evaluation as a table for people and as json for programs.

A row is a metric, a column a statistic in percent, as papers print them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktn_jax.files import write_bytes

COLUMNS = ("AP", "AP50", "AP75", "APm", "APl")
ROWS = {  # key of an evaluation -> what the table calls it
    "gpsm": "DensePose GPSm",
    "gps": "DensePose GPS",
    "iou": "DensePose mask IoU",
    "keypoints": "keypoints OKS",
    "masks": "person masks",
}
NUMBERS = {  # likewise, of a single number, in a row of its own
    "parts_miou": "parts mIoU",
    "chart_parts_miou": "parts mIoU by charts",
}
GROUPS = {  # key of a diagnosis -> what the table calls it
    "by_people": "GPSm by people in the image",
    "by_overlap": "GPSm by overlap of their boxes",
    "by_size": "GPSm by root of area, px",
}
_TITLE = 34  # characters of a diagnosis's first column

Evaluation = Mapping[str, Any]


def format_table(evaluation: Evaluation) -> str:
    """The table's lines; metrics that are absent or None have none.

    evaluation: statistics by metric as evaluate_results returns them, and possibly
    parts_miou; fractions, -1 for what could not be measured.
    """
    lines = [("", *COLUMNS)]
    for key, title in ROWS.items():
        stats = evaluation.get(key)
        if stats is not None:
            lines.append((title, *(_percent(stats[column]) for column in COLUMNS)))
    for key, title in NUMBERS.items():
        if evaluation.get(key) is not None:
            lines.append((title, _percent(evaluation[key])))
    width = max(len(line[0]) for line in lines)
    return "\n".join(
        (line[0].ljust(width) + "".join(cell.rjust(7) for cell in line[1:])).rstrip()
        for line in lines
    )


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Writes the evaluation; the file is there completely or not at all."""
    text = json.dumps(evaluation, indent=2) + "\n"
    write_bytes(Path(path), text.encode("utf-8"))


def _percent(fraction: float) -> str:
    return "-" if fraction < 0 else f"{100 * fraction:.1f}"


def format_diagnosis(diagnosis: Mapping[str, Any]) -> str:
    """The diagnosis (see diagnosis.diagnose) in lines of percent; confusion is left out."""
    lines = [""]
    for key, title in GROUPS.items():
        lines.append(_cells(title, ("AP", "AP50", "AR", "people")))
        for name, row in diagnosis[key].items():
            shares = (_percent(row[column]) for column in ("AP", "AP50", "AR"))
            lines.append(_cells(f"  {name}", (*shares, str(row["people"]))))
    lines.append(_cells("errors at GPSm .5, AP50 without", ("gain", "number")))
    for name, row in diagnosis["errors"].items():
        gain = _percent(row["gain"])
        lines.append(_cells(f"  {name}", (gain, str(row["count"]))))
    lines.append(_cells("parts of people found", ("GPS", "points")))
    for name, row in diagnosis["by_part"].items():
        lines.append(_cells(f"  {name}", (_percent(row["gps"]), str(row["points"]))))
    lines.append(_cells("charts of their points", ("share",)))
    for name, share in diagnosis["charts"].items():
        lines.append(_cells(f"  {name}", (_percent(share),)))
    for key in ("worst", "best"):
        images = (f"{row['image_id']} ({100 * row['score']:.0f})" for row in diagnosis[key])
        lines.append(f"{key} images (GPSm): " + ", ".join(images))
    return "\n".join(lines)


def _cells(title: str, cells: Sequence[str]) -> str:
    return title.ljust(_TITLE) + "".join(cell.rjust(8) for cell in cells)
