"""Images per second of the training input, and what its CPU time goes to: JSON lines.

    python -m benchmarks.input [--config=configs/default.py] [--root=ROOT --split=train]
        [--threads 1 2 4] [--batches=8] [--step]

Without --root, rendered people of --size pixels are made first. CPU times are of this
process, all threads; they say what a busy machine's seconds do not. With the cache on,
the images were parsed before the clock starts. --step times the training step on this
machine's devices too: input is ahead where times_the_step is above 1.
"""

import argparse
import contextlib
import itertools
import json
import os
import runpy
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ktn_jax import files, optim, parallel, training
from ktn_jax.codec import Codec
from ktn_jax.data import densepose_coco, images, people, pipeline, transforms
from ktn_jax.data.coco_directory import Record
from ktn_jax.data.draws import Source
from ktn_jax.errors import UserError
from ktn_jax.models.network import build_network
from ktn_jax.records import Example


def measure_pipeline(
    records: Sequence[Record],
    config: ConfigDict,
    *,
    threads: int,
    cache: bool,
    batches: int,
) -> dict[str, Any]:
    """Throughput of the iterator that training uses, after its first batch."""
    data = config.data
    canvas = (data.canvas,) * 2
    made = pipeline.train_batches(
        (Source(records),),
        Codec(**config.codec),
        augment=transforms.Augment(canvas=canvas, **config.augment),
        batch_size=data.batch_size,
        seed=config.seed,
        num_threads=threads,
        cache=len(records) if cache else 0,
    )
    warm = 1 + (-(-len(records) // data.batch_size) + threads if cache else 0)
    for _ in itertools.islice(made, warm):
        pass
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in itertools.islice(made, batches):
        pass
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    count = batches * data.batch_size
    return {
        "measured": "pipeline",
        "threads": threads,
        "cache": cache,
        "images": count,
        "images_per_second": round(count / seconds, 1),
        "cpu_ms_per_image": round(1e3 * cpu / count, 4),
        "images_per_cpu_second": round(count / cpu, 1),
    }


def measure_stages(
    records: Sequence[Record], config: ConfigDict, rounds: int
) -> dict[str, Any]:
    """CPU milliseconds an image in each stage of one row, in one thread."""
    spent: dict[str, float] = defaultdict(float)

    def timed(stage: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        start = time.process_time()
        result = function(*args, **options)
        spent[stage] += time.process_time() - start
        return result

    codec, canvas = Codec(**config.codec), (config.data.canvas,) * 2
    settings = transforms.Augment(canvas=canvas, **config.augment)
    for number in range(rounds):
        for row in range(len(records)):
            record = timed("fetch", records.__getitem__, row)
            image = timed("decode", images.decode_image, record["image"])
            found = timed("annotations", pipeline.ground_truth, record)
            example = Example(0, image, found, transforms.Affine())
            rng = np.random.default_rng((number, row))
            varied = timed("transforms", transforms.augment, example, settings, rng=rng)
            inside = timed("encode", pipeline.inside_image, varied, image.shape[:2])
            timed("encode", codec.encode, varied.people, canvas, inside)
    count = rounds * len(records)
    stages = {f"{k}_cpu_ms": round(1e3 * s / count, 3) for k, s in spent.items()}
    total = round(1e3 * sum(spent.values()) / count, 3)
    return {"measured": "stages", "images": count} | stages | {"total_cpu_ms": total}


def measure_step(
    records: Sequence[Record], config: ConfigDict, steps: int
) -> dict[str, Any]:
    """Throughput of the training step on all devices, given one batch again and again."""
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, config.train.steps)
    state = training.build_state(config, network, tx)
    state = parallel.put_state(state, config.parallel)
    step = training.build_step(config, network, tx)
    host = next(training.build_batches(config, (Source(records),), 0))
    seconds = []
    for _ in range(1 + steps):  # the first one compiles
        start = time.perf_counter()
        state, metrics = step(state, parallel.put_batch(host, config.parallel))
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    return {
        "measured": "step",
        "device": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "images_per_second": round(config.data.batch_size / median, 1),
    }


def open_records(flags: argparse.Namespace) -> Sequence[Record]:
    """The records to read, rendered first where no root is given."""
    if not flags.root:
        flags.root = files.scratch()
        people.render_dataset(flags.root, train=flags.images, val=0, size=flags.size)
    with contextlib.redirect_stdout(sys.stderr):  # TFDS's own words
        built = densepose_coco.build(flags.root)
    records = densepose_coco.open_split(built, flags.split, with_people=True)
    chosen = [records[row] for row in range(min(len(records), flags.images))]
    if not chosen:
        raise UserError(f"{flags.root} has no image with people in {flags.split}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for the stages and one for every setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/default.py"))
    parser.add_argument("--root", type=Path, help="COCO directory; default: rendered")
    parser.add_argument("--split", default="train")
    parser.add_argument("--images", type=int, default=32, help="different ones")
    parser.add_argument("--size", type=int, default=480, help="pixels, of rendered ones")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batches", type=int, default=8, help="timed, for each setting")
    parser.add_argument("--step", action="store_true", help="time the training step, too")
    parser.add_argument("--canvas", type=int, help="pixels; default: the config's")
    flags = parser.parse_args(arguments)
    config = runpy.run_path(str(flags.config))["get_config"]()
    config.data.canvas = flags.canvas or config.data.canvas
    records = open_records(flags)
    about = {
        "config": flags.config.stem,
        "canvas": config.data.canvas,
        "batch": config.data.batch_size,
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(about | measure_stages(records, config, rounds=3)), flush=True)
    step = measure_step(records, config, flags.batches) if flags.step else {}
    if step:
        print(json.dumps(about | step), flush=True)
    for threads, cache in itertools.product(flags.threads, (False, True)):
        options = {"threads": threads, "cache": cache, "batches": flags.batches}
        line = measure_pipeline(records, config, **options)
        if step:
            ratio = line["images_per_second"] / step["images_per_second"]
            line["times_the_step"] = round(ratio, 2)
        print(json.dumps(about | line), flush=True)


if __name__ == "__main__":
    main()
