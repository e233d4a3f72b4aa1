"""Faces in Blender: tracks become keys of whatever can show them, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from understudy.blender_addon import commands
from understudy.inference.core.artifacts import FaceTrack
from understudy.inference.core.face_shapes import SHAPES, VISEMES
from understudy.inference.core.formats.live_link import write_live_link
from understudy.inference.core.rotations import quaternion_from_rotvec
from understudy.inference.protocol.errors import InputError
from understudy.operators import face as face_operators
from understudy.operators.scene.face import FaceOptions, apply_face, find_faces
from understudy.tests.blender import faces
from understudy.tests.blender.buttons import fails, why_grey

FOREIGN = ("JawOpen", "head.mouthSmile_R", "ARKit_eyeLookOutLeft", "browInnerUp_L", "Wrinkle")


def apply(track, meshes, rig=None, **options):
    """Apply to meshes in the scene."""
    bpy.context.scene.render.fps = 24
    return apply_face(track, meshes, rig, FaceOptions(**options), bpy.context.scene)


def value(item, key, frame):
    """What a shape key is at a frame, as Blender evaluates it."""
    bpy.context.scene.frame_set(frame)
    keys = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.shape_keys
    return keys.key_blocks[key].value


def direction(rig, bone, frame, vector):
    """Where a direction of the armature at rest points to once a bone has turned."""
    bpy.context.scene.frame_set(frame)
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones[bone]
    turn = np.array(posed.matrix.to_3x3()) @ np.array(rig.data.bones[bone].matrix_local.to_3x3()).T
    return turn @ vector


def test_keys_of_any_spelling_follow_the_track_frame_by_frame():
    item = faces.mesh_with_keys(FOREIGN)
    made = apply(faces.face_track(), [item], frame_start=5)
    assert value(item, "JawOpen", 5) == 0.0 and value(item, "JawOpen", 16) == pytest.approx(1.0)
    assert value(item, "JawOpen", 9) == pytest.approx(4 / 11, abs=1e-6)
    assert value(item, "head.mouthSmile_R", 9) == pytest.approx(0.5)
    assert value(item, "ARKit_eyeLookOutLeft", 9) == pytest.approx(0.25)
    assert made.keys == 4 and value(item, "Wrinkle", 9) == 0.0


def test_shapes_that_move_and_that_no_mesh_has_are_named():
    item = faces.mesh_with_keys(("jawOpen", "eyeBlinkLeft", "browInnerUp"))
    made = apply(faces.face_track(), [item])
    assert set(made.missing) == {"mouthSmileRight", "eyeLookOutLeft"}
    assert "mouthSmileRight" in face_operators.notes_of(made)[0]


def test_strength_exaggerates_and_the_key_s_own_range_still_holds():
    item = faces.mesh_with_keys(FOREIGN)
    apply(faces.face_track(), [item], strength=1.5)
    assert value(item, "head.mouthSmile_R", 3) == pytest.approx(0.75)
    assert value(item, "JawOpen", 12) == pytest.approx(1.0)


def test_a_clip_of_another_rate_keeps_its_speed():
    item = faces.mesh_with_keys(FOREIGN)
    made = apply(faces.face_track(41, fps=120.0), [item])
    assert value(item, "JawOpen", 5) == pytest.approx(0.5, abs=1e-6) and "120" in made.notes[0]


def test_head_and_eye_bones_turn_in_the_head_s_own_axes():
    rig, item = faces.head_rig(), faces.mesh_with_keys(("jawOpen", "mouthSmileRight", "mouthFrownLeft"))
    made = apply(faces.face_track(), [item], rig, head="ABSOLUTE")
    assert made.bones == ("head", "eye.L", "eye.R")
    angle = np.radians(2.0 * 6)
    assert direction(rig, "head", 7, [0, -1, 0]) == pytest.approx([np.sin(angle), -np.cos(angle), 0], abs=1e-5)
    assert direction(rig, "spine", 7, [0, -1, 0]) == pytest.approx([0, -1, 0], abs=1e-6)
    angle += 0.1
    assert direction(rig, "eye.L", 7, [0, -1, 0]) == pytest.approx([np.sin(angle), -np.cos(angle), 0], abs=1e-5)


def test_heads_of_armatures_that_stand_by_their_object_s_turning_turn_about_the_vertical():
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    stand = Matrix.Rotation(np.pi / 2, 4, "X")  # as files of Y-up programs are imported
    rig.data.transform(stand.inverted())
    rig.matrix_world = stand
    apply(faces.face_track(), [item], rig, head="ABSOLUTE")
    angle = np.radians(2.0 * 6)
    assert direction(rig, "head", 7, [0, 0, 1]) == pytest.approx([np.sin(angle), 0, np.cos(angle)], abs=1e-5)


def test_eyes_are_turned_once_by_shapes_where_there_are_some():
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    assert apply(faces.face_track(), [item], rig).bones == ("head",)
    assert apply(faces.face_track(), [item], rig, eyes="BOTH").bones == ("head", "eye.L", "eye.R")
    other = faces.mesh_with_keys(FOREIGN)
    made = apply(faces.face_track(), [other], rig, eyes="BONES")
    assert made.keys == 3 and value(other, "ARKit_eyeLookOutLeft", 4) == 0.0


@pytest.mark.parametrize("mode", ["XYZ", "ZXY", "AXIS_ANGLE", "QUATERNION"])
def test_rotation_modes_stay_and_are_honoured(mode):
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    rig.pose.bones["head"].rotation_mode = mode
    apply(faces.face_track(), [item], rig, head="RELATIVE")
    angle = np.radians(20.0)
    assert direction(rig, "head", 11, [0, -1, 0]) == pytest.approx([np.sin(angle), -np.cos(angle), 0], abs=1e-5)
    assert rig.pose.bones["head"].rotation_mode == mode


def test_an_axis_does_not_flip_where_a_head_turns_past_its_middle():
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    rig.pose.bones["head"].rotation_mode = "AXIS_ANGLE"
    track = faces.face_track()
    turns = np.radians(np.linspace(-22.0, 23.0, len(track.times)))
    apply(
        replace(track, rotations=quaternion_from_rotvec(turns[:, None] * [0.0, 0.0, 1.0])), [item], rig, head="ABSOLUTE"
    )
    axes = [c for c in curves(rig.animation_data.action) if c.data_path.endswith("axis_angle") and c.array_index]
    assert len(axes) == 3 and all(np.ptp([k.co[1] for k in c.keyframe_points]) < 1e-5 for c in axes)


def test_a_bone_that_a_driver_turns_is_left_to_it_and_named():
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    rig.pose.bones["head"].driver_add("rotation_quaternion", 0).driver.expression = "1.0"
    made = apply(faces.face_track(), [item], rig, head="RELATIVE", eyes="BONES")
    assert made.bones == ("eye.L", "eye.R")
    assert "head is turned by a driver and is left to it." in made.notes
    assert not [c for c in curves(rig.animation_data.action) if '"head"' in c.data_path]


def test_one_action_holds_face_and_body_and_the_body_s_own_stays_as_it_was(apply_body_of):
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    body = apply_body_of(rig)
    before = [(c.data_path, [tuple(k.co) for k in c.keyframe_points]) for c in curves(body)]
    made = apply(faces.face_track(), [item], rig)
    assert rig.animation_data.action.name == made.action != body.name
    bpy.context.scene.frame_set(10)
    assert rig.pose.bones["spine"].location.x == pytest.approx(0.9)
    assert [(c.data_path, [tuple(k.co) for k in c.keyframe_points]) for c in curves(body)] == before
    if hasattr(body, "slots"):
        assert item.data.shape_keys.animation_data.action == rig.animation_data.action


def test_a_body_moves_on_and_lasts_as_long_after_its_armature_was_renamed(apply_body_of):
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    body = apply_body_of(rig)
    rig.name, last = "Hero", 60
    rig.pose.bones["spine"].keyframe_insert("location", frame=last)
    made = apply(faces.face_track(), [item], rig)
    bpy.context.scene.frame_set(6)
    assert rig.pose.bones["spine"].location.x == pytest.approx(0.5) and len(curves(body)) == 3
    assert tuple(bpy.data.actions[made.action].frame_range) == (1, last)


def test_actions_that_give_way_to_a_face_s_are_kept_with_the_file(tmp_path):
    item = faces.mesh_with_keys(FOREIGN)
    keys = item.data.shape_keys
    keys.key_blocks["JawOpen"].keyframe_insert("value", frame=1)
    keys.animation_data.action.name = "By Hand"
    apply(faces.face_track(), [item])
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kept.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kept.blend"))
    assert "By Hand" in bpy.data.actions


def test_an_armature_in_tweak_mode_is_refused_in_a_sentence_and_nothing_is_made(apply_body_of):
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    action, animation = apply_body_of(rig), rig.animation_data
    animation.nla_tracks.active = animation.nla_tracks.new()
    animation.nla_tracks.active.strips.new("Body", 1, action)
    animation.action = None
    animation.use_tweak_mode = True
    with pytest.raises(InputError, match="tweak mode"):
        apply(faces.face_track(), [item], rig)
    assert list(bpy.data.actions) == [action] and item.data.shape_keys.animation_data is None


def test_an_armature_that_is_called_as_shape_keys_are_keeps_a_slot_of_its_own():
    rig, item = faces.head_rig(), faces.mesh_with_keys(FOREIGN)
    rig.name = item.data.shape_keys.name
    apply(faces.face_track(), [item], rig, head="ABSOLUTE")
    assert value(item, "JawOpen", 12) == pytest.approx(1.0)
    assert direction(rig, "head", 12, [0, -1, 0])[0] > 0.3


def test_a_head_that_cannot_turn_is_told():
    rig, item = faces.head_rig(("root", "a", "b", "c")), faces.mesh_with_keys(FOREIGN)
    assert any("head does not turn" in note for note in apply(faces.face_track(), [item], rig).notes)
    assert not apply(faces.face_track(), [item], rig, head="NONE").notes


@pytest.fixture
def apply_body_of():
    """Give a rig a body's action: its spine moves."""

    def give(rig):
        for frame in (1, 11):
            rig.pose.bones["spine"].location.x = (frame - 1) / 10
            rig.pose.bones["spine"].keyframe_insert("location", frame=frame)
        action = rig.animation_data.action
        for curve in curves(action):
            for point in curve.keyframe_points:
                point.interpolation = "LINEAR"
        action.use_fake_user = True
        return action

    return give


def curves(action):
    """All F-curves of an action."""
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    return [c for layer in action.layers for strip in layer.strips for bag in strip.channelbags for c in bag.fcurves]


def test_a_head_without_armature_turns_as_an_object():
    item = faces.mesh_with_keys(FOREIGN)
    item.rotation_mode = "QUATERNION"
    apply(faces.face_track(), [item], head="ABSOLUTE")
    bpy.context.scene.frame_set(11)
    assert item.rotation_quaternion.to_euler().z == pytest.approx(np.radians(20.0), abs=1e-5)


@pytest.mark.parametrize("mode", ["XYZ", "ZXY", "AXIS_ANGLE", "QUATERNION"])
@pytest.mark.parametrize("up", ["Z", "Y"])
def test_a_head_that_faces_another_way_nods_about_its_own_axis(mode, up):
    """Of meshes of Y-up programs, whose objects stand them up, too."""
    item, nod = faces.mesh_with_keys(FOREIGN), np.radians(20.0)
    before = Matrix.Rotation(np.radians(90.0), 3, "Z") @ Matrix.Rotation(np.radians(90.0 * (up == "Y")), 3, "X")
    item.rotation_mode = mode
    item.matrix_world = before.to_4x4()
    track = faces.face_track()
    nodding = quaternion_from_rotvec(np.linspace(0, nod, len(track.times))[:, None] * [1.0, 0.0, 0.0])
    apply(replace(track, rotations=nodding), [item])
    bpy.context.scene.frame_set(12)
    turned = item.matrix_world.to_3x3() @ before.inverted()
    assert np.array(turned) == pytest.approx(np.array(Matrix.Rotation(nod, 3, "Y")), abs=1e-5)  # it faces +x


def test_a_head_that_hangs_on_what_is_linked_from_another_file_is_refused(tmp_path):
    """Its turning would be lost with the next save."""
    bpy.data.libraries.write(str(tmp_path / "set.blend"), {bpy.data.objects.new("Stand", None)})
    with bpy.data.libraries.load(str(tmp_path / "set.blend"), link=True) as (_, wanted):
        wanted.objects = ["Stand"]
    item = faces.mesh_with_keys(FOREIGN)
    item.parent = wanted.objects[0]
    with pytest.raises(InputError, match="Stand is linked from another file"):
        apply(faces.face_track(), [item])
    assert apply(faces.face_track(), [item], head="NONE").keys == 4


def test_a_mirrored_head_and_one_with_a_delta_stay_as_they_are_held():
    for change in ({"scale": (-1, 1, 1)}, {"delta_rotation_euler": (0, 0, 0.5)}):
        item = faces.mesh_with_keys(FOREIGN)
        item.rotation_euler.z = 0.25
        for name, given in change.items():
            setattr(item, name, given)
        bpy.context.view_layer.update()
        before = np.array(item.matrix_world)
        apply(faces.face_track(), [item])
        bpy.context.scene.frame_set(1)
        assert np.array(item.matrix_world) == pytest.approx(before, abs=1e-5)


def test_a_head_that_is_turned_a_second_time_turns_no_farther():
    item = faces.mesh_with_keys(FOREIGN)
    for _ in range(2):
        apply(faces.face_track(), [item], head="ABSOLUTE")
        bpy.context.scene.frame_set(11)
    assert item.rotation_euler.z == pytest.approx(np.radians(20.0), abs=1e-5)


def test_a_key_with_a_driver_is_left_to_it():
    item = faces.mesh_with_keys(FOREIGN)
    item.data.shape_keys.key_blocks["JawOpen"].driver_add("value").driver.expression = "0.125"
    made = apply(faces.face_track(), [item])
    assert made.keys == 3 and value(item, "JawOpen", 12) == pytest.approx(0.125)
    assert any("driver" in note for note in made.notes)


def test_what_keeps_shape_keys_from_being_seen_is_told():
    item = faces.mesh_with_keys(FOREIGN)
    keys = item.data.shape_keys
    keys.key_blocks["Wrinkle"].mute = True
    assert apply(faces.face_track(), [item]).notes == ()
    keys.key_blocks["JawOpen"].mute = True
    assert "JawOpen is muted" in apply(faces.face_track(), [item]).notes[0]
    keys.use_relative = False
    assert "absolute" in apply(faces.face_track(), [item]).notes[0]
    item.show_only_shape_key = True
    assert "pinned" in apply(faces.face_track(), [item]).notes[0]


def test_visemes_that_were_captured_reach_keys_of_their_name():
    track = faces.face_track(visemes=list(VISEMES))
    shown = np.zeros((12, len(VISEMES)))
    shown[:, VISEMES.index("viseme_aa")] = 0.75
    track = FaceTrack(track.header, track.weights, track.rotations, track.positions, track.eyes, track.confidence,
                      track.times, visemes=shown)  # fmt: skip
    item = faces.mesh_with_keys(("jawOpen", "mouthSmileLeft", "viseme_aa", "browInnerUp"))
    apply(track, [item])
    assert value(item, "viseme_aa", 3) == pytest.approx(0.75)


def test_what_cannot_show_a_face_is_told_apart_and_nothing_is_made():
    plain = faces.mesh_with_keys(("Key 1", "Key 2"))
    assert find_faces(bpy.data.objects) == []
    before = len(bpy.data.actions)
    with pytest.raises(InputError, match="no shape key that means"):
        apply(faces.face_track(), [plain])
    with pytest.raises(InputError, match="no bone 'skull'"):
        apply(faces.face_track(), [plain], faces.head_rig(), head_bone="skull")
    assert len(bpy.data.actions) == before and plain.data.shape_keys.animation_data is None


def test_buttons_say_what_they_lack_and_then_apply_what_was_captured(addon, tmp_path):
    assert "no armature" in why_grey(bpy.ops.understudy.apply_face)
    assert "Choose a film" in why_grey(bpy.ops.understudy.start_face)
    item = faces.mesh_with_keys(FOREIGN)
    assert "No face is captured" in fails(bpy.ops.understudy.apply_face)
    faces.face_track().save(tmp_path / "face_track.npz")
    assert bpy.ops.understudy.apply_face(filepath=str(tmp_path / "face_track.npz")) == {"FINISHED"}
    assert value(item, "head.mouthSmile_R", 2) == pytest.approx(0.5)


def test_the_command_applies_a_phone_s_file_to_the_meshes_of_a_blend(addon, tmp_path):
    item = faces.mesh_with_keys(FOREIGN)
    write_live_link(tmp_path / "take.csv", faces.face_track())
    saved = tmp_path / "out.blend"
    words = ["face", "--finished", str(tmp_path / "take.csv"), "--mesh", item.name, "--save", str(saved)]
    assert commands.run(words) == 0
    bpy.ops.wm.open_mainfile(filepath=str(saved))
    assert value(bpy.data.objects["Face"], "JawOpen", 12) == pytest.approx(1.0, abs=1e-5)
    assert commands.run(["face", "--finished", str(tmp_path / "take.csv"), "--mesh", "Nobody"]) == 3


def test_the_panel_s_settings_become_a_request(addon, tmp_path):
    from understudy.inference.protocol import schema
    from understudy.operators.settings import face_request

    face = bpy.context.scene.understudy.face
    face.video, face.use_neutral, face.neutral, face.smoothing = str(tmp_path / "a.mp4"), True, 7, 0.25
    asked = json.loads(json.dumps(schema.encode(face_request(face))))
    assert asked["neutral"] == 7 and asked["smoothing"] == 0.25 and asked["stop"] is None
    assert len(SHAPES) == 52
