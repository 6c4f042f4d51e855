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
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ktn_jax.errors import UserError

AXIS = "data"
MODES = ("pmap", "jit")

Step = Callable[..., tuple[Any, Any]]  # (state, batch, axis) -> (state, metrics)


def connect(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Joins the other processes of a run; nothing where there is only this one.

    coordinator: HOST:PORT where process 0 listens.   processes: how many.   process:
    which one this is, from 0. What is None is asked of the cluster (SLURM, Open MPI, TPU
    pods), as jax knows it. To be called before any other use of jax.
    """
    given = (coordinator, processes, process)
    if processes == 1 and coordinator is None:
        return
    if given != (None, None, None) and not _complete(*given):
        raise UserError(
            f"coordinator {coordinator}, processes {processes}, process {process} do not "
            "describe a process; give all of --coordinator=HOST:PORT --processes=N "
            "--process=I (0..N-1), or none"
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except ValueError as error:
        if "coordinator_address" not in str(error):  # what jax says where no cluster is
            raise UserError(
                f"the cluster does not say who its processes are ({error}); give "
                "--coordinator=HOST:PORT --processes=N --process=I, or --processes=1"
            ) from error


def _complete(coordinator: str | None, processes: int | None, process: int | None) -> bool:
    if coordinator is None or processes is None or process is None:
        return False
    port = coordinator.rpartition(":")[2]
    return ":" in coordinator and port.isdigit() and 0 <= process < processes


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


def gather(rows: np.ndarray) -> np.ndarray:
    """The rows of all processes, one after the other. Every process must call it.

    rows: [n, ...] on the host, equally many in every process.
    """
    if jax.process_count() == 1:
        return np.asarray(rows)
    return np.concatenate(multihost_utils.process_allgather(rows))


def from_first(value: float) -> float:
    """Process 0's value. Every process must call it; the others wait."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def to_global(state: Any) -> Any:
    """The same state as arrays of all processes, which only such can be saved.

    pmap's lie on this process's devices alone. Nothing is copied.
    """
    if jax.process_count() == 1:
        return state
    sharding = NamedSharding(_mesh(), PartitionSpec())
    return jax.tree.map(lambda leaf: _laid_out(leaf, sharding), state)


def like(state: Any, example: Any) -> Any:
    """A state from `to_global`, laid out as the example is. Nothing is copied."""
    return jax.tree.map(lambda leaf, e: _laid_out(leaf, e.sharding), state, example)


def _laid_out(leaf: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    """A replicated array under another replicated sharding of the same local devices."""
    if leaf.sharding == sharding:
        return leaf
    pieces = {shard.device: shard.data for shard in leaf.addressable_shards}
    mine = [d for d in sharding.mesh.devices.flat if d in pieces]
    return jax.make_array_from_single_device_arrays(
        leaf.shape, sharding, [pieces[device] for device in mine]
    )


def check_batch_size(batch_size: int, pieces: int = 1) -> None:
    """Raise where the devices cannot share a batch evenly, each in equal pieces."""
    devices = jax.device_count()
    if pieces < 1:
        raise UserError(f"optim.accumulate={pieces} is not 1 or more pieces of a batch")
    if batch_size % (devices * pieces):
        nearest = max(1, batch_size // (devices * pieces)) * devices * pieces
        times = f" x {pieces} pieces (optim.accumulate)" if pieces > 1 else ""
        raise UserError(
            f"batch_size {batch_size} is not divisible by {devices} devices{times}; "
            f"set --config.data.batch_size={nearest}"
        )


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    # by process, so that a process's rows are a block of the batch; jax.make_mesh may
    # order a pod's devices by their places
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    # Auto: with today's default, Explicit, gradients of reshapes of the batch raise
    return jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
