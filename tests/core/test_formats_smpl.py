"""Poses of the SMPL family land on a skeleton that turns as they say, however they are laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from understudy.tests.motion import bodies

from inference.core.formats import smpl
from inference.core.formats.smpl import read_smpl
from inference.core.humanoid import bone
from inference.core.rig import NEEDED_ROLES, Performance
from inference.core.rotations import matrix_from_rotvec, rotvec_from_quaternion
from inference.protocol.errors import InputError

FRAMES = 20
NAMES = {count: [name for name, _ in joints] for count, joints in smpl._JOINTS.items()}
Z_UP = matrix_from_rotvec(np.array([np.pi / 2, 0.0, 0.0]))  # takes SMPL's y to z


def poses(joints: int = 24, *, root: np.ndarray | None = None) -> np.ndarray:
    """(T, J, 3) rotation vectors of somebody who stands and moves every joint a little."""
    rng = np.random.default_rng(joints)
    time = np.arange(FRAMES)[:, None, None] / 30
    out = 0.3 * np.sin(3 * time + rng.uniform(0, 6, (joints, 1))) * rng.normal(size=(joints, 3))
    out[:, 0] = smpl_root(root)
    return out


def smpl_root(root: np.ndarray | None) -> np.ndarray:
    return np.zeros(3) if root is None else root


def walk() -> np.ndarray:
    """(T, 3) steps along z, SMPL's ahead, at y up."""
    return np.stack([np.zeros(FRAMES), np.full(FRAMES, 0.2), np.arange(FRAMES) / 30], axis=-1)


def read(path: Path, **arrays: np.ndarray | float | str) -> Performance:
    np.savez(path / "clip.npz", **{name: np.asarray(value) for name, value in arrays.items()})
    return read_smpl(path / "clip.npz")


def six(turns: np.ndarray, *, columns: bool) -> np.ndarray:
    """The first two rows of matrices one after the other, or their first two columns interleaved."""
    return turns[..., :2].reshape(*turns.shape[:-2], 6) if columns else turns[..., :2, :].reshape(*turns.shape[:-2], 6)


def same(a: Performance, b: Performance) -> bool:
    return np.allclose(a.turns, b.turns, atol=1e-6) and np.allclose(a.heads, b.heads, atol=1e-6)


@pytest.mark.parametrize("joints", [22, 24, 52, 55])
def test_every_joint_turns_in_its_parents_frame_about_smpls_axes(tmp_path: Path, joints: int) -> None:
    given = poses(joints)
    found = read(tmp_path, poses=given.reshape(FRAMES, -1), trans=walk(), fps=30.0)
    rig = found.rig
    assert list(rig.names) == NAMES[joints] and not found.mapping.missing(rig) and found.mapping.first("toe.L", rig)
    local = matrix_from_rotvec(given)
    delta = found.turns @ np.swapaxes(rig.rest[:, :3, :3], -1, -2)  # world turns from rest
    for row, parent in enumerate(rig.parents):
        own = Z_UP @ local[:, row] @ Z_UP.T
        assert np.allclose(delta[:, row], own if parent < 0 else delta[:, parent] @ own, atol=1e-9)
        if parent >= 0:
            bone = rig.heads[row] - rig.heads[parent]
            assert np.allclose(found.heads[:, row] - found.heads[:, parent], delta[:, parent] @ bone, atol=1e-9)


def test_fingers_of_smplx_are_found(tmp_path: Path) -> None:
    found = read(tmp_path, poses=poses(55).reshape(FRAMES, -1), fps=30)
    for finger in ("thumb", "index", "middle", "ring", "little"):
        chain = found.mapping.chain(f"{finger}.R", found.rig)
        assert len(chain) == 3 and found.rig.parents[chain[0]] == found.rig.index["right_wrist"]
    assert found.mapping.bones["little.L"][0] == "left_pinky1"


def test_the_layouts_of_rotations_mean_the_same(tmp_path: Path) -> None:
    vectors = poses(24)
    turns = matrix_from_rotvec(vectors)
    one = read(tmp_path, poses=vectors.reshape(FRAMES, 72), trans=walk(), fps=30)
    others = [
        {"poses": vectors}, {"poses": turns}, {"pred_rotmat": turns.reshape(FRAMES, -1)},
        {"poses": six(turns, columns=False)}, {"poses": six(turns, columns=True).reshape(FRAMES, -1)},
        {"poses": vectors[None]},
        {"global_orient": vectors[:, 0], "body_pose": vectors[:, 1:].reshape(FRAMES, 69)},
        {"global_orient": turns[:, :1], "body_pose": turns[:, 1:]},
        {"Rh": vectors[:, 0], "poses": np.where(np.arange(24)[:, None] == 0, 0.0, vectors).reshape(FRAMES, 72)},
    ]  # fmt: skip
    for arrays in others:
        assert same(read(tmp_path, **arrays, trans=walk(), fps=30), one), list(arrays)


def test_parts_of_smplx_are_put_together(tmp_path: Path) -> None:
    vectors = poses(52)
    one = read(tmp_path, poses=vectors.reshape(FRAMES, -1), transl=walk(), fps=30)
    hands = {"left_hand_pose": vectors[:, 22:37], "right_hand_pose": vectors[:, 37:].reshape(FRAMES, 45)}
    parts = {"global_orient": vectors[:, 0], "body_pose": vectors[:, 1:22], "transl": walk(), "fps": 30}
    assert same(read(tmp_path, **parts, **hands), one)
    both = {"root_orient": vectors[:, 0], "pose_body": vectors[:, 1:22], "pose_hand": vectors[:, 22:], "trans": walk()}
    assert same(read(tmp_path, **both, fps=30), one)
    few = read(tmp_path, **parts, left_hand_pose=np.zeros((FRAMES, 6)), right_hand_pose=np.zeros((FRAMES, 6)))
    assert len(few.rig.names) == 22 and "own components" in few.header["notes"][0]


def test_the_worlds_group_is_preferred_to_the_cameras(tmp_path: Path) -> None:
    vectors, down = poses(24), np.array([np.pi, 0.0, 0.0])
    arrays = {}
    for name, root in (("smpl_params_incam", down), ("smpl_params_global", np.zeros(3))):
        arrays |= {f"{name}/body_pose": vectors[:, 1:22], f"{name}/transl": walk()}
        arrays[f"{name}/global_orient"] = np.tile(root, (FRAMES, 1))
    found = read(tmp_path, **arrays, fps=30)
    assert np.allclose(found.turns[:, 0], Z_UP, atol=1e-9)


@pytest.mark.parametrize(("axis", "turn"), [
    ("+Y", np.eye(3)), ("+Z", Z_UP), ("-Y", np.diag([1.0, -1.0, -1.0])),
    ("+X", matrix_from_rotvec(np.array([0.0, 0.0, -np.pi / 2]))),
])  # fmt: skip
def test_whatever_axis_is_up_the_person_stands_and_walks(tmp_path: Path, axis: str, turn: np.ndarray) -> None:
    vectors = np.zeros((FRAMES, 24, 3))
    root = matrix_from_rotvec(vectors)
    root[:, 0] = turn
    found = read(tmp_path, poses=root, trans=walk() @ turn.T, mocap_framerate=60.0)
    assert any(f"{axis} is up" in note for note in found.header["notes"])
    assert found.fps == pytest.approx(60)
    assert np.allclose(found.heads[:, found.rig.index["head"], 2], 1.55, atol=1e-6)
    assert np.allclose(np.linalg.norm(np.diff(found.heads[:, 0], axis=0), axis=-1), 1 / 30, atol=1e-9)
    assert np.abs(np.diff(found.heads[:, 0], axis=0)[:, 2]).max() < 1e-9  # it walks on the level


def test_without_a_translation_the_lower_foot_stands(tmp_path: Path) -> None:
    vectors = np.zeros((FRAMES, 24, 3))
    vectors[:, 1, 0] = -np.linspace(0, 1.2, FRAMES)  # a leg is raised
    vectors[:, [1, 2], 0] -= 0.3
    found = read(tmp_path, poses=vectors)
    feet = [found.rig.index[name] for name in ("left_ankle", "left_foot", "right_ankle", "right_foot")]
    low = (found.heads[:, feet, 2] - found.rig.heads[feet, 2]).min(axis=1)
    assert np.allclose(low, 0.0, atol=1e-9)
    assert np.abs(np.ptp(found.heads[:, 0, :2], axis=0)).max() < 1e-9
    assert any("30 were taken" in note for note in found.header["notes"])


@pytest.mark.parametrize("size", [0.85, 1.0, 1.15])
def test_the_length_of_steps_tells_the_persons_size(tmp_path: Path, size: float) -> None:
    motion, standing = bodies.walking(120)
    vectors = np.zeros((120, 24, 3))
    turns = rotvec_from_quaternion(motion.rotations)
    for side, letter in (("left", "L"), ("right", "R")):
        for theirs, ours in (("hip", "thigh"), ("knee", "shin"), ("ankle", "foot")):
            vectors[:, NAMES[24].index(f"{side}_{theirs}")] = turns[:, bone(f"{ours}.{letter}")]
    place = size * motion.root @ Z_UP  # to y up
    found = read(tmp_path, poses=vectors.reshape(120, 72), trans=place, fps=30)
    ankle = found.heads[:, found.rig.index["left_ankle"]]
    slide = np.linalg.norm(np.diff(ankle[:, :2], axis=0), axis=-1)[standing[1:, 0] & standing[:-1, 0]]
    assert np.median(slide) < 0.003
    assert found.rig.heads[found.rig.index["head"], 2] == pytest.approx(1.55 * size, rel=0.03)


def test_mocap_of_amass_with_a_gender_and_betas_is_read(tmp_path: Path) -> None:
    others = {"gender": "female", "betas": np.zeros(16), "dmpls": np.zeros((FRAMES, 8)), "names": np.array([object()])}
    motion = {"poses": poses(52).reshape(FRAMES, 156), "trans": walk(), "mocap_framerate": 120.0}
    np.savez(tmp_path / "amass.npz", **others, **motion)
    found = read_smpl(tmp_path / "amass.npz")
    assert found.name == "amass" and found.fps == pytest.approx(120) and found.contacts is None
    assert all(found.mapping.chain(role, found.rig) for role in NEEDED_ROLES)


@pytest.mark.parametrize(("arrays", "words"), [
    ({"positions": np.zeros((5, 3))}, "no poses of a SMPL body"),
    ({"poses": np.zeros((5, 71))}, r"shape \(5, 71\)"),
    ({"poses": np.zeros((2, 5, 72))}, "one person's have"),
    ({"poses": np.full((5, 72), np.nan)}, "not finite"),
    ({"poses": np.full((5, 72), 90.0)}, "degrees"),
    ({"poses": np.ones((5, 24, 3, 3))}, "not rotation matrices"),
    ({"poses": np.zeros((5, 24, 6))}, "make no rotation"),
    ({"poses": np.zeros((5, 72)), "trans": np.zeros((4, 3))}, "for 5 frames"),
    ({"poses": np.zeros((5, 72)), "trans": np.full((5, 3), 1e9)}, "farther than"),
    ({"poses": np.zeros((0, 72))}, "0 frames"),
    ({"global_orient": np.zeros((4, 3)), "body_pose": np.zeros((5, 63))}, "5 frames of one part"),
])  # fmt: skip
def test_what_is_no_motion_of_one_person_is_refused(tmp_path: Path, arrays: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, **arrays)


@pytest.mark.parametrize("name", ["wham_output.pkl", "hmr4d_results.pt", "a.pth"])
def test_files_that_can_run_code_are_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match="can run code") as caught:
        read_smpl(tmp_path / name)
    assert "numpy.savez" in caught.value.hint
