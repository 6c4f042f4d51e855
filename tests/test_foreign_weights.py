"""Other people's weights in our networks: detectron2's models, ImageNet's backbones."""

import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from ktn_jax import initialise, weights
from ktn_jax.errors import UserError
from ktn_jax.models.backbone import build_backbone
from ktn_jax.models.fpn import FPN
from ktn_jax.models.pretrained import backbone_variables
from tests.test_backbones import GOLDEN, detectron2_name, state_of
from tests.test_initialise import same

WIDTH = 6  # of the pyramid
CHANNELS = (256, 512, 1024, 2048)  # of ResNet-50's levels


@pytest.fixture(scope="module")
def resnet():
    """ResNet-50 on generated weights, by torchvision's names."""
    return state_of(dict(np.load(GOLDEN)), "resnet50")


@pytest.fixture(scope="module")
def network():
    """Shapes of a network on ResNet-50, as far as other people's weights reach."""
    backbone = build_backbone("resnet50", norm="frozen")
    trees = jax.eval_shape(backbone.init, jax.random.key(0), np.zeros((1, 32, 32, 3)))
    levels = [np.zeros((1, 8 >> i, 8 >> i, c)) for i, c in enumerate(CHANNELS)]
    pyramid = jax.eval_shape(FPN(WIDTH).init, jax.random.key(0), levels)
    head = {"person_kernel": np.ones(3, np.float32)}
    params = {"backbone": trees["params"], "fpn": pyramid["params"], "head": head}
    return {"params": params, "frozen": {"backbone": trees["frozen"]}}


def pyramid_state(rng, width=WIDTH):
    """detectron2's FPN by its names, in torch's layout."""
    state = {}
    for level, inputs in enumerate(CHANNELS, 2):
        shapes = {"lateral": (width, inputs, 1, 1), "output": (width, width, 3, 3)}
        for name, shape in shapes.items():
            weight = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
            state[f"backbone.fpn_{name}{level}.weight"] = weight.astype(np.float32)
            state[f"backbone.fpn_{name}{level}.bias"] = rng.normal(size=width).astype("f4")
    return state


def detectron2_model(resnet):
    """A whole model's state, with parts that none of ours has."""
    state = {f"backbone.bottom_up.{detectron2_name(k)}": v for k, v in resnet.items()}
    others = {
        "proposal_generator.rpn_head.conv.weight": np.zeros((2, 2, 3, 3), np.float32),
        "roi_heads.box_head.fc1.weight": np.zeros((2, 2), np.float32),
        "pixel_mean": np.zeros((3, 1, 1), np.float32),
    }
    return others | state | pyramid_state(np.random.default_rng(0))


def fill(network, path, kind="checkpoint", **options):
    init = {"checkpoint": "", "backbone": "", "prior": "", "skip": ()}
    model = {"backbone": "resnet50", "norm": "frozen", "ktm": False}
    if "prior" in network["params"]:
        model["prior"] = "resnet50"
    return initialise.fill(network, init | {kind: str(path)} | options, model)


def convolve(x, weight, bias):
    """torch's convolution, stride 1, same size: x [in, h, w], weight [out, in, k, k]."""
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (1, 2))
    return np.einsum("ihwkl,oikl->ohw", windows, weight) + bias[:, None, None]


def test_a_detectron2_model_gives_its_backbone_and_pyramid(network, resnet, tmp_path):
    state = detectron2_model(resnet)
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    made = fill(network, path)
    expected = backbone_variables("resnet50", resnet)
    same(made["params"]["backbone"], expected["params"])
    same(made["frozen"]["backbone"], expected["frozen"])
    assert made["params"]["head"] == network["params"]["head"]
    rng = np.random.default_rng(1)
    levels = [rng.normal(size=(c, 8 >> i, 8 >> i)) for i, c in enumerate(CHANNELS)]
    ours = FPN(WIDTH).apply(
        {"params": made["params"]["fpn"]},
        [np.moveaxis(x, 0, -1)[None].astype(np.float32) for x in levels],
    )
    above = None
    for level in (5, 4, 3, 2):  # detectron2's own order
        here, out = (
            [state[f"backbone.fpn_{kind}{level}.{leaf}"] for leaf in ("weight", "bias")]
            for kind in ("lateral", "output")
        )
        lateral = convolve(levels[level - 2], *here)
        above = lateral if above is None else lateral + above.repeat(2, 1).repeat(2, 2)
        theirs = np.moveaxis(convolve(above, *out), 0, -1)
        np.testing.assert_allclose(ours[level - 2][0], theirs, atol=1e-4)


def test_a_detectron2_model_that_fits_in_part_is_told(network, resnet, tmp_path):
    path = tmp_path / "model.npz"
    state = detectron2_model(resnet)
    del state["backbone.fpn_output4.bias"]
    state["backbone.top_block.p6.weight"] = np.ones((WIDTH, WIDTH, 3, 3), np.float32)
    state["backbone.fpn_lateral3.bias"] = np.ones(WIDTH + 1, np.float32)
    np.savez(path, **state)
    expected = (
        r"model.npz does not fit this network: 1 \(fpn/output4/bias\) are not in it, "
        r"1 \(backbone.top_block.p6.weight\) of it have no place here, "
        r"1 \(fpn/lateral3/bias \[7\] there, \[6\] here\) differ in shape"
    )
    with pytest.raises(UserError, match=expected):
        fill(network, path)
    skip = (r"fpn/(output4|lateral3)/bias", r"backbone\.top_block\..*")
    made = fill(network, path, skip=skip)
    fresh, given = (tree["params"]["fpn"] for tree in (network, made))
    assert given["output4"]["bias"] is fresh["output4"]["bias"]  # still the seed's
    assert given["output4"]["kernel"] is not fresh["output4"]["kernel"]
    del state["backbone.bottom_up.res4.5.conv2.weight"]
    np.savez(path, **state)
    with pytest.raises(UserError, match=r"model\.npz: .*missing \(layer3\.5\.conv2"):
        fill(network, path, skip=skip)
    np.savez(path, **resnet)
    with pytest.raises(UserError, match=r"no detectron2 model.*--config\.init\.backbone"):
        fill(network, path)


def test_imagenet_weights_fill_the_backbone_and_nothing_else(network, resnet, tmp_path):
    path = tmp_path / "resnet50.npz"
    np.savez(path, **resnet)
    made = fill(network, path, "backbone")
    expected = backbone_variables("resnet50", resnet)
    same(made["params"]["backbone"], expected["params"])
    same(made["frozen"]["backbone"], expected["frozen"])
    for room in ("fpn", "head"):
        assert made["params"][room] == network["params"][room]
    grouped = {"params": network["params"]}
    with pytest.raises(UserError, match=r"\(backbone/bn1/bias, .*have no place here"):
        fill(grouped, path, "backbone")
    with pytest.raises(UserError, match="no weights file nowhere"):
        fill(network, "nowhere", "backbone")


def test_a_backbone_s_own_file_goes_before_the_checkpoint_s(network, resnet, tmp_path):
    """All else of the network comes from the checkpoint: here, the pyramid."""
    model, other = tmp_path / "model.npz", tmp_path / "resnet50.npz"
    state = detectron2_model(resnet)
    np.savez(model, **state)
    changed = {name: 2 * value for name, value in resnet.items()}
    np.savez(other, **changed)
    made = fill(network, model, backbone=str(other))
    expected = backbone_variables("resnet50", changed)
    same(made["params"]["backbone"], expected["params"])
    same(made["frozen"]["backbone"], expected["frozen"])
    same(made["params"]["fpn"], fill(network, model)["params"]["fpn"])
    made = fill(network, model, backbone=str(other), skip=("fpn/lateral.*",))
    fresh, given = (tree["params"]["fpn"]["lateral3"] for tree in (network, made))
    assert given["bias"] is fresh["bias"]  # still the seed's


def test_an_export_on_another_backbone_gives_all_else(network, resnet, tmp_path):
    export, other = tmp_path / "export", tmp_path / "resnet50.npz"
    export.mkdir()
    rest = {
        "params/head/person_kernel": np.full(3, 5, np.float32),
        "params/backbone/conv_stem/kernel": np.zeros((3, 3, 3, 32), np.float32),
    }
    for name, shape in traverse_util.flatten_dict(
        network["params"]["fpn"], sep="/"
    ).items():
        rest[f"params/fpn/{name}"] = np.ones(shape.shape, np.float32)
    safetensors.numpy.save_file(rest, export / weights.EXPORTED[0])
    np.savez(other, **resnet)
    made = fill(network, export, backbone=str(other))
    same(made["params"]["backbone"], backbone_variables("resnet50", resnet)["params"])
    assert made["params"]["head"]["person_kernel"].tolist() == [5, 5, 5]
    assert made["params"]["fpn"]["lateral3"]["bias"].tolist() == [1] * WIDTH
    with pytest.raises(UserError, match="does not fit this network"):
        fill(network, export)


def test_a_prior_has_a_file_of_its_own_beside_all_others(network, resnet, tmp_path):
    """The prior is a ResNet here: only the place of its weights counts."""
    model, other = tmp_path / "model.npz", tmp_path / "resnet50.npz"
    np.savez(model, **detectron2_model(resnet))
    changed = {name: 2 * value for name, value in resnet.items()}
    np.savez(other, **changed)
    two = {kind: tree | {"prior": tree["backbone"]} for kind, tree in network.items()}
    made = fill(two, model, prior=str(other))
    plain = fill(network, model)
    for kind, tree in backbone_variables("resnet50", changed).items():
        same(made[kind]["prior"], tree)
        same(made[kind]["backbone"], plain[kind]["backbone"])
    same(made["params"]["fpn"], plain["params"]["fpn"])
    with pytest.raises(UserError, match=r"the prior keeps .*--config\.init\.prior=FILE"):
        fill(two, "", backbone=str(other))
    with pytest.raises(UserError, match=r"the backbone keeps .*init\.backbone=FILE"):
        fill(two, "", prior=str(other))
    with pytest.raises(UserError, match=r"init\.prior=.* no place .*model\.prior="):
        fill(network, model, prior=str(other))


def test_a_packaged_name_fills_the_backbone(tmp_path, monkeypatch):
    state = state_of(dict(np.load(GOLDEN)), "efficientnet_lite0")
    package, file = "another_package_of_this_test", "w.pth"  # the real one may be there
    monkeypatch.setitem(weights.PACKAGED, "efficientnet-lite0", (package, file))
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    with open(tmp_path / package / file, "wb") as target:
        np.savez(target, **state)
    monkeypatch.syspath_prepend(tmp_path)
    expected = backbone_variables("efficientnet_lite0", state)
    shapes = {
        kind: {"backbone": jax.tree.map(np.zeros_like, tree)}
        for kind, tree in expected.items()
    }
    init = {"checkpoint": "", "backbone": "efficientnet-lite0", "prior": "", "skip": ()}
    model = {"backbone": "efficientnet_lite0", "norm": "frozen"}
    made = initialise.fill(shapes, init, model)
    for kind, tree in expected.items():
        same(made[kind]["backbone"], tree)


@pytest.mark.parametrize(
    ("found", "skip", "told"),
    [
        ({"a": 2}, (), r"network: 1 \(ab\) are not in it; use"),
        ({"a": 2, "ab": 2, "c": 2}, (), r"network: 1 \(c\) of it have no place here; use"),
        ({"a": 2, "ab": 3}, (), r"network: 1 \(ab \[3\] there, \[2\] here\) differ"),
        ({"a": 3, "ab": 3}, ("a",), r"network: 1 \(ab \["),  # a whole name, not its start
    ],
)
def test_each_kind_of_difference_is_one_on_its_own(found, skip, told):
    ours = {"params": {"a": np.zeros(2), "ab": np.zeros(2)}}
    found = {f"params/{name}": np.zeros(size) for name, size in found.items()}
    with pytest.raises(UserError, match=told):
        initialise.merge(ours, found, source="w.pth", skip=skip)


def test_half_precision_weights_become_the_network_s_own_type():
    ours = {"params": {"a": np.zeros(2, np.float32)}}
    found = {"params/a": np.array([0.5, 2], np.float16)}
    made = initialise.merge(ours, found, source="w.pth")
    np.testing.assert_array_equal(
        made["params"]["a"], np.array([0.5, 2], np.float32), strict=True
    )
