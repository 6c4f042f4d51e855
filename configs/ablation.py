"""Tiny networks with and without KTN's two modules: configs/ablation.py:NAME.

    python -m benchmarks.ablation --out=DIR       # all of them, three seeds each

NAME: baseline (neither), mid, ktm, or ktn (both). Everything else is configs/tiny.py's,
for fewer steps. Hardware: two CPU cores. Measured: see the README's ablation table.
"""

from ml_collections import ConfigDict

from configs import tiny

NAMES = {  # name -> (multi-instance decoder, knowledge transfer)
    "baseline": (False, False),
    "mid": (True, False),
    "ktm": (False, True),
    "ktn": (True, True),
}


def get_config(name: str = "ktn") -> ConfigDict:
    """The tiny config with the modules that `name` says."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is not one of {', '.join(NAMES)}")
    config = tiny.get_config()
    config.model.mid, config.model.ktm = NAMES[name]
    config.train.update(steps=800, save_steps=800)
    return config
