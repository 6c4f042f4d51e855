"""The whole network with other backbones, norms, precision and recomputed blocks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors import numpy as safetensors

from configs import tiny
from ktn_jax import checkpoint, export, exports, optim, parallel, training
from ktn_jax.codec import Codec
from ktn_jax.models import backbone
from ktn_jax.models.network import build_network, init_variables
from ktn_jax.models.resnet import ResNet
from ktn_jax.structs import Batch
from tests.scenes import CODEC, scene

CANVAS = 32


def tiny_model(**changes):
    model = tiny.get_config().model
    model.update(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8, head_depth=1)
    model.update(changes)
    return model


@pytest.fixture
def tiny_resnet(monkeypatch):
    """resnet50 with a block a level and 8 channels at the stem."""

    def build(depths, *arguments, **options):
        return ResNet((1, 1, 1, 1), *arguments, stem=8, **options)

    monkeypatch.setattr(backbone, "ResNet", build)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    boxes = [(2, 2, 20, 16), (8, 14, 30, 30)]
    targets = [
        CODEC.encode(scene(boxes[:people], CANVAS, people), (CANVAS,) * 2)
        for people in (1, 2)
    ]
    return Batch(
        image=rng.integers(0, 255, (2, CANVAS, CANVAS, 3)).astype(np.uint8),
        valid=np.ones(2, bool),
        image_id=np.arange(2),
        to_image=np.zeros((2, 2, 2)),
        targets=jax.tree.map(lambda *x: np.stack(x), *targets),
    )


def one_device_step(config, network, tx):
    body = functools.partial(
        training.train_step, network=network, tx=tx, weights=dict(config.loss), ema=0.0
    )
    return jax.jit(functools.partial(body, axis=None))


def test_recomputed_blocks_change_neither_names_nor_numbers(tiny_resnet):
    model = tiny_model(backbone="resnet50", ktm=False, wide=8)
    kept, again = (build_network({**model, "remat": remat}) for remat in (False, True))
    image = jax.random.randint(jax.random.key(1), (1, CANVAS, CANVAS, 3), 0, 255)
    variables = init_variables(kept, 0, CANVAS)

    def gradient(network):
        def size(variables):
            fields = network.apply(variables, image)
            return sum(jnp.square(x - 1).mean() for x in jax.tree.leaves(fields))

        return jax.grad(size)

    shapes = jax.eval_shape(lambda: init_variables(again, 0, CANVAS))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    blocks = [
        str(jax.make_jaxpr(gradient(n))(variables)).count("remat") for n in (kept, again)
    ]
    assert blocks == [0, 4 + 4 + 3 + 2]  # backbone, decoder, head, wide map
    plain, recomputed = (jax.jit(gradient(n))(variables) for n in (kept, again))
    largest = max(float(abs(x).max()) for x in jax.tree.leaves(plain))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(recomputed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


@pytest.mark.slow  # two steps of its own to compile
def test_bfloat16_learns_as_float32_does(batch):
    """Loss after 20 steps within 2 %; parameters, Fields and losses stay float32."""
    config = tiny.get_config()
    config.optim.update(name="sgd", lr=0.01, clip=1.0)
    last = {}
    for dtype in ("float32", "bfloat16"):
        config.model = tiny_model(dtype=dtype, mid=False, ktm=False)
        config.data.canvas = CANVAS
        network = build_network(config.model)
        tx = optim.build_optimizer(config.optim, 20)
        state = training.build_state(config, network, tx)
        step = one_device_step(config, network, tx)
        first = None
        for _ in range(20):
            state, metrics = step(state, batch)
            first = first or float(metrics["loss"])
        last[dtype] = float(metrics["loss"])
        assert last[dtype] < first
        types = {x.dtype for x in jax.tree.leaves((state.params, metrics))}
        fields = jax.eval_shape(network.apply, {"params": state.params}, batch.image)
        types |= {x.dtype for x in jax.tree.leaves(fields)}
        assert types == {jnp.dtype("float32")}
    assert last["bfloat16"] != last["float32"]
    assert last["bfloat16"] == pytest.approx(last["float32"], rel=0.02)


@pytest.mark.slow  # a step of its own to compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own
def test_frozen_norms_go_through_training_checkpoint_and_export(
    small_config, tiny_resnet, tmp_path
):
    config = small_config.copy_and_resolve_references()
    config.model.update(backbone="resnet50", norm="frozen", mid=False, ktm=False)
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, 4)
    state = training.build_state(config, network, tx)
    rng = np.random.default_rng(0)
    frozen = jax.tree.map(
        lambda x: (x + rng.uniform(-0.5, 0.5, x.shape)).astype(np.float32), state.frozen
    )
    state = state.replace(frozen=frozen)
    step = training.build_step(config, network, tx)
    batches = training.build_batches(config, training.open_source(config), 0)
    one, two = (
        parallel.put_batch(b, config.parallel) for b in itertools.islice(batches, 2)
    )
    before = jax.device_get(state.params)
    state, _ = step(parallel.put_state(state, config.parallel), one)
    like = jax.tree.map(jnp.zeros_like, state)
    with checkpoint.open_run(tmp_path) as run:
        checkpoint.save(run, state, config.to_dict())
        run.wait_until_finished()
        after, average = jax.device_get((state.params, state.ema))
        straight, _ = step(state, two)
        restored = checkpoint.restore(run, like)
    resumed, _ = step(restored, two)
    jax.tree.map(np.testing.assert_array_equal, resumed, straight)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.frozen), frozen)
    assert all(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)
    )
    _, _, _, variables = export.load_run(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, variables["params"], average)
    jax.tree.map(np.testing.assert_array_equal, variables["frozen"], frozen)
    codec = Codec(**config.codec)
    exports.write_export(
        tmp_path / "out", network, codec, variables, config=config.to_dict(), card=""
    )
    # the function was traced with these weights by name, or it could not be written
    weights = safetensors.load_file(tmp_path / "out" / exports.WEIGHTS)
    stored = traverse_util.unflatten_dict(weights, sep="/")["frozen"]
    jax.tree.map(np.testing.assert_array_equal, stored, frozen)
