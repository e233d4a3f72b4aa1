"""Keypoints in space to a moving skeleton, one frame at a time: the road of `fit`, without a future.

The person is measured while they move and the measures are frozen after three seconds; each frame's pose is read off
its keypoints and those just before, refined once, and follows through a filter that gives way to fast motion. What is
not seen stays where it was for a moment and then relaxes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..core import ik
from ..core.contacts import Floor, find_contacts, floor_transform
from ..core.filters import OneEuro
from ..core.humanoid import Skeleton, keypoint, make_skeleton
from ..core.kinematics import transformed
from ..core.rotations import (
    conjugate,
    matrix_from_quaternion,
    multiply,
    quaternion_from_matrix,
    quaternion_from_rotvec,
    rotvec_from_quaternion,
    unit,
)
from ..core.skeletons import HUMANOID_NAMES
from .clean import Seen, bone_confidence, weigh
from .grounding import LEVEL, Supports, across_speeds
from .pose import relaxed_pose
from .proportions import measure_person
from .solver import Solver
from .standing import camera_up

Array = np.ndarray
MEASURED_AT = (1, 10, 30, 90)  # frames with a person after which their measures are taken, the last time for good
_PAST_S = 0.25  # how much of the past the pose of a frame looks at
_HOLD_S, _RELAX_S = 0.3, 0.6  # how long what is not seen stays, and how soon it then relaxes
_CUTOFF_HZ, _RISE_HZ = 1.5, 1.2  # of rotations: at rest, and for each radian a second
_ROOT_CUTOFF_HZ, _ROOT_RISE_HZ = 1.5, 8.0  # of the root: at rest, and for each metre a second
_FASTEST, _ROOT_FASTEST = 8.0, 4.0  # radians and metres a second
_CLEAR = 0.6  # confidence under which a bone follows more slowly
_STEP_M = 0.2  # what is higher above the floor flies, and is no drift of the floor
_FLOOR_S = 0.3  # how soon the floor follows a foot that bears the body
_BEAR_FRAMES = 5  # over which it shows whether a foot does
_RATE = 0.05  # how soon the rate is taken over at which frames come
_UP_S = 0.5  # how soon a new estimate of the vertical is taken over
_HEADING = np.array([0.0, 0.0, 1.0])  # a camera looks along +Y of the floor


@dataclass(frozen=True)
class LivePose:
    """One frame on the floor, Z up, metres: rotations (B, 4) wxyz local to rest, root (3,), confidence (B,).

    contacts (4,) in [0, 1] of left heel, left toe, right heel, right toe.
    """

    rotations: Array
    root: Array
    confidence: Array
    contacts: Array


class LiveFit:
    """Fits a skeleton to frames of one camera as they come.

    `skeleton` changes where `generation` does: when the person has been measured better.
    """

    def __init__(self, fps: float, *, smoothing: float = 0.5, hands: bool = True) -> None:
        self.skeleton: Skeleton = make_skeleton()
        self.generation = 0
        self._step_s, self._hands = 1.0 / fps, hands
        self._past: deque[tuple[Array, Array]] = deque(maxlen=max(2, round(_PAST_S * fps)))
        self._measured: list[tuple[Array, Array]] = []
        self._steady = _Steady(smoothing)
        self._ground = _LiveGround()

    def push(self, positions: Array, confidence: Array, measured: Array, step_s: float) -> LivePose | None:
        """Give the pose of the next frame, `step_s` seconds after the last; None until somebody was seen.

        Args:
            positions: (137, 3) metres in the camera's frame, NaN where unknown, with (137,) confidence.
            measured: (137,) bool: seen in this frame rather than guessed.
        """
        self._step_s += _RATE * (step_s - self._step_s)
        points, weights = (a[0] for a in weigh(positions[None], confidence[None], measured[None], hands=self._hands))
        self._past.append((points, weights))
        if _shows_trunk(weights) and (measured[:25].any() or not self.generation):
            self._measure(points, weights)
        if not self.generation:
            return None
        solver = Solver(self.skeleton, self._seen(self._past), self._ground.up, gap_s=_PAST_S)
        pose, known = solver.latest(self._steady.turns, hands=self._hands)
        sure = bone_confidence(weights[None])[0]
        pose = self._steady.follow(pose, known & (sure > 0), sure, step_s)
        floor_from_frame, contacts = self._ground.stand(solver.last(), pose, step_s)
        rotations = quaternion_from_matrix(pose.turns)
        rotations, root = transformed(self.skeleton.rest, rotations, pose.root, floor_from_frame)
        return LivePose(rotations[0], root[0], np.where(measured[:25].any(), sure, 0.0), contacts)

    def _seen(self, frames: deque[tuple[Array, Array]] | list[tuple[Array, Array]]) -> Seen:
        positions, weights = (np.stack(arrays) for arrays in zip(*frames, strict=True))
        return Seen(positions, weights, 1.0 / self._step_s)

    def _measure(self, points: Array, weights: Array) -> None:
        """Take the frame into account, and measure the person anew when enough has come together."""
        if self.generation == len(MEASURED_AT):
            return
        self._measured.append((points, weights))
        if len(self._measured) < MEASURED_AT[self.generation]:
            return
        seen = self._seen(self._measured)
        self.skeleton = make_skeleton(measure_person(seen.positions, seen.weights))
        self.generation += 1
        if self.generation > 2:
            self._ground.level(Solver(self.skeleton, seen, LEVEL, gap_s=_PAST_S))
        if self.generation == len(MEASURED_AT):
            self._measured.clear()


def _shows_trunk(weights: Array) -> bool:
    def both(part: str) -> bool:
        return bool(weights[keypoint(f"L{part}")] > 0 and weights[keypoint(f"R{part}")] > 0)

    return both("Shoulder") or both("Hip")


class _Steady:
    """The pose shown last: it follows what is seen, holds what is not, and lets that relax."""

    def __init__(self, smoothing: float) -> None:
        share = 16.0 ** (0.5 - smoothing)
        self._keep = smoothing > 0
        self._turning = OneEuro(_CUTOFF_HZ * share, _RISE_HZ * share, _FASTEST)
        self._moving = OneEuro(_ROOT_CUTOFF_HZ * share, _ROOT_RISE_HZ * share, _ROOT_FASTEST)
        self._rotations = relaxed_pose().copy()
        self._unseen_s = np.full(len(HUMANOID_NAMES), np.inf)
        self._root: Array | None = None

    @property
    def turns(self) -> Array:
        """(B, 3, 3) local rotations."""
        return matrix_from_quaternion(self._rotations)

    def follow(self, pose: ik.Pose, known: Array, sure: Array, step_s: float) -> ik.Pose:
        """Take in a new pose of one frame, of which (B,) bones are known with (B,) confidence."""
        is_first = self._root is None
        wanted = quaternion_from_matrix(pose.turns[0])
        self._unseen_s = np.where(known, 0.0, self._unseen_s + step_s)
        fading = ~known & (self._unseen_s > _HOLD_S)
        wanted = np.where(known[:, None], wanted, np.where(fading[:, None], relaxed_pose(), self._rotations))
        step = rotvec_from_quaternion(multiply(conjugate(self._rotations), wanted))
        gain = self._turning.gain(np.linalg.norm(step, axis=-1) * known, step_s) if self._keep else np.ones(len(step))
        gain = gain * np.clip(sure / _CLEAR, 0.2, 1.0)
        gain = np.where(known, gain, 1.0 - np.exp(-step_s / _RELAX_S))
        if is_first:
            gain = np.ones(len(step))
        self._rotations = unit(multiply(self._rotations, quaternion_from_rotvec(step * gain[:, None])))
        self._root = self._follow_root(pose.root[0], seen=bool(known[0]), step_s=step_s)
        return ik.Pose(self.turns[None], self._root[None])

    def _follow_root(self, root: Array, *, seen: bool, step_s: float) -> Array:
        if self._root is None or not self._keep:
            return root
        away = root - self._root
        gain = self._moving.gain(np.sqrt(np.sum(away**2, keepdims=True)), step_s)
        return self._root + away * gain * seen


class _LiveGround:
    """Which way is up, how high the floor is, and which feet stand on it, as far as that shows yet."""

    def __init__(self) -> None:
        self.up = LEVEL
        self._target = LEVEL
        self._is_placed = False
        self._height = 0.0
        self._origin = np.zeros(3)
        self._past: deque[tuple[Array, Array]] = deque(maxlen=_BEAR_FRAMES)

    def level(self, solver: Solver) -> None:
        """Estimate the vertical from all that was seen so far."""
        pose = solver.solve(hands=False)
        self._target = camera_up(solver.supports(pose, solver.feet(pose)), solver.seen, solver.skeleton)

    def stand(self, solver: Solver, pose: ik.Pose, step_s: float) -> tuple[Array, Array]:
        """(4, 4) from the camera to the floor under a pose of one frame, and its (4,) contacts."""
        up = unit(self.up + (1.0 - np.exp(-step_s / _UP_S)) * (self._target - self.up))
        self._height += float(pose.root[0] @ (up - self.up))  # the floor tilts about the place where the person is
        self.up = up
        feet = solver.feet(pose)
        now = solver.supports(pose, feet)
        self._past.append((now.points[0], now.weights[0]))
        points, weights = (np.stack(arrays) for arrays in zip(*self._past, strict=True))
        fps = solver.seen.fps
        supports = Supports(points, now.clearance, weights, fps)
        self._follow(supports, pose, float(solver.skeleton.rest[0, 2, 3]), step_s)
        floor_from_frame = floor_transform(self.up, _HEADING, self._origin, self._height)
        level = points[:, :4] @ floor_from_frame[:3, :3].T + floor_from_frame[:3, 3]
        floor, speed = Floor(0.0, feet.clearance, len(points)), across_speeds(points[:, :4], fps)
        return floor_from_frame, find_contacts(level, weights[:, :4], fps, floor, speed=speed)[-1]

    def _follow(self, supports: Supports, pose: ik.Pose, hips: float, step_s: float) -> None:
        """Let the floor's height follow what bears the body: a slow support, and not one that flies."""
        heights, points = supports.lowest(self.up)
        height, known = float(heights[-1]), bool(np.isfinite(heights[-1]))
        if not self._is_placed:  # until a foot shows, the floor is where legs would end
            self._height = height if known else float(pose.root[0] @ self.up) - hips
            self._origin, self._is_placed = pose.root[0], True
        elif known:
            off = float(np.clip(height - self._height, -_STEP_M, _STEP_M))
            flies = (max(height - self._height, 0.0) / _STEP_M) ** 2
            bearing = float(supports.bearing()[-1, points[-1]]) / (1.0 + flies) ** 2
            self._height += (1.0 - np.exp(-step_s / _FLOOR_S)) * bearing * off
