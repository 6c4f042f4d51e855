"""What is on a head, at random: hair of many cuts, caps, hats, helmets, scarves."""

import numpy as np

from ktn_jax.data.looks import (
    HAIR,
    HAT,
    Cloth,
    Look,
    blend_tones,
    sample_color,
    sample_waves,
)

HAIR_TONES = np.array([(16, 13, 12), (34, 25, 20), (62, 42, 28), (110, 74, 44),
                        (150, 112, 66), (206, 176, 122), (176, 172, 168),
                        (225, 222, 216)])  # fmt: skip


def sample_hair(rng: np.random.Generator, look: Look) -> Look:
    """Hair of many cuts; bald now and then."""
    dark = look.skin.mean() < 0.55 and rng.random() < 0.85  # dark skin, dark hair
    tone = blend_tones(rng, HAIR_TONES[:3] if dark else HAIR_TONES)
    if rng.random() < 0.04:  # dyed
        tone = sample_color(rng)
    hair = Cloth(
        color=tone,
        other=tone * rng.uniform(0.5, 0.85),
        pattern="strands",
        period=rng.uniform(0.004, 0.012),
        waves=sample_waves(rng, rng.uniform(0.03, 0.1)),
        thickness=rng.uniform(0.002, 0.01),
        crease=rng.uniform(0.1, 0.3),
        weave=rng.uniform(0.1, 0.3),
    )
    look = look._replace(cloth=look.cloth | {HAIR: hair}, hair_length=1.0)
    cut = rng.choice(["short", "bob", "long", "knot", "tail", "afro", "bald"],
                     p=[0.44, 0.1, 0.2, 0.07, 0.08, 0.06, 0.05])  # fmt: skip
    match cut:
        case "short":
            return look._replace(volume=rng.uniform(0.002, 0.035))
        case "bob" | "long":
            low = (0.5, 0.62) if cut == "bob" else (0.24, 0.5)
            return look._replace(
                hair_length=rng.uniform(*low), curtain=True, volume=rng.uniform(0.005, 0.03)
            )
        case "knot":
            radius = rng.uniform(0.03, 0.055)
            knot = (rng.uniform(0.7, 0.86), rng.uniform(-0.055, -0.03), radius, radius)
        case "tail":
            wide = rng.uniform(0.018, 0.035)
            knot = (rng.uniform(0.62, 0.7), -0.07, wide, rng.uniform(0.09, 0.16))
        case "afro":
            return look._replace(volume=rng.uniform(0.04, 0.1), hairline=0.8)
        case _:
            return look._replace(hairline=rng.uniform(0.84, 0.95), hair_slope=1.3)
    return look._replace(knot=knot, volume=rng.uniform(0.002, 0.012))


def sample_hat(rng: np.random.Generator, look: Look) -> Look:
    """A third wear something on the head."""
    if look.hat < 1 or look.hood or rng.random() < 0.7:
        return look
    thick = rng.uniform(0.006, 0.02)
    match rng.choice(
        ["beanie", "cap", "hat", "helmet", "band"], p=[0.3, 0.36, 0.18, 0.1, 0.06]
    ):
        case "beanie":
            change = {"hat": rng.uniform(0.765, 0.8), "hat_slope": rng.uniform(0.2, 0.7)}
        case "cap":
            front = rng.choice([0, np.pi], p=[0.9, 0.1])  # some turn it back to front
            change = {"hat": 0.79, "hat_slope": 0.25, "brim": (0.9, 0.08, front)}
        case "hat":
            thick = rng.uniform(0.015, 0.05)
            change = {
                "hat": 0.79,
                "hat_slope": 0.05,
                "brim": (4, rng.uniform(0.03, 0.16), 0),
            }
        case "helmet":
            thick = rng.uniform(0.02, 0.045)
            change = {"hat": rng.uniform(0.77, 0.8), "hat_slope": rng.uniform(0.3, 1.1)}
        case _:  # a turban or a headscarf
            thick = rng.uniform(0.01, 0.04)
            change = {"hat": 0.785, "hat_slope": rng.uniform(0.7, 1.3)}
    cloth = look.cloth[HAT]._replace(thickness=thick)
    volume = min(look.volume, 0.02)  # pressed flat
    return look._replace(cloth=look.cloth | {HAT: cloth}, volume=volume, **change)
