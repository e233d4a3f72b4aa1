"""Skeleton geometry and the batched solver, against forward kinematics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from understudy.tests.motion import bodies

from inference.core import ik
from inference.core.humanoid import (
    DEFAULT,
    Proportions,
    bone,
    default_ends,
    make_skeleton,
    motion_keypoints,
    place_markers,
)
from inference.core.kinematics import forward
from inference.core.rotations import matrix_from_quaternion, quaternion_from_matrix, quaternion_from_rotvec, rotate_onto
from inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS, MIRROR_137, OPENPOSE_137


def test_the_average_person_is_the_humanoid_of_the_skeleton_file():
    heads, tails = default_ends()
    skeleton = make_skeleton()
    np.testing.assert_allclose(skeleton.rest[:, :3, 3], heads, atol=1e-9)
    ends = heads + skeleton.rest[:, :3, 1] * skeleton.lengths[:, None]
    np.testing.assert_allclose(ends, tails, atol=2e-3)


def test_rest_matrices_are_rotations_and_mirror_images():
    rest = make_skeleton().rest
    np.testing.assert_allclose(np.linalg.det(rest[:, :3, :3]), 1.0)
    mirror = np.diag([-1.0, 1.0, 1.0])
    for name in HUMANOID_NAMES:
        if name.endswith(".L"):
            left, right = rest[bone(name), :3, :3], rest[bone(f"{name[:-1]}R"), :3, :3]
            np.testing.assert_allclose(right[:, 0], -mirror @ left[:, 0], atol=1e-12)
            np.testing.assert_allclose(right[:, 1:], mirror @ left[:, 1:], atol=1e-12)


def test_positive_flexion_closes_elbows_knees_and_fingers():
    skeleton = make_skeleton()
    tree = ik.Tree(HUMANOID_PARENTS, skeleton.local_turn, skeleton.local_offset)
    turns = np.broadcast_to(np.eye(3), (1, len(HUMANOID_NAMES), 3, 3)).copy()
    for side in "LR":
        for part in ("forearm", "shin", "index.02"):
            turns[:, bone(f"{part}.{side}")] = ik.turn_about(0, np.array(1.0))
    world, _ = ik.place(tree, ik.Pose(turns, skeleton.rest[:1, :3, 3]))
    for side in "LR":
        assert world[0, bone(f"forearm.{side}"), 1, 1] < -0.5, "forearms bend forward, to -Y"
        assert world[0, bone(f"shin.{side}"), 1, 1] > 0.5, "shins bend backward, to +Y"
    straight = world[0, bone("hand.L"), :, 2]
    assert world[0, bone("index.02.L"), :, 1] @ straight > 0.5, "fingers bend to the palm"


def test_placing_agrees_with_blenders_kinematics():
    motion = bodies.moving(5)
    skeleton = make_skeleton()
    tree = ik.Tree(HUMANOID_PARENTS, skeleton.local_turn, skeleton.local_offset)
    turns, heads = ik.place(tree, ik.Pose(matrix_from_quaternion(motion.rotations), motion.root))
    wanted = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    np.testing.assert_allclose(turns, wanted[..., :3, :3], atol=1e-9)
    np.testing.assert_allclose(heads, wanted[..., :3, 3], atol=1e-9)


def test_markers_at_rest_are_symmetric():
    skeleton = make_skeleton(Proportions(torso=0.55, thigh=0.46))
    points = place_markers(skeleton, skeleton.rest[None, :, :3, :3], skeleton.rest[None, :, :3, 3])[0]
    where = {OPENPOSE_137[k]: p for k, p in zip(skeleton.marker_keypoints, points, strict=True)}
    for name, point in where.items():
        other = OPENPOSE_137[MIRROR_137[OPENPOSE_137.index(name)]]
        np.testing.assert_allclose(where[other] * [-1, 1, 1], point, atol=1e-9)
    assert min(p[2] for p in where.values()) == pytest.approx(0.02, abs=0.01), "it stands on the floor"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_solver_reaches_targets_that_can_be_reached(seed):
    rng = np.random.default_rng(seed)
    parents = (-1, 0, 1)
    offset = np.array([[0.0, 0, 0], [0, 0.4, 0], [0, 0.3, 0]])
    tree = ik.Tree(parents, np.broadcast_to(np.eye(3), (3, 3, 3)), offset)
    truth = ik.Pose(
        matrix_from_quaternion(quaternion_from_rotvec(rng.uniform(-0.4, 0.4, (6, 3, 3)))), rng.normal(size=(6, 3))
    )
    bones, offsets = (
        np.array([0, 1, 2, 2, 2]),
        np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.2, 0], [0.1, 0.1, 0]], float),
    )
    turns, heads = ik.place(tree, truth)
    points = heads[:, bones] + np.einsum("tmij,mj->tmi", turns[:, bones], offsets)
    start = ik.Pose(np.broadcast_to(np.eye(3), (6, 3, 3, 3)).copy(), np.zeros((6, 3)))
    freedom = ik.Freedom(np.repeat(np.arange(3), 3), np.tile(np.eye(3), (3, 1)), np.zeros(9, bool), np.full(9, 1e-3))
    targets = ik.Targets(bones, offsets, points, np.full((6, 5), 1e4))
    found = ik.refine(tree, start, targets, freedom, steps=12)
    turns, heads = ik.place(tree, found)
    np.testing.assert_allclose(heads[:, bones] + np.einsum("tmij,mj->tmi", turns[:, bones], offsets), points, atol=2e-3)


def test_long_clips_are_solved_in_parts_with_the_same_result():
    motion = bodies.moving(ik.CHUNK + 20)
    skeleton = make_skeleton()
    tree = ik.Tree(HUMANOID_PARENTS, skeleton.local_turn, skeleton.local_offset)
    truth = ik.Pose(matrix_from_quaternion(motion.rotations), motion.root)
    points = place_markers(skeleton, *ik.place(tree, truth)) + 0.01
    targets = ik.Targets(skeleton.marker_bones, skeleton.marker_offsets, points, np.ones(points.shape[:2]))
    freedom = ik.Freedom(np.repeat(np.arange(5), 3), np.tile(np.eye(3), (5, 1)), np.zeros(15, bool), np.ones(15))
    whole = ik.refine(tree, truth, targets, freedom, steps=1)
    last = slice(ik.CHUNK, None)
    tail = ik.Targets(targets.bones, targets.offsets, points[last], targets.weights[last])
    part = ik.refine(tree, truth.part(last), tail, freedom, steps=1)
    np.testing.assert_allclose(whole.turns[last], part.turns, atol=1e-5)


def test_keypoints_of_a_motion_without_markers_take_the_average_person():
    motion = bodies.moving(3)
    bare = motion.with_header(markers=None)
    np.testing.assert_allclose(motion_keypoints(bare), motion_keypoints(motion), atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_points_are_rotated_onto_each_other(seed):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(4, 5, 3))
    turn = matrix_from_quaternion(quaternion_from_rotvec(rng.normal(size=(4, 3))))
    target = np.einsum("nij,nkj->nki", turn, source) + rng.normal(size=(4, 1, 3))
    found, centre, middle = rotate_onto(source, target, rng.uniform(0.1, 1.0, (4, 5)))
    np.testing.assert_allclose(quaternion_from_matrix(found), quaternion_from_matrix(turn), atol=1e-6)
    np.testing.assert_allclose(
        np.einsum("nij,nj->ni", found, -centre) + middle,
        target[:, 0] - np.einsum("nij,nj->ni", turn, source[:, 0]),
        atol=1e-6,
    )


def test_proportions_stand_on_the_floor_whatever_their_lengths():
    skeleton = make_skeleton(Proportions(thigh=0.5, shin=0.3))
    hips, ankle = skeleton.rest[0, 2, 3], skeleton.rest[bone("foot.L"), 2, 3]
    assert hips - ankle == pytest.approx(0.8)
    assert ankle == pytest.approx(make_skeleton(DEFAULT).rest[bone("foot.L"), 2, 3])
