"""Results files, read an entry at a time; maps and masks in every form."""

import base64
import gzip
import json
import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as rle

from ktn_jax.errors import UserError
from ktn_jax.evaluation import results
from ktn_jax.evaluation.encoded import (
    decode_iuv,
    decode_rle,
    decode_rles,
    encode_iuv,
    read_iuv,
)
from ktn_jax.evaluation.results import Stored, load_results, write_npz, writer
from ktn_jax.evaluation.standalone import evaluate_results
from tests.test_average_precision import annotation, dataset, result
from tests.test_similarity import LINE, plain

# --- files ---------------------------------------------------------------------------


def entry(number, **fields):
    """An entry with small fields that json writes in many ways, and a map."""
    small = {"image_id": number, "category_id": 1, "score": 1 / (1 + number)}
    odd = {"bbox": [0.5, -1e-7, 1e3, number], "note": 'a "]}, [{" in \u00e9\n', "n": None}
    return small | odd | {"uv_shape": [3, 2, 2], "uv_data": "A" * number} | fields


ENTRIES = [entry(number, densepose={"uv_data": [{}]}) for number in range(7)]
WRITTEN = {
    "compact": json.dumps(ENTRIES, separators=(",", ":")).encode(),
    "indented": json.dumps(ENTRIES, indent=3).encode(),
    "unicode": json.dumps(ENTRIES, ensure_ascii=False).encode(),
    "spaced": b" \r\n[ "
    + b" \t,\n ".join(json.dumps(e).encode() for e in ENTRIES)
    + b" ] \n",
}


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 22])
@pytest.mark.parametrize("how", WRITTEN)
def test_entries_are_those_of_json_without_their_maps(how, block, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_BLOCK", block)
    path = tmp_path / "results.json"
    path.write_bytes(WRITTEN[how])
    found = load_results(path)
    maps = {"uv_data", "densepose", "note"}  # a note's letters are known in whole() only
    for one, expected in zip(found, ENTRIES, strict=True):
        small = {name: value for name, value in expected.items() if name not in maps}
        assert {name: value for name, value in one.items() if name != "note"} == small
        assert one.whole() == expected
        assert pickle.loads(pickle.dumps(one)).whole() == expected  # in another process


def test_a_packed_file_is_read_like_a_plain_one(tmp_path):
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(WRITTEN["compact"]))
    assert [one.whole() for one in load_results(path)] == ENTRIES
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"results\.json\.gz is damaged"):
        load_results(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no json .it begins with ''"),
        (b"{}", "holds a dict; expected is a list"),
        (b"[3]", "has a int in its list"),
        (b"[{}", "is no json .no , or . at byte 3"),
        (b"[{} {}]", "is no json .no , or . at byte 4"),
        (b"[{},]", "is no json"),
        (b"[{}] [", "is no json .more after"),
        (b'[{"a": 1}, {"b": ', "is no json"),
    ],
)
def test_files_that_are_no_results_say_so(content, message, tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_results(path)
    with pytest.raises(UserError, match="is not there"):
        load_results(tmp_path / "none.json")


def test_empty_results_are_empty(tmp_path):
    path = tmp_path / "results.json"
    for content in (b"[]", b" [ \n ] "):
        path.write_bytes(content)
        assert load_results(path) == []
    with writer(path):
        pass
    assert load_results(path) == []


def test_what_is_written_on_the_way_is_a_list_or_nothing(tmp_path):
    path = tmp_path / "new" / "results.json"
    with pytest.raises(KeyboardInterrupt), writer(path) as write:
        write(ENTRIES[0])
        raise KeyboardInterrupt
    assert not path.exists() and not list(path.parent.iterdir())
    with writer(path) as write:
        for one in ENTRIES:
            write(one)
    assert json.loads(path.read_text()) == ENTRIES


def test_a_file_takes_no_memory_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_BLOCK", 1 << 16)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([entry(100_000)] * 300))  # 30 MB
    tracemalloc.start()
    found = load_results(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 300 and peak < 3e6


def test_a_file_that_has_gone_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(WRITTEN["compact"])
    found = load_results(path)
    path.unlink()
    with pytest.raises(UserError, match=r"results\.json cannot be read any more"):
        read_iuv(found[0])


def test_an_npz_measures_like_the_json(tmp_path):
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    found = [result(0.9), result(0.8, u=0.3, image=2), result(0.7, u=1)]
    path = tmp_path / "results.npz"
    write_npz(path, found, [read_iuv(one) for one in found])
    read = load_results(path)
    assert [dict(one) for one in read] == [
        {name: one[name] for name in ("image_id", "category_id", "bbox", "score")}
        for one in found
    ]
    np.testing.assert_array_equal(read_iuv(read[1]), read_iuv(found[1]))
    assert evaluate_results(gt, read, LINE) == evaluate_results(gt, found, LINE)


def test_an_npz_that_lacks_something_says_what(tmp_path):
    path = tmp_path / "results.npz"
    whole = {"image_id": [1, 1], "bbox": np.zeros((2, 4)), "score": [0.5, 0.5]}
    whole |= {"iuv_0": plain(1, 1), "iuv_1": plain(1, 1)}
    np.savez(path, **whole)
    assert [one["category_id"] for one in load_results(path)] == [1, 1]  # unless it says so
    for lacking, message in (
        ({name: whole[name] for name in whole if name != "bbox"}, r"no \['bbox'\]"),
        (whole | {"score": [0.5]}, "lengths that differ"),
        (
            {name: whole[name] for name in whole if name != "iuv_1"},
            "2 entries but no iuv_1",
        ),
        (whole | {"score": np.array([0.5, None])}, "no npz of plain arrays"),
    ):
        np.savez(path, **lacking)
        with pytest.raises(UserError, match=message):
            load_results(path)
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="no npz of plain arrays"):
        load_results(path)


# --- maps and masks in files ---------------------------------------------------------


def test_maps_survive_the_challenge_form():
    iuv = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    uv_shape, uv_data = encode_iuv(iuv)
    assert uv_shape == [3, 30, 20] and "\n" in uv_data
    np.testing.assert_array_equal(decode_iuv(uv_shape, uv_data), iuv)
    chart_first = np.moveaxis(iuv, -1, 0)
    challenge = {"uv_shape": uv_shape, "uv_data": uv_data}
    compressed = {"shape_chw": uv_shape, "labels_uv_str": uv_data}
    quantized = SimpleNamespace(labels_uv_uint8=chart_first)
    listed = {"labels_uv_uint8": chart_first.tolist()}  # as a json would have it
    plain_result = {"labels": iuv[..., 0], "uv": chart_first[1:]}
    forms = (challenge, compressed, SimpleNamespace(**compressed), quantized, listed)
    held = [{"densepose": form} for form in (*forms, plain_result)]
    for one in (challenge, compressed, listed, *held, {"uv": chart_first}, {"iuv": iuv}):
        np.testing.assert_array_equal(read_iuv(one), iuv)


def test_fractions_of_u_and_v_are_cut_as_detectron2_does_it():
    # .999 x 255 = 254.7, .5 x 255 = 127.5, and what is beyond 0..1 ends there
    uv = np.array([[[0.999, 0.5, 1.5]], [[-0.1, 1.0, np.nan]]])
    found = read_iuv({"densepose": {"labels": [[3, 24, 0]], "uv": uv}})
    assert found.tolist() == [[[3, 254, 0], [24, 127, 255], [0, 255, 0]]]


def test_maps_of_other_shapes_or_numbers_are_refused():
    for one, message in (
        ({"labels_uv_uint8": np.zeros((4, 5, 5), int)}, r"int64 \[5, 5, 4\]"),
        ({"iuv": np.zeros((5, 5, 3))}, "float64"),
        ({"iuv": np.full((5, 5, 3), 256)}, "expected are bytes"),
        ({"iuv": np.full((5, 5, 3), -1)}, "expected are bytes"),
        (
            {"labels": np.zeros((4, 5), int), "uv": np.zeros((2, 5, 4))},
            r"uv of shape \(2, 5",
        ),
    ):
        with pytest.raises(UserError, match=message):
            read_iuv(one)


def test_a_stored_entry_is_read_from_its_file(tmp_path):
    iuv = np.random.default_rng(2).integers(0, 256, (9, 5, 3), np.uint8)
    uv_shape, uv_data = encode_iuv(iuv)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([entry(1), entry(2, uv_shape=uv_shape, uv_data=uv_data)]))
    stored = load_results(path)[1]
    assert isinstance(stored, Stored)
    np.testing.assert_array_equal(read_iuv(stored), iuv)


def test_maps_that_cannot_be_read_say_why():
    uv_shape, uv_data = encode_iuv(plain(30, 20))
    for shape, data, message in (
        ([3, 20, 30], uv_data, "30 x 20"),
        (uv_shape, base64.b64encode(b"no picture").decode(), "not the base64 of a PNG"),
        (uv_shape, uv_data[: len(uv_data) // 2], "not the base64 of a PNG"),
    ):
        with pytest.raises(UserError, match=message):
            decode_iuv(shape, data)
    with pytest.raises(UserError, match="has no map"):
        read_iuv({"bbox": [0, 0, 1, 1]})
    with pytest.raises(ValueError, match=r"uint8 \[h, w, 3\], not float64"):
        encode_iuv(np.zeros((3, 4, 3)))


def test_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(1)
    for share in (0, 0.02, 0.5, 0.98, 1):
        for size in ((1, 1), (7, 300), (256, 256)):
            mask = rng.random(size) < share
            encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            np.testing.assert_array_equal(decode_rle(encoded), mask)
    for counts in (b"", encoded["counts"][:-1], b"PPYo0", encoded["counts"] + b"1"):
        with pytest.raises(UserError, match="run lengths"):
            decode_rle({"size": [256, 256], "counts": counts})


def test_many_run_lengths_are_decoded_as_one_at_a_time():
    rng = np.random.default_rng(3)
    masks = rng.random((6, 31, 17)) < np.array([0, 0.1, 0.5, 0.9, 1, 0.3])[:, None, None]
    encoded = [rle.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    np.testing.assert_array_equal(decode_rles(encoded), masks)
    damaged = [encoded[1] | {"counts": encoded[1]["counts"][:-1]}, encoded[2]]
    for broken in (damaged, [encoded[0], encoded[1] | {"size": [17, 31]}]):
        with pytest.raises(UserError, match="run lengths"):
            decode_rles(broken)
    # the end of one and the beginning of the next must not make up for each other
    half = {"size": [2, 1], "counts": "1"}  # one pixel of two
    more = {"size": [2, 1], "counts": "3"}  # three
    with pytest.raises(UserError, match="do not fill"):
        decode_rles([half, more])
