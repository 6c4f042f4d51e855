"""Two stages: keypoints first, the surface from there on; strict; resume goes first."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util

import train as train_script
from configs import default, keypoints
from ktn_jax import checkpoint, initialise, optim, training
from ktn_jax.data.coco_directory import DataError
from ktn_jax.errors import UserError
from ktn_jax.models.network import build_network, init_variables

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
    assert {k for k in base if ours[k] != base[k]} == {"loss", "data", "codec"}
    assert not ours["codec"]["chart_score"]  # of charts that nothing teaches
    off = {k for k, weight in ours["loss"].items() if weight == 0}
    assert off == {"chart", "prior_chart", "uv", "surface", "parts"}
    assert {k: v for k, v in ours["loss"].items() if k not in off} == {
        k: v for k, v in base["loss"].items() if k not in off
    }


def test_the_first_stage_learns_from_people_without_surface(first_stage, scratch):
    workdir, state = first_stage
    with open(f"{workdir}/metrics.jsonl") as file:
        last = json.loads(file.readlines()[-1])
    assert last["chart"] == last["uv"] == 0  # no point to learn them from
    weights = keypoints.get_config().loss  # parts know background only, and weigh nothing
    told = set(weights) - {"parts", "prior_mask", "prior_chart"}  # no prior is there
    loss = sum(weights[name] * last[name] for name in told)
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
    trees = (state.opt_state, tx.init(state.params), first.opt_state)
    leaves = list(zip(*map(jax.tree.leaves, trees), strict=True))
    assert all(np.array_equal(ours, fresh) for ours, fresh, _ in leaves)
    assert any(np.any(ours != last) for ours, _, last in leaves)


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


def test_a_backbone_beside_a_checkpoint_must_be_there(first_stage, small_config, scratch):
    config = changed(small_config, init__checkpoint=first_stage[0], init__backbone="gone")
    with pytest.raises(UserError, match="no weights file gone"):
        filled(scratch, config)


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
    config, *_ = train_script.parse(flags)
    assert config.init.checkpoint == "runs/a"
    assert config.init.skip == ("head/.*", "decoder/.*")
    assert train_script.parse([*base, "--init.skip=('head/.*',)"])[0].init.skip == (
        "head/.*",
    )


def test_frozen_norms_without_weights_are_refused(small_config, scratch):
    config = changed(small_config)
    config.model.update(backbone="resnet50", norm="frozen")
    with pytest.raises(UserError, match=r"norm=frozen.*init\.backbone.*norm=group"):
        filled(scratch, config)
