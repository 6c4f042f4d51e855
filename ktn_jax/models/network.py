"""The whole network: image -> backbone -> pyramid -> decoder -> head -> Fields."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ktn_jax.errors import UserError
from ktn_jax.graph import Graph, build_graph, empty_graph, read_graph, shipped_visual
from ktn_jax.models.backbone import (
    build_backbone,
    build_prior,
    build_pyramid,
    normalise,
)
from ktn_jax.models.context import HEAD_WIDTH
from ktn_jax.models.decoder import MID, PlainDecoder
from ktn_jax.models.heads import Head
from ktn_jax.models.layers import recomputed
from ktn_jax.models.movenet import MOVENET, MoveNetKeypoints
from ktn_jax.models.nanodet import NANODET, NanoDet
from ktn_jax.models.prior_heads import PriorChart, PriorMask
from ktn_jax.models.transfer import SOURCES, KnowledgeTransfer, kernel_rows, rows_kernel
from ktn_jax.models.wide import WideMap
from ktn_jax.structs import Fields

Array = jax.Array

CANVAS_MULTIPLE = 32  # the coarsest stride
COLLECTIONS = ("params", "frozen")  # of a network's variables
UNFOLD_STEPS, UNFOLD_RATE = 10_000, 3e-3  # of Adam; a few seconds
UNFOLD_ERROR = 0.02  # rms, as a share of the kernel's own


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
    surface_blocks: int  # residual blocks of the head, before charts, U, V, keypoints
    tag: int  # dimensions of the free instance tag
    mid: bool  # multi-instance decoder, else the plain sum of levels
    ktm: bool  # charts by knowledge transfer, else a kernel of their own
    ktm_sources: tuple[str, ...]  # of transfer.SOURCES: whose kernels make the charts'
    graph: str  # npz of the body graph; "": built from the switches
    graph_rules: bool  # relation R of the body graph
    graph_words: bool  # relation G
    graph_visual: bool  # relation V, as counted on rendered people
    graph_split_pairs: bool  # words that tell front from back
    train_graph: bool  # whether A is trained
    own_kernel: bool  # residual chart kernel beside the generated one
    remat: bool  # activations of blocks are computed anew in the backward pass
    dtype: str  # of activations: float32 or bfloat16; parameters stay float32
    fine: int = 0  # channels at stride 4 where decoder and head work at 8; 0: all at 4
    prior: str = ""  # a second backbone that joins the pyramid; "": none
    wide: int = 0  # channels of a second map, at stride 8, beside the decoder's; 0: none
    context: int = 0  # rounds of attention within that map, at stride 16
    prior_keypoints: bool = False  # whether the prior's own keypoint head is there, too
    prior_mask: int = 0  # channels of a second mask, of the prior's maps alone; 0: none
    prior_chart: int = 0  # channels of second charts, of its maps and keypoints; 0: none
    detector: str = ""  # a detector of people beside it all; "": none

    @nn.compact
    def __call__(self, image: Array, heat: Array | None = None) -> Fields:
        """image: [B, H, W, 3] RGB in 0..255, H and W divisible by 32.

        heat: [B, H/4, W/4, 17] in [0, 1]: keypoints that the second charts are to go by,
        in training; None: those that the prior sees.
        """
        dtype = jnp.dtype(self.dtype)
        x = normalise(image, self.pixels, self.backbone).astype(dtype)
        levels = backbone_of(self)(x)
        first = 3 if self.fine else 2
        join = build_pyramid(self.backbone, self.width, first=first, dtype=dtype)
        prior, sighted = self._prior(image)
        pyramid = join(levels[first - 2 :], *(maps[first - 2 :] for maps in prior))
        decode = MID if self.mid else PlainDecoder
        x = decode(self.width, first, self.remat, dtype=dtype, name="decoder")(pyramid)
        head = Head(
            self.width,
            self.head_depth,
            self.head_kernel,
            self.tag,
            self.ktm_sources if self.ktm else (),
            self.body_graph() if self.ktm and self.is_initializing() else empty_graph(),
            self.train_graph,
            self.own_kernel,
            self.surface_blocks,
            self.fine,
            remat=self.remat,
            dtype=dtype,
            name="head",
        )
        detail, wide = None, None
        if self.fine:
            detail = levels[0]
        elif self.wide:
            both = (maps[1:] for maps in (levels, *prior))
            wide = recomputed(WideMap, self.remat)(
                self.wide, self.context, dtype, name="wide"
            )(*both)
        own_mask = None
        if self.prior_mask:
            (maps,) = prior
            own = recomputed(PriorMask, self.remat)
            own_mask = own(self.prior_mask, dtype, name="prior_mask")(maps[1:])
        own_chart = None
        if self.prior_chart:
            (maps,) = prior
            heat = jax.nn.sigmoid(sighted) if heat is None else heat
            own = recomputed(PriorChart, self.remat)
            own_chart = own(self.prior_chart, dtype, name="prior_chart")(maps[1:], heat)
        fields = head(x, detail, wide)
        detected = None
        if self.detector:
            detected = NanoDet(dtype, name="detector")(image)
        return fields.replace(
            prior_keypoints=sighted,
            prior_mask=own_mask,
            prior_chart=own_chart,
            detected=detected,
        )

    def _prior(self, image: Array) -> tuple[tuple[tuple[Array, ...], ...], Array | None]:
        """The second backbone's maps, if there is one, and the keypoints it sees."""
        if not self.prior:
            return (), None
        dtype = jnp.dtype(self.dtype)
        x = normalise(image, "", self.prior).astype(dtype)
        prior = build_prior(self.prior, self.backbone, dtype=dtype)
        stages = prior(x, every=True)
        sighted = None
        if self.prior_keypoints:
            keypoints = MoveNetKeypoints(dtype=dtype, name="prior_keypoints")(stages)
            sighted = keypoints.astype(jnp.float32)
        return (prior.architecture.levels_of(stages),), sighted

    def body_graph(self) -> Graph:
        """What A starts from, by the fields. Later it lies among the variables."""
        if self.graph:
            return read_graph(Path(self.graph))
        return build_graph(
            rules=self.graph_rules,
            words=self.graph_words,
            split_pairs=self.graph_split_pairs,
            visual=shipped_visual() if self.graph_visual else None,
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
    """The network of config.model. UserError for fields that are missing or unknown.

    Fields with a default are younger than the first runs, which lack them.
    """
    fields = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in model.items()}
    known = {f.name: f.default for f in dataclasses.fields(KTN)}
    known = {k: default for k, default in known.items() if k not in ("parent", "name")}
    needed = {k for k, default in known.items() if default is dataclasses.MISSING}
    if differing := sorted((fields.keys() - known) | (needed - fields.keys())):
        raise UserError(
            f"config.model lacks or should not have {', '.join(differing)}: it is of "
            "another version of ktn_jax; train again, or use the version that made it"
        )
    network = KTN(**fields)
    check_network(network)
    return network


def check_network(network: KTN) -> None:
    """UserError for fields that do not go together."""
    if network.wide and network.fine:
        raise UserError(
            f"model.wide={network.wide} goes beside a decoder at stride 4, and with "
            f"model.fine={network.fine} it works at stride 8; set --config.model.wide=0"
        )
    if network.context and (not network.wide or network.wide % HEAD_WIDTH):
        raise UserError(
            f"model.context={network.context} is attention within the wide map, in heads "
            f"of {HEAD_WIDTH} channels; set --config.model.wide to a multiple of "
            f"{HEAD_WIDTH} (it is {network.wide}), or --config.model.context=0"
        )
    if network.prior_keypoints and network.prior != MOVENET:
        raise UserError(
            f"model.prior_keypoints is of prior {MOVENET!r}, and model.prior is "
            f"{network.prior!r}; set --config.model.prior={MOVENET}, or "
            "--config.model.prior_keypoints=False"
        )
    if network.prior_mask and network.prior != MOVENET:
        raise UserError(
            f"model.prior_mask={network.prior_mask} is of the maps of prior {MOVENET!r}, "
            f"and model.prior is {network.prior!r}; set --config.model.prior={MOVENET}, or "
            "--config.model.prior_mask=0"
        )
    if network.prior_chart and not network.prior_keypoints:
        raise UserError(
            f"model.prior_chart={network.prior_chart} goes by the keypoints that the prior "
            "sees; set --config.model.prior_keypoints=True, or --config.model.prior_chart=0"
        )
    if network.detector not in ("", NANODET):
        raise UserError(f"model.detector={network.detector!r} is not {NANODET!r}, or ''")
    if not network.ktm_sources or not set(SOURCES).issuperset(network.ktm_sources):
        raise UserError(
            f"model.ktm_sources={network.ktm_sources} must be a tuple of some of "
            f"{SOURCES}; charts get a kernel of their own by --config.model.ktm=False"
        )


def fold(network: KTN, variables: Mapping[str, Any]) -> tuple[KTN, dict[str, Any]]:
    """The same function with a plain chart kernel: for inference the KTM costs nothing."""
    if not network.ktm:
        return network, dict(variables)
    transfer, weights, rows = _transfer(network, variables)
    kernel = rows_kernel(transfer.apply(weights, *rows), network.head_kernel)
    folded = {name: {**variables.get(name, {})} for name in COLLECTIONS}
    for part in folded.values():
        part["head"] = {k: v for k, v in part.get("head", {}).items() if k != "transfer"}
    folded["params"]["head"]["chart_kernel"] = kernel
    return network.clone(ktm=False), {**variables, **folded}


def unfold(network: KTN, variables: Mapping[str, Any], kernel: Array) -> dict[str, Any]:
    """The way back of fold: variables whose knowledge transfer makes a chart kernel.

    variables: the transfer's own are where the search for it begins; the kernels that it
    mixes stay.   kernel: [k, k, C, 25].   UserError where no such transfer is found.
    """
    transfer, weights, rows = _transfer(network, variables)
    wanted = kernel_rows(jnp.asarray(kernel))
    tx = optax.adam(optax.cosine_decay_schedule(UNFOLD_RATE, UNFOLD_STEPS))

    def error(params: Any) -> Array:
        made = transfer.apply({**weights, "params": params}, *rows)
        return jnp.square(made - wanted).mean()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        updates, state = tx.update(jax.grad(error)(params), state)
        return (optax.apply_updates(params, updates), state), None

    start = weights["params"], tx.init(weights["params"])
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=UNFOLD_STEPS))(start)
    share = float(jnp.sqrt(error(params)) / wanted.std())
    if not share < UNFOLD_ERROR:
        raise UserError(
            f"the export's chart kernel cannot be made by this knowledge transfer "
            f"({share:.1%} of it are left over); train its graph (model.train_graph), or "
            "learn the charts anew by "
            "--config.init.skip=\"('head/transfer/.*','head/chart_kernel')\""
        )
    head = {**variables["params"]["head"], "transfer": params}
    return {**variables, "params": {**variables["params"], "head": head}}


def _transfer(
    network: KTN, variables: Mapping[str, Any]
) -> tuple[KnowledgeTransfer, dict[str, Any], list[Array]]:
    """A network's knowledge transfer, its variables, and the rows that it mixes.

    Needs no graph: A is in the variables, among the parameters or the frozen ones.
    """
    head, frozen = (variables.get(name, {}).get("head", {}) for name in COLLECTIONS)
    rows = [kernel_rows(head[f"{name}_kernel"]) for name in ("keypoint", "part", "person")]
    transfer = KnowledgeTransfer(
        empty_graph(),
        network.train_graph,
        network.own_kernel,
        width=rows[0].shape[1],
        sources=network.ktm_sources,
    )
    weights = {"params": head["transfer"], "frozen": frozen.get("transfer", {})}
    return transfer, weights, rows


def init_variables(network: KTN, seed: int, canvas: int) -> dict[str, Any]:
    """Fresh parameters; "rbg" keys compile three times faster than the default's."""
    image = jnp.zeros((1, canvas, canvas, 3), jnp.uint8)
    return jax.jit(network.init)(jax.random.key(seed, impl="rbg"), image)
