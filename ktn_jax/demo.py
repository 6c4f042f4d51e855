"""The whole path on one machine: python -m ktn_jax.demo --out demo_out.

First the export that is shipped in pretrained/ looks at two real photographs. Then: renders
people, trains configs/tiny.py on them, measures AP on unseen ones, exports, and predicts
from that export on rendered images and on the same photographs. Every stage is the command
a user would run; their times and results go to OUT/summary.json.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data as skimage_data

from ktn_jax import files

REPOSITORY = Path(__file__).resolve().parents[1]
SKIER = REPOSITORY / "examples" / "skier.jpg"
SHIPPED = REPOSITORY / "pretrained" / "lite0"
METRICS = ("gps", "gpsm", "iou", "keypoints", "masks", "parts_miou")


def stages(out: Path) -> list[tuple[str, list[str]]]:
    """Name and command of every stage, in order."""
    python, root, run, export = sys.executable, out / "data", out / "run", out / "export"
    photographs = str(out / "photographs")
    return [
        ("photographs", [python, "-m", "ktn_jax.predict", str(SHIPPED), photographs,
                         f"--out={out / 'pictures'}"]),
        ("render", [python, "-m", "ktn_jax.data.people", f"--out={root}", "--train=400",
                    "--val=60", "--size=256", "--seed=0", "--variety=0",
                    "--processes=2"]),
        ("build", [python, "-m", "ktn_jax.data.prepare", str(root), "--own"]),
        ("train", [python, "train.py", "--config=configs/tiny.py", f"--workdir={run}",
                   f"--config.data.root={root}"]),
        ("eval", [python, "eval.py", f"--workdir={run}", f"--out={out / 'metrics.json'}",
                  f"--results-out={out / 'results.json'}"]),
        ("export", [python, "-m", "ktn_jax.export", str(run), str(export),
                    f"--measured={out / 'metrics.json'}"]),
        ("predict_rendered", [python, "-m", "ktn_jax.predict", str(export),
                              str(root / "val2014"), f"--out={out / 'rendered'}"]),
        ("tiny_photographs", [python, "-m", "ktn_jax.predict", str(export), photographs,
                              f"--out={out / 'pictures_tiny'}"]),
    ]  # fmt: skip


def write_photographs(folder: Path) -> None:
    """The two real photographs: a skier (CC BY 2.0) and an astronaut (public domain)."""
    files.write_bytes(folder / "skier.jpg", SKIER.read_bytes())
    Image.fromarray(skimage_data.astronaut()).save(folder / "astronaut.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all stages; the first that fails ends the demo with its exit status."""
    parser = argparse.ArgumentParser(prog="python -m ktn_jax.demo", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), help="folder to write"
    )
    out = parser.parse_args(arguments).out.resolve()
    write_photographs(out / "photographs")
    seconds: dict[str, float] = {}
    for name, command in stages(out):
        print(f"\n== {name}: {' '.join(command[1:])}", flush=True)
        start = time.monotonic()
        status = subprocess.run(command, cwd=REPOSITORY).returncode
        seconds[name] = round(time.monotonic() - start, 1)
        if status:
            print(f"demo: stage {name} ended with status {status}", file=sys.stderr)
            return status
    write_sheet(out)
    report(out, seconds)
    return 0


def write_sheet(out: Path, count: int = 6) -> None:
    """OUT/sheet.png: some unseen rendered images, and below what was found on them."""
    images = sorted((out / "data" / "val2014").glob("*.jpg"))[:count]
    with Image.open(images[0]) as first:
        width, height = first.size
    sheet = Image.new("RGB", (width * count, 2 * height))
    for column, path in enumerate(images):
        below = out / "rendered" / f"{path.stem}_overlay.png"
        for row, name in enumerate((path, below)):
            with Image.open(name) as picture:
                sheet.paste(picture, (column * width, row * height))
    sheet.save(out / "sheet.png")


def report(out: Path, seconds: dict[str, float]) -> None:
    """Write summary.json and say where everything lies."""
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    pictures = [
        *(out / "pictures").glob("*.png"),
        *(out / "pictures_tiny").glob("*.png"),
        *(out / "rendered").glob("*_overlay.png"),
    ]
    summary = {
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
        **{name: metrics[name] for name in METRICS},
        "pictures": sorted(str(path.relative_to(out)) for path in pictures),
    }
    files.write_bytes(out / "summary.json", json.dumps(summary, indent=2).encode())
    print(
        f"\nGPSm AP {metrics['gpsm']['AP']:.3f} on 60 unseen rendered images after "
        f"{seconds['train']:.0f} s of training.\n"
        "A model of minutes is no photograph model; the shipped one took hours.\n\n"
        f"photographs  {out / 'pictures'} (shipped), {out / 'pictures_tiny'} (this run's)\n"
        f"rendered     {out / 'rendered'} ({out / 'sheet.png'} shows some)\n"
        f"export       {out / 'export'}\n"
        f"checkpoints  {out / 'run'}\n"
        f"summary      {out / 'summary.json'}"
    )


if __name__ == "__main__":
    sys.exit(main())
