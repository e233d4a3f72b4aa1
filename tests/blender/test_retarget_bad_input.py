"""Characters that are not as they should be: each works, or is refused with the bone's name and what to do."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest
from mathutils import Quaternion, Vector
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene.compat import curves_in
from understudy.tests.blender import armatures


@pytest.fixture
def clip(addon, motion, tmp_path):
    """A capture as a file, chosen in the panel."""
    motion.save(tmp_path / "walk.npz")
    panel = bpy.context.scene.understudy.retarget
    panel.source, panel.files.add().path = "FILES", str(tmp_path / "walk.npz")
    return tmp_path / "walk.npz"


@pytest.fixture
def hero(addon):
    """A character on Mixamo's skeleton, active."""
    return armatures.armature("mixamo")


def land():
    return bpy.ops.understudy.retarget()


def refused(rig):
    """The sentence; nothing was half-written."""
    before = datablocks()
    with pytest.raises(RuntimeError) as caught:
        land()
    assert datablocks() == before
    assert not (rig.animation_data and rig.animation_data.action)
    words = str(caught.value)
    assert "Unexpected" not in words
    return words


def datablocks():
    kinds = [kind.identifier for kind in bpy.data.bl_rna.properties if kind.type == "COLLECTION"]
    return {kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in kinds}


def remove(*stems):
    """Remove bones whose names end so; children go to the parents."""

    def change():
        bones = bpy.context.object.data.edit_bones
        for bone in list(bones):
            if bone.name.split(":")[-1] in stems:
                bones.remove(bone)

    armatures.edit(bpy.context.object, change)


def directions(rig, frame):
    """Directions of the bones in the world as Blender shows them."""
    bpy.context.scene.frame_set(frame)
    seen = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    turn = seen.matrix_world.to_3x3()
    return {bone.name: np.array((turn @ (bone.tail - bone.head)).normalized()) for bone in seen.pose.bones}


def same_directions(a, b, tolerance=1e-3):
    return all(np.abs(a[name] - b[name]).max() < tolerance for name in a)


def test_a_rig_without_a_spine_is_refused(hero, clip):
    remove("Spine", "Spine1", "Spine2", "Neck", "Head", "HeadTop_End")
    words = refused(hero)
    assert "spine" in words.lower()


def test_a_rig_with_two_heads_is_refused_by_their_names(hero, clip):
    def grow():
        bones, old = hero.data.edit_bones, {}
        for stem in ("Neck", "Head"):
            old[stem] = next(bone for bone in bones if bone.name.endswith(stem))
        for side, x in (("Left", 0.2), ("Right", -0.2)):
            for stem in ("Neck", "Head"):
                new = bones.new(f"{side} {stem}")
                new.head, new.tail = old[stem].head + Vector((x, 0, 0)), old[stem].tail + Vector((x, 0, 0))
                new.parent = bones[f"{side} Neck"] if stem == "Head" else old["Neck"].parent

    armatures.edit(hero, grow)
    remove("Neck", "Head", "HeadTop_End")
    words = refused(hero)
    assert "Left Head" in words and "Right Head" in words


def test_a_quadruped_is_refused(addon, clip):
    rig = quadruped()
    words = refused(rig)
    assert any(name in words for name in rig.data.bones.keys()), words  # noqa: SIM118 - no Python table


def quadruped():
    """A dog: a spine along -y with four legs below."""
    data = bpy.data.armatures.new("Dog")
    rig = bpy.data.objects.new("Dog", data)
    bpy.context.scene.collection.objects.link(rig)

    def change():
        def chain(names, points, parent=None):
            for name, head, tail in zip(names, points[:-1], points[1:], strict=True):
                bone = data.edit_bones.new(name)
                bone.head, bone.tail, bone.parent = head, tail, parent
                parent = bone
            return parent

        back = [(0, 0.5 - 0.25 * i, 0.6) for i in range(5)]
        chain(("croup", "loin", "back", "withers"), back)
        chain(("neck", "skull"), [(0, -0.5, 0.6), (0, -0.65, 0.8), (0, -0.85, 0.8)], data.edit_bones["withers"])
        chain(("tail1", "tail2"), [(0, 0.5, 0.6), (0, 0.7, 0.55), (0, 0.9, 0.5)], data.edit_bones["croup"])
        for side, x in (("l", 0.12), ("r", -0.12)):
            for end, y, parent in (("fore", -0.45, "withers"), ("hind", 0.45, "croup")):
                points = [(x, y, 0.55), (x, y + 0.05, 0.3), (x, y - 0.03, 0.06), (x, y - 0.1, 0.0)]
                chain([f"{end}{i}_{side}" for i in (1, 2, 3)], points, data.edit_bones[parent])

    armatures.edit(rig, change)
    return rig


def test_a_mirrored_scale_is_refused_and_says_what_to_do(hero, clip):
    hero.scale = (-1, 1, 1)
    words = refused(hero)
    assert "Hero" in words and "scale" in words.lower()


def test_a_non_uniform_scale_is_refused_and_says_what_to_do(hero, clip):
    hero.scale = (1, 1, 2)
    words = refused(hero)
    assert "Hero" in words and "scale" in words.lower() and "Apply" in words


def test_a_turned_and_evenly_scaled_character_moves_alike(hero, clip):
    land()
    plain = directions(hero, 12)
    hero.animation_data.action = None
    for bone in hero.pose.bones:
        bone.matrix_basis.identity()
    hero.scale = (0.01, 0.01, 0.01)
    land()
    assert tuple(hero.scale) == pytest.approx((0.01, 0.01, 0.01))
    assert same_directions(plain, directions(hero, 12))


def test_an_armature_without_bones_is_refused(addon, clip):
    rig = bpy.data.objects.new("Empty", bpy.data.armatures.new("Empty"))
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    assert "no bones" in refused(rig)


@pytest.fixture
def library(hero, tmp_path):
    """A character in a file of its own, linked into this one."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.objects = ["Hero"]
    bpy.context.scene.collection.objects.link(wanted.objects[0])
    return wanted.objects[0]


def choose(rig, motion, tmp_path):
    motion.save(tmp_path / "walk.npz")
    panel = bpy.context.scene.understudy.retarget
    panel.rig, panel.source, panel.files.add().path = rig, "FILES", str(tmp_path / "walk.npz")


def test_a_linked_character_is_refused_and_told_to_be_overridden(library, motion, tmp_path):
    choose(library, motion, tmp_path)
    words = refused(library)
    assert "Hero" in words and "override" in words


def test_an_overridden_character_works(library, motion, tmp_path):
    over = library.override_create(remap_local_usages=True)
    choose(over, motion, tmp_path)
    bpy.context.view_layer.update()
    assert land() == {"FINISHED"}
    assert over.animation_data.action and over.animation_data.action.library is None
    before = len(bpy.data.actions)
    over.understudy.tuning.arm_spread = 0.3
    assert len(bpy.data.actions) == before


def test_locked_channels_work_or_are_named(hero, clip):
    bone = next(bone for bone in hero.pose.bones if bone.name.endswith("LeftArm"))
    bone.lock_rotation = (True, False, False)
    try:
        assert land() == {"FINISHED"}
    except RuntimeError as error:
        assert bone.name in str(error)
    assert tuple(bone.lock_rotation) == (True, False, False)


def test_a_driven_bone_is_named(hero, clip):
    bone = next(bone for bone in hero.pose.bones if bone.name.endswith("LeftForeArm"))
    bone.rotation_mode = "XYZ"
    bone.driver_add("rotation_euler", 0).driver.expression = "0.5"
    from understudy.operators.landing import LANDINGS

    try:
        land()
        words = " ".join(LANDINGS.of(hero).notes)
    except RuntimeError as error:
        words = str(error)
    assert bone.name in words


@pytest.mark.parametrize("mode", ["XYZ", "ZYX", "YXZ", "AXIS_ANGLE"])
def test_rotation_modes_of_the_users_are_kept_and_look_alike(hero, clip, mode):
    land()
    plain = [directions(hero, frame) for frame in (1, 12)]
    hero.animation_data.action = None
    for bone in hero.pose.bones:
        bone.matrix_basis.identity()
        bone.rotation_mode = mode
    land()
    assert {bone.rotation_mode for bone in hero.pose.bones} == {mode}
    name = "rotation_axis_angle" if mode == "AXIS_ANGLE" else "rotation_euler"
    rotations = {c.data_path.rpartition(".")[2] for c in curves_in(hero.animation_data.action, hero)} - {"location"}
    assert rotations == {name}
    for frame, there in zip((1, 12), plain, strict=True):
        assert same_directions(there, directions(hero, frame))


def test_an_action_with_euler_keys_is_stashed_as_it_is(hero, clip):
    bone = hero.pose.bones[0]
    bone.rotation_mode = "XYZ"
    bone.rotation_euler = (0.1, 0.2, 0.3)
    bone.keyframe_insert("rotation_euler", frame=3)
    theirs = hero.animation_data.action
    before = [[tuple(key.co) for key in curve.keyframe_points] for curve in curves_in(theirs, hero)]
    land()
    assert hero.animation_data.action != theirs and bone.rotation_mode == "XYZ"
    stashed = [strip.action for track in hero.animation_data.nla_tracks for strip in track.strips]
    assert stashed == [theirs] and all(track.mute for track in hero.animation_data.nla_tracks)
    hero.animation_data.action = theirs
    assert [[tuple(key.co) for key in curve.keyframe_points] for curve in curves_in(theirs, hero)] == before


def test_a_pose_that_was_left_on_the_rig_does_not_come_through(hero, clip):
    land()
    plain = directions(hero, 12)
    hero.animation_data.action = None
    for bone in hero.pose.bones:
        bone.matrix_basis = Quaternion((0.9, 0.1, 0.2, 0.3)).normalized().to_matrix().to_4x4()
    land()
    keyed = {
        curve.data_path.split('"')[1] for curve in curves_in(hero.animation_data.action, hero) if '"' in curve.data_path
    }
    after = directions(hero, 12)
    assert all(np.abs(plain[name] - after[name]).max() < 1e-3 for name in keyed if "Thumb" not in name)


def test_names_of_any_script_and_quotes_work(hero, clip):
    names = {}
    for number, bone in enumerate(hero.data.bones):
        if bone.name.endswith(("LeftArm", "Spine", "RightLeg")):
            names[bone.name] = f'骨 "{number}" \\ x'
    bpy.ops.understudy.detect_mapping()
    for old, new in names.items():
        hero.data.bones[old].name = new
        for row in hero.understudy.bones:
            if row.bone == old:
                bpy.context.scene.understudy.retarget.mirror = False
                row.bone = new
    assert land() == {"FINISHED"}
    assert all(c.is_valid for c in curves_in(hero.animation_data.action, hero))


@pytest.mark.parametrize("address", ["../canary.bin", "\\\\127.0.0.1\\share\\x", "file:///etc/passwd", "missing.bin"])
def test_a_gltf_file_that_leads_out_of_its_folder_is_not_opened(addon, tmp_path, address):
    from understudy.operators.scene.importers import imported

    table = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": 1, "uri": address}]}
    (tmp_path / "canary.bin").write_bytes(b"x")
    path = tmp_path / "in" / "a.gltf"
    path.parent.mkdir()
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="outside of its folder|is not there"), imported(path):
        pass
