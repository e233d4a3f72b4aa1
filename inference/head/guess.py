"""What one look at the faces in photos says of the head, before anything is fitted (`nets/head_shape.py`).

A fit within the span of the learnt heads stays about a millimetre from the truth whatever pulls at it; one look is
nearer, unless it is far from the fit. So the fitted surface is moved to the look where they are close, and less where
they are not, but for the outlines of hair, which photos show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import normalize

from ..nets.head_shape import HeadShape, directions, triangles
from ..nets.neus import Field
from ..nets.neus_render import Grid
from .crop import of_points
from .frame import CENTRE, RADIUS, similarity
from .nearest import Meshed
from .seen import Seen

Array = np.ndarray
_NOSE = 1  # the detector's point on the tip of the nose
FACE_M, EDGE_M = 0.085, 0.03  # how far about it the face reaches, and over how much it passes over into hair
_FAR_M, _FAR_HAIR_M = 0.015, 0.04  # a look so far from the fit was read wrongly: it moves the surface half as far
GRAIN_M, HAIR_GRAIN_M = 0.001, 0.0015  # standard deviations by which what moves is smoothed: strands are the coarser
_AROUND = 48  # neighbours of what is smoothed
_NEAR, _KEPT = 0.04, 0.12  # of the unit sphere: how far about the surface what moves is learnt
_STEPS, _SOME = 20, slice(None, None, 5)  # of laying the look on the fit, and directions that are laid
_APART_M = 0.0075  # what is so far apart then counts half
_FIRST_M, _LAST_M, _LOOKS, _HALVINGS = 0.2, 0.03, 96, 9  # where along a direction a surface is looked for, and how


@dataclass(frozen=True)
class Guessed:
    """A head by one look: radii (V,) and the detector's points (478, 3), metres, in a frame of its own."""

    radii: Array
    points: Array

    def laid(self, found: Array, face: Array) -> Array:
        """(V,) metres: the radii as they are on a fit of radii (V,), NaN for none, with face points (478, 3) metres."""
        rays, fitted = directions(), closed(np.nan_to_num(found))
        places = CENTRE + rays * self.radii[:, None]
        near = np.flatnonzero(np.linalg.norm(places - self.points[_NOSE], axis=1) < FACE_M)[_SOME]
        scale, rotation, move = similarity(self.points, face)
        for _ in range(_STEPS):
            moved = scale * places[near] @ rotation.T + move
            met = fitted.nearest(moved).points
            weight = 1 / (1 + np.square((met - moved) / _APART_M).sum(1))
            scale, rotation, move = similarity(places[near], met, weight)
        look = Meshed(scale * places @ rotation.T + move, triangles()).cast(CENTRE + _FIRST_M * rays, -rays)
        radii = _FIRST_M - look.depth
        return np.where((look.face >= 0) & (radii > _LAST_M), radii, np.nan)  # not what is behind, seen through a crack

    def change(self, found: Array, face: Array, eyes: Array) -> Array:
        """(V,) metres by which a fit's radii are moved; face as for `laid`; eyes (P, 3) metres: where cameras stand."""
        off, rays = np.nan_to_num(self.laid(found, face) - found), directions()
        places = CENTRE + rays * np.nan_to_num(found)[:, None]
        away = np.linalg.norm(places - face[_NOSE], axis=1)
        hair = np.clip((away - FACE_M) / EDGE_M, 0, 1)
        towards = (eyes - CENTRE) / np.linalg.norm(eyes - CENTRE, axis=1, keepdims=True)
        free = np.clip(2 * np.abs(rays @ towards.T).min(1) - 0.5, 0, 1)  # 0 on the outline
        far = (1 - hair) * _FAR_M + hair * _FAR_HAIR_M
        moves = (1 - hair * (1 - free)) * off / (1 + (off / far) ** 4)
        return (1 - hair) * smoothed(places, moves, GRAIN_M) + hair * smoothed(places, moves, HAIR_GRAIN_M)


def closed(radii: Array) -> Meshed:
    """The surface that radii (V,) metres describe."""
    return Meshed(CENTRE + directions() * radii[:, None], triangles())


def smoothed(places: Array, values: Array, grain_m: float) -> Array:
    """Values (V,) without what is finer than can be guessed, such as strands and teeth; places (V, 3) metres.

    Means over neighbours, by area, in cells of two grains: places are thick about the nose.
    """
    cells, which = np.unique((places / (2 * grain_m)).round(), axis=0, return_inverse=True)
    count = np.bincount(which.ravel())
    mean = np.bincount(which.ravel(), values) / count
    away, near = KDTree(cells * 2 * grain_m).query(places, k=_AROUND)
    weight = np.exp(-0.5 * np.square(away / grain_m)) + 1e-12
    return (weight * mean[near]).sum(1) / weight.sum(1)


@torch.no_grad()
def reach(field: Field) -> Array:
    """(V,) metres from the centre to a field's surface, NaN where there is none."""
    rays = torch.from_numpy(directions()).float().to(field.sharpness.device)
    line = torch.linspace(_FIRST_M, _LAST_M, _LOOKS, device=rays.device) / RADIUS
    inside = Grid.of(field, 64).at(rays[:, None] * line[:, None]) < 0
    first = inside.float().argmax(1).clamp_min(1)
    outer, inner = line[first - 1], line[first]
    for _ in range(_HALVINGS):
        middle = (outer + inner) / 2
        within = field.distance(rays * middle[:, None])[0][:, 0] < 0
        outer, inner = torch.where(within, outer, middle), torch.where(within, middle, inner)
    found = torch.where(inside.any(1), (outer + inner) / 2, torch.nan)
    return found.double().cpu().numpy() * RADIUS


@torch.no_grad()
def moved(field: Field, found: Array, change: Array, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3) of the unit sphere about a surface of radii (V,), and its distances (N,) and features (N, F) there.

    That is, after the radii have changed by (V,) metres: what was below a point comes to it.
    """
    known, rays = np.isfinite(found), torch.from_numpy(directions()).float()
    near = rays * torch.from_numpy((np.nan_to_num(found) + change) / RADIUS).float()[:, None]
    near = near[torch.from_numpy(known)].repeat(3, 1)
    near = near + torch.randn(near.shape, generator=g) * _NEAR * torch.rand(len(near), 1, generator=g)
    far = torch.rand(2 * len(near), 3, generator=g) * 2 - 1
    points = torch.cat([near, far])
    away, which = KDTree(directions()).query(normalize(points, dim=1).numpy(), k=4)
    weight = 1 / (away + 1e-3)
    by = torch.from_numpy((weight * change[which]).sum(1) / weight.sum(1) / RADIUS).float()
    points = points.to(field.sharpness.device)
    distance, features = field.distance(points - (by[:, None] * normalize(points.cpu(), dim=1)).to(points.device))
    kept = distance[:, 0].abs() < _KEPT
    return points[kept], distance[kept, 0], features[kept]


@torch.no_grad()
def guess(net: HeadShape, photos: list[Seen]) -> Guessed:
    """Read the photos of somebody together."""
    squares = [of_points(photo.landmarks) for photo in photos]
    points = [square.place(photo.landmarks, photo.depth) for square, photo in zip(squares, photos, strict=True)]
    crops = None
    if side := net.config.side:
        cut = [square.cut(photo.image, side) for square, photo in zip(squares, photos, strict=True)]
        crops = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)[None].float() / 255
    found = net.seen_twice(crops, torch.from_numpy(np.stack(points)).float()[None])
    return Guessed(found.radii[0].double().numpy(), found.points[0].double().numpy())
