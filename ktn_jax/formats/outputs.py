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


def _plane(plane: str, colors: np.ndarray) -> Callable[[Scene], bytes]:
    return lambda s: png(colored.over_grey(s.image, s.people, plane=plane, colors=colors))


def _results(scene: Scene, field: str | None = None) -> bytes:
    found = coco.entries(scene.people, scene.size, scene.name)
    return json.dumps(coco.only(found, field) if field else found).encode()


OUTPUTS = {
    "iuv": Output("_iuv.png", lambda s: raster.iuv_png(s.people, s.size)),
    "iuv-rgb": Output("_iuv_rgb.png", lambda s: raster.iuv_rgb_png(s.people, s.size)),
    "inds": Output("_inds.png", lambda s: raster.inds_png(s.people, s.size)),
    "overlay": Output("_overlay.png", lambda s: png(pictures.overlay(s.image, s.people))),
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
    "segm": Output("_segm.png", _plane("I", PARULA)),
    "u": Output("_u.png", _plane("U", PARULA)),
    "v": Output("_v.png", _plane("V", PARULA)),
    "segm-viridis": Output("_segm_viridis.png", _plane("I", VIRIDIS)),
    "u-viridis": Output("_u_viridis.png", _plane("U", VIRIDIS)),
    "v-viridis": Output("_v_viridis.png", _plane("V", VIRIDIS)),
    "magic-animate": Output(
        "_magic_animate.png", lambda s: png(colored.magic_animate(s.people, s.size))
    ),
    "controlnet": Output(
        "_controlnet.png", lambda s: png(colored.controlnet(s.people, s.size))
    ),
    "viton": Output("_viton.png", lambda s: png(colored.viton(s.people, s.size))),
    "contour": Output("_contour.png", lambda s: png(colored.contour(s.image, s.people))),
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
