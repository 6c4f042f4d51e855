"""Measure DensePose AP (GPS, GPSm, mask IoU), keypoint AP, mask AP and part mIoU.

A results file (json in challenge form, or npz), without model or jax:
    python eval.py --gt=FILE.json --results=FILE.json --surface=DIR [--out=FILE.json]
A training run or an export on a split of a COCO directory:
    python eval.py --workdir=DIR [--data.root=ROOT] [--split=minival] [--out=FILE.json]
    python eval.py --export=DIR --data.root=ROOT [--split=minival] [--out=FILE.json]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktn_jax import files
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.evaluation import standalone, table
from ktn_jax.evaluation.challenge import load_ground_truth
from ktn_jax.evaluation.surface import load_surface


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gt", help="DensePose-COCO json of the ground truth")
    parser.add_argument("--results", help="results: .json, .json.gz or .npz")
    parser.add_argument("--workdir", help="folder of a training run")
    parser.add_argument("--export", help="folder of an export")
    parser.add_argument(
        "--data.root", dest="root", help="COCO directory; default: the run's"
    )
    parser.add_argument("--split", default="minival", help="split to evaluate")
    parser.add_argument(
        "--canvas", type=int, help="pixels a side; default: the export's, or the run's"
    )
    parser.add_argument("--batch", type=int, default=4, help="images a call")
    parser.add_argument(
        "--surface",
        default="body",
        help="directory of SMPL_subdiv.mat ..., an .npz of a mesh, or body: ours",
    )
    parser.add_argument(
        "--cache", help="folder that keeps geodesic distances between calls"
    )
    parser.add_argument("--processes", type=int, default=1, help="that measure results")
    parser.add_argument(
        "--diagnosis",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="where AP is lost, in the table and the json",
    )
    parser.add_argument(
        "--chart-parts", action="store_true", help="also mean IoU of parts, by the charts"
    )
    parser.add_argument("--out", type=Path, help="writes all statistics as json")
    parser.add_argument(
        "--results-out", type=Path, help="writes the results in challenge form"
    )
    return parser.parse_args(arguments)


def settings(flags: argparse.Namespace) -> dict[str, Any]:
    """What both ways of evaluation have in common."""
    return {
        "processes": flags.processes,
        "diagnosis": flags.diagnosis,
        "chart_parts": flags.chart_parts,
    }


def evaluate_network(flags: argparse.Namespace) -> dict[str, Any]:
    """Statistics of a run or an export on a split."""
    from ktn_jax import exports, inference  # late: the results path needs no jax
    from ktn_jax.codec import Codec
    from ktn_jax.data import coco_directory, densepose_coco
    from ktn_jax.evaluation import evaluate
    from ktn_jax.export import load_run

    root = flags.root
    if flags.export:
        export = exports.read_export(flags.export, canvas=flags.canvas)
        run, canvas = export.run, export.canvas
    else:
        config, network, _, variables = load_run(flags.workdir)
        root = root or config["data"]["root"]
        canvas = exports.check_canvas(flags.canvas or config["data"]["eval_canvas"])
        run = inference.build_predict(
            network,
            Codec(**config["codec"]),
            variables,
            flip_test=config["data"]["flip_test"],
        )
    if not root:
        raise UserError("an export does not say where its data lies; give --data.root=ROOT")
    built = densepose_coco.build(root, progress=True)
    source = densepose_coco.open_split(built, flags.split)
    gt = load_ground_truth(coco_directory.find_jsons(Path(root))[flags.split])
    return evaluate.evaluate_split(
        run,
        source,
        gt,
        load_surface(flags.surface, cache_dir=flags.cache),
        canvas=canvas,
        batch_size=flags.batch,
        results_path=flags.results_out or files.scratch() / "results.json",
        **settings(flags),
    )


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, write the json."""
    flags = parse(arguments)
    if flags.workdir or flags.export:
        statistics = evaluate_network(flags)
    elif flags.gt and flags.results:
        statistics = standalone.evaluate_files(
            flags.gt,
            flags.results,
            flags.surface,
            cache_dir=flags.cache,
            **settings(flags),
        )
    else:
        raise UserError("give --gt and --results, or --workdir, or --export; see --help")
    print(table.format_table(statistics))
    if statistics.get("diagnosis"):
        print(table.format_diagnosis(statistics["diagnosis"]))
    if flags.out:
        table.write_json(flags.out, statistics)


if __name__ == "__main__":
    sys.exit(main())
