"""Imports go down only, rooms do not lean on each other, numpy rooms stay free of jax."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "ktn_jax"
FLOORS = [
    {"anatomy", "geodesic", "geometry", "errors", "files", "rig", "runs", "streams"},
    {"records", "structs", "maps", "body", "graph.words", "pickles", "guards", "names",
     "feigned"},
    {"inputs", "tfjs", "data.coco_directory"},
    {"embedding", "mirror", "graph.matrices", "weights", "data.annotations"},
    {"graph.stored", "graph.genome", "graph.show", "grouping", "scales"},
    {"graph", "advice"},  # the door: what the package's __init__ lets out
    {
        "codec", "losses", "models.*", "parallel", "optim", "log", "checkpoint",
        "data.densepose_coco", "data.images", "data.transforms",
        "data.backgrounds", "data.canvas", "data.effects", "data.lights",
        "data.photographs", "data.placing", "data.shadows", "data.surroundings",
        "data.textures", "data.foreground", "data.places", "data.sites",
        "data.figures", "data.garments", "data.looks", "data.outfits",
        "data.paints", "data.shells", "data.styles", "data.template", "data.thin",
        "data.things",
        "data.builds", "data.checks", "data.prepare", "data.shards",
        "data.draws",
        "data.outlines", "data.poses", "data.render", "data.scenes",
        "data.labelling", "data.people", "data.clearance", "data.hairdos",
        "evaluation.packed", "evaluation.surface", "evaluation.challenge",
        "evaluation.results", "evaluation.encoded",
        "evaluation.similarity", "evaluation.two_d", "evaluation.average_precision",
        "evaluation.point_errors", "evaluation.breakdown", "evaluation.diagnosis",
        "evaluation.parts", "evaluation.standalone", "evaluation.table",
        "evaluation.geodesic_coordinates",
        "pictures",
        "smoothing", "tracking", "video", "clock",
    },
    {
        "formats.*", "data.pipeline", "inference", "graph.sightings", "initialise",
        "nonfinite",
    },
    {"exports", "evaluation.evaluate", "loop", "snapshots", "onnx_export"},
    {"measuring", "export", "predictor"},
    {"predict_video", "training"},
    {"predict"},
    {"demo", "graph.__main__"},
]  # fmt: skip
# Rooms of one floor may import within their own folder, and nothing else of the floor.
NUMPY_ONLY = (
    "data.annotations",
    "data.people",
    "data.transforms",
    "evaluation.standalone",
    "evaluation.surface",
    "evaluation.table",
    "formats.outputs",
    "graph",
    "weights",
)


def name_of(path):
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path):
    """Names of all modules a file imports, ktn_jax's own without the prefix."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return found


def room(name):
    """Floor number and folder of a module, by the table above."""
    folder = name.rpartition(".")[0]
    for number, floor in enumerate(FLOORS):
        if name in floor or (folder and f"{folder}.*" in floor):
            return number, folder
    raise AssertionError(f"{name} is on no floor: give it one in {__file__}")


def modules():
    """All but empty doors and the package's own, which holds its version alone."""
    everything = sorted(PACKAGE.rglob("*.py"))
    return [p for p in everything if p.stat().st_size and p != PACKAGE / "__init__.py"]


def test_imports_go_down_only():
    known = {name_of(path) for path in modules()}
    wrong = []
    for path in modules():
        here = name_of(path)
        for target in {i.removeprefix("ktn_jax.") for i in imports(path)} & known:
            (above, folder), (below, other) = room(here), room(target)
            inside = folder and folder == other and above == below
            if below >= above and not inside:
                wrong.append(f"{here} (floor {above}) imports {target} (floor {below})")
    assert wrong == []


def test_models_and_losses_know_neither_data_nor_metric():
    for path in modules():
        if name_of(path).startswith("models.") or name_of(path) in ("losses", "codec"):
            bad = [
                i
                for i in imports(path)
                if i.startswith(("ktn_jax.data", "ktn_jax.evaluation"))
            ]
            assert bad == [], path


def test_only_models_know_linen_and_nobody_knows_the_configs():
    for path in modules():
        names = imports(path)
        if not name_of(path).startswith("models."):
            assert "flax.linen" not in names, path
        assert not any(i.split(".")[0] == "configs" for i in names), path


def test_the_metric_and_the_data_s_first_half_need_no_jax():
    names = ", ".join(f"ktn_jax.{name}" for name in NUMPY_ONLY)
    code = f"import sys, eval, {names}; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
