"""A graph for people to look at: a table of text, and heat maps in one picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ktn_jax.anatomy import CHARTS, KEYPOINTS, PARTS
from ktn_jax.graph.matrices import PERSON_ROWS, Graph

SHORT = {"right": "R", "left": "L", "upper": "up", "lower": "lo"}
COLUMNS = {
    "keypoint": [name.replace("_", " ") for name in KEYPOINTS],
    "part": list(PARTS),
    "person": list(PERSON_ROWS),
}
CELL = 30  # pixels; a number of two digits fits
GAP = 26  # between the maps
LABELS = (190, 128)  # width of the charts' names, height of the columns'
TOP = 52  # title and the maps' own names
FONT, SMALL = 15, 12  # pixels
COLOURS = 256  # of the picture, the most that a palette has
INK, FAINT = (33, 33, 40), (120, 120, 130)
# from nothing to the largest entry: light to dark, so that it prints and copies well
RAMP = np.array(
    [(247, 248, 250), (205, 224, 241), (129, 180, 220), (52, 120, 186), (16, 50, 110)]
)


def table(graph: Graph) -> str:
    """The three matrices in hundredths, charts down; the background's row is left out."""
    blocks = []
    for name, matrix in graph._asdict().items():
        heads = [_stacked(column) for column in COLUMNS[name]]
        lines = [f"{name} [{len(matrix)} x {matrix.shape[1]}], in hundredths"]
        lines += [" " * 22 + "".join(f"{head[i]:>4}" for head in heads) for i in range(3)]
        for chart, row in zip(CHARTS[1:], matrix[1:], strict=True):
            cells = [f"{number or '.':>4}" for number in _hundredths(row)]
            lines.append(f"{chart:22}" + "".join(cells))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def draw(graph: Graph, title: str) -> Image.Image:
    """Heat maps side by side, one scale for all, with names and numbers."""
    widths = [CELL * matrix.shape[1] for matrix in graph]
    rows = len(CHARTS) - 1
    size = (
        LABELS[0] + sum(widths) + GAP * len(widths),
        TOP + LABELS[1] + CELL * rows + GAP,
    )
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    pen.text((GAP, 10), title, INK, _font(FONT + 2))
    for row, chart in enumerate(CHARTS[1:]):
        middle = TOP + LABELS[1] + CELL * (row + 0.5)
        pen.text((LABELS[0] - 8, middle), f"{chart}  {row + 1}", INK, _font(FONT), "rm")
    left, top = LABELS[0], max(float(matrix.max()) for matrix in graph) or 1.0
    for (name, matrix), width in zip(graph._asdict().items(), widths, strict=True):
        _draw_matrix(image, left, name, matrix[1:], top)
        left += width + GAP
    return image.quantize(COLOURS)  # well under half the bytes


def _draw_matrix(
    image: Image.Image, left: int, name: str, matrix: np.ndarray, top: float
) -> None:
    """One heat map. left: its first pixel column.   top: the value of the darkest."""
    pen, upper = ImageDraw.Draw(image), TOP + LABELS[1]
    pen.text((left, TOP - 12), name, FAINT, _font(FONT))
    for column, words in enumerate(COLUMNS[name]):
        label = _upright(words)
        at = left + CELL * column + (CELL - label.width) // 2
        image.paste(label, (at, upper - label.height - 6))
    for (row, column), number in np.ndenumerate(_hundredths(matrix)):
        x, y = left + CELL * column, upper + CELL * row
        colour = _colour(matrix[row, column] / top)
        pen.rectangle((x, y, x + CELL - 2, y + CELL - 2), colour)
        if number:
            ink = INK if sum(colour) > 420 else (255, 255, 255)
            place = x + CELL / 2 - 1, y + CELL / 2 - 1
            pen.text(place, str(number), ink, _font(SMALL), "mm")


def _hundredths(values: np.ndarray) -> np.ndarray:
    """Values in whole hundredths, in the same shape."""
    return np.rint(100 * values).astype(int)


def _upright(words: str) -> Image.Image:
    """A label turned to be read from below."""
    width, height = (int(v) + 4 for v in _font(FONT).getbbox(words)[2:])
    label = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(label).text((0, 0), words, INK, _font(FONT))
    return label.rotate(90, expand=True)


def _colour(value: float) -> tuple[int, int, int]:
    """A colour of the ramp; value in 0..1."""
    stops = np.linspace(0, 1, len(RAMP))
    return tuple(int(np.interp(value, stops, channel)) for channel in RAMP.T)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _stacked(words: str) -> list[str]:
    """Three short lines of a column's name, the noun lowest."""
    short = [SHORT.get(word, word[:3]) for word in words.split()]
    return [""] * (3 - len(short)) + short
