"""The numbers of an evaluation as a table for people and as json for programs.

A row is a metric, a column a statistic in percent, as papers print them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ktn_jax.files import write_bytes

COLUMNS = ("AP", "AP50", "AP75", "APm", "APl")
ROWS = {  # key of an evaluation -> what the table calls it
    "gpsm": "DensePose GPSm",
    "gps": "DensePose GPS",
    "iou": "DensePose mask IoU",
    "keypoints": "keypoints OKS",
    "masks": "person masks",
}
PARTS = "parts_miou"  # a single number, in a row of its own

Evaluation = Mapping[str, Mapping[str, float] | float | None]


def format_table(evaluation: Evaluation) -> str:
    """The table's lines; metrics that are absent or None have none.

    evaluation: statistics by metric as evaluate_files returns them, and possibly the
    part mIoU under PARTS; fractions, -1 for what could not be measured.
    """
    lines = [("", *COLUMNS)]
    for key, title in ROWS.items():
        stats = evaluation.get(key)
        if stats is not None:
            lines.append((title, *(_percent(stats[column]) for column in COLUMNS)))
    if evaluation.get(PARTS) is not None:
        lines.append(("parts mIoU", _percent(evaluation[PARTS])))
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
