"""How much later one clip started than another, by what both of them hear.

First how suddenly each band of hearing grows louder is correlated at all delays, to a hundredth of a second; then
parts of the overlap are compared sample by sample (generalised cross-correlation with phase transform, Knapp & Carter
1976), which room, microphone and loudness do not touch. Sound travels 34 cm in a millisecond: microphones that stand
5 m apart disagree by half a frame, which no clip can tell from a delay.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..core.correlation import Curve, correlate, find_peak, fit_line
from ..runtime.sound import RATE, Sound
from .sync_motion import AGREEING_SHARE, CLEAR, Match

Array = np.ndarray
_HOP = 80  # samples: 100 envelopes a second
_FRAME = 256
_BANDS = 12
_LEAST_S = 1.5  # of overlap
_SILENT = 1e-4  # of full scale
_PART_S, _PARTS = 2.0, 16
_REACH_S, _DRIFT = 0.05, 0.0006  # how far around the coarse delay a part is searched: at least, and of the overlap
_SECTION_S = 20.0
_NEAR_S = 0.5
_AGREE_S = 0.005
_HEIGHT = 5.0  # of a part's peak, in standard deviations of its curve


def match_by_sound(first: Sound, second: Sound, *, near: float | None = None) -> Match | None:
    """Find the delay of the second clip; None where either is silent or too short."""
    onsets = [_onsets(sound.samples) for sound in (first, second)]
    if onsets[0] is None or onsets[1] is None:
        return None
    best: Match | None = None
    for section in _sections(len(onsets[1])):
        heard = np.full_like(onsets[1], np.nan)
        heard[section] = onsets[1][section]
        found = _match(first, second, onsets[0], heard, near)
        if found is not None and (best is None or found.parts > best.parts):
            best = found
        if best is not None and best.clear:
            break
    return best


def _sections(count: int) -> list[slice]:
    """The whole of a sound; parts of a long one, through which clocks that differ do not blur the correlation."""
    size = round(_SECTION_S * RATE / _HOP)
    starts = np.linspace(0, count - size, 3).astype(int) if count > 2 * size else []
    return [slice(0, count), *(slice(start, start + size) for start in starts)]


def _match(first: Sound, second: Sound, onsets: Array, heard: Array, near: float | None) -> Match | None:
    hop = _HOP / RATE
    least = round(_LEAST_S / hop)
    if min(len(onsets), len(heard)) < least:
        return None
    lags, score = correlate(onsets, heard, least=least)
    start = first.start - second.start
    if near is not None:
        score = np.where(np.abs(lags * hop + start - near) <= _NEAR_S, score, np.nan)
    curve = Curve(lags * hop + start, score)
    peak = find_peak(curve)
    if peak is None:
        return None
    moments, found = _parts(first, second, peak.delay - start)
    about = {"curve": curve, "residual": float("nan"), "clarity": peak.clarity, "rival": peak.rival}
    if not len(moments):
        return Match("sound", (peak.delay, 0.0), hop, 1.0, np.inf, parts=(0, 0), convincing=False, **about)
    line = fit_line(moments, found, least_error=0.0005)
    miss = np.abs(found - line.value - line.slope * (moments - line.middle))
    agreeing, telling = int((miss <= _AGREE_S).sum()), len(moments)
    drifts = abs(line.slope) > 4 * line.slope_error and abs(line.slope) * float(np.ptp(moments)) > 2 * _AGREE_S
    slope = line.slope if drifts and agreeing >= 5 else 0.0
    value = line.value if slope else float(np.median(found[line.kept]))
    middle = line.middle + second.start
    alone = agreeing == telling == 1 and peak.clarity >= 2 * CLEAR
    return Match(
        "sound", (line.middle + value + first.start, middle), max(line.value_error, 0.0005), 1.0 + slope,
        line.slope_error, parts=(agreeing, telling),
        convincing=alone or agreeing >= max(2, AGREEING_SHARE * telling), **about,
    )  # fmt: skip


def _onsets(samples: Array) -> Array | None:
    """(T, 12) how much louder each band grows from hop to hop, zero mean; None: silence."""
    if len(samples) < 4 * _FRAME or float(np.abs(samples).max()) < _SILENT:
        return None
    window = np.hanning(_FRAME).astype(np.float32)
    edges = np.unique(np.geomspace(3, _FRAME // 2 + 1, _BANDS + 1).round().astype(int))
    blocks = []
    count = (len(samples) - _FRAME) // _HOP + 1
    for start in range(0, count, 8192):
        stop = min(start + 8192, count)
        part = samples[start * _HOP : (stop - 1) * _HOP + _FRAME]
        frames = np.lib.stride_tricks.sliding_window_view(part, _FRAME)[::_HOP]
        power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
        blocks.append(np.stack([power[:, a:b].sum(1) for a, b in pairwise(edges)], 1))
    bands = np.concatenate(blocks)
    loudness = np.log(bands + 2.0 * np.median(bands, 0) + 1e-3 * bands.mean(0) + 1e-12)  # hiss does not flicker
    growth = np.maximum(np.diff(loudness, axis=0), 0.0)
    return growth - growth.mean(0)


def _parts(first: Sound, second: Sound, lag_s: float) -> tuple[Array, Array]:
    """Compare parts of the overlap sample by sample.

    Args:
        lag_s: delay between first samples, about.
    Returns:
        (M,) seconds into the second sound and (M,) delays there between first samples, of parts that tell one.
    """
    lag = round(lag_s * RATE)
    low, high = max(0, -lag), min(len(second.samples), len(first.samples) - lag)
    reach, size = round(_REACH_S * RATE + _DRIFT * max(high - low, 0)), round(_PART_S * RATE)
    size = min(size, high - low)
    if size < RATE // 2:
        return np.zeros(0), np.zeros(0)
    count = int(np.clip((high - low) // size, 1, 4 * _PARTS))
    starts = np.linspace(low, high - size, count).round().astype(int)
    loud = np.array([np.square(second.samples[s : s + size]).mean() for s in starts])
    starts = np.sort(starts[np.argsort(-loud)[:_PARTS]])
    moments, delays = [], []
    for start in starts:
        here = second.samples[start : start + size]
        there = first.samples[start + lag : start + lag + size]
        found = _phase_delay(there, here, reach)
        if found is not None:
            moments.append((start + size / 2) / RATE)
            delays.append((lag + found) / RATE)
    return np.array(moments), np.array(delays)


def _phase_delay(first: Array, second: Array, reach: int) -> float | None:
    """Samples by which the first lags behind the second, within `reach`; None where nothing stands out."""
    size = 1 << int(np.ceil(np.log2(2 * len(first))))
    cross = np.fft.rfft(first, size) * np.fft.rfft(second, size).conj()
    strength = np.abs(cross)
    if not strength.any():
        return None
    cross = cross / np.maximum(strength, 0.1 * np.mean(strength))  # whitened, but for what is hardly heard
    curve = np.fft.irfft(cross, size)
    curve = np.concatenate([curve[-reach:], curve[: reach + 1]])
    best = int(curve.argmax())
    spread = 1.4826 * float(np.median(np.abs(curve - np.median(curve)))) + 1e-20
    if not 0 < best < len(curve) - 1 or curve[best] < _HEIGHT * spread:
        return None
    before, top, after = curve[best - 1 : best + 2]
    bend = before - 2 * top + after
    return best - reach + (0.5 * (before - after) / bend if bend < 0 else 0.0)
