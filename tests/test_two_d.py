"""Keypoint AP, person mask AP, part mIoU; the table; files that are not what they seem."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as rle

from ktn_jax.errors import UserError
from ktn_jax.evaluation.challenge import group_scenes, load_ground_truth
from ktn_jax.evaluation.results import load_results
from ktn_jax.evaluation.table import format_table, write_json
from ktn_jax.evaluation.two_d import (
    evaluate_keypoints,
    evaluate_masks,
    mean_iou,
    part_confusion,
    part_iou,
)

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
AREA = 10_000


def nose(x, y, visible=2):
    """Keypoints of which only the nose is labelled."""
    return [x, y, visible] + [0] * 48


def dataset(**fields):
    box = [0, 0, 100, 100]
    ann = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": box,
        "area": AREA,
        "iscrowd": 0,
    }
    return {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "annotations": [ann | fields],
        "categories": [{"id": 1, "name": "person"}],
    }


def result(**fields):
    box = [0, 0, 100, 100]  # a large one: neither measure may look at it
    return {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": box} | fields


# --- keypoints -----------------------------------------------------------------------


def test_keypoints_score_by_oks():
    # the nose is 3.8 off: exp(-3.8^2 / (2 x 10000 x (2 x .026)^2)) = exp(-14.44 / 54.08)
    # = .7657, which passes .5 .. .75: 6 of 10 thresholds
    gt = dataset(keypoints=nose(50, 50), num_keypoints=1)
    found = evaluate_keypoints(gt, [result(keypoints=nose(53.8, 50, 0.3))])
    assert found == pytest.approx(
        dict.fromkeys(STATS, 0.6)
        | dict.fromkeys(("AP50", "AP75", "AR50", "AR75"), 1)
        | dict.fromkeys(("APm", "ARm"), -1)
    )


def test_the_number_of_keypoints_is_counted_if_it_is_not_given():
    gt = dataset(keypoints=nose(50, 50))
    gt["annotations"].append(gt["annotations"][0] | {"id": 2, "keypoints": []})
    found = evaluate_keypoints(gt, [result(keypoints=nose(50, 50))])
    assert found["AP"] == pytest.approx(1)  # a person without any is ignored


def test_nothing_is_printed_and_no_argument_is_changed(capsys):
    gt = dataset(keypoints=nose(50, 50), segmentation=[[0, 0, 9, 0, 9, 9]])
    results = [result(keypoints=nose(50, 50), segmentation=square_mask(10))]
    before = copy.deepcopy((gt, results))
    evaluate_keypoints(gt, results)
    evaluate_masks(gt, results)
    assert (gt, results) == before
    assert capsys.readouterr().out == ""


def test_what_is_not_there_is_none():
    gt = dataset(keypoints=nose(50, 50), segmentation=[[0, 0, 9, 0, 9, 9]])
    assert evaluate_keypoints(gt, [result()]) is None
    assert evaluate_keypoints(gt, []) is None
    assert evaluate_keypoints(dataset(), [result(keypoints=nose(50, 50))]) is None
    assert evaluate_masks(gt, [result()]) is None
    assert evaluate_masks(dataset(), [result(segmentation=square_mask(10))]) is None


def test_keypoints_of_another_length_are_refused():
    with pytest.raises(
        UserError, match="image 1 has 3 numbers in keypoints; expected are 51"
    ):
        evaluate_keypoints(dataset(keypoints=nose(1, 1)), [result(keypoints=[1, 2, 3])])


# --- person masks --------------------------------------------------------------------


def square_mask(side, columns=None):
    mask = np.zeros((200, 200), np.uint8, order="F")
    mask[:side, : columns or side] = 1
    encoded = rle.encode(mask)
    return {"size": [200, 200], "counts": encoded["counts"].decode("ascii")}


def test_masks_are_compared_by_their_pixels():
    # 100 x 82 of 100 x 100 pixels: IoU .82 passes .5 .. .8, 7 of 10 thresholds
    gt = dataset(segmentation=[[0, 0, 100, 0, 100, 100, 0, 100]])
    found = evaluate_masks(gt, [result(segmentation=square_mask(100, 82))])
    assert (found["AP"], found["AP50"], found["APl"]) == pytest.approx((0.7, 1, 0.7))
    assert found["APm"] == -1


def test_a_mask_counts_in_the_range_of_its_own_area():
    # a wrong mask of 40 x 40 = 1600 pixels is no error among the large, though before
    # the right one in score; among all it halves the precision
    gt = dataset(segmentation=[[0, 0, 100, 0, 100, 100, 0, 100]])
    right, wrong = (result(segmentation=square_mask(side)) for side in (100, 40))
    found = evaluate_masks(gt, [wrong | {"score": 0.9}, right])
    assert (found["AP"], found["APl"]) == pytest.approx((0.5, 1))


def test_people_without_a_segmentation_do_not_exist_for_masks():
    gt = dataset(segmentation=[[0, 0, 100, 0, 100, 100, 0, 100]])
    gt["annotations"].append(gt["annotations"][0] | {"id": 2, "segmentation": []})
    found = evaluate_masks(gt, [result(segmentation=square_mask(100))])
    assert found["AP"] == pytest.approx(1)


# --- parts ---------------------------------------------------------------------------


def test_part_iou_by_hand():
    # part 1: 2 pixels right, 1 of it called background, and 1 of background called it:
    # 2 / 4. Part 2: never found, 0 / 1. Background: 1 / 3. The unknown pixel is out,
    # and so is part 3, which only the prediction has.
    target = np.array([[1, 1, 1, 0], [0, 2, 255, 0]], np.uint8)
    predicted = np.array([[1, 1, 0, 1], [0, 0, 14, 3]], np.uint8)
    confusion = part_confusion(predicted, target)
    assert confusion.sum() == 7 and confusion[1, 0] == 1 and confusion[0, 3] == 1
    iou = part_iou(confusion)
    np.testing.assert_allclose(iou[:3], [1 / 5, 2 / 4, 0])
    assert np.isnan(iou[3:]).all()
    assert mean_iou(confusion) == pytest.approx((2 / 4 + 0) / 2)


def test_confusions_of_images_add_up():
    rng = np.random.default_rng(0)
    predicted, target = rng.integers(0, 15, (2, 6, 30, 20), np.uint8)
    whole = part_confusion(predicted, target)
    split = sum(part_confusion(p, t) for p, t in zip(predicted, target, strict=True))
    np.testing.assert_array_equal(split, whole)
    for part in range(15):  # against sets of pixels
        a, b = predicted == part, target == part
        assert part_iou(whole)[part] == pytest.approx((a & b).sum() / (a | b).sum())
    assert mean_iou(whole) == pytest.approx(part_iou(whole)[1:].mean())


def test_without_any_part_the_mean_is_minus_1():
    nothing = np.zeros((4, 4), np.uint8)
    assert mean_iou(part_confusion(nothing, nothing)) == -1


def test_wrong_part_maps_are_refused():
    part = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(4, 4\); resize"):
        part_confusion(np.zeros((4, 5), np.uint8), part)
    for predicted, target in ((part + 15, part), (part, part + 15), (part + 255, part)):
        with pytest.raises(ValueError, match=r"not one of 0\.\.14"):
            part_confusion(predicted, target)


# --- the table -----------------------------------------------------------------------


def test_the_table_shows_percent_and_leaves_out_what_is_absent(tmp_path):
    stats = dict.fromkeys(STATS, 0.5) | {"AP": 0.71234, "APm": -1}
    evaluation = {"gps": stats, "gpsm": stats | {"AP": 1.0}, "keypoints": None}
    assert format_table(evaluation | {"parts_miou": 0.25}) == (
        "                   AP   AP50   AP75    APm    APl\n"
        "DensePose GPSm  100.0   50.0   50.0      -   50.0\n"
        "DensePose GPS    71.2   50.0   50.0      -   50.0\n"
        "parts mIoU       25.0"
    )
    write_json(tmp_path / "new" / "ap.json", evaluation)
    assert json.loads((tmp_path / "new" / "ap.json").read_text()) == evaluation


# --- files ---------------------------------------------------------------------------


def test_results_that_are_not_of_this_ground_truth_are_refused():
    lines = (
        (result(image_id=7), r"images \[7\] \(1 in all\) .* not in the ground truth"),
        ({"image_id": 1, "bbox": []}, r"result 2 has no \['category_id', 'score'\]"),
        (result(score=float("nan")), "four finite numbers"),
        (result(bbox=[0, 0, 1]), "four finite numbers"),
    )
    for entry, message in lines:
        with pytest.raises(UserError, match=message):
            group_scenes(dataset(), [result(), entry])
    with pytest.raises(
        UserError, match=r"categories \[0\], but the ground truth has \[1\]"
    ):
        group_scenes(dataset(), [result(category_id=0)])
    # beside people, other categories are as good as absent
    (scene,) = group_scenes(dataset(), [result(category_id=5), result()])
    assert [found.id for found in scene.detections] == [2]


def test_files_that_are_no_ground_truth_say_what_is_expected(tmp_path):
    path = tmp_path / "gt.json"
    with pytest.raises(UserError, match="is not there; expected is a DensePose-COCO"):
        load_ground_truth(path)
    points = {name: [1.0] for name in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")}
    chartless = {name: points[name] for name in points if name != "dp_I"}
    for content, message in (
        ("{", "is no json"),
        ("[]", "has no .*annotations"),
        (json.dumps(dataset()), "no dp_x in any of its 1 annotations.*without DensePose"),
        (json.dumps(dataset(**points | {"dp_U": [0, 0]})), "annotation 1 .*'dp_U': 2"),
        (json.dumps(dataset(**chartless)), r"annotation 1 .* no \['dp_I'\]"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            load_ground_truth(path)
    path.write_text(json.dumps(dataset(**points)))
    assert load_ground_truth(path) == dataset(**points)
    with pytest.raises(UserError, match="holds a dict; expected is a list"):
        load_results(path)
