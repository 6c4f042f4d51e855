"""From photographs to the body's surface: texture atlas, and pixels of surface points.

The atlas is DensePose's: 6 x 4 square tiles, chart c in column (c - 1) // 6 and row
(c - 1) % 6; in a tile U grows to the right and V grows upwards.
"""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.formats.raster import png
from ktn_jax.records import Prediction

ROWS, COLUMNS = 6, 4
TILE = 200  # texels of a tile's side, as in DensePose's own atlas
GRID = 32  # cells of a chart's side in the table of points


class Seen(NamedTuple):
    """Colours gathered in an atlas; two of them add up field by field."""

    total: np.ndarray  # [6 N, 4 N, 3] f64 sum of RGB
    count: np.ndarray  # [6 N, 4 N] i64 pixels


def texels(iuv: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column [n] in the atlas of charted pixels. iuv: [n, 3] u8, chart > 0.

    side: of a tile. The rounding is detectron2's, so what is drawn from the atlas at the
    same IUV is what was put there.
    """
    chart = iuv[:, 0].astype(int) - 1
    u, v = iuv[:, 1] / 255, iuv[:, 2] / 255
    row = chart % ROWS * side + ((1 - v) * (side - 1)).astype(int)
    return row, chart // ROWS * side + (u * (side - 1)).astype(int)


def unwrap(image: np.ndarray, person: Prediction, side: int = TILE) -> Seen:
    """One person's pixels of a photograph, laid on the atlas. image: [H, W, 3] u8."""
    x, y, width, height = person.bbox
    shown = person.iuv[..., 0] > 0
    row, column = texels(person.iuv[shown], side)
    seen = Seen(
        np.zeros((ROWS * side, COLUMNS * side, 3)),
        np.zeros((ROWS * side, COLUMNS * side), np.int64),
    )
    np.add.at(seen.total, (row, column), image[y : y + height, x : x + width][shown])
    np.add.at(seen.count, (row, column), 1)
    return seen


def average(frames: Iterable[Seen]) -> Seen:
    """All frames' colours of one person together; `atlas` then shows their mean."""
    frames = iter(frames)
    first = next(frames)
    total, count = first.total.copy(), first.count.copy()
    for frame in frames:
        total += frame.total
        count += frame.count
    return Seen(total, count)


def atlas(seen: Seen) -> np.ndarray:
    """[6 N, 4 N, 4] u8 RGBA: each texel's mean colour, transparent where none was seen."""
    mean = seen.total / np.maximum(seen.count, 1)[..., None]
    alpha = np.where(seen.count > 0, 255, 0)
    return np.dstack([mean.round(), alpha]).astype(np.uint8)


def filled(drawn: np.ndarray) -> np.ndarray:
    """The same atlas, unseen texels in the colour of the nearest seen one of their chart.

    drawn: [6 N, 4 N, 4] u8 RGBA of `atlas`. A chart of which nothing was seen stays
    transparent: what lies beside it in the atlas need not be near it on the body.
    """
    whole, side = drawn.copy(), len(drawn) // ROWS
    for row, column in np.ndindex(ROWS, COLUMNS):
        tile = whole[row * side : (row + 1) * side, column * side : (column + 1) * side]
        unseen = tile[..., 3] == 0
        if not unseen.all():
            nearest = distance_transform_edt(
                unseen, return_distances=False, return_indices=True
            )
            tile[:] = tile[tuple(nearest)]
    return whole


def atlas_png(
    image: np.ndarray,
    people: Sequence[Prediction],
    side: int = TILE,
    *,
    fill: bool = False,
) -> bytes:
    """The people's atlases beside each other, best first; one empty atlas for nobody.

    fill: whether holes are closed, as by `filled`.
    """
    tiles = [atlas(unwrap(image, person, side)) for person in people]
    tiles = [filled(tile) for tile in tiles] if fill else tiles
    empty = np.zeros((ROWS * side, COLUMNS * side, 4), np.uint8)
    return png(np.concatenate(tiles or [empty], axis=1))


def points(person: Prediction, grid: int = GRID) -> np.ndarray:
    """[n, 6] f64 (chart, u, v, x, y, pixels) of the surface cells that are visible.

    Each chart has grid x grid cells; u, v is a cell's centre and x, y the mean position of
    its pixels, in the photograph, pixel centres at +0.5. By chart, then v, then u.
    """
    x0, y0, _, _ = person.bbox
    rows, columns = np.nonzero(person.iuv[..., 0])
    iuv = person.iuv[rows, columns].astype(int)
    u, v = iuv[:, 1] * grid // 256, iuv[:, 2] * grid // 256
    cell = ((iuv[:, 0] - 1) * grid + v) * grid + u
    cells = (NUM_CHARTS - 1) * grid * grid
    count = np.bincount(cell, minlength=cells)
    there = np.flatnonzero(count)
    x, y = (
        np.bincount(cell, at + 0.5, minlength=cells)[there] / count[there]
        for at in (columns + int(x0), rows + int(y0))
    )
    chart, v, u = np.unravel_index(there, (NUM_CHARTS - 1, grid, grid))
    return np.c_[chart + 1, (u + 0.5) / grid, (v + 0.5) / grid, x, y, count[there]]


def points_csv(people: Sequence[Prediction]) -> bytes:
    """`points` of all people as a table with a header; person counts from 1."""
    text = io.StringIO("person,chart,u,v,x,y,pixels\n")
    text.seek(0, io.SEEK_END)
    for number, person in enumerate(people, start=1):
        for chart, u, v, x, y, pixels in points(person):
            text.write(
                f"{number},{chart:.0f},{u:.6f},{v:.6f},{x:.2f},{y:.2f},{pixels:.0f}\n"
            )
    return text.getvalue().encode()
