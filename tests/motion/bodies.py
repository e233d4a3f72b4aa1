"""Moving bodies whose every joint is known: random within anatomy, walking, and motion capture on a rendered person."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from inference.core import ik
from inference.core.artifacts import BodyMotion, Keypoints3D
from inference.core.humanoid import DEFAULT, FINGERS, Proportions, Skeleton, bone, make_skeleton, motion_keypoints
from inference.core.rotations import quaternion_from_matrix
from inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS, OPENPOSE_137

Array = np.ndarray
# flexion about x, twist about y, spread about z of the left side, radians
RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "spine": ((0.0, 0.3), (-0.15, 0.15), (-0.1, 0.1)), "chest": ((0.0, 0.3), (-0.15, 0.15), (-0.1, 0.1)),
    "neck": ((-0.2, 0.2), (-0.3, 0.3), (-0.15, 0.15)), "head": ((-0.3, 0.3), (-0.4, 0.4), (-0.2, 0.2)),
    "shoulder": ((-0.05, 0.1), (0.0, 0.0), (-0.1, 0.1)), "upper_arm": ((-0.5, 0.8), (-0.7, 0.7), (-1.2, 0.3)),
    "forearm": ((0.1, 1.8), (-0.8, 0.8), (0.0, 0.0)), "hand": ((-0.6, 0.6), (0.0, 0.0), (-0.3, 0.3)),
    "thumb.01": ((0.0, 0.3), (0.0, 0.0), (-0.3, 0.3)), "finger.01": ((-0.1, 1.2), (0.0, 0.0), (-0.2, 0.2)),
    "finger.02": ((0.0, 1.4), (0.0, 0.0), (0.0, 0.0)), "finger.03": ((0.0, 0.9), (0.0, 0.0), (0.0, 0.0)),
    "thigh": ((-1.2, 0.2), (-0.4, 0.4), (-0.3, 0.3)), "shin": ((0.0, 1.6), (0.0, 0.0), (0.0, 0.0)),
    "foot": ((-0.3, 0.4), (-0.15, 0.15), (-0.1, 0.1)), "toe": ((-0.3, 0.1), (0.0, 0.0), (0.0, 0.0)),
}  # fmt: skip


def moving(frames: int = 90, *, fps: float = 30.0, seed: int = 0, person: Proportions = DEFAULT) -> BodyMotion:
    """A person who moves every joint at random within its anatomical range, Z up."""
    rng = np.random.default_rng(seed)
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3)).copy()
    for index, name in enumerate(HUMANOID_NAMES[1:], 1):
        low, high = np.array(RANGES[_kind(name)]).T
        side = np.array([1.0, -1.0, -1.0]) if name.endswith(".R") else np.ones(3)
        flex, twist, spread = ((low + _waves(frames, fps, 3, rng) * (high - low)) * side).T
        turns[:, index] = ik.turn_about(0, flex) @ ik.turn_about(2, spread) @ ik.turn_about(1, twist)
    heading = 4.0 * (_waves(frames, fps, 2, rng) - 0.5)
    turns[:, 0] = ik.turn_about(1, heading[:, 0]) @ ik.turn_about(0, 0.1 * heading[:, 1])
    root = _waves(frames, fps, 3, rng) * [2.0, 2.0, 0.15] + [0.0, 0.0, 0.85]
    return motion_of(make_skeleton(person), turns, root, fps)


def still(frames: int = 1, *, person: Proportions = DEFAULT, fps: float = 30.0) -> BodyMotion:
    """A person in T-pose on a floor at z = 0."""
    skeleton = make_skeleton(person)
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3))
    return motion_of(skeleton, turns, np.repeat(skeleton.rest[:1, :3, 3], frames, axis=0), fps)


def walking(frames: int = 120, *, fps: float = 30.0, step_s: float = 0.6) -> tuple[BodyMotion, Array]:
    """A walk along -Y on a floor at z = 0 in which feet stand exactly still; and whether they stand, (T, 2)."""
    skeleton = make_skeleton()
    time = np.arange(frames) / fps
    stride, length = 0.6, skeleton.rest[0, 2, 3]
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3)).copy()
    root = np.stack([0.0 * time, -stride * time / step_s, np.full(frames, length - 0.03)], axis=-1)
    thigh, shin = skeleton.lengths[bone("thigh.L")], skeleton.lengths[bone("shin.L")]
    standing = np.zeros((frames, 2), bool)
    for i, (side, shift) in enumerate((("L", 0.0), ("R", 1.0))):
        phase = time / step_s + shift
        part, cycle = phase % 2.0, np.floor(phase / 2.0) * 2.0
        standing[:, i] = part < 1.1
        u = np.clip((part - 1.1) / 0.9, 0.0, 1.0)
        ahead = 0.5 + cycle - shift + 2.0 * u * u * (3.0 - 2.0 * u)
        ankle = np.stack([-stride * ahead, 0.08 + 0.12 * np.sin(np.pi * u)], axis=-1)
        reach = ankle - root[:, 1:]
        distance = np.minimum(np.linalg.norm(reach, axis=-1), 0.999 * (thigh + shin))
        knee = np.pi - np.arccos((thigh**2 + shin**2 - distance**2) / (2 * thigh * shin))
        lean = np.arctan2(-reach[:, 0], -reach[:, 1]) + np.arctan2(shin * np.sin(knee), thigh + shin * np.cos(knee))
        turns[:, bone(f"thigh.{side}")] = ik.turn_about(0, -lean)
        turns[:, bone(f"shin.{side}")] = ik.turn_about(0, knee)
        turns[:, bone(f"foot.{side}")] = ik.turn_about(0, lean - knee)
        turns[:, bone(f"upper_arm.{side}")] = ik.turn_about(2, np.full(frames, -1.2 if side == "L" else 1.2))
        turns[:, bone(f"forearm.{side}")] = ik.turn_about(0, np.full(frames, 0.3))
    return motion_of(skeleton, turns, root, fps), standing


def motion_of(skeleton: Skeleton, turns: Array, root: Array, fps: float) -> BodyMotion:
    """Wrap rotations (T, B, 3, 3) and root (T, 3) as an artifact."""
    rows = zip(skeleton.marker_keypoints, skeleton.marker_bones, skeleton.marker_offsets, strict=True)
    header = {
        "fps": fps, "frame": "world", "unit": "m", "skeleton": "humanoid", "bones": list(HUMANOID_NAMES),
        "lengths_m": skeleton.lengths.tolist(),
        "markers": [[OPENPOSE_137[k], HUMANOID_NAMES[b], o.tolist()] for k, b, o in rows],
    }  # fmt: skip
    count = len(root)
    return BodyMotion(
        header=header, rotations=quaternion_from_matrix(turns), root=root, rest=skeleton.rest,
        parents=np.array(HUMANOID_PARENTS), bone_confidence=np.ones((count, len(HUMANOID_NAMES))),
        times=np.arange(count) / fps, contacts=np.zeros((count, 4)),
    )  # fmt: skip


def seen(positions: Array, *, fps: float = 30.0, frame: str = "world", confidence: float = 0.9) -> Keypoints3D:
    """(T, 137, 3) positions, NaN where not seen, as an artifact."""
    known = np.isfinite(positions).all(axis=-1)
    header = {"fps": fps, "frame": frame, "unit": "m", "skeleton": "openpose137", "joints": list(OPENPOSE_137)}
    return Keypoints3D(
        header=header, positions=positions, confidence=known * confidence, validity=known,
        times=np.arange(len(positions)) / fps,
    )  # fmt: skip


def keypoints_of(motion: BodyMotion, *, noise_m: float = 0.0, seed: int = 0, frame: str = "world") -> Keypoints3D:
    """What a perfect observer, or one with white noise, sees of a motion."""
    points = motion_keypoints(motion)
    points = points + noise_m * np.random.default_rng(seed).standard_normal(points.shape)
    return seen(points, fps=motion.fps, frame=frame)


def without(keypoints: Keypoints3D, joints: Iterable[int], frames: slice = slice(None)) -> Keypoints3D:
    """The same keypoints with some of them not seen."""
    positions = keypoints.positions.copy()
    positions[frames, list(joints)] = np.nan
    return seen(positions, fps=keypoints.fps, frame=keypoints.header["frame"])


def captured(data: Path, clip: str, *, motions: str = "motion_snu", step: int = 2) -> tuple[Array, float]:
    """True keypoints (T, 137, 3), Z up, and the frame rate of an avatar that moves like a captured person."""
    from inference.training.studio import avatars

    avatar = avatars.load_avatar(sorted((data / "avatars_valid").glob("*.npz"))[0])
    motion = avatars.load_motion(data / "motion" / f"{motions}.npz", clip)
    turns, joints = avatars.retarget(avatar, motion, avatars.RIGS[motions])
    points = avatars.true_keypoints(avatar, turns, joints) @ avatars.Z_UP_FROM_Y_UP.T
    return points[::step], motion.fps / step


def _kind(name: str) -> str:
    part, *rest = name.split(".")
    if part not in FINGERS:
        return part
    return "thumb.01" if (part, rest[0]) == ("thumb", "01") else f"finger.{rest[0]}"


def _waves(frames: int, fps: float, channels: int, rng: np.random.Generator) -> Array:
    """(T, channels) smooth signals in [0, 1]."""
    time = np.arange(frames)[:, None] / fps
    parts = [
        np.sin(2 * np.pi * time * rng.uniform(0.1, 0.9, channels) + rng.uniform(0, 2 * np.pi, channels))
        for _ in range(3)
    ]
    return 0.5 + np.sum(parts, axis=0) / 6.0
