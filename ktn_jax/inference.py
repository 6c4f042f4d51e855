"""From images of any size to Predictions: letterbox, one compiled call, back to pixels.

The compiled call is normalisation, network, grouping and the dense maps in one; what is
left for the host is cutting each person's maps out of the canvas.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ktn_jax import mirror, scales
from ktn_jax.codec import Codec
from ktn_jax.geometry import Affine, Corners, vote
from ktn_jax.models.network import CANVAS_MULTIPLE, KTN
from ktn_jax.records import Prediction
from ktn_jax.structs import Array, Fields, Instances

STRIP = 1 << 16  # pixels that are read at once, so that large photographs stay in cache
VALUES = (1, 2, 4)  # channels of _strip that are U, V and confidence
Predict = Callable[[np.ndarray], Instances]  # [B, H, W, 3] u8 -> Instances


def predict(
    variables: Mapping[str, Any],
    image: Array,
    *,
    network: KTN,
    codec: Codec,
    flip_test: bool,
    compete: bool = False,
    join: bool = False,
) -> Instances:
    """People in a batch of canvases. image: [B, H, W, 3] u8 RGB. To be jitted.

    flip_test: whether the fields are the mean over the image and its mirror image, which
    costs twice the time and mends some exchanges of left and right.   compete: whether
    large people are looked for on smaller canvases, too, and are taken from where they
    score higher (scales.bring_large); costs seven quarters as much.   join: whether
    large people are read on a smaller canvas and small ones on a larger (scales.join);
    costs three and a half times as much.
    """
    fields = _fields(variables, image, network, flip_test)
    if join:
        others = (
            scales.resize(image, tenths, CANVAS_MULTIPLE)
            for tenths in (scales.SMALLER, scales.LARGER)
        )
        fields = scales.join(
            fields, *(_fields(variables, x, network, flip_test) for x in others)
        )
    looks = []
    for tenths in scales.COMPETING if compete else ():
        smaller = scales.resize(image, tenths, CANVAS_MULTIPLE)
        look = _fields(variables, smaller, network, flip_test)
        looks.append(scales.bring_large(look, fields))
    return codec.decode(fields, *looks)


def _fields(
    variables: Mapping[str, Any], image: Array, network: KTN, flip_test: bool
) -> Fields:
    if not flip_test:
        return network.apply(variables, image)
    # one call for both, for a network that is compiled twice takes twice as long to compile
    both = network.apply(variables, jnp.concatenate([image, mirror.flip(image)]))
    fields, mirrored = (
        jax.tree.map(lambda x, i=i: x.reshape(2, image.shape[0], *x.shape[1:])[i], both)
        for i in range(2)
    )
    return mirror.average(fields, mirror.mirror_fields(mirrored))


def check_codec(network: KTN, codec: Codec, variables: Any, canvas: int) -> None:
    """UserError where the codec asks for what the network does not tell; runs nothing."""
    image = jax.ShapeDtypeStruct((1, canvas, canvas, 3), np.uint8)
    one = functools.partial(predict, network=network, codec=codec, flip_test=False)
    jax.eval_shape(one, variables, image)


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
    people = [
        _person(k, instances, to_image, size, image_id)
        for k in np.flatnonzero(instances.valid)
    ]
    return sorted((p for p in people if p is not None), key=lambda p: -p.score)


def _person(
    k: int,
    instances: Instances,
    to_image: Affine,
    size: tuple[int, int],
    image_id: int,
) -> Prediction | None:
    """Instance k, or None where its box holds no pixel of the image."""
    ends = to_image(instances.box[k].reshape(2, 2))
    (y0, x0), (y1, x1) = np.clip(np.floor(ends + 0.5).astype(int), 0, size).tolist()
    if y0 >= y1 or x0 >= x1:
        return None
    at = to_image.corners(instances.owner.shape, range(y0, y1), range(x0, x1))
    cuts = [some.cut() for some in at.strips(STRIP)]
    strips = [_strip(_cut_out(k, instances, window), some) for window, some in cuts]
    chart, u, v, parts, confidence = np.concatenate(strips, axis=1)
    if not chart.any():
        return None
    keypoints = instances.keypoints[k].copy()
    keypoints[:, :2] = to_image(keypoints[:, :2])
    return Prediction(
        image_id=image_id,
        bbox=np.array([x0, y0, x1 - x0, y1 - y0], np.int32),
        score=float(instances.score[k]),
        quality=float(instances.quality[k]),
        iuv=np.stack([chart, u, v], axis=-1),
        parts=parts.copy(),  # a view would keep all five
        keypoints=keypoints,
        tag=None if instances.tag is None else instances.tag[k],
        confidence=None if instances.confidence is None else confidence.copy(),
    )


class _Own(NamedTuple):
    """What a window of the canvas shows of one person."""

    chart: np.ndarray  # [H, W] u8, 0 where it shows anything else
    parts: np.ndarray  # [H, W] u8, likewise
    values: tuple[np.ndarray, ...]  # [H, W] f32 each: 255 U, 255 V, confidence
    torn: np.ndarray  # [H, W] bool, see _torn


def _cut_out(k: int, instances: Instances, window: tuple[slice, slice]) -> _Own:
    mine = instances.owner[window] == k
    chart, parts = (x[window] * mine for x in (instances.chart, instances.parts))
    planes = [instances.uv[..., 0], instances.uv[..., 1]]
    if instances.confidence is not None:
        planes.append(instances.confidence)
    values = tuple(plane[window].astype(np.float32) for plane in planes)
    return _Own(chart, parts, values, _torn(chart) | _torn(parts))


def _torn(labels: np.ndarray) -> np.ndarray:
    """Where a label and those to its right, below and between are not all alike. [H, W]."""
    torn = np.zeros(labels.shape, bool)
    right, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    torn[:, :-1] |= right
    torn[:-1, :-1] |= right[1:] | down[:, 1:]
    torn[:-1] |= down
    return torn


def _strip(own: _Own, at: Corners) -> np.ndarray:
    """[5, h, w] u8 chart, 255 U, 255 V, part and confidence of one person's pixels.

    Most pixels lie between four of the canvas that show the same; the others are weighed.
    """
    chart = at.first(own.chart)
    out = np.zeros((5, *chart.shape), np.uint8)
    out[0], out[3] = chart, at.first(own.parts)
    for channel, plane in zip(VALUES, own.values, strict=False):
        out[channel] = np.rint(at.mean(plane))
        out[channel] *= chart > 0
    torn = np.nonzero(at.first(own.torn))
    out[:, *torn] = _weigh(own, at, *torn)
    return out


def _weigh(own: _Own, at: Corners, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What some pixels show, as of _strip. y, x: [n] in the window. Returns [5, n] u8.

    A pixel is the person's if more than half of what it covers of the canvas is, so no two
    people share one. Its chart and its part are those that cover most of what is the
    person's; U, V and confidence are the mean over the canvas's pixels of that chart.
    """
    place, share = at.around(y, x, own.chart.shape[1])
    charts = own.chart.take(place)
    share *= charts > 0
    chart = vote(charts, share)
    same = share * (charts == chart)
    total = np.maximum(same.sum(0), np.finfo(np.float32).tiny)
    out = np.zeros((5, len(y)), np.uint8)
    out[0], out[3] = chart, vote(own.parts.take(place), share)
    for channel, plane in zip(VALUES, own.values, strict=False):
        out[channel] = np.rint((same * plane.take(place)).sum(0) / total)
    return out * (share.sum(0) > 0.5)


def host(instances: Instances) -> Instances:
    """The same Instances as numpy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(instances))


def one_image(instances: Instances, row: int) -> Instances:
    """One image's Instances of a batch's, without batch axis."""
    return jax.tree.map(lambda x: x[row], instances)
