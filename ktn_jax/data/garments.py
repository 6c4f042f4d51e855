"""How far clothes and hair stand off the body, and which shells hang from it.

One idea: a garment is a field of shifts in the rest pose, so it is posed with the body:
outward by cloth and air, onto the smoothed body where cloth spans hollows and toes.
"""

import numpy as np

from ktn_jax.data.looks import (
    BOTTOM,
    COAT,
    HAIR,
    HAT,
    SHOES,
    SKIN,
    TOP,
    Look,
    cover,
)
from ktn_jax.data.looks import PACK as PACK_CLOTH
from ktn_jax.data.shells import BALL, BRIM, CONE, CURTAIN, HEAD_MIDDLE, PACK, ramp
from ktn_jax.data.template import Template

_SPAN = 0.012  # metres off from which cloth follows the smoothed body
_MIDLINE = 0.004  # metres: cloth of one leg ends before the other leg's side
_BY_COVER = -1  # worn of a face that says nothing: look at each point


def dress(look: Look, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """Shifts of all vertices in the rest pose, [n, 3] f32 metres, and their covers [n]."""
    body = template.shell == 0
    covers = cover(look, template.position, coarse=template.coarse)
    worn = np.where(body, covers, SKIN)
    off = np.zeros(len(worn), np.float32)
    for kind, cloth in look.cloth.items():
        mine = np.flatnonzero(worn == kind)
        at = template.position[mine]
        off[mine] = cloth.thickness
        if cloth.loose or cloth.ribs:
            hang = _hang(kind, at) * (1 + 0.3 * cloth.waves(at))
            along = np.where(np.abs(at[:, 0]) > 0.22, np.abs(at[:, 0]), at[:, 1])
            off[mine] += cloth.loose * np.clip(hang, 0, 2)
            off[mine] += cloth.ribs * np.abs(np.sin(along * 35))
        if kind == HAIR:
            off[mine] += _stand(look, at)
    for_cloth = np.where(
        (worn == HAIR) & (look.volume < 0.01), 0, np.clip(off / _SPAN, 0, 1)
    )
    shift = off[:, None] * template.outward + for_cloth[:, None] * template.smooth
    _sole(look, template, worn, shift)
    _keep_apart(template, shift)
    _shift_shells(look, template, shift)
    table = np.maximum(_shell_covers(look), SKIN)
    return shift, np.where(body, covers, table[template.shell])


def worn_faces(look: Look, template: Template) -> np.ndarray:
    """What each face shows: a cover, -1 to look at each point, -2 if unused. [f]."""
    body = int((template.face_shell == 0).sum())  # the body's faces come first
    shell, corners = template.face_shell[body:], template.faces[body:]
    worn = _shell_covers(look)[shell]
    y, around = template.position[corners, 1], template.around[corners]
    for hem in look.hems:
        out = (y.max(1) > hem.top) | (y.min(1) < hem.bottom)
        out |= _away(around, 0).max(1) <= hem.gap + 1e-3
        worn[(shell == CONE) & out] = -2
    worn[(y.min(1) < look.hair_length) & (shell == CURTAIN)] = -2
    side, _, middle = look.brim
    worn[(shell == BRIM) & (_away(around, middle).max(1) > side)] = -2
    return np.concatenate([np.full(body, _BY_COVER, np.int8), worn])


def _shell_covers(look: Look) -> np.ndarray:
    """What each shell is made of, by kind; -1 for the body, -2 if unused. [6]."""
    table = {
        0: _BY_COVER,
        CURTAIN: HAIR if look.curtain else -2,
        BALL: HAIR if look.knot else -2,
        BRIM: HAT if look.brim[1] else -2,
        PACK: PACK_CLOTH if look.pack else -2,
        CONE: look.hems[0].kind if look.hems else -2,
    }
    return np.array([table[shell] for shell in range(len(table))], np.int8)


def _away(around: np.ndarray, middle: float) -> np.ndarray:
    """Angles between directions, without sign. Any shape."""
    return np.abs((around - middle + np.pi) % (2 * np.pi) - np.pi)


def _hang(kind: int, position: np.ndarray) -> np.ndarray:
    """The share of a garment's looseness at each point. [k]."""
    x, y = np.abs(position[:, 0]), position[:, 1]
    if kind in (TOP, COAT):
        trunk = 0.35 + 0.65 * ramp(y, 0.48, 0.15)
        arm = 0.3 + 0.6 * ramp(x, 0.2, 0.42)
        collar = 1 - 0.8 * ramp(y, 0.5, 0.57) * ramp(x, 0.15, 0.08)  # close at the neck
        return np.where(x > 0.2, arm, trunk) * collar
    if kind == BOTTOM:
        # straight legs: further off where calves grow thin
        return 0.15 + 0.55 * ramp(y, 0.1, -0.4) + 0.6 * ramp(y, -0.45, -0.7)
    return np.ones(len(position))


def _stand(look: Look, position: np.ndarray) -> np.ndarray:
    """How far hair stands off the skull beyond its thickness. [k] metres."""
    _, y, z = (position - HEAD_MIDDLE).T
    crown = ramp(y, -0.06, 0.05) * ramp(z, 0.1, 0.04)  # less at the nape and the forehead
    uneven = 1 + 0.2 * look.cloth[HAIR].waves(position)
    return look.volume * (0.25 + 0.75 * crown) * uneven


def _sole(look: Look, template: Template, worn: np.ndarray, shift: np.ndarray) -> None:
    """Presses what is under a shoe down to a flat sole, in place."""
    under = (worn == SHOES) & (template.position[:, 1] < -0.795)
    shift[under, 1] = np.minimum(shift[under, 1], 0) - look.sole


def _keep_apart(template: Template, shift: np.ndarray) -> None:
    """Stops the cloth of a leg at the body's middle plane, in place."""
    leg = np.isin(template.coarse, (3, 4, 5)) & (template.shell == 0)
    side = np.sign(template.position[:, 0])
    inward = _MIDLINE - side * template.rest[:, 0]
    pushed = np.maximum(side * shift[:, 0], np.minimum(inward, 0))
    shift[leg, 0] = (side * pushed)[leg]


def _shift_shells(look: Look, template: Template, shift: np.ndarray) -> None:
    """Shapes the shells that are worn, in place."""
    shell, out, at = template.shell, template.outward, template.position
    for hem in look.hems:
        mine = shell == CONE
        cloth = look.cloth[hem.kind]
        fall = np.clip(hem.top - at[mine, 1], 0, None)
        number = 4 + int(6 * (cloth.waves.phase[0] % 1))
        turn = number * template.around[mine] + 0.5 * cloth.waves(at[mine] / 3)
        deep = (0.02 + 0.3 * min(hem.flare, 0.25)) * fall * np.sin(turn)
        off = cloth.thickness + 0.5 * cloth.loose + hem.flare * fall + deep
        shift[mine] = (off + 0.004)[:, None] * out[mine]
    if look.curtain:
        mine = shell == CURTAIN
        wavy = 1 + 0.4 * look.cloth[HAIR].waves(at[mine])
        shift[mine] = ((0.004 + look.volume) * wavy)[:, None] * out[mine]
    if look.knot:
        mine = shell == BALL
        y, z, wide, tall = look.knot
        middle = np.array([0, 0.79, -0.055])
        grown = (at[mine] - middle) * (np.array([wide, tall, wide]) / 0.045)
        shift[mine] = grown + np.array([0, y, z]) - at[mine]
    if look.brim[1]:
        mine = np.flatnonzero(shell == BRIM)
        share = np.repeat((0, 0.5, 1), len(mine) // 3)
        wide = look.cloth[HAT].thickness + share * (look.brim[1] - 0.08)
        shift[mine] = wide[:, None] * out[mine]
    if look.pack:
        mine = shell == PACK
        coat = look.cloth[COAT if look.coat < 1 else TOP]
        shift[mine, 2] -= coat.thickness + 0.5 * coat.loose
