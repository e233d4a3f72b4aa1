"""`blender -b character.blend -c understudy retarget`: as from the panel, for a farm."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest
from understudy.blender_addon import commands
from understudy.operators.scene.compat import curves_in
from understudy.tests.blender import armatures, motions


@pytest.fixture
def files(addon, tmp_path):
    """A folder with two captures, and with a character's file, which is opened."""
    for name in ("walk", "run"):
        motions.body_motion(24).save(tmp_path / "clips" / f"{name}.npz")
    hero = armatures.armature("mixamo")
    armatures.skin(hero)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    return tmp_path


def run(*arguments):
    return commands.run(["retarget", *map(str, arguments)])


def made(folder):
    """Names of all files but those that were there."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(names - {"hero.blend", "clips/walk.npz", "clips/run.npz", "hero.blend1"})


def test_a_clip_lands_and_everything_asked_for_is_written(files):
    outputs = [files / "out" / name for name in ("hero walk.blend", "walk.fbx", "walk.glb", "walk.bvh", "report.json")]
    exports = [part for path in outputs[1:4] for part in ("--export", path)]
    source = files / "clips" / "walk.npz"
    assert run("--source", source, "--save", outputs[0], *exports, "--report", outputs[4], "--arm-spread", "0.1") == 0
    assert made(files) == sorted([*(f"out/{path.name}" for path in outputs), "out/report walk.svg"])
    report = json.loads(outputs[4].read_text())
    clip = report["clips"][0]
    assert report["rig"] == "Hero" and clip["action"] == "walk" and clip["settings"]["arm_spread"] == 0.1
    assert clip["keys"] > 1000 and clip["seconds"] > 0 and clip["mapping"]["bones"]["hips"]
    assert clip["feet"] and clip["errors"]["mean_deg"] < 0.1
    bpy.ops.wm.open_mainfile(filepath=str(outputs[0]))
    assert bpy.data.objects["Hero"].animation_data.action.name == "walk"


@pytest.mark.parametrize("suffix", [".fbx", ".glb"])
def test_an_export_holds_the_whole_character_and_only_the_new_action(files, suffix):
    bpy.data.objects["Hero"].animation_data_create().action = bpy.data.actions.new("Theirs")
    assert run("--source", files / "clips" / "walk.npz", "--export", files / f"walk{suffix}") == 0
    bpy.ops.wm.read_homefile(use_empty=True)
    importer = {".fbx": bpy.ops.import_scene.fbx, ".glb": bpy.ops.import_scene.gltf}[suffix]
    importer(filepath=str(files / f"walk{suffix}"))
    rig = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    skin = [item for item in bpy.data.objects if item.type == "MESH" and item.find_armature() == rig]
    assert len(skin) == 1 and len(bpy.data.actions) == 1
    assert len(curves_in(bpy.data.actions[0], rig)) > 100


def test_a_folder_of_clips_becomes_an_action_and_a_file_each(files):
    (files / "clips" / "notes.txt").write_text("buy milk")
    flags = ["--export", files / "out" / "hero.glb", "--report", files / "report.json", "--asset"]
    assert run("--source", files / "clips", "--save", files / "all.blend", *flags) == 0
    assert {"out/hero run.glb", "out/hero walk.glb", "all.blend", "report.json"} <= set(made(files))
    report = json.loads((files / "report.json").read_text())
    assert [clip["action"] for clip in report["clips"]] == ["run", "walk"]
    assert "notes.txt" in report["skipped"][0]
    bpy.ops.wm.open_mainfile(filepath=str(files / "all.blend"))
    assert all(bpy.data.actions[name].asset_data for name in ("run", "walk"))


def test_the_command_makes_what_the_operator_makes(files):
    source = files / "clips" / "walk.npz"
    hero = bpy.data.objects["Hero"]

    def keys():
        curves = curves_in(hero.animation_data.action, hero)
        return {(c.data_path, c.array_index): [tuple(p.co) for p in c.keyframe_points] for c in curves}

    assert run("--source", source, "--report", files / "r.json") == 0
    first = keys()
    panel = bpy.context.scene.understudy.retarget
    panel.source, panel.files.add().path = "FILES", str(source)
    bpy.ops.understudy.retarget()
    assert keys() == first


def test_the_characters_own_sliders_hold_unless_a_flag_says_otherwise(files):
    tuning = bpy.data.objects["Hero"].understudy.tuning
    tuning.leg_spread, tuning.arm_spread = 0.25, 0.5
    assert run("--source", files / "clips" / "walk.npz", "--arm-spread", "0", "--report", files / "r.json") == 0
    settings = json.loads((files / "r.json").read_text())["clips"][0]["settings"]
    assert settings["leg_spread"] == 0.25 and settings["arm_spread"] == 0


def test_a_mapping_is_a_file_or_a_preset(files):
    bpy.ops.understudy.detect_mapping()
    bpy.ops.understudy.export_mapping(filepath=str(files / "m.json"))
    bpy.ops.understudy.forget_mapping()
    for mapping in (files / "m.json", "mixamo"):
        flags = ["--mapping", mapping, "--report", files / "r.json"]
        assert run("--source", files / "clips" / "walk.npz", *flags) == 0
    assert run("--source", files / "clips" / "walk.npz", "--mapping", "horse", "--report", files / "r.json") == 3


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--help"], 0, "--arm-spread"),
        ([], 2, "--source"),
        (["--source", "{tmp}/clips/walk.npz"], 2, "nothing would be kept"),
        (["--source", "{tmp}/clips/walk.npz", "--save", "{tmp}/x.fbx"], 2, "no .blend"),
        (["--source", "{tmp}/clips/walk.npz", "--export", "{tmp}/x.obj"], 2, ".bvh, .fbx, .glb"),
        (["--source", "{tmp}/clips/walk.npz", "--save", "{tmp}/x.blend", "--arm-reach", "7"], 2, "arm_reach"),
        (["--source", "{tmp}/clips/walk.npz", "--save", "{tmp}/x.blend", "--rig", "Nobody"], 3, "Known are Hero"),
        (["--source", "{tmp}/no.bvh", "--save", "{tmp}/x.blend"], 3, "no.bvh"),
        (["--source", "{tmp}/clips/walk.npz", "--save", "{tmp}/hero.blend/x.blend"], 5, "could not be written"),
        (["--source", "{tmp}/clips/walk.npz", "--source", "{tmp}/no.bvh", "--save", "{tmp}/x.blend",
          "--export", "{tmp}/x.glb"], 3, "no.bvh"),
    ],
)  # fmt: skip
def test_the_exit_code_says_how_it_ended_and_nothing_is_written(files, capsys, flags, code, words):
    assert run(*(flag.format(tmp=files) for flag in flags)) == code
    out = capsys.readouterr()
    assert words in out.out + out.err
    assert made(files) == []


def test_a_clip_that_fails_among_others_leaves_nothing_behind(files):
    motion = motions.body_motion(24)
    motion.save(files / "clips" / "zz.npz")
    path = files / "clips" / "zz.npz"
    path.write_bytes(path.read_bytes()[:500])
    assert run("--source", files / "clips" / "walk.npz", "--source", path, "--export", files / "x.glb") == 3
    path.unlink()
    assert made(files) == []


def test_of_two_armatures_one_has_to_be_named(files, capsys):
    armatures.armature("game_engine", called="Other")
    flags = ["--source", files / "clips" / "walk.npz", "--report", files / "r.json"]
    assert run(*flags) == 2
    assert "Hero, Other" in capsys.readouterr().out
    assert run(*flags, "--rig", "Other") == 0


def test_without_any_armature_it_says_to_open_the_characters_file(addon, tmp_path, capsys):
    motions.body_motion(8).save(tmp_path / "walk.npz")
    assert run("--source", tmp_path / "walk.npz", "--report", tmp_path / "r.json") == 3
    assert "blender -b character.blend" in capsys.readouterr().out


def test_the_users_file_keeps_its_settings(files, tmp_path):
    scene = bpy.context.scene
    scene.frame_set(17)
    before = (scene.frame_start, scene.frame_end, scene.render.fps, scene.frame_current)
    bpy.ops.wm.save_mainfile()
    assert run("--source", files / "clips" / "walk.npz", "--save", files / "x.blend") == 0
    assert bpy.data.filepath == str(files / "hero.blend"), "a copy is saved"
    bpy.ops.wm.open_mainfile(filepath=str(files / "x.blend"))
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end, scene.render.fps, scene.frame_current) == before


def test_a_motion_of_another_rate_lands_on_the_scenes_frames(files):
    bpy.context.scene.render.fps = 24
    assert run("--source", files / "clips" / "walk.npz", "--frame-start", "5", "--report", files / "r.json") == 0
    hero = bpy.data.objects["Hero"]
    frames = {round(p.co.x, 4) for c in curves_in(hero.animation_data.action, hero) for p in c.keyframe_points}
    assert min(frames) == 5 and all(float(frame).is_integer() for frame in frames)
    assert max(frames) == pytest.approx(5 + 23 / 30 * 24, abs=1) and np.isfinite(list(frames)).all()
