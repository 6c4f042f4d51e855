"""Checkpoint -> export: python -m ktn_jax.export WORKDIR OUT.

WORKDIR may be an export, too: then OUT has its weights, decoded otherwise. And weights of
several runs can be averaged into one export.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

import ktn_jax
from ktn_jax import checkpoint, exports, onnx_export, weights
from ktn_jax.codec import Codec
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.models.network import (
    KTN,
    build_network,
    check_network,
    fold,
    init_variables,
)


def load_run(workdir: str) -> tuple[dict[str, Any], KTN, int, dict[str, Any]]:
    """Config, network, step and variables of a run's newest checkpoint, or of an export.

    An export's network has no knowledge transfer left, and its step is the run's last.
    """
    if exports.is_export(Path(workdir)):
        return _load_export(Path(workdir))
    config = checkpoint.read_config(workdir)
    # the checkpoint holds the graph: its file may be gone, and shapes need no values
    network = build_network(config["model"] | {"graph": ""})
    shapes = jax.eval_shape(lambda: init_variables(network, 0, config["data"]["canvas"]))
    like = {"params": shapes["params"], "frozen": shapes.get("frozen", {})}
    step, variables = checkpoint.read_weights(workdir, like)
    return config, network, step, variables


def _load_export(folder: Path) -> tuple[dict[str, Any], KTN, int, dict[str, Any]]:
    about = exports.read_about(folder)
    config = about["run"]
    network = build_network(config["model"] | {"graph": "", "ktm": False})
    stored = exports.read_stored(folder, about["sha256"])
    wide = {name: jnp.asarray(value, jnp.float32) for name, value in stored.items()}
    variables = traverse_util.unflatten_dict(wide, sep="/")
    return config, network, config["train"]["steps"], variables


def average(
    network: KTN, variables: Mapping[str, Any], others: Sequence[str]
) -> tuple[KTN, dict[str, Any]]:
    """The network, folded, with the mean of its weights and those of other runs or exports.

    Of runs that went on from one another the mean is often better than each (Wortsman et
    al. 2022, "model soups"). UserError where a run's network has other weights.
    """
    network, variables = fold(network, variables)
    total = traverse_util.flatten_dict(dict(variables), sep="/")
    for other in others:
        _, its_network, _, its_variables = load_run(other)
        _, its_variables = fold(its_network, its_variables)
        added = traverse_util.flatten_dict(dict(its_variables), sep="/")
        odd = {
            name
            for name in total.keys() | added.keys()
            if getattr(total.get(name), "shape", None)
            != getattr(added.get(name), "shape", None)
        }
        if odd:
            raise UserError(
                f"--average {other}: its {min(odd)} is not that of the first network "
                f"({len(odd)} weights differ in name or shape); give runs of one model"
            )
        total = {name: value + added[name] for name, value in total.items()}
    mean = {name: value / (1 + len(others)) for name, value in total.items()}
    return network, traverse_util.unflatten_dict(mean, sep="/")


def see_keypoints(network: KTN, variables: dict[str, Any], file: str) -> KTN:
    """The network with its prior's own keypoint head, whose weights join the variables.

    file: of MoveNet MultiPose. UserError where the network has another prior, or none.
    """
    from ktn_jax.models import pretrained  # late: most exports do without

    network = network.clone(prior_keypoints=True)
    check_network(network)
    state = weights.read_state(weights.find_weights(file))
    head = pretrained.keypoint_variables(state)["params"]
    variables["params"] = {**variables["params"], "prior_keypoints": head}
    return network


def see_people(network: KTN, variables: dict[str, Any], file: str) -> KTN:
    """The network with a detector beside it, whose weights join the variables.

    file: of NanoDet-g. UserError where it is something else.
    """
    from ktn_jax.models import nanodet, pretrained  # late: most exports do without

    state = weights.read_state(weights.find_weights(file))
    params = pretrained.detector_variables(state)["params"]
    variables["params"] = {**variables["params"], "detector": params}
    return network.clone(detector=nanodet.NANODET)


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Decoding's settings from NAME=VALUE. UserError for what Codec has not."""
    names = [field.name for field in dataclasses.fields(Codec)]
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = json.loads(value.lower())
        except ValueError:
            number = None
        if not isinstance(number, int | float):
            raise UserError(
                f"--codec {text} is not NAME=VALUE with a number, true or false; give such "
                "as --codec mask_threshold=0.35"
            )
        if name not in names:
            raise UserError(
                f"--codec {text}: there is no {name}; there are {', '.join(names)}"
            )
        settings[name] = number
    return settings


# fields that name files on the trainer's machine
PATHS = (("data", "root"), ("data", "symmetry"), ("init", "checkpoint"),
         ("init", "backbone"), ("init", "prior"), ("init", "detector"), ("model", "graph"),
         ("train", "eval_surface"))  # fmt: skip


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the folders of the machine it was trained on."""
    copy = {room: dict(c) if isinstance(c, Mapping) else c for room, c in config.items()}
    for room, field in PATHS:
        if field in copy[room]:  # older runs lack some
            copy[room][field] = Path(copy[room][field]).name
    mix = copy["data"].get("mix", ())
    copy["data"]["mix"] = [
        [Path(root).name, split, share, *(Path(value).name for value in more)]
        for root, split, share, *more in mix
    ]
    return copy


def _training_data(data: Mapping[str, Any]) -> str:
    """Splits and folders, as in "split `train` of `coco`"."""
    mix = data.get("mix") or [(data["root"], data["train_split"])]
    return " and ".join(
        f"split `{split}` of `{Path(root).name}`" for root, split, *_ in mix
    )


def model_card(
    config: Mapping[str, Any],
    step: int,
    parameters: int,
    *,
    measured: Mapping[str, Any] | None = None,
    averaged: Sequence[str] = (),
    about: str = "",
    weight_type: str = "float32",
    packed: bool = False,
) -> str:
    """The card's text.

    measured: statistics by metric, or None where nobody measured.   averaged: what other
    runs or exports its weights are averaged with.   about: what its maker has to say of
    it.   weight_type, packed: as stored.
    """
    data = config["data"]
    lines = ["not measured"]
    if measured:
        lines = [
            f"{name}: AP {measured[name]['AP']:.3f}"
            for name in ("gpsm", "gps", "iou", "keypoints")
            if measured.get(name)
        ]
    measures = "\n".join(f"    - {line}" for line in lines)
    names = ", ".join(f"`{Path(name).name}`" for name in averaged)
    mean = f"\n- Every weight is the mean over this run's and {names}." if names else ""
    bits = f" (packed as .xz, {exports.PACKED_BITS} significant bits)" if packed else ""
    return f"""# Model card

Bottom-up KTN: chart (I), U and V of the body surface for every pixel of every person.
{parameters:,} parameters, canvas {data["eval_canvas"]} px.

- Trained for {step} steps on {_training_data(data)}.{mean}
- Reached on split `{data["eval_split"]}` (AP as fractions):
{measures}
- Licence of the code: Apache-2.0. The weights follow their training data's: a model of
  the rendered CC0 people is free to use; DensePose-COCO is CC BY-NC.
- Made by ktn_jax {ktn_jax.__version__}{_commit()}.
- Pixels: RGB, 0..255; the function normalises. weights.safetensors is {weight_type}{bits},
  its SHA-256 {{checksum}}.
{about}"""


def _commit() -> str:
    """ ", commit ..." where the code lies in a git checkout, else nothing."""
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f", commit `{told.stdout.strip()}`" if told.returncode == 0 else ""


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ktn_jax.export", description=__doc__)
    parser.add_argument("workdir", help="folder of a training run, or of an export")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--measured", type=Path, help="json of eval.py --out, for the card")
    parser.add_argument(
        "--canvas", type=int, help="pixels a side, instead of the run's data.eval_canvas"
    )
    parser.add_argument(
        "--codec",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="of decoding, instead of the run's: bandwidth_scale=0.6 chart_score=true",
    )
    parser.add_argument(
        "--average",
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs or exports of the same model: write the mean of all weights",
    )
    parser.add_argument(
        "--prior-keypoints",
        metavar="FILE",
        help="weights of MoveNet MultiPose: adds its own keypoint head, for --codec "
        "prior_score=true",
    )
    parser.add_argument(
        "--detector",
        metavar="FILE",
        help="weights of NanoDet-g: adds the detector, for --codec detector_score=true",
    )
    parser.add_argument("--about", type=Path, help="text (Markdown) to end the card with")
    parser.add_argument("--weight-type", choices=exports.WEIGHT_TYPES, default="float32")
    parser.add_argument(
        "--packed",
        action="store_true",
        help="weights to 8 significant bits and compressed (.xz): a third smaller",
    )
    parser.add_argument(
        "--test-time",
        choices=exports.TEST_TIMES,
        help="what readers run unless they ask; default: the export's, or flip with "
        "data.flip_test, or plain",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="write network.onnx, too: one canvas, no grouping",
    )
    flags = parser.parse_args(arguments)
    if flags.onnx:
        onnx_export.require_packages()
    config, network, step, variables = load_run(flags.workdir)
    test_time = flags.test_time
    if test_time is None and exports.is_export(Path(flags.workdir)):
        test_time = exports.read_about(Path(flags.workdir)).get("test_time")
    if flags.average:
        network, variables = average(network, variables, flags.average)
    if flags.prior_keypoints:
        network = see_keypoints(network, variables, flags.prior_keypoints)
        config["model"] |= {"prior_keypoints": True}
    if flags.detector:
        network = see_people(network, variables, flags.detector)
        config["model"] |= {"detector": network.detector}
    if flags.canvas is not None:
        config["data"]["eval_canvas"] = exports.check_canvas(flags.canvas)
    config["codec"] |= read_settings(flags.codec)
    codec = Codec(**config["codec"])
    measured = json.loads(flags.measured.read_text()) if flags.measured else None
    parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
    card = model_card(
        config,
        step,
        parameters,
        measured=measured,
        averaged=flags.average,
        about="\n" + flags.about.read_text() if flags.about else "",
        weight_type=flags.weight_type,
        packed=flags.packed,
    )
    exports.write_export(
        flags.out,
        network,
        codec,
        variables,
        config=portable(config),
        card=card,
        weight_type=flags.weight_type,
        packed=flags.packed,
        test_time=test_time,
    )
    if flags.onnx:
        canvas = config["data"]["eval_canvas"]
        worst = onnx_export.write_network(flags.out, network, variables, canvas)
        print(f"{onnx_export.FILE}: onnxruntime agrees to {worst:.1e}")
    print(f"exported step {step} of {flags.workdir} to {flags.out}")


if __name__ == "__main__":
    sys.exit(main())
