"""Every field of every room, with its unit. Variants override, nothing else has defaults.

    python train.py --config=configs/default.py --workdir=runs/default \
        --config.data.root=/data/coco

A GroupNorm network from scratch at 512 px. Hardware: one GPU box. Measured: not run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The base configuration."""
    return ConfigDict(
        {
            "seed": 0,  # of parameters, batches and augmentation
            "parallel": "pmap",  # or "jit": the same step body as jit + NamedSharding
            "model": {
                "backbone": "small",  # or one of models/backbone.BACKBONES
                "norm": "group",  # of the backbone; "frozen": pretrained norms, kept
                "pixels": "",  # "": the backbone's own; or of models/backbone.PIXELS
                "stride_in_1x1": False,  # a ResNet's stride: MSRA's place, not torch's
                "widths": (64, 128, 256, 512),  # channels of C2..C5 of backbone "small"
                "depths": (2, 2, 2, 2),  # its residual blocks of C2..C5
                "width": 256,  # channels of pyramid, decoder and head
                "head_depth": 4,  # convolutions of the head
                "head_kernel": 3,  # 1 or 3, of the classifiers
                "fine": 0,  # channels at stride 4 where decoder and head work at stride 8
                "prior": "",  # a second, mobile backbone that joins the pyramid; "": none
                "prior_keypoints": False,  # MoveNet's own head, too, for codec.prior_score
                "detector": "",  # nanodet_g: a detector of people, for codec.detector_score
                "prior_mask": 0,  # channels of a second mask, of the prior alone
                "prior_chart": 0,  # channels of second charts, of its maps and keypoints
                "wide": 0,  # channels of a second map at stride 8 beside the decoder's
                "context": 0,  # rounds of attention within that map, at stride 16
                "surface_blocks": 0,  # residual ones, before charts, U, V and keypoints
                "tag": 8,  # dimensions of the free instance tag
                "mid": True,  # multi-instance decoder; False: plain sum of levels
                "ktm": True,  # charts by knowledge transfer; False: their own kernel
                "ktm_sources": ("keypoint", "part", "person"),  # heads it draws on
                "graph": "",  # npz of python -m ktn_jax.graph; "": by the switches below
                "graph_rules": True,  # anatomy's rules in the body graph
                "graph_words": True,  # likeness of words in the body graph
                "graph_visual": False,  # co-occurrence, as counted on rendered people
                "graph_split_pairs": True,  # tell front from back; False: paper's form
                "train_graph": True,  # False: the graph stays as it starts
                "own_kernel": False,  # residual chart kernel; not in the paper
                "remat": False,  # recompute blocks going backward: less memory, not on CPUs
                "dtype": "float32",  # of activations; parameters stay float32
            },
            "codec": {
                "max_people": 24,  # per image in training; the largest are kept
                "max_points": 1024,  # annotated surface points per image
                "max_instances": 32,  # people decoded per image
                "mask_threshold": 0.4,  # probability above which a pixel is a person
                "min_score": 0.02,  # instances below are dropped
                "min_posterior": 0.02,  # pixels that fit nobody better belong to nobody
                "max_overlap": 0.5,  # mask IoU above which the weaker instance is dropped
                "box_quantile": 0.002,  # share of pixels beyond each side of a box
                "bandwidth_scale": 1.0,  # of the learnt one; below 1 parts people who touch
                "chart_score": True,  # a score counts how sure the charts are, too
                "prior_score": False,  # a score falls where the prior sees no keypoints
                "detector_score": False,  # ... or where the detector sees nobody like it
                "detector_mask": 0.0,  # how far the mask falls where no box of it is
                "prior_mask": 0.0,  # share of the mask that is of the prior alone
                "prior_chart": 0.0,  # share of the charts that is of the second ones
                "expected_similarity": True,  # charts by how near they can expect to be
            },
            "init": {  # where a run starts; `python train.py` resumes before all of it
                "checkpoint": "",  # a run's or an export's folder; detectron2 file: FPN too
                "backbone": "",  # its weights: a file, or efficientnet-lite0
                "prior": "",  # the second backbone's weights: a file
                "detector": "",  # the detector's: a file
                "skip": (),  # regular expressions of names that stay fresh, or unused
            },
            "data": {
                "root": "",  # COCO directory: train2014/ val2014/ annotations/
                "labels": "densepose",  # or "person_keypoints": whose json files
                "train_split": "train",  # or several, joined by "+"
                "eval_split": "minival",
                "symmetry": "",  # UV_symmetry_transforms.mat for real data; "": our body's
                "mix": (),  # ((root, split, share[, symmetry[, labels]]), ...) instead
                "canvas": 512,  # training canvas, pixels, divisible by 32
                "canvases": (),  # or several: each batch has one of them, e.g. (384, 512)
                "eval_canvas": 512,  # evaluation canvas, pixels, divisible by 32
                "batch_size": 16,  # global, divisible by the devices
                "eval_batch_size": 8,
                "flip_test": False,  # predict on the mirror image too, take the mean
                "empty_images": False,  # train on images that show nobody, too
                "threads": 4,  # that read and transform images
                "cache": 0,  # images kept parsed in memory, 3 bytes a pixel and labels
            },
            "augment": {
                "scale_min": 0.5,  # of the scale that fits the image into the canvas
                "scale_max": 2.0,
                "flip": 0.5,  # probability
                "color": 0.3,  # strength of brightness, contrast, saturation changes
                "hue": 0.0,  # turned by up to this, in turns of the colour circle
                "grey": 0.0,  # probability of no colour at all
                "blur": 0.0,  # probability
                "noise": 0.0,  # probability
                "stretch": 0.0,  # height over width times, or divided by, up to 1 + this
            },
            "loss": {  # weights, by the names of losses.TERMS
                "chart": 1.0,
                "prior_chart": 2.0,  # where model.prior_chart is
                "uv": 20.0,
                "surface": 0.0,  # ours: charts and (U, V) by how near they come
                "parts": 2.0,
                "mask": 5.0,
                "prior_mask": 5.0,  # where model.prior_mask is
                "keypoints": 0.1,
                "center": 1.0,
                "instance": 1.0,
                "offset": 1.0,
                "bandwidth": 2.0,
                "tag": 0.1,
                "quality": 1.0,
            },
            "optim": {
                "name": "sgd",  # "adamw" or "muon"
                "lr": 0.01,  # at the batch size above
                "momentum": 0.9,  # sgd only
                "weight_decay": 1e-4,  # of kernels
                "clip": 1.0,  # global gradient norm; 0: off
                "schedule": "step",  # or "cosine"
                "drops": (0.77, 0.92),  # shares of the run after which lr falls tenfold
                "warmup_steps": 1000,
                "warmup_start": 0.1,  # share of lr at the first step
                "backbone_lr": 1.0,  # share of lr for backbone and prior
                "accumulate": 1,  # pieces a device takes its rows in, for less memory
                "hold": (),  # regular expressions of parameters that stay as they started
            },
            "train": {
                "steps": 130_000,
                "log_steps": 50,  # steps between log lines
                "save_steps": 2000,  # steps between checkpoints
                "keep": 3,  # checkpoints kept
                "picture_steps": 2000,  # steps between pictures in TensorBoard; 0: none
                "eval_steps": 0,  # between measures on data.eval_split; 0: none
                "eval_surface": "body",  # for them: eval.py's --surface
                "profile": "",  # START:STOP, steps to trace; or --profile=START:STOP
                "skip_nonfinite": 0,  # NaN steps in a row that are let pass, without update
                "ema": 0.0,  # decay a step of the averaged parameters; 0: off
            },
        }
    )
