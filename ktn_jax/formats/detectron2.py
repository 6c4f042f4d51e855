"""What detectron2's `apply_net.py dump` says of an image, without torch or densepose.

The names and layouts are the dump's: pred_boxes_XYXY, scores, and for each person labels
(charts of its box) and uv (two planes in [0, 1]). The .npz needs no pickle; the pickle
has the dump's nesting and names no class outside numpy and python.
"""

import io
import pickle
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ktn_jax.formats.arrays import packed
from ktn_jax.records import Prediction

PROTOCOL = 4  # every python 3 since 3.4 reads it


def dump(people: Sequence[Prediction], file_name: str) -> dict[str, Any]:
    """One image's dictionary, its tensors as arrays.

    pred_boxes_XYXY: [n, 4] f32, right and bottom exclusive.   scores: [n] f32.
    pred_densepose: n objects with .labels [h, w] i64 and .uv [2, h, w] f32.
    """
    boxes = np.array([p.bbox for p in people], np.float32).reshape(-1, 4)
    return {
        "file_name": file_name,
        "scores": np.array([p.score for p in people], np.float32),
        "pred_boxes_XYXY": np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]],
        "pred_densepose": [
            SimpleNamespace(
                labels=p.iuv[..., 0].astype(np.int64),
                uv=np.moveaxis(p.iuv[..., 1:], -1, 0).astype(np.float32) / 255,
            )
            for p in people
        ],
    }


def dump_npz(people: Sequence[Prediction], file_name: str) -> bytes:
    """The dump as .npz: file_name, scores, pred_boxes_XYXY, labels_K and uv_K."""
    content = dump(people, file_name)
    arrays = {"file_name": np.array(file_name)}
    arrays |= {name: content[name] for name in ("scores", "pred_boxes_XYXY")}
    for number, one in enumerate(content["pred_densepose"]):
        # charts fit u8; as i64 the file would unpack to eight times the size
        arrays[f"labels_{number}"] = one.labels.astype(np.uint8)
        arrays[f"uv_{number}"] = one.uv
    return packed(arrays)


def dump_pickle(people: Sequence[Prediction], file_name: str) -> bytes:
    """The dump as a pickle: a list of this image's one dictionary."""
    stream = io.BytesIO()
    _Pickler(stream, PROTOCOL).dump([dump(people, file_name)])
    return stream.getvalue()


class _Pickler(pickle.Pickler):
    """Writes arrays by the names numpy.ndarray alone.

    numpy 2 would write numpy._core..., which the numpy of old environments lacks.
    """

    def reducer_override(self, obj: Any) -> Any:
        """How to build an array again; everything else as usual."""
        if not isinstance(obj, np.ndarray):
            return NotImplemented
        plain = np.ascontiguousarray(obj)
        return np.ndarray, (plain.shape, plain.dtype.str, bytearray(plain.tobytes()))
