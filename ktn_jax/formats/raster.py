"""Label images of a whole photograph: IUV, person index, cut-out.

No two people share a pixel (the network's posterior has decided whose it is), so nothing
here depends on the order of the people.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ktn_jax.pictures import full_iuv
from ktn_jax.records import Prediction

PNG_LEVEL = 3  # of zlib: the size of the usual 6 on overlays, in less than half the time
Size = tuple[int, int]  # (height, width) of the photograph


def png(image: np.ndarray) -> bytes:
    """A PNG of [H, W] u8 or u16, [H, W, 3] RGB u8, or [H, W, 4] RGBA u8."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.save(stream, "PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()


def iuv_png(people: Sequence[Prediction], size: Size) -> bytes:
    """The IUV image whose channels are I, 255 U, 255 V when OpenCV reads it.

    The order of Caffe2 DensePose's infer_simple: the file's own R, G, B are V, U, I.
    """
    return png(full_iuv(people, size)[..., ::-1])


def iuv_rgb_png(people: Sequence[Prediction], size: Size) -> bytes:
    """The IUV image whose R, G, B are I, 255 U, 255 V."""
    return png(full_iuv(people, size))


def inds(people: Sequence[Prediction], size: Size) -> np.ndarray:
    """[H, W] u8 index of each pixel's person, from 1, best score first; 0 nobody.

    u16 where there are more than 255 people. infer_simple's first person has index 0,
    that of the background; here nobody is lost.
    """
    number = np.zeros(size, np.uint8 if len(people) < 256 else np.uint16)
    for index, person in enumerate(people, start=1):
        x, y, width, height = person.bbox
        number[y : y + height, x : x + width][person.iuv[..., 0] > 0] = index
    return number


def inds_png(people: Sequence[Prediction], size: Size) -> bytes:
    """`inds` as a grey PNG."""
    return png(inds(people, size))


def cutout(image: np.ndarray, people: Sequence[Prediction]) -> np.ndarray:
    """[H, W, 4] u8 RGBA: the photograph, opaque where somebody is.

    image: [H, W, 3] u8. Hidden pixels are black, so that the PNG stays small.
    """
    seen = full_iuv(people, image.shape[:2])[..., :1] > 0
    return np.concatenate([image * seen, seen.astype(np.uint8) * 255], axis=-1)
