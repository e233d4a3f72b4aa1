"""How one signal follows another: correlations with gaps, peaks and how clear they are, delays shared by many clips.

Everywhere a delay d says that sample t of the second signal shows what sample t + d of the first one shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
_SPREAD = 1.4826  # from a median deviation to a standard deviation
_VALLEY = 0.15  # of a peak's height: how deep the valley between two peaks must be
_PARABOLA = 0.35  # of a peak's prominence: how far down its sides it is taken for a parabola


@dataclass(frozen=True)
class Curve:
    """How well two signals fit at each delay.

    delays (K,) seconds, rising evenly; score (K,), NaN where too little of them overlaps to say.
    """

    delays: Array
    score: Array


@dataclass(frozen=True)
class Peak:
    """The best delay of a curve, seconds, and the next best peak's, `rival`, NaN where there is none.

    clarity: (best - second) / (best - median of the curve), 0 = a second delay explains it as well, 1 = none does;
    height: the same numerator's best above the median in robust standard deviations of the curve.
    """

    delay: float
    score: float
    rival: float
    clarity: float
    height: float


def correlate(first: Array, second: Array, *, least: int) -> tuple[Array, Array]:
    """Correlate two sets of channels at all delays, each overlap normalised by what takes part in it.

    Args:
        first: (T, C), second: (S, C), zero mean, NaN where unknown; least: fewest samples of overlap.
    Returns:
        (K,) delays in samples, from -(S - 1) to T - 1; (K,) correlations in [-1, 1], less the less signals overlap,
        NaN where they overlap by fewer than `least` samples.
    """
    count, other = len(first), len(second)
    size = 1 << int(np.ceil(np.log2(count + other)))
    known = [np.isfinite(values) for values in (first, second)]
    a, b = (np.where(there, values, 0.0) for there, values in zip(known, (first, second), strict=True))
    spectra = [np.fft.rfft(x, size, axis=0) for x in (a, a**2, known[0], b, b**2, known[1])]

    def together(x: Array, y: Array) -> Array:
        summed = np.fft.irfft((x * y.conj()).sum(1), size)
        return np.concatenate([summed[size - other + 1 :], summed[:count]])

    product = together(spectra[0], spectra[3])
    power = np.maximum(together(spectra[1], spectra[5]), 0.0) * np.maximum(together(spectra[2], spectra[4]), 0.0)
    delays = np.arange(1 - other, count)
    overlap = np.minimum(count, delays + other) - np.maximum(delays, 0)
    floor = 1e-9 * max(float(power.max(initial=0.0)), 1e-30)
    score = product / np.sqrt(np.maximum(power, floor)) * np.sqrt(overlap / (overlap + 2.0 * least))
    return delays, np.where((overlap >= least) & (power > floor), score, np.nan)


def find_peak(curve: Curve) -> Peak | None:
    """Find the best delay, and the best one beyond a valley from it; None: no curve."""
    known = np.isfinite(curve.score)
    if known.sum() < 3:
        return None
    score = np.where(known, curve.score, -np.inf)
    best = int(score.argmax())
    middle = float(np.median(curve.score[known]))
    spread = _SPREAD * float(np.median(np.abs(curve.score[known] - middle)))
    above = max(float(score[best]) - middle, 1e-12)
    rival = _rival(np.where(known, curve.score, np.inf), best, _VALLEY * above)
    second = middle if rival is None else float(score[rival])
    return Peak(
        refine_peak(curve.delays, curve.score, best), float(score[best]),
        float("nan") if rival is None else float(curve.delays[rival]),
        (float(score[best]) - max(second, middle)) / above, above / max(spread, 1e-12),
    )  # fmt: skip


def _rival(score: Array, best: int, depth: float) -> int | None:
    """Index of the highest sample that lies `depth` above the lowest one between it and the best; inf: unknown."""
    found: int | None = None
    for step in (1, -1):
        side = score[best::step]
        rise = np.where(np.isfinite(side), side - np.minimum.accumulate(side), -np.inf)
        beyond = np.flatnonzero(rise >= depth)
        if len(beyond):
            place = best + step * int(beyond[side[beyond].argmax()])
            if found is None or score[place] > score[found]:
                found = place
    return found


def refine_peak(delays: Array, score: Array, best: int, *, reach: int = 4) -> float:
    """Place a peak between samples: the top of the parabola through the samples of its upper part, within `reach`."""
    low, high = max(best - reach, 0), min(best + reach + 1, len(score))
    around = score[low:high]
    if not np.isfinite(around).all():
        return float(delays[best])
    down = score[best] - around.min()
    near = np.flatnonzero(around >= score[best] - _PARABOLA * down) + low
    breaks = np.flatnonzero(np.diff(near) > 1)
    parts = np.split(near, breaks + 1)
    near = next(part for part in parts if best in part)
    near = np.union1d(near, [best - 1, best + 1])
    near = near[(near >= 0) & (near < len(score))]
    if len(near) < 3:
        return float(delays[best])
    step = float(delays[1] - delays[0])
    curvature, slope, _ = np.polyfit((delays[near] - delays[best]) / step, score[near], 2)
    if curvature >= 0:
        return float(delays[best])
    return float(delays[best] + np.clip(-slope / (2 * curvature), -reach / 4, reach / 4) * step)


@dataclass(frozen=True)
class Line:
    """`value` at the middle of the data and `slope`, with their standard errors; `kept` of the points, (M,) bool."""

    middle: float
    value: float
    value_error: float
    slope: float
    slope_error: float
    kept: Array


def fit_line(x: Array, y: Array, *, least_error: float) -> Line:
    """Fit a line through (M,) points of which some are wrong: Theil & Sen's, then least squares of what is near it."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3:
        value = float(np.median(y))
        everything = np.ones(len(x), bool)
        return Line(float(x.mean()), value, max(float(np.ptp(y)), 2 * least_error), 0.0, np.inf, everything)
    i, j = np.triu_indices(len(x), 1)
    slope = float(np.median((y[j] - y[i]) / (x[j] - x[i])))
    miss = y - slope * x - np.median(y - slope * x)
    spread = max(_SPREAD * float(np.median(np.abs(miss))), least_error)
    kept = np.abs(miss) <= 3.0 * spread
    middle = float(x[kept].mean())
    design = np.stack([np.ones(kept.sum()), x[kept] - middle], 1)
    (value, slope), *_ = np.linalg.lstsq(design, y[kept], rcond=None)
    spread = max(float(np.sqrt(np.mean((y[kept] - design @ [value, slope]) ** 2))), least_error)
    wide = max(float(np.linalg.norm(design[:, 1])), 1e-12)
    return Line(middle, float(value), spread / np.sqrt(kept.sum()), float(slope), spread / wide, kept)


@dataclass(frozen=True)
class Edge:
    """Clip `second` was found `delay` seconds after clip `first`, give or take `error`."""

    first: int
    second: int
    delay: float
    error: float


def settle(count: int, edges: Sequence[Edge], *, tolerance: float) -> tuple[Array, Array]:
    """Find one delay for each of `count` clips from delays of pairs: least squares, without pairs that contradict.

    A pair that misses by more than `tolerance` and three times its error is left out, the worst first, as long as
    every clip stays linked to the first one.

    Returns:
        (count,) delays, the first 0, NaN where no pair links a clip to the first; (E,) bool, pairs that were kept.
    """
    kept = np.ones(len(edges), bool)
    while True:
        delays = _least_squares(count, [edge for edge, used in zip(edges, kept, strict=True) if used])
        miss = np.array([abs(delays[e.second] - delays[e.first] - e.delay) for e in edges])
        share = np.array([miss[k] / max(tolerance, 3 * edge.error) for k, edge in enumerate(edges)])
        share = np.where(kept & np.isfinite(share), share, 0.0)
        for worst in np.argsort(-share):
            if share[worst] <= 1.0:
                return delays, kept
            without = kept.copy()
            without[worst] = False
            remaining = [edge for edge, used in zip(edges, without, strict=True) if used]
            if linked(count, remaining).sum() == linked(count, edges).sum():
                kept = without
                break
        else:
            return delays, kept


def linked(count: int, edges: Sequence[Edge]) -> Array:
    """(count,) bool, clips that pairs link to the first one."""
    reached = np.zeros(count, bool)
    reached[0] = True
    for _ in range(count):
        for edge in edges:
            reached[[edge.first, edge.second]] |= reached[edge.first] or reached[edge.second]
    return reached


def _least_squares(count: int, edges: Sequence[Edge]) -> Array:
    reached = linked(count, edges)
    rows, values = [np.eye(count)[0]], [0.0]
    for edge in edges:
        if reached[edge.first]:
            row = np.zeros(count)
            row[edge.second], row[edge.first] = 1.0, -1.0
            rows.append(row / edge.error)
            values.append(edge.delay / edge.error)
    found, *_ = np.linalg.lstsq(np.stack(rows), np.array(values), rcond=None)
    found = found - found[0]
    return np.where(reached, found, np.nan)
