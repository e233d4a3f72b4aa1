"""What a reconstructed person says about the world: its unit, which way is up, where the floor is, and depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ..core.cameras import CameraSet
from ..core.rotations import between, matrix_from_quaternion, unit
from ..core.upright import find_up, guess_unit, to_z_up
from .evidence import body_height
from .lenses import Finding

Array = np.ndarray
_PEOPLE_M, _USUAL_M = (0.5, 2.6), (1.2, 2.2)
_TILTED = 12.0  # degrees
_MOST_UPRIGHT = 0.2  # of the frames
_FLOOR_M = 0.12
_SOLE_M, _ANKLE_M = 0.02, 0.08  # of the lowest keypoint over the floor, with heels and toes or without
_FEET = (11, 14, 19, 20, 21, 22, 23, 24)
_UP = ((8, 1), (11, 9), (14, 12), (9, 2), (12, 5))  # hips to neck, ankles to hips, hips to shoulders
_NARROW = 6.0  # degrees between the rays of two cameras
_CLOSE_M, _SAME_M, _SAME_TURN = 0.02, 1e-4, 1e-4


def check_places(cameras: CameraSet) -> Iterator[Finding]:
    """Find cameras that stand in one place, by their poses alone."""
    listed = list(cameras)
    for index, one in enumerate(listed):
        for other in listed[index + 1 :]:
            apart = float(np.linalg.norm(one.centre - other.centre))
            same = bool(np.abs(one.rotation - other.rotation).max() < _SAME_TURN)
            reach = max(float(np.linalg.norm(one.translation)), 1.0)
            if apart < _SAME_M * reach and same:
                text = f"{one.name} and {other.name} have the same pose: one of them is a copy."
                yield Finding(other.name, "duplicate", "error", text)
            elif apart < _CLOSE_M:
                text = f"{one.name} and {other.name} stand within {1000 * apart:.0f} mm: they see no depth together."
                yield Finding(other.name, "baseline", "warning", text)


def check_upright_cameras(cameras: CameraSet) -> Iterator[Finding]:
    """Without clips: cameras are held upright, so that what is up in their pictures is up in the world."""
    ups = np.stack([-camera.rotation[1] for camera in cameras])
    mean = ups.mean(0)
    axis = find_up(ups, share=0.8)
    if len(ups) > 1 and np.linalg.norm(mean) > 0.8 and axis not in ("", "+Z"):
        yield _up_finding(axis, ups, f"What is up in the pictures of all {len(ups)} cameras", "warning")


def check_unit(points: Array) -> Finding | None:
    """Find a person whose height nobody has."""
    height = body_height(points)
    if not np.isfinite(height) or _USUAL_M[0] <= height <= _USUAL_M[1]:
        return None
    name, metres = guess_unit(height)
    usual = _USUAL_M[0] <= height * metres <= _USUAL_M[1] and name in ("millimetres", "centimetres", "inches", "feet")
    outside = not _PEOPLE_M[0] <= height <= _PEOPLE_M[1]
    text = f"The person would be {height:,.3g} m tall"
    if outside and usual:
        return Finding(
            "",
            "units",
            "error",
            f"{text}: the calibration is in {name}, not in metres.",
            f"All translations would be multiplied by {metres:g}; the person is then {height * metres:.2f} m tall.",
            _scaled(metres),
        )
    if outside:
        return Finding("", "units", "error", f"{text}, and no usual unit explains it.",
                       f"All translations would be multiplied by {1.7 / height:.4g}, for a person of 1.70 m.",
                       _scaled(1.7 / height))  # fmt: skip
    return Finding("", "height", "warning", f"{text}; give the true height if that is wrong.")


def check_up(points: Array) -> Finding | None:
    """Find people who lie, hang or lean all the time; points in a world that should have Z up."""
    directions = np.concatenate([points[:, head] - points[:, tail] for tail, head in _UP])
    directions = directions[np.isfinite(directions).all(-1)]
    axis = find_up(directions, share=0.6)
    if axis not in ("", "+Z"):
        return _up_finding(axis, directions, "The person's head", "error")
    if axis != "+Z":
        return None
    parts = np.stack([unit(points[:, head] - points[:, tail]) for tail, head in _UP])
    bodies = np.where(np.isfinite(parts), parts, 0.0).sum(0)
    bodies = unit(bodies[np.linalg.norm(bodies, axis=-1) > 1.0])
    if len(bodies) < 10:
        return None
    upright = bodies[bodies[:, 2] >= np.quantile(bodies[:, 2], 1 - _MOST_UPRIGHT)]  # who bends stands straight at times
    mean = unit(upright.mean(axis=0))
    degrees = float(np.degrees(np.arccos(np.clip(mean[2], -1, 1))))
    if degrees <= _TILTED:
        return None
    turn = matrix_from_quaternion(between(mean, np.array([0.0, 0.0, 1.0])))
    return Finding(
        "",
        "tilt",
        "warning",
        f"The person leans by {degrees:.0f} degrees even when most upright: the world's Z does not point up.",
        f"The world would be turned by {degrees:.0f} degrees.",
        _turned(turn),
    )


def check_floor(points: Array) -> Finding | None:
    """Find feet that stand far over or under the floor, z = 0."""
    feet = points[:, _FEET, 2]
    rows = np.isfinite(feet).any(-1)
    if rows.sum() < 5:
        return None
    lowest = np.nanmin(feet[rows], axis=-1)
    heels = np.isfinite(points[:, _FEET[2:], 2]).any()
    sole = _SOLE_M if heels else _ANKLE_M
    stands = float(np.median(np.sort(lowest)[: max(len(lowest) // 2, 1)])) - sole
    if abs(stands) <= _FLOOR_M:
        return None
    where = f"{100 * abs(stands):.0f} cm {'over' if stands > 0 else 'under'} the floor"
    return Finding(
        "",
        "floor",
        "warning",
        f"The person's feet stand {where}, z = 0, however well the views agree.",
        f"The world would be moved {'down' if stands > 0 else 'up'} by {100 * abs(stands):.0f} cm.",
        _lifted(-stands),
    )


def check_depth(cameras: CameraSet, points: Array) -> Iterator[Finding]:
    """Find rigs whose rays all but run beside each other where the person is."""
    known = points[np.isfinite(points).all(-1)]
    if len(known) < 10:
        return
    middle = np.median(known, axis=0)
    towards = unit(np.stack([middle - camera.centre for camera in cameras]))
    cosine = np.clip(np.abs(towards @ towards.T), 0, 1)
    angles = np.degrees(np.arccos(cosine))
    if angles.max() < _NARROW:
        least = max(float(angles.max()), 0.01)
        yield Finding(
            "",
            "baseline",
            "warning",
            f"The cameras see the person within {least:.1f} degrees of each other or of one line: depth is "
            f"{1 / np.sin(np.radians(least)):.0f} times less certain than the rest.",
        )


def _up_finding(axis: str, directions: Array, what: str, severity: str) -> Finding:
    along = unit(directions) @ to_z_up(axis)[2]
    degrees = float(np.degrees(np.arccos(np.clip(np.median(along), -1, 1))))
    return Finding(
        "",
        "up-axis",
        "error" if severity == "error" else "warning",
        f"{what} points along {axis} of the world within {degrees:.0f} degrees, not along +Z: people would lie or "
        "stand on their heads.",
        f"The world would be turned so that {axis} becomes +Z.",
        _turned(to_z_up(axis)),
    )


def _turned(turn: Array) -> Callable[[CameraSet], CameraSet]:
    return lambda cameras: replace(
        cameras, cameras=tuple(replace(camera, rotation=camera.rotation @ turn.T) for camera in cameras)
    )


def _scaled(factor: float) -> Callable[[CameraSet], CameraSet]:
    return lambda cameras: replace(
        cameras, cameras=tuple(replace(camera, translation=camera.translation * factor) for camera in cameras)
    )


def _lifted(metres: float) -> Callable[[CameraSet], CameraSet]:
    shift = np.array([0.0, 0.0, metres])  # new point = old point + shift
    return lambda cameras: replace(
        cameras,
        cameras=tuple(replace(camera, translation=camera.translation - camera.rotation @ shift) for camera in cameras),
    )
