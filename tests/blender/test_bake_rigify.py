"""A motion on Rigify's generated rig: what its deforming bones do with forward and with inverse kinematics."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
from understudy.inference.core.mapping.mapper import map_rig
from understudy.inference.core.retarget import Retargeter
from understudy.inference.core.timing import place
from understudy.inference.protocol.retarget import RetargetSettings
from understudy.operators.scene.bake import bake, update, verify
from understudy.operators.scene.compat import curves_in
from understudy.operators.scene.evaluate import evaluated
from understudy.operators.scene.rig import check_character, read_character

from .rigify_human import generated
from .test_bake import calm

LIMBS = ("upper_arm", "forearm", "thigh", "shin")
ENDS = ("hand", "foot", "toe")


def test_fk_and_ik_show_the_same_motion_and_nothing_but_keys_changes() -> None:
    item = generated()  # once: it takes seconds
    found = map_rig(read_character(item).rig).mapping
    character = read_character(item, found)
    assert check_character(character, found) == []
    before, deforming = properties(item), [b.name for b in item.pose.bones if b.name.startswith("DEF-")]
    performance = calm(24)
    retargeter = Retargeter(performance, character.rig, found)
    timing = place(performance.times, scene_fps=24.0, start=1.0, rate="FRAMES")
    fk, ik, keep = (RetargetSettings(mode=mode) for mode in ("fk", "ik", "keep"))
    motion = retargeter.solve(fk)
    result = bake(character, motion, fk, timing, name="Take")
    action = item.animation_data.action
    assert properties(item) == before and result.notes == ()
    assert max(angle for angle, _ in verify(character, motion, 8, timing=timing).values()) < 0.05
    wanted = shown(item, deforming, timing)
    for name in (f"{part}.{side}" for part in (*LIMBS, *ENDS) for side in "LR"):
        row = character.rig.index[found.bones[name][0]]
        at_rest = character.rig.rest[row, :3, :3].T @ np.array(item.data.bones[f"DEF-{name}"].matrix_local)[:3, 1]
        assert apart(wanted[f"DEF-{name}"][:, :3, 1], motion.turns[:, row] @ at_rest).max() < 1.0, name

    update(result, motion, ik)
    assert item.animation_data.action == action and switch(action, item) == 0.0
    assert len(result.notes) == 1 and "IK Stretch" in result.notes[0]
    check_ik(wanted, shown(item, deforming, timing), knees=7.0)  # the solver would rather shorten bones than bend them
    unstretched(item)
    update(result, motion, ik)
    assert result.notes == ()
    check_ik(wanted, shown(item, deforming, timing), knees=1.0)

    update(result, motion, replace(fk, reduce=True))
    assert switch(action, item) == 1.0
    thin = shown(item, deforming, timing)
    assert max(apart(thin[name][:, :3, 1], wanted[name][:, :3, 1]).max() for name in wanted) < 4.0
    update(result, motion, keep)
    assert switch(action, item) is None


def check_ik(wanted: dict, ours: dict, *, knees: float) -> None:
    for side in "LR":
        for part in ENDS:
            name = f"DEF-{part}.{side}"
            assert np.linalg.norm(ours[name][:, :3, 3] - wanted[name][:, :3, 3], axis=-1).max() < 0.001, name
            assert apart(ours[name][:, :3, 1], wanted[name][:, :3, 1]).max() < 0.2, name
        for part in LIMBS:
            name = f"DEF-{part}.{side}"
            assert apart(ours[name][:, :3, 1], wanted[name][:, :3, 1]).max() < knees, name


def properties(item: bpy.types.Object) -> dict:
    return {(bone.name, key): str(value) for bone in item.pose.bones for key, value in bone.items()}


def unstretched(item: bpy.types.Object) -> None:
    """Let the solver keep the lengths of bones, which Rigify does not."""
    for bone in item.pose.bones:
        bone.ik_stretch = 0.0


def switch(action: bpy.types.Action, item: bpy.types.Object) -> float | None:
    """What an action sets the left leg's switch to."""
    path = 'pose.bones["thigh_parent.L"]["IK_FK"]'
    return next((c.keyframe_points[0].co.y for c in curves_in(action, item) if c.data_path == path), None)


def shown(item: bpy.types.Object, names: list[str], timing) -> dict[str, np.ndarray]:
    """(T, 4, 4) of each bone as Blender places it."""
    return dict(zip(names, np.swapaxes(evaluated(item, timing.frames, names)[0], 0, 1), strict=True))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between directions, degrees."""
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))
