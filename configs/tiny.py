"""The whole path in minutes on two CPU cores: rendered people at 256 px.

    make demo

or, on a data set of your own, `python train.py --config=configs/tiny.py --workdir=DIR
--config.data.root=ROOT`. Measured result: see the README's demo section.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Small widths, a short run; every module is the real one."""
    config = default.get_config()
    config.model.update(
        widths=(24, 48, 96, 128),
        depths=(1, 1, 2, 1),
        width=32,
        head_depth=2,
        head_kernel=1,
        tag=4,
    )
    config.codec.update(max_people=6, max_points=512, max_instances=16, mask_threshold=0.35)
    config.data.update(canvas=128, eval_canvas=192, batch_size=8, eval_batch_size=4)
    config.data.update(threads=2, cache=1000, flip_test=True)
    config.augment.update(scale_min=0.9, scale_max=1.6)
    config.optim.update(
        name="muon", lr=8e-3, weight_decay=0.02, schedule="cosine", warmup_steps=100
    )
    config.train.update(steps=2600, log_steps=20, save_steps=650, ema=0.995)
    config.train.picture_steps = 0  # they take a compilation
    return config
