"""First stage on COCO's keypoints alone: no surface is learnt, its terms weigh nothing.

    python train.py --config=configs/keypoints.py --workdir=runs/keypoints \
        --data.root=ROOT

ROOT/annotations/person_keypoints_train2014.json is COCO's own. The second stage is any
other config of the same config.model, with --config.init.checkpoint=runs/keypoints: all
parameters start there, step and optimiser afresh. Hardware: one GPU box. Measured: not run.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """The default network and schedule, without the terms that DensePose teaches."""
    config = default.get_config()
    config.loss.update(chart=0.0, prior_chart=0.0, uv=0.0, surface=0.0, parts=0.0)
    config.codec.update(chart_score=False, expected_similarity=False, min_score=0.05)
    config.data.update(labels="person_keypoints", train_split="train", eval_split="val")
    return config
