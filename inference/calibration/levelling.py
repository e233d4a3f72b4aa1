"""Which way is up and where the floor is, in a rig of cameras that only knows the person."""

from __future__ import annotations

import numpy as np

from ..core import contacts
from ..core.cameras import CameraSet
from ..core.rotations import unit
from ..core.skeletons import BODY_25, OPENPOSE_137
from ..motion.rig_checks import measured_height
from .alignment import Similarity

Array = np.ndarray
_STRAIGHT = np.cos(np.radians(25.0))  # between trunk and legs of somebody who stands
_UPRIGHT = np.cos(np.radians(50.0))
_STANDS_M_S = 0.25
_HOLD_S = 0.1
_LOW_M = 0.08
_CLEARANCE_M = 0.03  # heels and toes of detectors above the ground
_FRAMES = 3
_ROLL, _ROLLED = np.radians(2.5), np.radians(10.0)  # how far cameras are rolled; from where on they are so on purpose
_POSTURE = np.radians(9.0)  # how far who stands leans, on average over a clip
_HOLD_M = 0.04  # noise of a foothold's height


def level(cameras: CameraSet, points: Array, confidence: Array, fps: float, *, whole: int) -> Similarity:
    """Find the move that puts z up, the floor at 0, the person over the origin and the first camera along +y.

    points (T, 25, 3) metres, of T frames that may have been picked from `whole`; confidence (T, 25).
    """
    rate = fps * len(points) / max(whole, 1)
    trunk, trust = _standing(points)
    guess = _guess(cameras, trunk)
    padded = np.full((len(points), len(OPENPOSE_137), 3), np.nan)
    padded[:, :25] = points
    weights = np.zeros(padded.shape[:2])
    weights[:, :25] = np.where(np.isfinite(points).all(-1), confidence, 0.0)
    feet, seen = contacts.foot_points(padded, weights)
    up = guess
    for _ in range(3):
        up = _weighed(up, cameras, trunk, trust, _footholds(feet, seen, up, rate))
    hips = points[:, [BODY_25.index("LHip"), BODY_25.index("RHip")]].mean(1)
    origin = np.nanmedian(hips, axis=0)
    transform = contacts.floor_transform(up, cameras[0].rotation[2], origin, 0.0)
    flat = feet @ transform[:3, :3].T + transform[:3, 3]
    floor = contacts.find_floor(flat, seen, rate, clearance=_CLEARANCE_M)
    height = floor.height if floor is not None else float(np.nanmin(points @ up))
    transform[2, 3] -= height
    return Similarity(1.0, transform[:3, :3], transform[:3, 3])


def level_cameras(cameras: CameraSet, origin: Array) -> Similarity:
    """Find the move that puts z up as far as cameras are held level, and `origin` (3,) at 0."""
    nothing = np.zeros((0, 3))
    up = _guess(cameras, nothing)
    for _ in range(3):
        up = _weighed(up, cameras, nothing, np.zeros(0), nothing)
    transform = contacts.floor_transform(up, cameras[0].rotation[2], origin, float(up @ origin))
    return Similarity(1.0, transform[:3, :3], transform[:3, 3])


def _weighed(guess: Array, cameras: CameraSet, trunk: Array, trust: Array, holds: Array) -> Array:
    """(3,) up by all that is known of it: cameras are held level, people stand upright, and the floor is a plane.

    Each source counts by how far it is usually off; a camera that is rolled on purpose stops to count.
    """
    plane = _across(guess)  # two directions in which the guess may be wrong
    information, pull = 1e-6 * np.eye(2), np.zeros(2)
    for camera in cameras:
        roll, steep = camera.rotation[0] @ guess, plane @ camera.rotation[0]
        sure = 1.0 / _ROLL**2 / (1.0 + (roll / _ROLLED) ** 2) ** 2
        information += sure * np.outer(steep, steep)
        pull -= sure * roll * steep
    if len(trunk):
        mean = unit(trust @ unit(trunk))
        information += np.eye(2) * trust.mean() / _POSTURE**2
        pull += trust.mean() * (plane @ mean) / max(mean @ guess, 0.3) / _POSTURE**2
    if len(holds) >= _FRAMES:
        centred = holds - holds.mean(axis=0)
        flat, height = centred @ plane.T, centred @ guess
        information += flat.T @ flat / _HOLD_M**2  # height = -tilt . flat
        pull -= flat.T @ height / _HOLD_M**2
    return unit(guess + np.linalg.solve(information, pull) @ plane)


def _across(direction: Array) -> Array:
    side = unit(np.cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))]))
    return np.stack([side, np.cross(direction, side)])


def _guess(cameras: CameraSet, trunk: Array) -> Array:
    """(3,) roughly up: between the y axes of the cameras, and people who stand where these do not contradict."""
    held = unit(-np.mean([camera.rotation[1] for camera in cameras], axis=0))
    if not len(trunk):
        return held
    mean = unit(np.median(unit(trunk), axis=0))
    return unit(mean + held) if mean @ held > _UPRIGHT else held


def _standing(points: Array) -> tuple[Array, Array]:
    """Directions (N, 3) from hips to neck where trunk and legs are in line, and weights (N,)."""
    height = measured_height(points)

    def middle(part: str) -> Array:
        return points[:, [BODY_25.index(f"L{part}"), BODY_25.index(f"R{part}")]].mean(1)

    neck, hips, ankles = middle("Shoulder"), middle("Hip"), middle("Ankle")
    trunk, legs = neck - hips, hips - ankles
    straight = np.sum(unit(trunk) * unit(legs), axis=-1)
    whole = neck - ankles  # leaning trunks are balanced by legs: the line from ankles to neck leans less
    keep = (straight > _STRAIGHT) & (np.linalg.norm(legs, axis=-1) > 0.4 * height)
    if not keep.any():
        keep = np.isfinite(trunk).all(-1)
        return trunk[keep], np.full(int(keep.sum()), 0.2)
    return whole[keep], np.ones(int(keep.sum()))


def _footholds(feet: Array, seen: Array, up: Array, fps: float) -> Array:
    """Places (M, 3) where the lower foot stayed for a while."""
    slow = (contacts.speeds(feet, fps) < _STANDS_M_S) & (seen > 0)
    height = np.where(seen > 0, feet @ up, np.inf)
    slow &= height < height.min(axis=1, keepdims=True) + _LOW_M
    holds = []
    for point in range(feet.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], slow[:, point].astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            if stop - start >= max(_FRAMES, _HOLD_S * fps):
                holds.append(feet[start:stop, point].mean(axis=0))
    return np.array(holds).reshape(-1, 3)
