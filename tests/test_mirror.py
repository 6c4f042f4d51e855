"""Mirrored Fields against mirrored annotations, which transforms and the codec make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import embedding, losses, mirror
from ktn_jax.data import transforms
from ktn_jax.geometry import Affine
from ktn_jax.records import Example
from tests.scenes import CODEC, perfect_fields, scene

SIZE = 64
BOXES = [(4, 4, 60, 28), (10, 36, 58, 60)]  # sides on the borders of cells


def random_fields(seed=0):
    """Fields of the right shapes that mean nothing."""
    like = perfect_fields(CODEC.encode(scene(BOXES, SIZE), (SIZE, SIZE)), BOXES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), like)


def targets_of(people):
    return jax.tree.map(lambda x: jnp.asarray(x)[None], CODEC.encode(people, (SIZE, SIZE)))


@pytest.mark.parametrize("term", ["chart", "uv", "parts", "mask", "keypoints"])
def test_fields_lose_as_much_on_people_as_their_mirror_on_mirrored_people(term):
    people = scene(BOXES, SIZE)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    turned = transforms.flip(Example(1, image, tuple(people), Affine())).people
    fields = random_fields()
    here = losses.TERMS[term](fields, targets_of(people))
    there = losses.TERMS[term](mirror.mirror_fields(fields), targets_of(turned))
    assert here.count == there.count > 0
    np.testing.assert_allclose(here.total, there.total, rtol=1e-5)


def test_votes_turn_over_with_the_image():
    fields = random_fields()
    votes = embedding.votes(jax.tree.map(lambda x: x[0], fields))
    turned = embedding.votes(jax.tree.map(lambda x: x[0], mirror.mirror_fields(fields)))
    # cell (i, j) of the mirror image votes for (y, SIZE - x) of what (i, w-1-j) votes for
    expected = np.asarray(votes)[:, ::-1] * (1, -1) + (0, SIZE)
    np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_two_mirrors_are_none():
    fields = random_fields()
    back = mirror.mirror_fields(mirror.mirror_fields(fields))
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(fields), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_average_of_a_pair_lies_half_way():
    one, other = random_fields(1), random_fields(2)
    mean = mirror.average(one, other)
    np.testing.assert_allclose(mean.uv, (np.asarray(one.uv) + other.uv) / 2, atol=1e-6)


def test_tags_tell_people_apart_by_the_mean_of_both_images_whatever_their_signs():
    """Distances by each image's own tags; a mirror image's may well be the negatives."""
    rng = np.random.default_rng(3)
    one = random_fields(1)
    for theirs in (-one.tag, jnp.asarray(rng.normal(size=one.tag.shape), jnp.float32)):
        both = np.asarray(mirror.average(one, one.replace(tag=theirs)).tag)
        cells = [np.asarray(tag).reshape(-1, tag.shape[-1]) for tag in (one.tag, theirs)]
        own = [np.square(tag[:, None] - tag[None]).sum(-1) for tag in cells]
        flat = both.reshape(-1, both.shape[-1])
        apart = np.square(flat[:, None] - flat[None]).sum(-1)
        np.testing.assert_allclose(apart, (own[0] + own[1]) / 2, atol=1e-3)
