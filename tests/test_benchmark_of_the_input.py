"""The input's benchmark: its lines are whole, and its stages are the pipeline's own."""

import json

import numpy as np
import pytest

from benchmarks import input as benchmark
from configs import tiny
from ktn_jax.data import densepose_coco, pipeline


def test_a_line_for_the_stages_and_one_for_every_setting(rendered, capsys):
    options = ["--config=configs/tiny.py", f"--root={rendered}", "--canvas=64"]
    benchmark.main([*options, "--threads", "1", "2", "--batches=2"])
    stages, *settings = map(json.loads, capsys.readouterr().out.splitlines())
    names = ("fetch", "decode", "annotations", "transforms", "encode")
    parts = [stages[f"{name}_cpu_ms"] for name in names]
    assert min(parts[1:]) > 0 and stages["images"] == 3 * 8
    np.testing.assert_allclose(sum(parts), stages["total_cpu_ms"], atol=0.005)
    assert [(line["threads"], line["cache"]) for line in settings] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]
    for line in settings:
        assert line["images"] == 16 and line["canvas"] == 64
        assert line["images_per_second"] > 0
        product = line["cpu_ms_per_image"] * line["images_per_cpu_second"]
        np.testing.assert_allclose(product, 1e3, rtol=0.05)


def test_the_cache_spares_the_reading(rendered, monkeypatch):
    """Once every image was parsed, none is read again while the clock runs."""
    config, read = tiny.get_config(), []
    config.data.canvas = 64
    source = densepose_coco.open_split(densepose_coco.build(rendered), "train")
    whole = pipeline.read_example
    monkeypatch.setattr(
        pipeline, "read_example", lambda record: read.append(1) or whole(record)
    )
    options = {"threads": 1, "batches": 3}
    benchmark.measure_pipeline(source, config, cache=True, **options)
    assert len(read) == len(source)
    benchmark.measure_pipeline(source, config, cache=False, **options)
    assert len(read) > len(source) + 3 * config.data.batch_size


@pytest.mark.slow  # a step of its own to compile
def test_the_step_is_timed_beside_the_input(rendered, capsys):
    options = ["--config=configs/tiny.py", f"--root={rendered}", "--canvas=64"]
    benchmark.main([*options, "--threads=1", "--batches=2", "--step"])
    _, step, *settings = map(json.loads, capsys.readouterr().out.splitlines())
    assert step["measured"] == "step" and step["images_per_second"] > 0
    for line in settings:
        ratio = line["images_per_second"] / step["images_per_second"]
        np.testing.assert_allclose(line["times_the_step"], ratio, rtol=0.02, atol=0.01)
