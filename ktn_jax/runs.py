"""COCO's compressed run lengths, the form of every mask in its json files."""

from collections.abc import Sequence

import numpy as np


def uncompress(text: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed form.

    Each character carries 5 bits from the lowest on, 0x20 says that more follow, 0x10
    of the last one is the sign; from the fourth run on, the difference to the run two
    before is stored. Raises ValueError where the string is no such thing. (pycocotools'
    own decoder takes a damaged string for a mask, and warns of numpy 2 at every call.)
    """
    return uncompress_all([text])[0]


def uncompress_all(texts: Sequence[str | bytes]) -> list[np.ndarray]:
    """Run lengths of each text, as uncompress has them; many at once are quicker."""
    raws = [text.encode("ascii") if isinstance(text, str) else text for text in texts]
    if any(not raw or (raw[-1] - 48) & 0x20 for raw in raws):  # else runs would join
        raise ValueError("damaged string")
    chunks = np.frombuffer(b"".join(raws), np.uint8).astype(np.int64) - 48
    if not chunks.size or chunks.min() < 0 or chunks.max() > 63:
        raise ValueError("damaged string")
    last = (chunks & 0x20) == 0
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(chunks)) - np.repeat(first, np.diff([*first, len(chunks)]))
    if place.max() > 6:  # seven characters hold more than any image has pixels
        raise ValueError("damaged string")
    runs = np.add.reduceat((chunks & 0x1F) << (5 * place), first)
    negative = (chunks[last] & 0x10) > 0
    runs -= np.where(negative, 1 << (5 * (place[last] + 1)), 0)
    ends = np.cumsum([len(raw) for raw in raws])
    split = np.split(runs, np.cumsum(last)[ends[:-1] - 1])
    for mine in split:
        np.cumsum(mine[1::2], out=mine[1::2])
        np.cumsum(mine[2::2], out=mine[2::2])
    return split
