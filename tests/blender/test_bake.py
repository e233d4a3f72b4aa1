"""Motions keyed onto characters, compared with what Blender then shows."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Vector
from understudy.inference.core.mapping.mapper import map_rig
from understudy.inference.core.retarget import Retargeter
from understudy.inference.core.rig import HUMANOID_MAPPING, IkLimb
from understudy.inference.core.timing import Timing, place
from understudy.inference.protocol.errors import InputError
from understudy.inference.protocol.retarget import RetargetSettings
from understudy.operators.scene.bake import BakeResult, bake, update, verify
from understudy.operators.scene.compat import curves_in
from understudy.operators.scene.evaluate import evaluated
from understudy.operators.scene.rig import read_character
from understudy.tests.rigs import made

from . import armatures
from .test_rig import in_centimetres, in_place, link, of_fbx, under_a_parent

FREE = RetargetSettings(lock_feet=0.0, floor=False)
MODES = ("QUATERNION", "XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "AXIS_ANGLE")


class Landed:
    """A performance on a character, baked."""

    def __init__(self, item, mapping=None, settings=FREE, performance=None, **options) -> None:
        character = read_character(item)
        self.item, self.mapping = item, mapping or map_rig(character.rig).mapping
        self.character = read_character(item, self.mapping)
        self.performance = performance or calm(8)
        self.retargeter = Retargeter(self.performance, self.character.rig, self.mapping)
        self.motion = self.retargeter.solve(settings)
        timing = place(self.performance.times, scene_fps=24.0, start=1.0, rate="FRAMES")
        self.result = bake(self.character, self.motion, settings, timing, name="Take", **options)

    def again(self, settings) -> None:
        self.motion = self.retargeter.solve(settings)
        update(self.result, self.motion, settings)

    def worst(self, frames: int = 4) -> tuple[float, float]:
        """Largest error of a bone, degrees and millimetres."""
        errors = np.array(list(verify(self.character, self.motion, frames, timing=self.result.timing).values()))
        return float(errors[:, 0].max()), float(errors[:, 1].max())

    def shown(self) -> np.ndarray:
        """(T, B, 4, 4) every bone in the world at every frame of the action."""
        return evaluated(self.item, self.result.timing.frames, [bone.name for bone in self.item.pose.bones])[0]


def calm(frames: int):
    """A motion that any rig follows, going somewhere."""
    vectors = np.random.default_rng(3).normal(size=(2, 21, 3))
    phase = np.linspace(0.0, 2.0, frames)[:, None]
    names = [bone for role in ("upper_arm.L", "forearm.R", "thigh.L", "shin.R", "spine", "head", "hand.L", "hips")
             for bone in HUMANOID_MAPPING.bones[role]]  # fmt: skip
    turns = {name: 0.6 * np.sin(phase + k) * vectors[0, k] for k, name in enumerate(names)}
    performance = made.gesture(turns, frames)
    away = np.concatenate([0.5 * phase, -0.7 * phase, 0.0 * phase], axis=1)[:, None]
    return replace(performance, heads=performance.heads + away)


def hero():
    return armatures.build(made.humanoid(), "Hero")


def keys(item) -> dict[tuple[str, int], np.ndarray]:
    return keys_of(item.animation_data.action, item)


def keys_of(action, item) -> dict[tuple[str, int], np.ndarray]:
    found = {}
    for curve in curves_in(action, item):
        values = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", values)
        found[curve.data_path, curve.array_index] = values.reshape(-1, 2)
    return found


# Where it ends up ----------------------------------------------------------------------------------------------------


def test_what_is_off_in_viewports_is_verified_as_what_is_shown():
    landed = Landed(armatures.armature())
    landed.item.hide_viewport = True
    bpy.context.view_layer.update()
    errors = verify(landed.character, landed.motion, timing=landed.result.timing)
    assert max(degrees for degrees, _ in errors.values()) < 0.1 and landed.item.hide_viewport


@pytest.mark.parametrize("moved", [in_place, of_fbx, under_a_parent, in_centimetres])
def test_blender_shows_what_was_solved_wherever_the_character_stands(moved) -> None:
    item = armatures.armature("mixamo")
    moved(item)
    bpy.context.view_layer.update()
    angle, distance = Landed(item).worst()
    assert angle < 0.05 and distance < 0.1


@pytest.mark.parametrize("mode", MODES)
def test_every_rotation_mode_stays_and_shows_the_same_pose(mode) -> None:
    item = hero()
    for bone in item.pose.bones:
        bone.rotation_mode = mode
    landed = Landed(item, HUMANOID_MAPPING, performance=made.random_performance(12, spread=1.2))
    angle, distance = landed.worst(12)
    assert angle < 0.05 and distance < 0.05
    assert {bone.rotation_mode for bone in item.pose.bones} == {mode}


@pytest.mark.parametrize("mode", ["XYZ", "AXIS_ANGLE"])
def test_angles_do_not_jump_between_frames(mode) -> None:
    item = hero()
    item.pose.bones["hips"].rotation_mode = mode
    spin = np.linspace(0.0, 4 * np.pi, 40)[:, None] * [0.0, 1.0, 0.0]
    landed = Landed(item, HUMANOID_MAPPING, performance=made.gesture({"hips": spin}, 40))
    steps = [np.abs(np.diff(values[:, 1])).max() for (path, _), values in keys(item).items()
             if path.startswith('pose.bones["hips"].rotation')]  # fmt: skip
    assert max(steps) < 0.5
    assert landed.worst(40)[0] < 0.05


def test_bones_that_ignore_their_parents_rotation_or_axes_follow_all_the_same() -> None:
    item = hero()
    armatures.edit(item, lambda: _root_above(item.data))
    bones = item.data.bones
    for name in ("hand.L", "head", "foot.R"):
        bones[name].use_inherit_rotation = False
    bones["hips"].use_local_location = False
    angle, distance = Landed(item, HUMANOID_MAPPING).worst()
    assert angle < 0.05 and distance < 0.05


def _root_above(data) -> None:
    root = data.edit_bones.new("root")
    root.tail = (0.1, 0.2, 0.05)
    data.edit_bones["hips"].parent = root


def test_hips_that_are_connected_to_their_parent_are_told_of() -> None:
    item = hero()
    armatures.edit(item, lambda: _connected_root(item.data))
    landed = Landed(item, HUMANOID_MAPPING)
    assert any("hips" in note and "connected" in note for note in landed.result.notes)
    assert landed.worst()[0] < 0.05


def _connected_root(data) -> None:
    root, hips = data.edit_bones.new("root"), data.edit_bones["hips"]
    root.head, root.tail = hips.head - Vector((0.0, 0.0, 0.5)), hips.head
    hips.parent, hips.use_connect = root, True


@pytest.mark.parametrize("root", ["bone", "object"])
def test_travelling_by_the_root_or_the_object_ends_at_the_same_place(root) -> None:
    item = armatures.armature("mixamo")
    armatures.edit(item, lambda: _root_above_mixamo(item.data))
    under_a_parent(item)
    item.rotation_mode = "ZYX"
    bpy.context.view_layer.update()
    mapping = map_rig(read_character(item).rig).mapping.with_chain("root", ("root",))
    landed = Landed(item, mapping)
    wanted = landed.shown()
    landed.again(replace(FREE, root=root, root_turn=True, root_axes="xyz"))
    assert landed.worst()[0] < 0.05 and landed.worst()[1] < 0.1
    rows = [item.pose.bones.find(landed.character.rig.names[row]) for row in landed.motion.keyed
            if landed.character.rig.names[row] != "root"]  # fmt: skip
    assert np.abs(landed.shown()[:, rows] - wanted[:, rows]).max() < 2e-4
    bpy.context.scene.frame_set(5)  # as a viewport that shows it leaves its pose with the character
    landed.again(FREE)
    assert np.abs(landed.shown()[:, rows] - wanted[:, rows]).max() < 2e-4


def test_an_object_that_is_not_shown_travels_as_far_as_its_parent_lets_it(tmp_path) -> None:
    item = armatures.armature("mixamo")
    under_a_parent(item)
    name, item.hide_viewport, item.parent.hide_viewport = item.name, True, True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "off.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "off.blend"))  # Blender keeps no place of what is not shown
    landed = Landed(bpy.data.objects[name], settings=replace(FREE, root="object", root_axes="xyz"))
    assert landed.worst()[0] < 0.05 and landed.worst()[1] < 0.1


def _root_above_mixamo(data) -> None:
    root = data.edit_bones.new("root")
    root.tail = (0.0, 0.2, 0.0)
    data.edit_bones["mixamorig:Hips"].parent = root


def test_in_place_only_the_travelling_is_missing() -> None:
    landed = Landed(hero(), HUMANOID_MAPPING)
    wanted = landed.shown()
    landed.again(replace(FREE, root="in-place"))
    shown = landed.shown()
    assert np.abs(shown[..., :3, :3] - wanted[..., :3, :3]).max() < 1e-4
    hips = landed.item.pose.bones.find("hips")
    assert np.ptp(shown[:, hips, :2, 3], axis=0).max() < 1e-3 < np.ptp(wanted[:, hips, :2, 3], axis=0).max()


def test_a_library_override_performs(tmp_path) -> None:
    own = link(tmp_path).override_create(remap_local_usages=True)
    assert Landed(own).worst()[0] < 0.05


# What is touched -----------------------------------------------------------------------------------------------------


def state(item) -> dict:
    """Everything but the action."""
    return {
        "modes": [bone.rotation_mode for bone in item.pose.bones],
        "constraints": [[c.name for c in bone.constraints] for bone in item.pose.bones],
        "locks": [tuple(bone.lock_rotation) for bone in item.pose.bones],
        "rest": [tuple(map(tuple, bone.matrix_local)) for bone in item.data.bones],
        "bones": [[bone.use_connect, bone.use_inherit_rotation, bone.use_local_location] for bone in item.data.bones],
        "object": (tuple(item.location), tuple(item.rotation_euler), tuple(item.scale), item.rotation_mode),
        "properties": {key: str(value) for key, value in item.items()},
        "scene": (bpy.context.scene.frame_current, bpy.context.scene.frame_start, len(bpy.data.scenes)),
    }


def test_only_mapped_bones_are_keyed_and_nothing_else_changes() -> None:
    item = armatures.armature("mixamo")
    item.pose.bones["mixamorig:LeftArm"].lock_rotation = (True, True, True)
    before = state(item)
    landed = Landed(item)
    assert state(item) == before
    mapped = set(landed.mapping.role_of())
    assert {path.split('"')[1] for path, _ in keys(item)} <= mapped
    action = item.animation_data.action
    assert tuple(action.frame_range) == (1.0, 8.0) and action.asset_data is None
    verify(landed.character, landed.motion)
    assert state(item) == before


def test_the_users_action_is_stashed_whole_with_its_slot() -> None:
    item = hero()
    item.pose.bones["head"].rotation_mode = "YZX"
    for frame, angle in ((3, 0.1), (20, 7.5)):
        item.pose.bones["head"].rotation_euler = (angle, 0.2, -angle)
        item.pose.bones["head"].keyframe_insert("rotation_euler", frame=frame)
    theirs, slot = item.animation_data.action, getattr(item.animation_data, "action_slot", None)
    kept, handle = keys(item), getattr(slot, "handle", None)
    Landed(item, HUMANOID_MAPPING)
    animation = item.animation_data
    assert animation.action != theirs
    (track,) = animation.nla_tracks
    (strip,) = track.strips
    assert track.mute and strip.action == theirs and strip.frame_start == 3
    assert getattr(getattr(strip, "action_slot", None), "handle", None) == handle
    assert {path: values.tolist() for path, values in keys_of(theirs, item).items()} == {
        path: values.tolist() for path, values in kept.items()
    }
    assert item.pose.bones["head"].rotation_mode == "YZX"


def test_an_unstashed_action_is_not_lost() -> None:
    item = hero()
    item.pose.bones["head"].keyframe_insert("location", frame=1)
    theirs = item.animation_data.action
    Landed(item, HUMANOID_MAPPING, stash=False)
    assert theirs.use_fake_user and len(item.animation_data.nla_tracks) == 0


def test_an_asset_is_marked() -> None:
    item = hero()
    Landed(item, HUMANOID_MAPPING, asset=True)
    assert item.animation_data.action.asset_data is not None


def test_a_bake_that_fails_half_way_leaves_nothing() -> None:
    item = hero()
    item.pose.bones["head"].keyframe_insert("location", frame=1)
    landed_on = read_character(item)
    motion = Retargeter(calm(8), landed_on.rig, HUMANOID_MAPPING).solve(FREE)
    animation = item.animation_data
    theirs, handle = animation.action, getattr(animation, "action_slot_handle", 0)
    short = Timing(np.arange(1.0, 6.0), np.arange(5.0), False)  # fewer frames than the motion has
    with pytest.raises(ValueError):
        bake(landed_on, motion, FREE, short, name="Take")
    assert animation.action == theirs and getattr(animation, "action_slot_handle", 0) == handle
    assert len(animation.nla_tracks) == 0 and list(bpy.data.actions) == [theirs] and not theirs.use_fake_user


def test_tweak_mode_is_refused_and_nothing_changes() -> None:
    item = hero()
    item.pose.bones["head"].keyframe_insert("location", frame=1)
    animation = item.animation_data
    theirs = animation.action
    animation.nla_tracks.new().strips.new("Strip", 1, theirs)
    animation.action = None
    animation.nla_tracks[0].select = animation.nla_tracks[0].strips[0].select = True
    animation.nla_tracks.active = animation.nla_tracks[0]
    animation.use_tweak_mode = True
    assert animation.use_tweak_mode
    before = list(bpy.data.actions)
    with pytest.raises(InputError, match="tweak mode"):
        Landed(item, HUMANOID_MAPPING)
    assert list(bpy.data.actions) == before and len(animation.nla_tracks) == 1


# Fewer keys, and settings that change ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["QUATERNION", "ZXY", "AXIS_ANGLE"])
def test_fewer_keys_stay_within_the_tolerances_at_every_frame(mode) -> None:
    item = hero()
    for bone in item.pose.bones:
        bone.rotation_mode = mode
    landed = Landed(item, HUMANOID_MAPPING, performance=calm(90))
    dense, count = landed.shown(), sum(len(values) for values in keys(item).values())
    landed.again(replace(FREE, reduce=True, tolerance_deg=0.5, tolerance_mm=2.0))
    thin = landed.shown()
    assert sum(len(values) for values in keys(item).values()) < 0.3 * count
    rest = np.array([bone.matrix_local for bone in item.data.bones])
    for row, bone in enumerate(item.data.bones):
        above = item.data.bones.find(bone.parent.name) if bone.parent else None
        own, was = (local(shown, rest, row, above) for shown in (thin, dense))
        turn = np.swapaxes(own[:, :3, :3], 1, 2) @ was[:, :3, :3]
        angle = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
        assert angle.max() < 0.52, bone.name
        assert np.linalg.norm(own[:, :3, 3] - was[:, :3, 3], axis=1).max() < 0.00205, bone.name
    landed.again(FREE)
    assert np.abs(landed.shown() - dense).max() < 1e-5


def local(shown, rest, row, above):
    """(T, 4, 4) a bone's own motion relative to its parent's."""
    if above is None:
        return np.linalg.inv(rest[row]) @ shown[:, row]
    return np.linalg.inv(shown[:, above] @ np.linalg.inv(rest[above]) @ rest[row]) @ shown[:, row]


def test_other_settings_rewrite_the_same_action() -> None:
    item = hero()
    landed = Landed(item, HUMANOID_MAPPING)
    action, before = item.animation_data.action, keys(item)
    landed.again(replace(FREE, arm_spread=0.4))
    after = keys(item)
    assert item.animation_data.action == action and list(bpy.data.actions) == [action]
    changed = {path.split('"')[1] for path, index in after
               if not np.array_equal(after[path, index], before[path, index])}  # fmt: skip
    assert "upper_arm.L" in changed and not changed & {"thigh.L", "head", "spine"}
    assert landed.worst()[0] < 0.05
    fresh = Landed(hero(), HUMANOID_MAPPING, replace(FREE, arm_spread=0.4))
    assert all(np.allclose(values, after[path], atol=1e-6) for path, values in keys(fresh.item).items())


def test_keys_are_written_anew_after_they_were_changed_by_others() -> None:
    item = hero()
    landed = Landed(item, HUMANOID_MAPPING)
    for curve in curves_in(item.animation_data.action, item):
        for point in curve.keyframe_points:
            point.co.y += 0.3
    landed.result.forget()
    landed.again(FREE)
    assert landed.worst()[0] < 0.05


def test_a_bake_of_a_single_frame_is_a_pose() -> None:
    landed = Landed(hero(), HUMANOID_MAPPING, performance=made.random_performance(1, spread=0.3))
    assert landed.worst()[0] < 0.05
    landed.again(replace(FREE, reduce=True))
    assert landed.worst()[0] < 0.05


def test_a_character_that_was_deleted_is_named() -> None:
    landed = Landed(hero(), HUMANOID_MAPPING)
    bpy.data.objects.remove(landed.item)
    with pytest.raises(InputError, match="Hero is not there any more"):
        update(landed.result, landed.motion, FREE)
    assert isinstance(landed.result, BakeResult)


# Inverse kinematics ---------------------------------------------------------------------------------------------------


def with_constraints(item) -> None:
    """Targets and poles in the armature, and IK constraints on forearms and shins."""
    limbs = [("hand", "upper_arm", "forearm", 0.5), ("foot", "thigh", "shin", -0.5)]
    armatures.edit(item, lambda: [_controls(item.data, *limb) for limb in limbs])
    for end, upper, middle, _ in limbs:
        for side in "LR":
            constraint = item.pose.bones[f"{middle}.{side}"].constraints.new("IK")
            constraint.target = constraint.pole_target = item
            constraint.subtarget, constraint.pole_subtarget = f"{end}_ik.{side}", f"{end}_pole.{side}"
            constraint.chain_count = 2
            constraint.pole_angle = _pole_angle(
                item.data.bones, f"{upper}.{side}", f"{middle}.{side}", f"{end}_pole.{side}"
            )


def _controls(data, end, upper, middle, away) -> None:
    for side in "LR":
        elbow = data.edit_bones[f"{middle}.{side}"].head + Vector((0.0, away, 0.0))
        places = {f"{end}_ik.{side}": data.edit_bones[f"{end}.{side}"].head, f"{end}_pole.{side}": elbow}
        for name, head in places.items():
            bone = data.edit_bones.new(name)
            bone.head, bone.tail = head, head + Vector((0.0, 0.0, 0.1))


def _pole_angle(bones, upper, middle, pole) -> float:
    upper, middle, pole = bones[upper], bones[middle], bones[pole]
    along = upper.tail_local - upper.head_local
    normal = (middle.tail_local - upper.head_local).cross(pole.head_local - upper.head_local)
    axis, x = normal.cross(along), upper.matrix_local.to_3x3() @ Vector((1, 0, 0))
    angle = x.angle(axis)
    return -angle if x.cross(axis).angle(along) < 1 else angle


def test_limbs_with_inverse_kinematics_of_their_own_follow() -> None:
    plain = Landed(hero(), HUMANOID_MAPPING, performance=calm(20))
    wanted = plain.shown()
    item = armatures.build(made.humanoid(), "Puppet")
    with_constraints(item)
    landed = Landed(item, HUMANOID_MAPPING, performance=calm(20))
    assert any("hand_ik.L" in path for path, _ in keys(item))
    shown = landed.shown()
    for bone in plain.item.pose.bones:
        a = shown[:, item.pose.bones.find(bone.name), :3, 1]
        b = wanted[:, plain.item.pose.bones.find(bone.name), :3, 1]
        angle = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))
        assert angle.max() < 1.0, bone.name


def test_targets_that_ignore_rotation_or_hang_from_a_root_are_where_hands_are() -> None:
    item = hero()
    with_constraints(item)
    armatures.edit(item, lambda: _hang(item.data, "hand_ik.L", "chest"))
    item.data.bones["hand_ik.L"].use_inherit_rotation = False
    item.data.bones["hand_ik.R"].use_local_location = False
    ik = tuple(IkLimb(f"{end}.{side}", f"{end}_ik.{side}", f"{end}_pole.{side}")
               for end in ("hand", "foot") for side in "LR")  # fmt: skip
    landed = Landed(item, replace(HUMANOID_MAPPING, ik=ik), performance=calm(20))
    shown, index = landed.shown(), item.pose.bones.find
    for limb in ik:
        target, end = shown[:, index(limb.target), :3, 3], landed.motion.heads[:, landed.character.rig.index[limb.role]]
        assert np.abs(target - end).max() < 2e-4, limb.target


def _hang(data, name, parent) -> None:
    data.edit_bones[name].parent = data.edit_bones[parent]


def test_without_either_kinematics_only_the_other_is_keyed() -> None:
    item = hero()
    with_constraints(item)
    Landed(item, HUMANOID_MAPPING, replace(FREE, ik=False))
    assert not any("_ik." in path for path, _ in keys(item))
    Landed(item, HUMANOID_MAPPING, replace(FREE, fk=False))
    assert not any("forearm" in path for path, _ in keys(item)) and any("_ik." in path for path, _ in keys(item))
