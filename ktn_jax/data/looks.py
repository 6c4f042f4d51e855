"""What rendered people wear: which garments, of what cloth, from where to where.

One idea: everything is decided at canonical positions, those of the base body in the
T pose (metres, X left, Y up, Z front), so cloth follows the limbs in any pose. Cuts are
on purpose not where charts end. Colours are RGB in [0, 1].
"""

import colorsys
from typing import NamedTuple

import numpy as np

from ktn_jax.data.shells import ramp

_SKIN_TONES = np.array([(248, 220, 204), (236, 196, 168), (214, 160, 126), (176, 122, 88),
                        (132, 84, 58), (84, 52, 38), (58, 38, 30)])  # fmt: skip
_TORSO, _HANDS, _FEET, _UPPER_LEGS, _LOWER_LEGS, _UPPER_ARMS, _LOWER_ARMS, _HEAD = range(
    1, 9
)  # coarse parts, as in anatomy.COARSE
SKIN, TOP, BOTTOM, SHOES, HAIR, GLOVES, COAT, HAT, SCARF, PACK = range(10)  # covers
MOUTH = np.array([0.0, 0.661, 0.147])


class Waves(NamedTuple):
    """A smooth random field on the body: a sum of plane waves."""

    wave: np.ndarray  # [w, 3] radians per metre
    phase: np.ndarray  # [w]

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Values of about unit variance. position: [k, 3]. Returns [k]."""
        wave, phase = (v.astype(position.dtype) for v in self)
        return np.sin(position @ wave.T + phase) @ np.full(
            len(phase), np.sqrt(2 / len(phase)), position.dtype
        )


class Cloth(NamedTuple):
    """One garment's surface."""

    color: np.ndarray  # [3]
    other: np.ndarray  # [3] the pattern's second colour
    pattern: str  # one of paints.PATTERNS
    period: float  # metres
    waves: Waves
    thickness: float  # metres off the skin where it fits closest
    loose: float = 0.0  # metres more where it hangs
    ribs: float = 0.0  # metres of a quilted coat's bulges
    crease: float = 0.16  # how far folds turn its normals
    weave: float = 0.0  # share by which its brightness varies
    details: tuple[str, ...] = ()  # of paints.DETAILS: zip, belt, print, ...
    patch: np.ndarray | None = None  # [h, w, 3] a photograph, for pattern "patch"


class Hem(NamedTuple):
    """The hanging part of a skirt, dress, jacket or coat."""

    kind: int  # what it is of: TOP, BOTTOM or COAT
    top: float  # y where it leaves the body
    bottom: float  # y where it ends
    flare: float  # metres further out per metre of fall
    gap: float = 0.0  # radians it stays open to each side of the front


class Look(NamedTuple):
    """All that is worn, with lengths in canonical metres."""

    skin: np.ndarray  # [3]
    cloth: dict[int, Cloth]  # all kinds but SKIN
    sleeve: float  # |x| where sleeves end
    waist: float  # y where the top ends
    rise: float  # y where the trousers begin
    hem: float  # y where the trousers end
    shoe: float  # y where shoes end
    neck: float  # y of the neckline at the front
    hairline: float  # y above the forehead
    hair_slope: float  # how fast the hairline falls towards the back
    hair_length: float  # y down to which hair hangs at the back
    beard: float  # 0 none, 1 full; between, stubble
    gloves: bool
    mottle: Waves = Waves(np.zeros((1, 3)), np.zeros(1))  # of the skin
    volume: float = 0.0  # metres hair stands off the skull
    curtain: bool = False  # whether long hair hangs free
    knot: tuple[float, ...] = ()  # y, z and two radii of a bun or a pony tail
    coat: float = 1.0  # y where a jacket over the top ends; 1 is none
    opening: float = 0.0  # |x| to which the jacket is open at the front
    hat: float = 1.0  # y where a hat ends at the forehead; 1 is none
    hat_slope: float = 0.5  # how fast that falls towards the back
    brim: tuple[float, float, float] = (0.0, 0.0, 0.0)  # radians each side, width, middle
    hood: bool = False
    scarf: bool = False
    pack: bool = False
    glasses: float = 0.0  # darkness of lenses; 0 is none
    smile: float = 0.0  # how much of the teeth shows
    sole: float = 0.0  # metres under the feet
    hems: tuple[Hem, ...] = ()  # one at most


def sample_color(rng: np.random.Generator) -> np.ndarray:
    """A colour of cloth or of things: mostly muted, sometimes vivid or skin-like. [3]."""
    if rng.random() < 0.12:
        return sample_skin(rng)
    saturation = rng.beta(1.0, 1.8) if rng.random() < 0.85 else rng.uniform(0.6, 1)
    value = rng.uniform(0.08, 0.97)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def sample_skin(rng: np.random.Generator) -> np.ndarray:
    """A skin colour. [3]."""
    return blend_tones(rng, _SKIN_TONES)


def blend_tones(rng: np.random.Generator, tones: np.ndarray) -> np.ndarray:
    """A colour between two neighbours of a scale 0..255, slightly off. [3] in [0, 1]."""
    place = rng.uniform(0, len(tones) - 1.001)
    low = int(place)
    tone = tones[low] + (place - low) * (tones[low + 1] - tones[low])
    return np.clip(tone / 255 * rng.uniform(0.93, 1.05) * rng.uniform(0.97, 1.03, 3), 0, 1)


def sample_waves(rng: np.random.Generator, length: float, count: int = 4) -> Waves:
    """A random field with features of about `length` metres."""
    return Waves(
        rng.normal(size=(count, 3)) * (2 / length), rng.uniform(0, 2 * np.pi, count)
    )


def cover(look: Look, position: np.ndarray, *, coarse: np.ndarray) -> np.ndarray:
    """What covers each point: SKIN, TOP, ... position: [k, 3]. coarse: [k] 1..8."""
    x, y, z = np.abs(position[:, 0]), position[:, 1], position[:, 2]
    torso, head = coarse == _TORSO, coarse == _HEAD
    trunk = torso | (coarse == _UPPER_LEGS)
    arm = (coarse == _UPPER_ARMS) | (coarse == _LOWER_ARMS)
    leg = (coarse == _UPPER_LEGS) | (coarse == _LOWER_LEGS)
    feet = coarse == _FEET
    open_neck = (z > 0.03) & (y > look.neck + 0.9 * x) & torso
    worn = np.full(len(position), SKIN, np.int8)
    # a foot's charts begin above the ankle, where trousers have not ended yet
    worn[(torso | leg | feet) & (y > look.hem) & (y <= look.rise)] = BOTTOM
    worn[(trunk | arm) & (y > look.waist) & (x < look.sleeve) & ~open_neck] = TOP
    if look.coat < 1:
        apart = (z > 0.02) & (x < look.opening * (0.5 + 1.1 * ramp(y, 0.1, 0.55)))
        body = (trunk | leg) & (y > look.coat) & ~apart
        worn[(body | arm) & (x < 0.61)] = COAT
    worn[(feet | leg) & (y < look.shoe)] = SHOES
    scalp = y > look.hairline - look.hair_slope * np.clip(0.13 - z, 0, None)
    hanging = (z < 0.045) & (y > look.hair_length) & (x < 0.1) & (coarse != _UPPER_ARMS)
    worn[(head & scalp) | hanging] = HAIR
    if look.beard >= 1:
        chin = (y < 0.675) & (y > 0.61) & (z > 0.06) & head
        worn[chin & (np.linalg.norm(position - MOUTH, axis=1) > 0.022)] = HAIR
    if look.gloves:
        worn[coarse == _HANDS] = GLOVES
    _cover_head(look, worn, position, head)
    return worn


def _cover_head(
    look: Look, worn: np.ndarray, position: np.ndarray, head: np.ndarray
) -> None:
    """Hats, hoods and scarves, put into `worn` [k]; head: [k] bool."""
    x, y, z = np.abs(position[:, 0]), position[:, 1], position[:, 2]
    if look.scarf:
        worn[(y > 0.585) & (y < 0.655) & (x < 0.1)] = SCARF
    if look.hood:
        face = (z > 0.085) & (y > 0.61) & (y < 0.81) & (x < 0.062)
        worn[head & ~face] = COAT if look.coat < 1 else TOP
    if look.hat < 1:
        worn[head & (y > look.hat - look.hat_slope * np.clip(0.14 - z, 0, None))] = HAT
