"""Still channels are those that were stilled, and no others."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import idle
from configs import tiny
from ktn_jax import export
from ktn_jax.models.network import build_network, init_variables

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    model = tiny.get_config().model
    model.update(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), width=16)
    return build_network(model)


@pytest.fixture(scope="module")
def variables(network):
    """Three of sixteen channels of the head's first block are far below zero."""
    variables = init_variables(network, 0, 64)
    bias = variables["params"]["head"]["block0"]["norm"]["bias"]
    shift = np.where(np.isin(np.arange(16), (2, 5, 11)), -1000.0, 0.0)
    changed = {"block0": {**variables["params"]["head"]["block0"]}}
    changed["block0"]["norm"] = {
        **changed["block0"]["norm"], "bias": bias + shift.astype(np.float32),
    }  # fmt: skip
    head = variables["params"]["head"] | changed
    return {**variables, "params": variables["params"] | {"head": head}}


def test_channels_far_below_zero_are_still(network, variables):
    counts = idle.count_still(network, variables, IMAGES)
    assert counts["head/block0"] == (3, 16)
    assert counts["head/block0/norm"] == (0, 16)  # before the relu they still differ
    # a few of a random network's are still, too
    as_made = idle.count_still(network, init_variables(network, 0, 64), IMAGES)
    assert counts == as_made | {"head/block0": (3, 16)}


def test_the_command_prints_what_is_still(
    network, variables, tmp_path, monkeypatch, capsys
):
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    config = {"data": {"eval_canvas": 64}}
    monkeypatch.setattr(export, "load_run", lambda workdir: (config, network, 0, variables))
    idle.main(["RUN", f"--images={tmp_path}"])
    *lines, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert {"layer": "head/block0", "still": 3, "channels": 16} in lines
    assert total["photographs"] == 2
    assert total["still"] == sum(line["still"] for line in lines)
    assert total["channels"] > 100


def test_a_folder_without_photographs_is_refused(tmp_path, capsys):
    assert idle.main(["RUN", f"--images={tmp_path}"]) == 2
    assert "holds no photograph" in capsys.readouterr().err
