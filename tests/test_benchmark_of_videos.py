"""The video benchmark's numbers on predictions whose faults are known."""

import numpy as np
import pytest

from benchmarks import video as benchmark
from ktn_jax.records import Prediction


@pytest.fixture(scope="module")
def shown():
    return list(benchmark.moving(1, 3, 1, 160))


def answer(truth, *, uv_off=0, joints_off=0.0):
    """The truth as a prediction, off by 255ths and by pixels."""
    uv = np.rint(truth.uv * 200) + uv_off  # below 255, to leave room
    iuv = np.dstack([truth.chart, uv]) * (truth.chart > 0)[..., None]
    size = truth.chart.shape
    return Prediction(
        image_id=0,
        bbox=np.array([0, 0, size[1], size[0]], np.int32),
        score=0.9,
        quality=0.9,
        iuv=iuv.astype(np.uint8),
        parts=np.zeros(size, np.uint8),
        keypoints=np.c_[truth.keypoints[0] + joints_off, np.ones(17)],
    )


def test_people_move_and_the_light_stays(shown):
    first, last = shown[0], shown[-1]
    assert first.keypoints.shape == (1, 17, 2)
    assert last.keypoints[0, :, 1].mean() - first.keypoints[0, :, 1].mean() > 30
    nobody = (first.chart == 0) & (last.chart == 0)
    change = first.image[nobody].astype(float) - last.image[nobody]
    assert abs(change.mean()) < 1 and change.std() < 3 * benchmark.NOISE


def test_a_constant_fault_is_an_error_and_no_jitter_and_a_wavering_one_is(shown):
    scaled = [s._replace(uv=s.uv * np.float32(200 / 255)) for s in shown[:2]]
    steady = [
        benchmark.compare(s, [answer(t, uv_off=10)])
        for s, t in zip(scaled, shown, strict=False)
    ]
    found = benchmark.errors(steady[1])
    assert abs(found["uv_error"] - 10 / 255) < 0.002
    assert found["chart_error"] == 0 and found["joint_error"] == 0
    calm = benchmark.jitter(steady[0], steady[1])
    assert calm["uv_jitter"] < 0.004 and calm["chart_flips"] == calm["joint_jitter"] == 0
    wavering = benchmark.compare(scaled[1], [answer(shown[1], uv_off=30, joints_off=2.0)])
    restless = benchmark.jitter(steady[0], wavering)
    assert abs(restless["uv_jitter"] - 20 / 255) < 0.004
    size = np.sqrt((shown[1].chart > 0).sum())
    assert abs(restless["joint_jitter"] - 2 / size) < 1e-6
    assert abs(benchmark.errors(wavering)["joint_error"] - 2 / size) < 1e-6


def test_the_same_surface_point_is_found_again(shown):
    first, second = benchmark.follow(shown[0], shown[1])
    assert len(first[0]) > 200
    assert (shown[0].chart[first] == shown[1].chart[second]).all()
    assert np.abs(shown[0].uv[first] - shown[1].uv[second]).max() <= benchmark.NEAR
