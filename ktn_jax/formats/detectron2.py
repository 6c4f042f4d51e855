"""What detectron2's `apply_net.py dump` says of an image, without torch or densepose.

The names and layouts are the dump's: pred_boxes_XYXY, scores, and for each person labels
(charts of its box) and uv (two planes in [0, 1]). The .npz needs no pickle; the .pkl is
what the dump itself would be, for scripts that read it.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ktn_jax.formats.arrays import packed
from ktn_jax.formats.torch_file import Foreign, saved
from ktn_jax.records import Prediction

RESULT = ("densepose.structures.chart_result", "DensePoseChartResultWithConfidences")
# the class's other attributes: None, as of detectron2's models without confidences
CONFIDENCES = ("sigma_1", "sigma_2", "kappa_u", "kappa_v", "fine_segm_confidence",
               "coarse_segm_confidence")  # fmt: skip


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


def dump_torch(people: Sequence[Prediction], file_name: str) -> bytes:
    """The dump as torch.save writes it: a list of this image's one dictionary.

    Its people are detectron2's own class, which whoever loads the file must have.
    """
    content = dump(people, file_name)
    charts = [
        Foreign(*RESULT, vars(one) | dict.fromkeys(CONFIDENCES))
        for one in content["pred_densepose"]
    ]
    return saved([content | {"pred_densepose": charts}])
