"""Left and right told apart by several views: which view of which frame has exchanged them.

A naming of the sides is a bit for each view. Views with the wrong naming intersect their rays in the wrong places, so
of all 2^N namings the right one leaves the least doubt between rays. One naming and its opposite fit equally well: a
person does not exchange sides from frame to frame, and over a clip most of the raw names are right. Arms with the head
and legs are named apart, because detectors exchange them apart; all is put together by one Viterbi pass over the clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.skeletons import MIRROR_137
from ..core.triangulation import Rays, consensus, distances, doubt, intersect, refine
from ..sight.swap import ARMS, HEAD, LEGS

Array = np.ndarray

_MIRROR = np.asarray(MIRROR_137)
_JUDGED = (np.array([2, 3, 4, 5, 6, 7, *HEAD]), LEGS)  # by which arms with the head, and legs, are told apart
_MOVED = (np.concatenate([HEAD, ARMS]), LEGS)  # what is exchanged with them

_EXHAUSTIVE = 5  # up to so many views every naming is tried
_KEPT = 4  # namings kept for each frame and part, besides their opposites
_BLOCK = 512  # frames worked on at once, to bound memory
_OUTLYING = 0.06  # of the height: a ray that passes so far from a joint misses it
_REACH = (0.03, 1.0)  # heights, heights a second: what a joint may move in a frame, with noise

# Costs, in units of one joint that one view is quite wrong about.
_EXCHANGED = 0.03  # a part named otherwise than the detector did
_APART = 0.4  # arms exchanged without legs, in one view
_SWITCH = 0.4  # a view whose naming changes between two frames
_JUMP = 1.0  # a joint that jumps in space


@dataclass(frozen=True)
class _Seen:
    """One part of the body in F frames and both namings: rays of its P joints as named, and as exchanged."""

    named: Rays  # of F * P points
    exchanged: Rays
    frames: int
    joints: int

    def under(self, bits: Array) -> Rays:
        """Take the rays under a naming (N, F)."""
        chosen = np.repeat(bits, self.joints, axis=1)
        directions = np.where(chosen[..., None], self.exchanged.directions, self.named.directions)
        weight = np.where(chosen, self.exchanged.weight, self.named.weight)
        return Rays(directions, weight, self.named.rotation, self.named.translation)

    def views(self, index: Array) -> _Seen:
        """Take some of the cameras."""
        return _Seen(self.named.views(index), self.exchanged.views(index), self.frames, self.joints)


@dataclass(frozen=True)
class _Namings:
    """The best namings of one part, frame by frame: bits (T, K, N), cost (T, K), points (T, K, P, 3)."""

    bits: Array
    cost: Array
    points: Array


def agree_on_sides(rays: Rays, joints: int, *, fps: float, height: float) -> Array:
    """Find what to exchange so that the views agree.

    Args:
        rays: of T * `joints` points, frame by frame; `joints` are the first of OPENPOSE_137, 25 or more.
        height: of the person, metres.
    Returns:
        (N, T, 2) bool: arms with head and hands, legs.
    """
    parts = [_best_namings(rays, joints, part, _OUTLYING * height) for part in _JUDGED]
    reach = height * (_REACH[0] + _REACH[1] / fps)
    chosen = _cheapest_path(parts, [_transitions(part, reach) for part in parts])
    bits = [np.take_along_axis(p.bits, path[:, None, None], 1)[:, 0] for p, path in zip(parts, chosen, strict=True)]
    return np.stack([part.T for part in bits], axis=-1)


def exchange(values: Array, exchanged: Array) -> Array:
    """Apply what `agree_on_sides` found to (N, T, J, ...) values; hands, where there are any, go with the arms."""
    out = values.copy()
    for bit, joints in enumerate(_MOVED):
        part = joints[joints < values.shape[2]]
        view, frame = np.nonzero(exchanged[..., bit])
        out[view[:, None], frame[:, None], part] = values[view[:, None], frame[:, None], _MIRROR[part]]
    return out


def _best_namings(rays: Rays, joints: int, part: Array, scale: float) -> _Namings:
    """Try namings of one part and keep the best few of each frame, each followed by its opposite."""
    frames = rays.weight.shape[1] // joints
    found = []
    for start in range(0, frames, _BLOCK):
        count = min(_BLOCK, frames - start)
        first = (start + np.arange(count))[:, None] * joints
        named, exchanged = (rays.points((first + which).ravel()) for which in (part, _MIRROR[part]))
        found.append(_best_of_block(_Seen(named, exchanged, count, len(part)), part, scale))
    return _Namings(*(np.concatenate([getattr(f, name) for f in found]) for name in ("bits", "cost", "points")))


def _best_of_block(seen: _Seen, part: Array, scale: float) -> _Namings:
    bits = _candidates(seen, scale)  # (S, N, F)
    tried = [_try(seen, b, scale) for b in bits]
    cost, points = (np.stack(values) for values in zip(*tried, strict=True))  # (S, F), (S, F, P, 3)
    best = np.argsort(cost, axis=0, kind="stable")[:_KEPT].T  # (F, K)
    frame = np.arange(seen.frames)[:, None]
    bits, cost, points = (
        np.moveaxis(bits, 2, 0)[frame, best],
        cost.T[frame, best],
        np.moveaxis(points, 1, 0)[frame, best],
    )
    position = {joint: index for index, joint in enumerate(part.tolist())}
    other = [position[joint] for joint in _MIRROR[part].tolist()]
    opposite = points[:, :, other]
    return _Namings(
        np.concatenate([bits, ~bits], 1), np.concatenate([cost, cost], 1), np.concatenate([points, opposite], 1)
    )


def _candidates(seen: _Seen, scale: float) -> Array:
    """List namings worth trying, (S, N, F) bool: all of them for few views.

    For many views, the best of all namings of a few; the others then take the side that agrees with those.
    """
    count = len(seen.named.weight)
    if count <= _EXHAUSTIVE:
        number = np.arange(2 ** (count - 1))[:, None, None]  # the last view is never exchanged: opposites come later
        every = (number >> np.arange(count)[:, None] & 1).astype(bool)
        return np.broadcast_to(every, (len(every), count, seen.frames))
    few = np.sort(np.argsort(-seen.named.weight.sum(1), kind="stable")[: _EXHAUSTIVE - 1])
    part = seen.views(few)
    every = _candidates(part, scale)
    costs, points = zip(*(_try(part, bits, scale) for bits in every), strict=True)
    ranks = np.argsort(np.stack(costs), axis=0, kind="stable")[: _KEPT // 2]
    placed = [np.stack(points)[rank, np.arange(seen.frames)].reshape(-1, 3) for rank in ranks]
    first = [_vote(seen, points, scale) for points in placed]
    second = [_vote(seen, consensus(seen.under(bits), scale=scale), scale) for bits in first]
    return np.stack([*first, *second])


def _vote(seen: _Seen, points: Array, scale: float) -> Array:
    """Let each view take the naming that agrees better with given points (F * P, 3); (N, F)."""
    costs = [doubt(distances(points, rays), scale) * rays.weight for rays in (seen.named, seen.exchanged)]
    named, exchanged = (cost.reshape(len(cost), seen.frames, seen.joints).sum(-1) for cost in costs)
    return exchanged < named


def _try(seen: _Seen, bits: Array, scale: float) -> tuple[Array, Array]:
    """Measure the doubt (F,) that a naming (N, F) leaves, and where it puts the joints (F, P, 3)."""
    rays = seen.under(bits)
    points = refine(intersect(rays), rays, scale=scale, steps=2)
    cost = (doubt(distances(points, rays), scale) * rays.weight).sum(0)
    return cost.reshape(seen.frames, seen.joints).sum(1), points.reshape(seen.frames, seen.joints, 3)


def _transitions(namings: _Namings, reach: float) -> Array:
    """Cost of going from naming to naming, (T - 1, K, K): joints that jump, views that switch."""
    frames, kept = namings.cost.shape
    out = np.empty((frames - 1, kept, kept))
    for start in range(0, frames - 1, _BLOCK):
        rows, after = slice(start, min(start + _BLOCK, frames - 1)), slice(start + 1, min(start + 1 + _BLOCK, frames))
        moved = namings.points[after][:, None] - namings.points[rows][:, :, None]
        switched = namings.bits[after][:, None] != namings.bits[rows][:, :, None]
        jumps = doubt(np.linalg.norm(moved, axis=-1), reach)
        out[rows] = _JUMP * jumps.sum(-1) + _SWITCH * switched.sum(-1)
    return out


def _cheapest_path(parts: list[_Namings], steps: list[Array]) -> tuple[Array, Array]:
    """Choose a naming of arms and one of legs for each frame, (T,) each, by Viterbi over pairs of namings."""
    upper, lower = parts
    on_its_own = [part.cost + _EXCHANGED * part.bits.sum(-1) for part in parts]
    apart = (upper.bits[:, :, None] != lower.bits[:, None]).sum(-1)
    cost = on_its_own[0][:, :, None] + on_its_own[1][:, None] + _APART * apart  # (T, K, K)
    total, from_upper, from_lower = cost[0], np.zeros(cost.shape, int), np.zeros(cost.shape, int)
    for t in range(1, len(cost)):
        # What the two parts' steps cost adds up: the minimum over both is taken one part after the other.
        over_upper = total[:, :, None] + steps[0][t - 1][:, None, :]  # (upper before, lower before, upper now)
        over_lower = over_upper.min(0)[:, :, None] + steps[1][t - 1][:, None, :]  # (lower before, upper now, lower now)
        from_lower[t] = over_lower.argmin(0)
        from_upper[t] = np.take_along_axis(over_upper.argmin(0), from_lower[t].T, 0).T
        total = over_lower.min(0) + cost[t]
    path = np.zeros((len(cost), 2), int)
    path[-1] = np.unravel_index(total.argmin(), total.shape)
    for t in range(len(cost) - 1, 0, -1):
        now = tuple(path[t])
        path[t - 1] = from_upper[t][now], from_lower[t][now]
    return path[:, 0], path[:, 1]
