"""Fingers from keypoints: knuckles are hinges, and close one way only."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..core import ik
from ..core.filters import fill_rotations
from ..core.humanoid import FINGERS, Skeleton, bone, keypoint
from ..core.rotations import between, cross, matrix_from_quaternion, quaternion_from_matrix, unit

Array = np.ndarray
_SPREAD = 0.45  # radians a finger moves sideways
_ROOT, _MIDDLE, _TIP = (-0.6, 1.7), (-0.15, 1.95), (-0.25, 1.5)  # limits of flexion, radians
_THUMB_TWIST = 0.8
_PRIOR = np.array([30.0, 60.0, 30.0, 60.0])  # precision of flexion, spread, flexion, flexion against the first solution
_PRECISION = 1.0 / 0.005**2
_STEPS = 2


def solve_fingers(skeleton: Skeleton, world: Array, positions: Array, weights: Array) -> tuple[Array, Array]:
    """Local rotations (T, 2, 15, 3, 3) of the left and right hand's finger bones, and where each is shown (T, 2, 15).

    Thumbs come first. `world` (T, B, 3, 3): orientations of the bones, of which the hands' are used.
    """
    count, index, first, hands = len(world), *_tables()
    seen = (weights[:, index] > 0).all(axis=3)
    base = world[:, hands, None] @ skeleton.local_turn[first]
    straight = np.arange(4.0)[:, None] * base[..., None, :, 1]
    joints = np.where(seen[..., None, None], positions[:, index], straight)
    local = np.einsum("tsfji,tsfkj->tsfki", base, joints - joints[..., :1, :])
    lengths = np.tile(skeleton.lengths[first[:, 1:, None] + np.arange(3)].reshape(-1, 3), (count, 1))
    thumbs = _thumb(local[:, :, 0].reshape(-1, 4, 3)).reshape(count, 2, 3, 3, 3)  # (2 T) rows, then (T, 2)
    fingers = _finger(local[:, :, 1:].reshape(-1, 4, 3), lengths).reshape(count, 2, 12, 3, 3)
    return np.concatenate([thumbs, fingers], axis=2), np.repeat(seen, 3, axis=2)


@cache
def _tables() -> tuple[Array, Array, Array]:
    """Keypoints (2, 5, 4) of the fingers of both hands, their first bones (2, 5), and the hands' bones (2,)."""
    index = [[[keypoint(f"{s}Hand{name.capitalize()}{i}") for i in (1, 2, 3, 4)] for name in FINGERS] for s in "LR"]
    first = [[bone(f"{finger}.01.{side}") for finger in FINGERS] for side in "LR"]
    return np.array(index), np.array(first), np.array([bone("hand.L"), bone("hand.R")])


def fill_fingers(turns: Array, known: Array, relaxed: Array, *, gap: int, decay: float) -> Array:
    """Rotations with unseen fingers relaxed; (T, 15, 3, 3) in and out."""
    quaternions = fill_rotations(quaternion_from_matrix(turns), known, relaxed, max_gap=gap, decay=decay)
    return matrix_from_quaternion(quaternions)


def _finger(points: Array, lengths: Array) -> Array:
    """Bend and spread (T, 3, 3, 3) of fingers with (T, 3) lengths from their joints (T, 4, 3) in their rest frames."""
    angles = _first_angles(points)
    start = angles
    for _ in range(_STEPS):
        angles = _limited(angles + _step(angles, start, points[:, 1:], lengths))
    bend, spread, middle, tip = angles.T
    root = ik.turn_about(0, bend) @ ik.turn_about(2, spread)
    return np.stack([root, ik.turn_about(0, middle), ik.turn_about(0, tip)], axis=1)


def _first_angles(points: Array) -> Array:
    directions = unit(np.diff(points, axis=1))
    first = directions[:, 0]
    bend = np.where(np.hypot(first[:, 1], first[:, 2]) > 0.2, np.arctan2(first[:, 2], first[:, 1]), 0.0)
    spread = -np.arcsin(np.clip(first[:, 0], -1.0, 1.0))
    bend, spread = np.clip(bend, *_ROOT), np.clip(spread, -_SPREAD, _SPREAD)
    frame = ik.turn_about(0, bend) @ ik.turn_about(2, spread)
    middle = _hinge(frame, directions[:, 1], _MIDDLE)
    tip = _hinge(frame @ ik.turn_about(0, middle), directions[:, 2], _TIP)
    return np.stack([bend, spread, middle, tip], axis=-1)


def _hinge(frame: Array, direction: Array, limits: tuple[float, float]) -> Array:
    """Flexion (T,) about x of `frame` that turns its y nearest to a direction."""
    local = np.einsum("tji,tj->ti", frame, direction)
    return np.clip(np.arctan2(local[:, 2], local[:, 1]), *limits)


def _limited(angles: Array) -> Array:
    low = [_ROOT[0], -_SPREAD, _MIDDLE[0], _TIP[0]]
    high = [_ROOT[1], _SPREAD, _MIDDLE[1], _TIP[1]]
    return np.clip(angles, low, high)


def _step(angles: Array, start: Array, targets: Array, lengths: Array) -> Array:
    """One Gauss-Newton step (T, 4) towards joints at `targets` (T, 3, 3)."""
    bend, spread, middle, tip = angles.T
    frame = ik.turn_about(0, bend) @ ik.turn_about(2, spread)
    flat = [np.zeros((len(angles), 3)) for _ in range(3)]  # bones in the plane of the finger
    for bone_, angle in zip(flat, (np.zeros_like(bend), middle, middle + tip), strict=True):
        bone_[:, 1], bone_[:, 2] = np.cos(angle), np.sin(angle)
    bones = np.stack(flat, axis=1) * lengths[..., None]
    ends = np.cumsum(bones, axis=1)
    x, z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    placed = np.einsum("tij,tkj->tki", frame, ends)
    jacobian = np.zeros((len(angles), 3, 3, 4))
    jacobian[..., 0] = cross(x, placed)
    jacobian[..., 1] = np.einsum("tij,tkj->tki", frame, cross(z, ends))
    jacobian[:, 1:, :, 2] = np.einsum("tij,tkj->tki", frame, cross(x, ends[:, 1:] - ends[:, :1]))
    jacobian[:, 2, :, 3] = np.einsum("tij,tj->ti", frame, cross(x, bones[:, 2]))
    rows = jacobian.reshape(len(angles), 9, 4)
    error = (targets - placed).reshape(len(angles), 9, 1)
    normal = _PRECISION * np.swapaxes(rows, 1, 2) @ rows + np.diag(_PRIOR)
    gradient = _PRECISION * (np.swapaxes(rows, 1, 2) @ error)[..., 0] + _PRIOR * (start - angles)
    return np.clip(np.linalg.solve(normal, gradient[..., None])[..., 0], -0.6, 0.6)


def _thumb(points: Array) -> Array:
    """Rotations (T, 3, 3, 3) of the thumb: a ball joint at its root, whose twist the bend shows, then two hinges."""
    directions = unit(np.diff(points, axis=1))
    y = np.broadcast_to([0.0, 1.0, 0.0], directions[:, 0].shape)
    swing = matrix_from_quaternion(between(y, directions[:, 0]))
    normal = cross(directions[:, 0], directions[:, 1]) + cross(directions[:, 1], directions[:, 2])
    flat = np.einsum("tji,tj->ti", swing, normal) + [0.15, 0.0, 0.0]
    twist = np.clip(np.arctan2(-flat[:, 2], flat[:, 0]), -_THUMB_TWIST, _THUMB_TWIST)
    root = swing @ ik.turn_about(1, twist)
    middle = _hinge(root, directions[:, 1], _MIDDLE)
    tip = _hinge(root @ ik.turn_about(0, middle), directions[:, 2], _TIP)
    return np.stack([root, ik.turn_about(0, middle), ik.turn_about(0, tip)], axis=1)
