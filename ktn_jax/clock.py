"""How long the device had nothing to do because the next batch was not there yet.

The host runs ahead of the device, so the time it waits for a batch says little: only what
lies after the end of the step before is lost. A thread notes when steps end.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from ktn_jax.structs import Batch


class Clock:
    """Fetches batches and adds up the seconds lost by waiting for them."""

    def __init__(self) -> None:
        self.waited = 0.0  # seconds of a device without work
        self._pool = ThreadPoolExecutor(1)
        self._ended: Future[float] | None = None

    def fetch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch. The one before the first step is not counted as waited for."""
        begin = time.monotonic()
        batch = next(batches)
        end = time.monotonic()
        if self._ended is not None and self._ended.done():
            self.waited += max(0.0, end - max(begin, self._ended.result()))
        return batch

    def started(self, metrics: Mapping[str, jax.Array]) -> None:
        """To be called when a step was given to the device; metrics are its outputs."""
        self._ended = self._pool.submit(_end_of, metrics["loss"])

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown()


def _end_of(output: jax.Array) -> float:
    jax.block_until_ready(output)
    return time.monotonic()
