"""Runs that start from others' parameters: the two stages, foreign files, strictness."""

import json
import pickle

import jax
import numpy as np
import pytest
from flax import traverse_util

import train as train_script
from configs import default, keypoints
from ktn_jax import checkpoint, initialise, optim, training, weights
from ktn_jax.data.densepose_coco import DataError
from ktn_jax.errors import UserError
from ktn_jax.models.backbone import build_backbone
from ktn_jax.models.fpn import FPN
from ktn_jax.models.network import build_network, init_variables
from ktn_jax.models.pretrained import backbone_variables
from tests.test_backbones import GOLDEN, detectron2_name, state_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


def changed(config, **fields):
    """A copy with fields changed, "model__width" for config.model.width."""
    config = config.copy_and_resolve_references()
    for name, value in fields.items():
        room, field = name.split("__")
        config[room][field] = value
    return config


@pytest.fixture(scope="module")
def scratch(small_config):
    """The variables of the seed alone."""
    network = build_network(small_config.model)
    return jax.device_get(init_variables(network, small_config.seed, 64))


def filled(scratch, config):
    return initialise.fill(scratch, config.init, config.model)["params"]


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def same(ours, theirs):
    assert flat(ours).keys() == flat(theirs).keys()
    for name, value in flat(theirs).items():
        np.testing.assert_array_equal(flat(ours)[name], value, err_msg=name)


@pytest.fixture(scope="module")
def plain_root(rendered, tmp_path_factory):
    """The rendered images as plain COCO: no field of DensePose anywhere."""
    root = tmp_path_factory.mktemp("plain")
    (root / "annotations").mkdir()
    (root / "train2014").symlink_to(rendered / "train2014")
    document = json.loads((rendered / "annotations/densepose_train2014.json").read_text())
    document["annotations"] = [
        {k: v for k, v in annotation.items() if not k.startswith("dp_")}
        for annotation in document["annotations"]
    ]
    path = root / "annotations" / "person_keypoints_train2014.json"
    path.write_text(json.dumps(document))
    return root


@pytest.fixture(scope="module")
def first_stage(small_config, plain_root, tmp_path_factory):
    """Two steps on keypoints, masks and instances: the run's folder and its last state."""
    config = changed(small_config, data__root=str(plain_root), train__steps=2)
    config.loss.update(keypoints.get_config().loss)
    config.data.labels = keypoints.get_config().data.labels
    workdir = tmp_path_factory.mktemp("first_stage")
    return str(workdir), jax.device_get(training.train(config, str(workdir)))


def test_keypoints_differ_from_the_default_in_what_is_learnt_and_from_what():
    ours, base = keypoints.get_config().to_dict(), default.get_config().to_dict()
    assert {k for k in base if ours[k] != base[k]} == {"loss", "data"}
    off = {k for k, weight in ours["loss"].items() if weight == 0}
    assert off == {"chart", "uv", "parts"}
    assert {k: v for k, v in ours["loss"].items() if k not in off} == {
        k: v for k, v in base["loss"].items() if k not in off
    }


def test_the_first_stage_learns_from_people_without_surface(first_stage, scratch):
    workdir, state = first_stage
    with open(f"{workdir}/metrics.jsonl") as file:
        last = json.loads(file.readlines()[-1])
    assert last["chart"] == last["uv"] == 0  # no point to learn them from
    weights = keypoints.get_config().loss  # parts know background only, and weigh nothing
    loss = sum(weights[name] * last[name] for name in weights if name != "parts")
    assert last["loss"] == pytest.approx(loss, rel=1e-5) and last["parts"] > 0
    before, after = flat(scratch["params"]), flat(state.params)
    for name in ("keypoint", "person"):
        kernel = f"head/{name}_kernel"
        assert np.abs(after[kernel] - before[kernel]).max() > 1e-4


def test_a_run_that_learns_the_surface_refuses_people_without(small_config, plain_root):
    config = changed(
        small_config, data__root=str(plain_root), data__labels="person_keypoints"
    )
    with pytest.raises(DataError, match=r"no dp_x.*--config=configs/keypoints\.py"):
        training.open_source(config)


@pytest.fixture
def without_compiling(monkeypatch, scratch):
    """Training that starts from the seed's variables as they are known already."""
    monkeypatch.setattr(training, "init_variables", lambda *_: scratch)


def test_the_second_stage_starts_from_the_averaged_parameters_afresh(
    first_stage, small_config, scratch, without_compiling
):
    workdir, first = first_stage
    skip = (".*/tag_.*", "fpn/.*3/.*")
    config = changed(small_config, init__checkpoint=workdir, init__skip=skip)
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, config.train.steps)
    state = training.build_state(config, network, tx, config.init)
    fresh = ("tag_bias", "tag_kernel", "lateral3", "output3")
    skipped = {n for n in flat(first.ema) if any(f"/{word}" in n for word in fresh)}
    assert len(skipped) == 2 + 4
    expected = flat(first.ema) | {n: flat(scratch["params"])[n] for n in skipped}
    same(state.params, traverse_util.unflatten_dict(expected, sep="/"))
    same(state.ema, state.params)  # the average begins anew as well
    kernel = "head/keypoint_kernel"  # averaged and last ones are not the same
    assert np.abs(flat(first.ema)[kernel] - flat(first.params)[kernel]).max() > 1e-4
    assert state.step == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(first.opt_state))


def test_a_run_with_a_checkpoint_resumes_whatever_init_says(
    first_stage, small_config, tmp_path, without_compiling
):
    config = changed(small_config, init__checkpoint=first_stage[0])
    config.parallel = "jit"
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, config.train.steps)
    with checkpoint.open_run(tmp_path) as run:
        started = training.first_state(config, network, tx, run)
        assert started.step == 0
        same(jax.device_get(started.params), first_stage[1].ema)
        moved = jax.tree.map(lambda x: x + 1, started.params)
        checkpoint.save(run, started.replace(step=7, params=moved), config.to_dict())
        run.wait_until_finished()
        config.init.checkpoint = "gone/since"
        resumed = training.first_state(config, network, tx, run)
    assert resumed.step == 7
    same(jax.device_get(resumed.params), jax.device_get(moved))
    same(jax.device_get(resumed.ema), first_stage[1].ema)


def test_a_checkpoint_goes_before_a_backbone(first_stage, small_config, scratch):
    config = changed(small_config, init__checkpoint=first_stage[0], init__backbone="gone")
    same(filled(scratch, config), first_stage[1].ema)


def test_another_architecture_is_told_with_both_differences(
    first_stage, small_config, scratch
):
    params = flat(scratch["params"])
    ours = {k: v for k, v in params.items() if not k.startswith("decoder/")}
    ours |= {f"decoder/smooth/{leaf}": np.zeros(3, np.float32) for leaf in "abcd"}
    ours |= {"head/tag_bias": np.zeros(2, np.float32)}
    other = {"params": traverse_util.unflatten_dict(ours, sep="/")}
    config = changed(small_config, init__checkpoint=first_stage[0])
    lost = sum(name.startswith("decoder/") for name in params)
    expected = (
        r"first_stage0 does not fit this network: 4 \(decoder/smooth/a, decoder/smooth/b, "
        rf"decoder/smooth/c, \.\.\.\) are not in it, {lost} \(decoder/adapt3/bias, .*, "
        r"\.\.\.\) of it have no place here, 1 \(head/tag_bias \[4\] there, \[2\] "
        r"here\) differ in shape; .*--config\.init\.skip"
    )
    with pytest.raises(UserError, match=expected):
        filled(other, config)
    config.init.skip = ("decoder/.*", "head/tag_bias")
    made = filled(other, config)
    same(made["decoder"], other["params"]["decoder"])
    same(made["backbone"], first_stage[1].ema["backbone"])


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"checkpoint": "nowhere"}, "no checkpoint in nowhere"),
        ({"skip": ("head",)}, r"'head' matches no name; names look like 'backbone/"),
        ({"skip": ("head/(",)}, r"'head/\(' is no regular expression"),
    ],
)
def test_mistakes_in_init_are_told(first_stage, small_config, scratch, fields, match):
    config = changed(small_config, init__checkpoint=first_stage[0])
    config.init.update(fields)
    with pytest.raises(UserError, match=match):
        filled(scratch, config)


def test_init_is_set_by_flags():
    base = ["--config=configs/tiny.py", "--workdir=w", "--init.checkpoint=runs/a"]
    flags = [*base, "--init.skip=('head/.*', 'decoder/.*')"]
    config, _ = train_script.parse(flags)
    assert config.init.checkpoint == "runs/a"
    assert config.init.skip == ("head/.*", "decoder/.*")
    assert train_script.parse([*base, "--init.skip=('head/.*',)"])[0].init.skip == (
        "head/.*",
    )


# --- other people's weights -----------------------------------------------------

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
    init = {"checkpoint": "", "backbone": "", "skip": ()} | {kind: str(path)} | options
    return initialise.fill(network, init, {"backbone": "resnet50"})


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


def test_a_packaged_name_fills_the_backbone(tmp_path, monkeypatch):
    state = state_of(dict(np.load(GOLDEN)), "efficientnet_lite0")
    package, file = weights.PACKAGED["efficientnet-lite0"]
    (tmp_path / package / "models").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    with open(tmp_path / package / file, "wb") as target:
        np.savez(target, **state)
    monkeypatch.syspath_prepend(tmp_path)
    expected = backbone_variables("efficientnet_lite0", state)
    shapes = {
        kind: {"backbone": jax.tree.map(np.zeros_like, tree)}
        for kind, tree in expected.items()
    }
    init = {"checkpoint": "", "backbone": "efficientnet-lite0", "skip": ()}
    made = initialise.fill(shapes, init, {"backbone": "efficientnet_lite0"})
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
