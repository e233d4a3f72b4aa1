"""Fewer keys for the same motion, within stated tolerances.

Keys are taken away so that what Blender plays between those that stay, interpolating every channel linearly, is nowhere
further from the dense motion than the tolerance: degrees for rotations, millimetres for locations. All channels of a
bone keep the same frames. The frame that errs most in a gap gets its key back, until none errs too much
(Douglas & Peucker 1973, in the space of rotations).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..rotations import unit

Array = np.ndarray


@dataclass(frozen=True)
class Track:
    """Values (K, C) of one property at each frame, and `error`: how far (K, C) interpolated ones are, in tolerances."""

    values: Array
    error: Callable[[Array], Array]


def rotation_track(
    values: Array, quaternions: Array, to_quaternion: Callable[[Array], Array], tolerance: float
) -> Track:
    """A property whose values (K, C) mean the rotations (K, 4); `tolerance` in radians."""
    truth = unit(quaternions)

    def error(interpolated: Array) -> Array:
        dot = np.abs(np.sum(truth * unit(to_quaternion(interpolated)), axis=-1))
        return 2.0 * np.arccos(np.minimum(dot, 1.0)) / tolerance

    return Track(values, error)


def location_track(values: Array, tolerance: float) -> Track:
    """A property of places (K, 3); `tolerance` in their unit."""
    return Track(values, lambda interpolated: np.linalg.norm(interpolated - values, axis=-1) / tolerance)


def needed_keys(frames: Array, tracks: Sequence[Track]) -> Array:
    """Indices (N,) of the frames (K,) that all tracks of a bone have to keep.

    The first and the last are kept; of a bone that never moves, only the first.
    """
    count = len(frames)
    kept = np.zeros(count, bool)
    kept[[0, -1]] = True
    if all(np.ptp(track.values, axis=0).max() == 0.0 for track in tracks):
        kept[1:] = False
        return np.flatnonzero(kept)
    while True:
        keys = np.flatnonzero(kept)
        worst = np.max([track.error(_interpolated(frames, keys, track.values)) for track in tracks], axis=0)
        worst[keys] = 0.0
        if worst.max() <= 1.0:
            return keys
        gap = np.searchsorted(keys, np.arange(count), side="right") - 1
        most = np.zeros(len(keys))
        np.maximum.at(most, gap, worst)
        kept |= (worst > 1.0) & (worst == most[gap])


def _interpolated(frames: Array, keys: Array, values: Array) -> Array:
    at = frames[keys]
    return np.stack([np.interp(frames, at, column) for column in values[keys].T], axis=-1)
