"""Calibrations in the TOML of Pose2Sim, aniposelib, FreeMoCap and Caliscope -> `CameraSet`, metres.

All four write one table a camera with `matrix`, `distortions`, `rotation` (a Rodrigues vector) and `translation`,
taking world points into the camera. They differ in the unit (FreeMoCap: millimetres) and in what else stands there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...protocol.errors import InputError
from ..artifacts import atomic_write
from ..cameras import Camera, CameraSet
from ..rotations import matrix_from_rotvec, rotvec_from_matrix
from .text import read_toml

Array = np.ndarray
Style = Literal["pose2sim", "anipose"]
MAX_BASELINE_M, MIN_BASELINE_M = 100.0, 0.01
MAX_DISTORTION = 20.0


def read_calibration(path: Path) -> CameraSet:
    """Read a calibration.

    Raises:
        InputError: not a calibration, or one that cannot be: says which camera and which number.
    """
    path = Path(path)
    document = read_toml(path)
    tables = _camera_tables(document)
    if not tables:
        raise InputError(f"{path.name} holds no camera with a matrix, a rotation and a translation.")
    scale = 0.001 if _is_millimetres(document) else 1.0
    cameras = tuple(_read_camera(path, key, table, scale) for key, table in tables.items())
    names = [camera.name for camera in cameras]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path.name} names {names.count(name)} cameras {name!r}.")
    _check_baselines(path, cameras)
    return CameraSet(cameras)


def write_calibration(path: Path, cameras: CameraSet, style: Style = "anipose") -> None:
    """Write what `read_calibration` and the named program read.

    Raises:
        InputError: style "pose2sim" cannot hold a third radial coefficient.
    """
    text = "".join(_camera_text(i, camera, style) for i, camera in enumerate(cameras))
    text += "[metadata]\nadjusted = false\nerror = 0.0\n"
    atomic_write(Path(path), lambda stream: stream.write(text.encode()) and None)


def check_sizes(cameras: CameraSet, sizes: Sequence[tuple[int, int]], names: Sequence[str] | None = None) -> None:
    """Raise InputError where a view's images (W, H) are not those its camera was calibrated with."""
    for index, (camera, size) in enumerate(zip(cameras, sizes, strict=True)):
        if tuple(size) != tuple(camera.size):
            name = names[index] if names else camera.name
            raise InputError(
                f"{name} shows images of {size[0]} x {size[1]} px, and {camera.name} was calibrated at "
                f"{camera.size[0]} x {camera.size[1]} px.",
                "Use the clip that was calibrated, uncropped and at its full size.",
            )


def _camera_tables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    nested = document.get("cameras")
    tables = nested if isinstance(nested, dict) else document
    return {
        key: table
        for key, table in tables.items()
        if isinstance(table, dict) and "matrix" in table and not table.get("ignore", False)
    }


def _is_millimetres(document: dict[str, Any]) -> bool:
    """FreeMoCap's files say so by what else they hold; the keys are aniposelib's."""
    metadata = document.get("metadata")
    board = metadata if isinstance(metadata, dict) else {}
    return any(
        "square_length_mm" in table for table in (board, *(v for v in board.values() if isinstance(v, dict)))
    ) or any(isinstance(table, dict) and "world_position" in table for table in document.values())


def _read_camera(path: Path, key: str, table: dict[str, Any], scale: float) -> Camera:
    name = str(table.get("name", table.get("cam_id", table.get("id", key))))
    where = f"{path.name}, camera {name}"
    if table.get("fisheye"):
        raise InputError(
            f"{where} is a fisheye; only the five-coefficient lens is read.", "Undistort the footage first."
        )
    if int(table.get("rotation_count", 0)) % 4:
        raise InputError(
            f"{where} has rotation_count = {table['rotation_count']}: its frames were turned before calibration.",
            "Turn the footage and calibrate it as it is.",
        )
    size = _numbers(where, table, "size", (2,))
    matrix = _numbers(where, table, "matrix", (3, 3))
    camera = Camera(
        name=name,
        size=(int(size[0]), int(size[1])),
        matrix=matrix,
        distortion=_distortion(where, table),
        rotation=_rotation(where, table),
        translation=_numbers(where, table, "translation", (3,)) * scale,
    )
    _check_lens(where, camera)
    return camera


def _numbers(where: str, table: dict[str, Any], key: str, shape: tuple[int, ...]) -> Array:
    if key not in table:
        raise InputError(f"{where}: {key} is missing.")
    try:
        value = np.array(table[key], dtype=float)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {key} is not made of numbers.") from error
    value = value.reshape(shape) if value.size == math.prod(shape) else value
    if value.shape != shape:
        raise InputError(f"{where}: {key} has shape {value.shape}, expected {shape}.")
    if not np.isfinite(value).all():
        raise InputError(f"{where}: {key} holds values that are not finite.")
    return value


def _distortion(where: str, table: dict[str, Any]) -> Array:
    given = np.ravel(np.array(table.get("distortions", []), dtype=float))
    if given.size not in (0, 4, 5) and np.any(given[5:]):
        raise InputError(f"{where}: {given.size} distortion coefficients; at most 5 are read.")
    out = np.zeros(5)
    out[: min(given.size, 5)] = given[:5]
    if not np.isfinite(out).all() or np.abs(out).max() > MAX_DISTORTION:
        raise InputError(f"{where}: distortions {out.tolist()} are not those of a lens.")
    return out


def _rotation(where: str, table: dict[str, Any]) -> Array:
    value = np.array(table.get("rotation", []), dtype=float)
    if value.size == 3:
        return matrix_from_rotvec(_numbers(where, table, "rotation", (3,)))
    matrix = _numbers(where, table, "rotation", (3, 3))
    if np.linalg.det(matrix) < 0:
        raise InputError(f"{where}: its rotation is a mirror image (determinant {np.linalg.det(matrix):.3f}).")
    error = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
    if error > 1e-3:
        raise InputError(f"{where}: its rotation is not one; R R^T is off by {error:.3g}.")
    return matrix


def _check_lens(where: str, camera: Camera) -> None:
    (width, height), matrix = camera.size, camera.matrix
    if min(width, height) < 1 or max(width, height) > 65536:
        raise InputError(f"{where}: its size is {width} x {height} px.")
    if min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise InputError(f"{where}: its focal lengths are {matrix[0, 0]:g} and {matrix[1, 1]:g} px.")
    if not (0 <= matrix[0, 2] <= width and 0 <= matrix[1, 2] <= height):
        raise InputError(
            f"{where}: its principal point ({matrix[0, 2]:g}, {matrix[1, 2]:g}) lies outside the image of "
            f"{width} x {height} px."
        )


def _check_baselines(path: Path, cameras: Sequence[Camera]) -> None:
    if len(cameras) < 2:
        return
    centres = np.stack([camera.centre for camera in cameras])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(len(cameras), 1)]
    if apart.max() > MAX_BASELINE_M:
        raise InputError(
            f"{path.name}: two cameras stand {apart.max():,.0f} m apart; its unit cannot be metres.",
            "Divide the translations by 1000 (millimetres) or 100 (centimetres).",
        )
    if apart.max() < MIN_BASELINE_M:
        raise InputError(
            f"{path.name}: all cameras stand within {1000 * apart.max():.1f} mm; its unit cannot be metres, "
            "or they share one place."
        )


def _camera_text(index: int, camera: Camera, style: Style) -> str:
    distortion = np.asarray(camera.distortion, float)
    if style == "pose2sim" and distortion[4]:
        raise InputError(f"{camera.name} has k3 = {distortion[4]:g}, which Pose2Sim's file cannot hold.")
    lines = [f"[cam_{index}]" if style == "anipose" else f"[{_key(camera.name)}]"]
    lines.append(f"name = {_quoted(camera.name)}")
    lines.append(
        f"size = [ {camera.size[0]}, {camera.size[1]},]" if style == "anipose" else f"size = {_list(camera.size)}"
    )
    lines.append(f"matrix = {_list(camera.matrix)}")
    lines.append(f"distortions = {_list(distortion[:4] if style == 'pose2sim' else distortion)}")
    lines.append(f"rotation = {_list(rotvec_from_matrix(camera.rotation))}")
    lines.append(f"translation = {_list(camera.translation)}")
    lines.append("fisheye = false")
    return "\n".join(lines) + "\n\n"


def _list(values: Any) -> str:
    array = np.asarray(values, float)
    if array.ndim == 1:
        return "[" + ", ".join(repr(float(v)) for v in array) + "]"
    return "[" + ", ".join(_list(row) for row in array) + "]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _quoted(name)
