"""COCO's compressed run lengths, the form of every mask in its json files."""

import numpy as np


def uncompress(text: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed form.

    Each character carries 5 bits from the lowest on, 0x20 says that more follow, 0x10
    of the last one is the sign; from the fourth run on, the difference to the run two
    before is stored. Raises ValueError where the string is no such thing. (pycocotools'
    own decoder takes a damaged string for a mask, and warns of numpy 2 at every call.)
    """
    raw = text.encode("ascii") if isinstance(text, str) else text
    chunks = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not chunks.size or chunks.min() < 0 or chunks.max() > 63 or chunks[-1] & 0x20:
        raise ValueError("damaged string")
    last = (chunks & 0x20) == 0
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(chunks)) - np.repeat(first, np.diff([*first, len(chunks)]))
    if place.max() > 6:  # seven characters hold more than any image has pixels
        raise ValueError("damaged string")
    runs = np.add.reduceat((chunks & 0x1F) << (5 * place), first)
    negative = (chunks[last] & 0x10) > 0
    runs -= np.where(negative, 1 << (5 * (place[last] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
