"""Build a body measured by `body.py` in Blender: a skinned mesh in plain clothes on its armature, or on Rigify."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import addon_utils
import bpy
import numpy as np
from mathutils import Matrix, Vector

_CLOTHES = {
    "skin": (0.60, 0.37, 0.27),
    "shirt": (0.10, 0.32, 0.45),
    "trousers": (0.06, 0.07, 0.11),
    "shoes": (0.55, 0.55, 0.52),
    "hair": (0.05, 0.03, 0.02),
}
_FINGERS = {"thumb": 1, "f_index": 2, "f_middle": 3, "f_ring": 4, "f_pinky": 5}
# Bones of Rigify's human meta-rig: joint of the default rig where they begin and where they end.
_TRUNK = {
    "spine": ("seat", "spine04"), "spine.001": ("spine04", "spine02"), "spine.002": ("spine02", "spine01"),
    "spine.003": ("spine01", "neck01"), "spine.004": ("neck01", "neck02"), "spine.005": ("neck02", "head"),
    "spine.006": ("head", "head|"),
}  # fmt: skip
_SIDE = {
    "shoulder": ("clavicle", "upperarm01"), "upper_arm": ("upperarm01", "lowerarm01"),
    "forearm": ("lowerarm01", "wrist"), "hand": ("wrist", "finger3-1"), "thigh": ("upperleg01", "lowerleg01"),
    "shin": ("lowerleg01", "foot"), "foot": ("foot", "toe2-1"), "toe": ("toe2-1", "toe2-3|"),
    **{f"{finger}.{k:02d}": (f"finger{n}-{k}", f"finger{n}-{k}|") for finger, n in _FINGERS.items() for k in (1, 2, 3)},
    **{f"palm.{n:02d}": (f"metacarpal{n}", f"finger{n + 1}-1") for n in (1, 2, 3, 4)},
}  # fmt: skip
# Weights of the default rig that a deforming bone of Rigify takes over; the rest goes to the head.
_DEFORM_TRUNK = {
    "spine": ("root", "pelvis.L", "pelvis.R", "spine05"), "spine.001": ("spine04", "spine03"),
    "spine.002": ("spine02",), "spine.003": ("spine01", "breast.L", "breast.R"), "spine.004": ("neck01",),
    "spine.005": ("neck02", "neck03"),
}  # fmt: skip
_DEFORM_SIDE = {
    "shoulder{}": ("clavicle", "shoulder01"), "upper_arm{}": ("upperarm01",), "upper_arm{}.001": ("upperarm02",),
    "forearm{}": ("lowerarm01",), "forearm{}.001": ("lowerarm02",), "hand{}": ("wrist",), "thigh{}": ("upperleg01",),
    "thigh{}.001": ("upperleg02",), "shin{}": ("lowerleg01",), "shin{}.001": ("lowerleg02",), "foot{}": ("foot",),
    "toe{}": tuple(f"toe{i}-{k}" for i in range(1, 6) for k in (1, 2, 3)),
    **{f"{finger}.{k:02d}{{}}": (f"finger{n}-{k}",) for finger, n in _FINGERS.items() for k in (1, 2, 3)},
    **{f"palm.{n:02d}{{}}": (f"metacarpal{n}",) for n in (1, 2, 3, 4)},
}  # fmt: skip


def build(path: Path, name: str, *, rigify: bool = False) -> bpy.types.Object:
    """Build the body in `path` as a character; gives its armature, at the world's origin.

    `rigify` takes a body on the default rig and puts a generated Rigify rig into it.
    """
    with np.load(path, allow_pickle=False) as file:
        body = {key: file[key] for key in file.files}
    mesh = _mesh(body, name)
    rig, groups = _rigify(body, name) if rigify else (_armature(body, name), {str(b): str(b) for b in body["bones"]})
    _skin(mesh, body, groups)
    mesh.parent = rig
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    return rig


def _mesh(body: dict[str, np.ndarray], name: str) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(body["vertices"].tolist(), [], body["faces"].tolist())
    for part, colour in _CLOTHES.items():
        material = bpy.data.materials.new(f"{name} {part}")
        material.diffuse_color = (*colour, 1.0)
        mesh.materials.append(material)
    mesh.polygons.foreach_set("material_index", body["cloth"].astype(np.int32))
    mesh.shade_smooth()
    item = bpy.data.objects.new(f"{name} body", mesh)
    bpy.context.scene.collection.objects.link(item)
    return item


def _skin(mesh: bpy.types.Object, body: dict[str, np.ndarray], groups: dict[str, str]) -> None:
    for bone, label in enumerate(body["bones"]):
        vertices, column = np.nonzero((body["joint"] == bone) & (body["weight"] > 1e-4))
        if not len(vertices):
            continue
        name = groups[str(label)]
        group = mesh.vertex_groups.get(name) or mesh.vertex_groups.new(name=name)
        for vertex, weight in zip(vertices.tolist(), body["weight"][vertices, column].tolist(), strict=True):
            group.add([vertex], weight, "ADD")


def _armature(body: dict[str, np.ndarray], name: str) -> bpy.types.Object:
    rig = _new_armature(name)
    bones = rig.data.edit_bones
    rows = zip(body["bones"], body["parents"], body["heads"], body["tails"], body["turns"], strict=True)
    for label, parent, head, tail, turn in rows:
        bone = bones.new(str(label))
        bone.tail = (0.0, max(float(np.linalg.norm(tail - head)), 0.01), 0.0)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, head
        bone.matrix = Matrix(matrix.tolist())
        if parent >= 0:
            bone.parent = bones[str(body["bones"][parent])]
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def _new_armature(name: str) -> bpy.types.Object:
    rig = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    return rig


def _rigify(body: dict[str, np.ndarray], name: str) -> tuple[bpy.types.Object, dict[str, str]]:
    """Rigify's human meta-rig, without a face, laid into the body and generated; and the groups of its bones."""
    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    meta = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    bones = meta.data.edit_bones
    face = bones["face"]
    for bone in [face, *face.children_recursive, bones["breast.L"], bones["breast.R"]]:
        bones.remove(bone)
    ends = {str(label): pair for label, *pair in zip(body["bones"], body["heads"], body["tails"], strict=True)}
    seat = (ends["upperleg01.L"][0] + ends["upperleg01.R"][0]) / 2
    _lay_out(bones, {**ends, "seat": [seat, seat]})
    bpy.ops.object.mode_set(mode="OBJECT")
    with contextlib.redirect_stdout(io.StringIO()):
        bpy.ops.pose.rigify_generate()
    rig = meta.data.rigify_target_rig
    rig.name = rig.data.name = name
    bpy.data.objects.remove(meta)
    return rig, {str(label): _deform_bone(str(label)) for label in body["bones"]}


def _lay_out(bones, ends: dict[str, list[np.ndarray]]) -> None:
    def joint(label: str) -> Vector:
        return Vector(ends[label.rstrip("|")][label.endswith("|")])

    places = {bone: (joint(start), joint(end)) for bone, (start, end) in _TRUNK.items()}
    for side in (".L", ".R"):
        for bone, (start, end) in _SIDE.items():
            tail = f"{end[:-1]}{side}|" if end.endswith("|") else f"{end}{side}"
            places[bone + side] = (joint(start + side), joint(tail))
        ankle, ball = places["foot" + side]
        heel = Vector((ankle.x, ankle.y + 0.35 * (ankle.y - ball.y), 0.0))
        places["heel.02" + side] = (heel - Vector((0.03, 0, 0)), heel + Vector((0.03, 0, 0)))
        hips = places["spine"][0]
        places["pelvis" + side] = (hips, hips.lerp(places["thigh" + side][0], 0.8))
    for bone, (head, tail) in places.items():
        bones[bone].head, bones[bone].tail = head, tail


def _deform_bone(label: str) -> str:
    stem, side = (label[:-2], label[-2:]) if label.endswith((".L", ".R")) else (label, "")
    for bone, sources in _DEFORM_TRUNK.items():
        if label in sources:
            return f"DEF-{bone}"
    for bone, sources in _DEFORM_SIDE.items():
        if side and stem in sources:
            return f"DEF-{bone.format(side)}"
    return "DEF-spine.006"
