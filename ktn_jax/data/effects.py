"""What a camera makes of a scene: haze, exposure, blur, noise, compression.

Nothing here moves anything: labels stay true to the pixel.
"""

import io

import numpy as np
from PIL import Image, ImageFilter


def develop(
    image: np.ndarray, rng: np.random.Generator, variety: float = 1.0
) -> np.ndarray:
    """A photograph of a scene. [s, s, 3] u8.

    image: [s, s, 3] f32, about 0..1.   variety: 0..1, at 0 exposure, softness and noise
    alone.
    """

    def now_and_then(odds: float) -> bool:
        return rng.random() < odds * variety

    image = np.clip(_expose(image, rng, variety), 0, 1)
    if now_and_then(0.3):
        image = _vignette(image, rng)
    if now_and_then(0.15):  # haze, or stray light in the lens
        image = image + np.float32(rng.uniform(0, 0.35)) * (
            rng.uniform(0.6, 1.0, 3).astype(np.float32) - image
        )
    if now_and_then(0.02):  # black and white
        image = np.repeat(_grey(image), 3, axis=2)
    photo = _soften(Image.fromarray(_to_bytes(image)), rng, variety)
    photo = Image.fromarray(_add_noise(np.asarray(photo, np.float32), rng, variety))
    if now_and_then(0.5):
        photo = _compress(photo, int(rng.integers(25, 92)))
    return np.asarray(photo)


def _expose(image: np.ndarray, rng: np.random.Generator, variety: float) -> np.ndarray:
    """Exposure, gamma, contrast, white balance, saturation."""
    stops = rng.normal(0, 0.25 * variety)
    if rng.random() < 0.7 * variety:  # as a camera meters it
        stops += 0.6 * np.log2(0.45 / np.clip(image.mean(), 0.05, 1))
    if rng.random() < 0.08 * variety:  # far too bright or too dark
        stops += rng.choice([-1.3, 0.9]) * rng.random()
    image = np.clip(image * np.float32(2**stops), 0, 1)
    image = image ** np.float32(rng.uniform(0.8, 1.25))
    image = (image - 0.5) * np.float32(rng.uniform(0.75, 1.15 + 0.12 * variety)) + 0.5
    image = image + np.float32(rng.normal(0, 0.04))
    cast = rng.uniform(0.93, 1.07, 3)
    if rng.random() < 0.3 * variety:  # lamps of a room, or shade
        cast *= 1 + rng.normal(0, 0.12) * np.array([1, 0.1, -1])
    image = image * cast.astype(np.float32)
    if rng.random() < 0.4 * variety:
        grey = _grey(image)
        image = grey + np.float32(rng.uniform(0.4, 1.25)) * (image - grey)
    return image


def _vignette(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image, darker towards its corners."""
    line = np.linspace(-1, 1, len(image), dtype=np.float32) ** 2
    fall = 1 - np.float32(rng.uniform(0.05, 0.3)) * (line + line[:, None])
    return image * fall[..., None]


def _soften(photo: Image.Image, rng: np.random.Generator, variety: float) -> Image.Image:
    """Out of focus, shaken, or enlarged from fewer pixels."""
    if rng.random() < 0.7:
        most = 2.2 if rng.random() < 0.12 * variety else 0.9
        photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, most)))
    if rng.random() < 0.12 * variety:  # along a line of a few pixels
        length, turn = rng.uniform(1.0, 5.0), rng.uniform(0, np.pi)
        row, column = length / 2 * np.sin(turn), length / 2 * np.cos(turn)
        moved = np.asarray(photo, np.float32)
        steps = [_shift(moved, at * row, at * column) for at in (-1, -0.5, 0, 0.5, 1)]
        photo = Image.fromarray(_to_bytes(sum(steps) / (5 * 255)))
    if rng.random() < 0.2 * variety:
        small = max(16, round(photo.width * rng.uniform(0.35, 0.9)))
        kinds = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]
        less = photo.resize((small, small), Image.Resampling.BILINEAR)
        photo = less.resize(photo.size, kinds[rng.integers(2)])
    if rng.random() < 0.15 * variety:  # sharpened by the camera
        amount = int(rng.integers(40, 160))
        photo = photo.filter(ImageFilter.UnsharpMask(1.2, amount, 0))
    return photo


def _shift(image: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """The image moved by whole pixels, its border carried along."""
    rows, columns = round(rows), round(columns)
    pad = ((max(rows, 0), max(-rows, 0)), (max(columns, 0), max(-columns, 0)), (0, 0))
    high, wide = image.shape[:2]
    top, left = max(-rows, 0), max(-columns, 0)
    return np.pad(image, pad, "edge")[top : top + high, left : left + wide]


def _add_noise(image: np.ndarray, rng: np.random.Generator, variety: float) -> np.ndarray:
    """A sensor's noise, in brightness more than in colour. image: 0..255. u8."""
    level = rng.uniform(0.5, 6) * (2 if rng.random() < 0.08 * variety else 1)
    tinted = rng.random()
    grain = rng.standard_normal(image.shape[:2], np.float32)[..., None]
    noise = np.float32(level * (1 - tinted)) * grain
    if tinted > 0.25:
        color = rng.standard_normal(image.shape, np.float32)
        noise = noise + np.float32(level * tinted) * color
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _compress(photo: Image.Image, quality: int) -> Image.Image:
    """The photo as a jpeg gives it back."""
    file = io.BytesIO()
    photo.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def _grey(image: np.ndarray) -> np.ndarray:
    """Brightness. [h, w, 1]."""
    return (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to u8."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
