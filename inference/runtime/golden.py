"""A small computation whose result is known: it proves torch, the weights and the arithmetic of this environment."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.skeletons import OPENPOSE_137
from ..protocol.events import SilentReporter

FRAMES, FRAME = 12, 6
JOINTS = (0, 4, 7, 10, 13)
# Positions (5, 3) m of these joints in that frame, by torch 2.13 on the processor of an x86-64 computer.
EXPECTED_M = (
    (0.16222, 0.03196, 0.27452),
    (-0.03494, -0.1491, 0.41172),
    (0.12567, 0.08879, 0.60137),
    (0.15594, 0.03556, 0.94471),
    (-0.14955, -0.11736, 1.06974),
)


def keypoints() -> Keypoints2D:
    """Points that wander, the same on every computer."""
    count = len(OPENPOSE_137)
    angles = np.arange(count)[None, :] * 0.7 + np.arange(FRAMES)[:, None] * 0.05
    positions = np.stack([320 + 90 * np.cos(angles), 240 + 160 * np.sin(1.3 * angles)], axis=-1)
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": [640, 480], "source": "", "view": "golden",
    }  # fmt: skip
    return Keypoints2D(header, positions, np.full((FRAMES, count), 0.9), np.arange(FRAMES) / 30)


def positions_m() -> Any:
    """Compute the pose (5, 3) m.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    wing = importlib.import_module("..sight.lift", __package__)
    lifted = wing.lift(keypoints(), wing.LiftSettings(), SilentReporter())
    return lifted.positions[FRAME, list(JOINTS)]


def difference_mm() -> float:
    """How far the pose comes out from what is known, at its worst joint.

    Raises:
        WeightsError: as `positions_m`.
    """
    return float(1000 * np.linalg.norm(positions_m() - np.array(EXPECTED_M), axis=-1).max())
