"""Writing files so that they are there completely or not at all."""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place at the end, unless an error comes before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)  # mkstemp's own is for its maker only
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once."""
    with atomic(path) as file:
        file.write(content)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it no other process of any machine holds the same lock; waits for that.

    path: of the lock's own file, which is left. Where it cannot be made or the disk knows
    no locks, nobody waits for anybody.
    """
    try:
        file = path.open("a")
    except OSError:
        yield
        return
    with file:  # closing it ends the lock
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def scratch() -> Path:
    """A temporary folder of this process, removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="ktn_jax_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
