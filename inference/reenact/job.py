"""One run of the reenactment wing: its folder, its pictures, and where its frames lie."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from ..core.formats.pictures import encode_png
from ..core.stages import Stages
from ..protocol.files import atomic_write_bytes
from ..protocol.requests import ReenactRequest

Array = np.ndarray
FRAMES = "frames"
_KEPT = 30  # pictures that are kept
_SHOWN_S = 2.0  # between two pictures of frames that are being made
_T = TypeVar("_T")


@dataclass
class ReenactJob(Stages):
    """One run."""

    algorithm: ClassVar[int] = 2
    request: ReenactRequest
    _shown_s: float = 0.0
    _step: int = 0

    @property
    def folder(self) -> Path:
        """The job folder."""
        return self.artifacts.parent

    @property
    def frames(self) -> Path:
        """Where frames lie."""
        return self.artifacts / FRAMES

    def timed(self, stage: str, make: Callable[[], _T]) -> _T:
        """Run what is no artifact."""
        start = time.perf_counter()
        made = make()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return made

    def show(self, image: Array) -> None:
        """Publish a picture (H, W, 3) uint8 of what is being made."""
        name = f"preview_{self._step:05d}"
        atomic_write_bytes(self.artifacts / f"{name}.png", encode_png(image))
        self.artifact(name, f"artifacts/{name}.png")
        (self.artifacts / f"preview_{self._step - _KEPT:05d}.png").unlink(missing_ok=True)
        self._step, self._shown_s = self._step + 1, time.monotonic()

    def is_time_to_show(self, every_s: float = _SHOWN_S) -> bool:
        """Whether the last picture was shown long enough ago."""
        return time.monotonic() - self._shown_s > every_s
