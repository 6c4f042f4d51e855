"""Frames of video files and cameras in, mp4 out, one at a time: any length fits memory.

PyAV (FFmpeg's libraries) does the work and is an extra: its wheel is large and holds
encoders under the GPL. Frame: upright [H, W, 3] u8 RGB, as a player shows it, but for
pixels that are not square, which stay as they are stored.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ktn_jax import files
from ktn_jax.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts",
            ".wmv", ".flv", ".3gp")  # fmt: skip
CAMERA = re.compile(r"camera:(.+)")
Write = Callable[[np.ndarray, float], None]  # a frame [H, W, 3] u8 RGB and its seconds

_CAMERAS = {  # platform -> how FFmpeg names camera {0}, and by which device
    "linux": ("/dev/video{0}", "v4l2"),
    "darwin": ("{0}", "avfoundation"),
    "win32": ("video={0}", "dshow"),
}
_RATE = Fraction(25)  # frames a second, where a source does not say
_WHOLE = 0.8  # share of the time that a file without a count promises; sound may be longer
_TICKS = 60_000  # a second; the most common rates are whole numbers of them, and
# mpeg4 takes no more than 65,535
_BT709 = 1  # FFmpeg's number for the colours of HD video
_ENCODERS = {  # by preference, with settings for little loss
    "libx264": {"crf": "18", "preset": "veryfast"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
}


class Frame(NamedTuple):
    """One picture of a video."""

    index: int  # from 0
    seconds: float  # since the first one
    image: np.ndarray  # [H, W, 3] u8 RGB


class Video:
    """A video that is being read; made by open_video."""

    def __init__(self, container: Any, name: str) -> None:
        self._container, self._stream = container, container.streams.video[0]
        self.name = name
        self.rate = self._stream.average_rate or self._stream.guessed_rate or _RATE
        self.count = (
            self._stream.frames or None
        )  # frames, as the file has it; None: unknown
        self.seconds = (container.duration or 0) / _av().time_base  # as the file has it
        self.faults: list[str] = []  # what was wrong, known once the frames are read

    def frames(self) -> Iterator[Frame]:
        """The frames in order of showing; those after damage as far as they can be read."""
        index, start, seconds = 0, None, 0.0
        for picture in self._pictures():
            at = picture.time
            start = at if start is None else start
            seconds = float(index / self.rate if at is None else at - (start or 0))
            yield Frame(index, seconds, _upright(picture))
            index += 1
        if index < (self.count or 0):
            self.faults.append(f"{self.name}: {index} of {self.count} frames could be read")
        elif not self.count and seconds < _WHOLE * self.seconds:
            self.faults.append(
                f"{self.name}: ends after {seconds:.1f} of {self.seconds:.1f} s"
            )
        elif not index and not self.faults:
            self.faults.append(f"{self.name}: has no frames")

    def _pictures(self) -> Iterator[Any]:
        """Decoded frames; one fault for all packets that cannot be decoded."""
        broken, reason = 0, None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except _av().FFmpegError as error:  # the file's structure ends here
                self.faults.append(f"{self.name}: {error.strerror}")
                packet = None
            if packet is None:
                break
            try:
                pictures = packet.decode()
            except _av().FFmpegError as error:
                broken, reason = broken + 1, error.strerror
                continue
            yield from pictures
        if broken:
            self.faults.append(f"{self.name}: {broken} pieces are damaged ({reason})")


def is_video(source: str) -> bool:
    """Whether a source is a camera or has a name that video files have."""
    return bool(CAMERA.fullmatch(source)) or Path(source).suffix.lower() in SUFFIXES


@contextlib.contextmanager
def open_video(source: str) -> Iterator[Video]:
    """A video file, or `camera:0` for a camera (on Windows `camera:NAME`).

    UserError where it cannot be opened or shows nothing.
    """
    camera = CAMERA.fullmatch(source)
    path, device = source, None
    if camera:
        path, device = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
        path = path.format(camera[1])
    elif not Path(source).is_file():  # FFmpeg would take it for an address
        raise UserError(f"video {source} does not exist; give a file or camera:0")
    else:
        path = f"file:{source}"
    try:
        container = _av().open(path, format=device)
    except (_av().FFmpegError, ValueError) as error:
        raise UserError(
            f"cannot open video {source}: {getattr(error, 'strerror', error)}; "
            + ("is the camera there and free?" if camera else "is the file whole?")
        ) from error
    with container:
        if not container.streams.video:
            raise UserError(f"{source} has no video stream; give another file")
        container.streams.video[0].thread_type = "AUTO"
        yield Video(container, source)


@contextlib.contextmanager
def write_mp4(path: Path, rate: Fraction) -> Iterator[Write]:
    """What takes the frames of an mp4, which is there at the end or not at all.

    rate: frames a second, to be written in the file; a frame is shown when its own
    seconds say. The first frame decides the size; odd ones grow by a pixel, repeated.
    UserError at the end where no frame came.
    """
    with files.atomic(path) as file, _av().open(file, "w", format="mp4") as container:
        stream: Any = None
        last = -1

        def write(image: np.ndarray, seconds: float) -> None:
            nonlocal stream, last
            height, width = image.shape[:2]
            even = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
            if stream is None:
                stream = _add_stream(container, rate, even.shape[:2])
            picture = (
                _av()
                .VideoFrame.from_ndarray(even, format="rgb24")
                .reformat(
                    width=stream.width,
                    height=stream.height,
                    format="yuv420p",
                    dst_colorspace="ITU709",
                )
            )
            last = max(round(seconds * _TICKS), last + 1)  # players want rising times
            picture.pts, picture.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(picture))

        yield write
        if stream is None:
            raise UserError(f"no frames for {path}; is the video empty?")
        container.mux(stream.encode(None))


def _av() -> ModuleType:
    """PyAV; UserError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            "videos need PyAV; install it with pip install -r requirements-video.txt"
        ) from error
    return av


def _add_stream(container: Any, rate: Fraction, size: tuple[int, int]) -> Any:
    """The video stream of an mp4. size: (height, width), even."""
    name = next(n for n in _ENCODERS if n in _av().codecs_available)
    stream = container.add_stream(name, rate=rate, options=_ENCODERS[name])
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"  # what every player takes
    context = stream.codec_context
    context.time_base = Fraction(1, _TICKS)
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    return stream


def _upright(picture: Any) -> np.ndarray:
    """[H, W, 3] u8 RGB of a decoded frame, turned as its display matrix says."""
    image = picture.to_ndarray(format="rgb24")
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # 16.16 numbers (a, b, u, c, d, v, ...): a stored (x, y) is shown at
    # (a x + c y, b x + d y)
    a, b, _, c, d, _ = np.frombuffer(bytes(matrix), np.int32)[:6]
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
