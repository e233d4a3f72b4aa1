"""Hundreds of malformed files, each refused with a typed error, soon and in little memory; nothing in them fires."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import corpus

LIMIT_S, LIMIT_BYTES = 2.0, 1 << 30
KINDS = sorted({*corpus.KINDS, "calibration_json"})
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """The corpus, written once."""
    folder = tmp_path_factory.mktemp("corpus")
    assert corpus.write(folder) >= 300
    assert {path.name for path in folder.iterdir()} == set(KINDS)
    return folder


def run(module: str, *words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of this folder somewhere else."""
    command = [sys.executable, "-m", f"tests.hostile.{module}", *map(str, words)]
    variables = os.environ | {"PYTHONPATH": str(corpus.ROOT)}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=280, check=False)


@LINUX
@pytest.mark.parametrize("kind", KINDS)
def test_every_malformed_file_is_refused(files, tmp_path, kind):
    result = run("readers", kind, files / kind, folder=tmp_path)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, f"died at {rows[-1] if rows else 'the start'}: {result.stderr[-1500:]}"
    found = {row["file"]: row for row in rows if "outcome" in row}
    assert set(found) == {path.name for path in (files / kind).iterdir()}
    assert not [row for row in found.values() if row["outcome"] != "refused"]
    assert not [row for row in found.values() if row["seconds"] > LIMIT_S or row["bytes"] > LIMIT_BYTES]
    assert not [row for row in found.values() if not row["message"] or "Traceback" in row["message"]]
    assert not list(tmp_path.iterdir()), "nothing was run, unpacked or followed"


@LINUX
@pytest.mark.parametrize("kind", sorted(corpus.KINDS))
def test_mutated_files_are_read_or_refused(tmp_path, kind):
    result = run("fuzz", kind, 1.5, folder=tmp_path)  # for a minute each: bench reliability
    assert result.returncode == 0, result.stderr[-1500:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert not found["bad"] and not found["strange"]
    assert found["inputs"] > 10


def test_the_corpus_is_the_same_each_time(tmp_path, files):
    corpus.write(tmp_path / "again")
    for path in sorted(files.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(files)).read_bytes() == path.read_bytes()
