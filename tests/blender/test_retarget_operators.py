"""What an animator sees and presses to get a performance onto a character of their own."""

from __future__ import annotations

import time

import bpy
import numpy as np
import pytest
from understudy.inference.core.mapping.presets import mappings, read_mapping
from understudy.operators import mapping as mapping_operators
from understudy.operators.landing import LANDINGS
from understudy.operators.scene.compat import curves_in
from understudy.tests.blender import armatures, motions
from understudy.tests.blender.buttons import fails, why_grey


@pytest.fixture
def clip(addon, motion, tmp_path):
    """A capture as a file."""
    motion.with_header(sources=["/films/walk.mp4"]).save(tmp_path / "walk.npz")
    return tmp_path / "walk.npz"


@pytest.fixture
def hero(addon):
    """A character on Mixamo's skeleton, active."""
    return armatures.armature("mixamo")


def retarget():
    return bpy.context.scene.understudy.retarget


def choose(source, rig=None):
    """Choose source and character in the panel."""
    panel = retarget()
    panel.rig, panel.source = rig, "FILES"
    panel.files.clear()
    panel.files.add().path = str(source)


def land(source, rig=None, **options):
    """Choose, and press Retarget; one undo step."""
    choose(source, rig)
    return bpy.ops.understudy.retarget("EXEC_DEFAULT", True, **options)


def keys(rig):
    """Every key of what an armature plays."""
    found = {}
    for curve in curves_in(rig.animation_data.action, rig):
        values = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", values)
        found[curve.data_path, curve.array_index] = values
    return found


def same(a, b, tolerance=2e-5):
    return a.keys() == b.keys() and all(np.abs(a[name] - b[name]).max() < tolerance for name in a)


def untouched(rig):
    """What must stay of a rig whatever happens."""
    return {
        "modes": [bone.rotation_mode for bone in rig.pose.bones],
        "rest": [tuple(map(tuple, bone.matrix_local)) for bone in rig.data.bones],
        "constraints": [[c.name for c in bone.constraints] for bone in rig.pose.bones],
        "scale": tuple(rig.scale),
        "frame": bpy.context.scene.frame_current,
        "rate": bpy.context.scene.render.fps,
        "range": (bpy.context.scene.frame_start, bpy.context.scene.frame_end),
        "actions": sorted(action.name for action in bpy.data.actions),
        "objects": sorted(item.name for item in bpy.data.objects),
    }


# Grey buttons --------------------------------------------------------------------------------------------------------


def test_retargeting_without_a_character_is_grey_and_says_so(addon):
    assert "Select the character's armature" in why_grey(bpy.ops.understudy.retarget)


def test_retargeting_without_a_source_is_grey_and_says_what_is_missing(hero):
    assert "No capture is finished yet" in why_grey(bpy.ops.understudy.retarget)
    retarget().source = "FILES"
    assert "Add a clip or a folder" in why_grey(bpy.ops.understudy.retarget)
    retarget().source = "ARMATURE"
    assert "Choose the armature whose motion" in why_grey(bpy.ops.understudy.retarget)
    retarget().armature = hero
    assert "the same armature" in why_grey(bpy.ops.understudy.retarget)


def test_retargeting_in_edit_mode_is_grey_and_says_so(hero):
    bpy.ops.object.mode_set(mode="EDIT")
    assert "Leave Edit Mode first" in why_grey(bpy.ops.understudy.retarget)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pick_bone", "Detect the mapping first"),
        ("clear_bone", "Detect the mapping first"),
        ("save_mapping", "Detect the mapping first"),
        ("remove_source", "There is no clip to remove"),
        ("open_contacts", "Retarget the character first"),
    ],
)
def test_a_grey_button_says_why(hero, name, reason):
    assert reason in why_grey(getattr(bpy.ops.understudy, name))


# Landing -------------------------------------------------------------------------------------------------------------


def test_a_clip_becomes_an_action_of_the_character_and_only_mapped_bones_are_keyed(hero, clip):
    before = untouched(hero)
    assert land(clip) == {"FINISHED"}
    assert hero.animation_data.action.name.startswith("walk")
    mapped = set(mapping_operators.mapping_of(hero).role_of())
    keyed = {path.split('"')[1] for path, _ in keys(hero) if path.startswith("pose.bones")}
    assert keyed <= mapped and len(keyed) > 40
    after = untouched(hero)
    assert after.pop("actions") != before.pop("actions") and after == before


def test_the_action_that_was_there_is_stashed_whole(hero, clip):
    theirs = bpy.data.actions.new("Theirs")
    hero.animation_data_create().action = theirs
    land(clip)
    assert hero.animation_data.action != theirs
    assert [strip.action for track in hero.animation_data.nla_tracks for strip in track.strips] == [theirs]


def test_retargeting_is_one_undo_step(hero, clip):
    bpy.ops.ed.undo_push(message="before")
    land(clip)
    assert bpy.data.actions
    bpy.ops.ed.undo()
    hero = bpy.data.objects["Hero"]
    assert not bpy.data.actions and not (hero.animation_data and hero.animation_data.action)
    assert LANDINGS.of(hero) is None
    bpy.ops.ed.redo()
    hero = bpy.data.objects["Hero"]
    assert hero.animation_data.action and LANDINGS.of(hero) is not None


def test_a_click_on_the_skin_means_its_armature(hero, clip):
    bpy.context.view_layer.objects.active = armatures.skin(hero)
    land(clip)
    assert hero.animation_data.action


def test_the_panels_source_may_be_another_armature(hero, clip):
    bpy.ops.understudy.apply_motion(filepath=str(clip), take="Captured")
    retarget().rig, retarget().source = hero, "ARMATURE"
    retarget().armature = bpy.data.objects["Captured"]
    theirs = bpy.data.objects["Captured"].animation_data.action
    bpy.ops.understudy.retarget()
    assert hero.animation_data.action and hero.animation_data.action != theirs
    assert bpy.data.objects["Captured"].animation_data.action == theirs


def test_an_armature_cannot_be_its_own_source(hero, clip):
    land(clip)
    retarget().source, retarget().armature = "ARMATURE", hero
    with pytest.raises(RuntimeError, match="same armature"):
        bpy.ops.understudy.retarget()


def test_a_chosen_character_that_was_deleted_is_a_sentence(hero, clip):
    choose(clip, hero)
    hero.select_set(True)
    bpy.ops.object.delete()
    assert retarget().rig == hero, "Blender keeps what a panel names"
    assert "was deleted" in fails(bpy.ops.understudy.retarget)


def test_several_clips_become_an_action_each_and_a_bad_one_is_named(hero, motion, tmp_path, addon):
    for name in ("a", "b"):
        motion.save(tmp_path / "clips" / f"{name}.npz")
    (tmp_path / "clips" / "broken.npz").write_bytes(b"no")
    bpy.ops.understudy.add_sources(directory=str(tmp_path / "clips"))
    assert retarget().source == "FILES" and len(retarget().files) == 1
    bpy.ops.understudy.retarget()
    assert {action.name for action in bpy.data.actions} == {"a", "b"}
    stashed = [strip.action.name for track in hero.animation_data.nla_tracks for strip in track.strips]
    assert hero.animation_data.action.name == "b" and stashed == ["a"]


def test_actions_are_marked_as_assets_where_asked(hero, clip):
    land(clip, asset=True, take="Hero walks")
    assert bpy.data.actions["Hero walks"].asset_data is not None


def test_files_that_are_no_clips_are_refused_and_nothing_is_added(hero, tmp_path):
    for name in ("a.bvh", "b.txt"):
        (tmp_path / name).touch()
    files = [{"name": "a.bvh"}, {"name": "b.txt"}]
    assert "b.txt is no clip" in fails(bpy.ops.understudy.add_sources, directory=str(tmp_path), files=files)
    assert not retarget().files


def test_a_source_that_is_not_there_is_a_sentence_and_nothing_changes(hero, tmp_path):
    before = untouched(hero)
    assert "nothing.bvh" in fails(land, source=tmp_path / "nothing.bvh")
    assert untouched(hero) == before


# Sliders -------------------------------------------------------------------------------------------------------------


def test_a_slider_changes_the_same_action_at_once(hero, clip):
    land(clip)
    action, before = hero.animation_data.action, keys(hero)
    hero.understudy.tuning.arm_spread = 0.3
    after = keys(hero)
    assert hero.animation_data.action == action and len(bpy.data.actions) == 1
    changed = {path.split('"')[1] for (path, i) in after if not np.array_equal(after[path, i], before[path, i])}
    assert any("Arm" in name for name in changed) and not any("Leg" in name for name in changed)
    hero.understudy.tuning.arm_spread = 0.0
    assert same(keys(hero), before)


def test_a_slider_gives_what_retargeting_with_it_gives(hero, clip):
    land(clip)
    hero.understudy.tuning.leg_spread = 0.2
    hero.understudy.tuning.root = "in-place"
    followed = keys(hero)
    land(clip)
    assert not LANDINGS.trouble and same(keys(hero), followed)


def test_landing_again_where_the_object_travels_begins_at_the_same_place(hero, clip):
    hero.location = (1.0, 2.0, 0.0)
    hero.understudy.tuning.root = "object"
    land(clip)
    before = keys(hero)
    bpy.context.scene.frame_set(15)
    land(clip)
    assert same(keys(hero), before)
    hero.understudy.tuning.root = "hips"
    bpy.context.scene.frame_set(15)
    assert tuple(hero.location) == (1.0, 2.0, 0.0), "an object that no longer travels is where it was"
    assert not any(path == "location" for path, _ in keys(hero))


def test_every_slider_can_be_moved(addon, clip):
    from understudy.inference.protocol import schema
    from understudy.inference.protocol.retarget import RetargetSettings

    hero = armatures.armature("game_engine")  # it has a root bone
    land(clip)
    tuning = hero.understudy.tuning
    for item in schema.properties(RetargetSettings):
        choices = [choice[0] for choice in item.keywords.get("items", ())]
        for value in choices or {"BoolProperty": (True, False)}.get(item.kind, (0.15, 0.5)):
            setattr(tuning, item.name, value)
            assert not LANDINGS.trouble, (item.name, value, LANDINGS.trouble)


def test_a_slider_that_cannot_be_followed_says_why_and_leaves_the_action(hero, clip):
    land(clip)
    before = keys(hero)
    hero.understudy.tuning.root = "bone"
    assert "has no root bone" in LANDINGS.trouble and same(keys(hero), before)
    hero.understudy.tuning.root = "hips"
    assert not LANDINGS.trouble


def test_sliders_are_the_characters_own(hero, clip):
    other = armatures.armature("game_engine", called="Other")
    for name in ("Hero", "Other"):
        land(clip, bpy.data.objects[name])
    before = keys(other)
    hero.understudy.tuning.arm_spread = 0.3
    assert same(keys(other), before) and other.understudy.tuning.arm_spread == 0


def test_a_slider_leaves_every_other_action_alone(hero, clip):
    land(clip)
    landed, before = hero.animation_data.action, keys(hero)
    hero.animation_data.action = bpy.data.actions.new("Theirs")
    hero.understudy.tuning.arm_spread = 0.3
    hero.animation_data.action = landed
    assert same(keys(hero), before)


def test_a_slider_after_undo_does_nothing_and_after_redo_works(hero, clip):
    bpy.ops.ed.undo_push(message="before")
    land(clip)
    bpy.ops.ed.undo()
    bpy.data.objects["Hero"].understudy.tuning.arm_spread = 0.3
    assert not bpy.data.actions
    bpy.data.objects["Hero"].understudy.tuning.arm_spread = 0.0
    land(clip)
    hero = bpy.data.objects["Hero"]
    before = keys(hero)
    hero.understudy.tuning.arm_spread = 0.3
    assert not same(keys(hero), before)


def test_a_slider_spares_an_action_that_was_edited_by_hand_and_says_so(hero, clip):
    land(clip)
    hero.understudy.tuning.arm_spread = 0.1
    LANDINGS._changed_s = 0.0
    LANDINGS.settle()
    curves_in(hero.animation_data.action, hero)[7].keyframe_points[3].co.y += 0.2
    edited = keys(hero)
    hero.understudy.tuning.arm_spread = 0.3
    assert same(keys(hero), edited) and "was edited" in LANDINGS.trouble
    land(clip)
    assert not LANDINGS.trouble and not same(keys(hero), edited)


def test_undo_takes_back_a_slider_and_its_keys_together_and_it_can_be_moved_again(hero, clip):
    land(clip)
    before = keys(hero)
    bpy.ops.ed.undo_push(message="before")
    hero.understudy.tuning.arm_spread = 0.3
    after = keys(hero)
    bpy.ops.ed.undo_push(message="slider")
    bpy.ops.ed.undo()
    hero = bpy.data.objects["Hero"]
    assert hero.understudy.tuning.arm_spread == 0 and same(keys(hero), before)
    hero.understudy.tuning.arm_spread = 0.3
    assert same(keys(hero), after) and not LANDINGS.trouble


def test_resetting_puts_all_sliders_back_and_the_action_with_them(hero, clip):
    land(clip)
    before = keys(hero)
    hero.understudy.tuning.arm_spread, hero.understudy.tuning.spine_bend = 0.3, 0.2
    bpy.ops.understudy.reset_tuning()
    assert hero.understudy.tuning.spine_bend == 1 and same(keys(hero), before)


def test_feet_are_measured_before_and_after_and_plotted(hero, clip):
    land(clip)
    landed = LANDINGS.of(hero)
    assert [len(row) for row in landed.figures()] == [4, 4, 4]
    assert landed.plot().lstrip().startswith("<svg") or landed.plot().startswith("<?xml")
    assert bpy.ops.understudy.open_contacts() == {"FINISHED"}


def test_following_a_slider_on_500_frames_takes_little_time(addon, tmp_path):
    hero = armatures.armature("mixamo")
    motions.body_motion(500).save(tmp_path / "long.npz")
    land(tmp_path / "long.npz")
    spent = []
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        start = time.perf_counter()
        hero.understudy.tuning.arm_spread = value
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.5, "generous: the machine may be busy; the bench has the figure"


# Mapping -------------------------------------------------------------------------------------------------------------


def row(rig, role, place=0):
    rows = [index for index, item in enumerate(rig.understudy.bones) if item.role == role]
    rig.understudy.active_bone = rows[place]
    return rig.understudy.bones[rows[place]]


def pose(rig, *names):
    """Select bones in pose mode, the last one active."""
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="POSE")
    is_new = "select" in bpy.types.PoseBone.bl_rna.properties  # from 5.0 on
    for item in rig.pose.bones if is_new else rig.data.bones:
        item.select = item.name in names
    rig.data.bones.active = rig.data.bones[names[-1]]


def test_detecting_lists_every_role_with_its_bone_or_a_hole(hero):
    bpy.ops.understudy.detect_mapping()
    found = {}
    for item in hero.understudy.bones:
        found.setdefault(item.role, []).append(item.bone)
    assert found["hips"] == ["mixamorig:Hips"] or found["hips"] == ["Hips"] or "Hips" in found["hips"][0]
    assert len(found["spine"]) >= 2 and found["root"] == [""]
    assert mapping_operators.stored_mapping(hero).bones == mapping_operators.recognise(hero).mapping.bones


def test_a_bone_given_to_one_side_is_mirrored_at_once_unless_unwanted(hero):
    bpy.ops.understudy.detect_mapping()
    left, right = row(hero, "hand.L").bone, row(hero, "hand.R").bone
    forearms = row(hero, "forearm.L").bone, row(hero, "forearm.R").bone
    row(hero, "hand.L").bone = forearms[0]
    assert row(hero, "hand.R").bone == forearms[1]
    retarget().mirror = False
    row(hero, "hand.L").bone = left
    assert row(hero, "hand.R").bone == forearms[1] != right


def test_names_without_sides_are_mirrored_by_place(addon):
    rig = armatures.armature("game_engine")
    for number, bone in enumerate(list(rig.data.bones)):
        bone.name = f"b{number}"
    for bone in rig.data.bones:
        other = mapping_operators.mirrored_bone(rig, bone.name)
        if other:
            place = rig.data.bones[other].head_local
            assert place.x == pytest.approx(-bone.head_local.x, abs=0.01)
    assert sum(bool(mapping_operators.mirrored_bone(rig, bone.name)) for bone in rig.data.bones) > 30


def test_bones_are_picked_in_the_viewport(hero):
    bpy.ops.understudy.detect_mapping()
    spine = [item.bone for item in hero.understudy.bones if item.role == "spine"]
    pose(hero, spine[0])
    row(hero, "spine")
    bpy.ops.understudy.pick_bone()
    pose(hero, spine[1], spine[0])
    row(hero, "spine")
    bpy.ops.understudy.pick_bone()
    assert [item.bone for item in hero.understudy.bones if item.role == "spine"] == spine[:2]


def test_picking_without_a_bone_is_grey_and_says_so(hero):
    bpy.ops.understudy.detect_mapping()
    assert "Select a bone of Hero in Pose Mode" in why_grey(bpy.ops.understudy.pick_bone)


def test_clearing_makes_a_hole_on_both_sides_and_retargeting_does_without(hero, clip):
    bpy.ops.understudy.detect_mapping()
    hands = {row(hero, "hand.R").bone, row(hero, "hand.L").bone}
    row(hero, "hand.L")
    bpy.ops.understudy.clear_bone()
    assert row(hero, "hand.R").bone == "" and row(hero, "hand.L").bone == ""
    land(clip)
    assert not hands & {path.split('"')[1] for path, _ in keys(hero) if '"' in path}


def test_a_needed_role_without_a_bone_is_refused_by_its_name(hero, clip):
    bpy.ops.understudy.detect_mapping()
    row(hero, "thigh.L")
    bpy.ops.understudy.clear_bone()
    assert "thigh.L" in fails(land, source=clip)
    assert not bpy.data.actions


def test_a_bone_in_two_roles_is_refused_by_its_name(hero, clip):
    bpy.ops.understudy.detect_mapping()
    name = row(hero, "hips").bone
    row(hero, "head").bone = name
    assert name in fails(land, source=clip)
    assert not bpy.data.actions


def test_a_mapping_is_kept_as_a_preset_and_used_again(hero):
    bpy.ops.understudy.detect_mapping()
    retarget().mirror = False
    row(hero, "toe.L").bone = ""
    bpy.ops.understudy.save_mapping(name="Our Hero")
    kept = mapping_operators.stored_mapping(hero)
    assert ("Our Hero", True) in list(mapping_operators.presets())
    bpy.ops.understudy.forget_mapping()
    assert mapping_operators.stored_mapping(hero) is None
    bpy.ops.understudy.load_mapping(name="Our Hero")
    assert mapping_operators.stored_mapping(hero).bones == kept.bones
    (mapping_operators.preset_folder() / "Our Hero.json").unlink()


def test_a_mapping_goes_out_and_in_again_whole(hero, tmp_path):
    bpy.ops.understudy.detect_mapping()
    bpy.ops.understudy.export_mapping(filepath=str(tmp_path / "mein 動き.json"))
    kept = mapping_operators.stored_mapping(hero)
    assert read_mapping(tmp_path / "mein 動き.json") == kept
    bpy.ops.understudy.forget_mapping()
    bpy.ops.understudy.import_mapping(filepath=str(tmp_path / "mein 動き.json"))
    assert mapping_operators.stored_mapping(hero) == kept


@pytest.mark.parametrize(("content", "words"), [("", "JSON"), ("{}", "format"), ('{"format": "x"}', "missing")])
def test_a_damaged_mapping_is_refused_and_the_old_one_stays(hero, tmp_path, content, words):
    bpy.ops.understudy.detect_mapping()
    kept = mapping_operators.stored_mapping(hero)
    (tmp_path / "m.json").write_text(content)
    assert words in fails(bpy.ops.understudy.import_mapping, filepath=str(tmp_path / "m.json"))
    assert mapping_operators.stored_mapping(hero) == kept


def test_a_mapping_of_another_rig_is_refused_by_one_of_its_bones(hero):
    name = next(name for name in mappings() if "igify" in name)
    assert "lacks most bones" in fails(bpy.ops.understudy.load_mapping, name=name)


def test_a_mapping_can_be_undone_and_survives_saving(hero, tmp_path):
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.understudy.detect_mapping("EXEC_DEFAULT", True)
    kept = mapping_operators.stored_mapping(bpy.data.objects["Hero"])
    bpy.ops.ed.undo()
    assert not bpy.data.objects["Hero"].understudy.bones
    bpy.ops.ed.redo()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "hero.blend"))
    assert mapping_operators.stored_mapping(bpy.data.objects["Hero"]) == kept


def test_the_panel_is_told_what_an_armature_is_or_why_it_is_none(hero):
    recogniser = mapping_operators.Recogniser()
    assert recogniser.ask(hero) is None
    empty = bpy.data.objects.new("Empty", bpy.data.armatures.new("Empty"))
    bpy.context.scene.collection.objects.link(empty)
    recogniser.ask(empty)
    recogniser.look()
    assert "roles" in recogniser.ask(hero).text and not recogniser.ask(hero).trouble
    assert recogniser.ask(empty).trouble
