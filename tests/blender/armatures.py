"""Characters to retarget onto: the skeletons of `tests/rigs` as armatures."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix, Vector

from inference.core.rig import Rig
from tests import rigs

Array = np.ndarray


def armature(name: str = "mixamo", *, called: str = "Hero") -> bpy.types.Object:
    """Build one of the skeletons, active and in object mode."""
    return build(rigs.load(name), called)


def build(rig: Rig, name: str) -> bpy.types.Object:
    """Build any skeleton, active and in object mode."""
    data = bpy.data.armatures.new(name)
    item = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(item)
    edit(item, lambda: _add_bones(data, rig))
    return item


def edit(item: bpy.types.Object, change) -> None:
    """Run `change` in the edit mode of an armature; it is the active object afterwards."""
    for other in bpy.context.view_layer.objects:
        other.select_set(other == item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    change()
    bpy.ops.object.mode_set(mode="OBJECT")


def _add_bones(data: bpy.types.Armature, rig: Rig) -> None:
    for name, parent, rest, length in zip(rig.names, rig.parents, rig.rest, rig.lengths, strict=True):
        bone = data.edit_bones.new(name)
        bone.tail = Vector((0.0, max(float(length), 0.005), 0.0))
        bone.matrix = Matrix(rest.tolist())
        if parent >= 0:
            bone.parent = data.edit_bones[rig.names[parent]]


def skin(item: bpy.types.Object) -> bpy.types.Object:
    """Give an armature a mesh: a thin tetrahedron around each deforming bone, from the soles to the crown."""
    vertices, faces, groups = [], [], {}
    for bone in item.data.bones:
        first = len(vertices)
        for point in (bone.head_local, bone.tail_local):
            vertices += [(point.x, point.y, point.z), (point.x + 0.01, point.y, point.z)]
        faces += [(first, first + 1, first + 2), (first + 1, first + 2, first + 3)]
        groups[bone.name] = range(first, first + 4)
    mesh = bpy.data.meshes.new(f"{item.name} skin")
    mesh.from_pydata(vertices, [], faces)
    made = bpy.data.objects.new(f"{item.name} skin", mesh)
    bpy.context.scene.collection.objects.link(made)
    for name, rows in groups.items():
        made.vertex_groups.new(name=name).add(list(rows), 1.0, "REPLACE")
    made.parent = item
    made.modifiers.new("Armature", "ARMATURE").object = item
    return made
