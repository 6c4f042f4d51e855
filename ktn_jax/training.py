"""The training story: build everything from a config, step, log, save, resume.

Start reading at `train`. `train_step` is the mathematics of one step; where it runs (one
device, pmap, jit + NamedSharding) is parallel.py's affair.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ktn_jax import checkpoint, initialise, losses, optim, parallel
from ktn_jax.codec import Codec
from ktn_jax.data import densepose_coco, pipeline, transforms
from ktn_jax.data.draws import Source
from ktn_jax.errors import UserError
from ktn_jax.log import RunLog
from ktn_jax.models.network import KTN, build_network, init_variables
from ktn_jax.structs import Batch, TrainState

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
) -> tuple[TrainState, dict[str, Array]]:
    """One step: the new state, and the loss and its terms.

    batch: one device's share under pmap, all of it under jit.   axis: pmap's, or None.
    weights: of losses.TERMS.   ema: decay of the averaged parameters, 0 for none.
    hold: names of parameters that stay, as in config.optim.hold.
    """

    def loss_of(params: Any) -> tuple[Array, dict[str, Array]]:
        params = optim.hold_still(params, hold)
        fields = network.apply({"params": params, "frozen": state.frozen}, batch.image)
        terms = losses.all_terms(fields, batch.targets)
        # counts over all devices before the division, totals and gradients after it
        terms = {
            k: t.replace(count=parallel.all_sum(t.count, axis)) for k, t in terms.items()
        }
        return losses.weigh(terms, weights)

    (loss, means), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    loss, means, grads = parallel.all_sum((loss, means, grads), axis)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = _running_average(state, params, ema) if ema else state.ema
    metrics = {"loss": loss, **means, "gradient_norm": optax.tree.norm(grads)}
    state = state.replace(
        step=state.step + 1, params=params, ema=average, opt_state=opt_state
    )
    return state, metrics


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
       export's (its knowledge transfer is folded: skip head/transfer/.* and
       head/chart_kernel to learn it anew), or backbone and FPN of a detectron2 model.
       Step 0, a fresh optimiser, and so too:
    3. config.init.backbone: ImageNet weights of the backbone.
    4. scratch: config.seed.
    """
    resumes = run.latest_step() is not None
    init = None if resumes else config.init
    state = parallel.put_state(build_state(config, network, tx, init), config.parallel)
    return checkpoint.restore(run, state) if resumes else state


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
    )
    return parallel.data_parallel(body, config.parallel)


def open_source(config: ConfigDict) -> tuple[Source, ...]:
    """The data sets to train on; builds those that were not built yet."""
    data = config.data
    mix = data.mix or ((data.root, data.train_split, 1.0, data.symmetry),)
    for entry in mix:
        if not isinstance(entry, tuple | list) or len(entry) not in (3, 4):
            raise UserError(f"data.mix: {entry!r} is not (root, split, share[, symmetry])")
    return tuple(_open_one(config, *entry) for entry in mix)


def _open_one(
    config: ConfigDict, root: str, split: str, share: float, symmetry: str = ""
) -> Source:
    """One data set. Arguments after config: an entry of config.data.mix."""
    built = densepose_coco.build(
        root,
        labels=config.data.labels,
        needs_surface=any(config.loss[term] for term in losses.SURFACE_TERMS),
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


def train(config: ConfigDict, workdir: str) -> TrainState:
    """Train to config.train.steps, from where `first_state` says."""
    parallel.check_batch_size(config.data.batch_size)
    source = open_source(config)  # first: most mistakes are in the data's path
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, config.train.steps)
    with checkpoint.open_run(workdir, keep=config.train.keep) as run:
        state = first_state(config, network, tx, run)
        start = int(state.step)
        batches = build_batches(config, source, start)
        step = build_step(config, network, tx)
        log = RunLog(
            Path(workdir),
            steps=config.train.steps,
            start=start,
            batch_size=config.data.batch_size,
        )
        pending: tuple[int, Any] | None = None
        for number in range(start + 1, config.train.steps + 1):
            batch = parallel.put_batch(next(batches), config.parallel)
            state, metrics = step(state, batch)
            if pending:  # a step late, so that the device never waits for the log
                log.write(*pending)
            pending = None
            if number % config.train.log_steps == 0 or number == config.train.steps:
                pending = (number, metrics)
            if number % config.train.save_steps == 0 or number == config.train.steps:
                checkpoint.save(run, state, config.to_dict())
        if pending:
            log.write(*pending)
        log.close()
    return state
