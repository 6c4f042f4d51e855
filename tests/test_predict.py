"""The predict command: resume, shards, batches, full disks; and the model as a callable."""

import json
import os

import numpy as np
import pytest
from PIL import Image

import ktn_jax
from ktn_jax import files, predict, predictor
from ktn_jax.errors import EXIT_SKIPPED, EXIT_USER_ERROR, UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


@pytest.fixture
def photos(tmp_path):
    """Seven photographs of three shapes."""
    rng = np.random.default_rng(3)
    for number, size in enumerate([(64, 64), (40, 80), (90, 50)] * 2 + [(8, 8)]):
        path = tmp_path / "photos" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def run(exported, photos, out, *more):
    return predict.main(
        [str(exported), str(photos), f"--out={out}", "--format=npz", "--min-score=0", *more]
    )


def results(out):
    found = {}
    for path in out.rglob("*.npz"):
        with np.load(path) as arrays:
            found[str(path.relative_to(out))] = {k: arrays[k] for k in arrays.files}
    return found


def same(one, other):
    """As far as another batch size may round."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].keys() == other[name].keys(), name
        np.testing.assert_allclose(one[name]["score"], other[name]["score"], atol=1e-5)
        np.testing.assert_array_equal(one[name]["bbox"], other[name]["bbox"])


def test_any_batch_and_any_shards_give_the_same(exported, photos, tmp_path):
    whole = tmp_path / "whole"
    assert run(exported, photos, whole) == 0
    assert len(results(whole)) == 7 and "1/3.npz" in results(whole)
    assert any(len(one["score"]) for one in results(whole).values())
    assert run(exported, photos, tmp_path / "batches", "--batch=3") == 0
    same(results(tmp_path / "batches"), results(whole))
    parts = tmp_path / "parts"
    for index in range(3):
        before = len(results(parts)) if parts.exists() else 0
        assert run(exported, photos, parts, f"--shard={index}/3") == 0
        assert len(results(parts)) - before in (2, 3)
    same(results(parts), results(whole))


def test_a_second_call_does_only_what_is_missing(exported, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(exported, photos, out) == 0
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.npz")}
    os.unlink(out / "1" / "3.npz")
    changed = photos / "0" / "4.png"
    later = changed.stat().st_mtime + 1000
    os.utime(changed, (later, later))
    assert run(exported, photos, out) == 0
    said = capsys.readouterr().out
    assert "5 were done before" in said and "on 2 images" in said
    again = {p: p.stat().st_mtime_ns for p in out.rglob("*.npz")}
    names = {p.name for p in times if again[p] != times[p]}
    assert again.keys() == times.keys() and names == {"3.npz", "4.npz"}


def test_results_of_other_settings_are_not_mixed(exported, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(exported, photos, out) == 0
    assert run(exported, photos, out, "--canvas=128") == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert "another canvas" in said and "--overwrite" in said
    assert run(exported, photos, out, "--canvas=128", "--overwrite") == 0
    assert "on 7 images" in capsys.readouterr().out
    assert json.loads((out / predict.SETTINGS).read_text())["canvas"] == 128


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(
    exported, photos, tmp_path, capsys, monkeypatch
):
    real, calls = files.write_bytes, []

    def full(path, content):
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    assert run(exported, photos, tmp_path / "out", "--threads=1") == EXIT_USER_ERROR
    assert "No space left" in capsys.readouterr().err
    left = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(left) == 3 and all(not p.name.startswith(".") for p in left)


def test_a_photograph_that_vanishes_is_skipped(exported, photos, tmp_path, monkeypatch):
    find = predict.inputs.find_inputs

    def then_remove(*given, **more):
        found = find(*given, **more)
        os.unlink(found[2].path)
        return found

    monkeypatch.setattr(predict.inputs, "find_inputs", then_remove)
    assert run(exported, photos, tmp_path / "out") == EXIT_SKIPPED
    assert len(results(tmp_path / "out")) == 6


def test_three_lines_of_python_find_the_people(exported, photos, tmp_path):
    model = ktn_jax.load(exported, min_score=0.0)
    path = photos / "0" / "0.png"
    people = model(path)
    assert people and people == sorted(people, key=lambda p: -p.score)
    first = people[0]
    width, height = first.bbox[2:]
    assert first.mask.shape == first.chart.shape == first.parts.shape == (height, width)
    assert first.uv.shape == (height, width, 2) and first.uv.max() <= 1
    np.testing.assert_array_equal(first.mask, first.chart > 0)
    assert first.keypoints.shape == (17, 3)
    with Image.open(path) as picture:
        for same_photo in (picture, np.asarray(picture), str(path)):
            again = model(same_photo)
            assert [p.score for p in again] == [p.score for p in people]
    assert len(ktn_jax.load(exported, min_score=0.0, max_people=1)(path)) == 1


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "no.jpg"],
)
def test_what_is_no_photograph_is_refused(exported, wrong):
    with pytest.raises(UserError):
        ktn_jax.load(exported)(wrong)


@pytest.mark.parametrize("settings", [{"canvas": 100}, {"test_time": "x"}, {"batch": 0}])
def test_impossible_settings_are_refused(exported, settings):
    with pytest.raises(UserError):
        ktn_jax.load(exported, **settings)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((480, 640), (288, 384)),  # 4:3 fits exactly: 384 * 480 / 640 = 288
        ((640, 480), (384, 288)),
        ((500, 640), (384, 384)),  # 300 rows
        ((100, 100), (384, 384)),
        ((10, 20_000), (288, 384)),
        ((1, 1), (384, 384)),
    ],
)
def test_the_canvas_is_the_smallest_that_holds_the_photograph(size, shape):
    assert predictor.canvas_shape(size, 384) == shape
