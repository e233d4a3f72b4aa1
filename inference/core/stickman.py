"""A pose in space as a picture of coloured sticks, seen by any camera: what image generators take as control frames.

Every stick has its depth at every pixel, so what is nearer hides what is farther. Colours and thicknesses are those
of OpenPose as ControlNet was trained on them: 18 points of the body, rainbows for fingers, white dots for the face.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .cameras import Camera, project
from .skeletons import BODY, BODY_25_PARENTS, FACE, HAND_21_PARENTS, LEFT_HAND, OPENPOSE_137, RIGHT_HAND

Array = np.ndarray
Style = Literal["openpose", "stickman"]

_REFERENCE_PX = 512.0  # shorter side of the pictures that the thicknesses below belong to
_STICK, _DOT, _FINGER, _FACE_DOT = 4.0, 4.0, 1.0, 3.0  # half widths and radii, px of the reference
_THICKEST = 0.04  # of the size of a part: thinner where people are far away
_DIMMED = 0.6  # of sticks against dots, as OpenPose blends them
_RAINBOW = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
# OpenPose's 18 points as indices of BODY_25, and its 17 sticks between them in the order of their colours.
_COCO_18 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
_STICKS_18 = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
_BLUE, _WHITE = (0, 0, 255), (255, 255, 255)


@dataclass(frozen=True)
class _Stick:
    """A capsule from keypoint `start` to `end` (the same for a dot), of a half width in pixels of the reference."""

    start: int
    end: int
    width: float
    color: tuple[float, ...]


def control_frame(
    points_m: Array, camera: Camera, *, style: Style = "openpose", hands: bool = True, face: bool = True
) -> Array:
    """Draw one or several people: (H, W, 3) uint8 sRGB on black.

    Args:
        points_m: (137, 3) or (P, 137, 3) metres in the camera's world, NaN where unknown.
    """
    people = points_m.reshape(-1, len(OPENPOSE_137), 3)
    width, height = camera.size
    canvas, nearest = np.zeros((height, width, 3), np.float32), np.full((height, width), np.inf, np.float32)
    scale = min(camera.size) / _REFERENCE_PX
    parts = _parts(style, hands=hands, face=face)
    for points in people:
        pixels, depth = project(camera, points), (points @ camera.rotation.T + camera.translation)[:, 2]
        known = np.isfinite(pixels).all(-1) & (depth > 0)
        for part, sticks in parts:
            shown = pixels[part][known[part]]
            most = _THICKEST * float(np.ptp(shown, axis=0).max()) if len(shown) > 1 else np.inf
            for stick in sticks:
                if known[stick.start] and known[stick.end]:
                    ends, radius = [stick.start, stick.end], max(min(stick.width * scale, most), 0.5)
                    _draw(canvas, nearest, (pixels[ends], depth[ends]), (radius, stick.color))
    return np.round(canvas).astype(np.uint8)


def _parts(style: Style, *, hands: bool, face: bool) -> list[tuple[slice, list[_Stick]]]:
    """Keypoints of each part, and what is drawn of it."""
    parts = [(BODY, list(_body_18() if style == "openpose" else _body_25()))]
    if hands:
        parts += [(side, list(_hand(side.start))) for side in (LEFT_HAND, RIGHT_HAND)]
    if face:
        parts.append((FACE, [_Stick(i, i, _FACE_DOT, _WHITE) for i in range(FACE.start, FACE.stop)]))
    return parts


def _dimmed(color: Sequence[float]) -> tuple[float, ...]:
    return tuple(_DIMMED * value for value in color)


def _body_18() -> Iterator[_Stick]:
    for (start, end), color in zip(_STICKS_18, _RAINBOW, strict=False):
        yield _Stick(_COCO_18[start], _COCO_18[end], _STICK, _dimmed(color))
    for index, color in zip(_COCO_18, _RAINBOW, strict=True):
        yield _Stick(index, index, _DOT, color)


def _body_25() -> Iterator[_Stick]:
    """Every limb of BODY_25, feet included, each in a colour of its own."""
    count = len(BODY_25_PARENTS)
    colors = [tuple(255 * value for value in colorsys.hsv_to_rgb(index / count, 1, 1)) for index in range(count)]
    for index, parent in enumerate(BODY_25_PARENTS):
        if parent >= 0:
            yield _Stick(parent, index, _STICK, _dimmed(colors[index]))
    for index, color in enumerate(colors):
        yield _Stick(index, index, _DOT, color)


def _hand(first: int) -> Iterator[_Stick]:
    edges = [(parent, index) for index, parent in enumerate(HAND_21_PARENTS) if parent >= 0]
    for number, (start, end) in enumerate(edges):
        color = tuple(255 * value for value in colorsys.hsv_to_rgb(number / len(edges), 1, 1))
        yield _Stick(first + start, first + end, _FINGER, color)
    for index in range(len(HAND_21_PARENTS)):
        yield _Stick(first + index, first + index, _DOT, _BLUE)


def _draw(canvas: Array, nearest: Array, ends: tuple[Array, Array], look: tuple[float, Sequence[float]]) -> None:
    """Draw a capsule where nothing nearer stands; its edge is smooth, its depth that of the straight line in space."""
    (pixels, depth), (radius, color) = ends, look
    low = np.floor(pixels.min(0) - radius - 1).astype(int).clip(0)
    high = (np.ceil(pixels.max(0) + radius + 1).astype(int) + 1).clip(0, (canvas.shape[1], canvas.shape[0]))
    if (high <= low).any():
        return
    rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]]
    axis = pixels[1] - pixels[0]
    along = ((columns - pixels[0, 0]) * axis[0] + (rows - pixels[0, 1]) * axis[1]) / max(float(axis @ axis), 1e-9)
    along = np.clip(along, 0.0, 1.0)
    away = np.hypot(columns - pixels[0, 0] - along * axis[0], rows - pixels[0, 1] - along * axis[1])
    cover = np.clip(radius + 0.5 - away, 0.0, 1.0)
    z = 1.0 / ((1.0 - along) / depth[0] + along / depth[1])  # 1 / z is linear in the image
    area = slice(low[1], high[1]), slice(low[0], high[0])
    front = (cover > 0) & (z <= nearest[area] * (1 + 1e-6))
    share = np.where(front, cover, 0.0)[..., None]
    canvas[area] = canvas[area] * (1.0 - share) + share * np.asarray(color, np.float32)
    nearest[area] = np.where(front & (cover >= 0.5), z, nearest[area])
