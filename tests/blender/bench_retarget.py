"""Time how a motion is keyed onto characters, look where Blender shows it, and print that as JSON.

python tests/blender/bench_retarget.py [FRAMES [FRAMES OF nla.bake]]

Blender's own way is what people do by hand: each control copies the rotation of a bone of a source armature by a
constraint (hips the location, too), and `nla.bake` with visual keying turns that into keys. Its source bones lie in the
controls' own axes, so that it has nothing to convert and should arrive at our result.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

if "understudy" not in sys.modules:
    _root = Path(__file__).resolve().parents[2]
    for _name, _folder in {"understudy": _root, "inference": _root / "inference", "tests": _root / "tests"}.items():
        sys.modules[_name] = types.ModuleType(_name)
        sys.modules[_name].__path__ = [str(_folder)]

from understudy.inference.core.artifacts import BodyMotion
from understudy.inference.core.mapping.mapper import map_rig
from understudy.inference.core.retarget import Retargeter
from understudy.inference.core.rig import Mapping, Performance, RigMotion, performance_of
from understudy.inference.core.rotations import (
    continuous,
    quaternion_from_matrix,
    quaternion_from_rotvec,
    rotvec_from_quaternion,
    unit,
)
from understudy.inference.core.timing import Timing
from understudy.inference.protocol.errors import InputError
from understudy.inference.protocol.retarget import RetargetSettings
from understudy.operators.scene.action import Channel, write_action
from understudy.operators.scene.bake import bake, update, verify
from understudy.operators.scene.compat import curves_in
from understudy.operators.scene.evaluate import evaluated
from understudy.operators.scene.rig import Character, read_character
from understudy.tests import rigs
from understudy.tests.blender import motions
from understudy.tests.blender.armatures import armature
from understudy.tests.blender.rigify_human import generated

Array = np.ndarray
SLIDER_FRAMES = 500
LIMBS = (("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"), ("shin", "foot"))


def measure(frames: int = 2000, baked_frames: int = 0) -> dict[str, Any]:
    """Key the same motion in both ways, then move a slider."""
    item = generated()
    found = map_rig(read_character(item).rig)
    read_s, character = _timed(lambda: read_character(item, found.mapping))
    performance = performance_of(_calm(motions.body_motion(frames)))
    prepare_s, retargeter = _timed(lambda: Retargeter(performance, character.rig, found.mapping))
    tables = [_writing(item, character, retargeter, (read_s, prepare_s), baked_frames)]
    short = _part(performance, SLIDER_FRAMES)
    tables.append(_slider({"Rigify, generated": (character, found.mapping), "Mixamo": _built("mixamo")}, short))
    tables.append(_named(_part(performance, 90)))
    return {"blender": bpy.app.version_string, "tables": tables}


def _writing(
    item: bpy.types.Object,
    character: Character,
    retargeter: Retargeter,
    before_s: tuple[float, float],
    baked_frames: int,
) -> dict[str, Any]:
    read_s, prepare_s = before_s
    solve_s, motion = _timed(lambda: retargeter.solve(RetargetSettings()))
    count = len(motion.times)
    timing = _timing(count)
    fk_s, result = _timed(lambda: bake(character, motion, RetargetSettings(ik=False), timing, name="FK"))
    fk = _largest(character, motion, timing)
    both_s, result = _timed(lambda: bake(character, motion, RetargetSettings(), timing, name="FK and IK"))
    both = _largest(character, motion, timing)
    keys = {name: _count(item, bpy.data.actions[name]) for name in ("FK", result.action)}
    theirs = baked_frames or count
    source = _source(motion)
    _constrain(item, motion, source)
    their_s, _ = _timed(lambda: _nla_bake(item, motion, theirs))
    their_keys = _count(item, item.animation_data.action)
    _release(item, motion)
    their_timing = Timing(timing.frames[:theirs], timing.samples[:theirs], False)
    their_error = _largest(character, motion, their_timing)
    each = their_s / theirs * count
    whole_s = prepare_s + solve_s + both_s
    rows: list[list[Any]] = [
        ["FK, keys written", count, keys["FK"], fk_s, each / fk_s, *fk],
        ["FK and IK, keys written", count, keys[result.action], both_s, each / both_s, *both],
        ["FK and IK, solved and written", count, keys[result.action], whole_s, each / whole_s, *both],
        ["nla.bake with constraints, FK", theirs, their_keys, their_s, 1.0, *their_error],
    ]  # fmt: skip
    note = (
        f"{len(motion.keyed)} controls of {len(item.data.bones)} bones. Errors by Blender's evaluation of 40 frames "
        f"against the solved motion. Target: 20 times. Reading the rig took {read_s:.2f} s, once."
    )
    if theirs != count:
        note += f" nla.bake ran on {theirs} frames; the ratio assumes that it is linear."
    columns = ["way", "frames", "keys", "seconds", "times faster", "error (degrees)", "error (mm)"]
    shown = [[*row[:3], round(row[3], 3), round(row[4], 1), round(row[5], 4), round(row[6], 4)] for row in rows]
    return {"title": "Keys on a generated Rigify rig", "columns": columns, "rows": shown, "note": note}


def _slider(characters: dict[str, tuple[Character, Mapping]], performance: Performance) -> dict[str, Any]:
    count = len(performance.times)
    timing = _timing(count)
    rows = []
    for name, (character, mapping) in characters.items():
        retargeter = Retargeter(performance, character.rig, mapping)
        for field in ("arm_spread", "hip_height"):
            result = bake(character, retargeter.solve(RetargetSettings()), RetargetSettings(), timing, name="Slider")
            spent = []
            for step in range(1, 12):
                settings = RetargetSettings(**{field: 0.002 * step})
                processor = time.process_time()
                solve_s, motion = _timed(lambda s=settings, r=retargeter: r.solve(s))
                write_s, _ = _timed(lambda m=motion, s=settings, r=result: update(r, m, s))
                spent.append((solve_s, write_s, solve_s + write_s, time.process_time() - processor))
            numbers = 1000 * np.median(spent[1:], axis=0)  # the first one fills caches
            degrees, millimetres = _largest(character, motion, timing)
            shown = (round(float(ms), 1) for ms in numbers)
            rows.append([name, field, count, *shown, round(degrees, 4), round(millimetres, 4)])
    columns = [
        "rig", "slider", "frames", "solve (ms)", "write (ms)", "both (ms)", "of one core (ms)", "error (degrees)",
        "error (mm)",
    ]  # fmt: skip
    note = "Medians of ten moves on the same action, by the clock and in processor time. Target: 50."
    return {"title": "A slider moved, keys rewritten", "columns": columns, "rows": rows, "note": note}


def _named(performance: Performance) -> dict[str, Any]:
    """Every named rig of the tests as an armature: where Blender shows its bones, against the performance."""
    rows = []
    for name in rigs.names():
        bpy.ops.wm.read_homefile(use_empty=True)
        try:
            character, mapping = _built(name)
        except InputError as error:
            rows.append([name, len(rigs.load(name).names), None, error.message[:60], None, None, None])
            continue
        free = RetargetSettings(lock_feet=0.0, floor=False)
        motion = Retargeter(performance, character.rig, mapping).solve(free)
        timing = _timing(len(performance.times))
        bake(character, motion, free, timing, name="Named")
        errors = np.array(list(verify(character, motion, 20, timing=timing).values()))
        limbs = _limbs(character, mapping, performance, timing)
        rows.append(
            [name, len(character.rig.names), len(motion.keyed), *np.round([*limbs, *errors.max(0)], 4).tolist()]
        )
    columns = [
        "rig", "bones", "keyed", "arms and legs, mean (degrees)", "largest (degrees)",
        "Blender against solved (degrees)", "(mm)",
    ]  # fmt: skip
    note = "Joint to joint of arms and legs in Blender's evaluation against the performer, feet not held. Target: 1."
    return {"title": "Named rigs as armatures", "columns": columns, "rows": rows, "note": note}


def _limbs(character: Character, mapping: Mapping, performance: Performance, timing: Timing) -> tuple[float, float]:
    """Mean and largest angle between limbs in Blender and the performer's, degrees."""
    chains = [(f"{a}.{side}", f"{b}.{side}") for side in "LR" for a, b in LIMBS]
    pairs = [pair for pair in chains if all(mapping.chain(role, character.rig) for role in pair)]
    names = [character.rig.names[mapping.chain(role, character.rig)[0]] for pair in pairs for role in pair]
    item, chosen = bpy.data.objects[character.name], np.arange(0, len(performance.times), 5)
    bones, _ = evaluated(item, timing.frames[chosen], names)
    heads = (bones[:, :, :3, 3] @ character.world[:3, :3]).reshape(len(chosen), -1, 2, 3)
    theirs = [performance.mapping.chain(role, performance.rig)[0] for pair in pairs for role in pair]
    there = performance.heads[chosen][:, theirs].reshape(len(chosen), -1, 2, 3)
    apart = unit(heads[:, :, 1] - heads[:, :, 0]) - unit(there[:, :, 1] - there[:, :, 0])
    angles = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(apart, axis=-1) / 2, 0, 1)))
    return float(angles.mean()), float(angles.max())


def _built(name: str) -> tuple[Character, Mapping]:
    """A named rig as an armature, read, and how it is mapped."""
    item = armature(name, called=name)
    character = read_character(item)
    mapping = map_rig(character.rig, deform=rigs.deform(name), held=rigs.held(name)).mapping
    return read_character(item, mapping), mapping


def _part(performance: Performance, count: int) -> Performance:
    """The first frames of a performance."""
    arrays = ("turns", "heads", "times", "contacts", "confidence")
    kept = {name: getattr(performance, name) for name in arrays}
    return replace(performance, **{name: value[:count] for name, value in kept.items() if value is not None})


def _calm(motion: BodyMotion) -> BodyMotion:
    """Turn the bones as far as people do."""
    vectors = rotvec_from_quaternion(motion.rotations)
    return replace(motion, rotations=continuous(quaternion_from_rotvec(0.4 * vectors)), rotations_raw=None)


def _timing(count: int) -> Timing:
    samples = np.arange(count, dtype=float)
    return Timing(samples + 1.0, samples, False)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def _largest(character: Character, motion: RigMotion, timing: Timing) -> tuple[float, float]:
    """Largest over the bones of the mean errors, in degrees and millimetres."""
    errors = verify(character, motion, 40, timing=timing).values()
    return max(angle for angle, _ in errors), max(distance for _, distance in errors)


def _count(item: bpy.types.Object, action: bpy.types.Action) -> int:
    return sum(len(curve.keyframe_points) for curve in curves_in(action, item))


def _source(motion: RigMotion) -> bpy.types.Object:
    """An armature with a bone for each keyed control, in its axes, that moves as was solved."""
    data = bpy.data.armatures.new("Source")
    item = bpy.data.objects.new("Source", data)
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    rig = motion.rig
    for row in motion.keyed:
        bone = data.edit_bones.new(rig.names[row])
        bone.tail = (0.0, max(float(rig.lengths[row]), 0.01), 0.0)
        bone.matrix = Matrix(rig.rest[row].tolist())
    bpy.ops.object.mode_set(mode="OBJECT")
    channels = []
    for row in motion.keyed:
        turn = rig.rest[row, :3, :3].T @ motion.turns[:, row]
        place = (motion.heads[:, row] - rig.heads[row]) @ rig.rest[row, :3, :3]
        path = f'pose.bones["{rig.names[row]}"]'
        channels.append(Channel(f"{path}.rotation_quaternion", continuous(quaternion_from_matrix(turn))))
        channels.append(Channel(f"{path}.location", place))
    write_action(item, "Source", _timing(len(motion.times)).frames, channels)
    return item


def _constrain(item: bpy.types.Object, motion: RigMotion, source: bpy.types.Object) -> None:
    """Let every keyed control copy its bone of the source, in the mode that our own bake switched the rig to."""
    item.animation_data.action = None
    for row in motion.keyed:
        bone = item.pose.bones[motion.rig.names[row]]
        kinds = ("COPY_ROTATION", "COPY_LOCATION") if row in motion.moved else ("COPY_ROTATION",)
        for kind in kinds:
            constraint = bone.constraints.new(kind)
            constraint.name, constraint.target, constraint.subtarget = "bench", source, bone.name


def _release(item: bpy.types.Object, motion: RigMotion) -> None:
    for row in motion.keyed:
        bone = item.pose.bones[motion.rig.names[row]]
        for constraint in [c for c in bone.constraints if c.name.startswith("bench")]:
            bone.constraints.remove(constraint)


def _nla_bake(item: bpy.types.Object, motion: RigMotion, frames: int) -> None:
    layer = bpy.context.view_layer
    for other in layer.objects:
        other.select_set(other == item)
    layer.objects.active = item
    bpy.ops.object.mode_set(mode="POSE")
    wanted = {motion.rig.names[row] for row in motion.keyed}
    for bone in item.pose.bones:
        owner = bone if hasattr(bone, "select") else bone.bone  # the bone's own until 4.5
        owner.select = bone.name in wanted
    for collection in item.data.collections_all:
        collection.is_visible = True
    bpy.ops.nla.bake(
        frame_start=1, frame_end=frames, step=1, only_selected=True, visual_keying=True, clear_constraints=False,
        clear_parents=False, use_current_action=False, clean_curves=False, bake_types={"POSE"},
        channel_types={"LOCATION", "ROTATION"},
    )  # fmt: skip
    bpy.ops.object.mode_set(mode="OBJECT")


if __name__ == "__main__":
    bpy.ops.wm.read_homefile(use_empty=True)
    sys.stdout.write(json.dumps(measure(*map(int, sys.argv[1:3]))) + "\n")
    sys.stdout.flush()
    os._exit(0)
