"""Train a network: python train.py --config=configs/tiny.py --workdir=DIR.

Fields of the config are flags: --config.optim.lr=.01, or short --optim.lr=.01. A second
call with the same --workdir resumes from the newest checkpoint.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from ktn_jax.errors import UserError, one_line_errors

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints and logs.")


@one_line_errors
def main(argv: list[str]) -> None:
    """Hand the config over to training."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags start with --")
    if _CONFIG.value is None or _WORKDIR.value is None:
        raise UserError("both are needed: --config=configs/tiny.py --workdir=FOLDER")
    from ktn_jax import training  # late: jax takes seconds to import

    training.train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    sys.exit(app.run(main))
