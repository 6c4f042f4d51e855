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


def skin_rounded(
    weights: sparse.csr_matrix, ways: np.ndarray, points: np.ndarray, parents: np.ndarray
) -> np.ndarray:
    """Points moved by dual quaternion skinning (Kavan et al. 2008). As of skin_points.

    What lies between bones turns about their joint by a share of the bend, where a linear
    blend cuts the corner: bent knees keep their volume, twisted arms do not get thin.
    ways: [b, 3, 4] rotations times a size, and shifts.   parents: [b] -1 at the root; a
    bone bends by less than half a turn against its parent.
    """
    size = np.cbrt(np.linalg.det(ways[:, :, :3]))
    turn = Rotation.from_matrix(ways[:, :, :3] / size[:, None, None]).as_quat()
    for bone, parent in enumerate(parents):
        if parent >= 0 and turn[bone] @ turn[parent] < 0:  # the same turn, the long way
            turn[bone] *= -1
    axis, cosine, shift = turn[:, :3], turn[:, 3:], ways[:, :, 3]
    dual = np.column_stack([cosine * shift + np.cross(shift, axis), -(axis * shift).sum(1)])
    blend = weights @ np.column_stack([turn, dual / 2, size]).astype(points.dtype)
    blend[:, :8] /= np.linalg.norm(blend[:, :4], axis=1, keepdims=True)
    axis, cosine, moved, rest, size = np.split(blend, (3, 4, 7, 8), axis=1)
    points = size * points
    points = points + 2 * np.cross(axis, np.cross(axis, points) + cosine * points)
    return points + 2 * (cosine * moved - rest * axis + np.cross(axis, moved))


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
