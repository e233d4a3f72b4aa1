"""The ground under a person whom one camera saw: which way is up, and a root that keeps the soles on the floor.

One camera measures what lies across its rays well and depth badly. A support's height is therefore uncertain by the
depth's noise times the steepness of its ray, and a body may move as far as its image hardly changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.contacts import speeds
from ..core.filters import moving_average, whittaker
from ..core.rotations import unit
from .clean import GUESSED

Array = np.ndarray
LEVEL = np.array([0.0, -1.0, 0.0])  # up, of a camera that is held level
_PITCH, _ROLL = np.radians(9.0), np.radians(3.0)  # how cameras are tilted: down or up, and sideways
_HELD_M = (1.4, 0.5)  # how high above the ground cameras are held or stood, and how much that varies
_POSTURE = np.radians(8.0)  # how far a person who stands leans, on average over a clip
_SURPRISE = 2.5  # standard deviations after which evidence stops to pull
_HEIGHT_M = 0.035  # noise of a support's height
_DEPTH = 0.02  # of the distance: noise of depth
_APART_S = 1.0  # supports this far apart err independently
_STANDS, _MOVES = 0.35, 1.2  # metres a second across the ray: what surely bears weight, and what surely does not
_LOOSE_RAY = 1.5  # how much less motion along the ray says than motion across it
_BODY_M = 0.45  # how far joints are from the middle of the body, root mean square
_BASE_HZ, _ABOVE_M = 0.6, 0.07  # the floor's drift is slower than steps; what is higher above it flies
_STEADY = 0.01  # how much the ground wants to stay where it is, against a sure support
_SAMPLES = 200
_MOST_M = 0.2  # a lift beyond is not drift
_OFF_M = 0.03  # above the ground, from here on
_AIRBORNE_S = (0.2, 1.0)  # too short to tell falling from standing; so long that something else may bear the body
_GRAVITY = 9.81
_EASE_S = 0.05
_FALLS = (0.25, 0.6)  # of gravity: the fall of hips that are carried, and of hips that surely fly


@dataclass(frozen=True)
class Supports:
    """What may bear the body: points (T, P, 3) of a camera, their clearance (P,) of the ground, weights (T, P)."""

    points: Array
    clearance: Array
    weights: Array
    fps: float

    def bearing(self) -> Array:
        """(T, P) in [0, 1]: slow across the ray, where noise of depth does not show; by weight."""
        speed = across_speeds(self.points, self.fps)
        return np.clip((_MOVES - speed) / (_MOVES - _STANDS), 0.02, 1.0) * self.weights

    def lowest(self, up: Array) -> tuple[Array, Array]:
        """(T,) height along `up` of the ground under the lowest point, and which point that is."""
        height = np.where(self.weights > 0, self.points @ up - self.clearance, np.inf)
        return height.min(axis=1), height.argmin(axis=1)


def across_speeds(points: Array, fps: float) -> Array:
    """(T, P) metres a second of (T, P, 3) points of a camera, motion along the ray counts less."""
    ray = unit(points)
    depth = np.linalg.norm(points, axis=-1, keepdims=True)
    middle = np.median(depth, axis=0, keepdims=True)
    return speeds(ray * (middle + (depth - middle) / _LOOSE_RAY), fps)


def estimate_camera_up(supports: Supports, trunk: Array, trust: Array) -> Array:
    """(3,) the upward direction of one camera: the likeliest by supports, posture and how cameras are held.

    Supports lie on a plane, up to noise along their rays; what is below the plane counts, what is far above flies.
    trunk (N, 3) directions of a person who may stand, `trust` (N,) their weights.
    """
    pick = np.unique(np.linspace(0, len(supports.points) - 1, _SAMPLES).round().astype(int))
    known = pick[(supports.weights[pick] > 0).any(axis=1)]
    bearing = supports.bearing()[known]
    sample = Supports(supports.points[known], supports.clearance, supports.weights[known], supports.fps)
    share = min(1.0, len(supports.points) / max(len(known), 1) / (_APART_S * supports.fps))
    centre, reach = np.zeros(2), np.array([4.0 * _PITCH, 3.0 * _ROLL])
    for step in (5, 2, 2, 2):
        offsets = np.arange(-step, step + 1) / step
        tilts = centre + np.stack(np.meshgrid(*([offsets] * 2), indexing="ij"), axis=-1).reshape(-1, 2) * reach
        costs = [
            0.5 * np.sum((tilt / [_PITCH, _ROLL]) ** 2)
            + _lean_cost(tilted(tilt), trunk, trust)
            + _plane_cost(sample, bearing, tilted(tilt), share)
            for tilt in tilts
        ]
        centre, reach = tilts[int(np.argmin(costs))], reach / step
    return tilted(centre)


def tilted(tilt: Array) -> Array:
    """(3,) up of a camera that looks down by tilt[0] and leans sideways by tilt[1], radians."""
    pitch, roll = tilt
    return np.array([np.sin(roll) * np.cos(pitch), -np.cos(roll) * np.cos(pitch), -np.sin(pitch)])


def _lean_cost(up: Array, trunk: Array, trust: Array) -> float:
    if not len(trunk):
        return 0.0
    angle = np.arccos(np.clip(unit(trunk) @ up, -1.0, 1.0))
    upright = trust * (angle < 3.5 * _POSTURE)
    if upright.sum() <= 0:
        return 0.5 * _SURPRISE**2
    share = upright.sum() / trust.sum()
    mean = unit(np.sum(upright[:, None] * unit(trunk), axis=0))
    lean = np.arccos(np.clip(mean @ up, -1.0, 1.0)) / _POSTURE
    return 0.5 * (share * min(lean, _SURPRISE) ** 2 + (1.0 - share) * _SURPRISE**2)


def _plane_cost(supports: Supports, bearing: Array, up: Array, share: float) -> float:
    """Negative log likelihood of the lowest points on the likeliest level for an upward direction, and of its depth."""
    if not len(bearing):
        return 0.0
    height, point = supports.lowest(up)
    rows = np.arange(len(point))
    places, weight = supports.points[rows, point], bearing[rows, point]
    sigma = np.hypot(_HEIGHT_M, _DEPTH * (places @ up))
    level = float(np.quantile(height, 0.3))
    for _ in range(4):
        off = (height - level) / sigma
        pull = weight * _grip(off) / sigma**2
        level = float(np.sum(pull * height) / np.sum(pull))
    off = (height - level) / sigma
    above = off**2 / (1.0 + off**2 / _SURPRISE**2)
    below = np.where(off > -_SURPRISE, off**2, 2.0 * _SURPRISE * np.abs(off) - _SURPRISE**2)
    usual, spread = _HELD_M
    held = min(abs(-level - usual) / spread, _SURPRISE)
    return 0.5 * held**2 + share * float(
        np.sum(weight * (0.5 * np.where(off > 0, above, below) + np.log(sigma / _HEIGHT_M)))
    )


def _grip(off: Array) -> Array:
    """How much a height `off` standard deviations above a level pulls at it: what is far above flies."""
    return np.where(
        off > 0, 1.0 / (1.0 + (off / _SURPRISE) ** 2) ** 2, np.minimum(1.0, _SURPRISE / np.maximum(-off, 1e-9))
    )


def ground_drift(supports: Supports, up: Array, hips: Array) -> Array:
    """(T,) slow height along `up`, metres, of the ground that bears the body, frame by frame; steady over flights.

    A smooth lower envelope (asymmetric least squares, Eilers 2003): points below it count, as do slow ones about it.
    Where nothing touches it and the hips (T, 3) do not fall either, the ground rises to what is lowest.
    """
    height, point = supports.lowest(up)
    rows = np.arange(len(point))
    bearing = np.where(np.isfinite(height), supports.bearing()[rows, point], 0.0)
    height = np.where(bearing > 0, height, 0.0)
    level = _level(height, bearing)
    known = supports.weights[rows, point] > GUESSED
    strength = float((2.0 * np.sin(np.pi * min(_BASE_HZ / supports.fps, 0.5))) ** -4)
    base = np.full(len(height), level)
    for _ in range(5):
        off = (height - base) / _ABOVE_M
        pull = bearing * np.where(off > 0, 1.0 / (1.0 + 4.0 * off**2) ** 2, 1.0) + _STEADY
        wanted = np.where(known & (np.abs(height - level) < _MOST_M), height, level)
        pull = np.where(wanted == height, pull, _STEADY)
        base = whittaker(wanted[:, None, None], pull[:, None], strength, order=2)[:, 0, 0]
        base = np.clip(base, level - _MOST_M, level + _MOST_M)
    above = np.where(known & (bearing > 0), height - base, 0.0)
    return base + hovering(above, hips @ up, supports.fps)


def hovering(above: Array, hips: Array, fps: float) -> Array:
    """(T,) metres by which a body at (T,) `above` the ground is lifted off it though its (T,) hips do not fall.

    In flight all accelerate downwards by gravity. Whoever leaves the ground and does not, was not seen rightly.
    """
    out, time = np.zeros(len(above)), np.arange(len(above)) / fps
    edges = np.flatnonzero(np.diff((above > 0).astype(int), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2):
        off = start + np.flatnonzero(above[start:stop] > _OFF_M)
        if len(off) < 3 or not _AIRBORNE_S[0] <= (np.ptp(off) + 1) / fps <= _AIRBORNE_S[1]:
            continue
        while_off = slice(off[0], off[-1] + 1)
        falls = -2.0 * np.polyfit(time[while_off], hips[while_off], 2)[0] / _GRAVITY
        carried = 1.0 - np.clip((falls - _FALLS[0]) / (_FALLS[1] - _FALLS[0]), 0.0, 1.0)
        out[start:stop] = carried * np.minimum(above[start:stop], _MOST_M)
    return moving_average(out, max(1, round(_EASE_S * fps)))


def _level(height: Array, weight: Array) -> float:
    level = float(np.quantile(height[weight > 0], 0.3))
    for _ in range(8):
        off = (height - level) / _ABOVE_M
        pull = weight * np.where(off > 0, 1.0 / (1.0 + off**2) ** 2, 1.0)
        level = float(np.sum(pull * height) / np.sum(pull))
    return level


def least_seen(points: Array, up: Array, rise: Array) -> Array:
    """Displacements (..., 3) of a body at `points` (..., 3) of a camera that raise it by `rise` (...) along `up`.

    Of all such displacements, the one that changes the image of the body least: along the ray only its size changes.
    """
    ray = unit(points)
    gain = (np.linalg.norm(points, axis=-1) / _BODY_M) ** 2 - 1.0
    steep = ray @ up
    move = up + (gain * steep)[..., None] * ray
    return (rise / (1.0 + gain * steep**2))[..., None] * move
