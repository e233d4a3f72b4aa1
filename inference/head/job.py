"""One run of the head wing: its folder, its pictures, and what its inputs are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from PIL import Image, PngImagePlugin

from ..core.stages import Stages, content_of
from ..protocol.files import atomic_write
from ..protocol.requests import HeadRequest

Array = np.ndarray
_KEY = "fingerprint"  # of the note in a picture that says what it was made from
_T = TypeVar("_T")


@dataclass
class HeadJob(Stages):
    """One run."""

    algorithm: ClassVar[int] = 3
    request: HeadRequest

    @property
    def folder(self) -> Path:
        """The job folder."""
        return self.artifacts.parent

    def timed(self, stage: str, make: Callable[[], _T]) -> _T:
        """Run what is no artifact."""
        start = time.perf_counter()
        made = make()
        self.seconds[stage] = time.perf_counter() - start
        return made

    def show(self, step: int, image: Array) -> None:
        """Publish a picture (H, W, 3) uint8 of the head as it is now."""
        name = f"preview_{step:05d}"
        write_picture(self.artifacts / f"{name}.png", image)
        self.artifact(name, f"artifacts/{name}.png")

    def inputs(self) -> list[object]:
        """What decides on what photos show."""
        request = self.request
        sources = request.photo or ((request.video,) if request.video else ())
        return [[content_of(path) for path in sources], request.face, request.accept_doubtful, request.focal_px]


def read_same(path: Path, fingerprint: str) -> Array | None:
    """Read a picture that was made from these inputs; None where there is none."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return np.array(image) if image.info.get(_KEY) == fingerprint else None
    except (OSError, ValueError, SyntaxError):
        return None  # made again


def write_picture(path: Path, image: Array, fingerprint: str = "") -> None:
    """Write (H, W, 3 or 4) uint8 as PNG, with a note of what it was made from."""
    note = PngImagePlugin.PngInfo()
    note.add_text(_KEY, fingerprint)
    atomic_write(path, lambda stream: Image.fromarray(image).save(stream, "PNG", pnginfo=note, compress_level=4))
