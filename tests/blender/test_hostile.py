"""Malformed and mutated BVH and FBX files all the way through Blender, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from understudy.operators.scene.source import import_source
from understudy.tests.hostile import corpus

LIMIT_S, LIMIT_BYTES = 2.0, 1 << 30
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
SHARE = rb"\\\\127.0.0.1\\share\\skin.png"


def run(module: str, *words: object, folder: Path) -> list[dict]:
    command = [sys.executable, "-m", f"tests.hostile.{module}", *map(str, words)]
    variables = os.environ | {"PYTHONPATH": str(corpus.ROOT)}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=280, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died at {rows[-1:]}: {done.stderr[-1500:]}"
    return rows


@LINUX
@pytest.mark.parametrize(("kind", "make"), [("bvh", corpus.motions), ("fbx", corpus.figures)])
def test_malformed_files_are_refused_before_or_by_blender(tmp_path, kind, make):
    (tmp_path / "files").mkdir()
    (tmp_path / "work").mkdir()
    cases = [(name, content) for _, name, content in make()]
    for name, content in cases:
        (tmp_path / "files" / name).write_bytes(content)
    rows = run("readers", f"blender_{kind}", tmp_path / "files", folder=tmp_path / "work")
    found = [row for row in rows if "outcome" in row]
    assert len(found) == len(cases) > 25
    assert not [row for row in found if row["outcome"] != "refused" or not row["message"]]
    assert not [row for row in found if row["seconds"] > LIMIT_S or row["bytes"] > LIMIT_BYTES]
    assert not list((tmp_path / "work").iterdir())


@LINUX
@pytest.mark.parametrize("kind", ["bvh", "fbx"])
def test_mutated_files_never_end_blender(tmp_path, kind):
    (found,) = run("fuzz", f"blender_{kind}", 2, folder=tmp_path)  # for a minute each: bench reliability
    assert not found["bad"] and not found["strange"]
    assert found["inputs"] > 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
@pytest.mark.parametrize("name", ["figure.bvh", "figure.fbx"])
def test_the_good_files_are_read(name):
    performance = import_source(corpus.ROOT / "tests/golden" / name)
    assert len(performance.times) == 5
    assert {"hips", "hand.L", "foot.R"} <= set(performance.mapping.bones)
