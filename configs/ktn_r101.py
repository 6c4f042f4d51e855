"""KTN on ResNet-101; everything else as configs/ktn_r50.py.

    python train.py --config=configs/ktn_r101.py --workdir=runs/r101 --data.root=ROOT \
        --config.init.backbone=resnet101.pth

Weights: torchvision's, or detectron2's (see ktn_r50). Hardware: 8 GPUs of 24 GB, two
images each.
86.13 M parameters, 64.95 M at inference; GFLOP an image: 426.2 at 512 px, 1040.6 at 800.
Measured: not run.
"""

from ml_collections import ConfigDict

from configs import ktn_r50


def get_config() -> ConfigDict:
    """The deeper backbone."""
    config = ktn_r50.get_config()
    config.model.backbone = "resnet101"
    return config
