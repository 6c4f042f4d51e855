"""Unlit colours of skin, faces, hair and cloth, at canonical positions.

Frame: as in looks: metres in the T pose, X left, Y up, Z front. Colours in [0, 1].
"""

import functools

import numpy as np

from ktn_jax.body import find_keypoints, t_pose
from ktn_jax.data.looks import HAIR, MOUTH, SHOES, SKIN, TOP, Cloth, Look, cover
from ktn_jax.data.shells import HEAD_MIDDLE, ramp

_UPPER_ARMS, _LOWER_ARMS = 6, 7  # coarse parts
_CHEEK = np.array([0.045, 0.69, 0.125])
_PATCH_METRES = 0.9  # how much of a body a photograph spans


def paint(
    look: Look, position: np.ndarray, *, coarse: np.ndarray, worn: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Unlit colours [k, 3] and what covers each point [k].

    position: [k, 3]; coarse: [k].   worn: [k] where it is known, -1 where it is not.
    """
    position = position.astype(np.float32)
    covers = cover(look, position, coarse=coarse)
    if worn is not None:
        covers = np.where(worn >= 0, worn, covers)
    color = np.empty_like(position)
    for kind in np.unique(covers):
        mine = np.flatnonzero(covers == kind)
        at = position[mine]
        if kind == SKIN:
            color[mine] = _paint_skin(look, at)
        elif look.cloth[kind].pattern == "strands":
            color[mine] = _paint_hair(look.cloth[kind], at)
        else:
            arm = np.isin(coarse[mine], (_UPPER_ARMS, _LOWER_ARMS))
            color[mine] = _paint_cloth(look, kind, at, arm=arm)
    if look.glasses:
        _paint_glasses(look, position, color)
    return color, covers


@functools.cache
def _eyes() -> np.ndarray:
    """Canonical places of the left and the right eye. [2, 3]."""
    return find_keypoints(t_pose().vertices)[1:3].astype(np.float32)


def _paint_skin(look: Look, position: np.ndarray) -> np.ndarray:
    """Skin, uneven, with a face. position: [k, 3]. Returns [k, 3]."""
    color = np.tile(look.skin.astype(np.float32), (len(position), 1))
    if look.mottle.wave.any():
        uneven = look.mottle(position)[:, None]
        color *= 1 + 0.035 * uneven * np.array([0.7, 1, 1.15], np.float32)
        ends = ramp(np.abs(position[:, 0]), 0.62, 0.75) + ramp(position[:, 1], -0.72, -0.8)
        color *= 1 - 0.12 * ends[:, None] * np.array([0, 1, 1], np.float32)  # redder
    face = np.flatnonzero((position[:, 1] > 0.6) & (position[:, 2] > 0.08))
    if len(face):
        color[face] = _paint_face(look, position[face], color[face])
    return color


def _paint_face(look: Look, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Lips, brows, eyes, blush and stubble over skin. at, color: [k, 3]."""
    x, y = np.abs(at[:, 0]), at[:, 1]
    hair = look.cloth[HAIR].color
    mirrored = np.column_stack([x, y, at[:, 2]])

    def lay(share: np.ndarray, tone: np.ndarray) -> None:
        color[:] += share[:, None].astype(np.float32) * (tone - color).astype(np.float32)

    blush = np.exp(-((np.linalg.norm(mirrored - _CHEEK, axis=1) / 0.022) ** 2))
    lay(0.35 * blush, look.skin * (1, 0.78, 0.75))
    socket = np.exp(-((np.linalg.norm((at - _eyes()[0])[:, 1:2], axis=1) / 0.016) ** 2))
    lay(0.3 * socket * (x < 0.05) * (x > 0.012), 0.6 * look.skin)
    nostril = np.exp(-(((y - 0.686) / 0.004) ** 2 + ((x - 0.008) / 0.006) ** 2))
    lay(0.6 * nostril, 0.35 * look.skin)
    if 0 < look.beard < 1:
        jaw = (y < 0.672) & (np.linalg.norm(at - MOUTH, axis=1) > 0.02)
        lip = (y > 0.668) & (y < 0.682) & (x < 0.025)
        lay(0.6 * look.beard * (jaw | lip), 0.5 * hair + 0.2 * look.skin)
    lips = np.linalg.norm((at - MOUTH) * (0.8, 1.8, 1), axis=1)
    lay(ramp(lips, 0.02, 0.015), look.skin * (0.85, 0.52, 0.53))
    lay(ramp(np.abs(y - MOUTH[1]), 0.0025, 0.001) * (x < 0.02), 0.3 * look.skin)
    if look.smile:
        wide, curve = 0.012 + 0.014 * look.smile, 9 * x**2
        teeth = ramp(np.abs(y - MOUTH[1] - curve), 0.006 * look.smile, 0.003 * look.smile)
        lay(teeth * ramp(x, wide, 0.8 * wide), np.full(3, 0.85))
    away = np.column_stack([x, y]) - _eyes()[0, :2]
    white = np.linalg.norm(away * (1, 1.9), axis=1)
    lay(ramp(white, 0.016, 0.0125), 0.3 * look.skin)  # lashes
    lay(ramp(white, 0.013, 0.0115), 0.55 + 0.25 * look.skin)
    lay(ramp(np.linalg.norm(away, axis=1), 0.0075, 0.0055), np.array([0.14, 0.1, 0.08]))
    brow = np.linalg.norm((away - (0.002, 0.02)) * (0.6, 2.8), axis=1)
    lay(0.85 * ramp(brow, 0.015, 0.009), 0.6 * hair + 0.15 * look.skin)
    return color


def _paint_glasses(look: Look, position: np.ndarray, color: np.ndarray) -> None:
    """Frames and lenses before the eyes, in place."""
    face = np.flatnonzero(
        (position[:, 1] > 0.69) & (position[:, 1] < 0.77) & (position[:, 2] > 0.02)
    )
    at = position[face]
    x = np.abs(at[:, 0])
    away = np.linalg.norm(
        (np.column_stack([x, at[:, 1]]) - _eyes()[0, :2] + (0, 0.003)) * (0.8, 1.1), axis=1
    )
    front = at[:, 2] > 0.1
    lens = front & (away < 0.022)
    bar = (np.abs(at[:, 1] - 0.738) < 0.004) & (x < 0.09)
    rim = (front & (np.abs(away - 0.022) < 0.004)) | (bar & ~front) | (bar & (x < 0.012))
    color[face[lens]] += look.glasses * (0.07 - color[face[lens]])
    color[face[rim & (at[:, 1] > 0.7)]] = 0.08


def _paint_hair(cloth: Cloth, position: np.ndarray) -> np.ndarray:
    """Strands that fall from the crown. position: [k, 3]. Returns [k, 3]."""
    x, y, z = (position - HEAD_MIDDLE.astype(np.float32)).T
    angle = np.arctan2(x, 0.02 - z)
    wander = cloth.waves(position)
    strand = np.sin(angle * (0.09 / cloth.period) * 6 + 2 * wander)
    strand = 0.6 * strand + 0.4 * np.sin(angle * (0.09 / cloth.period) * 13 + 5 * y * 20)
    share = np.clip(0.5 + 0.35 * strand + 0.25 * wander, 0, 1)[:, None]
    tone = cloth.other + share * (cloth.color - cloth.other)
    shine = np.exp(-(((y - 0.06 - 0.01 * wander) / 0.02) ** 2))  # a band below the crown
    return (tone + 0.12 * shine[:, None] * (0.3 + cloth.color)).astype(np.float32)


def _paint_cloth(
    look: Look, kind: int, position: np.ndarray, *, arm: np.ndarray
) -> np.ndarray:
    """A garment. position: [k, 3]. arm: [k] bool. Returns [k, 3]."""
    cloth = look.cloth[kind]
    x, y, z = position.T
    # bands run around trunk and legs, and around the arm, which lies along x
    along = np.where(arm, np.abs(x), y)
    across = np.where(arm, y - z, x + np.sign(x) * z * (np.abs(x) > 0.1))
    if cloth.pattern == "patch" and cloth.patch is not None:
        color = _sample_patch(cloth, along, across)
    else:
        share = PATTERNS[cloth.pattern](cloth, along / cloth.period, across / cloth.period)
        if cloth.pattern == "blotches":
            share = (cloth.waves(position) > 0.3).astype(np.float32)
            if cloth.weave > 0.06:  # a third colour, as camouflage has
                share += 0.5 * (cloth.waves(position[:, [1, 2, 0]]) > 0.5)
        color = cloth.color + share[:, None] * (cloth.other - cloth.color)
    for name in cloth.details:
        color = DETAILS[name](look, kind, position, color)
    if cloth.weave:
        fine = np.sin(along * 900) * np.sin(across * 900)
        cloud = cloth.waves(position * 2.7) * 0.6
        color = color * (1 + cloth.weave * (0.5 * fine + cloud))[:, None]
    return np.clip(color, 0, 1)


def _sample_patch(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Colours of a photograph laid over the body, mirrored where it ends. [k, 3]."""
    height, width = cloth.patch.shape[:2]
    scale = max(height, width) / _PATCH_METRES

    def fold(value: np.ndarray, size: int) -> np.ndarray:
        value = np.abs((value + size) % (2 * size) - size)
        return np.minimum(value.astype(int), size - 1)

    return cloth.patch[fold(-along * scale, height), fold(across * scale, width)]


def _plaid(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    lines = [
        0.5 * (v % 1 < 0.4) + 0.3 * (np.abs(v % 1 - 0.7) < 0.06) for v in (along, across)
    ]
    return np.clip(lines[0] + lines[1], 0, 1)


PATTERNS = {  # share of the second colour; along and across in periods
    "plain": lambda cloth, along, across: np.zeros_like(along),
    "stripes": lambda cloth, along, across: (across % 1 < 0.35).astype(along.dtype),
    "bands": lambda cloth, along, across: (along % 1 < 0.5).astype(along.dtype),
    "checks": lambda cloth, along, across: ((along % 1 < 0.5) ^ (across % 1 < 0.5)) * 1.0,
    "dots": lambda cloth, along, across: (
        ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.06) * 1.0
    ),
    "blotches": lambda cloth, along, across: np.zeros_like(along),
    "plaid": _plaid,
    "patch": lambda cloth, along, across: np.zeros_like(along),
}


def _mix(color: np.ndarray, share: np.ndarray, tone: np.ndarray) -> np.ndarray:
    return color + share[:, None] * (tone - color)


def _print(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Letters, a number or a picture on the chest."""
    cloth = look.cloth[kind]
    x, y, z = at.T
    phase = cloth.waves.phase
    half = 0.04 + 0.07 * (phase[0] % 1), 0.02 + 0.1 * (phase[1] % 1)
    side = (z > 0.03) | ((z < -0.01) & (phase[1] % 0.1 < 0.05))  # some on the back too
    inside = side & (np.abs(x) < half[0]) & (np.abs(y - 0.36) < half[1])
    fine = cloth._replace(period=1.0).waves(at * (5 + 4 * (phase[2] % 1)))
    full = phase[3] % 1 < 0.4
    return _mix(color, inside * (1.0 if full else (fine > -0.2)), cloth.other)


def _buttons(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    x, y, z = at.T
    front = (z > 0.02) & (y < 0.55)
    placket = front & (np.abs(np.abs(x) - 0.016) < 0.002)
    button = front & (x**2 + ((y % 0.09) - 0.045) ** 2 < 0.006**2)
    color = _mix(color, 0.3 * placket, np.zeros(3))
    return _mix(color, 0.8 * button, 1 - look.cloth[kind].color)


def _tie(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    tie = (z > 0.02) & (y < 0.565) & (x < 0.012 + 0.03 * (0.56 - y))
    stripe = (at[:, 0] + y) % 0.03 < 0.01
    tone = look.cloth[kind].other
    return _mix(_mix(color, 1.0 * tie, 0.7 * tone), 1.0 * (tie & stripe), tone)


def _zip(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    middle = (at[:, 2] > 0.0) & (np.abs(at[:, 0]) < 0.006) & (at[:, 1] < 0.6)
    return _mix(color, 0.7 * middle, 0.5 * look.cloth[kind].other)


def _cuffs(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    end = min(look.sleeve, 0.61) if kind == TOP else 0.61
    cuff = ((np.abs(at[:, 0]) > end - 0.03) & (at[:, 1] > 0.35)) | (
        (at[:, 1] > 0.555) & (np.abs(at[:, 0]) < 0.1)
    )
    return _mix(color, 1.0 * cuff, look.cloth[kind].other)


def _side(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """A stripe down the outer side of sleeves and legs."""
    x, y, z = at.T
    on_arm = (np.abs(x) > 0.2) & (np.abs(z - 0.015) < 0.014) & (y > 0.525)
    on_leg = (y < 0.1) & (np.abs(z - 0.012) < 0.014) & (np.abs(x) > 0.11)
    return _mix(color, 1.0 * (on_arm | on_leg), look.cloth[kind].other)


def _yoke(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Another colour above the chest."""
    return _mix(color, 1.0 * (at[:, 1] > 0.43), look.cloth[kind].other)


def _belt(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    x, y, z = at.T
    belt = (y > 0.09) & (y < 0.125)
    color = _mix(color, 1.0 * belt, np.array([0.12, 0.08, 0.06]))
    return _mix(color, 1.0 * (belt & (np.abs(x) < 0.02) & (z > 0.05)), np.full(3, 0.7))


def _seams(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    outer = (np.abs(z - 0.012) < 0.003) & (x > 0.11)
    fly = (x < 0.004) & (y > -0.02)
    return _mix(color, 0.35 * (outer | fly), np.zeros(3))


def _pockets(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Slanted in front, square behind."""
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    slant = (
        (z > 0) & (np.abs(y - 0.03 - 0.8 * (0.13 - x)) < 0.004) & (x > 0.09) & (x < 0.165)
    )
    box = np.maximum(np.abs(x - 0.085), np.abs(y - 0.01))
    return _mix(
        color, 0.4 * (slant | ((z < 0) & (np.abs(box - 0.055) < 0.003))), np.zeros(3)
    )


def _faded(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Washed out on thighs and seat, as jeans are."""
    x, y = np.abs(at[:, 0]), at[:, 1]
    spot = np.exp(-(((y + 0.2) / 0.2) ** 2) - ((x - 0.1) / 0.05) ** 2)
    return _mix(color, 0.4 * spot, np.clip(1.5 * look.cloth[kind].color + 0.15, 0, 1))


def _laces(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    top = (y > -0.785) & (z > 0.05) & (np.abs(x - 0.11) < 0.025) & ((z * 90) % 1 < 0.4)
    return _mix(color, 0.9 * top, look.cloth[kind].other)


def _paint_sole(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    tone = np.full(3, 0.9 if look.cloth[SHOES].waves.phase[0] % 1 < 0.5 else 0.1)
    return _mix(color, 1.0 * (at[:, 1] < -0.808), tone)


def _band(look: Look, kind: int, at: np.ndarray, color: np.ndarray) -> np.ndarray:
    return _mix(color, 1.0 * (np.abs(at[:, 1] - 0.805) < 0.012), look.cloth[kind].other)


DETAILS = {
    "print": _print,
    "buttons": _buttons,
    "tie": _tie,
    "zip": _zip,
    "cuffs": _cuffs,
    "side": _side,
    "yoke": _yoke,
    "belt": _belt,
    "seams": _seams,
    "pockets": _pockets,
    "faded": _faded,
    "laces": _laces,
    "sole": _paint_sole,
    "band": _band,
}
