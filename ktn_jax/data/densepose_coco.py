"""DensePose-COCO as a TFDS data set, built once from a COCO directory; no TensorFlow.

A record is one image: its jpeg bytes as they lie on disk and its annotations as the
json's own text, so that nothing is lost or converted twice. Check and build it by hand
with `python -m ktn_jax.data.prepare DIR`, or let `build` do it on first use.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tqdm import tqdm

from ktn_jax.data import builds, shards
from ktn_jax.data.coco_directory import (
    LABELS,
    LAYOUT,
    DataError,
    Record,
    find_images,
    find_jsons,
    fingerprint,
    read_json,
    summary,
    without_surface,
)
from ktn_jax.data.images import image_fault
from ktn_jax.errors import UserError

SHARD_IMAGES = 1000  # how much a build that is killed loses at most; 160 MB of COCO


class DensePoseCoco(FileReaderBuilder):
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

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        """TFDS's hook: write all splits, and go on where a build was killed."""
        root = Path(dl_manager.manual_dir)
        jsons = find_jsons(root, self.builder_config.name)
        self.info.metadata["fingerprint"] = state = fingerprint(root, jsons)
        folder = Path(self.data_path)  # TFDS's own, to be renamed when all is well
        stage = folder.parent / f".{self.version}.shards"
        shards.open_stage(stage, state | {"shard": SHARD_IMAGES})
        splits = [self._write_split(stage, root, *split) for split in jsons.items()]
        shards.publish(stage, folder)
        self.info.set_splits(tfds.core.SplitDict(splits))

    def _write_split(
        self, stage: Path, root: Path, split: str, json_path: Path
    ) -> tfds.core.SplitInfo:
        """Write the shards of a split that are not there yet, and sum them all up."""
        images, annotations = read_json(json_path, needs_surface=self.needs_surface)
        paths = find_images(root, images)
        starts = range(0, len(images), SHARD_IMAGES)
        counts = {"images": 0, "people": 0, "people_with_points": 0}
        skipped, with_people, lengths, size = [], [], [], 0
        bar = tqdm(
            total=len(images), desc=split, unit="image", disable=not self.shows_progress
        )
        for number, start in enumerate(starts):
            name = f"{self.name}-{split}.array_record-{number:05d}-of-{len(starts):05d}"
            shard, part = stage / name, slice(start, start + SHARD_IMAGES)
            note = shards.read_note(shard)
            if note is None:
                note = self._write_shard(shard, images[part], paths[part], annotations, bar)
            else:
                bar.update(len(images[part]))
            with_people += [counts["images"] + row for row in note["with_people"]]
            skipped += note["skipped"]
            lengths.append(note["images"])
            size += shard.stat().st_size
            for key in counts:
                counts[key] += note[key]
        bar.close()
        if not counts["images"]:
            raise DataError(f"{json_path}: not one of its {len(images)} images is whole")
        self.info.metadata["counts"][split] = counts
        self.info.metadata["skipped"][split] = skipped
        self.info.metadata["with_people"][split] = with_people
        return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size)

    def _write_shard(
        self,
        shard: Path,
        images: Sequence[Record],
        paths: Sequence[Path],
        annotations: Mapping[int, list[Record]],
        bar: tqdm,
    ) -> shards.Note:
        """Write one shard; what is noted of it."""
        note = {"images": 0, "people": 0, "people_with_points": 0}
        note |= {"skipped": [], "with_people": []}

        def records() -> Iterator[bytes]:
            for image, path in zip(images, paths, strict=True):
                bar.update()
                data = path.read_bytes()
                if reason := image_fault(data, (image["height"], image["width"])):
                    note["skipped"].append(f"{image['file_name']}: {reason}")
                    continue
                people = annotations[image["id"]]
                if any(not person.get("iscrowd") for person in people):
                    note["with_people"].append(note["images"])
                note["images"] += 1
                note["people"] += len(people)
                note["people_with_points"] += sum("dp_x" in person for person in people)
                yield self.info.features.serialize_example(_record(image, data, people))

        shards.write_shard(shard, records())
        shards.write_note(shard, note)
        return note


def build(
    root: str | os.PathLike,
    *,
    labels: str = "densepose",
    needs_surface: bool = True,
    data_dir: str | os.PathLike | None = None,
    progress: bool = False,
) -> DensePoseCoco:
    """The data set of a COCO directory, built on the first call and reused afterwards.

    root: holds the images and the json files, or is a built data set's data_dir, which
    may be a bucket's gs://.   labels: of LABELS, whose annotations.   needs_surface: a
    json without any surface point is an error.   data_dir: where the built files go,
    root/tfds by default.   progress: shows a bar for every split.
    A change of any json or image since the last build builds anew; a build that was
    interrupted goes on; processes of one machine wait for the one that builds.
    Raises DataError if root is not such a directory. Unreadable images are left out and
    summed up in a warning.
    """
    if labels not in LABELS:
        raise UserError(f"data.labels={labels!r} is not one of {tuple(LABELS)}")
    if data_dir is None and (
        builds.is_remote(root) or builds.is_whole(folder_of(root, labels))
    ):
        return _checked(open_built(root, labels), needs_surface, {})
    root = Path(root).expanduser().resolve()
    jsons = find_jsons(root, labels)
    data_dir = root / "tfds" if data_dir is None else Path(data_dir).expanduser()
    folder = folder_of(data_dir, labels)

    def ready() -> DensePoseCoco | None:
        """The builder, if its data is whole and of the root as it is now."""
        if not builds.is_whole(folder):
            return None
        builder = open_built(data_dir, labels)
        same = builder.info.metadata.get("fingerprint") == fingerprint(root, jsons)
        return builder if same else None

    builder = ready()
    if not builder:
        with _writing(data_dir), builds.alone(folder):
            builder = ready()  # another process may have built it meanwhile
            if not builder:
                builds.clear(folder)
                builder = _builder(data_dir, labels)
                builder.shows_progress, builder.needs_surface = progress, needs_surface
                _run(builder, root, data_dir)
                builds.mark_whole(folder)
    return _checked(builder, needs_surface, jsons)


def open_built(data_dir: str | os.PathLike, labels: str = "densepose") -> DensePoseCoco:
    """A data set that was built before; data_dir may be a bucket's gs://.

    Raises DataError where there is none, or not all of it.
    """
    if not builds.is_whole(folder_of(data_dir, labels)):
        raise DataError(
            f"{data_dir} holds no whole data set {DensePoseCoco.name}/{labels}; build it "
            f"with `python -m ktn_jax.data.prepare ROOT --data-dir={data_dir}`"
        )
    if builds.is_remote(data_dir) and not os.fspath(data_dir).startswith("gs://"):
        raise DataError(
            f"{data_dir} cannot be read in place; copy it to a disk, or to gs://"
        )
    return _builder(data_dir, labels)


def folder_of(data_dir: str | os.PathLike, labels: str) -> epath.Path:
    """Where the files of a built data set lie in its data_dir."""
    place = epath.Path(data_dir).expanduser()
    return place / DensePoseCoco.name / labels / str(DensePoseCoco.VERSION)


def _builder(data_dir: str | os.PathLike, labels: str) -> DensePoseCoco:
    """TFDS's builder, which reads what its data_dir holds."""
    place = epath.Path(data_dir).expanduser()
    return DensePoseCoco(config=labels, data_dir=place, file_format="array_record")


@contextlib.contextmanager
def _writing(data_dir: Path) -> Iterator[None]:
    """A full or read-only disk as a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the data set cannot be built in {data_dir} ({error}); make room, or give "
            "another folder: `python -m ktn_jax.data.prepare ROOT --data-dir=DIR`, "
            "then --data.root=DIR"
        ) from error


def _run(builder: DensePoseCoco, root: Path, data_dir: Path) -> None:
    """Write the data set, and warn of what was left out."""
    tfds.disable_progress_bar()  # its own does not know how many images there are
    config = tfds.download.DownloadConfig(manual_dir=root, try_download_gcs=False)
    builder.download_and_prepare(download_config=config, download_dir=data_dir)
    for split, names in builder.info.metadata["skipped"].items():
        if names:
            logging.warning("%s: left out %s", split, summary(names))


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


def _checked(
    builder: DensePoseCoco, needs_surface: bool, jsons: dict[str, Path]
) -> DensePoseCoco:
    """A builder whose data a run with less need may have built."""
    for split, counts in builder.info.metadata["counts"].items():
        if needs_surface and not counts["people_with_points"]:
            raise without_surface(jsons.get(split, builder.data_path / split))
    return builder


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
