"""Malformed and mutated BVH and FBX files all the way through Blender, in a process of its own."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import bpy
import pytest
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene.source import import_source, read_performance
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


def test_one_key_at_a_damaged_time_does_not_make_a_motion_of_days(tmp_path):
    content = bytearray((corpus.ROOT / "tests/golden/figure.fbx").read_bytes())
    at = content.index(b"KeyTimel") + len(b"KeyTimel")
    count, packed, length = struct.unpack_from("<III", content, at)
    assert packed == 0 and length == 8 * count > 0
    struct.pack_into("<q", content, at + 12 + length - 8, 46_186_158_000 * 3600 * 5)  # five hours
    path = tmp_path / "late.fbx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="keys at most over 431,999"):
        import_source(path)


def test_more_poses_than_memory_holds_are_refused():
    armature = bpy.data.armatures.new("Rig")
    rig = bpy.data.objects.new("Rig", armature)
    bpy.context.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for number in range(60):
        bone = armature.edit_bones.new(f"bone{number}")
        bone.head, bone.tail = (number, 0, 0), (number, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    for frame in (1, 250_000):
        rig.keyframe_insert("location", frame=frame)
    with pytest.raises(InputError, match="moves 60 bones for 250,000 frames"):
        read_performance(rig)
