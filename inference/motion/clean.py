"""Keypoints made fit for solving: without spikes, noise and short gaps, each with a weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.artifacts import Keypoints3D
from ..core.filters import fill_gaps, find_spikes, neighbours
from ..core.humanoid import HEAD_POINTS, keypoint
from ..core.skeletons import HUMANOID_NAMES, LEFT_HAND, OPENPOSE_137, RIGHT_HAND
from ..protocol.errors import InputError

Array = np.ndarray
FAINT = 0.05  # confidence under which a keypoint is noise
GUESSED = 0.1  # what a guessed keypoint counts against a measured one
_SHAPE_M = 0.04  # an error that halves what a keypoint counts: a skeleton misses joints by about as much anyway
_LEAST_TRUST = 0.1
_FILLED = 0.3  # what a filled-in keypoint counts against its neighbours


@dataclass(frozen=True)
class Seen:
    """Keypoints without spikes and short gaps: positions (T, 137, 3), zero where unknown, weights (T, 137).

    precision (T, 137): how firmly each holds the pose; less than its weight where a large error is to be expected.
    """

    positions: Array
    weights: Array
    fps: float
    precision: Array | None = None

    @property
    def firm(self) -> Array:
        """(T, 137) the precision where it is known, else the weights."""
        return self.weights if self.precision is None else self.precision


def clean(keypoints: Keypoints3D, *, gap_s: float, hands: bool) -> Seen:
    """Drop spikes, noise and hands that were not really seen; fill gaps of at most `gap_s` seconds.

    Raises:
        InputError: no frame shows hips or shoulders.
    """
    index = [OPENPOSE_137.index(name) if name in OPENPOSE_137 else -1 for name in keypoints.header["joints"]]
    count = len(keypoints.times)
    positions = np.full((count, len(OPENPOSE_137), 3), np.nan)
    confidence, measured = np.zeros(positions.shape[:2]), np.zeros(positions.shape[:2], bool)
    source = [i for i, place in enumerate(index) if place >= 0]
    place = [index[i] for i in source]
    positions[:, place] = keypoints.positions[:, source]
    confidence[:, place] = keypoints.confidence[:, source]
    measured[:, place] = np.asarray(keypoints.validity, bool)[:, source]
    positions, weights = weigh(positions, confidence, measured, hands=hands)
    _check_seen(weights)
    used = np.flatnonzero((weights > 0).any(axis=0))
    spikes = find_spikes(positions[:, used], weights[:, used] > 0)
    weights[:, used] = np.where(spikes, 0.0, weights[:, used])
    gap = round(gap_s * keypoints.fps)
    filled, known = fill_gaps(positions[:, used], weights[:, used] > 0, gap)
    positions[:, used] = np.where(known[..., None], filled, 0.0)
    weights[:, used] = np.where(known, _bridged(weights[:, used]), 0.0)
    if keypoints.expected_error_m is None:
        return Seen(positions, weights, keypoints.fps)
    error = np.full(weights.shape, np.nan)
    error[:, place] = keypoints.expected_error_m[:, source]
    return Seen(positions, weights, keypoints.fps, weights * trust(error))


def trust(error: Array) -> Array:
    """What counts of a weight where an error (T, C), metres, is to be expected; all of it where nobody knows.

    The inverse of the variance, which is at least that of a skeleton that does not quite have the person's shape. A
    confidence falls with the error, too, but slowly: it says whether a joint may be shown, not how firmly it holds.
    """
    error = np.nan_to_num(error, nan=0.0, posinf=1e3)
    return np.maximum(1.0 / (1.0 + np.square(error / _SHAPE_M)), _LEAST_TRUST)


def weigh(positions: Array, confidence: Array, measured: Array, *, hands: bool) -> tuple[Array, Array]:
    """Say how much each keypoint counts: (T, 137, 3) positions, zero where nothing is known, and (T, 137) weights.

    `measured` (T, 137): seen rather than guessed. A guess of the body counts little, one of a hand nothing.
    """
    is_body = np.arange(len(OPENPOSE_137)) < LEFT_HAND.start
    weights = confidence * np.where(measured, 1.0, np.where(is_body, GUESSED, 0.0))
    whole = np.isfinite(positions).all(axis=-1) & (np.nan_to_num(weights) > FAINT * GUESSED)
    weights = np.where(whole, np.clip(np.nan_to_num(weights), 0.0, 1.0), 0.0)
    positions = np.where(whole[..., None], positions, 0.0)
    _drop_hands(weights, wanted=hands)
    _join_wrists(positions, weights)
    return positions, weights


def _bridged(weights: Array) -> Array:
    """Weights (T, C) with gaps at a share of the lesser of their ends."""
    known = weights > 0
    before, after = neighbours(known)
    count = len(weights)
    first = np.take_along_axis(weights, np.where(before < 0, np.minimum(after, count - 1), before), axis=0)
    last = np.take_along_axis(weights, np.where(after >= count, np.maximum(before, 0), after), axis=0)
    return np.where(known, weights, _FILLED * np.minimum(first, last))


def _check_seen(weights: Array) -> None:
    def both(part: str) -> Array:
        return (weights[:, keypoint(f"L{part}")] > 0) & (weights[:, keypoint(f"R{part}")] > 0)

    if not (both("Shoulder") | both("Hip")).any():
        raise InputError(
            f"0 of {len(weights)} frames show both shoulders or both hips; at least 1 is needed to fit a skeleton.",
            "Film the person from the front, with the upper body in view.",
        )


def _drop_hands(weights: Array, *, wanted: bool) -> None:
    """Forget hands that are not wanted, or seen in too few frames to be more than a mistake."""
    for hand in (LEFT_HAND, RIGHT_HAND):
        seen = (weights[:, hand] > FAINT).sum(axis=1) >= 12
        needed = max(1, min(5, round(0.03 * len(weights))))
        if not wanted or seen.sum() < needed:
            weights[:, hand] = 0.0
        else:
            weights[~seen, hand] = 0.0


def _join_wrists(positions: Array, weights: Array) -> None:
    """Move each hand so that its wrist is the body's, and let it stand in for a wrist that the body lacks."""
    for side, hand in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
        wrist, root = keypoint(f"{side}Wrist"), hand.start
        has_wrist, has_hand = weights[:, wrist] > 0, weights[:, root] > 0
        shift = np.where((has_wrist & has_hand)[:, None], positions[:, wrist] - positions[:, root], 0.0)
        positions[:, hand] += shift[:, None]
        lend = has_hand & ~has_wrist
        positions[lend, wrist], weights[lend, wrist] = positions[lend, root], weights[lend, root]


def bone_confidence(weights: Array) -> Array:
    """(T, B) confidence of bones from (T, 137) of keypoints: the least of the joints at their ends; 0 where unseen."""

    def least(*names: str) -> Array:
        return weights[:, [keypoint(name) for name in names]].min(axis=1)

    hips = np.maximum(least("LHip", "RHip"), least("MidHip"))
    chest = np.maximum(least("LShoulder", "RShoulder"), least("Neck"))
    face = np.sort(weights[:, [keypoint(name) for name in HEAD_POINTS]], axis=1)[:, -3]
    spine, neck = np.minimum(hips, chest), np.minimum(chest, face)
    out = {"hips": hips, "spine": spine, "chest": chest, "neck": neck, "head": face}
    for s in "LR":
        out[f"shoulder.{s}"] = least(f"{s}Shoulder")
        out[f"upper_arm.{s}"] = least(f"{s}Shoulder", f"{s}Elbow")
        out[f"forearm.{s}"] = least(f"{s}Elbow", f"{s}Wrist")
        out[f"hand.{s}"] = least(f"{s}HandWrist", f"{s}HandIndex1", f"{s}HandLittle1")
        out[f"thigh.{s}"] = least(f"{s}Hip", f"{s}Knee")
        out[f"shin.{s}"] = least(f"{s}Knee", f"{s}Ankle")
        out[f"foot.{s}"] = least(f"{s}Ankle", f"{s}BigToe")
        out[f"toe.{s}"] = least(f"{s}BigToe")
        for finger in ("thumb", "index", "middle", "ring", "little"):
            for i in (1, 2, 3):
                ends = [f"{s}Hand{finger.capitalize()}{k}" for k in (i, i + 1)]
                out[f"{finger}.{i:02d}.{s}"] = least(*ends)
    return np.stack([out[name] for name in HUMANOID_NAMES], axis=1)
