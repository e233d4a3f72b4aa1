"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; pixel = K x_cam / z.

The only conversion to Blender's convention stands in `to_blender`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray

# Blender's camera looks down -z with y up; OpenCV's looks down +z with y down.
BLENDER_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    `matrix` (3, 3) pixels; `distortion` (5,) k1 k2 p1 p2 k3; `rotation` (3, 3) and `translation` (3,) metres
    take world points into the camera frame: x_cam = rotation @ x_world + translation.
    """

    name: str
    size: tuple[int, int]  # width, height in pixels
    matrix: Array
    distortion: Array = field(default_factory=lambda: np.zeros(5))
    rotation: Array = field(default_factory=lambda: np.eye(3))
    translation: Array = field(default_factory=lambda: np.zeros(3))

    @property
    def camera_from_world(self) -> Array:
        """(4, 4) rigid transform."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.rotation, self.translation
        return out

    @property
    def centre(self) -> Array:
        """(3,) camera centre in the world, metres."""
        return -self.rotation.T @ self.translation

    def to_header(self) -> dict[str, Any]:
        """JSON-ready dictionary; `from_header` reverses it."""
        return {
            "name": self.name,
            "size": list(self.size),
            "matrix": np.asarray(self.matrix, float).tolist(),
            "distortion": np.asarray(self.distortion, float).tolist(),
            "rotation": np.asarray(self.rotation, float).tolist(),
            "translation": np.asarray(self.translation, float).tolist(),
        }

    @staticmethod
    def from_header(header: dict[str, Any]) -> Camera:
        """Read what `to_header` wrote."""
        return Camera(
            name=header["name"],
            size=(int(header["size"][0]), int(header["size"][1])),
            matrix=np.array(header["matrix"], float),
            distortion=np.array(header["distortion"], float),
            rotation=np.array(header["rotation"], float),
            translation=np.array(header["translation"], float),
        )


@dataclass(frozen=True)
class CameraSet:
    """Cameras of one rig, in the order of the views."""

    cameras: tuple[Camera, ...]

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[Camera]:
        return iter(self.cameras)

    def __getitem__(self, index: int) -> Camera:
        return self.cameras[index]

    @property
    def names(self) -> Sequence[str]:
        return [camera.name for camera in self.cameras]
