"""The export on disk: one compiled function for any batch, its weights, config, card.

    OUT/weights.safetensors   the network's weights, knowledge transfer folded
    OUT/predict.stablehlo     normalisation, network, grouping and maps (jax.export)
    OUT/config.json           canvas size, architecture, thresholds, checksum
    OUT/MODEL_CARD.md         what it is, what it was trained on, what it reached

Reading one runs no pickle and builds no network.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export as jax_export
from safetensors import numpy as safetensors

from ktn_jax import files, inference
from ktn_jax.codec import Codec
from ktn_jax.errors import UserError
from ktn_jax.models.network import KTN, fold
from ktn_jax.structs import Instances

WEIGHTS, FUNCTION, CONFIG, CARD = (
    "weights.safetensors",
    "predict.stablehlo",
    "config.json",
    "MODEL_CARD.md",
)
PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHT_TYPES = ("float32", "float16")  # as stored; the function computes in float32


def write_export(
    out: Path,
    network: KTN,
    codec: Codec,
    variables: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    card: str,
    weight_type: str = "float32",
) -> None:
    """Write an export.

    config: the run's; of it, data.eval_canvas is the canvas's side.   weight_type: one
    of WEIGHT_TYPES; float16 halves the file.
    """
    network, variables = fold(network, variables)
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    weights = {name: np.asarray(value, weight_type) for name, value in flat.items()}
    canvas, flip_test = config["data"]["eval_canvas"], config["data"]["flip_test"]
    (batch,) = jax_export.symbolic_shape("b")
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in weights.items()}
    image = jax.ShapeDtypeStruct((batch, canvas, canvas, 3), jnp.uint8)
    whole = functools.partial(_predict, network=network, codec=codec, flip_test=flip_test)
    with _bare_file_names():
        exported = jax_export.export(jax.jit(whole), platforms=PLATFORMS)(shapes, image)
    blob = safetensors.save(weights)
    about = {
        "canvas": canvas,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "run": dict(config),
    }
    out.mkdir(parents=True, exist_ok=True)
    files.write_bytes(out / WEIGHTS, blob)
    files.write_bytes(out / FUNCTION, bytes(exported.serialize()))
    files.write_bytes(out / CONFIG, json.dumps(about, indent=2).encode())
    files.write_bytes(out / CARD, card.encode())


def read_export(folder: str | Path) -> tuple[inference.Predict, int]:
    """The prediction of an export, and the side of its square canvas in pixels."""
    folder = Path(folder)
    missing = [n for n in (WEIGHTS, FUNCTION, CONFIG) if not (folder / n).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not an export: {', '.join(missing)} not found; make one with "
            "python -m ktn_jax.export WORKDIR OUT"
        )
    about = json.loads((folder / CONFIG).read_text())
    weights = jax.device_put(safetensors.load(_checked(folder)))
    exported = jax_export.deserialize(bytearray((folder / FUNCTION).read_bytes()))
    call = jax.jit(exported.call)

    def run(image: np.ndarray) -> Instances:
        return Instances(**call(weights, image))

    return run, about["canvas"]


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


def _checked(folder: Path) -> bytes:
    """The bytes of an export's weights; UserError where the checksum differs."""
    about = json.loads((folder / CONFIG).read_text())
    blob = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(blob).hexdigest() != about["sha256"]:
        raise UserError(
            f"{folder / WEIGHTS} is damaged (checksum differs); export it again"
        )
    return blob


def _predict(
    weights: Mapping[str, Any], image: jax.Array, **settings: Any
) -> dict[str, jax.Array]:
    """inference.predict from flat weights to a plain dict, which any reader can take."""
    wide = {name: value.astype(jnp.float32) for name, value in weights.items()}
    variables = traverse_util.unflatten_dict(wide, sep="/")
    return vars(inference.predict(variables, image, **settings))
