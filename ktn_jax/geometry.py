"""Where things are: the map between an image and its canvas, and reading maps at points.

Frame: continuous pixels, (y, x) order, pixel centres at +0.5, origin at the top left.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

STRIDE = 4  # canvas pixels per field cell, in y and in x


class Affine(NamedTuple):
    """Scale, shift and flip, axis by axis: out = scale * in + shift.

    scale, shift: (y, x). A negative x scale is a left-right flip.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def flips(self) -> bool:
        """Whether left and right are exchanged."""
        return self.scale[1] < 0

    def __call__(self, yx: np.ndarray) -> np.ndarray:
        """Points after the map. yx: [..., 2] pixels."""
        return yx * np.asarray(self.scale) + np.asarray(self.shift)

    def inverse(self) -> "Affine":
        """The map back."""
        (sy, sx), (ty, tx) = self.scale, self.shift
        return Affine((1 / sy, 1 / sx), (-ty / sy, -tx / sx))

    def then(self, other: "Affine") -> "Affine":
        """This map, followed by the other."""
        (sy, sx), (ty, tx) = self.scale, self.shift
        (oy, ox), (py, px) = other.scale, other.shift
        return Affine((sy * oy, sx * ox), (ty * oy + py, tx * ox + px))

    def boxes(self, xywh: np.ndarray) -> np.ndarray:
        """Boxes after the map. xywh: [..., 4] (x, y, width, height) pixels."""
        first = self(xywh[..., 1::-1])  # (y, x) of one corner, then of the other
        second = self(xywh[..., 1::-1] + xywh[..., :1:-1])
        low, high = np.minimum(first, second), np.maximum(first, second)
        return np.concatenate([low[..., ::-1], (high - low)[..., ::-1]], axis=-1)

    def corners(self, source: tuple[int, int], rows: range, columns: range) -> "Corners":
        """The source pixels around those of a window of the target.

        source: (height, width).   rows, columns: of the target.
        """
        back = self.inverse()
        index, share = [], []
        for axis, window in enumerate((rows, columns)):
            centre = (np.arange(window.start, window.stop) + 0.5) * back.scale[axis]
            centre += back.shift[axis] - 0.5
            low = np.floor(centre)
            part = (centre - low).astype(np.float32)
            both = np.stack([low, low + 1]).astype(int)
            index.append(both.clip(0, source[axis] - 1))
            share.append(np.stack([1 - part, part]))
        return Corners(*index, *share)

    def labels(
        self, labels: np.ndarray, size: tuple[int, int], outside: int | bool
    ) -> np.ndarray:
        """A label map carried over by nearest neighbour.

        labels: [H, W] of the source.   size: (H', W') of the target.
        Returns [H', W']; target pixels that come from beyond the source get `outside`.
        """
        back = self.inverse()
        index, window = [], []
        for axis in (0, 1):
            centre = (np.arange(size[axis]) + 0.5) * back.scale[axis] + back.shift[axis]
            at = np.floor(centre).astype(int)
            inside = np.flatnonzero((at >= 0) & (at < labels.shape[axis]))
            # one stretch, as the map is monotone
            window.append(slice(inside[0], inside[-1] + 1) if len(inside) else slice(0))
            index.append(at[inside])
        # take, axis by axis: a tenth of the time of one fancy index
        rows = labels.take(index[0], axis=0, mode="clip")
        taken = rows.take(index[1], axis=1, mode="clip")
        if taken.shape == tuple(size):
            return taken
        out = np.full(size, outside, labels.dtype)
        out[tuple(window)] = taken
        return out


class Corners(NamedTuple):
    """The four source pixels around each pixel of a window, and their bilinear shares.

    Beyond the source's outermost pixel centres its border counts.
    """

    rows: np.ndarray  # [2, h] source rows above and below
    columns: np.ndarray  # [2, w] source columns left and right
    row_share: np.ndarray  # [2, h] f32, which sum to 1
    column_share: np.ndarray  # [2, w] f32

    def cut(self) -> tuple[tuple[slice, slice], "Corners"]:
        """The stretch of the source that is read, and the corners within that alone."""
        ends = [(index.min(), index.max() + 1) for index in (self.rows, self.columns)]
        (top, _), (left, _) = ends
        within = self._replace(rows=self.rows - top, columns=self.columns - left)
        return tuple(slice(*pair) for pair in ends), within

    def strips(self, pixels: int) -> Iterator["Corners"]:
        """The window, whole rows of about so many pixels at a time."""
        height = max(pixels // max(self.columns.shape[1], 1), 1)
        for top in range(0, self.rows.shape[1], height):
            some = np.s_[:, top : top + height]
            yield self._replace(rows=self.rows[some], row_share=self.row_share[some])

    def first(self, plane: np.ndarray) -> np.ndarray:
        """[h, w] values of a source plane [H, W] above and left of each pixel."""
        return plane.take(self.columns[0], axis=1).take(self.rows[0], axis=0)

    def mean(self, plane: np.ndarray) -> np.ndarray:
        """[h, w] f32 bilinear mean of a source plane [H, W] f32."""
        left, right = (plane.take(index, axis=1) for index in self.columns)
        plane = left * self.column_share[0] + right * self.column_share[1]
        above, below = (plane.take(index, axis=0) for index in self.rows)
        return above * self.row_share[0, :, None] + below * self.row_share[1, :, None]

    def around(
        self, y: np.ndarray, x: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The four around some pixels: places in a source so wide, flat; shares. [4, n].

        y, x: [n] in the window.
        """
        first = self.rows.take(y, axis=1) * width
        place = first[:, None] + self.columns.take(x, axis=1)
        down = self.row_share.take(y, axis=1)[:, None]
        share = down * self.column_share.take(x, axis=1)
        return place.reshape(4, -1), share.reshape(4, -1)


def vote(labels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The label that has the largest share, of equals the first.

    labels, share: [k, n].   Returns [n].
    """
    won, most = labels[0], ((labels == labels[0]) * share).sum(0)
    for one in labels[1:]:
        support = ((labels == one) * share).sum(0)
        won = np.where(support > most, one, won)
        most = np.maximum(support, most)
    return won


def letterbox(size: tuple[int, int], canvas: tuple[int, int]) -> Affine:
    """The map that fits an image into the top left of a canvas, keeping its aspect.

    size, canvas: (height, width).
    """
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return Affine((scale, scale))
