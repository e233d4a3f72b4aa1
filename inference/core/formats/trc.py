"""Keypoints in space -> TRC, the marker file of OpenSim and Pose2Sim: text, metres, Y up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_bytes
from ..artifacts import Keypoints3D

Array = np.ndarray
# World axes with Z up, as calibrations have them, seen with Y up as Pose2Sim writes them: (X, Y, Z) -> (Y, Z, X).
_Y_UP_FROM_Z_UP = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def write_trc(path: Path, keypoints: Keypoints3D, *, z_up_from_frame: Array | None = None) -> None:
    """Write every joint that is seen at least once; frames in which a joint is not seen have empty cells.

    Args:
        z_up_from_frame: (4, 4) takes the artifact's frame to Z up, such as a body motion's `floor_from_frame`;
            needed where the frame is a camera's.
    Raises:
        InputError: the frame is a camera's, or no joint is seen.
        ResourceError: the disk is full.
    """
    if z_up_from_frame is None and keypoints.header["frame"] != "world":
        raise InputError(
            f"The keypoints are in the frame {keypoints.header['frame']!r}, which does not say where up is.",
            "Fit the motion first: its floor says where up is.",
        )
    upright = np.eye(4) if z_up_from_frame is None else np.asarray(z_up_from_frame, float)
    rotation = _Y_UP_FROM_Z_UP @ upright[:3, :3]
    points = np.asarray(keypoints.positions, float) @ rotation.T + _Y_UP_FROM_Z_UP @ upright[:3, 3]
    shown = np.flatnonzero(np.isfinite(points).all(axis=-1).any(axis=0))
    if not len(shown):
        raise InputError("No joint is seen in any frame.")
    names = [keypoints.header["joints"][joint] for joint in shown]
    text = _head(path, keypoints.fps, len(points), names) + _rows(points[:, shown], keypoints.times)
    atomic_write_bytes(path, text.encode())


def _head(path: Path, fps: float, frames: int, names: list[str]) -> str:
    table = {
        "DataRate": f"{fps:g}", "CameraRate": f"{fps:g}", "NumFrames": frames, "NumMarkers": len(names), "Units": "m",
        "OrigDataRate": f"{fps:g}", "OrigDataStartFrame": 1, "OrigNumFrames": frames,
    }  # fmt: skip
    axes = [f"{axis}{marker}" for marker in range(1, len(names) + 1) for axis in "XYZ"]
    lines = [
        ["PathFileType", "4", "(X/Y/Z)", path.name],
        list(table),
        [str(value) for value in table.values()],
        ["Frame#", "Time", *(cell for name in names for cell in (name, "", ""))],
        ["", "", *axes],
    ]
    return "".join("\t".join(line) + "\n" for line in lines)


def _rows(points: Array, times: Array) -> str:
    lines = []
    for number, (row, time) in enumerate(zip(points.reshape(len(points), -1), times, strict=True), 1):
        cells = ["" if np.isnan(value) else f"{value:.6f}" for value in row]
        lines.append("\t".join([str(number), f"{time:.6f}", *cells]) + "\n")
    return "".join(lines)
