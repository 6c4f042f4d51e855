"""People along a video or before a camera, frame by frame: files of every format.

Of a video NAME it writes, of the formats that formats/outputs.py names,
    OUT/NAME_overlay.mp4      those for the eye, as videos (or pictures)
    OUT/NAME/000001_iuv.png   the others, frame by frame
    OUT/NAME.json             json: all frames' people, with their track and time
A person keeps the number `track` from frame to frame.
"""

import contextlib
import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ktn_jax import exports, files
from ktn_jax.errors import UserError
from ktn_jax.formats import coco, outputs
from ktn_jax.predictor import MIN_SCORE, Predictor
from ktn_jax.records import Prediction
from ktn_jax.smoothing import Smoother
from ktn_jax.tracking import Tracker
from ktn_jax.video import CAMERA, Frame, Video, open_video, write_mp4

Put = Callable[[outputs.Scene, Frame], None]

_FAINT = 0.5  # of min_score: a person who has a number is followed down to there


class Summary(NamedTuple):
    """What became of one video."""

    frames: int
    tracks: int  # people told apart
    faults: list[str]  # a line for each thing that was wrong with the video


def predict_video(
    export: exports.Export,
    source: str,
    out: Path,
    *,
    formats: Sequence[str],
    name: str | None = None,
    min_score: float = MIN_SCORE,
    max_people: int | None = None,
    batch: int = 1,
    smooth: bool = False,
    pictures: bool = False,
    limit: int | None = None,
) -> Summary:
    """Follow the people of a video and write the files; memory does not grow with it.

    source: see video.open_video.   formats: names of outputs.OUTPUTS.   name: of the
    outputs, else the source's.   min_score: people below start no track.   max_people: the
    best of a frame.   batch: frames a call.   smooth: whether maps and keypoints are
    steadied.   pictures: whether formats for the eye are pictures too.   limit: frames.
    Damage is in the summary's faults, and what could be read is kept; UserError where
    nothing could.
    """
    model = Predictor(export, min_score=_FAINT * min_score, batch=batch)
    tracker, smoother = Tracker(start=min_score), Smoother()
    name = name or name_of(source)
    count, tracks = 0, 0
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(source))
        stopped = stack.enter_context(_interruptible())
        frames = itertools.islice(video.frames(), limit)
        frames = itertools.takewhile(lambda _: not stopped(), frames)
        bar = stack.enter_context(tqdm(total=limit or video.count, unit="frame", desc=name))
        put = [stack.enter_context(_sink(f, out / name, video, pictures)) for f in formats]
        items = (model.prepare(frame, frame.image) for frame in frames)
        for frame, people in model.stream(items):
            people = tracker.update(people)
            if smooth:
                people = smoother.update(people, frame.seconds)
            people = people[:max_people]
            scene = outputs.Scene(f"{frame.index + 1:06d}", source, frame.image, people)
            for one in put:
                one(scene, frame)
            count = frame.index + 1
            tracks = max([tracks, *(p.track for p in people)])
            bar.update()
        if not count:  # within the stack, so that no empty file is left
            raise UserError("; ".join(video.faults) or f"no frames in {source}")
    return Summary(count, tracks, video.faults)


def name_of(source: str) -> str:
    """What the outputs of a source are called."""
    return source.replace(":", "_") if CAMERA.fullmatch(source) else Path(source).stem


@contextlib.contextmanager
def _sink(name: str, out: Path, video: Video, pictures: bool) -> Iterator[Put]:
    """What takes the frames of one format. out: without ending."""
    form = outputs.OUTPUTS[name]
    if name == "json":
        with _write_json(out.with_name(f"{out.name}.json"), video) as put:
            yield put
    elif name in outputs.DRAWN and not pictures:
        path = out.with_name(f"{out.name}{Path(form.ending).stem}.mp4")
        with write_mp4(path, video.rate) as write:
            yield lambda scene, frame: write(outputs.DRAWN[name](scene), frame.seconds)
    else:
        yield lambda scene, _: files.write_bytes(
            out / f"{scene.name}{form.ending}", form.encode(scene)
        )


@contextlib.contextmanager
def _write_json(path: Path, video: Video) -> Iterator[Put]:
    """What takes every frame's people, a line a frame; the whole is one json object."""
    head = {"source": video.name, "rate": float(video.rate)}
    with files.atomic(path) as file:
        file.write(f'{json.dumps(head)[:-1]}, "frames": ['.encode())
        before = "\n"

        def put(scene: outputs.Scene, frame: Frame) -> None:
            nonlocal before
            line = {
                "frame": frame.index + 1,
                "seconds": round(frame.seconds, 6),
                "people": [_entry(person, scene.size) for person in scene.people],
            }
            file.write(f"{before}{json.dumps(line)}".encode())
            before = ",\n"

        yield put
        file.write(f'\n], "faults": {json.dumps(video.faults)}}}\n'.encode())


def _entry(person: Prediction, size: tuple[int, int]) -> coco.Entry:
    """A person of a frame: track, quality, and the challenge's form without its ids."""
    entry = coco.result_entry(person, size)
    del entry["image_id"], entry["category_id"]
    return {"track": person.track, "quality": round(person.quality, 6), **entry}


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; a second one interrupts as ever."""
    pressed: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # python lets the main thread alone hear of it
        return
    before = signal.getsignal(signal.SIGINT)

    def press(*_: object) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
