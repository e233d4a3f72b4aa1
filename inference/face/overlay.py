"""A movie of what was made of a face: its points over the footage, the head's axes, and the strongest weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.artifacts import FaceTrack
from ..core.rotations import matrix_from_quaternion, rotate
from ..protocol.events import Reporter
from ..runtime.video import read_frames, write_movie

Array = np.ndarray
_SIDE = 960  # px of the longer side
_LINES = (
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
     136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78),
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263),
    (46, 53, 52, 65, 55), (276, 283, 282, 295, 285), (469, 470, 471, 472, 469), (474, 475, 476, 477, 474),
)  # fmt: skip
_SEEN, _BAR = (90, 230, 140), (255, 200, 60)
_BARS = 10
_AXIS_M = 0.06


def draw_overlay(video: Path, track: FaceTrack, out: Path, start: int, report: Reporter) -> None:
    """Write the movie.

    Raises:
        ResourceError: the disk is full.
    """
    count = len(track.times)
    strongest = np.argsort(-np.ptp(track.weights, 0))[:_BARS]
    width, height = track.header["image_size"]
    scale = min(_SIDE / max(width, height), 1.0)
    size = max(round(width * scale), 2), max(round(height * scale), 2)
    with write_movie(out, track.fps, size) as movie:
        for index, _, rgb in read_frames(video, start=start, stop=start + count):
            shown = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            draw(shown, track, index - start, scale, strongest)
            movie.write(shown)
            report.progress("overlay", index - start + 1, count)


def draw(image: Array, track: FaceTrack, row: int, scale: float, shapes: Array) -> None:
    """Draw one frame of a track into a picture of it, in place; `shapes`: which weights are shown."""
    if track.landmarks is not None and np.isfinite(track.landmarks[row]).all():
        points = (track.landmarks[row, :, :2] + 0.5) * scale - 0.5
        for line in _LINES:
            corners = np.round(points[list(line)] * 16).astype(np.int32)
            cv2.polylines(image, [corners], False, _SEEN, 1, cv2.LINE_AA, 4)
    _draw_axes(image, track, row, scale)
    step = max(round(image.shape[0] / 30), 10)
    for place, shape in enumerate(shapes):
        top = 4 + place * step
        long = round(0.22 * image.shape[1] * float(track.weights[row, shape]))
        cv2.rectangle(image, (4, top), (4 + long, top + step - 4), _BAR, -1)
        name = str(track.header["shapes"][shape])
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                image, name, (6, top + step - 6), cv2.FONT_HERSHEY_SIMPLEX, step / 40, colour, thick, cv2.LINE_AA
            )
    if not track.confidence[row]:
        cv2.putText(image, "no face", (6, image.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 80, 80), 2)


def _draw_axes(image: Array, track: FaceTrack, row: int, scale: float) -> None:
    """Draw the head's left (red), front (green) and up (blue) at its face, and where each eye looks."""
    camera = track.header.get("camera")
    if not camera:
        return
    matrix = np.array(camera["matrix"])
    turn, at = matrix_from_quaternion(track.rotations[row]), track.positions[row]

    def pixel(point: Array) -> tuple[int, int]:
        x, y, z = turn @ point + at
        seen = matrix @ [x, -z, max(y, 1e-3)]
        return round((seen[0] / seen[2] + 0.5) * scale - 0.5), round((seen[1] / seen[2] + 0.5) * scale - 0.5)

    base = np.array([0.0, -0.035, 0.0])
    for axis, colour in ((np.array([1.0, 0, 0]), (255, 70, 70)), (np.array([0, -1.0, 0]), (80, 255, 80)),
                         (np.array([0, 0, 1.0]), (90, 140, 255))):  # fmt: skip
        cv2.line(image, pixel(base), pixel(base + _AXIS_M * axis), colour, 2, cv2.LINE_AA)
    for place, eye in zip(([0.031, 0.0, 0.0345], [-0.031, 0.0, 0.0345]), track.eyes[row], strict=True):
        looks = rotate(eye, np.array([0.0, -0.05, 0.0]))
        cv2.line(image, pixel(np.array(place)), pixel(np.array(place) + looks), (255, 240, 60), 1, cv2.LINE_AA)
