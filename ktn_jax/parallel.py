"""Data parallelism: one step body, run by jax.pmap or by jit + NamedSharding.

The body gets an axis name, or None. Under pmap it sees one device's share and adds
counts, losses and gradients over the axis; under jit it sees the whole batch. State has
no device axis in either mode, so checkpoints do not depend on the mode or the devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ktn_jax.errors import UserError

AXIS = "data"
MODES = ("pmap", "jit")

Step = Callable[..., tuple[Any, Any]]  # (state, batch, axis) -> (state, metrics)


def all_sum(tree: Any, axis: str | None) -> Any:
    """Sum over devices under pmap; the identity under jit, which sees every example."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def data_parallel(step: Step, mode: str) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The step over all devices: f(state, batch) -> (state, metrics).

    mode: "pmap" or "jit".   batch: leaves [B, ...] from `put_batch`. State is donated.
    """
    if mode == "jit":
        return jax.jit(functools.partial(step, axis=None), donate_argnums=0)
    if mode == "pmap":
        return jax.pmap(
            functools.partial(step, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            donate_argnums=0,
        )
    raise UserError(f"parallel={mode!r} is not one of {MODES}; set --config.parallel=pmap")


def put_batch(batch: Any, mode: str) -> Any:
    """A host batch laid out for `data_parallel`: [devices, B / devices, ...] for pmap."""
    devices = jax.local_devices()
    if mode == "pmap":
        split = lambda x: np.reshape(x, (len(devices), -1, *np.shape(x)[1:]))  # noqa: E731
        return jax.tree.map(split, batch)
    sharding = NamedSharding(_mesh(), PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def put_state(state: Any, mode: str) -> Any:
    """State replicated over all devices, placed as a step returns it.

    Placed in any other way, the second step would compile anew.
    """
    if mode == "jit":
        return jax.device_put(state, NamedSharding(_mesh(), PartitionSpec()))
    place = jax.pmap(lambda state, _: state, AXIS, in_axes=(None, 0), out_axes=None)
    return place(state, np.zeros(jax.local_device_count()))


def check_batch_size(batch_size: int) -> None:
    """Raise where the devices cannot share a batch evenly."""
    devices = jax.device_count()
    if batch_size % devices:
        nearest = max(devices, batch_size // devices * devices)
        raise UserError(
            f"batch_size {batch_size} is not divisible by {devices} devices; "
            f"set --config.data.batch_size={nearest}"
        )


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    # Auto: with today's default, Explicit, gradients of reshapes of the batch raise
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
