"""Encoded images -> pixels, and whether they are whole; broken ones must not stop a run."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 120_000_000  # of a photograph: its maps and pictures must fit into memory
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # modes of more than 8 bits a channel


def decode_image(data: bytes) -> np.ndarray:
    """RGB pixels of an encoded image, [H, W, 3] u8.

    The stored raster, without turning it by its EXIF orientation: the annotations were
    drawn on that raster. Grey and CMYK images become RGB.
    """
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def read_photograph(data: bytes) -> np.ndarray:
    """RGB pixels of a photograph as a viewer shows it, [H, W, 3] u8.

    Turned upright by its EXIF orientation; deep greys scaled to 8 bits, transparent
    pixels over white, the first frame of an animation. ValueError, one line, for what is
    no whole picture or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's on odd metadata and on size
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ValueError(
                        f"{width} x {height} pixels are more than {MAX_PIXELS // 10**6} "
                        "million; make it smaller first"
                    )
                return np.array(_eight_bits(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError:
        raise ValueError("is not a picture of a known kind") from None
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Pillow's readers raise nearly anything for broken files
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(said) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture in mode RGB."""
    if image.mode in _DEEP:
        values = np.nan_to_num(np.asarray(image, np.float64))
        white = 65535 if image.mode != "F" else 255 if values.max(initial=0) > 1 else 1
        grey = (np.clip(values / white, 0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(
            Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear
        ).convert("RGB")
    return image.convert("RGB")


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
