"""Rendered people as a DensePose-COCO data set: json and jpegs, exact labels.

    python -m ktn_jax.data.people --out DIR --train 400 --val 60 --size 256

Scene i of a split depends on (seed, split, i) and on the photographs given, no more.
Chart points are spread over the visible parts the way annotators were asked to;
everything else is exact per pixel. Photographs must show no people: see photographs.
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
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ktn_jax import anatomy
from ktn_jax.anatomy import NUM_KEYPOINTS, NUM_PARTS, PART_OF_CHART
from ktn_jax.data.outlines import trace_mask
from ktn_jax.data.photographs import NO_PHOTOS, Photographs, find_pictures
from ktn_jax.data.scenes import Picture, Scene, render_scene, sample_scene
from ktn_jax.errors import UserError, one_line_errors

Json = dict[str, Any]

SPLITS = {  # split -> (folder and file name stem, json's name)
    "train": ("train2014", "densepose_train2014.json"),
    "val": ("val2014", "densepose_minival2014.json"),
}
GRID = 256  # dp_x, dp_y and dp_masks live on a box of this many cells
_POINTS_PER_PART = 14  # at most, as annotators were given
_PIXELS_PER_POINT = 25  # at least; small parts get fewer points
_PIXELS_KEPT = 400  # of a part, drawn at random: enough to spread points evenly over
_MIN_DENSE = 400  # visible pixels of people who may get chart points
_DENSE_SHARE = 0.85  # of those people
_MIN_KEYPOINTS = 60  # visible pixels; smaller people are a box and a mask only
_MIN_PERSON = 20  # visible pixels; smaller people are left out
_IDS_PER_IMAGE = 100
_FIRST_ID = {"train": 1, "val": 500_001}  # image ids; unique over splits
# How far a keypoint may lie under the surface that shows it, metres: a joint is deeper
# inside the body than an eye. Order of anatomy.KEYPOINTS.
_DEPTH = np.array([5, 5, 5, 6, 6] + [12] * 2 + [9] * 2 + [8] * 2 + [17] * 2 + [11] * 4)


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


def annotate(
    scene: Scene, picture: Picture, rng: np.random.Generator, image_id: int
) -> list[Json]:
    """The COCO annotations of a picture; a crowd comes last, as one."""
    people, crowd = [], np.zeros(picture.person.shape, bool)
    for index, figure in enumerate(scene.figures):
        mask = picture.person == index
        if figure.crowd:
            crowd |= mask
        elif mask.sum() >= _MIN_PERSON:
            people.append(_annotate_person(scene, picture, rng, index))
    if crowd.sum() >= _MIN_PERSON:
        people.append(_annotate_crowd(crowd))
    return [
        {
            "id": image_id * _IDS_PER_IMAGE + place,
            "image_id": image_id,
            "category_id": 1,
            **person,
        }
        for place, person in enumerate(people, start=1)
    ]


def spread_points(
    parts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (y, x) spread evenly over each part. parts: [H, W] 0..14."""
    chosen = []
    for part in np.unique(parts[parts > 0]):
        pixels = np.argwhere(parts == part)
        number = min(_POINTS_PER_PART, -(-len(pixels) // _PIXELS_PER_POINT))
        pixels = pixels[rng.permutation(len(pixels))[:_PIXELS_KEPT]]
        places = pixels.astype(float)
        centers = places[:number]
        for _ in range(4):  # k-means: a few rounds even the distances out
            mine = np.eye(number)[_gaps(places, centers).argmin(1)]
            centers = (mine.T @ places) / mine.sum(0).clip(1)[:, None]
        chosen.append(pixels[np.unique(_gaps(places, centers).argmin(0))])
    return tuple(np.concatenate(chosen).T)


def _gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances. first: [n, 2], second: [m, 2]. Returns [n, m]."""
    apart = first @ second.T
    apart *= -2
    apart += (second**2).sum(1)
    apart += (first**2).sum(1)[:, None]
    return apart


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
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


def _annotate_person(
    scene: Scene, picture: Picture, rng: np.random.Generator, index: int
) -> Json:
    """One person's annotation without its ids."""
    mask = picture.person == index
    area = int(mask.sum())
    x, y, width, height = _box(mask)
    keypoints = np.zeros((NUM_KEYPOINTS, 3))
    if area >= _MIN_KEYPOINTS:
        keypoints = _find_keypoints(scene, picture, index)
    person = {
        "iscrowd": 0,
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(area),
        "segmentation": trace_mask(mask),
        "keypoints": keypoints.round(2).ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }
    if area >= _MIN_DENSE and rng.random() < _DENSE_SHARE:
        person |= _annotate_surface(picture, mask, rng)
    return person


def _annotate_surface(picture: Picture, mask: np.ndarray, rng: np.random.Generator) -> Json:
    """The dp_ fields of a person."""
    x, y, width, height = _box(mask)
    window = np.s_[y : y + height, x : x + width]
    inside = np.where(mask[window], PART_OF_CHART[picture.chart[window]], 0)
    row, column = spread_points(inside, rng)
    row, column = row + y, column + x
    uv = picture.uv[row, column].astype(float).round(5)
    grid = (np.arange(GRID) + 0.5) / GRID
    grid = inside[np.ix_((grid * height).astype(int), (grid * width).astype(int))]
    return {
        "dp_x": ((column + 0.5 - x) * GRID / width).round(4).tolist(),
        "dp_y": ((row + 0.5 - y) * GRID / height).round(4).tolist(),
        "dp_I": picture.chart[row, column].astype(float).tolist(),
        "dp_U": uv[:, 0].tolist(),
        "dp_V": uv[:, 1].tolist(),
        "dp_masks": [
            _encode(grid == part) if (grid == part).any() else []
            for part in range(1, NUM_PARTS)
        ],
    }


def _annotate_crowd(mask: np.ndarray) -> Json:
    """A group nobody tells apart: one region to be ignored."""
    return {
        "iscrowd": 1,
        "bbox": [float(value) for value in _box(mask)],
        "area": float(mask.sum()),
        "segmentation": _encode(mask),
        "keypoints": [0.0] * (3 * NUM_KEYPOINTS),
        "num_keypoints": 0,
    }


def _find_keypoints(scene: Scene, picture: Picture, index: int) -> np.ndarray:
    """[17, 3] (x, y, 0 outside | 1 hidden | 2 visible) of a figure, as COCO has it."""
    points = scene.figures[index].keypoints
    yx = scene.camera.project(points)
    inside = ((yx >= 0) & (yx < scene.camera.size)).all(1)
    row, column = np.where(inside[:, None], yx, 0).astype(int).T
    # the ray through the keypoint, and the pixel it falls in, which a thing may cover
    own = picture.keypoint_person[index] == index
    own &= picture.person[row, column] == index
    deep = points[:, 2] - picture.keypoint_depth[index]
    visible = own & (deep < _DEPTH / 100 + scene.figures[index].slack)
    flag = np.where(inside, 1 + visible, 0)
    index_xy = (yx[:, ::-1] - 0.5).clip(0)  # COCO's keypoints are indices of pixels
    return np.column_stack([index_xy * inside[:, None], flag])


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the tight box."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    )


def _encode(mask: np.ndarray) -> Json:
    """COCO's compressed RLE, as json has it."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"counts": code["counts"].decode("ascii"), "size": list(code["size"])}


def _count(annotations: list[Json], images: int) -> collections.Counter:
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
