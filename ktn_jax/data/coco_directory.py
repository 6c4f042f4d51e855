"""A COCO directory as it lies on disk: which files it has, and what its json says.

Splits are those whose json is there: minival alone is enough to evaluate. Nothing here
reads what is in the images or between an annotation's braces.
"""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktn_jax.errors import UserError

SPLITS = ("train", "valminusminival", "minival")
JSON_NAMES = ("densepose_{}2014.json", "densepose_coco_2014_{}.json")
LABELS = {  # whose annotations -> its splits, names of their json files
    "densepose": (SPLITS, JSON_NAMES),
    "person_keypoints": (("train", "val"), ("person_keypoints_{}2014.json",)),
}
JSON_FOLDERS = ("annotations", ".")
IMAGE_FOLDERS = ("train2014", "val2014", "images", ".")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LAYOUT = (
    "train2014/COCO_train2014_*.jpg, val2014/COCO_val2014_*.jpg and "
    "annotations/densepose_{train,valminusminival,minival}2014.json"
)
Record = dict[str, Any]  # a row of the data set, or an entry of the json


class DataError(UserError):
    """The COCO directory is not what it should be; the text names value and remedy."""


def find_jsons(root: Path, labels: str = "densepose") -> dict[str, Path]:
    """The annotation file of each split that has one; raises DataError if none has."""
    if not root.is_dir():
        raise DataError(f"no directory {root}: it must hold {LAYOUT}")
    splits, patterns = LABELS[labels]
    found = {}
    for split in splits:
        names = [pattern.format(split) for pattern in patterns]
        places = [root / folder / name for folder in JSON_FOLDERS for name in names]
        if path := next(filter(Path.is_file, places), None):
            found[split] = path
    if not found:
        names = [pattern.format(split) for split in splits for pattern in patterns]
        others = sorted(path.name for path in root.glob("annotations/*.json"))
        raise DataError(
            f"{root} and {root / 'annotations'} hold none of {', '.join(names)} "
            f"(annotations holds {others}); get one from the DensePose or the COCO site"
        )
    return found


def fingerprint(root: Path, jsons: dict[str, Path]) -> dict[str, Any]:
    """What tells one state of the directory from another, without reading contents."""
    state: dict[str, Any] = {}
    for split, path in jsons.items():
        state[split] = [path.name, path.stat().st_size, path.stat().st_mtime_ns]
    for folder in filter(lambda folder: (root / folder).is_dir(), IMAGE_FOLDERS):
        with os.scandir(root / folder) as entries:
            stats = [
                entry.stat()
                for entry in entries
                if entry.name.lower().endswith(IMAGE_SUFFIXES)
            ]
        newest = max((stat.st_mtime_ns for stat in stats), default=0)
        state[folder] = [len(stats), sum(stat.st_size for stat in stats), newest]
    return state


def read_json(
    path: Path, *, needs_surface: bool = True
) -> tuple[list[Record], dict[int, list[Record]]]:
    """The images of an annotation file, and the annotations by image id."""
    document = read_document(path)
    if needs_surface and not any("dp_x" in one for one in document["annotations"]):
        raise without_surface(path)
    annotations = defaultdict(list)
    for annotation in document["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return list({image["id"]: image for image in document["images"]}.values()), annotations


def read_document(path: Path) -> Record:
    """The whole of an annotation file; every image and annotation has what names it."""
    if not path.is_file():
        raise DataError(f"no file {path}; get {JSON_NAMES[0].format('*')}")
    try:
        document = json.loads(path.read_bytes())
        for image in document["images"]:
            _ = hash(image["id"]), image["file_name"], image["height"], image["width"]
        for annotation in document["annotations"]:
            hash(annotation["image_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a COCO annotation file ({error!r}); download it again"
        ) from error
    return document


def without_surface(path: Path | str) -> DataError:
    """The error for a json of plain COCO."""
    return DataError(
        f"{path} has no dp_x in any annotation: this is plain COCO; get "
        f"{JSON_NAMES[0].format('*')} from the DensePose site, or learn no surface "
        "(--config=configs/keypoints.py)"
    )


def find_images(root: Path, images: Sequence[Record]) -> list[Path]:
    """The file of every image; raises DataError if any is missing."""
    paths = [find_image(root, image["file_name"]) for image in images]
    missing = [
        image["file_name"]
        for image, path in zip(images, paths, strict=True)
        if path is None
    ]
    if missing:
        raise DataError(
            f"{root} lacks {summary(missing)} of {len(images)}; unpack the COCO 2014 "
            f"images so that there are {LAYOUT}"
        )
    return paths


def find_image(root: Path, file_name: str) -> Path | None:
    """The file of one image: in the folder that its name tells, or in any other."""
    named = [folder for folder in IMAGE_FOLDERS if f"_{folder}_" in file_name]
    places = (root / folder / file_name for folder in [*named, *IMAGE_FOLDERS])
    return next(filter(Path.is_file, places), None)


def summary(names: Sequence[str]) -> str:
    """How many images, and the first of them."""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} images ({', '.join(names[:3])}{more})"
