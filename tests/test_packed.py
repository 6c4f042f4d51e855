"""Packed tables of distances: pairs, every form of file, hostile and damaged ones."""

import io
import pickle
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from ktn_jax.errors import UserError
from ktn_jax.evaluation import packed
from ktn_jax.evaluation.packed import PackedDistances, read_table

# 400 vertices: their last pair number passes 16 bits, and their table the part of a
# pickle that is always read
NUM_VERTICES = 400
NUM_PAIRS = NUM_VERTICES * (NUM_VERTICES - 1) // 2  # 79,800


def table(dtype="<f4"):
    return np.random.default_rng(0).random((NUM_PAIRS, 1)).astype(dtype)


def test_packed_pairs_are_found_in_any_order_and_in_any_integer_type():
    distances = PackedDistances(np.arange(NUM_PAIRS))  # every entry is its own number
    a, b = np.array([[1, 2, 0, 7, 399, 0], [0, 1, 2, 7, 398, 399]], np.uint16)
    # a (a - 1) / 2 + b: 0, 1 + 1, 1 + 0, the same vertex, 79401 + 398, 79401 + 0
    expected = [0, 2, 1, 0, 79799, 79401]
    np.testing.assert_array_equal(distances.between(a, b), expected)
    np.testing.assert_array_equal(distances.between(b, a), expected)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_pairs_of_a_mapped_table_are_those_of_one_in_memory(dtype, tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"head" + table(dtype).tobytes())
    mapped = PackedDistances(np.memmap(path, dtype, "r", 4, shape=(NUM_PAIRS,)))
    a, b = np.random.default_rng(6).integers(0, NUM_VERTICES, (2, 5000))  # some twice
    expected = PackedDistances(table(dtype)[:, 0]).between(a, b)
    np.testing.assert_array_equal(mapped.between(a, b), expected)
    np.testing.assert_array_equal(mapped.between(a[:0], b[:0]), expected[:0])
    again = pickle.loads(pickle.dumps(mapped))
    np.testing.assert_array_equal(again.between(a, b), expected)


def python2_pickle(array):
    """What Python 2 wrote at protocol 2, byte by byte: the data is one BINSTRING."""
    return (
        b"\x80\x02}U\x0cPdist_matrixcnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J"
        + struct.pack("<i", len(array))
        + b"K\x01\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", array.nbytes)
        + array.tobytes()
        + b"tbs."
    )


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_agree(protocol, dtype, tmp_path):
    path = tmp_path / "Pdist_matrix.pkl"
    path.write_bytes(pickle.dumps({"Pdist_matrix": table(dtype)}, protocol))
    read = read_table(path)
    np.testing.assert_array_equal(read, table(dtype)[:, 0])
    # protocol 0 has its text escaped: there is nothing to map, nor to unpack in blocks
    assert isinstance(read, np.memmap) == (protocol >= 1)


def test_a_pickle_of_python_2_is_mapped(tmp_path):
    path = tmp_path / "Pdist_matrix.pkl"
    path.write_bytes(python2_pickle(table()))
    read = read_table(path)
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, table()[:, 0])
    sent = pickle.dumps(PackedDistances(read))  # to another process: not the contents
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).table, table()[:, 0])


def test_a_short_pickle_is_read_whole(tmp_path):
    path = tmp_path / "Pdist_matrix.pkl"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(table()[:3], protocol))
        np.testing.assert_array_equal(read_table(path), table()[:3, 0])


@pytest.mark.parametrize("shape", [(NUM_PAIRS, 1), (1, NUM_PAIRS), (NUM_PAIRS,)])
@pytest.mark.parametrize("how", ["contiguous", "chunked", "compressed"])
def test_hdf5_files_agree_with_pickles(how, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_BLOCK", 10_000)  # eight blocks, the last one short
    options = {
        "contiguous": {},
        "chunked": {"chunks": True},
        "compressed": {"chunks": True, "compression": "gzip"},
    }[how]
    path = tmp_path / "Pdist_matrix.mat"
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB's header lies there
        file.create_dataset("Pdist_matrix", data=table().reshape(shape), **options)
    read = read_table(path)
    np.testing.assert_array_equal(read, table()[:, 0])
    assert isinstance(read, np.memmap)


def test_an_old_mat_file_agrees_with_pickles(tmp_path):
    savemat(tmp_path / "Pdist_matrix.mat", {"Pdist_matrix": table()})
    read = read_table(tmp_path / "Pdist_matrix.mat")
    np.testing.assert_array_equal(read, table()[:, 0])


def test_what_no_map_can_read_is_unpacked_once(tmp_path, monkeypatch):
    path, cache = tmp_path / "Pdist_matrix.pkl", tmp_path / "cache"
    path.write_bytes(pickle.dumps({"Pdist_matrix": table()}, 2))
    first = read_table(path, cache_dir=cache)
    unpacked = list(cache.iterdir())
    assert isinstance(first, np.memmap) and len(unpacked) == 1  # nothing half-written
    monkeypatch.setattr(packed, "_decode", lambda *_, **__: iter([b"not again"]))
    np.testing.assert_array_equal(read_table(path, cache_dir=cache), table()[:, 0])
    assert list(cache.iterdir()) == unpacked


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(protocol, tmp_path):
    loot, path = tmp_path / "loot", tmp_path / "Pdist_matrix.pkl"
    attack = Call(Path.touch, loot), Call(exec, f"open({str(loot)!r}, 'w').close()")
    array = np.array([Call(Path.touch, loot)], object)
    for evil in (attack[0], attack[1], array, [table(), attack[1]]):
        content = pickle.dumps({"Pdist_matrix": table(), "x": evil}, protocol)
        path.write_bytes(content)
        with pytest.raises(UserError, match="only numpy arrays are read"):
            read_table(path)
        assert not loot.exists()
    pickle.load(io.BytesIO(content))  # the last one would have done it
    assert loot.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pickle"),
        (b"hello", "no pickle"),
        (pickle.dumps({"Pdist_matrix": 3}), "no numpy array"),
        (pickle.dumps({"other": np.zeros(3)}), "no numpy array"),
        (pickle.dumps(np.arange(3)), "not one of f2, f4, f8"),
        (pickle.dumps(np.array([None])), "not one of f2, f4, f8"),
        (pickle.dumps(table(), 2)[:90_000], "no pickle"),
    ],
)
def test_a_damaged_pickle_is_named(content, message, tmp_path):
    path = tmp_path / "Pdist_matrix.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_a_mat_file_without_the_table_is_named(tmp_path):
    path = tmp_path / "Pdist_matrix.mat"
    savemat(path, {"other": table()})
    with pytest.raises(UserError, match="no array called Pdist_matrix"):
        read_table(path)
