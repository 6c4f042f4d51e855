"""Check a COCO + DensePose directory, build its TFDS: python -m ktn_jax.data.prepare DIR.

The minival json and its images are enough to evaluate. What is missing is told with the
place where people get it. A build or a copy to a bucket that was interrupted goes on.
Exit status: 0 all well, 2 faults and nothing built, 3 built, but something is odd or some
images were left out.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ktn_jax.data import builds, checks, densepose_coco
from ktn_jax.data.coco_directory import (
    LABELS,
    LAYOUT,
    SPLITS,
    DataError,
    find_jsons,
    summary,
)
from ktn_jax.errors import EXIT_SKIPPED, EXIT_USER_ERROR, one_line_errors

WITHOUT = {  # split -> what cannot be done without it
    "train": "there is nothing to train on but valminusminival",
    "valminusminival": "18 % of the official training images are missing",
    "minival": "there is nothing to evaluate on",
}
WHERE_IMAGES = """\
images       COCO 2014, cocodataset.org/#download (a licence for each photograph):
             http://images.cocodataset.org/zips/train2014.zip (13 GB), val2014.zip (6 GB)"""
WHERE_LABELS = {
    "densepose": """\
annotations  DensePose-COCO, densepose.org (CC BY-NC: no commercial use); at
             https://dl.fbaipublicfiles.com/densepose/annotations/coco/: {}""",
    "person_keypoints": """\
annotations  COCO keypoints, cocodataset.org/#download (CC BY 4.0); in
             http://images.cocodataset.org/annotations/annotations_trainval2014.zip: {}""",
}


def where_to_get(labels: str, splits: Sequence[str]) -> str:
    """From whom people get the images and some splits' json files."""
    name = LABELS[labels][1][0]
    files = ", ".join(name.format(split) for split in splits)
    return f"{WHERE_IMAGES}\n{WHERE_LABELS[labels].format(files)}"


def prepare(options: argparse.Namespace) -> int:
    """Check, report, build; the exit status."""
    root = Path(options.root).expanduser().resolve()
    try:
        jsons = find_jsons(root, options.labels)
    except DataError:
        print(where_to_get(options.labels, LABELS[options.labels][0]), file=sys.stderr)
        raise
    report = checks.check_directory(
        root,
        jsons,
        official=options.labels == "densepose" and not options.own,
        needs_surface=options.labels == "densepose",
        sample=options.sample,
        progress=True,
    )
    tell(report, options.labels, jsons, own=options.own)
    if faults := report.number("fault"):
        print(f"error: {faults} faults in {root}; nothing was built", file=sys.stderr)
        return EXIT_USER_ERROR
    left_out = 0 if options.check else build(root, options)
    odd = report.number("odd")
    if not odd and not left_out:
        print(f"{root} is sound")
        return 0
    print(f"{root}: {odd} odd things, {left_out} images left out", file=sys.stderr)
    return EXIT_SKIPPED


def tell(report: checks.Report, labels: str, jsons: dict[str, Path], *, own: bool) -> None:
    """Print what is there, what was found, and what is missing."""
    for split, (images, people) in report.totals.items():
        print(f"{split}: {images} images, {people} people with points")
    for line in report.lines():
        print(line)
    missing = [split for split in LABELS[labels][0] if split not in jsons]
    if own or not (missing or report.number("fault")):
        return
    for split in missing:
        print(f"no {split}" + (f": {WITHOUT[split]}" if split in SPLITS else ""))
    print(f"the directory should hold {LAYOUT}")
    print(where_to_get(labels, missing or list(jsons)))


def build(root: Path, options: argparse.Namespace) -> int:
    """Build the data set, copy it to a bucket if one is named; count images left out."""
    remote = options.data_dir is not None and builds.is_remote(options.data_dir)
    built = densepose_coco.build(
        root,
        labels=options.labels,
        needs_surface=options.labels == "densepose",
        data_dir=None if remote else options.data_dir,
        progress=True,
    )
    metadata, place = built.info.metadata, built.data_path
    if remote:
        place = densepose_coco.folder_of(options.data_dir, options.labels)
        builds.publish(built.data_path, place, progress=True)
    for split, counts in metadata["counts"].items():
        print(f"{split}: " + ", ".join(f"{key} {n}" for key, n in counts.items()))
    print(f"built in {os.fspath(place)}")
    skipped = [name for names in metadata["skipped"].values() for name in names]
    if skipped:
        print(f"left out {summary(skipped)}", file=sys.stderr)
    return len(skipped)


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ktn_jax.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", help=f"directory that holds {LAYOUT}")
    parser.add_argument(
        "--data-dir",
        help="where to build, also gs://BUCKET/DIR (train.py reads it by --data.root); "
        "ROOT/tfds by default",
    )
    parser.add_argument("--labels", choices=LABELS, default="densepose", help="whose json")
    parser.add_argument("--check", action="store_true", help="build nothing")
    parser.add_argument(
        "--sample", type=int, default=200, help="images of a split that the check reads"
    )
    parser.add_argument(
        "--own", action="store_true", help="no official set: counts may be any"
    )
    return prepare(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
