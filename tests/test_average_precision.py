"""AP: the official statistics, then every rule of matching with numbers by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from ktn_jax.errors import UserError
from ktn_jax.evaluation import average_precision as ap
from ktn_jax.evaluation.challenge import group_scenes, load_ground_truth
from ktn_jax.evaluation.results import load_results
from ktn_jax.evaluation.standalone import evaluate_files
from ktn_jax.evaluation.surface import load_official
from tests.test_similarity import LINE, person, plain, square
from tests.test_similarity import detection as detection_of

REFERENCE = Path(__file__).parent / "reference" / "evaluator"
EXPECTED = json.loads((REFERENCE / "expected.json").read_text())
STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
NOTHING = dict.fromkeys(STATS, -1)
MANY = 1e4  # pixels of a large person


# --- the official numbers ------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated():
    paths = REFERENCE / "gt.json.gz", REFERENCE / "results.json.gz"
    return evaluate_files(*paths, REFERENCE)


@pytest.mark.parametrize("metric", ["gps", "gpsm", "iou"])
@pytest.mark.parametrize("stat", STATS)
def test_every_official_statistic_is_met(metric, stat, evaluated):
    expected = EXPECTED[metric]["stats"][EXPECTED["names"].index(stat)]
    assert evaluated[metric][stat] == pytest.approx(expected, abs=1e-6)


def test_results_without_keypoints_or_masks_have_none(evaluated):
    assert evaluated["keypoints"] is None and evaluated["masks"] is None


def test_processes_change_nothing(evaluated):
    gt = load_ground_truth(REFERENCE / "gt.json.gz")
    results = load_results(REFERENCE / "results.json.gz")
    found = ap.evaluate_densepose(gt, results, load_official(REFERENCE), processes=2)
    assert found == {metric: evaluated[metric] for metric in found}
    with pytest.raises(UserError, match="processes is 0"):
        ap.evaluate_densepose(gt, results, load_official(REFERENCE), processes=0)


# --- matching ------------------------------------------------------------------------


def people(ignored, crowd=None, has_id=None):
    count = len(ignored)
    return ap.People(
        np.array(ignored, bool),
        np.array(crowd or [0] * count, bool),
        np.array(has_id or [1] * count, bool),
    )


def match(similarity, box_iou, *arguments, **fields):
    found = ap.match(
        np.array(similarity), np.array(box_iou), people=people(*arguments, **fields)
    )
    return [outcome.astype(int).T.tolist() for outcome in found]  # [D, T]


ALL, NONE = [1] * 10, [0] * 10  # at the thresholds .5, .55 .. .95
FAR = [[0.0, 0.0]] * 2


def test_the_higher_score_takes_the_person():
    matched, ignored = match([[0.7], [0.9]], [[0.0], [0.0]], [0])
    # .7 passes .5 .. .7 (5 thresholds) and leaves nobody there; .9 has .75 .. .9 (4)
    assert matched == [[1] * 5 + [0] * 5, [0] * 5 + [1] * 4 + [0]]
    assert ignored == [NONE, NONE]


def test_of_equally_similar_people_the_last_is_taken():
    # the second detection can only have person 1, which a tie has given away already
    matched, _ = match([[0.96, 0.96], [0.0, 0.96]], FAR, [0, 0])
    assert matched == [ALL, NONE]


def test_a_regular_person_goes_before_a_more_similar_ignored_one():
    matched, ignored = match([[0.96, 0.6]], [[0.0, 0.0]], [1, 0])
    # person 1 up to .6 (3 thresholds), then only the ignored one is left
    assert (matched, ignored) == ([ALL], [[0] * 3 + [1] * 7])


def test_a_crowd_is_taken_again_and_again():
    matched, ignored = match([[0.96], [0.96]], [[0.0], [0.0]], [0], crowd=[1])
    assert (matched, ignored) == ([ALL, ALL], [NONE, NONE])


def test_where_nobody_counts_every_detection_is_ignored():
    assert match([[0.0, 0.0]] * 2, FAR, [1, 1]) == [[NONE, NONE], [ALL, ALL]]
    nobody = np.zeros((2, 0))
    assert match(nobody, nobody, []) == [[NONE, NONE], [ALL, ALL]]


def test_an_id_of_0_never_matches_but_is_taken():
    matched, ignored = match([[0.96], [0.96]], [[0.0], [0.0]], [0], has_id=[0])
    assert (matched, ignored) == ([NONE, NONE], [NONE, NONE])


@pytest.mark.parametrize(("box_iou", "forgiven"), [(0.8, True), (0.799, False)])
def test_a_detection_on_the_box_of_an_ignored_person_is_forgiven(box_iou, forgiven):
    matched, ignored = match([[0.0, 0.0]], [[0.0, box_iou]], [0, 1])
    assert ignored == [ALL if forgiven else NONE]
    assert matched == [[0] * 9 + [int(forgiven)]]  # the person is taken at the last only


def test_the_box_rule_looks_at_the_last_threshold_and_decides_for_all():
    # .9 of person 0 is a match at .5 .. .9, but not at .95; then the better box is the
    # ignored person's, so the detection is ignored even where it is a match
    matched, ignored = match([[0.9, 0.0]], [[0.8, 0.85]], [0, 1])
    assert (matched, ignored) == ([ALL], [ALL])
    # a match at .95 as well never comes to the rule
    matched, ignored = match([[0.96, 0.0]], [[0.8, 0.85]], [0, 1])
    assert (matched, ignored) == ([ALL], [NONE])


def test_the_box_rule_also_takes_back_that_a_detection_is_ignored():
    # .7 of the ignored person 1: a match and ignored at .5 .. .7; unmatched at .95, and
    # the best box is that of person 0, who counts: nothing of it is ignored any more
    matched, ignored = match([[0.0, 0.7]], [[0.9, 0.85]], [0, 1])
    assert (matched, ignored) == ([[1] * 5 + [0] * 5], [NONE])


def test_people_taken_at_the_last_threshold_are_out_of_the_box_rule():
    # the first detection takes the ignored person; a second one on its box is wrong
    similarity, box_iou = [[0.0, 0.96], [0.0, 0.0]], [[0.0, 0.9], [0.0, 0.9]]
    assert match(similarity, box_iou, [0, 1])[1] == [ALL, NONE]
    assert match(similarity, box_iou, [0, 1], crowd=[0, 1])[1] == [ALL, ALL]
    # and so does the rule itself
    assert match(FAR, [[0.0, 0.9], [0.0, 0.9]], [0, 1])[1] == [ALL, NONE]


def test_of_equal_boxes_the_ignored_one_decides():
    assert match([[0.0, 0.0]], [[0.9, 0.9]], [1, 0])[1] == [ALL]
    assert match([[0.0, 0.0]], [[0.9, 0.9]], [0, 1])[1] == [ALL]


def walked(similarity, box_iou, who):
    """The rules as a walk: one threshold, one detection, one person at a time."""
    order = sorted(range(len(who.ignored)), key=lambda p: who.ignored[p])  # stable
    matched = np.zeros((10, len(similarity)), bool)
    ignored = np.full(matched.shape, all(who.ignored))
    for t, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
        taken = set()
        for d, row in enumerate(similarity):
            best, at = threshold, None
            for p in order:
                if p in taken and not who.crowd[p]:
                    continue
                if at is not None and not who.ignored[at] and who.ignored[p]:
                    break
                if row[p] >= best:
                    best, at = row[p], p
            if at is not None:
                taken.add(at)
                matched[t, d], ignored[t, d] = who.has_id[at], who.ignored[at]
    for d in range(len(similarity)):
        best, at = 0.8, None
        for p in order:
            if (p not in taken or who.crowd[p]) and box_iou[d][p] >= best:
                best, at = box_iou[d][p], p
        if matched[-1, d] or at is None:
            continue
        ignored[:, d] = who.ignored[at]
        if who.ignored[at]:
            matched[-1, d] = who.has_id[at]
            taken.add(at)
    return matched, ignored


def test_matching_is_the_walk_on_random_scenes():
    rng = np.random.default_rng(0)
    for _ in range(400):
        shape = rng.integers(1, 9), rng.integers(0, 7)
        # few distinct values, so that ties and thresholds are met exactly
        similarity = rng.choice([0, 0.5, 0.6, 0.75, 0.95, 0.99], shape)
        box_iou = rng.choice([0, 0.7, 0.8, 0.85, 0.9], shape)
        who = ap.People(*(rng.random((3, shape[1])) < [[0.4], [0.2], [0.9]]))
        found = ap.match(similarity, box_iou, people=who)
        for outcome, expected in zip(found, walked(similarity, box_iou, who), strict=True):
            np.testing.assert_array_equal(outcome, expected)


# --- scenes: areas, scores, the cut at 20 --------------------------------------------


def annotation(number, area=MANY, image=1, **fields):
    """Person `number` at the origin, with a point in the middle; 96 x 96 box."""
    box = [0, 0, 96, 96]
    some = {"image_id": image, "category_id": 1, "segmentation": square(*box)}
    return person(box, [(127, 127, 1, 0)], id=number, area=area, **some, **fields)


def result(score, u=0.0, image=1, box=(0, 0, 96, 96)):
    """A detection that puts one vertex everywhere; u = 0 is the annotated one."""
    found = detection_of(box, plain(int(box[3]), int(box[2]), u=u))
    entry = {"image_id": image, "category_id": 1, "bbox": list(box), "score": score}
    return entry | found.entry


def dataset(*annotations, images=(1,), **image_fields):
    sizes = {"height": 200, "width": 200, **image_fields}
    return {
        "images": [{"id": image, **sizes} for image in images],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    }


def evaluate(gt, results, metric="gps"):
    return ap.evaluate_densepose(gt, results, LINE)[metric]


def test_a_perfect_result_has_an_ap_of_1():
    found = evaluate(dataset(annotation(1)), [result(0.3)], "gpsm")
    assert found == pytest.approx(dict.fromkeys(STATS, 1) | {"APm": -1, "ARm": -1})


def test_precision_is_read_at_101_recalls():
    # right, wrong, right for two people (u = 1 is 1 m off): recalls .5 .5 1, precisions
    # 1 1/2 2/3; recalls 0 .. .5 (51) read 1 and .51 .. 1 (50) read 2/3
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    found = evaluate(gt, [result(0.9), result(0.8, u=1), result(0.7, image=2)])
    assert found["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    # the second person missed: recall ends at .5, beyond it precision is 0
    assert evaluate(gt, [result(0.9)])["AP"] == pytest.approx(51 / 101)
    assert evaluate(gt, [result(0.9)])["AR"] == 0.5


def test_equal_scores_keep_the_order_of_the_file():
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    right, wrong, other = result(0.5), result(0.5, u=1), result(0.5, u=1, image=2)
    assert evaluate(gt, [right, wrong])["AP"] == pytest.approx(51 / 101)
    # wrong first: precision 1/2 at recall .5
    assert evaluate(gt, [wrong, right])["AP"] == pytest.approx(51 / 2 / 101)
    # of two images the one with the smaller id comes first, wherever it is in the file
    assert evaluate(gt, [other, right])["AP"] == pytest.approx(51 / 101)
    ids = [
        d.id for scene in group_scenes(gt, [other, wrong, right]) for d in scene.detections
    ]
    assert ids == [2, 3, 1]


def test_an_image_has_20_detections_at_most():
    gt, wrong = dataset(annotation(1)), [result(0.9, u=1)] * 20
    assert evaluate(gt, [*wrong[:19], result(0.1)])["AR"] == 1
    assert evaluate(gt, [*wrong, result(0.1)])["AR"] == 0
    assert evaluate(gt, [result(0.95), *wrong])["AR"] == 1


@pytest.mark.parametrize(
    ("area", "medium", "large"),
    [(1023.9, -1, -1), (1024, 1, -1), (9216, 1, 1), (9216.1, -1, 1)],
)
def test_both_ends_of_an_area_range_belong_to_it(area, medium, large):
    found = evaluate(dataset(annotation(1, area=area)), [result(0.5)])
    assert [found[k] for k in ("AP", "APm", "APl")] == pytest.approx([1, medium, large])


@pytest.mark.parametrize(("side", "large"), [(95, 1), (96, 0.5)])
def test_an_unmatched_detection_counts_in_the_range_of_its_box(side, large):
    # the wrong one goes first; 95 x 95 = 9025 is too small to be wrong among the large
    wrong = result(0.9, u=1, box=(100, 100, side, side))
    found = evaluate(dataset(annotation(1)), [wrong, result(0.5)])
    assert (found["AP"], found["APl"]) == pytest.approx((0.5, large))


def test_images_without_anybody_to_find_cost_nothing():
    # image 2 has nobody; image 3 has people, but none with points. Both have detections
    # of the highest scores, which would halve the precision at least
    pointless = {k: v for k, v in annotation(2, image=3).items() if k[:2] != "dp"}
    gt = dataset(annotation(1), pointless, images=(1, 2, 3))
    wrong = [result(0.9, u=1, image=image) for image in (2, 3)]
    assert evaluate(gt, [*wrong, result(0.5)])["AP"] == pytest.approx(1)
    # where one person counts, a detection on nobody does as well
    gt["annotations"].append(annotation(3, image=3) | {"bbox": [150, 150, 40, 40]})
    found = evaluate(gt, [result(0.9, u=1, image=3, box=(0, 100, 50, 50)), result(0.5)])
    assert found["AP"] == pytest.approx(51 / 2 / 101)


def test_ids_from_0_lose_a_person():
    assert evaluate(dataset(annotation(0)), [result(0.5)])["AP"] == 0


def test_no_results_and_nobody_to_find_are_minus_1():
    assert ap.evaluate_densepose(dataset(annotation(1)), [], LINE) == dict.fromkeys(
        ("gps", "gpsm", "iou"), NOTHING
    )
    assert evaluate(dataset(), [result(0.5)]) == NOTHING
    # someone to find and something found elsewhere is 0, not -1
    gt = dataset(annotation(1), images=(1, 2))
    assert evaluate(gt, [result(0.5, image=2)])["AP"] == 0


def test_a_used_id_stands_for_its_last_annotation():
    gt = dataset(annotation(1), annotation(1, image=2), images=(1, 2))
    scenes = group_scenes(gt, [])
    assert [(scene.image_id, len(scene.people)) for scene in scenes] == [(2, 2)]


@pytest.mark.parametrize(
    ("columns", "people_left", "detections_left"),
    [(67, 1, 1), (68, 0, 1), (86, 0, 1), (87, 0, 0)],
)
def test_what_lies_in_an_ignored_region_is_dropped(columns, people_left, detections_left):
    # of 96 columns, .7 are 67.2 and .9 are 86.4
    region = {
        "ignore_regions_x": [[0, columns, columns, 0]],
        "ignore_regions_y": [[0, 0, 99, 99]],
    }
    scenes = group_scenes(dataset(annotation(1), **region), [result(0.5)])
    assert sum(len(scene.people) for scene in scenes) == people_left
    assert sum(len(scene.detections) for scene in scenes) == detections_left


def test_a_category_without_detections_is_0_and_halves_the_mean():
    gt = dataset(annotation(1), annotation(2) | {"category_id": 2}, annotation(3, image=2))
    gt["categories"].append({"id": 2, "name": "statue"})
    gt["images"].append(gt["images"][0] | {"id": 2})
    found = evaluate(gt, [result(0.5), result(0.5, image=2)])
    assert (found["AP"], found["AR"]) == pytest.approx((0.5, 0.5))


def test_results_that_are_all_dropped_are_0():
    region = {"ignore_regions_x": [[0, 96, 96, 0]], "ignore_regions_y": [[0, 0, 96, 96]]}
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    gt["images"][0] |= region
    assert evaluate(gt, [result(0.5)])["AP"] == 0


def test_an_error_in_a_map_names_the_image_and_the_result():
    with pytest.raises(UserError, match="image 1: result 1: uv_data is not"):
        evaluate(dataset(annotation(1)), [result(0.5) | {"uv_data": "?"}])
