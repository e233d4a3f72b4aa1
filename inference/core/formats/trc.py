"""TRC, the marker file of OpenSim and Pose2Sim: keypoints in space written to it, markers read from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..artifacts import Keypoints3D, first_line
from .marker_sets import Markers

Array = np.ndarray
# World axes with Z up, as calibrations have them, seen with Y up as Pose2Sim writes them: (X, Y, Z) -> (Y, Z, X).
Y_UP_FROM_Z_UP = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


MAX_BYTES = 512 << 20
MAX_MARKERS = 10_000
MAX_CELLS = 200_000_000
_HEAD_LINES = 5


def read_trc(path: Path) -> Markers:
    """Read markers as any program writes them; empty cells, and NaN, are gaps.

    Raises:
        InputError: missing, too large, or not a table of markers.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are read.")
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(lines) < _HEAD_LINES or not lines[0].lstrip().startswith("PathFileType"):
        raise InputError(f"{path.name} is neither a C3D nor a TRC file: the one begins with a block of its own, the "
                         "other with PathFileType.")  # fmt: skip
    said = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    labels = tuple(name.strip() for name in _cells(lines[3])[2:] if name.strip())
    if not 0 < len(labels) <= MAX_MARKERS:
        raise InputError(f"{path.name} names {len(labels)} markers; 1 to {MAX_MARKERS:,} are read.")
    table = _table(path, lines[_HEAD_LINES:], 2 + 3 * len(labels))
    times = table[:, 1]
    rate = _float(said.get("DataRate", ""))
    if not rate > 0 and len(times) > 1 and np.ptp(times) > 0:
        rate = (len(times) - 1) / float(np.ptp(times))
    positions = table[:, 2:].reshape(len(table), len(labels), 3)
    lost = ~np.isfinite(positions).all(axis=-1) | (positions == 0).all(axis=-1) | (np.abs(positions) > 1e9).any(axis=-1)
    positions = np.where(lost[..., None], np.nan, positions)
    return Markers(path.name, labels, positions, rate if np.isfinite(rate) else 0.0, said.get("Units", ""), "+Y")


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


def _table(path: Path, lines: list[str], width: int) -> Array:
    if len(lines) * width > MAX_CELLS:
        raise InputError(f"{path.name} has {len(lines):,} lines for {width:,} columns; that is more than is read.")
    rows = []
    for number, line in enumerate(lines, _HEAD_LINES + 1):
        if not line.strip() or not line.lstrip()[0].isdigit():  # the line under the header, or the names of axes
            continue
        cells = _cells(line)[:width]
        try:
            rows.append([float(cell) if cell.strip() else np.nan for cell in cells] + [np.nan] * (width - len(cells)))
        except ValueError as error:
            raise InputError(f"{path.name}, line {number}: {first_line(error)}.") from error
    if not rows:
        raise InputError(f"{path.name} holds no frames.")
    return np.array(rows)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


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
    rotation = Y_UP_FROM_Z_UP @ upright[:3, :3]
    points = np.asarray(keypoints.positions, float) @ rotation.T + Y_UP_FROM_Z_UP @ upright[:3, 3]
    shown = np.flatnonzero(np.isfinite(points).all(axis=-1).any(axis=0))
    if not len(shown):
        raise InputError("No joint is seen in any frame.")
    names = [keypoints.header["joints"][joint] for joint in shown]
    text = _head(path, keypoints.fps, len(points), names) + _rows(points[:, shown], keypoints.times)
    atomic_write_text(path, text)


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
