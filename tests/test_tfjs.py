"""TensorFlow.js graph models: what a .json lists is what its .bin holds."""

import json

import numpy as np
import pytest

from ktn_jax.errors import UserError
from ktn_jax.weights import read_state

ARRAYS = {
    "model/conv/weights": np.arange(24, dtype=np.float16).reshape(2, 3, 1, 4),
    "model/bias": np.array([0.5, -2.0], np.float32),
    "axes": np.array(3, np.int32),
}


def entry(name, array):
    if array.dtype == np.float16:  # stored by halves, used as float32
        how = {"dtype": "float32", "quantization": {"dtype": "float16"}}
    else:
        how = {"dtype": str(array.dtype)}
    return {"name": name, "shape": list(array.shape), **how}


def write(path, arrays, cut=0, **changes):
    """A graph model of two shards, which part in the middle of an array."""
    raw = b"".join(array.tobytes() for array in arrays.values())
    shards = {"a.bin": raw[:21], "b.bin": raw[21 : len(raw) - cut]}
    for name, content in shards.items():
        path.with_name(name).write_bytes(content)
    group = {"paths": list(shards), "weights": [entry(*item) for item in arrays.items()]}
    document = {"format": "graph-model", "weightsManifest": [{**group, **changes}]}
    path.write_text(json.dumps(document))


def test_arrays_are_read_from_all_shards(tmp_path):
    path = tmp_path / "model.json"
    write(path, ARRAYS)
    found = read_state(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cut": 1}, "cannot be read.*get it again"),
        ({"cut": -3}, "cannot be read.*get it again"),
        ({"paths": ["../a.bin"]}, "refused weights in '../a.bin'"),
        ({"paths": ["gone.bin"]}, r"cannot be read \(.*no 'gone\.bin' beside it"),
        (
            {"weights": [{"name": "w", "shape": [1], "dtype": "string"}]},
            "refused the array 'w' of string",
        ),
        (
            {
                "weights": [
                    {
                        "name": "w",
                        "shape": [1],
                        "dtype": "float32",
                        "quantization": {"dtype": "uint8", "scale": 2, "min": 0},
                    }
                ]
            },
            "refused the array 'w' of scaled uint8",
        ),
    ],
)
def test_what_is_damaged_or_elsewhere_is_told(tmp_path, changes, told):
    path = tmp_path / "model.json"
    cut = changes.pop("cut", 0)
    write(path, ARRAYS, max(cut, 0), **changes)
    if cut < 0:
        with open(tmp_path / "b.bin", "ab") as file:
            file.write(bytes(-cut))
    with pytest.raises(UserError, match=told):
        read_state(path)


def test_another_json_is_no_model(tmp_path):
    path = tmp_path / "package.json"
    path.write_text('{"name": "models"}')
    with pytest.raises(UserError, match=r"no TensorFlow\.js graph model"):
        read_state(path)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_state(path)
