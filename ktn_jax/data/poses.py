"""Poses and shapes of rendered people: everyday ones, with noise.

One idea: what people do is drawn from the tables of styles, with noise; limits come
after, and a pose whose limbs run into the body is drawn again. Angles are degrees.
"""

import functools
from typing import NamedTuple

import numpy as np

from ktn_jax.body import load_body, pose_bones, t_pose
from ktn_jax.data.clearance import is_clear
from ktn_jax.data.styles import (
    ARM_LIMITS,
    ARM_NOISE,
    ARMS,
    LEG_LIMITS,
    LEG_NOISE,
    LEGS,
    REACH_NOISE,
    STYLES,
    Arm,
    Leg,
    Reach,
    Trunk,
)


class Person(NamedTuple):
    """A body in a pose, before it is placed in a scene: Y up, Z front, metres."""

    shares: np.ndarray  # [t] of the body's shape targets
    bends: np.ndarray  # [b, 3, 3]
    head: float = 1.0  # the head's size, times that of the shape
    style: str = ""  # of styles.STYLES, where it is one
    stance: str = ""  # of styles.LEGS, where it is one

    @property
    def height(self) -> float:
        """Metres, when standing."""
        low, high = _ends()
        places = _mix(self.shares, np.concatenate([low, high]))
        return float(places[len(low) :].max() - places[: len(low)].min())


_PLUMP = (
    "universal-male-young-maxmuscle-maxweight",
    "universal-female-young-averagemuscle-maxweight",
    "universal-male-young-minmuscle-minweight",
)
_CHILD = "caucasian-male-child"
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_TRIES = 12  # poses whose limbs run into the body are drawn again


def sample_person(
    rng: np.random.Generator, variety: float = 1.0, style: str = ""
) -> Person:
    """One random body in a random pose. variety: 0..1, at 0 they mostly stand and walk.

    style: of styles.STYLES, for varied poses; any without.
    """
    shares = sample_shares(rng, variety)
    joints = mix_joints(shares)
    for _ in range(_TRIES):
        drawn, stance = ("", "") if rng.random() >= variety else draw_style(rng, style)
        bends = sample_bends(rng, drawn, stance)
        if is_clear(pose_bones(joints, bends)[1]):
            break
    young = np.clip(shares[load_body().target_names.index(_CHILD)], 0, 1)
    head = 1 + variety * (rng.normal(0, 0.025) + rng.uniform(0, 0.22) * young)
    return Person(shares, bends, head, drawn, stance)


def pose_person(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """As of body.pose_bones: the ways of all bones [b, 3, 4], joints [b, 3]."""
    rest = mix_joints(person.shares)
    ways, joints = pose_bones(rest, person.bends)
    head = load_body().bones.index("head")
    grown = (person.head - 1) * ways[head, :, :3]
    ways[head, :, :3] += grown  # about its own joint
    ways[head, :, 3] -= grown @ rest[head]
    return ways, joints


def sample_shares(rng: np.random.Generator, variety: float = 1.0) -> np.ndarray:
    """Shares of the shape targets: ages, sexes and origins, thin to heavy. [t]."""
    names = load_body().target_names
    people = [n for n in names if n not in _PLUMP]
    odds = [0.3 if n.endswith(("child", "old")) else 0.6 for n in people]
    shares = dict(zip(people, rng.dirichlet(odds), strict=True))
    shares |= dict(zip(_PLUMP, 0.8 * rng.dirichlet([0.4] * 3), strict=True))
    if rng.random() < variety:
        if rng.random() < 0.16:  # a child
            young = rng.uniform(0.6, 1.15)
            shares = {n: s * (1 - min(young, 1)) for n, s in shares.items()}
            shares[_CHILD] = young
        extreme = rng.choice(_PLUMP)
        most = 0.9 if "minweight" in extreme else 1.2
        more = rng.beta(1, 2) * (1 - shares[_CHILD] / 2)
        shares[extreme] = min(shares[extreme] + more, most)
    return np.array([shares[name] for name in names])


def mix_joints(shares: np.ndarray) -> np.ndarray:
    """Joints of a shape at rest. shares: [t]. Returns [b, 3] metres."""
    body = load_body()
    return body.base.joints + np.tensordot(shares, body.joint_targets, 1)


def draw_style(rng: np.random.Generator, style: str = "") -> tuple[str, str]:
    """A style, the one given if any, and a stance where that leaves the legs open."""
    style = style or _pick(rng, STYLES)
    return style, _pick(rng, LEGS) if STYLES[style].legs is None else ""


def sample_bends(rng: np.random.Generator, style: str = "", stance: str = "") -> np.ndarray:
    """Rotations of all bones relative to the T pose. Returns [b, 3, 3].

    style, stance: of draw_style; without, people stand or walk, arms mostly down.
    """
    arms, legs, trunk = _mix_style(rng, style, stance) if style else _draw_plain(rng)
    bends = {}
    for side, arm, leg in (("_l", arms[0], legs[0]), ("_r", arms[1], legs[1])):
        limb = bend_arm(arm, rng) | _leg_bends(leg, rng)
        for bone, turn in limb.items():
            bends[bone + side] = turn if side == "_l" else _MIRROR @ turn @ _MIRROR
    bends |= _trunk_bends(rng, trunk)
    still = np.eye(3)
    return np.stack([bends.get(bone, still) for bone in load_body().bones])


def _draw_plain(rng: np.random.Generator) -> tuple[list, list, Trunk]:
    """Standing and walking, arms mostly down."""
    names = ("down", "swing", "wave", "hold one", "hold")
    first = _pick(rng, {name: (ARMS[name][0],) for name in names})
    second = _pick(rng, {name: (ARMS[name][0],) for name in names})
    arms = [ARMS[first][1], ARMS[second if rng.random() < 0.5 else first][2]]
    stance = _pick(rng, {n: (LEGS[n][0],) for n in ("stand", "astride", "walk")})
    legs = [*LEGS[stance][1:3]]
    for pair in (arms, legs):
        if rng.random() < 0.5:
            pair.reverse()
    return (
        [_shake(rng, arm, 0.4) for arm in arms],
        [_shake(rng, leg, 0.4) for leg in legs],
        LEGS[stance][3],
    )


def _mix_style(
    rng: np.random.Generator, name: str, stance: str
) -> tuple[list, list, Trunk]:
    """Limbs and trunk of a style and a stance, mirrored half the time."""
    style = STYLES[name]
    arms, legs, trunk = [style.left_arm, style.right_arm], style.legs, style.trunk
    if legs is None:
        _, *legs, trunk = LEGS[stance]
    if None in arms:
        first = _pick(rng, ARMS)
        drawn = list(ARMS[first][1:])
        if rng.random() < 0.35:
            drawn[1] = ARMS[_pick(rng, ARMS)][2]
        if rng.random() < 0.5:
            drawn.reverse()
        arms = [new if arm is None else arm for arm, new in zip(arms, drawn, strict=True)]
    arms = [_sample_reach(rng) if arm is None else arm for arm in arms]
    arms, legs = [_shake(rng, a, 1) for a in arms], [_shake(rng, leg, 1) for leg in legs]
    if rng.random() < 0.5:
        arms.reverse(), legs.reverse()
        trunk = trunk._replace(twist=-trunk.twist, roll=-trunk.roll)
    return arms, legs, trunk


def _pick(rng: np.random.Generator, table: dict[str, tuple]) -> str:
    """A name, by the odds that come first in each entry."""
    odds = np.array([entry[0] for entry in table.values()])
    return list(table)[np.searchsorted(np.cumsum(odds / odds.sum()), rng.random())]


def _shake(
    rng: np.random.Generator, limb: Arm | Reach | Leg, noise: float
) -> Arm | Reach | Leg:
    """The limb with noise, within limits."""
    if isinstance(limb, Reach):
        place = np.array(limb) + noise * rng.normal(size=4) * ([REACH_NOISE] * 3 + [15])
        return Reach(*place)
    spread, limits = (
        (ARM_NOISE, ARM_LIMITS) if isinstance(limb, Arm) else (LEG_NOISE, LEG_LIMITS)
    )
    angles = np.array(limb) + noise * rng.normal(size=4) * spread
    return type(limb)(*np.clip(angles, *limits))


def _sample_reach(rng: np.random.Generator) -> Reach:
    """Any place before or beside the body that a left hand reaches."""
    shoulder, _, _ = _arm_joints()
    way = rng.normal([0.25, -0.15, 0.6], [0.6, 0.7, 0.45])
    length = rng.uniform(0.6, 0.98) * 0.454
    return Reach(*(shoulder + length * way / np.linalg.norm(way)), rng.uniform(0, 40))


def _turn(axes: str, *degrees: float) -> np.ndarray:
    """Rotations about fixed axes, the last named applied first. [3, 3]."""
    result = np.eye(3)
    for axis, angle in zip(axes, np.radians(degrees), strict=True):
        sine, cosine = np.sin(angle), np.cos(angle)
        first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = cosine
        turn[second, first], turn[first, second] = sine, -sine
        result = result @ turn
    return result


def bend_arm(arm: Arm | Reach, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bends of a left arm by bone, without the side."""
    if isinstance(arm, Reach):
        upper, elbow = solve_reach(arm)
        shrug = 25 * np.clip((arm.y - 0.6) / 0.4, 0, 1)
    else:
        shrug = 0.3 * max(arm.abduction - 50, 0.0)  # the shoulder blade's share of a lift
        angles = -arm.flexion, arm.abduction - shrug - 90, arm.twist
        upper, elbow = _turn("xzx", *angles), arm.elbow
    curl = rng.uniform(55, 85) if rng.random() < 0.25 else rng.uniform(0, 55)
    bends = {
        "clavicle": _turn("z", shrug),
        "upperarm": upper,
        "lowerarm": _turn("yx", -elbow, np.clip(rng.normal(0, 30), -70, 70)),
        "hand": _turn("zy", *np.clip(rng.normal(0, (16, 9)), -45, 45)),
    }
    for finger in ("index", "middle", "ring", "pinky"):
        for joint in "123":
            bends[f"{finger}_0{joint}"] = _turn("z", -curl * rng.uniform(0.7, 1.1))
    return bends


def solve_reach(reach: Reach) -> tuple[np.ndarray, float]:
    """The upper arm's bend [3, 3] and the elbow's angle that bring a left wrist there."""
    shoulder, elbow, wrist = _arm_joints()
    upper, lower = np.linalg.norm(elbow - shoulder), np.linalg.norm(wrist - elbow)
    way = np.array(reach[:3]) - shoulder
    length = np.clip(np.linalg.norm(way), 0.35 * (upper + lower), 0.999 * (upper + lower))
    way = way / np.linalg.norm(way)
    inner = (upper**2 + length**2 - lower**2) / (2 * upper * length)
    pole = np.array([0.45, -1.0, -0.5])  # elbows hang down, out and back
    side = pole - (pole @ way) * way
    side /= np.linalg.norm(side)
    outward = np.cross(way, side)
    outward *= np.sign(outward[0]) or 1
    swing = np.radians(np.clip(reach.raised, -20, 90))
    side = np.cos(swing) * side + np.sin(swing) * outward
    along = inner * way + np.sqrt(1 - inner**2) * side
    fore = (length * way - upper * along) / lower
    hinge = fore - (fore @ along) * along
    hinge /= np.linalg.norm(hinge)
    bend = np.degrees(np.arccos(np.clip(fore @ along, -1, 1)))
    return np.column_stack([along, np.cross(hinge, along), hinge]), float(bend)


@functools.cache
def _arm_joints() -> np.ndarray:
    """Left shoulder, elbow and wrist in the T pose. [3, 3]."""
    bones = ("upperarm_l", "lowerarm_l", "hand_l")
    return t_pose().joints[[load_body().bones.index(bone) for bone in bones]]


@functools.cache
def _ends() -> tuple[np.ndarray, np.ndarray]:
    """Vertices among which the lowest and the highest is, whatever the shape."""
    y = load_body().base.vertices[np.unique(load_body().faces), 1]
    used = np.unique(load_body().faces)
    return used[y < y.min() + 0.004], used[y > y.max() - 0.01]


def _mix(shares: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Heights of some vertices of a shape. [k] metres."""
    body = load_body()
    return body.base.vertices[vertices, 1] + shares @ body.targets[:, vertices, 1]


def _leg_bends(leg: Leg, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bends of a left leg by bone, without the side."""
    return {
        "thigh": _turn("xzy", -leg.flexion, leg.abduction, leg.twist),
        "calf": _turn("x", leg.knee),
        "foot": _turn("xy", rng.normal(0, 10), rng.normal(5, 6)),
    }


def _trunk_bends(rng: np.random.Generator, trunk: Trunk) -> dict[str, np.ndarray]:
    """Bends of the whole body, spine, neck and head."""
    pitch, twist, side = rng.normal([trunk.lean, trunk.twist, 0], [8, 12, 6])
    hips = 0.4 * pitch if pitch > 25 else 0.0  # a deep bow comes from the hips as well
    third = _turn("xyz", (pitch - hips) / 3, twist / 3, side / 3)
    nod, look, tilt = rng.normal([-0.5 * trunk.lean, 0, 0], [10, 22, 6])
    if trunk.pitch > 45:
        nod -= 25  # face down, one looks ahead
    nod, look = np.clip(nod, -50, 40), np.clip(look, -70, 70)
    half = _turn("xyz", nod / 2, look / 2, tilt / 2)
    whole = _turn("xz", trunk.pitch, trunk.roll) if trunk.pitch or trunk.roll else np.eye(3)
    return {
        "Root": whole,
        "spine_01": third @ _turn("x", hips),
        "spine_02": third,
        "spine_03": third,
        "neck_01": half,
        "head": half,
    }
