"""Face points on a dense surface: where the rays of what photos show meet it.

What a fit says of face points is as far from what photos show as its prior is stiff; a texture must not be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.artifacts import HeadSurface
from ..core.cameras import Camera, normalise
from .nearest import Meshed
from .seen import Seen

Array = np.ndarray
OUTLINE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_FAR = 0.012  # metres that a point may be from where the fit has it
_FACING = 0.35  # least cosine between a surface and the ray that meets it


def anchor(surface: HeadSurface, photos: list[Seen], cameras: Sequence[Camera], guess: Array) -> Array:
    """Put face points on a surface where photos show them.

    Args:
        guess: (478, 3) metres, frame of heads: kept where no ray meets the surface well; the outline of a face has no
            fixed place on it, and irises lie behind the surface.

    Returns:
        (478, 3) metres.
    """
    dense = Meshed(surface.vertices, surface.faces)
    total, weight = np.zeros(guess.shape), np.zeros(len(guess))
    fixed = np.setdiff1d(np.arange(468), OUTLINE)
    for photo, camera in zip(photos, cameras, strict=True):
        level = normalise(camera, photo.landmarks[fixed])
        rays = np.concatenate([level, np.ones((len(level), 1))], 1) @ camera.rotation
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        met = dense.cast(np.broadcast_to(camera.centre, rays.shape), rays, 5.0)
        facing = -(dense.at(met, surface.normals.astype(float)) * rays).sum(1)
        far = np.linalg.norm(met.points - guess[fixed], axis=1)
        share = (met.face >= 0) * (facing > _FACING) * (far < _FAR) * facing.clip(0, 1) ** 2
        total[fixed] += share[:, None] * met.points
        weight[fixed] += share
    found = weight > 0
    out = guess.astype(float).copy()
    out[found] = total[found] / weight[found, None]
    return out
