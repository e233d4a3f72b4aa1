"""One picture -> everybody in it, by the models inside mediapipe's own wheel.

Two graphs of our own, made of the wheel's parts: one finds people, one gives the landmarks of the person in a given
square. The second remembers nothing of a body, so it can look at one person after the other in the same picture. (It
does remember where hands were; a hand that is not there any more is looked for anew.)
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blaze import FACE_PRESENCE, PRESENCE, SIDEDNESS, Landmarks, hand_thresholds, landmarks_of

Array = np.ndarray
_COMMON = 'input_stream: "IMAGE:image"\n'
_FINDER = """
output_stream: "DETECTIONS:detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""
_BODY = """
input_stream: "ROI:roi"
input_side_packet: "MODEL_COMPLEXITY:model_complexity"
input_side_packet: "ENABLE_SEGMENTATION:enable_segmentation"
output_stream: "LANDMARKS:pose_landmarks"
output_stream: "WORLD_LANDMARKS:pose_world_landmarks"
output_stream: "AUXILIARY_LANDMARKS:next"
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image" input_stream: "ROI:roi"
  input_side_packet: "MODEL_COMPLEXITY:model_complexity" input_side_packet: "ENABLE_SEGMENTATION:enable_segmentation"
  output_stream: "LANDMARKS:pose_landmarks" output_stream: "WORLD_LANDMARKS:pose_world_landmarks"
  output_stream: "AUXILIARY_LANDMARKS:next" output_stream: "SEGMENTATION_MASK:mask"
}
"""
_HANDS = """
output_stream: "LEFT_HAND_LANDMARKS:left_hand_landmarks"
output_stream: "RIGHT_HAND_LANDMARKS:right_hand_landmarks"
node {
  calculator: "HandLandmarksLeftAndRightCpu"
  input_stream: "IMAGE:image" input_stream: "POSE_LANDMARKS:pose_landmarks"
  output_stream: "LEFT_HAND_LANDMARKS:left_hand_landmarks" output_stream: "RIGHT_HAND_LANDMARKS:right_hand_landmarks"
}
"""
_FACE = """
input_side_packet: "REFINE_FACE_LANDMARKS:refine_face_landmarks"
output_stream: "FACE_LANDMARKS:face_landmarks"
node {
  calculator: "SplitNormalizedLandmarkListCalculator"
  input_stream: "pose_landmarks" output_stream: "head"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 11 } } }
}
node {
  calculator: "FaceLandmarksFromPoseCpu"
  input_stream: "IMAGE:image" input_stream: "FACE_LANDMARKS_FROM_POSE:head"
  input_side_packet: "REFINE_LANDMARKS:refine_face_landmarks"
  output_stream: "FACE_LANDMARKS:face_landmarks"
}
"""
_SURE_AT = "posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh"
_LEAST_SURE = 0.35  # half of what the wheel asks for is enough: who is found is read, and dropped where nobody is
_WIDER = 1.25  # of the circle through head and feet that the models mark, by which their squares are larger


@dataclass(frozen=True)
class Region:
    """A turned square with somebody in it: centre x, y and side in px, angle in radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def centre(self) -> Array:
        """(2,) px."""
        return np.array([self.x, self.y])

    def moved(self, by: Array) -> Region:
        """Shift it by (2,) px."""
        return Region(self.x + float(by[0]), self.y + float(by[1]), self.side, self.angle)

    @staticmethod
    def around(middle: Array, rim: Array) -> Region:
        """Make the square from a person's middle and the point above them that the models mark, px."""
        dx, dy = np.subtract(rim, middle)
        side = 2.0 * _WIDER * float(np.hypot(dx, dy))
        return Region(float(middle[0]), float(middle[1]), side, float(np.pi / 2 - np.arctan2(-dy, dx)))


class Finder:
    """Finds people in pictures; close it after use."""

    def __init__(self) -> None:
        self._graph = _graph(_FINDER, ["detections"], calculator_params={_SURE_AT: _LEAST_SURE})

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *error: object) -> None:
        self._graph.close()

    def find(self, rgb: Array) -> list[tuple[Region, float]]:
        """Give a region and a score in [0, 1] for everybody in a picture (H, W, 3) uint8, the surest first."""
        found = _process(self._graph, {"image": rgb}).detections or []
        size = np.array([rgb.shape[1], rgb.shape[0]])
        out = []
        for one in found:
            points = np.array([(p.x, p.y) for p in one.location_data.relative_keypoints[:2]]) * size
            out.append((Region.around(*points), float(one.score[0])))
        return sorted(out, key=lambda pair: -pair[1])


class Reader:
    """Reads the landmarks of the person in a region; close it after use."""

    def __init__(self, *, hands: bool = True, face: bool = True) -> None:
        from mediapipe.python.solution_base import PacketDataType

        text = _BODY + (_HANDS if hands else "") + (_FACE if face else "")
        given: dict[str, Any] = {"model_complexity": 1, "enable_segmentation": False}
        outputs, types, thresholds = ["pose_landmarks", "pose_world_landmarks", "next"], {}, {}
        if hands:
            outputs += ["left_hand_landmarks", "right_hand_landmarks"]
            types |= dict.fromkeys(PRESENCE, PacketDataType.FLOAT) | dict.fromkeys(SIDEDNESS, PacketDataType.PROTO)
            thresholds = hand_thresholds()
        if face:
            outputs.append("face_landmarks")
            types[FACE_PRESENCE] = PacketDataType.FLOAT
            given["refine_face_landmarks"] = True
        options = {"calculator_params": thresholds, "stream_type_hints": types}
        self._graph = _graph(text, [*outputs, *types], side_inputs=given, **options)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._graph.close()

    def read(self, rgb: Array, region: Region) -> tuple[Landmarks, Region] | None:
        """Give who is in a region of a picture (H, W, 3) uint8, and where to look next; None where nobody is."""
        from mediapipe.framework.formats import rect_pb2 as rects

        size = np.array([rgb.shape[1], rgb.shape[0]])
        (x, y), (width, height) = region.centre / size, region.side / size
        square: Any = rects  # messages are made when it is imported
        roi = square.NormalizedRect(x_center=x, y_center=y, width=width, height=height, rotation=region.angle)
        seen = _process(self._graph, {"image": rgb, "roi": roi})
        if seen.pose_landmarks is None:
            return None
        after = Region.around(*(np.array([p.x, p.y]) * size for p in seen.next.landmark[:2]))
        return landmarks_of(seen, size, (after.x, after.y, after.side)), after


def _graph(text: str, outputs: list[str], **options: Any) -> Any:
    os.environ.setdefault("GLOG_minloglevel", "2")
    from google.protobuf import text_format
    from mediapipe.calculators.core import split_vector_calculator_pb2  # noqa: F401 - an extension the text names
    from mediapipe.framework import calculator_pb2
    from mediapipe.python.solution_base import SolutionBase

    messages: Any = calculator_pb2  # made when it is imported
    config = text_format.Parse(_COMMON + text, messages.CalculatorGraphConfig())
    return SolutionBase(graph_config=config, outputs=outputs, **options)


def _process(graph: Any, inputs: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)  # mediapipe's own call
        return graph.process(inputs)
