"""The body in words and index tables: 24 charts, 14 parts, 8 coarse parts, 17 keypoints.

Index 0 is background in every table over charts or parts, so that labels index
directly. Left and right are the subject's own. Numbering and the chart -> part map are
DensePose-COCO's (dp_I and dp_masks); keypoints are COCO's.
"""

import numpy as np

CHARTS = (
    "background",
    "torso back",
    "torso front",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg back",
    "left upper leg back",
    "right upper leg front",
    "left upper leg front",
    "right lower leg back",
    "left lower leg back",
    "right lower leg front",
    "left lower leg front",
    "left upper arm inner",
    "right upper arm inner",
    "left upper arm outer",
    "right upper arm outer",
    "left lower arm inner",
    "right lower arm inner",
    "left lower arm outer",
    "right lower arm outer",
    "head right",
    "head left",
)
PARTS = (
    "background",
    "torso",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg",
    "left upper leg",
    "right lower leg",
    "left lower leg",
    "left upper arm",
    "right upper arm",
    "left lower arm",
    "right lower arm",
    "head",
)
COARSE = (
    "background",
    "torso",
    "hands",
    "feet",
    "upper legs",
    "lower legs",
    "upper arms",
    "lower arms",
    "head",
)
KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
NUM_CHARTS = len(CHARTS)  # 25 with background
NUM_PARTS = len(PARTS)  # 15 with background
NUM_KEYPOINTS = len(KEYPOINTS)  # 17
UNKNOWN_PART = 255  # label of a pixel whose part nobody annotated

# fmt: off
SKELETON = ((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7),
            (6, 8), (7, 9), (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5),
            (4, 6), (5, 7))  # COCO's limbs, 1-based as in the json
PART_OF_CHART = np.array([0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9,
                          10, 11, 10, 11, 12, 13, 12, 13, 14, 14])
COARSE_OF_CHART = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5,
                            6, 6, 6, 6, 7, 7, 7, 7, 8, 8])
MIRRORED_CHART = np.array([0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13,
                           16, 15, 18, 17, 20, 19, 22, 21, 24, 23])
MIRRORED_PART = np.array([0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14])
MIRRORED_KEYPOINT = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
# fmt: on

# What a left-right mirror does to (U, V) of a chart: V turns over on the torso; U turns
# over on hands, feet and head; limbs keep both. The official meshes follow this to
# about .01 (their tables are read by data/transforms); ours follows it exactly.
TURNED_UV = np.stack(
    [
        np.isin(np.arange(NUM_CHARTS), (3, 4, 5, 6, 23, 24)),
        np.isin(np.arange(NUM_CHARTS), (1, 2)),
    ],
    axis=-1,
)  # [25, 2] whether the mirror turns U, V over


def mirror_uv(chart: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(U, V) of the mirrored body's point, by the rule above.

    chart: [n] in 0..24, before the mirror.   uv: [n, 2] in [0, 1].   Returns [n, 2].
    """
    return np.where(TURNED_UV[chart], 1 - uv, uv)


def mirror_parts(parts: np.ndarray) -> np.ndarray:
    """Part labels with left and right swapped; UNKNOWN_PART stays. Any shape, uint8."""
    table = np.full(256, UNKNOWN_PART, np.uint8)
    table[:NUM_PARTS] = MIRRORED_PART
    return table.take(parts)  # a third of the time that an index costs
