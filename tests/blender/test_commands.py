"""`blender -b -c understudy`: the same result as from the panel, and an exit code."""

from __future__ import annotations

import bpy
import pytest
from understudy.blender_addon import commands
from understudy.operators.environment import PACKAGE


@pytest.fixture
def job(addon, motion, tmp_path):
    """A finished job's folder."""
    motion.save(tmp_path / "job" / "artifacts" / "body_motion.npz")
    return tmp_path / "job"


def test_flags_come_from_the_request():
    options = commands.make_parser().parse_args(
        ["motion", "--video", "a.mp4", "--video", "b.mp4", "--person", "1", "2", "--no-hands", "--smoothing", "0.2",
         "--out", "job", "--blend", "out.blend", "--export", "bvh", "--export", "gltf"]
    )  # fmt: skip
    assert options.video == ["a.mp4", "b.mp4"] and options.hands is False and options.smoothing == 0.2
    assert options.export == ["bvh", "gltf"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["motion", "--help"], 0),
        ([], 2),
        (["dance"], 2),
        (["motion", "--out", "{tmp}/j"], 2),
        (["motion", "--video", "{tmp}/a.mp4", "--out", "{tmp}/j", "--smoothing", "7"], 2),
        (["motion", "--video", "{tmp}/no.mp4", "--out", "{tmp}/j"], 3),
        (["apply", "{tmp}/nothing"], 3),
    ],
)
def test_the_exit_code_says_how_it_ended(addon, tmp_path, capsys, arguments, code):
    assert commands.run([argument.format(tmp=tmp_path) for argument in arguments]) == code
    assert capsys.readouterr() != ("", "")


def test_a_result_is_applied_saved_and_exported(job, tmp_path):
    blend = tmp_path / "out" / "a b.blend"
    flags = ["--blend", str(blend), "--export", "bvh", "--export", "fbx", "--export", "gltf", "--name", "Hero"]
    assert commands.run(["apply", str(job), *flags]) == 0
    assert sorted(path.name for path in (job / "artifacts").iterdir()) == [
        "Hero.bvh", "Hero.fbx", "Hero.glb", "body_motion.npz",
    ]  # fmt: skip
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert bpy.data.objects["Hero"].animation_data.action.name == "Hero"
    assert bpy.context.scene.camera and bpy.context.scene.render.resolution_x == 640


def test_a_name_that_no_file_can_have_is_changed_in_the_file_s_alone(job):
    assert commands.run(["apply", str(job), "--name", "Take 1/2", "--export", "bvh", "--no-cameras"]) == 0
    assert "Take 1/2" in bpy.data.objects and (job / "artifacts" / "Take 1_2.bvh").is_file()


def test_every_option_of_applying_has_a_flag(job):
    flags = ["--name", "Hero", "--frame-start", "5", "--rate", "clip", "--unsmoothed", "--no-footage", "--no-colours"]
    assert commands.run(["apply", str(job), *flags]) == 0
    rig = bpy.data.objects["Hero"]
    assert rig.animation_data.action.frame_range[0] == 5
    assert {bone.color.palette for bone in rig.data.bones} == {"DEFAULT"}
    assert not any(camera.background_images for camera in bpy.data.cameras)


def test_a_file_of_the_users_keeps_its_settings(job, tmp_path, users_scene):
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "theirs.blend"))
    before = users_scene.state()
    assert commands.run(["apply", str(job), "--blend", str(tmp_path / "out.blend")]) == 0
    assert users_scene.state() == before


@pytest.mark.slow
def test_from_films_to_an_armature_in_one_command(addon, tmp_path):
    clips = PACKAGE / "inference" / "demo"
    arguments = ["motion", "--video", clips / "front.mp4", "--video", clips / "side.mp4", "--calibration"]
    arguments += [clips / "demo.toml", "--stop", "30", "--no-overlay", "--out", tmp_path / "job", "--export", "bvh"]
    assert commands.run([*map(str, arguments), "--blend", str(tmp_path / "a.blend")]) == 0
    rig = bpy.data.objects["front"]
    heights = []
    for frame in (1, 12, 24):
        bpy.context.scene.frame_set(frame)
        posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        heights.append(posed.pose.bones["head"].head.z - min(posed.pose.bones[f"foot.{s}"].head.z for s in "LR"))
    assert all(0.8 < height < 1.8 for height in heights), "upright, on the floor, in metres"
    assert len(bpy.data.cameras) == 2 and (tmp_path / "job" / "artifacts" / "front.bvh").is_file()
    assert bpy.data.cameras[0].background_images, "the film stands behind its camera"


def test_the_command_makes_what_the_operator_makes(job):
    assert commands.run(["apply", str(job), "--rate", "clip", "--frame-start", "5"]) == 0
    bpy.ops.understudy.apply_motion(filepath=str(job), rate="CLIP", frame_start=5)
    from understudy.operators.scene.compat import Curves

    def content(name):
        rig = bpy.data.objects[name]
        curves = Curves(rig, rig.animation_data.action)
        return {(c.data_path, c.array_index): [tuple(p.co) for p in c.keyframe_points] for c in curves}

    assert content("job") == content("job.001")
