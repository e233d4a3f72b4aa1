"""What the report draws of a rig of cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from inference.core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, pinhole
from inference.core.skeletons import OPENPOSE_137
from inference.motion.plots_rig import _cone, expected_error, rig_painters
from inference.motion.report import _finding_table
from inference.motion.summary import Capture

mpl.use("Agg")
FRAMES, JOINTS = 12, len(OPENPOSE_137)


def capture_of(count: int, *, seen: float = 1.0) -> Capture:
    """Cameras round a person who walks a metre; `seen` is the share of frames in which each view was used."""
    shared = {"unit": "m", "frame": "world", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137)}
    cameras: list[Camera] = [
        replace(pinhole(f"cam{i}", (640, 480), 600.0), translation=np.array([0.5 * i, 0.0, 4.0])) for i in range(count)
    ]
    points = np.zeros((FRAMES, JOINTS, 3))
    points[..., 0] = np.linspace(0, 1, FRAMES)[:, None]
    used = np.zeros((count, FRAMES, JOINTS), bool)
    used[:, : round(seen * FRAMES)] = True
    times, ones = np.arange(FRAMES) / 30.0, np.ones((FRAMES, JOINTS))
    header = {**shared, "cameras": [camera.to_header() for camera in cameras]}
    keypoints = Keypoints3D(header, points, ones, ones > 0, times, views_used=used)
    seen_as = {**shared, "image_size": [640, 480]}
    views = [Keypoints2D({**seen_as, "view": camera.name}, points[..., :2], ones, times) for camera in cameras]
    motion = BodyMotion(
        {**shared, "bones": ["hips"], "lengths_m": [0.2]}, np.tile([1.0, 0, 0, 0], (FRAMES, 1, 1)), points[:, 0],
        np.eye(4)[None], np.array([-1]), np.ones((FRAMES, 1)), times, np.zeros((FRAMES, 4)),
    )  # fmt: skip
    return Capture(views, cameras, keypoints, motion)


def painted(capture: Capture, title: str) -> Any:
    """The figure of one plot, drawn."""
    from matplotlib import pyplot as plt

    names = [str(view.header["view"]) for view in capture.views]
    height, paint = next((height, paint) for name, height, paint in rig_painters(capture, names) if title in name)
    figure = plt.figure(figsize=(9.6, height), layout="constrained")
    paint(capture, figure)
    figure.canvas.draw()
    plt.close(figure)
    return figure


def test_one_camera_is_no_rig() -> None:
    assert rig_painters(capture_of(1), ["cam0"]) == []


def test_from_above_every_camera_stands_at_its_centre_under_its_name() -> None:
    capture = capture_of(3)
    axes = painted(capture, "from above").axes[0]
    words = [text.get_text() for text in axes.texts]
    assert [word.split("\n")[0] for word in words] == ["cam0", "cam1", "cam2"]
    drawn = {tuple(np.round(line.get_xydata()[0], 6)) for line in axes.lines if line.get_marker() == "o"}
    assert drawn == {tuple(np.round(camera.centre[:2], 6)) for camera in capture.cameras}


def test_the_cone_of_a_camera_opens_along_its_view_by_its_angle() -> None:
    camera = replace(pinhole("cam", (640, 480), 320.0), translation=np.array([0.0, 0.0, 4.0]))
    tip, left, right = _cone(camera, np.eye(4), 2.0)
    assert np.allclose(tip, camera.centre)
    assert np.allclose((left + right) / 2 - tip, [0, 0, 2]) and np.allclose(right - left, [4, 0, 0])


def test_the_usage_of_a_view_is_its_share_of_all_frames() -> None:
    axes = painted(capture_of(2, seen=0.5), "was used").axes[0]
    assert {text.get_text() for text in axes.texts} == {"50"} and len(axes.texts) == 2 * 25


def test_expected_errors_are_drawn_in_millimetres_where_there_are_any() -> None:
    capture = capture_of(2)
    assert expected_error(capture) is None
    error = np.full((FRAMES, JOINTS), 0.012)
    error[3, 4] = np.nan
    capture.keypoints = replace(capture.keypoints, expected_error_m=error)
    values = painted(capture, "Expected error").axes[0].images[0].get_array()
    assert values.shape == (25, FRAMES) and float(values[0, 0]) == pytest.approx(12.0)
    capture.keypoints = replace(capture.keypoints, expected_error_m=error * np.nan)
    assert expected_error(capture) is None


def test_names_from_strangers_do_not_become_markup() -> None:
    found = {"camera": "<b>cam", "code": "x", "severity": "error", "text": "a < b & c", "change": ""}
    table = _finding_table([found])
    assert "&lt;b&gt;cam" in table and "a &lt; b &amp; c" in table and "<b>" not in table
