"""The whole network: image -> backbone -> pyramid -> decoder -> head -> Fields."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.graph import Graph, build_graph
from ktn_jax.models.backbone import build_backbone, build_pyramid, normalise
from ktn_jax.models.decoder import MID, PlainDecoder
from ktn_jax.models.heads import Head
from ktn_jax.models.transfer import KnowledgeTransfer, kernel_rows, rows_kernel
from ktn_jax.structs import Fields

Array = jax.Array

CANVAS_MULTIPLE = 32  # the coarsest stride


class KTN(nn.Module):
    """Bottom-up KTN. Every size and switch is a field of config.model."""

    backbone: str  # one of backbone.BACKBONES
    norm: str  # of the backbone: group, or frozen with pretrained weights
    pixels: str  # one of backbone.PIXELS, or "" for the backbone's own
    stride_in_1x1: bool  # where a ResNet's blocks stride
    widths: tuple[int, ...]  # channels of C2..C5 of backbone "small"
    depths: tuple[int, ...]  # its residual blocks of C2..C5
    width: int  # channels of pyramid, decoder and head
    head_depth: int  # convolutions of the head
    head_kernel: int  # 1 or 3
    tag: int  # dimensions of the free instance tag
    mid: bool  # multi-instance decoder, else the plain sum of levels
    ktm: bool  # charts by knowledge transfer, else a kernel of their own
    graph_rules: bool  # relation R of the body graph
    graph_words: bool  # relation G
    graph_split_pairs: bool  # words that tell front from back
    train_graph: bool  # whether A is trained
    own_kernel: bool  # residual chart kernel beside the generated one
    remat: bool  # activations of blocks are computed anew in the backward pass
    dtype: str  # of activations: float32 or bfloat16; parameters stay float32

    @nn.compact
    def __call__(self, image: Array) -> Fields:
        """image: [B, H, W, 3] RGB in 0..255, H and W divisible by 32."""
        dtype = jnp.dtype(self.dtype)
        x = normalise(image, self.pixels, self.backbone).astype(dtype)
        levels = backbone_of(self)(x)
        pyramid = build_pyramid(self.backbone, self.width, dtype=dtype)(levels)
        decode = MID if self.mid else PlainDecoder
        x = decode(self.width, self.remat, dtype=dtype, name="decoder")(pyramid)
        head = Head(
            self.width,
            self.head_depth,
            self.head_kernel,
            self.tag,
            self.graph() if self.ktm else None,
            self.train_graph,
            self.own_kernel,
            remat=self.remat,
            dtype=dtype,
            name="head",
        )
        return head(x)

    def graph(self) -> Graph:
        """The body graph that the fields name."""
        return build_graph(
            rules=self.graph_rules,
            words=self.graph_words,
            split_pairs=self.graph_split_pairs,
        )


def backbone_of(network: KTN) -> nn.Module:
    """The network's backbone, alone: normalised image -> maps at strides 4 to 32."""
    return build_backbone(
        network.backbone,
        norm=network.norm,
        widths=network.widths,
        depths=network.depths,
        stride_in_1x1=network.stride_in_1x1,
        remat=network.remat,
        dtype=jnp.dtype(network.dtype),
    )


def build_network(model: Mapping[str, Any]) -> KTN:
    """The network of config.model. An unknown field is a TypeError."""
    fields = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in model.items()}
    return KTN(**fields)


def fold(network: KTN, variables: Mapping[str, Any]) -> tuple[KTN, dict[str, Any]]:
    """The same function with a plain chart kernel: for inference the KTM costs nothing."""
    if not network.ktm:
        return network, dict(variables)
    params = dict(variables["params"])
    head = dict(params["head"])
    rows = [kernel_rows(head[f"{name}_kernel"]) for name in ("keypoint", "part", "person")]
    transfer = KnowledgeTransfer(
        network.graph(), network.train_graph, network.own_kernel, width=rows[0].shape[1]
    )
    made = transfer.apply({"params": head.pop("transfer")}, *rows)
    head["chart_kernel"] = rows_kernel(made, network.head_kernel)
    params["head"] = head
    return network.clone(ktm=False), {**variables, "params": params}


def init_variables(network: KTN, seed: int, canvas: int) -> dict[str, Any]:
    """Fresh parameters; "rbg" keys compile three times faster than the default's."""
    image = jnp.zeros((1, canvas, canvas, 3), jnp.uint8)
    return jax.jit(network.init)(jax.random.key(seed, impl="rbg"), image)
