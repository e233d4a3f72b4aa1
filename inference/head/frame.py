"""The one frame in which heads are learnt and fitted, and the way into and out of its unit sphere.

Metres, z up, facing -y, by landmarks: every head is brought there by the similarity between its landmarks and the mean
ones, so that eyes meet eyes. The sphere holds the head and the upper neck.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
LANDMARKS = ("eye.L", "eye.R", "nose", "chin", "mouth.L", "mouth.R")
# means of avatars and of people drawn from the head model; the middles of the eyes are 62 mm apart
MEAN_LANDMARKS = np.array(
    [
        [0.0310, 0.0196, 0.0345],
        [-0.0310, 0.0196, 0.0345],
        [0.0, -0.0305, -0.0031],
        [0.0, -0.0087, -0.0660],
        [0.0197, -0.0084, -0.0329],
        [-0.0197, -0.0084, -0.0329],
    ]
)
CENTRE = np.array([0.0, 0.09, 0.03])  # of the sphere, metres
RADIUS = 0.21  # metres


def to_sphere(points: Array) -> Array:
    """(..., 3) metres in the frame of heads -> the unit sphere."""
    return (points - CENTRE) / RADIUS


def from_sphere(points: Array) -> Array:
    """(..., 3) of the unit sphere -> metres in the frame of heads."""
    return points * RADIUS + CENTRE


def similarity(moving: Array, fixed: Array, weights: Array | None = None) -> tuple[float, Array, Array]:
    """Scale, rotation (3, 3) and translation (3,) that bring (N, 3) points onto others (Umeyama 1991)."""
    w = np.ones(len(moving)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    a, b = w @ moving, w @ fixed
    u, s, vt = np.linalg.svd((fixed - b).T @ (w[:, None] * (moving - a)))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / (w @ np.square(moving - a).sum(1)))
    return scale, rotation, b - scale * rotation @ a
