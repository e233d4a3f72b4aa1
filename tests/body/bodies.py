"""Bodies in motion made up for tests."""

from __future__ import annotations

import numpy as np

from inference.core.artifacts import BodyMesh, BodyParameters

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
