"""Train a network: python train.py --config=configs/tiny.py --workdir=DIR.

Fields of the config are flags, --config.data.root=ROOT or short --data.root=ROOT. A second
call with the same --workdir resumes from the newest checkpoint. SIGTERM and Ctrl-C end the
step, save, and exit with status 75: the same command goes on.
"""

import ast
import logging as python_logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from ktn_jax.errors import EXIT_STOPPED, UserError, one_line_errors


def _define() -> flags.FlagValues:
    """The two flags, afresh, so that one command line knows nothing of another."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Config file.", lock_config=True, flag_values=values
    )
    flags.DEFINE_string("workdir", None, "Checkpoints and logs.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.", flag_values=values)
    flags.DEFINE_integer("processes", None, "How many there are.", flag_values=values)
    flags.DEFINE_integer("process", None, "Which one this is.", flag_values=values)
    return values


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, str, dict[str, Any]]:
    """Config, workdir and parallel.connect's arguments of a command line.

    Raises UserError for what is not understood.
    """
    # --data.root is --config.data.root: the only flags with a dot are the config's, and
    # no other flag is called as its two fields that have none
    full = [re.sub(r"^--?(?!config\.)(\w+\.)", r"--config.\1", word) for word in arguments]
    full = [re.sub(r"^--?profile=", "--config.train.profile=", word) for word in full]
    full = [re.sub(r"^--?(seed|parallel)=", r"--config.\1=", word) for word in full]
    files = [word.split("=", 1)[1] for word in full if word.startswith("--config=")]
    # a config may take an argument, configs/ablation.py:mid
    if not files or not Path(files[-1].partition(":")[0]).is_file():
        raise UserError(
            f"config file {files[-1:]} not found; give --config=configs/tiny.py"
        )
    sys.argv = ["train.py", *full]  # where config_flags looks for fields of the config
    values = _define()
    try:
        rest = values(sys.argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_told(error)}; the fields are those of {files[-1]}") from error
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]!r}; flags look like --data.root=DIR")
    if not values.workdir:
        raise UserError("no folder for checkpoints; give --workdir=DIR")
    host = {name: values[name].value for name in ("coordinator", "processes", "process")}
    return values.config, values.workdir, host


def _told(error: Exception) -> str:
    """What an error says, on one line; of a config's own errors only the last line."""
    text = str(error)
    if "Traceback" in text:
        text = text.strip().splitlines()[-1]
    if text[:1] in "\"'":  # a KeyError's words are quoted once more
        text = ast.literal_eval(text)
    return " ".join(text.split())


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the config over to training. Returns the exit status."""
    config, workdir, host = parse(sys.argv[1:] if arguments is None else arguments)
    logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    # of a save that failed the first fault is raised; asyncio tells those of all arrays
    python_logging.getLogger("asyncio").setLevel(python_logging.CRITICAL)
    from ktn_jax import parallel, training  # late: jax takes seconds to import

    parallel.connect(**host)
    state = training.train(config, workdir)
    return EXIT_STOPPED if int(state.step) < config.train.steps else 0


if __name__ == "__main__":
    sys.exit(main())
