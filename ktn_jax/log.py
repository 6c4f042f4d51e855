"""What a run says of itself: metrics.jsonl, TensorBoard and a progress bar (process 0)."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ktn_jax import files


class RunLog:
    """Writes each logged step to the jsonl file, to TensorBoard and to the bar."""

    def __init__(self, workdir: Path, *, steps: int, start: int, batch_size: int) -> None:
        """start: the step that the run goes on from; later lines of the log are dropped."""
        self._speaks = jax.process_index() == 0
        self._batch_size = batch_size
        self._last = (start, time.monotonic())
        if self._speaks:
            workdir.mkdir(parents=True, exist_ok=True)
            path = workdir / "metrics.jsonl"
            _forget(path, start)
            self._lines = path.open("a", buffering=1)
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
            self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, metrics: Mapping[str, float], *, skipped: int = 0) -> None:
        """Log the metrics of a finished step. skipped: updates left out up to now."""
        values = {name: float(value) for name, value in metrics.items()}
        now = time.monotonic()
        before, then = self._last
        self._last = (step, now)
        values["images_per_second"] = (
            self._batch_size * (step - before) / max(now - then, 1e-9)
        )
        values["skipped"] = skipped
        if self._speaks:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._bar.set_postfix_str(
                " ".join(f"{k} {v:.3g}" for k, v in values.items()),
                refresh=False,
            )
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Flush and end the bar."""
        if self._speaks:
            self._bar.close()  # first: the others may find the disk full
            self._lines.close()
            self._board.close()


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
