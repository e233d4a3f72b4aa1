"""Faces in a mirror: what points, weights and people become there; a face is read as well from the one as the other."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ..core.face_shapes import SHAPES
from .response import Response

Array = np.ndarray
TURN = np.array([1.0, -1.0, -1.0])  # what a turn (3,) rad is multiplied with
_FLIP = np.array([-1.0, 1.0, 1.0])


class Mirror:
    """points (478,) and weights (52,): which of them each becomes."""

    def __init__(self, response: Response) -> None:
        self.points, self.weights = mirrored_points(response.mean), swapped_sides()
        modes = response.modes.reshape(len(response.modes), -1)
        moved = (response.modes[:, self.points] * _FLIP).reshape(len(modes), -1)
        off = (response.mean[self.points] * _FLIP - response.mean).ravel()
        solve = np.linalg.inv(modes @ modes.T + 1e-6 * np.eye(len(modes))) @ modes
        self._who, self._off = moved @ solve.T, solve @ off

    def who(self, who: Array) -> Array:
        """(K,) somebody in a mirror, as near as the response's people come."""
        return who @ self._who + self._off

    def left(self, left: Array) -> Array:
        """(T, 478, 2) what is left of points, upright with the face."""
        return left[:, self.points] * _FLIP[:2]

    def views(self, views: Array) -> Array:
        """(T, 2) from where a face is seen (`reader.views_of`)."""
        return views * _FLIP[:2]


def mirrored_points(mean: Array) -> Array:
    """(478,) the point that each becomes, by a face (478, 3) that is nearly the same on both sides."""
    return linear_sum_assignment(cdist(mean * _FLIP, mean))[1]


def swapped_sides() -> Array:
    """(52,) the shape that each becomes."""

    def other(name: str) -> str:
        for a, b in (("Left", "Right"), ("Right", "Left")):
            if name.endswith(a):
                return name.removesuffix(a) + b
        return name

    return np.array([SHAPES.index(other(name)) for name in SHAPES])
