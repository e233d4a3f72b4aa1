"""Artifacts become datablocks: the armature moves as the motion says, and nothing of the user's changes."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from understudy.inference.core.artifacts import BodyMotion
from understudy.inference.core.kinematics import forward
from understudy.inference.core.rotations import slerp
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene import take as takes
from understudy.operators.scene.action import Channel, write_action
from understudy.operators.scene.compat import Curves
from understudy.tests.blender import motions


def truth(motion, rotations=None, root=None):
    floor = np.array(motion.header["floor_from_frame"])
    rotations = motion.rotations if rotations is None else rotations
    return floor @ forward(motion.rest, motion.parents, rotations, motion.root if root is None else root)


def evaluated(rig, names, frames):
    """(K, B, 4, 4) world matrices that Blender computes."""
    scene, out = bpy.context.scene, []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
        item = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        out.append([np.array(item.matrix_world @ item.pose.bones[name].matrix) for name in names])
    return np.array(out)


def largest_difference(a, b):
    """Metres, and radians as differences of matrix entries."""
    return np.abs(a - b).max()


def keys(rig):
    return sorted({point.co[0] for curve in curves(rig) for point in curve.keyframe_points})


def curves(rig):
    return list(Curves(rig, rig.animation_data.action))


def test_on_the_clips_own_times_the_armature_is_where_the_kinematics_put_it(motion, apply):
    _, rig = apply(motion, rate="CLIP")
    frames = 1 + motion.times * 24
    assert np.allclose(keys(rig), frames, atol=1e-4)
    assert any(frame % 1 for frame in keys(rig)), "30 fps on 24 need subframes"
    assert largest_difference(evaluated(rig, motion.header["bones"], frames), truth(motion)) < 1e-4


def test_frame_by_frame_the_armature_is_where_the_kinematics_put_it(motion, apply):
    _, rig = apply(motion, rate="FRAMES", frame_start=101)
    assert keys(rig) == list(range(101, 125))
    assert largest_difference(evaluated(rig, motion.header["bones"], keys(rig)), truth(motion)) < 1e-4


def test_matching_the_scene_keys_stand_on_whole_frames_and_time_is_kept(motion, apply):
    take, rig = apply(motion, rate="SCENE", frame_start=10)
    frames = np.array(keys(rig))
    assert frames.tolist() == list(range(10, 29)), "23/30 s are 18.4 frames of 24 fps"
    sample = (frames - 10) / 24 * 30
    low = np.floor(sample).astype(int)
    high, part = np.minimum(low + 1, 23), sample - low
    rotations = slerp(motion.rotations[low], motion.rotations[high], part[:, None])
    root = motion.root[low] * (1 - part)[:, None] + motion.root[high] * part[:, None]
    expected = truth(motion, rotations, root)
    assert largest_difference(evaluated(rig, motion.header["bones"], frames), expected) < 1e-4
    assert "30" in take.notes[0] and "24" in take.notes[0]


def test_equal_rates_keep_every_sample_untouched_on_whole_frames(apply):
    motion = motions.body_motion(12, fps=24.0)
    take, rig = apply(motion)
    assert keys(rig) == list(range(1, 13)) and take.notes == ()
    assert largest_difference(evaluated(rig, motion.header["bones"], keys(rig)), truth(motion)) < 1e-4


def test_ntsc_rates_count_with_the_base(apply):
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 30, 1.001
    motion = motions.body_motion(12, fps=30 / 1.001)
    take, rig = apply(motion)
    assert keys(rig) == list(range(1, 13)) and take.notes == ()


def test_all_keys_are_linear(motion, apply):
    _, rig = apply(motion)
    assert {point.interpolation for curve in curves(rig) for point in curve.keyframe_points} == {"LINEAR"}


def test_between_keys_quaternions_take_the_short_way(apply):
    motion = motions.body_motion(30)
    flipped = motion.rotations.copy()
    flipped[1::2] *= -1
    _, rig = apply(BodyMotion(**{**vars(motion), "rotations": flipped}), rate="FRAMES")
    between = evaluated(rig, motion.header["bones"], [4.5])[0]
    halfway = slerp(motion.rotations[3], motion.rotations[4], 0.5)[None]
    expected = truth(motion, halfway, (motion.root[3:4] + motion.root[4:5]) / 2)[0]
    assert largest_difference(between, expected) < 1e-3, "components are interpolated one by one, then normalised"


def test_the_golden_artifact_still_applies(apply):
    motion = BodyMotion.load(motions.GOLDEN)
    _, rig = apply(motion, rate="CLIP")
    found = evaluated(rig, motion.header["bones"], 1 + motion.times * 24)
    assert largest_difference(found, truth(motion)) < 1e-4


def test_the_unsmoothed_motion_can_be_chosen(motion, apply):
    _, rig = apply(motion, rate="FRAMES", raw=True)
    expected = truth(motion, motion.rotations_raw, motion.root_raw)
    assert largest_difference(evaluated(rig, motion.header["bones"], keys(rig)), expected) < 1e-4


def test_scenes_in_centimetres_get_a_person_of_the_same_height(motion, apply):
    bpy.context.scene.unit_settings.scale_length = 0.01
    _, rig = apply(motion, rate="FRAMES")
    expected = truth(motion)
    expected[..., :3, 3] *= 100
    found = evaluated(rig, motion.header["bones"], keys(rig))
    assert np.abs(found[..., :3, 3] - expected[..., :3, 3]).max() < 1e-2


def test_a_motion_without_hands_applies(apply):
    motion = motions.body_motion(10, bones=9)  # hips to the first finger: no hand is whole
    _, rig = apply(motion, rate="CLIP")
    assert len(rig.pose.bones) == 9
    found = evaluated(rig, motion.header["bones"], 1 + motion.times * 24)
    assert largest_difference(found, truth(motion)) < 1e-4


def test_a_single_frame_applies(apply):
    _, rig = apply(motions.body_motion(1))
    assert keys(rig) == [1]


def test_confidence_is_keyed_for_every_bone(motion, apply):
    _, rig = apply(motion, rate="FRAMES")
    bpy.context.scene.frame_set(5)
    for index, name in enumerate(motion.header["bones"]):
        assert rig.pose.bones[name]["confidence"] == pytest.approx(motion.bone_confidence[4, index], abs=1e-6)


def test_contacts_are_keyed_on_feet_and_toes(motion, apply):
    _, rig = apply(motion, rate="FRAMES")
    bpy.context.scene.frame_set(5)
    found = [rig.pose.bones[name]["contact"] for name in ("foot.L", "toe.L", "foot.R", "toe.R")]
    assert found == pytest.approx(motion.contacts[4], abs=1e-6)


def test_bones_are_coloured_by_confidence(motion, apply):
    confidence = motion.bone_confidence.copy()
    confidence[:, 0], confidence[:, 1], confidence[:, 2] = 0.0, 0.05, 1.0
    _, rig = apply(BodyMotion(**{**vars(motion), "bone_confidence": confidence}))
    unseen, low, high = (rig.data.bones[name].color.custom.normal for name in motion.header["bones"][:3])
    assert unseen.r == unseen.g == unseen.b, "never seen is grey"
    assert low.r > low.b and high.b > high.r, "low is red, high is blue"


def test_without_colours_the_theme_paints_the_bones(motion, apply):
    _, rig = apply(motion, colours=False)
    assert {bone.color.palette for bone in rig.data.bones} == {"DEFAULT"}


def test_bones_stand_in_collections_and_turn_by_quaternions(motion, apply):
    _, rig = apply(motion)
    groups = {group.name: {bone.name for bone in group.bones} for group in rig.data.collections}
    assert groups.keys() == {"Body", "Hands"}
    assert "hips" in groups["Body"] and {"hand.L", "index.02.R"} <= groups["Hands"]
    assert {bone.rotation_mode for bone in rig.pose.bones} == {"QUATERNION"}


def test_limbs_are_connected_and_shoulders_are_not(motion, apply):
    _, rig = apply(motion)
    assert rig.data.bones["forearm.L"].use_connect and rig.data.bones["spine"].use_connect
    assert not rig.data.bones["thigh.L"].use_connect


def test_bone_lengths_are_those_of_the_header(motion, apply):
    _, rig = apply(motion)
    found = [rig.data.bones[name].length for name in motion.header["bones"]]
    assert found == pytest.approx(motion.header["lengths_m"], abs=1e-6)


def test_lengths_that_the_header_lacks_reach_to_the_children(motion, apply):
    header = {name: value for name, value in motion.header.items() if name != "lengths_m"}
    _, rig = apply(BodyMotion(**{**vars(motion), "header": header}))
    assert rig.data.bones["upper_arm.L"].length == pytest.approx(0.28, abs=1e-6)
    assert len(rig.data.bones) == len(header["bones"]), "a bone without length would vanish"


def test_everything_stands_in_one_collection(motion, apply):
    take, rig = apply(motion)
    assert set(bpy.data.collections[take.collection].objects) == {rig, *(bpy.data.objects[n] for n in take.cameras)}


def test_two_takes_do_not_disturb_each_other(motion, apply):
    first, rig = apply(motion)
    before = [tuple(point.co) for point in curves(rig)[0].keyframe_points]
    second, _ = apply(motion, frame_start=50)
    assert (first.rig, first.action) != (second.rig, second.action)
    assert [tuple(point.co) for point in curves(rig)[0].keyframe_points] == before


def test_nothing_of_the_users_changes(motion, apply, users_scene):
    apply(motion)
    assert users_scene.state() == users_scene.before


@pytest.mark.parametrize("mode", ["OBJECT", "EDIT", "POSE"])
def test_it_applies_in_any_mode(motion, apply, users_scene, mode):
    bpy.ops.object.mode_set(mode=mode)
    before = users_scene.state()
    apply(motion)
    assert users_scene.state() == before


def test_it_applies_with_nothing_active(motion, apply):
    bpy.context.view_layer.objects.active = None
    _, rig = apply(motion)
    assert bpy.context.view_layer.objects.active is None and not rig.select_get()


def test_a_failure_leaves_nothing_behind(motion, apply, monkeypatch):
    def fail(*_):
        raise InputError("no")

    monkeypatch.setattr(takes, "create_camera", fail)
    before = {name: set(getattr(bpy.data, name).keys()) for name in takes._COLLECTIONS}
    with pytest.raises(InputError):
        apply(motion)
    assert {name: set(getattr(bpy.data, name).keys()) for name in takes._COLLECTIONS} == before


def test_times_that_do_not_rise_are_refused(motion, apply):
    times = motion.times.copy()
    times[5] = times[4]
    with pytest.raises(InputError, match="sample 5"):
        apply(BodyMotion(**{**vars(motion), "times": times}))


def test_an_action_is_written_exactly():
    item = bpy.data.objects.new("item", None)
    values = np.arange(30, dtype=float).reshape(10, 3)
    action = write_action(item, "walk", np.arange(10) + 0.5, [Channel("location", values)])
    found = {c.array_index: [tuple(p.co) for p in c.keyframe_points] for c in Curves(item, action)}
    assert found == {i: [(k + 0.5, values[k, i]) for k in range(10)] for i in range(3)}
    assert action.frame_range[:] == (0.5, 9.5)
