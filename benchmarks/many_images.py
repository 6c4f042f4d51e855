"""Memory and speed of predict over many photographs: one JSON line every tenth.

    python -m benchmarks.many_images EXPORT --images=10000 --canvas=64

The photographs are links to a few jpegs of several sizes, so that reading, finding people
and writing all happen but the disk is spared. resident_mb is this process's memory.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from ktn_jax import inputs, predict, predictor
from ktn_jax.errors import one_line_errors
from ktn_jax.formats import outputs

SIZES = ((480, 640), (640, 480), (512, 512), (300, 900))


def make(folder: Path, count: int) -> None:
    """Links to random pictures of each size."""
    rng = np.random.default_rng(0)
    originals = []
    for number, size in enumerate(SIZES):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        originals.append(folder / f"original{number}.jpg")
        Image.fromarray(coarse).resize(size[::-1]).save(originals[-1])
    for number in range(count):
        os.link(originals[number % len(SIZES)], folder / f"{number:06d}.jpg")
    for path in originals:
        path.unlink()


def watched(found: Sequence[inputs.Input]) -> Iterator[inputs.Input]:
    """The inputs; prints a line at every tenth of the way."""
    start, process = time.monotonic(), psutil.Process()
    for number, one in enumerate(found):
        if number and number % max(len(found) // 10, 1) == 0:
            line = {
                "images": number,
                "resident_mb": round(process.memory_info().rss / 1e6, 1),
                "images_per_second": round(number / (time.monotonic() - start), 2),
            }
            print(json.dumps(line), flush=True)
        yield one


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_images")
    parser.add_argument("export", help="folder of an export")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--canvas", type=int, default=64)
    parser.add_argument("--format", default="iuv,npz")
    flags = parser.parse_args(arguments)
    formats = outputs.parse(flags.format)
    model = predictor.load(flags.export, canvas=flags.canvas, test_time="plain")
    endings = [outputs.OUTPUTS[name].ending for name in formats]
    with tempfile.TemporaryDirectory() as folder:
        photos, out = Path(folder) / "photos", Path(folder) / "out"
        photos.mkdir()
        make(photos, flags.images)
        found = inputs.find_inputs([photos], endings, out=out)
        predict.predict_all(model, found, out, formats, threads=2, watch=watched)


if __name__ == "__main__":
    sys.exit(main())
