"""The travelling moves to the root bone, the object or nowhere, and nothing else in the world changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inference.core.retarget.posing import evaluate, repose
from inference.core.retarget.travel import heading, move
from inference.core.rig import HUMANOID_MAPPING, Mapping, Rig, RigMotion
from inference.protocol.errors import InputError
from inference.protocol.retarget import RetargetSettings
from tests.rigs import made
from tests.walker import walk

ROOTED = Mapping("rooted", {**HUMANOID_MAPPING.bones, "root": ("root",)})
AXES = ("xy", "x", "y", "xyz", "z")


def _rooted() -> Rig:
    """Our skeleton under a root bone whose axes point anywhere."""
    rig = made.humanoid()
    root = np.eye(4)
    root[:3, :3] = Rotation.from_euler("xyz", [20, 30, 50], degrees=True).as_matrix()
    root[:3, 3] = [0.1, 0.2, 0.0]
    return Rig(
        ("root", *rig.names), np.concatenate([[-1], np.asarray(rig.parents) + 1]),
        np.concatenate([root[None], rig.rest]), np.concatenate([[0.5], rig.lengths]), name="Rooted",
    )  # fmt: skip


def _turning(rig: Rig, frames: int = 60) -> tuple[RigMotion, np.ndarray]:
    """A walk in a wide circle, more than once around, and its heading."""
    motion, _ = walk(rig, ROOTED, frames)
    angle = np.linspace(0.0, 2.5 * np.pi, frames)
    turn = Rotation.from_rotvec(np.outer(angle, [0.0, 0.0, 1.0])).as_matrix()
    hips = int(motion.moved[0])
    place = np.einsum("tij,tj->ti", turn, motion.heads[:, hips]) + [0.3, -0.2, 0.0]
    return repose(motion, {hips: turn @ motion.turns[:, hips]}, {hips: place}), angle


def _settings(root: str, axes: str = "xy", *, turn: bool = False) -> RetargetSettings:
    return replace(RetargetSettings(), root=root, root_axes=axes, root_turn=turn)


def _evaluated(motion: RigMotion) -> tuple[np.ndarray, np.ndarray]:
    turns, heads = evaluate(motion.rig, motion.keyed, motion.rotations, motion.moved, motion.locations)
    if motion.placement is not None:
        turn = motion.placement[:, :3, :3]
        heads = np.einsum("tij,tbj->tbi", turn, heads) + motion.placement[:, None, :3, 3]
        turns = turn[:, None] @ turns
    return turns, heads


def test_travelling_stays_in_the_hips_unless_asked() -> None:
    motion, _ = _turning(_rooted())
    assert move(motion, RetargetSettings()) is motion


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("root", ["bone", "object"])
def test_the_world_stays_as_it_is(root: str, axes: str, *, turn: bool) -> None:
    rig = _rooted()
    motion, _ = _turning(rig)
    moved = move(motion, _settings(root, axes, turn=turn))
    turns, heads = _evaluated(moved)
    np.testing.assert_allclose(turns, moved.turns, atol=1e-9)
    np.testing.assert_allclose(heads, moved.heads, atol=1e-9)
    body = slice(1, None)
    np.testing.assert_allclose(moved.turns[:, body], motion.turns[:, body], atol=1e-9)
    np.testing.assert_allclose(moved.heads[:, body], motion.heads[:, body], atol=1e-9)


@pytest.mark.parametrize("axes", AXES)
def test_the_root_bone_travels_by_axis(axes: str) -> None:
    rig = _rooted()
    motion, _ = _turning(rig)
    hips = rig.index["hips"]
    moved = move(motion, _settings("bone", axes))
    assert 0 in moved.keyed and 0 in moved.moved
    gone = moved.heads[:, 0] - rig.heads[0]
    wanted = motion.heads[:, hips] - rig.heads[hips]
    for i, axis in enumerate("xyz"):
        np.testing.assert_allclose(gone[:, i], wanted[:, i] if axis in axes else 0.0, atol=1e-9)
    np.testing.assert_allclose(moved.turns[:, 0], np.tile(rig.rest[0, :3, :3], (60, 1, 1)), atol=1e-9)


def test_the_root_turns_with_the_heading_and_never_leaps() -> None:
    rig = _rooted()
    motion, angle = _turning(rig)
    inside = slice(10, -10)
    np.testing.assert_allclose(heading(motion)[inside], angle[inside], atol=0.02)
    moved = move(motion, _settings("bone", turn=True))
    local = moved.rotations[:, moved.keyed.tolist().index(0)]
    assert np.linalg.norm(np.diff(local, axis=0), axis=-1).max() < 0.2
    facing = moved.turns[:, 0] @ rig.rest[0, :3, :3].T
    np.testing.assert_allclose(facing[:, 2], np.tile([0.0, 0.0, 1.0], (60, 1)), atol=1e-12)
    hips = moved.rotations[:, moved.keyed.tolist().index(rig.index["hips"])]
    assert np.abs(hips[inside, 0]).min() > 0.999  # what is left to the hips is little


def test_in_place_the_hips_stay_above_where_they_were() -> None:
    rig = _rooted()
    motion, _ = _turning(rig)
    hips = rig.index["hips"]
    still = move(motion, _settings("in-place"))
    assert still.placement is None
    np.testing.assert_allclose(still.heads[:, hips, :2], np.tile(rig.heads[hips, :2], (60, 1)), atol=1e-9)
    np.testing.assert_allclose(still.heads[:, hips, 2], motion.heads[:, hips, 2], atol=1e-9)
    np.testing.assert_allclose(still.turns, motion.turns, atol=1e-9)
    facing = move(motion, _settings("in-place", turn=True))
    assert np.ptp(heading(facing)[10:-10]) < 0.05
    turns, heads = _evaluated(facing)
    np.testing.assert_allclose(turns, facing.turns, atol=1e-9)
    np.testing.assert_allclose(heads, facing.heads, atol=1e-9)


def test_bones_that_do_not_turn_with_their_parent_stay_right_in_the_world() -> None:
    rig = _rooted()
    inherit = np.ones(len(rig.names), bool)
    inherit[[rig.index["chest"], rig.index["thigh.L"]]] = False
    motion, _ = _turning(replace(rig, inherit_rotation=inherit))
    motion = repose(motion, {row: motion.turns[:, row] for row in np.flatnonzero(~inherit)})
    for root in ("bone", "object"):
        moved = move(motion, _settings(root, turn=True))
        turns, heads = _evaluated(moved)
        np.testing.assert_allclose(turns[:, 1:], motion.turns[:, 1:], atol=1e-9, err_msg=root)
        np.testing.assert_allclose(heads[:, 1:], motion.heads[:, 1:], atol=1e-9, err_msg=root)


def test_a_rig_without_a_root_bone_says_so() -> None:
    motion, _ = walk(made.humanoid(), HUMANOID_MAPPING, 5)
    with pytest.raises(InputError, match="no root bone") as caught:
        move(motion, _settings("bone"))
    assert "object" in caught.value.hint
    assert move(motion, _settings("object")).placement is not None


def test_a_root_bone_beside_the_hips_is_named() -> None:
    rig = made.humanoid()
    mapping = Mapping("odd", {**HUMANOID_MAPPING.bones, "root": ("hand.L",)})
    motion, _ = walk(rig, mapping, 5)
    with pytest.raises(InputError, match=r'"hand.L" does not carry the hips "hips"'):
        move(motion, _settings("bone"))


def test_a_single_frame_travels_too() -> None:
    motion, _ = walk(_rooted(), ROOTED, 1)
    for root in ("bone", "object", "in-place"):
        assert len(move(motion, _settings(root, turn=True)).times) == 1
