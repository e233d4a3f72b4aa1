"""A body motion becomes an armature of its own with an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.core.artifacts import BodyMotion
from ...inference.core.kinematics import transformed
from ...inference.core.timing import Timing, sample_rotations, sample_values
from .action import Channel, write_action
from .place import alone

Array = np.ndarray
CONFIDENCE = "confidence"
CONTACT = "contact"
_SHORTEST_M = 0.005  # Blender deletes bones of no length
_CONNECTED_M = 1e-4
_CONTACT_BONES = ("foot.L", "toe.L", "foot.R", "toe.R")  # order of BodyMotion.contacts
_FINGERS = ("hand", "thumb", "index", "middle", "ring", "little")
_FACE = ("jaw", "eye", "face")
# Low, middling, high: apart for every kind of colour vision (ColorBrewer RdYlBu). Never seen: grey.
_SCALE = np.array([[0.84, 0.19, 0.15], [1.0, 0.88, 0.56], [0.27, 0.46, 0.71]])
_UNSEEN = np.array([0.35, 0.35, 0.35])


@dataclass(frozen=True)
class Placement:
    """Where a motion goes: its frame's transform to the scene's floor, and Blender units in a metre."""

    floor_from_frame: Array
    units_per_m: float = 1.0


def floor_from_frame(header: dict) -> Array:
    """(4, 4) transform of an artifact's frame to Z up with the floor at z = 0; the identity where unknown."""
    return np.array(header.get("floor_from_frame", np.eye(4)), float)


def create_armature(
    motion: BodyMotion, name: str, collection: bpy.types.Collection, placement: Placement
) -> bpy.types.Object:
    """Build the rest pose of a motion as a new armature at the world's origin, linked to `collection`."""
    data = bpy.data.armatures.new(name)
    rig = bpy.data.objects.new(name, data)
    lengths = _lengths(motion) * placement.units_per_m
    rest = np.array(motion.rest, float)
    rest[:, :3, 3] *= placement.units_per_m
    edit(rig, lambda: _add_bones(data, motion.header["bones"], motion.parents, rest, lengths))
    collection.objects.link(rig)
    data.display_type = "OCTAHEDRAL"
    rig.show_in_front = True
    _sort_into_collections(data)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return rig


def animate(
    rig: bpy.types.Object, motion: BodyMotion, timing: Timing, placement: Placement, *, raw: bool = False
) -> bpy.types.Action:
    """Write a motion as the action of an armature made by `create_armature`.

    `raw` takes the motion before smoothing, where the artifact holds it.
    """
    rotations, root = motion.rotations, motion.root
    if raw and motion.rotations_raw is not None and motion.root_raw is not None:
        rotations, root = motion.rotations_raw, motion.root_raw
    rotations, root = transformed(motion.rest, rotations, root, placement.floor_from_frame)
    names: list[str] = motion.header["bones"]
    rest = motion.rest[0]
    location = (sample_values(root, timing) - rest[:3, 3]) @ rest[:3, :3] * placement.units_per_m
    turns = sample_rotations(rotations, timing)
    channels = [Channel(f"{_bone_path(names[0])}.location", location, names[0])]
    channels += [Channel(f"{_bone_path(n)}.rotation_quaternion", turns[:, b], n) for b, n in enumerate(names)]
    channels += _annotations(rig, motion, timing)
    return write_action(rig, rig.name, timing.frames, channels)


def colour_by_confidence(rig: bpy.types.Object, names: Sequence[str], confidence: Array) -> None:
    """Paint each bone by its mean of (T, B) confidences: red 0, yellow 0.5, blue 1, grey never seen."""
    for name, mean in zip(names, np.nanmean(np.clip(confidence, 0.0, 1.0), axis=0), strict=True):
        colour = rig.data.bones[name].color
        colour.palette = "CUSTOM"
        base = confidence_colour(float(mean))
        colour.custom.normal = base
        colour.custom.select = base + (1.0 - base) * 0.35
        colour.custom.active = base + (1.0 - base) * 0.65


def confidence_colour(value: float) -> Array:
    """(3,) display colour of a confidence in [0, 1]."""
    if value <= 0.0:
        return _UNSEEN
    return np.array([np.interp(value, (0.0, 0.5, 1.0), _SCALE[:, channel]) for channel in range(3)])


def edit(rig: bpy.types.Object, change: Callable[[], None]) -> None:
    """Run `change` in edit mode inside a scene of its own, so that the user's mode and selection stay."""
    mode = rig.mode
    with alone(rig) as scene:
        layer = scene.view_layers[0]
        layer.objects.active = rig
        with bpy.context.temp_override(scene=scene, view_layer=layer, active_object=rig, object=rig):
            bpy.ops.object.mode_set(mode="EDIT")
            change()
            bpy.ops.object.mode_set(mode="OBJECT")
            bpy.ops.object.mode_set(mode=mode)


def _add_bones(data: bpy.types.Armature, names: Sequence[str], parents: Array, rest: Array, lengths: Array) -> None:
    for name, parent, matrix, length in zip(names, parents, rest, lengths, strict=True):
        bone = data.edit_bones.new(name)
        bone.tail = (0.0, float(length), 0.0)  # a length first: `matrix` keeps it
        bone.matrix = Matrix(matrix.tolist())
        if parent < 0:
            continue
        bone.parent = data.edit_bones[names[parent]]
        bone.use_connect = (bone.head - bone.parent.tail).length < _CONNECTED_M


def _lengths(motion: BodyMotion) -> Array:
    """(B,) metres: what the header says, or the distance to the farthest child, or half the parent's."""
    given = motion.header.get("lengths_m")
    heads, parents = motion.rest[:, :3, 3], motion.parents
    out = np.zeros(len(parents))
    for bone, parent in enumerate(parents):
        children = np.flatnonzero(parents == bone)
        reach = np.linalg.norm(heads[children] - heads[bone], axis=-1)
        out[bone] = reach.max() if len(reach) else out[parent] / 2
    if isinstance(given, list) and len(given) == len(out):
        out = np.where(np.array(given, float) > 0, given, out)
    return np.maximum(out, _SHORTEST_M)


def _sort_into_collections(data: bpy.types.Armature) -> None:
    for bone in data.bones:
        stem = bone.name.split(".")[0]
        title = "Hands" if stem in _FINGERS else "Face" if stem.startswith(_FACE) else "Body"
        group = data.collections.get(title) or data.collections.new(title)
        group.assign(bone)


def _annotations(rig: bpy.types.Object, motion: BodyMotion, timing: Timing) -> list[Channel]:
    """Custom properties keyed beside the pose: confidence of every bone, floor contact of feet and toes."""
    names: list[str] = motion.header["bones"]
    confidence = sample_values(np.nan_to_num(motion.bone_confidence), timing)
    contacts = sample_values(np.nan_to_num(motion.contacts), timing)
    channels = [
        _annotate(rig, name, CONFIDENCE, confidence[:, bone], "How sure the capture is of this bone")
        for bone, name in enumerate(names)
    ]
    return channels + [
        _annotate(rig, name, CONTACT, contacts[:, column], "How sure the capture is that this touches the floor")
        for column, name in enumerate(_CONTACT_BONES)
        if name in names
    ]


def _annotate(rig: bpy.types.Object, bone: str, name: str, values: Array, description: str) -> Channel:
    pose_bone = rig.pose.bones[bone]
    pose_bone[name] = float(values[0])
    pose_bone.id_properties_ui(name).update(min=0.0, max=1.0, description=description)
    return Channel(f'{_bone_path(bone)}["{name}"]', values, bone)


def _bone_path(name: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
