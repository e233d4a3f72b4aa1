"""Time how keys are written, and print it as JSON: `python tests/blender/bench_keys.py [FRAMES [BONES]]`.

Location is not keyed: each bone has its four quaternion channels, as in a capture.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path

import bpy
import numpy as np

if "understudy" not in sys.modules:
    understudy = types.ModuleType("understudy")
    understudy.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["understudy"] = understudy

from understudy.operators.scene.action import Channel, write_action


def measure(frames: int = 2000, bones: int = 60) -> dict[str, float | int | str]:
    """Write frames x bones quaternions in bulk and one by one, and compare what plays."""
    rotations = np.random.default_rng(0).normal(size=(frames, bones, 4)).astype(np.float32)
    bulk, one_by_one = _rig("bulk", bones), _rig("one by one", bones)
    start = time.perf_counter()
    channels = [Channel(f'pose.bones["{b}"].rotation_quaternion', rotations[:, b], str(b)) for b in range(bones)]
    write_action(bulk, "bulk", np.arange(1, frames + 1), channels)
    bulk_s = time.perf_counter() - start
    start = time.perf_counter()
    for b in range(bones):
        bone = one_by_one.pose.bones[str(b)]
        for frame in range(frames):
            bone.rotation_quaternion = rotations[frame, b]
            bone.keyframe_insert("rotation_quaternion", frame=frame + 1)
    slow_s = time.perf_counter() - start
    return {
        "blender": bpy.app.version_string, "frames": frames, "bones": bones, "bulk_s": round(bulk_s, 4),
        "keyframe_insert_s": round(slow_s, 2), "times_faster": round(slow_s / bulk_s, 1),
        "largest_difference": _difference(bulk, one_by_one, frames),
    }  # fmt: skip


def _rig(name: str, bones: int) -> bpy.types.Object:
    rig = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for b in range(bones):
        rig.data.edit_bones.new(str(b)).tail = (0.0, 0.0, 1.0)
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def _difference(a: bpy.types.Object, b: bpy.types.Object, frames: int) -> float:
    worst = 0.0
    for frame in np.linspace(1, frames, 20).astype(int):
        bpy.context.scene.frame_set(int(frame))
        for bone in a.pose.bones:
            pair = np.array([bone.rotation_quaternion, b.pose.bones[bone.name].rotation_quaternion])
            worst = max(worst, float(np.abs(pair[0] - pair[1]).max()))
    return worst


if __name__ == "__main__":
    bpy.ops.wm.read_homefile(use_empty=True)
    sys.stdout.write(json.dumps(measure(*map(int, sys.argv[1:3]))) + "\n")
    sys.stdout.flush()
    os._exit(0)
