"""What a run says of itself: metrics.jsonl, TensorBoard and a progress bar (process 0)."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TextIO

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ktn_jax import files

SHOWN = ("loss", "images_per_second", "waiting")  # beside the bar


class RunLog:
    """Writes each logged step to the jsonl file, to TensorBoard and to the bar."""

    def __init__(self, workdir: Path, *, steps: int, start: int, batch_size: int) -> None:
        """start: the step that the run goes on from; later lines of the log are dropped."""
        self._speaks = jax.process_index() == 0
        self._batch_size, self._workdir = batch_size, workdir
        self._first = self._last = (start, time.monotonic())
        self._waited, self._loss = 0.0, float("nan")
        if self._speaks:
            workdir.mkdir(parents=True, exist_ok=True)
            self._lines = _reopen(workdir / "metrics.jsonl", start)
            self._measures = _reopen(workdir / "evaluations.jsonl", start)
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
            self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(
        self,
        step: int,
        metrics: Mapping[str, float],
        *,
        skipped: int = 0,
        waited: float = 0.0,
    ) -> None:
        """Log the metrics of a finished step.

        skipped: updates left out up to now.   waited: seconds up to now in which the
        device had no batch; `waiting` is their share since the last line.
        """
        values = {name: float(value) for name, value in metrics.items()}
        now = time.monotonic()
        before, then = self._last
        seconds = max(now - then, 1e-9)
        values["images_per_second"] = self._batch_size * (step - before) / seconds
        values["waiting"] = min(1.0, (waited - self._waited) / seconds)
        values["skipped"] = skipped
        self._last, self._waited, self._loss = (step, now), waited, values["loss"]
        if self._speaks:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            shown = " ".join(f"{name} {values[name]:.3g}" for name in SHOWN)
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(step - self._bar.n)

    def picture(self, step: int, image: np.ndarray) -> None:
        """Show a picture in TensorBoard. image: [H, W, 3] u8."""
        if self._speaks:
            self._board.add_image("batch", image, step, dataformats="HWC")

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Log what an evaluation found."""
        if self._speaks:
            self._measures.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(f"eval/{name}", value, step)

    def summarise(self, *, skipped: int, waited: float) -> None:
        """Say in one line what this call did; nothing where it did nothing."""
        (first, begin), (last, end) = self._first, self._last
        if not self._speaks or last == first:
            return
        seconds = max(end - begin, 1e-9)
        print(
            f"steps {first + 1} to {last} in {seconds:.0f} s: loss {self._loss:.4g}, "
            f"{self._batch_size * (last - first) / seconds:.3g} images/s, "
            f"{100 * waited / seconds:.0f} % of it waiting for data, {skipped} skipped; "
            f"see {self._workdir}"
        )

    def close(self) -> None:
        """Flush and end the bar."""
        if self._speaks:
            self._bar.close()  # first: the others may find the disk full
            self._lines.close()
            self._measures.close()
            self._board.close()


def _reopen(path: Path, step: int) -> TextIO:
    """The log to go on with; what was written after a step is dropped."""
    _forget(path, step)
    return path.open("a", buffering=1)


def _forget(path: Path, step: int) -> None:
    """Drops lines after a step, and one that a kill cut short: they will come again."""
    if not path.is_file():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        files.write_bytes(path, "".join(kept).encode())


def _step_of(line: str) -> float:
    """The step of a line of the log; infinity where it is none."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
