"""Arrays that anyone can make again from their name and shape: nothing to store."""

import re
import zlib
from collections.abc import Mapping

import numpy as np

# a block's last norm, which is added to a shortcut or to other branches: kept small, so
# that sixty layers of random weights neither die nor explode
ADDED = re.compile(r"layer.*bn3|branches.*bn2|_blocks.*_bn2|downsample|fuse_layers")


def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight, bias or statistic of a network, by the last word of its torch name."""
    part = name.rpartition(".")[2]
    if part == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.random(shape, np.float32)
    if len(shape) > 1:  # He: variance 2 / fan-in
        return (values - 0.5) * np.float32(np.sqrt(24 / np.prod(shape[1:])))
    if part == "weight":
        return values + 0.5 if not ADDED.search(name) else 0.2 * values + 0.1
    return values + 0.5 if part == "running_var" else 0.4 * (values - 0.5)


def state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A network's state dict."""
    return {name: array(name, shape) for name, shape in shapes.items()}


def image(height: int = 64, width: int = 96) -> np.ndarray:
    """[1, H, W, 3], about as wide as a normalised image."""
    rng = np.random.default_rng(0)
    return 4 * rng.random((1, height, width, 3), np.float32) - 2


def sample(features: np.ndarray) -> np.ndarray:
    """Some 500 values of [1, h, w, C], in steps that meet every row, column and channel."""
    flat = np.asarray(features).reshape(-1)
    return flat[:: flat.size // 500 | 1]
