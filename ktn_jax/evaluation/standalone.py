"""The evaluator as one function: every metric of a results file, without model or jax.

from ktn_jax.evaluation.standalone import evaluate_files
found = evaluate_files("gt.json", "results.json", "SURFACE", processes=2)
found["gpsm"]["AP"], found["diagnosis"]["errors"]["missed"]
"""

import os
from typing import Any

from ktn_jax.evaluation import parts
from ktn_jax.evaluation.average_precision import NOTHING, inspect_scenes, summarise_all
from ktn_jax.evaluation.challenge import load_ground_truth
from ktn_jax.evaluation.diagnosis import diagnose
from ktn_jax.evaluation.results import load_results
from ktn_jax.evaluation.surface import Surface, load_surface
from ktn_jax.evaluation.two_d import evaluate_keypoints, evaluate_masks


def evaluate_files(
    gt_path: str | os.PathLike,
    results_path: str | os.PathLike,
    surface: str | os.PathLike,
    *,
    cache_dir: str | os.PathLike | None = None,
    processes: int = 1,
    diagnosis: bool = True,
    chart_parts: bool = False,
) -> dict[str, Any]:
    """All statistics of a results file, ready for json; see evaluate_results.

    gt_path: DensePose-COCO json.   results_path: .json, .json.gz or .npz, see results.
    surface: "body" or a directory, see load_surface.   cache_dir: keeps distances that
    have to be unpacked or computed.
    """
    return evaluate_results(
        load_ground_truth(gt_path),
        load_results(results_path),
        load_surface(surface, cache_dir=cache_dir),
        processes=processes,
        diagnosis=diagnosis,
        chart_parts=chart_parts,
    )


def evaluate_results(
    gt: dict[str, Any],
    results: list[dict[str, Any]],
    surface: Surface,
    *,
    processes: int = 1,
    diagnosis: bool = True,
    chart_parts: bool = False,
) -> dict[str, Any]:
    """Statistics by metric; one that gt or results have no fields for is None.

    gt: a DensePose-COCO json's content.   results: entries, with or without their maps.
    gps, gpsm, iou     the official evaluator's, fractions of 1; -1 for not measurable
    keypoints, masks   COCO's, of results["keypoints"] and results["segmentation"]
    chart_parts_miou   if asked for: mean IoU of the 14 parts that the charts make up
    diagnosis          unless not wanted: see diagnosis.diagnose
    """
    measured, errors = inspect_scenes(gt, results, surface, processes=processes)
    found: dict[str, Any] = {
        **(summarise_all(measured) if results else NOTHING),
        "keypoints": evaluate_keypoints(gt, results),
        "masks": evaluate_masks(gt, results),
    }
    if chart_parts:
        found["chart_parts_miou"] = parts.measure_charts(gt, results)
    if diagnosis:
        found["diagnosis"] = diagnose(measured, errors)
    return found
