"""What all views saw of the people, as bundle adjustment wants it: which frames, how sure, how fast, how noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import CameraSet, project
from ..core.skeletons import BODY_25, LIMBS, MIN_JOINTS
from ..core.triangulation import Rays, consensus, intersect, refine
from ..motion.rig_checks import measured_height
from ..motion.sides import agree_on_sides
from ..motion.views import Scene, assemble
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .bundle import FIXED, Adjusted, Bundle, Lens, adjust

Array = np.ndarray
BONES = np.array([(a, b) for _, a, b in LIMBS] + [(2, 5), (9, 12), (2, 9), (5, 12), (15, 16)])
_DERIVED = [BODY_25.index("Neck"), BODY_25.index("MidHip")]  # middles of others: they say nothing new
_FRAMES = 160  # that take part, spread over the clip
_BONE = 0.03  # how much the length of a bone seems to vary, by what detectors take for its ends
_NOISE = 0.01  # of the height: how far a good detection is off, before it is measured
_LEAST_NOISE_PX = 0.3
_STRETCHED = 0.25  # logarithm of a limb's length over the usual one
_FASTEST = 4.0  # heights a second, beyond which a keypoint has jumped rather than moved
_CLOCK_FRAMES = 0.5  # how far clips that were said to be in step may be out of it
_LEAST_FRAMES = 5


@dataclass(frozen=True)
class Footage:
    """The body in T chosen frames (`frames`, of the clip) of N views, sides agreed on; speed (N, T, 25, 2) px/s."""

    scene: Scene
    speed: Array
    frames: Array
    fps: float
    sides: Array  # (N, all frames, 2)


def footage(views: Sequence[Keypoints2D], cameras: CameraSet, min_confidence: float) -> Footage:
    """Choose frames that several views saw, evenly over the clip.

    Raises:
        InputError: there are too few.
    """
    scene = assemble(views, cameras, min_confidence).body()
    scene = replace(scene, weight=_without(scene.weight, _DERIVED))
    seen = scene.confidence >= min_confidence
    shared = (seen.sum(0) >= 2).sum(-1) >= MIN_JOINTS
    if shared.sum() < _LEAST_FRAMES:
        raise InputError(
            f"{int(shared.sum())} of {scene.frames} frames show the same {MIN_JOINTS} joints to two cameras; "
            f"at least {_LEAST_FRAMES} are needed.",
            "Check that the clips are in step and show the same person.",
        )
    known = np.flatnonzero(shared)
    frames = known[np.unique(np.linspace(0, len(known) - 1, _FRAMES).round().astype(int))]
    fps = views[0].fps
    sides = np.zeros((len(views), scene.frames, 2), bool)
    return Footage(scene.at(frames), _speeds(scene.positions, fps)[:, frames], frames, fps, sides)


def agreed(views: Sequence[Keypoints2D], found: Footage, cameras: CameraSet, min_confidence: float) -> Footage:
    """Exchange left and right where these cameras say so."""
    scene = assemble(views, cameras, min_confidence).body()
    scene = replace(scene, weight=_without(scene.weight, _DERIVED))
    rays = scene.rays()
    height = measured_height(placed(replace(found.scene, cameras=cameras)))
    sides = agree_on_sides(rays, scene.weight.shape[2], fps=found.fps, height=height)
    scene = scene.exchanged(sides)
    speed = _speeds(scene.positions, found.fps)[:, found.frames]
    return replace(found, scene=scene.at(found.frames), speed=speed, sides=sides)


def placed(scene: Scene) -> Array:
    """(T, 25, 3) where most rays meet; NaN where fewer than two saw a joint or the rays are parallel."""
    rays = scene.rays()
    first = consensus(rays, scale=np.inf if len(scene.cameras) == 2 else _scale(rays, scene))
    return refine(first, rays, scale=_scale(rays, scene)).reshape(*scene.weight.shape[1:], 3)


def roughly_placed(scene: Scene) -> Array:
    """(T, 25, 3) where all rays together pass nearest, robustly; quicker than `placed`, and wrong more often."""
    rays = scene.rays()
    first = intersect(rays)
    height = measured_height(first.reshape(*scene.weight.shape[1:], 3))
    scale = 0.05 * (height if np.isfinite(height) else 1.7)
    return refine(first, rays, scale=scale).reshape(*scene.weight.shape[1:], 3)


def _scale(rays: Rays, scene: Scene) -> float:
    height = measured_height(intersect(rays).reshape(*scene.weight.shape[1:], 3))
    return 0.05 * (height if np.isfinite(height) else 1.7)


def bundled(
    found: Footage,
    cameras: CameraSet,
    lens: Lens = FIXED,
    *,
    moved: Array | None = None,
    steps: int = 40,
    report: Reporter,
) -> Adjusted:
    """Adjust a rig to the footage; how noisy each view is follows from what a first descent leaves."""
    scene = replace(found.scene, cameras=cameras)
    points = roughly_placed(scene)
    height = measured_height(points)
    noise = np.maximum(_NOISE * height * _pixels_a_metre(scene, points), _LEAST_NOISE_PX)
    bundle = Bundle(
        scene.positions, scene.weight, noise, BONES, _BONE, [lens] * len(cameras), moved, found.speed,
        _CLOCK_FRAMES / found.fps,
    )  # fmt: skip
    rough = adjust(
        bundle, cameras, points, steps=min(8, steps), watch=lambda step: report.progress("adjust", step, steps)
    )
    bundle = replace(bundle, noise_px=_measured_noise(bundle, rough))
    return adjust(
        bundle, cameras, within_reach(rough.points), steps=steps, start=rough,
        watch=lambda step: report.progress("adjust", step, steps),
    )  # fmt: skip


def within_reach(points: Array) -> Array:
    """Bring far ends (T, 25, 3) of limbs whose length is out of the question to the usual one, from the trunk outwards.

    Where rays of two views meet by chance, a limb a metre too long is a minimum that no descent leaves.
    """
    out = points.copy()
    for _, near, far in LIMBS:
        way = out[:, far] - out[:, near]
        length = np.linalg.norm(way, axis=-1)
        usual = np.nanmedian(length) if np.isfinite(length).any() else np.nan
        wrong = np.abs(np.log(np.maximum(length, 1e-6) / usual)) > _STRETCHED
        out[wrong, far] = out[wrong, near] + way[wrong] * (usual / np.maximum(length[wrong], 1e-6))[:, None]
    return out


def _measured_noise(bundle: Bundle, adjusted: Adjusted) -> Array:
    """(N,) px: the standard deviation that the median distance of what was seen from the joints stands for."""
    out = []
    for view, camera in enumerate(adjusted.cameras):
        miss = np.linalg.norm(bundle.positions[view] - project(camera, adjusted.points), axis=-1)
        miss = miss[(bundle.weight[view] > 0) & np.isfinite(miss)]
        out.append(max(float(np.median(miss)), _LEAST_NOISE_PX) if len(miss) else 1.0)
    return np.array(out)


def _pixels_a_metre(scene: Scene, points: Array) -> Array:
    """(N,) how large a metre is in each view at the person's distance."""
    out = []
    for camera in scene.cameras:
        depth = (points @ camera.rotation.T + camera.translation)[..., 2]
        out.append(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]) / max(float(np.nanmedian(depth)), 1e-3))
    return np.array(out)


def _speeds(positions: Array, fps: float) -> Array:
    """(N, T, J, 2) px a second over neighbouring frames; 0 where unknown or where a keypoint jumps."""
    speed = np.zeros(positions.shape)
    if positions.shape[1] > 2:
        speed[:, 1:-1] = 0.5 * fps * (positions[:, 2:] - positions[:, :-2])
    size = np.nanmax(np.nanmax(positions, axis=2) - np.nanmin(positions, axis=2), axis=(1, 2))
    fast = np.linalg.norm(speed, axis=-1) > _FASTEST * size[:, None, None]
    return np.where(fast[..., None] | ~np.isfinite(speed), 0.0, speed)


def _without(weight: Array, joints: list[int]) -> Array:
    out = weight.copy()
    out[:, :, joints] = 0.0
    return out


def errors_px(scene: Scene, min_confidence: float) -> Array:
    """(N, T, 25) reprojection error of every joint that a view saw, NaN elsewhere; nothing is cut off."""
    points = placed(scene)
    error = np.linalg.norm(scene.error_px(points), axis=-1)
    return np.where(scene.confidence >= min_confidence, error, np.nan)


def error_figures(errors: Array) -> list[dict[str, Any]]:
    """Mean, median and 95th percentile of each view's errors, px; None where nothing was seen."""
    out = []
    for view in errors:
        seen = view[np.isfinite(view)]
        mean, median, p95 = (seen.mean(), *np.quantile(seen, (0.5, 0.95))) if seen.size else (None,) * 3
        out.append({"mean": _rounded(mean), "median": _rounded(median), "p95": _rounded(p95)})
    return out


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)
