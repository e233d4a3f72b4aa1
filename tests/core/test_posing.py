"""Keys and places of bones agree with each other, with and without inherited rotations."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from inference.core.kinematics import forward
from inference.core.retarget.posing import evaluate, keys_of, rehung, repose, tree_of
from inference.core.rig import Mapping, Rig, RigMotion
from inference.core.rotations import quaternion_from_matrix

FRAMES = 6


def _rig(bones: int = 12, seed: int = 0, *, free: tuple[int, ...] = ()) -> Rig:
    random = np.random.default_rng(seed)
    rest = np.tile(np.eye(4), (bones, 1, 1))
    rest[:, :3, :3] = Rotation.random(bones, random_state=seed).as_matrix()
    rest[:, :3, 3] = random.normal(size=(bones, 3))
    parents = np.array([-1, *(random.integers(0, b) for b in range(1, bones))])
    inherit = np.ones(bones, bool)
    inherit[list(free)] = False
    return Rig(tuple(f"b{i}" for i in range(bones)), parents, rest, np.ones(bones), inherit)


def _quaternions(count: int, seed: int = 1) -> np.ndarray:
    q = Rotation.random(FRAMES * count, random_state=seed).as_quat()[:, [3, 0, 1, 2]]
    return q.reshape(FRAMES, count, 4)


def _motion(rig: Rig, keyed: list[int], moved: list[int]) -> RigMotion:
    rotations, locations = _quaternions(len(keyed)), np.random.default_rng(3).normal(size=(FRAMES, len(moved), 3))
    turns, heads = evaluate(rig, np.array(keyed), rotations, np.array(moved, int), locations)
    return RigMotion(
        rig, Mapping("", {}), turns, heads, np.array(keyed), rotations, np.array(moved, int), locations,
        np.arange(FRAMES) / 30,
    )  # fmt: skip


def _assert_consistent(motion: RigMotion) -> None:
    turns, heads = evaluate(motion.rig, motion.keyed, motion.rotations, motion.moved, motion.locations)
    np.testing.assert_allclose(turns, motion.turns, atol=1e-9)
    np.testing.assert_allclose(heads, motion.heads, atol=1e-9)


def test_places_are_those_of_forward_kinematics() -> None:
    rig = _rig()
    rotations, root = _quaternions(12), np.random.default_rng(2).normal(size=(FRAMES, 3))
    location = (root - rig.heads[0]) @ rig.rest[0, :3, :3]
    turns, heads = evaluate(rig, np.arange(12), rotations, np.array([0]), location[:, None])
    expected = forward(rig.rest, rig.parents, rotations, root)
    np.testing.assert_allclose(turns, expected[..., :3, :3], atol=1e-12)
    np.testing.assert_allclose(heads, expected[..., :3, 3], atol=1e-12)


def test_bones_without_keys_are_carried_rigidly() -> None:
    rig = _rig()
    motion = _motion(rig, [2, 5], [2])
    full = np.tile([1.0, 0, 0, 0], (FRAMES, 12, 1))
    full[:, [2, 5]] = motion.rotations
    location = np.zeros((FRAMES, 12, 3))
    location[:, 2] = motion.locations[:, 0]
    turns, heads = evaluate(rig, np.arange(12), full, np.arange(12), location)
    np.testing.assert_allclose(turns, motion.turns, atol=1e-12)
    np.testing.assert_allclose(heads, motion.heads, atol=1e-12)


def test_a_bone_that_does_not_turn_with_its_parent_still_moves_with_it() -> None:
    rig = _rig(3, free=(1,))
    rig = Rig(rig.names, np.array([-1, 0, 1]), rig.rest, rig.lengths, rig.inherit_rotation)
    motion = _motion(rig, [0], [])
    np.testing.assert_allclose(motion.turns[:, 1], np.tile(rig.rest[1, :3, :3], (FRAMES, 1, 1)))
    arm = rig.heads[1] - rig.heads[0]
    turn = motion.turns[:, 0] @ rig.rest[0, :3, :3].T
    np.testing.assert_allclose(motion.heads[:, 1], rig.heads[0] + turn @ arm, atol=1e-12)
    np.testing.assert_allclose(
        motion.heads[:, 2] - motion.heads[:, 1], np.tile(rig.heads[2] - rig.heads[1], (FRAMES, 1))
    )


def test_keys_are_read_back_from_orientations() -> None:
    rig = _rig(free=(4,))
    motion = _motion(rig, [0, 1, 4, 7, 9], [0])
    tree = tree_of(rig, motion.keyed)
    deltas = quaternion_from_matrix(
        np.swapaxes(motion.turns[:, tree.rows], 0, 1) @ np.swapaxes(rig.rest[tree.rows, None, :3, :3], -1, -2)
    )
    again = keys_of(tree, deltas, motion.keyed)
    assert np.allclose(np.abs(np.sum(again * motion.rotations, axis=-1)), 1.0)
    assert np.all(np.sum(again[1:] * again[:-1], axis=-1) >= 0)


def test_reposed_bones_are_where_they_are_wanted_and_all_else_keeps_its_keys() -> None:
    rig = _rig(free=(4,))
    motion = _motion(rig, [0, 1, 4, 7, 9], [0, 7])
    turn = Rotation.random(FRAMES, random_state=8).as_matrix()
    place = np.random.default_rng(9).normal(size=(FRAMES, 3))
    now = repose(motion, {1: turn, 3: turn}, {0: place, 9: place})
    _assert_consistent(now)
    np.testing.assert_allclose(now.turns[:, 1], turn, atol=1e-9)
    np.testing.assert_allclose(now.turns[:, 3], turn, atol=1e-9)
    np.testing.assert_allclose(now.heads[:, 0], place, atol=1e-9)
    np.testing.assert_allclose(now.heads[:, 9], place, atol=1e-9)
    old, new = motion.keyed.tolist(), now.keyed.tolist()
    for row in (0, 4, 7, 9):
        np.testing.assert_allclose(now.rotations[:, new.index(row)], motion.rotations[:, old.index(row)], atol=1e-9)


def test_nothing_changes_where_nothing_is_reposed() -> None:
    motion = _motion(_rig(), [0, 1, 7], [0])
    now = repose(motion, {})
    np.testing.assert_allclose(now.heads, motion.heads, atol=1e-12)
    np.testing.assert_allclose(now.turns, motion.turns, atol=1e-12)


def test_bones_hung_elsewhere_come_after_what_carries_them() -> None:
    rig = _rig(free=(1,))
    hung, rows = rehung(rig, {"b1": "b9", "b3": ""})
    assert [rig.names[row] for row in rows] == list(hung.names)
    assert hung.names[hung.parents[hung.index["b1"]]] == "b9" and hung.parents[hung.index["b3"]] == -1
    assert hung.inherit_rotation is not None and hung.inherit_rotation.all()
    assert all(parent < row for row, parent in enumerate(hung.parents))
    np.testing.assert_allclose(hung.heads[hung.index["b7"]], rig.heads[7])
    for name in set(rig.names) - {"b0", "b1", "b3"}:
        assert hung.names[hung.parents[hung.index[name]]] == rig.names[rig.parents[rig.index[name]]]
