"""Mixed data sets and several canvases: shares, order, and that only (seed, step) count."""

import dataclasses
import itertools
from collections import Counter

import jax
import numpy as np
import pytest

import train as train_script
from ktn_jax import training
from ktn_jax.anatomy import MIRRORED_CHART
from ktn_jax.data import densepose_coco, pipeline
from ktn_jax.data.draws import Draws, Source, canvas_number
from ktn_jax.data.transforms import Augment
from ktn_jax.errors import UserError
from tests.miniature import person, write_split
from tests.scenes import CODEC

AUGMENT = Augment(canvas=(32, 32), scale_min=0.8, scale_max=1.6, flip=0.5, color=0.2)
CANVASES = ((32, 32), (48, 48), (64, 64))


def sources_of(lengths, shares):
    return [Source(range(n), s) for n, s in zip(lengths, shares, strict=True)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Images 1..3 of one directory and 11, 12 of another, three to one."""
    opened = []
    for numbers in ((1, 2, 3), (11, 12)):
        root = tmp_path_factory.mktemp("coco")
        write_split(root, "train", numbers, [person(n, n) for n in numbers])
        opened.append(densepose_coco.open_split(densepose_coco.build(root), "train"))
    return Source(opened[0], 3.0), Source(opened[1], 1.0)


def batches_of(sources, *, number, **options):
    settings = {"augment": AUGMENT, "batch_size": 4, "seed": 0, "num_threads": 2}
    batches = pipeline.train_batches(sources, CODEC, **settings | options)
    return list(itertools.islice(batches, number))


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shares", [(0.7, 0.3), (5, 1, 1), (1e-3, 1), (0.2,) * 5, (2,)])
def test_every_source_gives_its_share_of_the_first_n_images(shares):
    batch, steps = 6, 300
    draws = Draws(sources_of([40_000] * len(shares), shares), batch, seed=3)
    counts = np.zeros(len(shares))
    for step in range(steps):
        for row in range(batch):
            counts[draws(step * batch + row)[0]] += 1
        wanted = (step + 1) * batch * np.array(shares) / sum(shares)
        # rounding goes wrong by half at each split in two; shares are whole millionths
        assert np.abs(counts - wanted).max() <= (0.51 if len(shares) < 3 else 1)


def test_every_epoch_of_a_source_shows_each_row_once_in_another_order():
    draws = Draws(sources_of((7, 4), (2, 1)), 6, seed=0)
    seen = [[], []]
    for index in range(28 * 6):  # 112 of the one are 16 epochs, 56 of the other are 14
        source, row = draws(index)
        seen[source].append(row)
    assert Counter(seen[0]) == dict.fromkeys(range(7), 16)
    assert Counter(seen[1]) == dict.fromkeys(range(4), 14)
    for rows, length in zip(seen, (7, 4), strict=True):
        chunks = np.reshape(rows, (-1, length)).tolist()
        assert len({tuple(chunk) for chunk in chunks}) > 5


def test_a_process_s_rows_come_from_all_sources():
    draws = Draws(sources_of((40_000, 40_000), (1, 1)), 8, seed=0)
    for process in range(4):
        sources = Counter(draws(index)[0] for index in range(process, 800, 4))
        assert min(sources[0], sources[1]) > 70  # of 200


def test_a_mix_of_one_is_the_source_alone_whatever_its_share(mixed):
    alone = batches_of((Source(mixed[0].records),), number=3)
    for one, other in zip(alone, batches_of(mixed[:1], number=3), strict=True):
        assert_same(one, other)


def test_a_mix_on_several_canvases_is_a_function_of_seed_and_step(mixed):
    straight = batches_of(mixed, number=6, canvases=CANVASES)
    ids = np.concatenate([batch.image_id for batch in straight])
    assert (ids < 10).sum() == 18 and (ids > 10).sum() == 6  # three to one, exactly
    later = batches_of(mixed, number=2, canvases=CANVASES, start_step=4)
    for one, other in zip(straight[4:], later, strict=True):
        assert_same(one, other)
    halves = [
        batches_of(mixed, number=6, canvases=CANVASES, process_index=index, process_count=2)
        for index in (0, 1)
    ]
    for step, batch in enumerate(straight):
        for index in (0, 1):
            rows = jax.tree.map(lambda leaf, index=index: leaf[index::2], batch)
            assert_same(halves[index][step], rows)
    other = batches_of(mixed, number=6, canvases=CANVASES, seed=1)
    assert [b.image.shape for b in other] != [b.image.shape for b in straight]


def test_each_canvas_comes_once_in_as_many_steps_and_in_every_order():
    cycles = Counter(
        tuple(canvas_number(3 * cycle + turn, 3, seed=5) for turn in range(3))
        for cycle in range(600)
    )
    assert set(cycles) == set(itertools.permutations(range(3)))
    assert min(cycles.values()) > 60  # of 100 expected
    assert canvas_number(7, 1, seed=5) == 0


def test_a_step_is_traced_once_for_each_canvas(mixed):
    sides = []

    @jax.jit
    def step(image):
        sides.append(image.shape[1])
        return image.sum()

    batches = batches_of(mixed, number=9, canvases=CANVASES)
    for batch in batches:
        assert batch.targets.mask.shape[1] * 4 == batch.image.shape[1]
        step(batch.image)
    assert sorted(sides) == [32, 48, 64]
    assert sorted(batch.image.shape[1] for batch in batches[:3]) == [32, 48, 64]


def test_canvases_change_nothing_but_the_size(mixed):
    """The dice of a row are its own: with one canvas all is as without the list."""
    plain = batches_of(mixed, number=2)
    for one, other in zip(
        plain, batches_of(mixed, number=2, canvases=[(32, 32)]), strict=True
    ):
        assert_same(one, other)


def test_every_source_is_mirrored_by_its_own_table(mixed):
    always = dataclasses.replace(AUGMENT, flip=1.0, scale_min=1.0, scale_max=1.0)
    table = np.full((25, 256, 256, 2), 0.625, np.float32)
    sources = (mixed[0]._replace(symmetry=table), mixed[1])
    ids, uv, chart = [], [], []
    for batch in batches_of(sources, number=4, augment=always):
        ids += batch.image_id.tolist()
        uv += list(batch.targets.points_uv[:, 0])
        chart += batch.targets.points_chart[:, 0].tolist()
    for number, place in zip(ids, uv, strict=True):
        # by the rule: chart 2's V is mirrored, .125 -> .875
        np.testing.assert_allclose(place, [0.625] * 2 if number < 10 else [0.5, 0.875])
    assert set(chart) == {MIRRORED_CHART[2]} and {n > 10 for n in ids} == {True, False}


def test_impossible_mixes_are_refused(mixed):
    for sources in ((mixed[0]._replace(share=0.0), mixed[1]), ()):
        with pytest.raises(UserError, match=r"shares above 0; set data\.mix"):
            batches_of(sources, number=1)
    with pytest.raises(UserError, match="1 in 1000000"):
        batches_of((mixed[0], mixed[1]._replace(share=1e-9)), number=1)
    with pytest.raises(UserError, match=r"canvas \(30, 32\).*multiples of 4"):
        batches_of(mixed, number=1, canvases=[(30, 32)])
    with pytest.raises(UserError, match="no image to train on"):
        batches_of((mixed[0], Source([])), number=1)


def outlines_only(folder, numbers):
    """A COCO directory whose people have outlines and no surface points."""
    people = [person(n, n) for n in numbers]
    for one in people:
        for name in [name for name in one if name.startswith("dp_")]:
            del one[name]
    write_split(folder, "train", numbers, people)
    annotations = folder / "annotations"
    (annotations / "densepose_train2014.json").rename(
        annotations / "person_keypoints_train2014.json"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of how a config is loaded
def test_an_entry_of_the_mix_names_labels_without_a_surface(rendered, tmp_path):
    outlines_only(tmp_path, (41, 42))
    config, _, _ = train_script.parse(["--config=configs/tiny.py", "--workdir=w"])
    outlines = (str(tmp_path), "train", 0.25, "", "person_keypoints")
    config.data.mix = ((str(rendered), "train", 0.75), outlines)
    batch = next(training.build_batches(config, training.open_source(config), 0))
    without = np.isin(batch.image_id, (41, 42))
    targets = batch.targets
    assert without.sum() == 2
    assert not targets.points_valid[without].any()
    assert targets.points_valid[~without].any()
    assert (targets.mask * targets.mask_valid)[without].any(axis=(1, 2)).all()
    config.data.mix = (outlines,)
    with pytest.raises(UserError, match="every entry names its labels"):
        training.open_source(config)
    config.data.mix = (("here", "train", 1.0, "", "faces"), ("there", "train", 1.0))
    with pytest.raises(UserError, match=r"labels='faces' is not one of"):
        training.open_source(config)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of how a config is loaded
def test_the_config_names_the_mix_and_the_canvases(rendered, tmp_path):
    numbers = (31, 32)
    write_split(tmp_path, "minival", numbers, [person(n, n) for n in numbers])
    entries = f"(('{rendered}', 'train', 0.75), ('{tmp_path}', 'minival', 0.25))"
    config, _, _ = train_script.parse(
        [
            "--config=configs/tiny.py",
            "--workdir=w",
            f"--data.mix={entries}",
            "--data.canvases=(64, 96)",
        ]
    )
    batches = training.build_batches(config, training.open_source(config), 0)
    batches = list(itertools.islice(batches, 2))
    assert sorted(batch.image.shape for batch in batches) == [
        (8, 64, 64, 3),
        (8, 96, 96, 3),
    ]
    for batch in batches:
        assert (np.isin(batch.image_id, numbers)).sum() == 2
    config.data.mix = (("here", 1.0),)
    with pytest.raises(UserError, match=r"data.mix: \('here', 1.0\) is not \(root, split"):
        training.open_source(config)
