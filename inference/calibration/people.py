"""Cameras from nothing but the people in their clips: no board, no marks, no known place.

Every joint of every frame is a point that several cameras see. Two views give their relative pose (five points and
consensus, Nister 2004; or the directions of the detector's own 3D guesses), further views are placed by the joints
that are in space by then, and all is adjusted together. Pictures know no size: it comes from the person's height or
from one measured distance. Up and the floor come from how the person stands and where the feet stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, CameraSet, normalise, pinhole
from ..core.metrics import limb_std
from ..core.rotations import nearest_rotation
from ..core.skeletons import BODY
from ..core.triangulation import Rays, intersect
from ..motion.rig_checks import measured_height
from ..motion.views import check_people, synchronise
from ..protocol.errors import InputError
from ..protocol.events import Reporter, SilentReporter
from .alignment import scaled
from .bundle import FIXED, POSE, Adjusted, Lens
from .levelling import level
from .result import Calibrated
from .scene import Footage, agreed, bundled, error_figures, errors_px, footage, placed, roughly_placed

Array = np.ndarray
HEIGHT_M = 1.70  # of a person of whom nothing is known
_FOCALS = (0.75, 1.1, 1.7)  # of the image's longer side: phones, action cameras, portrait lenses
_GUESSED, _KNOWN = Lens(focal=0.25), Lens(focal=0.01)
_SURE = 0.5  # least score of what begins a rig
_PAIRS = 2  # that a rig is tried to be begun with
_LOOKED_AT = 40  # frames, while candidates are compared
_HIT = 0.012  # of a focal length: how far a joint may be off its epipolar line, or its place, at first
_LEAST_INLIERS = 40
_PARALLAX_DEG = 4.0  # between two cameras' rays, and from being opposite each other
_STILL = 0.02  # of the height: how far joints stray from their means
_TOGETHER_S = 0.2  # errors of a detector that are this near in time are one
_UNSURE = 0.1  # of the mean baseline: a place that is not worth giving
_WARNED = 0.03
_SEED = 7
_STRAIGHT = np.zeros(5)  # the lens of rays


@dataclass(frozen=True)
class _Pair:
    """Two views and the pose of the second in the first one's frame; score = consistent rays times their parallax."""

    views: tuple[int, int]
    rotation: Array
    shift: Array
    parallax_deg: float
    share: float
    score: float


def calibrate_from_people(
    views: Sequence[Keypoints2D],
    report: Reporter,
    *,
    height_m: float | None = None,
    distance: tuple[str, str, float] | None = None,
    focal_px: float | None = None,
    min_confidence: float = 0.3,
) -> Calibrated:
    """Find the cameras of clips that show the same person at the same times.

    Args:
        distance: names of two cameras and the metres between them; beats `height_m`, which beats 1.70 m.
        focal_px: of all cameras; without it, it is found, too.
    Returns:
        A world in metres, z up, the floor at z = 0 under the person, the first camera looking along +y.
    Raises:
        InputError: the clips do not say where the cameras are; the sentence says why, in numbers.
    """
    if len(views) < 2:
        raise InputError(f"{len(views)} view cannot be calibrated from people; at least 2 are needed.")
    views = synchronise(views, report)
    check_people(views, min_confidence, report)
    lens = _GUESSED if focal_px is None else _KNOWN
    report.progress("begin", 0, 3)
    cameras, pair = _begin(views, focal_px, min_confidence, report)
    report.progress("begin", 1, 3)
    found, adjusted = _settle(views, cameras, lens, min_confidence, report)
    report.progress("begin", 2, 3)
    scene = replace(found.scene, cameras=adjusted.cameras)
    points = placed(scene)
    _check_movement(points)
    rig, scale, notes = _metric(adjusted.cameras, points, height_m, distance)
    factor = measured_height(placed(replace(scene, cameras=rig))) / measured_height(points)
    unsure = _uncertainty(adjusted, found) * factor
    _check_uncertainty(rig, unsure, report)
    ground = level(rig, points * factor, found.scene.confidence.max(0), found.fps, whole=len(views[0].positions))
    world = ground.cameras(rig)
    report.progress("begin", 3, 3)
    figures = _figures(found, world, adjusted, unsure, min_confidence)
    return Calibrated(world, {**figures, "scale": scale, "began_with": [world[v].name for v in pair.views]}, notes)


def assumed(views: Sequence[Keypoints2D], focal: Callable[[int], float]) -> CameraSet:
    """Cameras of a given focal length (a function of the longer side, px), named after their views."""
    names = [str(view.header.get("view") or "") for view in views]
    unique = len(set(names)) == len(names) and all(names)
    return CameraSet(
        tuple(
            pinhole(name if unique else f"cam{index + 1:02d}", view.image_size, focal(max(view.image_size)))
            for index, (name, view) in enumerate(zip(names, views, strict=True))
        )
    )


def _begin(
    views: Sequence[Keypoints2D], focal_px: float | None, min_confidence: float, report: Reporter
) -> tuple[CameraSet, _Pair]:
    """Try focal lengths and first pairs; the rig in which rays pass nearest to each other wins."""
    tried: list[tuple[float, CameraSet, _Pair]] = []
    widest: _Pair | None = None
    for share in _FOCALS if focal_px is None else (None,):
        cameras = assumed(views, lambda side, share=share: focal_px or (share or 1.0) * side)
        found = _thinned(footage(views, cameras, min_confidence))
        pairs = sorted(_pairs(views, found, cameras), key=lambda pair: -pair.score)
        if not pairs:
            continue
        widest = max([pairs[0], *([widest] if widest else [])], key=lambda pair: pair.score)
        for pair in pairs[: _PAIRS if focal_px else 1]:
            report.progress("begin", 0, 3)
            if _narrow(pair) is None and (rig := _grown(cameras, found, pair)) is not None:
                lens = _GUESSED if focal_px is None else FIXED
                adjusted = bundled(found, rig, lens, steps=12, report=SilentReporter())
                tried.append((_disagreement(found, adjusted.cameras), adjusted.cameras, pair))
    if widest is None:
        raise InputError(
            "No two views see the same person at the same time in the same way.",
            "Check that the clips are in step, show the same person, and that at least two overlap.",
        )
    if not tried:
        raise InputError(
            _narrow(widest) or "Two of the views fit together, and no other can be placed by what it shows.",
            "Let the cameras look from directions that differ by 30 to 120 degrees, at the same person.",
        )
    _, cameras, pair = min(tried, key=lambda one: one[0])
    return cameras, pair


def _settle(
    views: Sequence[Keypoints2D], cameras: CameraSet, lens: Lens, min_confidence: float, report: Reporter
) -> tuple[Footage, Adjusted]:
    """Agree on left and right, adjust, and once more, from all frames."""
    found = footage(views, cameras, min_confidence)
    adjusted = None
    for _ in range(2):
        found = agreed(views, found, cameras, min_confidence)
        adjusted = bundled(found, cameras, lens, report=report)
        cameras = adjusted.cameras
    assert adjusted is not None
    return found, adjusted


def _thinned(found: Footage) -> Footage:
    rows = np.unique(np.linspace(0, len(found.frames) - 1, _LOOKED_AT).round().astype(int))
    return replace(found, scene=found.scene.at(rows), speed=found.speed[:, rows], frames=found.frames[rows])


def _pairs(views: Sequence[Keypoints2D], found: Footage, cameras: CameraSet) -> list[_Pair]:
    """Give the relative poses of all pairs of views that share enough."""
    out = []
    rays = np.stack([normalise(c, p) for c, p in zip(cameras, found.scene.positions, strict=True)])
    for a, b in combinations(range(len(cameras)), 2):
        sure = (found.scene.confidence[[a, b]] >= _SURE).all(0) & (found.scene.weight[[a, b]] > 0).all(0)
        if sure.sum() < _LEAST_INLIERS:
            continue
        first, second = rays[a][sure], rays[b][sure]
        for rotation, shift in _poses(views, found, (a, b), first, second):
            out.append(_judged((a, b), rotation, shift, first, second))
    return [pair for pair in out if pair.share * len(found.frames) > 0 and pair.score > 0]


def _poses(
    views: Sequence[Keypoints2D], found: Footage, pair: tuple[int, int], first: Array, second: Array
) -> list[tuple[Array, Array]]:
    """Candidates for the second camera's pose in the first one's frame: by five points, and by the 3D guesses."""
    cv2.setRNGSeed(_SEED)
    out = []
    essential, mask = cv2.findEssentialMat(first, second, np.eye(3), cv2.RANSAC, 0.9999, 0.5 * _HIT, maxIters=4000)
    if essential is not None and essential.shape == (3, 3):
        _, rotation, shift, _ = cv2.recoverPose(essential, first, second, np.eye(3), mask=mask.copy())
        out.append((rotation, shift.ravel()))
    worlds = [world[found.frames][:, BODY] for index in pair if (world := views[index].world_m) is not None]
    if len(worlds) == 2:
        rotation = _turn_between(worlds[0], worlds[1])
        out += [(rotation, shift) for shift in _shift(rotation, first, second)]
    return out


def _turn_between(first: Array, second: Array) -> Array:
    """(3, 3) turn from the first view's 3D guesses to the second's, all frames together, robust (Kabsch)."""
    known = np.isfinite(first).all(-1) & np.isfinite(second).all(-1)
    a, b = first[known], second[known]
    weight = np.ones(len(a))
    turn = np.eye(3)
    for _ in range(10):
        turn = nearest_rotation(np.einsum("n,ni,nj->ij", weight, b, a))
        weight = 1.0 / (0.01 + np.square(b - a @ turn.T).sum(-1))
    return turn


def _shift(rotation: Array, first: Array, second: Array) -> list[Array]:
    """Direction of the shift that puts turned rays into common planes: x2 . (t x R x1) = 0, robust; both signs."""
    one = np.concatenate([first, np.ones((len(first), 1))], 1) @ rotation.T
    two = np.concatenate([second, np.ones((len(second), 1))], 1)
    normal = np.cross(one, two)
    weight = np.ones(len(normal))
    shift = np.zeros(3)
    for _ in range(15):
        shift = np.linalg.eigh(np.einsum("n,ni,nj->ij", weight, normal, normal))[1][:, 0]
        weight = 1.0 / (np.square(0.3 * _HIT) + np.square(normal @ shift))
    return [shift, -shift]


def _judged(views: tuple[int, int], rotation: Array, shift: Array, first: Array, second: Array) -> _Pair:
    """Count the rays that meet in front of both cameras, and by which angle."""
    cameras = [_camera(np.eye(3), np.zeros(3)), _camera(rotation, shift)]
    points = _meeting(cameras, [first, second])
    hit = np.ones(len(points), bool)
    for camera, rays in zip(cameras, (first, second), strict=True):
        seen = points @ camera.rotation.T + camera.translation
        with np.errstate(invalid="ignore", divide="ignore"):
            hit &= (seen[:, 2] > 0) & (np.linalg.norm(seen[:, :2] / seen[:, 2:] - rays, axis=-1) < _HIT)
    away = points - cameras[1].centre
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (points * away).sum(-1) / (np.linalg.norm(points, axis=-1) * np.linalg.norm(away, axis=-1))
    parallax = float(np.degrees(np.median(np.arccos(np.clip(cosine[hit], -1, 1))))) if hit.any() else 0.0
    score = float(hit.sum() * np.sin(np.radians(parallax)))
    return _Pair(views, rotation, shift, parallax, float(hit.mean()), score)


def _camera(rotation: Array, shift: Array) -> Camera:
    return Camera("", (0, 0), np.eye(3), np.zeros(5), rotation, shift)


def _meeting(cameras: Sequence[Camera], rays: Sequence[Array]) -> Array:
    """(P, 3) where rays (P, 2) of unit cameras meet."""
    count = np.ones((len(cameras), len(rays[0])))
    return intersect(Rays.of(cameras, np.stack(rays), count))


def _narrow(pair: _Pair) -> str | None:
    """Say why a pair cannot measure depth, if it cannot."""
    if _PARALLAX_DEG <= pair.parallax_deg <= 180.0 - _PARALLAX_DEG:
        return None
    how = "from the same place" if pair.parallax_deg < 90 else "from opposite sides, on one line with the person"
    return (
        f"The cameras see the person {how}: their rays meet under {pair.parallax_deg:.1f} degrees, "
        f"{_PARALLAX_DEG:g} to {180 - _PARALLAX_DEG:g} are needed."
    )


def _grown(cameras: CameraSet, found: Footage, pair: _Pair) -> CameraSet | None:
    """Place the other cameras one by one, best seen first, by the joints that are in space by then."""
    a, b = pair.views
    rig = {
        a: replace(cameras[a], rotation=np.eye(3), translation=np.zeros(3)),
        b: replace(cameras[b], rotation=pair.rotation, translation=pair.shift),
    }
    rig = _adjusted(found, rig)
    while len(rig) < len(cameras):
        points = _points(found, rig)
        rest = [view for view in range(len(cameras)) if view not in rig]
        shared = [(np.isfinite(points[..., 0]) & (found.scene.confidence[view] >= _SURE)).sum() for view in rest]
        view = rest[int(np.argmax(shared))]
        pose = _resection(cameras[view], found, view, points)
        if pose is None:
            return None
        rig = _adjusted(found, {**rig, view: replace(cameras[view], rotation=pose[0], translation=pose[1])})
    return CameraSet(tuple(rig[view] for view in range(len(cameras))))


def _points(found: Footage, rig: dict[int, Camera]) -> Array:
    return roughly_placed(_part(found, rig).scene)


def _part(found: Footage, rig: dict[int, Camera]) -> Footage:
    """Take the views that have a camera by now."""
    order = sorted(rig)
    scene = found.scene
    part = replace(
        scene, cameras=CameraSet(tuple(rig[view] for view in order)), positions=scene.positions[order],
        confidence=scene.confidence[order], weight=scene.weight[order],
    )  # fmt: skip
    return replace(found, scene=part, speed=found.speed[order])


def _adjusted(found: Footage, rig: dict[int, Camera]) -> dict[int, Camera]:
    part = _part(found, rig)
    done = bundled(part, part.scene.cameras, FIXED, steps=4, report=SilentReporter())
    return dict(zip(sorted(rig), done.cameras, strict=True))


def _resection(camera: Camera, found: Footage, view: int, points: Array) -> tuple[Array, Array] | None:
    """Pose of a camera from joints in space (T, 25, 3) that it sees; None where too few agree."""
    sure = np.isfinite(points[..., 0]) & (found.scene.confidence[view] >= _SURE) & (found.scene.weight[view] > 0)
    if sure.sum() < _LEAST_INLIERS:
        return None
    cv2.setRNGSeed(_SEED)
    space, plane = points[sure], normalise(camera, found.scene.positions[view][sure])
    hit = 2 * _HIT
    done, turn, shift, inliers = cv2.solvePnPRansac(
        space, plane, np.eye(3), _STRAIGHT, iterationsCount=600, reprojectionError=hit, confidence=0.9999,
        flags=cv2.SOLVEPNP_EPNP,
    )  # fmt: skip
    if not done or inliers is None or len(inliers) < _LEAST_INLIERS:
        return None
    rows = np.asarray(inliers, int).ravel()
    turn, shift = cv2.solvePnPRefineLM(space[rows], plane[rows], np.eye(3), _STRAIGHT, turn, shift)
    return cv2.Rodrigues(turn)[0], shift.ravel()


def _disagreement(found: Footage, cameras: CameraSet) -> float:
    """Mean distance of rays from where they meet, in shares of the person's height; what is far off counts 0.1."""
    scene = replace(found.scene, cameras=cameras)
    points = roughly_placed(scene)
    height = measured_height(points)
    error = np.linalg.norm(scene.error_px(points), axis=-1)
    depth = np.stack([(points @ c.rotation.T + c.translation)[..., 2] for c in cameras])
    focal = np.array([c.matrix[0, 0] for c in cameras])[:, None, None]
    metres = np.where(scene.weight > 0, error * depth / focal, np.nan)
    metres = np.where(np.isfinite(metres), metres, height)[scene.weight > 0]  # behind a camera: a height off
    return float(np.mean(np.minimum(metres / height, 0.1))) if np.isfinite(height) and height > 0 else np.inf


def _check_movement(points: Array) -> None:
    """Refuse people who stand still: their joints are a few points, whose errors never average out."""
    height = measured_height(points)
    known = np.isfinite(points).all(-1, keepdims=True)
    middle = np.where(known, points, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    moved = float(np.nanmedian(np.linalg.norm(points - middle, axis=-1))) / height
    if moved < _STILL:
        raise InputError(
            f"The person stands still: joints stray by {100 * moved:.1f} % of the height, at least {100 * _STILL:g} % "
            "are needed.",
            "Let somebody walk about for a few seconds where all cameras see them.",
        )


def _metric(
    cameras: CameraSet, points: Array, height_m: float | None, distance: tuple[str, str, float] | None
) -> tuple[CameraSet, str, tuple[str, ...]]:
    """Give the rig a size, say where it is from, and warn where it is assumed."""
    if distance is not None:
        a, b, metres = distance
        names = list(cameras.names)
        missing = [name for name in (a, b) if name not in names]
        if missing or a == b or not metres > 0:
            raise InputError(f"There is no distance between {a!r} and {b!r}; cameras are {', '.join(names)}.")
        own = np.linalg.norm(cameras[names.index(a)].centre - cameras[names.index(b)].centre)
        return scaled(cameras, metres / float(own)), f"{a} and {b} are {metres:g} m apart", ()
    wanted = HEIGHT_M if height_m is None else height_m
    rig = scaled(cameras, wanted / measured_height(points))
    if height_m is not None:
        return rig, f"the person is {wanted:g} m tall", ()
    text = f"The size of the scene is a guess: the person is taken to be {wanted:.2f} m tall."
    return rig, f"the person is taken to be {wanted:g} m tall", (f"{text} Give the height, or one distance.",)


def _uncertainty(adjusted: Adjusted, found: Footage) -> Array:
    """(N,) standard deviations of the cameras' places, in the rig's unit, from what the adjustment left open.

    Errors of neighbouring frames are one error, so fewer frames speak than there are.
    """
    root = np.sqrt(np.maximum(np.diag(adjusted.information), 1e-12))
    values, vectors = np.linalg.eigh(adjusted.information / np.outer(root, root))
    values, vectors = values[7:], vectors[:, 7:]  # seven ways to move everything are no uncertainty
    covariance = (vectors / np.maximum(values, 1e-9)) @ vectors.T / np.outer(root, root)
    place = np.zeros((len(adjusted.cameras), 3, len(root)))
    rows = {int(parameter): row for row, parameter in enumerate(adjusted.free)}
    for view, camera in enumerate(adjusted.cameras):
        x, y, z = camera.translation
        by = np.concatenate([np.array([[0, z, -y], [-z, 0, x], [y, -x, 0]]), -np.eye(3)], axis=1)
        for column in range(POSE):
            place[view, :, rows[view * 12 + column]] = camera.rotation.T @ by[:, column]
    between = np.median(np.diff(found.frames)) / found.fps if len(found.frames) > 1 else 1.0
    alike = max(1.0, _TOGETHER_S / max(between, 1e-6))
    variance = np.einsum("nac,cd,nad->n", place, covariance, place)
    return np.sqrt(np.maximum(variance, 0.0) * alike)


def _check_uncertainty(cameras: CameraSet, unsure: Array, report: Reporter) -> None:
    baseline = float(np.mean([np.linalg.norm(a.centre - b.centre) for a, b in combinations(cameras, 2)]))
    worst = int(np.argmax(unsure))
    share = float(unsure[worst]) / max(baseline, 1e-9)
    text = (
        f"The place of {cameras[worst].name} is only known within {100 * unsure[worst]:.0f} cm, {100 * share:.0f} % of "
        f"the mean distance between cameras ({baseline:.2f} m)"
    )
    hint = "Let the person walk about more, over all the space that the cameras see."
    if not share < _UNSURE:
        raise InputError(f"{text}; at most {100 * _UNSURE:g} % are worth having.", hint)
    if share > _WARNED:
        report.warning("calibration", f"{text}. {hint}")


def _figures(
    found: Footage, world: CameraSet, adjusted: Adjusted, unsure: Array, min_confidence: float
) -> dict[str, object]:
    scene = replace(found.scene, cameras=world)
    errors, points = errors_px(scene, min_confidence), placed(scene)
    return {
        "method": "people",
        "frames": len(found.frames),
        "reprojection_px": round(float(np.nanmean(errors)), 3),
        "limb_std_mm": round(1000 * limb_std(points), 2),
        "height_m": round(measured_height(points), 3),
        "cameras": [
            {
                "name": camera.name,
                "reprojection_px": row["mean"],
                "reprojection_median_px": row["median"],
                "reprojection_p95_px": row["p95"],
                "focal_px": round(float(camera.matrix[0, 0]), 1),
                "place_within_m": round(float(sigma), 4),
                "clock_ms": round(1000 * float(ahead), 2),
            }
            for camera, row, sigma, ahead in zip(world, error_figures(errors), unsure, adjusted.clock, strict=True)
        ],
    }
