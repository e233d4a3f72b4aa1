"""Body motions with known truth, made from formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...inference.core.artifacts import BodyMotion
from ...inference.core.cameras import Camera, pinhole
from ...inference.core.rotations import continuous, frame_from_axes, matrix_from_rotvec, quaternion_from_rotvec, unit
from ...inference.core.skeletons import HUMANOID, HUMANOID_NAMES, HUMANOID_PARENTS

Array = np.ndarray
GOLDEN = Path(__file__).parents[1] / "golden" / "body_motion.npz"


def rest_pose(bones: int = len(HUMANOID)) -> tuple[Array, Array]:
    """(B, 4, 4) rest matrices with the bones along +y, and their (B,) lengths."""
    rest = np.tile(np.eye(4), (bones, 1, 1))
    heads = np.array([bone.head_m for bone in HUMANOID[:bones]])
    along = np.array([bone.tail_m for bone in HUMANOID[:bones]]) - heads
    side = np.where(np.abs(along[:, :1]) > 0.9 * np.linalg.norm(along, axis=1, keepdims=True), [0, 0, 1.0], [1.0, 0, 0])
    rest[:, :3, :3], rest[:, :3, 3] = frame_from_axes(along, side), heads
    return rest, np.linalg.norm(along, axis=1)


def body_motion(
    frames: int = 24, *, fps: float = 30.0, bones: int = len(HUMANOID), cameras: tuple[Camera, ...] = (), start: int = 0
) -> BodyMotion:
    """Every bone turns about its own axis at its own pace; the root walks a curve in a camera's frame."""
    rng = np.random.default_rng(7)
    time = np.arange(frames) / fps
    axes = rng.normal(size=(bones, 3)) * 0.6
    phase, pace = rng.uniform(0, 6, bones), rng.uniform(1, 6, bones)
    rotations = quaternion_from_rotvec(np.sin(time[:, None, None] * pace[:, None] + phase[:, None]) * axes)
    root = np.stack([0.3 * np.sin(time), 0.1 * np.cos(3 * time), 3.5 + 0.2 * time], -1)
    rest, lengths = rest_pose(bones)
    noise = quaternion_from_rotvec(rng.normal(size=(frames, bones, 3)) * 0.02)
    confidence = np.clip(np.linspace(0.0, 1.0, bones) + 0.05 * np.sin(time)[:, None], 0, 1)
    floor = np.eye(4)
    floor[:3, :3] = matrix_from_rotvec(np.array([-np.pi / 2 - 0.1, 0.0, 0.0]))
    floor[:3, 3] = (0.1, -0.2, 1.4)
    cameras = cameras or (pinhole("camera", (640, 360), 600.0),)
    return BodyMotion(
        header={
            "unit": "m", "frame": "camera", "fps": fps, "skeleton": "humanoid", "bones": list(HUMANOID_NAMES[:bones]),
            "lengths_m": lengths.tolist(), "floor_from_frame": floor.tolist(),
            "cameras": [camera.to_header() for camera in cameras], "sources": [""] * len(cameras),
        },
        rotations=continuous(rotations), root=root, rest=rest, parents=np.array(HUMANOID_PARENTS[:bones]),
        bone_confidence=confidence, times=time + start / fps,
        contacts=np.stack([0.5 + 0.5 * np.sin(time + k) for k in range(4)], -1),
        rotations_raw=continuous(unit(rotations + 0.01 * noise)), root_raw=root + 0.01,
    )  # fmt: skip


def write_golden() -> None:
    """Make the golden artifact again, after a change of the schema that is meant."""
    body_motion(12).save(GOLDEN)
