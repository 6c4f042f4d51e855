"""Where a scene takes place, and what its surfaces look like.

Frame: as in canvas.
"""

from typing import NamedTuple

import numpy as np

from ktn_jax.data.canvas import View
from ktn_jax.data.lights import Light, irradiance
from ktn_jax.data.photographs import NO_PHOTOS, Photographs, sample_patch
from ktn_jax.data.textures import Texture, blend, photo_texture, sample_texture

_GROUNDS = {  # texture kinds, texel in metres, colours or None for any
    "grass": ("grass leaves rough", 0.006, [(60, 90, 25), (110, 140, 50), (70, 100, 40)]),
    "snow": ("clouds rough", 0.02, [(205, 212, 225), (245, 247, 250), (225, 230, 238)]),
    "sand": ("clouds rough waves", 0.008, [(190, 165, 120), (225, 205, 165)]),
    "water": ("waves", 0.02, [(20, 50, 80), (70, 110, 130), (190, 210, 220)]),
    "earth": ("rough speckle", 0.006, [(80, 60, 40), (130, 105, 75), (105, 90, 70)]),
    "asphalt": ("speckle rough", 0.004, [(70, 70, 72), (110, 108, 105)]),
    "paving": ("tiles bricks", 0.008, [(110, 105, 100), (170, 160, 150), (140, 130, 120)]),
    "floor": ("planks tiles cloth rough clouds", 0.006, None),
}


class Site(NamedTuple):
    """Where people stand, and the dice that decide what else is there."""

    rng: np.random.Generator
    view: View
    light: Light
    photos: Photographs
    spots: np.ndarray  # [k, 2] metres (right, ahead) that stay free; at least one


def level_texture(
    rng: np.random.Generator, kind: str, photos: Photographs = NO_PHOTOS
) -> Texture:
    """A texture of one of _GROUNDS, now and then cut from a photograph."""
    kinds, texel, tones = _GROUNDS[kind]
    texel = texel * rng.uniform(0.5, 2)
    if photos.scenes and rng.random() < 0.2:
        return photo_texture(sample_patch(rng, photos.scenes, 128), texel)
    texture = sample_texture(rng, kinds, texel)
    if tones is None:
        return mute(texture, rng)
    stops = np.array(tones) / 255 * rng.normal(1, 0.12) * rng.normal(1, 0.05, 3)
    return texture._replace(colors=blend(stops))


def thing_texture(
    rng: np.random.Generator, photos: Photographs, texel: float = 0.004
) -> Texture:
    """A texture that any thing may have."""
    if photos.scenes and rng.random() < 0.5:
        return photo_texture(sample_patch(rng, photos.scenes), texel)
    kinds = "clouds clouds rough cloth planks speckle tiles waves glyphs leaves"
    return sample_texture(rng, kinds, texel * rng.uniform(0.4, 3))


def light_on(light: Light, normal: np.ndarray) -> np.ndarray:
    """Light on a flat face. normal: [3]. Returns [3]."""
    return irradiance(light, normal[None], None)[0]


def mute(texture: Texture, rng: np.random.Generator) -> Texture:
    """A texture in the colours of floors and walls: mostly pale or brown, with little
    contrast."""
    colors = texture.colors
    mean = colors.mean(0)
    goal = mean
    if rng.random() < 0.88:
        warm = np.array([1, 0.93, 0.82]) if rng.random() < 0.6 else np.ones(3)
        goal = rng.uniform(0.25, 0.95) * (warm + rng.normal(0, 0.03, 3))
    contrast = rng.uniform(0.05, 0.7) ** 1.3
    muted = np.clip(goal + contrast * (colors - mean), 0, 1)
    return texture._replace(colors=muted.astype(np.float32))
