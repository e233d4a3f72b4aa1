"""Batches that Blender does: frames and characters, whole or absent, gone on from after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import bpy
import pytest
from understudy.blender_addon import commands
from understudy.inference.batch.manifest import write_manifest
from understudy.inference.batch.plan import Wishes, plan
from understudy.inference.batch.record import Records, pixel_hash
from understudy.inference.batch.tasks import ApplyItem, ExportItem, RenderItem, RetargetItem
from understudy.operators.environment import PACKAGE

HEADLESS = PACKAGE / "blender_addon" / "headless.py"


@pytest.fixture
def shot(tmp_path):
    """A file with a turning head of a monkey, seen by a camera, for Cycles."""
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_monkey_add()
    for frame, angle in ((1, 0.0), (40, 3.0)):
        bpy.context.object.rotation_euler.z = angle
        bpy.context.object.keyframe_insert("rotation_euler", frame=frame)
    for name in ("Cam", "Other", "Sun"):
        data = bpy.data.lights.new(name, "SUN") if name == "Sun" else bpy.data.cameras.new(name)
        item = bpy.data.objects.new(name, data)
        scene.collection.objects.link(item)
        item.location, item.rotation_euler = (0, -6, 0), (1.5708, 0, 0)
    bpy.data.objects["Other"].location.y = -9
    scene.camera = bpy.data.objects["Cam"]
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 2, False
    scene.render.resolution_x, scene.render.resolution_y = 48, 32
    path = tmp_path / "shot é.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


@pytest.fixture
def hero(addon, motion, tmp_path):
    """A capture, and a file with a character."""
    motion.save(tmp_path / "job/artifacts/body_motion.npz")
    bpy.ops.preferences.addon_enable(module="rigify")
    bpy.ops.object.armature_basic_human_metarig_add()
    bpy.context.object.name = "Hero"
    bpy.ops.mesh.primitive_cube_add(size=0.3)
    cube = bpy.context.object
    cube.parent, cube.parent_type, cube.parent_bone = bpy.data.objects["Hero"], "BONE", "hand.L"
    camera = bpy.data.objects.new("Cam", bpy.data.cameras.new("Cam"))
    bpy.context.scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0, -5, 1), (1.5708, 0, 0)
    bpy.context.scene.camera = camera
    bpy.context.scene.render.engine = "CYCLES"
    bpy.context.scene.cycles.samples = 1
    bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = 32
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    return tmp_path / "hero.blend"


def batch(tmp_path, *rows):
    return write_manifest(tmp_path / "b.json", "blender", tmp_path / "out", rows)


def frames(tmp_path, shot, wanted="1-4", **settings):
    return batch(tmp_path, *plan("render", [shot], Wishes({"render": settings}, frames=wanted)))


def words(*said: str):
    return [sys.executable, "-E", "-s", str(HEADLESS), "batch", "run", *said]


def pixels(manifest):
    return [pixel_hash(manifest.result(item)) for item in manifest.items]


def states(manifest):
    records = Records(manifest)
    return [records.state(item, records.key_of(item)).word for item in manifest.items]


def test_frames_are_rendered_once_and_have_the_same_pixels_each_time(addon, shot, tmp_path):
    manifest = frames(tmp_path, shot)
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    first = pixels(manifest)
    assert len(set(first)) == 4 and all(first)
    before = [manifest.result(item).stat().st_mtime_ns for item in manifest.items]
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    assert [manifest.result(item).stat().st_mtime_ns for item in manifest.items] == before
    manifest.result(manifest.items[2]).unlink()
    assert states(manifest) == ["done", "done", "open", "done"]
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    assert pixels(manifest) == first


def test_what_a_frame_is_asked_for_is_done(addon, shot, tmp_path):
    request = RenderItem(shot, 7, camera="Other", engine="cycles", size=(20, 10), samples=1, seed=3, threads=1)
    manifest = batch(tmp_path, ("a.png", "render", request))
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    picture = bpy.data.images.load(str(manifest.result(manifest.items[0])))
    assert tuple(picture.size) == (20, 10)
    assert bpy.context.scene.camera.name == "Other" and bpy.context.scene.frame_current == 7
    assert bpy.context.scene.cycles.seed == 10


def test_a_shot_that_cannot_be_rendered_says_why(addon, shot, tmp_path):
    (tmp_path / "broken.blend").write_bytes(b"BLENDER broken")
    manifest = batch(
        tmp_path, ("a.png", "render", RenderItem(shot, 1, camera="No")), ("b.png", "render", RenderItem(shot, 1)),
        ("c.png", "render", RenderItem(tmp_path / "broken.blend", 1)),
        ("d.png", "render", RenderItem(tmp_path / "no.blend", 1)),
    )  # fmt: skip
    assert commands.run(["batch", "run", str(manifest.path)]) == 3
    messages = [json.loads((tmp_path / f"out/{name}.png.error.json").read_text())["message"] for name in "acd"]
    assert "There is no camera 'No'" in messages[0] and "cannot be opened" in messages[1]
    assert "no.blend cannot be read" in messages[2]
    assert (tmp_path / "out/b.png").is_file()


@pytest.mark.gl
def test_workbench_and_eevee_render_too(addon, gl, shot, tmp_path):
    rows = [(f"{name}.png", "render", RenderItem(shot, 1, engine=name, samples=1, size=(16, 16)))
            for name in ("workbench", "eevee")]  # fmt: skip
    manifest = batch(tmp_path, *rows)
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    assert all(pixels(manifest))


def test_captures_are_applied_retargeted_exported_and_rendered(hero, tmp_path):
    capture = tmp_path / "job/artifacts/body_motion.npz"
    manifest = batch(
        tmp_path, ("take", "apply", ApplyItem(capture, kinds=("blend", "bvh"), take="Take")),
        ("hero", "retarget", RetargetItem(hero, (capture,), export=("bvh",))),
    )  # fmt: skip
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    assert sorted(path.name for path in (tmp_path / "out/take").iterdir()) == ["Take.bvh", "scene.blend"]
    made = {path.name for path in (tmp_path / "out/hero").iterdir()}
    assert {"animated.blend", "character.bvh", "report.json"} <= made
    later = write_manifest(
        tmp_path / "later.json", "blender", tmp_path / "later",
        [("bones", "export", ExportItem(tmp_path / "out/hero/animated.blend", kinds=("bvh", "glb")))],
    )  # fmt: skip
    assert commands.run(["batch", "run", str(later.path)]) == 0
    assert sorted(path.name for path in (tmp_path / "later/bones").iterdir()) == ["character.bvh", "character.glb"]


def test_a_frame_with_a_capture_shows_the_character_performing_it(hero, tmp_path):
    capture = tmp_path / "job/artifacts/body_motion.npz"
    rows = [(f"{name}.png", "render", RenderItem(hero, frame, capture=given, threads=1))
            for name, frame, given in (("still", 12, None), ("first", 1, capture), ("later", 20, capture))]  # fmt: skip
    manifest = batch(tmp_path, *rows)
    assert commands.run(["batch", "run", str(manifest.path)]) == 0
    assert len(set(pixels(manifest))) == 3, "the cube in the hand is elsewhere in each"


def test_a_batch_of_the_other_program_is_refused_with_its_command(addon, tmp_path, capsys):
    text = {"format": "understudy-batch", "version": 1, "program": "inference", "output": "out",
            "items": [{"out": "a", "task": "selftest", "request": {}}]}  # fmt: skip
    (tmp_path / "b.json").write_text(json.dumps(text))
    assert commands.run(["batch", "run", str(tmp_path / "b.json")]) == 2
    assert "python -m inference batch run" in capsys.readouterr().out


def test_a_blender_killed_while_it_renders_is_replaced(addon, shot, tmp_path, worker_python):
    manifest = frames(tmp_path, shot, "1-12", size=[200, 150], samples=8)
    run = [worker_python, "-m", "inference", "batch", "run", str(manifest.path), "--blender", sys.executable]
    with subprocess.Popen(run, cwd=PACKAGE, stderr=subprocess.PIPE, text=True) as supervisor:
        killed: set[int] = set()
        while supervisor.poll() is None and len(killed) < 2:
            for pid in _children(supervisor.pid) - killed:
                if (tmp_path / "out").is_dir() and any(tmp_path.glob("out/.work/*.key")):
                    time.sleep(0.3)
                    os.kill(pid, 9)
                    killed.add(pid)
            time.sleep(0.02)
        assert supervisor.wait(120) == 0
    assert states(manifest) == ["done"] * 12 and killed
    first = pixels(manifest)
    for item in manifest.items:
        manifest.result(item).unlink()
    assert subprocess.run(words(str(manifest.path)), check=False, capture_output=True).returncode == 0
    assert pixels(manifest) == first, "the same pixels as without kills"


def _children(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(entry.parent.name))
    return found


def test_without_a_blender_it_is_told_how_to_give_one(shot, tmp_path, worker_python):
    manifest = frames(tmp_path, shot)
    run = [worker_python, "-m", "inference", "batch", "run", str(manifest.path), "--blender", "no such program"]
    result = subprocess.run(run, cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "there is no program 'no such program'" in result.stderr
