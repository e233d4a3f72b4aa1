"""Captured people as control frames: they follow what is done to the armature, and any camera sees them."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from understudy.blender_addon import commands
from understudy.inference.core.artifacts import FaceTrack
from understudy.inference.core.cameras import project
from understudy.inference.core.face_shapes import SHAPES
from understudy.inference.core.formats.pictures import decode_png
from understudy.inference.core.kinematics import forward
from understudy.inference.core.skeletons import OPENPOSE_137
from understudy.inference.protocol.errors import InputError
from understudy.operators import control as control_operators
from understudy.operators.motion import SOURCE
from understudy.operators.scene.action import fill
from understudy.operators.scene.cameras import camera_of
from understudy.operators.scene.compat import Curves, action_slot
from understudy.operators.scene.control import ControlOptions, hang, read_hanging, write_control_frames
from understudy.operators.scene.face import FaceOptions, apply_face
from understudy.tests.blender import motions

ON = {"RWrist": ("hand.R", 0.0), "LWrist": ("hand.L", 0.0), "Nose": ("head", 0.1), "LKnee": ("shin.L", 0.0),
      "RHandIndex1": ("hand.R", 0.08), "Face30": ("head", 0.12), "MidHip": ("hips", 0.0)}  # fmt: skip


@pytest.fixture
def captured(tmp_path, apply):
    """A capture whose keypoints hang on known bones, its armature and where it lies."""
    motion = motions.body_motion(12)
    matrices = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    positions = np.full((12, len(OPENPOSE_137), 3), np.nan)
    for name, (bone, along) in ON.items():
        placed = matrices[:, motion.header["bones"].index(bone)]
        positions[:, OPENPOSE_137.index(name)] = placed[:, :3, 3] + along * placed[:, :3, 1]
    confidence = np.isfinite(positions).all(-1).astype(float)
    motion = replace(motion, positions=positions, confidence=confidence).with_header(joints=list(OPENPOSE_137))
    path = tmp_path / "job" / "artifacts" / "body_motion.npz"
    motion.save(path)
    _, rig = apply(motion, cameras=False)
    rig[SOURCE] = str(path)
    return motion, rig, path


def camera_at(place, target=(0, 0, 1.2)) -> bpy.types.Object:
    scene = bpy.context.scene
    item = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    scene.collection.objects.link(item)
    item.location = place
    track = item.constraints.new("DAMPED_TRACK")
    empty = bpy.data.objects.new("target", None)
    scene.collection.objects.link(empty)
    empty.location = target
    track.target, track.track_axis = empty, "TRACK_NEGATIVE_Z"
    scene.camera = item
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 320, 240, 100
    bpy.context.view_layer.update()
    return item


def world_points(rig, frame):
    bpy.context.scene.frame_set(frame)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    world = np.array(posed.matrix_world)
    out = {}
    for name, (bone, along) in ON.items():
        matrix = world @ np.array(posed.pose.bones[bone].matrix)
        out[name] = matrix[:3, 3] + along * matrix[:3, 1] / np.linalg.norm(matrix[:3, 1])
    return out


@pytest.mark.parametrize("moved", [False, True])
def test_keypoints_follow_the_bones_wherever_the_armature_goes(captured, moved):
    _, rig, path = captured
    hanging = read_hanging(path)
    if moved:
        rig.location, rig.rotation_euler = (1.0, -2.0, 0.3), (0.2, 0.1, 1.5)
    truth = world_points(rig, 6)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = hanging.at(posed, 5, 1.0)
    for name, place in truth.items():
        assert np.allclose(points[OPENPOSE_137.index(name)], place, atol=1e-4), name
    assert np.isfinite(points).all(-1).sum() == len(ON)


def test_a_pose_that_was_edited_is_the_one_that_is_drawn(captured):
    _, rig, path = captured
    rig.animation_data_clear()
    for bone in rig.pose.bones:
        bone.rotation_quaternion = (1, 0, 0, 0)
    rig.pose.bones["upper_arm.R"].rotation_quaternion = (0.8, 0.6, 0, 0)
    truth = world_points(rig, 1)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    wrist = read_hanging(path).at(posed, 0, 1.0)[OPENPOSE_137.index("RWrist")]
    assert np.allclose(wrist, truth["RWrist"], atol=1e-4)


def test_frames_are_drawn_where_the_camera_sees_people_and_nothing_changes(captured, tmp_path, users_scene):
    _, rig, path = captured
    eye = camera_at((3.0, -3.0, 1.5))
    before = users_scene.state()
    files = write_control_frames(
        [(rig, read_hanging(path))], eye, tmp_path / "out", ControlOptions((3, 5)), bpy.context.scene
    )
    assert [file.name for file in files] == ["control_0003.png", "control_0004.png", "control_0005.png"]
    assert users_scene.state() == before
    truth = world_points(rig, 4)
    seen = camera_of(eye.evaluated_get(bpy.context.evaluated_depsgraph_get()), bpy.context.scene)
    picture = decode_png(files[1].read_bytes())
    assert picture.shape == (240, 320, 3)
    x, y = project(seen, truth["Nose"]).round().astype(int)
    if 0 <= x < 320 and 0 <= y < 240:
        assert picture[y, x].any()
    lit = np.argwhere(picture.any(-1))
    expected = np.array([project(seen, place) for place in truth.values()])
    assert np.abs(lit.mean(0)[::-1] - expected.mean(0)).max() < 40


def test_people_and_cameras_that_are_off_in_viewports_are_drawn_as_those_that_are_shown(captured, tmp_path):
    _, rig, path = captured
    people, eye = [(rig, read_hanging(path))], camera_at((3.0, -3.0, 1.5))
    shown = write_control_frames(people, eye, tmp_path / "shown", ControlOptions((3, 5)), bpy.context.scene)
    rig.hide_viewport = eye.hide_viewport = True
    off = write_control_frames(people, eye, tmp_path / "off", ControlOptions((3, 5)), bpy.context.scene)
    assert [file.read_bytes() for file in off] == [file.read_bytes() for file in shown]
    assert shown[0].read_bytes() != shown[2].read_bytes() and rig.hide_viewport and eye.hide_viewport


def test_in_a_scene_of_centimetres_the_same_picture_comes_out(captured, tmp_path, apply):
    motion, rig, path = captured
    eye = camera_at((3.0, -3.0, 1.5))
    options, hanging = ControlOptions((2, 2)), read_hanging(path)
    metres = write_control_frames([(rig, hanging)], eye, tmp_path / "m", options, bpy.context.scene)
    bpy.context.scene.unit_settings.scale_length = 0.01
    _, large = apply(motion, cameras=False)
    far = camera_at((300.0, -300.0, 150.0), (0, 0, 120.0))
    centimetres = write_control_frames([(large, hanging)], far, tmp_path / "cm", options, bpy.context.scene)
    a, b = (decode_png(files[0].read_bytes()).astype(int) for files in (metres, centimetres))
    assert a.any() and np.abs(a - b).mean() < 0.5


@pytest.fixture
def talking(captured, apply):
    """A capture whose face moves on its head in every sample, one a frame; its armature and what hangs on that."""
    motion, _, path = captured
    bpy.context.scene.render.fps = 30
    points, head = motion.positions.copy(), motion.header["bones"].index("head")
    turns = forward(motion.rest, motion.parents, motion.rotations, motion.root)[:, head]
    points[:, OPENPOSE_137.index("Face30")] += np.linspace(-0.09, 0.09, 12)[:, None] * turns[:, :3, 0]
    replace(motion, positions=points).save(path)
    _, rig = apply(motion, cameras=False)
    camera_at((0.4, -1.0, 1.6), (0, 0, 1.5))
    return rig, read_hanging(path)


def drawn(talking, folder, frames=(3, 9)) -> list[bytes]:
    options = ControlOptions(frames)
    scene = bpy.context.scene
    return [file.read_bytes() for file in write_control_frames([talking], scene.camera, folder, options, scene)]


def pushed_down(rig, start: int = 1) -> bpy.types.NlaStrip:
    """Do what the NLA editor's Push Down does, to a frame."""
    animation, slot = rig.animation_data, action_slot(rig.animation_data)
    strip = animation.nla_tracks.new().strips.new("Take", start, animation.action)
    animation.action = None
    if slot is not None:
        strip.action_slot = slot
    return strip


def test_points_of_a_capture_in_the_nla_are_those_of_its_action(talking, tmp_path):
    rig, _ = talking
    plain = drawn(talking, tmp_path / "plain")
    assert len(set(plain)) == 7
    strip = pushed_down(rig)
    assert drawn(talking, tmp_path / "pushed") == plain
    layer = bpy.data.actions.new("Layer")
    fill(Curves(rig, layer).new('pose.bones["foot.L"].scale', 0, ""), np.array([1.0, 90.0]), np.ones(2))
    assert drawn(talking, tmp_path / "layered") == plain
    bpy.data.actions.remove(layer)
    strip.frame_end_ui, strip.frame_start_ui = 111, 101
    assert drawn(talking, tmp_path / "moved", (103, 109)) == plain


def test_of_a_strip_that_is_slower_repeated_and_backwards_the_sample_is_that_which_plays(talking, tmp_path):
    rig, _ = talking
    plain = drawn(talking, tmp_path / "plain", (2, 11))
    strip = pushed_down(rig)
    strip.repeat = 2.0
    assert drawn(talking, tmp_path / "again", (13, 22)) == plain
    strip.repeat, strip.scale = 1.0, 2.0
    assert drawn(talking, tmp_path / "slow", (3, 21))[::2] == plain
    strip.scale, strip.use_reverse = 1.0, True
    assert drawn(talking, tmp_path / "back", (2, 11)) == plain[::-1]


def test_a_longer_face_that_was_joined_to_the_body_does_not_stretch_it(talking, tmp_path):
    rig, _ = talking

    def put_face(count: int) -> None:
        still = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
        header = {"unit": "m", "frame": "camera, upright", "fps": 30.0, "shapes": list(SHAPES)}
        track = FaceTrack(
            header, np.zeros((count, len(SHAPES))), still, np.zeros((count, 3)), np.tile(still[:, None], (1, 2, 1)),
            np.ones(count), np.arange(count) / 30,
        )  # fmt: skip
        assert "head" in apply_face(track, [], rig, FaceOptions(), bpy.context.scene).bones

    put_face(12)
    short = drawn(talking, tmp_path / "short")
    put_face(60)
    assert rig.animation_data.action.frame_range[1] == 60
    assert drawn(talking, tmp_path / "long") == short and len(set(short)) == 7


def test_a_capture_without_keypoints_is_a_sentence():
    with pytest.raises(InputError, match="no keypoints"):
        hang(motions.body_motion(4))


def test_the_command_writes_them_and_says_what_is_missing(addon, captured, tmp_path, capsys):
    out = tmp_path / "control"
    assert commands.run(["control", "--out", str(out), "--frames", "1-2"]) == 3  # no camera
    camera_at((3.0, -3.0, 1.5))
    assert commands.run(["control", "--out", str(out), "--frames", "1-2", "--style", "stickman"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["control_0001.png", "control_0002.png"]
    captured[2].unlink()
    assert commands.run(["control", "--out", str(out), "--frames", "1-2"]) == 3
    assert "Wrote 2 frames" in capsys.readouterr().out


def test_only_selected_people_are_drawn_where_some_are(captured, apply):
    motion, rig, path = captured
    _, other = apply(motion, cameras=False)
    other[SOURCE] = str(path)
    assert set(control_operators.captured_rigs(bpy.context.scene)) == {rig, other}
    other.select_set(True)
    assert control_operators.captured_rigs(bpy.context.scene) == [other]
