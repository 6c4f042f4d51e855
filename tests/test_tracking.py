"""Numbers of people along hand-made videos whose answer is known."""

import numpy as np
import pytest

from ktn_jax.records import Prediction
from ktn_jax.tracking import Tracker

RED, BLUE = np.array([2.0, 0.0, 0.0]), np.array([-2.0, 0.0, 0.0])  # |difference|^2 16


def person(y, x, tag=None, *, score=0.9, size=(40, 20), name=0):
    """A filled box around (y, x); `name` is kept in image_id, where the tests read it."""
    top, left = round(y - size[0] / 2), round(x - size[1] / 2)
    iuv = np.full((*size, 3), 9, np.uint8)
    return Prediction(
        image_id=name,
        bbox=np.array([left, top, size[1], size[0]], np.int32),
        score=score,
        quality=0.9,
        iuv=iuv,
        parts=iuv[..., 0],
        keypoints=np.zeros((17, 3), np.float32),
        tag=tag,
    )


def numbers(frames, **options):
    """{name: number} of every frame."""
    tracker = Tracker(**options)
    return [{p.image_id: p.track for p in tracker.update(people)} for people in frames]


def test_people_keep_their_numbers_whatever_order_they_come_in():
    rng = np.random.default_rng(0)
    frames = []
    for t in range(20):
        people = [person(50 + 3 * t, 30 + 60 * k - t, name=k) for k in range(4)]
        frames.append([people[k] for k in (range(4) if t == 0 else rng.permutation(4))])
    assert all(found == {0: 1, 1: 2, 2: 3, 3: 4} for found in numbers(frames))


def test_people_who_walk_through_each_other_keep_their_numbers_by_motion():
    frames = [
        [person(50, 20 + 8 * t, name=0), person(52, 140 - 8 * t, name=1)] for t in range(16)
    ]
    assert all(found == {0: 1, 1: 2} for found in numbers(frames))


@pytest.mark.parametrize("tagged", [True, False])
def test_people_who_meet_and_turn_back_keep_their_numbers_by_tag_alone(tagged):
    """Motion says they walk through each other; a tag says they do not."""
    x = 83 - np.abs(np.arange(41) - 20) * 3  # 23 ... 83 ... 23
    frames = [
        [
            person(50, at, RED if tagged else None, name=0),
            person(50, 166 - at, BLUE if tagged else None, name=1),
        ]
        for at in x
    ]
    kept = all(found == {0: 1, 1: 2} for found in numbers(frames))
    assert kept == tagged


@pytest.mark.parametrize(("gap", "kept"), [(1, True), (10, True), (11, False)])
def test_somebody_missing_is_known_again_within_the_patience(gap, kept):
    frames = [[person(50, 20 + t)] if not 5 <= t < 5 + gap else [] for t in range(30)]
    found = numbers(frames, patience=10)
    assert found[4] == {0: 1} and found[5] == {}
    assert found[5 + gap] == {0: 1 if kept else 2}


def test_who_is_hidden_behind_somebody_comes_out_with_the_own_number():
    frames = []
    for t in range(40):
        front, behind = person(60, 80, name=0), person(60, 20 + 3 * t, name=1)
        hidden = abs(20 + 3 * t - 80) < 15
        frames.append([front] if hidden else [front, behind])
    found = numbers(frames)
    assert sum(len(f) == 1 for f in found) == 9
    assert all(f[0] == 1 and f.get(1, 2) == 2 for f in found)


def test_a_newcomer_gets_a_new_number_and_numbers_are_never_used_twice():
    frames = [[person(50, 30, name=0)]] * 3 + [[]] * 5 + [[person(50, 200, name=1)]] * 2
    frames += [[person(50, 200, name=1), person(50, 30, name=2)]]
    found = numbers(frames, patience=3)
    assert found[-1] == {1: 2, 2: 3}


def test_outlines_decide_where_places_do_not():
    """A tall and a wide outline whose centres are exchanged between two frames."""
    tall, wide = (60, 12), (12, 60)
    frames = [
        [person(50, x, size=tall, name=0), person(50, 104 - x, size=wide, name=1)]
        for x in (50, 54)
    ]
    assert numbers(frames)[1] == {0: 1, 1: 2}


def test_somebody_of_another_tag_in_the_same_place_is_somebody_else():
    (_, second) = numbers([[person(50, 30, RED)], [person(50, 30, BLUE)]])
    assert second == {0: 2}


def test_a_weak_score_keeps_a_track_and_starts_none():
    scores = [0.1, 0.5, 0.1, 0.1, 0.5]
    found = numbers([[person(50, 30, score=s)] for s in scores], start=0.3)
    assert found == [{}, {0: 1}, {0: 1}, {0: 1}, {0: 1}]


@pytest.mark.parametrize("apart", [24, 40, 80])
def test_two_people_taken_for_one_do_not_upset_their_tracks(apart):
    """While they cross, one wide box stands for both; they walk at unlike speeds."""
    frames = []
    for t in range(31):
        left, right = 20 + 5 * t, 140 - 3 * t
        if abs(left - right) < apart:
            wide = (40, 20 + abs(left - right))
            frames.append([person(50, (left + right) / 2, size=wide, name=9)])
        else:
            frames.append([person(50, left, name=0), person(50, right, name=1)])
    found = numbers(frames)
    assert {k: found[-1][k] for k in (0, 1)} == {0: 1, 1: 2}


def test_a_frame_without_people_and_tracks_is_nothing():
    assert numbers([[], []]) == [{}, {}]


def test_everything_but_the_number_stays_as_it_was():
    before = person(50, 30, RED, name=4)
    (after,) = Tracker().update([before])
    assert after.track == 1 and after._replace(track=0) == before


def test_an_empty_mask_breaks_nothing():
    nobody = person(50, 30)._replace(iuv=np.zeros((40, 20, 3), np.uint8))
    assert numbers([[nobody], [nobody]])
