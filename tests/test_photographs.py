"""What counts as right on a photograph: a person painted by hand."""

import json

import numpy as np

from benchmarks.photographs import EXAMPLES, Photo, check_person, check_pixels, summarize
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


def test_pixels_of_crowds_count_neither_way():
    # the person has the columns 2 to 5, a crowd 5 to 7; found are 4 to 6 and 9: of
    # people 4 and 5 are right, 2 and 3 missed, 9 is nobody, 6 is the crowd's
    crowd = annotated()._replace(crowd=True, mask=np.roll(annotated().mask, 2, axis=1))
    crowd.mask[:, :5] = False
    people = [annotated(), crowd]
    photo = check_pixels(people, [found(4, 3, 1), found(9, 1, 1)], (SIZE, SIZE))
    assert photo == Photo(both=20, truth=40, shown=30, pixels=100, people=2, found=2)
    assert photo.iou == 0.4


def test_the_summary_weighs_photographs_people_and_keypoints_alike():
    one = {"pixels": 1000, "people": 1, "found": 1}
    photos = [
        Photo(both=10, truth=30, shown=20, **one),
        Photo(both=60, truth=70, shown=70, **one),
        Photo(both=0, truth=9, shown=0, **one),  # hardly anybody: not counted
        Photo(both=0, truth=0, shown=5, **one),  # a crowd alone
        Photo(both=0, truth=0, shown=7, **one | {"people": 0}),
        Photo(both=0, truth=0, shown=0, **one | {"people": 0, "found": 0}),
    ]
    line = {"side": 100, "mask_iou": 0.8, "visible": 3, "keypoints": 1.0}
    lines = [line, line | {"mask_iou": 0.2, "visible": 1, "keypoints": 0.0}]
    lines.append(line | {"side": 31, "visible": 0, "keypoints": float("nan")})
    answer = summarize(photos, lines)
    assert answer["iou"] == answer["iou_median"] == 0.5
    assert abs(answer["iou_pooled"] - 70 / 120) < 1e-12
    assert (answer["precision"], answer["recall"]) == (70 / 90, 70 / 100)
    assert (answer["of_nobody"], answer["somebody_there"]) == (2, 0.5)
    large = {"people": 2, "mask_iou": 0.5, "found": 0.5, "visible": 4, "keypoints": 0.75}
    assert answer["large"] == large
    assert answer["small"] == {"people": 1, "mask_iou": 0.8, "found": 1.0}
    assert "medium" not in answer


def test_the_skier_s_annotation_is_read_whole():
    coco = json.loads((EXAMPLES / "skier.json").read_text())
    [person] = read_people(coco["annotations"], 425, 640)
    assert abs(person.mask.sum() / person.area - 1) < 0.01
    assert (person.keypoints[:, 2] == 2).all()
    inside = [person.mask[int(y), int(x)] for y, x, _ in person.keypoints]
    assert np.mean(inside) > 0.9
