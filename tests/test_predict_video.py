"""From a video to files, with a predictor whose people are coloured squares."""

import json
import signal
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from ktn_jax import predict as command
from ktn_jax import predict_video, video
from ktn_jax.errors import EXIT_SKIPPED, UserError
from ktn_jax.evaluation.encoded import read_iuv
from ktn_jax.exports import Export
from ktn_jax.structs import Instances
from tests.test_video import remux

av = pytest.importorskip("av")

CANVAS, SIZE = 64, (64, 64)


def squares(image):
    """Instances [B, ...]: in slot 0 what is blue, in slot 1 what is red.

    So the order in the slots is not that of the numbers.
    """
    batch = len(image)
    red = (image[..., 0] > 128) & (image[..., 2] < 128)
    blue = (image[..., 2] > 128) & (image[..., 0] < 128)
    owner = np.where(blue, 0, np.where(red, 1, -1)).astype(np.int8)
    box, valid = np.zeros((batch, 2, 4), np.float32), np.zeros((batch, 2), bool)
    for b in range(batch):
        for k in range(2):
            at = np.argwhere(owner[b] == k)
            if len(at):
                box[b, k], valid[b, k] = np.r_[at.min(0), at.max(0) + 1], True
    seen = owner >= 0
    return Instances(
        valid=valid,
        score=valid * np.float32([0.6, 0.9]),
        quality=valid * np.float32(0.5),
        box=box,
        keypoints=np.zeros((batch, 2, 17, 3), np.float32),
        owner=owner,
        chart=np.where(seen, 5, 0).astype(np.uint8),
        uv=np.where(seen[..., None], 77, 0).astype(np.uint8).repeat(2, axis=-1),
        parts=np.where(seen, 3, 0).astype(np.uint8),
    )


def frame(number):
    """A red square going right; from frame 2 on, a blue one below it going left."""
    image = np.full((*SIZE, 3), 30, np.uint8)
    image[8:24, 2 * number : 2 * number + 16] = (230, 20, 20)
    if number >= 2:
        image[36:52, 40 - number : 56 - number] = (20, 20, 230)
    return image


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    with video.write_mp4(path, Fraction(10)) as put:
        for number in range(10):
            put(frame(number), number / 10)
    return path


def export(run):
    return Export(run, CANVAS, "", "plain")


def predict(clip, out, formats=("overlay", "iuv", "json"), **options):
    return predict_video.predict_video(
        export(squares), str(clip), out, formats=formats, **options
    )


def read_json(out):
    return json.loads((out / "walk.json").read_text())


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_video_becomes_a_video_pictures_and_one_json(clip, tmp_path, batch, smooth):
    summary = predict(clip, tmp_path, batch=batch, smooth=smooth)
    assert summary == (10, 2, [])
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*"))
    pictures = [f"walk/{i:06d}_iuv.png" for i in range(1, 11)]
    assert names == ["walk.json", *pictures, "walk_overlay.mp4"]
    with video.open_video(str(tmp_path / "walk_overlay.mp4")) as drawn:
        assert drawn.count == 10 and drawn.rate == 10
        assert next(drawn.frames()).image.shape == (*SIZE, 3)
    found = read_json(tmp_path)
    assert found["rate"] == 10 and found["faults"] == []
    assert [f["frame"] for f in found["frames"]] == list(range(1, 11))
    np.testing.assert_allclose([f["seconds"] for f in found["frames"]], np.arange(10) / 10)
    for number, entry in enumerate(found["frames"]):
        tracks = {p["track"]: p for p in entry["people"]}
        assert set(tracks) == ({1, 2} if number >= 2 else {1})
        # codecs blur edges by a pixel or so
        expected = {1: [2 * number, 8, 16, 16], 2: [40 - number, 36, 16, 16]}
        for track, person in tracks.items():
            np.testing.assert_allclose(person["bbox"], expected[track], atol=2)
            crop = read_iuv(person)
            assert set(np.unique(crop[..., 0])) <= {0, 5} and crop[8, 8].tolist() == [
                5,
                77,
                77,
            ]
        iuv = np.asarray(Image.open(tmp_path / f"walk/{number + 1:06d}_iuv.png"))
        assert (iuv[..., 2] > 0).any(1).nonzero()[0].min() in (7, 8)


def test_formats_for_the_eye_may_be_pictures(clip, tmp_path):
    predict(clip, tmp_path, ("viton",), pictures=True, limit=3)
    names = sorted(path.name for path in (tmp_path / "walk").iterdir())
    assert names == [f"{i:06d}_viton.png" for i in (1, 2, 3)]


def test_people_may_be_left_out(clip, tmp_path):
    assert predict(clip, tmp_path, ("json",), max_people=1).tracks == 1
    assert all(len(f["people"]) == 1 for f in read_json(tmp_path)["frames"])
    assert predict(clip, tmp_path, ("json",), min_score=0.7).tracks == 1
    assert predict(clip, tmp_path, ("json",), min_score=0.95).tracks == 0


def test_of_a_broken_video_what_can_be_read_is_kept_and_the_fault_said(clip, tmp_path):
    """Cut off behind its index, which a remuxed file has in front."""
    moved = remux(clip, tmp_path / "walk.mp4", movflags="faststart")
    content = moved.read_bytes()
    moved.write_bytes(content[:-200])
    summary = predict(moved, tmp_path / "out", ("json",))
    assert 1 <= summary.frames < 10 and len(summary.faults) >= 1
    found = read_json(tmp_path / "out")
    assert len(found["frames"]) == summary.frames and found["faults"] == summary.faults


def test_an_interruption_ends_the_video_and_keeps_what_was_made(clip, tmp_path):
    calls = []

    def run(image):
        calls.append(len(image))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return squares(image)

    before = signal.getsignal(signal.SIGINT)
    summary = predict_video.predict_video(
        export(run), str(clip), tmp_path, formats=("json",), batch=2
    )
    assert summary.frames == 4 and len(read_json(tmp_path)["frames"]) == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failure_leaves_no_half_written_file(clip, tmp_path):
    def run(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        predict_video.predict_video(
            export(run), str(clip), tmp_path, formats=("overlay", "json")
        )
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_one_clear_line_and_no_file(tmp_path):
    source = tmp_path / "empty.mkv"
    with av.open(str(source), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        target.start_encoding()
    with pytest.raises(UserError, match=r"empty\.mkv"):
        predict(source, tmp_path / "out", ("overlay", "json"))
    assert not any((tmp_path / "out").glob("*"))


def test_a_missing_video_is_one_clear_line():
    with pytest.raises(UserError, match=r"a\.mp4 does not exist"):
        predict("a.mp4", None)


def test_the_command_takes_videos_beside_photographs(clip, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    for path in (folder / "walk.mp4", folder / "b" / "walk.mp4"):
        path.write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video")
    Image.fromarray(frame(3)).save(folder / "walk.png")
    monkeypatch.setattr(command.exports, "read_export", lambda *_, **__: export(squares))
    out = tmp_path / "out"
    given = [str(folder), f"{folder}/**/*.mp4"]
    flags = [f"--out={out}", "--format=json,viton", "--frames=2", "--pictures"]
    assert command.main(["e", *given, *flags]) == EXIT_SKIPPED
    written = (path for path in out.rglob("*") if path.is_file())
    names = sorted(path.relative_to(out).as_posix() for path in written)
    # the photograph has the short name; folders give no videos, the glob does
    films = [f"{name}/{i:06d}_viton.png" for name in ("b/walk", "walk.mp4") for i in (1, 2)]
    jsons = ["b/walk.json", "walk.json", "walk.mp4.json"]
    assert names == sorted(["ktn_jax.json", "walk_viton.png", *films, *jsons])
    said = capsys.readouterr()
    assert "on 5 images" in said.out and "broken.mp4" in said.err
    assert len(json.loads((out / "b" / "walk.json").read_text())["frames"]) == 2
