"""Orders of keypoints in other programs' files, as tuples of the names that OPENPOSE_137 uses.

A layout is told by its number of points or, where the file names them, by their names. Points with other names have no
place in OPENPOSE_137 and are left out. Where a layout has no neck or mid-hip, they become the midpoints of shoulders
and hips, as OpenPose defines them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..skeletons import BODY_25, FACE_70, FACE_70_IN_FACEMESH, LEFT_HAND_21, OPENPOSE_137, RIGHT_HAND_21

Array = np.ndarray
MAX_VALUE = 1e9  # beyond it, a number is neither a pixel nor a length in any unit
_INDEX = {name: index for index, name in enumerate(OPENPOSE_137)}


@dataclass(frozen=True)
class Layout:
    """A skeleton of another program: `joints[i]` is what point `i` of the file is."""

    name: str
    joints: tuple[str, ...]

    @property
    def source(self) -> list[int]:
        """Points of the file that OPENPOSE_137 knows."""
        return [i for i, joint in enumerate(self.joints) if joint in _INDEX]

    @property
    def target(self) -> list[int]:
        """Their places in OPENPOSE_137."""
        return [_INDEX[joint] for joint in self.joints if joint in _INDEX]

    def __add__(self, other: Layout) -> Layout:
        """Points of two arrays side by side."""
        return Layout(self.name, self.joints + other.joints)


_COCO_17 = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
    "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)  # fmt: skip
_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_BODY_25B = (*_COCO_17, "UpperNeck", "HeadTop", *_FEET)
_HALPE_26 = (
    *_COCO_17, "HeadTop", "Neck", "MidHip", "LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel",
)  # fmt: skip
_COCO_18 = tuple(name for name in BODY_25[:19] if name != "MidHip")
_BLAZEPOSE_33 = (
    "Nose", "LEyeInner", "LEye", "LEyeOuter", "REyeInner", "REye", "REyeOuter", "LEar", "REar", "LMouth", "RMouth",
    "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LPinky", "RPinky", "LIndex", "RIndex",
    "LThumb", "RThumb", "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle", "LHeel", "RHeel", "LBigToe", "RBigToe",
)  # fmt: skip
_FACEMESH_478 = tuple(
    FACE_70[FACE_70_IN_FACEMESH.index(i)] if i in FACE_70_IN_FACEMESH else f"FaceMesh{i}" for i in range(478)
)
_HANDS = LEFT_HAND_21 + RIGHT_HAND_21

FACES = {len(joints): Layout("face", joints) for joints in (FACE_70, FACE_70[:68], _FACEMESH_478[:468], _FACEMESH_478)}
HANDS = (Layout("left hand", LEFT_HAND_21), Layout("right hand", RIGHT_HAND_21))
COCO_17 = Layout("COCO-17", _COCO_17)
WHOLEBODY_133 = Layout("COCO-WholeBody-133", _COCO_17 + _FEET + FACE_70[:68] + _HANDS)
BODY_LAYOUTS: dict[int, tuple[Layout, ...]] = {}  # number of points -> layouts with so many
for _layout in (
    COCO_17,
    Layout("COCO-18", _COCO_18),
    Layout("COCO-17 and neck", (*_COCO_17, "Neck")),
    Layout("BODY_25", BODY_25),
    Layout("BODY_25B", _BODY_25B),
    Layout("Halpe-26", _HALPE_26),
    Layout("BlazePose-33", _BLAZEPOSE_33),
    Layout("Halpe-68", _HALPE_26 + _HANDS),
    WHOLEBODY_133,
    Layout("BODY_135", _BODY_25B + LEFT_HAND_21[1:] + RIGHT_HAND_21[1:] + FACE_70),
    Layout("Halpe-136", _HALPE_26 + FACE_70[:68] + _HANDS),
    Layout("OpenPose-137", OPENPOSE_137),
    Layout("MediaPipe-543", _BLAZEPOSE_33 + RIGHT_HAND_21 + LEFT_HAND_21 + _FACEMESH_478[:468]),  # FreeMoCap's order
    Layout("MediaPipe-553", _BLAZEPOSE_33 + RIGHT_HAND_21 + LEFT_HAND_21 + _FACEMESH_478),
):
    BODY_LAYOUTS[len(_layout.joints)] = (*BODY_LAYOUTS.get(len(_layout.joints), ()), _layout)
KNOWN_COUNTS = ", ".join(str(count) for count in sorted(BODY_LAYOUTS))


def choose(points: Array) -> Layout | None:
    """Tell the layout of (N, P, 3) points x, y, score by P and, where several have P points, by anatomy."""
    candidates = BODY_LAYOUTS.get(points.shape[1], ())
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    return min(candidates, key=lambda layout: _strangeness(layout, points))


# What lies between two others in every body: (name, one, other).
_MIDDLES = (
    ("Nose", "LEye", "REye"), ("Neck", "LShoulder", "RShoulder"), ("UpperNeck", "LShoulder", "RShoulder"),
    ("MidHip", "LHip", "RHip"),
)  # fmt: skip


def _strangeness(layout: Layout, points: Array) -> float:
    """Distance of middle joints from the middle of their pairs, in sizes of the body; infinite where none is seen."""
    xy = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
    size = _extent(xy)
    off = []
    for names in _MIDDLES:
        if all(name in layout.joints for name in names):
            middle, one, other = (xy[:, layout.joints.index(name)] for name in names)
            distance = np.linalg.norm(middle - (one + other) / 2, axis=-1) / size
            distance = distance[np.isfinite(distance)]
            off += [np.median(distance)] if len(distance) else []
    return float(np.mean(off)) if off else np.inf


def _extent(xy: Array) -> Array:
    """(N,) diagonal of the box around (N, P, 2) points, NaN points left out."""
    low, high = np.where(np.isnan(xy), np.inf, xy).min(axis=1), np.where(np.isnan(xy), -np.inf, xy).max(axis=1)
    return np.maximum(np.linalg.norm(high - low, axis=-1), 1e-9)


_SIDED = {
    "eye": "Eye", "ear": "Ear", "shoulder": "Shoulder", "elbow": "Elbow", "wrist": "Wrist", "hip": "Hip",
    "knee": "Knee", "ankle": "Ankle", "bigtoe": "BigToe", "smalltoe": "SmallToe", "heel": "Heel", "footindex": "BigToe",
    "handroot": "HandWrist",
}  # fmt: skip
_UNSIDED = {"nose": "Nose", "neck": "Neck", "hip": "MidHip", "midhip": "MidHip", "pelvis": "MidHip", "root": "MidHip"}
_FINGERS = {
    "thumb": "Thumb", "forefinger": "Index", "indexfinger": "Index", "middlefinger": "Middle", "ringfinger": "Ring",
    "pinkyfinger": "Little", "littlefinger": "Little",
}  # fmt: skip


def named(names: Sequence[str], name: str = "") -> Layout:
    """Make a layout of a file's own names: `left_shoulder`, `face-12`, `right_forefinger3`, `RKnee`."""
    return Layout(name or f"{len(names)} named points", tuple(_canonical(str(joint)) for joint in names))


def _canonical(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    face, limb = re.fullmatch(r"face(\d{1,2})", plain), re.fullmatch(r"(left|right|)(hand)?([a-z]+?)(\d?)", plain)
    known = ""
    if face:
        known = f"Face{int(face[1])}"
    elif limb:
        side, hand, part, number = limb[1][:1].upper(), limb[2], limb[3], limb[4]
        if not side:
            known = _UNSIDED.get(part, "")
        elif part in _FINGERS:
            known = f"{side}Hand{_FINGERS[part]}{number}"
        elif part in _SIDED or hand:
            known = side + _SIDED.get(f"hand{part}" if hand else part, "")
    return name if name in _INDEX or known not in _INDEX else known


def place(layout: Layout, points: Array) -> tuple[Array, Array]:
    """Positions (N, 137, D), NaN unseen, and confidence (N, 137) of (N, P, D + 1) points with a score."""
    positions = np.full((len(points), 137, points.shape[-1] - 1), np.nan)
    confidence = np.zeros((len(points), 137))
    positions[:, layout.target], confidence[:, layout.target] = (
        points[:, layout.source, :-1],
        points[:, layout.source, -1],
    )
    positions[confidence <= 0] = np.nan
    return positions, confidence


def complete(positions: Array, confidence: Array) -> None:
    """Fill neck and mid-hip of (..., 137, D) from shoulders and hips where they are not seen, in place."""
    for middle, left, right in (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip")):
        m, a, b = _INDEX[middle], _INDEX[left], _INDEX[right]
        both = np.minimum(confidence[..., a], confidence[..., b])
        fill = (confidence[..., m] <= 0) & (both > 0)
        half = 0.5 * (positions[..., a, :] + positions[..., b, :])
        positions[..., m, :] = np.where(fill[..., None], half, positions[..., m, :])
        confidence[..., m] = np.where(fill, both, confidence[..., m])
