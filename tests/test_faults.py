"""What goes wrong in a run: kills, signals, numbers that are not finite, full disks.

One small run in this process serves the tests of bad steps; the others start train.py.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections import namedtuple

import jax
import numpy as np
import pytest

from benchmarks import faults
from ktn_jax import checkpoint, guards, log, nonfinite, training
from ktn_jax.errors import EXIT_STOPPED, EXIT_USER_ERROR, UserError
from tests import toys

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


@pytest.fixture(scope="module")
def config(rendered):
    return toys.small_config(rendered)


@pytest.fixture(scope="module")
def machine(config):
    """First state on the host, compiled step, six batches and the blame of the run."""
    return toys.machine(config)


def spoil(batch, row=3):
    """The batch with a target in one of its rows that is not a number."""
    mask = np.array(batch.targets.mask)
    mask[row] = np.nan
    return batch.replace(targets=batch.targets.replace(mask=mask))


def run(config, machine, workdir, bad=()):
    """Trains on the six batches, those of the steps in `bad` spoilt."""
    state, step, batches, blame = machine
    batches = (spoil(b) if i + 1 in bad else b for i, b in enumerate(batches))
    return toys.run(config, toys.Machine(state, step, batches, blame), workdir)


def test_a_bad_step_stops_the_run_and_leaves_a_record(config, machine, tmp_path):
    guilty = machine[2][2].image_id[3]
    with pytest.raises(
        UserError, match=rf"step 3 is not finite: .*mask nan.* by images {guilty};.*lr"
    ):
        run(config, machine, tmp_path, bad=[3])
    assert faults.finished(tmp_path) == [2]
    stored = np.load(tmp_path / "nonfinite" / "step_3_process_0.npz")
    np.testing.assert_array_equal(stored["image"], machine[2][2].image)
    assert np.isnan(stored["targets.mask"][3]).all()
    about = json.loads((tmp_path / "nonfinite" / "step_3_process_0.json").read_text())
    assert about["guilty"] == [guilty] and about["terms"]["mask"] == "nan"
    assert about["image_id"] == machine[2][2].image_id.tolist()


def test_a_bad_step_is_never_saved(config, machine, tmp_path):
    with pytest.raises(UserError, match="step 4 is not finite"):
        run(config, machine, tmp_path, bad=[4])
    assert faults.finished(tmp_path) == [2]


def test_tolerated_steps_change_nothing_but_the_count(config, machine, tmp_path):
    """As if there had been only the good batches, in the schedule of rates too."""
    config = config.copy_and_resolve_references()
    config.train.skip_nonfinite = 2
    state = jax.device_get(run(config, machine, tmp_path / "bad", bad=[2, 3, 5]))
    first, step, batches, blame = machine
    config.train.steps = 3
    good = (first, step, [batches[0], batches[3], batches[5]], blame)
    expected = jax.device_get(run(config, good, tmp_path / "good"))
    assert (state.step, expected.step) == (6, 3)
    same = jax.tree.map(
        np.array_equal,
        (state.params, state.opt_state),
        (expected.params, expected.opt_state),
    )
    assert jax.tree.all(same)
    rows = (tmp_path / "bad" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(row) for row in rows]
    assert [math.isfinite(row["loss"]) for row in rows] == [True, False, False, True, False,
                                                            True]  # fmt: skip
    assert rows[-1]["skipped"] == 3


def test_more_bad_steps_in_a_row_than_tolerated_stop_the_run(config, machine, tmp_path):
    config = config.copy_and_resolve_references()
    config.train.skip_nonfinite = 1
    with pytest.raises(UserError, match=r"step 5 is not finite.*skip_nonfinite=2"):
        run(config, machine, tmp_path, bad=[2, 4, 5])


def test_a_finite_loss_with_a_bad_gradient_is_a_bad_step(tmp_path):
    rule = nonfinite.Nonfinite(tmp_path, 0)
    Batch = namedtuple("Batch", "image_id")
    metrics = {"loss": np.float32(1), "gradient_norm": np.float32(np.inf)}
    blame = lambda batch: np.zeros(2, bool)  # noqa: E731
    with pytest.raises(UserError, match=r"gradient_norm inf, in images 4, 9 .none of them"):
        rule.check(7, metrics, Batch(np.array([4, 9])), blame)


def test_what_was_logged_after_the_checkpoint_is_logged_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    with log.RunLog(tmp_path, steps=9, start=2, batch_size=1) as lines:
        lines.write(3, {"loss": 1.0})
    assert [json.loads(x)["step"] for x in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("place", ["file/run", "/proc/run"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(config, place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*run \(.*--workdir"):
        training.train(config, str(tmp_path / place))


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    guards.check_workdir(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_disk_too_small_for_the_checkpoints_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(3 * 2**20))
    guards.check_space(tmp_path, 2**20, 3)
    with pytest.raises(UserError, match=r"3.0 MiB free, but 4 checkpoints of 1.0 MiB"):
        guards.check_space(tmp_path, 2**20, 4)


def test_the_size_of_a_state_is_that_of_its_arrays():
    state = {"a": np.zeros((3, 5), np.float32), "b": [np.zeros(7, np.int8), {}]}
    assert guards.state_size(state) == 3 * 5 * 4 + 7


def test_only_checkpoints_that_will_lie_there_need_room(config, tmp_path):
    """Of six steps, one every two, three kept: three; four while the fourth is made."""
    with checkpoint.open_run(tmp_path, keep=3) as empty:
        assert checkpoint.still_to_come(empty, config.train) == 3
        longer = {**config.train, "steps": 600}
        assert checkpoint.still_to_come(empty, longer) == 4


def test_a_disk_that_fills_up_is_told_in_one_line(tmp_path):
    for error in (
        OSError(28, "No space left on device"),
        ValueError("x: No space left on device"),
    ):
        with pytest.raises(UserError, match=r"cannot write .*No space left.*goes on"):
            with guards.disk_faults(tmp_path):
                raise error
    for error in (ValueError("other"), FileNotFoundError(2, "other")):
        with pytest.raises(type(error), match="other"), guards.disk_faults(tmp_path):
            raise error


@pytest.mark.parametrize("number", guards.SIGNALS)
def test_a_signal_lets_the_step_end_and_saves_it(config, machine, tmp_path, number, capsys):
    """It comes while the third batch is fetched; then the usual handlers are back."""
    before = signal.getsignal(number)
    first, step, batches, blame = machine

    def fetched():
        for i, batch in enumerate(batches):
            if i == 2:
                os.kill(os.getpid(), number)
            yield batch

    state = run(config, (first, step, fetched(), blame), tmp_path)
    assert state.step == 3 and faults.finished(tmp_path) == [2, 3]
    assert set(faults.losses(tmp_path)) == {1, 2, 3}
    assert "saved step 3 of 6 and stopped; the same" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_where_a_signal_ended_the_run_is_logged_due_or_not(
    config, machine, tmp_path, capsys
):
    first, step, batches, blame = machine
    config = config.copy_and_resolve_references()
    config.train.log_steps = 2

    def fetched():
        for i, batch in enumerate(batches):
            if i == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    run(config, (first, step, fetched(), blame), tmp_path)
    assert set(faults.losses(tmp_path)) == {2, 3}
    assert capsys.readouterr().out.startswith("steps 1 to 3 in")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return os.environ.get("KTN_JAX_TEST_CACHE") or tmp_path_factory.mktemp("cache")


def start(rendered, workdir, cache, steps, *more):
    return subprocess.Popen(
        faults.command(rendered, workdir, steps, *more),
        cwd=faults.REPOSITORY,
        env=faults.environment(cache),
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_sigterm_ends_the_step_saves_and_says_how_to_go_on(rendered, tmp_path, cache):
    child = start(rendered, tmp_path, cache, 5000, "--train.save_steps=5000")
    lines = tmp_path / "metrics.jsonl"
    while child.poll() is None and not (lines.exists() and lines.stat().st_size > 2000):
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == EXIT_STOPPED, said
    (step,) = faults.finished(tmp_path)
    assert f"SIGTERM: saved step {step} of 5000 and stopped; the same command" in said
    assert max(faults.losses(tmp_path)) == step and faults.readable(tmp_path) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_mistake_of_the_user_ends_with_status_two_and_one_line(rendered, cache):
    child = start(rendered, "/dev/full/run", cache, 4)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == EXIT_USER_ERROR
    assert said.strip().splitlines()[-1].startswith("error: cannot write to /dev/full/run")


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path):
    """Three of the twenty of `python -m benchmarks.faults`."""
    summary = faults.trial(tmp_path, kills=3, steps=30, seed=1)
    assert summary["losses_equal"] and summary["weights_equal"]
    assert summary["kills"] == 3 and summary["while_saving"] >= 1
