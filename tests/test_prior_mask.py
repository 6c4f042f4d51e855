"""The second mask: what it sees, what it learns, and its share when people are decoded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import losses, mirror
from ktn_jax.errors import UserError
from ktn_jax.models.movenet import MOVENET
from ktn_jax.models.network import init_variables
from ktn_jax.models.prior_heads import DROPS, PriorMask, channels
from tests.scenes import CODEC, perfect_fields, scene
from tests.test_models import small_network

SIZE, BOXES = 64, [(4, 4, 60, 28), (10, 36, 58, 60)]


def seen(seed=0):
    """Targets of two people, fields that are right, and another mask at random."""
    targets = CODEC.encode(scene(BOXES, SIZE), (SIZE, SIZE))
    fields = perfect_fields(targets, BOXES)
    other = jax.random.normal(jax.random.key(seed), fields.mask.shape)
    return jax.tree.map(lambda x: x[None], targets), fields, other


def test_it_hangs_on_the_prior_alone_and_nothing_on_it():
    network = small_network(prior=MOVENET, prior_mask=32)
    variables = init_variables(network, 0, SIZE)
    grow = variables["params"]["prior_mask"]["grow"]
    grow["kernel"] = jnp.ones_like(grow["kernel"])  # it starts as nothing
    image = jax.random.randint(jax.random.key(1), (1, SIZE, 96, 3), 0, 255)
    apply = jax.jit(network.apply)

    def differing(*rooms):
        """The fields that change with the parameters of these rooms."""
        params = {
            name: jax.tree.map(lambda x: 1.2 * x + 0.01, tree) if name in rooms else tree
            for name, tree in variables["params"].items()
        }
        changed = apply({**variables, "params": params}, image)
        return {n for n in names if np.any(getattr(changed, n) != getattr(fields, n))}

    fields = apply(variables, image)
    assert fields.prior_mask.shape == fields.mask.shape == (1, 16, 24)
    names = {n for n, value in vars(fields).items() if value is not None}
    assert differing("prior_mask") == {"prior_mask"}
    own = variables["params"].keys() - {"prior", "prior_mask"}
    assert differing(*own) == names - {"prior_mask"}
    assert "prior_mask" in differing("prior")


@pytest.mark.parametrize("prior", ["", "efficientnet_lite0"])
def test_it_needs_movenet_s_maps(prior):
    with pytest.raises(UserError, match=r"prior_mask=32 is of the maps of prior 'mobilen"):
        small_network(prior=prior, prior_mask=32)


def test_it_learns_what_the_mask_learns():
    targets, fields, other = seen()
    assert "prior_mask" not in losses.all_terms(fields, targets)
    terms = losses.all_terms(fields.replace(prior_mask=other), targets)
    chance = 1 / (1 + np.exp(-np.asarray(other, np.float64)))
    truth = np.asarray(targets.mask)
    expected = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance)).mean()
    found = terms["prior_mask"]
    np.testing.assert_allclose(found.total / found.count, expected, rtol=1e-5)
    assert terms["mask"].total < found.total / 10


def test_its_share_of_the_mask_counts_in_every_look():
    _, fields, other = seen()
    blind = fields.replace(center=jnp.full_like(fields.center, -8.0))
    strong = 9 * jnp.sign(other)
    both = fields.replace(prior_mask=strong)
    sharing = dataclasses.replace(CODEC, prior_mask=0.75)
    by_hand = fields.replace(mask=fields.mask / 4 + 3 * strong / 4)
    wanted = jax.jit(CODEC.decode)(by_hand)
    plain = jax.jit(CODEC.decode)(fields)
    assert wanted.valid.sum() == 2 and np.any(wanted.owner != plain.owner)
    unseen = blind.replace(prior_mask=strong)
    for looks in ([both], [unseen, both]):
        found = jax.jit(sharing.decode)(*looks)
        np.testing.assert_array_equal(found.owner >= 0, wanted.owner >= 0)
        np.testing.assert_array_equal(found.chart, wanted.chart)
    unshared = jax.jit(CODEC.decode)(both)
    np.testing.assert_array_equal(unshared.owner, plain.owner)


def test_a_share_without_the_mask_or_of_more_than_all_is_refused():
    _, fields, _ = seen()
    with pytest.raises(UserError, match=r"prior_mask=0.5 needs .*model.prior_mask=96"):
        dataclasses.replace(CODEC, prior_mask=0.5).decode(fields)
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=rf"prior_mask {share} is a share"):
            dataclasses.replace(CODEC, prior_mask=share)


def test_it_is_mirrored_as_the_mask_is():
    _, fields, other = seen()
    there = mirror.mirror_fields(fields.replace(mask=other, prior_mask=other))
    np.testing.assert_array_equal(there.prior_mask, other[:, :, ::-1])
    np.testing.assert_array_equal(there.prior_mask, there.mask)


def test_some_channels_are_out_in_training_and_all_are_in_afterwards():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 500))
    module = PriorMask(8)
    shown = [
        module.apply({}, x, method="_shown", rngs={DROPS: jax.random.key(step)}) / x
        for step in (1, 2)
    ]
    for share in shown:
        same = jnp.broadcast_to(share[:1, :1, :1], x.shape)
        np.testing.assert_allclose(share, same, rtol=1e-5)
        out = np.isclose(share[0, 0, 0], 0)
        assert 0.2 < out.mean() < 0.4
        np.testing.assert_allclose(share[0, 0, 0, ~out], 1 / 0.7, rtol=1e-5)
    assert np.any(shown[0] != shown[1])
    np.testing.assert_array_equal(module.apply({}, x, method="_shown"), x)


def test_it_is_a_small_head_on_channels_about_nothing_and_one_wide():
    rng, width = np.random.default_rng(3), 8
    seen, maps = {}, []
    for level, wide in {3: 48, 4: 144, 5: 480}.items():
        mean, deviation = (channels()[f"{name}{level}"] for name in ("mean", "deviation"))
        assert mean.shape == deviation.shape == (wide,)
        z = rng.normal(size=wide)
        side = 64 >> level
        maps.append(jnp.broadcast_to(mean + z * deviation, (1, side, 2 * side, wide)))
        seen[level] = z * np.minimum(deviation / 0.1, 1)  # what hardly moves stays small
    module = PriorMask(width)
    variables = module.init(jax.random.key(0), maps)
    assert not module.apply(variables, maps).any()  # undecided at first
    params = jax.tree.map(lambda x: rng.normal(size=x.shape) / 10, variables["params"])
    found = module.apply({**variables, "params": params}, maps)[0]

    x = params["lateral5"]["bias"].copy()
    for level, z in seen.items():
        x += z @ params[f"lateral{level}"]["kernel"]
    x = np.maximum(x, 0)
    for name in ("block0", "block1"):  # far from the border all nine neighbours are alike
        more = x @ params[name]["kernel"].sum((0, 1)) + params[name]["bias"]
        x = x + np.maximum(more, 0)
    corners = (x @ params["grow"]["kernel"] + params["grow"]["bias"]).reshape(2, 2)
    assert found.shape == (16, 32)
    np.testing.assert_allclose(found[6:10, 12:16], np.tile(corners, (2, 2)), rtol=2e-3)
