"""Seconds and memory of the evaluator on a random problem of minival's size: a JSON line.

    python -m benchmarks.evaluator [--processes=2] [--images=1500] [--keep=DIR]

The problem is seeded: a stand-in surface with a distance table as large as the official
one (27,554 vertices, 1.5 GB), people with 100 points each, 20 detections an image. What
is measured is a process of its own that runs eval.py, together with all its children.
"""

import argparse
import base64
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
from PIL import Image
from pycocotools import mask as rle
from scipy.io import savemat
from scipy.spatial.distance import cdist

from ktn_jax.anatomy import NUM_CHARTS, PART_OF_CHART
from ktn_jax.files import write_bytes

VERTICES = 27_554
RECORDS = 24 * 1_150  # of which the last 46 lie on seams and share a vertex
ROWS = 512  # of the table written at a time
IMAGE = (480, 640)
POINTS = 100  # a person
HEIGHTS = np.geomspace(24, 420, 24).astype(int)  # of boxes
SHAPES = (0.35, 0.5, 0.8)  # width / height
TILES = (6, 4)  # charts of a stand-in person, from the top left
WATCH_SECONDS = 0.05


def write_surface(folder: Path, rng: np.random.Generator) -> None:
    """Write the three files of a surface of flat charts somewhere in space."""
    chart = np.repeat(np.arange(1, NUM_CHARTS), RECORDS // (NUM_CHARTS - 1))
    uv = rng.random((RECORDS, 2))
    vertex = np.arange(RECORDS)
    vertex[VERTICES:] = rng.choice(VERTICES, RECORDS - VERTICES, replace=False)
    place = np.column_stack([0.3 * uv, np.zeros(RECORDS)])
    place += rng.random((NUM_CHARTS, 3))[chart]  # a body of about a metre
    place = place[:VERTICES].astype(np.float32)
    records = {"Part_ID_subdiv": chart, "U_subdiv": uv[:, 0], "V_subdiv": uv[:, 1]}
    columns = {name: value[:, None] for name, value in records.items()}
    savemat(folder / "SMPL_subdiv.mat", columns)
    savemat(folder / "SMPL_SUBDIV_TRANSFORM.mat", {"index": vertex[:, None] + 1})
    with h5py.File(folder / "Pdist_matrix.mat", "w", userblock_size=512) as file:
        size = VERTICES * (VERTICES - 1) // 2
        table = file.create_dataset("Pdist_matrix", (1, size), "f4")
        for first in range(0, VERTICES, ROWS):
            rows = cdist(place[first : first + ROWS], place[: first + ROWS])
            below = np.tri(*rows.shape, k=first - 1, dtype=bool)
            start = first * (first - 1) // 2
            packed = rows[below].astype(np.float32)
            table[0, start : start + len(packed)] = packed


def draw_map(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """[height, width, 3] u8: an ellipse of tiles, a chart each, with smooth noisy U, V."""
    y, x = (np.indices((height, width)) + 0.5) / np.array([height, width])[:, None, None]
    row, column = y * TILES[0], x * TILES[1]
    chart = 1 + row.astype(int) * TILES[1] + column.astype(int)
    uv = 255 * np.stack([row % 1, column % 1], axis=-1) + rng.normal(0, 2, (*y.shape, 2))
    iuv = np.dstack([chart, np.clip(uv, 0, 255)]).astype(np.uint8)
    iuv[(2 * y - 1) ** 2 + (2 * x - 1) ** 2 > 1] = 0
    return iuv


def encode(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run lengths of a mask, as json has them."""
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode("ascii")}


def build_annotation(box: list[float], rng: np.random.Generator) -> dict[str, Any]:
    """The DensePose fields of a stand-in person that fills a box."""
    iuv = draw_map(256, 256, rng)
    parts = PART_OF_CHART[iuv[..., 0]]
    x, y, width, height = box
    turn = np.linspace(0, 2 * np.pi, 40)
    outline = [x + width / 2 * (1 + np.cos(turn)), y + height / 2 * (1 + np.sin(turn))]
    rows, columns = np.nonzero(iuv[..., 0])
    at = rng.integers(len(rows), size=POINTS)
    label = iuv[rows[at], columns[at]]
    return {
        "segmentation": [np.stack(outline, axis=-1).ravel().round(2).tolist()],
        "area": width * height * np.pi / 4,
        "dp_x": columns[at].tolist(),
        "dp_y": rows[at].tolist(),
        "dp_I": label[:, 0].tolist(),
        "dp_U": (label[:, 1] / 255).round(4).tolist(),
        "dp_V": (label[:, 2] / 255).round(4).tolist(),
        "dp_masks": [encode(parts == part) for part in range(1, 15)],
    }


def draw_box(rng: np.random.Generator) -> list[float]:
    """(x, y, width, height) of somebody in an image."""
    height = int(rng.choice(HEIGHTS))
    width = int(height * rng.choice(SHAPES))
    x, y = rng.random(2) * (np.array(IMAGE[::-1]) - [width, height])
    return [round(float(x), 2), round(float(y), 2), width, height]


def shake(box: list[float], rng: np.random.Generator) -> list[float]:
    """A box near a box."""
    shift = rng.normal(0, 0.03, 2) * box[2:]
    x, y = np.clip(shift + box[:2], 0, None).round(2).tolist()
    return [x, y, *box[2:]]


def build_results(
    boxes: list[list[list[float]]], detections: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Entries of a results file, the images one after the other.

    boxes: of the people of each image. A third of the detections are on somebody.
    """
    data = {}
    for height in HEIGHTS:
        for width in {int(height * shape) for shape in SHAPES}:
            png = io.BytesIO()
            Image.fromarray(draw_map(height, width, rng)).save(png, format="png")
            data[height, width] = base64.encodebytes(png.getvalue()).decode()
    for image, people in enumerate(boxes):
        for number in range(detections):
            if people and number < detections // 3:
                box = shake(people[number % len(people)], rng)
            else:
                box = draw_box(rng)
            width, height = box[2:]
            yield {
                "image_id": image + 1,
                "category_id": 1,
                "bbox": box,
                "score": round(float(rng.random()), 6),
                "uv_shape": [3, height, width],
                "uv_data": data[height, width],
            }


def write_problem(folder: Path, flags: argparse.Namespace) -> None:
    """Write ground truth, results and surface into a folder."""
    rng = np.random.default_rng(flags.seed)
    write_surface(folder, rng)
    owner = np.sort(rng.integers(flags.images, size=flags.people))
    boxes = [
        [draw_box(rng) for _ in range((owner == i).sum())] for i in range(flags.images)
    ]
    people = [(image, box) for image, group in enumerate(boxes) for box in group]
    annotations = [
        {"id": number, "image_id": image + 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        | build_annotation(box, rng)
        for number, (image, box) in enumerate(people, start=1)
    ]
    size = dict(zip(("height", "width"), IMAGE, strict=True))
    gt = {
        "images": [{"id": i + 1, **size} for i in range(flags.images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    write_bytes(folder / "gt.json", json.dumps(gt).encode())
    with open(folder / "results.json", "w") as file:
        for number, entry in enumerate(build_results(boxes, flags.detections, rng)):
            file.write(("[" if number == 0 else ",\n") + json.dumps(entry))
        file.write("]")


def memory(process: psutil.Process) -> tuple[int, int]:
    """Most resident bytes so far and anonymous ones now of a process; 0 if it has gone."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0, 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    sizes = (lines.get(name, "0 kB").split()[0] for name in ("VmHWM", "RssAnon"))
    resident, anonymous = (int(size) * 1024 for size in sizes)
    return resident, anonymous


def watch(command: list[str]) -> dict[str, float]:
    """What a command takes; the sums of memory are over all its processes."""
    begin = time.perf_counter()
    child = psutil.Popen(command, stdout=subprocess.DEVNULL)
    resident = anonymous = 0
    while child.poll() is None:
        try:
            family = [child, *child.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        sizes = np.array([memory(process) for process in family])
        resident, anonymous = np.maximum((resident, anonymous), sizes.sum(axis=0)).tolist()
        time.sleep(WATCH_SECONDS)
    seconds = time.perf_counter() - begin
    if child.wait():
        raise SystemExit(f"{' '.join(command)} ended with status {child.returncode}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_mb": round(resident / 1e6),
        "anonymous_mb": round(anonymous / 1e6),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--people", type=int, default=2300)
    parser.add_argument("--detections", type=int, default=20, help="of an image")
    parser.add_argument("--processes", type=int, default=2, help="of eval.py")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the problem")
    parser.add_argument("rest", nargs="*", help="flags for eval.py, after a --")
    return parser.parse_args()


def main() -> None:
    """Write the problem, run eval.py on it, print."""
    flags = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "results.json").exists():
            write_problem(folder, flags)
        script = Path(__file__).parents[1] / "eval.py"
        paths = {
            "gt": "gt.json",
            "results": "results.json",
            "surface": "",
            "out": "out.json",
        }
        command = [sys.executable, str(script), f"--processes={flags.processes}"]
        command += [f"--{name}={folder / path}" for name, path in paths.items()]
        line = {
            **watch([*command, *flags.rest]),
            **{k: getattr(flags, k) for k in ("images", "people", "processes", "seed")},
            "detections": flags.images * flags.detections,
            "table_mb": (folder / "Pdist_matrix.mat").stat().st_size // 10**6,
            "results_mb": (folder / "results.json").stat().st_size // 10**6,
            "GPS AP": json.loads((folder / "out.json").read_text())["gps"]["AP"],
            "cores": os.cpu_count(),
            "flags": flags.rest,
        }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
