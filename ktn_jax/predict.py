"""Batch prediction from an export: python -m ktn_jax.predict EXPORT INPUTS... --out DIR.

INPUTS are files, folders (all pictures below), quoted globs, or @LIST. For every
photograph NAME (its path within the folder, without suffix) it writes
    NAME_iuv.png      full size; read by OpenCV its channels are I, 255 U, 255 V (so a
                      viewer that reads RGB sees R = V, G = U, B = I)
    NAME_overlay.png  charts, boxes and skeletons over the photograph
    NAME.json         the people in DensePose's challenge form, with keypoints and masks
or, with --format, what docs/formats.md describes. A file that cannot be read is reported
and skipped; then the exit status is 3. The same command again goes on where it stopped.

A video file, or camera:0 (which Ctrl-C ends), gives NAME_overlay.mp4, NAME.json with all
frames, and NAME/000001_iuv.png ...; people keep a number along it.
"""

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from ktn_jax import exports, files, inputs, streams, video
from ktn_jax.data.images import read_photograph
from ktn_jax.errors import EXIT_SKIPPED, UserError, one_line_errors
from ktn_jax.formats import outputs
from ktn_jax.predict_video import name_of, predict_video
from ktn_jax.predictor import MIN_SCORE, Item, Predictor
from ktn_jax.records import Prediction

SETTINGS = "ktn_jax.json"  # in DIR: what its results were made with
ACCELERATED_BATCH = 8  # images a call, where there is a GPU or TPU; else 1
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Photo(NamedTuple):
    """One photograph under way: the key of its Item."""

    input: inputs.Input
    image: np.ndarray  # [H, W, 3] u8


class Summary:
    """What became of the inputs."""

    def __init__(self) -> None:
        self.images = self.people = self.done_before = 0
        self.skipped: list[str] = []

    def skip(self, path: Path, fault: object) -> None:
        """Note a file that gave nothing. Names are escaped: they may be no text."""
        self.skipped.append(f"{ascii(str(path))[1:-1]}: {fault}")


def read_photos(
    found: Iterable[inputs.Input], model: Predictor, summary: Summary, threads: int
) -> Iterator[Item]:
    """Readable photographs on their canvases, in order, read ahead by threads."""

    def read(one: inputs.Input) -> Item | tuple[inputs.Input, str]:
        try:
            if not one.path.is_file():
                raise ValueError("is not a file")  # a pipe or device would never end
            image = read_photograph(one.path.read_bytes())
        except (OSError, ValueError) as error:
            return one, getattr(error, "strerror", None) or str(error)
        return model.prepare(Photo(one, image), image)

    with ThreadPoolExecutor(threads) as pool:
        for item in streams.ordered(pool, read, found, ahead=2 * threads):
            if isinstance(item, Item):
                yield item
            else:
                summary.skip(item[0].path, item[1])


def write_outputs(
    out: Path, photo: Photo, people: Sequence[Prediction], formats: Sequence[str]
) -> None:
    """One photograph's files. formats: names of outputs.OUTPUTS."""
    name = photo.input.name
    scene = outputs.Scene(name, str(photo.input.path), photo.image, people)
    for kind in formats:
        ending, encode = outputs.OUTPUTS[kind]
        files.write_bytes(out / f"{name}{ending}", encode(scene))


def predict_all(
    model: Predictor,
    found: Sequence[inputs.Input],
    out: Path,
    formats: Sequence[str],
    *,
    threads: int,
    watch: Callable[[Sequence[inputs.Input]], Iterable[inputs.Input]] = iter,
) -> Summary:
    """Find people on all inputs and write their files, a bounded number at a time.

    threads: that read, and as many that write.   watch: is given the inputs and yields
    them as they are drawn.
    """
    summary = Summary()
    left = [one for one in found if not is_done(one, out, formats)]
    summary.done_before = len(found) - len(left)
    photos = read_photos(watch(left), model, summary, threads)

    def write(one: tuple[Photo, list[Prediction]]) -> tuple[Photo, int, OSError | None]:
        photo, people = one
        try:
            write_outputs(out, photo, people, formats)
        except OSError as error:
            return photo, 0, error
        return photo, len(people), None

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(left), unit="image", desc="predict", disable=not left) as bar,
    ):
        written = streams.ordered(pool, write, model.stream(photos), ahead=2 * threads)
        for photo, people, fault in written:
            if fault is None:
                summary.images += 1
                summary.people += people
            elif fault.errno in _FATAL:
                raise UserError(f"cannot write to {out}: {fault.strerror}; make room there")
            else:
                summary.skip(photo.input.path, fault.strerror)
            bar.update(summary.images + len(summary.skipped) - bar.n)
    return summary


def predict_videos(
    export: exports.Export,
    films: Iterable[inputs.Input],
    out: Path,
    summary: Summary,
    **settings: Any,
) -> None:
    """Follow people along videos, one after the other. settings: of predict_video."""
    for film in films:
        try:
            seen = predict_video(export, str(film.path), out, name=film.name, **settings)
        except UserError as error:
            summary.skip(film.path, error)
            continue
        summary.images += seen.frames
        summary.people += seen.tracks
        for fault in seen.faults:
            summary.skip(film.path, f"damaged, the rest was kept: {fault}")


def is_done(one: inputs.Input, out: Path, formats: Iterable[str]) -> bool:
    """Whether all files of an input are there and none is older than the input."""
    try:
        since = one.path.stat().st_mtime
        paths = (out / f"{one.name}{outputs.OUTPUTS[kind].ending}" for kind in formats)
        return all(path.stat().st_mtime >= since for path in paths)
    except OSError:
        return False


def check_settings(out: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse to mix results of different settings in one folder; note these settings."""
    path = out / SETTINGS
    try:
        before = json.loads(path.read_text()) if path.is_file() else settings
    except ValueError:
        before = {}
    differing = [name for name in settings if before.get(name) != settings[name]]
    if differing and not overwrite:
        raise UserError(
            f"{out} holds results made with another {', '.join(differing)}; give another "
            "--out, or --overwrite to make all anew"
        )
    try:
        files.write_bytes(path, json.dumps(settings, indent=2).encode())
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None


def command_line() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="python -m ktn_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("export", help="folder of an export")
    add("inputs", nargs="+", help="files, folders, quoted globs, @LIST")
    add("--out", required=True, type=Path, help="folder to write")
    add("--batch", type=int, help="images a call; default 1 on CPUs, else 8")
    add("--canvas", type=int, help="longer side in pixels; default the export's")
    which = "once, with the mirror image, on three canvases; default the export's"
    add("--test-time", choices=exports.TEST_TIMES, help=which)
    add("--min-score", type=float, default=MIN_SCORE, help="people below are left out")
    add("--max-people", type=int, help="the best of an image; else all")
    add(
        "--shard", default="0/1", help="i/n: only the i-th of n parts of the inputs, from 0"
    )
    add("--threads", type=int, default=2, help="that read, and that write")
    add("--overwrite", action="store_true", help="make anew what is there already")
    add("--smooth", action="store_true", help="videos: steady maps and keypoints over time")
    add("--pictures", action="store_true", help="videos: pictures in place of mp4 files")
    add("--frames", type=int, help="videos: the first so many")
    known = f"comma-separated, of {', '.join(outputs.OUTPUTS)}; default %(default)s"
    add("--format", default=outputs.DEFAULT, help=known)
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    flags = command_line().parse_args(arguments)
    formats = outputs.parse(flags.format)
    for name in ("threads", "batch", "max_people", "frames"):
        value = getattr(flags, name)
        if value is not None and value < 1:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag}={value} is not a number from 1 on")
    shard = inputs.parse_shard(flags.shard)
    batch = flags.batch
    if batch is None:
        batch = 1 if jax.default_backend() == "cpu" else ACCELERATED_BATCH
    export = exports.read_export(
        flags.export, canvas=flags.canvas, test_time=flags.test_time
    )
    model = Predictor(
        export, min_score=flags.min_score, max_people=flags.max_people, batch=batch
    )
    endings = [outputs.OUTPUTS[name].ending for name in formats]
    found = find(flags.inputs, endings, flags.out)[shard.index :: shard.count]
    films = [one for one in found if video.is_video(str(one.path))]
    photos = [one for one in found if one not in films]
    settings = {
        "weights": export.checksum,
        "canvas": export.canvas,
        "test_time": export.test_time,
        "min_score": flags.min_score,
        "max_people": flags.max_people,
    }
    check_settings(flags.out, settings, overwrite=flags.overwrite)
    if flags.overwrite:
        clear(photos, flags.out, endings)
    start = time.monotonic()
    summary = predict_all(model, photos, flags.out, formats, threads=flags.threads)
    predict_videos(
        export,
        films,
        flags.out,
        summary,
        formats=formats,
        min_score=flags.min_score,
        max_people=flags.max_people,
        batch=batch,
        smooth=flags.smooth,
        pictures=flags.pictures,
        limit=flags.frames,
    )
    return report(summary, flags.out, len(found), time.monotonic() - start)


def find(given: Sequence[str], endings: Sequence[str], out: Path) -> list[inputs.Input]:
    """Files as inputs.find_inputs has them, and cameras."""
    cameras = [text for text in given if video.CAMERA.fullmatch(text)]
    others = [text for text in given if text not in cameras]
    found = inputs.find_inputs(others, endings, out=out) if others else []
    return found + [inputs.Input(Path(text), name_of(text)) for text in cameras]


def clear(found: Iterable[inputs.Input], out: Path, endings: Sequence[str]) -> None:
    """Remove the outputs that these inputs have already."""
    for one in found:
        for ending in endings:
            try:
                os.unlink(out / f"{one.name}{ending}")
            except OSError:
                continue  # mostly: not there


def report(summary: Summary, out: Path, count: int, seconds: float) -> int:
    """Say what was done; the exit status."""
    rate = summary.images / max(seconds, 1e-9)
    print(
        f"{summary.people} people on {summary.images} images in {out} "
        f"({seconds:.1f} s, {rate:.2f} images/s)"
    )
    if summary.done_before:
        print(f"{summary.done_before} were done before; --overwrite makes them anew")
    for fault in summary.skipped:
        print(f"skipped {fault}", file=sys.stderr)
    if not summary.skipped:
        return 0
    print(f"{len(summary.skipped)} of {count} files could not be read", file=sys.stderr)
    return EXIT_SKIPPED


if __name__ == "__main__":
    sys.exit(main())
