"""DensePose-COCO as a TFDS data set, built once from a COCO directory; no TensorFlow.

A record is one image: its jpeg bytes as they lie on disk and its annotations as the
json's own text, so that nothing is lost or converted twice. Build it by hand with
`python -m ktn_jax.data.densepose_coco --root DIR`, or let `build` do it on first use.
"""

import argparse
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from ktn_jax.data.images import image_fault
from ktn_jax.errors import EXIT_SKIPPED, UserError, one_line_errors

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
Record = dict[str, Any]  # a row of the data set: the keys of DensePoseCoco's features


class DataError(UserError):
    """The COCO directory is not what it should be; the text names value and remedy."""


class DensePoseCoco(tfds.core.GeneratorBasedBuilder):
    """DensePose-COCO 2014, or COCO's keypoints; only splits whose json is there are built.

    info.metadata: fingerprint of what was read; for each split counts, the names of
    skipped images, and the rows that show at least one person who is not a crowd.
    """

    name = "densepose_coco"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The directory must hold {LAYOUT}"
    # TFDS would look for checksums of downloads beside this file, by way of a package
    # that it does not install; nothing is downloaded here.
    code_path = None
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=labels) for labels in LABELS]  # noqa: RUF012
    shows_progress = False  # a bar for every split
    needs_surface = True  # whether a json without surface points is refused

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images of people with surface points, part masks, keypoints.",
            homepage="http://densepose.org",
            features=tfds.features.FeaturesDict(
                {
                    "image_id": np.int64,
                    "file_name": tfds.features.Text(),
                    "height": np.int64,
                    "width": np.int64,
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    # One text, since ragged lists in lists need TensorFlow to store.
                    "annotations": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,  # readers shuffle; rows keep the json's order
            metadata=tfds.core.MetadataDict(counts={}, skipped={}, with_people={}),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, Record]]]:
        root = Path(dl_manager.manual_dir)
        jsons = find_jsons(root, self.builder_config.name)
        self.info.metadata["fingerprint"] = fingerprint(root, jsons)
        return {
            split: self._generate_examples(root, path, split)
            for split, path in jsons.items()
        }

    def _generate_examples(
        self, root: Path, json_path: Path, split: str
    ) -> Iterator[tuple[int, Record]]:
        images, annotations = read_json(json_path, needs_surface=self.needs_surface)
        paths = _find_images(root, images)
        skipped, with_people = [], []
        counts = {"images": 0, "people": 0, "people_with_points": 0}
        bar = tqdm(images, desc=split, unit="image", disable=not self.shows_progress)
        for image, path in zip(bar, paths, strict=True):
            data = path.read_bytes()
            if reason := image_fault(data, (image["height"], image["width"])):
                skipped.append(f"{image['file_name']}: {reason}")
                continue
            people = annotations[image["id"]]
            row = counts["images"]
            if any(not person.get("iscrowd") for person in people):
                with_people.append(row)
            counts["images"] += 1
            counts["people"] += len(people)
            counts["people_with_points"] += sum("dp_x" in person for person in people)
            yield row, _record(image, data, people)
        if not counts["images"]:
            raise DataError(f"{json_path}: not one of its {len(images)} images is whole")
        self.info.metadata["counts"][split] = counts
        self.info.metadata["skipped"][split] = skipped
        self.info.metadata["with_people"][split] = with_people


def build(
    root: str | os.PathLike,
    *,
    labels: str = "densepose",
    needs_surface: bool = True,
    data_dir: str | os.PathLike | None = None,
    progress: bool = False,
) -> DensePoseCoco:
    """The data set of a COCO directory, built on the first call and reused afterwards.

    root: holds the images and the json files.   labels: of LABELS, whose annotations.
    needs_surface: a json without any surface point is an error.   data_dir: where the
    built files go, root/tfds by default.   progress: shows a bar for every split.
    A change of any json or image since the last build builds anew. Raises DataError if
    root is not such a directory. Unreadable images are left out and summed up in a
    warning. Where several processes share root, let one of them build first.
    """
    root = Path(root).expanduser().resolve()
    jsons = find_jsons(root, labels)
    data_dir = root / "tfds" if data_dir is None else Path(data_dir).expanduser()
    options = {"config": labels, "data_dir": data_dir, "file_format": "array_record"}
    builder = DensePoseCoco(**options)
    if builder.data_path.exists():
        if builder.info.metadata.get("fingerprint") == fingerprint(root, jsons):
            return _checked(builder, jsons, needs_surface)
        logging.info("%s has changed: building it anew", root)
        shutil.rmtree(builder.data_path)
        builder = DensePoseCoco(**options)
    builder.shows_progress, builder.needs_surface = progress, needs_surface
    tfds.disable_progress_bar()  # its own does not know how many images there are
    config = tfds.download.DownloadConfig(manual_dir=root, try_download_gcs=False)
    builder.download_and_prepare(download_config=config, download_dir=data_dir)
    for split, names in builder.info.metadata["skipped"].items():
        if names:
            logging.warning("%s: left out %s", split, _summary(names))
    return builder


def open_split(
    builder: DensePoseCoco, split: str, *, with_people: bool = False
) -> Sequence[Record]:
    """The records of a split, read on access; the image stays encoded.

    split: a name of SPLITS, or several joined by "+".   with_people: leaves out images
    that show nobody but crowds, which teach nothing.
    """
    names, metadata = split.split("+"), builder.info.metadata
    for name in names:
        if name not in metadata["counts"]:
            _, jsons = LABELS[builder.builder_config.name]
            raise DataError(
                f"split {name!r} is not built (there are {sorted(metadata['counts'])}): "
                f"put {jsons[0].format(name)} into the annotations folder"
            )
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    if not with_people:
        return source
    rows, start = [], 0
    for name in names:
        rows += [start + row for row in metadata["with_people"][name]]
        start += metadata["counts"][name]["images"]
    return Rows(source, rows)


class Rows(Sequence[Record]):
    """Some rows of a data source, as a data source."""

    def __init__(self, source: Sequence[Record], rows: Sequence[int]) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._rows[index]]


def find_jsons(root: Path, labels: str = "densepose") -> dict[str, Path]:
    """The annotation file of each split that has one; raises DataError if none has."""
    if labels not in LABELS:
        raise UserError(f"data.labels={labels!r} is not one of {tuple(LABELS)}")
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
    if not path.is_file():
        raise DataError(f"no file {path}; get {JSON_NAMES[0].format('*')}")
    try:
        document = json.loads(path.read_bytes())
        images = {image["id"]: image for image in document["images"]}
        for image in images.values():
            _ = image["file_name"], image["height"], image["width"]
        annotations = defaultdict(list)
        for annotation in document["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a COCO annotation file ({error!r}); download it again"
        ) from error
    if needs_surface and not any("dp_x" in one for one in document["annotations"]):
        raise _without_surface(path)
    return list(images.values()), annotations


def _checked(
    builder: DensePoseCoco, jsons: dict[str, Path], needs_surface: bool
) -> DensePoseCoco:
    """A builder whose data a run with less need may have built."""
    for split, counts in builder.info.metadata["counts"].items():
        if needs_surface and not counts["people_with_points"]:
            raise _without_surface(jsons[split])
    return builder


def _without_surface(path: Path) -> DataError:
    return DataError(
        f"{path} has no dp_x in any annotation: this is plain COCO; get "
        f"{JSON_NAMES[0].format('*')} from the DensePose site, or learn no surface "
        "(--config=configs/keypoints.py)"
    )


def _find_images(root: Path, images: Sequence[Record]) -> list[Path]:
    """The file of every image; raises DataError if any is missing."""
    paths = [_find_image(root, image["file_name"]) for image in images]
    missing = [
        image["file_name"]
        for image, path in zip(images, paths, strict=True)
        if path is None
    ]
    if missing:
        raise DataError(
            f"{root} lacks {_summary(missing)} of {len(images)}; unpack the COCO 2014 "
            f"images so that there are {LAYOUT}"
        )
    return paths


def _find_image(root: Path, file_name: str) -> Path | None:
    """The file of one image: in the folder that its name tells, or in any other."""
    named = [folder for folder in IMAGE_FOLDERS if f"_{folder}_" in file_name]
    places = (root / folder / file_name for folder in [*named, *IMAGE_FOLDERS])
    return next(filter(Path.is_file, places), None)


def _record(image: Record, data: bytes, people: list[Record]) -> Record:
    """One row. image: the json's entry.   data: the encoded image."""
    return {
        "image_id": image["id"],
        "file_name": image["file_name"],
        "height": image["height"],
        "width": image["width"],
        "image": data,
        "annotations": json.dumps(people),
    }


def _summary(names: Sequence[str]) -> str:
    """How many images, and the first of them."""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} images ({', '.join(names[:3])}{more})"


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Builds from the command line; the exit status tells if images were left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help=f"directory that holds {LAYOUT}")
    parser.add_argument("--data_dir", help="where to build; ROOT/tfds by default")
    parser.add_argument("--labels", choices=LABELS, default="densepose", help="whose json")
    options = parser.parse_args(arguments)
    metadata = build(
        options.root,
        labels=options.labels,
        needs_surface=options.labels == "densepose",
        data_dir=options.data_dir,
        progress=True,
    ).info.metadata
    for split, counts in metadata["counts"].items():
        print(f"{split}: " + ", ".join(f"{key} {n}" for key, n in counts.items()))
    skipped = [name for names in metadata["skipped"].values() for name in names]
    if not skipped:
        return 0
    print(f"left out {_summary(skipped)}", file=sys.stderr)
    return EXIT_SKIPPED


if __name__ == "__main__":
    sys.exit(main())
