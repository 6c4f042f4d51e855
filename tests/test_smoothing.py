"""Smoothing against closed forms: noise goes down, what moves is not held back."""

import numpy as np
import pytest

from ktn_jax import smoothing
from ktn_jax.records import Prediction
from ktn_jax.smoothing import Smoother

SHARE = 0.4


def person(iuv, corner=(10, 20), track=1, keypoints=None):
    """corner: (y, x)."""
    height, width = iuv.shape[:2]
    keypoints = np.zeros((17, 3)) if keypoints is None else keypoints
    return Prediction(
        image_id=0,
        bbox=np.array([corner[1], corner[0], width, height], np.int32),
        score=0.9,
        quality=0.9,
        iuv=iuv.astype(np.uint8),
        parts=iuv[..., 0],
        keypoints=keypoints.astype(np.float32),
        track=track,
    )


def body(u=100, v=100, size=(40, 30)):
    """Four quarters of charts 1 to 4, all of one U, V."""
    chart = np.kron([[1, 2], [3, 4]], np.ones((size[0] // 2, size[1] // 2)))
    return np.dstack([chart, np.full(size, u), np.full(size, v)])


def steadied(people, rate=25):
    smoother = Smoother()
    return [smoother.update([p], t / rate)[0] for t, p in enumerate(people)]


def test_the_first_frame_stays_as_it_is():
    before = person(body())
    (after,) = steadied([before])
    np.testing.assert_array_equal(after.iuv, before.iuv)


def test_u_and_v_of_a_small_step_follow_a_first_order_low_pass():
    """From 100 to 130 at frame 1: 130 - 30 * 0.6^t, to the rounding of a byte."""
    found = steadied([person(body(100, 100))] + [person(body(130, 70))] * 6)
    for t, p in enumerate(found):
        expected = 130 - 30 * (1 - SHARE) ** t
        assert np.abs(p.iuv[..., 1] - expected).max() <= 0.5
        assert np.abs(p.iuv[..., 2] - (200 - expected)).max() <= 0.5


def test_a_large_step_is_believed_at_once():
    found = steadied([person(body(100, 100)), person(body(180, 100))])
    assert (found[1].iuv[..., 1] == 180).all()


def test_noise_of_u_and_v_falls_to_half():
    """A low-pass of share a leaves sqrt(a / (2 - a)) = 0.5 of white noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 8, (60, 40, 30, 2)).round()
    frames = [body() + np.dstack([np.zeros((40, 30)), n]) for n in noise]
    found = np.array([p.iuv[..., 1:] for p in steadied(map(person, frames))][10:], float)
    assert 0.47 < found.std() / noise.std() < 0.53
    assert abs(found.mean() - 100) < 0.2


def test_a_chart_that_flickers_for_a_frame_keeps_its_u_and_v_too():
    flicker = body()
    flicker[:8, :8] = (17, 240, 10)
    found = steadied([person(body())] * 3 + [person(flicker)] + [person(body())])
    for p in found:
        np.testing.assert_array_equal(p.iuv, body())


def test_a_chart_that_stays_is_believed_at_its_second_frame():
    """0.6 of the votes are left after a frame, 0.36 after two."""
    other = body()
    other[:8, :8] = (17, 240, 10)
    found = steadied([person(body())] * 3 + [person(other)] * 3)
    assert [p.iuv[0, 0, 0] for p in found] == [1, 1, 1, 1, 17, 17]
    np.testing.assert_array_equal(found[4].iuv, other)


@pytest.mark.parametrize("large", [1, 6])
def test_a_body_that_moves_as_a_whole_is_not_changed(large):
    """Its maps are a ramp, so that a map left behind would change U."""
    size = (40 * large, 30 * large)
    iuv = body(size=size)
    iuv[..., 1] = np.linspace(20, 220, size[1])[None].round()
    people = [person(iuv, (10 + 7 * t, 300 - 9 * t)) for t in range(6)]
    for p in steadied(people):
        np.testing.assert_array_equal(p.iuv, iuv)


def test_an_arm_that_appears_does_not_drag_the_trunk_along():
    """It moves the mask's mean by less than the search reaches."""
    iuv = body()
    iuv[..., 1] = np.linspace(20, 220, 30)[None].round()
    armed = np.concatenate([iuv, np.zeros((40, 20, 3))], axis=1)
    armed[4:8, 30:] = (15, 50, 50)
    found = steadied([person(iuv), person(armed)])[1]
    np.testing.assert_array_equal(found.iuv, armed)


def test_masks_boxes_and_scores_stay_those_of_the_frame():
    rng = np.random.default_rng(1)
    people = []
    for t in range(8):
        mask = rng.random((40, 30, 1)) < 0.8
        people.append(person(body() * mask, (10 + t, 20)))
    for before, after in zip(people, steadied(people), strict=True):
        np.testing.assert_array_equal(after.iuv[..., 0] > 0, before.iuv[..., 0] > 0)
        np.testing.assert_array_equal(after.iuv[after.iuv[..., 0] == 0], 0)
        assert after.bbox is before.bbox and after.score == before.score


def test_joints_at_rest_are_low_passed_and_those_of_who_walks_by_are_not_held_back():
    """At rest share = 1 / (1 + rate / (2 pi 2 Hz)), 0.3345 at 25 frames a second."""
    at = np.c_[np.full((17, 2), 30.0), np.ones(17)]
    people = [
        person(
            body(),
            (10 + 5 * t, 20 + 3 * t),
            keypoints=np.add(at, (5.0 * t, 3.0 * t, 0)),
        )
        for t in range(9)
    ]
    for before, after in zip(people, steadied(people), strict=True):
        np.testing.assert_allclose(after.keypoints, before.keypoints, atol=1e-4)
    small = np.add(at, (0.01, 0, 0))  # so slow that the speed adds next to nothing
    found = steadied([person(body(), keypoints=at), person(body(), keypoints=small)])
    share = (found[1].keypoints[0, 0] - 30) / 0.01
    assert abs(share - 1 / (1 + 25 / (4 * np.pi))) < 0.01


def test_fast_joints_are_followed_more_closely_than_slow_ones():
    at = np.c_[np.full((17, 2), 30.0), np.ones(17)]
    shares = []
    for step in (0.5, 20.0):
        moved = np.add(at, (step, 0, 0))
        found = steadied([person(body(), keypoints=k) for k in (at, moved)])
        shares.append((found[1].keypoints[0, 0] - 30) / step)
    assert shares[0] < 0.45 and shares[1] > 0.75


def test_two_people_do_not_mix_and_who_was_long_away_starts_anew():
    smoother = Smoother()
    smoother.update([person(body(100), track=1), person(body(120), track=2)], 0.0)
    found = smoother.update([person(body(130), track=2), person(body(100), track=1)], 0.04)
    assert found[0].iuv[0, 0, 1] == 124 and found[1].iuv[0, 0, 1] == 100
    for frame in range(smoothing._FORGOTTEN + 1):
        smoother.update([], 0.08 + 0.04 * frame)
    (again,) = smoother.update([person(body(130), track=1)], 9.0)
    assert again.iuv[0, 0, 1] == 130
