"""Triangulation beside the plain ways: on real four-camera footage, and on synthetic rigs with known truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, CameraSet, level_rotation, project
from ..core.metrics import limb_std, second_difference
from ..core.skeletons import BODY, COCO_17_IN_BODY_25, OPENPOSE_137
from ..core.triangulation import intersect
from ..motion.sides import agree_on_sides
from ..motion.triangulate import TriangulateSettings, triangulate
from ..motion.views import Scene, assemble
from ..protocol.events import SilentReporter
from ..sight.swap import LEGS, WHOLE_BODY, swap_sides
from .table import Table

Array = np.ndarray
Method = Callable[[Sequence[Keypoints2D], CameraSet, Scene], tuple[Array, Array, Array]]  # points, sides, used
JOINTS = list(COCO_17_IN_BODY_25)
_SEEN = 0.3  # least score
_MAX_DROP_PX = 15.0  # Pose2Sim's default threshold


def tables(views: Sequence[Keypoints2D], cameras: CameraSet, data: Path) -> list[Table]:
    """All figures of triangulation."""
    real = Table(
        "Four real cameras, the detector's raw output",
        ("method", "limb length std (mm)", "reprojection error mean (px)", "median (px)", "joints dropped (%)",
         "views dropped", "2nd difference (mm)", "ms a frame"),
        note="Errors over 17 joints and all views that saw them, before any truncation. The calibration of cam03 "
        "is off by about (+21, +17) px. Targets: 13 mm, 14 px, nothing dropped.",
    )  # fmt: skip
    for method, row in evaluate_multiview(views, cameras).items():
        real.add(method, *row.values())
    columns = ("rig", *METHODS)
    synthetic = Table(
        "Synthetic rigs, mocap of people: mean error (mm) / share of joints more than 100 mm off or missing (%)",
        columns,
        note="Noise 1-3 % of the height with heavy tails, 15 % outliers, 10 % occluded, sides exchanged in 20 % of the "
        "frames of each view. Means are over joints that a method did not drop.",
    )
    for name, rig in RIGS.items():
        synthetic.add(name, *evaluate_synthetic(data, rig))
    return [real, synthetic]


def evaluate_multiview(views: Sequence[Keypoints2D], cameras: CameraSet) -> dict[str, dict[str, float]]:
    """Compare ways of triangulating the same views: limb lengths, untruncated errors, what was dropped, time."""
    scene = assemble(views, cameras, _SEEN).body()
    return {name: _measure(method, views, cameras, scene) for name, method in METHODS.items()}


def _measure(method: Method, views: Sequence[Keypoints2D], cameras: CameraSet, scene: Scene) -> dict[str, float]:
    start = time.perf_counter()
    points, sides, used = method(views, cameras, scene)
    seconds = time.perf_counter() - start
    scene = scene.exchanged(sides)
    seen = scene.confidence[:, :, JOINTS] >= _SEEN
    error = np.where(seen, np.linalg.norm(scene.error_px(points)[:, :, JOINTS], axis=-1), np.nan)
    both = seen.sum(0) >= 2
    missing = ~np.isfinite(points[:, JOINTS, 0]) & both
    return {
        "limb_std_mm": 1000 * limb_std(points),
        "mean_px": float(np.nanmean(error)),
        "median_px": float(np.nanmedian(error)),
        "dropped_percent": 100 * float(missing.sum() / max(both.sum(), 1)),
        "views_dropped": float((seen & ~used[:, :, JOINTS]).sum(0)[both].mean()),
        "second_difference_mm": 1000 * second_difference(points[:, JOINTS]),
        "ms_per_frame": 1000 * seconds / len(points),
    }


def _no_exchange(scene: Scene) -> Array:
    return np.zeros((*scene.weight.shape[:2], 2), bool)


def _plain(_views: Sequence[Keypoints2D], _cameras: CameraSet, scene: Scene) -> tuple[Array, Array, Array]:
    used = scene.confidence >= _SEEN
    return _dlt(scene, used), _no_exchange(scene), used


def _dropping(_views: Sequence[Keypoints2D], _cameras: CameraSet, scene: Scene) -> tuple[Array, Array, Array]:
    """Leave out as few views as bring the mean error under 15 px, joint by joint, else the joint (as Pose2Sim does)."""
    seen = scene.confidence >= _SEEN
    count, frames, joints = seen.shape
    best = np.full((frames, joints, 3), np.nan)
    chosen, open_ = np.zeros_like(seen), np.ones((frames, joints), bool)
    for size in range(count, 1, -1):
        least = np.full((frames, joints), _MAX_DROP_PX)
        for kept in combinations(range(count), size):
            subset = np.zeros(count, bool)
            subset[list(kept)] = True
            used = seen & subset[:, None, None]
            full = open_ & (used.sum(0) == size)
            points = _dlt(scene, used)
            error = np.linalg.norm(scene.error_px(points)[list(kept)], axis=-1).mean(0)
            better = full & (error < least)
            best[better], least[better] = points[better], error[better]
            chosen[:, better] = used[:, better]
        open_ &= ~np.isfinite(best[..., 0])
    return best, _no_exchange(scene), chosen


def _unswapped(views: Sequence[Keypoints2D], _cameras: CameraSet, scene: Scene) -> tuple[Array, Array, Array]:
    sides = agree_on_sides(scene.rays(), 25, fps=views[0].fps, height=1.7)
    scene = scene.exchanged(sides)
    used = scene.confidence >= _SEEN
    return _dlt(scene, used), sides, used


def _ours(views: Sequence[Keypoints2D], cameras: CameraSet, scene: Scene) -> tuple[Array, Array, Array]:
    keypoints = triangulate(views, cameras, TriangulateSettings(), SilentReporter())
    height = keypoints.header["diagnostics"]["height_m"]
    sides = agree_on_sides(scene.rays(), 25, fps=views[0].fps, height=height)
    assert keypoints.views_used is not None
    return keypoints.positions[:, BODY], sides, keypoints.views_used[:, :, BODY]


METHODS: dict[str, Method] = {
    "plain DLT": _plain,
    "dropping views to 15 px": _dropping,
    "unswap + DLT": _unswapped,
    "understudy": _ours,
}


def _dlt(scene: Scene, used: Array) -> Array:
    rays = scene.rays()
    return intersect(rays.weighted(used.reshape(rays.weight.shape))).reshape(*used.shape[1:], 3)


@dataclass(frozen=True)
class SyntheticRig:
    """What is wrong with a synthetic capture. Shares are of frames; noise is a part of the person's height."""

    views: int = 4
    noise: tuple[float, float] = (0.01, 0.03)
    outliers: float = 0.15
    occluded: float = 0.1
    exchanged: float = 0.2
    bias_px: tuple[float, float] = (0.0, 0.0)


RIGS = {
    **{f"{n} views": SyntheticRig(views=n) for n in (2, 3, 4, 6, 8)},
    "4 views, nothing but 1 % noise": SyntheticRig(4, (0.01, 0.01), 0.0, 0.0, 0.0),
    "4 views, one off by (21, 17) px": SyntheticRig(4, bias_px=(21.0, 17.0)),
    "4 views, sides not exchanged": SyntheticRig(4, exchanged=0.0),
}

# The 15 joints that 17-joint mocap and BODY_25 share: (BODY_25, mocap).
_SHARED = (
    (0, 9), (1, 8), (2, 14), (3, 15), (4, 16), (5, 11), (6, 12), (7, 13), (8, 0), (9, 1), (10, 2), (11, 3), (12, 4),
    (13, 5), (14, 6),
)  # fmt: skip


def evaluate_synthetic(
    data: Path, rig: SyntheticRig, *, captures: int = 6, frames: int = 120, seed: int = 0
) -> list[str]:
    """Mean error of each method over several random captures, as "mm / % of joints lost"."""
    generator = np.random.default_rng(seed)
    motions = _motions(data, captures, frames, generator)
    errors: dict[str, list[Array]] = {name: [] for name in METHODS}
    joints = [body for body, _ in _SHARED]
    for truth in motions:
        views, cameras = capture(truth, rig, generator)
        scene = assemble(views, cameras, _SEEN).body()
        for name, method in METHODS.items():
            points = method(views, cameras, scene)[0]
            errors[name].append(np.linalg.norm(points - truth[:, BODY], axis=-1)[:, joints])
    return [_summary(np.concatenate(rows)) for rows in errors.values()]


def _summary(errors: Array) -> str:
    lost = 100 * float((~(errors <= 0.1)).mean())
    return f"{1000 * float(np.nanmean(errors)):.1f} / {lost:.1f}"


def _motions(data: Path, captures: int, frames: int, generator: np.random.Generator) -> list[Array]:
    """(T, 137, 3) z-up metres, NaN but for the 15 shared joints, 30 fps."""
    with np.load(data / "motion" / "joints17_30fps.npz", allow_pickle=False) as motion:
        starts, lengths = motion["clip_start"], motion["clip_len"]
        long_enough = np.flatnonzero(lengths >= frames)
        out = []
        for clip in generator.choice(long_enough, captures, replace=False):
            first = starts[clip] + generator.integers(0, lengths[clip] - frames + 1)
            rows = slice(first, first + frames)
            points = motion["rel_0p1mm_i16"][rows] * 1e-4 + motion["root"][rows][:, None]
            points = points[..., [0, 2, 1]] * [1.0, -1.0, 1.0]  # y up -> z up
            truth = np.full((frames, len(OPENPOSE_137), 3), np.nan)
            for body, joint in _SHARED:
                truth[:, body] = points[:, joint]
            out.append(truth)
    return out


def random_rig(count: int, target: Array, generator: np.random.Generator) -> CameraSet:
    """Cameras around `target` (3,), 3 to 6 m away, 0.4 to 2.6 m high, looking at it more or less."""
    start = generator.uniform(0, 2 * np.pi)
    between = 2 * np.pi / count if count > 2 else np.pi / 3  # two cameras that face each other see no depth
    angles = start + (np.arange(count) + generator.uniform(-0.3, 0.3, count)) * between
    cameras = []
    for index, angle in enumerate(angles):
        distance, height = generator.uniform(3.0, 6.0), generator.uniform(0.4, 2.6)
        centre = np.array([target[0] + distance * np.cos(angle), target[1] + distance * np.sin(angle), height])
        rotation = level_rotation(target + generator.normal(0, 0.15, 3) - centre)
        focal = generator.uniform(900, 1500)
        middle = np.array([960, 540]) + generator.normal(0, 15, 2)
        matrix = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1.0]])
        distortion = np.array([generator.uniform(-0.1, 0.05), generator.uniform(-0.02, 0.05), 1e-3, -1e-3, 0.0])
        cameras.append(Camera(f"cam{index + 1:02d}", (1920, 1080), matrix, distortion, rotation, -rotation @ centre))
    return CameraSet(tuple(cameras))


def capture(truth: Array, rig: SyntheticRig, generator: np.random.Generator) -> tuple[list[Keypoints2D], CameraSet]:
    """Film (T, 137, 3) world points: what a fallible detector would report in each view, and the rig as calibrated."""
    target = np.nanmedian(truth.reshape(-1, 3), axis=0)
    cameras = random_rig(rig.views, target, generator)
    views = [_detected(truth, camera, rig, generator) for camera in cameras]
    biased = int(generator.integers(rig.views))
    views[biased] = replace(views[biased], positions=views[biased].positions + np.array(rig.bias_px))
    return views, cameras


def _detected(truth: Array, camera: Camera, rig: SyntheticRig, generator: np.random.Generator) -> Keypoints2D:
    frames, joints = truth.shape[:2]
    pixels = project(camera, truth)
    depth = np.nanmedian((truth @ camera.rotation.T + camera.translation)[..., 2])
    height_px = 1.7 * camera.matrix[0, 0] / depth
    white = generator.standard_t(3, (frames, joints, 2)) / np.sqrt(3.0)
    slow = generator.standard_normal((frames // 8 + 2, joints, 2)).repeat(8, axis=0)[:frames]
    noise = height_px * generator.uniform(*rig.noise) * np.sqrt(0.5)
    confidence = np.clip(generator.normal(0.85, 0.12, (frames, joints)), 0.3, 1.0)
    pixels = pixels + noise * (white + slow)
    wrong = _runs(frames, joints, rig.outliers, 6, generator)
    away = generator.normal(0, 1, (frames // 6 + 2, joints, 2)).repeat(6, axis=0)[:frames] * 0.15 * height_px
    pixels = np.where(wrong[..., None], pixels + away, pixels)
    confidence = np.where(wrong, np.minimum(confidence, generator.uniform(0.2, 1.0, (frames, joints))), confidence)
    hidden = _runs(frames, joints, rig.occluded, 15, generator)
    pixels = np.where(hidden[..., None], pixels + generator.normal(0, 0.08 * height_px, pixels.shape), pixels)
    confidence = np.where(hidden, generator.uniform(0.0, 0.25, (frames, joints)), confidence)
    confidence = np.where(np.isfinite(pixels).all(-1), confidence, 0.0)
    exchanged = _runs(frames, 2, rig.exchanged, 25, generator)
    pixels, confidence = swap_sides(pixels, confidence, exchanged[:, 0], WHOLE_BODY)
    pixels, confidence = swap_sides(pixels, confidence, exchanged[:, 1] & (np.arange(frames) % 50 < 10), LEGS)
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(camera.size), "source": "", "view": camera.name,
    }  # fmt: skip
    return Keypoints2D(header, pixels, confidence, np.arange(frames) / 30.0)


def _runs(frames: int, count: int, share: float, length: int, generator: np.random.Generator) -> Array:
    """(frames, count) bool: runs of about `length` frames that fill about `share` of them."""
    starts = generator.random((frames + length, count)) < share / length
    total = np.cumsum(np.concatenate([np.zeros((1, count)), starts]), axis=0)
    return (total[length:] - total[:-length])[:frames] > 0
