"""Names and order of keypoints and bones.

`OPENPOSE_137` is the order of every keypoint artifact: BODY_25, then face 70, left hand 21, right hand 21.
`HUMANOID` is the order of bones in every body motion; a parent always precedes its children.
"""

from __future__ import annotations

from dataclasses import dataclass

BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip",
    "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
    "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel",
)  # fmt: skip
FACE_70 = tuple(f"Face{i}" for i in range(70))  # 0-67 iBUG, 68 right pupil, 69 left pupil
_FINGER_POINTS = ("Wrist", *(f"{f}{i}" for f in ("Thumb", "Index", "Middle", "Ring", "Little") for i in range(1, 5)))
LEFT_HAND_21 = tuple(f"LHand{name}" for name in _FINGER_POINTS)
RIGHT_HAND_21 = tuple(f"RHand{name}" for name in _FINGER_POINTS)
OPENPOSE_137 = BODY_25 + FACE_70 + LEFT_HAND_21 + RIGHT_HAND_21

BODY = slice(0, 25)
FACE = slice(25, 95)
LEFT_HAND = slice(95, 116)
RIGHT_HAND = slice(116, 137)

# iBUG 68 from FaceMesh's 468, then the right and left pupil from its iris points. Jaw, nose and mouth were chosen where
# FaceMesh puts them nearest to a head model's own 68 points (24 random heads: 3.6 % of the eye distance on average).
FACE_70_IN_FACEMESH = (
    127, 234, 93, 132, 172, 150, 149, 148, 152, 377, 378, 379, 397, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 6, 195, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178, 468, 473,
)  # fmt: skip

# What shows a person, whoever detected it: so many joints of the body in a frame, and so many such frames.
MIN_JOINTS, MIN_FRAMES = 6, 10

# The 17 joints of published comparisons that BODY_25 contains (COCO order).
COCO_17_IN_BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)

BODY_25_PARENTS = (
    1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11,
)  # fmt: skip
HAND_21_PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)

# Limbs whose length must not change over time: (name, BODY_25 index, BODY_25 index).
LIMBS = (
    ("upper arm L", 5, 6), ("upper arm R", 2, 3), ("forearm L", 6, 7), ("forearm R", 3, 4),
    ("thigh L", 12, 13), ("thigh R", 9, 10), ("shank L", 13, 14), ("shank R", 10, 11),
)  # fmt: skip


def _mirror(names: tuple[str, ...]) -> tuple[int, ...]:
    def other(name: str) -> str:
        if name.startswith("Face"):
            return f"Face{_FACE_MIRROR[int(name[4:])]}"
        swapped = {"L": "R", "R": "L"}.get(name[0], name[0]) + name[1:]
        return swapped if swapped in names else name

    return tuple(names.index(other(name)) for name in names)


def _face_mirror() -> tuple[int, ...]:
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)]
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65), (68, 69)]
    mirror = list(range(70))
    for a, b in pairs:
        mirror[a], mirror[b] = b, a
    return tuple(mirror)


_FACE_MIRROR = _face_mirror()
MIRROR_137 = _mirror(OPENPOSE_137)  # index of the same point on the other side


@dataclass(frozen=True)
class Bone:
    """One bone of the humanoid armature; `tail` is the point it aims at in the rest pose."""

    name: str
    parent: str | None
    head_m: tuple[float, float, float]
    tail_m: tuple[float, float, float]


def _finger(side: str, finger: str, knuckle: tuple[float, float, float], lengths: tuple[float, ...]) -> list[Bone]:
    sign, (x, y, z) = (1.0 if side == "L" else -1.0), knuckle
    bones, parent, start = [], f"hand.{side}", x
    for i, length in enumerate(lengths, 1):
        name = f"{finger}.{i:02d}.{side}"
        bones.append(Bone(name, parent, (sign * start, y, z), (sign * (start + length), y, z)))
        parent, start = name, start + length
    return bones


def _side(side: str) -> list[Bone]:
    sign = 1.0 if side == "L" else -1.0

    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return (sign * x, y, z)

    bones = [
        Bone(f"shoulder.{side}", "chest", at(0.02, 0.0, 1.43), at(0.17, 0.0, 1.43)),
        Bone(f"upper_arm.{side}", f"shoulder.{side}", at(0.17, 0.0, 1.43), at(0.45, 0.0, 1.43)),
        Bone(f"forearm.{side}", f"upper_arm.{side}", at(0.45, 0.0, 1.43), at(0.70, 0.0, 1.43)),
        Bone(f"hand.{side}", f"forearm.{side}", at(0.70, 0.0, 1.43), at(0.78, 0.0, 1.43)),
    ]
    bones += _finger(side, "thumb", (0.73, -0.03, 1.42), (0.04, 0.03, 0.025))
    bones += _finger(side, "index", (0.79, -0.025, 1.43), (0.04, 0.025, 0.02))
    bones += _finger(side, "middle", (0.795, 0.0, 1.43), (0.045, 0.028, 0.022))
    bones += _finger(side, "ring", (0.79, 0.02, 1.43), (0.04, 0.026, 0.022))
    bones += _finger(side, "little", (0.78, 0.04, 1.43), (0.032, 0.02, 0.018))
    bones += [
        Bone(f"thigh.{side}", "hips", at(0.09, 0.0, 0.93), at(0.09, 0.0, 0.50)),
        Bone(f"shin.{side}", f"thigh.{side}", at(0.09, 0.0, 0.50), at(0.09, 0.0, 0.08)),
        Bone(f"foot.{side}", f"shin.{side}", at(0.09, 0.0, 0.08), at(0.09, -0.14, 0.02)),
        Bone(f"toe.{side}", f"foot.{side}", at(0.09, -0.14, 0.02), at(0.09, -0.21, 0.02)),
    ]
    return bones


# T-pose, metres, Z up, facing -Y, the character's left on +X (Blender's convention).
HUMANOID: tuple[Bone, ...] = (
    Bone("hips", None, (0.0, 0.0, 0.93), (0.0, 0.0, 1.05)),
    Bone("spine", "hips", (0.0, 0.0, 1.05), (0.0, 0.0, 1.22)),
    Bone("chest", "spine", (0.0, 0.0, 1.22), (0.0, 0.0, 1.45)),
    Bone("neck", "chest", (0.0, 0.0, 1.45), (0.0, 0.0, 1.55)),
    Bone("head", "neck", (0.0, 0.0, 1.55), (0.0, 0.0, 1.75)),
    *_side("L"),
    *_side("R"),
)
HUMANOID_NAMES = tuple(bone.name for bone in HUMANOID)
HUMANOID_PARENTS = tuple(-1 if bone.parent is None else HUMANOID_NAMES.index(bone.parent) for bone in HUMANOID)
