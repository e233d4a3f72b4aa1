"""A performance lands on other skeletons: the same one, random ones, and ones with other bones."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.core.artifacts import BodyMotion
from inference.core.mapping.presets import FOLDER, read_mapping
from inference.core.retarget import Retargeter, retarget
from inference.core.retarget.posing import evaluate
from inference.core.rig import FINGERS, HUMANOID_MAPPING, Mapping, Performance, Rig, RigMotion, performance_of
from inference.core.rotations import unit
from inference.protocol.errors import InputError
from inference.protocol.retarget import RetargetSettings
from tests import rigs
from tests.rigs import made

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "body_motion.npz"
POSE = RetargetSettings(lock_feet=0.0, floor=False)  # the pose alone: feet have tests of their own
LIMBS = [
    (f"{a}.{s}", f"{b}.{s}")
    for s in "LR"
    for a, b in (
        ("shoulder", "upper_arm"), ("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"), ("shin", "foot"),
        ("foot", "toe"), ("index.01", "index.02"), ("thumb.02", "thumb.03"), ("little.02", "little.03"),
    )
]  # fmt: skip


def _directions(rig: Rig, heads: np.ndarray, limbs: list[tuple[str, str]] = LIMBS) -> np.ndarray:
    return np.stack([unit(heads[:, rig.index[b]] - heads[:, rig.index[a]]) for a, b in limbs], axis=1)


def _degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between (..., 3) unit vectors, or (..., 3, 3) rotations."""
    if a.shape[-2:] == (3, 3):
        turns = (np.swapaxes(a, -1, -2) @ b).reshape(-1, 3, 3)
        return np.degrees(np.linalg.norm(Rotation.from_matrix(turns).as_rotvec(), axis=-1))
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def _assert_consistent(motion: RigMotion) -> None:
    turns, heads = evaluate(motion.rig, motion.keyed, motion.rotations, motion.moved, motion.locations)
    np.testing.assert_allclose(turns, motion.turns, atol=1e-9)
    np.testing.assert_allclose(heads, motion.heads, atol=1e-9)


def _on(rig: Rig, mapping: Mapping, performance: Performance, **changes: float) -> RigMotion:
    motion = retarget(performance, rig, mapping, replace(POSE, **changes))
    _assert_consistent(motion)
    return motion


def _turn(motion: RigMotion | Performance, bone: str) -> np.ndarray:
    """(T, 3, 3) how a bone is turned in the world since rest."""
    row = motion.rig.index[bone]
    return motion.turns[:, row] @ motion.rig.rest[row, :3, :3].T


def _pelvis(motion: RigMotion | Performance) -> np.ndarray:
    return (motion.heads[:, motion.rig.index["thigh.L"]] + motion.heads[:, motion.rig.index["thigh.R"]]) / 2


def test_a_capture_on_its_own_skeleton_is_itself() -> None:
    performance = performance_of(BodyMotion.load(GOLDEN))
    motion = _on(performance.rig, performance.mapping, performance)
    assert np.radians(_degrees(motion.turns, performance.turns)).max() < 1e-5
    np.testing.assert_allclose(motion.heads, performance.heads, atol=1e-6)


def test_any_motion_on_its_own_skeleton_is_itself() -> None:
    performance = made.random_performance(40, spread=1.0)
    motion = _on(performance.rig, performance.mapping, performance)
    assert np.radians(_degrees(motion.turns, performance.turns)).max() < 1e-5
    np.testing.assert_allclose(motion.heads, performance.heads, atol=1e-9)


@pytest.mark.parametrize("name", ["mixamo", "unreal5", "makehuman", "rigify_meta"])
def test_any_rig_gets_its_own_motion_back(name: str) -> None:
    rig, mapping = rigs.load(name), _mapping(name)
    random = np.random.default_rng(4)
    mapped = sorted({row for role in mapping.bones for row in mapping.chain(role, rig)})
    rotations = np.tile(made.IDENTITY, (10, len(rig.names), 1))
    vectors = random.normal(size=(10, len(mapped), 3)) * 0.4
    rotations[:, mapped] = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_quat().reshape(10, -1, 4)[..., [3, 0, 1, 2]]
    performance = made.performance(rotations, rig=rig, mapping=mapping)
    motion = _on(rig, mapping, performance)
    rows = [row for row in motion.keyed if row in mapped]
    assert np.radians(_degrees(motion.turns[:, rows], performance.turns[:, rows])).max() < 1e-5


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 15.0, 40.0, 80.0]))
def test_limbs_point_the_same_way_on_random_rigs(seed: int, bend_deg: float) -> None:
    rig, performance = made.random_rig(seed, bend_deg), made.random_performance(3, seed)
    motion = retarget(performance, rig, HUMANOID_MAPPING, POSE)
    limbs = LIMBS[1 : len(LIMBS) // 2] + LIMBS[len(LIMBS) // 2 + 1 :]  # a collarbone's slope may be anatomy
    error = _degrees(*(_directions(m.rig, m.heads, limbs) for m in (motion, performance)))
    assert error.max() < 0.5


@pytest.mark.parametrize("facing", [0.0, 90.0, 180.0, -37.0])
def test_a_character_may_face_any_way_at_rest(facing: float) -> None:
    performance = made.random_performance(10)
    rig = made.rolled(made.faced(made.a_pose(made.humanoid()), facing), 3)
    motion = _on(rig, HUMANOID_MAPPING, performance)
    np.testing.assert_allclose(_directions(rig, motion.heads), _directions(rig, performance.heads), atol=1e-6)
    np.testing.assert_allclose(motion.heads[:, 0], performance.heads[:, 0], atol=1e-6)


def test_palms_of_an_a_pose_face_where_the_performers_do() -> None:
    performance, rig = made.random_performance(10), made.rolled(made.a_pose(made.humanoid()), 1)
    rig = made.posed(rig, {"hand.L": [0.7, 0.2, 0.1], "hand.R": [0.3, -0.4, 0.2]})
    motion = _on(rig, HUMANOID_MAPPING, performance)
    palm = [("hand.L", "index.01.L"), ("hand.L", "little.01.L"), ("hand.R", "index.01.R"), ("hand.R", "little.01.R")]
    error = _degrees(_directions(rig, motion.heads, palm), _directions(rig, performance.heads, palm))
    assert error.max() < 1e-4


def test_a_foot_that_stands_flat_at_rest_stands_flat_whatever_its_ankles_height() -> None:
    rig = made.humanoid()
    rest = rig.rest.copy()
    feet = [rig.index[f"{part}.{side}"] for side in "LR" for part in ("foot",)]
    rest[feet, 2, 3] += 0.05
    motion = _on(replace(rig, rest=rest), HUMANOID_MAPPING, made.gesture({}))
    for side in "LR":
        assert _degrees(_turn(motion, f"foot.{side}"), np.eye(3)[None]).max() < 1e-6


def test_an_upright_spine_keeps_its_own_curve() -> None:
    curved = made.posed(made.humanoid(), {"spine": [0.2, 0, 0], "chest": [-0.3, 0, 0], "neck": [0.3, 0, 0]})
    motion = _on(curved, HUMANOID_MAPPING, made.gesture({}))
    for bone in ("hips", "spine", "chest", "neck", "head"):
        assert _degrees(_turn(motion, bone), np.eye(3)[None]).max() < 1e-6


def test_more_bones_in_the_spine_share_its_bending() -> None:
    rig, mapping = made.split(*made.split(made.humanoid(), HUMANOID_MAPPING, "spine", 2), "chest", 2)
    bow = made.gesture({"spine": [0.5, 0.0, 0.0], "chest": [0.4, 0.0, 0.0]})
    motion = _on(rig, mapping, bow)
    bends = [_degrees(_turn(motion, bone), np.eye(3)[None])[0] for bone in mapping.bones["spine"]]
    assert bends[-1] == pytest.approx(np.degrees(0.9), abs=1e-6)
    assert all(step > 2.0 for step in np.diff([0.0, *bends]))
    for bone in ("neck", "head", "upper_arm.L", "hand.R"):
        assert _degrees(_turn(motion, bone), _turn(bow, bone)).max() < 1e-6


def test_one_bone_for_the_spine_takes_the_chests_place() -> None:
    rig, mapping = made.without(made.humanoid(), HUMANOID_MAPPING, "spine")
    performance = made.random_performance(6)
    motion = _on(rig, mapping, performance)
    assert _degrees(_turn(motion, "chest"), _turn(performance, "chest")).max() < 1e-6
    np.testing.assert_allclose(
        _directions(rig, motion.heads), _directions(performance.rig, performance.heads), atol=1e-6
    )


def test_bones_that_are_missing_on_either_side_are_passed_over() -> None:
    fingers = [name for name in made.humanoid().names if name.split(".")[0] in FINGERS]
    bare = (*fingers, "shoulder.L", "shoulder.R", "neck", "toe.L", "toe.R")
    performance = made.random_performance(6)
    rig, mapping = made.without(made.humanoid(), HUMANOID_MAPPING, *bare)
    arms = [pair for pair in LIMBS if pair[0].startswith(("upper_arm", "forearm", "thigh", "shin"))]
    there = Retargeter(performance, rig, mapping)
    motion = there.solve(POSE)
    _assert_consistent(motion)
    np.testing.assert_allclose(
        _directions(rig, motion.heads, arms), _directions(performance.rig, performance.heads, arms), atol=1e-6
    )
    assert _degrees(_turn(motion, "head"), _turn(performance, "head")).max() < 1e-6
    assert any("neck" in note and "left out" in note for note in there.notes)
    source = made.random_performance(6, rig=rig)
    back = Retargeter(replace(source, mapping=mapping), made.humanoid(), HUMANOID_MAPPING)
    motion = back.solve(POSE)
    _assert_consistent(motion)
    assert any("thumb.L" in note and "as at rest" in note for note in back.notes)
    np.testing.assert_allclose(
        _directions(motion.rig, motion.heads, arms), _directions(rig, source.heads, arms), atol=1e-6
    )
    neck, ends = _turn(motion, "neck"), (_turn(source, "chest"), _turn(source, "head"))
    assert np.allclose(_degrees(neck, ends[0]), _degrees(neck, ends[1]), atol=1e-4)


@pytest.mark.parametrize("count", [2, 4])
def test_fingers_of_any_number_of_bones_curl_with_the_performers(count: int) -> None:
    rig, mapping = made.humanoid(), HUMANOID_MAPPING
    if count == 4:
        rig, mapping = made.split(rig, mapping, "index.02.L", 2)
    else:
        rig, mapping = made.without(rig, mapping, "index.02.L")
    fist = made.gesture({f"index.{i:02d}.L": [0.6, 0.0, 0.0] for i in (1, 2, 3)})
    motion = _on(rig, mapping, fist)
    curl = [_degrees(_turn(motion, bone), np.eye(3)[None])[0] for bone in mapping.bones["index.L"]]
    assert all(np.diff(curl) > 5.0)
    assert np.degrees(0.5) < curl[0] and curl[-1] < np.degrees(1.9)


def test_a_bone_of_the_palm_stays_with_the_hand() -> None:
    rig, mapping = made.humanoid(), HUMANOID_MAPPING
    rig, mapping = made.split(rig, mapping, "index.01.L", 2)
    rest, row = rig.rest.copy(), rig.index["index.01.L"]
    rest[rig.index["index.01.L.1"], :3, 3] = rest[row, :3, 3]
    rest[row, :3, 3] = 0.7 * rest[rig.index["hand.L"], :3, 3] + 0.3 * rest[row, :3, 3]
    rig = replace(rig, rest=rest)
    fist = made.gesture({f"index.{i:02d}.L": [0.6, 0.0, 0.0] for i in (1, 2, 3)})
    motion = _on(rig, mapping, fist)
    curl = [_degrees(_turn(motion, bone), np.eye(3)[None])[0] for bone in mapping.bones["index.L"]]
    np.testing.assert_allclose(curl, np.degrees([0.0, 0.6, 1.2, 1.8]), atol=1e-5)


def test_proportions_scale_the_steps_and_the_height_of_the_hips() -> None:
    performance = made.random_performance(8)
    giant = replace(made.humanoid(2.5), ground=0.0)
    motion = _on(giant, HUMANOID_MAPPING, performance)
    np.testing.assert_allclose(motion.heads, 2.5 * performance.heads, atol=1e-9)
    small = _on(giant, HUMANOID_MAPPING, performance, scale=1.0)
    np.testing.assert_allclose(small.heads[:, 0, :2], performance.heads[:, 0, :2], atol=1e-9)
    np.testing.assert_allclose(small.heads[:, 0, 2], 2.5 * performance.heads[:, 0, 2], atol=1e-9)
    raised = _on(giant, HUMANOID_MAPPING, performance, hip_height=0.1)
    leg = giant.heads[giant.index["thigh.L"], 2]
    np.testing.assert_allclose(raised.heads[:, 0, 2] - motion.heads[:, 0, 2], 0.1 * leg, atol=1e-9)


def test_long_legs_and_short_ones_stand_on_the_floor() -> None:
    for factor in (0.6, 1.5):
        factors = np.ones(51)
        rig = made.humanoid()
        factors[[rig.index[f"{part}.{side}"] for side in "LR" for part in ("thigh", "shin")]] = factor
        taller = made.lengthened(rig, factors)
        rest = taller.rest.copy()
        sole = rig.heads[rig.index["foot.L"], 2] - taller.heads[taller.index["foot.L"], 2]
        rest[:, 2, 3] += sole
        motion = _on(replace(taller, rest=rest), HUMANOID_MAPPING, made.gesture({}))
        ankles = [motion.heads[0, rig.index[f"foot.{side}"], 2] for side in "LR"]
        np.testing.assert_allclose(ankles, rig.heads[rig.index["foot.L"], 2], atol=1e-9)


def test_the_floor_is_where_the_rig_stands_at_rest() -> None:
    rig = made.humanoid()
    rest = rig.rest.copy()
    rest[:, 2, 3] -= 0.9
    motion = _on(replace(rig, rest=rest, ground=-0.9), HUMANOID_MAPPING, made.gesture({}))
    np.testing.assert_allclose(motion.heads[0], rest[:, :3, 3], atol=1e-9)


def test_sliders_turn_what_they_say() -> None:
    performance, rig = made.gesture({"spine": [0.4, 0, 0], "index.01.L": [0.5, 0, 0]}), made.humanoid()
    plain = _on(rig, HUMANOID_MAPPING, performance)
    stiff = _on(rig, HUMANOID_MAPPING, performance, spine_bend=0.0)
    assert _degrees(_turn(stiff, "chest"), np.eye(3)[None]).max() < 1e-6
    assert _degrees(_turn(stiff, "hand.L"), np.eye(3)[None]).max() < 1e-6
    double = _on(rig, HUMANOID_MAPPING, performance, spine_bend=2.0)
    assert _degrees(_turn(double, "head"), np.eye(3)[None]).max() == pytest.approx(np.degrees(0.8))
    open_hand = _on(rig, HUMANOID_MAPPING, performance, fingers=0.0)
    assert _degrees(_turn(open_hand, "index.03.L"), _turn(open_hand, "hand.L")).max() < 1e-6
    row = rig.index["forearm.L"]
    wide = _on(rig, HUMANOID_MAPPING, made.gesture({}), arm_spread=0.3)
    assert wide.heads[0, row, 2] > plain.heads[0, row, 2]
    assert wide.heads[0, rig.index["forearm.R"], 2] == pytest.approx(wide.heads[0, row, 2])
    apart = _on(rig, HUMANOID_MAPPING, made.gesture({}), leg_spread=0.2)
    feet = [apart.heads[0, rig.index[f"foot.{side}"], 0] for side in "LR"]
    assert feet[0] > 0.2 > -0.2 > feet[1]
    assert _degrees(_turn(apart, "foot.L"), np.eye(3)[None]).max() < 1e-6


def test_no_bone_of_the_spine_is_moved_by_the_shoulders_slider() -> None:
    performance, rig = made.gesture({"shoulder.L": [0.3, 0, 0.2], "upper_arm.L": [0.2, 0, 0]}), made.humanoid()
    still = _on(rig, HUMANOID_MAPPING, performance, shoulders=0.0)
    assert _degrees(_turn(still, "shoulder.L"), np.eye(3)[None]).max() < 1e-6
    assert _degrees(_turn(still, "upper_arm.L"), _turn(performance, "upper_arm.L")).max() < 1e-6


def test_bones_that_do_not_inherit_rotation_are_keyed_so_that_they_end_up_right() -> None:
    performance, rig = made.random_performance(5), made.humanoid()
    inherit = np.ones(len(rig.names), bool)
    inherit[[rig.index[name] for name in ("chest", "upper_arm.L", "head")]] = False
    motion = _on(replace(rig, inherit_rotation=inherit), HUMANOID_MAPPING, performance)
    np.testing.assert_allclose(motion.turns, performance.turns, atol=1e-9)


def test_limbs_that_hang_from_nothing_that_moves_go_along_with_the_hips() -> None:
    performance, rig = made.random_performance(5), made.humanoid()
    parents = rig.parents.copy()
    parents[[rig.index[name] for name in ("thigh.L", "thigh.R")]] = -1
    loose = replace(rig, parents=parents)
    motion = _on(loose, HUMANOID_MAPPING, performance)
    assert {rig.names[row] for row in motion.moved} == {"hips", "thigh.L", "thigh.R"}
    np.testing.assert_allclose(motion.heads, performance.heads, atol=1e-9)


def test_a_pelvis_that_hangs_from_the_spine_is_where_the_legs_put_it() -> None:
    performance, rig = made.random_performance(5), made.humanoid()
    rest = np.concatenate([rig.rest[:1], rig.rest])
    parents = np.concatenate([[-1], np.where(rig.parents < 0, 0, rig.parents + 1)])
    names = ("torso", *rig.names)
    order = [0, 2, 1, *range(3, len(names))]  # the spine hangs from the torso, and the hips from the spine
    parents[1], parents[2] = 2, 0
    new = np.argsort(order)
    torso = replace(
        rig, names=tuple(names[row] for row in order), rest=rest[order],
        parents=np.array([new[parents[row]] if parents[row] >= 0 else -1 for row in order]),
        lengths=np.concatenate([rig.lengths[:1], rig.lengths])[order],
    )  # fmt: skip
    mapping = replace(HUMANOID_MAPPING, bones={**HUMANOID_MAPPING.bones, "hips": ("torso", "hips")})
    motion = _on(torso, mapping, performance)
    for bone in ("hips", "thigh.L", "thigh.R"):
        assert _degrees(_turn(motion, bone), _turn(performance, bone)).max() < 1e-6
    middles = [
        (m.heads[:, m.rig.index["thigh.L"]] + m.heads[:, m.rig.index["thigh.R"]]) / 2 for m in (motion, performance)
    ]
    np.testing.assert_allclose(middles[0], middles[1], atol=1e-9)


@pytest.mark.parametrize("name", ["mixamo", "unreal5", "vrm", "daz_genesis8"])
def test_there_and_back_again_is_the_same_motion(name: str) -> None:
    performance, rig, mapping = made.random_performance(10, spread=0.3), rigs.load(name), _mapping(name)
    there = _on(rig, mapping, performance, twist=0.0)
    away = Performance(rig, mapping, there.turns, there.heads, performance.times)
    back = _on(performance.rig, performance.mapping, away, twist=0.0)
    for bone in (
        "hips",
        "chest",
        "head",
        "shoulder.L",
        "upper_arm.R",
        "forearm.L",
        "hand.L",
        "hand.R",
        "shin.L",
        "foot.R",
    ):
        assert _degrees(_turn(back, bone), _turn(performance, bone)).max() < 1e-4, bone
    np.testing.assert_allclose(back.heads[:, 0], performance.heads[:, 0], atol=1e-6)


def test_a_performance_with_holes_is_refused_by_the_bones_name() -> None:
    performance = made.random_performance(6)
    turns = performance.turns.copy()
    turns[2:4, performance.rig.index["hand.L"]] = np.nan
    with pytest.raises(InputError, match=r"2 of 6 frames .*'hand\.L'"):
        Retargeter(replace(performance, turns=turns), made.humanoid(), HUMANOID_MAPPING)


def test_one_frame_at_a_time_gives_the_same_as_all_at_once() -> None:
    performance, rig = made.random_performance(5), made.rolled(made.a_pose(made.humanoid(1.2)), 2)
    whole = retarget(performance, rig, HUMANOID_MAPPING, POSE)
    live = Retargeter.for_rig(performance.rig, performance.mapping, rig, HUMANOID_MAPPING)
    assert live.keyed.tolist() == whole.keyed.tolist() and live.moved.tolist() == whole.moved.tolist()
    for frame in range(5):
        rotations, locations = live.pose(performance.turns[frame], performance.heads[frame])
        assert np.allclose(np.abs(np.sum(rotations * whole.rotations[frame], axis=-1)), 1.0, atol=1e-9)
        np.testing.assert_allclose(locations, whole.locations[frame], atol=1e-9)


def test_a_slider_is_answered_at_once() -> None:
    rig, mapping = rigs.load("unreal5"), _mapping("unreal5")
    there = Retargeter(made.random_performance(500, spread=0.3), rig, mapping)
    assert len(there.keyed) >= 70
    times = []
    for step in range(7):
        start = time.process_time()
        there.solve(replace(POSE, arm_spread=0.01 * step))
        times.append(time.process_time() - start)
    assert min(times) < 0.025
    start = time.process_time()
    again = there.solve(replace(POSE, arm_spread=0.06))
    assert time.process_time() - start < 0.001
    assert again is there.solve(replace(POSE, arm_spread=0.06))


def test_a_missing_role_is_named() -> None:
    rig, mapping = made.without(made.humanoid(), HUMANOID_MAPPING, "thigh.L", "shin.L")
    with pytest.raises(InputError, match=r"thigh\.L, shin\.L"):
        Retargeter(made.random_performance(2), rig, mapping)


def test_a_bone_in_two_roles_or_without_a_length_is_named() -> None:
    performance, rig = made.random_performance(2), made.humanoid()
    twice = replace(HUMANOID_MAPPING, bones={**HUMANOID_MAPPING.bones, "neck": ("head",)})
    with pytest.raises(InputError, match=r"'head' is mapped to"):
        Retargeter(performance, rig, twice)
    rest = rig.rest.copy()
    rest[rig.index["shin.L"], :3, 3] = rest[rig.index["thigh.L"], :3, 3]
    with pytest.raises(InputError, match=r"'thigh\.L'"):
        Retargeter(performance, replace(rig, rest=rest), HUMANOID_MAPPING)


def test_confidence_comes_along() -> None:
    performance = made.random_performance(4)
    confidence = np.random.default_rng(0).uniform(size=(4, 51))
    motion = retarget(replace(performance, confidence=confidence), made.humanoid(), HUMANOID_MAPPING, POSE)
    assert motion.confidence is not None
    np.testing.assert_allclose(motion.confidence, confidence[:, motion.keyed])


def _mapping(name: str) -> Mapping:
    return read_mapping(FOLDER / f"{name}.json")
