"""The light of a scene: lamps far away, and what sky and ground give from all around.

Frame: camera metres, as in render.
"""

from typing import NamedTuple

import numpy as np

_MOODS = ("plain", "sun", "overcast", "room", "night", "flash", "backlit", "bright")
_ODDS = np.array([0.16, 0.2, 0.16, 0.22, 0.06, 0.06, 0.08, 0.06])

_EXPOSED = {  # light on what faces the camera
    "night": (0.25, 0.7),
    "flash": (0.9, 1.4),
    "backlit": (0.3, 0.8),
    "bright": (1.1, 1.6),
}


class Light(NamedTuple):
    """Lamps at infinity over a hemisphere of sky and one of ground."""

    directions: np.ndarray  # [lamps, 3] unit, towards each lamp; the main one first
    lamps: np.ndarray  # [lamps, 3] RGB strength
    sky: np.ndarray  # [3] RGB, from straight above
    ground: np.ndarray  # [3] RGB, from straight below
    up: np.ndarray  # [3] unit
    shadow: float  # 0..1, how much of a lamp's light its shadows lack
    gloss: float  # how much of the main lamp smooth skin mirrors


def sample_light(
    rng: np.random.Generator, up: np.ndarray, variety: float, indoor: bool = False
) -> Light:
    """A random light. up: [3] unit.   variety: 0..1, at 0 one lamp and no shadows."""
    mood = rng.choice(_MOODS, p=_ODDS / _ODDS.sum())
    if indoor and mood in ("sun", "overcast"):
        mood = "room"
    if rng.random() > variety:
        mood = "plain"
    count = {"room": rng.integers(1, 4), "night": rng.integers(1, 4)}.get(mood, 1)
    spread = rng.normal(0, [0.8, 0.5, 0.6], (count, 3))
    heart = {
        "flash": np.array([0, -0.1, -3.0]),
        "backlit": 0.6 * up + np.array([0, 0, 0.9]),
        "sun": 0.9 * up + np.array([0, 0, -0.3]),
    }.get(mood, 0.9 * up + np.array([0, 0, -0.6]))
    directions = heart + spread * (0.3 if mood == "flash" else 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strength, ambient = _strengths(rng, str(mood))
    tint = rng.normal(1, 0.05, 3) + rng.normal(0, 0.12 * variety) * np.array([1, 0.2, -1])
    share = rng.dirichlet([1.5] * count)[:, None] if count > 1 else np.ones((1, 1))
    colors = tint * rng.normal(1, 0.08, (count, 3)) if count > 1 else tint[None]
    sky = (2 - tint) * ambient
    # snow and sand throw light back, earth does not
    low, high = (0.65, 0.75) if mood == "plain" else (0.3, 0.9)
    shadow = 0.0
    if mood not in ("plain", "overcast"):
        shadow = float(np.clip(rng.normal(0.85, 0.2), 0, 1))
    light = Light(
        directions=directions,
        lamps=np.clip(strength * share * colors, 0, None),
        sky=sky,
        ground=sky * rng.uniform(low, high),
        up=up,
        shadow=shadow,
        gloss=rng.uniform(0, 0.35) * variety,
    )
    if mood == "plain":
        return light
    # a photographer exposes for what faces the camera, more or less
    facing = irradiance(light, np.array([[0, -0.3, -0.954]]), None).mean()
    return _scale(light, rng.uniform(*_EXPOSED.get(str(mood), (0.65, 1.15))) / facing)


def suit_light(light: Light, image: np.ndarray, rng: np.random.Generator) -> Light:
    """The light, as bright and as tinted as a photograph's place is, more or less.

    image: [h, w, 3] in 0..1.
    """
    mean = image.mean((0, 1)) + 0.12
    bright = (mean.mean() / 0.55) ** rng.uniform(0.3, 0.9)
    tint = (mean / mean.mean()) ** rng.uniform(0, 0.6)
    return _scale(light, np.clip(bright, 0.45, 1.4) * np.clip(tint, 0.7, 1.4))


def _scale(light: Light, factor: np.ndarray | float) -> Light:
    """The light, brighter by a factor, or by one for each colour."""
    return light._replace(
        lamps=light.lamps * factor, sky=light.sky * factor, ground=light.ground * factor
    )


def irradiance(light: Light, normals: np.ndarray, lit: np.ndarray | None) -> np.ndarray:
    """Light that falls on surfaces. normals: [k, 3] unit. Returns [k, 3].

    lit: [k, lamps] 0..1, how much of each lamp reaches each; None for all of it.
    """
    facing = np.clip(normals @ light.directions.T, 0, None)
    if lit is not None:
        facing *= lit
    above = 0.5 + 0.5 * (normals @ light.up)[:, None]
    return facing @ light.lamps + light.ground + above * (light.sky - light.ground)


def mirrored(light: Light, normals: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """The main lamp's highlight, Blinn-Phong's. toward: [k, 3] unit, to the eye. [k]."""
    half = toward + light.directions[0]
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
    return light.gloss * np.clip((normals * half).sum(1), 0, 1) ** 24


def _strengths(rng: np.random.Generator, mood: str) -> tuple[float, float]:
    """Strengths of all lamps and of the sky; but for "plain" only their ratio counts."""
    low, high, dim, light = {
        "plain": (0.45, 0.85, 0.3, 0.65),
        "sun": (0.7, 1.3, 0.3, 0.6),
        "overcast": (0.0, 0.25, 0.7, 1.1),
        "room": (0.4, 0.9, 0.3, 0.7),
        "night": (0.25, 0.7, 0.05, 0.25),
        "flash": (0.7, 1.2, 0.1, 0.4),
        "backlit": (0.6, 1.4, 0.3, 0.7),
        "bright": (0.8, 1.5, 0.6, 1.0),
    }[mood]
    return rng.uniform(low, high), rng.uniform(dim, light)
