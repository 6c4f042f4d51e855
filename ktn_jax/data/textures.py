"""Surfaces of things: grass, bricks, leaves, windows, cloth, ..., at many scales.

One idea: grey patterns are drawn once a process, from a seed of their own, with all
their halvings; a scene only picks one and the colours that its greys stand for. A patch
of a photograph takes the same place. Patterns repeat without a seam.
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ktn_jax.data.looks import sample_color

SIDE = 256  # texels of a pattern's largest level
_LEVELS = 7  # halvings kept, down to 4 texels
_STARTS = np.cumsum([0] + [(SIDE >> level) ** 2 for level in range(_LEVELS)])[:-1]


class Texture(NamedTuple):
    """A pattern to be looked up at places on a surface."""

    texels: np.ndarray  # [N] u8 greys or [N, 3] u8 RGB, all levels, large to small
    colors: np.ndarray | None  # [256, 3] f32 of each grey; None for RGB
    scale: float  # texels a metre

    def look_up(self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Colours [k, 3] f32 in [0, 1]. u, v, footprint of a pixel: [k] metres."""
        level = np.log2(np.maximum(footprint * self.scale, 1e-6))
        level = np.clip(level + 0.5, 0, _LEVELS - 1).astype(np.int32)
        side = SIDE >> level
        column = (u * self.scale).astype(np.int32) >> level & side - 1
        row = (v * self.scale).astype(np.int32) >> level & side - 1
        found = self.texels[_STARTS[level] + row * side + column]
        if self.colors is None:
            return found.astype(np.float32) / 255
        return self.colors[found]


def sample_texture(rng: np.random.Generator, kinds: str, texel: float) -> Texture:
    """A pattern of one of the kinds named, in colours of its own.

    kinds: words of PATTERNS, with blanks between.   texel: metres.
    """
    kind = rng.choice(kinds.split())
    number = int(rng.integers(_VARIANTS))
    lively = rng.random() < 0.2 or kind in ("shelves", "glyphs")
    base = sample_color(rng)
    stops = base + rng.normal(0, 0.07, (3, 3)) + rng.normal(0, 0.2, (3, 1))
    if lively:
        stops = np.stack([sample_color(rng) for _ in range(6)])
    return Texture(_pattern(kind, number), blend(stops), 1 / texel)


def blend(stops: np.ndarray) -> np.ndarray:
    """[256, 3] f32 colours that run through the given ones. stops: [k, 3]."""
    place = np.linspace(0, len(stops) - 1, 256)
    runs = [np.interp(place, np.arange(len(stops)), channel) for channel in stops.T]
    return np.clip(np.stack(runs, 1), 0, 1).astype(np.float32)


def photo_texture(patch: np.ndarray, texel: float) -> Texture:
    """A photograph's patch as a texture, mirrored so that it repeats. patch: u8 RGB."""
    half = Image.fromarray(patch).resize((SIDE // 2, SIDE // 2))
    half = np.asarray(half)
    row = np.concatenate([half, half[:, ::-1]], 1)
    return Texture(_halve(np.concatenate([row, row[::-1]])), None, 1 / texel)


def _halve(image: np.ndarray) -> np.ndarray:
    """All levels of a pattern in one row. image: [SIDE, SIDE(, 3)] u8."""
    levels, picture = [], Image.fromarray(image)
    for level in range(_LEVELS):
        small = picture if level == 0 else picture.reduce(2**level)
        levels.append(np.asarray(small).reshape(-1, *image.shape[2:]))
    return np.concatenate(levels)


@functools.cache
def _pattern(kind: str, number: int) -> np.ndarray:
    """One of the grey patterns, all levels. [N] u8."""
    rng = np.random.default_rng([list(PATTERNS).index(kind), number])
    image = PATTERNS[kind](rng)
    low, high = np.percentile(image, [1, 99])
    image = (image - low) / max(high - low, 1e-6)
    return _halve(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8))


def noise(rng: np.random.Generator, fall: float, stretch: float = 1.0) -> np.ndarray:
    """[SIDE, SIDE] smooth noise of unit variance that repeats.

    fall: of amplitude with frequency; 1 is rough, 2 is cloudy.   stretch: of features
    along the rows' direction, down.
    """
    fy = np.fft.fftfreq(SIDE)[:, None] * SIDE * stretch
    fx = np.fft.rfftfreq(SIDE)[None] * SIDE
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    wave = rng.normal(size=(2, *radius.shape)) / radius**fall
    image = np.fft.irfft2(wave[0] + 1j * wave[1], s=(SIDE, SIDE))
    return (image / image.std()).astype(np.float32)


def _grass(rng: np.random.Generator) -> np.ndarray:
    """Blades in one direction over clouds. [SIDE, SIDE]."""
    return noise(rng, 0.8, rng.uniform(1.0, 4.0)) + 0.6 * noise(rng, 1.6)


def _planks(rng: np.random.Generator) -> np.ndarray:
    """Boards with grain and gaps. [SIDE, SIDE]."""
    count = 2 ** rng.integers(2, 5)
    column = np.arange(SIDE) * count / SIDE
    tone = rng.normal(0, 0.8, count)[column.astype(int)]
    gap = -3.0 * (column % 1 < 0.03 * count / 4)
    return tone + gap + 0.5 * noise(rng, 1.0, 12.0)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    """Courses of bricks, half a brick apart, in mortar. [SIDE, SIDE]."""
    rows = 2 ** rng.integers(3, 5)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE * rows
    x = x / 2 + 0.5 * (y.astype(int) % 2)
    tone = rng.normal(0, 1, (rows, rows))[y.astype(int), x.astype(int) % rows]
    mortar = (y % 1 < 0.12) | (x % 1 < 0.06)
    return np.where(mortar, rng.choice([-3, 3]), tone) + 0.4 * noise(rng, 0.7)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    """Square tiles, plain or as a chessboard, with joints. [SIDE, SIDE]."""
    count = 2 ** rng.integers(1, 5)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE * count
    checks = rng.choice([0, 2]) * ((y.astype(int) + x.astype(int)) % 2)
    tone = rng.normal(0, 0.3, (count, count))[y.astype(int), x.astype(int)]
    joint = np.minimum(y % 1, x % 1) < 0.015 * count
    return np.where(joint, -2, tone + checks) + 0.2 * noise(rng, 1.2)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Many small leaves, the upper ones lighter. [SIDE, SIDE]."""
    canvas = Image.new("L", (SIDE, SIDE), 30)
    draw = ImageDraw.Draw(canvas)
    size = rng.uniform(3, 12)
    for step in range(int(60_000 / size**2)):
        x, y = rng.uniform(0, SIDE, 2)
        a, b = size * rng.uniform(0.4, 1, 2)
        light = int(np.clip(rng.normal(40 + 0.12 * step % 160, 35), 0, 255))
        for dx in (-SIDE, 0, SIDE):
            for dy in (-SIDE, 0, SIDE):
                if -a < x + dx < SIDE + a and -b < y + dy < SIDE + b:
                    box = (x + dx - a, y + dy - b, x + dx + a, y + dy + b)
                    draw.ellipse(box, fill=light)
    return np.asarray(canvas) / 64 + 0.5 * noise(rng, 1.8)


def _cloth(rng: np.random.Generator) -> np.ndarray:
    """A weave. [SIDE, SIDE]."""
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    count = rng.integers(16, 60)
    weave = np.sin(count * x) * rng.uniform(0, 1) + np.sin(count * y)
    return weave + 0.7 * noise(rng, 1.3)


def _waves(rng: np.random.Generator) -> np.ndarray:
    """Ripples across. [SIDE, SIDE]."""
    y = np.arange(SIDE)[:, None] * (2 * np.pi / SIDE)
    ripples = np.sin(rng.integers(8, 30) * y + 1.5 * noise(rng, 1.6, 3.0))
    return ripples + noise(rng, 1.2, 4.0)


def _speckle(rng: np.random.Generator) -> np.ndarray:
    """Two stones mixed. [SIDE, SIDE]."""
    stones = np.tanh(4 * (noise(rng, rng.uniform(0.5, 1.0)) - rng.normal(0, 0.5)))
    return stones + 0.3 * noise(rng, 0.3)


def _windows(rng: np.random.Generator) -> np.ndarray:
    """A wall of equal windows with panes. [SIDE, SIDE]."""
    rows, columns = 2 ** rng.integers(2, 4, 2)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    y, x = y * rows, x * columns
    high, wide = rng.uniform(0.4, 0.85, 2)
    glass = (abs(y % 1 - 0.5) < high / 2) & (abs(x % 1 - 0.5) < wide / 2)
    bar = (abs(y % 1 - 0.5) < 0.02) | (abs(x % 1 - 0.5) < 0.03)
    pane = rng.normal(-2, 0.8, (rows, columns))[y.astype(int), x.astype(int)]
    wall = 1.2 + 0.25 * noise(rng, 1.2)
    return np.where(glass & ~bar, pane + 0.3 * noise(rng, 1.8), wall)


def _shelves(rng: np.random.Generator) -> np.ndarray:
    """Rows of upright things of all tones. [SIDE, SIDE]."""
    rows = 2 ** rng.integers(1, 4)
    image = np.zeros((SIDE, SIDE))
    high = SIDE // rows
    for row in range(rows):
        cuts = np.unique(rng.integers(0, SIDE, rng.integers(20, 60)))
        tops = rng.uniform(0, 0.3, len(cuts) + 1)
        tones = rng.uniform(0.1, 1, len(cuts) + 1)
        slot = np.searchsorted(cuts, np.arange(SIDE), side="right")
        down = np.arange(high)[:, None] / high
        books = np.where((down > tops[slot]) & (down < 0.93), tones[slot], 0)
        image[row * high : (row + 1) * high] = books
    return image + 0.02 * noise(rng, 0.8)


def _glyphs(rng: np.random.Generator) -> np.ndarray:
    """Lines of something like writing. [SIDE, SIDE]."""
    rows = 2 ** rng.integers(2, 6)
    cells = rng.random((rows * 4, rows * 8)) < 0.5
    cells[::4] = False  # lines, and words between blanks
    cells[:, :: rng.integers(5, 11)] = False
    image = Image.fromarray(cells.astype(np.uint8) * 255).resize((SIDE, SIDE), 0)
    return np.asarray(image) / 255 + 0.03 * noise(rng, 1.0)


_VARIANTS = 4
PATTERNS = {
    "clouds": lambda rng: noise(rng, rng.uniform(1.1, 2.0)),
    "rough": lambda rng: noise(rng, rng.uniform(0.4, 1.0)),
    "grass": _grass,
    "planks": _planks,
    "bricks": _bricks,
    "tiles": _tiles,
    "leaves": _leaves,
    "cloth": _cloth,
    "waves": _waves,
    "speckle": _speckle,
    "windows": _windows,
    "shelves": _shelves,
    "glyphs": _glyphs,
}
