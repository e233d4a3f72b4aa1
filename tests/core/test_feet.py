"""Feet stay where they stand, out of the floor and within reach, on legs of any length and make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inference.core.artifacts import BodyMotion
from inference.core.retarget import Retargeter, legs
from inference.core.retarget.feet import (
    find_feet,
    lift,
    lock,
    measure,
    settle,
    sole_points,
    source_contacts,
    source_levels,
    steps_of,
)
from inference.core.retarget.posing import evaluate, repose
from inference.core.rig import HUMANOID_MAPPING, Mapping, Performance, Rig, RigMotion, performance_of
from inference.protocol.retarget import RetargetSettings
from tests import recorded
from tests.rigs import made
from tests.walker import performance, rest_motion, walk

GOLDEN = Path(__file__).parents[1] / "golden/body_motion.npz"
KINDS = ("adult", "child", "giant")
EVERY = (0, 1, 2, 3)


def _moved(motion: RigMotion, shift: np.ndarray) -> RigMotion:
    """The whole character carried along by (T, 3)."""
    hips = int(motion.moved[0])
    return repose(motion, {}, {hips: motion.heads[:, hips] + shift})


def _crouched(rig: Rig, mapping: Mapping, frames: int = 40, depth: float = 0.1) -> RigMotion:
    """A rig whose feet are as at rest and whose hips are lower by a share of the leg."""
    motion = rest_motion(rig, mapping, frames)
    feet = find_feet(rig, mapping)
    drop = depth * feet[0].sole.leg * np.array([0.0, 0.0, 1.0])
    turns = {}
    for foot in feet:
        hip, knee, ankle = (motion.heads[:, rows[0]] for rows in (foot.thigh, foot.shin, foot.foot))
        leg = legs.Leg(hip, knee, ankle, np.tile(foot.sole.left, (frames, 1)))
        upper, lower = legs.bend(leg, hip - drop, ankle)
        turns.update({row: upper @ motion.turns[:, row] for row in foot.thigh})
        turns.update({row: lower @ motion.turns[:, row] for row in foot.shin})
        turns[foot.foot[0]] = motion.turns[:, foot.foot[0]]
    hips = int(motion.moved[0])
    return repose(motion, turns, {hips: motion.heads[:, hips] - drop})


def _standing(frames: int, columns: tuple[int, ...] = EVERY) -> np.ndarray:
    out = np.zeros((frames, 4))
    out[:, columns] = 1.0
    return out


def _line(frames: int, step_m: float) -> np.ndarray:
    return np.outer(np.arange(frames) * step_m, [0.0, -1.0, 0.0])


def _assert_consistent(motion: RigMotion) -> None:
    turns, heads = evaluate(motion.rig, motion.keyed, motion.rotations, motion.moved, motion.locations)
    np.testing.assert_allclose(turns, motion.turns, atol=1e-9)
    np.testing.assert_allclose(heads, motion.heads, atol=1e-9)


def test_soles_do_not_depend_on_the_axes_of_bones() -> None:
    rig = made.humanoid()
    for seed in range(3):
        for foot, same in zip(
            find_feet(rig, HUMANOID_MAPPING), find_feet(made.rolled(rig, seed), HUMANOID_MAPPING), strict=True
        ):
            for name in ("ankle", "joint", "heel", "ball"):
                np.testing.assert_allclose(getattr(foot.sole, name), getattr(same.sole, name), atol=1e-12)
            ahead = np.array([0.0, -1.0, 0.0])
            assert (same.sole.tip - same.sole.ball) @ ahead > 0.02


def test_soles_lie_on_the_floor_with_the_heel_behind_the_ankle() -> None:
    rig = made.humanoid()
    raised = replace(rig, ground=-0.05)
    for foot in find_feet(raised, HUMANOID_MAPPING):
        sole = foot.sole
        assert [p[2] for p in (sole.heel, sole.ball, sole.tip)] == [-0.05] * 3
        assert sole.heel[1] > sole.ankle[1] > sole.ball[1] > sole.tip[1]


def test_legs_without_feet_and_feet_without_toes_are_normal() -> None:
    rig = made.humanoid()
    bare, mapping = made.without(rig, HUMANOID_MAPPING, "foot.L", "toe.L", "toe.R")
    feet = find_feet(bare, mapping)
    assert [foot.side for foot in feet] == ["R"]
    assert feet[0].toe == ()
    assert feet[0].sole.ball[1] < feet[0].sole.heel[1]
    assert find_feet(rig, Mapping("none", {})) == ()


def test_toes_that_nobody_mapped_still_say_how_long_a_foot_is() -> None:
    rig = made.humanoid()
    whole = find_feet(rig, HUMANOID_MAPPING)[0].sole
    unmapped = replace(HUMANOID_MAPPING, bones={k: v for k, v in HUMANOID_MAPPING.bones.items() if k != "toe.L"})
    sole = find_feet(rig, unmapped)[0].sole
    np.testing.assert_allclose(sole.tip, whole.tip, atol=0.03)


def test_a_slide_is_measured_as_it_is() -> None:
    rig = made.humanoid()
    motion = _moved(rest_motion(rig, HUMANOID_MAPPING, 30), _line(30, 0.004) - [0.0, 0.0, 0.007])
    measures = measure(motion, find_feet(rig, HUMANOID_MAPPING), _standing(30))
    np.testing.assert_allclose(measures.slide_mm, 4.0, atol=1e-9)
    np.testing.assert_allclose(measures.depth_mm, 7.0, atol=1e-9)
    assert measures.knee == pytest.approx(1.0)
    nothing = measure(motion, find_feet(rig, HUMANOID_MAPPING), np.zeros((30, 4)))
    assert nothing.slide_mm == (0.0, 0.0, 0.0)


def test_feet_that_skate_are_held_and_keys_agree_with_places() -> None:
    rig = made.humanoid()
    motion = _moved(_crouched(rig, HUMANOID_MAPPING), _line(40, 0.004))
    feet, contacts = find_feet(rig, HUMANOID_MAPPING), _standing(40)
    held = lock(motion, feet, contacts)
    assert measure(held, feet, contacts).slide_mm[2] < 1e-6
    assert held.contacts is contacts
    _assert_consistent(held)
    half = measure(lock(motion, feet, contacts, 0.5), feet, contacts)
    np.testing.assert_allclose(half.slide_mm, 2.0, atol=0.05)
    assert measure(lock(motion, feet, contacts, 0.0), feet, contacts).slide_mm[0] == pytest.approx(4.0)


def test_feet_are_held_in_the_middle_of_where_they_were() -> None:
    rig = made.humanoid()
    motion = _moved(_crouched(rig, HUMANOID_MAPPING), _line(40, 0.002))
    feet = find_feet(rig, HUMANOID_MAPPING)
    held = lock(motion, feet, _standing(40))
    points = sole_points(rig, feet, held.turns, held.heads)
    before = sole_points(rig, feet, motion.turns, motion.heads)
    np.testing.assert_allclose(points[0], np.median(before, axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_walk_does_not_slide_on_other_proportions(kind: str) -> None:
    source = performance(made.humanoid(), HUMANOID_MAPPING)
    assert source.contacts is not None
    rig = made.person(kind)
    retargeter = Retargeter(source, rig, HUMANOID_MAPPING)
    feet = find_feet(rig, HUMANOID_MAPPING)
    held = settle(retargeter.unlocked(RetargetSettings()), feet, source.contacts)
    after = measure(held, feet, source.contacts)
    assert after.slide_mm[2] < 1e-3
    assert after.depth_mm[2] < 1e-3
    _assert_consistent(held)


def test_a_walk_that_is_right_already_stays_as_it_is() -> None:
    rig = made.humanoid()
    motion, contacts = walk(rig, HUMANOID_MAPPING)
    held = settle(motion, find_feet(rig, HUMANOID_MAPPING), contacts)
    np.testing.assert_allclose(held.heads, motion.heads, atol=1e-6)
    np.testing.assert_allclose(held.turns, motion.turns, atol=1e-5)


def test_contacts_of_a_known_walk_are_found() -> None:
    for scale, share in ((1.0, 0.9), (5.0, 0.85)):
        source = performance(made.scaled(made.humanoid(), scale), HUMANOID_MAPPING)
        found = source_contacts(replace(source, contacts=None))
        assert np.mean((found > 0.5) == (source_contacts(source) > 0.5)) > share


def test_feet_that_nobody_saw_stand_nowhere() -> None:
    source = replace(performance(made.humanoid(), HUMANOID_MAPPING), contacts=None)
    unseen = replace(source, confidence=np.zeros(source.heads.shape[:2]))
    assert not (source_contacts(unseen) > 0.5).any()


def test_contacts_of_a_capture_are_its_own() -> None:
    capture = performance_of(BodyMotion.load(GOLDEN))
    assert capture.contacts is not None
    assert np.array_equal(source_contacts(capture), capture.contacts)


def test_the_foot_turns_about_its_ball_as_the_heel_goes_off() -> None:
    rig = made.humanoid()
    motion = _crouched(rig, HUMANOID_MAPPING)
    feet = find_feet(rig, HUMANOID_MAPPING)
    contacts = _standing(40)
    contacts[20:, [0, 2]] = 0.0
    pitch = np.radians(np.concatenate([np.zeros(20), np.linspace(0, 40, 20)]))
    turn = Rotation.from_rotvec(np.outer(pitch, [1.0, 0.0, 0.0])).as_matrix()
    raised = repose(motion, {foot.foot[0]: turn @ motion.turns[:, foot.foot[0]] for foot in feet})
    held = lock(raised, feet, contacts)
    for foot in feet:
        steps, before = (steps_of(rig, foot, m.turns, m.heads) for m in (held, raised))
        ball = steps.ball(foot.sole)
        np.testing.assert_allclose(ball, np.tile(ball[:1], (40, 1)), atol=1e-6)
        np.testing.assert_allclose(steps.foot, before.foot, atol=1e-6)
        np.testing.assert_allclose(steps.toe, np.tile(np.eye(3), (40, 1, 1)), atol=1e-6)
        assert steps.heel(foot.sole)[-1, 2] > 0.08


def test_the_heel_stays_as_the_foot_comes_down_on_it() -> None:
    rig = made.humanoid()
    feet = find_feet(rig, HUMANOID_MAPPING)
    contacts = _standing(40)
    contacts[:10, [1, 3]] = 0.0
    pitch = np.radians(np.concatenate([np.linspace(-25, 0, 10), np.zeros(30)]))
    motion = _crouched(rig, HUMANOID_MAPPING)
    turn = Rotation.from_rotvec(np.outer(pitch, [1.0, 0.0, 0.0])).as_matrix()
    raised = repose(motion, {foot.foot[0]: turn @ motion.turns[:, foot.foot[0]] for foot in feet})
    held = settle(raised, feet, contacts)
    points = sole_points(rig, feet, held.turns, held.heads)[:, [0, 2]]
    np.testing.assert_allclose(points, np.tile(points[:1], (40, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(points[..., 2], 0.0, atol=1e-6)


def test_hips_come_down_where_legs_are_too_short_and_never_go_up() -> None:
    rig = made.humanoid()
    feet, contacts = find_feet(rig, HUMANOID_MAPPING), _standing(40)
    bent = _crouched(rig, HUMANOID_MAPPING, depth=0.012)
    motion = _moved(bent, np.outer(np.ones(40), [0.0, 0.0, 0.04]))
    hips = int(motion.moved[0])
    held = lock(motion, feet, contacts)
    assert measure(held, feet, contacts).knee == pytest.approx(0.995)
    points = sole_points(rig, feet, held.turns, held.heads)
    np.testing.assert_allclose(points[..., 2], 0.0, atol=1e-6)
    fallen = motion.heads[:, hips, 2] - held.heads[:, hips, 2]
    np.testing.assert_allclose(fallen, 0.04 - (0.995 - 0.988) * 0.85, atol=1e-6)
    low = _moved(_crouched(rig, HUMANOID_MAPPING), np.outer(np.ones(40), [0.0, 0.0, -0.04]))
    np.testing.assert_allclose(lock(low, feet, contacts).heads[:, hips], low.heads[:, hips], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_knees_keep_their_plane_and_nothing_pops(kind: str) -> None:
    source = performance(made.humanoid(), HUMANOID_MAPPING)
    assert source.contacts is not None
    rig = made.person(kind)
    motion = Retargeter(source, rig, HUMANOID_MAPPING).unlocked(RetargetSettings())
    feet = find_feet(rig, HUMANOID_MAPPING)
    motion = _moved(motion, _line(len(motion.times), 0.003 * feet[0].sole.leg))
    held = settle(motion, feet, source.contacts)
    for foot in feet:
        normals = []
        for m in (motion, held):
            hip, knee, ankle = (m.heads[:, rows[0]] for rows in (foot.thigh, foot.shin, foot.foot))
            normals.append(np.cross(knee - hip, ankle - knee))
        bent = np.linalg.norm(normals[0], axis=-1) > 0.05 * foot.sole.leg**2
        cosine = np.sum(normals[0] * normals[1], axis=-1) / np.prod(np.linalg.norm(normals, axis=-1), axis=0)
        assert cosine[bent].min() > 0.97
        rows = [foot.shin[0], foot.foot[0]]
        jerks = [np.linalg.norm(np.diff(m.heads[:, rows], 2, axis=0), axis=-1).max() for m in (motion, held)]
        assert jerks[1] < 1.5 * jerks[0] + 0.004 * foot.sole.leg


def test_feet_are_lifted_out_of_the_floor() -> None:
    rig = replace(made.humanoid(), ground=0.02)
    feet = find_feet(rig, HUMANOID_MAPPING)
    time = np.linspace(0, 2 * np.pi, 60)
    sunk = _moved(_crouched(rig, HUMANOID_MAPPING, 60), np.outer(0.04 * np.sin(time), [0.0, 0.0, 1.0]))
    pointed = Rotation.from_rotvec(np.outer(0.7 * np.sin(2 * time) ** 2, [1.0, 0.0, 0.0])).as_matrix()
    sunk = repose(sunk, {foot.foot[0]: pointed @ sunk.turns[:, foot.foot[0]] for foot in feet})
    assert measure(sunk, feet, np.zeros((60, 4))).depth_mm[2] > 40.0
    out = lift(sunk, feet)
    assert measure(out, feet, np.zeros((60, 4))).depth_mm[2] < 1e-3
    _assert_consistent(out)
    rows = [foot.foot[0] for foot in feet]
    jumps = [np.abs(np.diff(m.heads[:, rows], 2, axis=0)).max() for m in (sunk, out)]
    assert jumps[1] < jumps[0] + 0.006


def test_feet_on_steps_stay_on_their_steps() -> None:
    rig = made.humanoid()
    feet, contacts = find_feet(rig, HUMANOID_MAPPING), _standing(40)
    motion = _moved(_crouched(rig, HUMANOID_MAPPING, depth=0.15), _line(40, 0.003))
    left = feet[0]
    hip, knee, ankle = (motion.heads[:, rows[0]] for rows in (left.thigh, left.shin, left.foot))
    leg = legs.Leg(hip, knee, ankle, np.tile(left.sole.left, (40, 1)))
    upper, lower = legs.bend(leg, hip, ankle + [0.0, 0.0, 0.2])
    rows = left.thigh[0], left.shin[0], left.foot[0]
    turns = [part @ motion.turns[:, row] for part, row in zip((upper, lower, np.eye(3)), rows, strict=True)]
    stepped = repose(motion, dict(zip(rows, turns, strict=True)))
    held = lock(stepped, feet, contacts)
    points = sole_points(rig, feet, held.turns, held.heads)
    np.testing.assert_allclose(points[:, :2, 2], 0.2, atol=1e-6)
    np.testing.assert_allclose(points[:, 2:, 2], 0.0, atol=1e-6)
    assert measure(held, feet, contacts).slide_mm[2] < 1e-6
    on_floor = settle(stepped, feet, contacts, levels=np.zeros((40, 4)))
    np.testing.assert_allclose(sole_points(rig, feet, on_floor.turns, on_floor.heads)[..., 2], 0.0, atol=1e-6)


def test_contacts_that_would_drag_a_foot_away_are_followed_part_of_the_way() -> None:
    rig = made.humanoid()
    motion = _moved(_crouched(rig, HUMANOID_MAPPING, 60), _line(60, 0.05))
    held = lock(motion, find_feet(rig, HUMANOID_MAPPING), _standing(60))
    away = np.linalg.norm(held.heads - motion.heads, axis=-1)[:, rig.index["foot.L"]]
    assert away.max() < 0.25 * 0.85 + 1e-6


def test_a_source_without_feet_leaves_the_levels_to_the_motion() -> None:
    rig = made.humanoid()
    feet, contacts = find_feet(rig, HUMANOID_MAPPING), _standing(40)
    motion = _moved(_crouched(rig, HUMANOID_MAPPING), _line(40, 0.002))
    held = settle(motion, feet, contacts, levels=np.full((40, 4), np.nan))
    np.testing.assert_allclose(held.heads, settle(motion, feet, contacts).heads)


def test_levels_of_the_source_are_those_of_its_soles() -> None:
    source = performance(made.humanoid(), HUMANOID_MAPPING)
    assert source.contacts is not None
    levels = source_levels(source)
    np.testing.assert_allclose(levels[source.contacts > 0.5], 0.0, atol=1e-9)
    assert levels.max() > 0.05


def test_legs_in_segments_with_twist_bones_and_odd_axes_are_held_too() -> None:
    rig, mapping = made.split(made.humanoid(), HUMANOID_MAPPING, "thigh.L", 2)
    rig, mapping = made.split(rig, mapping, "shin.R", 3)
    rig, mapping = made.beside(rig, mapping, "thigh.R", (0.3, 0.7))
    rig = made.rolled(rig, 4)
    source = performance(made.humanoid(), HUMANOID_MAPPING)
    assert source.contacts is not None
    motion = Retargeter(source, rig, mapping).unlocked(RetargetSettings())
    feet = find_feet(rig, mapping)
    motion = _moved(motion, _line(len(motion.times), 0.002))
    held = settle(motion, feet, source.contacts)
    after = measure(held, feet, source.contacts)
    assert (after.slide_mm[2], after.depth_mm[2]) < (1e-3, 1e-3)
    _assert_consistent(held)
    for first, second in ((feet[0].thigh), (feet[1].shin[:2])):
        apart = np.linalg.norm(held.heads[:, first] - held.heads[:, second], axis=-1)
        np.testing.assert_allclose(apart, np.linalg.norm(rig.heads[first] - rig.heads[second]), atol=1e-9)


def test_legs_that_do_not_hang_from_the_hips_come_down_with_them() -> None:
    rig = made.humanoid()
    parents = np.array(rig.parents)
    for side in "LR":
        parents[rig.index[f"thigh.{side}"]] = -1
    loose = replace(rig, parents=parents)
    source = performance(made.humanoid(), HUMANOID_MAPPING)
    assert source.contacts is not None
    feet = find_feet(loose, HUMANOID_MAPPING)
    motion = Retargeter(source, loose, HUMANOID_MAPPING).unlocked(RetargetSettings(hip_height=0.1))
    held = settle(motion, feet, source.contacts, levels=source_levels(source))
    assert measure(held, feet, source.contacts).slide_mm[2] < 1e-3
    _assert_consistent(held)
    hips = loose.index["hips"]
    for side in "LR":
        apart = held.heads[:, loose.index[f"thigh.{side}"]] - held.heads[:, hips]
        np.testing.assert_allclose(np.linalg.norm(apart, axis=-1), np.linalg.norm(apart[0]), atol=1e-9)


def test_one_frame_and_no_frames_are_motions_too() -> None:
    rig = made.humanoid()
    feet = find_feet(rig, HUMANOID_MAPPING)
    for frames in (0, 1, 2):
        motion = _moved(rest_motion(rig, HUMANOID_MAPPING, frames), np.zeros((frames, 3)) - [0.0, 0.0, 0.02])
        held = settle(motion, feet, _standing(frames))
        assert len(held.times) == frames
        measure(held, feet, _standing(frames))


CLIPS = (("cmubvh", "test_walking_1"), ("cmubvh", "test_running_1"), ("snu", "MASS_dance"), ("daz", "indian_07_part5"))


@pytest.mark.parametrize(("file", "clip"), CLIPS)
def test_recorded_motions_neither_slide_nor_sink(data_dir: Path, file: str, clip: str) -> None:
    source: Performance = recorded.load(data_dir, file, clip)
    contacts, levels = source_contacts(source), source_levels(source)
    assert 0.05 < np.mean(contacts > 0.5) < 0.95
    for kind in KINDS:
        rig = made.person(kind)
        retargeter = Retargeter(source, rig, HUMANOID_MAPPING)
        motion = retargeter.unlocked(RetargetSettings())
        feet = find_feet(rig, HUMANOID_MAPPING)
        held = settle(motion, feet, contacts, levels=levels * retargeter.ratio)
        before, after = measure(motion, feet, contacts), measure(held, feet, contacts)
        assert before.slide_mm[2] > 3.0
        assert after.slide_mm[2] <= 3.0
        assert after.depth_mm[2] <= 5.0
        assert after.knee <= max(before.knee, 0.9951)
        jumps = [np.linalg.norm(np.diff(m.heads, 2, axis=0), axis=-1).max() for m in (motion, held)]
        assert jumps[1] < 1.5 * jumps[0]
