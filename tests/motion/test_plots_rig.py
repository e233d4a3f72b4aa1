"""What the report draws of a rig of cameras."""

from __future__ import annotations

import base64
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np

from inference.core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, pinhole
from inference.core.skeletons import OPENPOSE_137
from inference.motion.plots_rig import _cone, expected_error, rig_painters
from inference.motion.report import _finding_table
from inference.motion.summary import Capture

SVG = "{http://www.w3.org/2000/svg}"
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


def painted(capture: Capture, title: str) -> ElementTree.Element:
    """One plot, as it stands on the page."""
    names = [str(view.header["view"]) for view in capture.views]
    whole, paint = next((name, paint) for name, paint in rig_painters(capture, names) if title in name)
    return ElementTree.fromstring(paint(capture, whole))


def texts(plot: ElementTree.Element) -> list[str]:
    """All words of a plot."""
    return [str(text.text) for text in plot.iter(f"{SVG}text")]


def test_one_camera_is_no_rig() -> None:
    assert rig_painters(capture_of(1), ["cam0"]) == []


def test_from_above_every_camera_stands_at_its_centre_under_its_name() -> None:
    capture = capture_of(3)
    for i, camera in enumerate(capture.cameras):  # not in one line
        capture.cameras[i] = replace(camera, translation=camera.translation + [0.0, 0.7 * i**2, 0.0])  # pyright: ignore[reportIndexIssue]
    plot = painted(capture, "from above")
    assert [word for word in texts(plot) if word.startswith("cam")] == ["cam0", "cam1", "cam2"]
    dots = [dot for dot in plot.iter(f"{SVG}circle") if dot.get("fill") == "#08519c"]
    drawn = np.array([[float(dot.get(name, "nan")) for name in ("cx", "cy")] for dot in dots])
    centres = np.stack([camera.centre[:2] for camera in capture.cameras])
    across, down = drawn[1:] - drawn[0], (centres[1:] - centres[0]) * [1, -1]
    assert np.allclose(across, down * np.linalg.norm(across) / np.linalg.norm(down), atol=0.2)


def test_the_cone_of_a_camera_opens_along_its_view_by_its_angle() -> None:
    camera = replace(pinhole("cam", (640, 480), 320.0), translation=np.array([0.0, 0.0, 4.0]))
    tip, left, right = _cone(camera, np.eye(4), 2.0)
    assert np.allclose(tip, camera.centre)
    assert np.allclose((left + right) / 2 - tip, [0, 0, 2]) and np.allclose(right - left, [4, 0, 0])


def test_the_usage_of_a_view_is_its_share_of_all_frames() -> None:
    words = texts(painted(capture_of(2, seen=0.5), "was used"))
    assert [word for word in words if word.isdecimal()] == ["50"] * 2 * 25


def test_expected_errors_are_drawn_in_millimetres_where_there_are_any() -> None:
    capture = capture_of(2)
    assert expected_error(capture) is None
    error = np.full((FRAMES, JOINTS), 0.012)
    error[3, 4] = np.nan
    capture.keypoints = replace(capture.keypoints, expected_error_m=error)
    plot = painted(capture, "Expected error")
    assert "mm (grey: unknown)" in texts(plot) and "20" in texts(plot)
    data = str(next(plot.iter(f"{SVG}image")).get("href")).partition(",")[2]
    values = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert values.shape == (25, FRAMES, 3) and (values[4, 3] == 0xD0).all()
    known = np.delete(values.reshape(-1, 3), 4 * FRAMES + 3, axis=0)
    assert (known == known[0]).all() and not (known[0] == 0xD0).all()
    capture.keypoints = replace(capture.keypoints, expected_error_m=error * np.nan)
    assert expected_error(capture) is None


def test_names_from_strangers_do_not_become_markup() -> None:
    found = {"camera": "<b>cam", "code": "x", "severity": "error", "text": "a < b & c", "change": ""}
    table = _finding_table([found])
    assert "&lt;b&gt;cam" in table and "a &lt; b &amp; c" in table and "<b>" not in table
