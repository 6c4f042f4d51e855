"""ktn_jax: dense correspondences between photographs and the human body, in JAX."""

__version__ = "0.1.0"
