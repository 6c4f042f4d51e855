"""An export mapped over a data set by Ray Data, on one machine or many.

    pip install -r requirements-ray.txt
    python -m examples.ray_predict EXPORT "photos/**/*.jpg" --out=out --workers=4

Every worker loads the export once. The files that it writes, which of them are there
already and how they are named are as of python -m ktn_jax.predict, so either goes on
where the other stopped. Broken files are counted, and listed in OUT/skipped.txt. All
machines read EXPORT and the photographs, and write OUT, under the same paths (a shared
disk), and can import ktn_jax.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

import ktn_jax
from ktn_jax import exports, files, inputs, predict
from ktn_jax.errors import EXIT_SKIPPED, UserError, one_line_errors
from ktn_jax.formats import outputs
from ktn_jax.predictor import MIN_SCORE

SKIPPED = "skipped.txt"  # in OUT: a line a file, its name and what is wrong with it
THREADS = 2  # that read, and that write, of each worker


class Worker:
    """One process with its own model; maps a block of inputs to what became of it."""

    def __init__(
        self, export: str, out: str, formats: Sequence[str], settings: Mapping[str, Any]
    ) -> None:
        """settings: of ktn_jax.load."""
        self.model = ktn_jax.load(export, **settings)
        self.out = Path(out)
        self.formats = formats

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Files written, and one row that counts them. block: of `rows`."""
        found = [
            inputs.Input(Path(os.fsdecode(path)), os.fsdecode(name))
            for path, name in zip(block["path"], block["name"], strict=True)
        ]
        done = predict.predict_all(
            self.model, found, self.out, self.formats, threads=THREADS
        )
        return {
            "images": [done.images],
            "people": [done.people],
            "done_before": [done.done_before],
            "skipped": [json.dumps(done.skipped)],
        }


def rows(found: Sequence[inputs.Input]) -> list[dict[str, bytes]]:
    """Inputs as rows of a data set; bytes, since names of files need not be text."""
    return [
        {"path": os.fsencode(one.path.absolute()), "name": os.fsencode(one.name)}
        for one in found
    ]


def check_settings(flags: argparse.Namespace) -> None:
    """Note the settings in OUT; UserError where OUT holds results of others.

    Reads no weights: the device is the workers'.
    """
    path = Path(flags.export) / exports.CONFIG
    if not path.is_file():
        raise UserError(f"{flags.export} is not an export: {path} not found")
    about = json.loads(path.read_text())
    settings = {
        "weights": about["sha256"],
        "canvas": flags.canvas or about["canvas"],
        "test_time": flags.test_time or about["test_time"],
        "min_score": flags.min_score,
        "max_people": None,
    }
    predict.check_settings(flags.out, settings, overwrite=False)


def command_line() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("export", help="folder of an export")
    add("inputs", nargs="+", help="files, folders, quoted globs, @LIST")
    add("--out", required=True, type=Path, help="folder to write")
    add("--workers", type=int, default=1, help="processes, over all machines")
    add("--cpus", type=float, default=1, help="of a worker")
    add("--gpus", type=float, default=0, help="of a worker")
    add("--block", type=int, default=64, help="images that a worker takes at once")
    add("--batch", type=int, default=1, help="images a call of the model")
    add("--canvas", type=int, help="longer side in pixels; default the export's")
    add("--test-time", choices=exports.TEST_TIMES, help="default the export's")
    add("--min-score", type=float, default=MIN_SCORE, help="people below are left out")
    add("--format", default=outputs.DEFAULT, help="comma-separated, see docs/formats.md")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Ray runs locally unless it is initialised or RAY_ADDRESS is set."""
    flags = command_line().parse_args(arguments)
    formats = outputs.parse(flags.format)
    endings = [outputs.OUTPUTS[name].ending for name in formats]
    found = inputs.find_inputs(flags.inputs, endings, out=flags.out)
    check_settings(flags)
    model = {
        name: getattr(flags, name) for name in ("canvas", "test_time", "min_score", "batch")
    }
    where = str(Path(flags.export).absolute()), str(flags.out.absolute())
    blocks = ray.data.from_items(rows(found)).map_batches(
        Worker,
        fn_constructor_args=(*where, formats, model),
        batch_size=flags.block,
        compute=ray.data.ActorPoolStrategy(size=flags.workers),
        num_cpus=flags.cpus,
        num_gpus=flags.gpus,
        runtime_env={"env_vars": {"TQDM_DISABLE": "1"}},  # one bar for all is Ray's
    )
    done = blocks.take_all()
    return report(done, flags.out, len(found))


def report(done: Sequence[Mapping[str, Any]], out: Path, count: int) -> int:
    """Say what was done and list what was skipped; the exit status."""
    skipped = sorted(line for row in done for line in json.loads(row["skipped"]))
    total = {k: sum(row[k] for row in done) for k in ("images", "people", "done_before")}
    files.write_bytes(out / SKIPPED, "".join(f"{line}\n" for line in skipped).encode())
    print(
        f"{total['people']} people on {total['images']} images in {out}; "
        f"{total['done_before']} of {count} were done before, {len(skipped)} skipped"
    )
    return EXIT_SKIPPED if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
