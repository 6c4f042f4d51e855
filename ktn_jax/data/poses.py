"""Poses and shapes of rendered people: everyday ones, with noise.

One idea: an upper body and a lower body are drawn apart, each from a few styles given in
joint angles a physiotherapist would use; noise and limits come after. Angles are degrees.
Flexion brings a limb forward, abduction away from the body, twist turns it inwards.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ktn_jax.body import Shape, load_body, mix_shape, pose_shape


class Arm(NamedTuple):
    """Angles of one arm; all zero hangs straight down, palm to the thigh."""

    flexion: float
    abduction: float
    twist: float
    elbow: float


class Leg(NamedTuple):
    """Angles of one leg; all zero stands straight."""

    flexion: float
    abduction: float
    twist: float
    knee: float


class Person(NamedTuple):
    """A body in a pose, before it is placed in a scene: Y up, Z front, metres."""

    shape: Shape
    bends: np.ndarray  # [b, 3, 3]
    posed: Shape


_ARMS = {  # style -> (weight, the left and the right arm)
    "down": (5, Arm(0, 12, 0, 15), Arm(0, 12, 0, 15)),
    "swing": (3, Arm(28, 10, 5, 30), Arm(-25, 10, 5, 20)),
    "hips": (1, Arm(-20, 48, 55, 85), Arm(-20, 48, 55, 85)),
    "up": (1, Arm(10, 150, -10, 25), Arm(10, 150, -10, 25)),
    "wave": (2, Arm(5, 85, -85, 85), Arm(0, 12, 0, 15)),
    "ahead": (1, Arm(75, 12, 0, 20), Arm(75, 12, 0, 20)),
    "hold": (2, Arm(25, 15, 20, 100), Arm(25, 15, 20, 100)),
    "phone": (1, Arm(45, 25, 25, 120), Arm(0, 12, 0, 10)),
    "wide": (1, Arm(0, 80, 0, 15), Arm(0, 80, 0, 15)),
    "run": (2, Arm(40, 15, 10, 90), Arm(-45, 20, 5, 85)),
    "reach": (1, Arm(120, 30, 0, 15), Arm(10, 20, 0, 30)),
    "throw": (1, Arm(20, 95, -60, 95), Arm(50, 30, 10, 60)),
}
_LEGS = {
    "stand": (6, Leg(0, 4, 5, 3), Leg(0, 4, 5, 3)),
    "astride": (2, Leg(5, 16, 10, 6), Leg(5, 16, 10, 6)),
    "walk": (4, Leg(25, 2, 4, 10), Leg(-18, 2, 4, 22)),
    "run": (2, Leg(60, 2, 0, 75), Leg(-15, 2, 0, 55)),
    "sit": (2, Leg(85, 8, 5, 85), Leg(85, 8, 5, 85)),
    "crouch": (1, Leg(105, 12, 8, 115), Leg(100, 12, 8, 115)),
    "ski": (1, Leg(50, 6, 0, 65), Leg(50, 6, 0, 65)),
    "kick": (1, Leg(65, 6, 0, 20), Leg(-3, 4, 5, 8)),
    "knee up": (1, Leg(75, 6, 0, 80), Leg(0, 3, 5, 3)),
}
_COMMON = ("down", "swing", "wave", "hold", "run", "stand", "astride", "walk")
_ARM_NOISE = Arm(14, 9, 16, 15)
_LEG_NOISE = Leg(7, 3, 5, 8)
_ARM_LIMITS = (Arm(-55, 4, -95, 0), Arm(160, 170, 75, 135))
_LEG_LIMITS = (Leg(-30, -3, -15, 0), Leg(120, 40, 30, 130))
_LEAN = {"sit": 5, "crouch": 35, "ski": 35, "run": 12, "walk": 4}  # degrees forward
_PLUMP = (
    "universal-male-young-maxmuscle-maxweight",
    "universal-female-young-averagemuscle-maxweight",
    "universal-male-young-minmuscle-minweight",
)
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_TRIES = 12  # poses whose limbs run into the body are drawn again


def sample_person(rng: np.random.Generator, variety: float = 1.0) -> Person:
    """One random body in a random pose. variety: 0..1, at 0 they mostly stand and walk."""
    shape = sample_shape(rng)
    for _ in range(_TRIES):
        bends = sample_bends(rng, variety)
        posed = pose_shape(shape, bends)
        if _is_clear(posed):
            break
    return Person(shape, bends, posed)


def sample_shape(rng: np.random.Generator) -> Shape:
    """A blend of the adult and child targets, and of the thin and heavy ones."""
    names = [n for n in load_body().target_names if n not in _PLUMP]
    odds = [0.3 if n.endswith(("child", "old")) else 0.6 for n in names]
    shares = dict(zip(names, rng.dirichlet(odds), strict=True))
    shares |= dict(zip(_PLUMP, 0.8 * rng.dirichlet([0.4] * 3), strict=True))
    return mix_shape(shares)


def sample_bends(rng: np.random.Generator, variety: float = 1.0) -> np.ndarray:
    """Rotations of all bones relative to the T pose. Returns [b, 3, 3]."""
    draw = functools.partial(_draw_pair, rng, variety)
    _, (left, right) = draw(_ARMS, _ARM_NOISE, _ARM_LIMITS, lone=0.5)
    stance, legs = draw(_LEGS, _LEG_NOISE, _LEG_LIMITS, lone=0.0)
    bends = {}
    for side, arm, leg in (("_l", left, legs[0]), ("_r", right, legs[1])):
        limb = _arm_bends(arm, rng) | _leg_bends(leg, rng)
        for bone, turn in limb.items():
            bends[bone + side] = turn if side == "_l" else _MIRROR @ turn @ _MIRROR
    bends |= _trunk_bends(rng, _LEAN.get(stance, 0))
    still = np.eye(3)
    return np.stack([bends.get(bone, still) for bone in load_body().bones])


def _draw_pair(
    rng: np.random.Generator,
    variety: float,
    styles: dict[str, tuple],
    noise: tuple,
    limits: tuple[tuple, tuple],
    lone: float,
) -> tuple[str, list]:
    """A style's name and its two limbs; `lone` is the odds of two separate styles."""
    names = list(styles)
    weight = np.array([styles[name][0] for name in names], float)
    weight *= np.where(np.isin(names, _COMMON), 1, variety)

    def draw() -> int:
        return rng.choice(len(names), p=weight / weight.sum())

    first = draw()
    second = draw() if rng.random() < lone else first
    pair = [styles[names[first]][1], styles[names[second]][2]]
    if rng.random() < 0.5:
        pair.reverse()
    kind = type(noise)
    angles = np.array(pair) + rng.normal(size=(2, len(noise))) * noise * (
        0.4 + 0.6 * variety
    )
    return names[first], [kind(*row) for row in np.clip(angles, *limits)]


def _turn(axes: str, *degrees: float) -> np.ndarray:
    """Rotations about fixed axes, the last named applied first. [3, 3]."""
    return Rotation.from_euler(axes.upper(), degrees, degrees=True).as_matrix()


def _arm_bends(arm: Arm, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bends of a left arm by bone, without the side."""
    shrug = 0.3 * max(arm.abduction - 50, 0.0)  # the shoulder blade's share of a lift
    curl = rng.uniform(0, 45)
    bends = {
        "clavicle": _turn("z", shrug),
        "upperarm": _turn("xzx", -arm.flexion, arm.abduction - shrug - 90, arm.twist),
        "lowerarm": _turn("yx", -arm.elbow, rng.normal(0, 20)),
        "hand": _turn("zy", rng.normal(0, 12), rng.normal(0, 8)),
    }
    for finger in ("index", "middle", "ring", "pinky"):
        for joint in "123":
            bends[f"{finger}_0{joint}"] = _turn("z", -curl * rng.uniform(0.7, 1.1))
    return bends


def _leg_bends(leg: Leg, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bends of a left leg by bone, without the side."""
    return {
        "thigh": _turn("xzy", -leg.flexion, leg.abduction, leg.twist),
        "calf": _turn("x", leg.knee),
        "foot": _turn("xy", rng.normal(0, 8), rng.normal(5, 6)),
    }


def _trunk_bends(rng: np.random.Generator, lean: float) -> dict[str, np.ndarray]:
    """Bends of spine, neck and head; `lean` degrees forward in all."""
    pitch, twist, side = rng.normal([lean, 0, 0], [8, 12, 6])
    third = _turn("xyz", pitch / 3, twist / 3, side / 3)
    nod, look, tilt = rng.normal([-0.5 * lean, 0, 0], [9, 18, 6])
    half = _turn("xyz", nod / 2, look / 2, tilt / 2)
    return {
        "spine_01": third,
        "spine_02": third,
        "spine_03": third,
        "neck_01": half,
        "head": half,
    }


def _is_clear(posed: Shape) -> bool:
    """Whether hands keep out of trunk and head, and the legs of each other."""
    body = load_body()

    def at(bone: str) -> np.ndarray:
        return posed.joints[body.bones.index(bone)]

    size = np.linalg.norm(at("neck_01") - at("pelvis"))  # about half a metre
    trunk = at("pelvis") + np.linspace(0, 1, 9)[:, None] * (at("neck_01") - at("pelvis"))
    skull = at("head") + 0.15 * (at("head") - at("neck_01")) / 0.1
    for side in "lr":
        wrist, knuckle = at(f"hand_{side}"), at(f"middle_01_{side}")
        for point in (wrist, knuckle, (wrist + at(f"lowerarm_{side}")) / 2):
            if np.linalg.norm(trunk - point, axis=1).min() < 0.31 * size:
                return False
            if np.linalg.norm(skull - point) < 0.25 * size:
                return False
    gaps = [at(f"{b}_l") - at(f"{b}_r") for b in ("calf", "foot", "ball")]
    return min(np.linalg.norm(gaps, axis=1)) > 0.2 * size
