"""A TRC file says in OpenSim's words where each joint is, Y up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.core.artifacts import Keypoints3D
from inference.core.formats.trc import write_trc
from inference.core.skeletons import OPENPOSE_137
from inference.protocol.errors import InputError


def _keypoints(frame: str = "world") -> Keypoints3D:
    positions = np.full((4, 137, 3), np.nan)
    positions[:, :25] = np.random.default_rng(0).normal(size=(4, 25, 3))
    positions[2, 3] = np.nan
    header = {"unit": "m", "frame": frame, "fps": 60.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137)}
    seen = np.isfinite(positions).all(-1)
    return Keypoints3D(header, positions, seen * 1.0, seen, np.arange(4) / 60)


def _read(path: Path) -> tuple[list[list[str]], np.ndarray]:
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    rows = np.array([[float(cell or "nan") for cell in line] for line in lines[5:]])
    return lines[:5], rows


def test_a_trc_file_holds_the_joints_that_are_seen(tmp_path: Path) -> None:
    keypoints = _keypoints()
    write_trc(tmp_path / "a b.trc", keypoints)
    head, rows = _read(tmp_path / "a b.trc")
    table = dict(zip(head[1], head[2], strict=True))
    assert head[0] == ["PathFileType", "4", "(X/Y/Z)", "a b.trc"]
    assert table["Units"] == "m" and table["NumFrames"] == "4" and table["NumMarkers"] == "25"
    assert head[3][2::3] == list(OPENPOSE_137[:25]) and head[4][2:5] == ["X1", "Y1", "Z1"]
    points = rows[:, 2:].reshape(4, 25, 3)
    x, y, z = np.moveaxis(keypoints.positions[:, :25], -1, 0)
    assert np.allclose(points, np.stack([y, z, x], -1), atol=1e-6, equal_nan=True)  # Z, which is up, becomes Y
    assert np.allclose(rows[:, 1], np.arange(4) / 60, atol=1e-6) and rows[:, 0].tolist() == [1, 2, 3, 4]


def test_a_cameras_frame_needs_to_be_told_where_up_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not say where up is"):
        write_trc(tmp_path / "a.trc", _keypoints("camera"))
    upright = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])  # a camera 1.5 m above the floor
    write_trc(tmp_path / "a.trc", _keypoints("camera"), z_up_from_frame=upright)
    heights = _read(tmp_path / "a.trc")[1][:, 3::3]
    assert np.allclose(heights, 1.5 - _keypoints().positions[:, :25, 1], atol=1e-6, equal_nan=True)
