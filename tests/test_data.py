"""A COCO directory in miniature, oddities included: built, read, batched, resumed.

Longer than other files because building and batching are tested on the same miniature.
"""

import dataclasses
import itertools
import json
import sys

import jax
import numpy as np
import pytest

from ktn_jax.data import densepose_coco as coco
from ktn_jax.data import images, pipeline, transforms
from ktn_jax.data.coco_directory import DataError
from ktn_jax.data.draws import Source
from ktn_jax.data.transforms import PAD, Augment
from ktn_jax.errors import UserError
from ktn_jax.geometry import Affine
from ktn_jax.records import Example
from tests.miniature import (
    GREY,
    HEIGHT,
    NOBODY,
    TEXT,
    TRUNCATED,
    WIDTH,
    encoded,
    person,
    picture,
    without_surface,
    write_miniature,
    write_split,
)
from tests.scenes import CODEC

AUGMENT = Augment(canvas=(32, 32), scale_min=0.8, scale_max=1.6, flip=0.5, color=0.2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("coco")
    write_miniature(directory)
    return directory


@pytest.fixture(scope="module")
def builder(root):
    return coco.build(root)


@pytest.fixture(scope="module")
def source(builder):
    return coco.open_split(builder, "minival+valminusminival", with_people=True)


def batches_of(source, *, number=4, **options):
    settings = {"augment": AUGMENT, "batch_size": 4, "seed": 0, "num_threads": 2}
    sources = source if isinstance(source, tuple) else (Source(source),)
    batches = pipeline.train_batches(sources, CODEC, **settings | options)
    return list(itertools.islice(batches, number))


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_records_hold_the_files_own_bytes_and_all_annotations(builder):
    records = list(coco.open_split(builder, "minival"))
    assert [int(r["image_id"]) for r in records] == [1, 2, 3, 4, 5, 9, 10]
    for record in records:
        number = int(record["image_id"])
        assert record["image"] == encoded(number)
        assert record["file_name"].decode() == f"COCO_val2014_{number:012d}.jpg"
        assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
    assert json.loads(records[0]["annotations"]) == [person(1, 1)]
    assert json.loads(records[6]["annotations"]) == []


def test_broken_images_are_left_out_and_named(builder):
    skipped = builder.info.metadata["skipped"]
    assert skipped["valminusminival"] == []
    truncated, text, turned = skipped["minival"]
    assert "000006.jpg: cannot be read" in truncated and "truncated" in truncated
    assert "000007.jpg: is not an image" in text
    assert "000008.jpg: is (64, 48) (height, width), the json says (48, 64)" in turned
    # 8 annotated images less 3, a second person and a crowd; 5 people with points
    counts = {"images": 7, "people": 7, "people_with_points": 5}
    assert builder.info.metadata["counts"]["minival"] == counts


def test_any_cut_through_a_jpeg_is_noticed():
    data = encoded(1)
    assert images.image_fault(data, (HEIGHT, WIDTH)) is None
    for cut in (2, 5, len(data) // 2, len(data) - 3):
        with pytest.raises(OSError):
            images.decode_image(data[:-cut])
        assert images.image_fault(data[:-cut], (HEIGHT, WIDTH)) is not None


def test_images_without_anybody_to_learn_from_are_left_out_of_training(builder, source):
    assert [int(record["image_id"]) for record in source] == [1, 2, 3, 4, 5, 11]
    assert len(coco.open_split(builder, "minival")) == 7
    ids = [p.id for r in (source[0], source[5]) for p in pipeline.ground_truth(r)]
    assert ids == [1, 1]  # the same annotation id in both splits is no error


def test_odd_annotations_become_people(source):
    first, second = (pipeline.read_example(source[row]).people for row in (0, 1))
    assert first[0].keypoints is None and first[0].parts is None
    # x = 10 + 30 * 32 / 256, y = 8 + 20 * 64 / 256
    np.testing.assert_allclose(first[0].points.yx[0], [13, 13.75])
    assert first[0].mask.sum() == 600
    assert second[0].parts is None and second[0].keypoints is not None
    assert second[1].points is None


def test_every_kind_of_jpeg_becomes_upright_rgb(source):
    for record in source:
        number = int(record["image_id"])
        image = pipeline.read_example(record).image
        assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        expected = picture(number).convert("L" if number == GREY else "RGB")
        # The EXIF orientation is not obeyed: annotations refer to the stored raster.
        difference = image - np.asarray(expected.convert("RGB"), float)
        assert np.abs(difference).mean() < 6, number  # what jpeg loses


def test_no_tensorflow_is_imported(source):
    assert source[0]["image"]
    assert "tensorflow" not in sys.modules


def test_a_second_build_reads_what_the_first_has_written(root, builder, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("built again")

    monkeypatch.setattr(coco.DensePoseCoco, "download_and_prepare", refuse)
    again = coco.build(root)
    assert again.info.metadata["skipped"] == builder.info.metadata["skipped"]
    assert len(coco.open_split(again, "minival")) == 7


def test_a_changed_json_or_image_builds_anew(tmp_path):
    write_split(tmp_path, "minival", [1, TRUNCATED], [person(1, 1), person(2, TRUNCATED)])
    assert len(coco.open_split(coco.build(tmp_path), "minival")) == 1
    (tmp_path / "val2014" / f"COCO_val2014_{TRUNCATED:012d}.jpg").write_bytes(encoded(2))
    assert len(coco.open_split(coco.build(tmp_path), "minival")) == 2
    path = tmp_path / "annotations" / "densepose_minival2014.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"annotations": [person(8, 1)]}))
    records = coco.open_split(coco.build(tmp_path), "minival")
    assert [p.id for r in records for p in pipeline.ground_truth(r)] == [8]


def test_other_layouts_are_found(tmp_path):
    path = write_split(tmp_path, "train", [1], [person(1, 1)], folder="train2014")
    path.rename(tmp_path / "densepose_coco_2014_train.json")
    images = tmp_path / "images"
    (tmp_path / "train2014").rename(images)
    built = coco.build(tmp_path, data_dir=tmp_path / "elsewhere")
    assert len(coco.open_split(built, "train")) == 1
    assert not (tmp_path / "tfds").exists()


def test_a_missing_root_is_told_with_what_it_must_hold(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: it must hold train2014/COCO_train2014"):
        coco.build(tmp_path / "nowhere")


def test_a_root_without_jsons_is_told_with_the_names_looked_for(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2014.json").write_text("{}")
    with pytest.raises(DataError, match=r"densepose_minival2014.json.*instances_val2014"):
        coco.build(tmp_path)


def test_plain_coco_is_refused(tmp_path):
    write_split(tmp_path, "train", [1], [without_surface(person(1, 1))])
    with pytest.raises(
        DataError, match=r"densepose_train2014.json has no dp_x.*plain COCO"
    ):
        coco.build(tmp_path)


def test_plain_coco_serves_a_run_that_learns_no_surface_and_no_other(tmp_path):
    """COCO's own names, or its content under DensePose's; also once it is built."""
    people = [
        without_surface(person(1, 1, keypoints=[12, 12, 2] * 17)),
        without_surface(person(2, 2)),
    ]
    path = write_split(tmp_path, "train", [1, 2, NOBODY], people)
    for labels in ("densepose", "person_keypoints"):
        options = {"labels": labels, "data_dir": tmp_path / "built"}
        path = path.rename(path.with_name(f"{labels}_train2014.json"))
        built = coco.build(tmp_path, needs_surface=False, **options)
        source = coco.open_split(built, "train", with_people=True)
        found = [p for record in source for p in pipeline.ground_truth(record)]
        assert [p.id for p in found] == [1, 2]
        assert found[0].keypoints is not None and found[0].mask.sum() == 600
        assert found[0].points is None and found[0].parts is None
        with pytest.raises(DataError, match=rf"{path.name} has no dp_x.*keypoints\.py"):
            coco.build(tmp_path, **options)  # built already, but for less


def test_both_kinds_of_labels_of_a_root_are_built_side_by_side(tmp_path):
    """Neither makes the other stale, and their splits are their own."""
    plain = write_split(tmp_path, "val", [2], [without_surface(person(2, 2))])
    plain.rename(plain.with_name("person_keypoints_val2014.json"))
    write_split(tmp_path, "minival", [1], [person(1, 1)])
    surface = coco.build(tmp_path)
    keypoints = coco.build(tmp_path, labels="person_keypoints", needs_surface=False)
    assert [int(r["image_id"]) for r in coco.open_split(surface, "minival")] == [1]
    assert [int(r["image_id"]) for r in coco.open_split(keypoints, "val")] == [2]
    with pytest.raises(DataError, match=r"'train'.*put person_keypoints_train2014.json"):
        coco.open_split(keypoints, "train")
    with pytest.raises(UserError, match=r"data.labels='coco' is not one of \('densepose'"):
        coco.build(tmp_path, labels="coco")


def test_missing_images_are_counted_and_named(tmp_path):
    write_split(tmp_path, "minival", [1, 2, 3], [person(1, 1)])
    for number in (2, 3):
        (tmp_path / "val2014" / f"COCO_val2014_{number:012d}.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 2 images .*000002.jpg.* of 3"):
        coco.build(tmp_path)


def test_a_damaged_json_and_a_split_of_broken_images_are_refused(tmp_path):
    write_split(tmp_path, "minival", [TEXT], [person(1, TEXT)])
    with pytest.raises(DataError, match="not one of its 1 images is whole"):
        coco.build(tmp_path)
    (tmp_path / "annotations" / "densepose_minival2014.json").write_text('{"images": [')
    with pytest.raises(DataError, match="is not a COCO annotation file"):
        coco.build(tmp_path)


def test_a_split_that_is_not_built_is_named(builder):
    with pytest.raises(DataError, match=r"'train' is not built.*densepose_train2014.json"):
        coco.open_split(builder, "minival+train")


def test_a_batch_has_the_shapes_that_the_step_expects(source):
    (batch,) = batches_of(source, number=1)
    assert (batch.image.shape, batch.image.dtype) == ((4, 32, 32, 3), np.uint8)
    assert batch.valid.all() and (batch.valid.dtype, batch.valid.shape) == (bool, (4,))
    assert batch.to_image.shape == (4, 2, 2) and batch.to_image.dtype == np.float64
    assert batch.image_id.dtype == np.int64
    one = CODEC.encode((), (32, 32), None)
    for field in dataclasses.fields(one):
        made, alone = getattr(batch.targets, field.name), getattr(one, field.name)
        assert made.shape == (4, *alone.shape) and made.dtype == alone.dtype


def test_a_batch_is_a_pure_function_of_seed_and_step(source):
    straight = batches_of(source, number=5)
    for step, batch in enumerate(batches_of(source, number=5, num_threads=4)):
        assert_same(batch, straight[step])
    for batch, expected in zip(
        batches_of(source, number=2, start_step=3), straight[3:], strict=True
    ):
        assert_same(batch, expected)
    (other,) = batches_of(source, number=1, seed=1)
    assert (other.image != straight[0].image).any()


def test_every_epoch_shows_each_image_once_in_another_order(source):
    ids = np.concatenate([b.image_id for b in batches_of(source, number=9)])
    epochs = ids.reshape(-1, len(source))
    assert (np.sort(epochs, axis=1) == [1, 2, 3, 4, 5, 11]).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_an_image_is_varied_anew_each_time(source):
    (batch,) = batches_of([source[0]], number=1, batch_size=2, num_threads=1)
    assert (batch.image[0] != batch.image[1]).any()


def test_the_shares_of_two_processes_make_the_batch_of_one(source):
    whole = batches_of(source, number=3)
    shares = [
        batches_of(source, number=3, process_index=index, process_count=2)
        for index in (0, 1)
    ]
    for step, batch in enumerate(whole):
        for index in (0, 1):
            rows = jax.tree.map(lambda leaf, index=index: leaf[index::2], batch)
            assert_same(shares[index][step], rows)


def test_cells_beyond_the_image_are_told_apart():
    blank = Example(1, np.zeros((HEIGHT, WIDTH, 3), np.uint8), (), Affine())
    # at half size from (8, 4): y 8..32, x 4..36 of 32 x 64 are cells 2..7 and 1..8
    placed = transforms.place(blank, Affine((0.5, 0.5), (8.0, 4.0)), canvas=(32, 64))
    expected = np.zeros((8, 16), bool)
    expected[2:8, 1:9] = True
    inside = pipeline.inside_image(placed, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(inside, expected)
    mirrored = pipeline.inside_image(transforms.flip(placed), (HEIGHT, WIDTH))
    np.testing.assert_array_equal(mirrored, expected[:, ::-1])


def test_nothing_is_learnt_beyond_the_image(source):
    small = dataclasses.replace(AUGMENT, scale_min=0.5, scale_max=0.5)
    (batch,) = batches_of(source, number=1, augment=small)
    # half of the letterbox scale 32 / 64 makes 48 x 64 into 12 x 16 pixels, 3 x 4 cells
    assert batch.targets.mask_valid.sum((1, 2)).tolist() == [12] * 4


def test_an_evaluation_reads_every_image_once_in_order_and_pads_the_last_batch(builder):
    records = coco.open_split(builder, "minival")
    batches = list(pipeline.eval_batches(records, canvas=(32, 64), batch_size=4))
    assert [b.image.shape for b in batches] == [(4, 32, 64, 3)] * 2
    valid = np.concatenate([b.valid for b in batches])
    ids = np.concatenate([b.image_id for b in batches])
    assert valid.tolist() == [True] * 7 + [False]
    assert ids[valid].tolist() == [1, 2, 3, 4, 5, 9, 10]
    assert not batches[1].image[3].any() and batches[0].targets is None
    # 32 / 48: the image fills 42.67 columns, the last of them in part
    np.testing.assert_allclose(batches[0].to_image[0], [[1.5, 1.5], [0, 0]])
    assert (batches[0].image[:, :, 42:] == PAD).all()
    assert (batches[0].image[:, :, 41] != PAD).any()


def test_processes_evaluate_equally_many_batches_that_cover_the_split(builder):
    records = coco.open_split(builder, "minival")
    shares = [
        list(
            pipeline.eval_batches(
                records, canvas=(32, 32), batch_size=4, process_index=i, process_count=4
            )
        )
        for i in range(4)
    ]
    assert [len(share) for share in shares] == [2] * 4
    ids = [int(i) for s in shares for b in s for i in b.image_id[b.valid]]
    assert sorted(ids) == [1, 2, 3, 4, 5, 9, 10]


def test_a_record_that_broke_since_the_build_is_named(source):
    broken = dict(source[0]) | {"image": encoded(TRUNCATED)}
    with pytest.raises(ValueError, match=r"image 1 \(COCO_val2014_000000000001.jpg\)"):
        batches_of([broken], number=1)
    wrong = dict(source[0]) | {"annotations": json.dumps([person(5, 1, dp_I=[99, 1])])}
    with pytest.raises(ValueError, match=r"image 1 .*annotation 5: dp_I"):
        pipeline.read_example(wrong)


def test_impossible_settings_are_refused_with_their_remedy(source):
    with pytest.raises(ValueError, match="batch_size 4 is not divisible by 3 processes"):
        batches_of(source, process_count=3)
    odd = dataclasses.replace(AUGMENT, canvas=(30, 32))
    with pytest.raises(ValueError, match=r"canvas \(30, 32\).*multiples of 4"):
        batches_of(source, augment=odd)
    with pytest.raises(ValueError, match="no image to train on"):
        batches_of([])
