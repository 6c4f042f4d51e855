"""Two processes on this machine are one run: losses, checkpoints, logs, the build."""

import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import faults
from ktn_jax import checkpoint, files, parallel, training
from ktn_jax.errors import UserError
from tests import toys

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


@pytest.fixture(scope="module")
def config(rendered):
    return toys.small_config(rendered)


def in_mode(config, mode):
    config = config.copy_and_resolve_references()
    config.parallel = mode
    return config


@pytest.fixture(scope="module")
def machines(config):
    return {mode: toys.machine(in_mode(config, mode)) for mode in parallel.MODES}


@pytest.fixture(scope="module")
def alone(config, machines, tmp_path_factory):
    """The run of one process with eight devices, in both modes."""
    folder = tmp_path_factory.mktemp("alone")
    for mode, machine in machines.items():
        toys.run(in_mode(config, mode), machine, folder / mode)
    return folder


@pytest.fixture(scope="module")
def together(config, alone, tmp_path_factory):
    """The same of two processes with two devices each; they also resume from `alone`."""
    cache = os.environ.get("KTN_JAX_TEST_CACHE") or tmp_path_factory.mktemp("cache")
    # jax's CPU collectives wait half a minute for each other, and on a busy machine the
    # processes' compilations may end further apart; the second time they are cached
    for _ in range(2):
        folder = tmp_path_factory.mktemp("together")
        for mode in parallel.MODES:
            source = alone / mode / "checkpoints" / "2"
            shutil.copytree(source, folder / f"other_{mode}" / "checkpoints" / "2")
        said = start_two(config.data.root, folder, cache)
        if not any("DEADLINE_EXCEEDED" in text for _, text in said):
            break
    assert [status for status, _ in said] == [0, 0], said
    return folder


def start_two(data, folder, cache):
    """Exit status and stderr of both processes of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "tests.toys", data, folder, coordinator, "2"]
    children = [
        subprocess.Popen(
            [*words, str(i)],
            cwd=faults.REPOSITORY,
            env=faults.environment(cache, devices=2),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        said = [child.communicate(timeout=240)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    return [(child.returncode, text) for child, text in zip(children, said, strict=True)]


@pytest.mark.parametrize("mode", parallel.MODES)
def test_two_processes_have_the_losses_of_one(mode, alone, together):
    ours, theirs = faults.losses(together / mode), faults.losses(alone / mode)
    assert set(ours) == set(theirs) == set(range(1, 7))
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-6)


def test_pmap_has_the_losses_of_jit(alone):
    ours, theirs = (faults.losses(alone / mode) for mode in parallel.MODES)
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-6)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_two_processes_go_on_from_a_checkpoint_of_one(mode, alone, together):
    ours, theirs = faults.losses(together / f"other_{mode}"), faults.losses(alone / mode)
    assert set(ours) == {3, 4, 5, 6}
    np.testing.assert_allclose([*ours.values()], [theirs[step] for step in ours], rtol=1e-6)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_one_process_goes_on_from_a_checkpoint_of_two(
    mode, config, machines, alone, together, tmp_path
):
    shutil.copytree(together / mode / "checkpoints/2", tmp_path / "checkpoints/2")
    later = machines[mode]._replace(batches=machines[mode].batches[2:])
    state = toys.run(in_mode(config, mode), later, tmp_path)
    ours, theirs = faults.losses(tmp_path), faults.losses(alone / mode)
    assert state.step == 6 and set(ours) == {3, 4, 5, 6}
    np.testing.assert_allclose([*ours.values()], [theirs[step] for step in ours], rtol=1e-6)


def test_checkpoints_and_logs_are_written_once(together):
    assert faults.finished(together / "jit") == [2, 4, 6]
    assert len(list((together / "jit" / "tensorboard").iterdir())) == 1
    _, weights = checkpoint.read_weights(together / "jit")
    shapes = {k: v.shape for k, v in weights["params"].items()}
    assert shapes == {k: (2, *c) for k, c in toys.Toy.channels.items()}


def test_processes_together_see_every_row_of_a_batch_once(config):
    """Two and four processes' shares are the one process's batch of that step."""
    source = training.open_source(config)

    def batch(index, count):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "process_index", lambda: index)
            patch.setattr(jax, "process_count", lambda: count)
            return next(training.build_batches(config, source, 5))

    whole = batch(0, 1)
    for count in (2, 4):
        for index in range(count):
            share = batch(index, count)
            assert len(share.image) == 8 // count
            jax.tree.map(
                lambda a, b, i=index, n=count: np.testing.assert_array_equal(a, b[i::n]),
                share,
                whole,
            )


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path):
    with files.locked(tmp_path / "none" / "lock"):
        pass


@pytest.mark.parametrize(
    "given", [("h:1", 2, None), ("h:1", None, 0), (None, 2, 0), ("h:1", 2, 2), ("h", 2, 0)]
)
def test_processes_that_are_not_wholly_described_are_refused(given):
    with pytest.raises(UserError, match=r"coordinator .*--coordinator=HOST:PORT"):
        parallel.connect(*given)


def test_where_there_is_no_cluster_a_process_is_alone(monkeypatch):
    """In jax's own words, and as a fault of the cluster where it says anything else."""
    parallel.connect(None, 1, None)
    asked = []

    def initialize(*given, words="coordinator_address should be defined."):
        asked.append(given)
        raise ValueError(words)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    parallel.connect()
    assert asked == [(None, None, None)]
    monkeypatch.setattr(initialize, "__kwdefaults__", {"words": "invalid literal"})
    with pytest.raises(UserError, match=r"the cluster .*invalid literal.*--processes=1"):
        parallel.connect()


def test_jax_itself_finds_no_cluster_here():
    code = "from ktn_jax import parallel; import jax; parallel.connect(); "
    code += "assert jax.process_count() == 1"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=faults.REPOSITORY)
