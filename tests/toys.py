"""A run whose network is a toy: all of training but the network, compiled in seconds.

As a program, `python -m tests.toys DATA WORKDIR COORDINATOR PROCESSES PROCESS`, it is one
of several processes, which train in WORKDIR/pmap and WORKDIR/jit.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import tiny
from ktn_jax import checkpoint, loop, optim, parallel, training
from ktn_jax.structs import Fields, TrainState


class Toy:
    """A network that compiles in no time: each field a bias and a slope of one color."""

    prior_chart = 0

    channels = {  # noqa: RUF012
        "mask": (), "parts": (15,), "chart": (25,), "uv": (25, 2), "keypoints": (17,),
        "center": (), "offset": (2,), "bandwidth": (), "tag": (2,), "quality": (),
    }  # fmt: skip

    def params(self):
        return {
            name: np.full((2, *c), 0.1, np.float32) for name, c in self.channels.items()
        }

    def apply(self, variables, image, heat=None, *, rngs=None):
        red = image[:, ::4, ::4, 0].astype(np.float32) / 255

        def field(name, shape):
            bias, slope = variables["params"][name]
            return bias + slope * red.reshape(*red.shape, *[1] * len(shape))

        return Fields(**{name: field(name, c) for name, c in self.channels.items()})


class Machine(NamedTuple):
    """The parts of a run."""

    state: TrainState  # the first one, on the host
    step: Any
    batches: Iterable  # of this process
    blame: Any


def small_config(root):
    """Six steps on 32 px canvases."""
    config = tiny.get_config()
    config.data.update(root=str(root), canvas=32, batch_size=8)
    config.optim.update(name="sgd", lr=0.01)
    config.train.update(steps=6, log_steps=1, save_steps=2, ema=0.9)
    return config


def machine(config):
    """The parts of a run, with the batches of all its steps."""
    network = Toy()
    tx = optim.build_optimizer(config.optim, config.train.steps)
    params = network.params()
    state = TrainState(
        step=np.int32(0),
        params=params,
        frozen={},
        ema=params,
        opt_state=jax.device_get(tx.init(params)),
    )
    stream = training.build_batches(config, training.open_source(config), 0)
    batches = [next(stream) for _ in range(config.train.steps)]
    step = training.build_step(config, network, tx)
    return Machine(state, step, batches, training.build_blame(config, network))


def run(config, parts, workdir, **seen):
    """Takes the steps that are left, from the checkpoint in workdir if there is one.

    seen: the loop's `show` and `measure`.
    """
    with checkpoint.open_run(workdir, keep=3) as checkpoints:
        state = parallel.put_state(parts.state, config.parallel)
        if checkpoints.latest_step() is not None:
            stored = checkpoint.restore(checkpoints, parallel.to_global(state))
            state = parallel.like(stored, state)
        return loop.Loop(
            state,
            parts.step,
            iter(parts.batches),
            config=config,
            run=checkpoints,
            workdir=Path(workdir),
            blame=parts.blame,
            **seen,
        ).run()


def main(data, workdir, coordinator, processes, process):
    """Train fresh in both modes, and go on where another topology left off."""
    parallel.connect(coordinator, int(processes), int(process))
    assert jax.process_count() == int(processes) and jax.local_device_count() == 2
    config = small_config(data)
    for mode in parallel.MODES:
        config.parallel = mode
        parts = machine(config)
        run(config, parts, Path(workdir) / mode)
        later = parts._replace(batches=parts.batches[2:])
        run(config, later, Path(workdir) / f"other_{mode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
