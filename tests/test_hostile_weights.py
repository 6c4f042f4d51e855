"""Hostile and damaged weights files: nothing of them is run, all end in one clear line.

Longer than other files: one room, and all that can be put into its files.
"""

import builtins
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from ktn_jax import weights
from ktn_jax.errors import UserError
from tests.test_weights import FORMS, GOLDEN, same


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class SetState:
    """Its __setstate__ would run at the end of reading."""

    def __init__(self):
        self.secret = 1

    def __setstate__(self, state):
        raise AssertionError("a file's object was made")


def write_zip(path, document, *, storages=(), byteorder=b"little", extra=(), folder="w"):
    """A torch file of any content, by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", document)
        archive.writestr(f"{folder}/byteorder", byteorder)
        for key, content in storages:
            archive.writestr(f"{folder}/data/{key}", content)
        for name, content in extra:
            archive.writestr(name, content)


LITTLE = {"little_endian": True}


def legacy(document, *, keys=(), numel=0, content=b"", system=LITTLE):
    """The bytes of torch's older form, by hand."""
    dump = lambda value: pickle.dumps(value, 2)  # noqa: E731
    head = dump(weights.LEGACY_MAGIC) + dump(1001) + dump(system)
    tail = dump(list(keys)) + (struct.pack("<q", numel) + content if keys else b"")
    return head + document + tail


def tensor(size=(2, 3), stride=(3, 1), offset=0, *, numel=6, key="0", kind="FloatStorage"):
    """A pickle {"w": tensor}, by hand; a number or a tuple is its own opcodes."""

    def code(value):
        if isinstance(value, tuple):
            return b"(" + b"".join(map(code, value)) + b"t"
        raw = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw  # LONG1

    name = key.encode()
    storage = b"(X\x07\0\0\0storagectorch\n" + kind.encode() + b"\nX"
    storage += struct.pack("<I", len(name)) + name + b"X\x03\0\0\0cpu" + code(numel) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage
    call += code(offset) + code(size) + code(stride) + b"\x89N" + b"tR"
    return b"\x80\x02}X\x01\0\0\0w" + call + b"s."


SIX = np.arange(6, dtype="<f4").tobytes()


def write_pickle(path, content):
    path.write_bytes(content)


def write_legacy(path, content):
    path.write_bytes(legacy(content))


WRITERS = {"pkl": write_pickle, "zip": write_zip, "legacy": write_legacy}


def refused(path, match):
    """The error names the file and is one line."""
    with pytest.raises(UserError, match=match) as caught:
        weights.read_state(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_files_by_hand_are_good_where_nothing_is_wrong(tmp_path):
    """So that the refusals below have the reason they name."""
    path = tmp_path / "w.pth"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_zip(path, tensor(), storages=[("0", SIX)])
    same(weights.read_state(path), {"w": array})
    path.write_bytes(
        legacy(tensor(numel=6).replace(b"tQ", b"NtQ"), keys=["0"], numel=6, content=SIX)
    )
    same(weights.read_state(path), {"w": array})
    write_zip(path, tensor((3, 2), (1, 3)), storages=[("0", SIX)])
    same(weights.read_state(path), {"w": array.T})
    # the stride of a single row means nothing, and torch writes any
    write_zip(path, tensor((1, 6), (2**62, 1)), storages=[("0", SIX)])
    same(weights.read_state(path), {"w": array.reshape(1, 6)})


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_command_of_a_file_is_run(tmp_path, form, protocol):
    mark = tmp_path / "ran"
    content = pickle.dumps({"w": Call(os.system, f"touch {mark}")}, protocol)
    pickle.loads(content)  # a real attack, if one lets it
    assert mark.exists()
    mark.unlink()
    path = tmp_path / "w.pth"
    WRITERS[form](path, content)
    refused(path, r"refused 'posix.system'; only arrays")
    assert not mark.exists()


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Call(builtins.eval, "1"), "eval"),
        (eval, "eval"),
        (Call(getattr, {}, "pop"), "getattr"),
        (SetState(), "tests.test_hostile_weights.SetState"),
        (Call(pickle.loads, b"."), "loads"),
        ({1, 2}, "EMPTY_SET"),
        (np.array([print]), "'O8'"),
        (np.array([(1, 2)], "i4,i4"), "'V8'"),
    ],
)
def test_names_and_opcodes_beside_those_of_arrays_are_refused(tmp_path, form, value, what):
    path = tmp_path / "w.pth"
    WRITERS[form](path, pickle.dumps({"w": value}, 4))
    refused(path, f"refused .*{what}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        # BUILD on a name, to change our functions' attributes: N NEWFALSE dict pair
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x01\0\0\0aK\x01stb.", "a state"),
        # a call of what an earlier call made, and of a mere marker
        (b"\x80\x02ccollections\nOrderedDict\n)R)R.", "a call of a dict"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a call of numpy.ndarray"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of torch.FloatStorage"),
        # an instance, opcodes INST and NEWOBJ; an extension; another persistent id
        (b"\x80\x02(ios\nsystem\n.", "opcode INST"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (
            b"\x80\x02(X\x06\0\0\0modulectorch\nFloatStorage\nX\x01\0\0\0aNK\x01tQ.",
            "persistent",
        ),
        (b"\x80\x02Pabc\n.", "opcode PERSID"),
        # a name with a space in it, escapes for the terminal, an endless name
        (b"\x80\x04\x8c\x0atorch Size\x8c\x01x\x93.", r"refused 'torch.Size.x'"),
        (b"\x80\x02cos\n\x1b[2J\n.", r"'os.\\x1b\[2J'"),
        (b"\x80\x02cos\n" + b"x" * 10**6 + b"\n.", r"x\.\.\.;"),
        # keys that would be hashed without end
        (b"\x80\x02})" + b"\x85" * 10**5 + b"Ns.", "a tuple where"),
        # a pickle of no names at all
        (b"\x80\x02]K\x01a.", "a list where names"),
    ],
)
def test_pickles_by_hand_are_refused(tmp_path, content, what):
    path = tmp_path / "w.pkl"
    path.write_bytes(content)
    refused(path, what)


def test_numpy_arrays_that_are_larger_than_their_bytes_are_refused(tmp_path):
    path = tmp_path / "w.pkl"
    content = pickle.dumps({"w": np.arange(6.0)}, 4)
    assert content.count(b"K\x06\x85") == 1  # the shape (6,)
    path.write_bytes(content.replace(b"K\x06\x85", b"K\x07\x85"))
    refused(path, r"refused 48 bytes for an array of \[7\] float64")


def test_objects_in_an_npz_are_not_made(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "w.npz"
    np.savez(path, w=np.array([Call(os.system, f"touch {mark}")], object))
    with np.load(path, allow_pickle=True) as file:
        file["w"]  # a real attack, if one lets it
    assert mark.exists()
    mark.unlink()
    refused(path, "cannot be read .*allow_pickle=False")
    assert not mark.exists()


def test_storages_of_torch_outside_of_torch_s_files_are_refused(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(tensor())
    refused(path, "torch's storages in a file that is not torch's")


def test_containers_without_end_end_quickly(tmp_path):
    """A pair of the same pair, sixty times over; a dictionary that holds itself."""
    path = tmp_path / "w.pkl"
    pairs = b"Nq\x00" + b"h\x00\x86q\x00" * 60
    path.write_bytes(b"\x80\x02}X\x01\0\0\0w" + pairs + b"s.")
    refused(path, "holds no array")
    path.write_bytes(b"\x80\x02c_codecs\nencode\n(X\x01\0\0\0w" + pairs + b"tR.")
    refused(path, "refused the encoding a tuple")
    path.write_bytes(b"\x80\x02}q\x00X\x05\0\0\0modelh\x00s.")
    refused(path, "holds no array")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"size": (10**18,), "stride": (1,)}, r"a tensor of \[1000000000000000000\]"),
        ({"size": (2, 3), "stride": (10**18, 1)}, "by strides"),
        ({"size": (7,), "stride": (1,)}, "a storage of 6 numbers"),
        ({"size": (2, 3), "offset": 1}, r"a tensor of \[2, 3\] at 1"),
        ({"size": (2, 2), "stride": (5, 1)}, "by strides"),
        ({"size": (10**9,), "stride": (0,)}, "by strides"),  # 4 GB of one number
        ({"size": (-2, 3)}, "negative"),
        ({"stride": (-3, 1)}, "negative"),
        ({"offset": -1}, "negative"),
        ({"size": (2**63, 1)}, "huge"),
        ({"size": (0,), "stride": (1, 1)}, "1 sizes and 2 strides"),
        ({"size": (1,) * 33, "stride": (1,) * 33}, "33 dimensions"),
        ({"numel": 10**15}, r"storage '0', which should be 4000000000000000 bytes"),
        ({"numel": 5}, "storage '0', which should be 20 bytes long and is (16|24)"),
        ({"numel": -6}, "negative"),
        ({"kind": "ComplexFloatStorage"}, "ComplexFloatStorage"),
        ({"kind": "Size"}, "a storage of torch.Size"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_tensors_that_leave_their_storage_are_refused(tmp_path, form, fields, what):
    path = tmp_path / "w.pth"
    numel = fields.get("numel", 6)
    if form == "zip":
        write_zip(path, tensor(**fields), storages=[("0", SIX)])
    else:
        whole = legacy(tensor(**fields), keys=["0"], numel=numel, content=SIX)
        path.write_bytes(whole if numel >= 6 else whole[:-8])
    refused(path, what)


def test_a_storage_is_looked_for_among_the_records_only(tmp_path):
    path = tmp_path / "w.pth"
    write_zip(path, tensor(key="../../w/data/0"), storages=[("0", SIX)])
    refused(path, "cannot be read .*no item named")


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "w/../../evil", "w\\..\\evil", "w/data/../../../x"]
)
@pytest.mark.parametrize("form", ["pth", "npz"])
def test_records_that_climb_out_of_their_folder_are_refused(tmp_path, name, form):
    path = tmp_path / f"w.{form}"
    if form == "pth":
        write_zip(path, tensor(), storages=[("0", SIX)], extra=[(name, b"x")])
    else:
        np.savez(path, **{name: np.ones(2)})
    before = set(tmp_path.iterdir())
    refused(path, "refused the record")
    assert set(tmp_path.iterdir()) == before


def test_zips_that_say_they_unpack_to_more_than_they_hold_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", tensor(numel=10**7))
        archive.writestr("w/data/0", bytes(4 * 10**7))
    refused(path, r"refused records of 4\d{7} bytes")
    np.savez_compressed(path, w=np.zeros(10**7, np.float32))
    refused(path, r"refused records of 4\d{7} bytes")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
    )
    with zipfile.ZipFile(path, "w") as archive:  # a header that promises 4 PB
        archive.writestr("w.npy", header.getvalue() + SIX)
    refused(path, "cannot be read")


def test_many_records_in_the_same_bytes_are_refused(tmp_path):
    """A bomb without compression: every entry of the directory means the whole file."""
    path = tmp_path / "w.pth"
    write_zip(path, tensor(), storages=[("0", bytes(10**5))])
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(50):
            copy = zipfile.ZipInfo(f"w/data/{number + 1}")
            real = archive.getinfo("w/data/0")
            copy.header_offset, copy.CRC = real.header_offset, real.CRC
            copy.file_size = copy.compress_size = real.file_size
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    refused(path, r"records of 5\d{6} bytes in a file of 1\d{5}")


@pytest.mark.parametrize("order", [b"big", b"", b"native"])
def test_numbers_in_another_byte_order_are_refused(tmp_path, order):
    path = tmp_path / "w.pth"
    write_zip(path, tensor(), storages=[("0", SIX)], byteorder=order)
    refused(path, "refused numbers in byte order")
    for system in ({"little_endian": False}, {}, ["little_endian"]):
        path.write_bytes(legacy(tensor(), keys=["0"], numel=6, content=SIX, system=system))
        refused(path, "refused numbers in byte order 'big'")


@pytest.mark.parametrize("form", [*FORMS, "pkl", "npz", "safetensors"])
def test_no_part_of_a_file_passes_for_the_whole(tmp_path, form):
    state = {"w": np.arange(6.0)}
    path = tmp_path / f"w.{form if form in ('npz', 'safetensors') else 'pth'}"
    if form == "pkl":
        path.write_bytes(pickle.dumps(state, 4))
    elif form == "npz":
        np.savez(path, **state)
    elif form == "safetensors":
        safetensors.numpy.save_file(state, path)
    else:
        path.write_bytes((GOLDEN / f"{form}.pth").read_bytes())
    whole = path.read_bytes()
    for length in range(0, len(whole), 17):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read|refused")


@pytest.mark.parametrize("form", ["plain", "plain_legacy", "pkl"])
def test_no_damaged_byte_leads_to_another_error(tmp_path, form):
    """Every third byte of the pickles changed: read, or refused in one line."""
    path = tmp_path / "w.pth"
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"model": {"w": np.arange(6.0)}}, 4)
    if form != "pkl":
        whole = (GOLDEN / f"{form}.pth").read_bytes()
    for place in range(0, min(len(whole), 1400), 3):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            weights.read_state(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_files_that_are_no_weights_are_told(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match=r"no weights file .*w\.pth"):
        weights.read_state(path)
    for content in (b"", b"<html>404</html>", b"version https://git-lfs"):
        path.write_bytes(content)
        refused(path, "no .pth, .pkl, .safetensors, .npz or .json")
    np.savez(path.with_suffix(".npz"), w=np.array(["text"]))
    refused(path.with_suffix(".npz"), "'w.npy' of type <U4")
