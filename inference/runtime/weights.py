"""Trained networks: what there is, where it lies, and whether it is what was published."""

from __future__ import annotations

import functools
import hashlib
import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..protocol.errors import WeightsError

REGISTRY = Path(__file__).with_name("weights.toml")
FOLDER = Path(__file__).resolve().parents[1] / "weights"
HINT = "Restore inference/weights from the release or the repository, then run `python -m inference doctor`."


@dataclass(frozen=True)
class Weights:
    """An entry of `weights.toml`; nothing enters without a recipe and a metric."""

    name: str
    net: str
    file: str
    sha256: str
    bytes: int
    licence: str
    recipe: str
    commit: str
    metrics: dict[str, float] = field(default_factory=dict)


def registry(path: Path = REGISTRY) -> dict[str, Weights]:
    """Read the list of published weights.

    Raises:
        WeightsError: it is damaged.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(name, table) for name, table in tables.items()}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path.name} cannot be read: {error}", HINT) from error


def _entry(name: str, table: dict[str, Any]) -> Weights:
    unknown = table.keys() - {entry.name for entry in fields(Weights)}
    if unknown:
        raise ValueError(f"{name} has unknown entries: {', '.join(sorted(unknown))}")
    return Weights(name=name, **table)


def locate(name: str, *, folder: Path = FOLDER, path: Path = REGISTRY) -> Path:
    """Give the file of a network's weights, verified.

    Raises:
        WeightsError: there are none of this name, the file is missing, or it is not what was published.
    """
    known = registry(path)
    if name not in known:
        raise WeightsError(f"There are no weights called {name!r}; known are {', '.join(known) or 'none'}.", HINT)
    file = folder / known[name].file
    check(known[name], file)
    return file


def check(entry: Weights, file: Path) -> None:
    """Compare a file with its entry.

    Raises:
        WeightsError: it is missing, or differs in size or in hash.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise WeightsError(f"The weights {entry.name!r} are missing: there is no {file}.", HINT) from error
    if status.st_size != entry.bytes:
        raise WeightsError(f"{file.name} has {status.st_size} bytes, {entry.bytes} were published.", HINT)
    if _hash(os.fspath(file), status.st_size, status.st_mtime_ns) != entry.sha256:
        raise WeightsError(f"{file.name} is not what was published: its sha256 differs.", HINT)


@functools.lru_cache(maxsize=64)
def _hash(file: str, size: int, changed_ns: int) -> str:
    del size, changed_ns  # they are part of the key: a file that changed is read again
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
