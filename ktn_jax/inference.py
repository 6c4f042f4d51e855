"""From images of any size to Predictions: letterbox, one compiled call, back to pixels.

The compiled call is normalisation, network, grouping and the dense maps in one; what is
left for the host is cutting each person's maps out of the canvas.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ktn_jax import mirror, scales
from ktn_jax.codec import Codec
from ktn_jax.geometry import Affine
from ktn_jax.models.network import CANVAS_MULTIPLE, KTN
from ktn_jax.records import Prediction
from ktn_jax.structs import Array, Fields, Instances

Predict = Callable[[np.ndarray], Instances]  # [B, H, W, 3] u8 -> Instances


def predict(
    variables: Mapping[str, Any],
    image: Array,
    *,
    network: KTN,
    codec: Codec,
    flip_test: bool,
    three_sizes: bool = False,
) -> Instances:
    """People in a batch of canvases. image: [B, H, W, 3] u8 RGB. To be jitted.

    flip_test: whether the fields are the mean over the image and its mirror image, which
    costs twice the time and mends some exchanges of left and right.   three_sizes: whether
    large people are read on a smaller canvas and small ones on a larger (scales.join);
    costs three and a half times as much.
    """
    fields = _fields(variables, image, network, flip_test)
    if three_sizes:
        others = (
            scales.resize(image, tenths, CANVAS_MULTIPLE)
            for tenths in (scales.SMALLER, scales.LARGER)
        )
        fields = scales.join(
            fields, *(_fields(variables, x, network, flip_test) for x in others)
        )
    return codec.decode(fields)


def _fields(
    variables: Mapping[str, Any], image: Array, network: KTN, flip_test: bool
) -> Fields:
    fields = network.apply(variables, image)
    if not flip_test:
        return fields
    mirrored = network.apply(variables, mirror.flip(image))
    return mirror.average(fields, mirror.mirror_fields(mirrored))


def build_predict(
    network: KTN, codec: Codec, variables: Mapping[str, Any], *, flip_test: bool
) -> Predict:
    """The compiled prediction with its weights; flip_test as of `predict`."""
    whole = functools.partial(predict, network=network, codec=codec, flip_test=flip_test)
    return functools.partial(jax.jit(whole), variables)


def unpack(
    instances: Instances,
    to_image: Affine,
    size: tuple[int, int],
    image_id: int,
) -> list[Prediction]:
    """The people of one canvas in pixels of the file's image, best first.

    instances: one image's, host arrays, without batch axis.   to_image: canvas -> image.
    size: (height, width) of the image.
    """
    maps = [
        None if plane is None else to_image.labels(plane, size, outside)
        for plane, outside in [
            (instances.owner, -1),
            (instances.chart, 0),
            (instances.uv[..., 0], 0),
            (instances.uv[..., 1], 0),
            (instances.parts, 0),
            (instances.confidence, 0),
        ]
    ]
    people = [
        _person(k, instances, to_image, maps, image_id)
        for k in np.flatnonzero(instances.valid)
    ]
    return sorted((p for p in people if p is not None), key=lambda p: -p.score)


def _person(
    k: int,
    instances: Instances,
    to_image: Affine,
    maps: list[np.ndarray | None],
    image_id: int,
) -> Prediction | None:
    """Instance k, or None where its box holds no pixel of the image."""
    owner, chart, u, v, parts, confidence = maps
    corners = to_image(instances.box[k].reshape(2, 2))
    size = np.array(owner.shape)
    y0, x0 = np.clip(np.floor(corners[0] + 0.5).astype(int), 0, size)
    y1, x1 = np.clip(np.floor(corners[1] + 0.5).astype(int), 0, size)
    box = np.s_[y0:y1, x0:x1]
    mine = owner[box] == k
    if not mine.any():
        return None
    keypoints = instances.keypoints[k].copy()
    keypoints[:, :2] = to_image(keypoints[:, :2])
    return Prediction(
        image_id=image_id,
        bbox=np.array([x0, y0, x1 - x0, y1 - y0], np.int32),
        score=float(instances.score[k]),
        quality=float(instances.quality[k]),
        iuv=np.stack([chart[box], u[box], v[box]], axis=-1) * mine[..., None],
        parts=parts[box] * mine,
        keypoints=keypoints,
        tag=None if instances.tag is None else instances.tag[k],
        confidence=None if confidence is None else confidence[box] * mine,
    )


def host(instances: Instances) -> Instances:
    """The same Instances as numpy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(instances))


def one_image(instances: Instances, row: int) -> Instances:
    """One image's Instances of a batch's, without batch axis."""
    return jax.tree.map(lambda x: x[row], instances)
