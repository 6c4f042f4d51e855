"""Which layers of a network have channels that never change: a JSON line for each.

    python -m benchmarks.idle EXPORT_OR_WORKDIR --images=FOLDER [--count=4]

A rectified channel that is at zero everywhere learns no more, and nothing fails: the rest
learns without it. A channel is still that has one value in all cells of all photographs. A
layer is named as its parameters are; the last line counts channels of all layers.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from ktn_jax import export, predictor
from ktn_jax.data.transforms import letterbox_example
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.geometry import Affine
from ktn_jax.inputs import SUFFIXES
from ktn_jax.models.network import KTN
from ktn_jax.records import Example


def count_still(
    network: KTN, variables: Mapping[str, Any], canvases: np.ndarray
) -> dict[str, tuple[int, int]]:
    """Layer -> (channels that never change, channels). canvases: [B, H, W, 3] u8."""
    _, kept = network.apply(
        variables, canvases, capture_intermediates=True, mutable=["intermediates"]
    )
    layers = traverse_util.flatten_dict(kept["intermediates"])
    return {
        "/".join(path[:-1]): (_still(value), value.shape[-1])
        for path, (value, *_) in layers.items()
        if isinstance(value, jax.Array) and value.ndim == 4
    }


def _still(value: jax.Array) -> int:
    """How many channels of a map [B, h, w, C] have one value."""
    return int((value.max((0, 1, 2)) == value.min((0, 1, 2))).sum())


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.idle", description=__doc__.splitlines()[0]
    )
    parser.add_argument("network", type=Path, help="folder of an export or of a run")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--count", type=int, default=4, help="how many of them are seen")
    flags = parser.parse_args(arguments)
    paths = (p for p in sorted(flags.images.iterdir()) if p.suffix.lower() in SUFFIXES)
    chosen = list(paths)[: flags.count]
    if not chosen:
        raise UserError(f"{flags.images} holds no photograph ({', '.join(SUFFIXES)})")
    config, network, _, variables = export.load_run(str(flags.network))
    size = (config["data"]["eval_canvas"],) * 2
    examples = (Example(0, predictor.pixels(path), (), Affine()) for path in chosen)
    canvases = np.stack([letterbox_example(one, size).image for one in examples])
    total = still = 0
    for layer, (idle, channels) in count_still(network, variables, canvases).items():
        total, still = total + channels, still + idle
        if idle:
            print(json.dumps({"layer": layer, "still": idle, "channels": channels}))
    print(json.dumps({"photographs": len(chosen), "still": still, "channels": total}))


if __name__ == "__main__":
    sys.exit(main())
