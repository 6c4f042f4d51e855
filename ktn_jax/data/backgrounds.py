"""A backdrop that is no place at all: gradients, noise, shapes.

One idea: colours, stripes and limb-like shapes come from where skin and clothes come
from, so that colour or texture alone does not give people away.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ktn_jax.data.looks import sample_color


def plain_background(
    rng: np.random.Generator, size: int, variety: float = 1.0
) -> np.ndarray:
    """A picture without people. Returns [size, size, 3] f32 in [0, 1]. variety: 0..1."""
    busy = 0.3 + 0.7 * variety
    base = _gradient(rng, size) + busy * _noise(rng, size)
    canvas = Image.fromarray(_to_bytes(base))
    draw_shapes(canvas, rng, rng.integers(2, 3 + round(23 * variety)))
    if rng.random() < 0.6:  # out of focus
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.008) * size))
    grain = 0.35 * busy * _noise(rng, size)
    image = np.asarray(canvas, np.float32)
    return np.clip(image / np.float32(255) + grain, 0, 1)


def draw_shapes(canvas: Image.Image, rng: np.random.Generator, count: int) -> None:
    """Draws boxes, balls, strokes and stripes anywhere, in place."""
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        _draw_shape(draw, rng, canvas.width)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two colours that run into each other, or meet at a horizon. [size, size, 3] f32."""
    angle = rng.normal(np.pi / 2, 0.5)
    line = np.arange(size, dtype=np.float32) / size - 0.5
    ramp = line * np.float32(np.cos(angle)) + line[:, None] * np.float32(np.sin(angle))
    first, second = (sample_color(rng).astype(np.float32) for _ in range(2))
    sharp = 10 ** rng.uniform(0, 2.5)
    slope = np.float32(sharp) * (ramp - np.float32(rng.normal(0, 0.2)))
    share = 1 / (1 + np.exp(-np.clip(slope, -50, 50)))
    return first + share[..., None] * (second - first)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grey clouds at several scales with a little colour. [size, size, 3] f32."""
    fall = rng.uniform(0.5, 1.0)
    grey: np.ndarray | None = None
    for level, cells in enumerate((4, 8, 16, 32, 64, 128)):
        # each scale is laid over the one before at its own size, the last at full size
        grid = (1.2 * fall**level) * rng.standard_normal((cells, cells), np.float32)
        grey = grid if grey is None else grid + _enlarge(grey, cells)
    tint = [_enlarge(rng.standard_normal((6, 6), np.float32), size) for _ in range(3)]
    whole = _enlarge(grey, size)[..., None] + np.float32(0.5) * np.stack(tint, -1)
    return whole * np.float32(rng.uniform(0.01, 0.09))


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
