"""Calibrations in TOML: Pose2Sim, aniposelib, FreeMoCap and Caliscope.

All four write one table a camera with `matrix`, `distortions`, `rotation` (a Rodrigues vector) and `translation`,
taking world points into the camera. They differ in the unit (FreeMoCap: millimetres; aniposelib: that of its board,
taken for metres) and in what else stands there. Checked against the sources of Pose2Sim and aniposelib; the keys that
only FreeMoCap and Caliscope write (`world_position`, `cam_id` and their like) are as their documents describe them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..cameras import Camera, CameraSet
from ..rotations import rotvec_from_matrix
from .camera_parts import Given, five, rig
from .text import read_toml


def read_toml_rig(path: Path) -> CameraSet:
    """Read any of the four; cameras keep the order of the file, and Caliscope's ignored ones are left out.

    Raises:
        InputError: not a calibration, or one that cannot be.
    """
    document = read_toml(path)
    tables = dict(_camera_tables(document))
    used = {key: table for key, table in tables.items() if table.get("ignore") is not True}
    if not used:
        ignored = f"; {len(tables)} are ignored" if tables else ""
        raise InputError(f"{path.name} holds no camera with a matrix, a rotation and a translation{ignored}.")
    metres = _metres(document, path)
    return rig(path, [_camera(f"{path.name}, camera {key[:60]}", key, table, metres) for key, table in used.items()])


def write_toml_rig(path: Path, cameras: CameraSet, style: str) -> None:
    """Write what the named program reads: pose2sim, anipose, freemocap or caliscope.

    Raises:
        InputError: it cannot hold a lens.
        ResourceError: the disk is full.
    """
    text = "".join(_text(index, camera, style) for index, camera in enumerate(cameras))
    if style != "caliscope":
        text += "[metadata]\nadjusted = false\nerror = 0.0\n"
    atomic_write_text(path, text)


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
    turns = table.get("rotation_count", 0)
    if not isinstance(turns, int) or turns % 4:
        raise InputError(
            f"{where} has rotation_count = {turns!r}: its frames were turned before they were calibrated.",
            "If the clips are turned in the same way and have the calibrated size, set rotation_count = 0.",
        )
    fisheye = table.get("fisheye", False)
    if not isinstance(fisheye, bool):
        raise InputError(f"{where}: fisheye is {fisheye!r}, not true or false.")
    if "size" not in table:
        raise InputError(f"{where}: size is missing.")
    return Given(
        where,
        str(table.get("name", key)),
        table["size"],
        table.get("matrix"),
        table.get("rotation"),
        table.get("translation"),
        distortion=table.get("distortions", ()),
        fisheye=fisheye,
        metres=metres,
    ).camera()


def _text(index: int, camera: Camera, style: str) -> str:
    distortion = np.asarray(camera.distortion, float)
    if style == "pose2sim":
        distortion = five(camera, "Pose2Sim's file")
        if distortion[4]:
            raise InputError(
                f"{camera.name} has k3 = {distortion[4]:g}, which Pose2Sim's file cannot hold.",
                "Write aniposelib's style.",
            )
        distortion = distortion[:4]
    unit = 1000.0 if style == "freemocap" else 1.0
    fields: dict[str, str] = {
        "name": _quoted(camera.name),
        "size": _list(camera.size),
        "matrix": _list(camera.matrix),
        "distortions": _list(distortion),
        "rotation": _list(rotvec_from_matrix(camera.rotation)),
        "translation": _list(camera.translation * unit),
        "fisheye": "true" if camera.fisheye else "false",
    }
    if style == "freemocap":
        fields |= {
            "id": _quoted(camera.name),
            "index": str(index),
            "world_orientation": _list(camera.rotation.T),
            "world_position": _list(camera.centre * unit),
        }
    elif style == "caliscope":
        fields |= {"cam_id": str(index), "rotation_count": "0", "ignore": "false"}
    plain = re.fullmatch("[A-Za-z0-9_-]+", camera.name)
    named = camera.name if plain else _quoted(camera.name)
    table = {"pose2sim": named, "caliscope": f"cameras.{index}"}.get(style, f"cam_{index}")
    return f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()) + "\n"


def _list(values: Any) -> str:
    items = values.tolist() if isinstance(values, np.ndarray) else values
    return "[" + ", ".join(_list(item) if isinstance(item, list) else repr(item) for item in items) + "]"


def _quoted(text: str) -> str:
    """Write TOML's basic string."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
