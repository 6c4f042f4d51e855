"""What each config costs: python -m ktn_jax.models.summary [CONFIG.py ...] [--json].

Parameters (trained and frozen) and GFLOPs, for one image and as the network is used:
knowledge transfer folded. A GFLOP is 1e9 multiplications or additions, that is, twice the
multiply-adds. Counted in traced functions: nothing is computed, no array is made.
"""

import argparse
import json
import math
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core

from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.models.layers import depthwise
from ktn_jax.models.network import backbone_of, build_network

CANVASES = (512, 800)  # pixels
COLUMNS = (
    "config",
    "backbone",
    "backbone M",
    "total M",
    "inference M",
    *(f"{part} GFLOP {canvas}" for canvas in CANVASES for part in ("backbone", "total")),
)

Row = dict[str, Any]


def summarise(model: Mapping[str, Any]) -> Row:
    """Counts of config.model: {"backbone", "parameters": {...}, "gflop": {canvas: ...}}."""
    network = build_network(model)
    used, backbone = network.clone(ktm=False), backbone_of(network)
    image = _image(CANVASES[0])
    trained, inference, part = (_variables(m, image) for m in (network, used, backbone))
    gflop = {}
    for canvas in CANVASES:
        image = _image(canvas)
        gflop[canvas] = {
            "backbone": 2e-9 * multiply_adds(backbone, part, image),
            "total": 2e-9 * multiply_adds(used, inference, image),
        }
    parameters = {"backbone": part, "total": trained, "inference": inference}
    return {
        "backbone": network.backbone,
        "parameters": {k: _count(tree) for k, tree in parameters.items()},
        "gflop": gflop,
    }


def multiply_adds(module: nn.Module, variables: Any, image: Any) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass.

    variables, image: arrays, or their shapes as jax.ShapeDtypeStruct.
    """
    return _multiply_adds(jax.make_jaxpr(module.apply)(variables, image).jaxpr)


def _multiply_adds(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = core.jaxprs_in_params(equation.params)
        if equation.params.get("name") == depthwise.__name__:
            total += sum(_products(j) for j in inner)
        else:
            total += _of(equation) + sum(_multiply_adds(j) for j in inner)
    return total


def _of(equation: core.JaxprEqn) -> int:
    """Multiply-adds of one equation: outputs times the length of their sums."""
    outputs = equation.outvars[0].aval.size
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        channels = equation.params["dimension_numbers"].rhs_spec[0]
        return outputs * kernel.size // kernel.shape[channels]
    if equation.primitive.name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        return outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in summed)
    return 0


def _products(jaxpr: core.Jaxpr) -> int:
    """Elementwise products: what a depthwise convolution is made of."""
    own = sum(e.outvars[0].aval.size for e in jaxpr.eqns if e.primitive.name == "mul")
    inner = (core.jaxprs_in_params(equation.params) for equation in jaxpr.eqns)
    return own + sum(_products(j) for jaxprs in inner for j in jaxprs)


def _image(canvas: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, canvas, canvas, 3), jnp.float32)


def _variables(module: nn.Module, image: jax.ShapeDtypeStruct) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), image)


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def load_model(path: Path) -> Mapping[str, Any]:
    """config.model of a config file."""
    if not path.is_file():
        raise UserError(f"config file {path} not found; give files like configs/ktn_r50.py")
    return runpy.run_path(str(path))["get_config"]().model


def format_rows(rows: Mapping[str, Row]) -> str:
    """A Markdown table with aligned columns. rows: by config's name."""
    cells = [COLUMNS]
    for name, row in rows.items():
        millions = [f"{count / 1e6:.2f}" for count in row["parameters"].values()]
        flops = [f"{n:.1f}" for parts in row["gflop"].values() for n in parts.values()]
        cells.append((name, row["backbone"], *millions, *flops))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (n + 2) for n in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs", nargs="*", type=Path, help="config files; default: all of configs/"
    )
    parser.add_argument("--json", action="store_true", help="prints json, no table")
    flags = parser.parse_args(arguments)
    paths = flags.configs or sorted(Path("configs").glob("[!_]*.py"))
    if not paths:
        raise UserError("no configs/ here; give config files, or run it beside configs/")
    rows = {path.stem: summarise(load_model(path)) for path in paths}
    print(json.dumps(rows, indent=2) if flags.json else format_rows(rows))


if __name__ == "__main__":
    sys.exit(main())
