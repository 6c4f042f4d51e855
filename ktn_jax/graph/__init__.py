"""The body knowledge graph: how much each keypoint, part and person row says of a chart.

A = 0.3 (V + G + R) for keypoints and parts and 0.5 (V + G) for the person (the authors'
weights). R are rules of anatomy, G is the likeness of the words, V is what is seen
together. `python -m ktn_jax.graph` builds, prints, draws and saves it.
"""

from ktn_jax.graph.matrices import PERSON_ROWS, Graph, build_graph, empty_graph
from ktn_jax.graph.stored import read_graph, shipped_visual, write_graph

__all__ = [
    "PERSON_ROWS",
    "Graph",
    "build_graph",
    "empty_graph",
    "read_graph",
    "shipped_visual",
    "write_graph",
]
