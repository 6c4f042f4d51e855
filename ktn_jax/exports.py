"""The export on disk: compiled functions for any batch and canvas, weights, config, card.

    OUT/weights.safetensors   the network's weights, knowledge transfer folded; as .xz
                              where they are packed
    OUT/plain.stablehlo.gz    normalisation, network, grouping and maps (jax.export)
    OUT/flip.stablehlo.gz     the same, averaged with the mirror image
    OUT/smaller.stablehlo.gz  the same as flip, of canvases at .7 and .5 of the size, too
    OUT/scales.stablehlo.gz   the same as flip, of canvases at .7 and 1.4 of the size, too
    OUT/config.json           canvas size, architecture, thresholds, checksum
    OUT/MODEL_CARD.md         what it is, what it was trained on, what it reached

One function serves every batch size and every canvas whose sides are multiples of 32.
Reading an export runs no pickle and builds no network.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export as jax_export
from safetensors import numpy as safetensors

from ktn_jax import files, inference, weights
from ktn_jax.codec import Codec
from ktn_jax.errors import UserError
from ktn_jax.models.network import CANVAS_MULTIPLE, KTN, fold
from ktn_jax.structs import Instances

CONFIG, CARD = "config.json", "MODEL_CARD.md"
WEIGHTS, PACKED = weights.EXPORTED
PACKED_BITS = 8  # of a packed weight's value, the leading one included
PACKING = {"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 1, "pb": 1}  # of 16 bits
TEST_TIMES = {  # name -> of inference.predict
    "plain": {"flip_test": False},
    "flip": {"flip_test": True},
    "smaller": {"flip_test": True, "compete": True},
    "scales": {"flip_test": True, "join": True},
}
PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHT_TYPES = ("float32", "float16", "bfloat16")  # as stored; computed in float32


class Export(NamedTuple):
    """An export in use."""

    run: inference.Predict
    canvas: int  # the longer side of canvases in pixels, a multiple of 32
    checksum: str  # SHA-256 of the weights
    test_time: str  # one of TEST_TIMES


def write_export(
    out: Path,
    network: KTN,
    codec: Codec,
    variables: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    card: str,
    weight_type: str = "float32",
    packed: bool = False,
    test_time: str | None = None,
) -> None:
    """Write an export.

    config: the run's; of it, data.eval_canvas is the canvas's side unless a reader asks
    for another.   card: may name {checksum}.   weight_type: one of WEIGHT_TYPES; 16 bits
    halve the file.   packed: whether they are rounded to PACKED_BITS significant bits and
    compressed, a third less again.   test_time: one of TEST_TIMES, which is run unless a
    reader asks for another; None: flip where data.flip_test is set, else plain.
    """
    network, variables = fold(network, variables)
    usual = "flip" if config["data"]["flip_test"] else "plain"
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    kind = jnp.dtype(weight_type)
    stored = {name: np.asarray(value) for name, value in flat.items()}
    if packed:
        stored = {name: _rounded(value) for name, value in stored.items()}
    stored = {name: value.astype(kind) for name, value in stored.items()}
    blob = safetensors.save(stored)
    about = {
        "canvas": config["data"]["eval_canvas"],
        "test_time": test_time or usual,
        "weight_type": weight_type,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "run": dict(config),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, settings in TEST_TIMES.items():
        function = functools.partial(_predict, network=network, codec=codec, **settings)
        program = gzip.compress(_lowered(function, stored), mtime=0)
        files.write_bytes(out / _file_of(name), program)
    if packed:
        files.write_bytes(out / PACKED, lzma.compress(blob, filters=[PACKING]))
    else:
        files.write_bytes(out / WEIGHTS, blob)
    (out / (WEIGHTS if packed else PACKED)).unlink(missing_ok=True)  # an older one's
    files.write_bytes(out / CONFIG, json.dumps(about, indent=2).encode())
    files.write_bytes(out / CARD, card.replace("{checksum}", about["sha256"]).encode())


def _rounded(value: np.ndarray) -> np.ndarray:
    """The numbers to PACKED_BITS significant bits, float32."""
    mantissa, exponent = np.frexp(value.astype(np.float32))
    return np.ldexp(np.rint(np.ldexp(mantissa, PACKED_BITS)), exponent - PACKED_BITS)


def _lowered(function: Any, stored: Mapping[str, np.ndarray]) -> bytes:
    """A function of (weights, image) as StableHLO for all platforms, batches, canvases."""
    batch, rows, columns = jax_export.symbolic_shape(
        "b, h, w", constraints=["b >= 1", "h >= 2", "w >= 2"]
    )
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in stored.items()}
    size = (batch, CANVAS_MULTIPLE * rows, CANVAS_MULTIPLE * columns, 3)
    image = jax.ShapeDtypeStruct(size, jnp.uint8)
    with _bare_file_names():
        exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(shapes, image)
    return bytes(exported.serialize())


def read_export(
    folder: str | Path, *, canvas: int | None = None, test_time: str | None = None
) -> Export:
    """An export, its weights on the device.

    canvas: longer side in pixels, a multiple of 32 and at least 64; None: the export's.
    test_time: one of TEST_TIMES; None: the export's.
    UserError where the folder is no export, is damaged or is of another version.
    """
    folder = Path(folder)
    about = read_about(folder)
    canvas = check_canvas(about["canvas"] if canvas is None else canvas)
    test_time = test_time or about.get("test_time", "plain")
    if test_time not in TEST_TIMES:
        raise UserError(f"test time {test_time} is not one of {', '.join(TEST_TIMES)}")
    function = folder / _file_of(test_time)
    if not function.is_file() or "weight_type" not in about:
        raise UserError(f"{folder} was made by an older version; export it again")
    kind = jnp.dtype(about["weight_type"])
    state = read_stored(folder, about["sha256"])
    stored = jax.device_put({name: value.astype(kind) for name, value in state.items()})
    exported = jax_export.deserialize(_unpacked(function))
    call = jax.jit(exported.call)

    def run(image: np.ndarray) -> Instances:
        return Instances(**call(stored, image))

    return Export(run, canvas, about["sha256"], test_time)


def is_export(folder: Path) -> bool:
    """Whether a folder has an export's weights."""
    return weights.find_exported(folder) is not None


def read_about(folder: Path) -> dict[str, Any]:
    """What CONFIG says; UserError where the folder is no export."""
    missing = [] if is_export(folder) else [WEIGHTS]
    missing += [] if (folder / CONFIG).is_file() else [CONFIG]
    if missing:
        raise UserError(
            f"{folder} is not an export: {', '.join(missing)} not found; make one with "
            "python -m ktn_jax.export WORKDIR OUT"
        )
    return json.loads((folder / CONFIG).read_text())


def read_stored(folder: Path, checksum: str) -> weights.State:
    """The weights by name; UserError where they are not those that were written."""
    path = weights.find_exported(folder) or folder / WEIGHTS
    try:
        blob, reason = weights.read_bytes(path), "checksum differs"
    except ValueError as error:
        blob, reason = b"", str(error)
    if hashlib.sha256(blob).hexdigest() != checksum:
        raise UserError(f"{path} is damaged ({reason}); export it again")
    return weights.read_safetensors(blob)


def check_canvas(canvas: int) -> int:
    """The canvas, if the network's strides divide it and a smaller one."""
    if canvas < 2 * CANVAS_MULTIPLE or canvas % CANVAS_MULTIPLE:
        raise UserError(
            f"--canvas={canvas} must be a multiple of {CANVAS_MULTIPLE}, at least "
            f"{2 * CANVAS_MULTIPLE}"
        )
    return canvas


def _unpacked(path: Path) -> bytearray:
    """What write_export compressed; UserError where it is damaged."""
    try:
        return bytearray(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); export it again") from error


def _file_of(test_time: str) -> str:
    return f"{test_time}.stablehlo.gz"


@contextlib.contextmanager
def _bare_file_names() -> Iterator[None]:
    """Within it, what is lowered names source files without this machine's folders."""
    option = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, option)
    jax.config.update(option, ".*/")
    try:
        yield
    finally:
        jax.config.update(option, before)


def _predict(
    stored: Mapping[str, Any], image: jax.Array, **settings: Any
) -> dict[str, jax.Array]:
    """inference.predict from flat weights to a plain dict, which any reader can take."""
    wide = {name: value.astype(jnp.float32) for name, value in stored.items()}
    variables = traverse_util.unflatten_dict(wide, sep="/")
    return vars(inference.predict(variables, image, **settings))
