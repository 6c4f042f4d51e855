"""Distances of the official evaluation data: a packed triangle in a pickle or a .mat.

The official table has 380 million entries, so it is mapped where it lies in the file
whenever its bytes are there as such, and otherwise unpacked once. A pickle is a program;
this room reads the numbers in it and runs nothing.
"""

import codecs
import io
import os
import pickle
import pickletools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple
from weakref import finalize

import h5py
import numpy as np
from scipy.io import loadmat

from ktn_jax.errors import UserError
from ktn_jax.files import atomic, scratch

TABLE = "Pdist_matrix"  # the array's name inside the file, and the file's stem
_BLOCK = 1 << 22  # entries (or bytes) of a table copied at a time
_HEAD = 1 << 16  # bytes of a pickle in which its long literal must begin
_LENGTH_BYTES = {b"T": 4, b"B": 4, b"X": 4, b"\x8e": 8, b"\x96": 8, b"\x8d": 8}
_TEXT = (b"X", b"\x8d")  # opcodes of text; the others are of bytes


class PackedDistances:
    """Distances from a packed lower triangle: entry a (a - 1) / 2 + b for a > b."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table  # [n (n - 1) / 2] float, in memory or mapped

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self.table, np.memmap):
            return PackedDistances, (self.table,)
        # another process maps the file again; a map would be pickled with its contents
        table = self.table
        return _map_again, (table.filename, table.dtype, table.offset, table.shape)

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Metres between a[i] and b[i]; 0 for a vertex and itself."""
        # int64 first: the pair number of 27,554 vertices does not fit 16 or 32 bits
        a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
        high, low = np.maximum(a, b), np.minimum(a, b)
        same = high == low
        entry = np.where(same, 0, high * (high - 1) // 2 + low)
        return np.where(same, 0.0, self._look_up(entry).astype(np.float64))

    def _look_up(self, entry: np.ndarray) -> np.ndarray:
        """The table's numbers at entry [n].

        A mapped table is not read through its map: a look at four bytes makes megabytes
        around them resident, and soon all 1.5 GB of the table. Reading those bytes alone
        leaves nothing behind and takes no longer.
        """
        table = self.table
        if not isinstance(table, np.memmap) or not hasattr(os, "pread"):
            return table[entry]
        file, width = self._file, table.itemsize
        entry, back = np.unique(entry, return_inverse=True)  # in order it is 3 x as fast
        places = (entry * width + table.offset).tolist()
        raw = b"".join([os.pread(file, width, place) for place in places])
        return np.frombuffer(raw, table.dtype)[back]

    @cached_property
    def _file(self) -> int:
        """The mapped file, open until this object goes."""
        file = os.open(self.table.filename, os.O_RDONLY)
        finalize(self, os.close, file)
        return file


def _map_again(
    path: str, number: np.dtype, offset: int, shape: tuple[int]
) -> PackedDistances:
    return PackedDistances(np.memmap(path, number, "r", offset, shape))


def read_table(path: Path, *, cache_dir: Path | None = None) -> np.ndarray:
    """The packed triangle [N] of Pdist_matrix.pkl or .mat, float, mapped if it can be.

    A table that no map can read (compressed, or text) is unpacked once into cache_dir,
    or, if there is none, into a temporary file.
    """
    if path.suffix == ".pkl":
        return _read_pickle(path, cache_dir=cache_dir)
    try:
        if h5py.is_hdf5(path):
            return _read_hdf5(path, cache_dir=cache_dir)
        # a .mat older than version 7.3
        return loadmat(path, variable_names=[TABLE])[TABLE].reshape(-1)
    except KeyError as error:
        raise UserError(f"{path} holds no array called {TABLE}") from error


def _read_hdf5(path: Path, *, cache_dir: Path | None) -> np.ndarray:
    with h5py.File(path, "r") as file:
        data = file[TABLE]
        offset = data.id.get_offset()
        if offset is not None:  # one contiguous piece of the file
            return np.memmap(path, data.dtype, "r", offset, shape=(data.size,))
        axis = int(np.argmax(data.shape))  # MATLAB's N x 1 is 1 x N here
        blocks = (
            data[(slice(None),) * axis + (slice(i, i + _BLOCK),)].tobytes()
            for i in range(0, data.shape[axis], _BLOCK)
        )
        return _unpack(blocks, path, number=data.dtype, cache_dir=cache_dir)


def _read_pickle(path: Path, *, cache_dir: Path | None) -> np.ndarray:
    """The table of a pickled {name: array}.

    The array's bytes are cut out of the stream, so that only some hundred bytes are
    unpickled; the rest is mapped where it lies.
    """
    with open(path, "rb") as file:
        blob = _find_blob(file.read(_HEAD))
        file.seek(0)
        stream: IO[bytes] = file
        if blob is not None:
            start = file.read(blob.length_at) + bytes(blob.offset - blob.length_at)
            file.seek(blob.offset + blob.length)
            stream = io.BytesIO(start + file.read())
        content = _unpickle(stream, path=path)
    array = content.get(TABLE) if isinstance(content, dict) else content
    if not isinstance(array, _Array):
        raise UserError(f"{path} holds no numpy array called {TABLE}")
    number = array.number(path)
    if blob is None:
        return np.frombuffer(array.raw(path), number)
    if blob.is_text:  # protocol 2 from Python 3 writes the bytes as UTF-8 text
        blocks = _decode(path, blob=blob)
        return _unpack(blocks, path, number=number, cache_dir=cache_dir)
    count = blob.length // number.itemsize
    return np.memmap(path, number, "r", blob.offset, shape=(count,))


class _Blob(NamedTuple):
    """Where a pickle keeps its one long literal."""

    length_at: int  # byte at which its length is written
    offset: int
    length: int
    is_text: bool


def _find_blob(start: bytes) -> _Blob | None:
    """The literal that runs past the end of a pickle's first bytes, if there is one."""
    stream, position = io.BytesIO(start), 0
    try:
        for _ in pickletools.genops(stream):
            position = stream.tell()
        return None
    except ValueError:  # genops stops at an argument longer than what it was given
        code = start[position : position + 1]
    width = _LENGTH_BYTES.get(code, 0)
    offset = position + 1 + width
    length = int.from_bytes(start[position + 1 : offset], "little")
    if length <= _HEAD:  # a short one may share a frame with what follows it
        return None
    return _Blob(position + 1, offset, length, is_text=code in _TEXT)


class _Array:
    """What a pickle says of an array: never a numpy object while it is being read."""

    def __init__(self, *state: Any) -> None:
        self.shape, self.dtype, self.data = state or (None, None, b"")

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, _, self.data = state

    def number(self, path: Path) -> np.dtype:
        """The dtype of the entries; only floating-point numbers pass."""
        if isinstance(self.dtype, _Dtype) and self.dtype.name in ("f2", "f4", "f8"):
            return np.dtype(self.dtype.order + self.dtype.name)
        raise UserError(f"the array in {path} is not one of f2, f4, f8 numbers")

    def raw(self, path: Path) -> bytes:
        """The entries' bytes, as a short pickle holds them."""
        if isinstance(self.data, str):
            return self.data.encode("latin1")
        if isinstance(self.data, bytes | bytearray):
            return bytes(self.data)
        raise UserError(f"the array in {path} is not stored as plain numbers")


class _Dtype:
    """What a pickle says of a dtype."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a pickled array needs, each as a stand-in of our own."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
            "numpy.core.numeric._frombuffer": lambda data, dtype, shape, order: _Array(
                shape, dtype, data
            ),
            "_codecs.encode": lambda text, _: text.encode("latin1"),
        }
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in known:
            raise UserError(
                f"the pickle asks for {module}.{name}; only numpy arrays are read"
            )
        return known[full_name]


def _unpickle(stream: IO[bytes], *, path: Path) -> Any:
    try:
        return _Unpickler(stream, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path} is no pickle of a numpy array: {error!r}") from error


def _decode(path: Path, *, blob: _Blob) -> Iterator[bytes]:
    """The bytes that a text literal of a pickle stands for, a block at a time."""
    decoder, left = codecs.getincrementaldecoder("utf-8")(), blob.length
    with open(path, "rb") as file:
        file.seek(blob.offset)
        while left:
            block = file.read(min(left, _BLOCK))
            left -= len(block)
            yield decoder.decode(block).encode("latin1")


def _unpack(
    blocks: Iterator[bytes], path: Path, *, number: np.dtype, cache_dir: Path | None
) -> np.ndarray:
    """The table [N] of all blocks, as a mapped file in cache_dir or a temporary one."""
    stat = path.stat()  # a table that has changed gets another name
    name = f"{path.name}_{stat.st_size}_{stat.st_mtime_ns}.flat"
    cached = (cache_dir or scratch()) / name
    if not cached.exists():
        with atomic(cached) as file:
            file.writelines(blocks)
    return np.memmap(cached, number, "r")
