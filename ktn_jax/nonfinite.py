"""Steps whose loss or gradient is NaN or infinite: what is told, kept and tolerated.

The step itself leaves such an update out (training.train_step); here the host hears of it,
a step late, and decides whether to go on.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from absl import logging

from ktn_jax import files, parallel
from ktn_jax.errors import UserError
from ktn_jax.structs import Batch

MAX_RECORDS = 20  # of one process in one run; a batch may take many MiB
SHOWN = 8  # images that a message names

Blame = Callable[
    [Batch], np.ndarray
]  # a batch -> [B] bool, rows that are bad by themselves


class Nonfinite:
    """Counts, records and in the end refuses steps that are not finite."""

    def __init__(self, workdir: Path, tolerate: int) -> None:
        """tolerate: how many such steps in a row are let pass."""
        self._folder = workdir / "nonfinite"
        self._tolerate = tolerate
        self._in_a_row = 0
        self.skipped = 0  # steps of this process's life whose update was left out

    def check(
        self, step: int, metrics: Mapping[str, jax.Array], batch: Batch, blame: Blame
    ) -> None:
        """Look at one step; raises UserError where it is one too many.

        batch: on the host, this process's.   blame: called for bad steps only.
        """
        if all(math.isfinite(float(metrics[name])) for name in ("loss", "gradient_norm")):
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        terms = {name: float(value) for name, value in metrics.items()}
        stops = self._in_a_row > self._tolerate
        told = _told(step, terms)
        if self.skipped <= MAX_RECORDS:
            guilty = batch.image_id[blame(batch)]
            where = self._record(step, terms, batch, guilty)
            told += f", {_whose(batch.image_id, guilty)}; the batch is in {where}"
        if not stops:
            logging.warning("%s; this update is left out", told)
            return
        raise UserError(
            f"{told}; lower --config.optim.lr, mend or leave out those images, or let "
            f"{self._in_a_row} such steps in a row pass with "
            f"--config.train.skip_nonfinite={self._in_a_row}"
        )

    def _record(
        self, step: int, terms: Mapping[str, float], batch: Batch, guilty: np.ndarray
    ) -> Path:
        """The file, beside one of the same name in json, that has all of a bad batch."""
        path = self._folder / f"step_{step}_process_{jax.process_index()}.npz"
        arrays = jax.tree_util.tree_leaves_with_path(batch)
        content = io.BytesIO()
        np.savez_compressed(
            content,
            **{jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in arrays},
        )
        files.write_bytes(path, content.getvalue())
        about = {
            "step": step,
            "terms": {k: v if math.isfinite(v) else str(v) for k, v in terms.items()},
            "image_id": batch.image_id.tolist(),
            "guilty": guilty.tolist(),
        }
        files.write_bytes(path.with_suffix(".json"), json.dumps(about, indent=1).encode())
        return path


def _told(step: int, terms: Mapping[str, float]) -> str:
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    return f"step {step} is not finite: " + ", ".join(f"{k} {terms[k]}" for k in broken)


def _whose(image_id: np.ndarray, guilty: np.ndarray) -> str:
    """The images at fault, of all processes, or all that there are."""
    everyone = parallel.gather(image_id)
    # every process must bring as many numbers
    padded = np.pad(guilty, (0, len(image_id) - len(guilty)), constant_values=-1)
    bad = [int(i) for i in parallel.gather(padded) if i != -1]
    if 0 < len(bad) < len(everyone):
        return f"by images {_first(bad)}"
    alone = "each" if bad else "none"
    return f"in images {_first([int(i) for i in everyone])} ({alone} of them by itself)"


def _first(ids: list[int]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more
