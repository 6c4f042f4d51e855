"""network.onnx gives the network's fields; without the packages one line says so."""

import jax
import numpy as np
import pytest

from configs import tiny
from ktn_jax import export, onnx_export
from ktn_jax.errors import EXIT_USER_ERROR, UserError
from ktn_jax.models.network import build_network, init_variables
from ktn_jax.structs import Fields

CANVAS = 64


@pytest.fixture(scope="module")
def small_network():
    """The smallest network, and weights among which none says nothing."""
    model = tiny.get_config().model.to_dict()
    model |= {"widths": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "width": 8, "head_depth": 1}
    network = build_network({**model, "wide": 32, "context": 1})
    variables = init_variables(network, 0, CANVAS)
    key = jax.random.key(1)
    more = jax.tree.map(
        lambda x: x + 0.05 * jax.random.normal(key, x.shape), variables["params"]
    )
    return network, {**variables, "params": more}


def test_onnxruntime_gives_the_fields_of_the_network(small_network, tmp_path):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, variables = small_network
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (1, CANVAS, CANVAS, 3), np.uint8) for _ in range(3)]
    apply = jax.jit(network.apply)  # not folded: the converted network is
    wanted = [jax.device_get(apply(variables, image)) for image in images]
    worst = onnx_export.write_network(tmp_path, network, variables, CANVAS)
    assert 0 < worst < 1e-3
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    names = [output.name for output in session.get_outputs()]
    assert set(names) == set(Fields.__dataclass_fields__) - {
        "prior_keypoints",
        "prior_mask",
        "prior_chart",
        "detected",
    }
    for image, want in zip(images, wanted, strict=True):
        for name, found in zip(names, session.run(None, {"image": image}), strict=True):
            np.testing.assert_allclose(found, getattr(want, name), atol=1e-3, rtol=1e-3)
    assert jax.numpy.cumsum.__module__.startswith("jax.")  # nothing of jax is replaced


def test_a_conversion_that_differs_is_not_written(small_network, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "require_packages", lambda: None)
    monkeypatch.setattr(onnx_export, "_converted", lambda *_: b"wrong")

    def outputs(blob, images):
        shapes = jax.eval_shape(small_network[0].apply, small_network[1], images[0])
        return [
            {
                name: np.full(shape.shape, 9.0)
                for name, shape in vars(shapes).items()
                if shape
            }
            for _ in images
        ]

    monkeypatch.setattr(onnx_export, "_onnx_outputs", outputs)
    with pytest.raises(UserError, match="differs from the network"):
        onnx_export.write_network(tmp_path, *small_network, CANVAS)
    assert not list(tmp_path.iterdir())


def test_without_the_packages_one_line_names_their_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    assert export.main(["nowhere", str(tmp_path / "out"), "--onnx"]) == EXIT_USER_ERROR
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "requirements-onnx.txt" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own
def test_the_command_writes_it_beside_the_other_files(request, tmp_path, capsys):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    workdir, _ = request.getfixturevalue("straight")  # not where this is skipped
    assert export.main([str(workdir), str(tmp_path / "out"), "--onnx"]) == 0
    assert "onnxruntime agrees to" in capsys.readouterr().out
    assert {"network.onnx", "plain.stablehlo.gz"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
