"""Left and right exchanged by a detector, found and undone in one view.

A detector that takes a back for a front names every limb by the other side, from one frame to the next. Limbs do not
jump: of the two namings of each frame, the chain that moves most smoothly is the right one (Viterbi, second order, so
that a person who really turns keeps the velocity through the crossing). Where a detector hesitates it puts every joint
half-way between both sides; such torn frames are stepped over. One view cannot tell which of the two chains carries
the right names; the face decides where it is seen, the majority of frames where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.skeletons import FACE, LEFT_HAND, MIRROR_137, RIGHT_HAND

Array = np.ndarray

# What a detector exchanges together. The 70 face points belong to none: they come from a detector of their own.
HEAD = np.array([15, 16, 17, 18])
ARMS = np.array([2, 3, 4, 5, 6, 7, *range(LEFT_HAND.start, LEFT_HAND.stop), *range(RIGHT_HAND.start, RIGHT_HAND.stop)])
LEGS = np.array([9, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24])
WHOLE_BODY = np.concatenate([HEAD, ARMS, LEGS])

# Joints whose path is watched: arms, then legs; hands and toes jitter too much to add anything.
_WATCHED = (np.array([2, 3, 4, 5, 6, 7]), np.array([9, 10, 11, 12, 13, 14, 21, 24]))
_TOES = ((14, [19, 20]), (11, [22, 23]))  # an ankle and what is trusted no more than it
_SHOULDERS, _HIPS, _EYES = (5, 2), (12, 9), (FACE.start + 69, FACE.start + 68)  # left, right

_STATES = 4  # bit 0: arms and head exchanged; bit 1: legs exchanged
_SIGMA = 0.15  # a miss that is neither small nor large, in body sizes a frame
_DAMPING = 0.9  # of the velocity carried on: less than 1 because limbs brake
_REACH = 4  # how far back the frame before may lie when torn ones are stepped over
_MAX_GAP = 8  # frames over which a velocity is carried
_TORN = 0.85  # cost of stepping over a frame
_SWITCH = 0.06  # cost of changing one part's names
_SPLIT = 0.02  # cost, each frame, of exchanging arms without legs or the reverse
_MINORITY = 0.002  # cost, each frame, of an exchanged part: the majority is right
_TWIST = 0.15  # weight of shoulders that point against the hips
_FACING = 0.5  # weight of shoulders that point against the eyes


@dataclass(frozen=True)
class Swaps:
    """What happened to the sides in each frame.

    arms: (T,) bool, arms, hands, eyes and ears carry the other side's names; legs: (T,) bool;
    trust: (T, 137) in [0, 1], once sides are right: less than 1 where a joint lies between both sides.
    """

    arms: Array
    legs: Array
    trust: Array


def swap_sides(positions: Array, confidence: Array, mask: Array, joints: Array = WHOLE_BODY) -> tuple[Array, Array]:
    """Exchange left and right of `joints` in the frames where `mask` is true.

    Args:
        positions: (T, 137, D) in the order OPENPOSE_137; D is 2 or 3.
        confidence: (T, 137).
        mask: (T,) bool.
        joints: both sides of every pair to exchange: `WHOLE_BODY` (no face points), `HEAD`, `ARMS` or `LEGS`.
    Returns:
        New arrays of the same shapes; hands go with `ARMS`.
    """
    source = np.arange(positions.shape[1])
    source[joints] = np.asarray(MIRROR_137)[joints]
    mask = np.asarray(mask, bool)
    swapped = np.where(mask[:, None, None], positions[:, source], positions)
    return swapped, np.where(mask[:, None], confidence[:, source], confidence)


def unswap(positions: Array, confidence: Array, *, min_confidence: float = 0.1) -> tuple[Array, Array, Array]:
    """Undo exchanges of left and right over a clip of one view.

    Args:
        positions: (T, 137, 2) px, NaN where unseen.
        confidence: (T, 137); points below `min_confidence` are not listened to.
    Returns:
        positions with sides put right; confidence likewise, lowered in torn frames; (T,) bool, where anything was
        exchanged.
    """
    swaps = find_swaps(positions, confidence, min_confidence=min_confidence)
    positions, confidence = swap_sides(positions, confidence, swaps.arms, np.concatenate([HEAD, ARMS]))
    positions, confidence = swap_sides(positions, confidence, swaps.legs, LEGS)
    return positions, confidence * swaps.trust, swaps.arms | swaps.legs


def find_swaps(positions: Array, confidence: Array, *, min_confidence: float = 0.1) -> Swaps:
    """Tell in which frames arms (with the head) and legs carry the other side's names. Args: as `unswap`."""
    seen = (confidence >= min_confidence) & np.isfinite(positions).all(-1)
    watched = np.concatenate(_WATCHED)
    frames = np.flatnonzero(seen[:, watched].sum(1) >= 4)
    arms, legs = np.zeros((2, len(positions)), bool)
    trust = np.ones(confidence.shape)
    if len(frames) >= 3:
        points, weight = positions[frames], np.where(seen, confidence, 0.0)[frames]
        size = _body_size(points[:, watched], weight[:, watched])
        surprises = [_surprises(points, weight, part, frames, size) for part in _WATCHED]
        states, stepped_over = _cheapest_path(_state_costs(points, weight, size), *surprises)
        for bit, (part, swapped) in enumerate(zip(_WATCHED, (arms, legs), strict=True)):
            names = states >> bit & 1
            namings = np.stack([points[:, part], points[:, np.asarray(MIRROR_137)[part]]])
            trust[np.ix_(frames, part)] = _settle(namings, size, names, stepped_over)
            swapped[frames] = names
        for ankle, toes in _TOES:
            trust[:, toes] = np.minimum(trust[:, toes], trust[:, [ankle]])
    return Swaps(arms, legs, trust)


def _body_size(points: Array, weight: Array) -> Array:
    """Give the spread of the joints around their mean, (T,) px, steadied over half a second or so."""
    masked = np.where(weight[..., None] > 0, points, np.nan)
    spread = np.sqrt(np.nanmean(np.nansum((masked - np.nanmean(masked, 1, keepdims=True)) ** 2, -1), 1))
    padded = np.pad(spread, 8, mode="edge")
    return np.maximum(np.median(np.lib.stride_tricks.sliding_window_view(padded, 17), -1), 1e-6)


def _surprises(points: Array, weight: Array, part: Array, frames: Array, size: Array) -> Array:
    """Measure how badly frame t continues the frames t - i and t - i - j, for each naming of the three.

    Returns:
        (T, I, J + 1, 2, 2, 2) in [0, 1]: i - 1; j - 1, or last: no earlier frame; then the names (0 as detected,
        1 exchanged) at t - i - j, t - i and t. 0 where nothing can be compared.
    """
    mirrored = np.asarray(MIRROR_137)[part]
    named = np.stack([points[:, part], points[:, mirrored]])  # (2, T, P, 2)
    heard = np.stack([weight[:, part], weight[:, mirrored]])
    out = np.zeros((len(points), _REACH, _REACH + 1, 2, 2, 2))
    for i, j in np.ndindex(_REACH, _REACH + 1):
        now = np.arange(i + 1, len(points))
        before = now - (i + 1)
        earlier = np.maximum(before - (j + 1), 0) if j < _REACH else before
        for a, b, c in np.ndindex(2, 2, 2):
            step, lag = (frames[now] - frames[before])[:, None], (frames[before] - frames[earlier])[:, None]
            known = (heard[a, earlier] > 0) & (heard[b, before] > 0) & (lag > 0) & (lag <= _MAX_GAP)
            velocity = (named[b, before] - named[a, earlier]) / np.maximum(lag, 1)[..., None] * _DAMPING
            travel = np.where(known[..., None], velocity * np.minimum(step, _MAX_GAP)[..., None], 0.0)
            trust = np.minimum(heard[b, before], heard[c, now])
            miss = np.linalg.norm(named[c, now] - named[b, before] - travel, axis=-1)
            miss = np.where(trust > 0, miss / (size[now, None] * _SIGMA * step), 0.0)
            out[now, i, j, a, b, c] = (trust * miss**2 / (1 + miss**2)).sum(1) / np.maximum(trust.sum(1), 1.0)
    return out


def _state_costs(points: Array, weight: Array, size: Array) -> Array:
    """Score each state of each frame on its own, (T, 4)."""
    shoulders, heard_shoulders = _across(points, weight, *_SHOULDERS)
    hips, heard_hips = _across(points, weight, *_HIPS)
    eyes, heard_eyes = _across(points, weight, *_EYES)
    eyes = eyes / np.maximum(np.linalg.norm(eyes, axis=-1, keepdims=True), 1e-6)
    twist = (shoulders * hips).sum(-1) / size**2 * np.minimum(heard_shoulders, heard_hips)
    facing = (shoulders * eyes).sum(-1) / size * np.minimum(heard_shoulders, heard_eyes)
    costs = np.empty((len(points), _STATES))
    for state in range(_STATES):
        arms, legs = 1 - 2 * (state & 1), 1 - 2 * (state >> 1)
        costs[:, state] = (
            _MINORITY * (bool(state & 1) + bool(state >> 1))
            + _SPLIT * (arms != legs)
            + _TWIST * np.clip(-arms * legs * twist, 0.0, 1.0)
            + _FACING * np.clip(-arms * facing, 0.0, 1.0)
        )
    return costs


def _across(points: Array, weight: Array, left: int, right: int) -> tuple[Array, Array]:
    heard = np.minimum(weight[:, left], weight[:, right])
    return np.where(heard[:, None] > 0, points[:, left] - points[:, right], 0.0), heard


def _cheapest_path(costs: Array, arms: Array, legs: Array) -> tuple[Array, Array]:
    """Find the chain of least total cost, by Viterbi over pairs of frames that are not stepped over.

    Args:
        costs: (T, S) of each state on its own; arms, legs: what `_surprises` gives for either part.
    Returns:
        states (T,); stepped over (T,) bool, with the state of the frame before.
    """
    count, states = len(costs), np.arange(_STATES)
    in_arms, in_legs = np.ix_(*[states & 1] * 3), np.ix_(*[states >> 1] * 3)
    switch = _SWITCH * np.array([[bin(a ^ b).count("1") for b in states] for a in states])
    best = np.full((count, _REACH, _STATES, _STATES), np.inf)  # at t: i, state at t - i, state at t
    came_from = np.full((count, _REACH, _STATES, _STATES), -1)
    for t in range(1, count):
        for i in range(min(_REACH, t)):
            before = t - (i + 1)
            surprise = np.stack([arms[t, i, j][in_arms] + legs[t, i, j][in_legs] for j in range(_REACH + 1)])
            reached = best[before][..., None] + surprise[:-1]  # (J, state at t - i - j, at t - i, at t)
            started = (_TORN * before + costs[before])[:, None] + surprise[-1, 0]
            flat = reached.reshape(-1, _STATES, _STATES)
            came_from[t, i] = np.where(flat.min(0) < started, flat.argmin(0), -1)
            best[t, i] = np.minimum(flat.min(0), started) + switch + costs[t] + _TORN * i
    return _trace(best, came_from)


def _settle(namings: Array, size: Array, names: Array, stepped_over: Array) -> Array:
    """Name a part in the frames that were stepped over by what lies between the frames around them.

    Args:
        namings: (2, T, P, 2) px, as detected and exchanged; names: (T,) 0 or 1, filled in.
    Returns:
        (T, P) in [0, 1]: trust in each joint, 1 in frames that were not stepped over.
    """
    trust = np.ones(namings.shape[1:3])
    kept = np.flatnonzero(~stepped_over)
    for t in np.flatnonzero(stepped_over):
        after = min(int(np.searchsorted(kept, t)), len(kept) - 1)
        a, b = kept[max(after - 1, 0)], kept[after]
        share = np.clip((t - a) / max(b - a, 1), 0.0, 1.0)
        expected = (1 - share) * namings[names[a], a] + share * namings[names[b], b]
        miss = np.linalg.norm(namings[:, t] - expected, axis=-1) / (size[t] * _SIGMA)
        miss = np.where(np.isfinite(miss).all(0), miss, 0.0)
        names[t] = (miss**2 / (1 + miss**2)).sum(1).argmin()
        trust[t] = 1 / (1 + miss[names[t]] ** 2)
    return trust


def _trace(best: Array, came_from: Array) -> tuple[Array, Array]:
    """Walk the cheapest chain back from its end."""
    count = len(best)
    ends = best + _TORN * (count - 1 - np.arange(count))[:, None, None, None]
    t, i, before, now = (int(x) for x in np.unravel_index(ends.argmin(), ends.shape))
    path = np.full(count, -1)
    while t >= 0:
        path[t] = now
        link = int(came_from[t, i, before, now])
        t, now = t - (i + 1), before
        if link < 0:
            path[t] = now
            break
        i, before = divmod(link, _STATES)
    stepped_over = path < 0
    kept = np.flatnonzero(~stepped_over)
    nearest = kept[np.clip(np.searchsorted(kept, np.arange(count), side="right") - 1, 0, None)]
    return path[nearest], stepped_over
