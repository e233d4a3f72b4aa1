"""Batches of jobs whose results are known, and the command that runs them in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from inference.batch.manifest import Manifest, read_manifest
from inference.runtime.selftest import ARTIFACT, contents

ROOT = Path(__file__).resolve().parents[2]


def write_batch(path: Path, requests: list[dict[str, Any]], task: str = "selftest", **changes: Any) -> Manifest:
    """A batch of one task; its results stand beside it."""
    items = [{"out": f"item {n:04d}", "task": task, "request": request} for n, request in enumerate(requests, 1)]
    table = {"format": "understudy-batch", "version": 1, "program": "inference", "output": "results", "items": items}
    path.write_text(json.dumps(table | changes), encoding="utf-8")
    return read_manifest(path)


def command(*words: object) -> list[str]:
    """The command line of `python -m inference batch`."""
    return [sys.executable, "-m", "inference", "batch", *map(str, words)]


def run(*words: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which is to be with this exit code."""
    result = subprocess.run(
        command(*words), cwd=ROOT, capture_output=True, text=True, timeout=240, check=False, env=os.environ | variables
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


def wrong(manifest: Manifest) -> list[str]:
    """Items whose result is not there or not what it must be."""
    return [
        item.out
        for item in manifest.items
        if not (manifest.result(item) / ARTIFACT).is_file()
        or (manifest.result(item) / ARTIFACT).read_bytes() != contents(item.request.get("artifact_kib", 4))
    ]


def temporaries(manifest: Manifest) -> list[str]:
    """Half-made things that are left: locks are not."""
    found = [path for path in manifest.output.rglob("*") if ".work" in path.parts or path.name.endswith(".tmp")]
    return [path.name for path in found if path.is_file() and path.suffix != ".lock"]
