"""Batch prediction from an export: python -m ktn_jax.predict EXPORT INPUTS... --out DIR.

For every image NAME it writes
    NAME_iuv.png      full size; read by OpenCV its channels are I, 255 U, 255 V (so a
                      viewer that reads RGB sees R = V, G = U, B = I)
    NAME_overlay.png  charts, boxes and skeletons over the photograph
    NAME.json         the people in DensePose's challenge form, with keypoints and masks
or, with --format, what ktn_jax/formats/outputs.py names.
A file that cannot be read is reported and skipped; then the exit status is 3.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ktn_jax import exports, files, inference
from ktn_jax.data.images import decode_image
from ktn_jax.data.transforms import letterbox_example
from ktn_jax.errors import EXIT_SKIPPED, UserError, one_line_errors
from ktn_jax.formats import outputs
from ktn_jax.geometry import Affine
from ktn_jax.records import Example, Prediction

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Input(NamedTuple):
    """One image on its canvas."""

    name: str  # of the outputs
    image: np.ndarray  # [H, W, 3] u8, as in the file
    canvas: np.ndarray  # [S, S, 3] u8
    to_image: Affine


def find_inputs(inputs: Sequence[Path]) -> list[Path]:
    """Files as given, folders as their image files, sorted."""
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"input {path} does not exist; give image files or folders")
    if not found:
        raise UserError(f"no image among {', '.join(map(str, inputs))}; known: {SUFFIXES}")
    return found


def read_inputs(paths: Sequence[Path], canvas: int, skipped: list[str]) -> Iterator[Input]:
    """Readable images one by one; names and faults of the others go to `skipped`."""
    taken: set[str] = set()
    for number, path in enumerate(paths):
        try:
            image = decode_image(path.read_bytes())
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            skipped.append(f"{path}: {error}")
            continue
        # two inputs of one name in different folders must not overwrite each other
        name = path.stem if path.stem not in taken else f"{path.stem}_{number}"
        taken.add(name)
        boxed = letterbox_example(Example(number, image, (), Affine()), (canvas, canvas))
        yield Input(name, image, boxed.image, boxed.to_image)


def in_batches(inputs: Iterator[Input], size: int) -> Iterator[list[Input]]:
    """Lists of `size` inputs; the last may be shorter."""
    batch: list[Input] = []
    for item in inputs:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def predict_batch(
    run: inference.Predict, batch: Sequence[Input], size: int, min_score: float
) -> Iterator[tuple[Input, list[Prediction]]]:
    """Each input with its people. size: the compiled batch; a short one is padded."""
    canvases = np.stack([item.canvas for item in batch])
    padding = [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)]
    found = inference.host(run(np.pad(canvases, padding)))
    for row, item in enumerate(batch):
        instances = inference.one_image(found, row)
        people = inference.unpack(instances, item.to_image, item.image.shape[:2], row)
        yield item, [person for person in people if person.score >= min_score]


def write_outputs(
    out: Path, item: Input, people: Sequence[Prediction], formats: Sequence[str]
) -> None:
    """One image's files. formats: names of outputs.OUTPUTS."""
    scene = outputs.Scene(item.name, item.name, item.image, people)
    for name in formats:
        ending, encode = outputs.OUTPUTS[name]
        files.write_bytes(out / f"{item.name}{ending}", encode(scene))


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ktn_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("export", help="folder of an export")
    parser.add_argument("inputs", nargs="+", type=Path, help="image files or folders")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--batch", type=int, default=4, help="images a call")
    parser.add_argument(
        "--min-score", type=float, default=0.2, help="people below are left out"
    )
    parser.add_argument("--max-people", type=int, help="the best of an image; else all")
    parser.add_argument(
        "--format",
        default=outputs.DEFAULT,
        help=f"comma-separated, of {', '.join(outputs.OUTPUTS)}; default %(default)s",
    )
    flags = parser.parse_args(arguments)
    formats = outputs.parse(flags.format)
    if flags.max_people is not None and flags.max_people < 1:
        raise UserError(f"--max-people={flags.max_people} is not a number from 1 on")
    run, canvas = exports.read_export(flags.export)
    paths = find_inputs(flags.inputs)
    skipped: list[str] = []
    count = 0
    with tqdm(total=len(paths), unit="image", desc="predict") as bar:
        for batch in in_batches(read_inputs(paths, canvas, skipped), flags.batch):
            for item, people in predict_batch(run, batch, flags.batch, flags.min_score):
                people = people[: flags.max_people]
                write_outputs(flags.out, item, people, formats)
                count += len(people)
                bar.update()
    print(f"{count} people on {len(paths) - len(skipped)} images in {flags.out}")
    for fault in skipped:
        print(f"skipped {fault}", file=sys.stderr)
    if skipped:
        print(f"{len(skipped)} of {len(paths)} files could not be read", file=sys.stderr)
    return EXIT_SKIPPED if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
