"""Frames in and out of video files, whole and broken, upright and turned."""

import re
import sys
from fractions import Fraction

import numpy as np
import pytest

from ktn_jax import video
from ktn_jax.errors import UserError

av = pytest.importorskip("av")


def picture(number, size=(48, 64)):
    """A grey frame whose brightness tells its number."""
    return np.full((*size, 3), 20 + 20 * number, np.uint8)


def write(path, images, rate=Fraction(25), seconds=None):
    with video.write_mp4(path, rate) as put:
        for index, image in enumerate(images):
            put(image, index / rate if seconds is None else seconds[index])
    return path


def read(path):
    with video.open_video(str(path)) as found:
        return list(found.frames()), found


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(12)])
def test_ten_frames_come_back_in_order_at_their_rate(rate, tmp_path):
    path = write(tmp_path / "a.mp4", [picture(i) for i in range(10)], rate)
    frames, found = read(path)
    assert [f.index for f in frames] == list(range(10)) and found.count == 10
    assert found.faults == []
    assert abs(found.rate - rate) < Fraction(1, 100)
    np.testing.assert_allclose(
        [f.seconds for f in frames], [float(i / rate) for i in range(10)], atol=1e-4
    )
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.image, picture(index), atol=3)


def test_frames_that_come_unevenly_keep_their_times(tmp_path):
    seconds = [0, 0.1, 0.15, 0.12, 1.0]  # one goes back, which no player would follow
    frames, _ = read(write(tmp_path / "a.mp4", map(picture, range(5)), seconds=seconds))
    np.testing.assert_allclose(
        [f.seconds for f in frames], [0, 0.1, 0.15, 0.15, 1], atol=1e-3
    )


def test_colours_come_back(tmp_path):
    colors = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 180, 30]])
    image = np.repeat(np.repeat(colors[None].astype(np.uint8), 16, 1), 32, 0)
    (frame,), _ = read(write(tmp_path / "a.mp4", [image]))
    middles = frame.image[16, 8::16]
    np.testing.assert_allclose(middles, colors, atol=4)


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (33, 35)])
def test_odd_sizes_grow_to_even_ones(size, tmp_path):
    (frame,), _ = read(write(tmp_path / "a.mp4", [picture(4, size)]))
    assert frame.image.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    np.testing.assert_allclose(frame.image, picture(4, frame.image.shape[:2]), atol=3)


def test_files_without_an_h264_encoder_are_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    frames, _ = read(write(tmp_path / "a.mp4", [picture(i) for i in range(5)]))
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.image, picture(index), atol=5)
    assert len(frames) == 5


QUARTERS = np.kron(np.array([[30, 90], [150, 220]]), np.ones((16, 24), int))


def turned(path, matrix):
    """A video of QUARTERS with a display matrix (a, b, c, d)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qmax": "2"})
        stream.height, stream.width = QUARTERS.shape
        stream.pix_fmt = "yuv420p"
        a, b, c, d = (v << 16 for v in matrix)
        values = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32)
        stream.set_display_matrix(values.tolist())
        image = np.repeat(QUARTERS[..., None], 3, axis=2).astype(np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), QUARTERS),
        ((0, 1, -1, 0), np.rot90(QUARTERS, -1)),  # a phone held upright: clockwise
        ((-1, 0, 0, -1), np.rot90(QUARTERS, 2)),
        ((0, -1, 1, 0), np.rot90(QUARTERS)),
        ((-1, 0, 0, 1), QUARTERS[:, ::-1]),
        ((0, 1, 1, 0), QUARTERS.T),
    ],
)
def test_videos_of_turned_cameras_come_upright(matrix, shown, tmp_path):
    (frame,), _ = read(turned(tmp_path / "a.mp4", matrix))
    assert frame.image.shape == (*shown.shape, 3)
    np.testing.assert_allclose(frame.image[8::16, 8::16, 0], shown[8::16, 8::16], atol=8)


def noise(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (96, 128, 3)).astype(np.uint8) for _ in range(count)]


def remux(source, target, **options):
    """The same frames in another file, whose form its name tells."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize(
    ("name", "said"),
    [("moved.mp4", r"\d+ of 20 frames"), ("moved.mkv", r"ends after 0\.\d of 0\.8 s")],
)
def test_of_a_truncated_file_the_frames_before_the_end_are_kept(name, said, tmp_path):
    whole = write(tmp_path / "whole.mp4", noise(20))
    # with its index first, as files of the web have it
    moved = remux(whole, tmp_path / name, movflags="faststart")
    content = moved.read_bytes()
    moved.write_bytes(content[: len(content) // 2])
    frames, found = read(moved)
    assert 5 <= len(frames) < 20
    assert any(re.search(said, fault) for fault in found.faults)
    np.testing.assert_allclose(frames[2].image, read(whole)[0][2].image, atol=2)


def test_damage_in_the_middle_is_reported_and_survived(tmp_path):
    content = bytearray(write(tmp_path / "a.mp4", noise(20)).read_bytes())
    third = len(content) // 3
    content[third : third + 20000] = bytes(20000)
    (tmp_path / "b.mp4").write_bytes(content)
    frames, found = read(tmp_path / "b.mp4")
    assert 3 <= len(frames) and found.faults


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(10_000)])
def test_what_is_no_video_is_one_clear_line(content, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot open video .*a\.mp4: .*whole\?"):
        read(path)


def test_what_is_not_there_is_one_clear_line(monkeypatch):
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        read("none.mp4")
    with pytest.raises(UserError, match=r"camera:77: .* is the camera there and free"):
        read("camera:77")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install -r requirements-video"):
        read("camera:0")


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), video.write_mp4(tmp_path / "a.mp4", 25) as put:
        put(picture(0), 0.0)
        raise ZeroDivisionError
    with pytest.raises(UserError, match="no frames"):
        write(tmp_path / "b.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_videos_are_known_by_name():
    assert video.is_video("camera:0") and video.is_video("a/B.MOV")
    assert not video.is_video("a.jpg") and not video.is_video("camera")
