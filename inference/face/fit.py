"""Points of a face over time -> who it is, once, and what it does in each frame: Gauss-Newton with bounds.

Poses are eliminated from each frame's problem (Schur complement), so that what is left is one quadratic problem in the
weights of all frames, bounded and tied over time (`solve`). Jacobians of weights are those of a weak perspective, for
which their products with the noise's inverse covariance are computed once; residuals are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.face_shapes import SHAPES
from ..core.rotations import matrix_from_rotvec
from ..head.frame import similarity
from .response import Response, view_features
from .solve import bounded

Array = np.ndarray
_SHAPES = len(SHAPES)
_CHUNK = 128  # frames whose Jacobians are held in memory
_STEPS = 3  # of Gauss and Newton for each frame
_IDENTITY_STEPS = 5
_IDENTITY_FRAMES = 48
_INDEPENDENT = 3.0  # frames of one person that tell as much of the person as if their errors were independent
_POSE_TRUST = np.array([0.25, 0.25, 0.25, 0.05, 0.05, 0.2]) ** -2.0  # how far a step goes: rad and metres
_HUBER = 3.0  # of the expected size of a whole frame's errors


@dataclass(frozen=True)
class Poses:
    """Camera-from-head: rotations (T, 3, 3), translations (T, 3) m; OpenCV's camera."""

    rotations: Array
    translations: Array

    def __getitem__(self, rows: Array) -> Poses:
        return Poses(self.rotations[rows], self.translations[rows])

    def moved(self, steps: Array) -> Poses:
        """Poses after turns and shifts (T, 6), rad and metres in the camera's frame."""
        return Poses(matrix_from_rotvec(steps[:, :3]) @ self.rotations, self.translations + steps[:, 3:])


@dataclass(frozen=True)
class Fitted:
    """identity (K,); weights (T, 52) in [0, 1]; poses; misfit (T,): 1 where errors are as large as expected.

    raw (T, 52): weights of each frame by itself.
    """

    identity: Array
    weights: Array
    poses: Poses
    misfit: Array
    raw: Array


class Fitter:
    """Everything of a response that does not depend on a frame."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._basis = np.concatenate([response.shapes, response.modes])  # (52 + K, 478, 3)
        self._diagonal, self._low = response.white
        size, points = self._basis.shape[:2]
        flat = np.ascontiguousarray(self._basis.transpose(2, 0, 1)).reshape(3 * size, points)
        d, low = self._diagonal.reshape(points, 2), self._low.reshape(points, 2, -1)
        seen = np.concatenate([flat @ low[:, i] for i in range(2)])  # U' B
        products = np.negative(seen @ seen.T)  # of both axes of rays with all three of heads
        for i, part in enumerate((slice(3 * size), slice(3 * size, None))):
            products[part, part] += (flat * d[:, i]) @ flat.T
        self._products = products.reshape(6, size, 6, size).transpose(0, 2, 1, 3).reshape(36, size, size)
        self._few = self._products[:, :_SHAPES, :_SHAPES].reshape(36, _SHAPES * _SHAPES).copy()

    def start(self, rays: Array, depth: Array) -> Poses:
        """Poses of the mean head; rays (T, 478, 2) are (x, y) / z, depth (T, 478) in the same unit."""
        rotations, translations = np.empty((len(rays), 3, 3)), np.empty((len(rays), 3))
        for t, (seen, deep) in enumerate(zip(rays, depth, strict=True)):
            scale, turn, move = similarity(self.response.mean[:468], np.concatenate([seen, deep[:, None]], 1)[:468])
            rotations[t], translations[t] = turn, [*(move[:2] / scale), 1.0 / scale]
        return Poses(rotations, translations)

    def identity(self, rays: Array, depth: Array) -> Array:
        """(K,) who it is, from frames (F, 478, 2) that differ; expressions are fitted beside."""
        poses, count = self.start(rays, depth), len(self.response.modes)
        weights, who = np.zeros((len(rays), _SHAPES)), np.zeros(count)
        share = min(1.0, _INDEPENDENT / len(rays))
        for _ in range(_IDENTITY_STEPS):
            system = self._system(rays, weights, poses, who, whole=True)
            ww, wa = system.hessian[:, :_SHAPES, :_SHAPES], system.hessian[:, :_SHAPES, _SHAPES:]
            aa, ga = system.hessian[:, _SHAPES:, _SHAPES:], system.gradient[:, _SHAPES:]
            ww = ww + self.response.precision
            gw = system.gradient[:, :_SHAPES] - self.response.sparse
            slope = _slope(ww, weights, gw - wa @ who)
            free = ~(((weights <= 0) & (slope > 0)) | ((weights >= 1) & (slope < 0)))
            inner = ww * (free[:, :, None] & free[:, None, :])
            inner[:, np.arange(_SHAPES), np.arange(_SHAPES)] += ~free
            held = gw - np.matmul(ww, np.where(free, 0.0, weights)[..., None])[..., 0]
            both = np.linalg.solve(inner, np.concatenate([wa * free[..., None], (held * free)[..., None]], 2))
            back = np.swapaxes(wa, 1, 2) * free[:, None, :]
            reduced = aa - back @ both[..., :-1]
            right = ga - (back @ both[..., -1:])[..., 0]
            right -= np.matmul(np.swapaxes(wa, 1, 2), np.where(free, 0.0, weights)[..., None])[..., 0]
            who = np.linalg.solve(share * reduced.sum(0) + np.eye(count), share * right.sum(0))
            weights = bounded(ww, gw - wa @ who, np.zeros(_SHAPES), start=weights)
            poses = system.moved(weights, who)
        return who

    def express(self, rays: Array, depth: Array, who: Array, stiff: Array) -> Fitted:
        """What a known face does; stiff (52,): how strongly second differences of weights are held down."""
        poses, weights = self.start(rays, depth), np.zeros((len(rays), _SHAPES))
        misfit = np.ones(len(rays))
        for step in range(_STEPS):
            parts = []
            hessian, gradient = np.empty((len(rays), _SHAPES, _SHAPES)), np.empty((len(rays), _SHAPES))
            for first in range(0, len(rays), _CHUNK):
                rows = np.arange(first, min(first + _CHUNK, len(rays)))
                system = self._system(rays[rows], weights[rows], poses[rows], who)
                believed = 1.0 / np.maximum(system.misfit / _HUBER, 1.0)
                hessian[rows] = system.hessian * believed[:, None, None] + self.response.precision
                gradient[rows] = system.gradient * believed[:, None] - self.response.sparse
                misfit[rows] = system.misfit
                parts.append(system)
            last = step == _STEPS - 1
            weights = bounded(hessian, gradient, stiff if last else np.zeros(_SHAPES), start=weights)
            poses = _joined([system.moved(weights[rows], None) for system, rows in _with_rows(parts)])
        return Fitted(who, weights, poses, misfit, weights)

    def posed(self, rays: Array, weights: Array, who: Array, poses: Poses, steps: int) -> Poses:
        """Poses of a face whose weights are known, from poses nearby."""
        for _ in range(steps):
            parts = []
            for rows in np.array_split(np.arange(len(rays)), -(-len(rays) // _CHUNK)):
                before = poses[rows]
                line = self._linearised(rays[rows], weights[rows], before, who)
                parts.append(before.moved(np.linalg.solve(line.hessian, line.gradient[..., None])[..., 0]))
            poses = _joined(parts)
        return poses

    def residuals(self, rays: Array, weights: Array, poses: Poses, who: Array) -> Array:
        """(T, 478, 2) metres at the points' depths, upright with the face: seen less expected."""
        placed, _ = self.placed(weights, poses, who)
        left = (rays - placed[..., :2] / placed[..., 2:]) * placed[..., 2:]
        return left @ np.swapaxes(upright_of(poses.rotations), 1, 2)

    def rest(self, poses: Poses, who: Array) -> Array:
        """(T, 478, 2) rays to the points of somebody who does nothing."""
        placed, _ = self.placed(np.zeros((len(poses.rotations), _SHAPES)), poses, who)
        return placed[..., :2] / placed[..., 2:]

    def placed(self, weights: Array, poses: Poses, who: Array) -> tuple[Array, Array]:
        """Points (T, 478, 3) in the camera's frame, and the same without the translation."""
        response = self.response
        face = response.mean + np.tensordot(who, response.modes, 1)
        face = face + np.tensordot(weights, response.shapes, 1)
        face = face + np.tensordot(view_features(poses.rotations, poses.translations), response.views, 1)
        turned = face @ np.swapaxes(poses.rotations, 1, 2)
        return turned + poses.translations[:, None], turned

    def _system(self, rays: Array, weights: Array, poses: Poses, who: Array, *, whole: bool = False) -> _System:
        """Linearise frames about weights and poses; `whole`: in the identity, too."""
        line = self._linearised(rays, weights, poses, who)
        level = np.matmul(line.upright, _level(poses.translations)) @ poses.rotations  # (T, 2, 3)
        size = len(self._basis) if whole else _SHAPES
        # B' Q' W [J r]
        carried = np.einsum("tik,tpin->tpkn", level, line.white.reshape(*rays.shape[:2], 2, 7), optimize=True)
        mixed = self._basis[:size].reshape(size, -1) @ carried.reshape(len(rays), -1, 7)
        pairs = np.einsum("tik,tjl->tikjl", level, level).reshape(len(rays), 36)
        products = self._products.reshape(36, -1) if whole else self._few
        hessian = (pairs @ products).reshape(len(rays), size, size)
        both = np.concatenate([np.swapaxes(mixed[..., :6], 1, 2), line.gradient[..., None]], 2)
        solved = np.linalg.solve(line.hessian, both)
        hessian = hessian - mixed[..., :6] @ solved[..., :-1]
        gradient = mixed[..., 6] - (mixed[..., :6] @ solved[..., -1:])[..., 0]
        point = weights if not whole else np.concatenate([weights, np.broadcast_to(who, (len(rays), len(who)))], 1)
        gradient = gradient + np.matmul(hessian, point[..., None])[..., 0]  # about zero, not about the guess
        return _System(hessian, gradient, poses, point, solved, line.misfit)

    def _linearised(self, rays: Array, weights: Array, poses: Poses, who: Array) -> _Line:
        """Linearise frames in their poses."""
        response = self.response
        placed, turned = self.placed(weights, poses, who)
        upright = upright_of(poses.rotations)  # (T, 2, 2)
        residual = (rays - placed[..., :2] / placed[..., 2:]) * placed[..., 2:]
        residual = residual @ np.swapaxes(upright, 1, 2)
        slant = np.zeros((*rays.shape[:2], 2, 3))
        slant[..., 0, 0] = slant[..., 1, 1] = 1.0
        slant[..., 2] = -rays
        slant = np.matmul(upright[:, None], slant)
        turn = np.zeros((*turned.shape[:2], 3, 6))
        turn[..., 0, 1], turn[..., 0, 2] = turned[..., 2], -turned[..., 1]
        turn[..., 1, 0], turn[..., 1, 2] = -turned[..., 2], turned[..., 0]
        turn[..., 2, 0], turn[..., 2, 1] = turned[..., 1], -turned[..., 0]
        turn[..., 3:] = np.eye(3)
        slide = np.tensordot(_view_slopes(poses), response.views, ((1,), (0,)))  # (T, 3, 478, 3)
        turn[..., :3] += np.einsum("tij,tkpj->tpik", poses.rotations, slide, optimize=True)
        jacobian = np.matmul(slant, turn)  # (T, 478, 2, 6)
        both = np.concatenate([jacobian, residual[..., None]], -1).reshape(len(rays), -1, 7)
        white = both * self._diagonal[:, None] - self._low @ (self._low.T @ both)
        posed = np.swapaxes(both, 1, 2) @ white  # (T, 7, 7)
        misfit = np.sqrt((posed[:, 6, 6] / both.shape[1]).clip(0))
        return _Line(upright, white, posed[:, :6, :6] + np.diag(_POSE_TRUST), posed[:, :6, 6], misfit)


@dataclass(frozen=True)
class _Line:
    """Of frames: the whitened Jacobian in poses and residual (T, 956, 7), and normal equations in poses."""

    upright: Array
    white: Array
    hessian: Array
    gradient: Array
    misfit: Array


@dataclass(frozen=True)
class _System:
    """Normal equations of frames in their weights (and the identity), and how poses follow."""

    hessian: Array
    gradient: Array
    poses: Poses
    point: Array
    solved: Array  # (T, 6, N + 1): what a change of each unknown takes from the pose, and its step
    misfit: Array

    def moved(self, weights: Array, who: Array | None) -> Poses:
        """Poses that belong to weights (and an identity)."""
        now = weights if who is None else np.concatenate([weights, np.broadcast_to(who, (len(weights), len(who)))], 1)
        return self.poses.moved(
            self.solved[..., -1] - np.matmul(self.solved[..., :-1], (now - self.point)[..., None])[..., 0]
        )


def spread(rays: Array, count: int = _IDENTITY_FRAMES) -> Array:
    """Rows of frames (T, 478, 2) that differ from each other: farthest points in the space of normalised faces."""
    if len(rays) <= count:
        return np.arange(len(rays))
    centred = rays - rays.mean(1, keepdims=True)
    flat = (centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)).reshape(len(rays), -1)
    evenly = np.unique(np.linspace(0, len(rays) - 1, min(len(rays), 6 * count)).astype(int))
    flat = flat[evenly]
    chosen = [int(np.argmin(np.square(flat - np.median(flat, 0)).sum(1)))]
    far = np.square(flat - flat[chosen[0]]).sum(1)
    while len(chosen) < count // 2:
        chosen.append(int(np.argmax(far)))
        far = np.minimum(far, np.square(flat - flat[chosen[-1]]).sum(1))
    rest = np.linspace(0, len(evenly) - 1, count - len(chosen)).astype(int)
    return np.unique(evenly[np.concatenate([chosen, rest])])


def _slope(hessian: Array, x: Array, gradient: Array) -> Array:
    return np.matmul(hessian, x[..., None])[..., 0] - gradient


def _view_slopes(poses: Poses) -> Array:
    """(T, 5, 3) derivatives of `view_features` by turns of the head in the camera's frame."""
    c = -poses.translations / np.linalg.norm(poses.translations, axis=1, keepdims=True)
    x, z = np.einsum("tji,tj->ti", poses.rotations, c)[:, [0, 2]].T
    cross = np.zeros((len(c), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -c[:, 2], c[:, 1], -c[:, 0]
    cross -= np.swapaxes(cross, 1, 2)
    dx, dz = np.moveaxis((np.swapaxes(poses.rotations, 1, 2) @ cross)[:, [0, 2]], 1, 0)
    x, z = x[:, None], z[:, None]
    return np.stack([dx, dz, 2 * x * dx, 2 * z * dz, x * dz + z * dx], 1)


def upright_of(rotations: Array) -> Array:
    """(T, 2, 2) turns pictures so that the head's up is up."""
    up = rotations[:, :2, 2]
    up = up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-9)
    c, s = -up[:, 1], up[:, 0]
    return np.stack([np.stack([c, s], 1), np.stack([-s, c], 1)], 1)


def _level(translations: Array) -> Array:
    """(T, 2, 3) [1 0 -x/z; 0 1 -y/z] of heads' middles."""
    out = np.zeros((len(translations), 2, 3))
    out[:, 0, 0] = out[:, 1, 1] = 1.0
    out[:, :, 2] = -translations[:, :2] / translations[:, 2:]
    return out


def _joined(parts: list[Poses]) -> Poses:
    return Poses(
        np.concatenate([part.rotations for part in parts]), np.concatenate([part.translations for part in parts])
    )


def _with_rows(parts: list[_System]) -> list[tuple[_System, Array]]:
    out, first = [], 0
    for part in parts:
        out.append((part, np.arange(first, first + len(part.misfit))))
        first += len(part.misfit)
    return out
