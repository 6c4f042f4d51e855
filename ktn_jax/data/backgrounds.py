"""What stands behind and before rendered people: noise, gradients, shapes, jpeg marks.

One idea: colours, stripes and limb-like shapes come from where skin and clothes come
from, so that colour or texture alone does not give people away.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ktn_jax.data.looks import sample_color


def sample_background(
    rng: np.random.Generator, size: int, variety: float = 1.0
) -> np.ndarray:
    """A picture without people. Returns [size, size, 3] f64 in [0, 1]. variety: 0..1."""
    busy = 0.3 + 0.7 * variety
    base = _gradient(rng, size) + busy * _noise(rng, size)
    canvas = Image.fromarray(_to_bytes(base))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(2, 3 + round(23 * variety))):
        _draw_shape(draw, rng, size)
    if rng.random() < 0.6:  # out of focus
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.008) * size))
    grain = 0.35 * busy * _noise(rng, size)
    return np.clip(np.asarray(canvas) / 255 + grain, 0, 1)


def sample_occluder(rng: np.random.Generator, size: int) -> np.ndarray:
    """Something in front of people. Returns [size, size] bool."""
    canvas = Image.new("1", (size, size))
    draw = ImageDraw.Draw(canvas)
    x, width = rng.uniform(0, 1), rng.uniform(0.03, 0.14)
    top = rng.uniform(-0.1, 0.7)
    slant = rng.normal(0, 0.05)
    edge = [(x, top), (x + width, top), (x + width + slant, 1.1), (x + slant, 1.1)]
    if rng.random() < 0.4:  # a table or a fence: wide and low
        low = rng.uniform(0.72, 0.95)
        edge = [(-0.1, low), (1.1, low + slant), (1.1, 1.1), (-0.1, 1.1)]
    draw.polygon([(size * a, size * b) for a, b in edge], fill=1)
    return np.array(canvas)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph of a scene: exposure, blur, sensor noise.

    image: [2 s, 2 s, 3] f64 in [0, 1], supersampled. Returns [s, s, 3] u8.
    """
    size = image.shape[0] // 2
    image = image.reshape(size, 2, size, 2, 3).mean((1, 3))
    image = np.clip(image, 0, 1) ** rng.uniform(0.8, 1.25)
    image = (image - 0.5) * rng.uniform(0.75, 1.15) + 0.5 + rng.normal(0, 0.04)
    image = image * rng.uniform(0.93, 1.07, 3)
    soft = Image.fromarray(_to_bytes(image))
    if rng.random() < 0.7:
        soft = soft.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    noise = rng.normal(0, rng.uniform(0.5, 6), image.shape)
    return np.clip(np.rint(np.asarray(soft) + noise), 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two or three colours that run into each other, or meet at a horizon."""
    angle = rng.normal(np.pi / 2, 0.5)
    y, x = np.mgrid[:size, :size] / size - 0.5
    ramp = x * np.cos(angle) + y * np.sin(angle)
    first, second = sample_color(rng), sample_color(rng)
    sharp = 10 ** rng.uniform(0, 2.5)
    share = 1 / (1 + np.exp(-np.clip(sharp * (ramp - rng.normal(0, 0.2)), -50, 50)))
    return first + share[..., None] * (second - first)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grey clouds at several scales with a little colour. Returns [size, size, 3]."""
    fall = rng.uniform(0.5, 1.0)
    grey = sum(
        fall**level * _enlarge(1.2 * rng.normal(size=(cells, cells)), size)
        for level, cells in enumerate((4, 8, 16, 32, 64, 128))
    )
    tint = [_enlarge(rng.normal(size=(6, 6)), size) for _ in range(3)]
    return (grey[..., None] + 0.5 * np.stack(tint, -1)) * rng.uniform(0.01, 0.09)


def _enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    """A smooth [size, size] map through a coarse grid."""
    image = Image.fromarray(grid.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _draw_shape(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    """One box, ball, limb-like stroke, branch or row of stripes, in place."""
    color, other = (tuple(_to_bytes(sample_color(rng)).tolist()) for _ in range(2))
    x, y = rng.uniform(-0.1, 1.1, 2) * size
    width, height = rng.lognormal(-2.0, 0.6, 2) * size
    box = (x - width, y - height, x + width, y + height)
    match rng.integers(5):
        case 0:
            draw.rectangle(box, fill=color)
        case 1:
            draw.ellipse(box, fill=color)
        case 2:  # a chain of strokes with round ends, as limbs are
            thick = rng.uniform(0.015, 0.06) * size
            for _ in range(rng.integers(1, 4)):
                turn, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.2) * size
                tip = (x + length * np.cos(turn), y + length * np.sin(turn))
                draw.line((x, y, *tip), fill=color, width=int(2 * thick))
                for a, b in ((x, y), tip):
                    ball = (a - thick, b - thick, a + thick, b + thick)
                    draw.ellipse(ball, fill=color)
                x, y = tip
        case 3:
            draw.rectangle(box, fill=color)
            step = rng.uniform(0.015, 0.05) * size
            for at in np.arange(box[1], box[3] - step / 2, step):
                draw.rectangle((box[0], at, box[2], at + step / 2), fill=other)
        case _:
            corners = np.array([x, y]) + rng.normal(size=(5, 2)) * (width, height)
            draw.polygon([tuple(c) for c in corners.tolist()], fill=color)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to u8."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
