"""What every calibration must satisfy, whatever file it stood in: numbers, lenses, rotations, names and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ..cameras import Camera, CameraSet, distort
from ..rotations import matrix_from_rotvec

Array = np.ndarray
MAX_BASELINE_M, MIN_BASELINE_M = 100.0, 0.01
MAX_CAMERAS = 1000
Z_UP_FROM_Y_DOWN = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254}
_LIKELY_BASELINE_M = (0.5, 30.0)
_FOCAL = (0.05, 200.0)  # in sizes of the image
_BENT = (0.2, 5.0)  # how much nearer or farther a lens may move what is two thirds of the way to the corner
_ROUNDED = 1e-2  # a rotation written with few digits is still one
_NOT_METRES = "Write the translations in metres."


@dataclass(frozen=True)
class Given:
    """One camera as a file gives it: world to camera, nothing checked.

    where: file and camera, as errors name them; size: width and height, pixels, None where the file has none: twice
    the principal point is taken; rotation: a matrix or a Rodrigues vector; metres: metres for one of the file's unit.
    """

    where: str
    name: str
    size: Any
    matrix: Any
    rotation: Any
    translation: Any
    distortion: Any = ()
    fisheye: bool = False
    metres: float = 1.0

    def camera(self) -> Camera:
        """Make a camera of it; whether there can be such a one, `check_plausible` tells.

        Raises:
            InputError: a number is missing or is none; says which.
        """
        matrix = numbers(self.where, "matrix", self.matrix, (3, 3))
        width, height = 2 * matrix[:2, 2] if self.size is None else numbers(self.where, "size", self.size, (2,))
        camera = Camera(
            name=self.name,
            size=(round(float(width)), round(float(height))),
            matrix=matrix,
            distortion=_distortion(self.where, self.distortion, fisheye=self.fisheye),
            rotation=_rotation(self.where, self.rotation),
            translation=numbers(self.where, "translation", self.translation, (3,)) * self.metres,
            fisheye=self.fisheye,
        )
        width, height = camera.size
        if min(width, height) < 1 or max(width, height) > 65536:
            raise InputError(f"{self.where}: its size is {width} x {height} px.")
        if not np.allclose(matrix[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1], atol=1e-6):
            raise InputError(
                f"{self.where}: its matrix is not [[fx, s, cx], [0, fy, cy], [0, 0, 1]] but {matrix.tolist()}."
            )
        return camera


def rig(path: Path, cameras: Sequence[Camera], notes: Sequence[str] = ()) -> CameraSet:
    """Put cameras together: at least one, each with its own name.

    Raises:
        InputError: they cannot be one rig.
    """
    if not cameras or len(cameras) > MAX_CAMERAS:
        raise InputError(f"{path.name} holds {len(cameras)} cameras; 1 to {MAX_CAMERAS} are read.")
    names = [camera.name for camera in cameras]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"{path.name} names {names.count(twice)} cameras {twice[:60]!r}.", "Give each camera its own name."
        )
    return CameraSet(tuple(cameras), tuple(notes))


def check_plausible(path: Path, cameras: CameraSet) -> None:
    """Refuse lenses that nobody could build, poses that are none, and distances that no room has.

    Raises:
        InputError: says which camera and which number.
    """
    for camera in cameras:
        where = f"{path.name}, camera {camera.name[:60]}"
        _check_rotation(where, camera.rotation)
        _check_lens(where, camera)
    _check_baselines(path, cameras.cameras)


def numbers(where: str, key: str, given: Any, *shapes: tuple[int, ...]) -> Array:
    """Finite numbers of the first shape that has as many.

    Raises:
        InputError: none of these, missing included.
    """
    if given is None:
        raise InputError(f"{where}: {key} is missing.")
    try:
        value = np.array(given)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: {key} is made of lists of different lengths.") from error
    if value.size and value.dtype.kind not in "iuf":
        raise InputError(f"{where}: {key} is not made of numbers.")
    value = value.astype(float)
    shape = next((shape for shape in shapes if value.size == math.prod(shape)), None)
    if shape is None:
        expected = " or ".join(map(str, shapes))
        raise InputError(f"{where}: {key} has shape {value.shape}, expected {expected}.")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0.0) > 1e9:
        raise InputError(
            f"{where}: {key} holds {value.ravel().tolist()}, and not all of that is a finite number of use."
        )
    return value.reshape(shape)


def metres_of(path: Path, centres: Array) -> tuple[float, str]:
    """Decide the unit of a file that names none by how far its cameras stand apart.

    Args:
        centres: (N, 3) in the file's unit.
    Returns:
        Metres for one of the unit, and the sentence that says so.
    """
    if len(centres) < 2:
        return 1.0, f"{path.name} does not say its unit; it is taken for metres."
    apart = float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max())
    if apart <= _LIKELY_BASELINE_M[1]:
        return 1.0, f"{path.name} does not say its unit: its cameras stand {apart:.3g} apart, taken for metres."
    text = f"{path.name} does not say its unit: its cameras stand {apart:,.4g} apart, taken for millimetres"
    return 1e-3, f"{text} ({apart / 1000:.3g} m; in centimetres it would be {apart / 100:.3g} m)."


def moved_world(camera: Camera, turn: Array) -> Camera:
    """Describe a camera in a world whose axes are turned: new point = turn @ old point."""
    return replace(camera, rotation=camera.rotation @ np.asarray(turn).T)


def rescaled(camera: Camera, metres: float) -> Camera:
    """Describe a camera in a world of another unit."""
    return replace(camera, translation=camera.translation * metres)


def five(camera: Camera, style: str) -> Array:
    """Give k1 k2 p1 p2 k3, for a format that can hold no more.

    Raises:
        InputError: the camera's lens needs another model.
    """
    if camera.fisheye or np.any(camera.distortion[5:]):
        kind = "a fisheye" if camera.fisheye else f"a lens of {len(camera.distortion)} coefficients"
        raise InputError(
            f"{camera.name} has {kind}, which {style} cannot hold.", "Write aniposelib's style, or ROS camera_info."
        )
    return np.resize(np.concatenate([np.asarray(camera.distortion, float), np.zeros(5)]), 5)


def _distortion(where: str, given: Any, *, fisheye: bool) -> Array:
    """As `Camera` holds it, in the shortest model that says the same; of a Brown lens always five."""
    if given is None:
        given = ()
    if fisheye:
        four = numbers(where, "distortions", given, (0,), (4,), (5,))
        if np.any(four[4:]):
            raise InputError(f"{where} is a fisheye with {four.size} distortion coefficients; it has 4.")
        return np.concatenate([four[:4], np.zeros(4)])[:4]
    value = numbers(where, "distortions", given, (0,), (2,), (4,), (5,), (8,), (12,), (14,))
    if np.any(value[12:]):
        raise InputError(f"{where} has {value.size} distortion coefficients of a tilted sensor; at most 12 are read.")
    for length in (5, 8):
        if not np.any(value[length:]):
            return np.concatenate([value[:length], np.zeros(length)])[:length]
    return value[:12]


def _rotation(where: str, given: Any) -> Array:
    """(3, 3) of a Rodrigues vector or a matrix; written with few digits, the nearest rotation."""
    value = numbers(where, "rotation", given, (3,), (3, 3))
    if value.ndim == 1:
        return matrix_from_rotvec(value)
    error = float(np.abs(value @ value.T - np.eye(3)).max())
    if error < 1e-12 or error > _ROUNDED:
        return value
    u, _, vt = np.linalg.svd(value)
    return u @ vt


def _check_rotation(where: str, value: Array) -> None:
    determinant = float(np.linalg.det(value))
    if determinant < 0:
        raise InputError(
            f"{where} is mirrored: its rotation has determinant {determinant:.3g}, not 1.",
            "Export the calibration again in OpenCV's convention.",
        )
    error = float(np.abs(value @ value.T - np.eye(3)).max())
    if error > _ROUNDED:
        raise InputError(f"{where}: its rotation is none: R R^T differs from the identity by {error:.3g}.")


def _check_lens(where: str, camera: Camera) -> None:
    (width, height), matrix = camera.size, camera.matrix
    fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    largest = max(width, height)
    if min(fx, fy) <= _FOCAL[0] * largest or max(fx, fy) > _FOCAL[1] * largest:
        raise InputError(
            f"{where}: its focal lengths are {fx:g} and {fy:g} px for images of {width} x {height} px.",
            "They must be positive, in pixels, and of the same image size.",
        )
    if not (0 <= cx <= width and 0 <= cy <= height):
        raise InputError(
            f"{where}: its principal point ({cx:g}, {cy:g}) lies outside the image of {width} x {height} px.",
            "Check that width and height are not exchanged.",
        )
    corner = np.array([max(cx, width - cx) / fx, max(cy, height - cy) / fy]) * 2 / 3
    tangential = np.zeros(2) if camera.fisheye else camera.distortion[2:4]
    radial = camera.distortion.copy()
    if not camera.fisheye:
        radial[2:4] = 0.0
        radial[8:] = 0.0
    with np.errstate(all="ignore"):
        bent = float(corner @ distort(replace(camera, distortion=radial), corner) / (corner @ corner))
    if not _BENT[0] <= bent <= _BENT[1] or np.abs(tangential).max() > 1:
        raise InputError(
            f"{where}: its distortions {camera.distortion.tolist()} are not those of a lens: they move what is two "
            f"thirds of the way to the corner to {bent:.3g} times its distance."
        )


def _check_baselines(path: Path, cameras: Sequence[Camera]) -> None:
    """Refuse distances between cameras that no room has; units that nearly fit show later, in the person's height."""
    if len(cameras) < 2:
        return
    centres = np.stack([camera.centre for camera in cameras])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    farthest = apart.max()
    if MIN_BASELINE_M <= farthest <= MAX_BASELINE_M:
        return
    least, most = _LIKELY_BASELINE_M
    likely = [name for name, metres in _UNITS.items() if least <= farthest * metres <= most]
    if farthest > MAX_BASELINE_M:
        raise InputError(
            f"{path.name}: two cameras stand {farthest:,.0f} m apart; its unit cannot be metres.",
            f"Is it in {likely[0]}? {_NOT_METRES}" if likely else _NOT_METRES,
        )
    raise InputError(
        f"{path.name}: all {len(cameras)} cameras stand within {1000 * farthest:.1f} mm; its unit cannot be metres.",
        _NOT_METRES,
    )
