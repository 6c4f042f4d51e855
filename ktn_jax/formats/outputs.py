"""The output formats by name: how each one's file ends, and what makes its bytes."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ktn_jax import pictures
from ktn_jax.errors import UserError
from ktn_jax.formats import arrays, coco, colored, detectron2, raster, texture
from ktn_jax.formats.colormaps import PARULA, VIRIDIS
from ktn_jax.formats.raster import png
from ktn_jax.records import Prediction


class Scene(NamedTuple):
    """One photograph and who was found on it."""

    name: str  # of the outputs, without folder or ending; the json's image_id
    file_name: str  # of the photograph
    image: np.ndarray  # [H, W, 3] u8 RGB
    people: Sequence[Prediction]  # best score first

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photograph."""
        return self.image.shape[:2]


class Output(NamedTuple):
    """One format."""

    ending: str  # of its files, after the photograph's name
    encode: Callable[[Scene], bytes]


def _plane(plane: str, colors: np.ndarray) -> Callable[[Scene], np.ndarray]:
    return lambda s: colored.over_grey(s.image, s.people, plane=plane, colors=colors)


# What is for the eye, [H, W, 3] u8 RGB: a picture, or a frame of a video.
DRAWN: dict[str, Callable[[Scene], np.ndarray]] = {
    "overlay": lambda s: pictures.overlay(s.image, s.people),
    "segm": _plane("I", PARULA),
    "u": _plane("U", PARULA),
    "v": _plane("V", PARULA),
    "segm-viridis": _plane("I", VIRIDIS),
    "u-viridis": _plane("U", VIRIDIS),
    "v-viridis": _plane("V", VIRIDIS),
    "magic-animate": lambda s: colored.magic_animate(s.people, s.size),
    "controlnet": lambda s: colored.controlnet(s.people, s.size),
    "viton": lambda s: colored.viton(s.people, s.size),
    "contour": lambda s: colored.contour(s.image, s.people),
}


def _picture(name: str) -> Output:
    return Output(f"_{name.replace('-', '_')}.png", lambda s: png(DRAWN[name](s)))


def _results(scene: Scene, field: str | None = None) -> bytes:
    found = coco.entries(scene.people, scene.size, scene.name)
    return json.dumps(coco.only(found, field) if field else found).encode()


OUTPUTS = {
    "iuv": Output("_iuv.png", lambda s: raster.iuv_png(s.people, s.size)),
    "iuv-rgb": Output("_iuv_rgb.png", lambda s: raster.iuv_rgb_png(s.people, s.size)),
    "inds": Output("_inds.png", lambda s: raster.inds_png(s.people, s.size)),
    "overlay": _picture("overlay"),
    "json": Output(".json", _results),
    "masks": Output("_masks.json", lambda s: _results(s, "segmentation")),
    "keypoints": Output("_keypoints.json", lambda s: _results(s, "keypoints")),
    "npz": Output(".npz", lambda s: arrays.npz(s.people, s.size)),
    "detectron2": Output(
        "_detectron2.npz", lambda s: detectron2.dump_npz(s.people, s.file_name)
    ),
    "detectron2-pkl": Output(
        "_detectron2.pkl", lambda s: detectron2.dump_torch(s.people, s.file_name)
    ),
    "segm": _picture("segm"),
    "u": _picture("u"),
    "v": _picture("v"),
    "segm-viridis": _picture("segm-viridis"),
    "u-viridis": _picture("u-viridis"),
    "v-viridis": _picture("v-viridis"),
    "magic-animate": _picture("magic-animate"),
    "controlnet": _picture("controlnet"),
    "viton": _picture("viton"),
    "contour": _picture("contour"),
    "cutout": Output("_cutout.png", lambda s: png(raster.cutout(s.image, s.people))),
    "texture": Output("_texture.png", lambda s: texture.atlas_png(s.image, s.people)),
    "texture-filled": Output(
        "_texture_filled.png", lambda s: texture.atlas_png(s.image, s.people, fill=True)
    ),
    "points": Output("_points.csv", lambda s: texture.points_csv(s.people)),
}
DEFAULT = "iuv,overlay,json"


def parse(text: str) -> tuple[str, ...]:
    """The formats of a comma-separated list, each once; UserError for unknown ones."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown or not names:
        raise UserError(
            f"unknown format {', '.join(unknown) or repr(text)}; "
            f"known: {', '.join(OUTPUTS)}"
        )
    return names
