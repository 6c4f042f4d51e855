"""A build that is killed goes on, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys

import pytest

from ktn_jax.data import builds, pipeline, shards
from ktn_jax.data import densepose_coco as coco
from ktn_jax.data.coco_directory import DataError
from tests.miniature import encoded, person, write_split

IMAGES = list(range(21, 32))
BUILD = """
import os, resource, signal, sys
from ktn_jax.data import densepose_coco as coco
root, last, room = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file too large is an error of write()
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
coco.SHARD_IMAGES = 2
whole, seen = coco.image_fault, []
def fault(data, size):
    seen.append(data)
    if len(seen) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(data, size)
coco.image_fault = fault
coco.build(root)
print("looked at", len(seen))
"""


def write_root(root):
    """Eleven images of one person each: six shards of two."""
    people = [person(10 + image, image) for image in IMAGES]
    write_split(root, "minival", IMAGES, people)
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(coco, "SHARD_IMAGES", 2)


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path)


def run_build(root, last, room=-1):
    """Build in a process that is killed as it looks at its last image; 0: never.

    room: bytes that a file may have.
    """
    command = [sys.executable, "-c", BUILD, str(root), str(last), str(room)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def ids(root):
    batches = pipeline.eval_batches(
        coco.open_split(coco.open_built(root / "tfds"), "minival"),
        canvas=(32, 32),
        batch_size=4,
    )
    return [int(i) for batch in batches for i in batch.image_id[batch.valid]]


def contents(root):
    """Every record of a built set, and all that TFDS and we noted of it."""
    built = coco.open_built(root / "tfds")
    records = coco.open_split(built, "minival")
    info = built.info.as_json.replace(str(root), "ROOT")
    return [dict(record) for record in records], info, dict(built.info.metadata)


def stage_of(root):
    folder = coco.folder_of(root / "tfds", "densepose")
    return folder.parent / ".1.0.0.shards"


def test_a_killed_build_looks_only_at_the_shards_that_were_not_whole(root):
    assert run_build(root, 6).returncode == -signal.SIGKILL  # within the third shard
    with pytest.raises(DataError, match=r"holds no whole data set.*prepare ROOT"):
        coco.open_built(root / "tfds")
    done = run_build(root, 0)
    assert done.stdout.endswith(f"looked at {len(IMAGES) - 4}\n"), done.stderr
    assert ids(root) == IMAGES
    folder = coco.folder_of(root / "tfds", "densepose")
    assert not list(folder.parent.glob(builds.UNFINISHED)) and not stage_of(root).exists()


def test_a_build_killed_again_and_again_equals_an_undisturbed_one(tmp_path_factory):
    killed, calm = (write_root(tmp_path_factory.mktemp(name)) for name in ("a", "b"))
    for entry in (killed / "val2014").iterdir():  # the same state of both directories
        os.utime(entry, ns=(10**18, 10**18))
        os.utime(calm / "val2014" / entry.name, ns=(10**18, 10**18))
    for root in (killed, calm):
        os.utime(next((root / "annotations").iterdir()), ns=(10**18, 10**18))
    kills = 0
    while run_build(killed, 4).returncode == -signal.SIGKILL:
        kills += 1
    assert kills >= 3
    coco.build(calm)
    assert contents(killed) == contents(calm)


def test_a_shard_that_was_damaged_meanwhile_is_written_again(root):
    run_build(root, 6)
    (first, *_) = sorted(stage_of(root).glob("*-00000-of-00006"))
    os.truncate(first, 100)
    assert run_build(root, 0).stdout.endswith(f"looked at {len(IMAGES) - 2}\n")
    assert ids(root) == IMAGES


def test_a_full_disk_is_told_and_the_build_goes_on_once_there_is_room(root):
    full = run_build(root, 0, room=10_000)
    assert full.returncode == 1 and "make room" in full.stderr.splitlines()[-1]
    assert run_build(root, 0).returncode == 0
    assert ids(root) == IMAGES


def test_another_directory_starts_over(root):
    run_build(root, 6)
    write_split(root, "minival", IMAGES[:-1], [person(10 + i, i) for i in IMAGES[:-1]])
    assert run_build(root, 0).stdout.endswith(f"looked at {len(IMAGES) - 1}\n")
    assert ids(root) == IMAGES[:-1]


def test_other_shards_than_before_start_over(root, monkeypatch):
    run_build(root, 6)
    monkeypatch.setattr(coco, "SHARD_IMAGES", 3)
    coco.build(root)
    assert ids(root) == IMAGES
    folder = coco.folder_of(root / "tfds", "densepose")
    assert len(list(folder.glob("*.array_record*"))) == 4


def test_shards_without_a_whole_image_do_no_harm(root):
    broken = sorted((root / "val2014").iterdir())[2:4]
    for path in broken:
        path.write_bytes(encoded(1)[:200])
    built = coco.build(root)
    assert ids(root) == [*IMAGES[:2], *IMAGES[4:]]
    assert built.info.metadata["with_people"]["minival"] == list(range(9))
    (skipped,) = built.info.metadata["skipped"].values()
    assert [line.split(":")[0] for line in skipped] == [path.name for path in broken]
    records = coco.open_split(built, "minival", with_people=True)
    assert [int(record["image_id"]) for record in records] == [*IMAGES[:2], *IMAGES[4:]]


def test_a_note_without_its_shard_counts_for_nothing(tmp_path):
    shard = tmp_path / "one"
    shards.write_shard(shard, [b"a", b"b"])
    assert shards.read_note(shard) is None
    shards.write_note(shard, {"images": 2})
    assert shards.read_note(shard) == {"images": 2}
    shard.unlink()
    assert shards.read_note(shard) is None


def test_a_shard_is_not_whole_while_it_is_written_again(tmp_path):
    shard = tmp_path / "one"
    shards.write_shard(shard, [b"a"])
    shards.write_note(shard, {})

    def records():
        assert not list(tmp_path.glob("*.note"))
        yield b"b"

    shards.write_shard(shard, records())
    assert shards.read_note(shard) is None
