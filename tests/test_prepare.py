"""prepare on a miniature of the real directory: what it finds, builds and takes up."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from pycocotools import mask as coco_mask

from ktn_jax.data import builds, checks, coco_directory, pipeline, prepare
from ktn_jax.data import densepose_coco as coco
from ktn_jax.data.coco_directory import DataError
from ktn_jax.errors import UserError
from tests.miniature import (
    CMYK,
    GREY,
    HEIGHT,
    NOBODY,
    ROTATED,
    WIDTH,
    encoded,
    person,
    without_surface,
    write_miniature,
    write_split,
)

KEYPOINTS = [12, 12, 2] * 17
SPLIT_JSON = "annotations/densepose_{}2014.json"


def compressed(grid):
    runs = coco_mask.encode(np.asfortranarray(grid.astype(np.uint8)))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def write_sound(root):
    """Every oddity of the official files and nothing else; both splits know annotation 2.

    Pictures: RGB, one with an EXIF rotation, one grey, one CMYK.
    """
    masks = [[]] * 14
    masks[3] = compressed(np.eye(256, dtype=bool))
    people = [
        person(1, 1, dp_masks=masks, keypoints=KEYPOINTS),
        person(2, ROTATED, dp_masks=compressed(np.ones((256, 256), bool))),
        person(3, GREY, dp_I=[0.0, 4.0]),
        without_surface(person(4, CMYK, keypoints=KEYPOINTS)),
    ]
    write_split(root, "minival", [1, ROTATED, GREY, CMYK, NOBODY], people)
    write_split(root, "valminusminival", [11], [person(2, 11, keypoints=KEYPOINTS)])


@pytest.fixture
def sound(tmp_path):
    write_sound(tmp_path)
    return tmp_path


def change(root, number, split="minival", **fields):
    """Change fields of one annotation of a split's json."""
    path = root / SPLIT_JSON.format(split)
    document = json.loads(path.read_text())
    (entry,) = [a for a in document["annotations"] if a["id"] == number]
    entry.update(fields)
    path.write_text(json.dumps(document))


def check(root, **options):
    settings = {"official": False} | options
    return checks.check_directory(root, coco_directory.find_jsons(root), **settings)


def run(*words):
    return prepare.main([str(word) for word in words])


def minival_ids(built):
    return [int(record["image_id"]) for record in coco.open_split(built, "minival")]


def test_the_oddities_of_the_official_files_are_notes_and_the_set_is_built(sound, capsys):
    assert run(sound, "--own") == 0
    said = capsys.readouterr().out.splitlines()
    assert {line for line in said if line.startswith(("note", "odd", "fault"))} == {
        "note  minival: 1 x annotation id that valminusminival has too: 2",
        # 1 has a part, 2 one mask for all, 3 none, 4 no points
        "note  minival: 1 x person with one mask instead of 14 parts: annotation 2",
        "note  minival: 4 x person with a polygon of fewer than three points, which is "
        "dropped: annotation 1, annotation 2, annotation 3, ...",
        "note  minival: 1 x person with points but empty part masks: annotation 3",
        "note  minival: 1 x person with points on no chart (dp_I 0), which are dropped: "
        "annotation 3",
        "note  minival: 2 x person without keypoints: annotation 2, annotation 3",
        "note  valminusminival: 1 x person with a polygon of fewer than three points, "
        "which is dropped: annotation 2",
        "note  valminusminival: 1 x person with points but empty part masks: annotation 2",
    }
    assert "minival: 5 images, 3 people with points" in said
    assert said[-1] == f"{sound} is sound"
    built = coco.open_built(sound / "tfds")
    source = coco.open_split(built, "minival")
    assert minival_ids(built) == [1, ROTATED, GREY, CMYK, NOBODY]
    shapes = {pipeline.read_example(record).image.shape for record in source}
    assert shapes == {(HEIGHT, WIDTH, 3)}  # the stored raster, EXIF rotation or not


BAD = [  # fields, level, start of what is said
    ({"dp_x": [32.0, 256.5]}, "odd", "point beyond its box"),
    ({"dp_y": [-1.0, 3.0]}, "odd", "point beyond its box"),
    ({"dp_U": [0.5, 1.2]}, "odd", "U or V beyond 0..1"),
    ({"dp_V": [-0.2, 0.5]}, "odd", "U or V beyond 0..1"),
    ({"dp_I": [2.0, 25.0]}, "fault", "annotation that cannot be read"),
    ({"dp_U": [0.5]}, "fault", "annotation that cannot be read"),
    ({"bbox": [10, 8, 60, 20]}, "odd", "box that leaves the image"),
    ({"bbox": [10, 8, 0, 20], "dp_masks": []}, "odd", "box without area"),
    ({"keypoints": [12, 60, 2] * 17}, "odd", "keypoint beyond the image"),
    ({"segmentation": []}, "odd", "person without a pixel"),
    ({"dp_masks": [{"size": [256, 256], "counts": "02"}] * 14}, "fault", "annotation that"),
    ({"segmentation": {"size": [9, 9], "counts": [81]}}, "fault", "annotation that cannot"),
    ({"image_id": 99}, "odd", "annotation of an image that the json lacks"),
    ({"id": 1}, "odd", "id that two annotations have"),
]


@pytest.mark.parametrize(("fields", "level", "what"), BAD)
def test_each_kind_of_damage_is_found_once(sound, fields, level, what):
    before = set(check(sound).lines())
    change(sound, 3, **{"dp_I": [2.0, 4.0]} | fields)
    report = check(sound)
    (found,) = [
        line for line in set(report.lines()) - before if not line.startswith("note")
    ]
    assert found.startswith(f"{level:5} minival: 1 x {what}")
    assert report.number(level) == 1


def test_small_overshoot_is_no_finding(sound):
    """Rounding of U, V, and a box or keypoint less than a pixel beyond the border."""
    change(sound, 3, dp_U=[0.5, 1.005], bbox=[10, 8, 54.6, 20], dp_x=[0, 256])
    change(sound, 4, keypoints=[-0.6, 12, 2] * 17)
    report = check(sound)
    assert report.number("odd") == report.number("fault") == 0


def test_a_crowd_is_asked_for_its_region_alone(tmp_path):
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    crowd = without_surface(person(2, 1, iscrowd=1, segmentation=runs))
    write_split(tmp_path, "minival", [1], [person(1, 1, keypoints=KEYPOINTS), crowd])
    lines = list(check(tmp_path).lines())
    assert lines and not any("annotation 2" in line for line in lines)


def test_ids_may_be_shared_by_the_halves_of_val_and_by_no_other_splits(sound):
    write_split(sound, "train", [21], [person(3, 21)], folder="train2014")
    lines = list(check(sound).lines())
    assert "odd   minival: 1 x annotation id that train has too: 3" in lines
    assert "note  minival: 1 x annotation id that valminusminival has too: 2" in lines


def test_faults_stop_before_anything_is_built(sound, capsys):
    change(sound, 1, dp_I=[99.0, 1.0])
    assert run(sound, "--own") == 2
    said = capsys.readouterr()
    assert (
        "fault minival: 1 x annotation that cannot be read: annotation 1: dp_I" in said.out
    )
    assert said.err.splitlines()[-1] == f"error: 1 faults in {sound}; nothing was built"
    assert not (sound / "tfds").exists()


def test_odd_things_are_told_by_the_exit_status_after_the_build(sound, capsys):
    change(sound, 1, dp_x=[32.0, 300.0])
    assert run(sound, "--own") == 3
    assert "1 odd things, 0 images left out" in capsys.readouterr().err
    assert len(minival_ids(coco.open_built(sound / "tfds"))) == 5


def test_images_that_are_missing_or_broken_are_told(tmp_path, capsys):
    write_miniature(tmp_path)  # three of its images cannot be used
    assert run(tmp_path, "--own") == 3
    said = capsys.readouterr()
    odd = [line for line in said.out.splitlines() if line.startswith("odd")]
    assert len(odd) == 1 and odd[0].startswith("odd   minival: 3 x unreadable image among")
    assert "000006.jpg cannot be read" in odd[0]
    assert "minival: images 7, people 7, people_with_points 5" in said.out
    assert "left out 3 images (COCO_val2014_000000000006.jpg" in said.err
    (tmp_path / "val2014" / f"COCO_val2014_{2:012d}.jpg").unlink()
    assert run(tmp_path, "--own", "--check", "--sample=0") == 2
    said = capsys.readouterr().out
    assert "lacks 1 images (COCO_val2014_000000000002.jpg) of 10" in said
    assert "unreadable" not in said


def test_official_counts_are_those_of_the_makers_and_missing_splits_are_told(sound, capsys):
    shutil.rmtree(sound / "tfds", ignore_errors=True)
    assert run(sound, "--check") == 3
    said = capsys.readouterr().out
    assert "5 images and 3 people with points, not the official 1508 and 2243" in said
    assert "no train: there is nothing to train on but valminusminival" in said
    assert "http://images.cocodataset.org/zips/train2014.zip" in said
    assert "densepose/annotations/coco/: densepose_train2014.json" in said
    assert "CC BY-NC" in said and not (sound / "tfds").exists()
    # instances and images of the table in DensePose's documentation of its data sets
    assert sum(people for _, people in checks.OFFICIAL.values()) == 48_750
    assert sum(images for images, _ in checks.OFFICIAL.values()) == 33_929


def test_a_directory_without_json_is_told_where_to_get_them(tmp_path, capsys):
    assert run(tmp_path) == 2
    said = capsys.readouterr().err
    assert "densepose.org" in said and "error: " in said.splitlines()[-1]
    assert run(tmp_path / "nowhere", "--labels=person_keypoints") == 2
    said = capsys.readouterr().err
    assert "annotations_trainval2014.zip" in said and "error: no directory" in said


def test_a_json_that_is_cut_off_or_plain_coco_is_a_fault(sound, capsys):
    path = sound / SPLIT_JSON.format("minival")
    path.write_bytes(path.read_bytes()[:-99])
    write_split(sound, "valminusminival", [11], [without_surface(person(2, 11))])
    assert run(sound, "--own") == 2
    faults = [line for line in capsys.readouterr().out.splitlines() if "fault " in line]
    assert "minival2014.json is not a COCO annotation file" in faults[0]
    assert "valminusminival2014.json has no dp_x in any annotation" in faults[1]


def test_minival_alone_is_enough_to_evaluate(sound, capsys):
    (sound / SPLIT_JSON.format("valminusminival")).unlink()
    assert run(sound, "--own") == 0
    built = coco.build(sound)
    batches = pipeline.eval_batches(
        coco.open_split(built, "minival"), canvas=(32, 32), batch_size=2
    )
    ids = np.concatenate([batch.image_id[batch.valid] for batch in batches])
    assert ids.tolist() == [1, ROTATED, GREY, CMYK, NOBODY]


def test_half_a_set_is_never_taken_for_a_whole_one(sound):
    folder = coco.build(sound).data_path
    shards = sorted(folder.glob("*.array_record*"))
    for damage in ("cut", "lost", "mark"):
        assert builds.is_whole(folder)
        if damage == "cut":
            os.truncate(shards[0], 100)
        elif damage == "lost":
            shards[-1].unlink()
        else:
            (folder / builds.MARK).unlink()
        assert not builds.is_whole(folder)
        assert len(minival_ids(coco.build(sound))) == 5


def test_processes_that_need_the_same_set_build_it_once(sound):
    code = "import sys; from ktn_jax.data.densepose_coco import build; build(sys.argv[1])"
    command = [sys.executable, "-c", code, str(sound)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("Downloading and preparing") == 1  # as TFDS calls it
    assert len(minival_ids(coco.open_built(sound / "tfds"))) == 5


def test_a_builder_waits_for_the_one_that_builds(tmp_path):
    folder = epath.Path(tmp_path / "set" / "1.0.0")
    code = "import sys; from etils import epath; from ktn_jax.data import builds\n"
    code += "with builds.alone(epath.Path(sys.argv[1])): print('in', flush=True)"
    with builds.alone(folder):
        command = [sys.executable, "-c", code, str(folder)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(1.5)
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == b"in\n"


@pytest.fixture
def bucket(tmp_path_factory, monkeypatch):
    """A folder that passes for a bucket: nothing is built in it, only copied there."""
    place = tmp_path_factory.mktemp("bucket")
    remote = builds.is_remote
    monkeypatch.setattr(
        builds, "is_remote", lambda path: remote(path) or str(path) == str(place)
    )
    return place


def test_a_bucket_gets_a_copy_that_is_read_without_the_directory(
    sound, bucket, monkeypatch, capsys
):
    assert run(sound, "--own", f"--data-dir={bucket}") == 0
    assert f"built in {coco.folder_of(bucket, 'densepose')}" in capsys.readouterr().out
    monkeypatch.undo()
    shutil.rmtree(sound)
    built = coco.build(bucket)
    assert len(minival_ids(built)) == 5
    (record, *_) = coco.open_split(built, "minival")
    assert record["image"] == encoded(1)


def test_a_copy_that_was_cut_off_goes_on_and_another_build_replaces_it(sound, bucket):
    folder = coco.build(sound).data_path
    target = coco.folder_of(bucket, "densepose")
    names = {path.name for path in folder.iterdir()}
    assert builds.publish(folder, target) == len(names) - 1  # the mark is no part of it
    assert {path.name for path in target.iterdir()} == names
    assert builds.publish(folder, target) == 0
    # as if it had ended in the midst of the third file
    (target / builds.MARK).rename(target / builds.COPYING)
    shards = sorted(target.glob("*.array_record*"))
    shards[0].unlink()
    os.truncate(shards[1], 10)
    assert not builds.is_whole(target)
    assert builds.publish(folder, target) == 2
    assert builds.is_whole(target)
    change(sound, 1, dp_I=[5.0, 5.0])
    again = coco.build(sound).data_path
    (target / "stray").write_text("of the build before")
    assert builds.publish(again, target) == len(names) - 1
    assert not (target / "stray").exists() and builds.is_whole(target)


def test_a_bucket_that_cannot_be_written_or_read_is_told(sound):
    folder = coco.build(sound).data_path
    (sound / "file.txt").write_text("")
    with pytest.raises(UserError, match=r"cannot use .*file.txt"):
        builds.publish(folder, epath.Path(sound / "file.txt" / "set"))
    with pytest.raises(UserError, match=r"cannot use s3://.* s3fs for s3://"):
        builds.publish(folder, epath.Path("s3://nowhere/set"))
    with pytest.raises(UserError, match=r"cannot use gs://nowhere.* gcsfs for gs://"):
        coco.build("gs://nowhere/set")


def test_a_folder_that_cannot_be_written_is_told(sound):
    (sound / "file.txt").write_text("")
    with pytest.raises(DataError, match=r"cannot be built in .*file.txt.*--data-dir=DIR"):
        coco.build(sound, data_dir=sound / "file.txt" / "tfds")
