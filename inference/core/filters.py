"""Filters over time: zero phase, aware of confidence, for positions and rotations. Axis 0 is time everywhere.

Smoothing is a penalised least-squares fit (Whittaker 1923, Eilers 2003) whose penalty follows the data: the noise of
each channel is measured, and where the motion itself is abrupt the penalty gives way, so that contacts stay crisp.
"""

from __future__ import annotations

import numpy as np

from .rotations import continuous, slerp, unit

Array = np.ndarray
_ORDER = 3  # third differences: the smoothest motion is the one of least jerk
_NOISE_GAIN = np.sqrt(20.0)  # standard deviation of third differences of white noise: 1 + 9 + 9 + 1
_CUTOFF_HZ = 6.0  # of the first pass, which only finds out where the motion is abrupt
_BALANCE = 0.3  # below the optimum for white noise and steady motion: blur costs more than tremor
_GROUP = 16
_WEAK = 1e-3  # weight of filled-in samples
_SHORT = 12  # frames up to which a dense solution is quicker
_SPEED_HZ = 1.5  # of the speed by which a causal filter chooses its cutoff


def smooth_positions(positions: Array, weights: Array, fps: float, *, amount: float = 0.5) -> Array:
    """Smooth (T, C, K) finite signals by (T, C) weights in [0, 1]; `amount` 0 keeps them, 0.5 takes off the noise."""
    if amount <= 0.0 or len(positions) <= _ORDER:
        return positions.copy()
    weights = np.maximum(weights, _WEAK)
    rough = whittaker(positions, weights, _cutoff_strength(_CUTOFF_HZ, fps))
    noise = noise_level(positions, weights > 10 * _WEAK)
    jerk = np.mean(np.diff(rough, _ORDER, axis=0) ** 2, axis=-1)
    jerk = moving_average(jerk, max(1, round(0.1 * fps)))
    gain = _BALANCE * 100.0 ** (2.0 * amount - 1.0)
    strength = gain * noise**2 / (jerk + 1e-4 * noise**2 + 1e-18)  # the ratio of variances is the optimal penalty
    return whittaker(positions, weights, strength)


def smooth_rotations(rotations: Array, weights: Array, fps: float, *, amount: float = 0.5) -> Array:
    """Smooth (T, C, 4) unit quaternions by (T, C) weights in [0, 1]; signs come out continuous."""
    return unit(smooth_positions(continuous(rotations), weights, fps, amount=amount))


def whittaker(values: Array, weights: Array, strength: Array | float, *, order: int = _ORDER) -> Array:
    """Minimise sum w (x - z)^2 + sum strength (D z)^2 over z, for (T, C, K) values x and (T, C) weights w > 0.

    `strength` is a number or (T - order, C), one for each difference D of the given order. One banded factorisation,
    all channels at once.
    """
    count, channels = values.shape[:2]
    if count <= order:
        return values.copy()
    if count <= _SHORT:
        return _solve_dense(values, weights, strength, order)
    coefficients = np.diff(np.eye(order + 1), order, axis=0)[0]
    strength = np.broadcast_to(np.asarray(strength, float), (count - order, channels))
    bands = np.zeros((count + order, order + 1, channels))  # bands[i, k] = A[i + k, i]
    bands[:count, 0] = weights
    for j in range(order + 1):
        for k in range(j, order + 1):
            bands[j : j + count - order, k - j] += coefficients[j] * coefficients[k] * strength
    right = np.zeros((count + order, channels, values.shape[2]))
    right[:count] = weights[..., None] * values
    return _solve_banded(bands, right, count, order)


def _solve_dense(values: Array, weights: Array, strength: Array | float, order: int) -> Array:
    """`whittaker` of a few frames: one small matrix for each channel."""
    count, channels = values.shape[:2]
    steps = np.diff(np.eye(count), order, axis=0)
    strength = np.broadcast_to(np.asarray(strength, float), (count - order, channels))
    matrix = np.einsum("ni,nc,nj->cij", steps, strength, steps)
    matrix[:, np.arange(count), np.arange(count)] += weights.T
    right = np.swapaxes(weights[..., None] * values, 0, 1)
    return np.swapaxes(np.linalg.solve(matrix, right), 0, 1)


def _cutoff_strength(cutoff_hz: float, fps: float) -> float:
    """Strength at which `whittaker` halves a wave of the given frequency."""
    return float((2.0 * np.sin(np.pi * min(cutoff_hz / fps, 0.5))) ** (-2 * _ORDER))


def _solve_banded(bands: Array, right: Array, count: int, order: int) -> Array:
    """Solve symmetric banded systems by L D L^T in place; bands (T + p, p + 1, C), right (T + p, C, K)."""
    for i in range(count):
        column = bands[i]
        factors = column[1:] / column[0]
        for j in range(1, order + 1):
            bands[i + j, : order + 1 - j] -= factors[j - 1] * column[j:]
        right[i + 1 : i + order + 1] -= factors[..., None] * right[i]
        right[i] /= column[0][:, None]
        column[1:] = factors
    right[count:] = 0.0
    for i in range(count - 1, -1, -1):
        right[i] -= np.sum(bands[i, 1:, :, None] * right[i + 1 : i + order + 1], axis=0)
    return right[:count]


def noise_level(values: Array, known: Array) -> Array:
    """Standard deviation (C,) of the white noise on (T, C, K) signals, from medians of third differences."""
    if len(values) <= _ORDER:
        return np.zeros(values.shape[1])
    steps = np.abs(np.diff(values, _ORDER, axis=0))
    whole = np.all([known[i : len(known) - _ORDER + i] for i in range(_ORDER + 1)], axis=0)
    return median(np.moveaxis(steps, -1, 1).reshape(-1, values.shape[1]), np.repeat(whole, values.shape[2], axis=0)) / (
        0.6745 * _NOISE_GAIN
    )


def median(values: Array, known: Array, fraction: float = 0.5) -> Array:
    """Quantile (C,) of the known entries of (N, C) values; 0 where none is known."""
    count = known.sum(axis=0)
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    index = np.clip((fraction * (count - 1)).round().astype(int), 0, None)
    found = np.take_along_axis(ordered, index[None], axis=0)[0] if len(values) else np.zeros(values.shape[1])
    return np.where(count > 0, found, 0.0)


def moving_average(values: Array, half: int) -> Array:
    """Mean over the 2 * half + 1 neighbours in time of (T, ...) values; shorter at the ends."""
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    size = (high - low).reshape(-1, *([1] * (values.ndim - 1)))
    return (total[high] - total[low]) / size


def find_spikes(positions: Array, known: Array, *, half: int = 3, floor: float = 0.06, limit: float = 4.0) -> Array:
    """Mark (T, C) samples of (T, C, K) that leap away from their neighbours and back (Hampel 1974).

    A sample is a spike where it lies further from the median of its 2 * half + 1 neighbours, moved along by their
    median velocity, than `limit` standard deviations, themselves measured by medians, and than `floor`.
    """
    out = np.zeros(known.shape, bool)
    if len(positions) <= 2 * half:
        return out
    for start in range(0, known.shape[1], _GROUP):  # a few channels at a time: windows take memory
        part = slice(start, start + _GROUP)
        out[:, part] = _spikes(positions[:, part], known[:, part], half, limit=limit, floor=floor)
    return out


def _spikes(positions: Array, known: Array, half: int, *, limit: float, floor: float) -> Array:
    count, size = len(positions), 2 * half + 1
    index = np.abs(np.arange(-half, count + half))
    index = np.where(index >= count, 2 * (count - 1) - index, index)  # mirrored at the ends
    present = np.stack([known[index[i : i + count]] for i in range(size)])
    windows = np.stack([positions[index[i : i + count]] for i in range(size)])
    pairs = present[1:] & present[:-1]
    slope = _middle(np.where(pairs[..., None], np.diff(windows, axis=0), np.inf), pairs.sum(axis=0)[..., None])
    windows = windows - np.arange(-half, half + 1).reshape(-1, 1, 1, 1) * slope
    seen = present.sum(axis=0)
    centre = _middle(np.where(present[..., None], windows, np.inf), seen[..., None])
    away = np.linalg.norm(positions - centre, axis=-1)
    spread = np.where(present, np.linalg.norm(windows - centre, axis=-1), np.inf)
    return known & (seen > half) & (away > np.maximum(floor, limit * 1.4826 * _middle(spread, seen)))


def _middle(windows: Array, seen: Array) -> Array:
    """Median over axis 0 of windows padded by infinity, of which `seen` entries are finite; 0 where none is."""
    ordered = np.sort(windows, axis=0)
    index = np.broadcast_to(np.maximum(seen - 1, 0) // 2, windows.shape[1:])
    found = np.take_along_axis(ordered, index[None], axis=0)[0]
    return np.where(np.isfinite(found), found, 0.0)


def neighbours(known: Array) -> tuple[Array, Array]:
    """Indices (T, C) of the last known sample at or before each, -1 if none, and of the next at or after, T if none."""
    count = len(known)
    index = np.arange(count)[:, None]
    before = np.maximum.accumulate(np.where(known, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, index, count)[::-1], axis=0)[::-1]
    return before, after


def fill_gaps(positions: Array, known: Array, max_gap: int) -> tuple[Array, Array]:
    """Fill gaps of at most `max_gap` frames in (T, C, K): cubic between samples, held at the ends.

    Returns:
        The filled positions (NaN stays in longer gaps) and (T, C) True where there is a value now.
    """
    count = len(positions)
    before, after = neighbours(known)
    first, last = np.maximum(before, 0), np.minimum(after, count - 1)
    first, last = np.where(before < 0, last, first), np.where(after >= count, first, last)
    inside = (before >= 0) & (after < count)
    size = np.where(inside, after - before, 2 * np.maximum(np.abs(np.arange(count)[:, None] - first), 1))
    fill = ~known & (np.where(inside, after - before - 1, _run_to_end(before, after, count)) <= max_gap)
    fill &= known.any(axis=0)
    safe = np.where(known[..., None], positions, 0.0)
    a, b = _take(safe, first), _take(safe, last)
    u = ((np.arange(count)[:, None] - first) / np.maximum(size, 1))[..., None] * inside[..., None]
    span = np.maximum(size, 1)[..., None]
    ma, mb = _slope(safe, known, first, -1, (b - a) / span), _slope(safe, known, last, 1, (b - a) / span)
    curve = (1 + 2 * u) * (1 - u) ** 2 * a + u * u * (3 - 2 * u) * b + span * u * (1 - u) * ((1 - u) * ma - u * mb)
    out = np.where(known[..., None], positions, np.where(fill[..., None], curve, np.nan))
    return out, known | fill


def _run_to_end(before: Array, after: Array, count: int) -> Array:
    """Length of the gap at the start or end of the clip that a frame lies in."""
    return np.where(before < 0, after, count - 1 - before)


def _take(values: Array, index: Array) -> Array:
    return np.take_along_axis(values, index[..., None], axis=0)


def _slope(values: Array, known: Array, index: Array, step: int, chord: Array) -> Array:
    """Velocity at the edge of a gap, from the known neighbour outside of it; the chord's where there is none."""
    other = np.clip(index + step, 0, len(values) - 1)
    there = np.take_along_axis(known, other, axis=0) & (other != index)
    return np.where(there[..., None], step * (_take(values, other) - _take(values, index)), chord)


def interpolate(values: Array, known: Array) -> Array:
    """Fill (T, K) linearly in time from the frames that are known (T,), held at the ends; zeros where none is."""
    if not known.any():
        return np.zeros_like(values)
    index = np.arange(len(values))
    return np.stack([np.interp(index, index[known], column[known]) for column in values.T], axis=-1)


def fill_rotations(rotations: Array, known: Array, relaxed: Array, *, max_gap: int, decay: float) -> Array:
    """Fill unknown entries of (T, C, 4) quaternions: slerp over gaps of `max_gap` frames, longer ones relax.

    In a long gap the pose leaves its last known value for `relaxed` (C, 4) within about `decay` frames and comes back
    in time for the next one. A channel that is never known is `relaxed` throughout.
    """
    if known.all():
        return rotations
    count = len(rotations)
    before, after = neighbours(known)
    first = np.clip(np.where(before < 0, after, before), 0, count - 1)
    last = np.clip(np.where(after >= count, before, after), 0, count - 1)
    index = np.arange(count)[:, None]
    safe = np.where(known[..., None], rotations, np.array([1.0, 0.0, 0.0, 0.0]))
    bridge = slerp(_take(safe, first), _take(safe, last), (index - first) / np.maximum(last - first, 1))
    inside = (before >= 0) & (after < count)
    gap = np.where(inside, after - before - 1, _run_to_end(before, after, count))
    near = np.minimum(np.where(before < 0, count, index - before), np.where(after >= count, count, after - index))
    leave = np.where(gap <= max_gap, 0.0, 1.0 - np.exp(-near / max(decay, 1e-6)))
    filled = slerp(bridge, np.broadcast_to(relaxed, rotations.shape), leave)
    filled = np.where(known.any(axis=0)[None, :, None], filled, relaxed)
    return np.where(known[..., None], rotations, filled)


class OneEuro:
    """How far a causal filter of (C,) channels follows each new value: the faster it moves, the nearer (Casiez 2012).

    cutoff_hz: of a channel at rest; rise_hz: added for each unit a second. What leaps faster than `fastest` units a
    second is a mistake rather than a motion, and opens the filter no further.
    """

    def __init__(self, cutoff_hz: float, rise_hz: float, fastest: float = np.inf) -> None:
        self._cutoff_hz, self._rise_hz, self._fastest = cutoff_hz, rise_hz, fastest
        self._speed: Array | float = 0.0

    def gain(self, distance: Array, step_s: float) -> Array:
        """(C,) share in [0, 1] of the (C,) distances to new values, `step_s` after the last, that is to be gone."""
        speed = np.minimum(distance / step_s, self._fastest)
        self._speed = self._speed + _follow(_SPEED_HZ, step_s) * (speed - self._speed)
        return _follow(self._cutoff_hz + self._rise_hz * self._speed, step_s)


def _follow(cutoff_hz: Array | float, step_s: float) -> Array:
    """Gain of a first-order low pass, exact for any step."""
    return 1.0 - np.exp(-2.0 * np.pi * np.asarray(cutoff_hz) * step_s)
