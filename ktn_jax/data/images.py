"""Encoded images -> pixels, and whether they are whole; broken ones must not stop a run."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError


def decode_image(data: bytes) -> np.ndarray:
    """RGB pixels of an encoded image, [H, W, 3] u8.

    The stored raster, without turning it by its EXIF orientation: the annotations were
    drawn on that raster. Grey and CMYK images become RGB.
    """
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def image_fault(data: bytes, size: tuple[int, int]) -> str | None:
    """What is wrong with an encoded image; None if it is whole.

    size: (height, width) that the annotations refer to.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != size[::-1]:
                return f"is {image.size[::-1]} (height, width), the json says {size}"
            # An eighth of the size: reads to the file's end at a third of the cost.
            image.draft("L", (1, 1))
            image.load()
    except UnidentifiedImageError:
        return "is not an image"
    except (OSError, SyntaxError, ValueError) as error:
        return f"cannot be read ({error})"
    return None
