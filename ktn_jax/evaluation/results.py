"""Results files, read an entry at a time: what is heavy stays in the file until needed.

A minival-sized file has a gigabyte of maps, of which a scene needs twenty. So a file is
gone through once, and of every entry only the small fields are kept, and where the rest
lies. Files are json lists (also .gz) or npz; the forms of a map are encoded.read_iuv's.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktn_jax.errors import UserError
from ktn_jax.files import atomic, scratch

MAPS = ("uv_data", "densepose", "labels_uv_str", "labels_uv_uint8", "labels", "uv", "iuv")
NPZ_FIELDS = ("image_id", "category_id", "bbox", "score")  # arrays [n] (bbox [n, 4])
NPZ_MAP = "iuv_{}"  # the array [h, w, 3] u8 of entry number 0, 1 ..
_EXPECTED = "a list of {image_id, category_id, bbox, score, uv_shape, uv_data}"
_BLOCK = 1 << 22  # bytes of a file read at a time; more if an entry is longer
_SPACE = re.compile(r"[ \t\n\r]*")


class Place(NamedTuple):
    """Where a json file has an entry, in bytes."""

    path: str
    start: int
    stop: int

    def read(self) -> dict[str, Any]:
        """The whole entry."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return json.loads(file.read(self.stop - self.start))


class Member(NamedTuple):
    """The array of an npz file that is an entry's map."""

    path: str
    number: int

    def read(self) -> dict[str, Any]:
        """The map as a field."""
        with np.load(self.path) as arrays:
            return {"iuv": arrays[NPZ_MAP.format(self.number)]}


class Stored(dict[str, Any]):
    """The small fields of an entry; the others are read when asked for."""

    place: Place | Member

    def whole(self) -> dict[str, Any]:
        """All fields, from the file."""
        try:
            return self | self.place.read()
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{self.place.path} cannot be read any more: {error!r}"
            ) from error


def load_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The entries of a results file (.json, .json.gz, .npz), in its order, without maps.

    The file must stay as it is for as long as the entries are used.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not there; expected is a json list of results, or npz")
    if path.suffix == ".npz":
        return _read_npz(path)
    source = path
    if path.suffix == ".gz":  # no place in it could be found again
        source = scratch() / f"{os.urandom(8).hex()}.json"
        with gzip.open(path) as packed, open(source, "wb") as file:
            try:
                shutil.copyfileobj(packed, file, _BLOCK)
            except (OSError, EOFError) as error:
                raise UserError(f"{path} is damaged: {error}") from error
    place = os.fspath(source.resolve())
    return [
        _keep(entry, Place(place, start, stop))
        for entry, start, stop in _scan(source, name=path)
    ]


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds an entry to a new json list, which ends with the block."""
    with atomic(path) as file:
        begin = b"["

        def write(entry: dict[str, Any]) -> None:
            nonlocal begin
            file.write(begin + json.dumps(entry).encode())
            begin = b",\n"

        yield write
        file.write(b"[]" if begin == b"[" else b"]")


def write_npz(
    path: Path, entries: Iterable[dict[str, Any]], maps: list[np.ndarray]
) -> None:
    """Write results as npz. entries: with NPZ_FIELDS.   maps: iuv [h, w, 3] u8 of each."""
    entries = list(entries)
    columns = {name: np.array([entry[name] for entry in entries]) for name in NPZ_FIELDS}
    numbered = {NPZ_MAP.format(i): iuv for i, iuv in enumerate(maps)}
    with atomic(path) as file:
        np.savez_compressed(file, **columns, **numbered)


def _keep(entry: dict[str, Any], place: Place | Member) -> Stored:
    stored = Stored((k, v) for k, v in entry.items() if k not in MAPS)
    stored.place = place
    return stored


def _read_npz(path: Path) -> list[dict[str, Any]]:
    try:
        with np.load(path) as arrays:
            names = set(arrays.files)
            optional = {"category_id", "keypoints"}
            fields = names & {*NPZ_FIELDS, *optional}
            columns = {name: arrays[name].tolist() for name in fields}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no npz of plain arrays: {error}") from error
    absent = sorted({*NPZ_FIELDS} - optional - set(columns))
    lengths = {name: len(column) for name, column in columns.items()}
    if absent or len(set(lengths.values())) > 1:
        raise UserError(
            f"{path} has no {absent}, or lengths that differ, {lengths}; expected are "
            f"arrays {NPZ_FIELDS} of one length n, and {NPZ_MAP.format(0)} .. of the maps"
        )
    count = lengths["score"]
    columns.setdefault("category_id", [1] * count)
    missing = [i for i in range(count) if NPZ_MAP.format(i) not in names]
    if missing:
        raise UserError(
            f"{path} has {count} entries but no {NPZ_MAP.format(missing[0])}; each needs "
            "its map, [h, w, 3] u8"
        )
    rows = zip(*columns.values(), strict=True)
    place = os.fspath(path.resolve())
    return [
        _keep(dict(zip(columns, row, strict=True)), Member(place, i))
        for i, row in enumerate(rows)
    ]


def _scan(path: Path, *, name: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    """(entry, first byte, byte after its last) of a json list's entries.

    name: of the file the user knows. Text is latin-1 here, so that characters are bytes;
    what is kept of it are numbers, and ascii.
    """
    with open(path, "rb") as file:
        text = _Text(file.read(_BLOCK).decode("latin1"), 0, file)
        text.skip()
        if text.peek() != "[":
            raise _no_list(text, name)
        text.advance()
        more = text.peek() != "]"
        while more:
            start = text.offset + text.position
            entry = text.decode(name)
            if not isinstance(entry, dict):
                kind = type(entry).__name__
                raise UserError(f"{name} has a {kind} in its list; expected is {_EXPECTED}")
            yield entry, start, text.offset + text.position
            text.skip()
            more = text.peek() == ","
            if more:
                text.advance()
        if text.peek() != "]":
            raise _no_json(name, f"no , or ] at byte {text.offset + text.position}")
        text.advance()
        if text.peek():
            raise _no_json(name, f"more after the list's end, byte {text.offset}")


class _Text:
    """A window of a file that moves on as it is read."""

    def __init__(self, content: str, offset: int, file: Any) -> None:
        self.content, self.offset, self.file = content, offset, file
        self.position = 0
        self.decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character; "" at the end."""
        return self.content[self.position : self.position + 1]

    def advance(self) -> None:
        """Go past a character and the white space after it."""
        self.position += 1
        self.skip()

    def skip(self) -> None:
        """Go past white space."""
        self.position = _SPACE.match(self.content, self.position).end()
        while self.position == len(self.content) and self.grow(_BLOCK):
            self.position = _SPACE.match(self.content, self.position).end()

    def decode(self, name: Path) -> Any:
        """The json value that begins here."""
        size = _BLOCK
        while True:
            try:
                value, self.position = self.decoder.raw_decode(self.content, self.position)
                return value
            except ValueError as error:  # it may also just not be all there yet
                if not self.grow(size):
                    raise _no_json(name, error) from error
                size *= 2

    def grow(self, size: int) -> bool:
        """Take more of the file in and let go of what is read; false at its end."""
        more = self.file.read(size)
        self.content = self.content[self.position :] + more.decode("latin1")
        self.offset, self.position = self.offset + self.position, 0
        return bool(more)


def _no_json(name: Path, error: Any) -> UserError:
    return UserError(f"{name} is no json ({error}); expected is {_EXPECTED}")


def _no_list(text: _Text, name: Path) -> UserError:
    if text.peek() == "{":
        return UserError(f"{name} holds a dict; expected is {_EXPECTED}")
    return _no_json(name, f"it begins with {text.content[:20]!r}")
