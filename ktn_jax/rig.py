"""Bones: how they straighten into the T pose, and how they carry the skin.

Frame: as in body: metres, X the subject's left, Y up, Z front.
"""

import itertools

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

_X, _Y, _ = np.eye(3)


def skin_points(
    weights: sparse.csr_matrix, ways: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Points moved by linear blend skinning. [n, 3], of the points' float type.

    weights: [n, b] rows sum to 1.   ways: [b, 3, 4] of pose_bones.   points: [n, 3].
    """
    columns = ways.transpose(0, 2, 1).reshape(len(ways), 12).astype(points.dtype)
    x, y, z, shift = np.split(weights @ columns, 4, axis=1)
    return x * points[:, :1] + y * points[:, 1:2] + z * points[:, 2:] + shift


def straighten(joints: np.ndarray, bones: tuple[str, ...]) -> np.ndarray:
    """Rotation of each bone from the rest pose to the T pose. [b, 3, 3]."""
    at = dict(zip(bones, joints, strict=True))
    turn = {bone: np.eye(3) for bone in bones}
    for side, out in (("_l", _X), ("_r", -_X)):
        arm = np.eye(3)
        chain = ("upperarm", "lowerarm", "hand", "middle_01")
        for bone, end in itertools.pairwise(chain):
            arm = _shortest(arm @ (at[end + side] - at[bone + side]), out) @ arm
            turn[bone + side] = arm
        for bone in bones:
            if bone.endswith(side) and "_0" in bone:  # fingers follow the hand
                turn[bone] = arm
        leg = np.eye(3)
        for bone, end in (("thigh", "calf"), ("calf", "foot")):  # feet stay flat
            leg = _shortest(leg @ (at[end + side] - at[bone + side]), -_Y) @ leg
            turn[bone + side] = leg
    return np.stack([turn[bone] for bone in bones])


def _shortest(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] that takes one direction to another the shortest way."""
    axis = np.cross(start, end)
    angle = np.arctan2(np.linalg.norm(axis), start @ end)
    length = max(np.linalg.norm(axis), 1e-12)
    return Rotation.from_rotvec(axis / length * angle).as_matrix()
