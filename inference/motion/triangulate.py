"""Many cameras -> keypoints in space: the stage that turns 2D views of a calibrated rig into one Keypoints3D.

Views first agree on left and right (`sides`); then each joint of each frame is placed by one of several methods:

- dlt: the weighted linear triangulation of all views;
- ransac: the point that most rays agree on, refined to the least robust reprojection error;
- algebraic: linear, weighted by a network that tells which views err (`learned`);
- volumetric: by a network that knows how people stand, also where fewer than two views see (`learned`).

Where the whole clip is asked for, points of such a method are placed anew, all frames together (`whole_clip`); else
nothing is smoothed. Only there cameras are moved, a little and if that is wanted; the result holds them as they were
found. Every joint has the error to be expected, and what is wrong with the views is said in `header["diagnostics"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..core.artifacts import Keypoints2D, Keypoints3D
from ..core.cameras import CameraSet
from ..core.skeletons import BODY
from ..core.triangulation import (
    Rays,
    consensus,
    distances,
    intersect,
    refine,
    residuals,
    robust_weight,
    uncertainty,
)
from ..protocol.events import Reporter
from ..runtime import weights
from .rig_checks import (
    check_agreement,
    check_cheirality,
    check_height,
    check_parallax,
    diagnose,
    measured_height,
    warn_of_biased_cameras,
)
from .sides import agree_on_sides
from .views import (
    Located,
    Scene,
    assemble,
    check_image_sizes,
    check_people,
    check_rotations,
    match_cameras,
    synchronise,
)

Array = np.ndarray

_BLOCK = 256  # frames solved at once, to bound memory
_PROBED = 120  # frames looked at before the work starts

# Lengths, as parts of the person's height.
_WIDEST = 0.07  # a ray that far off is an outlier whatever the clip looks like
_TIGHTEST = 0.012  # no detector places joints better
_STRAY = 0.04  # a jump out of the neighbouring frames and back, beside what speed explains
_DOUBTFUL = 0.045  # expected error of a joint that is half believed: about even odds of 5 cm

_OUTLYING = 4.0  # median distances between rays and points
_FASTEST = 2.0  # heights a second that a joint moves against the median of its neighbours
_PRIOR_VIEWS = 2  # how much the clip's typical error counts beside a joint's own
_BELIEVED = 0.1  # of the largest weight: a view that took part
# 68 % of the errors are below so many times what `uncertainty` says, on rigs of bench/views.py; two agree too easily
_ONE_SIGMA, _ONE_SIGMA_OF_TWO = 1.05, {"ransac": 1.8}
_KNOWN_UNSEEN = 0.3  # score of what fewer than two views see, and is placed all the same
_SEES = 0.05  # of the frames: a view that shows somebody
_FEW = 3  # views: a prior of how people stand is worth more than another view

Method = Literal["auto", "dlt", "ransac", "algebraic", "volumetric", "temporal"]


@dataclass(frozen=True)
class TriangulateSettings:
    """What the user may decide.

    Scores below `min_confidence` are hardly listened to; only where fewer than two views do better do they place a
    joint, which is then marked as guessed. `steady`: time may choose which views to believe (it moves nothing).
    `whole_clip`: frames are placed together, with bones of constant length; `move_cameras`: the cameras, too.
    """

    method: Method = "auto"
    min_confidence: float = 0.3
    min_views: int = 2
    unswap: bool = True
    steady: bool = True
    tuned: Path | None = None  # confidences of views in place of the published ones
    whole_clip: bool = False
    move_cameras: bool = True


def triangulate(
    views: Sequence[Keypoints2D], cameras: CameraSet, settings: TriangulateSettings, report: Reporter
) -> Keypoints3D:
    """Intersect what several calibrated cameras see of one person.

    Returns:
        Keypoints in the calibration's world frame, metres; NaN where fewer than `min_views` views see a joint or its
        rays are parallel. `validity`: at least `min_views` views saw it with `min_confidence`. `error_px` holds every
        view that saw the joint so, also one that was not believed (`views_used`); nothing is cut off.
    Raises:
        InputError: views and calibration do not fit together; the sentence says how.
    """
    cameras = match_cameras(views, cameras)
    check_image_sizes(views, cameras, report)
    check_rotations(cameras)
    views = synchronise(views, report)
    check_people(views, settings.min_confidence, report)
    report.progress("triangulate", 0, 3)
    scene, fps = assemble(views, cameras, settings.min_confidence), views[0].fps
    height = _probe(scene, report)
    sides = np.zeros((len(views), scene.frames, 2), bool)
    if settings.unswap:
        body = scene.body()
        sides = agree_on_sides(body.rays(), body.weight.shape[2], fps=fps, height=height)
        scene = scene.exchanged(sides)
    report.progress("triangulate", 1, 3)
    method, reason = choose(scene, settings, fps=fps, height=height)

    def placed(done: int, total: int) -> None:
        report.progress("triangulate", total + done, 3 * total)

    located = locate(method, scene, settings, fps=fps, height=height, progress=placed)
    report.progress("triangulate", 2, 3)
    said: dict[str, object] = {"method": method, "reason": reason}
    if settings.whole_clip:
        from . import whole_clip  # the others do without scipy

        watch = lambda done, total: report.progress("whole clip", done, total)  # noqa: E731
        found = whole_clip.place(
            scene, located, fps=fps, height=height, move_cameras=settings.move_cameras, progress=watch
        )
        located, scene = found.located, replace(scene, cameras=found.cameras)
        moved = whole_clip.moves(cameras, found.cameras, located.points[:, BODY])
        said |= {"whole_clip": True, "move_cameras": settings.move_cameras, "cameras": moved}
    first = views[0].header
    header = {
        "unit": "m", "frame": "world", "fps": fps, "skeleton": first["skeleton"], "joints": list(first["joints"]),
        "cameras": [camera.to_header() for camera in scene.cameras],
        "sources": [str(view.header.get("source", "")) for view in views],
        "clips": [[view.header.get("clip_start_s"), view.header.get("clip_rate", 1.0)] for view in views],
        "sync": first.get("sync"),
    }  # fmt: skip
    header["triangulation"] = said
    described = describe(scene, located, settings, height=height)
    keypoints = Keypoints3D(header=header, times=np.asarray(views[0].times, float), **described)
    diagnostics = diagnose(scene, keypoints, sides, given=cameras)
    check_agreement(diagnostics, report)
    warn_of_biased_cameras(diagnostics, report)
    report.progress("triangulate", 3, 3)
    return keypoints.with_header(diagnostics=diagnostics)


def _probe(scene: Scene, report: Reporter) -> float:
    """Look at some frames the plain way: the height of the person, or a sentence why there is none."""
    frames = np.unique(np.linspace(0, scene.frames - 1, _PROBED).round().astype(int))
    sample = scene.body().at(frames)
    check_parallax(sample, report)
    check_cheirality(sample)
    height = measured_height(intersect(sample.rays()).reshape(len(frames), -1, 3))
    check_height(height)
    return height


def choose(scene: Scene, settings: TriangulateSettings, *, fps: float, height: float) -> tuple[Method, str]:
    """Decide for a method, and say why in some words.

    With few views, people's build is worth more than another view; with more, the smallest error to be expected in
    some frames decides.
    """
    if settings.method != "auto":
        return settings.method, "asked for"
    seeing = (scene.confidence[:, :, BODY] >= settings.min_confidence).any(2)
    count = int((seeing.mean(1) >= _SEES).sum())
    known = weights.registry()
    # placing the whole clip takes from frames by themselves as much as from those that know of each other
    few: Method = "volumetric" if settings.whole_clip or "motion-prior" not in known else "temporal"
    if count <= _FEW and "joint-volume" in known:
        return few, f"{count} views see the person"
    if settings.min_views > 2 or "view-trust" not in known:
        return "ransac", f"at least {settings.min_views} views were asked for"
    candidates: list[Method] = ["ransac", "algebraic", *(["volumetric"] if "joint-volume" in known else [])]
    sample = scene.at(np.unique(np.linspace(0, scene.frames - 1, _PROBED).round().astype(int)))
    usual: dict[Method, float] = {}
    for method in candidates:
        located = locate(method, sample, replace(settings, steady=False), fps=fps, height=height)
        usual[method] = float(np.nanmedian(located.error[:, BODY]))
    said = ", ".join(f"{method} {1000 * error:.0f} mm" for method, error in usual.items())
    return min(usual, key=lambda method: usual[method]), f"of the errors to be expected: {said}"


def locate(
    method: Method, scene: Scene, settings: TriangulateSettings, *, fps: float, height: float,
    progress: Callable[[int, int], None] | None = None,
) -> Located:  # fmt: skip
    """Place every joint of every frame by one method."""
    if method in ("algebraic", "volumetric", "temporal"):
        from . import learned  # the others do without its libraries

        run = {"algebraic": learned.algebraic, "volumetric": learned.volumetric, "temporal": learned.temporal}[method]
        return run(scene, height=height, progress=progress, trust=settings.tuned)
    points, scale = solve(scene, settings, fps=fps, height=height, robust=method != "dlt")
    found = [_rated(scene.at(rows), points[rows], method, scale=scale, height=height) for rows in _blocks(scene.frames)]
    return Located(
        points, np.concatenate([error for error, _ in found]), np.concatenate([used for _, used in found], axis=1)
    )


def _rated(scene: Scene, points: Array, method: Method, *, scale: float, height: float) -> tuple[Array, Array]:
    """Errors (T, J) metres to be expected of points (T, J, 3), and how far (N, T, J) each view was listened to."""
    rays, shape, flat = scene.rays(), scene.weight.shape, points.reshape(-1, 3)
    robust = robust_weight(distances(flat, rays), rays, scale)
    used = (robust >= _BELIEVED * robust.max(0)) & (robust > 0)
    error = _expected_error(flat, rays, used, typical=scale / _OUTLYING, widest=_WIDEST * height)
    sigma = _ONE_SIGMA_OF_TWO.get(method, _ONE_SIGMA) if len(scene.cameras) == 2 else _ONE_SIGMA
    error = np.where(np.isfinite(points).all(-1), np.minimum(sigma * error, height).reshape(shape[1:]), np.nan)
    return error, robust.reshape(shape).astype(np.float32)


def _blocks(frames: int) -> list[slice]:
    """Parts of a clip, so that what is worked out on the way to a result is never that of a whole take at once."""
    return [slice(start, start + _BLOCK) for start in range(0, frames, _BLOCK)]


def solve(
    scene: Scene, settings: TriangulateSettings, *, fps: float, height: float, robust: bool = True
) -> tuple[Array, float]:
    """Place every joint of every frame where most rays agree, or linearly.

    Returns:
        (T, J, 3) metres and the distance in metres at which a ray becomes an outlier in this clip.
    """
    widest = _WIDEST * height
    points = _in_blocks(scene, settings, widest, robust=robust)
    if not robust:
        return points, widest
    scale = float(np.clip(_OUTLYING * _usual_distance(scene, points), _TIGHTEST * height, widest))
    if scale < 0.75 * widest:
        points = _in_blocks(scene, settings, scale)
    if settings.steady:
        points = _reconsider_strays(scene, points, scale, reach=height * (_STRAY + _FASTEST / fps))
    return points, scale


def _in_blocks(scene: Scene, settings: TriangulateSettings, scale: float, *, robust: bool = True) -> Array:
    blocks = _blocks(scene.frames)
    return np.concatenate([_solve_block(scene.at(rows), settings, scale, robust=robust) for rows in blocks])


def _solve_block(scene: Scene, settings: TriangulateSettings, scale: float, *, robust: bool) -> Array:
    """Place joints, leaving out those behind the cameras that see them, or that too few views see."""
    rays, shape = scene.rays(), scene.weight.shape
    points = refine(consensus(rays, scale=scale), rays, scale=scale) if robust else intersect(rays)
    _, depth = residuals(points, rays)
    enough = ((rays.weight > 0) & (depth > 0)).sum(0) >= 2
    if settings.min_views > 2:
        enough &= (scene.confidence >= settings.min_confidence).sum(0).ravel() >= settings.min_views
    return np.where(enough[:, None], points, np.nan).reshape(*shape[1:], 3)


def _usual_distance(scene: Scene, points: Array) -> float:
    """Median distance in metres at which the rays of the body pass."""
    rays = scene.body().rays()
    distance = distances(points[:, BODY].reshape(-1, 3), rays)[rays.weight > 0]
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) if distance.size else 0.0


def _reconsider_strays(scene: Scene, points: Array, scale: float, *, reach: float) -> Array:
    """Where a joint jumps away for a frame or two, let time choose between the views that disagree there.

    The chosen point is still an intersection of rays of its own frame, not an average over time.
    """
    expected = _median_over_time(points)
    away = np.linalg.norm(points - expected, axis=-1)
    stray = np.flatnonzero(away.ravel() > reach)
    if not len(stray) or len(scene.cameras) == 2:
        return points
    out, wanted = points.reshape(-1, 3).copy(), expected.reshape(-1, 3)[stray]
    rays = scene.only(stray).rays()
    again = refine(consensus(rays, scale=scale, expected=wanted, reach=reach), rays, scale=scale)
    nearer = np.linalg.norm(again - wanted, axis=-1) < away.ravel()[stray]
    out[stray[nearer]] = again[nearer]
    return out.reshape(points.shape)


def _median_over_time(points: Array) -> Array:
    """Median of five frames around each, (T, J, 3); NaN where fewer than three of them are known."""
    padded = np.pad(points, ((2, 2), (0, 0), (0, 0)), constant_values=np.nan)
    window = np.sort(np.stack([padded[i : i + len(points)] for i in range(5)]), axis=0)  # NaN last
    known = np.isfinite(window).sum(0)
    low = np.take_along_axis(window, np.maximum((known - 1) // 2, 0)[None], 0)[0]
    high = np.take_along_axis(window, np.minimum(known // 2, 4)[None], 0)[0]
    return np.where(known >= 3, 0.5 * (low + high), np.nan)


def describe(scene: Scene, located: Located, settings: TriangulateSettings, *, height: float) -> dict[str, Array]:
    """Say how good the points are: positions, confidence, validity, errors and views_used of a Keypoints3D."""
    parts = [_described(scene.at(rows), located.at(rows), settings, height=height) for rows in _blocks(scene.frames)]
    by_view = ("error_px", "views_used")
    return {name: np.concatenate([part[name] for part in parts], axis=int(name in by_view)) for name in parts[0]}


def _described(scene: Scene, located: Located, settings: TriangulateSettings, *, height: float) -> dict[str, Array]:
    points, believed = located.points, located.believed
    known = np.isfinite(points).all(-1)
    used = (believed >= _BELIEVED * believed.max(0)) & (believed > 0)
    scores = np.sort(np.where(used, scene.confidence, 0.0), axis=0)
    seen = scene.confidence >= settings.min_confidence
    measured = known & (seen.sum(0) >= max(settings.min_views, 2))
    score = np.where(used.sum(0) >= 2, scores[-2], _KNOWN_UNSEEN)  # the second-best view: it takes two
    confidence = score / (1.0 + np.square(np.nan_to_num(located.error, nan=1e3, posinf=1e3) / (_DOUBTFUL * height)))
    return {
        "positions": points,
        "confidence": np.where(known, confidence, 0.0),
        "validity": measured,
        "error_px": np.where(seen, np.linalg.norm(scene.error_px(points), axis=-1), np.nan).astype(np.float32),
        "views_used": used & known,
        "expected_error_m": np.where(known, located.error, np.nan),
    }


def _expected_error(points: Array, rays: Rays, used: Array, *, typical: float, widest: float) -> Array:
    """Predict the error of points (P,) in metres from the number of rays, their parallax and how far they pass.

    The miss of few rays says little, so it is blended with the clip's `typical` one. Rays that were not believed count
    where those believed are so few that they may agree by chance.
    """
    distance = np.where(rays.weight > 0, np.minimum(distances(points, rays), widest), 0.0)
    count = used.sum(0)
    heard = rays.weight / np.maximum(rays.weight.max(0), 1e-12)
    share = np.where(used, 1.0, heard / np.maximum(count - 1, 1) ** 4)
    missed = (share * np.square(np.nan_to_num(distance))).sum(0)
    freedom = np.maximum(count - 1.5, 0.5)  # two equations a ray, three unknowns
    noise = np.sqrt((_PRIOR_VIEWS * typical**2 + missed) / (_PRIOR_VIEWS + freedom))
    return uncertainty(points, rays.weighted(used), noise_m=noise)
