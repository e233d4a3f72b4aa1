"""One run of stages: where artifacts lie, what was said, and which stages need not run again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .artifacts import Artifact

_A = TypeVar("_A", bound=Artifact)


@dataclass
class Stages:
    """One run: where things go, what has been said, and how long each stage took. It reports like its reporter."""

    algorithm: ClassVar[int] = 1  # raised when a stage's result changes for the same inputs
    request: Any
    artifacts: Path
    report: Reporter
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.report.progress(stage, done, total)

    def warning(self, code: str, text: str) -> None:
        said = {"code": code, "text": text}
        if said not in self.warnings:  # several stages look at the same input
            self.warnings.append(said)
            self.report.warning(code, text)

    def artifact(self, name: str, file: str) -> None:
        self.report.artifact(name, file)

    def fingerprint(self, stage: str, *inputs: object) -> str:
        """Hash of what a stage makes its artifact from."""
        text = json.dumps([self.algorithm, stage, *inputs], default=_plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def stage(self, kind: type[_A], name: str, stage: str, inputs: Sequence[object], make: Callable[[], _A]) -> _A:
        """Run one stage, or take its artifact where the same inputs already made it."""
        path = self.artifacts / f"{name}.npz"
        fingerprint = self.fingerprint(stage, *inputs)
        artifact = load_same(kind, path, fingerprint)
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


def load_same(kind: type[_A], path: Path, fingerprint: str) -> _A | None:
    """Read an artifact where it was made from these inputs; None where it was not, or is of another version."""
    if not path.is_file():
        return None
    try:
        artifact = kind.load(path)
    except InputError:
        return None  # made again
    return artifact if artifact.header.get("fingerprint") == fingerprint else None


def content_of(path: Path) -> str:
    """Hash of a file's bytes, or of all files in a folder.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.name.encode(errors="surrogatepass"))
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else str(value)
