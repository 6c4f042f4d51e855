"""Example -> Example: onto a canvas, mirrored, in other colours. numpy and Pillow only.

Geometry is one Affine for the picture and everything drawn on it, so that a point stays
on what it points at; to_image of the result leads back to the file's pixels. What is
random draws from the generator it is given and from nothing else.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from ktn_jax.anatomy import (
    MIRRORED_CHART,
    MIRRORED_KEYPOINT,
    NUM_CHARTS,
    mirror_parts,
    mirror_uv,
)
from ktn_jax.errors import UserError
from ktn_jax.geometry import Affine, letterbox
from ktn_jax.records import Example, Person, Points

PAD = 127  # grey of the canvas beyond the image's border
SYMMETRY_GRID = 256  # cells of a symmetry table along U and along V
EDGE = 1e-6  # pixels by which float rounding may move the image's edge
# Rows: luma, and the two axes of colour that a change of hue turns (YIQ).
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclasses.dataclass(frozen=True)
class Augment:
    """What may happen to a training image."""

    canvas: tuple[int, int]  # (H, W) pixels
    scale_min: float  # of the scale at which the whole image just fits, 1 = letterbox
    scale_max: float
    flip: float  # probability of a left-right mirror
    color: float  # brightness, contrast and saturation times 1 +- up to this
    hue: float = 0.0  # turned by up to +- this, in turns of the colour circle
    grey: float = 0.0  # probability of no colour at all
    blur: float = 0.0  # probability of a Gaussian blur, of up to 1.5 pixels
    noise: float = 0.0  # probability of Gaussian noise, of up to 12 grey levels
    stretch: float = 0.0  # height over width times, or divided by, up to 1 + this

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= self.scale_max:
            raise UserError(
                f"scale_min {self.scale_min} and scale_max {self.scale_max}: set them so "
                "that 0 < scale_min <= scale_max"
            )
        if self.stretch < 0:
            raise UserError(f"stretch {self.stretch} must be 0 or more; 0 is none")
        if min(self.canvas) <= 0:
            raise UserError(f"canvas {self.canvas}: both sides must be positive")


def augment(
    example: Example,
    settings: Augment,
    *,
    rng: np.random.Generator,
    symmetry: np.ndarray | None = None,
) -> Example:
    """The example on a canvas, varied at random.

    symmetry: what load_symmetry returns; None mirrors U, V by the rule of anatomy.
    """
    scale = np.exp(rng.uniform(np.log(settings.scale_min), np.log(settings.scale_max)))
    stretch = np.log1p(settings.stretch) * rng.uniform(-1, 1) if settings.stretch else 0.0
    to_canvas = random_placement(
        example, settings.canvas, scale=scale, rng=rng, stretch=float(np.exp(stretch))
    )
    placed = place(example, to_canvas, canvas=settings.canvas)
    if rng.random() < settings.flip:
        placed = flip(placed, symmetry)
    return placed._replace(image=vary_colour(placed.image, settings, rng=rng))


def letterbox_example(example: Example, canvas: tuple[int, int]) -> Example:
    """The example, whole, in the canvas's top left corner: nothing is random."""
    to_canvas = letterbox(example.image.shape[:2], canvas)
    return place(example, to_canvas, canvas=canvas)


def random_placement(
    example: Example,
    canvas: tuple[int, int],
    *,
    scale: float,
    rng: np.random.Generator,
    stretch: float = 1.0,
) -> Affine:
    """A map to the canvas that leaves no border where the image is large enough.

    canvas: (H, W).   scale: of the one at which the whole image just fits.
    stretch: what height over width is multiplied by; the area stays.
    The centre of one person, drawn from those who are not a crowd, stays in view.
    """
    size = np.asarray(example.image.shape[:2])
    factor = scale * letterbox(example.image.shape[:2], canvas).scale[0]
    factor = factor * np.array([stretch**0.5, stretch**-0.5])
    slack = np.asarray(canvas) - factor * size  # negative: how much is cropped
    low, high = np.minimum(slack, 0), np.maximum(slack, 0)
    boxes = [person.bbox for person in example.people if not person.crowd]
    if boxes:
        x, y, width, height = boxes[rng.integers(len(boxes))]
        centre = np.clip([y + height / 2, x + width / 2], 0, size) * factor
        low, high = np.maximum(low, -centre), np.minimum(high, canvas - centre)
    shift = low + rng.random(2) * np.maximum(high - low, 0)
    return Affine(tuple(factor.tolist()), tuple(shift.tolist()))


def place(example: Example, to_canvas: Affine, *, canvas: tuple[int, int]) -> Example:
    """The example under a map without flip; what falls off the canvas is cut.

    canvas: (H, W). People with no pixel left are dropped, points off the canvas too,
    keypoints off the canvas become absent; boxes are cut at its border.
    """
    if to_canvas.flips:
        raise ValueError(f"{to_canvas} mirrors: labels need flip() for that")
    people = [move_person(person, to_canvas, canvas) for person in example.people]
    return Example(
        image_id=example.image_id,
        image=_resample(example.image, to_canvas, canvas),
        people=tuple(person for person in people if person.mask.any()),
        to_image=to_canvas.inverse().then(example.to_image),
    )


def flip(example: Example, symmetry: np.ndarray | None = None) -> Example:
    """The example's mirror image, left and right of the people exchanged too.

    symmetry: what load_symmetry returns; None mirrors U, V by the rule of anatomy.
    """
    mirror = Affine((1.0, -1.0), (0.0, float(example.image.shape[1])))
    image = np.empty_like(example.image)
    for channel in range(image.shape[-1]):  # a quarter of the time of all three at once
        image[..., channel] = example.image[:, ::-1, channel]
    return Example(
        image_id=example.image_id,
        image=image,
        people=tuple(_flip_person(p, mirror, symmetry) for p in example.people),
        to_image=mirror.then(example.to_image),  # a mirror is its own inverse
    )


def move_person(person: Person, to_canvas: Affine, canvas: tuple[int, int]) -> Person:
    """A person in pixels of the canvas. canvas: (H, W)."""
    x, y, width, height = to_canvas.boxes(np.asarray(person.bbox, np.float64))
    low = np.clip([x, y], 0, canvas[::-1])
    high = np.clip([x + width, y + height], 0, canvas[::-1])
    keypoints, points, parts = person.keypoints, person.points, person.parts
    if keypoints is not None:
        yx = to_canvas(keypoints[:, :2])
        seen = (keypoints[:, 2] > 0) & _within(yx, canvas)
        moved = np.concatenate([yx, keypoints[:, 2:]], axis=1).astype(np.float32)
        keypoints = np.where(seen[:, None], moved, np.float32(0))
    if points is not None:
        yx = to_canvas(points.yx).astype(np.float32)
        kept = _within(yx, canvas)
        points = Points(yx[kept], points.chart[kept], points.uv[kept])
    if parts is not None:
        parts = to_canvas.labels(parts, canvas, outside=0)
    return person._replace(
        bbox=np.concatenate([low, high - low]).astype(np.float32),
        area=person.area * abs(to_canvas.scale[0] * to_canvas.scale[1]),
        mask=to_canvas.labels(person.mask, canvas, outside=False),
        keypoints=keypoints,
        points=points,
        parts=parts,
    )


def load_symmetry(path: str | os.PathLike) -> np.ndarray:
    """Mirrored (U, V) for each chart and cell of its unit square.

    path: DensePose's UV_symmetry_transforms.mat, whose U_transforms and V_transforms
    are 1 x 24 cells of tables indexed (255 V, 255 U).
    Returns [25, 256, 256, 2] f32 (chart, V cell, U cell, mirrored U and V).
    """
    shape = (NUM_CHARTS - 1, SYMMETRY_GRID, SYMMETRY_GRID)
    try:
        file = loadmat(path)
        tables = [
            np.stack([np.asarray(table, np.float32) for table in file[key].ravel()])
            for key in ("U_transforms", "V_transforms")
        ]
    except (MatReadError, NotImplementedError, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as symmetry tables ({error!r}); get "
            "UV_symmetry_transforms.mat from densepose_uv_data.tar.gz"
        ) from error
    for table in tables:
        if table.shape != shape:
            raise UserError(f"{path} holds tables of shape {table.shape}, not {shape}")
    symmetry = np.zeros((NUM_CHARTS, *shape[1:], 2), np.float32)  # row 0: no chart
    symmetry[1:] = np.stack(tables, axis=-1)
    return symmetry


def vary_colour(
    image: np.ndarray, settings: Augment, *, rng: np.random.Generator
) -> np.ndarray:
    """The image in other colours, [H, W, 3] u8.

    All colour changes are one affine map of RGB, which costs one pass.
    """
    brightness, contrast, saturation = 1 + settings.color * rng.uniform(-1, 1, 3)
    turn = 2 * np.pi * settings.hue * rng.uniform(-1, 1)
    grey, blur, noise = rng.random(3) < (settings.grey, settings.blur, settings.noise)
    linear = _colour_matrix(0.0 if grey else saturation, turn)
    mean = brightness * image[::4, ::4].mean()  # near enough, at a sixteenth of the cost
    linear, offset = brightness * contrast * linear, (1 - contrast) * mean
    rows = np.concatenate([linear, np.full((3, 1), offset)], axis=1)
    changed = image
    if not np.allclose(rows, np.eye(3, 4)):
        picture = Image.fromarray(changed).convert("RGB", tuple(rows.ravel().tolist()))
        changed = np.asarray(picture)
    if blur:
        radius = rng.uniform(0.3, 1.5)
        picture = Image.fromarray(changed).filter(ImageFilter.GaussianBlur(radius))
        changed = np.asarray(picture)
    if noise:
        amount = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 12)
        changed = np.clip(changed + amount, 0, 255).astype(np.uint8)
    return changed


def _colour_matrix(saturation: float, turn: float) -> np.ndarray:
    """[3, 3] on RGB: colour scaled by saturation, its hue turned by an angle."""
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    return np.linalg.solve(_YIQ, [[1, 0, 0], [0, cos, -sin], [0, sin, cos]] @ _YIQ)


def _resample(image: np.ndarray, to_canvas: Affine, canvas: tuple[int, int]) -> np.ndarray:
    """The image on the canvas, antialiased, [H, W, 3] u8.

    Canvas pixels that the image covers in part are padding: only whole ones are sampled.
    """
    size = np.asarray(image.shape[:2])
    low = np.ceil(to_canvas(np.zeros(2)) - EDGE).clip(0, canvas).astype(int)
    high = np.floor(to_canvas(size) + EDGE).clip(low, canvas).astype(int)
    padded = np.full((*canvas, 3), PAD, np.uint8)
    if (high > low).all():
        back = to_canvas.inverse()
        y0, x0 = np.clip(back(low), 0, size)
        y1, x1 = np.clip(back(high), 0, size)
        picture = Image.fromarray(image).resize(
            (int(high[1] - low[1]), int(high[0] - low[0])),
            Image.Resampling.BILINEAR,
            box=(x0, y0, x1, y1),
        )
        padded[low[0] : high[0], low[1] : high[1]] = np.asarray(picture)
    return padded


def _flip_person(person: Person, mirror: Affine, symmetry: np.ndarray | None) -> Person:
    """A person under a mirror that maps the canvas onto itself."""
    keypoints, points, parts = person.keypoints, person.points, person.parts
    if keypoints is not None:
        yx = mirror(keypoints[:, :2])
        moved = np.concatenate([yx, keypoints[:, 2:]], axis=1).astype(np.float32)
        keypoints = np.where(keypoints[:, 2:] > 0, moved, keypoints)[MIRRORED_KEYPOINT]
    if points is not None:
        points = Points(
            yx=mirror(points.yx).astype(np.float32),
            chart=MIRRORED_CHART[points.chart].astype(np.int32),
            uv=_flip_uv(points, symmetry),
        )
    if parts is not None:
        parts = mirror_parts(parts[:, ::-1])
    return person._replace(
        bbox=mirror.boxes(np.asarray(person.bbox, np.float64)).astype(np.float32),
        mask=np.ascontiguousarray(person.mask[:, ::-1]),
        keypoints=keypoints,
        points=points,
        parts=parts,
    )


def _flip_uv(points: Points, symmetry: np.ndarray | None) -> np.ndarray:
    """(U, V) of points on the mirrored body, [n, 2] f32. points: before the mirror."""
    if symmetry is None:
        return mirror_uv(points.chart, points.uv)
    # Truncated, not rounded: this is how the tables were meant to be read.
    u, v = (points.uv.T * (SYMMETRY_GRID - 1)).astype(int)
    return symmetry[points.chart, v, u]


def _within(yx: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """[n] bool: the point lies on a canvas of that (height, width). yx: [n, 2]."""
    return ((yx >= 0) & (yx < np.asarray(size))).all(axis=1)
