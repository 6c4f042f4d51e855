"""Rendered people as a DensePose-COCO data set: json and jpegs, exact labels.

    python -m ktn_jax.data.people --out DIR --train 400 --val 60 --size 256

Scene i of a split depends on (seed, split, i) and on the photographs given, no more.
Labels are exact. Photographs must show no people: see photographs.
"""

import argparse
import collections
import functools
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ktn_jax import anatomy
from ktn_jax.data.labelling import Json, annotate
from ktn_jax.data.photographs import NO_PHOTOS, Photographs, find_pictures
from ktn_jax.data.scenes import Picture, Scene, render_scene, sample_scene
from ktn_jax.errors import UserError, one_line_errors

SPLITS = {  # split -> (folder and file name stem, json's name)
    "train": ("train2014", "densepose_train2014.json"),
    "val": ("val2014", "densepose_minival2014.json"),
}
_FIRST_ID = {"train": 1, "val": 500_001}  # image ids; unique over splits


def render_dataset(
    out: str | Path,
    *,
    train: int,
    val: int,
    size: int = 256,
    seed: int = 0,
    variety: float = 1.0,
    processes: int = 1,
    first: int = 0,
    photos: Sequence[str | Path] = (),
    cutouts: Sequence[str | Path] = (),
) -> Json:
    """Counts of what was written under `out`; the same for any number of processes.

    train, val: numbers of images.   size: of the square images, pixels.
    variety: 0..1, see sample_scene.   first: index of the first training scene; where
    it is not 0, images that `out` already has stay, so that shards join.
    photos, cutouts: folders, see photographs.
    """
    out = Path(out)
    _check_numbers(train, val, size, processes, variety, first)
    pictures = Photographs(find_pictures(photos), find_pictures(cutouts))
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    counts: collections.Counter = collections.Counter()
    for split, indices in (("train", range(first, first + train)), ("val", range(val))):
        if not indices:  # a json without annotations would be refused as plain COCO
            continue
        folder, name = SPLITS[split]
        (out / folder).mkdir(exist_ok=True)
        write = functools.partial(_write_scene, out, split, size, seed, variety, pictures)
        entries = list(
            tqdm(
                _map(write, indices, processes),
                total=len(indices),
                desc=split,
                mininterval=1,
            )
        )
        images = [image for image, _ in entries]
        annotations = [a for _, some in entries for a in some]
        counts += _count(annotations, len(images))
        path = out / "annotations" / name
        if first and path.exists():
            images, annotations = _join(path, images, annotations)
        _write_json(path, images, annotations)
    return dict(counts)


def make_scene(
    seed: int,
    split: str,
    index: int,
    size: int,
    variety: float = 1.0,
    photos: Photographs = NO_PHOTOS,
) -> tuple[Scene, Picture]:
    """Scene `index` of a split, and its picture."""
    rng = _generator(seed, split, index)
    scene = sample_scene(rng, size, variety, photos)
    return scene, render_scene(scene, rng)


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The dice of one scene."""
    return np.random.default_rng([seed, list(SPLITS).index(split), index])


def _check_numbers(
    train: int, val: int, size: int, processes: int, variety: float, first: int
) -> None:
    """Raises unless render_dataset's numbers make sense."""
    if min(train, val) < 0 or size < 32 or processes < 1 or not 0 <= variety <= 1:
        raise UserError(
            f"cannot render train={train}, val={val}, size={size}, processes={processes}, "
            f"variety={variety}; counts must be >= 0, size >= 32, processes >= 1, "
            "variety in 0..1"
        )
    most = _FIRST_ID["val"] - _FIRST_ID["train"]
    if first < 0 or first + train > most:
        raise UserError(
            f"cannot render training scenes {first}..{first + train - 1}; the first must "
            f"be >= 0 and the last < {most}; use another seed for more"
        )


def _map(
    write: functools.partial, indices: range, processes: int
) -> Iterator[tuple[Json, list[Json]]]:
    """Results of write at each of the indices, in order."""
    if processes == 1:
        yield from map(write, indices)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield from pool.map(write, indices, chunksize=4)


def _join(
    path: Path, images: list[Json], annotations: list[Json]
) -> tuple[list[Json], list[Json]]:
    """The entries of a json with new ones in place of those of the same images."""
    old = json.loads(path.read_text())
    new = {image["id"] for image in images}
    images = images + [i for i in old["images"] if i["id"] not in new]
    annotations = annotations + [a for a in old["annotations"] if a["image_id"] not in new]
    return (
        sorted(images, key=lambda image: image["id"]),
        sorted(annotations, key=lambda annotation: annotation["id"]),
    )


def _write_scene(
    out: Path,
    split: str,
    size: int,
    seed: int,
    variety: float,
    photos: Photographs,
    index: int,
) -> tuple[Json, list[Json]]:
    """Writes one jpeg; returns its image entry and its annotations."""
    scene, picture = make_scene(seed, split, index, size, variety, photos)
    # annotators have dice of their own: how much noise a picture drew is not theirs
    rng = np.random.default_rng([seed, list(SPLITS).index(split), index, 1])
    image_id = _FIRST_ID[split] + index
    folder, _ = SPLITS[split]
    name = f"COCO_{folder}_{image_id:012d}.jpg"
    quality = int(rng.integers(80, 96))
    Image.fromarray(picture.image).save(out / folder / name, quality=quality)
    entry = {
        "id": image_id,
        "width": size,
        "height": size,
        "file_name": name,
        "coco_url": "",
        "flickr_url": "",
        "license": 1,
        "date_captured": "2014-01-01 00:00:00",
    }
    return entry, annotate(scene, picture, rng, image_id)


def _count(annotations: list[Json], images: int) -> collections.Counter:
    """How much there is of what."""
    return collections.Counter(
        images=images,
        people=sum(not a["iscrowd"] for a in annotations),
        crowds=sum(a["iscrowd"] for a in annotations),
        with_points=sum("dp_x" in a for a in annotations),
        points=sum(len(a.get("dp_x", ())) for a in annotations),
        keypoints=sum(a["num_keypoints"] for a in annotations),
    )


def _write_json(path: Path, images: list[Json], annotations: list[Json]) -> None:
    """The data set's json, whole or not at all."""
    person = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(anatomy.KEYPOINTS),
        "skeleton": [list(limb) for limb in anatomy.SKELETON],
    }
    data = {
        "info": {"description": "rendered people", "version": "1.0", "year": 2014},
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [person],
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data))
    os.replace(partial, path)


@one_line_errors
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder of the data set")
    parser.add_argument("--train", type=int, default=400, help="training images")
    parser.add_argument("--val", type=int, default=60, help="validation images")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--variety",
        type=float,
        default=1.0,
        help="0..1: how far scenes stray from the plain",
    )
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="index of the first training scene; shards of one seed join in one --out",
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders of photographs (jpg, png, webp; searched through) to stand people "
        "in and to cut cloth from. They must show nobody, no parts of people, no statues "
        "or dolls: whatever they show is labelled as not a person. A file exclude.txt in "
        "a folder names files to leave out, one name or glob a line",
    )
    parser.add_argument(
        "--cutouts",
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders of things cut out (png or webp with alpha), under the same rule",
    )
    counts = render_dataset(**vars(parser.parse_args()))
    print(", ".join(f"{number} {name}" for name, number in counts.items()))


if __name__ == "__main__":
    main()
