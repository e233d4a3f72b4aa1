"""Where the ground is and when feet stand on it.

Foot points are always four: left heel, left toe, right heel, right toe. Heights are along +Z unless an `up` is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .filters import neighbours
from .rotations import between, matrix_from_quaternion, unit
from .skeletons import OPENPOSE_137

Array = np.ndarray
CONTACT_NAMES = ("left heel", "left toe", "right heel", "right toe")
_SLOW = (0.25, 0.70)  # metres a second: surely standing, surely moving
_LOW = (0.03, 0.09)  # metres above its own level: surely down, surely up
_STEP_M = 0.07  # foot points that linger higher stand on something else
_FADE_S = 0.2  # how long before and after a contact its correction lasts
_ENTER, _LEAVE = 0.55, 0.25  # hysteresis of a contact
_POSTURE = np.radians(7.0)  # how far an upright person's trunk is from the vertical, on average over a clip
_PLANE_NOISE_M = 0.05  # of a foothold's height


@dataclass(frozen=True)
class Floor:
    """Level of the ground along Z, metres, and `levels` (4,) at which each foot point stands; `samples` say so."""

    height: float
    levels: Array
    samples: int


def foot_points(positions: Array, weights: Array) -> tuple[Array, Array]:
    """(T, 4, 3) heels and toes of (T, 137, 3) keypoints, zero where unseen, and (T, 4) weights."""
    points, seen = [], []
    for side in "LR":
        for names in (("Heel",), ("BigToe", "SmallToe")):
            index = [OPENPOSE_137.index(side + name) for name in names]
            w = weights[:, index]
            p = np.where(w[..., None] > 0, positions[:, index], 0.0)
            points.append(np.sum(w[..., None] * p, axis=1) / np.maximum(w.sum(axis=1), 1e-9)[:, None])
            seen.append(w.max(axis=1))
    return np.stack(points, axis=1), np.stack(seen, axis=1)


def speeds(points: Array, fps: float) -> Array:
    """(T, C) metres a second of (T, C, 3) points, over about a tenth of a second; zero for a single frame."""
    count = len(points)
    reach = max(1, round(0.05 * fps))
    index = np.arange(count)
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach, count - 1)
    time = np.maximum(high - low, 1)[:, None] / fps
    return np.linalg.norm(points[high] - points[low], axis=-1) / time


def find_floor(points: Array, weights: Array, fps: float, *, clearance: Array | float = 0.02) -> Floor | None:
    """Find the ground under (T, 4, 3) foot points, Z up, from where they linger at the bottom of their range.

    `clearance`: how far above the ground the points are in a standing foot. None where no foot is seen.
    """
    clearance = np.broadcast_to(np.asarray(clearance, float), (4,))
    seen = weights > 0
    if not seen.any():
        return None
    height = points[..., 2] - clearance
    slow = seen & (speeds(points, fps) < _SLOW[0])
    chosen = slow if slow.sum() >= 4 else seen
    needed = max(3, 0.05 * len(points))
    own = [height[chosen[:, i], i] for i in range(4)]
    levels = np.array([_lowest_cluster(h) if len(h) >= needed else np.inf for h in own])
    if not np.isfinite(levels).any():
        return Floor(_lowest_cluster(height[chosen]), clearance + _lowest_cluster(height[chosen]), int(chosen.sum()))
    count = np.array([len(h) for h in own])
    # of heel and toe the lower one is on the ground: detectors put heels some centimetres up
    soles, weight = levels.reshape(2, 2).min(axis=1), count.reshape(2, 2).max(axis=1).astype(float)
    weight[soles > soles.min() + _STEP_M] = 0.0
    ground = float(np.average(np.where(weight > 0, soles, 0.0), weights=weight))
    levels = np.where(np.abs(levels - ground) < _STEP_M, levels, ground)
    return Floor(ground, levels + clearance, int(chosen.sum()))


def _lowest_cluster(heights: Array) -> float:
    """Centre of the lowest place where values gather: mean shift from the tenth percentile."""
    centre = float(np.quantile(heights, 0.1, method="lower"))  # a value itself: between two there may be none near
    for _ in range(5):
        near = heights[np.abs(heights - centre) <= 0.04]
        centre = float(np.median(near)) if near.size else centre
    return centre


def find_contacts(
    points: Array, weights: Array, fps: float, floor: Floor | None, *, speed: Array | None = None
) -> Array:
    """(T, 4) in [0, 1], above 0.5 where a foot point stands: low and slow, with hysteresis; 0 where it is unseen.

    `speed` (T, 4) metres a second, where the points' own is not to be trusted.
    """
    if floor is None:
        return np.zeros(weights.shape)
    slow = 1.0 - _ramp(speeds(points, fps) if speed is None else speed, *_SLOW)
    low = 1.0 - _ramp(points[..., 2] - floor.levels, *_LOW)
    score = np.sqrt(slow * low) * (weights > 0)
    standing = _hysteresis(score)
    return np.where(standing, 0.5 + 0.5 * score, np.minimum(score, 0.49))


def _ramp(values: Array, low: float, high: float) -> Array:
    u = np.clip((values - low) / (high - low), 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u)


def _hysteresis(score: Array) -> Array:
    """True where the (T, C) score is over `_LEAVE` in a run that somewhere is over `_ENTER`."""
    above, strong = score > _LEAVE, score > _ENTER
    forward = _reach(above, strong)
    return forward | _reach(above[::-1], strong[::-1])[::-1]


def _reach(above: Array, strong: Array) -> Array:
    index = np.arange(len(above))[:, None]
    last_strong = np.maximum.accumulate(np.where(strong, index, -1), axis=0)
    last_below = np.maximum.accumulate(np.where(~above, index, -1), axis=0)
    return last_strong > last_below


def slide_speed(points: Array, contacts: Array, fps: float) -> float:
    """Mean horizontal speed, metres a second, of points (T, 4, 3) that stand; 0 where none does."""
    if len(points) < 2:
        return 0.0
    standing = (contacts[1:] > 0.5) & (contacts[:-1] > 0.5)
    speed = np.linalg.norm(np.diff(points[..., :2], axis=0), axis=-1) * fps
    return float(speed[standing].mean()) if standing.any() else 0.0


def penetration(points: Array, clearance: Array | float = 0.0) -> tuple[float, float]:
    """Mean over frames, and largest, depth in metres of the deepest foot point (T, 4, 3) under z = 0."""
    depth = np.maximum(0.0, np.asarray(clearance) - points[..., 2]).max(axis=1)
    return float(depth.mean()), float(depth.max())


def hold_contacts(
    points: Array, contacts: Array, fps: float, *, furthest: float = 0.06, heights: Array | None = None
) -> Array:
    """Displacements (T, 4, 3) that keep standing points (T, 4, 3) where they stand, Z up; at most `furthest` metres.

    Each contact is held at the mean of its place, or above it at the given height (4,) of its point. Before and after
    it the displacement fades, so that nothing jumps.
    """
    standing = contacts > 0.5
    shift = np.stack([_to_mean(points[:, i], standing[:, i]) for i in range(points.shape[1])], axis=1)
    if heights is not None:
        shift[..., 2] = np.where(standing, heights - points[..., 2], 0.0)
    far = np.linalg.norm(shift, axis=-1, keepdims=True)
    shift *= np.minimum(1.0, furthest / np.maximum(far, 1e-9))
    before, after = neighbours(standing)
    count, fade = len(points), max(1.0, _FADE_S * fps)
    index = np.arange(count)[:, None]
    out = shift * standing[..., None]
    for near, there in ((before, before >= 0), (after, after < count)):
        weight = (1.0 - _ramp(np.abs(index - near) / fade, 0.0, 1.0)) * there * ~standing
        out += weight[..., None] * np.take_along_axis(shift, np.clip(near, 0, count - 1)[..., None], axis=0)
    return out


def _to_mean(points: Array, standing: Array) -> Array:
    """(T, 3) from each standing point to the mean of the contact it belongs to; zero elsewhere."""
    starts = standing & ~np.concatenate([[False], standing[:-1]])
    label = np.cumsum(starts) * standing
    size = np.maximum(np.bincount(label), 1)
    mean = np.stack([np.bincount(label, weights=points[:, axis]) / size for axis in range(3)], axis=-1)
    return np.where(standing[:, None], mean[label] - points, 0.0)


def estimate_up(trunk: Array, footholds: Array, *, guess: Array, weights: Array | None = None) -> Array:
    """Estimate the (3,) upward direction by weighing what is known of it.

    Args:
        trunk: (N, 3) directions from hips to neck of a person who stands; may be empty.
        footholds: (M, 3) places where feet stood; a plane through them counts by how widely they spread.
        guess: (3,) the direction before anything is seen.
        weights: (N,) of the trunk directions.
    """
    guess = unit(guess)
    side = unit(np.cross(guess, np.eye(3)[int(np.argmin(np.abs(guess)))]))
    plane = np.stack([side, np.cross(guess, side)])  # two directions in which the guess may be wrong
    information, pull = 1e-3 * np.eye(2), np.zeros(2)
    if len(trunk):
        w = np.ones(len(trunk)) if weights is None else weights
        mean = unit(np.sum(w[:, None] * unit(trunk), axis=0))
        steep = mean @ guess
        if steep > 0.3:
            information = information + np.eye(2) / _POSTURE**2
            pull = pull + (plane @ mean) / steep / _POSTURE**2
    if len(footholds) >= 3:
        centred = footholds - footholds.mean(axis=0)
        flat, height = centred @ plane.T, centred @ guess
        information = information + flat.T @ flat / _PLANE_NOISE_M**2  # height = -tilt . flat
        pull = pull - flat.T @ height / _PLANE_NOISE_M**2
    tilt = np.linalg.solve(information, pull)
    return unit(guess + tilt @ plane)


def floor_transform(up: Array, heading: Array, origin: Array, height: float) -> Array:
    """(4, 4) from a frame with the given `up` to Z up: `heading` goes to +Y, `origin` to x = y = 0, `height` to 0."""
    up = unit(up)
    ahead = heading - (heading @ up) * up
    if np.linalg.norm(ahead) < 1e-3:
        ahead = matrix_from_quaternion(between(np.array([0.0, 0.0, 1.0]), up)) @ np.array([0.0, 1.0, 0.0])
    y = unit(ahead)
    out = np.eye(4)
    out[:3, :3] = np.stack([np.cross(y, up), y, up])
    out[:2, 3] = -(out[:2, :3] @ origin)
    out[2, 3] = -height
    return out
