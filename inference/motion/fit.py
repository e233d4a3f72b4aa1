"""Keypoints in space -> a skeleton with constant bone lengths, moving.

The road: drop spikes and fill short gaps; measure the person; read a first pose off the keypoints; refine it so that
joints meet the keypoints as closely as constant lengths allow (that is the raw result); smooth keypoints and rotations,
and refine again towards those; find the floor and the contacts, and hold feet that stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core import ik
from ..core.artifacts import BodyMotion, Keypoints3D
from ..core.contacts import foot_points, penetration, slide_speed
from ..core.humanoid import Skeleton, keypoint, make_skeleton, motion_keypoints
from ..core.metrics import limb_lengths
from ..core.rotations import continuous, quaternion_from_matrix
from ..core.skeletons import BODY_25, HUMANOID_NAMES, HUMANOID_PARENTS, LEFT_HAND, LIMBS, OPENPOSE_137, RIGHT_HAND
from ..protocol.events import Reporter
from .clean import FAINT, Seen, bone_confidence, clean
from .grounding import ground_drift
from .proportions import measure_person
from .solver import Solver
from .standing import Ground, camera_up, estimate_up, find_ground, guess_up, stand_on

Array = np.ndarray
_STEPS = 5
_KEPT = ("fps", "frame", "cameras", "sources", "clips", "sync")


@dataclass(frozen=True)
class FitSettings:
    """`smoothing` 0 keeps the raw result, 0.5 takes off the noise, 1 more; gaps up to `fill_gap_s` are bridged."""

    smoothing: float = 0.5
    fill_gap_s: float = 0.5
    floor: bool = True
    hands: bool = True


def fit(keypoints: Keypoints3D, settings: FitSettings, report: Reporter) -> BodyMotion:
    """Fit a humanoid skeleton to keypoints, in their frame.

    What is never seen stands at ease with confidence 0. In a calibrated world whose z points up, `floor_from_frame`
    only moves, and only where the floor is clearly off zero; from one camera it levels the camera's tilt, puts the
    floor at 0 and the first frame's hips over the origin, with the camera looking along +Y.

    Raises:
        InputError: no frame shows hips or shoulders.
    """
    frame = keypoints.header["frame"]
    report.progress("fit", 0, _STEPS)
    seen = clean(keypoints, gap_s=settings.fill_gap_s, hands=settings.hands)
    skeleton = make_skeleton(measure_person(seen.positions, seen.firm))
    report.progress("fit", 1, _STEPS)
    up = guess_up(seen, skeleton, frame)
    solver = Solver(skeleton, seen, up, gap_s=settings.fill_gap_s)
    raw = solver.solve(hands=settings.hands)
    report.progress("fit", 2, _STEPS)
    smooth = solver.smooth(raw, settings.smoothing) if settings.smoothing > 0 else raw
    report.progress("fit", 3, _STEPS)
    smooth, ground = _stand(solver, smooth, up, settings, frame)
    report.progress("fit", 4, _STEPS)
    _warn(seen, report)
    motion = _pack(keypoints, skeleton, raw, smooth)
    motion = replace(motion, bone_confidence=bone_confidence(seen.weights), contacts=ground.contacts).with_header(
        floor_from_frame=ground.floor_from_frame.tolist(), clearance_m=ground.clearance.tolist()
    )
    motion = _with_keypoints(motion, keypoints)
    motion = motion.with_header(diagnostics=evaluate_fit(keypoints, motion))
    report.progress("fit", _STEPS, _STEPS)
    return motion


def _stand(solver: Solver, pose: ik.Pose, up: Array, settings: FitSettings, frame: str) -> tuple[ik.Pose, Ground]:
    """Find the ground, and set the feet on it.

    One camera's noise of depth makes the body rise and sink: before it, the root follows the ground.
    """
    seen, feet = solver.seen, solver.feet(pose)
    held, one_camera = settings.floor and settings.smoothing > 0, frame != "world"
    if settings.floor and one_camera:
        supports = solver.supports(pose, feet)
        up = camera_up(supports, seen, solver.skeleton)
        if (feet.weights > 0).any():
            drift = ground_drift(supports, up, pose.root)
            height = float(np.median(drift))
            pose = solver.raised(pose, up, height - drift) if held else pose
            ground = stand_on(solver.feet(pose), up=up, height=height, origin=pose.root[0], fps=seen.fps)
            return (solver.hold(pose, ground, on_floor=True) if held else pose), ground
    elif settings.floor:
        up = estimate_up(feet, seen, solver.skeleton, guess=up)
    ground = find_ground(feet, up=up, frame=frame, origin=pose.root[0], fps=seen.fps, move=settings.floor)
    if held and (ground.contacts > 0.5).any():
        pose = solver.hold(pose, ground)
    return pose, ground


def _pack(keypoints: Keypoints3D, skeleton: Skeleton, raw: ik.Pose, smooth: ik.Pose) -> BodyMotion:
    header = {name: keypoints.header[name] for name in _KEPT if name in keypoints.header}
    carried = zip(skeleton.marker_keypoints, skeleton.marker_bones, skeleton.marker_offsets, strict=True)
    header |= {
        "unit": "m", "skeleton": "humanoid", "bones": list(HUMANOID_NAMES), "lengths_m": skeleton.lengths.tolist(),
        "markers": [[OPENPOSE_137[k], HUMANOID_NAMES[b], np.round(o, 6).tolist()] for k, b, o in carried],
    }  # fmt: skip
    count = len(keypoints.times)
    return BodyMotion(
        header=header,
        rotations=continuous(quaternion_from_matrix(smooth.turns)),
        root=smooth.root,
        rest=skeleton.rest,
        parents=np.array(HUMANOID_PARENTS),
        bone_confidence=np.zeros((count, len(HUMANOID_NAMES))),
        times=np.asarray(keypoints.times, float),
        contacts=np.zeros((count, 4)),
        rotations_raw=continuous(quaternion_from_matrix(raw.turns)),
        root_raw=raw.root,
    )


def _with_keypoints(motion: BodyMotion, keypoints: Keypoints3D) -> BodyMotion:
    """Add where the skeleton carries the keypoints, with the confidence that they were measured with."""
    positions = motion_keypoints(motion)
    confidence = np.zeros(positions.shape[:2])
    order = [OPENPOSE_137.index(name) for name in keypoints.header["joints"]]
    confidence[:, order] = np.nan_to_num(keypoints.confidence)
    confidence[~np.isfinite(positions).all(axis=-1)] = 0.0
    return replace(motion, positions=positions, confidence=confidence).with_header(joints=list(OPENPOSE_137))


def _warn(seen: Seen, report: Reporter) -> None:
    for name, index in (("left hand", LEFT_HAND), ("right hand", RIGHT_HAND)):
        if not (seen.weights[:, index] > 0).any():
            report.warning("not-seen", f"The {name} is never seen well enough; it stays relaxed, with confidence 0.")
    legs = [keypoint(name) for name in ("LKnee", "RKnee", "LAnkle", "RAnkle")]
    if not (seen.weights[:, legs] > FAINT).any():
        report.warning("not-seen", "The legs are never seen; they stand at ease, with confidence 0.")


def evaluate_fit(keypoints: Keypoints3D, motion: BodyMotion) -> dict[str, Any]:
    """Figures of a fit, for reports and benchmarks: millimetres, and metres a second for sliding.

    Jitter is the root mean square second difference of body joints times fps^2, in m/s^2.
    """
    body = [i for i, name in enumerate(BODY_25) if name not in ("Neck", "MidHip")]
    source = [list(keypoints.header["joints"]).index(BODY_25[i]) for i in body]
    seen = keypoints.positions[:, source]
    known = np.isfinite(seen).all(axis=-1) & (keypoints.confidence[:, source] > FAINT) & keypoints.validity[:, source]
    after = motion_keypoints(motion)[:, body]
    raw = motion
    if motion.rotations_raw is not None and motion.root_raw is not None:
        raw = replace(motion, rotations=motion.rotations_raw, root=motion.root_raw)
    before = motion_keypoints(raw)[:, body]
    turn = np.array(motion.header["floor_from_frame"])
    clearance = np.array(motion.header.get("clearance_m", [0.0] * 4))

    def feet(m: BodyMotion) -> Array:
        points, _ = foot_points(motion_keypoints(m), np.ones((len(m.root), len(OPENPOSE_137))))
        return points @ turn[:3, :3].T + turn[:3, 3]

    sunk, deepest = penetration(feet(motion), clearance)
    return {
        "limb_length_std_mm": {name: _length_std(keypoints, a, b) for name, a, b in LIMBS},
        "limb_length_std_after_mm": 1e3 * float(np.std(limb_lengths(motion_keypoints(motion)), axis=0).max()),
        "residual_mm": _mean(1e3 * np.linalg.norm(after - seen, axis=-1)[known]),
        "residual_raw_mm": _mean(1e3 * np.linalg.norm(before - seen, axis=-1)[known]),
        "jitter_input": _jitter(seen, known, motion.fps),
        "jitter_raw": _jitter(before, known, motion.fps),
        "jitter": _jitter(after, known, motion.fps),
        "foot_slide_raw": slide_speed(feet(raw), motion.contacts, motion.fps),
        "foot_slide": slide_speed(feet(motion), motion.contacts, motion.fps),
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
