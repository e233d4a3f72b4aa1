"""What support needs to know, in one zip: findings, versions, the ends of logs. No pictures, no motion, no names.

Only texts that Understudy itself wrote enter, cut to their ends; the user's folder becomes `~`, and of the paths in
requests only their endings stay, since clips are named after people.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
import re
import zipfile
from pathlib import Path, PureWindowsPath
from typing import Any

from ..protocol.files import atomic_write
from .doctor import Finding

JOBS, TAIL_BYTES = 10, 64 << 10
UNFINISHED = Finding("doctor", "bad", "the doctor was stopped, or hung, before it had looked at everything")
NAMES = ("log.txt", "events.jsonl", "blender.txt")
_PATH = re.compile(r"""(?:[A-Za-z]:)?[/\\][^\s"'<>|:*?]+""")


def write_bundle(path: Path, findings: list[Finding], jobs: Path | None) -> Path:
    """Write the zip, and give its path.

    Raises:
        ResourceError: it cannot be written.
    """
    texts = {"doctor.json": json.dumps([vars(finding) for finding in findings], indent=1), "versions.json": _versions()}
    for number, folder in enumerate(_newest(jobs) if jobs else [], start=1):
        for name in NAMES:
            if (folder / name).is_file():
                texts[f"job_{number}/{name}"] = _tail(folder / name)
        texts[f"job_{number}/request.json"] = _request(folder / "request.json")
    atomic_write(path, lambda stream: _zip(stream, {name: anonymous(text) for name, text in texts.items()}))
    return path


def _zip(stream: Any, texts: dict[str, str]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def _versions() -> str:
    packages = {item.name: item.version for item in importlib.metadata.distributions()}
    facts = {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine()}
    return json.dumps({**facts, "packages": dict(sorted(packages.items()))}, indent=1)


def _newest(jobs: Path) -> list[Path]:
    found = sorted(jobs.glob("*/request.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent for file in found[:JOBS]]


def _tail(file: Path) -> str:
    return file.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")


def _request(file: Path) -> str:
    """Give a request without the names of its files."""
    try:
        return json.dumps(_nameless(json.loads(file.read_bytes()[: 1 << 20])), indent=1)
    except (OSError, ValueError, RecursionError):
        return "not readable"


def _nameless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nameless(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_nameless(part) for part in value]
    return _ending(value) if isinstance(value, str) and ("/" in value or "\\" in value) else value


def _ending(path: str) -> str:
    return f"...{PureWindowsPath(path).suffix}"


def anonymous(text: str) -> str:
    """Take the names of people and folders out of a text: of paths only endings stay."""
    text = _PATH.sub(lambda found: _shortened(found[0]), text.replace("\\\\", "\\"))
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # the system does not say
        return text
    return re.sub(rf"(?<!\w){re.escape(user)}(?!\w)", "USER", text) if len(user) > 2 else text


def _shortened(path: str) -> str:
    """Keep the part of a path that names our own or a library's code."""
    for mark in ("site-packages", "inference", "blender_addon", "operators"):
        at = path.rfind(mark)
        if at >= 0 and path.endswith((".py", ".so", ".pyd", ".toml")):
            return f".../{path[at:]}"
    return _ending(path)
