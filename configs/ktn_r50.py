"""KTN on ResNet-50, the paper's backbone and schedule.

    python train.py --config=configs/ktn_r50.py --workdir=runs/r50 --data.root=ROOT \
        --config.init.backbone=resnet50.pth

The weights are torchvision's; for detectron2's MSRA/R-50.pkl add --config.model.pixels=msra
--config.model.stride_in_1x1=True. Hardware: 8 GPUs of 16 GB, two images each.
67.14 M parameters, 45.96 M at inference; GFLOP an image: 387.4 at 512 px, 945.9 at 800.
Measured: not run.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Pretrained norms stay frozen; SGD, 130k steps, a tenth at 100k and at 120k."""
    config = default.get_config()
    config.model.update(backbone="resnet50", norm="frozen")
    config.optim.update(clip=0.0, drops=(100 / 130, 120 / 130))
    return config
