"""KTM, the knowledge transfer machine: chart kernels made from other classifiers' kernels.

Keypoints, parts and people have many labels, charts few. So the chart classifier is not
learnt on its own: a body graph mixes the kernels of the keypoint, part and person heads
into one row a chart, and two dense layers turn the rows into kernels (paper, sec. KTM).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.anatomy import NUM_CHARTS
from ktn_jax.graph import Graph

Array = jax.Array

LEAK = 0.02  # slope of the LeakyReLU between the two layers
SOURCES = ("keypoint", "person", "part")  # in the order of the authors' rows


def kernel_rows(kernel: Array) -> Array:
    """[k, k, C, out] -> [out, C * k * k], in the authors' order (in, row, column)."""
    return kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)


def rows_kernel(rows: Array, size: int) -> Array:
    """[out, C * k * k] -> [k, k, C, out], the way back."""
    return rows.reshape(len(rows), -1, size, size).transpose(2, 3, 1, 0)


class KnowledgeTransfer(nn.Module):
    """W_I = L2(LeakyReLU(L1(concat(A_k W_k, A_p stopgrad(W_p), A_s W_s))))."""

    graph: Graph  # what A starts from; later it is read from the variables
    train_graph: bool  # whether A is a parameter, or kept in the collection "frozen"
    own_kernel: bool  # adds gamma * W_own, gamma from 0; not in the paper
    width: int  # length of a generated row
    sources: tuple[str, ...] = SOURCES  # the paper's; in any order

    @nn.compact
    def __call__(self, keypoint: Array, part: Array, person: Array) -> Array:
        """keypoint [17, d], part [15, d], person [6, d'] kernel rows. Returns [25, width].

        Depends on parameters alone: evaluate once and keep the result for inference.
        """
        person = jax.lax.stop_gradient(person)
        kernels = {"keypoint": keypoint, "part": part, "person": person}
        mixed = [
            self._matrix(name) @ kernels[name] for name in SOURCES if name in self.sources
        ]
        hidden = nn.Dense(self.width, kernel_init=nn.initializers.he_normal(), name="l1")(
            jnp.concatenate(mixed, axis=1)
        )
        hidden = nn.leaky_relu(hidden, LEAK)
        rows = nn.Dense(self.width, kernel_init=nn.initializers.he_normal(), name="l2")(
            hidden
        )
        if self.own_kernel:
            shape = (NUM_CHARTS, self.width)
            own = self.param("own", nn.initializers.normal(self.width**-0.5), shape)
            rows += self.param("gamma", nn.initializers.zeros, ()) * own
        return rows

    def _matrix(self, name: str) -> Array:
        """A of one source. Either way a checkpoint holds it, and no file is read again."""

        def start(*_: Any) -> Array:
            return jnp.asarray(getattr(self.graph, name), jnp.float32)

        if self.train_graph:
            return self.param(f"graph_{name}", start)
        return self.variable("frozen", f"graph_{name}", start).value
