"""Masks -> COCO polygons, which know no holes."""

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours


def trace_mask(mask: np.ndarray) -> list[list[float]]:
    """COCO polygons [x, y, x, y, ...] of a mask; holes are cut open. mask: [H, W]."""
    polygons = []
    labels, _ = ndimage.label(mask)
    for piece, window in enumerate(ndimage.find_objects(labels), start=1):
        corner = (window[1].start, window[0].start)
        for solid in _split_holes(labels[window] == piece):
            # skimage counts from pixel centres, COCO from the corner of pixel (0, 0)
            outlines = find_contours(np.pad(solid, 1).astype(float), 0.5)
            outline = max(outlines, key=len)[:-1, ::-1] - 0.5 + corner
            polygons.append(outline.ravel().round(2).tolist())
    return polygons


def _split_holes(mask: np.ndarray) -> list[np.ndarray]:
    """The connected piece in pieces without holes, cut downwards through each hole."""
    holes, _ = ndimage.label(~np.pad(mask, 1))
    inner = holes[1:-1, 1:-1] > 1  # label 1 is the outside: the corner comes first
    if not inner.any():
        return [mask]
    column = int(np.argwhere(inner)[:, 1].mean())
    column = min(max(column, 1), mask.shape[1] - 1)
    sides = [mask.copy(), mask.copy()]
    sides[0][:, column:], sides[1][:, :column] = False, False
    solid = []
    for side in sides:
        labels, number = ndimage.label(side)
        for piece in range(1, number + 1):
            solid += _split_holes(labels == piece)
    return solid
