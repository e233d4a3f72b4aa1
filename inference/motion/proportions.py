"""A person's proportions from keypoints: one length for each bone and clip, equal on both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.filters import noise_level
from ..core.humanoid import DEFAULT, FINGERS, FOOT_POINTS, HAND_POINTS, HEAD_POINTS, Proportions, keypoint
from ..core.rotations import rotate_onto

Array = np.ndarray
_LENGTHS = {
    "hips": [("LHip", "RHip")],
    "shoulders": [("LShoulder", "RShoulder")],
    "upper_arm": [("LShoulder", "LElbow"), ("RShoulder", "RElbow")],
    "forearm": [("LElbow", "LWrist"), ("RElbow", "RWrist")],
    "thigh": [("LHip", "LKnee"), ("RHip", "RKnee")],
    "shin": [("LKnee", "LAnkle"), ("RKnee", "RAnkle")],
    "torso": [("MidHip", "Neck")],
}
_QUANTILE = {"torso": 0.75}  # a bent spine brings hips and shoulders nearer: the straight one is the longest
_PRIOR_FRAMES = 0.2  # how many certain frames the average person counts for
_RANGE = (0.55, 1.7)  # of a length against the average person's, scaled to this one's size
_FRAMES = 200  # at most this many frames, the surest, shape palm, foot and head
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Measured:
    value: float
    frames: float  # how many certain frames stand behind it


def measure_person(positions: Array, weights: Array) -> Proportions:
    """Estimate proportions from (T, 137, 3) keypoints with (T, 137) weights in [0, 1].

    Lengths are weighted medians over both sides; what is not seen follows the average person, scaled to what is seen.
    """
    found = {name: _length(positions, weights, pairs, _QUANTILE.get(name, 0.5)) for name, pairs in _LENGTHS.items()}
    size = _size({name: (f, getattr(DEFAULT, name)) for name, f in found.items()})
    lengths = {name: _settle(f, size * getattr(DEFAULT, name)) for name, f in found.items()}
    person = replace(DEFAULT, **lengths)
    hand = [f"Hand{name}" for name in HAND_POINTS]
    palm, hand_size = _part(positions, weights, hand, _with_origin("palm"), size)
    foot, _ = _part(positions, weights, ["Ankle", *FOOT_POINTS], _with_origin("foot"), size)
    head, head_size = _head(positions, weights, size)
    return replace(
        person,
        neck=0.5 * (size + head_size) * DEFAULT.neck,
        head=head,
        palm=palm[1:] - palm[0],
        foot=foot[1:] - foot[0],
        fingers=_fingers(positions, weights, hand_size),
    )


def _length(positions: Array, weights: Array, pairs: list[tuple[str, str]], quantile: float) -> _Measured:
    """Length between pairs of keypoints, all pairs together.

    Noise across a bone lengthens it by as much as its noise along the bone shows: d^2 ~ L^2 + 2 s^2, taken off again.
    """
    ends = np.array([(keypoint(a), keypoint(b)) for a, b in pairs]).T
    weight = np.minimum(weights[:, ends[0]], weights[:, ends[1]])
    distance = np.linalg.norm(positions[:, ends[0]] - positions[:, ends[1]], axis=-1)
    excess = 2.0 * noise_level(distance[..., None], weight > 0) ** 2
    distance = np.sqrt(np.maximum(distance**2 - excess, 0.25 * distance**2))
    d, w = distance[weight > 0], weight[weight > 0]
    return _Measured(_weighted_quantile(d, w, quantile), float(w.sum())) if len(d) else _Measured(0.0, 0.0)


def _weighted_quantile(values: Array, weights: Array, quantile: float) -> float:
    order = np.argsort(values)
    rank = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(quantile * weights.sum(), rank, values[order]))


def _size(found: dict[str, tuple[_Measured, float]]) -> float:
    """Size of the person against the average one, by the median of what is seen."""
    ratios = [(f.value / usual, f.frames) for f, usual in found.values() if f.frames > 0]
    if not ratios:
        return 1.0
    values, weights = np.array(ratios).T
    return _weighted_quantile(values, weights, 0.5)


def _settle(found: _Measured, usual: float) -> float:
    """Draw a measured length towards the usual one where little stands behind it, and keep it in a sane range."""
    value = (found.frames * found.value + _PRIOR_FRAMES * usual) / (found.frames + _PRIOR_FRAMES)
    return float(np.clip(value, _RANGE[0] * usual, _RANGE[1] * usual))


def _with_origin(name: str) -> Array:
    return np.concatenate([np.zeros((1, 3)), DEFAULT.table(name)])


def _part(positions: Array, weights: Array, names: list[str], usual: Array, size: float) -> tuple[Array, float]:
    """Shape of a stiff part that exists on both sides, as the left one's."""
    points, seen = [], []
    for side, mirror in (("L", np.ones(3)), ("R", MIRROR)):
        index = [keypoint(side + name) for name in names]
        points.append(positions[:, index] * mirror)
        seen.append(weights[:, index])
    return mean_shape(np.concatenate(points), np.concatenate(seen), usual, size)


def _head(positions: Array, weights: Array, size: float) -> tuple[Array, float]:
    index = [keypoint(name) for name in HEAD_POINTS]
    usual = np.array(list(HEAD_POINTS.values()))
    shape, scale = mean_shape(positions[:, index], weights[:, index], usual, size)
    other = [int(np.argmin(np.linalg.norm(usual - point * MIRROR, axis=-1))) for point in usual]
    return 0.5 * (shape + shape[other] * MIRROR), scale


def mean_shape(points: Array, weights: Array, usual: Array, size: float) -> tuple[Array, float]:
    """Average (N, K, 3) views of a stiff shape after turning each onto the `usual` (K, 3) one (Procrustes).

    Returns:
        The shape (K, 3) in the usual one's place and pose, and its size against the usual one.
    """
    best = np.argsort(-weights.sum(axis=1), kind="stable")[:_FRAMES]
    best = best[(weights[best] > 0).sum(axis=1) >= 3]
    if not len(best):
        return usual * size, size
    w = weights[best]
    p = np.where(w[..., None] > 0, points[best], 0.0)
    shape, total = usual * size, w.sum(axis=0)
    for _ in range(3):
        turn, centre, middle = rotate_onto(np.broadcast_to(shape, p.shape), p, w)
        laid = np.einsum("nji,nkj->nki", turn, p - middle[:, None]) + centre[:, None]
        laid = np.where(w[..., None] > 0, laid, 0.0)
        mean = np.einsum("nk,nki->ki", w, laid) / np.maximum(total, 1e-9)[:, None]
        scale = _spread(mean, total) / _spread(usual, total)
        share = (total / (total + _PRIOR_FRAMES))[:, None]
        shape = share * mean + (1 - share) * usual * scale
        turn, centre, middle = rotate_onto(usual[None] * scale, shape[None], np.maximum(total, 1e-3)[None])
        shape = (shape - middle) @ turn[0] + centre
    return shape, float(np.clip(scale, *_RANGE))


def _spread(shape: Array, weights: Array) -> float:
    share = weights / weights.sum()
    return float(np.sqrt(np.sum(share[:, None] * (shape - share @ shape) ** 2)))


def _fingers(positions: Array, weights: Array, size: float) -> Array:
    usual = size * DEFAULT.table("fingers")
    out = np.empty_like(usual)
    for row, finger in enumerate(FINGERS):
        for i in range(3):
            names = [f"Hand{finger.capitalize()}{i + 1}", f"Hand{finger.capitalize()}{i + 2}"]
            pairs = [(side + names[0], side + names[1]) for side in "LR"]
            out[row, i] = _settle(_length(positions, weights, pairs, 0.5), usual[row, i])
    return out
