"""What one look at the faces in photos says of the head, before anything is fitted (`nets/head_shape.py`).

A fit within the span of the learnt heads stays about a millimetre from the truth whatever pulls at it; one look is
nearer. So heads are placed by it, corrected by the photos (`settle.py`), and fitted surfaces are moved there.
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
GRAIN_M = 0.001  # standard deviation by which what moves is smoothed
_AROUND = 48  # neighbours of what is smoothed
FRONT = -0.26  # y of directions towards the face
_ABOUT_HEAD, _ABOUT_FACE = (3, 0.04), (12, 0.01)  # points of each direction that learn what moves, and how far off
_KEPT = 0.12  # of the unit sphere: how far about the surface they are at most
_STEPS, _SOME = 20, slice(None, None, 5)  # of laying the look's face on a head, and directions that are laid
_APART_M = 0.0075  # what is so far apart then counts half
_FIRST_M, _LAST_M, _LOOKS, _HALVINGS = 0.2, 0.03, 96, 9  # where along a direction a surface is looked for, and how


@dataclass(frozen=True)
class Guessed:
    """A head by one look, in the frame of heads.

    radii (V,) and the detector's points (478, 3), metres; by_photo: the points as each photo alone has them; errors
    (V, K) metres: principal modes of what is wrong about the radii.
    """

    radii: Array
    points: Array
    by_photo: tuple[Array, ...]
    errors: Array

    def face_on(self, radii: Array) -> Array:
        """(V,) metres: another head of radii (V,) with the look's face, laid upon its own."""
        rays = directions()
        places = CENTRE + rays * radii[:, None]
        hair = np.clip((np.linalg.norm(places - self.points[_NOSE], axis=1) - FACE_M) / EDGE_M, 0, 1)
        off = np.nan_to_num(self._laid(radii) - radii)
        return radii + (1 - hair) * smoothed(places, off, GRAIN_M)

    def _laid(self, radii: Array) -> Array:
        """(V,) metres: the look's radii after its face is laid on that of radii (V,), NaN for none."""
        rays, other = directions(), closed(radii)
        places = CENTRE + rays * self.radii[:, None]
        near = np.flatnonzero(np.linalg.norm(places - self.points[_NOSE], axis=1) < FACE_M)[_SOME]
        scale, rotation, move = 1.0, np.eye(3), np.zeros(3)
        for _ in range(_STEPS):
            moved = scale * places[near] @ rotation.T + move
            met = other.nearest(moved).points
            weight = 1 / (1 + np.square((met - moved) / _APART_M).sum(1))
            scale, rotation, move = similarity(places[near], met, weight)
        look = Meshed(scale * places @ rotation.T + move, triangles()).cast(CENTRE + _FIRST_M * rays, -rays)
        found = _FIRST_M - look.depth
        return np.where((look.face >= 0) & (found > _LAST_M), found, np.nan)  # not what is behind, seen through a crack


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
    rays = torch.from_numpy(directions()).float()
    surface = rays * torch.from_numpy((np.nan_to_num(found) + change) / RADIUS).float()[:, None]
    known = torch.from_numpy(np.isfinite(found))
    parts = []
    for there, count, about in ((known, *_ABOUT_HEAD), (known & (rays[:, 1] < FRONT), *_ABOUT_FACE)):
        some = surface[there].repeat(count, 1)
        parts.append(some + torch.randn(some.shape, generator=g) * about * torch.rand(len(some), 1, generator=g))
    points = torch.cat([*parts, torch.rand(len(parts[0]), 3, generator=g) * 2 - 1])
    away, which = KDTree(directions()).query(normalize(points, dim=1).numpy(), k=4)
    weight = 1 / (away + 1e-3)
    by = torch.from_numpy((weight * change[which]).sum(1) / weight.sum(1) / RADIUS).float()
    points = points.to(field.sharpness.device)
    distance, features = field.distance(points - (by[:, None] * normalize(points.cpu(), dim=1)).to(points.device))
    kept = distance[:, 0].abs() < _KEPT
    return points[kept], distance[kept, 0], features[kept]


@torch.no_grad()
def guess(net: HeadShape, photos: list[Seen]) -> Guessed:
    """Read the photos of somebody together, and each alone."""
    squares = [of_points(photo.landmarks) for photo in photos]
    points = [square.place(photo.landmarks, photo.depth) for square, photo in zip(squares, photos, strict=True)]
    placed, crops = torch.from_numpy(np.stack(points)).float(), None
    if side := net.config.side:
        cut = [square.cut(photo.image, side) for square, photo in zip(squares, photos, strict=True)]
        crops = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).float() / 255
    found = net.seen_twice(None if crops is None else crops[None], placed[None])
    alone = net.seen_twice(None if crops is None else crops[:, None], placed[:, None]).points.double().numpy()
    return Guessed(
        found.radii[0].double().numpy(), found.points[0].double().numpy(), tuple(alone), net.errors.double().numpy()
    )
