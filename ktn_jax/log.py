"""What a run says of itself: metrics.jsonl, TensorBoard and a progress bar (process 0)."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ktn_jax.errors import UserError


class RunLog:
    """Writes each logged step to the jsonl file, to TensorBoard and to the bar."""

    def __init__(self, workdir: Path, *, steps: int, start: int, batch_size: int) -> None:
        self._speaks = jax.process_index() == 0
        self._batch_size = batch_size
        self._last = (start, time.monotonic())
        if self._speaks:
            workdir.mkdir(parents=True, exist_ok=True)
            self._lines = (workdir / "metrics.jsonl").open("a", buffering=1)
            self._board = SummaryWriter(str(workdir / "tensorboard"))
            self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a finished step; raises where the loss is not finite."""
        values = {name: float(value) for name, value in metrics.items()}
        now = time.monotonic()
        before, then = self._last
        self._last = (step, now)
        values["images_per_second"] = (
            self._batch_size * (step - before) / max(now - then, 1e-9)
        )
        if self._speaks:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._bar.set_postfix_str(
                " ".join(f"{k} {v:.3g}" for k, v in values.items()),
                refresh=False,
            )
            self._bar.update(step - self._bar.n)
        if not math.isfinite(values["loss"]):
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            raise UserError(
                f"the loss is {values['loss']} at step {step} (terms {broken}); lower "
                "--config.optim.lr or look at the images of that step"
            )

    def close(self) -> None:
        """Flush and end the bar."""
        if self._speaks:
            self._lines.close()
            self._board.close()
            self._bar.close()
