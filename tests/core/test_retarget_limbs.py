"""Turning is shared out along limbs without changing where they point, and hands reach where the performer's do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inference.core.retarget import Retargeter, retarget
from inference.core.retarget.posing import evaluate
from inference.core.rig import HUMANOID_MAPPING, Mapping, Performance, Rig, RigMotion
from inference.core.rotations import cross, unit
from inference.protocol.retarget import RetargetSettings
from tests.rigs import made

POSE = RetargetSettings(lock_feet=0.0, floor=False)


def _since_rest(motion: RigMotion | Performance, bone: str) -> Rotation:
    row = motion.rig.index[bone]
    return Rotation.from_matrix(motion.turns[:, row] @ motion.rig.rest[row, :3, :3].T)


def _twist_deg(motion: RigMotion, bone: str, against: str, axis: np.ndarray) -> np.ndarray:
    """Degrees by which a bone is turned about an axis of the rest pose, seen from another bone."""
    q = (_since_rest(motion, against).inv() * _since_rest(motion, bone)).as_quat()
    return np.degrees((2 * np.arctan2(q[:, :3] @ axis, q[:, 3]) + np.pi) % (2 * np.pi) - np.pi)


def _on(rig: Rig, mapping: Mapping, performance: Performance, **changes: float) -> RigMotion:
    motion = retarget(performance, rig, mapping, replace(POSE, **changes))
    turns, heads = evaluate(motion.rig, motion.keyed, motion.rotations, motion.moved, motion.locations)
    np.testing.assert_allclose(turns, motion.turns, atol=1e-9)
    np.testing.assert_allclose(heads, motion.heads, atol=1e-9)
    return motion


def _turned_hand(degrees: float = 80.0) -> Performance:
    """An arm bent at the elbow, and the hand turned about the forearm."""
    return made.gesture({"forearm.L": [0.9, 0, 0], "hand.L": [0.0, np.radians(degrees), 0.0]}, frames=2)


LEFT = np.array([1.0, 0.0, 0.0])  # along the left arm of the T-pose


def test_segments_of_a_forearm_turn_the_more_the_nearer_they_are_to_the_hand() -> None:
    rig, mapping = made.split(made.humanoid(), HUMANOID_MAPPING, "forearm.L", 3)
    motion = _on(rig, mapping, _turned_hand())
    turns = [_twist_deg(motion, bone, "upper_arm.L", LEFT)[0] for bone in mapping.bones["forearm.L"]]
    np.testing.assert_allclose(turns, np.array([1, 3, 5]) / 6 * 80.0, atol=1e-6)


def test_bones_beside_a_forearm_turn_by_where_they_sit_and_leave_the_forearm_alone() -> None:
    rig, mapping = made.beside(made.humanoid(), HUMANOID_MAPPING, "forearm.L", (0.25, 0.75))
    motion = _on(rig, mapping, _turned_hand())
    turns = [_twist_deg(motion, bone, "upper_arm.L", LEFT)[0] for bone in mapping.bones["forearm_twist.L"]]
    np.testing.assert_allclose(turns, [20.0, 60.0], atol=1e-6)
    np.testing.assert_allclose(_twist_deg(motion, "forearm.L", "upper_arm.L", LEFT), 0.0, atol=1e-6)


def test_a_forearm_of_one_bone_takes_half_so_that_the_wrist_does_not_wring() -> None:
    rig = made.a_pose(made.humanoid())
    motion = _on(rig, HUMANOID_MAPPING, _turned_hand())
    axis = unit(rig.heads[rig.index["hand.L"]] - rig.heads[rig.index["forearm.L"]])
    np.testing.assert_allclose(_twist_deg(motion, "hand.L", "forearm.L", axis), 40.0, atol=1e-6)
    untouched = _on(rig, HUMANOID_MAPPING, _turned_hand(), twist=0.0)
    np.testing.assert_allclose(_twist_deg(untouched, "hand.L", "forearm.L", axis), 80.0, atol=1e-6)


def test_bones_at_the_shoulder_stay_behind_and_the_one_at_the_elbow_does_not() -> None:
    performance = made.gesture({"upper_arm.L": [0.0, np.radians(60.0), 0.0], "forearm.L": [1.0, 0, 0]})
    rig, mapping = made.split(made.humanoid(), HUMANOID_MAPPING, "upper_arm.L", 3)
    motion = _on(rig, mapping, performance)
    turns = [_twist_deg(motion, bone, "shoulder.L", LEFT)[0] for bone in mapping.bones["upper_arm.L"]]
    np.testing.assert_allclose(turns, [12.0, 36.0, 60.0], atol=1e-6)
    rig, mapping = made.beside(made.humanoid(), HUMANOID_MAPPING, "upper_arm.L", (0.0, 0.5))
    motion = _on(rig, mapping, performance)
    turns = [_twist_deg(motion, bone, "shoulder.L", LEFT)[0] for bone in mapping.bones["upper_arm_twist.L"]]
    np.testing.assert_allclose(turns, [0.0, 30.0], atol=1e-6)


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_sharing_changes_neither_where_limbs_point_nor_how_hands_and_feet_are_turned(amount: float) -> None:
    performance = made.random_performance(20, spread=0.8)
    rig, mapping = made.humanoid(), HUMANOID_MAPPING
    for bone in ("forearm.L", "upper_arm.L", "thigh.R", "shin.R"):
        rig, mapping = made.split(rig, mapping, bone, 2)
    for bone in ("forearm.R", "upper_arm.R", "thigh.L", "shin.L"):
        rig, mapping = made.beside(rig, mapping, bone, (0.3, 0.6))
    motion = _on(rig, mapping, performance, twist=amount)
    for bone in (f"{part}.{side}" for side in "LR" for part in ("hand", "foot", "forearm", "shin")):
        here, there = motion.heads[:, rig.index[bone]], performance.heads[:, performance.rig.index[bone]]
        np.testing.assert_allclose(here, there, atol=1e-9)
        if bone.startswith(("hand", "foot")):
            error = _since_rest(motion, bone).inv() * _since_rest(performance, bone)
            assert error.magnitude().max() < 1e-9


def test_turning_is_shared_without_jumps_when_it_passes_half_a_turn() -> None:
    rig, mapping = made.beside(made.humanoid(), HUMANOID_MAPPING, "forearm.L", (0.5,))
    angles = np.linspace(0.0, 2 * np.pi, 361)[:, None]
    performance = made.gesture({"hand.L": angles * [0.0, 1.0, 0.0]}, frames=361)
    motion = _on(rig, mapping, performance)
    twist = _since_rest(motion, mapping.bones["forearm_twist.L"][0])
    assert np.degrees((twist[1:] * twist[:-1].inv()).magnitude()).max() < 3.0


def test_elbows_of_a_bent_rest_pose_fold_in_their_own_plane() -> None:
    rig = made.posed(made.a_pose(made.humanoid()), {"forearm.L": [0.0, 0.3, -0.6], "forearm.R": [0.0, -0.3, 0.6]})
    frames = 30
    bend = np.linspace(0.0, 2.0, frames)[:, None] * [1.0, 0.0, 0.0]
    performance = made.gesture({"forearm.L": bend, "forearm.R": bend}, frames=frames)
    motion = _on(rig, HUMANOID_MAPPING, performance, twist=0.0)
    for side in "LR":
        joints = [rig.heads[rig.index[f"{part}.{side}"]] for part in ("upper_arm", "forearm", "hand")]
        axis = unit(cross(joints[1] - joints[0], joints[2] - joints[1]))
        q = (_since_rest(motion, f"upper_arm.{side}").inv() * _since_rest(motion, f"forearm.{side}")).as_rotvec()
        off = np.linalg.norm(q - (q @ axis)[:, None] * axis, axis=-1)
        assert off.max() < 1e-6


def _tips(body_rig: Rig, motion: RigMotion | Performance, side: str) -> np.ndarray:
    """(T, 3) of the last joint of the middle finger, from between the shoulders."""
    middle = (motion.heads[:, body_rig.index["upper_arm.L"]] + motion.heads[:, body_rig.index["upper_arm.R"]]) / 2
    return motion.heads[:, body_rig.index[f"middle.03.{side}"]] - middle


def _reaching() -> Performance:
    """Hands that come together before the chest and go apart, within reach."""
    frames = 40
    wave = np.sin(np.linspace(0, 2 * np.pi, frames))[:, None]
    rotations = {}
    for side in "LR":
        rotations[f"upper_arm.{side}"] = np.array([0.7, 0.3, 0.0]) + wave * [0.2, 0.0, 0.3]
        rotations[f"forearm.{side}"] = (1.2 + 0.3 * wave) * np.array([1.0, 0.0, 0.0])
    return made.gesture(rotations, frames=frames)


@pytest.mark.parametrize(("upper", "lower", "shoulder"), [(1.2, 1.0, 1.0), (1.0, 1.25, 1.2), (0.85, 1.2, 0.8)])
def test_fingertips_reach_the_performers_place_with_other_proportions(
    upper: float, lower: float, shoulder: float
) -> None:
    rig, performance, factors = made.humanoid(1.4), _reaching(), np.ones(51)
    for side in "LR":
        for part, factor in (("upper_arm", upper), ("forearm", lower), ("shoulder", shoulder)):
            factors[rig.index[f"{part}.{side}"]] = factor
    rig = made.lengthened(rig, factors)
    plain, reached = (_on(rig, HUMANOID_MAPPING, performance, arm_reach=amount) for amount in (0.0, 1.0))
    for side in "LR":
        wanted = 1.4 * _tips(performance.rig, performance, side)
        assert np.linalg.norm(_tips(rig, reached, side) - wanted, axis=-1).max() < 1.4 * 0.015
        assert np.linalg.norm(_tips(rig, plain, side) - wanted, axis=-1).max() > 1.4 * 0.015
        turned = _since_rest(reached, f"hand.{side}").inv() * _since_rest(performance, f"hand.{side}")
        assert turned.magnitude().max() < 1e-9


def test_fingertips_and_toes_are_the_performers_at_any_uniform_size() -> None:
    performance = made.random_performance(20)
    for scale in (0.5, 1.0, 3.0):
        rig = made.rolled(made.a_pose(made.humanoid(scale)), 5)
        motion = _on(rig, HUMANOID_MAPPING, performance)
        for bone in ("middle.03.L", "thumb.03.R", "toe.L", "toe.R"):
            error = motion.heads[:, rig.index[bone]] - scale * performance.heads[:, performance.rig.index[bone]]
            assert np.linalg.norm(error, axis=-1).max() < 0.015 * scale


def test_an_arm_that_is_too_short_points_there_and_keeps_its_length() -> None:
    rig, performance, factors = made.humanoid(), made.gesture({"upper_arm.L": [0.5, 0, 0]}, frames=3), np.ones(51)
    for part in ("upper_arm", "forearm"):
        factors[rig.index[f"{part}.L"]] = 0.6
    rig = made.lengthened(rig, factors)
    motion = _on(rig, HUMANOID_MAPPING, performance, arm_reach=1.0)
    shoulder, elbow, hand = (motion.heads[:, rig.index[f"{part}.L"]] for part in ("upper_arm", "forearm", "hand"))
    assert np.all(np.isfinite(motion.rotations))
    straight = np.sum(unit(elbow - shoulder) * unit(hand - elbow), axis=-1)
    assert straight.min() > np.cos(np.radians(8.0))


def test_reaching_keeps_elbows_bent_the_way_they_bend() -> None:
    performance, rig = _reaching(), made.lengthened(made.humanoid(), np.full(51, 1.0))
    factors = np.ones(51)
    factors[[rig.index["upper_arm.L"], rig.index["upper_arm.R"]]] = 1.3
    rig = made.lengthened(rig, factors)
    there = Retargeter(performance, rig, HUMANOID_MAPPING)
    plain, reached = (there.solve(replace(POSE, arm_reach=amount)) for amount in (0.0, 1.0))
    for side in "LR":
        axes = []
        for motion in (plain, reached):
            a, b, c = (motion.heads[:, rig.index[f"{part}.{side}"]] for part in ("upper_arm", "forearm", "hand"))
            axes.append(unit(cross(b - a, c - b)))
        assert np.sum(axes[0] * axes[1], axis=-1).min() > 0.9


def _stepping(frames: int = 40) -> Performance:
    """Legs that swing, lift and bend."""
    t = np.linspace(0.0, 2.0 * np.pi, frames)[:, None]
    rotations = {}
    for side, phase in (("L", 0.0), ("R", np.pi)):
        rotations[f"thigh.{side}"] = (0.2 + 0.5 * np.sin(t + phase)) * np.array([-1.0, 0.0, 0.1])
        rotations[f"shin.{side}"] = (0.5 + 0.4 * np.cos(t + phase)) * np.array([1.0, 0.0, 0.0])
        rotations[f"foot.{side}"] = 0.2 * np.sin(t) * np.array([1.0, 0.0, 0.0])
    return made.gesture(rotations, frames=frames)


@pytest.mark.parametrize(("thigh", "shin", "foot"), [(1.1, 0.9, 1.0), (0.9, 1.1, 1.3), (1.0, 1.0, 1.4)])
def test_toes_reach_the_performers_place_with_other_proportions(thigh: float, shin: float, foot: float) -> None:
    rig, performance, factors = made.humanoid(1.4), _stepping(), np.ones(51)
    for side in "LR":
        for part, factor in (("thigh", thigh), ("shin", shin), ("foot", foot)):
            factors[rig.index[f"{part}.{side}"]] = factor
    rig = made.lengthened(rig, factors)
    there = Retargeter(performance, rig, HUMANOID_MAPPING)
    plain, reached = (there.solve(replace(POSE, leg_reach=amount)) for amount in (0.0, 1.0))
    for side in "LR":
        toes = [m.heads[:, rig.index[f"toe.{side}"]] - _mid_hips(rig, m) for m in (plain, reached)]
        wanted = performance.heads[:, performance.rig.index[f"toe.{side}"]] - _mid_hips(performance.rig, performance)
        off = [np.linalg.norm(place - there.ratio * wanted, axis=-1) / there.ratio for place in toes]
        assert off[1].max() < 0.015 < off[0].max()
        turned = _since_rest(reached, f"foot.{side}").inv() * _since_rest(performance, f"foot.{side}")
        assert turned.magnitude().max() < 1e-9


def _mid_hips(rig: Rig, motion: Performance | RigMotion) -> np.ndarray:
    return (motion.heads[:, rig.index["thigh.L"]] + motion.heads[:, rig.index["thigh.R"]]) / 2
