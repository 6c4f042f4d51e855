"""Ground truth and results as their files have them, grouped into scenes to be measured.

Ground truth is a DensePose-COCO json. Results are in the challenge's form: a list of
{image_id, category_id, bbox, score, uv_shape, uv_data}, where uv_data is the base64 of
an RGB PNG (chart, 255 U, 255 V) of the box; detectron2's forms are read too (read_iuv).
"""

import gzip
import json
import os
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from ktn_jax.errors import UserError
from ktn_jax.evaluation.encoded import decode_rle, read_iuv

MAX_DETECTIONS = 20  # of an image; the others do not exist for the metric
IGNORED_BOX = 0.7  # share of a person's box in an ignored region that drops the person
IGNORED_MASK = 0.9  # share of a detection's mask, likewise
_GT_FIELDS = ("images", "annotations", "categories")
_PERSON_FIELDS = ("id", "image_id", "category_id", "bbox", "area")
_POINT_FIELDS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")


class Detection(NamedTuple):
    """One result."""

    id: int  # 1-based, in the order of the file
    bbox: np.ndarray  # [4] f64 (x, y, width, height), as given
    score: float
    entry: dict[str, Any]  # its map is decoded only when it is needed

    def iuv(self) -> np.ndarray:
        """[h, w, 3] u8 chart, 255 U, 255 V; at least as large as the integer box."""
        try:
            iuv = read_iuv(self.entry)
        except UserError as error:
            raise UserError(f"result {self.id}: {error}") from error
        if (iuv.shape[:2] < self.bbox[[3, 2]].astype(int)).any():
            raise UserError(
                f"result {self.id}: its map of {iuv.shape[0]} x {iuv.shape[1]} pixels "
                f"is smaller than its box (x, y, width, height) {self.bbox.tolist()}; "
                "write the map of the whole box, height first"
            )
        return iuv


class Scene(NamedTuple):
    """The people and the detections of one category in one image."""

    image_id: int
    category_id: int
    height: int
    width: int
    people: tuple[dict[str, Any], ...]  # annotations as in the json, in its order
    detections: tuple[Detection, ...]  # by descending score, MAX_DETECTIONS at most


def load_ground_truth(path: str | os.PathLike) -> dict[str, Any]:
    """A DensePose-COCO json (or .json.gz), checked to be one."""
    gt = _load_json(path, expected="a DensePose-COCO json such as minival2014's")
    missing = [name for name in _GT_FIELDS if not isinstance(gt, dict) or name not in gt]
    if missing:
        raise UserError(f"{path} has no {missing}; expected is a DensePose-COCO json")
    annotated = [a for a in gt["annotations"] if "dp_x" in a]
    if not annotated:
        raise UserError(
            f"{path} has no dp_x in any of its {len(gt['annotations'])} annotations: "
            "it is a COCO json without DensePose. Expected is one of DensePose-COCO, "
            "such as densepose_coco_2014_minival.json"
        )
    for annotation in gt["annotations"]:
        _check_annotation(annotation, path=path)
    return gt


def group_scenes(gt: dict[str, Any], results: list[dict[str, Any]]) -> list[Scene]:
    """Every scene with a person or a detection, by category, then by image id."""
    images = {image["id"]: image for image in gt["images"]}
    categories = sorted({category["id"] for category in gt["categories"]})
    people = _group_people(gt)
    detections = _group_detections(results, images=images, categories=categories)
    scenes = []
    for category in categories:
        for image_id in sorted(images):
            scene = Scene(
                image_id,
                category,
                images[image_id]["height"],
                images[image_id]["width"],
                tuple(people[image_id, category]),
                tuple(detections[image_id, category]),
            )
            region = _ignored_region(images[image_id])
            if region is not None and any(people[image_id, c] for c in categories):
                scene = _drop_ignored(scene, region)
            if scene.people or scene.detections:
                kept = scene.detections[:MAX_DETECTIONS]
                scenes.append(scene._replace(detections=kept))
    return scenes


def _load_json(path: str | os.PathLike, *, expected: str) -> Any:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not there; expected is {expected}")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:  # as bytes it would be held twice
        try:
            return json.load(file)
        except ValueError as error:
            raise UserError(
                f"{path} is no json ({error}); expected is {expected}"
            ) from error


def _check_annotation(annotation: dict[str, Any], *, path: str | os.PathLike) -> None:
    needed = _PERSON_FIELDS + (_POINT_FIELDS if "dp_x" in annotation else ())
    absent = [name for name in needed if name not in annotation]
    if absent:
        raise UserError(
            f"annotation {annotation.get('id')} in {path} has no {absent}; with dp_x "
            "go dp_y, dp_I, dp_U and dp_V, and with everyone an area and a bbox"
        )
    lengths = {name: len(annotation.get(name, ())) for name in _POINT_FIELDS}
    if len(set(lengths.values())) > 1:
        raise UserError(
            f"annotation {annotation['id']} in {path} has fields of lengths {lengths}; "
            "they must be equal"
        )


def _group_people(gt: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    # Some published files use an annotation id twice. The official code looks every
    # annotation up by its id, so the last one stands for both; its numbers need that.
    by_id = {annotation["id"]: annotation for annotation in gt["annotations"]}
    people = defaultdict(list)
    for annotation in sorted(gt["annotations"], key=itemgetter("image_id")):
        person = by_id[annotation["id"]]
        people[person["image_id"], person["category_id"]].append(person)
    return people


def _group_detections(
    results: list[dict[str, Any]],
    *,
    images: dict[int, dict[str, Any]],
    categories: list[int],
) -> dict[tuple[int, int], list[Detection]]:
    """Detections by (image, category), by descending score; equals keep their order."""
    for index, entry in enumerate(results):
        _check_result(entry, number=index + 1)
    unknown = sorted({entry["image_id"] for entry in results} - set(images))
    if unknown:
        raise UserError(
            f"the results have images {unknown[:5]} ({len(unknown)} in all) that are "
            "not in the ground truth; evaluate them with their own json"
        )
    present = {entry["category_id"] for entry in results}
    if results and not present & set(categories):
        raise UserError(
            f"the results have categories {sorted(present)}, but the ground truth has "
            f"{categories}; set category_id (1 is COCO's person)"
        )
    detections = defaultdict(list)
    for index, entry in enumerate(results):
        bbox, score = np.asarray(entry["bbox"], np.float64), float(entry["score"])
        detection = Detection(index + 1, bbox, score, entry)
        detections[entry["image_id"], entry["category_id"]].append(detection)
    for group in detections.values():
        group.sort(key=lambda detection: -detection.score)
    return detections


def _check_result(entry: dict[str, Any], *, number: int) -> None:
    absent = {"image_id", "category_id", "bbox", "score"} - set(entry)
    if absent:
        raise UserError(f"result {number} has no {sorted(absent)}")
    if len(entry["bbox"]) != 4 or not np.isfinite([*entry["bbox"], entry["score"]]).all():
        raise UserError(
            f"result {number} has bbox {entry['bbox']} and score {entry['score']}; "
            "expected are four finite numbers (x, y, width, height) and one"
        )


def _ignored_region(image: dict[str, Any]) -> np.ndarray | None:
    """[height, width] bool of PoseTrack's ignore_regions; None without any."""
    if not image.get("ignore_regions_x"):
        return None
    polygons = [
        np.stack([x, y], axis=-1).ravel().tolist()
        for x, y in zip(image["ignore_regions_x"], image["ignore_regions_y"], strict=True)
    ]
    parts = rle.frPyObjects(polygons, image["height"], image["width"])
    return decode_rle(rle.merge(parts))


def _drop_ignored(scene: Scene, region: np.ndarray) -> Scene:
    """The scene without the people and the detections that lie in the region."""
    people = [
        person
        for person in scene.people
        if _share_of_box(np.asarray(person["bbox"]), region) < IGNORED_BOX
    ]
    detections = [
        detection
        for detection in scene.detections
        if _share_of_mask(detection, region) < IGNORED_MASK
    ]
    return scene._replace(people=tuple(people), detections=tuple(detections))


def _crop(bbox: np.ndarray, region: np.ndarray) -> np.ndarray:
    x, y, width, height = bbox.astype(int).tolist()
    # not clipped at 0, like the official code: a box that begins outside is kept
    return region[y : min(y + height, len(region)), x : min(x + width, region.shape[1])]


def _share_of_box(bbox: np.ndarray, region: np.ndarray) -> float:
    """Share of a box inside the region; 1 for a box without any pixel."""
    pixels = float(np.prod(bbox.astype(int)[2:]))
    return _crop(bbox, region).sum() / pixels if pixels else 1.0


def _share_of_mask(detection: Detection, region: np.ndarray) -> float:
    """Share of a detection's mask inside the region; 1 for a box without any pixel."""
    if np.prod(detection.bbox.astype(int)[2:]) == 0:
        return 1.0
    inside = _crop(detection.bbox, region)
    if not inside.any():
        return 0.0
    mask = detection.iuv()[..., 0] > 0
    if mask.shape != inside.shape:  # the official code cannot compare these and keeps
        return 0.0
    return (mask & inside).sum() / max(mask.sum(), 1)
