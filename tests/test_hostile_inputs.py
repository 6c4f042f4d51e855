"""Three hundred hostile files: predict neither crashes nor hangs nor leaves its folder."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ktn_jax import predict
from ktn_jax.errors import EXIT_SKIPPED

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own

COUNT = 300


def picture(rng, kind, size=(24, 32)):
    image = Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def huge(width, height):
    """A PNG whose header promises far more than its few bytes hold."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(chunk))
    rest = struct.pack(">I", 4) + b"IDAT" + zlib.compress(b"")[:4] + b"\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc + rest


def flipped(rng, data):
    """The bytes with some of them changed."""
    array = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, len(array), rng.integers(1, 12))
    array[at] = rng.integers(0, 256, len(at))
    return array.tobytes()


CONTENTS = {
    "truncated": lambda rng: (d := picture(rng, "JPEG"))[: rng.integers(1, len(d))],
    "truncated_png": lambda rng: (d := picture(rng, "PNG"))[: rng.integers(1, len(d))],
    "empty": lambda rng: b"",
    "text": lambda rng: b"#!/bin/sh\nrm -rf /\n",
    "other_kind": lambda rng: picture(rng, "WEBP"),
    "noise": lambda rng: rng.bytes(rng.integers(1, 4000)),
    "flipped_jpeg": lambda rng: flipped(rng, picture(rng, "JPEG")),
    "flipped_png": lambda rng: flipped(rng, picture(rng, "PNG")),
    "flipped_tiff": lambda rng: flipped(rng, picture(rng, "TIFF")),
    "flipped_gif": lambda rng: flipped(rng, picture(rng, "GIF")),
    "flipped_bmp": lambda rng: flipped(rng, picture(rng, "BMP")),
    "bomb": lambda rng: huge(*rng.integers(20_000, 2**31 - 1, 2)),
    "large_promise": lambda rng: huge(9000, 9000),
    "tiny": lambda rng: picture(rng, "PNG", (1, 1)),
}
NAMES = (
    "plain{}.jpg", "with space {}.png", "-rf{}.jpg", "..{}.jpg", "%2e%2e%2f{}.jpg",
    "a\nb{}.jpg", "~{}.jpg", "$(touch x){}.png", "ü{}.webp", "con.{}.jpg",
    ".hidden{}.jpg", "{}.tiff", "q?*[{}].gif", "back\\slash{}.bmp", "..\\..\\up{}.jpg",
    "{}.JPG", "two.dots.{}.jpeg",
)  # fmt: skip


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder of COUNT things that are called pictures."""
    root = tmp_path_factory.mktemp("zoo")
    rng = np.random.default_rng(7)
    (root / "outside").mkdir()
    (root / "outside" / "secret.jpg").write_bytes(picture(rng, "JPEG"))
    into = root / "in"
    into.mkdir()
    kinds = list(CONTENTS)
    for number in range(COUNT - 12):
        name = NAMES[number % len(NAMES)].format(number)
        (into / name).write_bytes(CONTENTS[kinds[number % len(kinds)]](rng))
    (into / "long.jpg").write_bytes(picture(rng, "PNG", (10, 20_000)))
    (into / "high.jpg").write_bytes(picture(rng, "PNG", (20_000, 10)))
    (into / ("n" * 250 + ".jpg")).write_bytes(picture(rng, "PNG"))
    with open(os.fsencode(into) + b"/no\xfftext.jpg", "wb") as file:
        file.write(picture(rng, "JPEG"))
    (into / "folder.jpg").mkdir()
    (into / "folder.jpg" / "inner.jpg").write_bytes(picture(rng, "JPEG"))
    os.mkfifo(into / "pipe.jpg")
    for name, target in (
        ("out.jpg", root / "outside" / "secret.jpg"),
        ("tree", root / "outside"),
        ("tree.jpg", root / "outside"),
        ("gone.jpg", root / "nothing"),
        ("self.jpg", into / "self.jpg"),
        ("device.jpg", "/dev/zero"),
    ):
        os.symlink(target, into / name)
    return root


def everything(root, besides):
    return sorted(p for p in root.rglob("*") if besides not in (p, *p.parents))


@pytest.fixture(scope="module")
def predicted(exported, zoo):
    """Exit status of predict on the zoo, and what there was before."""
    before = everything(zoo, zoo / "out")
    command = [str(exported), str(zoo / "in"), f"--out={zoo / 'out'}", "--format=iuv,npz"]
    return predict.main([*command, "--min-score=0"]), before, command


def test_hostile_files_are_skipped_and_the_others_done(predicted, zoo, capsys):
    status, _, command = predicted
    assert status == EXIT_SKIPPED
    written = {p.relative_to(zoo / "out") for p in (zoo / "out").rglob("*_iuv.png")}
    assert {p.name for p in written} >= {"long_iuv.png", "high_iuv.png", "out_iuv.png"}
    assert any(p.parent.name == "folder.jpg" for p in written)
    assert Image.open(zoo / "out" / "long_iuv.png").size == (20_000, 10)
    # again: what is done stays, what is broken is tried and counted again
    assert predict.main([*command, "--min-score=0"]) == EXIT_SKIPPED
    said = capsys.readouterr()
    done = int(said.out.split(" were done before")[0].rsplit("\n", 1)[-1])
    broken = int(said.err.rstrip().splitlines()[-1].split(" of ")[0])
    assert done == len(written) and done > 60 and broken > 150
    # links to folders are no files; the folder's own name is none; its inner file is one
    assert done + broken == COUNT - 2


def test_nothing_is_written_outside_the_output_folder(predicted, zoo):
    _, before, _ = predicted
    assert everything(zoo, zoo / "out") == before
    assert not any(p.name.startswith(".") for p in (zoo / "out").iterdir() if p.is_dir())
    settings = json.loads((zoo / "out" / predict.SETTINGS).read_text())
    assert settings["min_score"] == 0
    assert not [p for p in (zoo / "out").rglob("*") if p.is_symlink()]
