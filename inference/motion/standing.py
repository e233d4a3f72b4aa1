"""Which way is up, where the floor is, and which feet stand on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core import contacts as ground
from ..core.humanoid import Skeleton, bone, keypoint
from ..core.rotations import unit
from .clean import Seen
from .grounding import Supports, across_speeds, estimate_camera_up

Array = np.ndarray
_UPRIGHT = np.cos(np.radians(40.0))
_CLEARLY_OFF_M = 0.02


@dataclass(frozen=True)
class Feet:
    """Foot points (T, 4, 3), their weights (T, 4), and how high (4,) they are in a foot that stands."""

    points: Array
    weights: Array
    clearance: Array


@dataclass(frozen=True)
class Ground:
    """The ground: frame -> Z up with the floor at 0, contacts (T, 4), and heights (4,) of foot points that stand."""

    floor_from_frame: Array
    contacts: Array
    clearance: Array

    def level(self, points: Array) -> Array:
        """Points (..., 3) of the frame, as seen from the floor."""
        return points @ self.floor_from_frame[:3, :3].T + self.floor_from_frame[:3, 3]


def stand_on(feet: Feet, *, up: Array, height: float, origin: Array, fps: float) -> Ground:
    """Find the contacts on a camera's floor, whose `height` along `up` is known; see `find_ground` for the axes."""
    transform = ground.floor_transform(up, _heading(up, "camera"), origin, height)
    flat = Ground(transform, np.zeros(feet.weights.shape), feet.clearance)
    level, floor = flat.level(feet.points), ground.Floor(0.0, feet.clearance, len(feet.points))
    speed = across_speeds(feet.points, fps)
    return replace(flat, contacts=ground.find_contacts(level, feet.weights, fps, floor, speed=speed))


def find_ground(feet: Feet, *, up: Array, frame: str, origin: Array, fps: float, move: bool) -> Ground:
    """Find the floor and the contacts.

    A world whose z points up keeps its axes, and its height too unless the floor is clearly off zero. A camera is
    levelled and looks along +Y, with `origin` over x = y = 0. `move`: whether the height follows the floor.
    """
    if frame == "world" and up[2] > 1 - 1e-9:
        transform = np.eye(4)
    else:
        centre = np.zeros(3) if frame == "world" else origin
        transform = ground.floor_transform(up, _heading(up, frame), centre, 0.0)
    flat = Ground(transform, np.zeros(feet.weights.shape), feet.clearance)
    weights = feet.weights if (feet.weights > 0).any() else np.ones_like(feet.weights)
    level = flat.level(feet.points)
    floor = ground.find_floor(level, weights, fps, clearance=feet.clearance)
    if floor is None:
        return flat
    contacts = ground.find_contacts(level, feet.weights, fps, floor)
    kept = frame == "world" and np.array_equal(transform, np.eye(4)) and abs(floor.height) < _CLEARLY_OFF_M
    if move and not kept:
        transform[2, 3] -= floor.height
    return replace(flat, contacts=contacts, clearance=floor.levels - floor.height)


def camera_up(supports: Supports, seen: Seen, skeleton: Skeleton) -> Array:
    """Estimate a camera's upward direction by what bears the person and how the person stands."""
    return estimate_camera_up(supports, *_standing(seen, skeleton))


def estimate_up(feet: Feet, seen: Seen, skeleton: Skeleton, *, guess: Array) -> Array:
    """Refine a crooked world's upward direction by how the person stands and where the feet stood."""
    if np.abs(guess).max() > 1 - 1e-9:
        return guess
    holds = _footholds(feet, guess, seen.fps)
    trunk, trust = _standing(seen, skeleton)
    return ground.estimate_up(trunk, holds, guess=guess, weights=trust)


def guess_up(seen: Seen, skeleton: Skeleton, frame: str) -> Array:
    """First guess of the upward direction: -y of a camera; of a world z, or the axis along which people stand."""
    if frame != "world":
        return np.array([0.0, -1.0, 0.0])
    trunk, weights = _standing(seen, skeleton)
    if not len(trunk):
        return np.array([0.0, 0.0, 1.0])
    mean = unit(np.sum(weights[:, None] * unit(trunk), axis=0))
    if mean[2] > _UPRIGHT:
        return np.array([0.0, 0.0, 1.0])
    axis = int(np.argmax(np.abs(mean)))
    return np.eye(3)[axis] * np.sign(mean[axis]) if abs(mean[axis]) > _UPRIGHT else mean


def _standing(seen: Seen, skeleton: Skeleton) -> tuple[Array, Array]:
    """Directions (N, 3) from hips to neck, with weights (N,), in frames where the person stands with straight legs.

    Where no frame shows legs, all frames count: people at desks sit upright.
    """

    def middle(part: str) -> tuple[Array, Array]:
        index = [keypoint(f"L{part}"), keypoint(f"R{part}")]
        return seen.positions[:, index].mean(axis=1), seen.weights[:, index].min(axis=1)

    (neck, nw), (hips, hw), (ankles, aw) = middle("Shoulder"), middle("Hip"), middle("Ankle")
    trunk, legs = neck - hips, hips - ankles
    weight = np.minimum(nw, hw)
    if (np.minimum(weight, aw) > 0).any():
        whole = skeleton.lengths[bone("thigh.L")] + skeleton.lengths[bone("shin.L")]
        aligned = np.sum(unit(trunk) * unit(legs), axis=-1) > np.cos(np.radians(25.0))
        weight = np.minimum(weight, aw) * aligned * (np.linalg.norm(legs, axis=-1) > 0.88 * whole)
    keep = weight > 0
    return trunk[keep], weight[keep]


def _footholds(feet: Feet, up: Array, fps: float) -> Array:
    """Places (M, 3) where the lower foot stayed for a while, one for each time it did."""
    points = feet.points
    slow = (ground.speeds(points, fps) < 0.25) & (feet.weights > 0)
    height = points @ up
    slow &= height < height.min(axis=1, keepdims=True) + 0.08
    holds = []
    for i in range(points.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], slow[:, i].astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            if stop - start >= max(2, 0.15 * fps):
                holds.append(points[start:stop, i].mean(axis=0))
    return np.array(holds).reshape(-1, 3)


def _heading(up: Array, frame: str) -> Array:
    """What is to point along +Y: where a camera looks; in a world, the axis that keeps z-up worlds as they are."""
    if frame != "world":
        return np.array([0.0, 0.0, 1.0])
    y = np.array([0.0, 1.0, 0.0])
    return y if abs(up @ y) < 0.9 else np.array([0.0, 0.0, -np.sign(up @ y)])
