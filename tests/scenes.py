"""Little scenes with known answers: rectangles for people, and fields that are right."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ktn_jax.anatomy import NUM_CHARTS, NUM_KEYPOINTS, NUM_PARTS, PART_OF_CHART
from ktn_jax.codec import Codec
from ktn_jax.embedding import BANDWIDTH
from ktn_jax.geometry import STRIDE
from ktn_jax.records import Person, Points
from ktn_jax.structs import Fields, Targets

CODEC = Codec(
    max_people=10,
    max_points=400,
    max_instances=16,
    mask_threshold=0.5,
    min_score=0.05,
    min_posterior=0.02,
    max_overlap=0.5,
    box_quantile=0.002,
)


def rectangles(boxes: Sequence[tuple[int, int, int, int]], size: int) -> list[np.ndarray]:
    """Visible masks of boxes (y0, x0, y1, x1); later ones lie in front."""
    masks = []
    for y0, x0, y1, x1 in boxes:
        mask = np.zeros((size, size), bool)
        mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
        masks = [m & ~mask for m in masks] + [mask]
    return masks


def surface_at(yx: np.ndarray, box: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Chart (24 bands down the box) and (U, V) (linear in the box) of points in a box."""
    y0, x0, y1, x1 = box
    down = (yx[..., 0] - y0) / (y1 - y0)
    across = (yx[..., 1] - x0) / (x1 - x0)
    chart = 1 + np.clip((down * 4).astype(int), 0, 3)
    return chart, np.stack([down, across], axis=-1)


def person_of(number: int, mask: np.ndarray, box: Sequence[int], rng: np.random.Generator):
    """A person that fills a mask, 30 points, keypoints at random seen pixels."""
    seen = np.argwhere(mask) + 0.5
    at = seen[rng.integers(len(seen), size=30)]
    chart, uv = surface_at(at, box)
    every_chart, _ = surface_at(np.stack(np.indices(mask.shape), -1) + 0.5, box)
    joints = seen[rng.integers(len(seen), size=NUM_KEYPOINTS)]
    return Person(
        id=number + 1,
        bbox=np.array([box[1], box[0], box[3] - box[1], box[2] - box[0]], np.float32),
        area=float(mask.sum()),
        crowd=False,
        mask=mask,
        keypoints=np.c_[joints, np.full(NUM_KEYPOINTS, 2)].astype(np.float32),
        points=Points(at.astype(np.float32), chart.astype(np.int32), uv.astype(np.float32)),
        parts=np.where(mask, PART_OF_CHART[every_chart], 0).astype(np.uint8),
    )


def scene(
    boxes: Sequence[tuple[int, int, int, int]], size: int, seed: int = 0
) -> list[Person]:
    """People who fill boxes; ones that are entirely hidden are left out."""
    rng = np.random.default_rng(seed)
    masks = rectangles(boxes, size)
    return [
        person_of(i, mask, box, rng)
        for i, (mask, box) in enumerate(zip(masks, boxes, strict=True))
        if mask.any()
    ]


def perfect_fields(targets: Targets, boxes_by_owner: Sequence[Sequence[int]]) -> Fields:
    """Fields [1, h, w, ...] that say exactly what one image's targets mean."""
    height, width = targets.owner.shape
    centers = (np.stack(np.indices((height, width)), -1) + 0.5) * STRIDE
    offset = np.zeros((height, width, 2))
    tau = np.full((height, width), np.log(4 / BANDWIDTH))
    chart = np.zeros((height, width, NUM_CHARTS))
    uv = np.zeros((height, width, NUM_CHARTS, 2))
    for slot, box in enumerate(boxes_by_owner):
        mine = targets.owner == slot
        tau[mine] = np.log(0.4 * STRIDE * np.sqrt(mine.sum() or 1) / BANDWIDTH)
        offset[mine] = targets.anchors[slot] - centers[mine]
        label, place = surface_at(centers[mine], box)
        chart[mine, label] = 20
        uv[mine] = place[:, None]
    cover = np.clip(targets.mask, 0.01, 0.99)
    heat = np.clip(targets.keypoints, 1e-4, 1 - 1e-4)
    fields = Fields(
        mask=np.log(cover / (1 - cover)),
        parts=20.0 * np.eye(NUM_PARTS)[PART_OF_CHART[chart.argmax(-1)]],
        chart=chart,
        uv=uv,
        keypoints=np.log(heat / (1 - heat)),
        center=np.where(targets.center == 1, 8.0, -8.0),
        offset=offset,
        bandwidth=tau,
        tag=np.where(targets.owner >= 0, targets.owner, 0)[..., None] * np.ones(4) * 2.0,
        quality=np.full((height, width), 6.0),
    )
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32)[None], fields)
