"""One run of the road: where its artifacts lie, what was said, and which stages need not run again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..core.artifacts import Artifact
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..protocol.requests import MotionRequest
from .sync import Offsets

ALGORITHM = 4  # raise when a stage's result changes for the same inputs
_A = TypeVar("_A", bound=Artifact)


@dataclass
class Job:
    """One run: where things go, what has been said, and how long each stage took."""

    request: MotionRequest
    artifacts: Path
    report: Reporter
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)
    offsets: Offsets | None = None
    findings: list[dict[str, str]] = field(default_factory=list)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.report.progress(stage, done, total)

    def warning(self, code: str, text: str) -> None:
        said = {"code": code, "text": text}
        if said not in self.warnings:  # several stages look at the same calibration
            self.warnings.append(said)
            self.report.warning(code, text)

    def artifact(self, name: str, file: str) -> None:
        self.report.artifact(name, file)

    def stage(self, kind: type[_A], name: str, stage: str, inputs: Sequence[object], make: Callable[[], _A]) -> _A:
        """Run one stage, or take its artifact where the same inputs already made it."""
        path = self.artifacts / f"{name}.npz"
        fingerprint = fingerprint_of(stage, *inputs)
        artifact = _load_same(kind, path, fingerprint)
        if artifact is None:
            said = len(self.warnings)
            start = time.perf_counter()
            artifact = make()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
            artifact = artifact.with_header(fingerprint=fingerprint, stage_warnings=self.warnings[said:])
            artifact.save(path)
        else:
            for warning in artifact.header.get("stage_warnings", []):
                self.warning(warning["code"], warning["text"])
        self.artifact(name, f"artifacts/{path.name}")
        return artifact


def _load_same(kind: type[_A], path: Path, fingerprint: str) -> _A | None:
    if not path.is_file():
        return None
    try:
        artifact = kind.load(path)
    except InputError:
        return None  # of another version: made again
    return artifact if artifact.header.get("fingerprint") == fingerprint else None


def forget_people(artifacts: Path, kept: int) -> None:
    """Remove the motions of people beyond the first `kept`, of an earlier run in the same folder."""
    for path in artifacts.glob("body_motion_person*.npz"):
        number = path.stem.removeprefix("body_motion_person")
        if number.isdecimal() and int(number) > kept:
            path.unlink()


def fingerprint_of(stage: str, *inputs: object) -> str:
    """Hash of what a stage makes its artifact from."""

    def plain(value: Any) -> Any:
        return asdict(value) if hasattr(value, "__dataclass_fields__") else str(value)

    text = json.dumps([ALGORITHM, stage, *inputs], default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def content_of(path: Path) -> str:
    """Hash of a file's bytes, or of all files in a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.name.encode())
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()
