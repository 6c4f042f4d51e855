"""One image's people as arrays in a .npz, which numpy reads without pickle.

People differ in size, so each has arrays of its own, numbered from 0, best score first.
"""

import io
from collections.abc import Sequence

import numpy as np

from ktn_jax.anatomy import NUM_KEYPOINTS
from ktn_jax.records import Prediction


def npz(people: Sequence[Prediction], size: tuple[int, int]) -> bytes:
    """A .npz of n people:

    size [2] i32 (height, width) of the photograph; bbox [n, 4] i32 (x, y, width, height);
    score, quality [n] f32; keypoints [n, 17, 3] f32 (x, y, score), pixel centres at +0.5;
    of person K's box [height, width]: iuv_K [.., 3] u8 (chart, 255 U, 255 V), parts_K u8,
    and confidence_K u8, 255 times the probability that the chart is right (not there
    where an export is too old to say).
    """
    arrays = {
        "size": np.array(size, np.int32),
        "bbox": np.array([p.bbox for p in people], np.int32).reshape(-1, 4),
        "score": np.array([p.score for p in people], np.float32),
        "quality": np.array([p.quality for p in people], np.float32),
        "keypoints": np.array(
            [p.keypoints[:, [1, 0, 2]] for p in people], np.float32
        ).reshape(-1, NUM_KEYPOINTS, 3),
    }
    for number, person in enumerate(people):
        arrays[f"iuv_{number}"] = person.iuv
        arrays[f"parts_{number}"] = person.parts
        if person.confidence is not None:
            arrays[f"confidence_{number}"] = person.confidence
    return packed(arrays)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """The compressed .npz of named arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
