"""Published ImageNet weights -> variables of our backbones. From arrays, not from files.

Our modules carry the torch names (layer1_0/conv1 is "layer1.0.conv1"), so the map is a
rule on names; what other tools call the same thing is renamed first. It is strict: every
array is used once or listed as ignored, and every variable gets its array.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ktn_jax.errors import UserError
from ktn_jax.models.backbone import build_backbone
from ktn_jax.models.mobile import (
    MOBILE,
    NORM_EPSILON,
    LiteClassifier,
    MobileBackbone,
)
from ktn_jax.models.movenet import MOVENET, MoveNetKeypoints
from ktn_jax.models.nanodet import BINS, CONVOLUTIONS, SIDES, NanoDet

Array = jax.Array
State = Mapping[str, np.ndarray]
Variables = dict[str, Any]

TORCH_EPSILON = 1e-5  # of the other BatchNorms
STATISTICS = ("running_mean", "running_var")
AFFINE = ("weight", "bias")
SHOWN = 4  # names of a kind that an error lists

# What is left out, by regular expression, once it is renamed: classifiers and counters.
COUNTERS = r".*(\.num_batches_tracked|_momentum)"
RESNET_REST = r"fc(1000)?\..*|conv1\.bias"  # the bias: a blob of 1e-9s nobody reads
HRNET_REST = r"(incre_modules|downsamp_modules|final_layer|classifier)\..*"
LITE_REST = r"(conv_head|bn1|fc)\..*"

CAFFE2 = r"(res\d_\d+|res_conv1|conv1|fc1000)_.*"  # names of blobs in MSRA's files
CAFFE2_NAMES = (  # to detectron2's
    (r"^res_conv1_bn", "stem.conv1_bn"),
    (r"^conv1_", "stem.conv1_"),
    (r"^(res\d)_(\d+)_", r"\1.\2."),
    (r"branch1_", "shortcut_"),
    (r"branch2a_", "conv1_"),
    (r"branch2b_", "conv2_"),
    (r"branch2c_", "conv3_"),
    (r"_bn_(s|gamma)$", ".norm.weight"),  # Detectron's and detectron2's spelling
    (r"_bn_(b|beta)$", ".norm.bias"),
    (r"_bn_(rm|running_mean)$", ".norm.running_mean"),
    (r"_bn_(riv|running_var)$", ".norm.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
)
MOVENET_BACKBONE = re.compile(  # the backbone's constants in its graph; there are others
    r".*/model_1/model/(Conv1|expanded_conv|block_(\d+))(_expand|_depthwise|_project)?"
    r"/(Conv2D|depthwise)_(weights|bn_offset)"
)
MOVENET_PLACES = {  # -> convolution, its norm
    None: ("conv_stem", "bn0"),
    "_expand": ("expand_conv", "bn0"),
    "_depthwise": ("depthwise_conv", "bn1"),
    "_project": ("project_conv", "bn2"),
}
_PLAIN = ("/Conv2D/ReadVariableOp", "/BiasAdd/ReadVariableOp")
_DEEP = ("/separable_conv2d/ReadVariableOp",)
_FOLDED = ("/separable_conv2d_weights", "/separable_conv2d_bn_offset")
_POINT = ("/separable_conv2d/ReadVariableOp_1", "/BiasAdd/ReadVariableOp")
MOVENET_KEYPOINTS = {  # our module -> its place in the graph, endings of kernel and bias
    "top": ("/model/Conv_1", ("/Conv2D_weights", "/Conv2D_bn_offset")),
    "lateral5": ("/model_1/conv2d", _PLAIN),
    "lateral4": ("/model_1/conv2d_1", _PLAIN),
    "lateral3": ("/model_1/conv2d_2", _PLAIN),
    "lateral2": ("/model_1/conv2d_3", _PLAIN),
    "depthwise4": ("/model_1/separable_conv2d", _DEEP),
    "pointwise4": ("/model_1/separable_conv2d", _FOLDED),
    "depthwise3": ("/model_1/separable_conv2d_1", _DEEP),
    "pointwise3": ("/model_1/separable_conv2d_1", _FOLDED),
    "depthwise2": ("/model_1/separable_conv2d_2", _DEEP),
    "pointwise2": ("/model_1/separable_conv2d_2", _FOLDED),
    "depthwise": ("/kpt_heatmap_0/separable_conv2d_6", _DEEP),
    "pointwise": ("/kpt_heatmap_0/separable_conv2d_6", _POINT),
    "keypoints": ("/kpt_heatmap_0/conv2d_7", _PLAIN),
}
NANODET_CLASSES = 80  # of which a person is the first
NANODET_BIASES = (*range(0, 56, 2), 60, 62, 66, 68, 70, 72)  # "unknown_" and this, in order
DETECTRON2_NAMES = (  # to torchvision's
    (r"^stem\.", ""),
    (r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
    (r"shortcut\.norm\.", "downsample.1."),
    (r"shortcut\.", "downsample.0."),
    (r"conv(\d)\.norm\.", r"bn\1."),
)


def backbone_variables(backbone: str, state: State) -> Variables:
    """{"params", "frozen"} of a backbone with norm="frozen", float32.

    backbone: one of backbone.BACKBONES but "small".   state: arrays by name, of
    torchvision, detectron2 (also MSRA's Caffe2 blobs), HRNet's authors, the torch port of
    EfficientNet-Lite0, or MoveNet MultiPose for TensorFlow.js. BatchNorms come as scale
    and bias; a file without statistics has them folded already. Raises UserError with all
    differences.
    """
    module = build_backbone(backbone, norm="frozen")
    image = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    rest = _rest(backbone)
    named = {
        k: v for k, v in _renamed(backbone, state).items() if not re.fullmatch(rest, k)
    }
    return _fit(shapes, named, backbone)


def keypoint_variables(state: State) -> Variables:
    """{"params"} of movenet.MoveNetKeypoints, float32.

    state: arrays of MoveNet MultiPose for TensorFlow.js. UserError where some are not there
    or have another shape.
    """
    flat = traverse_util.flatten_dict(_keypoint_shapes(), sep="/")
    made, odd = {}, []
    for name, wanted in flat.items():
        _, module, leaf = name.split("/")
        place, endings = MOVENET_KEYPOINTS[module]
        end = place + endings[leaf == "bias"]
        value = next((x for key, x in state.items() if key.endswith(end)), np.zeros(0))
        if "depthwise" in module and value.ndim == 4:
            value = value.transpose(0, 1, 3, 2)  # [3, 3, C, 1] -> [3, 3, 1, C]
        elif value.shape[:2] == (1, 1):
            value = value[0, 0]
        if value.shape != wanted.shape:
            odd.append(end[1:])
        made[name] = np.ascontiguousarray(value, np.float32)
    if odd:
        raise UserError(
            f"of MoveNet's keypoint head {len(odd)} arrays are missing or of another shape "
            f"({_first(odd)}); give the weights of MoveNet MultiPose (its .json), or do "
            "without it (model.prior_keypoints)"
        )
    return traverse_util.unflatten_dict(made, sep="/")


def detector_variables(state: State) -> Variables:
    """{"params"} of nanodet.NanoDet, float32.

    state: arrays of NanoDet-g for TensorFlow.js. UserError where some are not there or have
    another shape.
    """
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(NanoDet().init, jax.random.key(0), image)["params"]
    made: Variables = {}
    odd = []
    for i, (name, bias) in enumerate(zip(CONVOLUTIONS, NANODET_BIASES, strict=True)):
        places = ("PartitionedCall/split" + (f"_{i}" if i else ""), f"unknown_{bias}")
        kernel, bias = (state.get(place, np.zeros(0)) for place in places)
        if kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        if name.startswith("out") and len(bias) == NANODET_CLASSES + SIDES * BINS:
            kept = [0, *range(NANODET_CLASSES, len(bias))]
            kernel, bias = kernel[..., kept], bias[kept]
        made[name] = {
            "kernel": np.ascontiguousarray(kernel, np.float32),
            "bias": np.ascontiguousarray(bias, np.float32),
        }
        odd += [
            place
            for place, leaf in zip(places, ("kernel", "bias"), strict=True)
            if made[name][leaf].shape != shapes[name][leaf].shape
        ]
    if odd:
        raise UserError(
            f"of NanoDet-g {len(odd)} arrays are missing or of another shape "
            f"({_first(odd)}); give NanoDet-g's weights for TensorFlow.js (its .json), or "
            "do without it (model.detector)"
        )
    return {"params": made}


def _keypoint_shapes() -> Variables:
    """What the keypoint head's variables look like."""

    def variables(key: Array) -> Variables:
        backbone = MobileBackbone(MOBILE[MOVENET], "frozen")
        stages, _ = backbone.init_with_output(key, jnp.zeros((1, 32, 32, 3)), every=True)
        return MoveNetKeypoints().init(key, stages)

    return jax.eval_shape(variables, jax.random.key(0))


def classifier_variables(state: State) -> Variables:
    """{"params", "frozen"} of mobile.LiteClassifier from the same state."""
    features = jnp.zeros((1, 2, 2, 320))
    shapes = jax.eval_shape(LiteClassifier().init, jax.random.key(0), features)
    named = {
        name: value
        for name, value in _renamed("efficientnet_lite0", state).items()
        if re.fullmatch(LITE_REST, name) and not re.fullmatch(COUNTERS, name)
    }
    return _fit(shapes, named, "efficientnet_lite0")


def _rest(backbone: str) -> str:
    if backbone in MOBILE:
        rest = LITE_REST
    else:
        rest = HRNET_REST if backbone.startswith("hrnet") else RESNET_REST
    return f"{COUNTERS}|{rest}"


def _renamed(backbone: str, state: State) -> dict[str, np.ndarray]:
    """The state under the names of our modules; 1x1 kernels as matrices."""
    if backbone in MOBILE and any(MOVENET_BACKBONE.fullmatch(name) for name in state):
        state = _from_movenet(state)
    named: dict[str, np.ndarray] = {}
    for original, value in state.items():
        name = _rename(backbone, original)
        if name in named:
            raise UserError(
                f"{original!r} is a second {name!r} in the weights of {backbone}; "
                "give one network's weights"
            )
        value = np.asarray(value)
        named[name] = value[:, :, 0, 0] if value.shape[2:] == (1, 1) else value
    return named


def _rename(backbone: str, name: str) -> str:
    if backbone in MOBILE:
        return ".".join(part.removeprefix("_") for part in name.split("."))
    if not backbone.startswith("resnet"):
        return name
    rules = (CAFFE2_NAMES if re.fullmatch(CAFFE2, name) else ()) + DETECTRON2_NAMES
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _from_movenet(state: State) -> dict[str, np.ndarray]:
    """The backbone of a MoveNet graph, by Lite0's names and in torch's layout.

    Kernels [h, w, in, out] become [out, in, h, w], depthwise [h, w, C, 1] [C, 1, h, w].
    Of its norms, folded before, biases are left.
    """
    made = {}
    for name, value in state.items():
        match = MOVENET_BACKBONE.fullmatch(name)
        if not match:
            continue
        first, number, place, kind, leaf = match.groups()
        block = "" if first == "Conv1" else f"blocks.{number or 0}."
        convolution, norm = MOVENET_PLACES[place]
        if leaf == "bn_offset":
            made[f"{block}{norm}.weight"] = np.ones_like(value)
            made[f"{block}{norm}.bias"] = value
        else:
            axes = (3, 2, 0, 1) if kind == "Conv2D" else (2, 3, 0, 1)
            made[f"{block}{convolution}.weight"] = value.transpose(axes)
    return made


def _fit(shapes: Variables, named: State, backbone: str) -> Variables:
    """Variables of the given shapes, each from its array. No array may be left over."""
    flat = traverse_util.flatten_dict(shapes)
    folded = not any(name.endswith(STATISTICS) for name in named)
    _check(_expected(flat, folded), named, backbone)
    epsilon = NORM_EPSILON if backbone in MOBILE else TORCH_EPSILON
    made = {}
    for path in flat:
        kind, *modules, leaf = path
        name = _torch_name(modules)
        if kind == "frozen":
            value = _fold(named, name, epsilon if not folded else None)[leaf]
        elif leaf == "kernel":
            value = named[f"{name}.weight"]
            value = value.transpose((2, 3, 1, 0) if value.ndim == 4 else (1, 0))
        else:
            value = named[f"{name}.{leaf}"]
        made[path] = np.ascontiguousarray(value, np.float32)
    return traverse_util.unflatten_dict(made)


def _torch_name(modules: list[str]) -> str:
    """("layer1_0", "downsample_1") -> "layer1.0.downsample.1"."""
    return re.sub(r"_(\d+)", r".\1", ".".join(modules))


def _expected(
    flat: Mapping[tuple[str, ...], Any], folded: bool
) -> dict[str, tuple[int, ...]]:
    """Torch name -> torch shape of every array that the variables are made of."""
    expected = {}
    for (kind, *modules, leaf), value in flat.items():
        name, shape = _torch_name(modules), value.shape
        if kind == "frozen":
            parts = AFFINE if folded else AFFINE + STATISTICS
            expected |= {f"{name}.{part}": shape for part in parts}
        elif leaf == "kernel":
            expected[f"{name}.weight"] = (*shape[:-3:-1], *shape[:-2])  # HWIO -> OIHW
        else:
            expected[f"{name}.{leaf}"] = shape
    return expected


def _fold(named: State, name: str, epsilon: float | None) -> dict[str, np.ndarray]:
    """Scale and bias that a BatchNorm comes to at test time."""
    weight, bias = (np.asarray(named[f"{name}.{part}"], np.float64) for part in AFFINE)
    if epsilon is None:
        return {"scale": weight, "bias": bias}
    mean, variance = (np.asarray(named[f"{name}.{p}"], np.float64) for p in STATISTICS)
    scale = weight / np.sqrt(variance + epsilon)
    return {"scale": scale, "bias": bias - mean * scale}


def _check(expected: Mapping[str, tuple], named: State, backbone: str) -> None:
    """Raise with every kind of difference."""
    both = expected.keys() & named.keys()
    differences = {
        "missing": sorted(expected.keys() - named.keys()),
        "unexpected": sorted(named.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(named[name].shape)} for {list(expected[name])}"
            for name in sorted(both)
            if named[name].shape != expected[name]
        ],
    }
    if not any(differences.values()):
        return
    lists = "; ".join(
        f"{len(rows)} {kind}" + (f" ({_first(rows)})" if rows else "")
        for kind, rows in differences.items()
    )
    raise UserError(
        f"these weights are not {backbone}'s: {lists}; give weights of {backbone} or set "
        "--config.model.backbone to theirs"
    )


def _first(rows: list[str]) -> str:
    return ", ".join(rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
