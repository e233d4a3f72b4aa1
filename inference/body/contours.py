"""Edges of silhouettes, finer than the pixels of a crop, and skin that is drawn to them.

Splats (`nets/gc_ssn.py`) tell pixels apart, and at the size of a crop a limb is two of these wide: bodies come out a
centimetre or two too thin. Here each place of a mask's edge is paired with the skin point that reaches farthest out
beside it, and that point's distance to the edge's line is what counts (ICP: Chen and Medioni 1991).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from skimage.measure import find_contours
from torch import Tensor
from torch.nn import functional

from .represent import Crops

Array = np.ndarray
_PLACES = 96  # of an edge that are looked at
_FINER = 4  # times, the resolution at which distances are taken
_BESIDE = 0.035  # half width of the strip in which skin belongs to a place of the edge, in halves of the crop
_BEHIND, _BEYOND = 0.15, 0.05  # how far inside and outside the edge such skin may lie
_SCALE = 0.05  # of a miss, above which it counts less
_RIM_PX = 2  # of the picture's border, whose edges are nobody's


class Edges(NamedTuple):
    """Of T crops: places (T, C, 2), outward normals (T, C, 2), known (T, C); away (T, S, S): how far outside."""

    places: Tensor
    normals: Tensor
    known: Tensor
    away: Tensor


def trace(crops: Crops) -> Edges:
    """The edges of a view's masks; where there is no mask, none is known."""
    count, side = crops.masks.shape[:2]
    places, normals = np.zeros((2, count, _PLACES, 2), np.float32)
    known, away = np.zeros((count, _PLACES), np.float32), np.zeros((count, side, side), np.float32)
    for at in np.flatnonzero(crops.masked):
        away[at] = _away(crops.masks[at]) * crops.framed[at]
        places[at], normals[at], known[at] = _edge(crops.masks[at], crops.framed[at])
    return Edges(*(torch.from_numpy(values) for values in (places, normals, known, away)))


def _away(mask: Array) -> Array:
    """(S, S) distance to the mask in halves of the crop, 0 inside."""
    side = mask.shape[0]
    fine = cv2.resize(mask, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_LINEAR)
    distance = cv2.distanceTransform((fine <= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return cv2.resize(distance, (side, side), interpolation=cv2.INTER_AREA) * (2 / (side * _FINER))


def _edge(mask: Array, framed: Array) -> tuple[Array, Array, Array]:
    """Places (C, 2) evenly along the edge, their outward normals (C, 2), and which of them (C,) are a person's."""
    side = mask.shape[0]
    padded = np.pad(mask, 1)
    lines = [line - 1 for line in find_contours(padded, 0.5) if len(line) > 8]
    if not lines:
        return np.zeros((_PLACES, 2)), np.zeros((_PLACES, 2)), np.zeros(_PLACES)
    starts = np.concatenate([line[:-1] for line in lines])
    steps = np.concatenate([np.diff(line, axis=0) for line in lines])
    along = np.cumsum(np.linalg.norm(steps, axis=1))
    at = np.searchsorted(along, (np.arange(_PLACES) + 0.5) / _PLACES * along[-1])
    pixel = (starts + 0.5 * steps)[at]  # row, column
    soft = cv2.GaussianBlur(padded, (5, 5), 1.0)
    slope = [cv2.remap(cv2.Sobel(soft, cv2.CV_32F, dx, 1 - dx), *_at(pixel), cv2.INTER_LINEAR)[:, 0] for dx in (1, 0)]
    normal = -np.stack(slope, -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    inner = cv2.erode(np.pad(framed, 1, mode="edge").astype(np.uint8), np.ones((2 * _RIM_PX + 1,) * 2, np.uint8))
    row, column = np.round(pixel).astype(int).clip(0, side - 1).T
    return (pixel[:, ::-1] + 0.5) * (2 / side) - 1, normal, inner[1:-1, 1:-1][row, column]


def _at(pixel: Array) -> tuple[Array, Array]:
    """Rows and columns (C, 2) as cv2 wants them, in a picture padded by one."""
    place = (pixel[:, None, ::-1] + 1).astype(np.float32)
    return place[..., 0].copy(), place[..., 1].copy()


@torch.no_grad()
def pair(points: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """For each place of an edge the skin point (T, C) of (T, N, 2) that reaches farthest out there, and whether any."""
    index, found = [], []
    for plane, places, normals in zip(points, edges.places, edges.normals, strict=True):
        out = normals @ plane.T - (normals * places).sum(1, keepdim=True)  # (C, N)
        across = torch.stack([-normals[:, 1], normals[:, 0]], 1)
        beside = (across @ plane.T - (across * places).sum(1, keepdim=True)).abs()
        near = (beside < _BESIDE) & (out > -_BEHIND) & (out < _BEYOND)
        best = out.masked_fill(~near, -torch.inf).max(1)
        index.append(best.indices)
        found.append(best.values.isfinite())
    return torch.stack(index), torch.stack(found)


def miss(points: Tensor, edges: Edges, pairs: tuple[Tensor, Tensor], *, wide: bool) -> Tensor:
    """One number: how far skin (T, N, 2) is from its edges, and how far it sticks out; wide clothes need no filling."""
    index, found = pairs
    reached = torch.gather(points, 1, index[..., None].expand(-1, -1, 2))
    off = ((reached - edges.places) * edges.normals).sum(-1)
    if wide:
        off = off.clamp(min=0) + 0.2 * off.clamp(max=0)
    weight = edges.known * found
    term = (_robust(off) * weight).sum() / weight.sum().clamp(min=1.0)
    beyond = functional.grid_sample(edges.away[:, None], points[:, :, None], padding_mode="border", align_corners=False)
    return term + _robust(beyond).mean()


def _robust(miss: Tensor) -> Tensor:
    square = miss**2
    return 0.3 * (square + 1e-8).sqrt() + _SCALE * square / (square + _SCALE**2)
