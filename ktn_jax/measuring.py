"""How good a network in training is on the split that it is not trained on."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ktn_jax import files, inference
from ktn_jax.codec import Codec
from ktn_jax.data import coco_directory, densepose_coco
from ktn_jax.evaluation import evaluate
from ktn_jax.evaluation.challenge import load_ground_truth
from ktn_jax.evaluation.surface import load_surface
from ktn_jax.models.network import KTN
from ktn_jax.structs import TrainState

MEASURED = ("gpsm", "gps", "iou", "keypoints")  # metrics that a run logs of itself


def build_measure(
    config: ConfigDict, network: KTN
) -> Callable[[TrainState], dict[str, float]]:
    """A function of a state: its statistics on config.data.eval_split, "gpsm/AP" etc.

    Raises UserError at once where the split or the surface is not there. The compiled
    prediction is made once; averaged parameters are measured where there are some.
    """
    data, root = config.data, Path(config.data.root).expanduser()
    built = densepose_coco.build(root, labels=data.labels)
    source = densepose_coco.open_split(built, data.eval_split)
    truth = load_ground_truth(coco_directory.find_jsons(root)[data.eval_split])
    surface = load_surface(config.train.eval_surface)
    whole = jax.jit(
        functools.partial(
            inference.predict,
            network=network,
            codec=Codec(**config.codec),
            flip_test=data.flip_test,
        )
    )

    def measure(state: TrainState) -> dict[str, float]:
        params = state.ema if config.train.ema else state.params
        variables = jax.device_get({"params": params, "frozen": state.frozen})
        found = evaluate.evaluate_split(
            functools.partial(whole, jax.tree.map(jnp.asarray, variables)),
            source,
            truth,
            surface,
            canvas=data.eval_canvas,
            batch_size=data.eval_batch_size,
            results_path=files.scratch() / "results.json",
            diagnosis=False,
        )
        return {
            f"{name}/{key}": float(found[name][key])
            for name in MEASURED
            for key in ("AP", "AP50", "AP75")
            if found.get(name)
        }

    return measure
