"""One picture -> faces and their 478 landmarks, and who is in it, by the models inside mediapipe's own wheel.

A face is found by two detectors, one for faces near the camera, one for small ones. Its landmarks are then read many
times, each from a slightly other square around it: their median is more accurate than one reading, and how far they
lie apart says how surely it is a face that was read.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 px
Square = tuple[float, float, float, float]  # middle x, y px, side px, turned by so many radians

LANDMARKS = 478
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_EYES = (33, 263)  # outer corners, the person's right and left
_LOOK_PX = 1280  # longer side of the picture in which faces are looked for
_LEAST_SURE = 0.4
_SAME = 0.3  # intersection over union of two boxes of one face
_SETTLE = 3  # readings after which the square no longer moves
WIDER = 1.5  # of the square over the landmarks, as mediapipe tracks faces
_VARIANTS = ((0.0, 1.0), (0.10, 1.0), (-0.10, 1.0), (0.0, 0.92), (0.0, 1.1), (0.05, 1.05), (-0.05, 0.96))
_TURN = 1.15  # the detector's depths are flat: of 60 degrees, it shows 52
_FLOOR = 0.05  # presence from which on landmarks are given at all

_READER = """
input_stream: "IMAGE:image"
input_stream: "ROI:roi"
input_side_packet: "WITH_ATTENTION:with_attention"
output_stream: "LANDMARKS:face_landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image" input_stream: "ROI:roi"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:face_landmarks"
}
"""
_PRESENCE = "facelandmarkcpu__face_presence_score"
_THRESHOLD = "facelandmarkcpu__ThresholdingCalculator.threshold"


@dataclass(frozen=True)
class Face:
    """One face.

    landmarks (478, 2) px, origin at the centre of the top-left pixel; depth (478,) px behind the face's middle, as
    guessed; presence in [0, 1]; spread: how far readings lie apart, as a part of the face's size.
    """

    landmarks: Array
    depth: Array
    presence: float
    spread: float

    @property
    def box(self) -> Box:
        """The landmarks' bounds, px."""
        (x0, y0), (x1, y1) = self.landmarks.min(0), self.landmarks.max(0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def size_px(self) -> float:
        """Larger side of the box."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def yaw_deg(self) -> float:
        """How far the face is turned, positive to the person's left, from cheek to cheek."""
        right, left = self._point(234), self._point(454)
        return _TURN * float(np.degrees(np.arctan2(left[2] - right[2], left[0] - right[0])))

    def _point(self, index: int) -> Array:
        return np.append(self.landmarks[index], self.depth[index])


class Faces:
    """Finds and reads faces; close it after use."""

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.python.solution_base import PacketDataType, SolutionBase
        from mediapipe.python.solutions.face_detection import FaceDetection

        messages: Any = calculator_pb2  # made when it is imported
        self._finders: list[Any] = [FaceDetection(_LEAST_SURE, model_selection=model) for model in (0, 1)]
        self._reader = SolutionBase(
            graph_config=text_format.Parse(_READER, messages.CalculatorGraphConfig()),
            side_inputs={"with_attention": True},
            outputs=["face_landmarks", _PRESENCE],
            stream_type_hints={_PRESENCE: PacketDataType.FLOAT},
            calculator_params={_THRESHOLD: _FLOOR},
        )

    def __enter__(self) -> Faces:
        return self

    def __exit__(self, *error: object) -> None:
        for graph in (*self._finders, self._reader):
            graph.close()

    def find(self, rgb: Array) -> list[Face]:
        """Give every face in a picture (H, W, 3) uint8, from left to right."""
        faces: list[Face] = []
        for box in self.boxes(rgb):
            face = self._read(rgb, box)
            if face is not None and all(overlap(face.box, other.box) < _SAME for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: face.box[0] + face.box[2])

    def boxes(self, rgb: Array) -> list[Box]:
        """Where faces may be, the surest first."""
        scale = min(_LOOK_PX / max(rgb.shape[:2]), 1.0)
        small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
        size = np.array([rgb.shape[1], rgb.shape[0]] * 2)
        found: list[tuple[float, Box]] = []
        for finder in self._finders:
            for one in _process(finder, small).detections or []:
                box = one.location_data.relative_bounding_box
                ends = np.array([box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height]) * size
                found.append((float(one.score[0]), (float(ends[0]), float(ends[1]), float(ends[2]), float(ends[3]))))
        kept: list[Box] = []
        for _, box in sorted(found, key=lambda pair: -pair[0]):
            if all(overlap(box, other) < _SAME for other in kept):
                kept.append(box)
        return kept

    def _read(self, rgb: Array, box: Box) -> Face | None:
        """Read the face in a box; None where there is none."""
        x0, y0, x1, y1 = box
        square = (0.5 * (x0 + x1), 0.5 * (y0 + y1), WIDER * max(x1 - x0, y1 - y0), 0.0)
        for _ in range(_SETTLE):
            seen = self.read_square(rgb, square)
            if seen is None:
                return None
            square = square_of(seen[0])
        x, y, side, angle = square
        readings = [self.read_square(rgb, (x, y, side * grown, angle + turned)) for turned, grown in _VARIANTS]
        known = [reading for reading in readings if reading is not None]
        if len(known) < 3:
            return None
        points = np.stack([reading[0] for reading in known])
        middle = np.median(points, 0)
        apart = np.linalg.norm(points[..., :2] - middle[:, :2], axis=-1).mean()
        presence = float(np.median([reading[1] for reading in known]))
        return Face(middle[:, :2], middle[:, 2], presence, float(apart / np.ptp(middle[:, :2], 0).max()))

    def read_square(self, rgb: Array, square: Square) -> tuple[Array, float] | None:
        """Read (478, 3) x, y, depth px of the face in a turned square, and its presence; None where there is none."""
        from mediapipe.framework.formats import rect_pb2 as rects

        size = np.array([rgb.shape[1], rgb.shape[0]])
        (x, y), (width, height) = np.array(square[:2]) / size, square[2] / size
        messages: Any = rects
        roi = messages.NormalizedRect(x_center=x, y_center=y, width=width, height=height, rotation=square[3])
        seen = _process(self._reader, {"image": rgb, "roi": roi})
        if seen.face_landmarks is None:
            return None
        points = np.array([(p.x, p.y, p.z) for p in seen.face_landmarks.landmark]) * [*size, size[0]]
        points[:, :2] -= 0.5
        return points, float(getattr(seen, _PRESENCE))


def overlap(a: Box, b: Box) -> float:
    """Divide the intersection of two boxes by their union."""
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / max(areas - both, 1e-9)


def square_of(points: Array) -> Square:
    """Give the turned square around landmarks (478, 3) in which a face is read: upright by the eyes."""
    across = points[_EYES[1], :2] - points[_EYES[0], :2]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    straight = points[:, :2] @ turn.T
    low, high = straight.min(0), straight.max(0)
    x, y = turn.T @ (0.5 * (low + high))
    return float(x), float(y), WIDER * float((high - low).max()), angle


def _process(graph: Any, inputs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)  # mediapipe's own call
        return graph.process(inputs)
