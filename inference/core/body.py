"""A parametric body in arrays: where its bones are in each frame, its skin there, and the same as a body motion.

Turns are about the axes of the rest pose (x to the person's left, y backwards, z up), as `BodyParameters` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .artifacts import BodyMesh, BodyMotion, BodyParameters
from .rotations import frame_from_axes, matrix_from_quaternion, quaternion_from_matrix

Array = np.ndarray


def global_turns(pose: Array, parents: Array) -> Array:
    """(T, B, 3, 3) turns of bones from the rest pose to the frame, of (T, B, 4) local ones."""
    turns = matrix_from_quaternion(np.asarray(pose, float))
    for bone, parent in enumerate(parents):
        if parent >= 0:
            turns[:, bone] = turns[:, parent] @ turns[:, bone]
    return turns


def local_turns(turns: Array, parents: Array) -> Array:
    """(T, B, 4) local turns wxyz of (T, B, 3, 3) global ones: the inverse of `global_turns`."""
    base = turns[:, np.maximum(parents, 0)]
    local = np.where(np.asarray(parents)[:, None, None] < 0, turns, np.swapaxes(base, -1, -2) @ turns)
    return quaternion_from_matrix(local)


def place_bones(mesh: BodyMesh, pose: Array, root: Array) -> tuple[Array, Array]:
    """Turns (T, B, 3, 3) from the rest pose, and heads (T, B, 3) metres, in the frame of `root` (T, 3)."""
    turns, heads = global_turns(pose, mesh.parents), np.empty((*pose.shape[:2], 3))
    heads[:, 0] = root
    for bone, parent in enumerate(mesh.parents):
        if parent >= 0:
            heads[:, bone] = heads[:, parent] + turns[:, parent] @ (mesh.heads[bone] - mesh.heads[parent])
    return turns, heads


class Skin:
    """The skin of one body, by linear blending: made once for a clip, then some matrix products a frame."""

    def __init__(self, mesh: BodyMesh) -> None:
        self._weights = dense_weights(mesh).astype(np.float32)
        self._rest = np.concatenate([mesh.vertices, np.ones((len(mesh.vertices), 1))], 1).astype(np.float32)
        self._heads = np.asarray(mesh.heads, float)

    def vertices(self, turns: Array, heads: Array) -> Array:
        """(V, 3) metres of one frame, given the bones' (B, 3, 3) turns and (B, 3) heads."""
        moves = np.empty((len(heads), 3, 4), np.float32)
        moves[..., :3], moves[..., 3] = turns, heads - (turns @ self._heads[..., None])[..., 0]
        blended = (self._weights @ moves.reshape(-1, 12)).reshape(-1, 3, 4)
        return np.matmul(blended, self._rest[..., None])[..., 0]


def dense_weights(mesh: BodyMesh) -> Array:
    """(V, B) how much of each vertex follows each bone; rows sum to 1."""
    out = np.zeros((len(mesh.vertices), len(mesh.parents)))
    np.add.at(out, (np.arange(len(out))[:, None], mesh.bone_index), mesh.bone_weight)
    return out / out.sum(1, keepdims=True)


def rest_frames(heads: Array, tails: Array, rolls: Array) -> Array:
    """(B, 4, 4) rest matrices as Blender has them: y from head to tail, x as near to `rolls` as it can be."""
    out = np.tile(np.eye(4), (len(heads), 1, 1))
    out[:, :3, :3] = frame_from_axes(np.asarray(tails, float) - heads, np.asarray(rolls, float))
    out[:, :3, 3] = heads
    return out


def as_motion(parameters: BodyParameters, mesh: BodyMesh) -> BodyMotion:
    """Give the same motion with rotations about the bones' own axes, as armatures have them.

    The bones are those of `mesh`; `parameters` has the same ones.
    """
    rest = rest_frames(mesh.heads, mesh.tails, mesh.rolls)
    axes = rest[:, :3, :3]
    local = matrix_from_quaternion(np.asarray(parameters.pose, float))
    rotations = quaternion_from_matrix(np.swapaxes(axes, -1, -2) @ local @ axes)
    frames, bones = rotations.shape[:2]
    kept = {name: parameters.header[name] for name in ("cameras", "sources", "start", "floor_from_frame", "clips")
            if name in parameters.header}  # fmt: skip
    header: dict[str, Any] = {
        "unit": "m", "frame": parameters.header["frame"], "fps": parameters.fps, "skeleton": "body",
        "bones": list(mesh.header["bones"]), "lengths_m": np.linalg.norm(mesh.tails - mesh.heads, axis=1).tolist(),
        **kept,
    }  # fmt: skip
    confidence = np.repeat(np.asarray(parameters.confidence, float)[:, None], bones, 1)
    return BodyMotion(
        header, rotations, np.asarray(parameters.root, float), rest, np.asarray(mesh.parents), confidence,
        np.asarray(parameters.times, float), np.zeros((frames, 4)),
    )  # fmt: skip


def shaped(mesh: BodyMesh, amounts: Mapping[str, float]) -> tuple[Array, Array, Array]:
    """Vertices (V, 3), heads and tails (B, 3) of a body with keys of its shape parameters set."""
    rows = {str(name): row for row, name in enumerate(mesh.parameter_names)}
    used, values = [rows[name] for name in amounts], np.array(list(amounts.values()))

    def moved(rest: Array, by: Array) -> Array:
        return rest + np.tensordot(values, np.asarray(by[used], float), 1)

    return (
        moved(mesh.vertices, mesh.parameter_keys), moved(mesh.heads, mesh.parameter_heads),
        moved(mesh.tails, mesh.parameter_tails),
    )  # fmt: skip


def at_rest(mesh: BodyMesh) -> BodyParameters:
    """Give a body that does nothing, for a frame."""
    shape = mesh.header.get("shape", {})
    header = {
        "unit": "m", "frame": "body", "fps": 24.0, "skeleton": str(mesh.header.get("model", "body")),
        "bones": list(mesh.header["bones"]), "shape_names": list(shape), "model": mesh.header.get("model", "anny"),
    }  # fmt: skip
    pose = np.tile([1.0, 0.0, 0.0, 0.0], (1, len(mesh.parents), 1))
    root = np.array(mesh.heads[:1], float)
    return BodyParameters(header, pose, root, np.array(list(shape.values()), float), np.ones(1), np.zeros(1))
