"""TensorFlow.js graph models -> names and arrays: a .json lists what its .bin holds."""

import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ktn_jax.pickles import Refused, shown

State = dict[str, np.ndarray]

TYPES = {"float32": "<f4", "int32": "<i4", "float16": "<f2", "bool": "?", "uint8": "u1"}


def read_tfjs(path: Path) -> State:
    """The arrays of a graph model by their names in its graph, in TensorFlow's layout.

    path: the .json; the shards that it names lie beside it. float16 stays float16, though
    the graph calls it float32. Raises Refused for what is no graph model or asks for files
    elsewhere, OSError, ValueError or LookupError for damage.
    """
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict) or "weightsManifest" not in document:
        raise Refused("a .json that is no TensorFlow.js graph model")
    state: State = {}
    for group in document["weightsManifest"]:
        raw = b"".join(_shard(path, name) for name in group["paths"])
        at = 0
        for entry in group["weights"]:
            dtype = _dtype(entry)
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(raw, dtype, count, at)
            state[entry["name"]] = values.reshape(entry["shape"])
            at += values.nbytes
        if at != len(raw):
            raise ValueError(f"{len(raw)} bytes of weights where {at} are listed")
    return state


def _shard(path: Path, name: str) -> bytes:
    """The bytes of a file beside the .json, and of none elsewhere."""
    if PurePath(name).name != name:
        raise Refused(f"weights in {shown(name)}")
    shard = path.with_name(name)
    if not shard.is_file():
        raise FileNotFoundError(f"no {shown(name)} beside it")
    return shard.read_bytes()


def _dtype(entry: dict[str, Any]) -> np.dtype:
    """How an entry's numbers are stored. Integers with a scale are not read."""
    stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
    scaled = "scale" in entry.get("quantization", {})
    if stored not in TYPES or scaled:
        how = f"scaled {stored}" if scaled else str(stored)
        raise Refused(f"the array {shown(entry['name'])} of {how}")
    return np.dtype(TYPES[stored])
