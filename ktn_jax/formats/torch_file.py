"""Files that torch.load reads, written without torch.

torch's form since 1.6: a zip of a pickle and of one record a tensor. The pickle names
classes of torch and of others, which need not be installed here; hence its opcodes are
written by hand (protocol 2, torch's own).
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_FOLDER = "archive"  # of all records
_STORAGE = {"float32": "FloatStorage", "int64": "LongStorage"}  # torch's, by type


class Foreign(NamedTuple):
    """An object of a class that only the reader needs to have."""

    module: str
    name: str
    state: Mapping[str, Any]  # its attributes


def saved(value: Any) -> bytes:
    """The bytes of torch.save(value).

    value: str, int, bool, None, Foreign, f32 or i64 array (read as a tensor on the CPU),
    and tuples, lists and dictionaries of these. ValueError for anything else.
    """
    writer = _Writer()
    writer.put(value)
    pickled = pickle.PROTO + b"\x02" + writer.opcodes.getvalue() + pickle.STOP
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # torch maps records
        archive.writestr(f"{_FOLDER}/data.pkl", pickled)
        archive.writestr(f"{_FOLDER}/byteorder", "little")
        for number, record in enumerate(writer.records):
            archive.writestr(f"{_FOLDER}/data/{number}", record)
        archive.writestr(f"{_FOLDER}/version", "3\n")
    return stream.getvalue()


class _Writer:
    """Opcodes of a value, and the bytes of its tensors."""

    def __init__(self) -> None:
        self.opcodes = io.BytesIO()
        self.records: list[bytes] = []

    def put(self, value: Any) -> None:
        """Append a value's opcodes."""
        write = self.opcodes.write
        if value is None:
            write(pickle.NONE)
        elif isinstance(value, bool):
            write(pickle.NEWTRUE if value else pickle.NEWFALSE)
        elif isinstance(value, int):
            write(pickle.BININT + struct.pack("<i", value))
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            write(pickle.BINUNICODE + struct.pack("<I", len(text)) + text)
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, Foreign):
            self._class(value.module, value.name)
            write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.put(dict(value.state))
            write(pickle.BUILD)
        elif isinstance(value, tuple):
            self._all(pickle.MARK, value, pickle.TUPLE)
        elif isinstance(value, list):
            self._all(pickle.EMPTY_LIST + pickle.MARK, value, pickle.APPENDS)
        elif isinstance(value, dict):
            flat = [part for item in value.items() for part in item]
            self._all(pickle.EMPTY_DICT + pickle.MARK, flat, pickle.SETITEMS)
        else:
            raise ValueError(f"{type(value).__name__} has no form in a torch file")

    def _all(self, before: bytes, values: Any, after: bytes) -> None:
        self.opcodes.write(before)
        for value in values:
            self.put(value)
        self.opcodes.write(after)

    def _class(self, module: str, name: str) -> None:
        self.opcodes.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def _tensor(self, array: np.ndarray) -> None:
        """torch's own reduction: rebuild(storage, offset, shape, strides, ...)."""
        if array.dtype.name not in _STORAGE:
            raise ValueError(f"an array of {array.dtype} has no form in a torch file")
        array = np.ascontiguousarray(array)
        write = self.opcodes.write
        self._class("torch._utils", "_rebuild_tensor_v2")
        write(pickle.MARK)
        write(pickle.MARK)
        self.put("storage")
        self._class("torch", _STORAGE[array.dtype.name])
        for part in (str(len(self.records)), "cpu", array.size):
            self.put(part)
        write(pickle.TUPLE + pickle.BINPERSID)
        self.put(0)
        self.put(array.shape)
        self.put(tuple(stride // array.itemsize for stride in array.strides))
        self.put(False)  # no gradient
        self._class("collections", "OrderedDict")  # of hooks: none
        write(pickle.EMPTY_TUPLE + pickle.REDUCE)
        write(pickle.TUPLE + pickle.REDUCE)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self.records.append(little.tobytes())
