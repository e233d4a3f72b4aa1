"""Points of all frames placed together: what every view saw of the clip, a body that keeps its bones, steady motion.

Methods of triangulation place each frame by itself. Here their points are a guess that counts as much as their
expected error says; rays, bones of constant length (Iskakov's limbs are free; Bregler & Malik 1998 hold them), and
second differences over time say the rest. A first descent over some frames of the whole clip finds the person's bones,
how far each view errs, and by how much its calibration is off (`clip_bundle`); a second one goes through the clip in
windows that overlap, so that memory does not grow with the take. Hands follow, each about its wrist.

Cameras give way as far as calibrations usually err, each by itself, so that the scene as a whole stays where most of
them put it, and its size is that of their baselines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..core.cameras import CameraSet, project
from ..core.rotations import rotvec_from_matrix
from ..core.skeletons import BODY, BODY_25, HAND_21_PARENTS, LEFT_HAND, RIGHT_HAND
from .clip_bundle import Build, Problem, Sight, State, begin, descend, misses, spread
from .views import Located, Scene

Array = np.ndarray
Progress = Callable[[int, int], None]

# (joints, usual share of the height, how much the length varies over time beside what detectors make of its ends):
# medians of the made-up people of `training/surface.py`
_BONES = (
    (5, 6, 0.165, 0.0), (2, 3, 0.165, 0.0), (6, 7, 0.147, 0.0), (3, 4, 0.147, 0.0), (12, 13, 0.241, 0.0),
    (9, 10, 0.241, 0.0), (13, 14, 0.258, 0.0), (10, 11, 0.258, 0.0), (2, 5, 0.214, 0.0), (9, 12, 0.128, 0.0),
    (5, 12, 0.300, 0.02), (2, 9, 0.300, 0.02), (16, 18, 0.059, 0.0), (15, 17, 0.059, 0.0), (0, 16, 0.030, 0.0),
    (0, 15, 0.030, 0.0), (15, 16, 0.037, 0.0), (17, 18, 0.092, 0.0), (0, 1, 0.147, 0.03), (14, 21, 0.039, 0.0),
    (11, 24, 0.039, 0.0), (14, 19, 0.129, 0.0), (11, 22, 0.129, 0.0), (19, 21, 0.146, 0.0), (22, 24, 0.145, 0.0),
    (19, 20, 0.044, 0.0), (22, 23, 0.044, 0.0), (20, 21, 0.125, 0.0), (23, 24, 0.125, 0.0),
)  # fmt: skip
_ALIKE = (  # bones of either side, by their place above
    (0, 1), (2, 3), (4, 5), (6, 7), (10, 11), (12, 13), (14, 15), (19, 20), (21, 22), (23, 24), (25, 26), (27, 28),
)  # fmt: skip
_NECK, _HIPS = BODY_25.index("Neck"), BODY_25.index("MidHip")
_MIDDLES = ((_NECK, 2, 5), (_HIPS, 9, 12))  # detectors derive them: they say nothing new
# share of the height, of each finger's bones from the palm outwards
_FINGERS = (
    (0.029, 0.0195, 0.023, 0.019), (0.068, 0.0165, 0.0147, 0.0172), (0.0655, 0.0215, 0.0176, 0.0165),
    (0.063, 0.019, 0.0158, 0.0174), (0.061, 0.0136, 0.0099, 0.0131),
)  # fmt: skip
_PALM = ((5, 9, 0.0168), (9, 13, 0.0129), (13, 17, 0.0136), (5, 17, 0.042))

_TOLERANCE = 0.012  # share by which a bone seems to vary
# standard deviations of people's bones, of their fingers', and of one side against the other: logarithms of lengths
_LENGTH, _FINGER_LENGTH, _UNLIKE = 0.05, 0.12, 0.015
# of the height: how far rays pass before that is measured, and within which bounds it is; the same for hands
_NOISE, _HAND_NOISE = (0.011, 0.001, 0.05), (0.006, 0.0005, 0.03)
_SURE = 20.0  # rays that the noise before it is measured counts for
_DEPENDENT = 3.0  # rays of one view that err alike
_TURNED, _MOVED = 0.008, 0.005  # radians and metres by which cameras stand elsewhere than calibrated
_TELLING = 5  # frames in which two views see somebody: fewer say nothing of cameras
_BENT, _TALL = 25.0, 1.7  # metres a second squared: how sharply points of a person so tall move (standard deviation)
_GUESS = 0.3  # a method's point has been seen already: its word counts for so much of what its error says
_LEAST_ERROR = 0.005  # of the height: no guess is surer
_WRIST, _REACH = 0.02, 0.09  # metres from the body's wrist to the hand's; of the height, to its fingers
# (factor, power) by which the error expected of a guess, metres, becomes that of its point here: 68 % of the errors of
# made-up captures (`training/rigs.py`) are smaller
_HONEST, _HAND_HONEST = (1.46, 1.134), (0.41, 0.875)
_ALONE, _UNKNOWN = 2.0, 0.8  # the same for what had no guess, of its standard deviation; metres at most
_RUNS, _RUN = 12, 10  # stretches of the clip on which bones and cameras are found, and their frames
_WINDOW, _LEAD = 240, 20  # frames placed together, and those about them that are placed again and thrown away
_ROUGH, _STEPS = 4, 15


@dataclass(frozen=True)
class Found:
    """Points of a whole clip, and the cameras that they were found with."""

    located: Located
    cameras: CameraSet


@dataclass(frozen=True)
class _Part:
    """A body or a hand in the whole clip: what is seen of it, build, guesses and bend as in `Problem`.

    rig: its cameras and their noise, without rays; silent: joints whose rays say nothing; bounds: least and most noise
    of rays, metres; honest: factor and power that make the error that a guess expects one of what becomes of it; start
    (T, J, 3): finite points to begin with.
    """

    scene: Scene
    rig: Sight
    silent: tuple[int, ...]
    build: Build
    guesses: tuple[tuple[Array, Array], ...]
    bend: Array
    bounds: tuple[float, float]
    honest: tuple[float, float]
    start: Array

    def at(self, frames: Array, *, measured: bool) -> Problem:
        """The problem of some frames, tied where their numbers follow each other; `measured`: lengths are unknown."""
        scene = self.scene.at(frames)
        rays, shape = scene.rays(), scene.weight.shape
        weight = np.where(rays.weight.reshape(shape) > 0, scene.confidence, 0.0).astype(float)
        weight[:, :, list(self.silent)] = 0.0
        directions = np.where((weight > 0)[..., None], rays.directions.reshape(*shape, 2), 0.0)
        guesses = tuple((points[frames], error[frames]) for points, error in self.guesses)
        tied = (frames[2:] - frames[:-2]) == 2
        sight = replace(self.rig, directions=directions, weight=weight)
        return Problem(sight, self.build, guesses, self.bend, tied, measured)


def place(
    scene: Scene, located: Located, *, fps: float, height: float, move_cameras: bool = True,
    progress: Progress | None = None,
) -> Found:  # fmt: skip
    """Place body and hands of a whole clip; the face stays where it is.

    Args:
        scene: what N views saw, sides agreed on; located: points of a method that looks at frames by themselves.
        height: of the person, metres; move_cameras: they may stand a little elsewhere than calibrated, where some
            frames tell.
    Returns:
        Points of every frame in which somebody is seen, also of joints that no view sees; error: 68 % lie nearer.
    """
    windows = -(-scene.frames // _WINDOW)

    def told(part: int, done: int) -> None:
        if progress is not None:
            progress(part * windows + done, 3 * windows)

    points, error, believed = located.points.copy(), located.error.copy(), np.array(located.believed)
    body = _body(scene, located, fps=fps, height=height)
    if not move_cameras or ((scene.body().weight > 0).any(2).sum(0) >= 2).sum() < _TELLING:
        body = replace(body, rig=replace(body.rig, turned=0.0))
    body = _surveyed(body, lambda: told(0, 0))
    found = _through(body, lambda done: told(0, done))
    for joint, a, b in _MIDDLES:
        found.believed[:, :, joint] = np.minimum(found.believed[:, :, a], found.believed[:, :, b])
    _write((points, error, believed), BODY, found, body)
    for index, (joints, wrist) in enumerate(((LEFT_HAND, 7), (RIGHT_HAND, 4)), 1):
        hand = _hand(scene, located, joints, found.points[:, wrist], body.rig, fps=fps, height=height)
        if hand.scene.weight.any():
            hand = _surveyed(hand, lambda part=index: told(part, 0))
            placed = _through(hand, lambda done, part=index: told(part, done))
            _write((points, error, believed), joints, placed, hand)
    return Found(Located(points, error, believed), _cameras(scene.cameras, body.rig))


def moves(given: CameraSet, found: CameraSet, points: Array) -> list[dict[str, float | str | None]]:
    """How far each camera was moved: degrees, millimetres, and pixels at points (T, J, 3) in the median."""
    out: list[dict[str, float | str | None]] = []
    for before, after in zip(given, found, strict=True):
        degrees = np.degrees(np.linalg.norm(rotvec_from_matrix(after.rotation @ before.rotation.T)))
        pixels = np.linalg.norm(project(after, points) - project(before, points), axis=-1)
        pixels = pixels[np.isfinite(pixels)]
        out.append(
            {
                "name": before.name,
                "turned_deg": round(float(degrees), 3),
                "moved_mm": round(1e3 * float(np.linalg.norm(after.centre - before.centre)), 1),
                "moved_px": round(float(np.median(pixels)), 2) if pixels.size else None,
            }
        )
    return out


def _cameras(given: CameraSet, rig: Sight) -> CameraSet:
    """The cameras of a rig, their lenses as given."""
    poses = zip(given, rig.rotation, rig.translation, strict=True)
    return replace(given, cameras=tuple(replace(c, rotation=turn, translation=place) for c, turn, place in poses))


def _body(scene: Scene, located: Located, *, fps: float, height: float) -> _Part:
    """The 25 points of the body; detectors derive two of them."""
    usual, least, most = (noise * height for noise in _NOISE)
    rig = replace(_rig(scene, usual), turned=_TURNED, moved=_MOVED)
    silent = tuple(joint for joint, *_ in _MIDDLES)
    a, b, share, loose = np.array(_BONES).T
    build = Build(
        np.stack([a, b], 1).astype(int), np.hypot(_TOLERANCE, loose), np.log(share * height),
        np.full(len(a), _LENGTH), np.array(_ALIKE), _UNLIKE, np.array(_MIDDLES),
    )  # fmt: skip
    points, error = _guess(located, BODY, height)
    bend = _bend(points.shape[1], fps, height)
    return _Part(scene.body(), rig, silent, build, ((points, error),), bend, (least, most), _HONEST, points)


def _hand(
    scene: Scene, located: Located, joints: slice, wrist: Array, body: Sight, *, fps: float, height: float
) -> _Part:
    """One hand, about the body's wrist (T, 3), seen by cameras as the body found them."""
    usual, least, most = (noise * height for noise in _HAND_NOISE)
    rig = replace(_rig(scene, usual), rotation=body.rotation, translation=body.translation)
    points, error = _guess(located, joints, height)
    far = np.full(error.shape, _REACH * height)  # whatever the fingers do, they are near the wrist
    far[:, 0] = _WRIST
    about = np.broadcast_to(wrist[:, None], points.shape)
    apart = 1e-3 * np.arange(points.shape[1])[:, None]  # points in one place would not know where to go
    start = np.where(error[..., None] < far[..., None], points, about + apart)
    bend = _bend(points.shape[1], fps, height)
    guesses = ((points, error), (about, far))
    return _Part(scene.part(joints), rig, (), _hand_build(height), guesses, bend, (least, most), _HAND_HONEST, start)


def _hand_build(height: float) -> Build:
    bones = [(joint, parent) for joint, parent in enumerate(HAND_21_PARENTS) if parent >= 0]
    share = [length for finger in _FINGERS for length in finger] + [length for *_, length in _PALM]
    bones += [(a, b) for a, b, _ in _PALM]
    count = len(bones)
    lengths = np.log(np.array(share) * height)
    return Build(np.array(bones), np.full(count, _TOLERANCE), lengths, np.full(count, _FINGER_LENGTH))


def _rig(scene: Scene, noise: float) -> Sight:
    """The cameras as they were calibrated, without rays."""
    nothing, (rotation, translation) = np.zeros((0, 0, 0)), _rig_poses(scene.cameras)
    return Sight(nothing, nothing, rotation, translation, np.full(len(rotation), noise))


def _rig_poses(cameras: CameraSet) -> tuple[Array, Array]:
    """Rotations (N, 3, 3) and translations (N, 3), camera from world."""
    rotation = np.stack([np.asarray(camera.rotation, float) for camera in cameras])
    return rotation, np.stack([np.asarray(camera.translation, float) for camera in cameras])


def _guess(located: Located, joints: slice, height: float) -> tuple[Array, Array]:
    """Finite points (T, J, 3), over time where they are missing, and what they count for as errors (T, J)."""
    points, error = located.points[:, joints], located.error[:, joints]
    known = np.isfinite(points).all(-1) & np.isfinite(error)
    error = np.where(known, np.maximum(error, _LEAST_ERROR * height) / np.sqrt(_GUESS), np.inf)
    return _filled(points, known), error


def _filled(points: Array, known: Array) -> Array:
    """Points (T, J, 3) with those that are missing between their neighbours in time, else where the others are."""
    out, frames = points.copy(), np.arange(len(points))
    middle = np.median(points[known], axis=0) if known.any() else np.zeros(3)
    for joint in range(points.shape[1]):
        there = np.flatnonzero(known[:, joint])
        for axis in range(3):
            out[:, joint, axis] = np.interp(frames, there, points[there, joint, axis]) if len(there) else middle[axis]
    return out


def _bend(joints: int, fps: float, height: float) -> Array:
    return np.full(joints, _BENT * height / _TALL / fps**2)


def _surveyed(part: _Part, watch: Callable[[], None]) -> _Part:
    """Find noise, lengths and cameras by some frames of the clip: the part with them known."""
    frames = _chosen(part.scene.weight)
    problem = part.at(frames, measured=True)
    rough = descend(problem, begin(problem, part.start[frames]), steps=_ROUGH, watch=watch)
    problem = replace(problem, sight=replace(problem.sight, noise=_measured(problem, rough, part.bounds)))
    state = descend(problem, rough, steps=_STEPS, watch=watch)
    cameras = [state.camera(problem.sight, view) for view in range(len(state.turns))]
    rig = replace(
        part.rig, noise=problem.sight.noise, turned=0.0, rotation=np.stack([turn for turn, _ in cameras]),
        translation=np.stack([place for _, place in cameras]),
    )  # fmt: skip
    start = part.start.copy()
    start[frames] = state.points
    return replace(part, rig=rig, build=replace(part.build, lengths=state.lengths), start=start)


def _chosen(weight: Array) -> Array:
    """Numbers of the frames on which bones and cameras are found: stretches, evenly over those that show somebody."""
    frames = weight.shape[1]
    if frames <= _RUNS * _RUN:
        return np.arange(frames)
    shown = np.flatnonzero((weight > 0).any(2).sum(0) >= 2)
    shown = shown if len(shown) else np.arange(frames)
    first = shown[np.linspace(0, len(shown) - 1, _RUNS).round().astype(int)]
    return np.unique(np.minimum(first[:, None] + np.arange(_RUN), frames - 1))


def _measured(problem: Problem, state: State, bounds: tuple[float, float]) -> Array:
    """(N,) metres: how far each view's rays pass; rays of a view err alike, so many count for one."""
    miss, _ = misses(problem, state)
    out, usual = [], problem.sight.noise
    for view, weight in enumerate(problem.sight.weight):
        seen = miss[view][weight > 0]
        count = len(seen) / _DEPENDENT
        middle = float(np.median(seen)) if len(seen) else 0.0
        out.append(np.sqrt((middle**2 * count + usual[view] ** 2 * _SURE) / (count + _SURE)))
    return np.clip(out, *bounds)


def _through(part: _Part, told: Callable[[int], None]) -> Located:
    """Place all frames, window after window."""
    frames = part.scene.frames
    points, error = np.empty((*part.start.shape[:2], 3)), np.empty(part.start.shape[:2])
    pulls = np.empty(part.scene.weight.shape, np.float32)
    for index, first in enumerate(range(0, frames, _WINDOW)):
        last = min(first + _WINDOW, frames)
        around = np.arange(max(first - _LEAD, 0), min(last + _LEAD, frames))
        problem = part.at(around, measured=False)
        state = replace(begin(problem, part.start[around]), lengths=part.build.lengths)
        state = descend(problem, state, steps=_STEPS, watch=lambda done=index: told(done))
        kept = slice(first - around[0], last - around[0])
        points[first:last] = state.points[kept]
        error[first:last] = _expected(problem, state, part.honest)[kept]
        pulls[:, first:last] = misses(problem, state)[1][:, kept]
        told(index + 1)
    return Located(points, error, pulls)


def _expected(problem: Problem, state: State, honest: tuple[float, float]) -> Array:
    """(T, J) metres: 68 % of the errors are smaller; from the guess' own, and without one from what rays and bones say.

    Of many ingredients tried on made-up captures, the error that the guess expected tells most.
    """
    error = problem.guesses[0][1] * np.sqrt(_GUESS)
    guessed = np.isfinite(error)
    factor, power = honest
    out = factor * np.where(guessed, error, 1.0) ** power
    return out if guessed.all() else np.where(guessed, out, np.minimum(_ALONE * spread(problem, state), _UNKNOWN))


def _write(to: tuple[Array, Array, Array], joints: slice, found: Located, part: _Part) -> None:
    """Put what was found into points, errors and weights of all joints, in frames that show somebody."""
    shown = (part.scene.weight > 0).any((0, 2))
    points, error, believed = to
    points[shown, joints], error[shown, joints] = found.points[shown], found.error[shown]
    believed[:, shown, joints] = found.believed[:, shown]
