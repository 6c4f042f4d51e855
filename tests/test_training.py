"""Training runs: resuming, stopping, refusing. One small run serves all tests here."""

import json
import shutil
import time

import jax
import numpy as np
import pytest

import train as train_script
from ktn_jax import checkpoint, export, training
from ktn_jax.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def test_a_resumed_run_equals_a_straight_one_to_the_last_bit(
    straight, small_config, tmp_path
):
    workdir, state = straight
    (tmp_path / "checkpoints").mkdir()
    shutil.copytree(workdir / "checkpoints" / "2", tmp_path / "checkpoints" / "2")
    resumed = jax.device_get(training.train(small_config, str(tmp_path)))
    assert set(losses(tmp_path)) == {3, 4}
    assert losses(tmp_path)[4] == losses(workdir)[4]
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_log_has_every_term_and_the_board_is_written(straight, small_config):
    workdir, _ = straight
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    # a network without a prior has no mask and charts of its own
    assert set(small_config.loss) - {"prior_mask", "prior_chart"} | {
        "loss",
        "gradient_norm",
        "images_per_second",
        "waiting",
    } < set(last)
    assert list((workdir / "tensorboard").iterdir())


def test_a_finished_run_is_read_from_its_folder_alone(straight):
    workdir, state = straight
    config, network, step, variables = export.load_run(str(workdir))
    assert step == 4 and network.width == 8 and config["data"]["canvas"] == 64
    # the averaged parameters, since the config keeps them
    ours = jax.tree.leaves(variables["params"])
    for a, b in zip(ours, jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_array_equal(a, b)


def test_reading_a_run_leaves_what_it_is_about_to_save(straight, tmp_path):
    shutil.copytree(straight[0] / "checkpoints", tmp_path / "checkpoints")
    half = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    half.mkdir()
    assert checkpoint.read_config(tmp_path) and half.exists()
    with checkpoint.open_run(tmp_path):  # the run itself, after it was interrupted
        for _ in range(100):  # orbax clears up in the background
            if not half.exists():
                return
            time.sleep(0.1)
    raise AssertionError(f"{half} is still there")


def test_a_checkpoint_of_another_architecture_is_refused(straight, small_config):
    workdir, _ = straight
    other = small_config.copy_and_resolve_references()
    other.model.width = 16
    with pytest.raises(UserError, match=r"another architecture.*new --workdir"):
        training.train(other, str(workdir))


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint in .*--workdir"):
        checkpoint.read_config(tmp_path)


def test_a_batch_the_devices_cannot_share_is_refused_before_anything_is_read(small_config):
    config = small_config.copy_and_resolve_references()
    config.data.update(batch_size=12, root="/nowhere")
    with pytest.raises(UserError, match=r"12 is not divisible by 8 devices"):
        training.train(config, "unused")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"prior_mask": 0.5}, r"codec\.prior_mask=0\.5 .*--config\.model\.prior_mask"),
        ({"detector_score": True}, r"codec\.detector_score .*--config\.model\.detector"),
    ],
)
def test_a_codec_that_asks_for_more_than_the_network_tells_is_refused_at_the_door(
    small_config, tmp_path, setting, message
):
    config = small_config.copy_and_resolve_references()
    config.codec.update(setting)
    with pytest.raises(UserError, match=message):
        training.train(config, str(tmp_path))
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


BASE = ["--config=configs/tiny.py", "--workdir=w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/none.py"], r"none\.py.* not found"),
        ([*BASE, "--config.data.rooot=x"], r"^'rooot' Did you mean \"root\""),
        (["--config=configs/ablation.py:x", "--workdir=w"], "^ValueError: 'x'.*baseline"),
        ([*BASE, "--optim.lr=fast"], "fast"),
        ([*BASE, "--nonsense=1"], "nonsense"),
        ([*BASE, "word"], "unknown argument 'word'"),
        (["--config=configs/tiny.py"], "--workdir"),
    ],
)
def test_what_train_py_does_not_understand(arguments, message):
    with pytest.raises(UserError, match=message):
        train_script.parse(arguments)


def test_fields_without_a_dot_are_flags_too():
    words = ["--config=configs/tiny.py", "--workdir=w", "--seed=3", "--parallel=jit"]
    config, *_ = train_script.parse(words)
    assert (config.seed, config.parallel) == (3, "jit")


def test_a_config_takes_the_argument_after_its_colon():
    config, *_ = train_script.parse(["--config=configs/ablation.py:mid", "--workdir=w"])
    assert (config.model.mid, config.model.ktm) == (True, False)


def test_fields_of_the_config_are_flags_with_and_without_their_prefix():
    config, workdir, _ = train_script.parse(
        [*BASE, "--data.root=R", "--config.optim.lr=0.5"]
    )
    assert (config.data.root, config.optim.lr, workdir) == ("R", 0.5, "w")
