"""Train a network: python train.py --config=configs/tiny.py --workdir=DIR.

Fields of the config are flags, --config.data.root=ROOT or short --data.root=ROOT. A second
call with the same --workdir resumes from the newest checkpoint.
"""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from ktn_jax.errors import UserError, one_line_errors


def _define() -> flags.FlagValues:
    """The two flags, afresh, so that one command line knows nothing of another."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Config file.", lock_config=True, flag_values=values
    )
    flags.DEFINE_string("workdir", None, "Checkpoints and logs.", flag_values=values)
    return values


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """Config and workdir of a command line; UserError for what is not understood."""
    # --data.root is --config.data.root: the only flags with a dot are the config's
    full = [re.sub(r"^--?(?!config\.)(\w+\.)", r"--config.\1", word) for word in arguments]
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
    return values.config, values.workdir


def _told(error: Exception) -> str:
    """What an error says, on one line; of a config's own errors only the last line."""
    text = str(error)
    if "Traceback" in text:
        text = text.strip().splitlines()[-1]
    if text[:1] in "\"'":  # a KeyError's words are quoted once more
        text = ast.literal_eval(text)
    return " ".join(text.split())


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Hand the config over to training."""
    config, workdir = parse(sys.argv[1:] if arguments is None else arguments)
    logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    from ktn_jax import training  # late: jax takes seconds to import

    training.train(config, workdir)


if __name__ == "__main__":
    sys.exit(main())
