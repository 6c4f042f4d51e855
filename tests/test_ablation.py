"""The labels that the ablation takes away."""

import numpy as np

from benchmarks import ablation


def annotated(number, points):
    lists = {field: [float(i) for i in range(points)] for field in ablation.DENSE_FIELDS}
    return {"id": number, "bbox": [0, 0, 9, 9], "dp_masks": [[]] * 14, **lists}


def test_thinning_keeps_the_asked_share_of_points_row_by_row():
    people = [annotated(number, 50) for number in range(1, 41)] + [{"id": 99}]
    assert ablation.thin(people, 0.2, 1.0) == 40 * 10
    for person in people[:-1]:
        rows = np.array([person[field] for field in ablation.DENSE_FIELDS])
        assert rows.shape == (5, 10) and (np.diff(rows[0]) > 0).all()
        assert (rows == rows[0]).all()  # a point keeps its own chart, U and V
    assert people[-1] == {"id": 99}


def test_people_who_lose_their_points_lose_all_dense_labels_and_nothing_else():
    people = [annotated(number, 5) for number in range(1, 401)]
    left = ablation.thin(people, 1.0, 0.3)
    kept = [person for person in people if "dp_x" in person]
    assert left == 5 * len(kept) and 0.2 < len(kept) / 400 < 0.4
    bare = [person for person in people if "dp_x" not in person]
    assert all(set(person) == {"id", "bbox"} for person in bare)


def test_the_table_has_mean_and_spread_in_percent():
    def stats(ap):
        return {"gpsm": {"AP": ap}, "gps": {"AP": 0.1}, "iou": {"AP": 0.1},
                "parts_miou": 0.5, "keypoints": {"AP": 0.1}}  # fmt: skip

    line = ablation.table({"mid": [stats(0.2), stats(0.3), stats(0.4)]}).splitlines()[-1]
    assert line.startswith("| mid | 30.0 ± 10.0 | 10.0 ± 0.0 |")
