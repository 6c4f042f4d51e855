"""ktn_jax: dense correspondences between photographs and the human body, in JAX.

import ktn_jax
model = ktn_jax.load("pretrained/lite0")
people = model("photograph.jpg")  # each with .bbox .score .iuv .chart .uv .mask ...
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktn_jax.predictor import Predictor

__version__ = "0.1.0"


def load(export: str, **settings: Any) -> "Predictor":
    """An export as a callable, photograph -> people; see ktn_jax.predictor."""
    from ktn_jax import predictor  # late: the metric and the data need no jax

    return predictor.load(export, **settings)
