"""What one look at the faces in photos says of the head, before anything is fitted (`nets/head_shape.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..nets.head_shape import HeadShape, directions
from ..nets.neus import Field
from .crop import of_points
from .frame import CENTRE, RADIUS, similarity, to_sphere
from .seen import Seen

Array = np.ndarray
_NOSE, _FACE_M = 1, 0.085  # the detector's point on the tip of the nose; how far about it the face reaches, metres
_FAR = 2.0  # expected errors
_TURNED_DEG = 45.0  # a photo from so far to a side counts e times less


@dataclass(frozen=True)
class Guessed:
    """Where the outside of a face is said to be: points (N, 3) and their expected errors (N,), in the unit sphere."""

    points: Tensor
    error: Tensor

    def misses(self, field: Field, count: int, g: torch.Generator) -> Tensor:
        """How far a field's surface is from some of the points, in expected errors: squares that grow ever slower."""
        some = torch.randint(0, len(self.points), (count,), generator=g).to(self.points.device)
        away = field.distance(self.points[some])[0][:, 0] / self.error[some]
        return _FAR**2 * (away / _FAR).square().log1p().mean()  # Cauchy's: hair that is guessed wrongly lies far off


def read(net: HeadShape, photo: Seen) -> tuple[Array, Array]:
    """Radii (V,) and places of the detector's points (478, 3), metres, that a photo speaks of."""
    square = of_points(photo.landmarks)
    points = torch.from_numpy(square.place(photo.landmarks, photo.depth)).float()[None]
    crop = None
    if net.config.side:
        cut = square.cut(photo.image, net.config.side)
        crop = torch.from_numpy(cut.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        found = net(crop, points)
    return found.radii[0].double().numpy(), found.points[0].double().numpy()


def guess(net: HeadShape, photos: list[Seen], face: Array) -> Guessed:
    """Read all photos, and lay what they say on face points (478, 3), metres, of a fit that begins."""
    weights = np.array([np.exp(-abs(photo.yaw_deg) / _TURNED_DEG) for photo in photos])
    radii, points = (np.average(part, axis=0, weights=weights)
                     for part in zip(*(read(net, photo) for photo in photos), strict=True))  # fmt: skip
    scale, rotation, move = similarity(points, face)
    places = scale * (CENTRE + directions() * radii[:, None]) @ rotation.T + move
    nose = scale * points[_NOSE] @ rotation.T + move
    near = np.linalg.norm(places - nose, axis=1) < _FACE_M
    error = net.error[torch.from_numpy(near)] * (scale / RADIUS)
    return Guessed(torch.from_numpy(to_sphere(places[near])).float(), error)
