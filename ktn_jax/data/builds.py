"""Built data sets on a disk or in a bucket: whole, or as good as not there.

A folder counts as built once MARK lies in it, written last, and every file that MARK
names has the size it had. So a build or a copy that was cut off is never taken for one
that was finished, whatever the file system does to folders that are renamed.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath
from tqdm import tqdm

from ktn_jax import files
from ktn_jax.errors import UserError

MARK = "whole.json"  # which build this is, and the size of each of its files
COPYING = "copying.json"  # the mark of the build that is being copied
UNFINISHED = "incomplete.*"  # what TFDS leaves beside the folder when it is killed


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a bucket's, gs://, s3:// or az://."""
    return "://" in os.fspath(path)


def is_whole(folder: epath.Path) -> bool:
    """Whether a folder holds a finished build with all of its files."""
    with _reaching(folder):
        mark = _read(folder / MARK)
        files = mark["files"].items() if mark else ()
        return bool(mark) and all(_size(folder / name) == size for name, size in files)


def mark_whole(folder: epath.Path) -> None:
    """Declare a local folder finished as it is."""
    sizes = {path.name: path.stat().length for path in sorted(folder.iterdir())}
    part = folder / f"{MARK}.part"
    part.write_text(json.dumps({"build": uuid.uuid4().hex, "files": sizes}))
    os.replace(part, folder / MARK)


def clear(folder: epath.Path) -> None:
    """Remove a build, finished or not, and what builds that were killed left beside it."""
    (folder / MARK).unlink(missing_ok=True)  # first: half a folder must not count
    for path in [folder, *folder.parent.glob(UNFINISHED)]:
        if path.exists():
            path.rmtree()


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Waits until no other process builds the folder, on this or another machine."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(Path(folder.parent) / f".{folder.name}.lock"):
        yield


def publish(folder: epath.Path, target: epath.Path, *, progress: bool = False) -> int:
    """Copy a finished build to another place, and return how many files that took.

    folder: the build.   target: the folder it becomes, a bucket's too. What an
    interrupted copy of the same build has brought there already stays; anything else
    there is replaced. One process at a time.
    """
    mark = _read(folder / MARK)
    if mark is None:
        raise ValueError(f"{folder} is not built")
    with _reaching(target):
        if _read(target / MARK) == mark and is_whole(target):
            return 0
        return _copy(folder, target, mark, progress)


@contextlib.contextmanager
def _reaching(place: epath.Path) -> Iterator[None]:
    """What goes wrong with a bucket or a folder, as a UserError."""
    try:
        yield
    except (OSError, ImportError) as error:  # ImportError: fsspec has no such backend
        raise UserError(
            f"cannot use {place} ({error}); check its name and your access; a bucket "
            "needs a package too: gcsfs for gs://, s3fs for s3://, adlfs for az://"
        ) from error


def _copy(
    folder: epath.Path, target: epath.Path, mark: dict[str, Any], progress: bool
) -> int:
    """Copy what is not there yet, the mark last; return the number of files copied."""
    if _read(target / COPYING) != mark:
        if target.exists():
            clear(target)
        target.mkdir(parents=True, exist_ok=True)
        (target / COPYING).write_text(json.dumps(mark))
    missing = [n for n, size in mark["files"].items() if _size(target / n) != size]
    for name in tqdm(missing, desc=str(target), unit="file", disable=not progress):
        (folder / name).copy(target / name, overwrite=True)
    (target / MARK).write_text(json.dumps(mark))
    (target / COPYING).unlink()
    return len(missing)


def _read(path: epath.Path) -> dict[str, Any] | None:
    """A mark; None if there is none, or not all of it."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _size(path: epath.Path) -> int | None:
    """Bytes of a file; None if it is not there."""
    try:
        return path.stat().length
    except FileNotFoundError:
        return None
