"""What carries a control, found by trying; and a performance on Rigify's controls, as Blender evaluates it."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix
from understudy.inference.core.mapping.mapper import map_rig, mappings
from understudy.inference.core.retarget import Retargeter
from understudy.inference.protocol.retarget import RetargetSettings
from understudy.operators.scene.hanging import effective_parents
from understudy.operators.scene.rig import read_character
from understudy.tests import rigs
from understudy.tests.rigs import made

from .armatures import armature
from .rigify_human import generated


def test_a_rig_without_helpers_hangs_as_its_hierarchy_says() -> None:
    rig = armature("mixamo")
    assert effective_parents(rig, map_rig(rigs.load("mixamo")).mapping) == {}


def test_rigifys_fingers_hang_from_the_hand_and_everything_is_given_back() -> None:
    rig = generated()
    rig.pose.bones["hand_fk.L"].rotation_quaternion = (0.9, 0.1, 0.2, 0.3)
    rig.pose.bones["torso"].keyframe_insert("location", frame=1)
    bpy.context.view_layer.update()
    before = {bone.name: (bone.matrix_basis.copy(), bone.head.copy()) for bone in rig.pose.bones}
    action, switch = rig.animation_data.action, rig.pose.bones["upper_arm_parent.L"]["IK_FK"]
    found = effective_parents(rig, mappings()["Rigify"])
    assert found["f_index.01.L"] == found["thumb.01.L"] == "hand_fk.L"
    assert found["f_index.02.L"] == "f_index.01.L" and found["upper_arm_fk.R"] == "shoulder.R"
    assert rig.animation_data.action == action
    assert not hasattr(action, "slots") or rig.animation_data.action_slot == action.slots[0]
    assert rig.pose.bones["upper_arm_parent.L"]["IK_FK"] == switch
    for name, (basis, head) in before.items():
        bone = rig.pose.bones[name]
        assert np.abs(np.array(bone.matrix_basis) - np.array(basis)).max() < 1e-6, name
        assert (bone.head - head).length < 1e-4, name  # stretched bones may flip about their axis in single precision


def test_a_rig_that_is_off_in_viewports_hangs_as_it_does_when_it_is_shown() -> None:
    rig = generated()
    shown = effective_parents(rig, mappings()["Rigify"])
    rig.hide_viewport = True
    bpy.context.view_layer.update()
    assert effective_parents(rig, mappings()["Rigify"]) == shown and rig.hide_viewport


def test_a_performance_on_rigifys_controls_is_where_it_was_solved() -> None:
    rig, mapping = generated(), mappings()["Rigify"]
    skeleton = read_character(rig, mapping).rig
    motion = Retargeter(made.random_performance(4, spread=0.25), skeleton, mapping).solve(
        RetargetSettings(arm_reach=0.5)
    )
    for item in [*mapping.settings, *(item for limb in mapping.ik for item in limb.fk)]:
        owner = rig.pose.bones[item.bone]
        owner[item.name] = type(owner[item.name])(item.value)
    rig.update_tag()
    for frame in range(4):
        for k, row in enumerate(motion.keyed):
            bone = rig.pose.bones[skeleton.names[row]]
            bone.rotation_mode = "QUATERNION"
            bone.rotation_quaternion = motion.rotations[frame, k]
        for m, row in enumerate(motion.moved):
            rig.pose.bones[skeleton.names[row]].location = motion.locations[frame, m]
        bpy.context.view_layer.update()
        for row in motion.keyed:
            shown = np.array(rig.pose.bones[skeleton.names[row]].matrix)
            assert np.abs(shown[:3, :3] - motion.turns[frame, row]).max() < 1e-3, skeleton.names[row]
            assert np.abs(shown[:3, 3] - motion.heads[frame, row]).max() < 1e-3, skeleton.names[row]
    for bone in rig.pose.bones:
        bone.matrix_basis = Matrix()
