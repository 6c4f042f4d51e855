"""What rendered people wear: skin, hair, a face, and clothes cut along the body.

One idea: everything is decided at canonical positions, those of the base body in the
T pose (metres, X left, Y up, Z front), so cloth follows the limbs in any pose. Cuts are
on purpose not where charts end. Colours are RGB in [0, 1].
"""

import colorsys
import functools
from typing import NamedTuple

import numpy as np

from ktn_jax.body import find_keypoints, t_pose

_SKIN_TONES = np.array(
    [(244, 214, 196), (226, 180, 150), (198, 140, 106), (146, 94, 64), (82, 52, 38)]
)
_HAIR_TONES = np.array([(22, 18, 16), (62, 42, 28), (120, 82, 48), (196, 164, 106)])
_PATTERN_ODDS = np.array([0.55, 0.1, 0.1, 0.08, 0.05, 0.12])
_MOUTH = np.array([0.0, 0.661, 0.147])
_TORSO, _HANDS, _FEET, _UPPER_LEGS, _LOWER_LEGS, _UPPER_ARMS, _LOWER_ARMS, _HEAD = range(
    1, 9
)  # coarse parts, as in anatomy.COARSE
SKIN, TOP, BOTTOM, SHOES, HAIR, GLOVES = range(6)  # what covers a point


class Waves(NamedTuple):
    """A smooth random field on the body: a sum of plane waves."""

    wave: np.ndarray  # [w, 3] radians per metre
    phase: np.ndarray  # [w]

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Values of about unit variance. position: [k, 3]. Returns [k]."""
        return np.sin(position @ self.wave.T + self.phase).sum(1) / np.sqrt(
            len(self.phase) / 2
        )


class Cloth(NamedTuple):
    """One garment's surface."""

    color: np.ndarray  # [3]
    other: np.ndarray  # [3] the pattern's second colour
    pattern: str
    period: float  # metres
    waves: Waves
    thickness: float  # metres off the skin


class Look(NamedTuple):
    """All that is worn, with lengths in canonical metres."""

    skin: np.ndarray  # [3]
    cloth: dict[int, Cloth]  # TOP, BOTTOM, SHOES, HAIR, GLOVES
    sleeve: float  # |x| where sleeves end
    waist: float  # y where the top ends
    hem: float  # y where the trousers end
    shoe: float  # y where shoes end
    neck: float  # y of the neckline at the front
    hairline: float  # y above the forehead
    hair_slope: float  # how fast the hairline falls towards the back
    hair_length: float  # y down to which hair hangs at the back
    beard: bool
    gloves: bool


def sample_color(rng: np.random.Generator) -> np.ndarray:
    """A colour of cloth or of things: mostly muted, sometimes vivid or skin-like. [3]."""
    if rng.random() < 0.12:
        return sample_skin(rng)
    saturation = rng.beta(1.0, 1.8) if rng.random() < 0.85 else rng.uniform(0.6, 1)
    value = rng.uniform(0.08, 0.97)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def sample_skin(rng: np.random.Generator) -> np.ndarray:
    """A skin colour. [3]."""
    return _blend_tones(rng, _SKIN_TONES)


def sample_waves(rng: np.random.Generator, length: float, count: int = 4) -> Waves:
    """A random field with features of about `length` metres."""
    return Waves(
        rng.normal(size=(count, 3)) * (2 / length), rng.uniform(0, 2 * np.pi, count)
    )


def sample_look(rng: np.random.Generator, variety: float = 1.0) -> Look:
    """A random outfit. variety: 0..1, at 0 all cloth is plain."""
    cloth = {kind: _sample_cloth(rng, variety) for kind in (TOP, BOTTOM, SHOES, GLOVES)}
    if rng.random() < 0.15:  # one piece: a suit or an overall
        cloth[BOTTOM] = cloth[TOP]
    hair = _sample_cloth(rng, variety)
    if rng.random() < 0.85:  # else a cap or a scarf, of cloth
        tone = _blend_tones(rng, _HAIR_TONES)
        hair = hair._replace(color=tone, other=0.7 * tone, pattern="blotches")
    cloth[HAIR] = hair._replace(period=0.02, thickness=rng.uniform(0.006, 0.022))
    cloth[SHOES] = cloth[SHOES]._replace(pattern="plain", thickness=0.006)
    long_hair = rng.random() < 0.35
    return Look(
        skin=sample_skin(rng),
        cloth=cloth,
        sleeve=rng.choice([0.19, 0.30, 0.40, 0.61], p=[0.1, 0.3, 0.1, 0.5])
        + rng.normal(0, 0.02),
        waist=rng.choice([0.12, -0.02, -0.25], p=[0.6, 0.3, 0.1]) + rng.normal(0, 0.03),
        hem=rng.choice([-0.12, -0.32, -0.55, -0.77], p=[0.08, 0.22, 0.1, 0.6])
        + rng.normal(0, 0.03),
        shoe=rng.choice([-0.83, -0.765, -0.70, -0.5], p=[0.08, 0.57, 0.25, 0.1]),
        neck=rng.uniform(0.48, 0.60),
        hairline=rng.uniform(0.78, 0.815),
        hair_slope=rng.uniform(0.75, 1.0),
        hair_length=rng.uniform(0.40, 0.58) if long_hair else 1.0,
        beard=rng.random() < 0.12,
        gloves=rng.random() < 0.07,
    )


def cover(look: Look, position: np.ndarray, *, coarse: np.ndarray) -> np.ndarray:
    """What covers each point: SKIN, TOP, ... position: [k, 3]. coarse: [k] 1..8."""
    x, y, z = np.abs(position[:, 0]), position[:, 1], position[:, 2]
    trunk = (coarse == _TORSO) | (coarse == _UPPER_LEGS)
    arm = (coarse == _UPPER_ARMS) | (coarse == _LOWER_ARMS)
    leg = (coarse == _UPPER_LEGS) | (coarse == _LOWER_LEGS)
    open_neck = (z > 0.03) & (y > look.neck + 0.9 * x) & (coarse == _TORSO)
    worn = np.full(len(position), SKIN)
    worn[((coarse == _TORSO) | leg) & (y > look.hem) & (y <= look.waist)] = BOTTOM
    worn[(trunk | arm) & (y > look.waist) & (x < look.sleeve) & ~open_neck] = TOP
    worn[((coarse == _FEET) | leg) & (y < look.shoe)] = SHOES
    scalp = y > look.hairline - look.hair_slope * np.clip(0.13 - z, 0, None)
    hanging = (z < 0.045) & (y > look.hair_length) & (x < 0.1) & (coarse != _UPPER_ARMS)
    worn[((coarse == _HEAD) & scalp) | hanging] = HAIR
    if look.beard:
        chin = (y < 0.675) & (y > 0.61) & (z > 0.06) & (coarse == _HEAD)
        worn[chin & (np.linalg.norm(position - _MOUTH, axis=1) > 0.022)] = HAIR
    if look.gloves:
        worn[coarse == _HANDS] = GLOVES
    return worn


def paint(
    look: Look, position: np.ndarray, *, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unlit colours [k, 3] and what covers each point [k]; arguments as of `cover`."""
    worn = cover(look, position, coarse=coarse)
    color = _paint_skin(look, position)
    for kind, cloth in look.cloth.items():
        mine = np.flatnonzero(worn == kind)
        color[mine] = _paint_cloth(cloth, position[mine], arm=coarse[mine] >= _UPPER_ARMS)
    return color, worn


def thicken(look: Look, position: np.ndarray, *, coarse: np.ndarray) -> np.ndarray:
    """How far cloth and hair stand off the skin, metres. [k]; arguments as of `cover`."""
    worn = cover(look, position, coarse=coarse)
    table = np.zeros(GLOVES + 1)
    for kind, cloth in look.cloth.items():
        table[kind] = cloth.thickness
    return table[worn]


def _blend_tones(rng: np.random.Generator, tones: np.ndarray) -> np.ndarray:
    """A colour between two neighbours of a scale, slightly off. [3]."""
    place = rng.uniform(0, len(tones) - 1.001)
    low = int(place)
    tone = tones[low] + (place - low) * (tones[low + 1] - tones[low])
    return np.clip(tone / 255 * rng.uniform(0.92, 1.06, 3), 0, 1)


def _sample_cloth(rng: np.random.Generator, variety: float) -> Cloth:
    patterns = ("plain", "stripes", "bands", "checks", "dots", "blotches")
    return Cloth(
        color=sample_color(rng),
        other=sample_color(rng),
        pattern=str(
            rng.choice(patterns, p=_PATTERN_ODDS * variety + [1 - variety, 0, 0, 0, 0, 0])
        ),
        period=rng.uniform(0.03, 0.12),
        waves=sample_waves(rng, 0.1),
        thickness=rng.uniform(0.003, 0.016),
    )


@functools.cache
def _eyes() -> np.ndarray:
    """Canonical places of the left and the right eye. [2, 3]."""
    return find_keypoints(t_pose().vertices)[1:3]


def _paint_skin(look: Look, position: np.ndarray) -> np.ndarray:
    """Skin with lips, brows and eyes. position: [k, 3]. Returns [k, 3]."""
    color = np.tile(look.skin, (len(position), 1))
    face = np.flatnonzero((position[:, 1] > 0.6) & (position[:, 2] > 0.08))
    near = position[face]
    lips = np.linalg.norm((near - _MOUTH) * (0.8, 1.8, 1), axis=1) < 0.018
    color[face[lips]] = look.skin * (0.85, 0.5, 0.52)
    for eye in _eyes():
        away = near[:, :2] - eye[:2]
        white = np.linalg.norm(away * (1, 1.8), axis=1) < 0.014
        pupil = np.linalg.norm(away, axis=1) < 0.006
        brow = np.linalg.norm((away - (0, 0.021)) * (0.55, 3), axis=1) < 0.012
        color[face[white]] = 0.88
        color[face[pupil]] = (0.12, 0.08, 0.06)
        color[face[brow]] = 0.5 * look.skin * look.cloth[HAIR].color
    return color


def _paint_cloth(cloth: Cloth, position: np.ndarray, *, arm: np.ndarray) -> np.ndarray:
    """A garment's pattern. position: [k, 3]. arm: [k] bool. Returns [k, 3]."""
    x, y, z = position.T
    # bands run around trunk and legs, and around the arm, which lies along x
    along = np.where(arm, np.abs(x), y) / cloth.period
    across = np.where(arm, y - z, x + z) / cloth.period
    second = {
        "plain": np.zeros(len(position), bool),
        "bands": along % 1 < 0.5,
        "stripes": across % 1 < 0.35,
        "checks": (along % 1 < 0.5) ^ (across % 1 < 0.5),
        "dots": (along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.06,
        "blotches": cloth.waves(position) > 0.3,
    }[cloth.pattern]
    return np.where(second[:, None], cloth.other, cloth.color)
