"""Geodesic coordinates against the body's own distances, and choices against numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import geodesic
from ktn_jax.evaluation.geodesic_coordinates import lay_out, measure_distances
from ktn_jax.evaluation.surface import Surface, load_body
from tests.scenes import CODEC, perfect_fields, scene

LEFT_ARM, LEFT_HAND = (15, 17), 4  # charts: both sides of the upper arm


@pytest.fixture(scope="module")
def pairs():
    """2,000 random pairs of surface points: chart, uv, chart, uv, geodesic metres."""
    rng, body = np.random.default_rng(0), load_body()
    one, other = rng.integers(len(body.chart), size=(2, 2000))
    one = one[:40].repeat(50)  # few sources: each is a solve
    metres = body.distance(body.vertex[one], body.vertex[other])
    return body.chart[one], body.uv[one], body.chart[other], body.uv[other], metres


def places(chart, uv):
    """[n, D] coordinates of points."""
    everywhere = geodesic.locate(jnp.broadcast_to(uv[:, None], (len(uv), 24, 2)))
    return np.asarray(everywhere)[np.arange(len(uv)), chart - 1]


def test_straight_distances_are_those_over_the_surface(pairs):
    chart, uv, other_chart, other_uv, metres = pairs
    apart = np.linalg.norm(places(chart, uv) - places(other_chart, other_uv), axis=-1)
    error = apart - metres
    near = metres < 0.6
    assert np.sqrt(np.mean(error[near] ** 2)) < 0.035
    assert np.abs(np.median(error[near])) < 0.015
    wanted, ours = (np.exp(-((d / 0.15) ** 2) / 2) for d in (metres, apart))
    assert np.sqrt(np.mean((wanted - ours) ** 2)) < 0.04


def test_a_grid_point_lies_where_the_table_says_and_between_is_linear():
    points = geodesic.load_points()
    uv = np.full((24, 2), (2.5 / 6, 4.5 / 6), np.float32)
    np.testing.assert_allclose(geodesic.locate(uv), points[:, 2, 4], atol=1e-5)
    uv[:, 0] = 3 / 6
    middle = (points[:, 2, 4] + points[:, 3, 4]) / 2
    np.testing.assert_allclose(geodesic.locate(uv), middle, atol=1e-5)
    uv[:] = (0.01, 1.0)  # beyond the outermost
    np.testing.assert_allclose(geodesic.locate(uv), points[:, 0, -1], atol=1e-5)


def test_a_point_of_one_chart_lies_where_all_charts_put_it():
    rng = np.random.default_rng(2)
    chart, uv = rng.integers(1, 25, (3, 40)), rng.random((3, 40, 2)).astype(np.float32)
    found = np.asarray(jax.jit(geodesic.locate_on)(chart, uv)).reshape(120, -1)
    np.testing.assert_allclose(found, places(chart.ravel(), uv.reshape(-1, 2)), atol=1e-5)


def test_expected_similarity_is_a_mean_over_where_the_truth_may_be():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 5, 24)).astype(np.float32) * 2
    uv = rng.random((3, 5, 24, 2)).astype(np.float32)
    found = jax.jit(geodesic.expected_similarity)(logits, uv)
    for at in np.ndindex(3, 5):
        share = np.exp(logits[at]) / np.exp(logits[at]).sum()
        where = places(np.arange(1, 25), uv[at])
        for chosen in range(24):
            metres = np.linalg.norm(where[chosen] - where, axis=-1)
            expected = (share * np.exp(-((metres / 0.15) ** 2) / 2)).sum()
            assert found[at][chosen] == pytest.approx(expected, abs=1e-5)


def test_the_farthest_chart_of_a_certain_pixel_still_has_a_logarithm():
    certain = 300 * np.eye(24, dtype=np.float32)
    uv = np.random.default_rng(3).random((24, 24, 2)).astype(np.float32)
    found = np.asarray(jnp.log(geodesic.expected_similarity(certain, uv)))
    # devices without subnormal numbers would make minus infinity of less
    assert found.min() > np.log(np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(found.argmax(-1), np.arange(24))
    np.testing.assert_allclose(np.diagonal(found), 0, atol=1e-5)


def test_two_near_guesses_beat_one_likelier_far_away():
    box = (40, 60, 140, 110)
    targets = CODEC.encode(scene([box], 192), (192, 192))
    logits = np.full(25, -20.0, np.float32)
    logits[[*LEFT_ARM, LEFT_HAND]] = np.log([0.32, 0.28, 0.40])
    fields = perfect_fields(targets, [box])
    fields = fields.replace(
        chart=jnp.broadcast_to(logits, fields.chart.shape),
        uv=jnp.full_like(fields.uv, 0.5),
    )
    likeliest, nearest = (
        jax.jit(dataclasses.replace(CODEC, expected_similarity=expected).decode)(fields)
        for expected in (False, True)
    )
    person = np.asarray(likeliest.owner == 0)
    assert person.sum() > 1000
    assert (np.asarray(likeliest.chart)[person] == LEFT_HAND).all()
    assert (np.asarray(nearest.chart)[person] == LEFT_ARM[0]).all()
    # confidence stays the probability of the chart that is chosen
    sure, less = (np.asarray(f.confidence, float)[person] for f in (likeliest, nearest))
    np.testing.assert_allclose(less / sure, 0.32 / 0.40, atol=0.02)
    np.testing.assert_array_equal(likeliest.owner, nearest.owner)
    np.testing.assert_array_equal(likeliest.score, nearest.score)


def test_points_of_a_plane_are_laid_out_with_their_distances():
    place = np.random.default_rng(2).random((60, 2))
    distance = np.linalg.norm(place[:, None] - place, axis=-1).astype(np.float32)
    points = lay_out(distance)
    found = np.linalg.norm(points[:, None] - points, axis=-1)
    np.testing.assert_allclose(found, distance, atol=5e-3)


def test_the_grid_is_measured_by_chart_u_and_v():
    class Flat:
        """Vertices on a line, a metre from one to the next; backwards 2 cm more."""

        def between(self, a, b):
            return np.abs(a - b) + 0.02 * (b < a)

    chart = np.repeat(np.arange(1, 25), 36)
    steps = (np.arange(6) + 0.5) / 6
    uv = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    surface = Surface(chart, np.tile(uv, (24, 1)), vertex=np.arange(864), distances=Flat())
    row = np.arange(864)
    expected = np.abs(row[:, None] - row) + 0.01 * (row[:, None] != row)
    np.testing.assert_allclose(measure_distances(surface), expected)
