"""One run of the motion wing's road: what `core.stages` keeps of it, and what is known of clips and cameras."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..core.stages import Stages
from ..protocol.requests import MotionRequest
from .sync import Offsets


@dataclass
class Job(Stages):
    """One run: where things go, what has been said, and how long each stage took."""

    algorithm: ClassVar[int] = 4
    request: MotionRequest
    offsets: Offsets | None = None
    findings: list[dict[str, str]] = field(default_factory=list)


def forget_people(artifacts: Path, kept: int) -> None:
    """Remove the motions of people beyond the first `kept`, of an earlier run in the same folder."""
    for path in artifacts.glob("body_motion_person*.npz"):
        number = path.stem.removeprefix("body_motion_person")
        if number.isdecimal() and int(number) > kept:
            path.unlink()
