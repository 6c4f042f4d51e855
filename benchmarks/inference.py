"""Where the time of a prediction goes, by the number of people: one JSON line each.

    python -m benchmarks.inference --config=configs/ktn_r50.py --canvas=512

The network has random weights. Its fields are then replaced by perfect ones of so many
people (--people), so that grouping has that many to find. Stages, each a median over
--repeats of one image on a canvas of 4:3:
    network   normalisation, backbone, pyramid, decoder, head: jitted
    grouping  codec.decode: jitted
    host      cutting people out, back to the photograph's pixels
    encode    the files of --format, as bytes
decode is reading one jpeg of the photograph's size and putting it on the canvas.
Where torch and densepose (detectron2's project) can be imported, --detectron2=CONFIG.yaml
times DensePose R-CNN with random weights on the same sizes, side by side.
"""

import argparse
import importlib.util
import io
import json
import runpy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ktn_jax import inference
from ktn_jax.codec import Codec
from ktn_jax.data.images import read_photograph
from ktn_jax.data.transforms import letterbox_example
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.formats import outputs
from ktn_jax.geometry import STRIDE, Affine
from ktn_jax.models.network import CANVAS_MULTIPLE, build_network, fold, init_variables
from ktn_jax.records import Example
from ktn_jax.structs import Fields

SKIER = Path(__file__).resolve().parents[1] / "examples" / "skier.jpg"
PHOTOGRAPH = (1.25, 1.25)  # its size over the canvas's
SURE = 8.0  # logit


def median(work: Callable[[], Any], repeats: int) -> float:
    """Median milliseconds of a call, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def crowd(people: int, cells: tuple[int, int], tag: int, seed: int = 0) -> Fields:
    """Perfect fields of people who stand in a grid, upright rectangles, batch of one."""
    height, width = cells
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(people * width / height)))
    rows = -(-people // columns)
    owner = np.full(cells, -1)
    center = np.full(cells, -SURE, np.float32)
    offset = np.zeros((*cells, 2), np.float32)
    tags = np.zeros((*cells, tag), np.float32)
    yx = np.stack(np.mgrid[:height, :width], -1) + 0.5
    for k in range(people):
        row, column = divmod(k, columns)
        y0, y1 = (int((row + share) * height / rows) for share in (0.1, 0.9))
        x0, x1 = (int((column + share) * width / columns) for share in (0.25, 0.75))
        box = np.s_[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        middle = yx[box].reshape(-1, 2).mean(0)
        at = tuple(middle.astype(int))
        owner[box] = k
        center[at] = SURE
        offset[box] = (yx[at] - yx[box]) * STRIDE
        tags[box] = 3 * rng.standard_normal(tag)
    on = owner >= 0
    charts = rng.standard_normal((*cells, 25)).astype(np.float32)
    fields = Fields(
        mask=np.where(on, SURE, -SURE).astype(np.float32),
        parts=rng.standard_normal((*cells, 15)).astype(np.float32),
        chart=charts,
        uv=rng.random((*cells, 25, 2)).astype(np.float32),
        keypoints=rng.standard_normal((*cells, 17)).astype(np.float32),
        center=center,
        offset=offset,
        bandwidth=np.full(cells, -1.0, np.float32),
        tag=tags,
        quality=np.full(cells, SURE, np.float32),
    )
    return jax.tree.map(lambda x: jnp.asarray(x)[None], fields)


def ours(
    config: Any, canvas: tuple[int, int], counts: Sequence[int], repeats: int, formats: str
) -> None:
    """Print the lines of one configuration."""
    network = build_network(config.model)
    network, variables = fold(network, init_variables(network, 0, 2 * CANVAS_MULTIPLE))
    codec = Codec(**{**config.codec, "max_instances": max(32, *counts)})
    apply, decode = jax.jit(network.apply), jax.jit(codec.decode)
    image = np.random.default_rng(0).integers(0, 256, (1, *canvas, 3)).astype(np.uint8)
    pass_ms = median(lambda: jax.block_until_ready(apply(variables, image)), repeats)
    size = tuple(int(side * ratio) for side, ratio in zip(canvas, PHOTOGRAPH, strict=True))
    with Image.open(SKIER) as picture:  # noise would flatter no encoder
        photo = np.asarray(picture.convert("RGB").resize(size[::-1]))
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", quality=90)

    def read() -> Example:
        pixels = read_photograph(stream.getvalue())
        return letterbox_example(Example(0, pixels, (), Affine()), canvas)

    to_image = read().to_image
    read_ms = median(read, repeats)
    kinds = [outputs.OUTPUTS[name].encode for name in outputs.parse(formats)]
    for count in counts:
        fields = crowd(count, (canvas[0] // STRIDE, canvas[1] // STRIDE), network.tag)
        group_ms = median(lambda f=fields: jax.block_until_ready(decode(f)), repeats)
        found = inference.one_image(inference.host(decode(fields)), 0)
        host_ms = median(lambda i=found: inference.unpack(i, to_image, size, 0), repeats)
        people = inference.unpack(found, to_image, size, 0)
        scene = outputs.Scene("a", "a.jpg", photo, people)
        encode_ms = median(lambda s=scene: [encode(s) for encode in kinds], repeats)
        total = pass_ms + group_ms + host_ms + encode_ms + read_ms
        stages = {
            "network": pass_ms,
            "grouping": group_ms,
            "host": host_ms,
            "decode": read_ms,
            "encode": encode_ms,
        }
        line = {
            "people": count,
            "found": len(people),
            "canvas": list(canvas),
            **{f"{name}_ms": round(ms, 1) for name, ms in stages.items()},
            "images_per_second": round(1000 / total, 3),
            "host_share": round((host_ms + read_ms + encode_ms) / total, 3),
        }
        print(json.dumps(line), flush=True)


def detectron2(config: str, canvas: tuple[int, int], repeats: int) -> None:
    """DensePose R-CNN's line: random weights, on the same sizes."""
    import torch
    from densepose import add_densepose_config
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    settings = get_cfg()
    add_densepose_config(settings)
    settings.merge_from_file(config)
    settings.MODEL.DEVICE = "cpu"
    settings.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(settings).eval()
    image = torch.randint(0, 256, (3, *canvas), dtype=torch.uint8)
    with torch.no_grad():
        ms = median(lambda: model([{"image": image}]), repeats)
    line = {"peer": config, "canvas": list(canvas), "network_ms": round(ms, 1)}
    print(json.dumps(line), flush=True)


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--config", default="configs/ktn_r50.py")
    parser.add_argument("--canvas", type=int, default=512, help="shorter side, pixels")
    parser.add_argument("--people", default="1,5,10,20")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--format", default=outputs.DEFAULT)
    parser.add_argument("--detectron2", help="config of detectron2's DensePose project")
    flags = parser.parse_args(arguments)
    wide = -(-flags.canvas * 4 // 3 // CANVAS_MULTIPLE) * CANVAS_MULTIPLE
    canvas = (flags.canvas, wide)
    counts = [int(n) for n in flags.people.split(",")]
    config = runpy.run_path(flags.config)["get_config"]()
    ours(config, canvas, counts, flags.repeats, flags.format)
    if flags.detectron2:
        missing = [n for n in ("torch", "densepose") if importlib.util.find_spec(n) is None]
        if missing:
            raise UserError(f"--detectron2 needs {' and '.join(missing)} to be importable")
        detectron2(flags.detectron2, canvas, flags.repeats)


if __name__ == "__main__":
    sys.exit(main())
