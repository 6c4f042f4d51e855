"""Second charts: what they see and learn, keypoints that are feigned, their share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import feigned, losses, mirror, scales
from ktn_jax.anatomy import MIRRORED_CHART, MIRRORED_KEYPOINT
from ktn_jax.errors import UserError
from ktn_jax.models.movenet import MOVENET
from ktn_jax.models.network import init_variables
from ktn_jax.models.prior_heads import PriorChart, channels
from tests.scenes import CODEC, perfect_fields, scene
from tests.test_models import small_network

SIZE, BOXES = 64, [(4, 4, 60, 28), (10, 36, 58, 60)]


def seen(seed=0):
    """Targets of two people, fields that are right, and other charts at random."""
    targets = CODEC.encode(scene(BOXES, SIZE), (SIZE, SIZE))
    fields = perfect_fields(targets, BOXES)
    other = jax.random.normal(jax.random.key(seed), (*fields.mask.shape, 24))
    return jax.tree.map(lambda x: x[None], targets), fields, other


def test_they_hang_on_the_prior_and_its_keypoints_alone_and_nothing_on_them():
    network = small_network(prior=MOVENET, prior_keypoints=True, prior_chart=32)
    variables = init_variables(network, 0, SIZE)
    params = variables["params"]
    last = params["prior_chart"]["chart"]
    last["kernel"] = jax.random.normal(jax.random.key(2), last["kernel"].shape)
    image = jax.random.randint(jax.random.key(1), (1, SIZE, 96, 3), 0, 255)
    apply = jax.jit(network.apply)

    def differing(*rooms):
        """The fields that change with the parameters of these rooms."""
        moved = {
            name: jax.tree.map(lambda x: 1.2 * x + 0.01, tree) if name in rooms else tree
            for name, tree in params.items()
        }
        changed = apply({**variables, "params": moved}, image)
        return {n for n in names if np.any(getattr(changed, n) != getattr(fields, n))}

    fields = apply(variables, image)
    assert fields.prior_chart.shape == (1, 16, 24, 24)
    names = {n for n, value in vars(fields).items() if value is not None}
    assert differing("prior_chart") == {"prior_chart"}
    assert differing("prior_keypoints") == {"prior_chart", "prior_keypoints"}
    own = params.keys() - {"prior", "prior_keypoints", "prior_chart"}
    assert differing(*own) == names - {"prior_chart", "prior_keypoints"}
    # other keypoints in place of the prior's own, and the same ones
    heat = jax.nn.sigmoid(fields.prior_keypoints)
    same = apply(variables, image, heat)
    np.testing.assert_allclose(same.prior_chart, fields.prior_chart, atol=1e-5)
    other = apply(variables, image, jnp.roll(heat, 4, axis=2))
    assert np.abs(other.prior_chart - fields.prior_chart).max() > 1e-3
    np.testing.assert_array_equal(other.prior_keypoints, fields.prior_keypoints)


def test_they_need_the_prior_s_keypoints():
    with pytest.raises(UserError, match=r"prior_chart=32 goes by the keypoints"):
        small_network(prior=MOVENET, prior_chart=32)


def test_they_are_a_small_head_on_maps_and_the_strongest_keypoint_of_a_cell():
    rng, width = np.random.default_rng(3), 8
    maps = [
        jnp.broadcast_to(channels()[f"mean{level}"], (1, 64 >> level, 128 >> level, wide))
        for level, wide in {3: 48, 4: 144, 5: 480}.items()
    ]  # so that after standardising the maps say nothing
    heat = rng.uniform(size=(1, 16, 32, 17)).astype(np.float32)
    module = PriorChart(width)
    variables = module.init(jax.random.key(0), maps, heat)
    assert not module.apply(variables, maps, heat).any()  # undecided at first
    params = jax.tree.map(lambda x: rng.normal(size=x.shape) / 10, variables["params"])
    for name in ("block0", "block1"):
        params[name] = jax.tree.map(np.zeros_like, params[name])
    found = module.apply({**variables, "params": params}, maps, heat)
    for level in (3, 4, 5):  # one strong keypoint in a cell, the same in all cells
        cells = 2**level // 4
        strong = np.zeros_like(heat)
        strong[:, ::cells, cells - 1 :: cells, 5] = 0.5
        alone = {n: np.zeros_like(p["kernel"]) for n, p in params.items() if "guide" in n}
        alone[f"guide{level}"] = params[f"guide{level}"]["kernel"]
        own = params | {n: {"kernel": kernel} for n, kernel in alone.items()}
        out = module.apply({**variables, "params": own}, maps, strong)
        x = params["lateral5"]["bias"] + 2 * 0.5 * params[f"guide{level}"]["kernel"][5]
        x = np.maximum(x, 0) @ params["chart"]["kernel"] + params["chart"]["bias"]
        np.testing.assert_allclose(out, np.broadcast_to(x, out.shape), rtol=1e-3, atol=1e-4)
    assert found.shape == (1, 16, 32, 24) and found.std() > 0.01


def test_they_learn_what_the_charts_learn():
    targets, fields, other = seen()
    assert "prior_chart" not in losses.all_terms(fields, targets)
    found = losses.all_terms(fields.replace(prior_chart=other), targets)["prior_chart"]
    valid = np.asarray(targets.points_valid[0])
    total = 0.0
    for yx, chart in zip(
        np.asarray(targets.points_yx[0])[valid],
        np.asarray(targets.points_chart[0])[valid],
        strict=True,
    ):
        at = np.clip(yx / 4 - 0.5, 0, 15)
        y, x = np.minimum(at.astype(int), 14)
        dy, dx = at - (y, x)
        corners = np.asarray(other[0, y : y + 2, x : x + 2], np.float64)
        logits = np.einsum("i,j,ijc->c", (1 - dy, dy), (1 - dx, dx), corners)
        total += np.log(np.exp(logits).sum()) - logits[chart - 1]
    assert found.count == valid.sum() > 10
    np.testing.assert_allclose(found.total, total, rtol=1e-4)


def test_their_share_of_the_charts_counts_in_every_look():
    _, fields, other = seen()
    strong = 30 * other
    both = fields.replace(prior_chart=strong)
    sharing = dataclasses.replace(CODEC, prior_chart=0.75)
    charts = fields.chart[..., 1:] / 4 + 3 * strong / 4
    by_hand = fields.replace(
        chart=jnp.concatenate([fields.chart[..., :1], charts], axis=-1)
    )
    wanted, plain = (jax.jit(CODEC.decode)(f) for f in (by_hand, fields))
    assert wanted.valid.sum() == 2 and np.any(wanted.chart != plain.chart)
    blind = both.replace(center=jnp.full_like(fields.center, -8.0))
    for looks in ([both], [blind, both]):
        found = jax.jit(sharing.decode)(*looks)
        np.testing.assert_array_equal(found.chart, wanted.chart)
        np.testing.assert_array_equal(found.owner, wanted.owner)
    np.testing.assert_array_equal(jax.jit(CODEC.decode)(both).chart, plain.chart)


def test_a_share_without_them_or_of_more_than_all_is_refused():
    _, fields, _ = seen()
    with pytest.raises(UserError, match=r"prior_chart=0.5 needs .*model.prior_chart=96"):
        dataclasses.replace(CODEC, prior_chart=0.5).decode(fields)
    with pytest.raises(UserError, match=r"prior_chart 1.5 is a share"):
        dataclasses.replace(CODEC, prior_chart=1.5)


def test_they_are_mirrored_and_read_from_other_canvases_as_the_charts_are():
    _, fields, other = seen()
    chart = jnp.concatenate([jnp.zeros_like(other[..., :1]), other], axis=-1)
    both = fields.replace(chart=chart, prior_chart=other)
    there = mirror.mirror_fields(both)
    np.testing.assert_array_equal(there.prior_chart, there.chart[..., 1:])
    back = other[:, :, ::-1][..., MIRRORED_CHART[1:] - 1]
    np.testing.assert_array_equal(there.prior_chart, back)
    large = both.replace(bandwidth=both.bandwidth + 1.0)
    joined = scales.join(both, large.replace(chart=-chart, prior_chart=-other), both)
    np.testing.assert_allclose(joined.prior_chart, joined.chart[..., 1:], atol=1e-6)


def peaks(height=40, width=48, people=6, seed=0):
    """Heat-maps that are 1 at some cells, [B, h, w, 17], and elsewhere less."""
    rng = np.random.default_rng(seed)
    heat = rng.uniform(0, 0.9, (4, height, width, 17)).astype(np.float32)
    for image in heat:
        for kind in range(17):
            image[rng.integers(8, height - 8, people), rng.integers(8, width - 8, people),
                  kind] = 1  # fmt: skip
    return heat


def test_feigned_keypoints_lie_about_the_true_ones_with_a_prior_s_faults():
    heat, ids = peaks(), np.arange(4)
    drawn = jax.jit(feigned.keypoints)
    hits, elsewhere, blind, mirrored = [], [], 0, []
    for step in range(40):
        found = np.asarray(drawn(jax.random.key(step), ids, heat))
        assert found.shape == heat.shape and 0 <= found.min() and found.max() <= 1
        for image, true in zip(found, heat, strict=True):
            if not image.any():
                blind += 1
                continue
            at = true == 1
            near = at | np.roll(at, 1, 0) | np.roll(at, 1, 1) | np.roll(at, -1, 1)
            hits.extend(image[at])
            elsewhere.append(image[~near].mean())
            mirrored.extend(image[..., MIRRORED_KEYPOINT][at & ~at[..., MIRRORED_KEYPOINT]])
    assert 0.03 < blind / 160 < 0.2  # feigned.NOTHING
    low, middle, high = np.quantile(hits, (0.1, 0.5, 0.9))
    assert (
        low < 0.2 < middle < 0.6 < high
    )  # MoveNet's on photographs: .09 to .22, .35 to .63, .59 to .85
    assert np.mean(elsewhere) < middle / 3
    assert np.mean(elsewhere) < np.mean(mirrored) < np.mean(hits)


def test_feigned_keypoints_hang_on_the_step_and_the_image_alone():
    heat, ids = peaks(), np.array([7, 3, 9, 12])
    order = np.array([2, 0, 3, 1])
    key = jax.random.key(1)
    found = feigned.keypoints(key, ids, heat)
    again = feigned.keypoints(key, ids[order], heat[order])
    np.testing.assert_array_equal(again, found[order])
    assert np.any(feigned.keypoints(jax.random.key(2), ids, heat) != found)
    assert np.any(feigned.keypoints(key, ids + 1, heat) != found)


def test_a_feigned_blob_is_as_wide_as_movenet_s_and_as_high_as_its_peak():
    point = np.zeros((21, 23, 1), np.float32)
    point[10, 11] = 0.7
    blob = np.asarray(feigned._blobs(jnp.asarray(point)))[..., 0]
    y, x = np.mgrid[:21, :23]
    truth = 0.7 * np.exp(-((y - 10) ** 2 + (x - 11) ** 2) / (2 * 1.5**2))
    inside = (abs(y - 10) <= 5) & (abs(x - 11) <= 5)
    np.testing.assert_allclose(blob[inside], truth[inside], rtol=1e-5)
    assert not blob[~inside].any()
