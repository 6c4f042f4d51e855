"""Eight virtual CPU devices for every test, set before jax is imported."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile a lot and compute little: without optimisation they take a third.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)

if "KTN_JAX_TEST_CACHE" not in os.environ:
    # What one process of a run compiles, the other takes from here. Workers inherit it.
    os.environ["KTN_JAX_TEST_CACHE"] = tempfile.mkdtemp(prefix="ktn_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["KTN_JAX_TEST_CACHE"], ignore_errors=True)

import jax
import pytest

from configs import tiny
from ktn_jax import export, training
from ktn_jax.data import people

jax.config.update("jax_compilation_cache_dir", os.environ["KTN_JAX_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A COCO directory of eight training and four validation images, 96 px."""
    root = tmp_path_factory.mktemp("rendered")
    people.render_dataset(root, train=8, val=4, size=96, seed=3, variety=0.2)
    return root


@pytest.fixture(scope="session")
def small_config(rendered):
    """The tiny config at the smallest widths, for four steps on the rendered images."""
    config = tiny.get_config()
    config.model.update(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8, head_depth=1)
    config.data.update(root=str(rendered), canvas=64, eval_canvas=64, batch_size=8)
    config.codec.update(min_score=0.0)  # an untrained network finds people everywhere
    config.train.update(steps=4, log_steps=1, save_steps=2, keep=3)
    return config


@pytest.fixture(scope="session")
def straight(small_config, tmp_path_factory):
    """A run of four steps with checkpoints after two and four."""
    workdir = tmp_path_factory.mktemp("straight")
    state = training.train(small_config, str(workdir))
    return workdir, jax.device_get(state)


@pytest.fixture(scope="session")
def exported(straight, tmp_path_factory):
    """The export of the run of four steps."""
    out = tmp_path_factory.mktemp("export")
    assert export.main([str(straight[0]), str(out)]) == 0
    return out
