"""What calibration gives, however it was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.cameras import CameraSet


@dataclass(frozen=True)
class Calibrated:
    """Cameras in metres, z up (or in the given world), what was measured on the way (JSON-ready), and what to know."""

    cameras: CameraSet
    figures: dict[str, Any]
    notes: tuple[str, ...] = ()
