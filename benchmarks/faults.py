"""Kill a training run again and again, and hold it to one that nobody disturbed.

    python -m benchmarks.faults [--kills 20] [--steps 160] [--seed 0] [--keep DIR]

A tiny network trains on rendered people with a checkpoint every other step. Kills are
SIGKILL, of three kinds in turn: in the middle of a save, at a random moment between steps,
and while the run starts. After each one every finished checkpoint must be readable and the
newest must not be older than before. In the end all losses and weights must equal, to the
last bit, those of the undisturbed run. One JSON line a kill, and one at the end; exit
status 1 where anything was lost.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
KINDS = ("save", "step", "start")
SMALL = (
    "--config=configs/tiny.py", "--model.widths=(8,8,8,8)", "--model.depths=(1,1,1,1)",
    "--model.width=8", "--model.head_depth=1", "--data.canvas=32", "--data.batch_size=8",
    "--optim.name=sgd", "--optim.lr=0.01", "--train.log_steps=1", "--train.save_steps=2",
    "--train.ema=0.9",
)  # fmt: skip


def environment(cache: Path, devices: int = 1) -> dict[str, str]:
    """Of a child on the CPU that compiles in haste and once. devices: virtual ones."""
    xla = (
        f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(REPOSITORY),
        "XLA_FLAGS": xla,
    }


def command(data: Path, workdir: Path, steps: int, *more: str) -> list[str]:
    """A small run by train.py, as a user would type it."""
    flags = (
        *SMALL,
        f"--data.root={data}",
        f"--workdir={workdir}",
        f"--train.steps={steps}",
    )
    return [sys.executable, "train.py", *flags, *more]


def losses(workdir: Path) -> dict[int, float]:
    """The logged loss of every step; raises where a step is logged twice."""
    rows = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = {row["step"]: row["loss"] for row in rows}
    assert len(found) == len(rows), "a step was logged twice"
    return found


def finished(workdir: Path) -> list[int]:
    """Steps of the checkpoints that bear their final name."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def half_written(workdir: Path) -> list[str]:
    """Names of checkpoints in the making."""
    folder = workdir / "checkpoints"
    return [p.name for p in folder.glob("*tmp*")] if folder.is_dir() else []


def readable(workdir: Path) -> int:
    """How many checkpoints there are, after reading all of all of them."""
    from orbax import checkpoint as ocp

    from ktn_jax import checkpoint

    with checkpoint.open_run(workdir, reads_only=True) as run:
        steps = run.all_steps()
        assert list(steps) == finished(workdir), (steps, finished(workdir))
        for step in steps:
            args = ocp.args.Composite(
                weights=ocp.args.StandardRestore(),
                progress=ocp.args.StandardRestore(),
                config=ocp.args.JsonRestore(),
            )
            items = run.restore(step, args=args)
            assert int(items["progress"]["step"]) == step, step
    return len(steps)


def moment(kind: str, workdir: Path, rng: random.Random) -> Callable[[float], bool]:
    """Whether it is time to kill, s seconds after the start of the process."""
    log = workdir / "metrics.jsonl"
    lines = log.stat().st_size if log.exists() else 0
    saves: set[str] = set()
    wanted, delay = rng.randint(1, 4), rng.uniform(0, 0.3)
    since: list[float] = []

    def is_now(seconds: float) -> bool:
        if kind == "start":
            return seconds > 20 * delay
        if kind == "save":
            saves.update(half_written(workdir))
            due = len(saves) >= wanted
        else:
            due = log.exists() and log.stat().st_size > lines + 1500 * wanted
        if due and not since:
            since.append(seconds)
        return bool(since) and seconds - since[0] >= delay

    return is_now


def kill_once(words: Sequence[str], env: dict[str, str], is_now: Callable) -> int | None:
    """Starts the run and kills it in its moment; its exit status if it ended before."""
    child = subprocess.Popen(
        words, cwd=REPOSITORY, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    begin = time.monotonic()
    while child.poll() is None and not is_now(time.monotonic() - begin):
        time.sleep(0.001)
    status = child.poll()
    child.kill()
    said = child.communicate()[1].decode()
    if status not in (None, 0):
        raise SystemExit(f"the run failed by itself ({status}):\n{said}")
    return status


def weights(workdir: Path) -> list[np.ndarray]:
    """All arrays of the newest checkpoint's weights."""
    import jax

    from ktn_jax import checkpoint

    return jax.tree.leaves(checkpoint.read_weights(workdir)[1])


def trial(folder: Path, *, kills: int, steps: int, seed: int) -> dict[str, Any]:
    """The summary of a disturbed run beside an undisturbed one. Prints a line a kill."""
    from ktn_jax.data import people

    rng = random.Random(seed)
    data, calm, torn = folder / "data", folder / "calm", folder / "torn"
    people.render_dataset(data, train=8, val=4, size=64, seed=3, variety=0.2)
    env = environment(folder / "cache")
    quiet = {"cwd": REPOSITORY, "env": env, "check": True, "stderr": subprocess.DEVNULL}
    subprocess.run(command(data, calm, steps), **quiet)
    newest, in_saves, done = 0, 0, 0
    for number in range(kills):
        kind = KINDS[number % len(KINDS)]
        is_now = moment(kind, torn, rng)
        status = kill_once(command(data, torn, steps), env, is_now)
        half, there = half_written(torn), finished(torn)
        if (there[-1] if there else 0) < newest:
            raise SystemExit(f"checkpoint {newest} is lost; there are {there}")
        newest = there[-1] if there else 0
        whole = readable(torn) if there else 0
        line = {"kill": number + 1, "kind": kind, "newest": newest, "readable": whole}
        print(json.dumps(line | {"half_written": len(half)}), flush=True)
        done, in_saves = number + 1, in_saves + bool(half)
        if status == 0:
            break
    subprocess.run(command(data, torn, steps), **quiet)
    a, b = losses(calm), losses(torn)
    same = all(
        np.array_equal(x, y) for x, y in zip(weights(calm), weights(torn), strict=True)
    )
    return {
        "kills": done,
        "while_saving": in_saves,
        "steps": len(b),
        "losses_equal": a == b,
        "weights_equal": same,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # of this process, which only reads
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=160, help="of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="folder for the two runs; else none")
    flags = parser.parse_args(arguments)
    options = {"kills": flags.kills, "steps": flags.steps, "seed": flags.seed}
    with tempfile.TemporaryDirectory() as scratch:
        summary = trial(flags.keep or Path(scratch), **options)
    print(json.dumps(summary))
    good = summary["losses_equal"] and summary["weights_equal"]
    return 0 if good and summary["kills"] == flags.kills else 1


if __name__ == "__main__":
    sys.exit(main())
