"""The training story: build everything from a config, then hand it to the loop.

Start reading at `train`. `train_step` is the mathematics of one step; where it runs (one
device, pmap, jit + NamedSharding, many hosts) is parallel.py's affair, and when it is
logged, saved and stopped that of loop.py.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ktn_jax import (
    checkpoint,
    feigned,
    guards,
    inference,
    initialise,
    losses,
    measuring,
    optim,
    parallel,
    snapshots,
)
from ktn_jax.codec import Codec
from ktn_jax.data import densepose_coco, pipeline, transforms
from ktn_jax.data.draws import Source
from ktn_jax.errors import UserError
from ktn_jax.loop import Loop, parse_trace
from ktn_jax.models.network import KTN, build_network, init_variables
from ktn_jax.models.prior_heads import DROPS
from ktn_jax.structs import Batch, Fields, TrainState

Array = jax.Array


def train_step(
    state: TrainState,
    batch: Batch,
    axis: str | None,
    *,
    network: KTN,
    tx: optax.GradientTransformation,
    weights: Mapping[str, float],
    ema: float,
    hold: Sequence[str] = (),
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, Array]]:
    """One step: the new state, and the loss and its terms.

    Where the loss or the gradient is not finite, the state is the old one but for `step`,
    and the schedule of learning rates, which counts updates, stands still.
    batch: one device's share under pmap, all of it under jit.   axis: pmap's, or None.
    weights: of losses.TERMS.   ema: decay of the averaged parameters, 0 for none.
    hold: names of parameters that stay, as in config.optim.hold.
    accumulate: pieces that a device takes its rows in, one after the other.
    """

    def fields_of(params: Any, piece: Batch) -> Fields:
        params = optim.hold_still(params, hold)
        variables = {"params": params, "frozen": state.frozen}
        heat = None
        if network.prior_chart:
            heat = feigned.keypoints(drops, piece.image_id, piece.targets.keypoints)
        return network.apply(variables, piece.image, heat, rngs={DROPS: drops})

    # of the step alone: the same channels are out on every device and in every piece
    drops = jax.random.fold_in(jax.random.key(0), state.step)
    # counts over all devices and pieces before the division; totals and gradients after it
    shapes = jax.eval_shape(fields_of, state.params, batch)
    counts = parallel.all_sum(losses.all_counts(shapes, batch.targets), axis)

    def loss_of(params: Any, piece: Batch) -> tuple[Array, dict[str, Array]]:
        terms = losses.all_terms(fields_of(params, piece), piece.targets)
        terms = {k: t.replace(count=counts[k]) for k, t in terms.items()}
        return losses.weigh(terms, weights)

    (loss, means), grads = _sum_over_pieces(
        functools.partial(jax.value_and_grad(loss_of, has_aux=True), state.params),
        batch,
        accumulate,
    )
    loss, means, grads = parallel.all_sum((loss, means, grads), axis)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = _running_average(state, params, ema) if ema else state.ema
    norm = optax.tree.norm(grads)
    new = state.replace(params=params, ema=average, opt_state=opt_state)
    state = _if_finite(loss + norm, new, state).replace(step=state.step + 1)
    return state, {"loss": loss, **means, "gradient_norm": norm}


def _sum_over_pieces(function: Callable[[Batch], Any], batch: Batch, pieces: int) -> Any:
    """The sum of what a function says of each piece of a batch, one piece in memory.

    Piece j has rows j, j + pieces, ...: under jit every device keeps the rows it has.
    """
    if pieces == 1:
        return function(batch)

    def cut(rows: Array) -> Array:
        return jnp.moveaxis(rows.reshape(-1, pieces, *rows.shape[1:]), 1, 0)

    def add(total: Any, piece: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(piece)), None

    cuts = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], cuts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, cuts)[0]


def _if_finite(value: Array, new: TrainState, old: TrainState) -> TrainState:
    """The new state where the value is finite, else the old one."""
    finite = jnp.isfinite(value)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def _running_average(state: TrainState, params: Any, ema: float) -> Any:
    """The averaged parameters after a step; young averages forget faster than `ema`."""
    decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)


def first_state(
    config: ConfigDict,
    network: KTN,
    tx: optax.GradientTransformation,
    run: checkpoint.Run,
) -> TrainState:
    """The state to go on from, on the devices: the first of these that there is.

    1. resume: the run's newest checkpoint, with step and optimiser.
    2. config.init.checkpoint: another run's parameters (averaged, if it averages), an
       export's (its knowledge transfer, which was folded, is found anew), or backbone and
       FPN of a detectron2 model; what init.backbone, prior and detector name goes
       before what it has.
       Step 0, a fresh optimiser, and so too:
    3. config.init.backbone, prior, detector: weights of these alone.
    4. scratch: config.seed.
    """
    resumes = run.latest_step() is not None
    init = None if resumes else config.init
    state = parallel.put_state(build_state(config, network, tx, init), config.parallel)
    if not resumes:
        return state
    return parallel.like(checkpoint.restore(run, parallel.to_global(state)), state)


def build_state(
    config: ConfigDict,
    network: KTN,
    tx: optax.GradientTransformation,
    init: ConfigDict | None = None,
) -> TrainState:
    """A state at step 0. init: config.init; None: all parameters are config.seed's."""
    variables = init_variables(network, config.seed, config.data.canvas)
    if init is not None:
        variables = initialise.fill(variables, init, config.model)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen=variables.get("frozen", {}),
        ema=jax.tree.map(jnp.copy, params) if config.train.ema else {},
        opt_state=tx.init(params),
    )


def build_step(config: ConfigDict, network: KTN, tx: optax.GradientTransformation) -> Any:
    """The step over all devices, as config.parallel says."""
    body = functools.partial(
        train_step,
        network=network,
        tx=tx,
        weights=dict(config.loss),
        ema=config.train.ema,
        hold=tuple(config.optim.hold),
        accumulate=config.optim.accumulate,
    )
    return parallel.data_parallel(body, config.parallel)


def open_source(config: ConfigDict) -> tuple[Source, ...]:
    """The data sets to train on; builds those that were not built yet."""
    data = config.data
    mix = data.mix or ((data.root, data.train_split, 1.0, data.symmetry),)
    for entry in mix:
        if not isinstance(entry, tuple | list) or not 3 <= len(entry) <= 5:
            raise UserError(
                f"data.mix: {entry!r} is not (root, split, share[, symmetry[, labels]])"
            )
    if _needs_surface(config) and all(len(entry) == 5 for entry in mix):
        raise UserError(
            "data.mix: every entry names its labels, so none need have the surface points "
            "that charts, U and V learn from; leave labels out of one that has them"
        )
    return tuple(_open_one(config, *entry) for entry in mix)


def _needs_surface(config: ConfigDict) -> bool:
    """Whether any loss is of surface points."""
    return any(config.loss[term] for term in losses.SURFACE_TERMS)


def _open_one(
    config: ConfigDict,
    root: str,
    split: str,
    share: float,
    symmetry: str = "",
    labels: str = "",
) -> Source:
    """One data set. Arguments after config: an entry of config.data.mix.

    Labels that an entry names itself need no surface points: others of the mix have them.
    """
    built = densepose_coco.build(
        root,
        labels=labels or config.data.labels,
        needs_surface=not labels and _needs_surface(config),
        progress=True,
    )
    records = densepose_coco.open_split(
        built, split, with_people=not config.data.empty_images
    )
    table = transforms.load_symmetry(symmetry) if symmetry else None
    return Source(records, share, table)


def build_batches(
    config: ConfigDict, sources: Sequence[Source], start_step: int
) -> Iterator[Batch]:
    """This process's share of the training batches, from start_step on."""
    data = config.data
    return pipeline.train_batches(
        sources,
        Codec(**config.codec),
        augment=transforms.Augment(canvas=(data.canvas,) * 2, **config.augment),
        canvases=[(side, side) for side in data.canvases],
        batch_size=data.batch_size,
        seed=config.seed,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_threads=data.threads,
        cache=data.cache,
    )


def build_blame(
    config: ConfigDict, network: KTN
) -> Callable[[TrainState, Batch], np.ndarray]:
    """Which rows of a host's batch have a loss or gradient of their own that is not finite.

    It compiles when it is called, and takes one row at a time on one device.
    """
    weights, hold = dict(config.loss), tuple(config.optim.hold)

    @jax.jit
    def is_bad(params: Any, frozen: Any, row: Batch) -> Array:
        def loss_of(params: Any) -> Array:
            held = optim.hold_still(params, hold)
            fields = network.apply({"params": held, "frozen": frozen}, row.image)
            return losses.weigh(losses.all_terms(fields, row.targets), weights)[0]

        loss, grads = jax.value_and_grad(loss_of)(params)
        return ~jnp.isfinite(loss + optax.tree.norm(grads))

    def blame(state: TrainState, batch: Batch) -> np.ndarray:
        params, frozen = jax.device_get((state.params, state.frozen))
        rows = (
            jax.tree.map(lambda x, i=i: x[i : i + 1], batch)
            for i in range(len(batch.image_id))
        )
        return np.array([bool(is_bad(params, frozen, row)) for row in rows])

    return blame


def train(config: ConfigDict, workdir: str) -> TrainState:
    """Train to config.train.steps, from where `first_state` says.

    The state's step is less where a signal asked to stop. Raises UserError before the
    first step where the folder, the disk or the batch size will not do, or where
    config.codec asks for what the network does not tell.
    """
    folder, train = Path(workdir), config.train
    parallel.check_batch_size(config.data.batch_size, config.optim.accumulate)
    parse_trace(train.profile)
    guards.check_workdir(folder)
    source = open_source(config)  # first: most mistakes are in the data's path
    network, codec = build_network(config.model), Codec(**config.codec)
    tx = optim.build_optimizer(config.optim, train.steps)
    with guards.disk_faults(folder), checkpoint.open_run(folder, keep=train.keep) as run:
        state = first_state(config, network, tx, run)
        variables = {"params": state.params, "frozen": state.frozen}
        inference.check_codec(network, codec, variables, config.data.canvas)
        guards.check_space(
            folder,
            guards.state_size(state),
            # the best one has a place of its own, and is made before the last is removed
            checkpoint.still_to_come(run, train) + 2 * bool(train.eval_steps),
        )
        return Loop(
            state,
            build_step(config, network, tx),
            build_batches(config, source, int(state.step)),
            config=config,
            run=run,
            workdir=folder,
            blame=build_blame(config, network),
            show=snapshots.build_show(network, codec),
            measure=measuring.build_measure(config, network) if train.eval_steps else None,
        ).run()
