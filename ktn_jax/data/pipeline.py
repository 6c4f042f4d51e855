"""Records -> batches: decoding, transforms and targets, ahead of time in threads.

The one idea to know: a training batch is a pure function of (seed, step). Nothing of the
iterator needs saving; a run resumes at any step, on any number of processes, by asking
for that step.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from ktn_jax.codec import Codec
from ktn_jax.data.annotations import read_people
from ktn_jax.data.coco_directory import Record
from ktn_jax.data.draws import Draws, Source, canvas_number
from ktn_jax.data.images import decode_image
from ktn_jax.data.transforms import Augment, augment, letterbox_example
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE, Affine
from ktn_jax.records import Example, Person
from ktn_jax.structs import Batch, Targets

_ENDLESS = 2**62  # images, so that no run reaches the end


def train_batches(
    sources: Sequence[Source],
    codec: Codec,
    *,
    augment: Augment,
    batch_size: int,
    seed: int,
    canvases: Sequence[tuple[int, int]] = (),
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
    cache: int = 0,
) -> Iterator[Batch]:
    """This process's share of endless training batches, from batch start_step on.

    sources: data sets in their shares.   batch_size: of all processes together; row j
    of a process is row j * process_count + process_index of the global batch.
    canvases: (H, W) each; a batch has one of them, the same on every process; none:
    augment.canvas.   cache: how many images stay parsed in memory (reading one costs as
    much as all transforms).
    Every epoch of a source shows each image once, in an order of its own.
    """
    share = _share(batch_size, process_count)
    for canvas in [augment.canvas, *canvases]:
        _check_canvas(canvas)
    if not all(len(source.records) for source in sources):
        raise UserError("no image to train on shows a person; check the split")
    make_row = functools.partial(
        _train_row,
        draws=Draws(sources, batch_size, seed),
        read=functools.lru_cache(cache)(
            lambda source, row: read_example(sources[source].records[row])
        ),
        codec=codec,
        settings=[dataclasses.replace(augment, canvas=c) for c in canvases] or [augment],
        batch_size=batch_size,
        seed=seed,
        symmetries=[source.symmetry for source in sources],
    )
    # The index counts images over all epochs and processes: the seed of a row's draws.
    rows = grain.MapDataset.range(_ENDLESS).map(make_row)[process_index::process_count]
    batches = rows.batch(share, drop_remainder=True, batch_fn=_stack)[start_step:]
    return _prefetch(batches, num_threads)


def eval_batches(
    source: Sequence[Record],
    *,
    canvas: tuple[int, int],
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
) -> Iterator[Batch]:
    """This process's share of every image once, in order, without targets.

    canvas: (H, W).   batch_size: of all processes together. Every process gets the same
    number of batches; rows past the last image have valid False.
    """
    share = _share(batch_size, process_count)
    _check_canvas(canvas)
    make_row = functools.partial(_eval_row, source=source, canvas=canvas)
    steps = -(-len(source) // batch_size)
    rows = grain.MapDataset.range(steps * batch_size).map(make_row)
    rows = rows[process_index::process_count]
    return _prefetch(rows.batch(share, batch_fn=_stack), num_threads)


def read_example(record: Record) -> Example:
    """The image and the people of a record, in pixels of the file's image."""
    try:
        image = decode_image(record["image"])
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{_title(record)} cannot be decoded ({error}); delete the built data set, "
            "and it will be built without this image"
        ) from error
    return Example(
        image_id=int(record["image_id"]),
        image=image,
        people=ground_truth(record),
        to_image=Affine(),
    )


def ground_truth(record: Record) -> tuple[Person, ...]:
    """The people of a record, in pixels of the file's image, which stays encoded."""
    annotations = json.loads(record["annotations"])
    try:
        return read_people(annotations, int(record["height"]), int(record["width"]))
    except ValueError as error:
        raise UserError(f"{_title(record)}: {error}") from error


def inside_image(example: Example, size: tuple[int, int]) -> np.ndarray:
    """[H/4, W/4] bool: the cell's centre shows the image, not the padding around it.

    example: on its canvas.   size: (height, width) of the file's image.
    """
    height, width = example.image.shape[:2]
    to_cells = example.to_image.inverse().then(Affine((1 / STRIDE, 1 / STRIDE)))
    cells = (height // STRIDE, width // STRIDE)
    return to_cells.labels(np.ones(size, bool), cells, outside=False)


def _train_row(
    index: int,
    *,
    draws: Draws,
    read: Callable[[int, int], Example],
    codec: Codec,
    settings: Sequence[Augment],
    batch_size: int,
    seed: int,
    symmetries: Sequence[np.ndarray | None],
) -> Batch:
    """One row of a training batch, without batch axis.

    index: over all epochs.   read: the example of a source's row.   settings: for each
    canvas.   symmetries: of each source.
    """
    source, row = draws(index)
    example = read(source, row)
    varied_by = settings[canvas_number(index // batch_size, len(settings), seed)]
    rng = np.random.default_rng((seed, index))
    varied = augment(example, varied_by, rng=rng, symmetry=symmetries[source])
    inside = inside_image(varied, example.image.shape[:2])
    return _row(varied, codec.encode(varied.people, varied_by.canvas, inside))


def _eval_row(index: int, *, source: Sequence[Record], canvas: tuple[int, int]) -> Batch:
    """One row of an evaluation batch, without batch axis; padding past the end."""
    if index < len(source):
        return _row(letterbox_example(read_example(source[index]), canvas), None)
    blank = Example(0, np.zeros((*canvas, 3), np.uint8), (), Affine())
    return dataclasses.replace(_row(blank, None), valid=np.bool_(False))


def _row(example: Example, targets: Targets | None) -> Batch:
    """A batch's row from an example on its canvas, without batch axis."""
    return Batch(
        image=example.image,
        valid=np.bool_(True),
        image_id=np.int64(example.image_id),
        to_image=np.array(example.to_image, np.float64),
        targets=targets,
    )


def _stack(rows: Sequence[Batch]) -> Batch:
    """Rows as one batch."""
    targets = None
    if rows[0].targets is not None:
        targets = Targets(**_stack_fields([row.targets for row in rows]))
    bare = [dataclasses.replace(row, targets=None) for row in rows]
    return Batch(**_stack_fields(bare) | {"targets": targets})


def _stack_fields(rows: Sequence[Batch | Targets]) -> dict[str, np.ndarray]:
    """Each field of equal records, stacked along a new first axis; None is left out."""
    fields = [field.name for field in dataclasses.fields(rows[0])]
    return {
        name: np.stack([getattr(row, name) for row in rows])
        for name in fields
        if getattr(rows[0], name) is not None
    }


def _prefetch(batches: grain.MapDataset, num_threads: int) -> Iterator[Batch]:
    """Batches in order, each made whole by one of the threads."""
    # Threads, not processes: decoding and resampling release the interpreter's lock,
    # and a worker process would import jax anew.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
    return iter(batches.to_iter_dataset(options))


def _share(batch_size: int, process_count: int) -> int:
    """Rows of a global batch that one process makes."""
    if batch_size <= 0 or batch_size % process_count:
        raise UserError(
            f"batch_size {batch_size} is not divisible by {process_count} processes; "
            "set a positive multiple"
        )
    return batch_size // process_count


def _check_canvas(canvas: tuple[int, int]) -> None:
    """Raises unless cells fill the canvas. canvas: (H, W)."""
    if canvas[0] % STRIDE or canvas[1] % STRIDE:
        raise UserError(f"canvas {canvas}: both sides must be multiples of {STRIDE}")


def _title(record: Record) -> str:
    """How errors name a record."""
    name = record["file_name"]
    shown = name.decode() if isinstance(name, bytes) else name
    return f"image {int(record['image_id'])} ({shown})"
