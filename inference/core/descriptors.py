"""Arithmetic of pose descriptors: points between them, keyed ones over time, and poses carried to another person.

A descriptor (D,) says how a head is held and what its face does, and little of whose it is (Burkov et al. 2020). What
lies between two is found along the great circle between their directions, where descriptors keep their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..protocol.errors import InputError

Array = np.ndarray
_PARALLEL = 1e-6  # of the sine of an angle: below, directions are one and the same
_SOFT = 1e-2  # of the largest eigenvalue: directions that move readings less are left alone

# What belongs to a region of the face, by the beginnings of the names of its ARKit weights.
REGIONS = {"lips": ("mouth", "jaw", "tongue"), "eyes": ("eye", "brow")}


def slerp(start: Array, end: Array, along: Array | float) -> Array:
    """Go `along` (...) of the great circle from `start` (..., D) to `end` (..., D), and of the way between lengths.

    0 is the start, 1 the end, anything beyond goes on. Opposite directions have no one circle: there, lines are used.
    """
    along = np.asarray(along, float)[..., None]
    lengths = np.linalg.norm(start, axis=-1, keepdims=True), np.linalg.norm(end, axis=-1, keepdims=True)
    a, b = (side / np.maximum(length, 1e-12) for side, length in zip((start, end), lengths, strict=True))
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True), -1.0, 1.0))
    sine = np.sin(angle)
    straight = np.abs(sine) < _PARALLEL
    safe = np.where(straight, 1.0, sine)
    first = np.where(straight, 1.0 - along, np.sin((1.0 - along) * angle) / safe)
    second = np.where(straight, along, np.sin(along * angle) / safe)
    return (first * a + second * b) * (lengths[0] + along * (lengths[1] - lengths[0]))


def blend(descriptors: Array, weights: Array) -> Array:
    """Mix kept descriptors (K, D) by weights (T, K) >= 0, as they are keyed: (T, D).

    Two that share a moment are slerped by their shares; of more, each is added to what those before it gave. Where
    all weights are 0, the moment before counts, and at the beginning the first descriptor.
    """
    weights = np.clip(np.asarray(weights, float), 0.0, None)
    mixed, total = np.repeat(descriptors[:1].astype(float), len(weights), 0), weights[:, 0].copy()
    for one, weight in zip(descriptors[1:], weights.T[1:], strict=True):
        total += weight
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        mixed = slerp(mixed, np.broadcast_to(one, mixed.shape), share)
    for t in np.flatnonzero(total <= 0):
        mixed[t] = mixed[t - 1] if t else descriptors[0]
    return mixed


def carry_over(driver: Array, own: Array, *, strength: float, reference: Array | None, keep: Array | None) -> Array:
    """Let a person whose own pose is `own` (D,) do what a driver's descriptors (T, D) say: (T, D).

    Args:
        strength: 0 leaves the own pose, 1 takes the driver's, more exaggerates it.
        reference: (D,) the driver at rest: only what differs from it is carried over. Without it, poses are
            taken as they are.
        keep: (D, D) what of a change is let pass, see `only`.
    """
    if reference is not None:
        wanted = own + strength * (driver - reference)
    else:
        wanted = slerp(np.broadcast_to(own, driver.shape), driver, strength)
    return wanted if keep is None else own + (wanted - own) @ keep.T


def only(region: str, weight: Array, names: Sequence[str]) -> Array:
    """(D, D) projection of a change of descriptor onto what moves one region of the face and nothing else.

    The least change whose readings are the wanted ones in the region and zero outside: pinv(W) M W.

    Args:
        weight: (R, D) what reads a descriptor, linearly; `names` (R,) of what it reads.

    Raises:
        InputError: nothing that is read belongs to the region.
    """
    inside = np.array([name.startswith(REGIONS[region]) for name in names])
    if not inside.any():
        raise InputError(f"This network reads nothing of the {region}.", "Choose the whole face.")
    inner = weight @ weight.T
    inner = inner + _SOFT * np.linalg.eigvalsh(inner)[-1] * np.eye(len(weight))
    return weight.T @ np.linalg.solve(inner, inside[:, None] * weight)


def smooth(values: Array, times: Array, seconds: float) -> Array:
    """Average (T, D) over time with a Gaussian of standard deviation `seconds`; 0 changes nothing."""
    if seconds <= 0 or len(values) < 2:
        return values
    out = np.empty_like(values, dtype=float)
    starts, stops = np.searchsorted(times, times - 4 * seconds), np.searchsorted(times, times + 4 * seconds, "right")
    for t, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        near = np.exp(-0.5 * ((times[start:stop] - times[t]) / seconds) ** 2)
        out[t] = near @ values[start:stop] / near.sum()
    return out


def hold_and_fade(seen: Array, times: Array, *, hold_s: float, fade_s: float) -> tuple[Array, Array]:
    """Say which sample stands for each moment, and how opaque it is, where some were not seen.

    Args:
        seen: (T,) bool, at least one of them.

    Returns:
        (T,) int index of a seen sample, and (T,) in [0, 1]. The last one that was seen, before the first one that, is
        held for `hold_s`, then goes within `fade_s`; the next one comes within `fade_s` before it is seen, and stands
        where it is the more opaque of the two.
    """
    index, (first, final) = np.arange(len(seen)), np.flatnonzero(seen)[[0, -1]]
    held = np.maximum.accumulate(np.where(seen, index, first))
    coming = np.minimum.accumulate(np.where(seen, index, final)[::-1])[::-1]
    away_s, fade_s = np.abs(times - times[np.stack([held, coming])]), max(fade_s, 1e-9)
    going, arriving = np.clip(1.0 - (away_s - [[hold_s], [0.0]]) / fade_s, 0.0, 1.0)
    return np.where(arriving > going, coming, held), np.maximum(going, arriving)
