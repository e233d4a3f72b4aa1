"""One run of the body wing, and what its inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.stages import Stages
from ..protocol.requests import BodyRequest


@dataclass
class BodyJob(Stages):
    """One run: where things go, what has been said, and how long each stage took."""

    algorithm: ClassVar[int] = 3
    request: BodyRequest

    @property
    def folder(self) -> Path:
        """The job folder."""
        return self.artifacts.parent

    @property
    def mask_folder(self) -> Path:
        """Where masks lie that were found in the clip."""
        return self.artifacts / "masks"
