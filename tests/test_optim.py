"""Schedules and update rules against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from ktn_jax import optim
from ktn_jax.errors import UserError


def settings(**fields):
    config = default.get_config().optim
    config.update(clip=0.0, weight_decay=0.0, warmup_steps=0, **fields)
    return config.to_dict()


def first_update(params, grads, **fields):
    tx = optim.build_optimizer(settings(schedule="step", drops=(1.0,), **fields), 100)
    return tx.update(grads, tx.init(params), params)[0]


def test_the_step_schedule_warms_up_and_falls_tenfold_twice():
    config = settings(lr=0.01) | {"warmup_steps": 10, "warmup_start": 0.1}
    schedule = optim.build_schedule(config, 1000)
    # 0.1 x at step 0, 0.55 x half-way through 10 steps, drops at 770 and 920 of 1000
    expected = {0: 1e-3, 5: 5.5e-3, 10: 1e-2, 769: 1e-2, 771: 1e-3, 919: 1e-3, 921: 1e-4}
    for step, lr in expected.items():
        np.testing.assert_allclose(schedule(step), lr, rtol=1e-5)


def test_the_cosine_ends_at_zero():
    config = settings(lr=2.0, schedule="cosine") | {"warmup_steps": 10}
    schedule = optim.build_schedule(config, 110)
    # 100 steps of cosine: 1 at its start, 1/2 half-way
    np.testing.assert_allclose([schedule(10), schedule(60), schedule(110)], [2, 1, 0],
                               atol=1e-6)  # fmt: skip


def test_muon_makes_every_direction_of_a_kernel_equally_long(rng_kernel):
    kernel, grads = rng_kernel
    update = first_update(
        {"kernel": kernel}, {"kernel": grads}, name="muon", lr=0.1
    )["kernel"]  # fmt: skip
    matrix = np.asarray(update).reshape(-1, 16)  # inputs x outputs
    given = np.asarray(grads).reshape(-1, 16)
    # five Newton-Schulz rounds bring singular values near 1, from anywhere in (0, 1];
    # times 0.2 sqrt(72), the longer side, for steps as long as Adam's; downhill by lr
    values = np.linalg.svd(matrix)[1] / (0.1 * 0.2 * np.sqrt(72))
    assert np.linalg.svd(given)[1].max() > 20 * np.linalg.svd(given)[1].min()
    assert 0.6 < values.min() and values.max() < 1.3
    left, _, right = np.linalg.svd(given, full_matrices=False)
    cosine = -(matrix * (left @ right)).sum() / np.linalg.norm(matrix) / 4  # sqrt(16)
    assert cosine > 0.98


@pytest.fixture
def rng_kernel():
    """A 3x3 kernel, 8 -> 16 channels, and a gradient with one strong direction."""
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(72, 16)) + 30 * np.outer(rng.normal(size=72), np.ones(16))
    as_kernel = lambda x: jnp.asarray(x.reshape(3, 3, 8, 16), jnp.float32)  # noqa: E731
    return as_kernel(rng.normal(size=(72, 16))), as_kernel(grads)


# Adam's first step is lr x sign(gradient), whatever the gradient's size; muon's looks
# ahead (Nesterov): (0.9 x 0.1 / (1 - 0.9^2) + 0.1 / (1 - 0.9)) x sign = 1.4737 x sign
@pytest.mark.parametrize(("name", "length"), [("muon", 1.4737), ("adamw", 1.0)])
def test_biases_and_graphs_take_adams_first_step(name, length):
    grads = {"bias": jnp.array([3.0, -1e-3]), "graph_part": jnp.array([[2.0, -5.0]])}
    update = first_update(grads, grads, name=name, lr=0.1)
    np.testing.assert_allclose(update["bias"], [-0.1 * length, 0.1 * length], rtol=1e-3)
    np.testing.assert_allclose(
        update["graph_part"], [[-0.1 * length, 0.1 * length]], rtol=1e-3
    )


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_only_kernels_decay(name):
    params = {"kernel": jnp.full((4, 4), 2.0), "bias": jnp.full(4, 2.0),
              "graph_part": jnp.full((4, 4), 2.0)}  # fmt: skip
    zero = {key: jnp.zeros_like(value) for key, value in params.items()}
    config = settings(name=name, lr=0.1, schedule="step", drops=(1.0,))
    tx = optim.build_optimizer(config | {"weight_decay": 0.5}, 100)
    update, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(update["bias"], 0)
    np.testing.assert_allclose(update["graph_part"], 0)


@pytest.mark.parametrize(("field", "known"), [("name", "muon"), ("schedule", "cosine")])
def test_an_unknown_rule_is_refused_with_the_known_ones(field, known):
    with pytest.raises(UserError, match=f"'lion'.*{known}"):
        optim.build_optimizer(settings() | {field: "lion"}, 10)


def names_and_backbone():
    return {
        "backbone": {"stem": {"kernel": jnp.ones((2, 2))}, "late": {"bias": jnp.ones(2)}},
        "head": {"bias": jnp.ones(2)},
    }


@pytest.mark.parametrize("room", ["backbone", "prior"])
def test_a_backbone_takes_its_share_of_the_step(room):
    grads = names_and_backbone()
    grads[room] = grads.pop("backbone")
    plain = first_update(grads, grads, name="adamw", lr=0.1)
    slow = first_update(grads, grads, name="adamw", lr=0.1, backbone_lr=0.25)
    np.testing.assert_allclose(slow[room]["late"]["bias"], [-0.025] * 2, rtol=1e-3)
    np.testing.assert_allclose(slow["head"]["bias"], plain["head"]["bias"])


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_what_is_held_neither_moves_nor_decays_nor_has_a_gradient(name):
    params, hold = names_and_backbone(), ("backbone/stem/.*",)
    config = settings(name=name, lr=0.1, schedule="step", drops=(1.0,), hold=hold)
    tx = optim.build_optimizer(config | {"weight_decay": 0.5}, 100)

    def loss(params):
        params = optim.hold_still(params, hold)
        squares = jax.tree.map(lambda x: (x**2).sum(), params)
        return sum(jax.tree.leaves(squares))

    grads = jax.grad(loss)(params)
    np.testing.assert_array_equal(grads["backbone"]["stem"]["kernel"], 0)
    update, _ = tx.update(names_and_backbone(), tx.init(params), params)
    np.testing.assert_array_equal(update["backbone"]["stem"]["kernel"], 0)
    assert (np.asarray(update["head"]["bias"]) != 0).all()


@pytest.mark.parametrize(
    ("text", "message"), [("neck/.*", "matches no name"), ("(", "no regular")]
)
def test_a_hold_that_holds_nothing_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        optim.held_names(names_and_backbone(), (text,))
