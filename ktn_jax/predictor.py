"""An export as one callable: photographs in, people out, batched by canvas size.

    model = ktn_jax.load("pretrained/lite0")
    for person in model("photograph.jpg"):
        print(person.score, person.bbox, person.chart.shape)

The longer side of a photograph is brought to the export's canvas; a few canvas shapes
(square, 3:4, 4:3) cover all aspects, so a whole folder compiles at most three times.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ktn_jax import exports, inference
from ktn_jax.data.images import read_photograph
from ktn_jax.data.transforms import letterbox_example
from ktn_jax.errors import UserError
from ktn_jax.geometry import Affine, letterbox
from ktn_jax.models.network import CANVAS_MULTIPLE
from ktn_jax.records import Example, Prediction
from ktn_jax.structs import Instances

SHORT_SIDE = 0.75  # of the oblong canvases, as a share of the long side
MIN_SCORE = 0.03  # people below are left out, unless somebody says otherwise

Photograph = str | Path | np.ndarray | Image.Image


class Item(NamedTuple):
    """A photograph on its canvas, and whatever its owner wants back with the people."""

    key: Any
    size: tuple[int, int]  # (height, width) of the photograph
    canvas: np.ndarray  # [H, W, 3] u8
    to_image: Affine  # canvas -> photograph


class Predictor:
    """What finds people with an export. Called with one photograph; see `stream`."""

    def __init__(
        self,
        export: exports.Export,
        *,
        min_score: float = MIN_SCORE,
        max_people: int | None = None,
        batch: int = 1,
    ) -> None:
        """min_score: people below are left out.   max_people: of a photograph, the best.

        batch: photographs a call of `stream`.
        """
        if batch < 1 or (max_people is not None and max_people < 1):
            raise UserError(
                f"batch={batch}, max_people={max_people}: give numbers from 1 on"
            )
        self.export = export
        self.min_score = min_score
        self.max_people = max_people
        self.batch = batch

    def __call__(self, photograph: Photograph) -> list[Prediction]:
        """The people of one photograph, best first, in its pixels.

        photograph: a path, a PIL picture, or [H, W, 3] u8 RGB. UserError for what is none.
        """
        item = self.prepare(None, pixels(photograph))
        [(_, people)] = self._unpack([item], self._run([item], 1))
        return people

    def prepare(self, key: Any, image: np.ndarray) -> Item:
        """A photograph on the smallest canvas that holds it. image: [H, W, 3] u8 RGB."""
        size = image.shape[:2]
        shape = canvas_shape(size, self.export.canvas)
        boxed = letterbox_example(Example(0, image, (), Affine()), shape)
        return Item(key, size, boxed.image, boxed.to_image)

    def stream(self, items: Iterable[Item]) -> Iterator[tuple[Any, list[Prediction]]]:
        """(key, people) of every item; items of one canvas shape go `batch` at a time.

        They come in the order in which batches fill: in order, where all have one shape
        or the batch is 1. The device works on one batch while the host unpacks the last.
        """
        ahead = None
        for batch in self._batches(items):
            started = batch, self._run(batch, self.batch)
            if ahead is not None:
                yield from self._unpack(*ahead)
            ahead = started
        if ahead is not None:
            yield from self._unpack(*ahead)

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Full batches of one canvas shape as they fill, the rest at the end."""
        waiting: dict[tuple[int, ...], list[Item]] = {}
        for item in items:
            batch = waiting.setdefault(item.canvas.shape, [])
            batch.append(item)
            if len(batch) == self.batch:
                yield waiting.pop(item.canvas.shape)
        yield from waiting.values()

    def _run(self, batch: Sequence[Item], size: int) -> Instances:
        """One call, not waited for. size: the compiled batch; a short one is padded."""
        canvases = np.stack([item.canvas for item in batch])
        padding = [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)]
        return self.export.run(np.pad(canvases, padding))

    def _unpack(
        self, batch: Sequence[Item], instances: Instances
    ) -> Iterator[tuple[Any, list[Prediction]]]:
        """The people of each item of a call."""
        found = inference.host(instances)
        for row, item in enumerate(batch):
            one = inference.one_image(found, row)
            people = inference.unpack(one, item.to_image, item.size, row)
            kept = [person for person in people if person.score >= self.min_score]
            yield item.key, kept[: self.max_people]


def load(export: str | Path, **settings: Any) -> Predictor:
    """The predictor of an export's folder. settings: min_score, max_people, batch, and
    canvas and test_time of exports.read_export."""
    names = ("canvas", "test_time")
    reading = {name: settings.pop(name) for name in names if name in settings}
    return Predictor(exports.read_export(export, **reading), **settings)


def canvas_shape(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of the smallest canvas that holds a photograph at full scale.

    size: (height, width) of the photograph.   side: of the square canvas. The scale is
    the square's, so which canvas is taken changes the cost and not what is seen.
    """
    short = -(-int(side * SHORT_SIDE) // CANVAS_MULTIPLE) * CANVAS_MULTIPLE
    scale = letterbox(size, (side, side)).scale[0]
    if size[0] * scale <= short:
        return short, side
    if size[1] * scale <= short:
        return side, short
    return side, side


def pixels(photograph: Photograph) -> np.ndarray:
    """[H, W, 3] u8 RGB of what a caller gives; UserError for what is no photograph."""
    if isinstance(photograph, Image.Image):
        photograph = np.asarray(photograph.convert("RGB"))
    if isinstance(photograph, str | Path):
        try:
            return read_photograph(Path(photograph).read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{photograph}: {error}") from None
    image = np.asarray(photograph)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            f"an array of shape {image.shape} and type {image.dtype} is no photograph; "
            "give [H, W, 3] uint8 RGB"
        )
    return image
