"""Cameras in OpenCV's convention: x right, y down, z forward; pixel = K distort(x_cam / z).

Pixel origin: the centre of the top-left pixel. The only conversion to Blender's convention stands in `to_blender`.
Lenses are OpenCV's: Brown-Conrady with 4 or 5 coefficients (k1 k2 p1 p2 k3), its rational form with 8 (k4 k5 k6 more),
with a thin prism 12 (s1 s2 s3 s4 more), and the fisheye of Kannala and Brandt with 4 (k1 k2 k3 k4, of the angle).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray

# Blender's camera looks down -z with y up; OpenCV's looks down +z with y down.
BLENDER_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_RIGHT_ANGLE = np.pi / 2 - 1e-6
_ASTRAY = 1e-4  # x / z: 0.1 px of a focal length of 1000
_WIDEST = 3.0  # x / z of 72 degrees: a polynomial in it describes no lens beyond


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    `matrix` (3, 3) pixels; `distortion` (4 | 5 | 8 | 12,) as above, of a fisheye (4,); `rotation` (3, 3) and
    `translation` (3,) metres take world points into the camera frame: x_cam = rotation @ x_world + translation.
    """

    name: str
    size: tuple[int, int]  # width, height in pixels
    matrix: Array
    distortion: Array = field(default_factory=lambda: np.zeros(5))
    rotation: Array = field(default_factory=lambda: np.eye(3))
    translation: Array = field(default_factory=lambda: np.zeros(3))
    fisheye: bool = False

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
        header = {
            "name": self.name,
            "size": list(self.size),
            "matrix": np.asarray(self.matrix, float).tolist(),
            "distortion": np.asarray(self.distortion, float).tolist(),
            "rotation": np.asarray(self.rotation, float).tolist(),
            "translation": np.asarray(self.translation, float).tolist(),
        }
        return {**header, "fisheye": True} if self.fisheye else header

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
            fisheye=bool(header.get("fisheye", False)),
        )


@dataclass(frozen=True)
class CameraSet:
    """Cameras of one rig, in the order of the views; `notes` are what the reader of a file had to assume."""

    cameras: tuple[Camera, ...]
    notes: tuple[str, ...] = ()

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
    """Apply the lens to (..., 2) normalised image coordinates x / z and y / z, as OpenCV does."""
    x, y = normalised[..., 0], normalised[..., 1]
    r2 = x * x + y * y
    if camera.fisheye:
        bent = _fisheye_bend(camera, r2)
        return normalised * bent[..., None]
    count = 12 if len(camera.distortion) > 5 else 5
    given = np.resize(np.concatenate([camera.distortion, np.zeros(count)]), count)
    k1, k2, p1, p2, k3 = given[:5]
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if count > 5:
        radial = radial / (1.0 + r2 * (given[5] + r2 * (given[6] + r2 * given[7])))
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    if count > 5:
        bent_x = bent_x + r2 * (given[8] + r2 * given[9])
        bent_y = bent_y + r2 * (given[10] + r2 * given[11])
    return np.stack([bent_x, bent_y], axis=-1)


def project(camera: Camera, points_world: Array) -> Array:
    """(..., 2) distorted pixels of (..., 3) world points; NaN behind the camera."""
    cam = points_world @ camera.rotation.T + camera.translation
    depth = np.where(cam[..., 2:] > 1e-9, cam[..., 2:], np.nan)
    pixel = distort(camera, cam[..., :2] / depth)
    return pixel @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]


def normalise(camera: Camera, pixels: Array, *, iterations: int = 10) -> Array:
    """(..., 2) undistorted normalised coordinates of (..., 2) pixels: x / z and y / z in the camera frame.

    Distortion is removed by fixed-point iteration, as OpenCV's undistortPoints does, and by Newton's method where that
    runs astray: in the outer picture of action cameras.
    """
    (a, b), (c, d) = camera.matrix[:2, :2]  # LAPACK's inverse wakes threads: on a busy machine longer than a live frame
    target = (pixels - camera.matrix[:2, 2]) @ np.array([[d, -c], [-b, a]]) / (a * d - b * c)
    if camera.fisheye:
        return _fisheye_straight(camera, target)
    if not np.any(camera.distortion):
        return target
    if len(camera.distortion) > 5:
        return _by_newton(camera, target, iterations)
    points = target
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(iterations):
            points = points + target - distort(camera, points)
        off = np.abs(distort(camera, points) - target).max(-1)
    astray = np.isfinite(target).all(-1) & ~(off < _ASTRAY)
    points[astray] = _by_newton(camera, target[astray], iterations)
    return points


def unproject(camera: Camera, pixels: Array, depth: Array) -> Array:
    """(..., 3) world points whose pixels are (..., 2) and which lie at depth (...,) before the camera."""
    local = normalise(camera, pixels)
    local = np.concatenate([local, np.ones_like(local[..., :1])], -1) * np.asarray(depth)[..., None]
    return (local - camera.translation) @ camera.rotation


def rays(camera: Camera, pixels: Array) -> Array:
    """(..., 3) unit vectors of the world from the camera's centre through (..., 2) pixels."""
    local = normalise(camera, pixels)
    found = np.concatenate([local, np.ones_like(local[..., :1])], -1) @ camera.rotation
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def as_brown(camera: Camera) -> tuple[Camera, float]:
    """Find the camera with five Brown-Conrady coefficients nearest to one with any lens.

    For those who know no other lens. The fit is linear least squares over a grid of the image.

    Returns:
        The camera, and how far its pixels are off, at worst, in pixels.
    """
    if not camera.fisheye and not np.any(camera.distortion[5:]):
        return replace(camera, distortion=np.resize(np.concatenate([camera.distortion, np.zeros(5)]), 5)), 0.0
    width, height = camera.size
    pixels = np.stack(np.meshgrid(np.linspace(0, width - 1, 24), np.linspace(0, height - 1, 24)), -1).reshape(-1, 2)
    straight = normalise(camera, pixels)
    straight = straight[np.isfinite(straight).all(-1) & (np.linalg.norm(straight, axis=-1) < _WIDEST)]
    bent = distort(camera, straight)
    x, y = straight.T
    r2 = x * x + y * y
    columns_x = [x * r2, x * r2**2, 2 * x * y, r2 + 2 * x * x, x * r2**3]
    columns_y = [y * r2, y * r2**2, r2 + 2 * y * y, 2 * x * y, y * r2**3]
    design = np.concatenate([np.stack(columns_x, -1), np.stack(columns_y, -1)])
    wanted = (bent - straight).T.ravel()
    brown = replace(camera, distortion=np.linalg.lstsq(design, wanted, rcond=None)[0], fisheye=False)
    off = (distort(brown, straight) - bent) @ camera.matrix[:2, :2].T
    return brown, float(np.linalg.norm(off, axis=-1).max(initial=0.0))


def turned(camera: Camera, quarter_turns: int) -> Camera:
    """The same camera whose pictures are turned counter-clockwise, as `numpy.rot90` does; at most 5 coefficients."""
    for _ in range(quarter_turns % 4):
        (fx, _, cx), (_, fy, cy) = camera.matrix[:2]
        k1, k2, p1, p2, k3 = np.resize(np.concatenate([camera.distortion, np.zeros(5)]), 5)
        turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        camera = replace(
            camera, size=camera.size[::-1],
            matrix=np.array([[fy, 0.0, cy], [0.0, fx, camera.size[0] - 1 - cx], [0.0, 0.0, 1.0]]),
            distortion=camera.distortion if camera.fisheye else np.array([k1, k2, -p2, p1, k3]),
            rotation=turn @ camera.rotation, translation=turn @ camera.translation,
        )  # fmt: skip
    return camera


def undistort(camera: Camera, pixels: Array) -> Array:
    """(..., 2) pixels that a camera without distortion and with the same matrix would see."""
    return normalise(camera, pixels) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]


def _fisheye_bend(camera: Camera, r2: Array) -> Array:
    """theta_d / r of Kannala and Brandt: theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)."""
    r = np.sqrt(r2)
    theta = np.arctan(r)
    return np.where(r > 1e-8, _bent_angle(camera, theta)[0] / np.maximum(r, 1e-8), 1.0)


def _bent_angle(camera: Camera, theta: Array) -> tuple[Array, Array]:
    """Give theta_d and its derivative."""
    k1, k2, k3, k4 = np.resize(np.concatenate([camera.distortion, np.zeros(4)]), 4)
    t2 = theta * theta
    bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return bent, 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))


def _fisheye_straight(camera: Camera, bent: Array) -> Array:
    """Invert the fisheye by Newton's method on the angle; NaN from 90 degrees on, where x / z ends."""
    wanted = np.linalg.norm(bent, axis=-1)
    theta = np.minimum(wanted, _RIGHT_ANGLE)
    for _ in range(10):
        value, slope = _bent_angle(camera, theta)
        theta = np.clip(theta - (value - wanted) / np.where(slope > 0.05, slope, 0.05), 0.0, _RIGHT_ANGLE)
    sound = np.abs(_bent_angle(camera, theta)[0] - wanted) < 1e-6
    scale = np.where(wanted > 1e-8, np.tan(theta) / np.maximum(wanted, 1e-8), 1.0)
    return np.where(sound[..., None], bent * scale[..., None], np.nan)


def _by_newton(camera: Camera, target: Array, iterations: int) -> Array:
    """Invert `distort` with a Jacobian by differences: wide lenses bend too much for a fixed point."""
    points, step = target, 1e-6
    for _ in range(iterations):
        here = distort(camera, points)
        along_x = (distort(camera, points + [step, 0.0]) - here) / step
        along_y = (distort(camera, points + [0.0, step]) - here) / step
        miss = target - here
        determinant = along_x[..., 0] * along_y[..., 1] - along_y[..., 0] * along_x[..., 1]
        determinant = np.where(np.abs(determinant) > 1e-3, determinant, 1e-3)
        x = (miss[..., 0] * along_y[..., 1] - miss[..., 1] * along_y[..., 0]) / determinant
        y = (miss[..., 1] * along_x[..., 0] - miss[..., 0] * along_x[..., 1]) / determinant
        points = points + np.clip(np.stack([x, y], -1), -0.5, 0.5)
    return points


def level_rotation(direction: Array) -> Array:
    """(3, 3) world to camera of a camera held level that looks along `direction` (3,), in a world whose z is up."""
    forward = direction / np.linalg.norm(direction)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


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


@dataclass(frozen=True)
class BlenderLens:
    """What Blender keeps with a perspective camera; `aspect` is that of the render: height of a pixel by its width."""

    lens_mm: float
    sensor_mm: tuple[float, float]  # width, height
    sensor_fit: str  # "AUTO", "HORIZONTAL" or "VERTICAL"
    shift: tuple[float, float]
    size: tuple[int, int]
    aspect: float = 1.0

    @property
    def matrix(self) -> Array:
        """(3, 3) pixels, as `Camera.matrix`.

        The sensor spans the image's width, or with a vertical fit its height; AUTO spans the longer of the two with
        the sensor's *width*. Lens shift counts in what the sensor spans, in pixels' widths.
        """
        width, height = self.size
        fit = self.sensor_fit
        if fit == "AUTO":
            fit = "HORIZONTAL" if width >= height * self.aspect else "VERTICAL"
            sensor = self.sensor_mm[0]
        else:
            sensor = self.sensor_mm[0 if fit == "HORIZONTAL" else 1]
        spanned = width if fit == "HORIZONTAL" else height * self.aspect
        focal = self.lens_mm / sensor * spanned
        out = np.eye(3)
        out[0, 0], out[1, 1] = focal, focal / self.aspect
        out[0, 2] = (width - 1) / 2 - self.shift[0] * spanned
        out[1, 2] = (height - 1) / 2 + self.shift[1] * spanned / self.aspect
        return out


def from_blender(name: str, lens: BlenderLens, matrix_world: Array, distortion: Array | None = None) -> Camera:
    """Express a camera of Blender's in ours; the way back of `to_blender`.

    Args:
        matrix_world: (4, 4) whose translation is in metres. Its scale is left out, as Blender does.
    """
    world = np.array(matrix_world, float)
    world[:3, :3] /= np.linalg.norm(world[:3, :3], axis=0)
    left, _, right = np.linalg.svd((world @ BLENDER_FROM_OPENCV)[:3, :3])  # single precision is not quite orthogonal
    rotation: Array = (left @ right).T
    bent = np.zeros(5) if distortion is None else np.asarray(distortion, float)
    return Camera(name, lens.size, lens.matrix, bent, rotation, -(rotation @ world[:3, 3]))
