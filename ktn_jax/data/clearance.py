"""Whether a pose's limbs keep out of the body and of each other, told from joints alone.

One idea: trunk and limbs are ovals and capsules as wide as on most bodies, so a pose can
be refused before a vertex has moved. Frame: as in body, in any turn of it.
"""

import functools
from collections.abc import Callable

import numpy as np

from ktn_jax.body import load_body


def is_clear(joints: np.ndarray) -> bool:
    """Whether arms keep out of trunk and head, and legs of each other. joints: [b, 3]."""
    bones = _bone_index()

    def at(bone: str) -> np.ndarray:
        return joints[bones[bone]]

    spine = at("neck_01") - at("pelvis")
    size = np.linalg.norm(spine)  # about half a metre
    up = spine / size
    left = at("thigh_l") - at("thigh_r") + at("upperarm_l") - at("upperarm_r")
    left = left - (left @ up) * up
    left /= np.linalg.norm(left)
    axes = np.stack([left, np.cross(left, up)])
    skull = at("head") + 0.9 * (at("head") - at("neck_01"))
    for side in "lr":
        wrist, elbow, knuckle = (
            at(f"{b}_{side}") for b in ("hand", "lowerarm", "middle_01")
        )
        points = np.stack([wrist, knuckle, (wrist + elbow) / 2, 0.2 * wrist + 0.8 * elbow])
        away = points - at("pelvis") - 0.04 * size * axes[1]
        height = away @ up / size
        oval = (away @ axes.T) / (0.27 * size, 0.21 * size)
        if ((oval**2).sum(1) < 1)[(height > -0.15) & (height < 0.95)].any():
            return False
        if np.linalg.norm(points - skull, axis=1).min() < 0.22 * size:
            return False
        for thigh in "lr":
            places = np.linspace(at(f"thigh_{thigh}"), at(f"calf_{thigh}"), 8)
            if np.linalg.norm(points[:3, None] - places, axis=-1).min() < 0.13 * size:
                return False
    return _legs_clear(at, size)


def _legs_clear(at: Callable[[str], np.ndarray], size: float) -> bool:
    """Whether knees and shins keep apart, and feet do not stand in the other shin."""
    shins = {s: np.linspace(at(f"calf_{s}"), at(f"foot_{s}"), 5) for s in "lr"}
    thighs = {s: np.linspace(at(f"thigh_{s}"), at(f"calf_{s}"), 5)[2:] for s in "lr"}
    left, right = (
        np.concatenate([thighs[s], shins[s], at(f"ball_{s}")[None]]) for s in "lr"
    )
    return np.linalg.norm(left[:, None] - right, axis=-1).min() > 0.15 * size


@functools.cache
def _bone_index() -> dict[str, int]:
    return {bone: index for index, bone in enumerate(load_body().bones)}
