"""KTN on HRNet-W48; everything else as configs/ktn_hrnet_w32.py.

    python train.py --config=configs/ktn_hrnet_w48.py --workdir=runs/w48 \
        --data.root=ROOT --config.init.backbone=hrnet_w48.pth

Weights: its authors' ImageNet classifier. Hardware: 8 GPUs of 32 GB, two images each.
108.16 M parameters, 86.98 M at inference; GFLOP an image: 510.9 at 512 px, 1247.3 at 800.
Measured: not run.
"""

from ml_collections import ConfigDict

from configs import ktn_hrnet_w32


def get_config() -> ConfigDict:
    """The wider backbone."""
    config = ktn_hrnet_w32.get_config()
    config.model.backbone = "hrnet_w48"
    return config
