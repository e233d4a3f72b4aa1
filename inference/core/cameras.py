"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; pixel = K x_cam / z.

Pixel origin: the centre of the top-left pixel. The only conversion to Blender's convention stands in `to_blender`.
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


def pinhole(name: str, size: tuple[int, int], focal_px: float) -> Camera:
    """Assume a camera at the origin with its principal point in the middle and no distortion."""
    width, height = size
    matrix = np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return Camera(name, size, matrix)


def distort(camera: Camera, normalised: Array) -> Array:
    """Apply Brown-Conrady distortion to (..., 2) normalised image coordinates (OpenCV's five coefficients)."""
    k1, k2, p1, p2, k3 = np.resize(np.concatenate([camera.distortion, np.zeros(5)]), 5)
    x, y = normalised[..., 0], normalised[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def project(camera: Camera, points_world: Array) -> Array:
    """(..., 2) distorted pixels of (..., 3) world points; NaN behind the camera."""
    cam = points_world @ camera.rotation.T + camera.translation
    depth = np.where(cam[..., 2:] > 1e-9, cam[..., 2:], np.nan)
    pixel = distort(camera, cam[..., :2] / depth)
    return pixel @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]


def normalise(camera: Camera, pixels: Array, *, iterations: int = 10) -> Array:
    """(..., 2) undistorted normalised coordinates of (..., 2) pixels: x / z and y / z in the camera frame.

    Distortion is removed by fixed-point iteration, as OpenCV's undistortPoints does.
    """
    target = (pixels - camera.matrix[:2, 2]) @ np.linalg.inv(camera.matrix[:2, :2]).T
    if not np.any(camera.distortion):
        return target
    points = target
    for _ in range(iterations):
        points = points + target - distort(camera, points)
    return points


def undistort(camera: Camera, pixels: Array) -> Array:
    """(..., 2) pixels that a camera without distortion and with the same matrix would see."""
    return normalise(camera, pixels) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]


def look_at_rotation(direction: Array) -> Array:
    """(..., 3, 3) shortest rotations taking (..., 3) viewing directions to the optical axis +z.

    A point x_cam seen by a virtual camera turned towards `direction` is `rotation @ x_cam`.
    """
    d = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    s = 1.0 / (1.0 + z)  # directions seen by a camera have z > 0
    rows = [
        np.stack([1.0 - x * x * s, -x * y * s, -x], -1),
        np.stack([-x * y * s, 1.0 - y * y * s, -y], -1),
        np.stack([x, y, z], -1),
    ]
    return np.stack(rows, axis=-2)


def to_blender(camera: Camera, *, sensor_width_mm: float = 36.0) -> dict[str, Any]:
    """Express a camera in Blender's terms, for `sensor_fit='HORIZONTAL'`.

    Returns `matrix_world` (4, 4), `lens` mm, `sensor_width` mm, `shift_x`, `shift_y` (in units of the image width)
    and `pixel_aspect_y`. Blender's frame ends at pixel edges, so its centre is ((W - 1) / 2, (H - 1) / 2) here.
    """
    width, height = camera.size
    fx, fy = camera.matrix[0, 0], camera.matrix[1, 1]
    aspect = fx / fy
    return {
        "matrix_world": np.linalg.inv(camera.camera_from_world) @ BLENDER_FROM_OPENCV,
        "lens": float(fx * sensor_width_mm / width),
        "sensor_width": sensor_width_mm,
        "shift_x": float(((width - 1) / 2 - camera.matrix[0, 2]) / width),
        "shift_y": float((camera.matrix[1, 2] - (height - 1) / 2) * aspect / width),
        "pixel_aspect_y": float(aspect),
    }
