"""Pickles of arrays, read by a machine that can build arrays and nothing else.

Python's own unpickler calls whatever a file names. This one knows the opcodes that torch
and numpy write, and a table of names; each name stands for a function of ours that
describes an array. Whatever else a file asks for is refused by name, and nothing is run,
imported or given attributes.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np

MAX_DIMENSIONS = 32
MAX_NUMBER = 2**63  # of sizes and offsets; beyond it numpy cannot count
SHOWN = 80  # characters of a file's own words in an error

STORAGES = {  # torch's name -> numpy's, or ml_dtypes', of its elements
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
DTYPES = ("b1", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8")


class Refused(ValueError):
    """The file asks for something that is not an array."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers that lies elsewhere in the file."""

    key: str
    dtype: str  # a value of STORAGES
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage, nothing of it checked but the types; units are elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class Array:
    """A numpy array; empty until the pickle fills it."""

    value: np.ndarray | None = None


@dataclasses.dataclass(eq=False)
class _Dtype:
    code: str
    order: str = "="


@dataclasses.dataclass(frozen=True, eq=False)
class _Name:
    """A name of the table below; without `build` it can only be an argument."""

    name: str
    build: Callable[..., Any] | None


def load(stream: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """The object of the pickle that begins here, and the storages it names, by key.

    Leaves: Tensor, Array, numbers, texts, bytes. The stream then stands behind the
    pickle. Raises Refused, or what damaged bytes lead to (ValueError and its like).
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        machine.step(opcode.name, argument)
    return machine.pop(), machine.storages


def shown(words: Any) -> str:
    """A file's own words for an error: printable, one line, not long."""
    if not isinstance(words, str | bytes):  # a container's could be endless
        return f"a {type(words).__name__}"
    text = ascii(words)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


class _Machine:
    """The pickle machine: a stack, the stacks below its marks, a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def pop(self) -> Any:
        """The uppermost value, taken off."""
        return self.stack.pop()

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        if opcode in _NUMBERS_AND_TEXTS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            self._collect(opcode, argument)

    def _collect(self, opcode: str, argument: Any) -> None:
        """The opcodes of containers."""
        match opcode:
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                self.stack[-count:] = [tuple(self.stack[-count:])]
            case "TUPLE":
                items = self._since_mark()
                self.stack.append(tuple(items))
            case "LIST":
                items = self._since_mark()
                self.stack.append(items)
            case "DICT":
                items = self._since_mark()
                self.stack.append(_fill({}, items))
            case "APPEND":
                item = self.pop()
                _expect(self.stack[-1], list).append(item)
            case "APPENDS":
                items = self._since_mark()
                _expect(self.stack[-1], list).extend(items)
            case "SETITEM":
                items = [self.pop(), self.pop()][::-1]
                _fill(self.stack[-1], items)
            case "SETITEMS":
                items = self._since_mark()
                _fill(self.stack[-1], items)
            case _:
                self._make(opcode, argument)

    def _make(self, opcode: str, argument: Any) -> None:
        """The opcodes that would run code, had the names of the table any."""
        match opcode:
            case "GLOBAL":
                self.stack.append(_look_up(argument))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                words = [_expect(word, str) for word in (module, name)]
                self.stack.append(_look_up(" ".join(words)))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                if not isinstance(function, _Name) or function.build is None:
                    raise Refused(f"a call of {_kind(function)}")
                self.stack.append(function.build(*_expect(arguments, tuple)))
            case "BUILD":
                state = self.pop()
                _set_state(self.stack[-1], state)
            case "BINPERSID":
                storage = _storage(self.pop())
                if self.storages.setdefault(storage.key, storage) != storage:
                    raise Refused(f"storage {shown(storage.key)} with two types")
                self.stack.append(storage)
            case _:
                raise Refused(f"the pickle opcode {opcode}")

    def _since_mark(self) -> list[Any]:
        """All above the last mark, taken off."""
        items, self.stack = self.stack, self.below.pop()
        return items


_NUMBERS_AND_TEXTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


def _look_up(name: str) -> _Name:
    """The table's entry for "module name"."""
    if name not in _NAMES:
        raise Refused(shown(name.replace(" ", ".")))
    return _Name(name, _NAMES[name])


def _set_state(target: Any, state: Any) -> None:
    """BUILD: fills arrays and types; of dictionaries it is torch's _metadata, dropped."""
    if isinstance(target, Array):
        _, shape, dtype, fortran, raw = state
        target.value = _array(raw, dtype, shape, "F" if fortran else "C")
    elif isinstance(target, _Dtype):
        order, *parts = state[1:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
            raise Refused("a numpy type that is no plain number")
        target.order = order
    elif not isinstance(target, dict):
        raise Refused(f"a state for {_kind(target)}")


def _fill(target: Any, items: list[Any]) -> dict[Any, Any]:
    """A dictionary with keys and values, in turn, added to it."""
    # hashing a tuple of tuples of ... in C would overflow the stack, so: no tuples
    for key, value in zip(items[::2], items[1::2], strict=True):
        _expect(target, dict)[_expect(key, str | int | bytes)] = value
    return target


def _expect(value: Any, kind: Any) -> Any:
    """The value, if it is of a kind."""
    if not isinstance(value, kind):
        raise Refused(f"{_kind(value)} where pickles of arrays have none")
    return value


def _kind(value: Any) -> str:
    """What a value is, for an error."""
    if isinstance(value, _Name):
        return value.name.replace(" ", ".")
    return f"a {type(value).__name__}"


# --- what the names stand for ---------------------------------------------------


def _storage(pid: Any) -> Storage:
    """The storage of a persistent id ("storage", type, key, device, numel)."""
    tag, kind, key, _, numel, *view = _expect(pid, tuple)
    if tag != "storage" or not isinstance(kind, _Name) or any(v is not None for v in view):
        raise Refused(f"the persistent id {shown(tag)}")
    dtype = STORAGES.get(kind.name.removeprefix("torch "))
    if dtype is None:
        raise Refused(f"a storage of {_kind(kind)}")
    (numel,) = _counts((numel,))
    return Storage(_expect(key, str), dtype, numel)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    size, stride = _counts(size), _counts(stride)
    if len(size) != len(stride):
        raise Refused(f"a tensor of {len(size)} sizes and {len(stride)} strides")
    return Tensor(_expect(storage, Storage), *_counts((offset,)), size, stride)


def _parameter(data: Any, *_: Any) -> Tensor:
    return _expect(data, Tensor)


def _size(counts: Any = ()) -> tuple[int, ...]:
    return _counts(counts)


def _ordered(items: Iterable[Any] = ()) -> dict[Any, Any]:
    pairs = [_expect(pair, tuple | list) for pair in _expect(items, tuple | list)]
    return _fill({}, [part for key, value in pairs for part in (key, value)])


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"the encoding {shown(encoding)}")
    return _expect(text, str).encode("latin1")


def _empty_array(kind: Any, *_: Any) -> Array:
    if not isinstance(kind, _Name) or kind.name != "numpy ndarray":
        raise Refused(f"an array of type {_kind(kind)}")
    return Array()


def _dtype(code: Any, *_: Any) -> _Dtype:
    if code not in DTYPES:
        raise Refused(f"the numpy type {shown(code)}")
    return _Dtype(code)


def _scalar(dtype: Any, raw: Any) -> Array:
    return Array(_array(raw, dtype, (), "C"))


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return Array(_array(raw, dtype, shape, order))


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array in the machine's byte order. order: "C" or "F" of its bytes."""
    kind = np.dtype(_expect(dtype, _Dtype).order + dtype.code)
    shape = _counts(shape)
    if isinstance(raw, str):
        raw = raw.encode("latin1")  # Python 2 has no other bytes
    _expect(raw, bytes | bytearray)
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise Refused(f"{len(raw)} bytes for an array of {list(shape)} {kind.name}")
    array = np.frombuffer(raw, kind).reshape(shape, order=order)
    return array.astype(kind.newbyteorder("="), copy=False)


def _counts(numbers: Any) -> tuple[int, ...]:
    """Sizes, strides or offsets, as they may be."""
    numbers = _expect(numbers, tuple | list)
    if len(numbers) > MAX_DIMENSIONS:
        raise Refused(f"an array of {len(numbers)} dimensions")
    if not all(isinstance(n, int) and 0 <= n < MAX_NUMBER for n in numbers):
        raise Refused("a size, stride or offset that is negative, huge or no number")
    return tuple(numbers)


_NAMES: dict[str, Callable[..., Any] | None] = {
    "collections OrderedDict": _ordered,
    "_codecs encode": _encode,
    "__builtin__ bytes": lambda: b"",  # of length 0, for Python 2
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch Size": _size,
    **{f"torch {name}": None for name in STORAGES},
    "numpy ndarray": None,
    "numpy dtype": _dtype,
    **{f"numpy.{core}.multiarray _reconstruct": _empty_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _from_buffer for core in ("core", "_core")},
}
