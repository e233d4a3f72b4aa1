"""What a reconstruction says about its calibration: is it upright, metric, of one piece - and which camera is off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints3D
from ..core.cameras import CameraSet
from ..core.skeletons import BODY, LIMBS
from ..core.triangulation import Rays, distances, intersect, refine, residuals
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .views import Scene

Array = np.ndarray

# Lengths over body height, as `LIMBS` orders them (Winter, Biomechanics and Motor Control of Human Movement, 4.1).
_OF_HEIGHT = (0.186, 0.186, 0.146, 0.146, 0.245, 0.245, 0.246, 0.246)
_TORSO, _TORSO_OF_HEIGHT = (1, 8), 0.288  # neck to the middle of the hips
_HEIGHTS_M = (0.5, 3.0)
_HOPELESS = 0.12  # of the person's height: median distance between rays and points of one piece of nonsense
_LOOSE = 0.03
_BIASED = 0.012  # of the person's height: a constant offset worth a warning
_CONSTANT = 1.3  # times its own scatter
_LOOKED_AT = 200  # frames
_AT_ONCE = 1000  # frames
_LINE_DEG, _NARROW_DEG = 1.5, 6.0
_WIDE = 0.06  # of the person's height: rays that pass so far away are outliers
_NO_OFFSET = {
    "offset_from_others_px": [None, None],
    "scatter_px": None,
    "offset_from_others_m": None,
    "scatter_m": None,
}


def measured_height(points: Array) -> float:
    """Estimate the height of the person from (T, 25, 3) body joints, in the unit of the points; NaN if unseen."""
    ends = np.array([(a, b) for _, a, b in LIMBS] + [_TORSO])
    lengths = np.linalg.norm(points[:, ends[:, 0]] - points[:, ends[:, 1]], axis=-1)
    ratios = lengths / np.array([*_OF_HEIGHT, _TORSO_OF_HEIGHT])
    known = [np.median(ratio[np.isfinite(ratio)]) for ratio in ratios.T if np.isfinite(ratio).any()]
    return float(np.median(known)) if known else float("nan")


def check_height(height: float) -> None:
    """Raise InputError where the person would have no human height: the calibration is not in metres."""
    if np.isnan(height):
        raise InputError(
            "No limb is seen by two cameras at the same time.", "Check that the views show the same person and overlap."
        )
    if _HEIGHTS_M[0] <= height <= _HEIGHTS_M[1]:
        return
    units = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254}
    likely = [name for name, metres in units.items() if 1.2 <= height * metres <= 2.2]
    hint = f"Is it in {likely[0]}? Write it in metres." if likely else "Write its translations in metres."
    raise InputError(
        f"The person would be {height:.3g} m tall, outside {_HEIGHTS_M[0]} to {_HEIGHTS_M[1]:g} m: "
        "the calibration cannot be in metres.",
        hint,
    )


def check_cheirality(scene: Scene) -> None:
    """Raise InputError where most of what a camera sees would lie behind it: mirrored or inverted calibration."""
    rays = scene.rays()
    points = intersect(rays)
    distance = distances(points, rays)
    for view, camera in enumerate(scene.cameras):
        seen = (rays.weight[view] > 0) & np.isfinite(points[:, 0])
        behind = float(np.isinf(distance[view][seen]).mean()) if seen.any() else 0.0
        if behind > 0.5:
            raise InputError(
                f"{100 * behind:.0f} % of what {camera.name} sees would lie behind it: "
                "its calibration is mirrored or inverted.",
                "The calibration must take world points into the camera (x_cam = R x_world + t), z pointing forward.",
            )


def check_parallax(scene: Scene, report: Reporter) -> None:
    """Compare the directions in which cameras see joints: views along one line do not tell how far they are.

    Raises:
        InputError: all views lie on one line with the person.
    """
    rays = scene.rays()
    lines = np.concatenate([rays.directions, np.ones((*rays.directions.shape[:-1], 1))], axis=-1) @ rays.rotation
    lines = lines / np.linalg.norm(lines, axis=-1, keepdims=True)
    seen = (rays.weight > 0) & np.isfinite(lines).all(-1)
    widest = np.full(seen.shape[1], np.nan)
    for one in range(len(seen)):
        for other in range(one):
            sine = np.linalg.norm(np.cross(lines[one], lines[other]), axis=-1)
            widest = np.where(seen[one] & seen[other], np.fmax(widest, sine), widest)
    if not np.isfinite(widest).any():
        return
    degrees = float(np.degrees(np.arcsin(np.clip(np.nanmedian(widest), 0.0, 1.0))))
    if degrees >= _NARROW_DEG:
        return
    names = ", ".join(camera.name for view, camera in enumerate(scene.cameras) if seen[view].any())
    text = f"{names} see the person along lines that differ by {degrees:.1f} degrees"
    if degrees < _LINE_DEG:
        raise InputError(
            f"{text}: they stand in one place or on one line with the person, which tells no distance.",
            f"Move a camera, so that lines of sight differ by {_NARROW_DEG:.0f} degrees at least.",
        )
    report.warning("calibration", f"{text}: distances from the cameras are vague.")


def check_agreement(diagnostics: dict[str, Any], report: Reporter) -> None:
    """Refuse a rig whose views cannot mean the same person; warn of one that is loose.

    Raises:
        InputError: the median error is a large part of the person's height; names the camera that is farthest off.
    """
    median, height = diagnostics["median_error_m"], diagnostics["height_m"]
    if median is None or height is None or median < _LOOSE * height:
        return
    cameras = diagnostics["cameras"]
    worst = max(cameras, key=lambda camera: camera["offset_from_others_m"] or camera["median_error_m"] or 0.0)
    text = (
        f"The views agree only within {100 * median:.0f} cm in the median, for a person {height:.2f} m tall; "
        f"{worst['name']} is farthest off ({worst['median_error_px']:.0f} px)."
    )
    if median > _HOPELESS * height:
        raise InputError(
            text, "Check that the clips are in step, in the order of the cameras, and show the same person."
        )
    report.warning("calibration", text)


def warn_of_biased_cameras(diagnostics: dict[str, Any], report: Reporter) -> None:
    """Warn of each camera that disagrees with the rest by a constant: a calibration that has moved."""
    for camera in diagnostics["cameras"]:
        if not camera["biased"]:
            continue
        x, y = camera["offset_from_others_px"]
        report.warning(
            "calibration",
            f"Camera {camera['name']} disagrees with the others by ({x:+.0f}, {y:+.0f}) px throughout "
            f"(scatter {camera['scatter_px']:.0f} px); it has probably moved since then: refine its calibration.",
        )


def diagnose(scene: Scene, keypoints: Keypoints3D, sides: Array, *, given: CameraSet) -> dict[str, Any]:
    """Say in numbers how well the body seen by all views fits the calibration; JSON-ready.

    `sides` (N, T, 2) bool: what was exchanged, arms and legs, as `sides.agree_on_sides` gives it. `given`: the cameras
    as they were calibrated, which are compared with each other; the scene's may have been moved since.
    """
    assert keypoints.error_px is not None and keypoints.views_used is not None
    error, used = keypoints.error_px[:, :, BODY], keypoints.views_used[:, :, BODY]
    points, body = keypoints.positions[:, BODY], scene.body()
    height = measured_height(points)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, body.frames, _AT_ONCE)]
    signed = np.concatenate([body.at(rows).error_px(points[rows]) for rows in parts], axis=1)
    metres = np.concatenate([_passed(body.at(rows), points[rows]) for rows in parts], axis=1)
    cameras = []
    offsets = _offsets(replace(body, cameras=given), height)
    for view, (camera, offset) in enumerate(zip(scene.cameras, offsets, strict=True)):
        seen = np.isfinite(error[view])
        cameras.append(
            {
                "name": camera.name,
                "seen": int(seen.sum()),
                "used_share": _mean(used[view][seen]),
                "mean_error_px": _mean(error[view]),
                "median_error_px": _median(error[view]),
                "median_error_m": _median(metres[view][seen]),
                "mean_residual_px": [_mean(signed[view][seen][:, axis]) for axis in (0, 1)],
                "exchanged_frames": {"arms": int(sides[view, :, 0].sum()), "legs": int(sides[view, :, 1].sum())},
                **offset,
            }
        )
    return {
        "height_m": _number(height),
        "mean_error_px": _mean(error),
        "median_error_px": _median(error),
        "median_error_m": _median(metres[np.isfinite(error)]),
        "cameras": cameras,
    }


def _passed(scene: Scene, points: Array) -> Array:
    """How far (N, T, J) metres each ray passes its point."""
    return distances(points.reshape(-1, 3), scene.rays()).reshape(scene.weight.shape)


def _offsets(scene: Scene, height: float) -> list[dict[str, Any]]:
    """Compare each view with what the others make of the person, and find the views that are constantly off.

    One biased camera makes all others look biased, so the worst is set aside before the next is judged.
    """
    frames = np.unique(np.linspace(0, scene.frames - 1, _LOOKED_AT).round().astype(int))
    sample, trusted = scene.at(frames), list(range(len(scene.cameras)))
    rays = sample.rays()
    said = [_offset(sample, rays, view, trusted, height) for view in trusted]
    found, biased = dict(enumerate(said)), []
    while len(trusted) > 2:
        worst = max(trusted, key=lambda view: found[view]["offset_from_others_m"] or 0.0)
        offset, scatter = found[worst]["offset_from_others_m"], found[worst]["scatter_m"]
        if offset is None or offset < _BIASED * height or offset < _CONSTANT * scatter:
            break
        biased.append(worst)
        trusted.remove(worst)
        found = {view: _offset(sample, rays, view, trusted, height) for view in trusted}
    return [{**offset, "biased": view in biased} for view, offset in enumerate(said)]


def _offset(scene: Scene, rays: Rays, view: int, trusted: list[int], height: float) -> dict[str, Any]:
    """Give the median offset of a view, detection minus projection, and the median distance from that offset."""
    others = [other for other in trusted if other != view]
    if len(others) < 2:
        return _NO_OFFSET
    points = refine(intersect(rays.views(others)), rays.views(others), scale=_WIDE * height, steps=2)
    offset = scene.error_px(points.reshape(*scene.weight.shape[1:], 3))[view].reshape(-1, 2)
    _, depth = residuals(points, rays.views([view]))
    known = (rays.weight[view] > 0) & np.isfinite(offset).all(-1)
    if not known.any():
        return _NO_OFFSET
    matrix = scene.cameras[view].matrix
    metres_per_px = float(np.median(depth[0][known])) / np.sqrt(matrix[0, 0] * matrix[1, 1])
    middle = np.median(offset[known], axis=0)
    scatter = np.median(np.linalg.norm(offset[known] - middle, axis=-1))
    return {
        "offset_from_others_px": [_number(x) for x in middle],
        "scatter_px": _number(scatter),
        "offset_from_others_m": _number(np.linalg.norm(middle) * metres_per_px),
        "scatter_m": _number(scatter * metres_per_px),
    }


def _mean(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return _number(np.mean(values)) if values.size else None


def _median(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return _number(np.median(values)) if values.size else None


def _number(value: float | np.floating) -> float | None:
    """Round for JSON, which has no NaN."""
    return round(float(value), 4) if np.isfinite(value) else None
