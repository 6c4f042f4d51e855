"""Photographs as a viewer shows them: orientation, depth, transparency, broken ones."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ktn_jax.data import images

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)


def encoded(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.swapaxes(0, 1)),
        (6, np.rot90(RGB, -1)),
        (7, RGB.swapaxes(0, 1)[::-1, ::-1]),
        (8, np.rot90(RGB, 1)),
    ],
)
def test_photographs_are_turned_upright_training_images_are_not(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(images.read_photograph(data), turned)
    np.testing.assert_array_equal(images.decode_image(data), RGB)


def test_sixteen_bits_become_eight():
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    data = encoded(Image.fromarray(deep))
    assert images.read_photograph(data)[0, :, 1].tolist() == [0, 1, 128, 255]


def test_floating_tiffs_are_read_up_to_one_or_to_255():
    for white in (1.0, 255.0):
        data = encoded(Image.fromarray(np.array([[0, white]], np.float32)), "TIFF")
        assert images.read_photograph(data)[0, :, 0].tolist() == [0, 255]


def test_transparent_pixels_are_white():
    clear = np.zeros((1, 2, 4), np.uint8)
    clear[0, 1] = (10, 20, 30, 255)
    expected = [[255, 255, 255], [10, 20, 30]]
    data = encoded(Image.fromarray(clear))
    assert images.read_photograph(data)[0].tolist() == expected
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 10, 20, 30])
    data = encoded(palette, transparency=0)
    assert images.read_photograph(data)[0].tolist() == expected


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]
)
def test_every_mode_becomes_rgb(mode):
    picture = Image.new(mode, (5, 3))
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    found = images.read_photograph(encoded(picture, kind))
    assert found.shape == (3, 5, 3) and found.dtype == np.uint8


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (2, 2), color) for color in ((255, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.read_photograph(data)[0, 0].tolist() == [255, 0, 0]


def png_header(width, height):
    """A PNG that says how large it is and ends soon after."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(chunk))
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc
    return start + struct.pack(">I", 4) + b"IDAT\0\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a picture"),
        (b"GIF89a", "not a picture"),
        (encoded(Image.fromarray(RGB))[:-40], "."),
        (png_header(12_000, 12_000), "12000 x 12000 pixels are more than 120 million"),
        (png_header(65_000, 65_000), "pixels"),
        (png_header(0, 4), "."),
    ],
)
def test_what_is_no_whole_picture_is_one_line(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        images.read_photograph(data)
    assert "\n" not in str(caught.value)
