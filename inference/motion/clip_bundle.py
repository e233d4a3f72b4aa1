"""Least squares over the frames of a clip at once: rays, constant bones, smooth motion, and what is known beforehand.

Unknown are the points of every frame and, where they are free, the logarithms of the bones' lengths and a small turn
and shift of each camera. Points of a frame are tied by bones, those of neighbouring frames by second differences: the
normal equations are a band (LAPACK's pbtrf) with a border of lengths and cameras, which the Schur complement solves
exactly (Triggs et al. 1999, Bundle Adjustment - A Modern Synthesis, 6.1). The descent is Levenberg's and Marquardt's,
with weights that follow Cauchy's loss.

A ray's residual is a distance in metres at the point's depth, as in `core.triangulation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from ..core.rotations import matrix_from_rotvec, rotvec_from_matrix

Array = np.ndarray
_BEND = (1.0, -2.0, 1.0)
_ROBUST, _ROBUST_BEND = 2.0, 4.0  # standard deviations at which a residual has lost half of its pull
_NEAREST = 0.05  # metres before a camera: what is nearer is not seen by it
_SHORTEST = 1e-4  # metres
_STILL = 1e-3  # relative fall of the cost that ends the descent
_DAMPING = (1e-4, 1e-7, 1e4)  # first, least, most
_FIRM = 1e-3  # added to the diagonal, 1 / m^2: what nothing holds stays
_POSE = 6  # a turn about the camera's centre, radians, and a shift in its frame, metres


@dataclass(frozen=True)
class Sight:
    """What N cameras see of J points in T frames.

    directions (N, T, J, 2) normalised, anything where weight (N, T, J) is 0; rotation (N, 3, 3) and translation (N, 3)
    metres, camera from world; noise (N,): standard deviation of rays, metres at the point. turned, moved: standard
    deviations of the cameras' own errors, radians and metres; 0: they are exact.
    """

    directions: Array
    weight: Array
    rotation: Array
    translation: Array
    noise: Array
    turned: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class Build:
    """What a body keeps.

    bones (B, 2) joints whose distance is constant within a share `tolerance` (B,) of it; lengths (B,): logarithms of
    the usual ones, metres, and their `spread` (B,); alike (P, 2): bones of both sides, whose logarithms differ by
    `unlike`; middles (M, 3): a joint half-way between two others, to within `middle` metres.
    """

    bones: Array
    tolerance: Array
    lengths: Array
    spread: Array
    alike: Array = field(default_factory=lambda: np.zeros((0, 2), int))
    unlike: float = 0.02
    middles: Array = field(default_factory=lambda: np.zeros((0, 3), int))
    middle: float = 0.005


@dataclass(frozen=True)
class Problem:
    """All that is to be explained.

    guesses: points (T, J, 3) and their errors (T, J), metres, infinite where nothing is said; bend (J,): standard
    deviation of second differences, metres a frame squared; tied (T - 2,): whether three frames follow each other;
    measured: bone lengths are unknown, too.
    """

    sight: Sight
    build: Build
    guesses: tuple[tuple[Array, Array], ...]
    bend: Array
    tied: Array
    measured: bool = True

    @property
    def posed(self) -> bool:
        """Whether cameras are unknown, too."""
        return self.sight.turned > 0


@dataclass(frozen=True)
class State:
    """A solution: points (T, J, 3) metres, logarithms of lengths (B,), turns (N, 3, 3) and shifts (N, 3) of cameras."""

    points: Array
    lengths: Array
    turns: Array
    shifts: Array

    def camera(self, sight: Sight, view: int) -> tuple[Array, Array]:
        """Rotation and translation of a camera, turned and shifted."""
        turn = self.turns[view]
        return turn @ sight.rotation[view], turn @ sight.translation[view] + self.shifts[view]


def begin(problem: Problem, points: Array) -> State:
    """Start from finite points (T, J, 3), with their usual bone lengths and the cameras as they are."""
    a, b = problem.build.bones.T
    lengths = np.log(np.maximum(np.median(np.linalg.norm(points[:, a] - points[:, b], axis=-1), axis=0), _SHORTEST))
    count = len(problem.sight.rotation)
    return State(points, lengths, np.broadcast_to(np.eye(3), (count, 3, 3)), np.zeros((count, 3)))


def descend(problem: Problem, state: State, *, steps: int, watch: Callable[[], None] | None = None) -> State:
    """Go down to the least cost near a state; `watch` is called at each step, and may raise to stop."""
    cost, (damping, least, most), system = _cost(problem, state), _DAMPING, None
    for _ in range(steps):
        if watch is not None:
            watch()
        system = system or _linearise(problem, state)
        trial = _moved(problem, state, _step(system, damping))
        lower = _cost(problem, trial)
        if lower < cost:
            fall, state, cost, system = 1.0 - lower / cost, trial, lower, None
            damping = max(0.2 * damping, least)
            if fall < _STILL:
                break
        else:
            damping *= 8.0
            if damping > most:
                break
    return state


def misses(problem: Problem, state: State) -> tuple[Array, Array]:
    """(N, T, J) metres by which rays pass the points, and what is left of their weights; 0 where not seen."""
    seen = [_rays(problem, state, view) for view in range(len(problem.sight.rotation))]
    miss = np.stack([np.linalg.norm(sight.miss, axis=-1) for sight in seen])
    pulls = [sight.weight * _trust(miss[view] / problem.sight.noise[view]) for view, sight in enumerate(seen)]
    return miss, np.stack(pulls)


def spread(problem: Problem, state: State) -> Array:
    """(T, J) metres: standard deviation of points as their own frame alone knows it."""
    blocks = _linearise(replace(problem, sight=replace(problem.sight, turned=0.0), measured=False), state).blocks
    size = blocks.shape[1]
    blocks[:, np.arange(size), np.arange(size)] += _FIRM
    variance = np.diagonal(np.linalg.inv(blocks), axis1=1, axis2=2)
    return np.sqrt(np.maximum(variance.reshape(*state.points.shape).sum(-1), 0.0))


@dataclass(frozen=True)
class _System:
    """Normal equations of points, and of the border: cameras and lengths.

    blocks (T, 3 J, 3 J) of the frames, ties (3, T, J) to this and the two next frames, right side (T * 3 J,); border
    (M, M), its right side (M,), and what lies across (M, T * 3 J).
    """

    blocks: Array
    ties: Array
    right: Array
    border: Array
    border_right: Array
    across: Array


@dataclass(frozen=True)
class _Ray:
    """One view: rotation, points in the camera's frame, depth, residual (T, J, 2) metres, weight 0 where not seen."""

    rotation: Array
    place: Array
    depth: Array
    miss: Array
    weight: Array


def _rays(problem: Problem, state: State, view: int) -> _Ray:
    sight = problem.sight
    rotation, translation = state.camera(sight, view)
    place = state.points @ rotation.T + translation
    depth = np.maximum(place[..., 2], _NEAREST)
    seen = (sight.weight[view] > 0) & (place[..., 2] > _NEAREST)
    miss = np.where(seen[..., None], sight.directions[view] * depth[..., None] - place[..., :2], 0.0)
    return _Ray(rotation, place, depth, miss, np.where(seen, sight.weight[view], 0.0))


def _trust(sigmas: Array, robust: float = _ROBUST) -> Array:
    """What is left of the pull of a residual of so many standard deviations (Cauchy)."""
    return 1.0 / (1.0 + np.square(sigmas / robust))


def _loss(squared: Array, robust: float = _ROBUST) -> Array:
    """Cauchy's loss of squared standard deviations."""
    return robust**2 * np.log1p(squared / robust**2)


def _cost(problem: Problem, state: State) -> float:
    sight, build, total = problem.sight, problem.build, 0.0
    for view, noise in enumerate(sight.noise):
        ray = _rays(problem, state, view)
        total += float((ray.weight * _loss(np.square(ray.miss).sum(-1) / noise**2)).sum())
        total += float(sight.weight[view][ray.weight == 0].sum()) * float(_loss(np.array(1e4)))  # behind the camera
    for points, error in problem.guesses:
        total += float(_loss(np.square(points - state.points).sum(-1) / error**2).sum())
    total += float(_loss(np.square(_shortfall(problem, state)[1] / build.tolerance)).sum())
    total += float(np.square((state.lengths - build.lengths) / build.spread).sum())
    total += float(np.square(np.diff(state.lengths[build.alike], axis=1) / build.unlike).sum())
    total += float(np.square(_off_middle(problem, state) / build.middle).sum())
    if problem.tied.any():
        bent = np.square(np.diff(state.points, 2, axis=0) / problem.bend[:, None]).sum(-1)
        total += float((_loss(bent, _ROBUST_BEND) * problem.tied[:, None]).sum())
    if problem.posed:
        total += float(np.square(rotvec_from_matrix(state.turns) / sight.turned).sum())
        total += float(np.square(state.shifts / sight.moved).sum())
    return total


def _shortfall(problem: Problem, state: State) -> tuple[Array, Array]:
    """(T, B, 3) change of the logarithm of bones' lengths by their first end, and (T, B) what they lack."""
    a, b = problem.build.bones.T
    way = state.points[:, a] - state.points[:, b]
    length = np.maximum(np.linalg.norm(way, axis=-1), _SHORTEST)
    return way / np.square(length)[..., None], state.lengths - np.log(length)


def _off_middle(problem: Problem, state: State) -> Array:
    """(T, M, 3) metres from joints to the middle of their neighbours."""
    joint, a, b = problem.build.middles.T
    return 0.5 * (state.points[:, a] + state.points[:, b]) - state.points[:, joint]


def _linearise(problem: Problem, state: State) -> _System:
    frames, joints = state.points.shape[:2]
    cameras = _POSE * len(problem.sight.rotation) if problem.posed else 0
    size = cameras + (len(problem.build.bones) if problem.measured else 0)
    blocks, right = np.zeros((frames, joints, 3, joints, 3)), np.zeros((frames, joints, 3))
    border, border_right = np.zeros((size, size)), np.zeros(size)
    across = np.zeros((size, frames, joints, 3))
    own = np.zeros((frames, joints, 3, 3))
    for view in range(len(problem.sight.rotation)):
        rows = slice(_POSE * view, _POSE * (view + 1))
        part = (border[rows, rows], border_right[rows], across[rows]) if problem.posed else None
        _add_view(problem, state, view, own, right, part)
    for points, error in problem.guesses:
        away = points - state.points
        pull = _trust(np.linalg.norm(away, axis=-1) / error) / error**2
        own += pull[..., None, None] * np.eye(3)
        right += pull[..., None] * away
    each = np.arange(joints)
    blocks[:, each, :, each] += np.swapaxes(own, 0, 1)
    _add_bones(problem, state, blocks, right, (border, border_right, across, cameras))
    _add_middles(problem, state, blocks, right)
    ties = _ties(problem, state, right)
    return _System(
        blocks.reshape(frames, 3 * joints, -1),
        ties,
        right.ravel(),
        border,
        border_right,
        across.reshape(size, right.size),
    )


def _add_view(  # noqa: PLR0917 - sums that are added to
    problem: Problem, state: State, view: int, own: Array, right: Array, part: tuple[Array, Array, Array] | None
) -> None:
    """Add a view's rays to the points' own blocks (T, J, 3, 3), the right side, and the camera's part of the border."""
    sight, ray = problem.sight, _rays(problem, state, view)
    noise = sight.noise[view]
    pull = ray.weight * _trust(np.linalg.norm(ray.miss, axis=-1) / noise) / noise**2
    # what the point projects to, not what was seen: the derivative of the projection times depth
    shown = np.where((pull > 0)[..., None], ray.place[..., :2] / ray.depth[..., None], 0.0)
    for axis in (0, 1):
        toward = np.zeros((*pull.shape, 3))  # by the point in the camera's frame
        toward[..., axis], toward[..., 2] = 1.0, -shown[..., axis]
        row = toward @ ray.rotation
        pulled = row * pull[..., None]
        own += row[..., :, None] * pulled[..., None, :]
        right += pulled * ray.miss[..., axis, None]
        if part is not None:
            by_camera = np.concatenate([np.cross(ray.place, toward), toward], axis=-1)  # (T, J, 6)
            heavy = by_camera * pull[..., None]
            part[0][...] += np.einsum("tja,tjb->ab", by_camera, heavy)
            part[1][...] += np.einsum("tja,tj->a", heavy, ray.miss[..., axis])
            part[2][...] += np.moveaxis(by_camera, -1, 0)[..., None] * pulled
    if part is not None:
        sure = 1.0 / np.square([sight.turned] * 3 + [sight.moved] * 3)
        part[0][...] += np.diag(sure)
        part[1][...] -= sure * np.concatenate([rotvec_from_matrix(state.turns[view]), state.shifts[view]])


def _add_bones(
    problem: Problem, state: State, blocks: Array, right: Array, sides: tuple[Array, Array, Array, int]
) -> None:
    border, border_right, across, first = sides
    build = problem.build
    ahead, short = _shortfall(problem, state)
    pull = _trust(np.abs(short) / build.tolerance) / build.tolerance**2
    pulled = ahead * pull[..., None]
    outer = pulled[..., :, None] * ahead[..., None, :]
    for bone, (a, b) in enumerate(build.bones):
        for one, other, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            blocks[:, one, :, other] += sign * outer[:, bone]
        right[:, a] += pulled[:, bone] * short[:, bone, None]
        right[:, b] -= pulled[:, bone] * short[:, bone, None]
        if problem.measured:
            across[first + bone, :, a] -= pulled[:, bone]
            across[first + bone, :, b] += pulled[:, bone]
    if problem.measured:
        rows = np.arange(first, first + len(build.bones))
        sure = 1.0 / build.spread**2
        border[rows, rows] += pull.sum(0) + sure
        border_right[rows] -= (pull * short).sum(0) + sure * (state.lengths - build.lengths)
        for one, other in build.alike:
            differ = (state.lengths[one] - state.lengths[other]) / build.unlike**2
            for row, column, sign in ((one, one, 1), (other, other, 1), (one, other, -1), (other, one, -1)):
                border[first + row, first + column] += sign / build.unlike**2
            border_right[first + one] -= differ
            border_right[first + other] += differ


def _add_middles(problem: Problem, state: State, blocks: Array, right: Array) -> None:
    away, sure, axes = _off_middle(problem, state), 1.0 / problem.build.middle**2, np.arange(3)
    for index, joints in enumerate(problem.build.middles):
        share = dict(zip(joints, (1.0, -0.5, -0.5), strict=True))
        for one, first in share.items():
            right[:, one] += sure * first * away[:, index]
            for other, second in share.items():
                blocks[:, one, axes, other, axes] += sure * first * second


def _ties(problem: Problem, state: State, right: Array) -> Array:
    """(3, T, J) of second differences over time; their pull is added to the right side."""
    frames, joints = state.points.shape[:2]
    ties = np.zeros((3, frames, joints))
    if frames < len(_BEND):
        return ties
    bent = np.diff(state.points, 2, axis=0)
    pull = _trust(np.linalg.norm(bent, axis=-1) / problem.bend, _ROBUST_BEND) / problem.bend**2
    pull = pull * problem.tied[:, None]
    last = frames - 2
    for a, first in enumerate(_BEND):
        right[a : last + a] -= first * pull[..., None] * bent
        for b in range(a, len(_BEND)):
            ties[b - a, a : last + a] += first * _BEND[b] * pull
    return ties


def _step(system: _System, damping: float) -> tuple[Array, Array]:
    """The step of points (T * 3 J,) and of the border (M,)."""
    factor = cholesky_banded(_band(system, damping), lower=True, overwrite_ab=True, check_finite=False)
    sides = np.concatenate([system.right[:, None], system.across.T], axis=1)
    solved = cho_solve_banded((factor, True), sides, check_finite=False)
    alone, follow = solved[:, 0], solved[:, 1:]
    if not len(system.border_right):
        return alone, system.border_right
    border = system.border + damping * np.diag(np.diag(system.border)) - system.across @ follow
    step = np.linalg.solve(border, system.border_right - system.across @ alone)
    return alone - follow @ step, step


def _band(system: _System, damping: float) -> Array:
    """The frames' part in LAPACK's lower band storage, and order: entry (i + k, i) in row k."""
    frames, size = system.blocks.shape[:2]
    width = 2 * size if system.ties[2].any() else size - 1
    band = np.zeros((frames, size, width + 1))
    for k in range(size):
        band[:, : size - k, k] = np.diagonal(system.blocks, k, 1, 2)
    ties = np.repeat(system.ties, 3, axis=-1)
    band[:, :, 0] = (band[:, :, 0] + ties[0]) * (1.0 + damping) + _FIRM
    if width > size:
        band[:, :, size] += ties[1]
        band[:, :, 2 * size] += ties[2]
    return band.reshape(frames * size, -1).T


def _moved(problem: Problem, state: State, step: tuple[Array, Array]) -> State:
    points, border = step
    out = replace(state, points=state.points + points.reshape(state.points.shape))
    first = 0
    if problem.posed:
        first = _POSE * len(state.turns)
        each = border[:first].reshape(-1, _POSE)
        turns = matrix_from_rotvec(each[:, :3])
        # a camera turns about its centre: the step is one of x_cam = turn (R X + t) + shift
        shifts = (turns @ state.shifts[..., None])[..., 0] + each[:, 3:]
        out = replace(out, turns=turns @ state.turns, shifts=shifts)
    return replace(out, lengths=state.lengths + border[first:]) if problem.measured else out
