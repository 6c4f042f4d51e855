"""The loop of training: step after step, looked at a step late, saved, stopped.

The device is given step t before the host looks at what came of step t - 1, so that it
never waits for the log. Before a state is saved, its own step is looked at.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from ktn_jax import checkpoint, guards, parallel
from ktn_jax.log import RunLog
from ktn_jax.nonfinite import Nonfinite
from ktn_jax.structs import Batch, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


class Taken(NamedTuple):
    """A step that the device was given, and what it will say of it."""

    number: int
    metrics: Mapping[str, jax.Array]
    batch: Batch  # on the host


class Loop:
    """A run's steps to config.train.steps."""

    def __init__(
        self,
        state: TrainState,
        step: Step,
        batches: Iterator[Batch],
        *,
        config: ConfigDict,
        run: checkpoint.Run,
        workdir: Path,
        blame: Callable[[TrainState, Batch], Any],
    ) -> None:
        """step, batches: from state.step on, as parallel.py lays them out.

        blame: which rows of a bad batch are bad by themselves, with a state's parameters.
        """
        self._state, self._step, self._batches = state, step, batches
        self._config, self._run, self._blame = config, run, blame
        self._start = int(state.step)
        self._bad = Nonfinite(workdir, config.train.skip_nonfinite)
        self._log = RunLog(
            workdir,
            steps=config.train.steps,
            start=self._start,
            batch_size=config.data.batch_size,
        )

    def run(self) -> TrainState:
        """The state after the last step, or after the one that a signal ended."""
        train = self._config.train
        late: Taken | None = None
        with guards.StopRequest() as stop, self._log:
            for number in range(self._start + 1, train.steps + 1):
                taken = self._take(number)
                self._look(late)
                late = taken
                stops = stop.asked(number)
                if stops or number == train.steps or number % train.save_steps == 0:
                    self._look(late)
                    late = None
                    whole = parallel.to_global(self._state)
                    checkpoint.save(self._run, whole, self._config.to_dict())
                if stops and number < train.steps:
                    checkpoint.wait(self._run)
                    if jax.process_index() == 0:
                        tqdm.write(
                            f"{stop.name}: saved step {number} of {train.steps} and "
                            "stopped; the same command goes on from there",
                            file=sys.stderr,
                        )
                    break
            self._look(late)
        return self._state

    def _take(self, number: int) -> Taken:
        """Gives the device one step."""
        batch = next(self._batches)
        placed = parallel.put_batch(batch, self._config.parallel)
        self._state, metrics = self._step(self._state, placed)
        return Taken(number, metrics, batch)

    def _look(self, taken: Taken | None) -> None:
        """Checks and logs a step; waits until the device is done with it."""
        if taken is None:
            return
        number, metrics, batch = taken
        train = self._config.train
        if number % train.log_steps == 0 or number == train.steps:
            self._log.write(number, metrics, skipped=self._bad.skipped)
        self._bad.check(number, metrics, batch, lambda b: self._blame(self._state, b))
