"""Results as COCO's tools read them: DensePose's challenge form, masks, keypoints.

A list of one entry a person. Coordinates are pixels of the photograph; a keypoint on the
centre of the top left pixel is (0, 0), as in COCO's own annotations.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ktn_jax.evaluation.encoded import encode_iuv
from ktn_jax.records import Prediction

Entry = dict[str, Any]

PERSON = 1  # COCO's category
_COMMON = ("image_id", "category_id", "score")


def result_entry(person: Prediction, size: tuple[int, int]) -> Entry:
    """A prediction as one entry of a results file: challenge form, plus COCO's fields.

    size: (height, width) of the image. Keypoints are pixel indices, as COCO's are.
    quality is the predicted mask IoU, confidence the mean probability of the charts over
    the person's pixels (not there where an export is too old to say).
    """
    x, y, width, height = (int(v) for v in person.bbox)
    seen = person.iuv[..., 0] > 0
    mask = np.zeros(size, np.uint8, order="F")
    mask[y : y + height, x : x + width] = seen
    rle = coco_mask.encode(mask)
    uv_shape, uv_data = encode_iuv(person.iuv)
    joints = np.c_[person.keypoints[:, 1::-1] - 0.5, person.keypoints[:, 2]]
    entry = {
        "image_id": person.image_id,
        "category_id": PERSON,
        "score": round(person.score, 6),
        "bbox": [x, y, width, height],
        "uv_shape": list(uv_shape),
        "uv_data": uv_data,
        "keypoints": [round(float(v), 3) for v in joints.ravel()],
        "segmentation": {"size": list(size), "counts": rle["counts"].decode("ascii")},
        "quality": round(person.quality, 4),
    }
    if person.confidence is not None:
        mean = person.confidence[seen].sum() / max(seen.sum(), 1) / 255
        entry["confidence"] = round(float(mean), 4)
    return entry


def entries(
    people: Sequence[Prediction], size: tuple[int, int], image_id: int | str
) -> list[Entry]:
    """Challenge form with keypoints and masks, of one image."""
    return [{**result_entry(person, size), "image_id": image_id} for person in people]


def only(found: Sequence[Entry], field: str) -> list[Entry]:
    """COCO results of one kind. field: "segmentation" or "keypoints".

    They carry no bbox: with one in it, pycocotools takes its area for the object's.
    """
    return [{name: entry[name] for name in (*_COMMON, field)} for entry in found]
