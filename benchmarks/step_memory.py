"""Peak memory and seconds of one training step: one JSON line.

    python -m benchmarks.step_memory configs/ktn_r50.py --canvas 512 --batch 1 [--remat]

The step is training's own on one device: forward, losses, backward, update. Images are
noise with nobody in them, which costs the same as people.
"""

import argparse
import functools
import json
import resource
import runpy
import time
from pathlib import Path

import jax
import numpy as np

from ktn_jax import optim, training
from ktn_jax.codec import Codec
from ktn_jax.models.network import build_network
from ktn_jax.structs import Batch


def noise(codec: Codec, canvas: int, batch: int) -> Batch:
    """A batch of noise without people."""
    rng = np.random.default_rng(0)
    one = codec.encode([], (canvas, canvas))
    return Batch(
        image=rng.integers(0, 256, (batch, canvas, canvas, 3)).astype(np.uint8),
        valid=np.ones(batch, bool),
        image_id=np.arange(batch),
        to_image=np.zeros((batch, 2, 2)),
        targets=jax.tree.map(lambda x: np.stack([x] * batch), one),
    )


def peak_gib() -> float:
    """The most memory this process ever had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Compile, take the steps, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--canvas", type=int, default=512, help="pixels")
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--steps", type=int, default=3, help="timed; the median is told")
    parser.add_argument("--remat", action="store_true", help="recompute blocks")
    parser.add_argument("--dtype", default="float32", help="of activations")
    flags = parser.parse_args()
    config = runpy.run_path(str(flags.config))["get_config"]()
    config.data.canvas = flags.canvas
    config.model.update(remat=flags.remat, dtype=flags.dtype)
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, config.train.steps)
    state = training.build_state(config, network, tx)
    body = functools.partial(
        training.train_step,
        axis=None,
        network=network,
        tx=tx,
        weights=dict(config.loss),
        hold=tuple(config.optim.hold),
    )
    batch = noise(Codec(**config.codec), flags.canvas, flags.batch)
    start = time.perf_counter()
    step = jax.jit(functools.partial(body, ema=config.train.ema), donate_argnums=0)
    step = step.lower(state, batch).compile()
    compiled = time.perf_counter()
    before, seconds, cpu_seconds = peak_gib(), [], []
    for _ in range(flags.steps):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        state, metrics = step(state, batch)
        loss = float(metrics["loss"])
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
    line = {
        "config": flags.config.stem,
        "canvas": flags.canvas,
        "batch": flags.batch,
        "remat": flags.remat,
        "dtype": flags.dtype,
        "device": jax.devices()[0].device_kind,
        "peak_rss_gib": round(peak_gib(), 2),
        "peak_rss_before_steps_gib": round(before, 2),
        "compile_s": round(compiled - start, 1),
        "step_s": round(float(np.median(seconds)), 2),
        "step_cpu_s": round(float(np.median(cpu_seconds)), 2),  # of all cores
        "loss": loss,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
