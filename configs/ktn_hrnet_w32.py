"""KTN on HRNet-W32 with HRNet's own pyramid, by the paper's schedule for HRNet.

    python train.py --config=configs/ktn_hrnet_w32.py --workdir=runs/w32 \
        --data.root=ROOT --config.init.backbone=hrnet_w32.pth

Weights: its authors' ImageNet classifier. Hardware: 8 GPUs of 24 GB, two images each.
72.08 M parameters, 50.90 M at inference; GFLOP an image: 423.7 at 512 px, 1034.3 at 800.
Measured: not run.
"""

from ml_collections import ConfigDict

from configs import ktn_r50


def get_config() -> ConfigDict:
    """A higher rate and clipped gradients, as the paper's code has them for HRNet."""
    config = ktn_r50.get_config()
    config.model.backbone = "hrnet_w32"
    config.optim.update(lr=0.03, clip=1.0)
    return config
