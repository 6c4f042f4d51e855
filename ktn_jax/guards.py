"""What is looked at before hours are spent, and a signal to stop, which is obeyed late.

A run must be able to write all its checkpoints; it says so before it reads any data. Asked
to stop (SIGTERM of a pre-emption, Ctrl-C), it ends its step and saves.
"""

import contextlib
import errno
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils

from ktn_jax.errors import UserError

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def check_workdir(workdir: Path) -> None:
    """Raise UserError unless files can be made in the folder of a run. Makes the folder."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe_{jax.process_index()}_{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {workdir} ({error.strerror or error}); give a --workdir "
            "with room that you may write to"
        ) from error


def check_space(workdir: Path, size: int, count: int) -> None:
    """Raise UserError unless the disk takes a run's checkpoints.

    size: bytes of one.   count: how many will be written besides those that lie there.
    """
    free = shutil.disk_usage(workdir).free
    if free < size * count:
        raise UserError(
            f"{workdir} has {_mib(free)} free, but {count} checkpoints of {_mib(size)} are "
            "to come; free some, give another --workdir, or lower --config.train.keep"
        )


@contextlib.contextmanager
def disk_faults(workdir: Path) -> Iterator[None]:
    """Within it, what the disk refuses in the midst of a run is a UserError."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: tensorstore's, told in words
        words = " ".join(str(error).split())
        known = getattr(error, "errno", None) in DISK_FAULTS
        if not known and not any(os.strerror(fault) in words for fault in DISK_FAULTS):
            raise
        raise UserError(
            f"cannot write to {workdir} any more ({words[-200:]}); its finished "
            "checkpoints are whole: make room, and the same command goes on from the newest"
        ) from error


def state_size(state: object) -> int:
    """Bytes of a state's arrays: what a checkpoint takes at most."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


class StopRequest:
    """Within it SIGTERM and Ctrl-C only ask to stop; a second one ends the process.

    Of several processes each may get the signal at another step; jax's own service agrees
    on the step after which all of them stop.
    """

    def __init__(self) -> None:
        self._name = ""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        # jax.distributed has a handler of its own, which ours would put out of work
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def asked(self, step: int) -> bool:
        """Whether to stop after this step. step: all processes ask with the same ones."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self._name = "SIGTERM"
        return bool(self._name)

    @property
    def name(self) -> str:
        """The signal's name; empty where none came."""
        return self._name

    def _note(self, number: int, _: FrameType | None) -> None:
        self._name = signal.Signals(number).name
        self.__exit__()  # the next one has its usual effect


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
