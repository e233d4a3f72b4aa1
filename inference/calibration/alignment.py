"""Rigs laid over each other: a similarity for each, found from cameras that may have moved, and what is left after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..core.cameras import Camera, CameraSet
from ..core.rotations import matrix_from_rotvec, nearest_rotation, rotvec_from_matrix

Array = np.ndarray
_ROUNDS = 30
_LEAST_DEG, _LEAST_SHARE = 0.05, 1e-3  # how far apart cameras are that surely have not moved


@dataclass(frozen=True)
class Similarity:
    """x -> scale * turn @ x + shift."""

    scale: float
    turn: Array
    shift: Array

    def points(self, points: Array) -> Array:
        """Move (..., 3) points."""
        return self.scale * points @ self.turn.T + self.shift

    def cameras(self, cameras: CameraSet) -> CameraSet:
        """Move a rig, so that it sees moved points where it saw them before."""
        moved = []
        for camera in cameras:
            rotation = camera.rotation @ self.turn.T
            moved.append(replace(camera, rotation=rotation, translation=-rotation @ self.points(camera.centre)))
        return CameraSet(tuple(moved))


def scaled(cameras: CameraSet, factor: float) -> CameraSet:
    """Change a rig's unit of length."""
    return Similarity(factor, np.eye(3), np.zeros(3)).cameras(cameras)


def lay_over(cameras: CameraSet, given: CameraSet, *, robust: bool = True) -> Similarity:
    """Find the similarity after which a rig agrees with the given one, whatever a minority of its cameras does.

    Scale follows the median of the baselines, turn and shift the cameras by robust weights: of places and directions
    alike, so that two cameras are enough. `robust` False: all cameras count the same (least squares).
    """
    scale = _scale(cameras, given)
    turn = _middle_turn([a.rotation.T @ b.rotation for a, b in zip(given, cameras, strict=True)])
    centres, wanted = (np.stack([camera.centre for camera in rig]) for rig in (cameras, given))
    size = max(float(np.linalg.norm(wanted - wanted.mean(0), axis=-1).max()), 1e-9)
    weight = np.ones(len(cameras))
    for _ in range(_ROUNDS if robust else 1):
        turn = _fit_turn(cameras, given, scale, weight, size)
        shift = (weight @ (wanted - scale * centres @ turn.T)) / weight.sum()
        off = np.linalg.norm(wanted - scale * centres @ turn.T - shift, axis=-1) / size
        turned = [angle(a.rotation @ turn.T, b.rotation) for a, b in zip(cameras, given, strict=True)]
        off = np.maximum(off, np.radians(turned))
        weight = 1.0 / np.maximum(off, _LEAST_SHARE)
    return Similarity(scale, turn, shift)


def _fit_turn(cameras: CameraSet, given: CameraSet, scale: float, weight: Array, size: float) -> Array:
    """Least squares over the axes of all cameras and the places of their centres (Kabsch)."""
    pulls = np.zeros((3, 3))
    for camera, start, w in zip(cameras, given, weight, strict=True):
        pulls += w * size**2 * start.rotation.T @ camera.rotation
    centres, wanted = (np.stack([camera.centre for camera in rig]) for rig in (cameras, given))
    middle = [(weight @ places) / weight.sum() for places in (centres, wanted)]
    pulls += np.einsum("n,ni,nj->ij", weight, wanted - middle[1], scale * (centres - middle[0]))
    return nearest_rotation(pulls)


def _scale(cameras: CameraSet, given: CameraSet) -> float:
    ratios = []
    for i, j in combinations(range(len(cameras)), 2):
        own, wanted = (np.linalg.norm(rig[i].centre - rig[j].centre) for rig in (cameras, given))
        if own > 1e-9 and wanted > 1e-9:
            ratios.append(wanted / own)
    return float(np.median(ratios)) if ratios else 1.0


def _middle_turn(turns: Sequence[Array]) -> Array:
    """Median of rotations: the one from which the others differ least in sum (Weiszfeld)."""
    middle = min(turns, key=lambda turn: sum(angle(turn, other) for other in turns))
    for _ in range(20):
        off = np.stack([rotvec_from_matrix(middle.T @ turn) for turn in turns])
        weight = 1.0 / np.maximum(np.linalg.norm(off, axis=-1), np.radians(_LEAST_DEG))
        middle = middle @ matrix_from_rotvec(weight @ off / weight.sum())
    return middle


def angle(a: Array, b: Array) -> float:
    """Degrees between two rotations."""
    return float(np.degrees(np.linalg.norm(rotvec_from_matrix(a @ b.T))))


@dataclass(frozen=True)
class Difference:
    """How far cameras are from given ones: places in metres, as a share of the mean baseline, directions in degrees."""

    metres: Array
    share: Array
    degrees: Array


def difference(cameras: Sequence[Camera], given: Sequence[Camera]) -> Difference:
    """Compare two rigs, camera by camera."""
    places = np.array([np.linalg.norm(a.centre - b.centre) for a, b in zip(cameras, given, strict=True)])
    pairs = list(combinations(given, 2))
    baseline = float(np.mean([np.linalg.norm(a.centre - b.centre) for a, b in pairs])) if pairs else np.nan
    degrees = np.array([angle(a.rotation, b.rotation) for a, b in zip(cameras, given, strict=True)])
    return Difference(places, places / max(baseline, 1e-9), degrees)
