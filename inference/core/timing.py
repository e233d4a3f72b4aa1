"""Where the samples of a clip land on the frames of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..protocol.errors import InputError
from .rotations import continuous, slerp

Array = np.ndarray
Rate = Literal["SCENE", "CLIP", "FRAMES"]
_UNEVEN = 0.5  # of a frame


@dataclass(frozen=True)
class Timing:
    """Keys of an action: scene frame `frames` (K,) shows the clip at `samples` (K,), fractional sample indices."""

    frames: Array
    samples: Array
    resampled: bool


def uneven_s(times: Array, numbers: Array, fps: float) -> float:
    """How many seconds samples at times (T,) are from an even pace by their numbers (T,); 0 below half a frame."""
    even = np.interp(numbers, numbers[[0, -1]], times[[0, -1]])
    away = float(np.abs(times - even).max())
    return away if away * fps >= _UNEVEN else 0.0


def place(times: Array, *, scene_fps: float, start: float, rate: Rate) -> Timing:
    """Choose the frames of the keys of a clip whose first sample lands on frame `start`.

    Args:
        times: (T,) seconds, rising.
        rate: "SCENE" resamples onto whole frames and keeps the speed; "CLIP" keeps every sample, on subframes,
            and the speed; "FRAMES" puts one sample on each frame, so the speed follows the scene's rate.
    Raises:
        InputError: times do not rise.
    """
    times = np.asarray(times, float)
    count = np.arange(len(times), dtype=float)
    if rate == "FRAMES" or len(times) < 2:
        return Timing(start + count, count, False)
    if not np.all(np.diff(times) > 0):
        raise InputError(f"The times of the clip do not rise at sample {int(np.argmin(np.diff(times))) + 1}.")
    frames = start + (times - times[0]) * scene_fps
    whole = np.round(frames)
    if np.abs(frames - whole).max() < 1e-3:
        return Timing(whole, count, False)
    if rate == "CLIP":
        return Timing(frames, count, False)
    wanted = np.arange(np.ceil(frames[0] - 1e-6), np.floor(frames[-1] + 1e-6) + 1.0)
    return Timing(wanted, np.interp(wanted, frames, count), True)


def sample_values(values: Array, timing: Timing) -> Array:
    """(K, ...) linear interpolation of (T, ...) values."""
    if not timing.resampled:
        return values
    low, high, part = _neighbours(values, timing)
    return low + (high - low) * part.reshape(-1, *([1] * (values.ndim - 1)))


def sample_rotations(rotations: Array, timing: Timing) -> Array:
    """(K, ..., 4) quaternions at the keys, signs continuous along the keys."""
    if not timing.resampled:
        return continuous(rotations)
    low, high, part = _neighbours(rotations, timing)
    return continuous(slerp(low, high, part.reshape(-1, *([1] * (rotations.ndim - 2)))))


def _neighbours(values: Array, timing: Timing) -> tuple[Array, Array, Array]:
    index = np.clip(np.floor(timing.samples).astype(int), 0, max(len(values) - 2, 0))
    return values[index], values[np.minimum(index + 1, len(values) - 1)], timing.samples - index
