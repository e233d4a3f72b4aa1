"""A user's armature read as a character, wherever it stands and however it is scaled, and what is refused."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix
from understudy.inference.core.mapping.mapper import map_rig
from understudy.inference.core.rig import HUMANOID_MAPPING
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene.evaluate import world_matrices
from understudy.operators.scene.rig import check_character, read_character
from understudy.tests import rigs
from understudy.tests.rigs import made

from . import armatures

HEADING = Matrix.Rotation(1.1, 4, "Z")
PLACE = Matrix.Translation((3.0, -2.0, 1.5))


def of_fbx(rig: bpy.types.Object) -> None:
    """Give a character the axes and the unit that FBX files have: data in centimetres, Y up."""
    upright = Matrix.Rotation(np.pi / 2, 4, "X") @ Matrix.Scale(0.01, 4)
    rig.data.transform(upright.inverted())
    rig.matrix_world = PLACE @ HEADING @ upright


def in_place(rig: bpy.types.Object) -> None:
    rig.matrix_world = PLACE @ HEADING


def small(rig: bpy.types.Object) -> None:
    rig.data.transform(Matrix.Scale(20.0, 4))
    rig.matrix_world = PLACE @ HEADING @ Matrix.Scale(0.05, 4)


def under_a_parent(rig: bpy.types.Object) -> None:
    parent = bpy.data.objects.new("Cart", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.matrix_world = PLACE @ HEADING
    rig.parent = parent


def in_centimetres(rig: bpy.types.Object) -> None:
    bpy.context.scene.unit_settings.scale_length = 0.01
    rig.data.transform(Matrix.Scale(100.0, 4))
    rig.matrix_world = Matrix.Translation(100 * PLACE.to_translation()) @ HEADING


@pytest.mark.parametrize("moved", [in_place, of_fbx, small, under_a_parent, in_centimetres])
def test_a_character_is_the_same_wherever_it_stands_and_however_it_is_scaled(moved) -> None:
    item, wanted = armatures.armature("mixamo"), rigs.load("mixamo")
    moved(item)
    bpy.context.view_layer.update()
    character = read_character(item)
    assert character.rig.names == wanted.names and (character.rig.parents == wanted.parents).all()
    assert np.allclose(character.rig.rest, wanted.rest, atol=2e-4)
    assert np.allclose(character.rig.lengths, np.maximum(wanted.lengths, 0.005), atol=1e-4)
    assert np.allclose(character.world, np.array(PLACE @ HEADING), atol=1e-4)


@pytest.mark.parametrize("is_excluded", [True, False])
def test_a_character_that_is_not_shown_stands_where_it_stood(tmp_path, is_excluded) -> None:
    item, hall = armatures.armature("mixamo"), bpy.data.collections.new("Hall")
    bpy.context.scene.collection.children.link(hall)
    under_a_parent(item)
    for thing in (item, item.parent):
        hall.objects.link(thing)
        bpy.context.scene.collection.objects.unlink(thing)
        thing.hide_viewport = not is_excluded
    bpy.context.view_layer.layer_collection.children["Hall"].exclude = is_excluded
    name = item.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hall.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "hall.blend"))  # Blender keeps no place of what is not shown
    item = bpy.data.objects[name]
    assert np.allclose(read_character(item).world, np.array(PLACE @ HEADING), atol=1e-4)
    assert np.allclose(world_matrices(item, None, np.array([1.0]))[1][0], np.array(PLACE @ HEADING), atol=1e-4)


def test_a_character_that_lies_in_the_scene_keeps_lying() -> None:
    item = armatures.armature("mixamo")
    item.rotation_euler = Euler((np.pi / 2, 0.0, 0.0))
    bpy.context.view_layer.update()
    assert np.ptp(read_character(item).rig.heads[:, 1]) > 1.4  # metres along the ground


def test_the_ground_is_under_the_skin_however_it_is_scaled() -> None:
    item = armatures.armature("mixamo")
    skin = armatures.skin(item)
    skin.data.transform(Matrix.Translation((0.0, 0.0, -0.03)))
    lowest = min(vertex.co.z for vertex in skin.data.vertices)
    assert read_character(item).rig.ground == pytest.approx(lowest, abs=1e-5)
    item.matrix_world = PLACE @ HEADING @ Matrix.Scale(0.5, 4)
    bpy.context.view_layer.update()
    assert read_character(item).rig.ground == pytest.approx(0.5 * lowest, abs=1e-5)


def test_bones_that_end_just_above_zero_stand_on_it_and_others_on_their_lowest() -> None:
    item = armatures.armature("mixamo")
    assert read_character(item).rig.ground == 0.0
    item.data.transform(Matrix.Translation((0.0, 0.0, -0.9)))
    lowest = min(min(bone.head_local.z, bone.tail_local.z) for bone in item.data.bones)
    assert read_character(item).rig.ground == pytest.approx(lowest, abs=1e-5)


def test_bones_added_last_come_after_their_parents() -> None:
    item = armatures.armature("mixamo")
    armatures.edit(item, lambda: _put_above(item.data, "mixamorig:Hips"))
    rig = read_character(item).rig
    assert rig.parents[rig.index["mixamorig:Hips"]] == rig.index["Root"]
    assert all(parent < row for row, parent in enumerate(rig.parents))


def _put_above(data: bpy.types.Armature, name: str) -> None:
    root = data.edit_bones.new("Root")
    root.tail = (0.0, 0.2, 0.0)
    data.edit_bones[name].parent = root


def uneven(rig):
    rig.scale = (1.0, 1.0, 1.3)


def mirrored(rig):
    rig.scale = (-1.0, 1.0, 1.0)


def sheared(rig):
    parent = bpy.data.objects.new("Squash", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.scale = (1.0, 1.0, 1.4)
    rig.parent, rig.rotation_euler = parent, Euler((0.6, 0.0, 0.0))


def edited(rig):
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")


def without_bones(rig):
    armatures.edit(rig, lambda: [rig.data.edit_bones.remove(bone) for bone in list(rig.data.edit_bones)])


@pytest.mark.parametrize(
    ("spoil", "problem", "hint"),
    [
        (mirrored, "Hero has a mirrored scale (-1, 1, 1)", "Apply it"),
        (uneven, "Hero is scaled unevenly (1, 1, 1.3)", "Apply it"),
        (sheared, "Hero is scaled unevenly", "also on its parents"),
        (edited, "Hero is in Edit Mode", "Leave it"),
        (without_bones, "Hero has no bones", "Choose"),
    ],
)
def test_a_character_that_cannot_be_used_is_refused_with_what_to_do(spoil, problem, hint) -> None:
    item = armatures.armature("mixamo")
    spoil(item)
    bpy.context.view_layer.update()
    before = (tuple(map(tuple, item.matrix_world)), item.mode, item.animation_data, len(bpy.data.actions))
    with pytest.raises(InputError) as caught:
        read_character(item)
    assert problem in caught.value.message and hint in caught.value.hint
    assert before == (tuple(map(tuple, item.matrix_world)), item.mode, item.animation_data, len(bpy.data.actions))


def test_what_is_no_armature_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing is not an armature"):
        read_character(None)
    with pytest.raises(InputError, match="Lamp is not an armature"):
        read_character(bpy.data.objects.new("Lamp", None))


def test_a_linked_character_is_refused_until_it_has_an_override(tmp_path) -> None:
    item = link(tmp_path)
    with pytest.raises(InputError) as caught:
        read_character(item)
    assert "is linked from" in caught.value.message and "Library Override" in caught.value.hint
    own = item.override_create(remap_local_usages=True)
    assert read_character(own).rig.names == rigs.load("mixamo").names


def link(folder) -> bpy.types.Object:
    """A character that comes from another file."""
    item = armatures.armature("mixamo", called="Guest")
    path = str(folder / "guest.blend")
    bpy.data.libraries.write(path, {item, item.data})
    bpy.data.armatures.remove(item.data)
    with bpy.data.libraries.load(path, link=True) as (_, into):
        into.objects = ["Guest"]
    bpy.context.scene.collection.objects.link(into.objects[0])
    return into.objects[0]


def test_a_mapped_bone_with_a_driver_is_refused_by_name() -> None:
    item = armatures.armature("mixamo")
    mapping = map_rig(rigs.load("mixamo")).mapping
    item.pose.bones["mixamorig:LeftArm"].driver_add("rotation_quaternion", 1)
    character = read_character(item)
    assert character.held[character.rig.index["mixamorig:LeftArm"]]
    with pytest.raises(InputError, match="mixamorig:LeftArm: its rotation_quaternion has a driver"):
        check_character(character, mapping)


def test_a_driver_beside_the_mapped_channels_does_not_matter() -> None:
    item = armatures.armature("mixamo")
    item.pose.bones["mixamorig:LeftArm"].driver_add("scale", 1)
    item.driver_add("location", 2)
    assert check_character(read_character(item), map_rig(rigs.load("mixamo")).mapping) == []


def test_locks_and_constraints_on_mapped_bones_are_told() -> None:
    item = armatures.armature("mixamo")
    item.pose.bones["mixamorig:LeftArm"].lock_rotation = (True, False, False)
    item.pose.bones["mixamorig:RightFoot"].constraints.new("COPY_ROTATION")
    item.pose.bones["mixamorig:LeftFoot"].constraints.new("COPY_ROTATION").mute = True
    notes = check_character(read_character(item), map_rig(rigs.load("mixamo")).mapping)
    assert len(notes) == 2 and "mixamorig:LeftArm: locked channels" in notes[0]
    assert "mixamorig:RightFoot has the constraint 'Copy Rotation'" in notes[1]


def test_what_is_special_about_a_bone_is_read() -> None:
    item = armatures.build(made.humanoid(), "Hero")
    bones = item.data.bones
    bones["hand.L"].use_inherit_rotation = bones["hips"].use_local_location = bones["chest"].use_deform = False
    item.pose.bones["head"].rotation_mode = "ZXY"
    character = read_character(item, HUMANOID_MAPPING)
    row = character.rig.index
    assert character.rig.inherit_rotation is not None and not character.rig.inherit_rotation[row["hand.L"]]
    assert not character.local_location[row["hips"]] and not character.deform[row["chest"]]
    assert character.modes[row["head"]] == "ZXY" and set(character.modes) == {"ZXY", "QUATERNION"}
