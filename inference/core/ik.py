"""Inverse kinematics of many frames at once: damped Gauss-Newton on joint angles of a tree of bones.

Each frame is a problem of its own, so that the normal equations of all frames are built and solved as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .rotations import matrix_from_rotvec, rotvec_from_matrix

Array = np.ndarray
CHUNK = 512  # frames solved together: bounds memory, and stays in the cache
_LONGEST_STEP = 0.6  # radians a joint may turn in one iteration


@dataclass(frozen=True)
class Tree:
    """Bones: rest rotation `turn` (B, 3, 3) and head `offset` (B, 3) in the parent's frame; parents before children."""

    parents: Sequence[int]
    turn: Array
    offset: Array


@dataclass(frozen=True)
class Targets:
    """Points carried by `bones` (M,) at `offsets` (M, 3) in their frames, and where they are wanted.

    positions (T, M, 3) metres; weights (T, M), 1 / variance, per square metre; 0 where there is no target.
    """

    bones: Array
    offsets: Array
    positions: Array
    weights: Array


@dataclass(frozen=True)
class Freedom:
    """The ways bones may turn.

    Degree of freedom d turns bone `bones[d]` about unit `axes[d]`, given in the bone's own frame or, where `outer[d]`,
    in its rest frame. `precision` (D,), 1 / rad^2, holds it to the prior pose. Bones in `hinges` (bone, least, most)
    keep their flexion about x within limits, radians.
    """

    bones: Array
    axes: Array
    outer: Array
    precision: Array
    hinges: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class Pose:
    """Local rotations (T, B, 3, 3) relative to rest, and the root's head (T, 3)."""

    turns: Array
    root: Array

    def part(self, frames: slice) -> Pose:
        """Some of the frames."""
        return Pose(self.turns[frames], self.root[frames])


def place(tree: Tree, pose: Pose) -> tuple[Array, Array]:
    """Orientations (T, B, 3, 3) and heads (T, B, 3) of all bones."""
    turns, heads = np.empty_like(pose.turns), np.empty(pose.turns.shape[:-1])
    rest = tree.turn @ pose.turns
    for bone, parent in enumerate(tree.parents):
        if parent < 0:
            turns[:, bone], heads[:, bone] = rest[:, bone], pose.root
        else:
            turns[:, bone] = turns[:, parent] @ rest[:, bone]
            heads[:, bone] = turns[:, parent] @ tree.offset[bone] + heads[:, parent]
    return turns, heads


def refine(tree: Tree, pose: Pose, targets: Targets, freedom: Freedom, *, steps: int = 3) -> Pose:
    """Turn joints and move the root so that points come as near to their targets as the bones allow.

    What no target decides stays near to the given pose.
    """
    parts = []
    problem = _Problem(tree, targets, freedom)
    for start in range(0, len(pose.root), CHUNK):
        frames = slice(start, start + CHUNK)
        part = problem.part(frames)
        now = prior = pose.part(frames)
        for _ in range(steps):
            now = part.step(now, prior)
        parts.append(now)
    return Pose(np.concatenate([p.turns for p in parts]), np.concatenate([p.root for p in parts]))


class _Problem:
    """What stays the same from step to step: which freedom moves which point."""

    def __init__(self, tree: Tree, targets: Targets, freedom: Freedom) -> None:
        self.tree, self.targets, self.freedom = tree, targets, freedom
        above = np.eye(len(tree.parents), dtype=bool)  # above[b, a]: turning a moves b
        for bone, parent in enumerate(tree.parents):
            if parent >= 0:
                above[bone] |= above[parent]
        self.freedoms, self.points = np.nonzero(above[targets.bones][:, freedom.bones].T)
        self.moved = np.unique(freedom.bones)

    def part(self, frames: slice) -> _Problem:
        """The problem of some of the frames."""
        targets = self.targets
        out = _Problem.__new__(_Problem)
        out.__dict__.update(self.__dict__)
        out.targets = replace(targets, positions=targets.positions[frames], weights=targets.weights[frames])
        return out

    def step(self, pose: Pose, prior: Pose) -> Pose:
        """One damped Gauss-Newton step."""
        turns, heads = place(self.tree, pose)
        targets, freedom = self.targets, self.freedom
        count, size = len(heads), len(freedom.bones)
        points = heads[:, targets.bones] + np.einsum("tmij,mj->tmi", turns[:, targets.bones], targets.offsets)
        axes = self._axes(turns, pose)
        jacobian = np.zeros((count, 3 + size, len(targets.bones), 3), np.float32)
        arms = (points[:, self.points] - heads[:, freedom.bones[self.freedoms]]).astype(np.float32)
        jacobian[:, 3 + self.freedoms, self.points] = _cross(axes[:, self.freedoms].astype(np.float32), arms)
        jacobian[:, [0, 1, 2], :, [0, 1, 2]] = 1.0
        scale = np.sqrt(targets.weights)[..., None].astype(np.float32)
        jacobian *= scale[:, None]
        error = np.where(targets.weights[..., None] > 0, targets.positions - points, 0.0).astype(np.float32) * scale
        rows = jacobian.reshape(count, 3 + size, -1)
        normal = (rows @ np.swapaxes(rows, 1, 2)).astype(float)
        gradient = (rows @ error.reshape(count, -1, 1))[..., 0].astype(float)
        pull = np.concatenate([np.full(3, 1e-3), freedom.precision])
        diagonal = np.arange(3 + size)
        normal[:, diagonal, diagonal] += pull + 1e-4 * normal[:, diagonal, diagonal]
        gradient[:, 3:] += freedom.precision * self._away(pose, prior)
        return self._apply(pose, np.linalg.solve(normal, gradient[..., None])[..., 0])

    def _axes(self, turns: Array, pose: Pose) -> Array:
        """(T, D, 3) axes of the freedoms in the world."""
        bones = self.freedom.bones
        inner = np.einsum("tdji,dj->tdi", pose.turns[:, bones], self.freedom.axes)
        local = np.where(self.freedom.outer[:, None], inner, self.freedom.axes)
        return np.einsum("tdij,tdj->tdi", turns[:, bones], local)

    def _away(self, pose: Pose, prior: Pose) -> Array:
        """(T, D) how far each freedom would have to turn to reach the prior pose, radians."""
        now, wanted = pose.turns[:, self.moved], prior.turns[:, self.moved]
        inner = rotvec_from_matrix(np.swapaxes(now, -1, -2) @ wanted)
        outer = np.einsum("tbij,tbj->tbi", now, inner)
        index = np.searchsorted(self.moved, self.freedom.bones)
        away = np.where(self.freedom.outer[:, None], outer[:, index], inner[:, index])
        return np.sum(away * self.freedom.axes, axis=-1)

    def _apply(self, pose: Pose, step: Array) -> Pose:
        turns = pose.turns.copy()
        longest = np.abs(step[:, 3:]).max(axis=1, initial=0.0)
        step = step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-9))[:, None]
        for outer in (False, True):
            chosen = np.flatnonzero(self.freedom.outer == outer)
            if not len(chosen):
                continue
            vectors = np.zeros(turns.shape[:-1])
            for d in chosen:
                vectors[:, self.freedom.bones[d]] += step[:, 3 + d, None] * self.freedom.axes[d]
            moved = np.unique(self.freedom.bones[chosen])
            turn = matrix_from_rotvec(vectors[:, moved])
            turns[:, moved] = turn @ turns[:, moved] if outer else turns[:, moved] @ turn
        for bone, least, most in self.freedom.hinges:
            turns[:, bone] = _limit(turns[:, bone], least, most)
        return Pose(turns, pose.root + step[:, :3])


def flexion(turns: Array) -> Array:
    """Angle (...) about x, radians, of hinge rotations (..., 3, 3) = Rx(flexion) Ry(twist)."""
    return np.arctan2(turns[..., 2, 1], turns[..., 1, 1])


def turn_about(axis: int, angle: Array) -> Array:
    """(..., 3, 3) rotations by (...) radians about x, y or z."""
    out, i, j = np.zeros((*np.shape(angle), 3, 3)), (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1.0
    out[..., i, i] = out[..., j, j] = np.cos(angle)
    out[..., j, i] = np.sin(angle)
    out[..., i, j] = -out[..., j, i]
    return out


def _limit(turns: Array, least: float, most: float) -> Array:
    angle = flexion(turns)
    excess = np.clip(angle, least, most) - angle
    return turns if not excess.any() else turn_about(0, excess) @ turns


def _cross(a: Array, b: Array) -> Array:
    """Cross product along the last axis; several times faster than numpy's for large arrays."""
    out = np.empty_like(b)
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out
