"""Quadratic problems of many frames at once: bounded by active sets, tied over time by second differences.

minimise over x (T, N)   sum_t x_t' H_t x_t / 2 - g_t' x_t  +  sum_t stiff_n (x_t-1 - 2 x_t + x_t+1)^2 / 2
with 0 <= x <= 1. Each guess of the active set is one banded Cholesky factorisation (LAPACK's pbsv, 2 N diagonals);
the primal-dual active set method (Hintermueller, Ito, Kunisch 2002) needs a few.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

Array = np.ndarray
_ROUNDS = 12
_CHUNK, _LEAD = 400, 30  # frames solved together, and how many before and after are solved again and thrown away


def bounded(hessians: Array, gradients: Array, stiff: Array, *, start: Array | None = None) -> Array:
    """(T, N) the minimum within [0, 1].

    hessians (T, N, N) symmetric and positive definite; gradients (T, N): g above; stiff (N,) not negative;
    start (T, N): a guess, which saves rounds.
    """
    count = len(gradients)
    if count <= _CHUNK + 2 * _LEAD:
        return _whole(hessians, gradients, stiff, start)
    out = np.empty_like(gradients)
    for first in range(0, count, _CHUNK):
        low, high = max(first - _LEAD, 0), min(first + _CHUNK + _LEAD, count)
        part = slice(low, high)
        found = _whole(hessians[part], gradients[part], stiff, None if start is None else start[part])
        out[first : min(first + _CHUNK, count)] = found[first - low : first - low + _CHUNK]
    return out


def _whole(hessians: Array, gradients: Array, stiff: Array, start: Array | None) -> Array:
    x = np.zeros_like(gradients) if start is None else start.clip(0, 1)
    slope = _slope(hessians, gradients, stiff, x)
    low, high = (x <= 0) & (slope > 0), (x >= 1) & (slope < 0)
    for _ in range(_ROUNDS):
        x = _solve(hessians, gradients, stiff, low | high, np.where(high, 1.0, 0.0))
        slope = _slope(hessians, gradients, stiff, x)
        at_low = np.where(low, slope > 0, x < 0)
        at_high = np.where(high, slope < 0, x > 1)
        if (at_low == low).all() and (at_high == high).all():
            break
        low, high = at_low, at_high
    return x.clip(0, 1)


def _slope(hessians: Array, gradients: Array, stiff: Array, x: Array) -> Array:
    """(T, N) derivative of the problem."""
    out = np.matmul(hessians, x[..., None])[..., 0] - gradients
    if len(x) > 2:
        bend = stiff * np.diff(x, 2, axis=0)
        out[:-2] += bend
        out[1:-1] -= 2 * bend
        out[2:] += bend
    return out


def _solve(hessians: Array, gradients: Array, stiff: Array, held: Array, values: Array) -> Array:
    """(T, N) the minimum where what is `held` (T, N) has its values."""
    count, size = gradients.shape
    free = ~held
    if not stiff.any() or count <= 2:
        alone = hessians * (free[:, :, None] & free[:, None, :])
        alone[:, np.arange(size), np.arange(size)] += held
        right = np.where(free, -_slope(hessians, gradients, stiff, np.where(held, values, 0.0)), 0.0)
        return np.where(free, np.linalg.solve(alone, right[..., None])[..., 0], values)
    upper = np.zeros((count, size, 2 * size + 1))  # [t, i, k]: the entry k to the right of the diagonal
    right = -_slope(hessians, gradients, stiff, np.where(held, values, 0.0))
    inner = hessians * (free[:, :, None] & free[:, None, :])
    for k in range(size):
        upper[:, : size - k, k] = np.diagonal(inner, k, 1, 2)
    ties = np.zeros((3, count, size))
    for a, first in ((0, 1.0), (1, -2.0), (2, 1.0)):
        for b, second in ((0, 1.0), (1, -2.0), (2, 1.0)):
            if b >= a:
                ties[b - a, a : count - 2 + a] += first * second * stiff
    upper[:, :, 0] += ties[0] * free
    upper[:-1, :, size] += ties[1, :-1] * (free[:-1] & free[1:])
    upper[:-2, :, 2 * size] += ties[2, :-2] * (free[:-2] & free[2:])
    upper[:, :, 0] = np.where(free, upper[:, :, 0], 1.0)
    right = np.where(free, right, 0.0)
    lower = upper.reshape(count * size, -1).T  # LAPACK's lower form has the same layout
    found = solveh_banded(lower, right.ravel(), lower=True, overwrite_ab=True, check_finite=False)
    return np.where(free, found.reshape(count, size), values)
