"""The evaluator's benchmark on a tiny problem: its problem is sound, its line complete."""

import json
import sys

import numpy as np

from benchmarks import evaluator
from ktn_jax.evaluation.surface import load_official


def test_the_benchmark_measures_a_problem_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluator, "RECORDS", 24 * 20)
    monkeypatch.setattr(evaluator, "VERTICES", 24 * 20 - 6)
    monkeypatch.setattr(evaluator, "ROWS", 100)
    size = ["--images=4", "--people=6", "--detections=6", f"--keep={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["evaluator", *size, "--processes=1"])
    evaluator.main()
    line = json.loads(capsys.readouterr().out)
    assert line["detections"] == 24 and line["seconds"] > 0 and line["cpu_seconds"] > 0
    assert 20 < line["anonymous_mb"] < line["peak_rss_mb"] < 2000
    assert line["GPS AP"] > 0  # somebody is found
    found = json.loads((tmp_path / "out.json").read_text())
    assert sum(row["people"] for row in found["diagnosis"]["by_people"].values()) == 6

    # the table's rows, written in blocks, are a metric: symmetric, and no way round
    surface = load_official(tmp_path)
    assert surface.num_vertices == evaluator.VERTICES
    a, b, c = np.random.default_rng(0).integers(0, evaluator.VERTICES, (3, 2000))
    straight = surface.distance(a, b)
    assert (straight <= surface.distance(a, c) + surface.distance(c, b) + 1e-6).all()
    assert (straight[a != b] > 0).all() and straight.max() < 2
