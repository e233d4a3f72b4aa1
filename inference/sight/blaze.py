"""One picture -> landmarks of one person, by the Holistic graph and the models inside mediapipe's own wheel.

The graph is the one behind `mp.solutions.holistic`; running it by hand also gives what that wrapper hides: how sure it
is that a hand or a face is there, and where it will look for the body next. Everything works offline, provided that
`model_complexity` is 1: the wheel holds no other.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.skeletons import BODY_25, FACE, FACE_70_IN_FACEMESH, LEFT_HAND, RIGHT_HAND

Array = np.ndarray

# BODY_25 from BlazePose's 33: a joint is the mean of the points named. Small toes have none.
_BLAZEPOSE = {
    "Nose": (0,), "Neck": (11, 12), "RShoulder": (12,), "RElbow": (14,), "RWrist": (16,), "LShoulder": (11,),
    "LElbow": (13,), "LWrist": (15,), "MidHip": (23, 24), "RHip": (24,), "RKnee": (26,), "RAnkle": (28,), "LHip": (23,),
    "LKnee": (25,), "LAnkle": (27,), "REye": (5,), "LEye": (2,), "REar": (8,), "LEar": (7,), "LBigToe": (31,),
    "LHeel": (29,), "RBigToe": (32,), "RHeel": (30,),
}  # fmt: skip
_BODY_JOINTS = np.array([BODY_25.index(name) for name in _BLAZEPOSE])
_BODY_FIRST = np.array([points[0] for points in _BLAZEPOSE.values()])
_BODY_LAST = np.array([points[-1] for points in _BLAZEPOSE.values()])

_OUTSIDE = 0.2  # what is left of the confidence of a point outside the picture
_SAME_HAND = 0.4  # two hands closer than this part of a hand's size are one hand seen twice

_GRAPH = "mediapipe/modules/holistic_landmark/holistic_landmark_cpu.binarypb"
_POSE = "poselandmarkcpu__"
_HAND = "handlandmarksleftandrightcpu__handlandmarksfromposecpu_{}__"
_FACE = "facelandmarksfromposecpu__"
_SIDES = ((1, "Right"), (2, "Left"))  # left and right hand: the graph's number, and its name for it in a mirror
_INNER = [f"{_HAND.format(number)}handlandmarkcpu__" for number, _ in _SIDES]
PRESENCE, SIDEDNESS = [f"{i}hand_presence_score" for i in _INNER], [f"{i}handedness" for i in _INNER]  # streams
FACE_PRESENCE = f"{_FACE}facelandmarkcpu__face_presence_score"
_HAND_FLOOR = 0.1  # hands are kept from here on and carry their presence as confidence; Holistic's own 0.5 drops many
_NEVER = 2.0  # a threshold that no score passes


@dataclass(frozen=True)
class Landmarks:
    """One person in one picture: pixels, origin at the centre of the top-left pixel.

    positions (137, 2) in the order OPENPOSE_137, NaN where unseen; confidence (137,); world_m (137, 3) BlazePose's own
    guess, hips at the origin, NaN where it has none; roi (x, y, side) px: the square in which the body was found;
    mask (H, W) uint8, 255 on the person, where it was asked for.
    """

    positions: Array
    confidence: Array
    world_m: Array
    roi: tuple[float, float, float]
    mask: Array | None = None


class Holistic:
    """The graph, following one person from picture to picture; close it after use."""

    def __init__(self, *, hands: bool = True, face: bool = True, mask: bool = False, tracking: bool = True) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        from mediapipe.python.solution_base import PacketDataType, SolutionBase

        scores = dict.fromkeys((*PRESENCE, FACE_PRESENCE), PacketDataType.FLOAT)
        scores |= dict.fromkeys(SIDEDNESS, PacketDataType.PROTO)
        streams = ["pose_landmarks", "pose_world_landmarks", "left_hand_landmarks", "right_hand_landmarks"]
        streams += ["face_landmarks", "pose_landmarks_roi", *scores, *(["segmentation_mask"] if mask else [])]
        self._graph = SolutionBase(
            binary_graph_path=_GRAPH,
            side_inputs={
                "model_complexity": 1,
                "smooth_landmarks": False,  # smoothing comes later, with both neighbours of a frame known
                "enable_segmentation": mask,
                "smooth_segmentation": False,
                "refine_face_landmarks": True,
                "use_prev_landmarks": tracking,
            },
            calculator_params=_thresholds(hands=hands, face=face),
            outputs=streams,
            stream_type_hints=scores,
        )

    def __enter__(self) -> Holistic:
        return self

    def __exit__(self, *error: object) -> None:
        self._graph.close()

    def forget(self) -> None:
        """Look for a body anywhere in the next picture: whoever was followed is not in a black one."""
        self.see(np.zeros((64, 64, 3), np.uint8))

    def see(self, rgb: Array) -> Landmarks | None:
        """Give the landmarks of the person in a picture (H, W, 3) uint8, None where nobody is seen."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)  # mediapipe's own call
            seen: Any = self._graph.process({"image": rgb})
        if seen.pose_landmarks is None:
            return None
        size = np.array([rgb.shape[1], rgb.shape[0]])
        mask = getattr(seen, "segmentation_mask", None)
        found = landmarks_of(seen, size, _square(seen.pose_landmarks_roi, size))
        return found if mask is None else replace(found, mask=(mask > 0.5).astype(np.uint8) * 255)


def landmarks_of(seen: Any, size: Array, roi: tuple[float, float, float]) -> Landmarks:
    """Turn a graph's outputs for a picture of `size` (2,) px into one person's landmarks; hands and face may lack."""
    left, right, face = (getattr(seen, name, None) for name in (*PRESENCE, FACE_PRESENCE))
    positions, confidence = to_openpose(
        _points(seen.pose_landmarks.landmark, size),
        _part(getattr(seen, "left_hand_landmarks", None), range(21), left, size),
        _part(getattr(seen, "right_hand_landmarks", None), range(21), right, size),
        _part(getattr(seen, "face_landmarks", None), FACE_70_IN_FACEMESH, face, size),
    )
    _forget_twin(positions, confidence, [_sidedness(seen, side) for side in (0, 1)])
    outside = (positions < -0.5) | (positions > size - 0.5)
    confidence[outside.any(-1)] *= _OUTSIDE
    world_m = np.array([(p.x, p.y, p.z) for p in seen.pose_world_landmarks.landmark])
    return Landmarks(positions, confidence, world_to_openpose(world_m), roi)


def _sidedness(seen: Any, side: int) -> float:
    """Tell how much the left (0) or right (1) hand looks like one, in [0, 1]."""
    found = getattr(seen, SIDEDNESS[side], None)
    if found is None:
        return 0.0
    best = found.classification[0]
    return best.score if best.label == _SIDES[side][1] else 1.0 - best.score


def to_openpose(pose: Array, left: Array | None, right: Array | None, face: Array | None) -> tuple[Array, Array]:
    """Bring one picture's landmarks into the order of OPENPOSE_137.

    Args:
        pose: (33, 3) x, y, visibility; left, right: (21, 3) x, y, confidence; face: (70, 3) likewise.
    Returns:
        positions (137, 2), NaN where unseen; confidence (137,).
    """
    positions, confidence = np.full((137, 2), np.nan), np.zeros(137)
    positions[_BODY_JOINTS] = 0.5 * (pose[_BODY_FIRST, :2] + pose[_BODY_LAST, :2])
    confidence[_BODY_JOINTS] = np.minimum(pose[_BODY_FIRST, 2], pose[_BODY_LAST, 2])
    for where, part in ((LEFT_HAND, left), (RIGHT_HAND, right), (FACE, face)):
        if part is not None:
            positions[where], confidence[where] = part[:, :2], part[:, 2]
    return positions, confidence


def world_to_openpose(world_m: Array) -> Array:
    """Bring BlazePose's (33, 3) metres into (137, 3); NaN where it has no point."""
    out = np.full((137, 3), np.nan)
    out[_BODY_JOINTS] = 0.5 * (world_m[_BODY_FIRST] + world_m[_BODY_LAST])
    return out


def _forget_twin(positions: Array, confidence: Array, sidedness: list[float]) -> None:
    """Where one hand was seen twice, forget it on the side to which it belongs less."""
    hands = [positions[LEFT_HAND], positions[RIGHT_HAND]]
    size = min(np.ptp(hand, axis=0).max() for hand in hands)
    if np.linalg.norm(hands[0] - hands[1], axis=-1).mean() < _SAME_HAND * size:  # False where either is NaN
        weaker = LEFT_HAND if sidedness[0] < sidedness[1] else RIGHT_HAND
        positions[weaker], confidence[weaker] = np.nan, 0.0


def hand_thresholds() -> dict[str, float]:
    """Let hands pass that are hardly sure; they carry their presence."""
    return {f"{inner}ThresholdingCalculator.threshold": _HAND_FLOOR for inner in _INNER}


def _thresholds(*, hands: bool, face: bool) -> dict[str, float]:
    found, kept = f"{_POSE}posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh", 0.5
    followed = f"{_POSE}poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__ThresholdingCalculator.threshold"
    out = {found: kept, followed: kept, **hand_thresholds()}
    for side in (1, 2):
        if not hands:
            gate = "handvisibilityfromhandlandmarksfrompose__ThresholdingCalculator.threshold"
            out[_HAND.format(side) + gate] = _NEVER
    if not face:
        detector = "facedetectionshortrangebyroicpu__facedetectionshortrange__facedetection__"
        out[f"{_FACE}{detector}TensorsToDetectionsCalculator.min_score_thresh"] = _NEVER
    return out


def _points(landmarks: Any, size: Array) -> Array:
    points = np.array([(p.x, p.y, p.visibility) for p in landmarks])
    points[:, :2] = points[:, :2] * size - 0.5
    return points


def _part(found: Any, wanted: Any, presence: float | None, size: Array) -> Array | None:
    if found is None or presence is None:
        return None
    points = _points([found.landmark[i] for i in wanted], size)
    points[:, 2] = presence
    return points


def _square(roi: Any, size: Array) -> tuple[float, float, float]:
    x, y = np.array([roi.x_center, roi.y_center]) * size
    side = max(roi.width * size[0], roi.height * size[1])
    return float(x), float(y), float(side)
