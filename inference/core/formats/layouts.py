"""Orders of keypoints in other programs' files, as maps into OPENPOSE_137.

A layout is told by how many points it has. Where a layout has no neck or mid-hip, they are the midpoints of shoulders
and hips, as OpenPose defines them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..skeletons import BODY_25, FACE, LEFT_HAND, RIGHT_HAND

Array = np.ndarray
_B = {name: index for index, name in enumerate(BODY_25)}
_COCO_17 = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
    "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """`source[i]` of the file is point `target[i]` of OPENPOSE_137."""

    name: str
    points: int
    source: tuple[int, ...]
    target: tuple[int, ...]


def _layout(name: str, points: int, pairs: dict[int, int]) -> Layout:
    return Layout(name, points, tuple(pairs), tuple(pairs.values()))


def _named(*names: str | None, start: int = 0) -> dict[int, int]:
    return {start + i: _B[name] for i, name in enumerate(names) if name}


def _block(start: int, block: slice, count: int | None = None) -> dict[int, int]:
    return {start + i: block.start + i for i in range(count or block.stop - block.start)}


_HALPE_FEET = ("LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel")
_WHOLE_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_BLAZE_33 = {
    0: "Nose", 2: "LEye", 5: "REye", 7: "LEar", 8: "REar", 11: "LShoulder", 12: "RShoulder", 13: "LElbow",
    14: "RElbow", 15: "LWrist", 16: "RWrist", 23: "LHip", 24: "RHip", 25: "LKnee", 26: "RKnee", 27: "LAnkle",
    28: "RAnkle", 29: "LHeel", 30: "RHeel", 31: "LBigToe", 32: "RBigToe",
}  # fmt: skip
_BODY_25B = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip",
    "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle", None, None, "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe",
    "RHeel",
)  # fmt: skip
_COCO_18 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RAnkle",
    "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)  # fmt: skip

BODY_LAYOUTS = {
    25: _layout("BODY_25", 25, _block(0, slice(0, 25))),
    17: _layout("COCO-17", 17, _named(*_COCO_17)),
    18: _layout("COCO-18", 18, _named(*_COCO_18)),
    26: _layout("Halpe-26", 26, _named(*_COCO_17, None, "Neck", "MidHip", *_HALPE_FEET)),
    33: _layout("BlazePose-33", 33, {index: _B[name] for index, name in _BLAZE_33.items()}),
    133: _layout(
        "COCO-WholeBody-133", 133,
        _named(*_COCO_17) | _named(*_WHOLE_FEET, start=17) | _block(23, FACE, 68) | _block(91, LEFT_HAND)
        | _block(112, RIGHT_HAND),
    ),
    136: _layout(
        "Halpe-136", 136,
        _named(*_COCO_17, None, "Neck", "MidHip", *_HALPE_FEET) | _block(26, FACE, 68) | _block(94, LEFT_HAND)
        | _block(115, RIGHT_HAND),
    ),
    137: _layout("OpenPose-137", 137, _block(0, slice(0, 137))),
}  # fmt: skip
BODY_25B = _layout("BODY_25B", 25, _named(*_BODY_25B))
FEET_6 = _layout("COCO-WholeBody feet", 6, _named(*_WHOLE_FEET))
FACE_LAYOUTS = {70: _layout("face 70", 70, _block(0, FACE)), 68: _layout("face 68", 68, _block(0, FACE, 68))}
HANDS = (_layout("left hand", 21, _block(0, LEFT_HAND)), _layout("right hand", 21, _block(0, RIGHT_HAND)))
KNOWN_COUNTS = ", ".join(str(count) for count in sorted(BODY_LAYOUTS))


def place(layout: Layout, points: Array, confidence: Array, out: Array, out_confidence: Array) -> None:
    """Put (..., points, D) and (..., points) of one layout into (..., 137, D) and (..., 137), in place."""
    source, target = list(layout.source), list(layout.target)
    out[..., target, :], out_confidence[..., target] = points[..., source, :], confidence[..., source]


def complete(positions: Array, confidence: Array) -> None:
    """Fill neck and mid-hip of (..., 137, D) from shoulders and hips where they are not seen, in place."""
    for middle, left, right in (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip")):
        both = np.minimum(confidence[..., _B[left]], confidence[..., _B[right]])
        fill = (confidence[..., _B[middle]] <= 0) & (both > 0)
        half = 0.5 * (positions[..., _B[left], :] + positions[..., _B[right], :])
        positions[..., _B[middle], :] = np.where(fill[..., None], half, positions[..., _B[middle], :])
        confidence[..., _B[middle]] = np.where(fill, both, confidence[..., _B[middle]])
