"""Small tracks of faces with known values, and things with shape keys and bones that can show them."""

from __future__ import annotations

import bpy
import numpy as np
from understudy.inference.core.artifacts import FaceTrack
from understudy.inference.core.face_shapes import SHAPES
from understudy.inference.core.rotations import quaternion_from_rotvec


def face_track(count: int = 12, fps: float = 24.0, **header) -> FaceTrack:
    """A jaw that opens evenly, a left eye that looks out, and a head that turns to its left by 2 degrees a frame."""
    weights, rows = np.zeros((count, len(SHAPES))), np.arange(count)
    weights[:, SHAPES.index("jawOpen")] = rows / (count - 1)
    weights[:, SHAPES.index("mouthSmileRight")] = 0.5
    weights[:, SHAPES.index("eyeLookOutLeft")] = 0.25
    turned = quaternion_from_rotvec(np.radians(2.0 * rows)[:, None] * [0.0, 0.0, 1.0])
    eyes = np.zeros((count, 2, 4))
    eyes[...] = quaternion_from_rotvec(np.array([0.0, 0.0, 0.1]))
    values = {"unit": "m", "frame": "camera, upright", "fps": fps, "shapes": list(SHAPES), **header}
    return FaceTrack(values, weights, turned, np.zeros((count, 3)), eyes, np.ones(count), rows / fps)


def mesh_with_keys(names, name: str = "Face") -> bpy.types.Object:
    """A triangle with a shape key for each name."""
    data = bpy.data.meshes.new(name)
    data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [], [(0, 1, 2)])
    item = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(item)
    for key in ("Basis", *names):
        item.shape_key_add(name=key, from_mix=False).value = 0.0
    return item


def head_rig(bones=("spine", "head", "eye.L", "eye.R")) -> bpy.types.Object:
    """An armature whose head points up and whose eyes point forwards, rolled."""
    data = bpy.data.armatures.new("Rig")
    item = bpy.data.objects.new("Rig", data)
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    ends = ([0, 0, 1], [0, 0, 0.2], [0, -0.03, 0], [0, -0.03, 0])
    heads = ([0, 0, 0], [0, 0, 1], [0.03, -0.1, 1.1], [-0.03, -0.1, 1.1])
    for name, head, end in zip(bones, heads, ends, strict=True):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail, bone.roll = head, np.add(head, end), 0.3
        if name != bones[0]:
            bone.parent = data.edit_bones[bones[0] if name == bones[1] else bones[1]]
    bpy.ops.object.mode_set(mode="OBJECT")
    return item
