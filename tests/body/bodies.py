"""Bodies in motion made up for tests."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from inference.core.artifacts import BodyMesh, BodyParameters
from inference.core.rotations import multiply, quaternion_from_rotvec

Array = np.ndarray


def parameters_of(mesh: BodyMesh, pose: Array, root: Array | None = None, fps: float = 30.0) -> BodyParameters:
    """Give the artifact of poses (T, B, 4) on a body."""
    frames = len(pose)
    header = {
        "unit": "m", "frame": "world", "fps": fps, "skeleton": "anny", "bones": list(mesh.header["bones"]),
        "shape_names": list(mesh.header["shape"]), "model": "anny",
    }  # fmt: skip
    where = np.tile(mesh.heads[0], (frames, 1)) if root is None else root
    shape = np.array(list(mesh.header["shape"].values()))
    return BodyParameters(header, pose, where, shape, np.ones(frames), np.arange(frames) / fps)


def golden_mesh() -> BodyMesh:
    """A whole body with few keys; kept in half precision."""
    kept = BodyMesh.load(Path(__file__).parents[1] / "golden" / "body_mesh.npz")
    arrays = {item.name: getattr(kept, item.name) for item in fields(kept) if item.name != "header"}
    return replace(kept, **{name: array.astype(np.float32) for name, array in arrays.items() if array.dtype == "f2"})


def exercise(mesh: BodyMesh, phase: Array, *, elbow_deg: float = 0.0, yaw: float = 0.0, place: Array | None = None,
             fps: float = 30.0) -> BodyParameters:  # fmt: skip
    """An arm raised, a knee lifted, a turn of the trunk: a body at (T,) phases in [0, 1] of the exercise.

    elbow_deg: how much the right elbow is bent beyond that; yaw, place (3,): where the whole of it stands.
    """
    turns = np.zeros((len(phase), len(mesh.parents), 3))
    index = {name: row for row, name in enumerate(mesh.header["bones"])}
    turns[:, index["upperarm01.L"], 1] = -1.2 * np.sin(np.pi * phase)
    turns[:, index["upperleg01.R"], 0] = -0.9 * np.sin(2 * np.pi * phase) ** 2
    turns[:, index["lowerleg01.R"], 0] = 1.2 * np.sin(2 * np.pi * phase) ** 2
    turns[:, index["spine01"], 2] = 0.5 * phase
    side = index["lowerarm01.R"]
    upper = mesh.heads[side] - mesh.heads[index["upperarm01.R"]]
    axis = np.cross(upper, mesh.tails[side] - mesh.heads[side])
    turns[:, side] = axis / np.linalg.norm(axis) * (0.4 + np.radians(elbow_deg))
    pose = quaternion_from_rotvec(turns)
    pose[:, 0] = multiply(quaternion_from_rotvec(np.array([0.0, 0.0, yaw])), pose[:, 0])
    root = np.tile(mesh.heads[0] + (0.0 if place is None else place), (len(phase), 1))
    return parameters_of(mesh, pose, root, fps)
