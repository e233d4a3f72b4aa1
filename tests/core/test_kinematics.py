"""Forward and inverse kinematics undo each other, and rigid moves are rigid."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from inference.core.kinematics import forward, inverse, local_rest, tails, transformed
from inference.core.rotations import matrix_from_quaternion
from inference.core.skeletons import HUMANOID, HUMANOID_PARENTS

BONES = len(HUMANOID)


def _motion(frames: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rest = np.tile(np.eye(4), (BONES, 1, 1))
    rest[:, :3, 3] = [bone.head_m for bone in HUMANOID]
    rest[:, :3, :3] = Rotation.random(BONES, random_state=0).as_matrix()
    quaternions = Rotation.random(frames * BONES, random_state=1).as_quat()[:, [3, 0, 1, 2]]
    return rest, quaternions.reshape(frames, BONES, 4), np.random.default_rng(2).normal(size=(frames, 3))


def test_inverse_kinematics_brings_the_rotations_back() -> None:
    rest, rotations, root = _motion()
    again, root_again = inverse(rest, HUMANOID_PARENTS, forward(rest, HUMANOID_PARENTS, rotations, root))
    assert np.allclose(matrix_from_quaternion(again), matrix_from_quaternion(rotations), atol=1e-9)
    assert np.allclose(root_again, root)


def test_bones_stay_as_far_apart_as_at_rest() -> None:
    rest, rotations, root = _motion()
    heads = forward(rest, HUMANOID_PARENTS, rotations, root)[..., :3, 3]
    for bone, parent in enumerate(HUMANOID_PARENTS):
        if parent >= 0:
            at_rest = np.linalg.norm(rest[bone, :3, 3] - rest[parent, :3, 3])
            assert np.allclose(np.linalg.norm(heads[:, bone] - heads[:, parent], axis=-1), at_rest)


def test_no_rotation_is_the_rest_pose() -> None:
    rest, rotations, _ = _motion(1)
    identity = np.zeros_like(rotations)
    identity[..., 0] = 1.0
    assert np.allclose(forward(rest, HUMANOID_PARENTS, identity, rest[None, 0, :3, 3])[0], rest, atol=1e-12)


def test_a_rigid_move_moves_every_bone_alike() -> None:
    rest, rotations, root = _motion()
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = Rotation.random(random_state=5).as_matrix(), [1.0, -2.0, 0.5]
    moved = forward(rest, HUMANOID_PARENTS, *transformed(rest, rotations, root, move))
    assert np.allclose(moved, move @ forward(rest, HUMANOID_PARENTS, rotations, root), atol=1e-9)


def test_local_rest_rebuilds_the_rest_pose() -> None:
    rest, _, _ = _motion()
    local = local_rest(rest, HUMANOID_PARENTS)
    for bone, parent in enumerate(HUMANOID_PARENTS):
        expected = local[bone] if parent < 0 else rest[parent] @ local[bone]
        assert np.allclose(rest[bone], expected)


def test_a_tail_lies_a_length_along_the_bone() -> None:
    rest, rotations, root = _motion()
    matrices = forward(rest, HUMANOID_PARENTS, rotations, root)
    ends = tails(matrices, np.full(BONES, 0.25))
    assert np.allclose(np.linalg.norm(ends - matrices[..., :3, 3], axis=-1), 0.25)
