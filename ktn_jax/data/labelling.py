"""The DensePose-COCO annotations of a rendered picture.

Chart points are spread over the visible parts the way annotators were asked to;
everything else is exact per pixel.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ktn_jax.anatomy import NUM_KEYPOINTS, NUM_PARTS, PART_OF_CHART
from ktn_jax.data.outlines import trace_mask
from ktn_jax.data.scenes import Picture, Scene

Json = dict[str, Any]

GRID = 256  # dp_x, dp_y and dp_masks live on a box of this many cells
_POINTS_PER_PART = 14  # at most, as annotators were given
_PIXELS_PER_POINT = 25  # at least; small parts get fewer points
_PIXELS_KEPT = 400  # of a part, drawn at random: enough to spread points evenly over
_MIN_DENSE = 400  # visible pixels of people who may get chart points
_DENSE_SHARE = 0.85  # of those people
_MIN_KEYPOINTS = 60  # visible pixels; smaller people are a box and a mask only
_MIN_PERSON = 20  # visible pixels; smaller people are left out
_IDS_PER_IMAGE = 100
# How far a keypoint may lie under the surface that shows it, metres: a joint is deeper
# inside the body than an eye. Order of anatomy.KEYPOINTS.
_DEPTH = np.array([5, 5, 5, 6, 6] + [12] * 2 + [9] * 2 + [8] * 2 + [17] * 2 + [11] * 4)


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


def _gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances. first: [n, 2], second: [m, 2]. Returns [n, m]."""
    apart = first @ second.T
    apart *= -2
    apart += (second**2).sum(1)
    apart += (first**2).sum(1)[:, None]
    return apart
