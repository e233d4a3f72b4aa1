"""Forward and inverse kinematics of armatures, as Blender evaluates them.

With rest matrices M_i in armature space, L_i = inv(M_parent) M_i and pose rotations q_i:
G_i = G_parent L_i R(q_i). Valid where bones inherit rotation and full scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rotations import matrix_from_quaternion, quaternion_from_matrix

Array = np.ndarray


def local_rest(rest: Array, parents: Sequence[int] | Array) -> Array:
    """(B, 4, 4) rest matrices relative to the parent's; the root's stays in armature space."""
    local = np.array(rest, float)
    for bone, parent in enumerate(parents):
        if parent >= 0:
            local[bone] = np.linalg.inv(rest[parent]) @ rest[bone]
    return local


def forward(rest: Array, parents: Sequence[int] | Array, rotations: Array, root: Array) -> Array:
    """Place every bone.

    Args:
        rest: (B, 4, 4) rest matrices in armature space, parents before children.
        rotations: (T, B, 4) wxyz relative to the rest pose; root: (T, 3) head of bone 0, metres.
    Returns:
        (T, B, 4, 4) bone matrices in the frame of `root`; a bone's head is the last column, its axis the second.
    """
    frames, bones = rotations.shape[:2]
    local, pose = local_rest(rest, parents), matrix_from_quaternion(rotations)
    out = np.zeros((frames, bones, 4, 4))
    out[..., 3, 3] = 1.0
    for bone, parent in enumerate(parents):
        if parent < 0:
            out[:, bone, :3, :3] = local[bone, :3, :3] @ pose[:, bone]
            out[:, bone, :3, 3] = root
            continue
        turn = out[:, parent, :3, :3]
        out[:, bone, :3, :3] = turn @ (local[bone, :3, :3] @ pose[:, bone])
        out[:, bone, :3, 3] = turn @ local[bone, :3, 3] + out[:, parent, :3, 3]
    return out


def inverse(rest: Array, parents: Sequence[int] | Array, globals_: Array) -> tuple[Array, Array]:
    """Rotations (T, B, 4) and root (T, 3) whose `forward` gives the orientations of (T, B, 4, 4) `globals_`."""
    local = local_rest(rest, parents)
    turn = globals_[..., :3, :3]
    pose = np.empty_like(turn)
    for bone, parent in enumerate(parents):
        base = local[bone, :3, :3] if parent < 0 else turn[:, parent] @ local[bone, :3, :3]
        pose[:, bone] = np.swapaxes(base, -1, -2) @ turn[:, bone]
    return quaternion_from_matrix(pose), globals_[:, list(parents).index(-1), :3, 3].copy()


def transformed(rest: Array, rotations: Array, root: Array, transform: Array, *, bone: int = 0) -> tuple[Array, Array]:
    """Move a motion rigidly: rotations (T, B, 4) and root (T, 3) as seen after the (4, 4) `transform`."""
    base = rest[bone, :3, :3]
    turn = base.T @ transform[:3, :3] @ base @ matrix_from_quaternion(rotations[:, bone])
    out = np.array(rotations, float)
    out[:, bone] = quaternion_from_matrix(turn)
    return out, root @ transform[:3, :3].T + transform[:3, 3]


def tails(globals_: Array, lengths: Array) -> Array:
    """(T, B, 3) ends of bones of the given (B,) lengths along their local y."""
    return globals_[..., :3, 3] + globals_[..., :3, 1] * np.asarray(lengths)[:, None]
