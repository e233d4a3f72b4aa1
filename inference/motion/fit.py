"""Keypoints in space -> a skeleton with constant bone lengths, moving.

The road: drop spikes and fill short gaps; measure the person; read a first pose off the keypoints; refine it so that
joints meet the keypoints as closely as constant lengths allow (that is the raw result); smooth keypoints and rotations,
and refine again towards those; find the floor and the contacts, and hold feet that stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core import contacts as ground
from ..core import ik
from ..core.artifacts import BodyMotion, Keypoints3D
from ..core.filters import fill_gaps, find_spikes, moving_average, neighbours, smooth_positions, smooth_rotations
from ..core.humanoid import HEAD_POINTS, Skeleton, bone, keypoint, make_skeleton, motion_keypoints, place_markers
from ..core.rotations import continuous, matrix_from_quaternion, quaternion_from_matrix, unit
from ..core.skeletons import BODY_25, HUMANOID_NAMES, HUMANOID_PARENTS, LEFT_HAND, LIMBS, OPENPOSE_137, RIGHT_HAND
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .hands import fill_fingers, solve_fingers
from .pose import ELBOW, KNEE, Builder, first_pose
from .proportions import measure_person

Array = np.ndarray
_FAINT = 0.05  # confidence under which a keypoint is noise
_GUESSED = 0.1  # what a guessed keypoint counts against a measured one
_FILLED = 0.3  # what a filled-in keypoint counts against its neighbours
_NOISE_M = 0.01  # of a certain keypoint: what one radian of prior weighs against a metre
_RELAX_S = 0.4  # how soon an unseen limb relaxes
_HOLD = 8.0  # how much more a standing foot counts
_UPRIGHT = np.cos(np.radians(40.0))
_COUNTS = {"Neck": 0.3, "Ear": 0.5, "Eye": 0.5, "Nose": 0.5, "Face": 0.3, "Toe": 0.7, "Heel": 0.7, "Hand": 0.4}
# Standard deviations, radians, of rotations about x, y, z against the first solution: what holds what nothing shows.
_LOOSE = 2.0
_SIGMA: dict[str, tuple[float, float, float]] = {
    "hips": (0.12, _LOOSE, _LOOSE), "spine": (0.12, 0.2, 0.2), "chest": (0.12, 0.25, 0.25), "neck": (0.5, 0.3, 0.5),
    "head": (_LOOSE, _LOOSE, _LOOSE), "upper_arm": (_LOOSE, 0.2, _LOOSE), "thigh": (_LOOSE, 0.2, _LOOSE),
    "foot": (_LOOSE, 0.5, _LOOSE),
}  # fmt: skip
_OUTER: dict[str, dict[int, float]] = {  # axes in the rest frame, for joints that do not turn about all three
    "shoulder": {0: 0.15, 2: 0.15}, "forearm": {0: _LOOSE}, "hand": {0: 1.0, 2: 1.0}, "shin": {0: _LOOSE}, "toe": {0: 0.6},
}  # fmt: skip
_PRONATION = 0.3


@dataclass(frozen=True)
class FitSettings:
    """`smoothing` 0 keeps the raw result, 0.5 takes off the noise found, 1 more; gaps up to `fill_gap_s` are bridged."""

    smoothing: float = 0.5
    fill_gap_s: float = 0.5
    floor: bool = True
    hands: bool = True


@dataclass(frozen=True)
class _Seen:
    """Keypoints without spikes and short gaps: positions (T, 137, 3), zero where unknown, weights (T, 137)."""

    positions: Array
    weights: Array
    fps: float


@dataclass(frozen=True)
class _Ground:
    """What is known of the ground: frame -> Z up with the floor at 0, contacts (T, 4), heights of standing points (4,)."""

    floor_from_frame: Array
    contacts: Array
    clearance: Array


def fit(keypoints: Keypoints3D, settings: FitSettings, report: Reporter) -> BodyMotion:
    """Fit a humanoid skeleton to keypoints, in their frame.

    What is never seen stands at ease with confidence 0. In a calibrated world whose z points up, `floor_from_frame`
    only moves, and only where the floor is clearly off zero; from one camera it levels the camera's tilt, puts the
    floor at 0 and the first frame's hips over the origin, with the camera looking along +Y.

    Raises:
        InputError: no frame shows hips or shoulders.
    """
    steps = 6
    report.progress("fit", 0, steps)
    seen = _clean(keypoints, settings)
    skeleton = make_skeleton(measure_person(seen.positions, seen.weights))
    report.progress("fit", 1, steps)
    up = _estimate_up(seen, skeleton, keypoints.header["frame"])
    solver = _Solver(skeleton, seen, up, settings)
    raw = solver.solve_raw()
    report.progress("fit", 2, steps)
    smooth = solver.smooth(raw) if settings.smoothing > 0 else raw
    report.progress("fit", 3, steps)
    smooth, where = solver.stand(smooth, keypoints.header["frame"])
    report.progress("fit", 4, steps)
    motion = _pack(keypoints, solver, raw, smooth, where)
    report.progress("fit", 5, steps)
    motion = motion.with_header(diagnostics=evaluate_fit(keypoints, motion))
    _warn(seen, report)
    report.progress("fit", steps, steps)
    return motion


def _clean(keypoints: Keypoints3D, settings: FitSettings) -> _Seen:
    index = [OPENPOSE_137.index(name) if name in OPENPOSE_137 else -1 for name in keypoints.header["joints"]]
    count = len(keypoints.times)
    positions = np.full((count, len(OPENPOSE_137), 3), np.nan)
    weights = np.zeros(positions.shape[:2])
    source = [i for i, place in enumerate(index) if place >= 0]
    place = [index[i] for i in source]
    positions[:, place] = keypoints.positions[:, source]
    measured = np.asarray(keypoints.validity, bool)[:, source]
    weights[:, place] = keypoints.confidence[:, source] * np.where(measured, 1.0, _GUESSED)
    whole = np.isfinite(positions).all(axis=-1) & (np.nan_to_num(weights) > _FAINT * _GUESSED)
    weights = np.where(whole, np.clip(np.nan_to_num(weights), 0.0, 1.0), 0.0)
    positions = np.where(whole[..., None], positions, 0.0)
    _check_seen(weights)
    _drop_hands(weights, settings)
    _join_wrists(positions, weights)
    used = np.flatnonzero((weights > 0).any(axis=0))
    spikes = find_spikes(positions[:, used], weights[:, used] > 0)
    weights[:, used] = np.where(spikes, 0.0, weights[:, used])
    gap = round(settings.fill_gap_s * keypoints.fps)
    filled, known = fill_gaps(positions[:, used], weights[:, used] > 0, gap)
    positions[:, used] = np.where(known[..., None], filled, 0.0)
    weights[:, used] = np.where(known, _bridged(weights[:, used]), 0.0)
    return _Seen(positions, weights, keypoints.fps)


def _bridged(weights: Array) -> Array:
    """Weights (T, C) with gaps at a share of the lesser of their ends."""
    known = weights > 0
    before, after = neighbours(known)
    count = len(weights)
    first = np.take_along_axis(weights, np.where(before < 0, np.minimum(after, count - 1), before), axis=0)
    last = np.take_along_axis(weights, np.where(after >= count, np.maximum(before, 0), after), axis=0)
    return np.where(known, weights, _FILLED * np.minimum(first, last))


def _check_seen(weights: Array) -> None:
    def both(part: str) -> Array:
        return (weights[:, keypoint(f"L{part}")] > 0) & (weights[:, keypoint(f"R{part}")] > 0)

    usable = int((both("Shoulder") | both("Hip")).sum())
    if not usable:
        raise InputError(
            f"{usable} of {len(weights)} frames show both shoulders or both hips; at least 1 is needed to fit a skeleton.",
            "Film the person from the front, with the upper body in view.",
        )


def _drop_hands(weights: Array, settings: FitSettings) -> None:
    """Forget hands that are not wanted, or seen in too few frames to be more than a mistake."""
    for hand in (LEFT_HAND, RIGHT_HAND):
        seen = (weights[:, hand] > _FAINT).sum(axis=1) >= 12
        needed = max(1, min(5, round(0.03 * len(weights))))
        if not settings.hands or seen.sum() < needed:
            weights[:, hand] = 0.0
        else:
            weights[~seen, hand] = 0.0


def _join_wrists(positions: Array, weights: Array) -> None:
    """Move each hand so that its wrist is the body's, and let it stand in for a wrist that the body lacks."""
    for side, hand in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
        wrist, root = keypoint(f"{side}Wrist"), hand.start
        has_wrist, has_hand = weights[:, wrist] > 0, weights[:, root] > 0
        shift = np.where((has_wrist & has_hand)[:, None], positions[:, wrist] - positions[:, root], 0.0)
        positions[:, hand] += shift[:, None]
        lend = has_hand & ~has_wrist
        positions[lend, wrist], weights[lend, wrist] = positions[lend, root], weights[lend, root]


class _Solver:
    """The pose problem of one clip: the skeleton, the points it is to meet, and how its bones may turn."""

    def __init__(self, skeleton: Skeleton, seen: _Seen, up: Array, settings: FitSettings) -> None:
        self.skeleton, self.seen, self.up, self.settings = skeleton, seen, up, settings
        self.tree = ik.Tree(HUMANOID_PARENTS, skeleton.local_turn, skeleton.local_offset)
        self.rows = _body_rows(skeleton)
        self.keypoints = skeleton.marker_keypoints[self.rows]
        self.freedom = _freedom()
        self.counts = _counts(self.keypoints)
        self.gap = round(settings.fill_gap_s * seen.fps)
        self.builder = Builder(skeleton, seen.positions, seen.weights, up, seen.fps, self.gap, _RELAX_S * seen.fps)

    def solve_raw(self) -> ik.Pose:
        """The pose nearest to the keypoints as they are."""
        root = first_pose(self.builder, hands=self.settings.hands)
        pose = ik.Pose(self.builder.local.copy(), root)
        weights = self._body_weights(self.seen.weights)
        pose = ik.refine(self.tree, pose, self._targets(self.seen.positions[:, self.keypoints], weights), self.freedom)
        return self._with_fingers(pose, self.seen.positions)

    def _with_fingers(self, pose: ik.Pose, positions: Array) -> ik.Pose:
        """The pose with its fingers turned to (T, 137, 3) keypoints."""
        world, _ = ik.place(self.tree, pose)
        turns = pose.turns
        for side in "LR":
            first = bone(f"thumb.01.{side}")
            fingers, known = solve_fingers(self.skeleton, world, positions, self.seen.weights, side)
            relaxed = self.builder.relaxed[first : first + 15]
            turns[:, first : first + 15] = fill_fingers(fingers, known, relaxed, gap=self.gap, decay=self.builder.decay)
        return ik.Pose(turns, pose.root)

    def smooth(self, raw: ik.Pose) -> ik.Pose:
        """The same motion without the noise: smooth rotations, drawn to smoothed keypoints so that no error adds up."""
        fps, amount = self.seen.fps, self.settings.smoothing
        weights = self._body_weights(self.seen.weights)
        positions = self._smooth_keypoints(raw)
        points = positions[:, self.keypoints]
        turns = smooth_rotations(quaternion_from_matrix(raw.turns), self._bone_weights(), fps, amount=amount)
        start = ik.Pose(matrix_from_quaternion(turns), _root_of(points, raw, self.keypoints))
        steady = moving_average(weights, max(1, round(0.1 * fps)))
        body = ik.refine(self.tree, start, self._targets(points, steady), self.freedom, steps=2)
        return self._with_fingers(body, positions)

    def _smooth_keypoints(self, raw: ik.Pose) -> Array:
        """(T, 137, 3) keypoints without their noise; where one is not seen, what the raw pose says."""
        rows = self.skeleton.marker_keypoints
        weights = self.seen.weights[:, rows]
        placed = place_markers(self.skeleton, *ik.place(self.tree, raw))
        points = np.where(weights[..., None] > 0, self.seen.positions[:, rows], placed)
        anchor = np.zeros_like(points)  # fingers are smoothed about the wrist: its noise is not theirs
        for hand, name in ((LEFT_HAND, "LWrist"), (RIGHT_HAND, "RWrist")):
            wrist = points[:, rows == keypoint(name)]
            anchor[:, (rows >= hand.start) & (rows < hand.stop)] = wrist
        smoothed = smooth_positions(points - anchor, weights, self.seen.fps, amount=self.settings.smoothing)
        for hand, name in ((LEFT_HAND, "LWrist"), (RIGHT_HAND, "RWrist")):
            inside = (rows >= hand.start) & (rows < hand.stop)
            smoothed[:, inside] += smoothed[:, rows == keypoint(name)]
        out = np.zeros_like(self.seen.positions)
        out[:, rows] = smoothed
        return out

    def stand(self, pose: ik.Pose, frame: str) -> tuple[ik.Pose, _Ground]:
        """Find the floor and the contacts, and hold the feet that stand."""
        where = self._ground(pose, frame)
        if not self.settings.floor or self.settings.smoothing <= 0 or not (where.contacts > 0.5).any():
            return pose, where
        turn = where.floor_from_frame[:3, :3]
        markers = self._markers(pose)
        points, _ = self._feet(markers)
        level = points @ turn.T + where.floor_from_frame[:3, 3]
        shift = ground.hold_contacts(level, where.contacts, self.seen.fps) @ turn
        steady = moving_average(self._body_weights(self.seen.weights), max(1, round(0.1 * self.seen.fps)))
        steady = np.maximum(steady, 0.05)
        eased = moving_average((where.contacts > 0.5).astype(float), max(1, round(0.1 * self.seen.fps)))
        wanted = markers.copy()
        for i, side in enumerate("LR"):
            for names, s, c in (
                (("Heel",), shift[:, 2 * i], eased[:, 2 * i]),
                (("BigToe", "SmallToe"), shift[:, 2 * i + 1], eased[:, 2 * i + 1]),
                (("Ankle",), shift[:, 2 * i : 2 * i + 2].mean(axis=1), eased[:, 2 * i : 2 * i + 2].min(axis=1)),
            ):
                for name in names:
                    row = int(np.flatnonzero(self.keypoints == keypoint(side + name))[0])
                    wanted[:, row] += s
                    steady[:, row] = np.maximum(steady[:, row], 0.7 * c) * (1.0 + _HOLD * c)
        held = ik.refine(self.tree, pose, self._targets(wanted, steady), self.freedom, steps=2)
        return held, where

    def _ground(self, pose: ik.Pose, frame: str) -> _Ground:
        points, weights = self._feet(self._markers(pose))
        clearance = self._clearance()
        up = self._level(points, weights, frame)
        origin = pose.root[0] if frame != "world" else np.zeros(3)
        turn = ground.floor_transform(up, _heading(up, frame), origin, 0.0)
        if frame == "world" and up @ [0.0, 0.0, 1.0] > 1 - 1e-9:
            turn = np.eye(4)
        if not self.settings.floor:
            return _Ground(turn, ground.find_contacts(points @ turn[:3, :3].T, weights, self.seen.fps, None), clearance)
        level = points @ turn[:3, :3].T + turn[:3, 3]
        seen = weights if (weights > 0).any() else np.ones_like(weights)
        floor = ground.find_floor(level, seen, self.seen.fps, clearance=clearance)
        assert floor is not None
        identity = frame == "world" and np.array_equal(turn, np.eye(4))
        drop = 0.0 if identity and abs(floor.height) < 0.02 else floor.height
        turn[2, 3] -= drop
        floor = replace(floor, height=floor.height - drop, levels=floor.levels - drop)
        level = level - [0.0, 0.0, drop]
        return _Ground(turn, ground.find_contacts(level, weights, self.seen.fps, floor), clearance)

    def _level(self, points: Array, weights: Array, frame: str) -> Array:
        """The upward direction, from how the person stands and where the feet stood."""
        if frame == "world" and np.abs(self.up).max() > 1 - 1e-9 or not self.settings.floor:
            return self.up
        holds = _footholds(points, weights, self.up, self.seen.fps)
        guess = np.array([0.0, -1.0, 0.0]) if frame == "camera" else self.up
        trunk, trust = _standing(self.seen, self.skeleton)
        return ground.estimate_up(trunk, holds, guess=guess, camera_prior=frame == "camera", weights=trust)

    def _markers(self, pose: ik.Pose) -> Array:
        return place_markers(self.skeleton, *ik.place(self.tree, pose))[:, self.rows]

    def _feet(self, markers: Array) -> tuple[Array, Array]:
        positions = np.zeros((len(markers), len(OPENPOSE_137), 3))
        positions[:, self.keypoints] = markers
        points, _ = ground.foot_points(positions, np.ones(positions.shape[:2]))
        _, weights = ground.foot_points(positions, self.seen.weights)
        ankles = self.seen.weights[:, [keypoint("LAnkle"), keypoint("RAnkle")]]
        return points, np.where(np.repeat(ankles, 2, axis=1) > 0, weights, 0.0)

    def _clearance(self) -> Array:
        rest = place_markers(self.skeleton, self.skeleton.rest[None, :, :3, :3], self.skeleton.rest[None, :, :3, 3])
        return self._feet(np.repeat(rest[:, self.rows], len(self.seen.weights), axis=0))[0][0, :, 2]

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

    def _bone_weights(self) -> Array:
        return bone_confidence(self.seen.weights)


def _body_rows(skeleton: Skeleton) -> Array:
    """Rows of the skeleton's markers that the body is fitted to: all but the fingers."""
    palm = {f"{side}Hand{name}1" for side in "LR" for name in ("Thumb", "Index", "Middle", "Ring", "Little")}
    wanted = {*BODY_25, *HEAD_POINTS, *palm}
    return np.array([i for i, k in enumerate(skeleton.marker_keypoints) if OPENPOSE_137[k] in wanted])


def _counts(keypoints: Array) -> Array:
    """(M,) how much each kind of point counts against a joint of a limb."""
    names = [OPENPOSE_137[k] for k in keypoints]
    return np.array([min([c for part, c in _COUNTS.items() if part in name], default=1.0) for name in names])


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


def _estimate_up(seen: _Seen, skeleton: Skeleton, frame: str) -> Array:
    """First guess of the upward direction: -y of a camera; of a world z, or the axis along which people stand."""
    if frame != "world":
        return np.array([0.0, -1.0, 0.0])
    trunk, weights = _standing(seen, skeleton)
    if not len(trunk):
        return np.array([0.0, 0.0, 1.0])
    mean = unit(np.sum(weights[:, None] * unit(trunk), axis=0))
    if mean[2] > _UPRIGHT:
        return np.array([0.0, 0.0, 1.0])
    axis = int(np.argmax(np.abs(mean)))
    return np.eye(3)[axis] * np.sign(mean[axis]) if abs(mean[axis]) > _UPRIGHT else mean


def _standing(seen: _Seen, skeleton: Skeleton) -> tuple[Array, Array]:
    """Directions (N, 3) from hips to neck, with weights (N,), in frames where the person stands with straight legs.

    Where no frame shows legs, all frames count: people at desks sit upright.
    """
    def middle(part: str) -> tuple[Array, Array]:
        index = [keypoint(f"L{part}"), keypoint(f"R{part}")]
        return seen.positions[:, index].mean(axis=1), seen.weights[:, index].min(axis=1)

    (neck, nw), (hips, hw), (ankles, aw) = middle("Shoulder"), middle("Hip"), middle("Ankle")
    trunk, legs = neck - hips, hips - ankles
    weight = np.minimum(nw, hw)
    if (np.minimum(weight, aw) > 0).any():
        whole = skeleton.lengths[bone("thigh.L")] + skeleton.lengths[bone("shin.L")]
        aligned = np.sum(unit(trunk) * unit(legs), axis=-1) > np.cos(np.radians(25.0))
        weight = np.minimum(weight, aw) * aligned * (np.linalg.norm(legs, axis=-1) > 0.88 * whole)
    keep = weight > 0
    return trunk[keep], weight[keep]


def _footholds(points: Array, weights: Array, up: Array, fps: float) -> Array:
    """Places (M, 3) where the lower foot stayed for a while, one for each time it did."""
    slow = (ground.speeds(points, fps) < 0.25) & (weights > 0)
    height = points @ up
    slow &= height < height.min(axis=1, keepdims=True) + 0.08
    holds = []
    for i in range(points.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], slow[:, i].astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            if stop - start >= max(2, 0.15 * fps):
                holds.append(points[start:stop, i].mean(axis=0))
    return np.array(holds).reshape(-1, 3)


def _heading(up: Array, frame: str) -> Array:
    """What is to point along +Y: where a camera looks; in a world, the axis that keeps z-up worlds as they are."""
    if frame != "world":
        return np.array([0.0, 0.0, 1.0])
    y = np.array([0.0, 1.0, 0.0])
    return y if abs(up @ y) < 0.9 else np.array([0.0, 0.0, -np.sign(up @ y)])


def bone_confidence(weights: Array) -> Array:
    """(T, B) confidence of bones from (T, 137) of keypoints: the least of the joints at their ends; 0 where unseen."""
    def least(*names: str) -> Array:
        return weights[:, [keypoint(name) for name in names]].min(axis=1)

    hips = np.maximum(least("LHip", "RHip"), least("MidHip"))
    chest = np.maximum(least("LShoulder", "RShoulder"), least("Neck"))
    face = np.sort(weights[:, [keypoint(name) for name in HEAD_POINTS]], axis=1)[:, -3]
    out = {"hips": hips, "spine": np.minimum(hips, chest), "chest": chest, "neck": np.minimum(chest, face), "head": face}
    for s in "LR":
        out[f"shoulder.{s}"] = least(f"{s}Shoulder")
        out[f"upper_arm.{s}"] = least(f"{s}Shoulder", f"{s}Elbow")
        out[f"forearm.{s}"] = least(f"{s}Elbow", f"{s}Wrist")
        out[f"hand.{s}"] = least(f"{s}HandWrist", f"{s}HandIndex1", f"{s}HandLittle1")
        out[f"thigh.{s}"] = least(f"{s}Hip", f"{s}Knee")
        out[f"shin.{s}"] = least(f"{s}Knee", f"{s}Ankle")
        out[f"foot.{s}"] = least(f"{s}Ankle", f"{s}BigToe")
        out[f"toe.{s}"] = least(f"{s}BigToe")
        for finger in ("thumb", "index", "middle", "ring", "little"):
            for i in (1, 2, 3):
                ends = [f"{s}Hand{finger.capitalize()}{k}" for k in (i, i + 1)]
                out[f"{finger}.{i:02d}.{s}"] = least(*ends)
    return np.stack([out[name] for name in HUMANOID_NAMES], axis=1)


def _pack(keypoints: Keypoints3D, solver: _Solver, raw: ik.Pose, smooth: ik.Pose, where: _Ground) -> BodyMotion:
    skeleton, header = solver.skeleton, keypoints.header
    kept = {name: header[name] for name in ("fps", "frame", "cameras", "sources") if name in header}
    carried = zip(skeleton.marker_keypoints, skeleton.marker_bones, skeleton.marker_offsets, strict=True)
    markers = [[OPENPOSE_137[k], HUMANOID_NAMES[b], np.round(o, 6).tolist()] for k, b, o in carried]
    return BodyMotion(
        header={
            **kept, "unit": "m", "skeleton": "humanoid", "bones": list(HUMANOID_NAMES),
            "lengths_m": skeleton.lengths.tolist(), "floor_from_frame": where.floor_from_frame.tolist(),
            "clearance_m": where.clearance.tolist(), "markers": markers,
        },
        rotations=continuous(quaternion_from_matrix(smooth.turns)),
        root=smooth.root,
        rest=skeleton.rest,
        parents=np.array(HUMANOID_PARENTS),
        confidence=bone_confidence(solver.seen.weights),
        times=np.asarray(keypoints.times, float),
        contacts=where.contacts,
        rotations_raw=continuous(quaternion_from_matrix(raw.turns)),
        root_raw=raw.root,
    )  # fmt: skip


def _warn(seen: _Seen, report: Reporter) -> None:
    for name, index in (("left hand", LEFT_HAND), ("right hand", RIGHT_HAND)):
        if not (seen.weights[:, index] > 0).any():
            report.warning("not-seen", f"The {name} is never seen well enough; it stays relaxed, with confidence 0.")
    legs = [keypoint(name) for name in ("LKnee", "RKnee", "LAnkle", "RAnkle")]
    if not (seen.weights[:, legs] > _FAINT).any():
        report.warning("not-seen", "The legs are never seen; they stand at ease, with confidence 0.")


def evaluate_fit(keypoints: Keypoints3D, motion: BodyMotion) -> dict[str, Any]:
    """Figures of a fit, for reports and benchmarks: millimetres, and metres a second for sliding.

    Jitter is the root mean square second difference of body joints times fps^2, in m/s^2.
    """
    body = [i for i, name in enumerate(BODY_25) if name not in ("Neck", "MidHip")]
    source = [list(keypoints.header["joints"]).index(BODY_25[i]) for i in body]
    seen = keypoints.positions[:, source]
    known = np.isfinite(seen).all(axis=-1) & (keypoints.confidence[:, source] > _FAINT) & keypoints.validity[:, source]
    after = motion_keypoints(motion)[:, body]
    raw = motion
    if motion.rotations_raw is not None and motion.root_raw is not None:
        raw = replace(motion, rotations=motion.rotations_raw, root=motion.root_raw)
    before = motion_keypoints(raw)[:, body]
    turn = np.array(motion.header["floor_from_frame"])
    clearance = np.array(motion.header.get("clearance_m", [0.0] * 4))

    def feet(m: BodyMotion) -> Array:
        points, _ = ground.foot_points(motion_keypoints(m), np.ones((len(m.root), len(OPENPOSE_137))))
        return points @ turn[:3, :3].T + turn[:3, 3]

    sunk, deepest = ground.penetration(feet(motion), clearance)
    return {
        "limb_length_std_mm": {name: _length_std(keypoints, a, b) for name, a, b in LIMBS},
        "limb_length_std_after_mm": 0.0,
        "residual_mm": _mean(1e3 * np.linalg.norm(after - seen, axis=-1)[known]),
        "residual_raw_mm": _mean(1e3 * np.linalg.norm(before - seen, axis=-1)[known]),
        "jitter_input": _jitter(seen, known, motion.fps),
        "jitter_raw": _jitter(before, known, motion.fps),
        "jitter": _jitter(after, known, motion.fps),
        "foot_slide_raw": ground.slide_speed(feet(raw), motion.contacts, motion.fps),
        "foot_slide": ground.slide_speed(feet(motion), motion.contacts, motion.fps),
        "penetration_mm": 1e3 * sunk,
        "penetration_max_mm": 1e3 * deepest,
        "contact_share": _mean(motion.contacts > 0.5),
        "seen_share": _mean(known),
    }


def _mean(values: Array) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0


def _length_std(keypoints: Keypoints3D, a: int, b: int) -> float:
    joints = list(keypoints.header["joints"])
    i, j = joints.index(BODY_25[a]), joints.index(BODY_25[b])
    length = np.linalg.norm(keypoints.positions[:, i] - keypoints.positions[:, j], axis=-1)
    both = np.isfinite(length) & keypoints.validity[:, i] & keypoints.validity[:, j]
    return 1e3 * float(np.std(length[both])) if both.any() else 0.0


def _jitter(points: Array, known: Array, fps: float) -> float:
    if len(points) < 3:
        return 0.0
    second = np.linalg.norm(np.diff(points, 2, axis=0), axis=-1) * fps**2
    whole = known[2:] & known[1:-1] & known[:-2]
    return float(np.sqrt(np.mean(second[whole] ** 2))) if whole.any() else 0.0
