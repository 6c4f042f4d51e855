"""Things people hold, wear on their feet or sit on: rackets, bats, boards, chairs, bags.

One idea: a thing follows a bone or two as if nailed to them, is seen and hides what is
behind it, but is nobody: its faces have chart 0. Lengths are metres in the T pose's
frame (X left, Y up, Z front), where a left hand lies at x = .7, y = .52.
"""

from typing import NamedTuple

import numpy as np

from ktn_jax.body import load_body, t_pose
from ktn_jax.data.looks import Cloth, sample_color, sample_waves
from ktn_jax.data.shells import ramp

FIRST = 10  # the cover of the first thing, as looks.SKIN is that of skin
_HAND = np.array([0.7, 0.5, 0.02])
_SOLE = -0.84  # y under shoes


class Part(NamedTuple):
    """A piece of a thing; n points, f faces."""

    points: np.ndarray  # [n, 3]
    faces: np.ndarray  # [f, 3]


class Thing(NamedTuple):
    """Something that goes along with a body."""

    points: np.ndarray  # [n, 3] in the T pose
    faces: np.ndarray  # [f, 3] i32
    bones: tuple[str, str]  # the two it is nailed to
    share: np.ndarray  # [n] how far each point follows the second
    cloth: Cloth  # what it looks like


def sample_things(rng: np.random.Generator, style: str, stance: str) -> tuple[Thing, ...]:
    """What somebody in a pose of styles.STYLES and styles.LEGS may have with them."""
    maker = _BY_STYLE.get(style)
    if maker and rng.random() < 0.85:
        return maker(rng)
    if stance.startswith(("sit", "legs over")) and rng.random() < 0.6:
        return (_chair(rng),)
    if rng.random() < 0.22:
        return (_hold(rng, rng.choice([0, 1, 2, 3, 5])),)
    return ()


def place_thing(thing: Thing, ways: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Where a thing's points come in a pose. [n, 3].

    ways, joints: of poses.pose_person; the bones' own sizes do not matter.
    """
    body, straight = load_body(), t_pose().joints
    ends = []
    for name in thing.bones:
        bone = body.bones.index(name)
        turn = ways[bone, :, :3] @ body.straighten[bone].T
        ends.append((thing.points - straight[bone]) @ turn.T + joints[bone])
    return ends[0] + thing.share[:, None] * (ends[1] - ends[0])


def _by_hand(x: float, y: float, z: float) -> np.ndarray:
    """A place beyond, above and before a left palm. [3]."""
    return _HAND + np.array([x, y, z])


def _box(middle: np.ndarray, half: np.ndarray) -> Part:
    """A box along the axes."""
    corners = np.stack(np.meshgrid(*[(-1, 1)] * 3, indexing="ij"), -1).reshape(8, 3)
    quads = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6),
                      (0, 2, 6, 4), (1, 5, 7, 3)])  # fmt: skip
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Part(np.asarray(middle) + corners * np.asarray(half), faces)


def _rod(start: np.ndarray, end: np.ndarray, thick: float, thin: float) -> Part:
    """A six-sided rod between two points, `thick` and `thin` radii at its ends."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    way = (end - start) / np.linalg.norm(end - start)
    side = np.cross(way, np.eye(3)[np.abs(way).argmin()])
    side /= np.linalg.norm(side)
    angle = np.arange(6)[:, None] * np.pi / 3
    ring = np.cos(angle) * side + np.sin(angle) * np.cross(way, side)
    points = np.concatenate([start + thick * ring, end + thin * ring, [start, end]])
    here, there = np.arange(6), (np.arange(6) + 1) % 6
    sides = [(here, there, here + 6), (there, there + 6, here + 6)]
    caps = [(there, here, 0 * here + 12), (here + 6, there + 6, 0 * here + 13)]
    return Part(points, np.concatenate([np.column_stack(f) for f in sides + caps]))


def _disc(middle: np.ndarray, radii: tuple, normal: int, hole: float = 0.0) -> Part:
    """A flat ellipse across an axis, with a hole of a share of its size."""
    angle = np.arange(20) * np.pi / 10
    first, second = [axis for axis in range(3) if axis != normal]
    rim = np.zeros((20, 3))
    rim[:, first], rim[:, second] = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    points = np.asarray(middle) + np.concatenate([rim, hole * rim])
    here, there = np.arange(20), (np.arange(20) + 1) % 20
    faces = [(here, there, here + 20), (there, there + 20, here + 20)]
    return Part(points, np.concatenate([np.column_stack(f) for f in faces]))


def _ball(middle: np.ndarray, radius: float) -> Part:
    down, around = np.meshgrid(np.linspace(0.01, 3.13, 8), np.arange(12) * np.pi / 6)
    points = np.stack(
        [np.sin(down) * np.cos(around), np.cos(down), np.sin(down) * np.sin(around)], -1
    )
    column, row = (g.ravel() for g in np.indices((12, 7)))
    here, next_one = column * 8 + row, (column + 1) % 12 * 8 + row
    faces = [(here, next_one, here + 1), (next_one, next_one + 1, here + 1)]
    return Part(
        np.asarray(middle) + radius * points.reshape(-1, 3),
        np.concatenate([np.column_stack(f) for f in faces]),
    )


def _thing(
    rng: np.random.Generator,
    parts: list[Part],
    bones: tuple[str, str],
    *,
    across: bool = False,
) -> Thing:
    """A thing of several parts, in colours of its own.

    across: its left end goes with the first bone, its right end with the second.
    """
    first = np.cumsum([0] + [len(part.points) for part in parts])
    points = np.concatenate([part.points for part in parts])
    faces = [part.faces + f for part, f in zip(parts, first, strict=False)]
    share = ramp(points[:, 0], 0.12, -0.12) if across else np.zeros(len(points))
    pattern = ("plain", "bands", "blotches", "checks")[
        rng.choice(4, p=[0.6, 0.1, 0.2, 0.1])
    ]
    cloth = Cloth(
        color=sample_color(rng),
        other=sample_color(rng),
        pattern=pattern,
        period=rng.uniform(0.05, 0.3),
        waves=sample_waves(rng, 0.2),
        thickness=0.0,
        crease=0.0,
    )
    return Thing(points, np.concatenate(faces).astype(np.int32), bones, share, cloth)


def _mirror(thing: Thing, side: str) -> Thing:
    """A left thing as it is, or its mirror image."""
    if side == "l":
        return thing
    bones = tuple(bone[:-2] + "_r" if bone.endswith("_l") else bone for bone in thing.bones)
    return thing._replace(
        points=thing.points * (-1, 1, 1), faces=thing.faces[:, ::-1], bones=bones
    )


def _hold(rng: np.random.Generator, what: int) -> Thing:
    """A small thing in a hand: phone, cup, bag, stick, umbrella, ball."""
    match what:
        case 0:
            parts = [_box(_by_hand(0.06, -0.01, 0), (0.07, 0.006, 0.037))]
        case 1:
            low, high = 0.06, rng.uniform(0.14, 0.26)
            ends = _by_hand(0.03, -0.02, low), _by_hand(0.03, -0.02, high)
            parts = [_rod(*ends, 0.032, 0.04)]
        case 2:  # hangs from the fingers of an arm that hangs down
            half = np.array([rng.uniform(0.1, 0.2), 0.05, rng.uniform(0.1, 0.18)])
            parts = [_box(_by_hand(0.1 + half[0], 0, 0), half)]
        case 3:
            end = _by_hand(0.1, 0, 0.7) + rng.normal(0, (0.15, 0.15, 0.05))
            parts = [_rod(_by_hand(0, 0, -0.1), end, 0.012, 0.012)]
        case 4:  # an umbrella
            top = _by_hand(0, 0.1, 0.8)
            angle = np.arange(12) * np.pi / 6
            rim = top + 0.38 * np.stack([np.cos(angle), np.sin(angle), 0 * angle - 0.4], 1)
            here = np.arange(12)
            cap = Part(
                np.concatenate([rim, [top]]),
                np.column_stack([here, (here + 1) % 12, 0 * here + 12]),
            )
            parts = [_rod(_HAND, top, 0.008, 0.008), cap]
        case _:
            parts = [_ball(_by_hand(0.07, -0.1, 0), rng.uniform(0.04, 0.12))]
    return _mirror(_thing(rng, parts, _HANDS), rng.choice(list("lr")))


def _between(rng: np.random.Generator) -> tuple[Thing, ...]:
    """Something held with both hands: a camera, a book, a box, a laptop."""
    half = np.array([0.04, 0.01, 0.03]) * rng.uniform(1, 5)
    boxes = [_box(_by_hand(0.06, -0.01 - half[1], 0), half)]
    if rng.random() < 0.3:  # it opens
        boxes.append(_box(_by_hand(0.06, half[0], half[2]), half[[0, 0, 1]]))
    return (_mirror(_thing(rng, boxes, _HANDS), rng.choice(list("lr"))),)


def _racket(rng: np.random.Generator) -> tuple[Thing, ...]:
    ends = _by_hand(0.02, 0, 0.3), _by_hand(0.02, 0, 0.47)
    head = _disc(ends[1], (0.125, 0.16), 1, rng.uniform(0.8, 0.92))
    racket = _thing(rng, [_rod(_by_hand(0, 0, -0.06), ends[0], 0.017, 0.014), head], _HANDS)
    return (_mirror(racket, rng.choice(list("lr"))),)


def _bat(rng: np.random.Generator) -> tuple[Thing, ...]:
    length = rng.uniform(0.7, 0.95)
    bat = _thing(
        rng, [_rod(_by_hand(0, 0, -0.06), _by_hand(0, 0, length), 0.014, 0.034)], _HANDS
    )
    return (_mirror(bat, rng.choice(list("lr"))),)


def _poles(rng: np.random.Generator) -> list[Thing]:
    end = _by_hand(0.95, rng.normal(0, 0.15), -0.25 + rng.normal(0, 0.2))
    pole = _thing(rng, [_rod(_by_hand(-0.12, 0, 0), end, 0.01, 0.006)], _HANDS)
    return [pole, _mirror(pole, "r")]


def _skis(rng: np.random.Generator) -> tuple[Thing, ...]:
    long = rng.uniform(0.6, 0.9)
    board = _box((0.11, _SOLE, 0.1), (0.045, 0.008, long))
    tip = _rod((0.11, _SOLE, 0.1 + long), (0.11, _SOLE + 0.08, 0.25 + long), 0.04, 0.01)
    ski = _thing(rng, [board, tip], ("foot_l", "foot_l"))
    poles = _poles(rng) if rng.random() < 0.8 else []
    return (ski, _mirror(ski, "r"), *poles)


def _board(
    rng: np.random.Generator, half: tuple, wheels: bool = False
) -> tuple[Thing, ...]:
    """A board across the feet; it turns with both."""
    parts = [_box((0, _SOLE - half[1], 0.05), half)]
    for x in (1, -1):
        parts.append(_disc((x * half[0], _SOLE - half[1], 0.05), (0.12, half[2]), 1))
        if wheels:
            parts.append(_box((0.7 * x * half[0], _SOLE - 0.05, 0.05), (0.03, 0.03, 0.1)))
    return (_thing(rng, parts, ("foot_l", "foot_r"), across=True),)


def _snowboard(rng: np.random.Generator) -> tuple[Thing, ...]:
    return _board(rng, (rng.uniform(0.6, 0.75), 0.01, 0.14))


def _skateboard(rng: np.random.Generator) -> tuple[Thing, ...]:
    return _board(rng, (rng.uniform(0.3, 0.42), 0.008, 0.1), wheels=True)


def _surfboard(rng: np.random.Generator) -> tuple[Thing, ...]:
    return _board(rng, (rng.uniform(0.7, 1.1), 0.025, 0.25))


def _bicycle(rng: np.random.Generator) -> tuple[Thing, ...]:
    wheels = [_disc((0, -0.62, z), (0.33, 0.33), 0, 0.9) for z in (-0.4, 0.62)]
    joints = {
        "saddle": (0, -0.1, -0.05),
        "crank": (0, -0.6, 0.08),
        "head": (0, -0.05, 0.45),
    }
    back, front = (0, -0.62, -0.4), (0, -0.62, 0.62)
    ways = [("saddle", "crank"), ("crank", "head"), ("saddle", "head")]
    rods = [_rod(joints[a], joints[b], 0.017, 0.017) for a, b in ways]
    rods += [
        _rod(joints["head"], front, 0.015, 0.012),
        _rod(joints["crank"], back, 0.01, 0.01),
    ]
    rods += [_rod(joints["saddle"], back, 0.01, 0.01)]
    rods += [_rod((-0.25, 0.03, 0.45), (0.25, 0.03, 0.45), 0.013, 0.013)]
    rods += [_box((0, -0.07, -0.06), (0.06, 0.025, 0.13))]
    if rng.random() < 0.35:  # a motor bicycle
        wheels = [
            _disc((x, -0.6, z), (0.32, 0.32), 0, 0.5)
            for z in (-0.4, 0.7)
            for x in (-0.06, 0.06)
        ]
        rods += [
            _box((0, -0.35, 0.12), (0.13, 0.2, 0.3)),
            _box((0, -0.12, -0.2), (0.14, 0.06, 0.3)),
        ]
    return (_thing(rng, wheels + rods, ("pelvis", "pelvis")),)


def _chair(rng: np.random.Generator) -> Thing:
    """A chair, a stool or a bench under somebody who sits."""
    wide, seat, high = (
        rng.uniform(0.2, 0.6),
        -0.075 - rng.uniform(0, 0.03),
        rng.uniform(0.1, 0.6),
    )
    parts = [_box((0, seat - 0.02, 0.08), (wide, rng.uniform(0.015, 0.08), 0.24))]
    if rng.random() < 0.7:
        parts.append(_box((0, seat + high / 2, -0.17), (wide, high / 2, 0.02)))
    if rng.random() < 0.7:
        ends = [(x * wide * 0.95, z) for x in (1, -1) for z in (-0.13, 0.3)]
        parts += [_rod((x, seat, z), (x, -0.52, z), 0.017, 0.014) for x, z in ends]
    else:
        parts.append(_box((0, seat - 0.23, 0.08), (wide, 0.2, 0.22)))
    return _thing(rng, parts, ("pelvis", "pelvis"))


def _disc_in_hand(rng: np.random.Generator) -> tuple[Thing, ...]:
    disc = _thing(rng, [_disc(_by_hand(0.12, 0, 0.03), (0.13, 0.13), 1)], _HANDS)
    return (_mirror(disc, rng.choice(list("lr"))),)


def _play_ball(rng: np.random.Generator) -> tuple[Thing, ...]:
    """A ball at a foot or by a hand."""
    if rng.random() < 0.5:
        ball = _ball((0.11, -0.76, 0.3 + rng.uniform(0, 0.3)), 0.11)
        thing = _thing(rng, [ball], ("foot_l", "foot_l"))
    else:
        thing = _thing(
            rng, [_ball(_by_hand(0.1, -0.08, 0), rng.uniform(0.04, 0.13))], _HANDS
        )
    return (_mirror(thing, rng.choice(list("lr"))),)


_HANDS = ("hand_l", "hand_l")
_BY_STYLE = {
    "phone": lambda rng: (_hold(rng, 0),),
    "photo": _between,
    "screen": lambda rng: (_hold(rng, 0),) if rng.random() < 0.6 else _between(rng),
    "selfie": lambda rng: (_hold(rng, 0),),
    "laptop": lambda rng: (*_between(rng), _chair(rng)),
    "eat": lambda rng: (_hold(rng, rng.choice([0, 1])),),
    "drink": lambda rng: (_hold(rng, 1),),
    "umbrella": lambda rng: (_hold(rng, 4),),
    "bag": lambda rng: (_hold(rng, 2),),
    "box": _between,
    "tennis": _racket,
    "serve": _racket,
    "backhand": _racket,
    "bat": _bat,
    "swing bat": _bat,
    "golf": _bat,
    "pitch": _play_ball,
    "throw": _play_ball,
    "kick": _play_ball,
    "catch": _play_ball,
    "ready": _play_ball,
    "frisbee": _disc_in_hand,
    "ski": _skis,
    "ski poles": _skis,
    "snowboard": _snowboard,
    "skateboard": _skateboard,
    "surf": _surfboard,
    "surf low": _surfboard,
    "cycle": _bicycle,
    "motorbike": _bicycle,
}
