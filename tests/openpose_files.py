"""Files as OpenPose writes them, for the tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from inference.core.artifacts import Keypoints2D
from inference.core.skeletons import BODY, FACE, LEFT_HAND, RIGHT_HAND


def write_openpose(folder: Path, keypoints: Keypoints2D, *, stem: str = "clip") -> None:
    """Write one OpenPose JSON file for each frame; points that are not seen are 0, 0, 0, as OpenPose writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "pose_keypoints_2d": BODY, "face_keypoints_2d": FACE,
        "hand_left_keypoints_2d": LEFT_HAND, "hand_right_keypoints_2d": RIGHT_HAND,
    }  # fmt: skip
    seen = np.isfinite(keypoints.positions).all(axis=-1) & (keypoints.confidence > 0)
    rows = np.concatenate([keypoints.positions, keypoints.confidence[..., None]], axis=-1)
    rows = np.where(seen[..., None], rows, 0.0)
    for index, frame in enumerate(rows):
        person: dict[str, Any] = {"person_id": [-1]}
        person |= {name: frame[block].ravel().tolist() for name, block in parts.items()}
        document = {"version": 1.3, "people": [person] if seen[index].any() else []}
        (folder / f"{stem}_{index:012d}_keypoints.json").write_text(json.dumps(document, allow_nan=False))
