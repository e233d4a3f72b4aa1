"""The pose problem of one clip: raw, smoothed, and with feet that stand."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np

from ..core import ik
from ..core.contacts import foot_points, hold_contacts
from ..core.filters import moving_average, smooth_positions, smooth_rotations
from ..core.humanoid import HEAD_POINTS, Skeleton, bone, keypoint, place_markers
from ..core.rotations import matrix_from_quaternion, quaternion_from_matrix
from ..core.skeletons import BODY_25, HUMANOID_NAMES, HUMANOID_PARENTS, LEFT_HAND, OPENPOSE_137, RIGHT_HAND
from .clean import GUESSED, Seen, bone_confidence
from .grounding import Supports, least_seen
from .hands import fill_fingers, solve_fingers
from .pose import ELBOW, KNEE, Builder, first_pose
from .standing import Feet, Ground

Array = np.ndarray
_NOISE_M = 0.01  # of a certain keypoint: what one radian of prior weighs against a metre
_RELAX_S = 0.4  # how soon an unseen limb relaxes
_DRIFT_M = 0.15  # how far a standing foot is drawn back where its depth is a guess
_SUNK_M = 0.01  # a foot that sinks so deep is raised as firmly as one that stands is held
_HOLD = 8.0  # how much more a standing foot counts
_COUNTS = {"Neck": 0.3, "Ear": 0.5, "Eye": 0.5, "Nose": 0.5, "Face": 0.3, "Toe": 0.7, "Heel": 0.7, "Hand": 0.4}
# Standard deviations, radians, of rotations about x, y, z against the first solution: what holds what nothing shows.
_LOOSE = 2.0
_SIGMA: dict[str, tuple[float, float, float]] = {
    "hips": (0.12, _LOOSE, _LOOSE), "spine": (0.12, 0.2, 0.2), "chest": (0.12, 0.25, 0.25),
    "neck": (0.5, 0.3, 0.5), "head": (_LOOSE, _LOOSE, _LOOSE),
    "upper_arm": (_LOOSE, 0.2, _LOOSE), "thigh": (_LOOSE, 0.2, _LOOSE), "foot": (_LOOSE, 0.5, _LOOSE),
}  # fmt: skip
_OUTER: dict[str, dict[int, float]] = {  # axes in the rest frame, for joints that do not turn about all three
    "shoulder": {0: 0.15, 2: 0.15}, "forearm": {0: _LOOSE}, "hand": {0: 1.0, 2: 1.0}, "shin": {0: _LOOSE},
    "toe": {0: 0.6},
}  # fmt: skip
_PRONATION = 0.3
# Flesh between the ground and joints that a person may lie, sit or kneel on, metres.
_FLESH = {"Nose": 0.06, "Ear": 0.08, "Shoulder": 0.06, "Elbow": 0.04, "Wrist": 0.03, "MidHip": 0.10, "Knee": 0.05}


class Solver:
    """The pose problem of one clip: the skeleton, the points it is to meet, and how its bones may turn."""

    def __init__(self, skeleton: Skeleton, seen: Seen, up: Array, *, gap_s: float) -> None:
        self.skeleton, self.seen = skeleton, seen
        self.tree = ik.Tree(HUMANOID_PARENTS, skeleton.local_turn, skeleton.local_offset)
        self.rows = _body_rows(skeleton)
        self.keypoints = skeleton.marker_keypoints[self.rows]
        self.freedom = _freedom()
        self.counts = _counts(self.keypoints)
        self.gap = round(gap_s * seen.fps)
        self.builder = Builder(skeleton, seen.positions, seen.firm, up, seen.fps, self.gap, _RELAX_S * seen.fps)

    def solve(self, *, hands: bool) -> ik.Pose:
        """The pose nearest to the keypoints as they are."""
        root = first_pose(self.builder, hands=hands)
        pose = ik.Pose(self.builder.local.copy(), root)
        weights = self._body_weights(self.seen.firm)
        pose = ik.refine(self.tree, pose, self._targets(self.seen.positions[:, self.keypoints], weights), self.freedom)
        return self._with_fingers(pose, self.seen.positions)

    def last(self) -> Solver:
        """The problem of the last frame alone."""
        out, seen = copy.copy(self), self.seen
        out.seen = Seen(seen.positions[-1:], seen.weights[-1:], seen.fps, seen.firm[-1:])
        return out

    def latest(self, held: Array, *, hands: bool) -> tuple[ik.Pose, Array]:
        """The pose of the last frame alone, the others being its past, and (B,) which bones it shows.

        `held` (B, 3, 3): local rotations of the bones that it does not show.
        """
        root = first_pose(self.builder, hands=hands)[-1:]
        known = self.builder.known[-1].copy()
        turns = np.where(known[:, None, None], self.builder.local[-1], held)[None]
        positions, weights = self.seen.positions[-1:], self.seen.weights[-1:]
        targets = self._targets(positions[:, self.keypoints], self._body_weights(self.seen.firm[-1:]))
        pose = ik.refine(self.tree, ik.Pose(turns, root), targets, self.freedom, steps=2)
        world, _ = ik.place(self.tree, pose)
        fingers, shown = solve_fingers(self.skeleton, world, positions, weights)
        for hand, side in enumerate("LR"):
            rows = slice(first := bone(f"thumb.01.{side}"), first + 15)
            known[rows] = shown[0, hand]
            pose.turns[0, rows] = np.where(shown[0, hand, :, None, None], fingers[0, hand], held[rows])
        return pose, known

    def _with_fingers(self, pose: ik.Pose, positions: Array) -> ik.Pose:
        """The pose with its fingers turned to (T, 137, 3) keypoints."""
        world, _ = ik.place(self.tree, pose)
        turns, gap, decay = pose.turns, self.gap, self.builder.decay
        fingers, known = solve_fingers(self.skeleton, world, positions, self.seen.weights)
        for hand, side in enumerate("LR"):
            rows = slice(first := bone(f"thumb.01.{side}"), first + 15)
            relaxed = self.builder.relaxed[rows]
            turns[:, rows] = fill_fingers(fingers[:, hand], known[:, hand], relaxed, gap=gap, decay=decay)
        return ik.Pose(turns, pose.root)

    def smooth(self, raw: ik.Pose, amount: float) -> ik.Pose:
        """The same motion without the noise: smooth rotations, drawn to smoothed keypoints so that no error adds up."""
        fps = self.seen.fps
        weights = self._body_weights(self.seen.firm)
        positions = self._smooth_keypoints(raw, amount)
        points = positions[:, self.keypoints]
        turns = smooth_rotations(quaternion_from_matrix(raw.turns), bone_confidence(self.seen.firm), fps, amount=amount)
        start = ik.Pose(matrix_from_quaternion(turns), _root_of(points, raw, self.keypoints))
        steady = self._eased(weights)
        body = ik.refine(self.tree, start, self._targets(points, steady), self.freedom, steps=2)
        return self._with_fingers(body, positions)

    def _smooth_keypoints(self, raw: ik.Pose, amount: float) -> Array:
        """(T, 137, 3) keypoints without their noise; where one is not seen, what the raw pose says."""
        rows = self.skeleton.marker_keypoints
        weights = self.seen.firm[:, rows]
        placed = place_markers(self.skeleton, *ik.place(self.tree, raw))
        points = np.where(weights[..., None] > 0, self.seen.positions[:, rows], placed)
        anchor = np.zeros_like(points)  # fingers are smoothed about the wrist: its noise is not theirs
        for hand, name in ((LEFT_HAND, "LWrist"), (RIGHT_HAND, "RWrist")):
            wrist = points[:, rows == keypoint(name)]
            anchor[:, (rows >= hand.start) & (rows < hand.stop)] = wrist
        smoothed = smooth_positions(points - anchor, weights, self.seen.fps, amount=amount)
        for hand, name in ((LEFT_HAND, "LWrist"), (RIGHT_HAND, "RWrist")):
            inside = (rows >= hand.start) & (rows < hand.stop)
            smoothed[:, inside] += smoothed[:, rows == keypoint(name)]
        out = np.zeros_like(self.seen.positions)
        out[:, rows] = smoothed
        return out

    def _markers(self, pose: ik.Pose) -> Array:
        return place_markers(self.skeleton, *ik.place(self.tree, pose))[:, self.rows]

    def _eased(self, values: Array) -> Array:
        return moving_average(values, max(1, round(0.1 * self.seen.fps)))

    def feet(self, pose: ik.Pose) -> Feet:
        """Where a pose puts the feet."""
        positions = np.zeros((len(pose.root) + 1, len(OPENPOSE_137), 3))
        positions[:-1, self.keypoints] = self._markers(pose)
        rest = self.skeleton.rest[None]
        positions[-1, self.keypoints] = place_markers(self.skeleton, rest[..., :3, :3], rest[..., :3, 3])[0, self.rows]
        points, _ = foot_points(positions, np.ones(positions.shape[:2]))
        _, weights = foot_points(positions[:-1], self.seen.weights)
        ankles = self.seen.weights[:, [keypoint("LAnkle"), keypoint("RAnkle")]]
        return Feet(points[:-1], np.where(np.repeat(ankles, 2, axis=1) > 0, weights, 0.0), points[-1, :, 2])

    def supports(self, pose: ik.Pose, feet: Feet) -> Supports:
        """What may bear the body in a pose: feet, and joints that it may lie or kneel on."""
        rows, flesh = [], []
        for row, index in enumerate(self.keypoints):
            part = OPENPOSE_137[index].removeprefix("L").removeprefix("R")
            if part in _FLESH:
                rows.append(row)
                flesh.append(_FLESH[part])
        points = np.concatenate([feet.points, self._markers(pose)[:, rows]], axis=1)
        standing = (feet.weights > 0).any(axis=1, keepdims=True)  # above feet that nobody sees, nothing bears
        weights = np.concatenate([feet.weights, self.seen.weights[:, self.keypoints[rows]] * standing], axis=1)
        return Supports(points, np.concatenate([feet.clearance, flesh]), weights, self.seen.fps)

    def hold(self, pose: ik.Pose, ground: Ground, *, on_floor: bool = False) -> ik.Pose:
        """Keep feet that stand in their place; the legs and, gently, all the body follow.

        `on_floor`: put them on the floor, too, and let none sink.
        """
        feet = self.feet(pose)
        level = ground.level(feet.points)
        place = {"heights": ground.clearance, "furthest": _DRIFT_M} if on_floor else {}
        shift = hold_contacts(level, ground.contacts, self.seen.fps, **place)
        firm = self._eased((ground.contacts > 0.5).astype(float))
        if on_floor:
            sunk = np.maximum(ground.clearance - level[..., 2] - shift[..., 2], 0.0)
            shift[..., 2] += sunk
            firm = np.maximum(firm, np.minimum(sunk / _SUNK_M, 1.0))
            firm = np.where(feet.weights > GUESSED, firm, 0.1 * firm)
        shift = shift @ ground.floor_from_frame[:3, :3]
        weights = np.maximum(self._eased(self._body_weights(self.seen.firm)), 0.05)
        wanted = self._markers(pose)
        for i, side in enumerate("LR"):
            heel, toe = 2 * i, 2 * i + 1
            ankle = 0.5 * (shift[:, heel] + shift[:, toe]), np.minimum(firm[:, heel], firm[:, toe])
            moves = {"Heel": (shift[:, heel], firm[:, heel]), "Ankle": ankle}
            moves |= dict.fromkeys(("BigToe", "SmallToe"), (shift[:, toe], firm[:, toe]))
            for name, (move, hold) in moves.items():
                row = int(np.flatnonzero(self.keypoints == keypoint(side + name))[0])
                wanted[:, row] += move
                weights[:, row] = np.maximum(weights[:, row], 0.7 * hold) * (1.0 + _HOLD * hold)
        held = ik.refine(self.tree, pose, self._targets(wanted, weights), self.freedom, steps=2)
        return self._afloat(held, ground) if on_floor else held

    def _afloat(self, pose: ik.Pose, ground: Ground) -> ik.Pose:
        """Raise the root, smoothly, where a foot clearly sinks that no leg could bring up."""
        heights = ground.level(self.feet(pose).points)[..., 2]
        sunk = np.maximum((ground.clearance - heights).max(axis=1) - _SUNK_M, 0.0)
        half = max(1, round(0.1 * self.seen.fps))
        padded = np.pad(sunk, half)
        rise = moving_average(np.max([padded[i : i + len(sunk)] for i in range(2 * half + 1)], axis=0), half)
        return ik.Pose(pose.turns, pose.root + rise[:, None] * ground.floor_from_frame[2, :3])

    @staticmethod
    def raised(pose: ik.Pose, up: Array, rise: Array) -> ik.Pose:
        """The same pose higher along `up` by (T,) metres, moved so that a camera sees least of it."""
        return ik.Pose(pose.turns, pose.root + least_seen(pose.root, up, rise))

    def _targets(self, points: Array, weights: Array) -> ik.Targets:
        rows = self.rows
        return ik.Targets(
            self.skeleton.marker_bones[rows], self.skeleton.marker_offsets[rows], points, weights / _NOISE_M**2
        )

    def _body_weights(self, weights: Array) -> Array:
        """(T, M) weights of the points that the body is fitted to."""
        out = weights[:, self.keypoints] * self.counts
        shoulders = (weights[:, keypoint("LShoulder")] > 0) & (weights[:, keypoint("RShoulder")] > 0)
        neck = self.keypoints == keypoint("Neck")
        out[:, neck] = np.where(shoulders[:, None], 0.0, out[:, neck])
        hips = (weights[:, keypoint("LHip")] > 0) & (weights[:, keypoint("RHip")] > 0)
        middle = self.keypoints == keypoint("MidHip")
        out[:, middle] = np.where(hips[:, None], 0.0, out[:, middle])
        return out


def _body_rows(skeleton: Skeleton) -> Array:
    """Rows of the skeleton's markers that the body is fitted to: all but the fingers."""
    palm = {f"{side}Hand{name}1" for side in "LR" for name in ("Thumb", "Index", "Middle", "Ring", "Little")}
    wanted = {*BODY_25, *HEAD_POINTS, *palm}
    return np.array([i for i, k in enumerate(skeleton.marker_keypoints) if OPENPOSE_137[k] in wanted])


def _counts(keypoints: Array) -> Array:
    """(M,) how much each kind of point counts against a joint of a limb."""
    names = [OPENPOSE_137[k] for k in keypoints]
    return np.array([min([c for part, c in _COUNTS.items() if part in name], default=1.0) for name in names])


@cache
def _freedom() -> ik.Freedom:
    rows: list[tuple[int, int, bool, float]] = []
    for index, name in enumerate(HUMANOID_NAMES):
        part = name.split(".")[0]
        rows += [(index, axis, False, sigma) for axis, sigma in enumerate(_SIGMA.get(part, ()))]
        rows += [(index, axis, True, sigma) for axis, sigma in _OUTER.get(part, {}).items()]
        if part == "forearm":
            rows.append((index, 1, False, _PRONATION))
    bones, axes, outer, sigma = (np.array(column) for column in zip(*rows, strict=True))
    hinges = tuple((bone(f"{p}.{s}"), *limits) for p, limits in (("shin", KNEE), ("forearm", ELBOW)) for s in "LR")
    return ik.Freedom(bones, np.eye(3)[axes], outer, 1.0 / sigma**2, hinges)


def _root_of(points: Array, raw: ik.Pose, keypoints: Array) -> Array:
    """Smoothed middle of the hips (T, 3), from the smoothed hip joints."""
    rows = [int(np.flatnonzero(keypoints == keypoint(name))[0]) for name in ("LHip", "RHip")]
    return points[:, rows].mean(axis=1) if len(points) > 1 else raw.root
