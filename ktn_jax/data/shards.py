"""Shards of a data set in the making: each whole or not there, and what is whole is kept.

They gather in a stage, a hidden folder beside the data set's own, where a build that was
killed leaves them for the next. A shard is whole once its note lies beside it, which is
written after it and tells its size.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

from ktn_jax import files

Note = dict[str, Any]  # what json can hold

SOURCE = "source.json"  # of a stage: what its shards are made from
_NOTE = ".note"
_OPTIONS = "group_size:1"  # each record can be read alone, as TFDS writes them


def open_stage(stage: Path, source: Note) -> None:
    """Make the folder, or empty it of what was made from another source."""
    mark = stage / SOURCE
    same = mark.is_file() and json.loads(mark.read_bytes()) == source
    if not same:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        files.write_bytes(mark, json.dumps(source).encode())


def read_note(shard: Path) -> Note | None:
    """What was noted of a shard; None if it is not whole."""
    try:
        note = json.loads(_note_of(shard).read_bytes())
        return note["of"] if note["bytes"] == shard.stat().st_size else None
    except FileNotFoundError:
        return None


def write_shard(shard: Path, records: Iterable[bytes]) -> None:
    """Write all records of a shard, which still lacks its note. OSError: the disk's."""
    _note_of(shard).unlink(missing_ok=True)
    with _disk_errors():
        writer = ArrayRecordWriter(os.fspath(shard), _OPTIONS)
    for record in records:
        with _disk_errors():
            writer.write(record)
    with _disk_errors():
        writer.close()


def write_note(shard: Path, of: Note) -> None:
    """Declare a shard whole."""
    note = {"of": of, "bytes": shard.stat().st_size}
    files.write_bytes(_note_of(shard), json.dumps(note).encode())


def publish(stage: Path, folder: Path) -> None:
    """Move the shards into the data set's folder, and remove the stage."""
    for note in stage.glob(f"*{_NOTE}"):
        shard = note.with_suffix("")
        os.replace(shard, folder / shard.name)
    shutil.rmtree(stage)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """ArrayRecord calls a full disk a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _note_of(shard: Path) -> Path:
    return shard.with_name(shard.name + _NOTE)
