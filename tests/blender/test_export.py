"""What other programs get is what Blender shows."""

from __future__ import annotations

import struct

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from understudy.inference.protocol.errors import InputError, ResourceError
from understudy.operators.scene.export import export_rig
from understudy.tests.blender import armatures

IMPORT = {
    "BVH": lambda path: bpy.ops.import_anim.bvh(filepath=path, update_scene_fps=False),
    "FBX": lambda path: bpy.ops.import_scene.fbx(filepath=path),
    "GLTF": lambda path: bpy.ops.import_scene.gltf(filepath=path),
}


def heads(rig):
    """Name -> (3,) head of each bone in the world at the current frame."""
    return {bone.name: np.array((rig.matrix_world @ bone.matrix).translation) for bone in rig.pose.bones}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
@pytest.mark.parametrize("kind", IMPORT)
def test_joints_are_where_they_were_after_a_round_trip(motion, apply, tmp_path, kind):
    _, rig = apply(motion, frame_start=10)
    scene = bpy.context.scene
    truth = []
    for frame in range(10, 29):
        scene.frame_set(frame)
        truth.append(heads(rig))
    path = export_rig(rig, tmp_path / "it's 動き $(x)", kind, scene)
    known = set(bpy.data.objects)
    IMPORT[kind](str(path))
    again = next(item for item in bpy.data.objects if item not in known and item.type == "ARMATURE")
    first = round(again.animation_data.action.frame_range[0])
    for index, positions in enumerate(truth):
        scene.frame_set(first + index)
        found = heads(again)
        assert found.keys() == positions.keys()
        assert max(np.abs(found[name] - positions[name]).max() for name in found) < 1e-4


@pytest.mark.parametrize("kind", IMPORT)
def test_exporting_changes_nothing_of_the_users(motion, apply, users_scene, tmp_path, kind):
    _, rig = apply(motion)
    names = {name: set(getattr(bpy.data, name).keys()) for name in ("objects", "armatures", "actions", "scenes")}
    export_rig(rig, tmp_path / "out", kind, bpy.context.scene)
    assert users_scene.state() == users_scene.before
    assert {name: set(getattr(bpy.data, name).keys()) for name in names} == names


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
def test_bvh_holds_what_an_object_in_centimetres_that_travels_shows(tmp_path):
    scene, rig = bpy.context.scene, armatures.armature("mixamo")
    shown = Matrix.Rotation(np.pi / 2, 4, "X") @ Matrix.Scale(0.01, 4)  # as Blender imports FBX
    rig.data.transform(shown.inverted())
    rig.matrix_world = shown
    hips, truth = rig.pose.bones["mixamorig:Hips"], []
    for frame in (1, 6, 11):
        hips.location, rig.location, rig.rotation_euler.z = (frame, 0, 0), (0, 0.1 * frame, 0), 0.05 * frame
        hips.keyframe_insert("location", frame=frame)
        rig.keyframe_insert("location", frame=frame)
        rig.keyframe_insert("rotation_euler", frame=frame)
    for frame in range(1, 12):
        scene.frame_set(frame)
        truth.append(heads(rig))
    path = export_rig(rig, tmp_path / "out", "BVH", scene)
    assert len(bpy.data.actions) == len(bpy.data.armatures) == 1
    known = set(bpy.data.objects)
    IMPORT["BVH"](str(path))
    again = next(item for item in bpy.data.objects if item not in known)
    for frame, places in enumerate(truth, 1):
        scene.frame_set(frame)
        assert max(np.abs(heads(again)[name] - places[name]).max() for name in places) < 1e-3


def test_bvh_stands_upright_along_y_and_plays_at_the_scenes_rate(motion, apply, tmp_path):
    _, rig = apply(motion, rate="FRAMES")
    text = export_rig(rig, tmp_path / "out", "BVH", bpy.context.scene).read_text()
    offset = next(line for line in text.splitlines() if "OFFSET" in line).split()
    assert [float(value) for value in offset[1:]] == pytest.approx([0, 0.93, 0], abs=1e-5)
    assert "Frames: 24" in text and "Frame Time: 0.041667" in text


def test_a_glb_file_is_one(motion, apply, tmp_path):
    _, rig = apply(motion)
    content = export_rig(rig, tmp_path / "v1.2", "GLTF", bpy.context.scene)
    assert content.name == "v1.2.glb"
    assert struct.unpack("<4sI", content.read_bytes()[:8]) == (b"glTF", 2)


def test_an_armature_without_an_action_is_refused(tmp_path):
    rig = bpy.data.objects.new("still", bpy.data.armatures.new("still"))
    with pytest.raises(InputError, match="still has no action"):
        export_rig(rig, tmp_path / "out", "BVH", bpy.context.scene)


def test_a_folder_that_cannot_be_is_told(motion, apply, tmp_path):
    _, rig = apply(motion)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="file"):
        export_rig(rig, tmp_path / "file" / "out", "BVH", bpy.context.scene)


@pytest.mark.parametrize("kind", ["FBX", "GLTF"])
def test_a_whole_character_is_its_armature_and_what_it_deforms(motion, apply, users_scene, tmp_path, kind):
    _, rig = apply(motion)
    mesh = _skin(rig)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Beside", mesh.data))
    path = export_rig(rig, tmp_path / "hero", kind, bpy.context.scene, meshes=True)
    assert users_scene.state() == users_scene.before
    bpy.ops.object.mode_set(mode="OBJECT")
    known = set(bpy.data.objects)
    IMPORT[kind](str(path))
    again = [item for item in bpy.data.objects if item not in known]
    assert {item.type for item in again} == {"ARMATURE", "MESH"} and len(again) - len(_shapes(again)) == 2
    skin = next(item for item in again if item.type == "MESH" and item.find_armature())
    assert skin.name.startswith("Skin") and skin.find_armature() in again


@pytest.mark.parametrize("kind", ["FBX", "GLTF"])
def test_what_cannot_be_selected_or_is_off_in_viewports_is_written_all_the_same(motion, apply, tmp_path, kind):
    _, rig = apply(motion)
    mesh = _skin(rig)
    mesh.hide_select = rig.hide_viewport = True
    path = export_rig(rig, tmp_path / "hero", kind, bpy.context.scene, meshes=True)
    assert mesh.hide_select and rig.hide_viewport and not rig.hide_select and not mesh.hide_viewport
    known = set(bpy.data.objects)
    IMPORT[kind](str(path))
    again = [item for item in bpy.data.objects if item not in known]
    assert any(item.type == "MESH" and item.find_armature() in again for item in again)


def _skin(rig):
    """A triangle that the hips carry."""
    mesh = bpy.data.objects.new("Skin", bpy.data.meshes.new("Skin"))
    mesh.data.from_pydata([(0, 0, 1), (0.1, 0, 1), (0, 0.1, 1)], [], [(0, 1, 2)])
    mesh.vertex_groups.new(name="hips").add([0, 1, 2], 1.0, "REPLACE")
    mesh.modifiers.new("Armature", "ARMATURE").object = rig
    bpy.context.scene.collection.objects.link(mesh)
    return mesh


def _shapes(items):
    """What the glTF reader adds to show bones."""
    return [item for item in items if item.type == "MESH" and not item.find_armature()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
@pytest.mark.parametrize("kind", IMPORT)
def test_hips_that_hang_from_a_root_bone_keep_their_travelling(tmp_path, kind):
    data = bpy.data.armatures.new("Hero")
    rig = bpy.data.objects.new("Hero", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    # The root lies flat: Blender's older FBX reader connects, and thereby pins, a bone in line with its parent.
    for name, head, tail in (
        ("root", (0, 0, 0), (0, 0.2, 0)),
        ("hips", (0, 0, 0.9), (0, 0, 1.1)),
        ("spine", (0, 0, 1.1), (0, 0, 1.5)),
    ):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = head, tail
    data.edit_bones["hips"].parent = data.edit_bones["root"]
    data.edit_bones["spine"].parent = data.edit_bones["hips"]
    bpy.ops.object.mode_set(mode="OBJECT")
    for frame in (1, 11):
        rig.pose.bones["hips"].location = (0.1 * frame, 0.0, 0.0)
        rig.pose.bones["hips"].keyframe_insert("location", frame=frame)
    path = export_rig(rig, tmp_path / "out", kind, bpy.context.scene)
    known = set(bpy.data.objects)
    IMPORT[kind](str(path))
    again = next(item for item in bpy.data.objects if item not in known and item.type == "ARMATURE")
    first = round(again.animation_data.action.frame_range[0])
    places = []
    for frame in (first, first + 10):
        bpy.context.scene.frame_set(frame)
        places.append(heads(again)["spine"])
    assert np.allclose(places[1] - places[0], [1.0, 0.0, 0.0], atol=1e-3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
@pytest.mark.parametrize("kind", IMPORT)
def test_a_bare_armature_keeps_its_rest_pose_whatever_its_first_frame_shows(motion, apply, users_scene, tmp_path, kind):
    _, rig = apply(motion)
    hips = rig.pose.bones["hips"]
    hips.rotation_mode, hips.rotation_quaternion = "QUATERNION", (0.8, 0.6, 0.0, 0.0)
    first, last = rig.animation_data.action.frame_range
    hips.keyframe_insert("rotation_quaternion", frame=first)
    bpy.context.scene.frame_set(round(first))
    before = users_scene.state()
    path = export_rig(rig, tmp_path / "out", kind, bpy.context.scene)
    assert users_scene.state() == before and not rig.animation_data.nla_tracks
    assert tuple(rig.animation_data.action.frame_range) == (first, last)
    known = set(bpy.data.objects)
    IMPORT[kind](str(path))
    again = next(item for item in bpy.data.objects if item not in known and item.type == "ARMATURE")
    for name in ("forearm.L", "shin.R", "head"):
        ours = rig.matrix_world @ rig.data.bones[name].head_local
        theirs = again.matrix_world @ again.data.bones[name].head_local
        assert (ours - theirs).length < 2e-3, name
