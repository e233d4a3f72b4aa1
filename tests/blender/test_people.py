"""A capture of several people becomes one armature each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from understudy.inference.protocol.errors import InputError
from understudy.operators.motion import apply_result, others_of
from understudy.tests.blender import motions


@pytest.fixture
def company(tmp_path) -> Path:
    """A job of three people: the second comes half a second late, the third is beside the first."""
    first = motions.body_motion(24)
    late = replace(first, times=first.times + 0.5)
    aside = replace(first, root=first.root + np.array([1.0, 0.0, 0.0]))
    folder = tmp_path / "job" / "artifacts"
    for name, motion in (("", first), ("_person2", late), ("_person3", aside)):
        motion.save(folder / f"body_motion{name}.npz")
    return folder / "body_motion.npz"


def first_key(rig: str) -> float:
    return bpy.data.objects[rig].animation_data.action.frame_range[0]


def test_everybody_gets_an_armature_and_an_action_in_one_collection(company):
    take = apply_result(company, bpy.context.scene, take="Dance", rate="FRAMES")
    assert (take.rig, take.others) == ("Dance", ("Dance Person 2", "Dance Person 3"))
    rigs = [bpy.data.objects[name] for name in (take.rig, *take.others)]
    assert {rig.users_collection[0].name for rig in rigs} == {take.collection}
    actions = [rig.animation_data.action for rig in rigs]
    assert len({action.name for action in actions}) == 3
    assert len(bpy.data.collections[take.collection].all_objects) == 3 + len(take.cameras)
    assert [Path(rig["understudy_source"]).name for rig in rigs] == [
        "body_motion.npz", "body_motion_person2.npz", "body_motion_person3.npz",
    ]  # fmt: skip


def test_somebody_who_comes_later_moves_later(company):
    bpy.context.scene.render.fps = 30
    take = apply_result(company, bpy.context.scene, frame_start=11)
    assert first_key(take.rig) == 11
    assert first_key(take.others[0]) == 26
    assert first_key(take.others[1]) == 11


def test_people_stand_apart_as_they_did(company):
    bpy.context.scene.render.fps = 30
    take = apply_result(company, bpy.context.scene)
    bpy.context.scene.frame_set(5)
    graph = bpy.context.evaluated_depsgraph_get()
    places = []
    for name in (take.rig, take.others[1]):
        rig = bpy.data.objects[name].evaluated_get(graph)
        places.append(np.array(rig.matrix_world @ rig.pose.bones[0].matrix)[:3, 3])
    assert np.linalg.norm(places[1] - places[0]) == pytest.approx(1.0, abs=1e-4)


def test_the_first_person_can_be_taken_alone_and_so_can_another(company):
    alone = apply_result(company, bpy.context.scene, everybody=False)
    assert not alone.others
    other = apply_result(company.with_name("body_motion_person2.npz"), bpy.context.scene)
    assert not other.others
    assert not others_of(company.with_name("body_motion_person3.npz"))


def test_one_broken_file_leaves_nothing_behind(company):
    company.with_name("body_motion_person3.npz").write_bytes(b"not an archive")
    before = len(bpy.data.objects), len(bpy.data.actions), len(bpy.data.collections)
    with pytest.raises(InputError, match="body_motion_person3"):
        apply_result(company, bpy.context.scene)
    assert (len(bpy.data.objects), len(bpy.data.actions), len(bpy.data.collections)) == before


def test_ten_people_are_numbered_in_order(company):
    for number in range(4, 12):
        company.with_name(f"body_motion_person{number}.npz").write_bytes(company.read_bytes())
    company.with_name("body_motion_person_old.npz").write_bytes(b"")
    assert [path.stem for path in others_of(company)] == [f"body_motion_person{n}" for n in range(2, 12)]


def test_one_operator_applies_everybody_and_one_undo_takes_everybody_away(addon, company):
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.understudy.apply_motion("EXEC_DEFAULT", True, filepath=str(company), take="Dance")
    assert len([item for item in bpy.data.objects if item.type == "ARMATURE"]) == 3
    bpy.ops.ed.undo()
    assert not [item for item in bpy.data.objects if item.type == "ARMATURE"]
