"""What MID and KTM bring: four networks, several seeds, one table.

    python -m benchmarks.ablation --out=DIR [--seeds=3] [--points=0.2] [--people=0.3]

Renders a data set of its own (400 training and 200 validation images), trains
configs/ablation.py:NAME for every name and seed and evaluates each. --points and --people
thin the training labels: the share of annotated points kept, and of people who keep
theirs. Runs that are done are not run again, so a second call goes on where the first
stopped. Prints one json line a run, then the table in markdown.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from configs.ablation import NAMES
from ktn_jax import files

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN_JSON = Path("annotations") / "densepose_train2014.json"
DENSE_FIELDS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
COLUMNS = {  # heading -> where eval.py's json has it
    "GPSm AP": ("gpsm", "AP"),
    "GPS AP": ("gps", "AP"),
    "mask IoU AP": ("iou", "AP"),
    "part mIoU": ("parts_miou",),
    "OKS AP": ("keypoints", "AP"),
}


def thin(annotations: list[dict[str, Any]], points: float, people: float) -> int:
    """Number of points left after thinning the annotations in place.

    points: share of each person's points kept.   people: share of the annotated people
    who keep theirs; the others lose dp_masks too. What stays depends on the annotation's
    id alone.
    """
    left = 0
    for annotation in annotations:
        if "dp_x" not in annotation:
            continue
        rng = np.random.default_rng(annotation["id"])
        if rng.random() >= people:
            for field in (*DENSE_FIELDS, "dp_masks"):
                del annotation[field]
            continue
        number = len(annotation["dp_x"])
        kept = np.sort(rng.permutation(number)[: max(1, round(points * number))])
        for field in DENSE_FIELDS:
            annotation[field] = [annotation[field][i] for i in kept]
        left += len(kept)
    return left


def render(root: Path, points: float, people: float) -> None:
    """The data set, with thinned training labels."""
    if (root / "done").exists():
        return
    command = ["-m", "ktn_jax.data.people", f"--out={root}", "--train=400", "--val=200",
               "--size=256", "--seed=7", "--variety=0", "--processes=2"]  # fmt: skip
    run(command)
    data = json.loads((root / TRAIN_JSON).read_text())
    left = thin(data["annotations"], points, people)
    files.write_bytes(root / TRAIN_JSON, json.dumps(data).encode())
    files.write_bytes(root / "done", f"{left} points\n".encode())


def measure(out: Path, name: str, seed: int) -> dict[str, Any]:
    """eval.py's statistics of one trained network; trains where that was not done yet."""
    workdir = out / f"{name}_{seed}"
    measured = workdir / "metrics.json"
    if not measured.exists():
        run(["train.py", f"--config=configs/ablation.py:{name}", f"--workdir={workdir}",
             f"--data.root={out / 'data'}", f"--config.seed={seed}"])  # fmt: skip
        run(["eval.py", f"--workdir={workdir}", f"--cache={out / 'geodesics'}",
             f"--out={measured}"])  # fmt: skip
    return json.loads(measured.read_text())


def run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command of the project; what it says is shown only where it fails."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Mean and standard deviation over seeds, in markdown, in percent."""

    def cell(values: list[float]) -> str:
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}"

    def pick(entry: Any, path: tuple[str, ...]) -> float:
        for key in path:
            entry = entry[key]
        return entry

    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, runs in rows.items():
        cells = [cell([pick(r, path) for r in runs]) for path in COLUMNS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """All runs, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    parser.add_argument("--points", type=float, default=1.0, help="share of points kept")
    parser.add_argument("--people", type=float, default=1.0, help="share of people kept")
    flags = parser.parse_args()
    out = flags.out.resolve()
    render(out / "data", flags.points, flags.people)
    rows: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    # seed by seed, so that a run cut short still compares all four
    todo = [(name, seed) for seed in range(flags.seeds) for name in NAMES]
    for name, seed in tqdm(todo, unit="run"):
        rows[name].append(measure(out, name, seed))
        print(json.dumps({"name": name, "seed": seed, **rows[name][-1]}), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
