"""What counts as right on a photograph: a person painted by hand."""

import json

import numpy as np

from benchmarks.photographs import EXAMPLES, check_person
from ktn_jax.anatomy import KEYPOINTS
from ktn_jax.data.annotations import read_people
from ktn_jax.records import Person, Prediction

SIZE = 10
LEFT_KNEE, RIGHT_KNEE = (KEYPOINTS.index(f"{side}_knee") for side in ("left", "right"))


def annotated():
    """Ten rows of the columns 2 to 5; two visible knees, a hidden nose."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, 2:6] = True
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[LEFT_KNEE] = 6.5, 4.5, 2
    keypoints[RIGHT_KNEE] = 6.5, 2.5, 2
    keypoints[KEYPOINTS.index("nose")] = 1.5, 3.5, 1  # hidden: not counted
    box = np.array([2, 0, 4, 10], np.float32)
    return Person(1, box, 40.0, False, mask, keypoints, None, None)


def found(x, width, chart, score=0.9):
    iuv = np.full((SIZE, width, 3), chart, np.uint8)
    parts, keypoints = np.zeros((SIZE, width), np.uint8), np.zeros((17, 3))
    bbox = np.array([x, 0, width, SIZE], np.int32)
    return Prediction(0, bbox, score, 0.8, iuv, parts, keypoints)


def test_the_best_overlap_counts_and_a_chart_must_suit_its_keypoint():
    # columns 3 to 7 share three of the person's 2 to 5, six in all: 30 of 60 pixels; the
    # other has 10 of 40. Chart 14 is the front of the left shin
    answer = check_person(annotated(), [found(2, 1, 23, 0.99), found(3, 5, 14, 0.7)])
    # the left knee lies on 14, the right knee on a pixel of nobody
    assert answer == {"score": 0.7, "mask_iou": round(30 / 60, 3), "keypoints": 0.5}
    other_side = check_person(annotated(), [found(3, 5, 13)])
    assert other_side["keypoints"] == 0.0


def test_nobody_found_is_nothing_right():
    answer = check_person(annotated(), [])
    assert answer == {"score": 0.0, "mask_iou": 0.0, "keypoints": 0.0}


def test_the_skier_s_annotation_is_read_whole():
    coco = json.loads((EXAMPLES / "skier.json").read_text())
    [person] = read_people(coco["annotations"], 425, 640)
    assert abs(person.mask.sum() / person.area - 1) < 0.01
    assert (person.keypoints[:, 2] == 2).all()
    inside = [person.mask[int(y), int(x)] for y, x, _ in person.keypoints]
    assert np.mean(inside) > 0.9
