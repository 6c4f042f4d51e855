"""docs/export.md is true: its snippets run, and its table names what comes out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import tiny
from ktn_jax import exports, inference, onnx_export
from ktn_jax.codec import Codec
from ktn_jax.models.network import build_network, init_variables

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "export.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CANVAS = 64


@pytest.fixture(scope="module")
def made():
    """The smallest network with fresh weights, its codec and its config."""
    config = tiny.get_config()
    config.model.update(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8, head_depth=1)
    config.codec.update(min_score=0.0)
    config.data.update(eval_canvas=CANVAS, flip_test=False)
    network = build_network(config.model.to_dict())
    variables = jax.device_get(init_variables(network, 0, CANVAS))
    return network, Codec(**config.codec), variables, config.to_dict()


@pytest.fixture(scope="module")
def home(made, tmp_path_factory):
    """A folder that holds the export as EXPORT."""
    network, codec, variables, config = made
    folder = tmp_path_factory.mktemp("home")
    out = folder / "EXPORT"
    with pytest.MonkeyPatch.context() as patch:  # one function, not three: quicker
        patch.setattr(exports, "TEST_TIMES", {"plain": exports.TEST_TIMES["plain"]})
        exports.write_export(out, network, codec, variables, config=config, card="")
    return folder


def test_the_snippet_needs_jax_alone_and_gives_what_the_table_says(made, home):
    network, codec, variables, _ = made
    check = """
import sys
assert not any(name.split(".")[0] in ("ktn_jax", "flax", "optax") for name in sys.modules)
np.savez("found.npz", image=image, **{k: np.asarray(v) for k, v in found.items()})
"""
    quiet = {name: os.environ[name] for name in ("JAX_PLATFORMS", "XLA_FLAGS", "PATH")}
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[0] + check],
        cwd=home, env=quiet, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(np.load(home / "found.npz"))
    image = found.pop("image")
    native = inference.build_predict(network, codec, variables, flip_test=False)
    wanted = vars(inference.host(native(image)))
    assert wanted["valid"].any() and done.stdout.count("pixels") == wanted["valid"].sum()
    for name in ("valid", "score", "box"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4)
    sizes = {"B": 1, "H": 64, "W": 96, "K": codec.max_instances, "T": network.tag}
    rows = re.findall(r"^\| `(\w+)` \| \[(.*?)\] \| (\w+) \|", TEXT, re.MULTILINE)
    told = {
        name: (tuple(int(sizes.get(d, d)) for d in shape.split(", ")), kind)
        for name, shape, kind in rows
    }
    assert told == {name: (x.shape, x.dtype.name) for name, x in found.items()}


def test_the_files_are_those_of_the_table(home):
    told = set(re.findall(r"^\| `([\w.]+\.\w+)` \|", TEXT, re.MULTILINE))
    written = {path.name for path in (home / "EXPORT").iterdir()}
    functions = {f"{name}.stablehlo.gz" for name in exports.TEST_TIMES}
    assert told - {"codec.py"} == written | functions | {onnx_export.FILE}


def test_fields_of_onnxruntime_are_grouped_as_the_snippet_says(made, home, monkeypatch):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    network, codec, variables, _ = made
    onnx_export.write_network(home / "EXPORT", network, variables, CANVAS)
    monkeypatch.chdir(home)
    names = {}
    exec(SNIPPETS[1], names)  # the documentation's own
    native = inference.build_predict(network, codec, variables, flip_test=False)
    wanted = inference.host(native(names["image"]))
    found = inference.host(names["found"])
    assert wanted.valid.any()
    np.testing.assert_array_equal(found.valid, wanted.valid)
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-3)
    assert (found.owner == wanted.owner).mean() > 0.999
