"""Maps and masks as files have them: base64 of a PNG, plain arrays, run lengths.

A map iuv [h, w, 3] u8 is (chart, 255 U, 255 V) of a person's box.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ktn_jax.errors import UserError
from ktn_jax.evaluation.results import Stored
from ktn_jax.runs import uncompress_all

UV_LEVELS = 255.0  # a map holds U and V as u8 / 255


def encode_iuv(iuv: np.ndarray) -> tuple[list[int], str]:
    """(uv_shape, uv_data) of a map iuv [h, w, 3] u8: base64 of an RGB PNG."""
    iuv = np.asarray(iuv)
    if iuv.dtype != np.uint8 or iuv.ndim != 3 or iuv.shape[2] != 3:
        raise ValueError(f"an iuv map is uint8 [h, w, 3], not {iuv.dtype} {iuv.shape}")
    png = io.BytesIO()
    Image.fromarray(iuv).save(png, format="png", optimize=True)
    data = base64.encodebytes(png.getvalue()).decode("ascii")
    return [3, iuv.shape[0], iuv.shape[1]], data


def decode_iuv(uv_shape: tuple[int, int, int], uv_data: str) -> np.ndarray:
    """The map [h, w, 3] u8 of (uv_shape, uv_data); inverse of encode_iuv."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(uv_data)), formats=["PNG"]) as png:
            iuv = np.asarray(png if png.mode == "RGB" else png.convert("RGB"))
    except (OSError, ValueError) as error:
        raise UserError(f"uv_data is not the base64 of a PNG: {error}") from error
    if [3, *iuv.shape[:2]] != list(uv_shape):
        raise UserError(
            f"uv_shape {list(uv_shape)} is not the shape of its PNG, which is "
            f"{iuv.shape[0]} x {iuv.shape[1]}; it is (3, height, width)"
        )
    return iuv


def read_iuv(entry: dict[str, Any]) -> np.ndarray:
    """The map [h, w, 3] u8 (chart, 255 U, 255 V) of a result, in any of its forms.

    uv_shape and uv_data          the challenge's
    shape_chw and labels_uv_str   detectron2's compressed chart result, the same PNG
    labels_uv_uint8 [3, h, w]     its quantized chart result
    labels [h, w], uv [2, h, w]   its plain one, U and V as 0..1 or as u8
    uv [3, h, w] u8               Caffe2's
    iuv [h, w, 3] u8              ours, of npz files
    They lie in the result itself or in its "densepose", a dictionary or an object.
    """
    entry = entry.whole() if isinstance(entry, Stored) else entry
    holder = entry.get("densepose", entry)
    fields = holder if isinstance(holder, dict) else vars(holder)
    if "uv_data" in fields:
        return decode_iuv(fields["uv_shape"], fields["uv_data"])
    if "labels_uv_str" in fields:
        return decode_iuv(fields["shape_chw"], fields["labels_uv_str"])
    if "labels" in fields and "uv" in fields:
        return _quantize(np.asarray(fields["labels"]), np.asarray(fields["uv"]))
    for name, axis in (("labels_uv_uint8", 0), ("uv", 0), ("iuv", -1)):
        if name in fields:
            return _check_iuv(np.moveaxis(np.asarray(fields[name]), axis, -1), name)
    raise UserError(
        f"a result with the fields {sorted(fields)} has no map; expected are uv_shape "
        "and uv_data, or detectron2's densepose"
    )


def decode_rle(encoded: dict[str, Any]) -> np.ndarray:
    """The mask [h, w] bool of COCO's compressed run lengths."""
    return decode_rles([encoded])[0]


def decode_rles(encoded: Sequence[dict[str, Any]]) -> np.ndarray:
    """The masks [n, h, w] bool of COCO's compressed run lengths of one size, n >= 1."""
    counts, size = [one["counts"] for one in encoded], tuple(encoded[0]["size"])
    try:
        runs = uncompress_all(counts)
    except ValueError as error:
        shown = counts[0] if len(counts) == 1 else counts
        raise UserError(
            f"the run lengths {shown[:20]!r}... of a mask are damaged"
        ) from error
    for one, lengths in zip(encoded, runs, strict=True):
        if tuple(one["size"]) != size or not _fill(lengths, size):
            raise UserError(
                f"the run lengths {one['counts'][:20]!r}... do not fill a mask {size}"
            )
    odd = np.concatenate([np.arange(len(lengths)) % 2 == 1 for lengths in runs])
    masks = np.repeat(odd, np.concatenate(runs))
    return masks.reshape(-1, *size[::-1]).transpose(0, 2, 1)


def _fill(runs: np.ndarray, size: tuple[int, int]) -> bool:
    return runs.min() >= 0 and runs.sum() == size[0] * size[1]


def _quantize(labels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[h, w, 3] u8 of labels [h, w] and uv [2, h, w], which is u8 or in 0..1."""
    if labels.ndim != 2 or uv.shape != (2, *labels.shape):
        raise UserError(
            f"labels of shape {labels.shape} with uv of shape {uv.shape}; expected are "
            "[h, w] and [2, h, w]"
        )
    if uv.dtype.kind == "f":  # to be cut, not rounded, as detectron2 does it
        uv = np.clip(np.nan_to_num(uv * UV_LEVELS), 0, UV_LEVELS).astype(np.uint8)
    return _check_iuv(np.stack([labels, *uv], axis=-1), "labels and uv")


def _check_iuv(iuv: np.ndarray, name: str) -> np.ndarray:
    """The map as u8, if it is one."""
    whole = iuv.dtype.kind in "ui"
    if iuv.ndim != 3 or iuv.shape[-1] != 3 or not whole or not _is_byte(iuv):
        raise UserError(
            f"{name} is {iuv.dtype} {list(iuv.shape)}; expected are bytes 0..255 of a "
            "chart, 255 U and 255 V"
        )
    return iuv.astype(np.uint8)


def _is_byte(numbers: np.ndarray) -> bool:
    return numbers.min(initial=0) >= 0 and numbers.max(initial=0) <= 255
