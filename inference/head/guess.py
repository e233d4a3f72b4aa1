"""What one look at the faces in photos says of the head, before anything is fitted (`nets/head_shape.py`).

A fit within the span of the learnt heads stays about a millimetre from the truth whatever pulls at it; one look is
nearer. So heads are placed by it, corrected by the photos (`settle.py`), and fitted surfaces are moved there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from ..nets.head_shape import HeadShape, directions, triangles
from .crop import of_points
from .frame import CENTRE, similarity
from .nearest import Meshed
from .seen import Seen

Array = np.ndarray
_NOSE = 1  # the detector's point on the tip of the nose
FACE_M, EDGE_M = 0.085, 0.03  # how far about it the face reaches, and over how much it passes over into hair
GRAIN_M = 0.001  # standard deviation by which what moves is smoothed
_AROUND = 48  # neighbours of what is smoothed
_STEPS, _SOME = 20, slice(None, None, 5)  # of laying the look's face on a head, and directions that are laid
_APART_M = 0.0075  # what is so far apart then counts half
FIRST_M, LAST_M = 0.2, 0.03  # how far from the middle surfaces are, at most and at least


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
        look = Meshed(scale * places @ rotation.T + move, triangles()).cast(CENTRE + FIRST_M * rays, -rays)
        found = FIRST_M - look.depth
        return np.where((look.face >= 0) & (found > LAST_M), found, np.nan)  # not what is behind, seen through a crack


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
