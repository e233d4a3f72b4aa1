"""Bundle adjustment over the keypoints of people: cameras, lenses and joints together, to the least robust error.

Unknown are the cameras (pose, and what is asked for of the lens), every joint of every frame, and the lengths of the
bones, which a person keeps. Joints of a frame are tied to each other by bones and to the cameras by what these saw,
frames to each other by nothing but cameras and lengths: the normal equations of T frames are T small blocks and one
border, which the Schur complement solves exactly (Triggs et al. 1999, Bundle Adjustment - A Modern Synthesis, 6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.cameras import Camera, CameraSet, distort
from ..core.rotations import matrix_from_rotvec, rotvec_from_matrix

Array = np.ndarray
POSE = 6  # a turn in the camera's frame, radians, and a shift in it, metres
LENS = ("focal", "cx", "cy", "k1", "k2")  # log of both focal lengths, pixels, pixels, distortion
_CLOCK = POSE + len(LENS)  # seconds by which a clip runs ahead
_WIDTH = _CLOCK + 1
_ROBUST = 2.0  # standard deviations at which an observation has lost half of its pull (Cauchy)
_BONE_ROBUST = 2.0
_STILL = 1e-5  # relative fall of the cost that ends the descent
_DAMPING = (1e-9, 1e9)
_NEAR = 1e-5  # of a focal length: how far aside a lens is looked at for its derivative


@dataclass(frozen=True)
class Lens:
    """Which numbers of a lens may change, and by how much from what was given (standard deviations); 0 = fixed.

    focal: share of the focal length; principal: share of the image's longer side; k1, k2: distortion.
    """

    focal: float = 0.0
    principal: float = 0.0
    k1: float = 0.0
    k2: float = 0.0

    def sigma(self, camera: Camera) -> Array:
        """(5,) standard deviations of `LENS`."""
        shift = self.principal * max(camera.size)
        return np.array([self.focal, shift, shift, self.k1, self.k2])


FIXED = Lens()


@dataclass(frozen=True)
class Bundle:
    """What is to be explained.

    positions (N, T, J, 2) px, anything where weight (N, T, J) is 0; noise_px (N,): how far a good detection is off;
    bones (B, 2) joints whose distance is constant within a share `bone` of it; lens: one for each camera;
    moved (N, 2): how far each pose may be from the given one, radians and metres; infinite = anywhere;
    speed (N, T, J, 2) px a second, and clock_s: how far clips may be out of step, seconds; the first one is in step.
    """

    positions: Array
    weight: Array
    noise_px: Array
    bones: Array
    bone: float
    lens: Sequence[Lens]
    moved: Array | None = None
    speed: Array | None = None
    clock_s: float = 0.0

    def tied(self, bone: int) -> Array:
        """(T,) whether both ends of a bone are seen by two views."""
        return ((self.weight[:, :, self.bones[bone]] > 0).sum(0) >= 2).all(-1)


@dataclass(frozen=True)
class Adjusted:
    """Cameras, points (T, J, 3) metres (NaN: seen by fewer than two), logarithms of bone lengths (B,).

    clock (N,) seconds: at time t of the take, view n shows what its clip holds at t + clock.
    `information`: (C, C) of all camera parameters with the points eliminated; `free` (C,) names which of the
    N * 12 parameters it holds. `costs`: one a step.
    """

    cameras: CameraSet
    points: Array
    lengths: Array
    clock: Array
    costs: tuple[float, ...] = ()
    information: Array = field(default_factory=lambda: np.zeros((0, 0)))
    free: Array = field(default_factory=lambda: np.zeros(0, int))


def adjust(
    bundle: Bundle,
    cameras: CameraSet,
    points: Array,
    *,
    start: Adjusted | None = None,
    steps: int = 40,
    watch: Callable[[int], None] | None = None,
) -> Adjusted:
    """Descend from given cameras and points (T, J, 3) by Levenberg and Marquardt's method with robust weights.

    `cameras` are what priors hold on to; the descent begins at `start`, where it is given. `watch` is told the number
    of each step, and may raise to stop.
    """
    points = _complete(points)
    first = Adjusted(cameras, points, bone_lengths(points, bundle), np.zeros(len(cameras)))
    state = first if start is None else replace(first, cameras=start.cameras, clock=start.clock)
    cost, damping, costs = _cost(bundle, state, cameras), 1e-3, []
    system = _linearise(bundle, state, cameras)
    for step in range(steps):
        if watch is not None:
            watch(step)
        trial = _moved(state, _solve(system, damping))
        lower = _cost(bundle, trial, cameras)
        if lower < cost:
            fall, state, cost = 1.0 - lower / cost, trial, lower
            costs.append(cost)
            damping = max(0.2 * damping, _DAMPING[0])
            system = _linearise(bundle, state, cameras)
            if fall < _STILL:
                break
        else:
            damping *= 8.0
            if damping > _DAMPING[1]:
                break
    seen = (bundle.weight > 0).sum(0) >= 2
    reduced = _reduced(system)[0]
    count = len(system.free)
    return replace(
        state, points=np.where(seen[..., None], state.points, np.nan), costs=tuple(costs),
        information=_without(reduced, count), free=system.free,
    )  # fmt: skip


def bone_lengths(points: Array, bundle: Bundle) -> Array:
    """(B,) logarithm of the median length of each bone over (T, J, 3) points; 0 where it is never known."""
    a, b = bundle.bones.T
    length = np.log(np.maximum(np.linalg.norm(points[:, a] - points[:, b], axis=-1), 1e-6))
    tied = [bundle.tied(bone) for bone in range(len(a))]
    return np.array([np.median(length[known, i]) if known.any() else 0.0 for i, known in enumerate(tied)])


def reprojection(camera: Camera, points: Array) -> tuple[Array, Array, Array, Array]:
    """Project (..., 3) points and say how that changes.

    Returns:
        pixels (..., 2); their derivatives by the point (..., 2, 3) and by the 12 parameters of the camera
        (..., 2, 12), the clock's left at 0; depth (...,) metres.
    """
    rotated = points @ camera.rotation.T
    cam = rotated + camera.translation
    depth = cam[..., 2]
    safe = np.where(np.abs(depth) > 1e-6, depth, 1e-6)
    x, y = cam[..., 0] / safe, cam[..., 1] / safe
    plane = np.stack([x, y], -1)
    bent = distort(camera, plane)
    by_plane = np.broadcast_to(np.eye(2), (*x.shape, 2, 2))
    if np.any(camera.distortion) or camera.fisheye:
        aside = [distort(camera, plane + _NEAR * axis) - distort(camera, plane - _NEAR * axis) for axis in np.eye(2)]
        by_plane = np.stack(aside, -1) / (2 * _NEAR)  # any lens that `distort` knows
    zero, one = np.zeros_like(x), 1.0 / safe
    plane_by_cam = np.stack([np.stack([one, zero, -x * one], -1), np.stack([zero, one, -y * one], -1)], -2)
    focal = camera.matrix[:2, :2]
    by_cam = focal @ by_plane @ plane_by_cam  # (..., 2, 3)
    by_camera = np.zeros((*x.shape, 2, _WIDTH))
    # R <- exp(w) R: x_cam changes by w x (R X) = -[R X]x w
    by_camera[..., :3] = -by_cam @ _cross(rotated)
    by_camera[..., 3:6] = by_cam
    by_camera[..., 6] = bent @ focal.T
    by_camera[..., 0, 7] = by_camera[..., 1, 8] = 1.0
    for column, step in enumerate(np.eye(len(camera.distortion))[:2] * _NEAR):
        more, less = (replace(camera, distortion=camera.distortion + sign * step) for sign in (1.0, -1.0))
        by_camera[..., 9 + column] = (distort(more, plane) - distort(less, plane)) / (2 * _NEAR) @ focal.T
    pixels = bent @ focal.T + camera.matrix[:2, 2]
    return pixels, by_cam @ camera.rotation, by_camera, depth


def changed(camera: Camera, step: Array) -> Camera:
    """Apply (12,) changes of the parameters to a camera; it has no clock."""
    turn = matrix_from_rotvec(step[:3])
    matrix = camera.matrix.copy()
    matrix[:2, :2] *= np.exp(step[6])
    matrix[:2, 2] += step[7:9]
    distortion = np.array(camera.distortion, float)
    distortion[:2] += step[9:11]
    return replace(
        camera, matrix=matrix, distortion=distortion, rotation=turn @ camera.rotation,
        translation=camera.translation + step[3:6],
    )  # fmt: skip


@dataclass(frozen=True)
class _System:
    """Normal equations: border of the C free camera parameters and B lengths, blocks of the frames."""

    border: Array  # (C + B, C + B)
    border_right: Array  # (C + B,)
    across: Array  # (T, C + B, 3 J)
    blocks: Array  # (T, 3 J, 3 J)
    blocks_right: Array  # (T, 3 J)
    free: Array  # (C,) of the N * 12
    cameras: int


def _linearise(bundle: Bundle, state: Adjusted, given: CameraSet) -> _System:
    count, frames, joints = bundle.weight.shape
    free = np.flatnonzero(_priors(bundle, given)[1].ravel() > 0)
    size, bones = count * _WIDTH, len(bundle.bones)
    border, right = np.zeros((size + bones, size + bones)), np.zeros(size + bones)
    across = np.zeros((frames, size + bones, joints, 3))
    blocks = np.zeros((frames, joints, 3, joints, 3))
    blocks_right, diagonal = np.zeros((frames, joints, 3)), np.zeros((frames, joints, 3, 3))
    each = np.arange(joints)
    for view, camera in enumerate(state.cameras):
        rows = slice(view * _WIDTH, (view + 1) * _WIDTH)
        pixels, by_point, by_camera, depth = reprojection(camera, state.points)
        if bundle.speed is not None:
            by_camera[..., _CLOCK] = -np.where((bundle.weight[view] > 0)[..., None], bundle.speed[view], 0.0)
        miss, pull = _pull(bundle, view, _seen(bundle, view, state.clock[view]) - pixels, depth)
        ways = (by_camera * pull[..., None, None]).reshape(-1, _WIDTH)
        border[rows, rows] = ways.T @ by_camera.reshape(-1, _WIDTH)
        right[rows] = ways.T @ miss.ravel()
        for axis in (0, 1):  # sums over two pixels by hand: several times faster than einsum
            weighted = by_point[..., axis, :] * pull[..., None]  # (T, J, 3)
            across[:, rows] += np.moveaxis(by_camera[..., axis, :, None] * weighted[..., None, :], 1, 2)
            diagonal += by_point[..., axis, :, None] * weighted[..., None, :]
            blocks_right += weighted * miss[..., axis, None]
    blocks[:, each, :, each] += np.swapaxes(diagonal, 0, 1)
    for bone, (a, b) in enumerate(bundle.bones):
        ahead, short, pull = _bone(bundle, state, bone)
        pulled = ahead * pull[:, None]
        outer = pulled[:, :, None] * ahead[:, None]
        for one, other, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            blocks[:, one, :, other] += sign * outer
        blocks_right[:, a] += pulled * short[:, None]
        blocks_right[:, b] -= pulled * short[:, None]
        row = size + bone  # the residual is length - distance: its derivative by the length is 1
        border[row, row] += pull.sum() + 1e-9
        right[row] -= pull @ short
        across[:, row, a] -= pulled
        across[:, row, b] += pulled
    off, sure = _away(bundle, state, given)
    border[np.arange(size), np.arange(size)] += sure.ravel()
    right[:size] -= (sure * off).ravel()
    keep = np.concatenate([free, size + np.arange(bones)])
    return _System(
        border[np.ix_(keep, keep)], right[keep], across.reshape(frames, size + bones, -1)[:, keep],
        blocks.reshape(frames, 3 * joints, 3 * joints), blocks_right.reshape(frames, -1), free, count,
    )  # fmt: skip


def _seen(bundle: Bundle, view: int, clock: float) -> Array:
    """(T, J, 2) px where points were seen when the clip is put in step."""
    positions = bundle.positions[view]
    return positions if bundle.speed is None else positions + clock * bundle.speed[view]


def _pull(bundle: Bundle, view: int, miss: Array, depth: Array) -> tuple[Array, Array]:
    """(T, J, 2) px from where points are to where they were seen, 0 if unseen; (T, J) how strongly that pulls."""
    weight = np.where(depth > 0, bundle.weight[view], 0.0)
    miss = np.where((weight > 0)[..., None], miss, 0.0)
    squared = np.square(miss).sum(-1) / bundle.noise_px[view] ** 2
    return miss, weight / bundle.noise_px[view] ** 2 / (1.0 + squared / _ROBUST**2)


def _bone(bundle: Bundle, state: Adjusted, bone: int) -> tuple[Array, Array, Array]:
    """Change (T, 3) of the logarithm of a bone's length by its end a, what it lacks to the usual (T,), pull (T,).

    Logarithms do not mind the unit: without them the scene would shrink until no bone varies by much.
    """
    a, b = bundle.bones[bone]
    way = state.points[:, a] - state.points[:, b]
    length = np.maximum(np.linalg.norm(way, axis=-1), 1e-6)
    short = state.lengths[bone] - np.log(length)
    pull = bundle.tied(bone) / bundle.bone**2 / (1.0 + np.square(short / bundle.bone / _BONE_ROBUST))
    return way / np.square(length)[:, None], short, pull


def _priors(bundle: Bundle, given: CameraSet) -> tuple[Array, Array]:
    """(N, 12) inverse variances, and (N, 12) whether a parameter is free."""
    sigma = np.full((len(given), _WIDTH), np.inf)
    sigma[:, _CLOCK] = 0.0 if bundle.speed is None else bundle.clock_s
    sigma[0, _CLOCK] = 0.0
    if bundle.moved is not None:
        sigma[:, :3], sigma[:, 3:6] = bundle.moved[:, :1], bundle.moved[:, 1:]
    sigma[:, POSE:_CLOCK] = np.stack([lens.sigma(camera) for lens, camera in zip(bundle.lens, given, strict=True)])
    free = sigma > 0
    return np.where(free, 1.0 / np.square(np.where(free, sigma, 1.0)), 0.0), free


def _away(bundle: Bundle, state: Adjusted, given: CameraSet) -> tuple[Array, Array]:
    """(N, 12) how far cameras are from the given ones, and with which inverse variance that counts."""
    off = np.zeros((len(given), _WIDTH))
    off[:, _CLOCK] = state.clock
    for row, camera, start in zip(off, state.cameras, given, strict=True):
        row[:3] = rotvec_from_matrix(camera.rotation @ start.rotation.T)
        row[3:6] = camera.translation - start.translation
        row[6] = np.log(camera.matrix[0, 0] / start.matrix[0, 0])
        row[7:9] = camera.matrix[:2, 2] - start.matrix[:2, 2]
        row[9:11] = camera.distortion[:2] - start.distortion[:2]
    return off, _priors(bundle, given)[0]


def _cost(bundle: Bundle, state: Adjusted, given: CameraSet) -> float:
    total = 0.0
    for view, camera in enumerate(state.cameras):
        pixels, depth = _pixels(camera, state.points)
        miss = _seen(bundle, view, state.clock[view]) - pixels
        miss = np.where((bundle.weight[view] > 0)[..., None], miss, 0.0)
        squared = np.square(miss).sum(-1) / bundle.noise_px[view] ** 2
        squared = np.where(depth > 0, squared, 1e6)  # behind the camera: far off
        total += float((bundle.weight[view] * _ROBUST**2 * np.log1p(squared / _ROBUST**2)).sum())
    for bone in range(len(bundle.bones)):
        _, short, _ = _bone(bundle, state, bone)
        squared = np.square(short / bundle.bone) * bundle.tied(bone)
        total += float((_BONE_ROBUST**2 * np.log1p(squared / _BONE_ROBUST**2)).sum())
    off, sure = _away(bundle, state, given)
    return 0.5 * (total + float((sure * off**2).sum()))


def _pixels(camera: Camera, points: Array) -> tuple[Array, Array]:
    cam = points @ camera.rotation.T + camera.translation
    depth = cam[..., 2]
    safe = np.where(np.abs(depth) > 1e-6, depth, 1e-6)
    return distort(camera, cam[..., :2] / safe[..., None]) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2], depth


def _reduced(system: _System, damping: float = 0.0) -> tuple[Array, Array, Array, Array]:
    """Schur complement of the frames: border and right side without them; and what gives the frames back."""
    diagonal = np.einsum("tii->ti", system.blocks)
    blocks = system.blocks + _diagonals(damping * diagonal + np.where(diagonal > 0, 1e-9 * diagonal, 1.0))
    sides = np.concatenate([np.swapaxes(system.across, 1, 2), system.blocks_right[..., None]], axis=-1)
    solved = np.linalg.solve(blocks, sides)  # (T, 3 J, C + B + 1)
    flat, count = np.moveaxis(system.across, 1, 0).reshape(len(system.border), -1), len(system.border)
    taken = flat @ solved.reshape(-1, count + 1)
    border, right = system.border - taken[:, :-1], system.border_right - taken[:, -1]
    return border, right, solved[..., :-1], solved[..., -1]


def _solve(system: _System, damping: float) -> tuple[Array, Array, Array, Array]:
    """Give the step: of the N cameras (N, 12), of lengths (B,), of points (T, J, 3)."""
    border, right, across, own = _reduced(system, damping)
    # The gauge is free: damping by the full diagonal keeps the border regular, and no direction is preferred.
    border[np.diag_indices_from(border)] += (damping + 1e-12) * np.maximum(np.diag(system.border), 1e-12)
    step = np.linalg.lstsq(border, right, rcond=1e-14)[0] if damping < 1e-6 else np.linalg.solve(border, right)
    frames = own - across @ step
    cameras = np.zeros(system.cameras * _WIDTH)
    count = len(system.free)
    cameras[system.free] = step[:count]
    return cameras.reshape(-1, _WIDTH), step[count:], frames.reshape(len(frames), -1, 3), border


def _moved(state: Adjusted, step: tuple[Array, Array, Array, Array]) -> Adjusted:
    cameras, lengths, points, _ = step
    new = tuple(changed(camera, row) for camera, row in zip(state.cameras, cameras, strict=True))
    return replace(
        state, cameras=CameraSet(new), points=state.points + points, lengths=state.lengths + lengths,
        clock=state.clock + cameras[:, _CLOCK],
    )  # fmt: skip


def _complete(points: Array) -> Array:
    """Put points that are not known where the frame's others are; nothing pulls at those that fewer than two see."""
    known = np.isfinite(points).all(-1, keepdims=True)
    middle = np.where(known, points, 0.0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    return np.where(known, points, middle)


def _without(border: Array, count: int) -> Array:
    """Eliminate what follows the first `count` rows."""
    if len(border) == count:
        return border
    rest = border[count:, count:] + 1e-12 * np.eye(len(border) - count)
    return border[:count, :count] - border[:count, count:] @ np.linalg.solve(rest, border[count:, :count])


def _diagonals(values: Array) -> Array:
    return values[..., None] * np.eye(values.shape[-1])


def _cross(v: Array) -> Array:
    zero = np.zeros_like(v[..., 0])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)
