"""The network as ONNX, checked with onnxruntime: images in, Fields out, grouping not.

    OUT/network.onnx    image [1, S, S, 3] u8 RGB -> one output a name of structs.Fields

Needs requirements-onnx.txt. Batch and canvas are fixed, and people are not grouped:
docs/export.md says what stops the converter there.
"""

import importlib.util
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ktn_jax import files
from ktn_jax.errors import UserError
from ktn_jax.models.network import KTN, fold
from ktn_jax.structs import Fields

FILE = "network.onnx"
TOLERANCE = 1e-3  # of a field's largest value, or of 1 where that is smaller
CHECKED = 2  # random images
_PACKAGES = ("jax2onnx", "onnxruntime")


def require_packages() -> None:
    """Nothing; UserError where a package that the conversion needs is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--onnx needs {' and '.join(missing)}: pip install -r requirements-onnx.txt"
        )


def write_network(
    out: Path, network: KTN, variables: Mapping[str, Any], canvas: int
) -> float:
    """The largest difference to JAX on random images, after OUT/network.onnx is written.

    canvas: the side S in pixels. The difference is a share of the field's largest value,
    or of 1. The arithmetic is float32. UserError where it exceeds TOLERANCE; then
    nothing is written.
    """
    require_packages()
    network, variables = fold(network.clone(dtype="float32"), variables)
    variables = jax.device_get(variables)
    images = _random_images(canvas)
    apply = jax.jit(network.apply)
    wanted = [_by_name(jax.device_get(apply(variables, image))) for image in images]
    blob = _converted(network, variables, canvas)
    found = _onnx_outputs(blob, images)
    worst = max(_difference(one, other) for one, other in zip(found, wanted, strict=True))
    if not worst <= TOLERANCE:
        raise UserError(
            f"{FILE} differs from the network by {worst:.2g}, more than {TOLERANCE}: not "
            "written; use the .stablehlo.gz files (docs/export.md)"
        )
    files.write_bytes(out / FILE, blob)
    return worst


def _random_images(canvas: int) -> list[np.ndarray]:
    """CHECKED images [1, S, S, 3] u8: noise, each at its own brightness."""
    rng = np.random.default_rng(0)
    tops = np.linspace(64, 256, CHECKED).astype(int)
    return [rng.integers(0, top, (1, canvas, canvas, 3), np.uint8) for top in tops]


def _converted(network: KTN, variables: Mapping[str, Any], canvas: int) -> bytes:
    """The ONNX model, made in a process of its own.

    jax2onnx leaves stand-ins in jax and in jit's caches that break what runs later.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_convert, network, variables, canvas).result()


def _convert(network: KTN, variables: Mapping[str, Any], canvas: int) -> bytes:
    """The ONNX model of image -> fields by name. Spoils jax in this process."""
    import jax2onnx  # optional, and slow to import

    jax.config.update("jax_platforms", "cpu")  # the accelerator is the other process's

    def fields(image: jax.Array) -> dict[str, jax.Array]:
        return _by_name(network.apply(variables, image))

    spec = jax.ShapeDtypeStruct((1, canvas, canvas, 3), jnp.uint8)
    names = sorted(jax.eval_shape(fields, spec))  # as jax flattens a dict
    model = jax2onnx.to_onnx(
        fields, [spec], model_name="ktn", input_names=["image"], output_names=names
    )
    return model.SerializeToString()


def _by_name(fields: Fields) -> dict[str, jax.Array]:
    """The fields that a network has."""
    return {name: value for name, value in vars(fields).items() if value is not None}


def _onnx_outputs(blob: bytes, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What onnxruntime makes of each image, by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of constants that it drops
    session = onnxruntime.InferenceSession(blob, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(names, {"image": image}) for image in images]
    return [dict(zip(names, run, strict=True)) for run in runs]


def _difference(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """The largest difference of a field, a share of its largest value or of 1."""
    shares = []
    for name, want in wanted.items():
        if found[name].shape != want.shape:
            return np.inf
        gap = np.abs(found[name] - want).max()
        shares.append(gap / max(1.0, np.abs(want).max()))
    return float(np.max(shares))  # NaN stays NaN
