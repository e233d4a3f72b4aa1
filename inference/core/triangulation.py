"""Intersect the viewing rays of many cameras: linear, robust and exact, for all points of a clip at once.

Everything is written for long rows of points (P = frames x joints) and few views (N), in float64: the 3 x 3 normal
equations of every point are solved in closed form, which is some hundred times faster than a call of `eigh` or `svd`
for each and, with coordinates divided by the focal length, as accurate.

A residual is a distance in metres: how far a ray passes from a point, measured in the camera's x and y at the point's
depth. It is the reprojection error in pixels times depth over focal length, hence relative to the size a person has in
that view; cameras near and far, with long and short lenses, are compared fairly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .cameras import Camera, distort, normalise

Array = np.ndarray
_SINGULAR = 1e-9  # determinant over cubed trace: two rays 0.01 degrees apart give about this
_MAX_PAIRS = 28  # hypotheses for a point: every pair of up to 8 views


@dataclass(frozen=True)
class Rays:
    """What N cameras see of P points.

    directions (N, P, 2): undistorted x / z and y / z in the camera frame, anything where the weight is 0;
    weight (N, P): 0 = not seen; rotation (N, 3, 3) and translation (N, 3) metres: x_cam = R x_world + t.
    """

    directions: Array
    weight: Array
    rotation: Array
    translation: Array

    @staticmethod
    def of(cameras: Sequence[Camera], positions_px: Array, weight: Array) -> Rays:
        """Undistort (N, ..., 2) pixels with (N, ...) weights; the middle axes are laid in one row.

        Where the lens model has no inverse, far outside its image, the weight becomes 0.
        """
        pairs = [_undistorted(camera, pixels) for camera, pixels in zip(cameras, positions_px, strict=True)]
        count, weight = len(pairs), np.asarray(weight, float)
        return Rays(
            np.stack([directions for directions, _ in pairs]).reshape(count, -1, 2),
            np.where(np.stack([sound for _, sound in pairs]), weight, 0.0).reshape(count, -1),
            np.stack([np.asarray(camera.rotation, float) for camera in cameras]),
            np.stack([np.asarray(camera.translation, float) for camera in cameras]),
        )

    def views(self, index: Array | Sequence[int]) -> Rays:
        """Take some of the cameras."""
        which = list(index)
        return Rays(self.directions[which], self.weight[which], self.rotation[which], self.translation[which])

    def points(self, index: Array | slice) -> Rays:
        """Take some of the points."""
        return replace(self, directions=self.directions[:, index], weight=self.weight[:, index])

    def weighted(self, weight: Array) -> Rays:
        """Replace the weights."""
        return replace(self, weight=np.asarray(weight, float))


def _undistorted(camera: Camera, pixels: Array) -> tuple[Array, Array]:
    """Give (..., 2) normalised coordinates, and (...) whether they project back to within a pixel."""
    with np.errstate(over="ignore", invalid="ignore"):
        directions = normalise(camera, pixels)
        back = distort(camera, directions) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
        return directions, np.abs(back - pixels).max(-1) < 1.0


def intersect(rays: Rays) -> Array:
    """Find the points nearest to their rays in the least-squares sense (weighted DLT, Hartley & Zisserman 12.2).

    The rows are u R_3 - R_1 and v R_3 - R_2 with normalised u and v, multiplied by the root of the weight, and solved
    inhomogeneously: points of a capture are never at infinity.

    Returns:
        (P, 3) metres, world frame; NaN where fewer than two views have weight or all rays are parallel.
    """
    used = rays.weight > 0
    seen = np.where(used[..., None], rays.directions, 0.0)
    normal, right = _no_equations(rays)
    for view, (rotation, translation) in enumerate(zip(rays.rotation, rays.translation, strict=True)):
        for axis in (0, 1):
            row = rotation[axis][:, None] - rotation[2][:, None] * seen[view, :, axis]
            value = seen[view, :, axis] * translation[2] - translation[axis]
            _accumulate(normal, right, row, value, rays.weight[view])
    points = _solve(normal, right)
    points[used.sum(0) < 2] = np.nan
    return points


def residuals(points: Array, rays: Rays) -> tuple[Array, Array]:
    """Measure how far rays pass from points (P, 3).

    Returns:
        (N, P, 2) metres in the camera's x and y at the point's depth, ray minus point; (N, P) depths, metres.
    """
    cam = np.einsum("nij,pj->nip", rays.rotation, points) + rays.translation[:, :, None]  # (N, 3, P)
    depth = cam[:, 2]
    return rays.directions * depth[..., None] - np.moveaxis(cam[:, :2], 1, -1), depth


def distances(points: Array, rays: Rays) -> Array:
    """(N, P) length of the residuals in metres; infinite behind the camera, NaN where there is no ray."""
    offset, depth = residuals(points, rays)
    length = np.hypot(offset[..., 0], offset[..., 1])
    return np.where((depth > 0) | np.isnan(length), length, np.inf)


def doubt(distance: Array, scale: float) -> Array:
    """Map distances to [0, 1]: near 0 within `scale`, near 1 far outside (Geman & McClure); NaN counts as 0."""
    squared = np.square(distance / scale)
    return np.where(np.isnan(distance), 0.0, 1.0 - 1.0 / (1.0 + squared))


def robust_weight(distance: Array, rays: Rays, scale: float) -> Array:
    """(N, P) what is left of a weight when the ray passes `distance` metres away; 0 behind the camera."""
    kept = rays.weight / np.square(1.0 + np.square(distance / scale))
    return np.where((rays.weight > 0) & np.isfinite(distance), kept, 0.0)


def refine(points: Array, rays: Rays, *, scale: float, steps: int = 3) -> Array:
    """Move points to the minimum of the weighted robust reprojection error, by Gauss-Newton steps.

    Args:
        points: (P, 3) where to start.
        scale: metres; a ray that passes so far away has lost three quarters of its weight.
    Returns:
        (P, 3); a point whose step cannot be solved stays where it was.
    """
    for _ in range(steps):
        step = _solve(*_linearised(points, rays, scale))
        points = np.where(np.isfinite(step), points + step, points)
    return points


def uncertainty(points: Array, rays: Rays, *, noise_m: Array) -> Array:
    """(P,) standard deviation of points in metres when rays miss by `noise_m` (P,); infinite where undetermined."""
    normal, _ = _linearised(points, rays, np.inf)
    adjugate, determinant = _adjugate(normal)
    variance = (adjugate[0] + adjugate[3] + adjugate[5]) / determinant
    return np.where(variance > 0, np.sqrt(np.abs(variance)) * noise_m, np.inf)


def consensus(rays: Rays, *, scale: float, expected: Array | None = None, reach: float = 0.0) -> Array:
    """Find for each point the intersection that most rays agree on, whatever the others say.

    Every pair of views and all views together propose a point; the proposal with the least weighted doubt wins
    (RANSAC with every minimal set, and a score that has no threshold).

    Args:
        scale: as `refine`.
        expected: (P, 3), NaN = none; where time says the point is, within `reach` metres. It counts as half of the
            best seen view, chooses between proposals and moves none.
    Returns:
        (P, 3); NaN where fewer than two views see the point.
    """

    def total_doubt(points: Array) -> Array:
        cost = (doubt(distances(points, rays), scale) * rays.weight).sum(0)
        if expected is not None:
            away = np.linalg.norm(points - expected, axis=-1)
            cost = cost + 0.5 * rays.weight.max(0) * doubt(away, reach)
        return np.where(np.isfinite(points[:, 0]), cost, np.inf)

    best = intersect(rays)
    if len(rays.weight) == 2:
        return best
    least = total_doubt(best)
    for pair in _pairs(len(rays.weight)):
        proposal = intersect(rays.views(pair))
        cost = total_doubt(proposal)
        better = cost < least
        best[better], least[better] = proposal[better], cost[better]
    return best


def _pairs(count: int) -> list[tuple[int, int]]:
    """List pairs of views: all of them, or for many views some that are spread evenly."""
    pairs = list(combinations(range(count), 2))
    if len(pairs) <= _MAX_PAIRS:
        return pairs
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, _MAX_PAIRS).round().astype(int)]


def _linearised(points: Array, rays: Rays, scale: float) -> tuple[Array, Array]:
    """Build the normal equations of one Gauss-Newton step: (6, P) and (3, P)."""
    offset, depth = residuals(points, rays)
    usable = (rays.weight > 0) & (depth > 0)
    depth = np.where(usable, depth, 1.0)
    offset = np.where(usable[..., None], offset, 0.0)
    robust = np.where(usable, robust_weight(np.hypot(offset[..., 0], offset[..., 1]), rays, scale), 0.0)
    normal, right = _no_equations(rays)
    for view, rotation in enumerate(rays.rotation):
        for axis in (0, 1):
            # The derivative of the projection times depth holds what the point projects to, not what was seen.
            seen = rays.directions[view, :, axis] - offset[view, :, axis] / depth[view]
            row = rotation[axis][:, None] - rotation[2][:, None] * np.where(usable[view], seen, 0.0)
            _accumulate(normal, right, row, offset[view, :, axis], robust[view])
    return normal, right


def _no_equations(rays: Rays) -> tuple[Array, Array]:
    count = rays.weight.shape[1]
    return np.zeros((6, count)), np.zeros((3, count))


def _accumulate(normal: Array, right: Array, row: Array, value: Array, weight: Array) -> None:
    """Add one weighted equation row . x = value to the normal equations; (3, P), (P,), (P,)."""
    weighted = row * weight
    for entry, (i, j) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
        normal[entry] += weighted[i] * row[j]
    right += weighted * value


def _adjugate(normal: Array) -> tuple[tuple[Array, ...], Array]:
    """Give the six entries of the adjugates of (6, P) symmetric matrices, and determinants (P,), NaN where singular."""
    a, b, c, d, e, f = normal
    adjugate = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    determinant = a * adjugate[0] + b * adjugate[1] + c * adjugate[2]
    singular = determinant <= _SINGULAR * ((a + d + f) / 3.0) ** 3
    return adjugate, np.where(singular, np.nan, determinant)


def _solve(normal: Array, right: Array) -> Array:
    """Solve (6, P) symmetric 3 x 3 systems; (P, 3), NaN where singular."""
    (xx, xy, xz, yy, yz, zz), determinant = _adjugate(normal)
    x, y, z = right / determinant
    return np.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], axis=-1)
