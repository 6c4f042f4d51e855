"""The head: one stride-4 map -> Fields. Shared dilations, instance rows, then the surface.

Order of things: features F; the six person rows, tag and so on from F; then every cell
is told where it lies within its own person (by its own vote, gradient stopped), which is
what cutting out a box tells a two-stage network; then parts, charts, U, V and keypoints.
With `fine` all but the classifiers works at stride 8, where CPUs do twice the width in less
time, and is brought to stride 4 for them. A wide map, where there is one, is added twice:
before F and, told the place too, before the surface.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax import embedding
from ktn_jax.anatomy import NUM_CHARTS, NUM_KEYPOINTS, NUM_PARTS
from ktn_jax.graph import Graph
from ktn_jax.models.layers import (
    ConvNormRelu,
    WideningBlock,
    conv1x1,
    group_norm,
    he_fan_out,
    pixel_shuffle,
    recomputed,
    space_to_depth,
)
from ktn_jax.models.products import convolve3x3, matrix_product
from ktn_jax.models.transfer import KnowledgeTransfer, kernel_rows, rows_kernel
from ktn_jax.models.wide import Addition, WideSurface
from ktn_jax.structs import Fields

Array = jax.Array

DILATIONS = (1, 6, 12)  # of the shared kernel, at stride 4
PERSON_ROWS = 6  # mask, centre, quality, offset y, offset x, bandwidth
OFFSET_SCALE = 32.0  # canvas pixels an offset output of 1 means: keeps outputs near 1
RARE = -4.0  # first logit of what few cells show: anchors and keypoints
FREQUENCIES = (0.5, 1.0, 2.0)  # of the place within a person, per sigma
PLACE_LIMIT = 8.0  # sigmas; a far vote says nothing more


class ScaleConvs(nn.Module):
    """One 3x3 kernel shared by three dilations, beside a 1x1; joined and projected."""

    width: int
    dilations: tuple[int, ...] = DILATIONS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", he_fan_out, (3, 3, x.shape[-1], self.width))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        branches = []
        for dilation in self.dilations:
            y = convolve3x3(x, kernel, dilation)
            norm = group_norm(self.width, dtype=self.dtype, name=f"norm{dilation}")
            branches.append(nn.relu(norm(y)))
        one = ConvNormRelu(self.width, kernel=1, dtype=self.dtype, name="one")
        branches.append(one(x))  # last, as in the authors' weights
        project = conv1x1(self.width, dtype=self.dtype, name="project")
        return nn.relu(project(jnp.concatenate(branches, axis=-1)))


class Raise(nn.Module):
    """A map at stride 8 brought to stride 4 by a pixel-shuffle, beside what is finer."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, fine: Array) -> Array:
        """x: [B, h, w, *].   fine: [B, 2h, 2w, *]. Returns [B, 2h, 2w, width]."""
        grow = conv1x1(4 * self.width, bias=True, dtype=self.dtype, name="grow")
        lateral = conv1x1(self.width, dtype=self.dtype, name="lateral")
        x = nn.relu(pixel_shuffle(grow(x)) + lateral(fine))
        return ConvNormRelu(self.width, dtype=self.dtype, name="smooth")(x)


class Head(nn.Module):
    """Features -> Fields. Charts by knowledge transfer where there are sources."""

    width: int  # channels between x and the features that are classified
    depth: int  # n convolutions after the shared dilations
    kernel: int  # 1 or 3, of the classifiers
    tag: int  # T
    sources: tuple[str, ...]  # of transfer.SOURCES; (): charts have their own kernel
    graph: Graph  # what A starts from; read at initialisation alone
    train_graph: bool
    own_kernel: bool
    surface_blocks: int = 0  # WideningBlocks before charts, U, V and keypoints
    fine: int = 0  # C where x is at stride 8; 0: x is at stride 4, and C the width
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, detail: Array | None = None, wide: Array | None = None
    ) -> Fields:
        """x: [B, h, w, *] at stride 4; with `fine` at 8, and then detail, C2, at 4.

        wide: a WideMap, [B, h/2, w/2, *], where there is one.
        """
        if wide is not None:
            x = x + Addition(x.shape[-1], dtype=self.dtype, name="wide_person")(wide)
        dilations = tuple(max(1, d // 2) for d in DILATIONS) if self.fine else DILATIONS
        scales, block, up = (
            recomputed(m, self.remat) for m in (ScaleConvs, ConvNormRelu, Raise)
        )
        x = scales(self.width, dilations, dtype=self.dtype, name="scales")(x)
        for i in range(self.depth):
            x = block(self.width, dtype=self.dtype, name=f"block{i}")(x)
        features = x
        if self.fine:
            features = up(self.fine, dtype=self.dtype, name="raise_person")(x, detail)
        person_kernel = self._kernel("person", PERSON_ROWS)
        person = self._classify(
            features, person_kernel, self._bias("person", PERSON_ROWS, 0.0)
        )
        mask, center, quality, *offset, bandwidth = jnp.moveaxis(person, -1, 0)
        offset = jnp.stack(offset, axis=-1) * OFFSET_SCALE
        tag = self._classify(
            features, self._kernel("tag", self.tag), self._bias("tag", self.tag, 0.0)
        )
        x = self._place(x, offset, bandwidth, wide)
        if self.fine:
            x = up(self.fine, dtype=self.dtype, name="raise_surface")(x, features)
        keypoint_kernel = self._kernel("keypoint", NUM_KEYPOINTS)
        part_kernel = self._kernel("part", NUM_PARTS)
        chart_kernel = self._charts(keypoint_kernel, part_kernel, person_kernel)
        uv_kernel = self._kernel("uv", 2 * NUM_CHARTS)
        uv = self._classify(x, uv_kernel, self._bias("uv", 2 * NUM_CHARTS, 0.5))
        return Fields(
            mask=mask,
            parts=self._classify(x, part_kernel, self._bias("part", NUM_PARTS, 0.0)),
            chart=self._classify(x, chart_kernel, 0.0),
            uv=uv.reshape(*uv.shape[:-1], NUM_CHARTS, 2),
            keypoints=self._classify(
                x, keypoint_kernel, self._bias("keypoint", NUM_KEYPOINTS, RARE)
            ),
            center=center + RARE,
            offset=offset,
            bandwidth=bandwidth,
            tag=tag,
            quality=quality,
        )

    @property
    def _channels(self) -> int:
        """C of the features that are classified."""
        return self.fine or self.width

    def _kernel(self, name: str, outputs: int) -> Array:
        shape = (self.kernel, self.kernel, self._channels, outputs)
        return self.param(f"{name}_kernel", nn.initializers.lecun_normal(), shape)

    def _bias(self, name: str, outputs: int, value: float) -> Array:
        return self.param(f"{name}_bias", nn.initializers.constant(value), (outputs,))

    def _classify(self, x: Array, kernel: Array, bias: Array | float) -> Array:
        """A dense classifier with float32 output."""
        kernel = kernel.astype(self.dtype)
        if self.kernel == 1:
            y = matrix_product(x, kernel[0, 0])
        else:
            y = convolve3x3(x, kernel)
        return y.astype(jnp.float32) + bias

    def _charts(self, keypoint: Array, part: Array, person: Array) -> Array:
        """The chart kernel [k, k, C, 25]: generated, or a plain one."""
        if not self.sources:
            return self._kernel("chart", NUM_CHARTS)
        transfer = KnowledgeTransfer(
            self.graph,
            self.train_graph,
            self.own_kernel,
            width=self._channels * self.kernel**2,
            sources=self.sources,
            name="transfer",
        )
        rows = transfer(kernel_rows(keypoint), kernel_rows(part), kernel_rows(person))
        return rows_kernel(rows, self.kernel)

    def _place(
        self, x: Array, offset: Array, bandwidth: Array, wide: Array | None
    ) -> Array:
        """x with each cell's place within its own person mixed in."""
        place = -offset / embedding.sigma(bandwidth)[..., None]
        place = jax.lax.stop_gradient(jnp.clip(place, -PLACE_LIMIT, PLACE_LIMIT))
        waves = [wave(f * place) for f in FREQUENCIES for wave in (jnp.sin, jnp.cos)]
        code = jnp.concatenate([place / PLACE_LIMIT, *waves], axis=-1).astype(self.dtype)
        if self.fine:
            code = space_to_depth(code)
        code = conv1x1(self.width, bias=True, dtype=self.dtype, name="place_code")(code)
        # leaky: every run shut some more of a relu, and what is shut learns no more
        code = nn.leaky_relu(code)
        x = x + conv1x1(self.width, bias=True, dtype=self.dtype, name="place_mix")(code)
        if wide is not None:
            look = recomputed(WideSurface, self.remat)
            wide = look(wide.shape[-1], dtype=self.dtype, name="wide")(wide, x)
            x = x + Addition(self.width, dtype=self.dtype, name="wide_surface")(wide)
        block = recomputed(ConvNormRelu, self.remat)
        x = block(self.width, dtype=self.dtype, name="surface")(x)
        more = recomputed(WideningBlock, self.remat)
        for i in range(self.surface_blocks):
            x = nn.relu(more(self.width, dtype=self.dtype, name=f"surface_block{i}")(x))
        return x
