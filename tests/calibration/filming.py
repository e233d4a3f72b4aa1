"""Rigs whose every number is known, and what a fallible detector sees in them."""

from __future__ import annotations

import numpy as np
from understudy.tests.motion import bodies

from inference.core.artifacts import Keypoints2D
from inference.core.cameras import Camera, CameraSet, level_rotation, pinhole, project
from inference.core.humanoid import motion_keypoints
from inference.core.skeletons import OPENPOSE_137
from inference.protocol.events import SilentReporter

Array = np.ndarray
FPS = 30.0
SIZE = (1280, 720)


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, code: str, text: str) -> None:  # noqa: ARG002
        self.said.append(text)


def looking(name: str, centre: Array, target: Array, *, focal_px: float = 1100.0, roll_deg: float = 0.0) -> Camera:
    """A camera at a place, looking at another."""
    level = level_rotation(np.asarray(target) - centre)
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    rotation: Array = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) @ level
    return Camera(name, SIZE, pinhole("", SIZE, focal_px).matrix, np.zeros(5), rotation, -(rotation @ centre))


def rig(count: int, *, spread_deg: float = 80.0, seed: int = 0, focal_px: float = 1100.0) -> CameraSet:
    """Cameras around the person, `spread_deg` apart, at various distances and heights."""
    generator = np.random.default_rng(seed)
    cameras = []
    for index in range(count):
        angle = np.radians(index * min(spread_deg, 360.0 / count) + generator.uniform(-8, 8))
        distance, height = generator.uniform(4.0, 5.0), generator.uniform(1.0, 2.2)
        centre = np.array([distance * np.cos(angle), distance * np.sin(angle), height])
        focal = focal_px * generator.uniform(0.9, 1.1)
        roll = float(generator.uniform(-1, 1))
        cameras.append(looking(f"cam{index + 1}", centre, np.array([0, 0, 1.0]), focal_px=focal, roll_deg=roll))
    return CameraSet(tuple(cameras))


def walk(frames: int = 120) -> Array:
    """(T, 137, 3) keypoints of somebody who walks through the middle, on a floor at z = 0."""
    points = motion_keypoints(bodies.walking(frames, fps=FPS)[0])
    return points - [0.0, float(np.nanmean(points[:, :25, 1])), 0.0]


def film(
    truth: Array, cameras: CameraSet, *, noise_px: float = 2.0, outliers: float = 0.0, seed: int = 7
) -> list[Keypoints2D]:
    """What each camera sees: noise, and a share of joints that are far off for some frames."""
    generator = np.random.default_rng(seed)
    views = []
    for camera in cameras:
        positions = project(camera, truth)
        positions = positions + generator.normal(0.0, 1.0, positions.shape) * noise_px
        wrong = np.repeat(generator.random((len(truth) // 6 + 1, truth.shape[1])) < outliers, 6, axis=0)[: len(truth)]
        positions = np.where(wrong[..., None], positions + generator.normal(0, 60.0, positions.shape), positions)
        confidence = np.where(np.isfinite(positions).all(-1), 0.9, 0.0)
        header = {
            "unit": "px", "frame": "image", "fps": FPS, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "source": "", "view": camera.name,
        }  # fmt: skip
        views.append(Keypoints2D(header, positions, confidence, np.arange(len(truth)) / FPS))
    return views
