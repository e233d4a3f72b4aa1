"""The upright square about a face in which its relief is read, the same in training and in use."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray
_SIDE_M = 0.19  # of the square on a head of the frame of heads
_EYES_M, _FACE_M = 0.062, 0.0674  # between the eyes; from there to the mouth


@dataclass(frozen=True)
class Square:
    """centre (2,) px, side px, and how far its x axis is turned from the picture's, radians."""

    centre: Array
    side: float
    angle: float

    def matrix(self, size: int) -> Array:
        """(2, 3) from picture to crop, pixels of both with their origin at the centre of the first."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turn = size / self.side * np.array([[c, s], [-s, c]])
        return np.concatenate([turn, ((size - 1) / 2 - turn @ self.centre)[:, None]], 1)

    def place(self, points: Array, depth: Array) -> Array:
        """(N, 3) of points (N, 2) px with depth (N,) px, in sides of the crop: 0 to 1 across it."""
        matrix = self.matrix(1)
        return np.concatenate([points @ matrix[:, :2].T + matrix[:, 2] + 0.5, depth[:, None] / self.side], 1)

    def cut(self, image: Array, size: int) -> Array:
        """(size, size, 3) crop of a picture, smoothed as far as it shrinks."""
        shrink = self.side / size
        if shrink > 1.5:
            image = cv2.GaussianBlur(image, (0, 0), 0.4 * shrink)
        return cv2.warpAffine(image, self.matrix(size), (size, size), flags=cv2.INTER_LINEAR)


def square(eyes: Array, mouth: Array) -> Square:
    """About eyes (2, 2) px, left first, and corners of the mouth (2, 2)."""
    upper, lower = eyes.mean(0), mouth.mean(0)
    across = eyes[0] - eyes[1]
    side = _SIDE_M * max(np.linalg.norm(across) / _EYES_M, np.linalg.norm(upper - lower) / _FACE_M)
    return Square((upper + lower) / 2, float(side), float(np.arctan2(across[1], across[0])))


def of_points(points: Array) -> Square:
    """About a face by the detector's points (478, 2) px."""
    eyes = np.stack([points[[263, 362]].mean(0), points[[33, 133]].mean(0)])
    return square(eyes, points[[291, 61]])
