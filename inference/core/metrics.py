"""The field's measures of poses: MPJPE, PA-MPJPE, second differences, limb lengths."""

from __future__ import annotations

import numpy as np

from .skeletons import LIMBS

Array = np.ndarray


def mpjpe(predicted: Array, truth: Array) -> float:
    """Mean Euclidean distance over all joints and frames at which both (..., J, 3) are finite; metres."""
    return float(np.nanmean(np.linalg.norm(predicted - truth, axis=-1)))


def relative_mpjpe(predicted: Array, truth: Array, root: int) -> float:
    """MPJPE after moving joint `root` of every pose of (T, J, 3) to the origin; the root itself is not counted."""
    others = [j for j in range(truth.shape[-2]) if j != root]
    a = predicted - predicted[..., root : root + 1, :]
    b = truth - truth[..., root : root + 1, :]
    return mpjpe(a[..., others, :], b[..., others, :])


def procrustes(points: Array, target: Array) -> Array:
    """Move (J, 3) `points` onto `target` by the best similarity without reflection (Umeyama 1991)."""
    mean_p, mean_t = points.mean(axis=0), target.mean(axis=0)
    p, t = points - mean_p, target - mean_t
    u, s, vt = np.linalg.svd(t.T @ p)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / max((p**2).sum(), 1e-12))
    return scale * p @ rotation.T + mean_t


def pa_mpjpe(predicted: Array, truth: Array) -> float:
    """MPJPE of (T, J, 3) after a similarity alignment of each frame over the joints finite in both; metres."""
    errors = []
    for p, t in zip(predicted, truth, strict=True):
        both = np.isfinite(p).all(axis=-1) & np.isfinite(t).all(axis=-1)
        if both.sum() >= 3:
            errors.append(np.linalg.norm(procrustes(p[both], t[both]) - t[both], axis=-1).mean())
    return float(np.mean(errors)) if errors else float("nan")


def second_difference(positions: Array) -> float:
    """Mean norm of the second differences over time of (T, J, 3); metres per frame squared."""
    return float(np.nanmean(np.linalg.norm(np.diff(positions, n=2, axis=0), axis=-1)))


def limb_lengths(positions: Array) -> Array:
    """(T, 8) lengths of `skeletons.LIMBS` over time of (T, J, 3) positions that begin with BODY_25, in their unit."""
    return np.stack([np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) for _, a, b in LIMBS], axis=-1)


def limb_std(positions: Array) -> float:
    """Mean over the eight limbs of the standard deviation over time of their length in (T, J, 3) positions; metres."""
    return float(np.nanstd(limb_lengths(positions), axis=0).mean())
