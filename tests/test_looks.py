"""Two looks at one image: Fields of another canvas, and people taken from either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import embedding, grouping, inference, scales
from ktn_jax.geometry import STRIDE
from tests.scenes import CODEC, perfect_fields, scene

BOXES = [(4, 4, 60, 28), (10, 36, 58, 60)]  # two people apart
LEFT, RIGHT = (slice(8, 56), slice(8, 24)), (slice(14, 54), slice(40, 56))  # well within


def fields_of(boxes, size):
    targets = CODEC.encode(scene(boxes, size), (size, size))
    return targets, perfect_fields(targets, boxes)


def test_fields_of_a_larger_canvas_mean_the_same_on_this_one():
    targets, here = fields_of(BOXES, 64)
    twice = [tuple(2 * n for n in box) for box in BOXES]
    brought = scales.bring_large(fields_of(twice, 128)[1], here)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), brought, here)
    vote = embedding.votes(jax.tree.map(lambda x: x[0], brought))
    size = embedding.size_of(brought.bandwidth[0])
    for slot, window in enumerate((LEFT, RIGHT)):
        cells = tuple(slice(s.start // STRIDE, s.stop // STRIDE) for s in window)
        far = np.abs(vote[cells] - targets.anchors[slot]).max()
        assert far <= STRIDE / 2 + 1e-3  # anchors are cells' centres, on either canvas
        seen = STRIDE * np.sqrt((np.asarray(targets.owner) == slot).sum())
        np.testing.assert_allclose(size[cells], seen, rtol=0.15)


@pytest.mark.parametrize(("size", "share"), [(59.3, 0), (84, 0.5), (98, 0.722), (120, 1)])
def test_anchors_of_a_smaller_canvas_count_as_far_as_people_are_large(size, share):
    """Sizes are in the smaller canvas's pixels, whatever the other one's."""
    tau = jnp.full_like(fields_of(BOXES, 64)[1].bandwidth, embedding.bandwidth_of(size))
    fields = fields_of(BOXES, 64)[1].replace(bandwidth=tau, center=jnp.ones_like(tau))
    for side in (24, 32):
        like = jax.tree.map(lambda x, n=side: jnp.zeros((1, n, n, *x.shape[3:])), fields)
        heat = jax.nn.sigmoid(scales.bring_large(fields, like).center)
        np.testing.assert_allclose(heat, share / (1 + np.exp(-1)), atol=1e-3)


def test_a_canvas_competes_with_two_smaller_ones():
    """The same person on all; only on the smallest he is large there, and found at all."""
    sizes = []

    class Network:
        def apply(self, _, image):
            size = image.shape[1]
            sizes.append((size, image.shape[2]))
            boxes = [(4, 4, size - 4, size - 4)]
            targets = CODEC.encode(scene(boxes, size), (size, size))
            fields = perfect_fields(targets, boxes)
            return fields if size == 96 else fields.replace(center=fields.center - 99.0)

    image = jnp.zeros((1, 192, 192, 3), jnp.uint8)
    settings = {"network": Network(), "codec": CODEC, "flip_test": False}
    found = inference.predict({}, image, compete=True, **settings)
    assert sizes == [(192, 192), (128, 128), (96, 96)]
    assert found.valid.sum() == 1 and (found.owner[0, 16:176, 16:176] == 0).all()
    assert not inference.predict({}, image, **settings).valid.any()


def test_everybody_is_read_where_he_was_found():
    _, fields = fields_of(BOXES, 64)
    marked = fields.replace(chart=fields.chart.at[..., 20].set(40.0))
    half = fields.center.shape[2] // 2
    blind = jnp.full_like(fields.center[:, :, :half], -8.0)

    def hide(fields, cells):
        """Nobody's anchor and nobody's mask on one side."""
        return fields.replace(
            center=fields.center.at[:, :, cells].set(blind),
            mask=fields.mask.at[:, :, cells].set(blind),
        )

    left = hide(fields, slice(half, None))
    right = hide(marked, slice(0, half))
    decode = jax.jit(CODEC.decode)
    alone, plain, found = decode(left), decode(fields), decode(left, right)
    assert (alone.valid.sum(), plain.valid.sum(), found.valid.sum()) == (1, 2, 2)
    np.testing.assert_array_equal(found.chart[0][LEFT], plain.chart[0][LEFT])
    np.testing.assert_array_equal(found.chart[0][RIGHT], 20)
    owners = [found.owner[0][window] for window in (LEFT, RIGHT)]
    assert [len(np.unique(owner)) for owner in owners] == [1, 1]
    assert found.owner[0][LEFT].max() != found.owner[0][RIGHT].max()


def test_who_is_found_twice_counts_once_where_the_score_is_higher():
    _, fields = fields_of(BOXES, 64)
    marked = fields.replace(chart=fields.chart.at[..., 20].set(40.0))
    unsure = marked.replace(quality=jnp.full_like(fields.quality, -1.0))
    decode = jax.jit(CODEC.decode)
    plain = decode(fields)
    for found in (decode(fields, unsure), decode(unsure, fields)):
        np.testing.assert_allclose(found.score.sum(), plain.score.sum(), rtol=1e-5)
        np.testing.assert_array_equal(found.chart, plain.chart)


def repeated(belongs, limit, look):
    """Matrix NMS in plain loops."""
    overlap = np.zeros((len(look),) * 2)
    for i, one in enumerate(belongs):
        for j, other in enumerate(belongs[:i]):
            shared, a, b = (one * other).sum(), (one * one).sum(), (other * other).sum()
            both = a + b - shared if look[i] == look[j] else min(a, b)
            overlap[i, j] = shared / both
    own = overlap.max(1)
    return [max(r * (1 - o) for r, o in zip(row, own, strict=True)) > limit
            for row in overlap]  # fmt: skip


def test_a_piece_of_somebody_seen_elsewhere_is_a_repeat():
    rng = np.random.default_rng(0)
    belongs = np.zeros((7, 6, 8))
    for row in belongs:
        y, x, h, w = rng.integers((0, 0, 2, 2), (4, 5, 6, 8))
        row[y : y + h, x : x + w] = rng.uniform(0.6, 1, row[y : y + h, x : x + w].shape)
    look = rng.integers(0, 2, 7)
    answers = []
    for whose in (look, 0 * look):
        found = grouping.find_repeated(
            jnp.asarray(belongs), jnp.arange(7, 0, -1.0), 0.5, jnp.asarray(whose)
        )
        assert found.tolist() == repeated(belongs, 0.5, whose)
        answers.append(found.sum())
    assert answers[0] > answers[1]
