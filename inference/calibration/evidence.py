"""What clips say about a calibration: where the views put a person, and how well they agree.

Agreement is measured in shares of the person's size in each picture, so that it needs no unit, no height and no floor:
0.01 is a person of 600 px whose joints miss by 6 px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, normalise, project
from ..core.rotations import matrix_from_rotvec
from ..core.skeletons import BODY, LIMBS, MIRROR_137
from ..core.triangulation import Rays, intersect, refine

Array = np.ndarray
_FRAMES = 60  # looked at
_LEAST = 0.3  # confidence
_JOINTS = 4  # of a body that is seen
_MIRROR = np.asarray(MIRROR_137)[BODY]
_WOBBLE = 0.4  # what a limb's change of length counts, when there are two views
_CELL = 1.0  # the error of a joint that lies behind its camera
# Lengths over body height, as `LIMBS` orders them (Winter, Biomechanics and Motor Control of Human Movement, 4.1).
_OF_HEIGHT = np.array([0.186, 0.186, 0.146, 0.146, 0.245, 0.245, 0.246, 0.246, 0.288])
_ENDS = np.array([(a, b) for _, a, b in LIMBS] + [(1, 8)])  # and from the neck to the middle of the hips


@dataclass(frozen=True)
class Seen:
    """What N views saw of the body in F frames: pixels (N, F, 25, 2), weight (N, F, 25), size px (N,) of the person."""

    pixels: Array
    weight: Array
    size: Array
    known: dict[tuple[Any, ...], tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)

    def rays(self, cameras: Sequence[Camera]) -> Rays:
        """Give the rays of all F * 25 points; what a lens makes of a view's pixels is computed once."""
        for view, camera in enumerate(cameras):
            if _key(view, camera) not in self.known:
                one = Rays.of([camera], self.pixels[view : view + 1], self.weight[view : view + 1])
                self.known[_key(view, camera)] = one.directions[0], one.weight[0]
        pairs = [self.known[_key(view, camera)] for view, camera in enumerate(cameras)]
        return Rays(
            np.stack([directions for directions, _ in pairs]),
            np.stack([weight for _, weight in pairs]),
            np.stack([camera.rotation for camera in cameras]),
            np.stack([camera.translation for camera in cameras]),
        )

    def exchanged(self, view: int) -> Seen:
        """Exchange left and right in one view."""
        pixels, weight = self.pixels.copy(), self.weight.copy()
        pixels[view], weight[view] = pixels[view][:, _MIRROR], weight[view][:, _MIRROR]
        return Seen(pixels, weight, self.size, {key: rays for key, rays in self.known.items() if key[0] != view})

    def flipped(self, view: int, width: int) -> Seen:
        """Mirror the picture of one view; who was taken for left is right."""
        other = self.exchanged(view)
        other.pixels[view, ..., 0] = width - 1 - other.pixels[view, ..., 0]
        return other

    def some(self, frames: int) -> Seen:
        """Take some of the frames, evenly."""
        rows = np.unique(np.linspace(0, max(self.weight.shape[1] - 1, 0), frames).round().astype(int))
        return Seen(self.pixels[:, rows], self.weight[:, rows], self.size)

    def views(self, index: Sequence[int]) -> Seen:
        """Take some of the views."""
        which = list(index)
        return Seen(self.pixels[which], self.weight[which], self.size[which])


@dataclass(frozen=True)
class Agreement:
    """Points (F, 25, 3) and the error of each ray (N, F, 25) in shares of the person's size, NaN unseen."""

    points: Array
    error: Array

    @property
    def misfit(self) -> float:
        """The median error of the worst and of all views, both counted; infinite where nothing is common."""
        each = self.each
        known = each[np.isfinite(each)]
        every = self.error[np.isfinite(self.error)]
        return float(0.5 * (known.max() + np.median(every))) if known.size > 1 else float("inf")

    @property
    def score(self) -> float:
        """The misfit, or for two views more: two rays often meet by chance, but then limbs change their lengths."""
        views = np.isfinite(self.each).sum()
        return self.misfit if views > 2 else max(self.misfit, _WOBBLE * _wobble(self.points))

    @property
    def each(self) -> Array:
        """(N,) median error of each view, NaN where it shares nothing with another."""
        return np.array([np.median(e[np.isfinite(e)]) if np.isfinite(e).any() else np.nan for e in self.error])


def gather(views: Sequence[Keypoints2D]) -> tuple[Seen, Array]:
    """Lay views side by side, some frames of them, and tell in which share of its frames each shows somebody."""
    frames = min(len(view.positions) for view in views)
    rows = np.unique(np.linspace(0, max(frames - 1, 0), _FRAMES * 3).round().astype(int)) if frames else np.arange(0)
    pixels = np.stack([np.asarray(view.positions[rows], float)[:, BODY] for view in views])
    confidence = np.stack([np.nan_to_num(np.asarray(view.confidence[rows], float)[:, BODY]) for view in views])
    sizes = np.array([view.image_size for view in views], float)[:, None, None]
    plausible = (np.abs(pixels - sizes / 2) <= 1.5 * sizes).all(-1)
    weight = np.where(plausible & (confidence >= _LEAST), np.clip(confidence, 0, 1) ** 2, 0.0)
    shown = (weight > 0).sum(-1) >= _JOINTS  # (N, F)
    common = np.argsort(-shown.sum(0), kind="stable")[:_FRAMES]
    common.sort()
    pixels, weight = pixels[:, common], weight[:, common]
    pixels = np.where((weight > 0)[..., None], pixels, np.nan)
    share = shown.mean(1) if shown.size else np.zeros(len(views))
    return Seen(pixels, weight, _person_size(pixels)), share


def agree(cameras: Sequence[Camera], seen: Seen, *, steps: int = 2) -> Agreement:
    """Intersect the rays of all views and measure by how much each misses."""
    with np.errstate(all="ignore"):
        rays = seen.rays(cameras)
        points = intersect(rays)
        if steps:
            scale = 0.06 * _nominal(cameras, points, seen)
            points = refine(points, rays, scale=scale, steps=steps) if np.isfinite(scale) and scale > 0 else points
        points = points.reshape(*seen.weight.shape[1:], 3)
        error = np.stack([misses(camera, points, seen, view) for view, camera in enumerate(cameras)])
    return Agreement(points, error)


def misses(camera: Camera, points: Array, seen: Seen, view: int) -> Array:
    """(F, 25) distance of what a view saw from where (F, 25, 3) points would be, in shares of the person's size."""
    with np.errstate(all="ignore"):
        off = np.linalg.norm(seen.pixels[view] - project(camera, points), axis=-1) / seen.size[view]
    known = (seen.weight[view] > 0) & np.isfinite(points).all(-1)
    return np.where(known, np.where(np.isfinite(off), np.minimum(off, _CELL), _CELL), np.nan)


def _wobble(points: Array) -> float:
    """Give by how much limbs change their lengths: the median share, 0.03 of good views; 0 where none is seen."""
    lengths = np.linalg.norm(points[:, _ENDS[:, 0]] - points[:, _ENDS[:, 1]], axis=-1)
    rows = [row[np.isfinite(row)] for row in lengths.T]
    each = [np.median(np.abs(row - np.median(row))) / max(np.median(row), 1e-12) for row in rows if row.size > 4]
    return float(np.median(each)) if each else 0.0


def body_height(points: Array) -> float:
    """Estimate the standing height of the person from (F, 25, 3), in the unit of the points; NaN if unseen."""
    lengths = np.linalg.norm(points[:, _ENDS[:, 0]] - points[:, _ENDS[:, 1]], axis=-1) / _OF_HEIGHT
    known = [np.median(row[np.isfinite(row)]) for row in lengths.T if np.isfinite(row).any()]
    return float(np.median(known)) if known else float("nan")


def resect(camera: Camera, points: Array, seen: Seen, view: int) -> Camera | None:
    """Find where a camera must stand to see points as it does: its pose from nothing, then robust Gauss-Newton.

    Returns:
        The camera with another pose; None where the points do not determine one.
    """
    known = (seen.weight[view] > 0) & np.isfinite(points).all(-1)
    world = points[known]
    with np.errstate(all="ignore"):
        rays = normalise(camera, seen.pixels[view][known])
    sound = np.isfinite(rays).all(-1)
    world, rays = world[sound], rays[sound]
    if len(world) < 30:
        return None
    with np.errstate(all="ignore"):  # a start that is far off may run away, and is not taken
        starts = [camera, _pose(camera, world, rays)]
        tried = [_polish(start, world, rays) for start in starts if start is not None]
        tried = [other for other in tried if np.isfinite(other.translation).all()] or [camera]
    return min(tried, key=lambda other: _spread(misses(other, points, seen, view)))


def _spread(error: Array) -> float:
    known = error[np.isfinite(error)]
    return float(np.median(known)) if known.size else float("inf")


def _key(view: int, camera: Camera) -> tuple[Any, ...]:
    return view, camera.fisheye, camera.matrix.tobytes(), camera.distortion.tobytes()


def _person_size(pixels: Array) -> Array:
    """(N,) px: the median diagonal of the box around the body; the whole clip's median where a view sees nobody."""
    out = np.full(len(pixels), np.nan)
    for view, clip in enumerate(pixels):
        enough = np.isfinite(clip[..., 0]).sum(-1) >= 2 * _JOINTS
        if enough.any():
            box = np.nanmax(clip[enough], axis=1) - np.nanmin(clip[enough], axis=1)
            out[view] = np.median(np.hypot(box[:, 0], box[:, 1]))
    middle = np.nanmedian(out) if np.isfinite(out).any() else 1.0
    return np.maximum(np.where(np.isfinite(out), out, middle), 1.0)


def _nominal(cameras: Sequence[Camera], points: Array, seen: Seen) -> float:
    """Give the person's height in the world's unit as the pictures have it: size over focal length times depth."""
    known = np.isfinite(points).all(-1)
    if not known.any():
        return float("nan")
    middle = np.median(points[known], axis=0)
    depth = np.array([(camera.rotation @ middle + camera.translation)[2] for camera in cameras])
    focal = np.array([camera.matrix[1, 1] for camera in cameras])
    return float(np.median(np.abs(depth) * seen.size / focal))


def _pose(camera: Camera, world: Array, rays: Array) -> Camera | None:
    """Find a pose by the linear method for six points and more (Hartley & Zisserman 7.1)."""
    middle, scale = world.mean(0), world.std() + 1e-9
    x = np.concatenate([(world - middle) / scale, np.ones((len(world), 1))], 1)
    zero = np.zeros_like(x)
    rows = np.concatenate(
        [np.concatenate([x, zero, -rays[:, :1] * x], 1), np.concatenate([zero, x, -rays[:, 1:] * x], 1)]
    )
    matrix = np.linalg.svd(rows, full_matrices=False)[2][-1].reshape(3, 4)
    if np.median(x @ matrix[2]) < 0:
        matrix = -matrix
    u, values, vt = np.linalg.svd(matrix[:, :3])
    rotation = u @ vt
    if values[2] < 1e-6 * values[0] or np.linalg.det(rotation) < 0:
        return None
    translation = matrix[:, 3] / values.mean() * scale - rotation @ middle
    return replace(camera, rotation=rotation, translation=translation)


def _polish(camera: Camera, world: Array, rays: Array) -> Camera:
    """Move and turn a camera to the least robust error, by Gauss-Newton steps."""
    rotation, translation = camera.rotation, camera.translation
    for step in range(15):
        cam = world @ rotation.T + translation
        depth = np.where(cam[:, 2] > 1e-3, cam[:, 2], np.nan)
        seen = cam[:, :2] / depth[:, None]
        off = rays - seen
        front = np.isfinite(off).all(-1)
        if front.sum() < 15 or not np.isfinite(off[front]).all():
            break
        off, seen, near, depth = off[front], seen[front], cam[front], depth[front]
        size = np.linalg.norm(off, axis=-1)
        scale = max(2.0 * float(np.median(size)), 1e-4) if step > 2 else np.inf
        weight = 1.0 / (1.0 + np.square(size / scale)) ** 2
        zero, one = np.zeros(len(depth)), np.ones(len(depth))
        by_place = np.stack([np.stack([one, zero, -seen[:, 0]], -1), np.stack([zero, one, -seen[:, 1]], -1)], 1)
        by_place = by_place / depth[:, None, None]  # (P, 2, 3) of x_cam
        turned = near - translation
        cross = np.stack(
            [np.stack([zero, turned[:, 2], -turned[:, 1]], -1), np.stack([-turned[:, 2], zero, turned[:, 0]], -1),
             np.stack([turned[:, 1], -turned[:, 0], zero], -1)], 1)  # fmt: skip
        jacobian = np.concatenate([by_place @ cross, by_place], -1)  # (P, 2, 6)
        weighted = jacobian * weight[:, None, None]
        normal = np.einsum("pij,pik->jk", weighted, jacobian) + 1e-9 * np.eye(6)
        change = np.linalg.solve(normal, np.einsum("pij,pi->j", weighted, off))
        rotation = matrix_from_rotvec(change[:3]) @ rotation
        translation = translation + change[3:]
        if np.abs(change).max() < 1e-9:
            break
    return replace(camera, rotation=rotation, translation=translation)
