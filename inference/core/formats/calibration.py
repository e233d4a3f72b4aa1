"""Calibrations in the TOML of Pose2Sim, aniposelib, FreeMoCap and Caliscope -> `CameraSet`, metres.

All four write one table a camera with `matrix`, `distortions`, `rotation` (a Rodrigues vector) and `translation`,
taking world points into the camera. They differ in the unit (FreeMoCap: millimetres) and in what else stands there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_bytes
from ..cameras import Camera, CameraSet
from ..rotations import matrix_from_rotvec, rotvec_from_matrix
from .text import read_toml

Array = np.ndarray
Style = Literal["pose2sim", "anipose"]
MAX_BASELINE_M, MIN_BASELINE_M = 100.0, 0.01
_UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254}
_LIKELY_BASELINE_M = (0.5, 30.0)
_FOCAL = (0.05, 200.0)  # in sizes of the image
_BENT = (0.2, 5.0)  # how much nearer or farther a lens may move what is two thirds of the way to the corner
_ROUNDED = 1e-2  # a rotation written with few digits is still one
_NOT_METRES = "Write the translations in metres."


def read_calibration(path: Path) -> CameraSet:
    """Read a calibration; cameras keep the order of the file, and Caliscope's ignored ones are left out.

    Raises:
        InputError: not a calibration, or one that cannot be: says which camera and which number.
    """
    path = Path(path)
    document = read_toml(path)
    tables = dict(_camera_tables(document))
    used = {key: table for key, table in tables.items() if table.get("ignore") is not True}
    if not used:
        ignored = f"; {len(tables)} are ignored" if tables else ""
        raise InputError(f"{path.name} holds no camera with a matrix, a rotation and a translation{ignored}.")
    metres = _metres(document, path)
    cameras = tuple(_camera(f"{path.name}, camera {key}", key, table, metres) for key, table in used.items())
    names = [camera.name for camera in cameras]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path.name} names {names.count(twice)} cameras {twice!r}.", "Give each camera its own name.")
    _check_baselines(path, cameras)
    return CameraSet(cameras)


def write_calibration(path: Path, cameras: CameraSet, style: Style = "anipose") -> None:
    """Write what `read_calibration` and the named program read.

    Raises:
        InputError: style "pose2sim" cannot hold a third radial coefficient.
        ResourceError: the disk is full.
    """
    text = "".join(_text(index, camera, style) for index, camera in enumerate(cameras))
    text += "[metadata]\nadjusted = false\nerror = 0.0\n"
    atomic_write_bytes(Path(path), text.encode(errors="replace"))


def _camera_tables(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    nested = document.get("cameras")
    for key, table in (nested if isinstance(nested, dict) else document).items():
        if isinstance(table, dict) and "matrix" in table:
            yield (f"cam_{key}" if key.isdecimal() else key), table  # Caliscope numbers its cameras


def _metres(document: dict[str, Any], path: Path) -> float:
    """Metres for one of the file's unit. FreeMoCap's keys are aniposelib's, but what else it writes gives it away."""
    metadata = document.get("metadata")
    board = metadata if isinstance(metadata, dict) else {}
    boards = [board, *(table for table in board.values() if isinstance(table, dict))]
    square = next((table["charuco_square_size"] for table in boards if "charuco_square_size" in table), None)
    if isinstance(square, (int, float)) and square <= 1:
        raise InputError(
            f"{path.name} is of a board whose squares measure {square:g} mm: its unit is a square of that board.",
            "Calibrate again with the measured size of a square.",
        )
    freemocap = square is not None or any("square_length_mm" in table for table in boards)
    return 0.001 if freemocap or any("world_position" in table for _, table in _camera_tables(document)) else 1.0


def _camera(where: str, key: str, table: dict[str, Any], metres: float) -> Camera:
    if table.get("fisheye") not in (None, False):
        raise InputError(
            f"{where} is a fisheye; only lenses with five coefficients are read.", "Undistort the footage first."
        )
    turns = table.get("rotation_count", 0)
    if not isinstance(turns, int) or turns % 4:
        raise InputError(
            f"{where} has rotation_count = {turns!r}: its frames were turned before they were calibrated.",
            "If the clips are turned in the same way and have the calibrated size, set rotation_count = 0.",
        )
    width, height = _numbers(where, table, "size", (2,))
    camera = Camera(
        name=str(table.get("name", key)),
        size=(round(width), round(height)),
        matrix=_numbers(where, table, "matrix", (3, 3)),
        distortion=_distortion(where, table),
        rotation=_rotation(where, table),
        translation=_numbers(where, table, "translation", (3,)) * metres,
    )
    _check_lens(where, camera)
    return camera


def _numbers(where: str, table: dict[str, Any], key: str, *shapes: tuple[int, ...]) -> Array:
    """Finite numbers of the first shape that has as many."""
    if key not in table:
        raise InputError(f"{where}: {key} is missing.")
    try:
        value = np.array(table[key])
    except ValueError as error:
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


def _distortion(where: str, table: dict[str, Any]) -> Array:
    """(5,) k1 k2 p1 p2 k3 of four or five coefficients; longer models only where the rest is zero."""
    if "distortions" not in table:
        return np.zeros(5)
    given = _numbers(where, table, "distortions", (0,), (4,), (5,), (8,), (12,), (14,))
    if np.any(given[5:]):
        raise InputError(f"{where} has {given.size} distortion coefficients; only 4 or 5 are read.")
    return np.concatenate([given[:5], np.zeros(5)])[:5]


def _rotation(where: str, table: dict[str, Any]) -> Array:
    """(3, 3) of a Rodrigues vector or, in older files of Caliscope, of a matrix."""
    value = _numbers(where, table, "rotation", (3,), (3, 3))
    if value.ndim == 1:
        return matrix_from_rotvec(value)
    determinant = float(np.linalg.det(value))
    if determinant < 0:
        raise InputError(
            f"{where} is mirrored: its rotation has determinant {determinant:.3g}, not 1.",
            "Export the calibration again in OpenCV's convention.",
        )
    error = float(np.abs(value @ value.T - np.eye(3)).max())
    if error > _ROUNDED:
        raise InputError(f"{where}: its rotation is none: R R^T differs from the identity by {error:.3g}.")
    u, _, vt = np.linalg.svd(value)
    return u @ vt


def _check_lens(where: str, camera: Camera) -> None:
    (width, height), matrix = camera.size, camera.matrix
    if min(width, height) < 1 or max(width, height) > 65536:
        raise InputError(f"{where}: its size is {width} x {height} px.")
    if not np.allclose(matrix[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1], atol=1e-6):
        raise InputError(f"{where}: its matrix is not [[fx, s, cx], [0, fy, cy], [0, 0, 1]] but {matrix.tolist()}.")
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
    corner = np.array([max(cx, width - cx) / fx, max(cy, height - cy) / fy])
    r2 = float(np.sum((corner * 2 / 3) ** 2))
    k1, k2, _, _, k3 = camera.distortion
    bent = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if not _BENT[0] <= bent <= _BENT[1] or np.abs(camera.distortion[2:4]).max() > 1:
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


def _text(index: int, camera: Camera, style: Style) -> str:
    distortion = np.asarray(camera.distortion, float)
    if style == "pose2sim" and np.any(distortion[4:]):
        raise InputError(
            f"{camera.name} has k3 = {distortion[4]:g}, which Pose2Sim's file cannot hold.", "Write aniposelib's style."
        )
    fields = {
        "name": _quoted(camera.name),
        "size": _list(camera.size),
        "matrix": _list(camera.matrix),
        "distortions": _list(distortion[:4] if style == "pose2sim" else distortion),
        "rotation": _list(rotvec_from_matrix(camera.rotation)),
        "translation": _list(camera.translation),
        "fisheye": "false",
    }
    plain = re.fullmatch("[A-Za-z0-9_-]+", camera.name)
    table = f"cam_{index}" if style == "anipose" else camera.name if plain else _quoted(camera.name)
    return f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()) + "\n"


def _list(values: Any) -> str:
    items = values.tolist() if isinstance(values, np.ndarray) else values
    return "[" + ", ".join(_list(item) if isinstance(item, list) else repr(item) for item in items) + "]"


def _quoted(text: str) -> str:
    """Write TOML's basic string."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
