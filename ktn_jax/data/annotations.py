"""The DensePose-COCO json of one image -> Person records.

Every unit of the json is converted here and nowhere else: box-relative points and part
masks, run lengths, polygons, keypoint pixel indices. The one idea to know: dp_* fields
live on a grid of DP_GRID x DP_GRID cells laid over the person's box.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ktn_jax.anatomy import NUM_KEYPOINTS, NUM_PARTS, UNKNOWN_PART
from ktn_jax.errors import UserError
from ktn_jax.geometry import Affine
from ktn_jax.records import Person, Points
from ktn_jax.runs import uncompress_all

DP_GRID = 256  # dp_x, dp_y, dp_masks are in 1/256 of the box (the metric has its own)
KEYPOINT_CENTRE = 0.5  # keypoints are pixel indices, points and polygons are not
PERSON_CATEGORY = 1

Annotation = dict[str, Any]  # one entry of the json's "annotations"


def read_people(
    annotations: Sequence[Annotation], height: int, width: int
) -> tuple[Person, ...]:
    """The people of one image, in the json's order; other categories are left out.

    annotations: the image's own entries.   height, width: of the image, pixels.
    A malformed entry raises UserError (a ValueError) with its id, field and value.
    """
    return tuple(
        _read_person(annotation, (height, width))
        for annotation in annotations
        if annotation.get("category_id", PERSON_CATEGORY) == PERSON_CATEGORY
    )


def _read_person(annotation: Annotation, size: tuple[int, int]) -> Person:
    """One annotation in pixels of the image. size: (height, width)."""
    for field in ("id", "area"):
        if not isinstance(annotation.get(field), int | float):
            raise _fault(annotation, field, "must be a number")
    box = _numbers(annotation, "bbox", length=4)
    crowd = bool(annotation.get("iscrowd", 0))
    mask, parts = _read_regions(annotation, box, size)
    return Person(
        id=int(annotation["id"]),
        bbox=box.astype(np.float32),
        area=float(annotation["area"]),
        crowd=crowd,
        mask=mask,
        # A crowd's region stands for many people: nothing in it belongs to one of them.
        keypoints=None if crowd else _read_keypoints(annotation),
        points=None if crowd else _read_points(annotation, box),
        parts=None if crowd else parts,
    )


def _read_keypoints(annotation: Annotation) -> np.ndarray | None:
    """[17, 3] f32 (y, x, visibility); None where nobody annotated them."""
    if not annotation.get("keypoints"):
        return None
    table = _numbers(annotation, "keypoints", length=3 * NUM_KEYPOINTS).reshape(-1, 3)
    visibility = table[:, 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise _fault(annotation, "keypoints", "every third number must be 0, 1 or 2")
    if not visibility.any():
        return None
    keypoints = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    present = visibility > 0
    keypoints[present, :2] = table[present, 1::-1] + KEYPOINT_CENTRE
    keypoints[:, 2] = visibility
    return keypoints


def _read_points(annotation: Annotation, box: np.ndarray) -> Points | None:
    """The surface points in pixels of the image; None without DensePose.

    box: [4] (x, y, width, height). Points on no chart (dp_I 0) are left out; a person
    who has no other points is annotated all the same, with zero rows.
    """
    if "dp_x" not in annotation:
        return None
    if "dp_I" not in annotation:
        raise _fault(annotation, "dp_I", "is missing (a vertex json, not the chart one)")
    x = _numbers(annotation, "dp_x")
    y, chart, u, v = (
        _numbers(annotation, field, length=len(x))
        for field in ("dp_y", "dp_I", "dp_U", "dp_V")
    )
    if not np.isin(chart, np.arange(25)).all():
        raise _fault(annotation, "dp_I", "must be whole numbers in 0..24")
    yx = _grid_to_image(box)(np.stack([y, x], axis=1))
    on_body = chart > 0
    return Points(
        yx=yx[on_body].astype(np.float32),
        chart=chart[on_body].astype(np.int32),
        # The annotators' tool overshoots the unit square by rounding.
        uv=np.clip(np.stack([u, v], axis=1), 0, 1)[on_body].astype(np.float32),
    )


def _read_regions(
    annotation: Annotation, box: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """A person's mask and part map.

    box: [4] (x, y, width, height).   size: (height, width).
    Returns [H, W] bool and [H, W] u8: a part where the box's grid has one, unknown on
    the fringe that only the mask covers, 0 elsewhere; None when no part is annotated.
    """
    mask = _read_segmentation(annotation, size)
    grid = _read_grid(annotation)
    if grid is None:
        return (np.zeros(size, bool) if mask is None else mask), None
    if min(box[2:]) <= 0:
        raise _fault(annotation, "bbox", "dp_masks need a box of positive size")
    on_image = _paste_grid(grid, box, size)
    if mask is None:  # as the metric does: what the part masks cover
        mask = on_image > 0
    if grid.max() == UNKNOWN_PART:  # a foreground without parts
        return mask, None
    on_image[mask & (on_image == 0)] = UNKNOWN_PART
    return mask, on_image


def _paste_grid(grid: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels of the box's grid on the image, [H, W] u8, 0 outside the box.

    grid: [DP_GRID, DP_GRID] u8.   box: [4] (x, y, width, height).
    """
    low = np.clip(np.floor(box[1::-1]), 0, size).astype(int)
    high = np.clip(np.ceil(box[1::-1] + box[:1:-1]), low, size).astype(int)
    to_window = _grid_to_image(box).then(Affine(shift=tuple(-low)))
    on_image = np.zeros(size, np.uint8)
    # Only the window is sampled: a person is a small part of most images.
    on_image[low[0] : high[0], low[1] : high[1]] = to_window.labels(
        grid, tuple(high - low), outside=0
    )
    return on_image


def _grid_to_image(box: np.ndarray) -> Affine:
    """The map from dp coordinates to pixels. box: [4] (x, y, width, height)."""
    x, y, width, height = (float(value) for value in box)
    return Affine((height / DP_GRID, width / DP_GRID), (y, x))


def _read_grid(annotation: Annotation) -> np.ndarray | None:
    """dp_masks as labels, [DP_GRID, DP_GRID] u8; None if missing or empty throughout.

    A list holds one mask a part, with an empty value for absent parts; where masks
    overlap the later part wins. A single mask names no part: its label is unknown.
    """
    masks = annotation.get("dp_masks")
    if not masks:
        return None
    shape = (DP_GRID, DP_GRID)
    labels = range(1, NUM_PARTS)
    if isinstance(masks, dict):
        masks, labels = [masks], [UNKNOWN_PART]
    if not isinstance(masks, list) or len(masks) != len(labels):
        raise _fault(annotation, "dp_masks", f"must be a list of {NUM_PARTS - 1}")
    present = [(label, one) for label, one in zip(labels, masks, strict=True) if one]
    runs = _read_runs(annotation, "dp_masks", [one for _, one in present], shape)
    flat = np.zeros(DP_GRID * DP_GRID, np.uint8)
    for (label, _), mine in zip(present, runs, strict=True):
        ends = np.cumsum(mine)
        # A part has few runs: painting those beats decoding fourteen whole masks.
        for start, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=False):
            flat[start:end] = label
    return flat.reshape(shape).T if flat.any() else None


def _read_segmentation(annotation: Annotation, size: tuple[int, int]) -> np.ndarray | None:
    """[H, W] bool of the segmentation; None when there is none. size: (height, width).

    Polygons of fewer than three points enclose nothing and are dropped.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return _decode_runs(annotation, "segmentation", segmentation, size)
    if not all(isinstance(polygon, list) for polygon in segmentation):
        raise _fault(annotation, "segmentation", "must be polygons or run lengths")
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    for polygon in polygons:
        _check_polygon(annotation, polygon, size)
    if not polygons:
        return None
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return _decode_runs(annotation, "segmentation", merged, size)


def _check_polygon(
    annotation: Annotation, polygon: list[float], size: tuple[int, int]
) -> None:
    """Raises unless it is x, y pairs near the image. size: (height, width)."""
    try:
        numbers = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if numbers.ndim != 1 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise _fault(annotation, "segmentation", "a polygon must be x, y pairs")
    # The rasteriser walks every pixel of every edge, so a stray exponent would hang.
    if np.abs(numbers).max() > 10 * max(size):
        raise _fault(annotation, "segmentation", "a polygon leaves the image by far")


def _decode_runs(
    annotation: Annotation, field: str, encoded: Any, size: tuple[int, int]
) -> np.ndarray:
    """[H, W] bool of a run-length mask. size: (height, width)."""
    (runs,) = _read_runs(annotation, field, [encoded], size)
    inside = np.arange(len(runs)) % 2 == 1  # the first run is background
    down_columns = np.repeat(inside, runs).reshape(size[::-1])
    return np.ascontiguousarray(down_columns.T)


def _read_runs(
    annotation: Annotation, field: str, encoded: Sequence[Any], size: tuple[int, int]
) -> list[np.ndarray]:
    """Runs of masks, plain or compressed, background first. size: (height, width)."""
    try:
        counts = [one["counts"] for one in encoded]
        shapes = [tuple(one["size"]) for one in encoded]
        texts = [one for one in counts if isinstance(one, str | bytes)]
        # all at once: one by one costs more than the rest of an annotation
        read = iter(uncompress_all(texts) if texts else ())
        runs = [next(read) if isinstance(one, str | bytes) else one for one in counts]
        runs = [np.asarray(one, np.int64) for one in runs]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _fault(annotation, field, "is not a run-length mask") from error
    for shape, one in zip(shapes, runs, strict=True):
        if shape != tuple(size):
            raise _fault(annotation, field, f"has size {shape}, expected {tuple(size)}")
        if one.ndim != 1 or (one < 0).any() or one.sum() != size[0] * size[1]:
            raise _fault(annotation, field, f"run lengths must add up to {size}")
    return runs


def _numbers(
    annotation: Annotation, field: str, *, length: int | None = None
) -> np.ndarray:
    """A field's list of finite numbers, [n] f64."""
    if field not in annotation:
        raise _fault(annotation, field, "is missing")
    try:
        numbers = np.asarray(annotation[field], np.float64)
    except (TypeError, ValueError) as error:
        raise _fault(annotation, field, "must be a list of numbers") from error
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise _fault(annotation, field, "must be a list of finite numbers")
    if length is not None and len(numbers) != length:
        raise _fault(annotation, field, f"has {len(numbers)} numbers, not {length}")
    return numbers


def _fault(annotation: Annotation, field: str, problem: str) -> UserError:
    """The error for one field of one annotation."""
    value = repr(annotation.get(field))
    shown = value if len(value) <= 80 else value[:77] + "..."
    return UserError(
        f"annotation {annotation.get('id')}: {field} {problem}; it is {shown}. "
        "Correct or remove this entry of the json"
    )
