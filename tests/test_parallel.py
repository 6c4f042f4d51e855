"""One device, eight under pmap, eight under jit, and pieces of a batch: the same steps."""

import functools

import jax
import numpy as np
import pytest

from configs import tiny
from ktn_jax import losses, optim, parallel
from ktn_jax.errors import UserError
from ktn_jax.models.network import build_network
from ktn_jax.structs import Batch
from ktn_jax.training import build_state, build_step, train_step
from tests.scenes import CODEC, scene

CANVAS = 32


@pytest.fixture(scope="module")
def config():
    config = tiny.get_config()
    config.model.update(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8, head_depth=1)
    config.data.canvas = CANVAS
    config.train.ema = 0.9
    # not Adam: it blows up the rounding noise of parameters whose gradient is truly zero
    config.optim.update(name="sgd", lr=0.01, clip=1.0)
    return config


@pytest.fixture(scope="module")
def batch():
    """Eight images with 0, 1 or 2 people: a device has an image, some have no person."""
    rng = np.random.default_rng(0)
    boxes = [(2, 2, 20, 16), (8, 14, 30, 30)]
    images = [
        CODEC.encode(scene(boxes[: (0, 1, 2, 0, 0, 2, 1, 0)[i]], CANVAS, i), (CANVAS,) * 2)
        for i in range(8)
    ]
    return Batch(
        image=rng.integers(0, 255, (8, CANVAS, CANVAS, 3)).astype(np.uint8),
        valid=np.ones(8, bool),
        image_id=np.arange(8),
        to_image=np.zeros((8, 2, 2)),
        targets=jax.tree.map(lambda *x: np.stack(x), *images),
    )


def take_steps(config, batch, run, put, count=5):
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, 100)
    state = build_state(config, network, tx)
    step = run(network, tx)
    history = []
    for _ in range(count):
        state, metrics = step(state, put(batch))
        history.append({name: float(value) for name, value in metrics.items()})
    return history, jax.device_get(state)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_eight_devices_equal_one(mode, config, batch, one_device):
    assert jax.device_count() == 8
    config = config.copy_and_resolve_references()
    config.parallel = mode
    history, state = take_steps(
        config,
        batch,
        lambda network, tx: build_step(config, network, tx),
        lambda b: parallel.put_batch(b, mode),
    )
    compare(history, state, one_device)


@pytest.mark.slow  # a step of its own to compile
@pytest.mark.parametrize("mode", parallel.MODES)
def test_pieces_of_a_batch_with_every_image_twice_change_no_mean(
    mode, config, batch, one_device
):
    config = config.copy_and_resolve_references()
    config.parallel = mode
    config.optim.accumulate = 2
    history, state = take_steps(
        config,
        jax.tree.map(lambda x: np.repeat(x, 2, axis=0), batch),
        lambda network, tx: build_step(config, network, tx),
        lambda b: parallel.put_batch(b, mode),
    )
    compare(history, state, one_device)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_the_config_s_pieces_reach_the_step(mode, config, batch):
    """Equal by design, so it is looked for in the program: a loop over the pieces."""
    config = config.copy_and_resolve_references()
    config.parallel = mode
    loops = []
    for pieces in (1, 2):
        config.optim.accumulate = pieces
        network = build_network(config.model)
        tx = optim.build_optimizer(config.optim, 5)
        state = parallel.put_state(build_state(config, network, tx), mode)
        twice = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), batch)
        step = build_step(config, network, tx)
        program = step.lower(state, parallel.put_batch(twice, mode)).as_text()
        loops.append(program.count("stablehlo.while"))
    assert loops[1] > loops[0]


def test_pieces_with_more_and_fewer_people_add_up_to_the_whole(config, batch, one_device):
    config = config.copy_and_resolve_references()
    pieces = functools.partial(one_device_step, config, accumulate=4)
    # smaller convolutions add in another order again; the largest seen is 5.3e-6
    compare(*take_steps(config, batch, pieces, lambda b: b), one_device, near=1e-5)


def compare(history, state, one_device, near=5e-6):
    for ours, theirs in zip(history, one_device[0], strict=True):
        for name, value in ours.items():
            # float32 sums in another order; the largest difference seen is 1.6e-6
            rel = near / 5 if name == "loss" else near
            assert value == pytest.approx(theirs[name], rel=rel, abs=1e-6), name
    for ours, theirs in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(one_device[1].params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.fixture(scope="module")
def one_device(config, batch):
    """The plain step on a single device, without parallel.py."""
    run = functools.partial(one_device_step, config)
    return take_steps(config, batch, run, lambda b: jax.device_put(b, jax.devices()[0]))


def one_device_step(config, network, tx, accumulate=1):
    settings = {"weights": dict(config.loss), "ema": config.train.ema}
    return jax.jit(
        lambda state, batch: train_step(
            state, batch, None, network=network, tx=tx, accumulate=accumulate, **settings
        )
    )


def test_loss_falls(one_device):
    assert one_device[0][-1]["loss"] < one_device[0][0]["loss"]


def test_every_term_has_a_weight(config):
    assert set(config.loss) == set(losses.TERMS)


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"12 is not divisible by 8 .*batch_size=8"):
        parallel.check_batch_size(12)


def test_a_batch_that_devices_cannot_share_in_equal_pieces_is_refused():
    parallel.check_batch_size(48, 3)
    with pytest.raises(UserError, match=r"40 is not .* 3 pieces .*batch_size=24"):
        parallel.check_batch_size(40, 3)
    with pytest.raises(UserError, match=r"accumulate=0"):
        parallel.check_batch_size(40, 0)
