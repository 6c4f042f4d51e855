"""What is trained on rendered people for use on photographs, and shipped.

    python -m ktn_jax.data.people --out=DATA --train=12000 --val=500 --photos=PHOTOS
    python train.py --config=configs/photographs.py --workdir=RUN --data.root=DATA \
        --init.backbone=efficientnet-lite0 --init.prior=models/movenet-multipose.json \
        --init.detector=models/nanodet.json

Hardware: two CPU cores, four to eight images a second. Measured: see benchmarks/runs.md.
15.60 M parameters, 15.59 M at inference; GFLOP an image: 56.2 at 512 px, 140.9 at 800.
"""

from ml_collections import ConfigDict

from configs import ktn_lite0


def get_config() -> ConfigDict:
    """Lite0's first blocks and all of MoveNet's backbone stay as they were.

    They cost less so, and stay nearer photographs than rendered scenes would leave them;
    Lite0's later blocks learn with a share of the learning rate.
    """
    config = ktn_lite0.get_config()
    config.model.update(tag=4, surface_blocks=2, prior="mobilenetv2_150")
    config.model.update(wide=128, context=2, prior_keypoints=True, prior_mask=96)
    config.model.update(prior_chart=96, detector="nanodet_g")
    config.codec.update(max_people=8, max_points=768, max_instances=16, mask_threshold=0.42)
    config.codec.update(bandwidth_scale=0.8, prior_score=True, prior_mask=0.5)
    config.codec.update(prior_chart=0.5, detector_score=True, detector_mask=1.5)
    config.loss.update(tag=0.5, chart=2.0, surface=4.0)
    config.loss.update(instance=4.0, offset=2.0, bandwidth=1.0)
    config.data.update(canvas=192, eval_canvas=256, batch_size=16, eval_batch_size=4)
    config.data.update(threads=1, flip_test=True, empty_images=True, cache=12_000)
    config.augment.update(scale_min=0.6, scale_max=2.0, color=0.5, stretch=0.15)
    config.augment.update(hue=0.04, grey=0.03, blur=0.1, noise=0.1)
    config.optim.update(
        name="muon", lr=6e-3, weight_decay=0.02, schedule="cosine", warmup_steps=200
    )
    config.optim.update(
        backbone_lr=0.15,
        hold=(
            "backbone/(conv_stem|blocks_[0-2]/.*)/kernel",
            "prior/.*",
            "prior_keypoints/.*",
            "detector/.*",
        ),
        clip=0.0,
    )
    config.train.update(steps=4000, log_steps=20, save_steps=250, keep=2, ema=0.998)
    return config
