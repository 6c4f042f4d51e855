"""What keeping freed memory, in huge pages, is worth in training on CPUs: JSON lines.

    python -m benchmarks.pages --root=DATA [--config=configs/tiny.py] [--steps=120]

XLA gives the memory of a step back at its end and asks for it anew at the next; glibc
gives it back to the system, which clears every page of 4 KiB again. GLIBC_TUNABLES tells
glibc otherwise, for a process that has not started yet. So each run is a process of its
own: as it is, with SETTING, and again. The last line has the medians and their ratio.
Arguments after `--` go to train.py; compilations are kept within one call.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import ablation
from ktn_jax.errors import UserError, one_line_errors

SETTING = (  # the Makefile's
    "glibc.malloc.hugetlb=1:"
    "glibc.malloc.mmap_threshold=4294967296:"
    "glibc.malloc.trim_threshold=8589934592"
)


def speeds(workdir: Path) -> list[float]:
    """Images a second of each stretch between two log lines but the first, of a run."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["images_per_second"] for line in lines[1:]]


def train(command: list[str], workdir: Path, environment: Mapping[str, str]) -> float:
    """The median speed of one run. UserError where it is too short to tell."""
    ablation.run(["train.py", f"--workdir={workdir}", *command], environment)
    stretches = speeds(workdir)
    if not stretches:
        raise UserError("a run logged but one stretch, which compiles; give more --steps")
    return statistics.median(stretches)


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pages", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--root", required=True, help="data set to train on")
    parser.add_argument("--config", default="configs/tiny.py")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("more", nargs="*", help="arguments of train.py, after --")
    flags = parser.parse_args(arguments)
    command = [
        f"--config={flags.config}",
        f"--config.data.root={flags.root}",
        f"--config.train.steps={flags.steps}",
        *flags.more,
    ]
    seen: dict[str, list[float]] = {"": [], SETTING: []}
    with tempfile.TemporaryDirectory() as folder:
        cached = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        for number, setting in enumerate([*seen] * flags.rounds):
            environment = cached | {"GLIBC_TUNABLES": setting}
            speed = train(command, Path(folder, str(number)), environment)
            seen[setting].append(speed)
            print(json.dumps({"setting": setting, "images_per_second": speed}), flush=True)
    plain, kept = (statistics.median(values) for values in seen.values())
    print(json.dumps({"plain": plain, "kept": kept, "ratio": kept / plain}))


if __name__ == "__main__":
    sys.exit(main())
