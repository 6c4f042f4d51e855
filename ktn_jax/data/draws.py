"""What a training batch is made of: images of which source, on a canvas of which size.

The one idea to know: all of it is a function of (seed, index) that needs no memory, so
every process, and a run that resumes, comes to the same answers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np

from ktn_jax.data.coco_directory import Record
from ktn_jax.errors import UserError

# The third word of a seed; a row's own dice have two, (seed, index).
_PLACES, _CANVASES = 1, 2
_SHARE_UNIT = 10**6  # shares are rounded to whole parts of their sum


class Source(NamedTuple):
    """One of the data sets that training draws on."""

    records: Sequence[Record]
    share: float = 1.0  # of the images, relative to the other sources' shares
    symmetry: np.ndarray | None = None  # load_symmetry's; None: by the rule of anatomy


class Draws:
    """Which row of which source stands at an index that counts over all epochs.

    Of a source with share s, floor or ceil of about s n rows are among the first n; they
    lie scattered over each batch, so that no process gets one source alone. An epoch of
    a source shows each of its rows once, in an order of its own.
    """

    def __init__(self, sources: Sequence[Source], batch_size: int, seed: int) -> None:
        total = sum(source.share for source in sources)
        if not sources or min(source.share for source in sources) <= 0:
            raise UserError("a mix of data sets needs shares above 0; set data.mix")
        self._shares = [round(s.share / total * _SHARE_UNIT) for s in sources]
        if min(self._shares) <= 0:
            raise UserError(f"a share below 1 in {_SHARE_UNIT} is none; set data.mix")
        self._batch_size, self._seed = batch_size, seed
        self._orders = [
            grain.MapDataset.range(len(s.records)).seed(seed + k).shuffle().repeat()
            for k, s in enumerate(sources)
        ]

    def __call__(self, index: int) -> tuple[int, int]:
        """Number of the source, and the row of it. index: of the run's images."""
        place = self._place(index)
        before, after = self._taken(place), self._taken(place + 1)
        (source,) = (k for k, n in enumerate(before) if after[k] > n)
        return source, self._orders[source][before[source]]

    def _place(self, index: int) -> int:
        """Where in the even succession of sources an index of a batch is."""
        if len(self._orders) == 1:
            return index
        step, row = divmod(index, self._batch_size)
        rng = np.random.default_rng((self._seed, step, _PLACES))
        return step * self._batch_size + int(rng.permutation(self._batch_size)[row])

    def _taken(self, count: int) -> list[int]:
        """How many of the first `count` images each source gives; never falls with it."""
        taken, rest = [], sum(self._shares)
        for share in self._shares[:-1]:
            # of what the sources before left, rounded: the next one grows by 0 or 1
            taken.append((2 * count * share + rest) // (2 * rest))
            count, rest = count - taken[-1], rest - share
        return [*taken, count]


def canvas_number(step: int, canvases: int, seed: int) -> int:
    """Which of the canvases a batch has: each once in as many steps, in random order."""
    if canvases == 1:
        return 0
    cycle, turn = divmod(step, canvases)
    rng = np.random.default_rng((seed, cycle, _CANVASES))
    return int(rng.permutation(canvases)[turn])
