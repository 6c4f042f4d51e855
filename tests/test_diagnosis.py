"""The diagnosis, each quantity by hand; and that no official number depends on it."""

import json
from pathlib import Path

import numpy as np
import pytest

from ktn_jax.anatomy import COARSE
from ktn_jax.evaluation import breakdown, diagnosis
from ktn_jax.evaluation.average_precision import (
    AREAS,
    Measured,
    evaluate_densepose,
    inspect_scenes,
    match_scene,
)
from ktn_jax.evaluation.breakdown import KINDS, classify
from ktn_jax.evaluation.challenge import Detection, Scene, load_ground_truth
from ktn_jax.evaluation.diagnosis import diagnose
from ktn_jax.evaluation.point_errors import (
    CHART_KINDS,
    KIND_OF_PAIR,
    PointErrors,
    read_errors,
)
from ktn_jax.evaluation.results import load_results
from ktn_jax.evaluation.similarity import Similarity
from ktn_jax.evaluation.standalone import evaluate_results
from ktn_jax.evaluation.surface import load_official
from ktn_jax.evaluation.table import format_diagnosis
from tests.test_average_precision import annotation, dataset, result
from tests.test_similarity import LINE

REFERENCE = Path(__file__).parent / "reference" / "evaluator"


# --- points --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "found", "kind"),
    [
        (7, 7, "right"),
        (7, 8, "left/right"),  # right and left upper leg, back
        (3, 4, "left/right"),
        (23, 24, "left/right"),  # the head's two charts are its halves
        (7, 9, "front/back"),  # right upper leg, back and front
        (1, 2, "front/back"),
        (15, 17, "front/back"),  # left upper arm, inner and outer
        (7, 10, "both"),  # right back and left front
        (15, 18, "both"),
        (7, 11, "wrong part"),  # upper and lower leg
        (1, 23, "wrong part"),
        (7, 0, "background"),
    ],
)
def test_a_found_chart_is_something_to_the_annotated_one(truth, found, kind):
    assert CHART_KINDS[KIND_OF_PAIR[truth, found]] == kind


def test_losses_of_points_are_split_by_what_is_found_there():
    # person 0 has points 0..3 on the torso's chart 1, person 1 has point 4 on the head
    chart, person = np.array([1, 1, 1, 1, 23]), np.array([0, 0, 0, 0, 1])
    label = np.array([[1, 2, 7, 99, 0], [0, 0, 0, 0, 23]])  # 99 is no chart
    score = np.array([[0.9, 0.5, 0.2, 0, 0], [0, 0, 0, 0, 1]])
    mask_iou = np.array([[0.5, 0.6], [0.4, 0.9]])
    found = read_errors(score, label, chart=chart, person=person, mask_iou=mask_iou)
    # detection 0 and person 0: point 3 of 4 unseen (1 / 4), point 2 on a leg (.8 / 4),
    # and (.1 + .5) / 4 within the torso, the front of which is no other part
    np.testing.assert_allclose(found.unseen, [[0.25, 1], [1, 0]])
    np.testing.assert_allclose(found.misplaced, [[0.2, 0], [0, 0]])
    # person 0 is found by detection 0, person 1 by detection 1, which fits best
    assert found.truth.tolist() == [1, 1, 1, 1, 23]
    assert found.found.tolist() == [1, 2, 7, 0, 23]
    assert found.score.tolist() == [0.9, 0.5, 0.2, 0, 1]
    # a mask IoU of less than .5 finds nobody
    nobody = read_errors(score, label, chart=chart, person=person, mask_iou=mask_iou - 0.41)
    assert nobody.truth.size == 0
    one = read_errors(score, label, chart=chart, person=person, mask_iou=mask_iou - 0.1)
    assert one.truth.tolist() == [23]


def points(truth, found, score=()):
    nothing = np.zeros((0, 0))
    sides = (np.array(side, np.uint8) for side in (truth, found))
    return PointErrors(nothing, nothing, *sides, np.array(score, float))


def test_charts_are_counted_and_shared_out():
    errors = [points([7, 7, 7], [7, 8, 9]), points([7, 24], [0, 24])]
    confusion = diagnosis.count_charts(errors)
    assert confusion.sum() == 5
    assert confusion[7, [0, 7, 8, 9]].tolist() == [1, 1, 1, 1] and confusion[24, 24] == 1
    shares = dict.fromkeys(CHART_KINDS, 0) | {"right": 2 / 5, "left/right": 1 / 5}
    shares |= {"front/back": 1 / 5, "background": 1 / 5}
    assert diagnosis.share_kinds(confusion) == pytest.approx(shares)
    assert set(diagnosis.share_kinds(diagnosis.count_charts([])).values()) == {-1}


def test_a_part_has_the_mean_score_of_its_points():
    # charts 3 and 4 are hands, 1 is torso
    errors = [points([3, 4, 1], [3, 0, 1], [0.5, 0.25, 1]), points([3], [3], [0.75])]
    found = diagnosis.score_parts(errors)
    assert list(found) == list(COARSE[1:])
    assert found["hands"] == {"gps": pytest.approx(0.5), "points": 3}
    assert found["torso"] == {"gps": 1, "points": 1}
    assert found["head"] == {"gps": -1, "points": 0}


# --- kinds of errors -----------------------------------------------------------------


def scene_of(gps, mask_iou, *, scores=None, unseen=0.0, misplaced=0.0, pointless=()):
    """A measured scene [D, P] and its errors; boxes do not touch, everyone is large."""
    gps, mask_iou = np.array(gps, float), np.array(mask_iou, float)
    count, people = gps.shape
    box = np.array([0, 0, 100, 100.0])
    scores = scores or np.linspace(0.9, 0.5, count).tolist()
    scene = Scene(
        1,
        1,
        100,
        100,
        tuple(
            {"id": p + 1, "area": 1e4, "bbox": [0, 0, 100, 100]}
            | ({} if p in pointless else {"dp_x": []})
            for p in range(people)
        ),
        tuple(Detection(d + 1, box, score, {}) for d, score in enumerate(scores)),
    )
    measured = Measured(scene, Similarity(gps, mask_iou, np.zeros(gps.shape)))
    lost = {"unseen": unseen, "misplaced": misplaced}
    lost = {name: np.broadcast_to(value, gps.shape) for name, value in lost.items()}
    return measured, points([], [])._replace(**lost)


def outcome_of(*arguments, **fields):
    measured, errors = scene_of(*arguments, **fields)
    matches = match_scene(*measured, metric="gpsm", area=AREAS["all"])
    return classify(measured, errors, matches=matches)


def kinds(outcome):
    return [None if k < 0 else KINDS[k] for k in outcome.kind]


@pytest.mark.parametrize(
    ("gps", "mask_iou", "lost", "kind"),
    [
        (0.5, 0.5, {}, None),  # GPSm .5: right
        (0.4, 0.6, {"unseen": 0.1, "misplaced": 0.2}, "wrong uv"),  # within: .3
        (0.4, 0.6, {"unseen": 0.1, "misplaced": 0.4}, "wrong part"),
        (0.4, 0.6, {"unseen": 0.4, "misplaced": 0.1}, "bad mask"),
        (0.5, 0.49, {}, "bad mask"),
        (0.49, 0.49, {}, "poor overlap"),
        (0.0, 0.1, {}, "poor overlap"),
        (0.0, 0.09, {}, "false"),
    ],
)
def test_a_detection_has_one_kind_of_error(gps, mask_iou, lost, kind):
    outcome = outcome_of([[gps]], [[mask_iou]], **lost)
    assert kinds(outcome) == [kind]
    # somebody is missed only if no other error is about them
    assert outcome.missed.tolist() == [kind == "false"]


def test_the_second_on_a_person_is_a_duplicate():
    outcome = outcome_of([[0.9], [0.8]], [[0.9], [0.8]])
    assert kinds(outcome) == [None, "duplicate"] and outcome.person.tolist() == [-1, 0]


def test_an_error_is_about_the_person_of_the_largest_mask_iou():
    # person 2 fits best, but is ignored: the error is about person 1
    outcome = outcome_of([[0, 0, 0]], [[0.2, 0.3, 0.9]], pointless=(2,))
    assert kinds(outcome) == ["poor overlap"] and outcome.person.tolist() == [1]
    assert outcome.missed.tolist() == [True, False, False]


def test_what_the_metric_ignores_is_no_error():
    outcome = outcome_of([[0.0, 0.9]], [[0, 0.9]], pointless=(0, 1))
    assert kinds(outcome) == [None] and not outcome.missed.any()


def gains(*scenes):
    found = breakdown.summarise([outcome_of(*one) for one in scenes], [1] * len(scenes))
    assert set(found) == {*KINDS, "missed"}
    return {k: (row["count"], row["gain"]) for k, row in found.items() if row["count"]}


def test_a_mended_error_gains_what_ap50_lacks():
    # two people, .9 right and .7 poorly on the second: precision 1 to recall .5 (51 of
    # 101), then 0. Mended it is right as well: 50 / 101 more
    one = [[1, 0], [0, 0.2]], [[1, 0], [0, 0.2]]
    assert gains(one) == {"poor overlap": (1, pytest.approx(50 / 101))}
    # missed altogether and counted no more: the same
    assert gains(([[1, 0]], [[1, 0]])) == {"missed": (1, pytest.approx(50 / 101))}


def test_a_false_detection_or_a_duplicate_goes_when_it_is_mended():
    # false .9 before right .5: precision 1/2 at every recall
    false_first = [[0], [1]], [[0], [1]]
    assert gains(false_first) == {"false": (1, pytest.approx(0.5))}
    # right .9, duplicate .7, and in the other image right .9 - .4: two people; order is
    # right .9, right .9, duplicate: it costs nothing, being the last
    twice = [[1], [1]], [[1], [1]]
    assert gains(twice, ([[1]], [[1]])) == {"duplicate": (1, pytest.approx(0))}


def test_a_mended_error_about_a_taken_person_goes():
    # the poor one first (.9), the right one (.5) takes the person: 1/2 becomes 1
    assert gains(([[0.2], [1]], [[0.2], [1]])) == {"poor overlap": (1, pytest.approx(0.5))}
    # of two poor ones the first is mended to be right and the second goes: 0 becomes 1
    assert gains(([[0.2], [0.2]], [[0.2], [0.2]])) == {
        "poor overlap": (2, pytest.approx(1))
    }


def test_nobody_is_found_twice_by_mending():
    # a right one takes person 0, two poor ones are about person 0, two about person 1
    poor = [[0.2, 0], [0.2, 0], [0, 0.2], [0, 0.2]]
    outcome = outcome_of([[1, 0], *poor], [[1, 0], *poor])
    mended = breakdown.mend(outcome, "poor overlap")
    assert mended.matched.tolist() == [[True, False, False, True, False]]
    assert mended.ignored.tolist() == [[False, True, True, False, True]]


def test_with_everybody_missed_the_gain_is_all():
    assert gains(([[0.0]], [[0.0]])) == {
        "false": (1, pytest.approx(0)),
        "missed": (1, pytest.approx(1)),
    }
    found = breakdown.summarise([outcome_of([[0.9]], [[0.9]], pointless=(0,))], [1])
    assert {row["gain"] for row in found.values()} == {-1}


# --- groups of images and people -----------------------------------------------------


def pointless(person):
    return {name: value for name, value in person.items() if name[:2] != "dp"}


def diagnosed(gt, results):
    return diagnose(*inspect_scenes(gt, results, LINE))


def test_images_are_grouped_by_their_people():
    # image 1: one person, right; image 2: four, one of them right, a crowd not counted
    people = [annotation(1), *(annotation(n, image=2) for n in (2, 3, 4, 5))]
    crowd = pointless(annotation(6, image=2) | {"iscrowd": 1})
    gt = dataset(*people, crowd, images=(1, 2))
    found = diagnosed(gt, [result(0.9), result(0.8, image=2)])["by_people"]
    assert list(found) == ["1", "2", "3-4", "5+"]
    assert found["1"] == pytest.approx(
        {"AP": 1, "AP50": 1, "AR": 1, "images": 1, "people": 1}
    )
    # recall ends at a quarter: 26 of 101 recalls have precision 1
    quarter = {"AP": 26 / 101, "AP50": 26 / 101, "AR": 1 / 4, "images": 1, "people": 4}
    assert found["3-4"] == pytest.approx(quarter)
    nobody = {"AP": -1, "AP50": -1, "AR": -1, "images": 0, "people": 0}
    assert found["2"] == found["5+"] == nobody


def test_images_are_grouped_by_the_overlap_of_boxes():
    def two(image, x):
        first, second = (
            annotation(2 * image, image=image),
            annotation(9 + image, image=image),
        )
        return [first, second | {"bbox": [x, 0, 96, 96]}]

    # 96 wide and 64 apart: 32 / 160 = .2; 48 apart: 48 / 144 = 1/3; 90 apart: 6 / 186
    gt = dataset(*two(1, 64), *two(2, 48), *two(3, 90), annotation(1, image=4))
    gt["images"] = [gt["images"][0] | {"id": i} for i in (1, 2, 3, 4)]
    found = diagnosed(gt, [result(0.9)])["by_overlap"]
    assert {name: row["images"] for name, row in found.items()} == {
        "0-0.1": 2,
        "0.1-0.3": 1,
        "0.3-1": 1,
    }
    assert found["0.1-0.3"]["AR"] == 0.5 and found["0-0.1"]["AR"] == 0


def test_people_are_grouped_by_size():
    # 40 x 40 found, 100 x 100 missed
    gt = dataset(annotation(1, area=40**2), annotation(2, area=100**2, image=2))
    gt["images"].append(gt["images"][0] | {"id": 2})
    found = diagnosed(gt, [result(0.9)])["by_size"]
    assert {name: (row["AR"], row["people"]) for name, row in found.items()} == {
        "0-32": (-1, 0),
        "32-64": (1, 1),
        "64-96": (-1, 0),
        "96-192": (0, 1),
        "192+": (-1, 0),
    }


def test_images_are_ranked_by_their_people_s_best_gpsm(monkeypatch):
    monkeypatch.setattr(diagnosis, "LISTED", 2)
    people = [annotation(n, image=n) for n in (1, 2, 3)] + [annotation(4, image=3)]
    # in image 1, not to be found, and elsewhere: nothing is forgiven for its box
    people.append(pointless(annotation(5)) | {"bbox": [150, 150, 40, 40]})
    gt = dataset(*people, images=(1, 2, 3, 5))
    results = [result(0.9), result(0.8, u=1), result(0.9, u=0.3, image=3)]
    results.append(result(0.4, image=5))  # nobody is there: no image to rank
    found = diagnosed(gt, results)
    # image 3: u = .3 is .3 m off on both: sqrt(.694018 x 1)
    worst = {"image_id": 2, "score": 0, "people": 1, "missed": 1, "wrong": 0}
    best = {"image_id": 1, "score": 1, "people": 1, "missed": 0, "wrong": 1}
    middle = {"image_id": 3, "score": 0.833078, "people": 2, "missed": 1, "wrong": 0}
    assert [pytest.approx(row, abs=1e-6) for row in (worst, middle)] == found["worst"]
    assert [pytest.approx(row, abs=1e-6) for row in (best, middle)] == found["best"]


# --- the whole -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def official():
    gt = load_ground_truth(REFERENCE / "gt.json.gz")
    return gt, load_results(REFERENCE / "results.json.gz"), load_official(REFERENCE)


def test_the_official_numbers_are_the_same_with_and_without_it(official):
    found = evaluate_results(*official)
    diagnosed = found.pop("diagnosis")
    assert found == evaluate_results(*official, diagnosis=False)
    assert json.loads(json.dumps(diagnosed)) == diagnosed
    # every point is in the confusion once, and parts have them all
    total = sum(map(sum, diagnosed["confusion"]))
    assert total == sum(row["points"] for row in diagnosed["by_part"].values())
    assert sum(diagnosed["charts"].values()) == pytest.approx(1)
    # the groups of images have all people, who have points
    pointed = sum("dp_x" in annotation for annotation in official[0]["annotations"])
    for groups in ("by_people", "by_overlap"):
        assert sum(row["people"] for row in diagnosed[groups].values()) == pointed


def test_a_group_s_ap_is_the_metric_s_on_its_images_alone(official):
    gt, results, surface = official
    found = diagnose(*inspect_scenes(gt, results, surface))["by_people"]
    numbers = [a["image_id"] for a in gt["annotations"] if not a["iscrowd"]]
    many = {image for image in numbers if numbers.count(image) >= 5}
    few = {
        "categories": gt["categories"],
        "images": [one for one in gt["images"] if one["id"] in many],
        "annotations": [one for one in gt["annotations"] if one["image_id"] in many],
    }
    kept = [one for one in results if one["image_id"] in many]
    expected = evaluate_densepose(few, kept, surface)["gpsm"]
    assert 0 < found["5+"]["images"] == len(many) < len(gt["images"])
    for name in ("AP", "AP50", "AR"):
        assert found["5+"][name] == pytest.approx(expected[name], abs=1e-12)


def test_a_size_s_ap_is_that_of_the_metric_s_area_range(official, monkeypatch):
    monkeypatch.setattr(diagnosis, "SIDES", {"m": (32, 96), "l": (96, 1e5)})
    gt, results, surface = official
    found = diagnose(*inspect_scenes(gt, results, surface))["by_size"]
    expected = evaluate_densepose(gt, results, surface)["gpsm"]
    for name in "ml":
        assert found[name]["AP"] == pytest.approx(expected[f"AP{name}"], abs=1e-12)
        assert found[name]["AR"] == pytest.approx(expected[f"AR{name}"], abs=1e-12)


def test_without_results_everybody_is_missed():
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    whole = evaluate_results(gt, [], LINE)
    found = whole["diagnosis"]
    assert set(whole["gpsm"].values()) == {-1}  # as the official code has it
    assert found["errors"]["missed"] == {"count": 2, "gain": 1}
    assert found["by_people"]["1"]["AP"] == 0
    assert [row["missed"] for row in found["worst"]] == [1, 1]
    assert found["by_part"]["torso"] == {"gps": -1, "points": 0}
    assert "missed" in format_diagnosis(found)


def test_the_table_shows_every_group():
    gt = dataset(annotation(1), annotation(2, image=2), images=(1, 2))
    lines = format_diagnosis(diagnosed(gt, [result(0.9), result(0.8, u=1)])).splitlines()
    cells = {line[:34].strip(): line[34:].split() for line in lines}
    assert cells["GPSm by people in the image"] == ["AP", "AP50", "AR", "people"]
    # recalls 0 .. .5 are 51 of 101
    assert cells["1"] == ["50.5", "50.5", "50.0", "2"]
    assert cells["96-192"][-1] == "2" and cells["192+"] == ["-", "-", "-", "0"]
    assert cells["missed"] == ["49.5", "1"]
    assert cells["torso"] == ["100.0", "1"] and cells["right"] == ["100.0"]
    assert lines[-1] == "best images (GPSm): 1 (100), 2 (0)"
