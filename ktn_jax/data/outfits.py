"""Outfits people go about in, at random: from a bare chest to a winter coat.

One idea: at variety 0 everybody wears plain, close cloth; the share of people with
hanging clothes, hats, bags, prints and all the rest is `variety` itself.
"""

import numpy as np

from ktn_jax.data.hairdos import HAIR_TONES, sample_hair, sample_hat
from ktn_jax.data.looks import (
    BOTTOM,
    COAT,
    GLOVES,
    HAIR,
    HAT,
    PACK,
    SCARF,
    SHOES,
    TOP,
    Cloth,
    Hem,
    Look,
    blend_tones,
    sample_color,
    sample_skin,
    sample_waves,
)

_PATTERNS = ("plain", "stripes", "bands", "checks", "dots", "blotches", "plaid")
_PATTERN_ODDS = (0.5, 0.09, 0.1, 0.06, 0.05, 0.1, 0.1)
_DENIM = np.array([0.26, 0.34, 0.47])
_COMMON = np.array(  # black, greys, white, navy, beige, brown, olive, maroon, light blue
    [(0.07, 0.07, 0.08), (0.25, 0.25, 0.26), (0.5, 0.5, 0.5), (0.9, 0.9, 0.88),
     (0.12, 0.15, 0.28), (0.72, 0.64, 0.5), (0.36, 0.26, 0.19), (0.3, 0.32, 0.2),
     (0.4, 0.1, 0.13), (0.6, 0.7, 0.8), (0.95, 0.95, 0.95), (0.06, 0.06, 0.07)]
)  # fmt: skip
_KINDS = (TOP, BOTTOM, SHOES, GLOVES, COAT, HAT, SCARF, PACK)


def sample_look(
    rng: np.random.Generator, variety: float = 1.0, patch: np.ndarray | None = None
) -> Look:
    """A random outfit. variety: 0..1, at 0 all cloth is plain and close.

    patch: [h, w, 3] a photograph in [0, 1] that some cloth may be cut from.
    """
    look = _plain_look(rng)
    if rng.random() >= variety:
        return look
    look = look._replace(
        cloth=_sample_cloths(rng, patch),
        mottle=sample_waves(rng, 0.12, 5),
        beard=rng.choice([0, 0.35, 0.6, 1], p=[0.7, 0.1, 0.08, 0.12]),
        smile=rng.choice([0, rng.uniform(0.4, 1)]),
        glasses=rng.choice([0, 0.25, 0.9], p=[0.78, 0.1, 0.12]),
        pack=rng.random() < 0.08,
        sole=rng.uniform(0.008, 0.03) if look.shoe > -0.8 else 0.0,
        gloves=rng.random() < 0.06,
    )
    look = sample_hair(rng, look)
    look = rng.choice(list(_DRESSES), p=list(_DRESSES.values()))(rng, look)
    return sample_hat(rng, look)


def _plain_look(rng: np.random.Generator) -> Look:
    """Close clothes of one colour each."""
    cloth = {kind: _plain_cloth(rng) for kind in _KINDS}
    if rng.random() < 0.15:  # one piece: a suit or an overall
        cloth[BOTTOM] = cloth[TOP]
    hair = _plain_cloth(rng)
    if rng.random() < 0.85:  # else a cap or a scarf, of cloth
        tone = blend_tones(rng, HAIR_TONES)
        hair = hair._replace(color=tone, other=0.7 * tone, pattern="blotches")
    cloth[HAIR] = hair._replace(period=0.02, thickness=rng.uniform(0.006, 0.022))
    cloth[SHOES] = cloth[SHOES]._replace(thickness=0.006)
    long_hair = rng.random() < 0.35
    waist = rng.choice([0.12, -0.02, -0.25], p=[0.6, 0.3, 0.1]) + rng.normal(0, 0.03)
    return Look(
        skin=sample_skin(rng),
        cloth=cloth,
        sleeve=rng.choice([0.19, 0.30, 0.40, 0.61], p=[0.1, 0.3, 0.1, 0.5])
        + rng.normal(0, 0.02),
        waist=waist,
        rise=waist,
        hem=rng.choice([-0.12, -0.32, -0.55, -0.77], p=[0.08, 0.22, 0.1, 0.6])
        + rng.normal(0, 0.03),
        shoe=rng.choice([-0.83, -0.765, -0.70, -0.5], p=[0.08, 0.57, 0.25, 0.1]),
        neck=rng.uniform(0.48, 0.60),
        hairline=rng.uniform(0.78, 0.815),
        hair_slope=rng.uniform(0.75, 1.0),
        hair_length=rng.uniform(0.40, 0.58) if long_hair else 1.0,
        beard=float(rng.random() < 0.12),
        gloves=rng.random() < 0.07,
    )


def _plain_cloth(rng: np.random.Generator) -> Cloth:
    return Cloth(
        color=sample_color(rng),
        other=sample_color(rng),
        pattern="plain",
        period=rng.uniform(0.03, 0.12),
        waves=sample_waves(rng, 0.1),
        thickness=rng.uniform(0.003, 0.016),
    )


def _sample_cloths(rng: np.random.Generator, patch: np.ndarray | None) -> dict[int, Cloth]:
    """Cloth with patterns and details, for all kinds but hair."""
    cloth = {}
    for kind in _KINDS:
        plain = _plain_cloth(rng)
        color = _cloth_color(rng, kind)
        pattern = str(rng.choice(_PATTERNS, p=_PATTERN_ODDS))
        calm = kind in (BOTTOM, HAT, COAT) and rng.random() < 0.65
        if calm or kind in (SHOES, GLOVES, PACK):
            pattern = "plain"
        if patch is not None and rng.random() < 0.25:
            pattern = "patch"
        cloth[kind] = plain._replace(
            color=color,
            other=_cloth_color(rng, kind) if rng.random() < 0.5 else plain.other,
            pattern=pattern,
            period=np.exp(rng.uniform(np.log(0.015), np.log(0.15))),
            thickness=rng.uniform(0.003, 0.01),
            crease=rng.uniform(0.06, 0.4),
            weave=rng.uniform(0, 0.16),
            details=_sample_details(rng, kind),
            patch=patch,
        )
    cloth[SHOES] = cloth[SHOES]._replace(thickness=rng.uniform(0.006, 0.014), crease=0.05)
    return cloth


def _cloth_color(rng: np.random.Generator, kind: int) -> np.ndarray:
    """A colour that cloth mostly has: black to white, navy, khaki, denim, or any. [3]."""
    draw = rng.random()
    if kind == BOTTOM and draw < 0.3:
        color = _DENIM * rng.uniform(0.5, 1.7)
    elif draw < 0.6:
        color = _COMMON[rng.integers(len(_COMMON))] * rng.uniform(0.7, 1.25)
        if kind in (BOTTOM, COAT, SHOES):
            color = color * rng.uniform(0.4, 1)
    else:
        color = sample_color(rng)
    return np.clip(color + rng.normal(0, 0.02, 3), 0, 1)


def _sample_details(rng: np.random.Generator, kind: int) -> tuple[str, ...]:
    """Names of paints.DETAILS that a garment of this kind has."""
    odds = {
        TOP: {"print": 0.35, "buttons": 0.2, "cuffs": 0.25, "side": 0.08, "yoke": 0.1},
        BOTTOM: {"belt": 0.4, "seams": 0.4, "pockets": 0.4, "side": 0.12, "faded": 0.25},
        COAT: {"zip": 0.6, "pockets": 0.5, "cuffs": 0.3, "yoke": 0.2, "print": 0.1},
        SHOES: {"laces": 0.5, "sole": 0.7},
        HAT: {"band": 0.4},
        PACK: {"pockets": 0.5},
    }.get(kind, {})
    return tuple(name for name, share in odds.items() if rng.random() < share)


def _loosen(look: Look, kind: int, loose: float, **changes: object) -> Look:
    """The look with one garment hanging further off."""
    cloth = look.cloth[kind]._replace(loose=loose, **changes)
    return look._replace(cloth=look.cloth | {kind: cloth})


def _dress_summer(rng: np.random.Generator, look: Look) -> Look:
    """Shorts, swimwear, sleeveless tops, bare feet."""
    look = _loosen(look, TOP, rng.uniform(0, 0.025))
    look = _loosen(look, BOTTOM, rng.uniform(0, 0.04))
    bare, low = rng.random() < 0.3, rng.random() < 0.25
    return look._replace(
        waist=1.0 if bare else rng.choice([0.34, 0.25, 0.1, 0.0]) + rng.normal(0, 0.02),
        rise=rng.uniform(0.0, 0.06) if low else rng.uniform(0.06, 0.14),
        sleeve=rng.choice([0.17, 0.22, 0.3]) + rng.normal(0, 0.015),
        hem=rng.choice([-0.05, -0.15, -0.32]) + rng.normal(0, 0.03),
        shoe=rng.choice([-0.9, -0.795, -0.75, -0.68], p=[0.4, 0.2, 0.3, 0.1]),
        neck=rng.uniform(0.4, 0.58),
        gloves=False,
    )


def _dress_everyday(rng: np.random.Generator, look: Look) -> Look:
    """Trousers and shirts, some untucked, some under an open jacket."""
    loose = rng.uniform(0.002, 0.035)
    look = _loosen(look, TOP, loose)
    look = _loosen(look, BOTTOM, rng.choice([0.003, 0.02, 0.045]) * rng.uniform(0.6, 1.2))
    look = look._replace(
        rise=0.14,
        waist=rng.uniform(0.03, 0.12),
        sleeve=rng.choice([0.3, 0.42, 0.61], p=[0.45, 0.1, 0.45]) + rng.normal(0, 0.015),
        hem=rng.choice([-0.3, -0.77], p=[0.2, 0.8]) + rng.normal(0, 0.02),
        shoe=rng.choice([-0.765, -0.7, -0.55], p=[0.7, 0.22, 0.08]),
        neck=rng.uniform(0.5, 0.6),
    )
    if rng.random() < 0.4:  # a jacket, open or closed
        look = look._replace(coat=0.05, opening=rng.choice([0, 0.03, 0.07]))
        look = _loosen(look, COAT, loose + rng.uniform(0.008, 0.03))
        gap = 0.4 if look.opening > 0.02 else 0.0
        bottom = rng.choice([-0.02, -0.1, -0.32], p=[0.45, 0.4, 0.15])
        hem = Hem(COAT, 0.16, bottom + rng.normal(0, 0.03), rng.uniform(0, 0.12), gap)
        look = look._replace(hems=(hem,))
    elif rng.random() < 0.6:  # untucked
        hem = Hem(TOP, 0.16, rng.uniform(-0.12, 0.04), rng.uniform(0, 0.12))
        look = look._replace(hems=(hem,))
    return look._replace(hood=rng.random() < 0.06)


def _dress_winter(rng: np.random.Generator, look: Look) -> Look:
    """Thick coats, wide trousers, boots; often hood, scarf and gloves."""
    ribs = rng.choice([0, rng.uniform(0.006, 0.016)])
    look = _loosen(look, COAT, rng.uniform(0.02, 0.055), ribs=ribs)
    look = _loosen(look, BOTTOM, rng.uniform(0.008, 0.05))
    look = _loosen(look, SHOES, rng.uniform(0, 0.012))
    bottom = rng.choice([-0.02, -0.1, -0.35, -0.55], p=[0.3, 0.35, 0.25, 0.1])
    return look._replace(
        rise=0.14,
        coat=0.04,
        opening=rng.choice([0, 0, 0.04]),
        hems=(Hem(COAT, 0.16, bottom + rng.normal(0, 0.03), rng.uniform(0, 0.14)),),
        hem=-0.77,
        shoe=rng.choice([-0.765, -0.68, -0.5], p=[0.3, 0.4, 0.3]),
        gloves=rng.random() < 0.4,
        scarf=rng.random() < 0.25,
        hood=rng.random() < 0.12,
        sole=rng.uniform(0.015, 0.04),
        neck=0.6,
        sleeve=0.61,
    )


def _dress_suit(rng: np.random.Generator, look: Look) -> Look:
    """Jacket and trousers of one cloth over a light shirt, mostly with a tie."""
    loose = rng.uniform(0.006, 0.02)
    look = _loosen(look, COAT, loose, details=("pockets",), crease=0.12)
    cloth = look.cloth[COAT]._replace(loose=rng.uniform(0.01, 0.03), details=("seams",))
    light = rng.choice([0.93, 0.75]) * np.array([0.98, 0.98, 1])
    shirt = look.cloth[TOP]._replace(
        color=light, details=("tie", "buttons") if rng.random() < 0.7 else ("buttons",)
    )
    gap = rng.choice([0.0, 0.35])
    hem = Hem(COAT, 0.16, rng.uniform(-0.12, -0.04), rng.uniform(0.02, 0.1), gap)
    return look._replace(
        cloth=look.cloth | {BOTTOM: cloth, TOP: shirt},
        rise=0.14,
        waist=0.11,
        hem=-0.77,
        shoe=-0.765,
        sleeve=0.61,
        neck=0.6,
        coat=0.05,
        opening=rng.choice([0.035, 0.06]),
        hems=(hem,),
    )


def _dress_skirt(rng: np.random.Generator, look: Look) -> Look:
    """Skirts, dresses and gowns, over bare or stockinged legs."""
    kind = rng.choice([TOP, BOTTOM])
    short = rng.uniform(-0.42, -0.12)
    bottom = short if rng.random() < 0.6 else rng.uniform(-0.74, -0.42)
    look = _loosen(look, TOP, rng.uniform(0, 0.015))
    return look._replace(
        rise=0.14,
        waist=rng.uniform(0.02, 0.12),
        hem=-0.77 if rng.random() < 0.2 else rng.uniform(0.0, 0.05),
        hems=(Hem(kind, 0.16, bottom, rng.choice([0.05, 0.2, 0.45]) * rng.uniform(0, 1)),),
        sleeve=rng.choice([0.17, 0.22, 0.3, 0.6]) + rng.normal(0, 0.015),
        shoe=rng.choice([-0.9, -0.79, -0.76, -0.5], p=[0.15, 0.35, 0.3, 0.2]),
        neck=rng.uniform(0.42, 0.6),
        beard=0.0,
    )


def _dress_sport(rng: np.random.Generator, look: Look) -> Look:
    """Close suits of one cloth, or a shirt and shorts; helmets and goggles."""
    look = _loosen(look, TOP, rng.uniform(0, 0.03), details=("print", "side"))
    look = _loosen(look, BOTTOM, rng.uniform(0, 0.04), details=("side",))
    if rng.random() < 0.3:
        look = look._replace(cloth=look.cloth | {BOTTOM: look.cloth[TOP]})
    helmet = {"hat": rng.uniform(0.76, 0.8), "hat_slope": rng.uniform(0.5, 1.2)}
    bald = look.cloth[HAT]._replace(thickness=rng.uniform(0.02, 0.04), pattern="plain")
    look = look._replace(
        rise=0.13,
        waist=rng.uniform(0.0, 0.1),
        sleeve=rng.choice([0.18, 0.3, 0.61], p=[0.15, 0.5, 0.35]) + rng.normal(0, 0.015),
        hem=rng.choice([-0.15, -0.32, -0.77], p=[0.25, 0.35, 0.4]) + rng.normal(0, 0.02),
        shoe=rng.choice([-0.765, -0.66, -0.45], p=[0.5, 0.25, 0.25]),
    )
    if rng.random() < 0.45:
        look = look._replace(cloth=look.cloth | {HAT: bald}, **helmet)
    return look


def _dress_bulky(rng: np.random.Generator, look: Look) -> Look:
    """Clothes that hide the body's shape: suits for space, snow or fire, down jackets."""
    whole, down = rng.random() < 0.6, rng.random() < 0.4
    ribs = rng.uniform(0.008, 0.02) if down else 0.0
    thick = {"thickness": rng.uniform(0.012, 0.03), "crease": rng.uniform(0.2, 0.5)}
    look = _loosen(look, COAT, rng.uniform(0.04, 0.09), ribs=ribs, **thick)
    look = _loosen(look, BOTTOM, rng.uniform(0.02, 0.07), **thick)
    look = _loosen(look, SHOES, rng.uniform(0.005, 0.02))
    if whole:  # one cloth from neck to ankle, with a collar of another or of the same
        collar = look.cloth[COAT if rng.random() < 0.4 else SCARF]
        collar = collar._replace(thickness=rng.uniform(0.02, 0.05), loose=0.0)
        suit = look.cloth[BOTTOM]._replace(
            color=look.cloth[COAT].color,
            pattern=look.cloth[COAT].pattern,
            details=("belt", "pockets"),
        )
        look = look._replace(cloth=look.cloth | {BOTTOM: suit, SCARF: collar})
    bottom = 0.1 if whole else rng.uniform(-0.14, 0.04)
    return look._replace(
        rise=0.14,
        coat=min(bottom, 0.05),
        opening=0.0,
        hems=() if whole else (Hem(COAT, 0.16, bottom, rng.uniform(0, 0.1)),),
        hem=-0.77,
        shoe=rng.choice([-0.7, -0.5], p=[0.6, 0.4]),
        gloves=rng.random() < 0.45,
        scarf=whole,
        hood=rng.random() < 0.2,
        sole=rng.uniform(0.015, 0.04),
        neck=0.6,
        sleeve=0.61,
    )


_DRESSES = {  # odds
    _dress_summer: 0.19,
    _dress_everyday: 0.28,
    _dress_winter: 0.16,
    _dress_skirt: 0.14,
    _dress_sport: 0.1,
    _dress_suit: 0.07,
    _dress_bulky: 0.06,
}
