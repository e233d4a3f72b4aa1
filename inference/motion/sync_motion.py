"""How much later one clip started than another, by what the person in both of them does.

With cameras of known places, the rays of every joint meet only where both views look at the same moment: the delay
with the least epipolar error is the right one. Without, the vertical speeds of the joints, which look much the same
from all sides, are correlated first; around the best delays a fundamental matrix is fitted for each delay, and the one
with the least error wins (as in Albl et al., "On the two-view geometry of unsynchronized cameras", CVPR 2017). Both
are measured in parts of the person's size in each view, and robustly: a joint that is wrong in one view counts little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, normalise
from ..core.correlation import Curve, Line, correlate, fit_line, refine_peak
from ..core.skeletons import BODY

Array = np.ndarray
Grid = tuple[Array, Array]

# Nose, neck, shoulders, elbows, wrists, hips, knees, ankles: what every detector finds.
_JOINTS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14])
_SEEN = 0.3
_LEAST_S = 1.0  # of overlap that says anything
_SMOOTH_S = 0.05  # of the speeds' Gaussian
_CLIP = 4.0  # median absolute speeds
_COARSE = 0.05  # of the person's size: an epipolar error of medium doubt before anything is known
_FINE = (0.008, 0.05)  # the same once the clip's own error is known: at least, at most
_SHIFTED = 0.03  # of the person's size: how far a camera's picture may lie off its calibration
_MOMENTS, _FEW_MOMENTS = 250, 100  # frames compared at every delay; where only the rate is asked for
_FINE_MOMENTS = 800
_CHUNK = 1 << 21  # numbers held at once
_CANDIDATES = 8
_BETWEEN = 5  # delays looked at for each frame
_TIED = 0.4  # of the best peak's height: what is looked at closely
_REACH_S = 0.4  # how far around a candidate one looks closely
_SUREST = 0.1  # frames: what detectors see differently from different sides goes no lower
_WINDOW_S, _WINDOWS = 0.7, 24  # parts of the overlap that are asked one by one: least length, most of them
_SHORTEST_S = 0.25  # of a part where the overlap is short
_TELLING = 0.03  # a part tells something where its doubt has such a dip
_DRIFT = 0.0015  # the largest difference of clocks that is followed, of the time
# What is clear evidence (a person against another, filmed by two cameras, shows none of it all at once):
AGREEING, AGREEING_SHARE = 4, 0.6  # parts of the overlap that say the same delay, and their share of those that tell
RESIDUAL = 0.022  # of the person's size: the most by which half of the joints may miss
DIP = 0.05  # share of joints that agree at the best delay and not around it
CLEAR = 0.2  # how much worse than the best delay any other one must be
RATES = (1.0, 25 / 30, 30 / 25, 24 / 25, 25 / 24, 24 / 30, 30 / 24, 0.5, 2.0, 50 / 60, 60 / 50, 1.001, 1 / 1.001)


@dataclass(frozen=True)
class Match:
    """What a pair of clips says of its delay.

    at (first, second): a moment in seconds on either clip's own clock that is the same; error: its standard error,
    seconds; rate: seconds of the first clip in a second of the second one, and its error; curve: the evidence.
    parts: how many parts of the overlap, asked one by one, say this delay, and how many say any.
    residual: how far off half of the evidence is, in parts of the person's size (NaN for sound).
    clarity: 1: nothing else explains the clips, 0: `rival` (seconds, NaN: none) explains them as well.
    """

    kind: str
    at: tuple[float, float]
    error: float
    rate: float
    rate_error: float
    curve: Curve
    parts: tuple[int, int]
    residual: float
    clarity: float
    rival: float
    convincing: bool

    @property
    def clear(self) -> bool:
        """Whether the evidence suffices to move a clip that nobody asked to move."""
        return self.convincing and self.clarity >= CLEAR

    @property
    def delay(self) -> float:
        """Seconds that the second clip started after the first one, clocks apart."""
        return self.at[0] - self.at[1]


@dataclass(frozen=True)
class _Candidate:
    """A delay looked at closely.

    Where it is through the clip, how many parts say so, by how much half of the joints miss, the share of joints that
    agree at it and not around it, and how long all that is.
    """

    line: Line
    parts: tuple[int, int]
    residual: float
    dip: float
    span_s: float

    @property
    def convinces(self) -> bool:
        agreeing, telling = self.parts
        several = agreeing >= AGREEING and agreeing >= AGREEING_SHARE * telling
        long = self.span_s >= AGREEING * _WINDOW_S
        return several and long and self.residual <= RESIDUAL and self.dip >= DIP


@dataclass(frozen=True)
class Track:
    """A view on an even grid of time.

    positions (T, J, 2), NaN unseen, and the person's size (T,), both in parts of the focal length, or of the image's
    longer side where that is unknown; start, step in seconds.
    """

    positions: Array
    size: Array
    start: float
    step: float


def match_by_motion(
    views: tuple[Keypoints2D, Keypoints2D], cameras: tuple[Camera, Camera] | None, *, near: float | None = None
) -> Match | None:
    """Find the delay of the second view.

    Args:
        cameras: theirs, where they are calibrated.
        near: seconds; only delays within half a second of it are considered.
    Returns:
        None where the clips show no motion in common long enough to tell.
    """
    step = 1.0 / max(view.fps for view in views)
    best = _at_rate(views, cameras, step, 1.0, near)
    if near is not None or (best is not None and best.clear):
        return best
    rate = _other_rate(views, cameras, step)
    found = None if rate is None else _at_rate(views, cameras, step, rate, None)
    return found if found is not None and found.clear else best


def _other_rate(
    views: tuple[Keypoints2D, Keypoints2D], cameras: tuple[Camera, Camera] | None, step: float
) -> float | None:
    """Find at which usual ratio of frame rates the clips fit each other clearly better than at their own."""
    least = round(_LEAST_S / step)
    known = cameras or (None, None)
    first = prepare(views[0], known[0], step)
    scores = {}
    for rate in RATES:
        second = prepare(views[1], known[1], step, rate)
        if min(len(first.size), len(second.size)) < least:
            continue
        if cameras is None:
            score = correlate(_speeds(first), _speeds(second), least=least)[1]
        else:
            score = _epipolar_scores(first, second, essential_matrix(*cameras), least, most=_FEW_MOMENTS)[1]
        scores[rate] = float(np.nanmax(score)) if np.isfinite(score).any() else -1.0
    best = max(scores, key=lambda rate: scores[rate], default=1.0)
    return best if best != 1.0 and scores[best] > 1.1 * scores[1.0] else None


def _at_rate(
    views: tuple[Keypoints2D, Keypoints2D],
    cameras: tuple[Camera, Camera] | None,
    step: float,
    rate: float,
    near: float | None,
) -> Match | None:
    known = cameras or (None, None)
    first, second = (prepare(v, c, step, r) for v, c, r in zip(views, known, (1.0, rate), strict=True))
    least = round(_LEAST_S / step)
    if min(len(first.size), len(second.size)) < least:
        return None
    essential = None if cameras is None else essential_matrix(*cameras)
    lags, score = correlate(_speeds(first), _speeds(second), least=least)
    wanted = None if near is None else round((near - first.start + second.start) / step)
    places = _peaks(lags, score, wanted, round(0.5 / step))
    if essential is not None:
        lags, score = _epipolar_scores(first, second, essential, least)
        places = [*_peaks(lags, score, wanted, round(0.5 / step)), *places]
    candidates = [_look_closely(first, second, essential, lag, lags) for lag in _apart(places, round(0.1 / step))]
    ranked = sorted((c for c in candidates if c is not None), key=lambda c: (not c.convinces, c.residual))
    if not ranked:
        return None
    best, line = ranked[0], ranked[0].line
    rivals = [c for c in ranked[1:] if abs(c.line.value - line.value) > 0.1 / step and c.convinces >= best.convinces]
    slope, slope_error = _believed_slope(line, len(second.size))
    start = first.start - second.start
    at = first.start + (line.middle + line.value) * step, (second.start + line.middle * step) / rate
    return Match(
        "motion", at, max(line.value_error, _SUREST) * step, rate * (1.0 + slope), slope_error,
        Curve(lags * step + start, score), best.parts, best.residual,
        1.0 - best.residual / rivals[0].residual if rivals else 1.0,
        rivals[0].line.value * step + start if rivals else float("nan"), best.convinces,
    )  # fmt: skip


def _peaks(lags: Array, score: Array, wanted: int | None, reach: int) -> list[int]:
    """Delays of the highest peaks of a curve, in samples."""
    if wanted is not None:
        score = np.where(np.abs(lags - wanted) <= reach, score, np.nan)
    known = np.where(np.isfinite(score), score, -np.inf)
    if not np.isfinite(known).any():
        return []
    floor = float(np.median(known[np.isfinite(known)]))
    least = floor + _TIED * (float(known.max()) - floor)
    padded = np.pad(known, 1, constant_values=-np.inf)
    tops = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] > padded[2:]) & (known >= least))
    return [int(lags[top]) for top in sorted(tops, key=lambda top: -known[top])]


def _apart(places: list[int], reach: int) -> list[int]:
    chosen: list[int] = []
    for place in places:
        if len(chosen) < _CANDIDATES and all(abs(place - other) > reach for other in chosen):
            chosen.append(place)
    return chosen


def prepare(view: Keypoints2D, camera: Camera | None, step: float, rate: float = 1.0) -> Track:
    """Lay a view on an even grid of `step` seconds, its own seconds counting `rate` times."""
    times = np.asarray(view.times, float) * rate
    pixels = np.array(view.positions[:, BODY][:, _JOINTS], float)
    pixels[~(np.asarray(view.confidence, float)[:, BODY][:, _JOINTS] >= _SEEN)] = np.nan
    pixels = interpolate(pixels, times, np.arange(times[0], times[-1] + 1e-6, step))
    size = _person_size(pixels, step)
    if camera is not None:
        focal = float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
        with np.errstate(invalid="ignore", over="ignore"):
            return Track(normalise(camera, pixels), size / focal, float(times[0]), step)
    width, height = view.image_size
    longer = float(max(width, height))
    return Track((pixels - np.array([width, height]) / 2) / longer, size / longer, float(times[0]), step)


def interpolate(values: Array, times: Array, wanted: Array) -> Array:
    """(K, ...) linear interpolation of (T, ...) samples at `wanted` (K,) times; NaN where a neighbour is."""
    if len(times) == 1:
        return np.repeat(values, len(wanted), 0)
    after = np.clip(np.searchsorted(times, wanted, side="right"), 1, len(times) - 1)
    part = (wanted - times[after - 1]) / (times[after] - times[after - 1])
    part = np.where(np.abs(part) < 1e-3, 0.0, np.where(np.abs(part - 1) < 1e-3, 1.0, part))
    part = part.reshape(-1, *[1] * (values.ndim - 1))
    low, high = values[after - 1], values[after]
    return np.where(part == 0.0, low, np.where(part == 1.0, high, low * (1 - part) + high * part))


def _person_size(pixels: Array, step: float) -> Array:
    """(T,) px, the diagonal of the person's box: the median of a second around, and of the clip where unseen."""
    seen = np.isfinite(pixels[..., 0]).sum(1) >= 5
    size = np.full(len(pixels), np.nan)
    if seen.any():
        size[seen] = np.linalg.norm(np.nanmax(pixels[seen], 1) - np.nanmin(pixels[seen], 1), axis=-1)
    half = max(1, round(0.5 / step))
    padded = np.pad(size, half, constant_values=np.nan)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[:: max(half // 2, 1)]
    usual = float(np.median(size[seen])) if seen.any() else 1.0
    medians = np.array([np.median(b[np.isfinite(b)]) if np.isfinite(b).any() else usual for b in blocks])
    return np.maximum(np.interp(np.arange(len(size)), np.arange(len(medians)) * max(half // 2, 1), medians), 1e-6)


def essential_matrix(first: Camera, second: Camera) -> Array:
    """(3, 3) E with x_first^T E x_second = 0 for normalised coordinates of the same point."""
    turn = first.rotation @ second.rotation.T
    x, y, z = first.translation - turn @ second.translation
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ turn


def epipolar_error(matrix: Array, first: Grid, second: Grid) -> tuple[Array, Array]:
    """Sampson's distance of pairs of points, in parts of the person's size.

    Args:
        matrix: (3, 3) fundamental or essential; first, second: positions (..., 2) and sizes (...).
    Returns:
        (...) signed distances; (..., 2) how they change when the second point moves.
    """
    (a, size_a), (b, size_b) = first, second
    line_b = a @ matrix[:2] + matrix[2]  # in the second view
    line_a = b @ matrix[:, :2].T + matrix[:, 2]
    value = (line_b[..., :2] * b).sum(-1) + line_b[..., 2]
    scale = np.sqrt((line_b[..., :2] ** 2).sum(-1) * size_b**2 + (line_a[..., :2] ** 2).sum(-1) * size_a**2)
    scale = np.maximum(scale, 1e-12)
    return value / scale, line_b[..., :2] / scale[..., None]


def _speeds(track: Track) -> Array:
    """(T, J) vertical speeds in sizes, smoothed, of unit spread, NaN unseen."""
    sigma = max(_SMOOTH_S / track.step, 0.7)
    taps = np.arange(-round(3 * sigma), round(3 * sigma) + 1)
    kernel = -taps * np.exp(-0.5 * (taps / sigma) ** 2)
    kernel = kernel / (taps * kernel).sum()
    height = track.positions[..., 1] / track.size[:, None]
    padded = np.pad(height, ((len(taps) // 2,) * 2, (0, 0)), constant_values=np.nan)
    speed = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=0) @ kernel
    for joint in range(speed.shape[1]):
        known = np.isfinite(speed[:, joint])
        if not known.any():
            continue
        speed[:, joint] -= np.median(speed[known, joint])
        usual = max(float(np.median(np.abs(speed[known, joint]))), 1e-4)
        speed[:, joint] = np.clip(speed[:, joint], -_CLIP * usual, _CLIP * usual)
    return speed


def _epipolar_scores(
    first: Track, second: Track, essential: Array, least: int, *, most: int = _MOMENTS
) -> tuple[Array, Array]:
    """Share of joints whose rays meet, for every delay; frames of the shorter clip slide along the longer one."""
    if len(second.size) > len(first.size):
        lags, score = _epipolar_scores(second, first, essential.T, least, most=most)
        return -lags[::-1], score[::-1]
    count, other = len(first.size), len(second.size)
    moments = np.unique(np.linspace(0, other - 1, min(other, most)).round().astype(int))
    lags = np.arange(1 - other, count)
    some = np.arange(0, len(lags), 1 if len(lags) < 4000 else 2)
    score, weight = np.full((2, len(lags)), np.nan)
    chunk = max(1, _CHUNK // (len(moments) * len(_JOINTS) * 8))
    for start in range(0, len(some), chunk):
        rows = some[start : start + chunk]
        at = lags[rows][:, None] + moments
        inside = (at >= 0) & (at < count)
        at = np.clip(at, 0, count - 1)
        error, _ = epipolar_error(
            essential, (first.positions[at], first.size[at][..., None]),
            (second.positions[moments][None], second.size[moments][None, :, None]),
        )  # fmt: skip
        known = np.isfinite(error) & inside[..., None]
        agreed = np.where(known, 1.0 / (1.0 + np.where(known, error / _COARSE, 0.0) ** 2), 0.0)
        weight[rows] = known.sum((1, 2))
        score[rows] = agreed.sum((1, 2)) / np.maximum(weight[rows], 1)
    overlap = np.minimum(count, lags + other) - np.maximum(lags, 0)
    score[(overlap < least) | (weight < 5 * min(least, len(moments) // 4))] = np.nan
    if len(some) < len(lags) and np.isfinite(score).any():
        gaps = ~np.isfinite(score) & (overlap >= least)
        known = np.isfinite(score)
        score[gaps] = np.interp(lags[gaps], lags[known], score[known])
    middle = float(np.median(score[np.isfinite(score)])) if np.isfinite(score).any() else 0.0
    return lags, middle + (score - middle) * np.sqrt(overlap / (overlap + 2.0 * least))


def _look_closely(first: Track, second: Track, essential: Array | None, lag: int, lags: Array) -> _Candidate | None:
    """Follow a delay through the overlap."""
    overlap = min(len(first.size), lag + len(second.size)) - max(lag, 0)
    reach = round(_REACH_S / first.step + _DRIFT * overlap)
    reach = max(4, min(reach, overlap // 4))
    found, around = None, np.zeros(0)
    for _ in range(3):
        around = lag + np.arange(-reach, reach + 1)
        found = _doubts(first, second, essential, around)
        if found is None:
            return None
        best = round(float(found.delays[found.doubts.mean(1).argmin()]))
        if abs(best - lag) < reach // 2:
            break
        lag = int(np.clip(best, lags[0], lags[-1]))
    assert found is not None
    return _windows(found, first.step)


@dataclass(frozen=True)
class _Doubts:
    """What moments (S,), samples of the second clip, say of delays (K,), samples.

    doubts (K, S) are summed over the joints of a moment, of which there are joints (S,); residual: by how much half of
    all joints miss at the best delay.
    """

    delays: Array
    moments: Array
    doubts: Array
    joints: Array
    residual: float


def _doubts(first: Track, second: Track, essential: Array | None, around: Array) -> _Doubts | None:
    """Doubt of the joints of many moments at the delays `around` (K,), samples.

    None where too few are seen.
    """
    low, high = max(0, -int(around.min())), min(len(second.size), len(first.size) - int(around.max()))
    if high - low < 8:
        return None
    moments = np.unique(np.linspace(low, high - 1, min(high - low, _FINE_MOMENTS)).round().astype(int))
    there = np.isfinite(second.positions[moments]).all(-1)
    for lag in (around[0], around[len(around) // 2], around[-1]):
        there &= np.isfinite(first.positions[moments + lag]).all(-1)
    if there.sum() < 60:
        return None
    frame, joint = np.nonzero(there)
    at = moments[frame]
    b = second.positions[at, joint], second.size[at]
    errors = np.empty((len(around), len(at)))
    for row, lag in enumerate(around):
        a = first.positions[at + lag, joint], first.size[at + lag]
        whole = np.isfinite(a[0]).all(-1)
        a = np.where(whole[:, None], a[0], 0.0), a[1]
        error = _adjusted(essential, a, b, whole) if essential is not None else _fitted(a, b, whole)
        errors[row] = np.where(whole, _without_habits(error, joint, whole), np.nan)
        if row and essential is None and np.nansum(errors[row] * errors[row - 1]) < 0:
            errors[row] *= -1.0  # a fundamental matrix has no sign
    usual = float(np.nanmedian(np.abs(errors), 1).min())
    scale = float(np.clip(2.0 * usual, *_FINE))
    delays, between = _between(around, errors)
    doubt = np.where(np.isfinite(between), 1.0 - 1.0 / (1.0 + (between / scale) ** 2), 1.0)
    counts = np.bincount(frame, minlength=len(moments))
    summed = np.stack([np.bincount(frame, row, len(moments)) for row in doubt])
    return _Doubts(delays, moments, summed, counts, usual)


def _between(around: Array, errors: Array) -> tuple[Array, Array]:
    """Errors at delays between frames, by parabolas through three frames.

    Between frames the noise of three of them is averaged, which would draw every delay there: errors are divided by
    what is left of it.
    """
    parts = (np.arange(_BETWEEN) - _BETWEEN // 2) / _BETWEEN
    before, here, after = errors[:-2], errors[1:-1], errors[2:]
    rows = []
    for d in parts:
        weights = 0.5 * (d * d - d), 1.0 - d * d, 0.5 * (d * d + d)
        left = np.sqrt(0.5 * (1.0 + sum(w * w for w in weights)))
        rows.append((weights[0] * before + weights[1] * here + weights[2] * after) / left)
    delays = (around[1:-1, None] + parts).ravel()
    return delays, np.stack(rows, 1).reshape(len(delays), -1)


def _without_habits(error: Array, joint: Array, whole: Array) -> Array:
    """Errors without what each joint has all along: a detector places it elsewhere from one side than from another."""
    known = np.where(whole, 1.0 / (1.0 + (error / _COARSE) ** 2) ** 2, 0.0)
    total = np.bincount(joint, known, len(_JOINTS)) + 1e-9
    return error - (np.bincount(joint, known * error, len(_JOINTS)) / total)[joint]


def _adjusted(essential: Array, a: Grid, b: Grid, whole: Array) -> Array:
    """Epipolar errors once the second picture is shifted as a camera that was touched would have it."""
    error, change = epipolar_error(essential, a, b)
    size = float(np.median(b[1]))
    shift = np.zeros(2)
    for _ in range(3):
        left = error + change @ shift
        weight = np.where(whole, 1.0 / (1.0 + (left / (_COARSE / 2)) ** 2) ** 2, 0.0)
        normal = (change * weight[:, None]).T @ change + np.eye(2) * len(error) * 1e-4 / (_SHIFTED * size) ** 2
        shift = -np.linalg.solve(normal, (change * weight[:, None]).T @ np.where(whole, error, 0.0))
    return error + change @ shift


def _fitted(a: Grid, b: Grid, whole: Array) -> Array:
    """Epipolar errors under the fundamental matrix that fits best: eight-point, reweighted."""
    (x, y), (u, v) = (_normalised(p[0], whole) for p in (a, b))
    rows = np.stack([x * u, x * v, x, y * u, y * v, y, u, v, np.ones_like(u)], 1)
    spread = [float(np.std(p[0][whole])) * 0.7 for p in (a, b)]
    sizes = a[1] / spread[0], b[1] / spread[1]
    grids = (np.stack([x, y], 1), sizes[0]), (np.stack([u, v], 1), sizes[1])
    weight = np.where(whole, 1.0, 0.0)
    error = np.zeros(len(rows))
    for _ in range(4):
        normal = (rows * weight[:, None]).T @ rows
        matrix = np.linalg.eigh(normal)[1][:, 0].reshape(3, 3)
        left, values, right = np.linalg.svd(matrix)
        matrix = (left[:, :2] * values[:2]) @ right[:2]
        line_b = grids[0][0] @ matrix[:2] + matrix[2]
        line_a = grids[1][0] @ matrix[:, :2].T + matrix[:, 2]
        power = (line_b[:, :2] ** 2).sum(1) * sizes[1] ** 2 + (line_a[:, :2] ** 2).sum(1) * sizes[0] ** 2
        error, _ = epipolar_error(matrix, *grids)
        robust = 1.0 / (1.0 + (error / (_COARSE / 2)) ** 2) ** 2
        weight = np.where(whole, robust / np.maximum(power, 1e-12), 0.0)
        weight = weight / max(float(weight.max()), 1e-12)
    return error


def _normalised(points: Array, whole: Array) -> tuple[Array, Array]:
    centred = points - points[whole].mean(0)
    spread = max(float(np.std(points[whole])) * 0.7, 1e-9)
    return centred[:, 0] / spread, centred[:, 1] / spread


def _windows(found: _Doubts, step: float) -> _Candidate:
    """Ask parts of the overlap one by one, and draw a line through what they say."""
    delays, moments, doubts, joints = found.delays, found.moments, found.doubts, found.joints
    whole = -doubts.sum(1) / joints.sum()
    overall = refine_peak(delays, whole, int(whole.argmax()), reach=4 * _BETWEEN)
    span = float(np.ptp(moments)) * step
    count = int(np.clip(span / _WINDOW_S, min(5, span / _SHORTEST_S), _WINDOWS))
    places, told = [], []
    for part in np.array_split(np.arange(len(moments)), max(count, 1)):
        score = -doubts[:, part].sum(1) / max(joints[part].sum(), 1)
        best = int(score.argmax())
        if score[best] - np.median(score) > _TELLING:
            places.append(float(moments[part].mean()))
            told.append(refine_peak(delays, score, best, reach=4 * _BETWEEN))
    dip = float(whole.max() - np.median(whole))
    if len(places) < 3:
        alone = Line(float(moments.mean()), overall, 1.0, 0.0, np.inf, np.ones(1, bool))
        return _Candidate(alone, (0, len(places)), found.residual, dip, span)
    line = _sheared(fit_line(np.array(places), np.array(told), least_error=0.1), found)
    miss = np.abs(np.array(told) - line.value - line.slope * (np.array(places) - line.middle))
    parts = int((miss <= 0.05 / step).sum()), len(places)
    if _believed_slope(line, int(np.ptp(moments)))[0] == 0.0:
        # Without drift all moments together say it best; windows only say how surely.
        line = Line(float(moments.mean()), overall, line.value_error, line.slope, line.slope_error, line.kept)
    return _Candidate(line, parts, found.residual, dip, span)


def _sheared(line: Line, found: _Doubts) -> Line:
    """Find the drift of a line by which all moments together agree best; parts of a clip alone say it less surely."""
    length = float(np.ptp(found.moments))
    if length * _DRIFT < 0.5:
        return line
    slopes = np.linspace(-1.3, 1.3, 53) * _DRIFT
    parts = np.array_split(np.arange(len(found.moments)), 48)
    curves = [found.doubts[:, part].sum(1) for part in parts]
    away = [float(found.moments[part].mean()) - line.middle for part in parts]
    step = found.delays[1] - found.delays[0]

    def agreement(slope: float) -> tuple[float, float]:
        shifted = [np.interp(found.delays + slope * d, found.delays, c) for c, d in zip(curves, away, strict=True)]
        score = -np.sum(shifted, 0)
        best = int(score.argmax())
        return float(score[best]), refine_peak(found.delays, score, best, reach=round(4 / step))

    scores = np.array([agreement(slope)[0] for slope in slopes])
    slope = refine_peak(slopes, scores, int(scores.argmax()))
    error = line.value_error * np.sqrt(12.0) / length
    return Line(line.middle, agreement(slope)[1], line.value_error, slope, error, line.kept)


def _believed_slope(line: Line, frames: int) -> tuple[float, float]:
    """Take clocks to run alike unless they clearly do not."""
    told = abs(line.slope) * frames >= 0.5 and abs(line.slope) > 4 * line.slope_error and line.kept.sum() >= 5
    told = told and abs(line.slope) <= 1.3 * _DRIFT  # clocks of cameras do no worse
    return (line.slope if told else 0.0), line.slope_error
