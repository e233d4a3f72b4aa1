"""The humanoid skeleton in numbers: rest matrices, proportions of a person, and the keypoints that bones carry.

Rest frames: y along the bone, +x the axis of flexion (spine forward; elbow, knee, wrist and fingers close), z = x x y.
Left and right are mirror images, so that Blender's mirroring works and flexion has the same sign on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from .artifacts import BodyMotion
from .kinematics import forward, local_rest
from .rotations import frame_from_axes
from .skeletons import HUMANOID, HUMANOID_NAMES, HUMANOID_PARENTS, OPENPOSE_137

Array = np.ndarray
FINGERS = ("thumb", "index", "middle", "ring", "little")
HAND_POINTS = ("Wrist", "Thumb1", "Index1", "Middle1", "Ring1", "Little1")
FOOT_POINTS = ("Heel", "BigToe", "SmallToe")
# Points that do not move within the head, relative to its joint at the base of the skull (average adult, metres).
HEAD_POINTS: dict[str, tuple[float, float, float]] = {
    "Nose": (0.0, -0.120, 0.070), "REye": (-0.032, -0.090, 0.105), "LEye": (0.032, -0.090, 0.105),
    "REar": (-0.075, 0.0, 0.080), "LEar": (0.075, 0.0, 0.080),
    "Face0": (-0.070, -0.020, 0.085), "Face16": (0.070, -0.020, 0.085), "Face27": (0.0, -0.100, 0.107),
    "Face30": (0.0, -0.122, 0.070), "Face33": (0.0, -0.106, 0.053), "Face36": (-0.045, -0.078, 0.105),
    "Face39": (-0.017, -0.086, 0.105), "Face42": (0.017, -0.086, 0.105), "Face45": (0.045, -0.078, 0.105),
}  # fmt: skip
# Left foot, relative to the ankle; left palm, relative to the wrist: its metacarpal joints in T-pose, palm down.
_FOOT = ((0.0, 0.060, -0.060), (-0.025, -0.210, -0.060), (0.025, -0.180, -0.060))
_PALM = ((0.030, -0.030, -0.010), (0.090, -0.025, 0.0), (0.095, 0.0, 0.0), (0.090, 0.020, 0.0), (0.080, 0.040, 0.0))
_FINGER_LENGTHS = (
    (0.040, 0.030, 0.025), (0.040, 0.025, 0.020), (0.045, 0.028, 0.022), (0.040, 0.026, 0.022), (0.032, 0.020, 0.018),
)  # fmt: skip
_LIMBS = (
    ("Shoulder", "upper_arm"), ("Elbow", "forearm"), ("Wrist", "hand"), ("Hip", "thigh"), ("Knee", "shin"),
    ("Ankle", "foot"),
)  # fmt: skip
_BALL = 2.0 / 3.0  # where the toes bend, between ankle and tip


@dataclass(frozen=True)
class Proportions:
    """Lengths of one person, metres; left and right are equal.

    `head` (14, 3): `HEAD_POINTS` from the head's joint; `palm` (5, 3): metacarpal joints of the left hand from the
    wrist; `foot` (3, 3): `FOOT_POINTS` of the left foot from the ankle; `fingers` (5, 3): lengths of their bones.
    """

    torso: float = 0.50  # middle of the hips to middle of the shoulders
    hips: float = 0.18  # between the hip joints
    shoulders: float = 0.34
    upper_arm: float = 0.28
    forearm: float = 0.25
    thigh: float = 0.43
    shin: float = 0.42
    neck: float = 0.12  # middle of the shoulders to the head's joint
    head: Array | None = None
    palm: Array | None = None
    foot: Array | None = None
    fingers: Array | None = None

    def table(self, name: str) -> Array:
        """One of the point sets, with the average person's where none is given."""
        value = getattr(self, name)
        default = {"head": tuple(HEAD_POINTS.values()), "palm": _PALM, "foot": _FOOT, "fingers": _FINGER_LENGTHS}
        return np.array(default[name] if value is None else value, float)


DEFAULT = Proportions()


@dataclass(frozen=True)
class Skeleton:
    """A person's bones and the keypoints they carry.

    rest (B, 4, 4) armature space, metres, standing on z = 0; lengths (B,); marker_keypoints (K,) indices into
    OPENPOSE_137, each carried by bone marker_bones (K,) at marker_offsets (K, 3) in that bone's frame.
    """

    rest: Array
    lengths: Array
    marker_keypoints: Array
    marker_bones: Array
    marker_offsets: Array

    @cached_property
    def local_turn(self) -> Array:
        """(B, 3, 3) rest rotation of each bone in its parent's frame."""
        return local_rest(self.rest, HUMANOID_PARENTS)[:, :3, :3]

    @cached_property
    def local_offset(self) -> Array:
        """(B, 3) head of each bone in its parent's frame; zero for the root."""
        offset = local_rest(self.rest, HUMANOID_PARENTS)[:, :3, 3]
        offset[0] = 0.0
        return offset


@cache
def bone(name: str) -> int:
    """Index of a bone."""
    return HUMANOID_NAMES.index(name)


@cache
def keypoint(name: str) -> int:
    """Index of a keypoint in OPENPOSE_137."""
    return OPENPOSE_137.index(name)


def default_ends() -> tuple[Array, Array]:
    """Heads and tails (B, 3) of the average person's bones."""
    return np.array([b.head_m for b in HUMANOID]), np.array([b.tail_m for b in HUMANOID])


def make_skeleton(person: Proportions = DEFAULT) -> Skeleton:
    """Build the T-pose of a person: Z up, facing -Y, the left on +X, soles at z = 0."""
    heads, tails = _trunk(person)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        mirror = np.array([sign, 1.0, 1.0])
        _arm(person, side, mirror, heads, tails)
        _leg(person, side, mirror, heads, tails)
    rest = np.zeros((len(HUMANOID), 4, 4))
    rest[:, 3, 3] = 1.0
    rest[:, :3, 3] = heads
    rest[:, :3, :3] = frame_from_axes(tails - heads, np.array([_flexion_axis(b.name) for b in HUMANOID]))
    keypoints, bones, points = _markers(person, heads, tails)
    offsets = np.einsum("kji,kj->ki", rest[bones, :3, :3], points - heads[bones])
    return Skeleton(rest, np.linalg.norm(tails - heads, axis=-1), keypoints, bones, offsets)


def motion_keypoints(motion: BodyMotion) -> Array:
    """Where the keypoints of a motion are: (T, 137, 3) metres in the motion's frame; NaN where no bone carries one.

    Reads the motion's own `markers` (keypoint, bone, offset) where its header has them, else the average person's.
    """
    globals_ = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    rows = motion.header.get("markers")
    if rows is None:
        skeleton = make_skeleton()
        keypoints, bones, offsets = skeleton.marker_keypoints, skeleton.marker_bones, skeleton.marker_offsets
    else:
        keypoints, bones = np.array([keypoint(row[0]) for row in rows]), np.array([bone(row[1]) for row in rows])
        offsets = np.array([row[2] for row in rows], float)
    out = np.full((len(motion.root), len(OPENPOSE_137), 3), np.nan)
    turns, heads = globals_[:, bones, :3, :3], globals_[..., :3, 3][:, bones]
    out[:, keypoints] = heads + np.einsum("tkij,kj->tki", turns, offsets)
    out[:, keypoint("Neck")] = out[:, [keypoint("LShoulder"), keypoint("RShoulder")]].mean(axis=1)
    return out


def place_markers(skeleton: Skeleton, turns: Array, heads: Array) -> Array:
    """(T, K, 3) keypoints of bones with orientations (T, B, 3, 3) and heads (T, B, 3)."""
    bones = skeleton.marker_bones
    return heads[:, bones] + np.einsum("tkij,kj->tki", turns[:, bones], skeleton.marker_offsets)


def _flexion_axis(name: str) -> tuple[float, float, float]:
    part, sign = name.split(".")[0], -1.0 if name.endswith(".R") else 1.0
    if part in ("shoulder", "upper_arm", "forearm"):
        return (0.0, 0.0, -sign)
    if part == "thumb":
        return (0.0, sign, sign)
    if part == "hand" or part in FINGERS:
        return (0.0, sign, 0.0)
    return (1.0, 0.0, 0.0)


def _trunk(person: Proportions) -> tuple[Array, Array]:
    heads, tails = default_ends()
    rise = person.torso / DEFAULT.torso
    base = person.thigh + person.shin - person.table("foot")[:, 2].mean() + 0.02
    shoulder_z = base + person.torso
    skull = shoulder_z + person.neck
    levels = [base, base + 0.12 * rise, base + 0.29 * rise, shoulder_z + 0.02 * rise, skull]
    top = skull + 0.20 * np.linalg.norm(person.table("head")) / np.linalg.norm(DEFAULT.table("head"))
    for i, name in enumerate(("hips", "spine", "chest", "neck", "head")):
        heads[bone(name)] = (0.0, 0.0, levels[i])
        tails[bone(name)] = (0.0, 0.0, [*levels, top][i + 1])
    return heads, tails


def _arm(person: Proportions, side: str, mirror: Array, heads: Array, tails: Array) -> None:
    names = [f"{part}.{side}" for part in ("shoulder", "upper_arm", "forearm", "hand")]
    half = person.shoulders / 2
    z = heads[bone("hips"), 2] + person.torso
    starts = np.array([0.02, half, half + person.upper_arm, half + person.upper_arm + person.forearm])
    palm = person.table("palm")
    ends = np.array([*starts[1:], starts[-1] + 0.85 * palm[2, 0]])
    for name, start, end in zip(names, starts, ends, strict=True):
        heads[bone(name)], tails[bone(name)] = mirror * [start, 0.0, z], mirror * [end, 0.0, z]
    for finger, root, lengths in zip(FINGERS, palm, person.table("fingers"), strict=True):
        joints = np.concatenate([[0.0], np.cumsum(lengths)])[:, None] * [1.0, 0.0, 0.0] + root + [starts[-1], 0.0, z]
        for i in range(3):
            index = bone(f"{finger}.{i + 1:02d}.{side}")
            heads[index], tails[index] = mirror * joints[i], mirror * joints[i + 1]


def _leg(person: Proportions, side: str, mirror: Array, heads: Array, tails: Array) -> None:
    foot = person.table("foot")
    hip = np.array([person.hips / 2, 0.0, heads[bone("hips"), 2]])
    knee = hip - [0.0, 0.0, person.thigh]
    ankle = knee - [0.0, 0.0, person.shin]
    tip = np.array([foot[1:, 0].mean(), foot[1, 1], foot[1:, 2].mean()])
    ball = tip * [1.0, _BALL, 1.0]
    joints = [hip, knee, ankle, ankle + ball, ankle + tip]
    for i, part in enumerate(("thigh", "shin", "foot", "toe")):
        heads[bone(f"{part}.{side}")], tails[bone(f"{part}.{side}")] = mirror * joints[i], mirror * joints[i + 1]


def _markers(person: Proportions, heads: Array, tails: Array) -> tuple[Array, Array, Array]:
    """Keypoints, the bones that carry them, and where they are in the rest pose."""
    rows: list[tuple[str, str, Array]] = [("MidHip", "hips", heads[bone("hips")])]
    shoulder = heads[bone("upper_arm.L")]
    rows.append(("Neck", "chest", shoulder * [0.0, 1.0, 1.0]))
    skull = heads[bone("head")]
    rows += [(n, "head", skull + p) for n, p in zip(HEAD_POINTS, person.table("head"), strict=True)]
    for side, sign in (("L", 1.0), ("R", -1.0)):
        rows += [(f"{side}{joint}", f"{part}.{side}", heads[bone(f"{part}.{side}")]) for joint, part in _LIMBS]
        ankle, mirror = heads[bone(f"foot.{side}")], np.array([sign, 1.0, 1.0])
        carriers = ("foot", "toe", "toe")
        for name, part, point in zip(FOOT_POINTS, carriers, person.table("foot"), strict=True):
            rows.append((f"{side}{name}", f"{part}.{side}", ankle + mirror * point))
        rows.append((f"{side}HandWrist", f"hand.{side}", heads[bone(f"hand.{side}")]))
        for finger in FINGERS:
            names = [f"{finger}.{i:02d}.{side}" for i in (1, 2, 3)]
            ends = [heads[bone(n)] for n in names] + [tails[bone(names[2])]]
            for i, (carrier, end) in enumerate(zip([*names, names[2]], ends, strict=True)):
                rows.append((f"{side}Hand{finger.capitalize()}{i + 1}", carrier, end))
    keypoints = np.array([keypoint(name) for name, _, _ in rows])
    bones = np.array([bone(carrier) for _, carrier, _ in rows])
    return keypoints, bones, np.array([point for _, _, point in rows])
