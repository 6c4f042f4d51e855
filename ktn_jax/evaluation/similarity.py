"""How alike a detection and a person are: GPS, mask IoU, GPSm and box IoU.

GPS is the mean over the person's annotated points of exp(-g^2 / (2 kappa^2)), g being
the geodesic distance between the annotated and the estimated vertex and kappa that of
the annotated body part. GPSm = sqrt(GPS x IoU of masks). Frames follow the official
code: boxes (x, y, width, height), integer pixels by truncation.
"""

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle
from scipy.ndimage import zoom

from ktn_jax.anatomy import COARSE, COARSE_OF_CHART, NUM_PARTS
from ktn_jax.errors import UserError
from ktn_jax.evaluation.challenge import Scene
from ktn_jax.evaluation.encoded import UV_LEVELS, decode_rle, decode_rles
from ktn_jax.evaluation.point_errors import PointErrors, no_errors, read_errors
from ktn_jax.evaluation.surface import Surface

# The official evaluator divides dp_x, dp_y by 255 and truncates; training divides by 256.
EVAL_GRID = 255
DP_MASK_SIZE = (256, 256)  # dp_masks are drawn in the box scaled to this
KAPPA = {  # metres: the geodesic error that costs a point of this part 1 - exp(-1/2)
    "torso": 0.351,
    "hands": 0.107,
    "feet": 0.126,
    "upper legs": 0.237,
    "lower legs": 0.173,
    "upper arms": 0.142,
    "lower arms": 0.128,
    "head": 0.150,
}
KAPPA_OF_CHART = np.array([0.0, *(KAPPA[c] for c in COARSE[1:])])[COARSE_OF_CHART]


class Similarity(NamedTuple):
    """Every (detection, person) pair of a scene, each [D, P] f64 in [0, 1]."""

    gps: np.ndarray  # 0 for a person without points
    mask_iou: np.ndarray  # of a crowd: intersection / detection
    box_iou: np.ndarray  # likewise

    @property
    def gpsm(self) -> np.ndarray:
        """sqrt(GPS x IoU of masks), [D, P]."""
        return np.sqrt(self.gps * self.mask_iou)


class Points(NamedTuple):
    """All annotated points of a scene, in image pixels."""

    xy: np.ndarray  # [N, 2] f64
    person: np.ndarray  # [N] i64 index of the point's person
    vertex: np.ndarray  # [N] i64 annotated vertex
    kappa: np.ndarray  # [N] f64
    chart: np.ndarray  # [N] i64 annotated chart


class Patch(NamedTuple):
    """A mask and where its first pixel lies in the image; all else is empty."""

    top: int
    left: int
    mask: np.ndarray  # [h, w] bool


def measure(scene: Scene, surface: Surface) -> Similarity:
    """The similarities of a scene, detections and people in the scene's order."""
    return inspect(scene, surface)[0]


def inspect(scene: Scene, surface: Surface) -> tuple[Similarity, PointErrors]:
    """The similarities of a scene, and what became of its points."""
    shape = (len(scene.detections), len(scene.people))
    if 0 in shape:
        similarity = Similarity(np.zeros(shape), np.zeros(shape), np.zeros(shape))
        return similarity, no_errors(shape)
    size = (scene.height, scene.width)
    boxes = np.stack([detection.bbox for detection in scene.detections])
    points = read_points(scene.people, surface)
    pixel, inside = locate_points(points.xy, boxes)
    people = [read_person_mask(person, size) for person in scene.people]
    # decoding maps is most of the work, and a detection far from everyone needs none
    near = inside.any(axis=1) | find_overlaps(boxes, people).any(axis=1)
    maps = {int(i): scene.detections[i].iuv() for i in np.flatnonzero(near)}
    found = {i: paste(iuv[..., 0] > 0, boxes[i], size=size) for i, iuv in maps.items()}
    crowd = [int(person.get("iscrowd", 0)) for person in scene.people]
    score, label = score_points(points, maps, surface=surface, pixel=pixel, inside=inside)
    owner = points.person[:, None] == np.arange(len(people))  # [N, P]
    similarity = Similarity(
        gps=score @ owner / np.maximum(owner.sum(axis=0), 1),
        mask_iou=compare_masks(found, people, crowd=crowd, shape=shape),
        box_iou=rle.iou(boxes, np.array([p["bbox"] for p in scene.people], float), crowd),
    )
    return similarity, read_errors(
        score,
        label,
        chart=points.chart,
        person=points.person,
        mask_iou=similarity.mask_iou,
    )


def score_points(
    points: Points,
    maps: dict[int, np.ndarray],
    *,
    surface: Surface,
    pixel: np.ndarray,
    inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """exp(-g^2 / (2 kappa^2)) of every detection at every point, and its chart, [D, N].

    maps: iuv [h, w, 3] u8 of detections by index.   pixel, inside: see locate_points.
    A point outside the box or on background scores 0. Another chart than the annotated
    one is no error in itself: only the distance counts.
    """
    row, column = np.nonzero(inside)
    label = np.zeros((len(row), 3), np.uint8)
    for index, iuv in maps.items():
        here = row == index
        x, y = pixel[index, column[here]].T
        label[here] = iuv[y, x]
    charts = np.zeros(inside.shape, np.uint8)
    charts[row, column] = label[:, 0]
    estimated = surface.closest(label[:, 0], label[:, 1:] / UV_LEVELS)
    on_body = estimated >= 0
    row, column = row[on_body], column[on_body]
    distance = surface.distance(points.vertex[column], estimated[on_body])
    score = np.zeros(inside.shape)
    score[row, column] = np.exp(-(distance**2) / (2 * points.kappa[column] ** 2))
    return score, charts


def read_points(people: tuple[dict[str, Any], ...], surface: Surface) -> Points:
    """The annotated points of people; those without a chart (dp_I = 0) are left out."""
    fields = [np.zeros((0, 6))]
    for index, person in enumerate(people):
        if "dp_x" not in person:
            continue
        x, y, width, height = person["bbox"]
        # one operation after the other as the official code has them, because the
        # truncation in locate_points shows the last bit
        px = np.asarray(person["dp_x"], np.float64) * width / EVAL_GRID + x
        py = np.asarray(person["dp_y"], np.float64) * height / EVAL_GRID + y
        owner = np.full(len(px), index)
        labels = (person["dp_I"], person["dp_U"], person["dp_V"])
        fields.append(np.stack([px, py, owner, *labels], axis=-1))
    xy, owner, chart, uv = np.split(np.concatenate(fields), [2, 3, 4], axis=1)
    vertex = surface.closest(chart[:, 0], uv)
    kept = vertex >= 0
    chart, owner = chart[kept, 0].astype(np.int64), owner[kept, 0].astype(np.int64)
    return Points(xy[kept], owner, vertex[kept], KAPPA_OF_CHART[chart], chart)


def locate_points(xy: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pixel [D, N, 2] i64 of the boxes' maps, inside [D, N] bool) of xy [N, 2].

    Truncation goes towards 0: a point at -0.7 of the box is in its first pixel.
    """
    pixel = (xy - boxes[:, None, :2]).astype(np.int64)
    sizes = boxes[:, None, 2:].astype(np.int64)
    return pixel, ((pixel >= 0) & (pixel < sizes)).all(axis=-1)


def find_overlaps(boxes: np.ndarray, people: list[Patch]) -> np.ndarray:
    """Which boxes [D, 4] have pixels in common with which patches' rectangles, [D, P]."""
    start = np.array([(person.left, person.top) for person in people])
    stop = start + [person.mask.shape[::-1] for person in people]
    low = boxes[:, None, :2].astype(np.int64)
    high = (boxes[:, None, :2] + boxes[:, None, 2:]).astype(np.int64)
    return ((low < stop) & (start < high)).all(axis=-1)


def compare_masks(
    found: dict[int, Patch],
    people: list[Patch],
    *,
    crowd: list[int],
    shape: tuple[int, int],
) -> np.ndarray:
    """IoU of masks [D, P], 0 for detections not in found; shape: (D, P).

    With a crowd it is intersection / detection.
    """
    shared, found_area = np.zeros(shape), np.zeros((shape[0], 1))
    for index, patch in found.items():
        shared[index] = [count_shared(patch, person) for person in people]
        found_area[index] = np.count_nonzero(patch.mask)
    people_area = np.array([np.count_nonzero(person.mask) for person in people])
    union = np.where(crowd, found_area, found_area + people_area - shared)
    return shared / np.maximum(union, 1)


def read_person_mask(person: dict[str, Any], size: tuple[int, int]) -> Patch:
    """The mask of an annotated person in an image of size (height, width).

    dp_masks, or without them the COCO segmentation, or without either nothing.
    """
    if "dp_masks" in person:
        _, _, width, height = person["bbox"]
        mask = read_dp_masks(person["dp_masks"])
        # to round(height) x round(width); interpolation, prefilter and the strict
        # threshold decide single pixels at the border, so they are the official ones
        scale = (max(height, 1) / mask.shape[0], max(width, 1) / mask.shape[1])
        scaled = zoom(mask.astype(np.float64), scale, order=1, prefilter=False) > 0.5
        return paste(scaled, np.asarray(person["bbox"], np.float64), size=size)
    segmentation = person.get("segmentation")
    if not segmentation:
        return Patch(0, 0, np.zeros((0, 0), bool))
    return _trim(read_segmentation(segmentation, size))


def read_dp_masks(dp_masks: list[dict[str, Any]] | dict[str, Any]) -> np.ndarray:
    """The union [256, 256] bool of a person's parts; one dictionary is all of it."""
    parts = [dp_masks] if isinstance(dp_masks, dict) else dp_masks[: NUM_PARTS - 1]
    drawn = [part for part in parts if part]
    return decode_rles(drawn).any(axis=0) if drawn else np.zeros(DP_MASK_SIZE, bool)


def read_segmentation(
    segmentation: list | dict[str, Any], size: tuple[int, int]
) -> np.ndarray:
    """[height, width] bool of COCO polygons or run lengths, compressed or not."""
    if isinstance(segmentation, list):
        return decode_rle(rle.merge(rle.frPyObjects(segmentation, *size)))
    if tuple(segmentation["size"]) != size:
        raise UserError(
            f"a segmentation of size {segmentation['size']} in an image of "
            f"(height, width) {size}; they must be equal"
        )
    if isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, *size)
    return decode_rle(segmentation)


def paste(mask: np.ndarray, bbox: np.ndarray, *, size: tuple[int, int]) -> Patch:
    """The mask put at (int x, int y) of an image, cut at the box and at the image."""
    x, y, width, height = bbox.tolist()
    left, right = max(int(x), 0), min(int(x + width), size[1], int(x) + mask.shape[1])
    top, bottom = max(int(y), 0), min(int(y + height), size[0], int(y) + mask.shape[0])
    if right <= left or bottom <= top:
        return Patch(0, 0, np.zeros((0, 0), bool))
    cut = mask[top - int(y) : bottom - int(y), left - int(x) : right - int(x)]
    return Patch(top, left, cut)


def count_shared(a: Patch, b: Patch) -> int:
    """Pixels in both masks; only where the patches overlap are they looked at."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.mask.shape[0], b.top + b.mask.shape[0])
    right = min(a.left + a.mask.shape[1], b.left + b.mask.shape[1])
    if bottom <= top or right <= left:
        return 0
    window_a = a.mask[top - a.top : bottom - a.top, left - a.left : right - a.left]
    window_b = b.mask[top - b.top : bottom - b.top, left - b.left : right - b.left]
    return int(np.count_nonzero(window_a & window_b))


def _trim(mask: np.ndarray) -> Patch:
    """The patch of a whole image's mask [height, width]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Patch(0, 0, np.zeros((0, 0), bool))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(int(rows[0]), int(columns[0]), cut)
