"""What learned triangulation is measured against: linear, RANSAC as published with learnable triangulation, aniposelib.

aniposelib is looked for, never needed: `pip install aniposelib` into an environment of its own, and name that in
PYTHONPATH.
"""

from __future__ import annotations

import importlib
import importlib.util
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.rotations import rotvec_from_matrix
from ..nets.view_trust import Views, inverted, residuals, solve

Array = np.ndarray
DRAWS = 10  # pairs of views tried for a point
INLIER = 30.0 / 384.0  # of the longer side of the person's box: 15 halves of a pixel's distance in crops of 384
_HUBER = 2.0 / 384.0  # the same for scipy's `f_scale` of 1
_FOCAL = 1000.0  # pixels; of the cameras that aniposelib is given
_CHAINS = ((0, 1, 8), (1, 2, 3, 4), (1, 5, 6, 7), (8, 9, 10, 11, 24), (8, 12, 13, 14, 21), (22, 11), (19, 14))


def boxes(views: Views, truth: Tensor) -> Tensor:
    """(B, V) longer sides of the true body's box, in the units of `directions`."""
    camera = torch.einsum("bvij,bkj->bvki", views.rotation, truth[:, :25]) + views.translation[:, :, None]
    seen = camera[..., :2] / camera[..., 2:].clamp_min(0.1)
    return (seen.amax(2) - seen.amin(2)).amax(-1)


def linear(views: Views) -> Tensor:
    """(B, J, 3) the plain linear triangulation of all views that see a point."""
    return solve(views, (views.score > 0).float())[0]


def ransac(views: Views, box: Tensor, g: torch.Generator, *, huber: bool) -> Tensor:
    """(B, J, 3): ten pairs of views at random, the largest set of inliers, their linear triangulation.

    With `huber` the least sum of Huber's losses over the inliers follows, by 15 steps of reweighted least squares
    where the publication calls scipy.
    """
    seen = views.score > 0
    near = INLIER * box[:, :, None]
    most, chosen = torch.zeros(len(box), seen.shape[2]) - 1, torch.zeros_like(seen)
    for _ in range(DRAWS):
        lots = torch.rand(seen.shape, generator=g).masked_fill(~seen, -1.0)
        pair = torch.zeros_like(seen).scatter_(1, lots.topk(2, dim=1).indices, value=True) & seen
        inliers = (away(views, solve(views, pair.float())[0]) < near) & seen
        count = inliers.sum(1).float()
        inliers = torch.where((count >= 2)[:, None], inliers, pair)
        better = count > most
        most, chosen = torch.where(better, count, most), torch.where(better[:, None], inliers, chosen)
    points = solve(views, chosen.float())[0]
    return _huber(views, points, chosen, _HUBER * box[:, :, None]) if huber else points


def away(views: Views, points: Tensor) -> Tensor:
    """(B, V, J) reprojection errors of points, in the units of `directions`; infinite behind a camera."""
    offset, depth = residuals(views, points)
    return torch.where(depth > 0.05, offset.norm(dim=-1) / depth.clamp_min(0.05), torch.inf)


def _huber(views: Views, points: Tensor, used: Tensor, scale: Tensor) -> Tensor:
    rotation = views.rotation.double()
    for _ in range(15):
        offset, depth = (x.double() for x in residuals(views, points))
        depth = depth.clamp_min(0.05)
        error = offset.norm(dim=-1) / depth
        weight = used / depth.square() * (scale / error.clamp_min(1e-9)).clamp_max(1.0)
        exact = views.directions.double() - offset / depth[..., None]
        rows = rotation[:, :, None, :2] - exact[..., None] * rotation[:, :, None, 2:]
        weighted = rows * weight[..., None, None]
        normal = torch.einsum("bvjki,bvjkl->bjil", weighted, rows) + 1e-9 * torch.eye(3, dtype=torch.float64)
        step = (inverted(normal) @ torch.einsum("bvjki,bvjk->bji", weighted, offset)[..., None])[..., 0]
        points = points + step.float().clamp(-0.5, 0.5)
    return points


def aniposelib_is_there() -> bool:
    """Whether the peer can be imported."""
    return importlib.util.find_spec("aniposelib") is not None


def aniposelib_ransac(views: Views) -> Array:
    """(B, J, 3) its RANSAC, for frames of one rig: every set of two and more views, the least mean error wins."""
    cameras, pixels = _for_aniposelib(views)
    count, frames, joints = pixels.shape[:3]
    return cameras.triangulate_ransac(pixels.reshape(count, -1, 2))[0].reshape(frames, joints, 3)


def aniposelib_optimised(views: Views) -> Array:
    """(B, J, 3) its optimised triangulation of the frames of one rig: smooth in time, limbs of constant length."""
    cameras, pixels = _for_aniposelib(views)
    limbs = [list(pair) for chain in _CHAINS for pair in pairwise(chain)]
    return cameras.triangulate_optim(pixels, constraints=limbs)


def _for_aniposelib(views: Views) -> tuple[Any, Array]:
    """Its cameras, of the first frame's rig, and (V, B, J, 2) pixels, NaN where a point is not seen."""
    aniposelib = importlib.import_module("aniposelib.cameras")
    matrix = np.diag([_FOCAL, _FOCAL, 1.0])
    turns, places = views.rotation[0].double().numpy(), views.translation[0].double().numpy()
    cameras = [
        aniposelib.Camera(matrix, np.zeros(5), (1000, 1000), rotvec_from_matrix(turn), place, f"{index}")
        for index, (turn, place) in enumerate(zip(turns, places, strict=True))
    ]
    pixels = np.where((views.score > 0)[..., None], views.directions.double() * _FOCAL, np.nan)
    return aniposelib.CameraGroup(cameras), np.ascontiguousarray(pixels.transpose(1, 0, 2, 3))
