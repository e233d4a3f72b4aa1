"""The short form of the figures that are published: nothing is lost, nothing is left, nothing is half-made."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .batches import ROOT

AIMS = {
    "chaos": "0 lost, 0 wrong, 0 orphans, 0 temporary",
    "blender kills": "16 kills: 0 left",
    "cancels": "0 half-made",
    "full disks": "0 old results damaged",
    "memory": "Blender killed 0",
}
ELSEWHERE = ("mounting is not allowed here", "no control group can be made here", "no Blender as a module here")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_short_form_reaches_what_was_promised(tmp_path):
    command = [sys.executable, "-m", "inference", "bench", "reliability", "--short", "--out", str(tmp_path / "t")]
    words = [word for name in AIMS for word in ("--only", name)]
    subprocess.run([*command, *words], cwd=ROOT, check=True, capture_output=True, timeout=480)
    rows = {row[0]: row[1] for row in json.loads((tmp_path / "t.json").read_text())["tables"][0]["rows"]}
    assert not {name: rows[name] for name, aim in AIMS.items() if aim not in rows[name] and rows[name] not in ELSEWHERE}
