"""The loop of training: step after step, looked at a step late, saved, measured, stopped.

The device is given step t before the host looks at what came of step t - 1, so that it
never waits for the log. Before a state is saved, its own step is looked at.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ktn_jax import checkpoint, guards, parallel
from ktn_jax.clock import Clock
from ktn_jax.errors import UserError
from ktn_jax.log import RunLog
from ktn_jax.nonfinite import Nonfinite
from ktn_jax.structs import Batch, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
SCORE = "gpsm/AP"  # of what `measure` says, decides which checkpoint is the best


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
        blame: Callable[[TrainState, Batch], np.ndarray],
        show: Callable[[TrainState, Batch], np.ndarray] | None = None,
        measure: Callable[[TrainState], dict[str, float]] | None = None,
    ) -> None:
        """step, batches: from state.step on, as parallel.py lays them out.

        blame: which rows of a bad batch are bad by themselves, with a state's parameters.
        show: a picture of a batch.   measure: how good a state is, SCORE among it; called
        in process 0 alone.
        """
        self._state, self._step, self._batches = state, step, batches
        self._config, self._run, self._workdir = config, run, workdir
        self._blame, self._show, self._measure = blame, show, measure
        self._start = int(state.step)
        self._bad = Nonfinite(workdir, config.train.skip_nonfinite)
        self._clock = Clock()
        self._trace = parse_trace(config.train.profile)
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
        with (
            guards.StopRequest() as stop,
            self._log,
            contextlib.closing(self._clock),
            contextlib.ExitStack() as self._tracing,
        ):
            for number in range(self._start + 1, train.steps + 1):
                taken = self._take(number)
                self._look(late)
                late = taken
                stops = stop.asked(number)
                if stops or self._is_due(number, train.save_steps):
                    self._look(late, ends=stops)
                    late = None
                    self._save()
                self._see(taken)
                if stops and number < train.steps:
                    self._say_stopped(stop.name, number)
                    break
            self._look(late)
        self._log.summarise(skipped=self._bad.skipped, waited=self._clock.waited)
        return self._state

    def _is_due(self, number: int, every: int) -> bool:
        """Whether a step is one of every so many, or the last; never where every is 0."""
        return bool(every) and (number % every == 0 or number == self._config.train.steps)

    def _take(self, number: int) -> Taken:
        """Gives the device one step."""
        if number == self._trace[0]:
            jax.profiler.start_trace(str(self._workdir / "tensorboard"))
            self._tracing.callback(jax.profiler.stop_trace)
        batch = self._clock.fetch(self._batches)
        placed = parallel.put_batch(batch, self._config.parallel)
        self._state, metrics = self._step(self._state, placed)
        self._clock.started(metrics)
        if number == self._trace[1]:
            jax.block_until_ready(metrics)
            self._tracing.close()
        return Taken(number, metrics, batch)

    def _look(self, taken: Taken | None, *, ends: bool = False) -> None:
        """Checks and logs a step; waits until the device is done with it.

        ends: whether the run ends here, which is logged whether it is due or not.
        """
        if taken is None:
            return
        number, metrics, batch = taken
        if ends or self._is_due(number, self._config.train.log_steps):
            waited, skipped = self._clock.waited, self._bad.skipped
            self._log.write(number, metrics, skipped=skipped, waited=waited)
        self._bad.check(number, metrics, batch, lambda b: self._blame(self._state, b))

    def _save(self) -> None:
        whole = parallel.to_global(self._state)
        checkpoint.save(self._run, whole, self._config.to_dict())

    def _see(self, taken: Taken) -> None:
        """Pictures and measures of the state, where they are due."""
        train, number = self._config.train, taken.number
        speaks = jax.process_index() == 0
        if self._show and speaks and self._is_due(number, train.picture_steps):
            self._log.picture(number, self._show(self._state, taken.batch))
        if self._measure and self._is_due(number, train.eval_steps):
            found = self._measure(self._state) if speaks else {}
            score = parallel.from_first(found.get(SCORE, 0.0))  # others wait for it
            self._log.measured(number, found)
            whole = parallel.to_global(self._state)
            checkpoint.keep_best(self._workdir, whole, self._config.to_dict(), score)

    def _say_stopped(self, name: str, number: int) -> None:
        checkpoint.wait(self._run)
        if jax.process_index() == 0:
            tqdm.write(
                f"{name}: saved step {number} of {self._config.train.steps} and "
                "stopped; the same command goes on from there",
                file=sys.stderr,
            )


def parse_trace(text: str) -> tuple[int, int]:
    """First and last step to trace, of "START:STOP"; (0, 0), which are none, of ""."""
    if not text:
        return 0, 0
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise UserError(f"profile {text!r} is not two steps; give such as --profile=10:12")
    return int(first), int(last)
