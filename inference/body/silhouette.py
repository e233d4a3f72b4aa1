"""The outline of a posed body in a camera, exactly, and how it agrees with the person's mask."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from ..core.artifacts import BodyMesh, BodyParameters
from ..core.body import Skin, place_bones
from ..core.cameras import Camera, project

Array = np.ndarray
_SUBPIXEL = 4  # bits after the point of cv2's coordinates
_NEAR_M = 0.05  # in front of the camera, from which on faces are drawn


def outline(points_px: Array, depth: Array, faces: Array, size: tuple[int, int]) -> Array:
    """(H, W) bool: pixels inside a closed surface's silhouette.

    Args:
        points_px: (V, 2) projected vertices, origin at the centre of the top-left pixel; depth: (V,) metres.
        faces: (F, 4), the last corner of triangles -1; those that look away are left out, they hide nothing more.
    """
    image = np.zeros(size[::-1], np.uint8)
    corners = np.where(faces < 0, faces[:, :1], faces)
    ends = points_px[corners]
    whole = (depth[corners] > _NEAR_M).all(1) & np.isfinite(ends).all((1, 2))
    across, along = ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1]
    front = across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0] < 0  # y runs down
    front |= (faces[:, 3] < 0) & whole
    inside = (ends.max(1) > 0).all(1) & (ends.min(1) < size).all(1)
    drawn = np.round(ends[whole & front & inside] * (1 << _SUBPIXEL)).astype(np.int32)
    for quad in drawn:
        cv2.fillConvexPoly(image, quad, (1,), cv2.LINE_8, _SUBPIXEL)
    return image > 0


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two masks (H, W); NaN where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else float("nan")


class Shadow:
    """The outlines of a moving body in one camera, frame by frame."""

    def __init__(self, mesh: BodyMesh, parameters: BodyParameters, camera: Camera) -> None:
        self._turns, self._heads = place_bones(mesh, parameters.pose, parameters.root)
        self._skin, self._faces, self._camera = Skin(mesh), mesh.faces, camera

    def __len__(self) -> int:
        return len(self._turns)

    def outline(self, frame: int, size: tuple[int, int]) -> Array:
        """(H, W) bool in pictures of (W, H) px, whatever the camera's own size."""
        camera = self._camera
        vertices = self._skin.vertices(self._turns[frame], self._heads[frame])
        depth = vertices @ camera.rotation[2] + camera.translation[2]
        factor = np.array(size) / np.array(camera.size)
        return outline((project(camera, vertices) + 0.5) * factor - 0.5, depth, self._faces, size)

    def outlines(self, size: tuple[int, int]) -> Iterator[Array]:
        """The same of every frame."""
        return (self.outline(frame, size) for frame in range(len(self)))
