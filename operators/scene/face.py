"""A captured face on meshes with shape keys, and on the bones of head and eyes: one action, with the body's if wanted.

Everything is looked up first and written last, so a face that cannot land changes nothing. No key is added to a
datablock's own action: what is written is a new action, into which the body's keys are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import bpy
import numpy as np
from mathutils import Quaternion

from ...inference.core.artifacts import FaceTrack
from ...inference.core.face_shapes import EYES, find_bones, match_shapes
from ...inference.core.rotations import (
    conjugate,
    continuous,
    multiply,
    quaternion_from_matrix,
)
from ...inference.core.timing import Rate, Timing, place, sample_rotations, sample_values
from ...inference.core.upright import find_up, to_z_up
from ...inference.protocol.errors import InputError
from .action import fill
from .compat import Curves, action_slot, assign_action
from .controls import rotation_channel
from .take import scene_fps

Array = np.ndarray
HELD = "understudy_held"  # custom property of actions that turn an object: how it was held without them, wxyz
LEAST = 3  # of the 52 shapes that a mesh must have to be a face
EyesBy = Literal["AUTO", "SHAPES", "BONES", "BOTH", "NONE"]
Turns = Literal["RELATIVE", "ABSOLUTE", "NONE"]


@dataclass(frozen=True)
class FaceOptions:
    """What the redo panel offers.

    strength: of all weights; head: how the head turns: from where it is in the first frame that shows it, as it turns
    against the camera, or not at all; join: take the keys of the armature's action along; head_bone and the like: where
    names do not say it.
    """

    name: str = "Face"
    frame_start: int = 1
    rate: Rate = "SCENE"
    raw: bool = False
    strength: float = 1.0
    head: Turns = "RELATIVE"
    eyes: EyesBy = "AUTO"
    join: bool = True
    head_bone: str = ""
    eye_left: str = ""
    eye_right: str = ""


@dataclass(frozen=True)
class Applied:
    """Names of what was made, and what the user should know.

    keys: shape keys that were animated, of all meshes; missing: shapes that move and no mesh has.
    """

    action: str
    meshes: tuple[str, ...]
    keys: int
    missing: tuple[str, ...]
    bones: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def find_faces(objects: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Meshes among objects that have enough of the shapes; those that share a mesh count once."""
    found: dict[str, bpy.types.Object] = {}
    for item in objects:
        if item.type == "MESH" and item.data.shape_keys and len(shapes_of(item)) >= LEAST:
            found.setdefault(item.data.name_full, item)
    return list(found.values())


def shapes_of(item: bpy.types.Object) -> dict[str, list[str]]:
    """Which shape keys of a mesh mean which shapes."""
    keys = item.data.shape_keys
    return match_shapes(key.name for key in keys.key_blocks if key != keys.reference_key) if keys else {}


def apply_face(
    track: FaceTrack, meshes: Sequence[bpy.types.Object], rig: bpy.types.Object | None, options: FaceOptions,
    scene: bpy.types.Scene,
) -> Applied:  # fmt: skip
    """Animate faces.

    Raises:
        InputError: no mesh has shapes, a mesh or the armature cannot be changed, a bone is not there.
    """
    timing = place(track.times, scene_fps=scene_fps(scene), start=options.frame_start, rate=options.rate)
    found = {item.name: shapes_of(item) for item in meshes}
    bones = _bones(rig, options)
    turned = None if options.head == "NONE" else _turned(track, options, timing)
    if not any(found.values()) and not bones:
        names = ", ".join(item.name for item in meshes) or "nothing"
        hint = "Choose a mesh whose shape keys are called jawOpen, eyeBlinkLeft and so on, or an armature with a head."
        raise InputError(f"{names} has no shape key that means one of the 52 shapes.", hint)
    carrier = _carrier(meshes, rig, turned, bones)
    _check_editable([item for item in (*meshes, rig, carrier) if item is not None])
    previous = carrier.animation_data.action if carrier and carrier.animation_data else None
    joined = previous is not None and options.join and carrier == rig
    action = previous.copy() if joined and previous else bpy.data.actions.new(options.name)
    action.name = options.name
    if carrier is not None and rig is None:
        action[HELD] = _held(carrier, previous)
    blocks = [*(item.data.shape_keys for item in meshes), carrier]
    playing = [block.animation_data for block in blocks if block is not None and block.animation_data]
    before = [(animation, animation.action, action_slot(animation)) for animation in playing]
    try:
        made = _write(action, (track, timing, turned), (meshes, found, rig, bones, carrier), options)
    except BaseException:
        bpy.data.actions.remove(action)
        for animation, old, slot in before:
            assign_action(animation, old, slot)
        raise
    for _, old, _ in before:
        if old is not None and not old.users:
            old.use_fake_user = True  # else it would be gone with the next save
    return made


def _held(item: bpy.types.Object, action: bpy.types.Action | None) -> list[float]:
    """How an object is turned, or was before a face turned it."""
    kept = action.get(HELD) if action is not None else None
    if kept is not None:
        return list(kept)
    # Not from its matrix, which holds its delta's turning, too, and of a mirrored object none that is its own.
    if item.rotation_mode == "QUATERNION":
        return list(item.rotation_quaternion.normalized())
    if item.rotation_mode == "AXIS_ANGLE":
        angle, *axis = item.rotation_axis_angle
        return list(Quaternion(axis, angle))
    return list(item.rotation_euler.to_quaternion())


def _write(
    action: bpy.types.Action, motion: tuple[FaceTrack, Timing, Array | None], where: tuple, options: FaceOptions
) -> Applied:  # fmt: skip
    track, timing, turned = motion
    meshes, found, rig, bones, carrier = where
    values = _values(track, timing, options)
    by_bones = _eyes_by_bones(options, found, bones)
    notes, count = _timing_notes(track, timing), 0
    notes += _head_notes(turned, rig, carrier, bones)
    actions = [action]
    for item in meshes:
        keys = item.data.shape_keys
        own = action if _takes_slots(action) else bpy.data.actions.new(f"{options.name} {item.name}")
        actions += [own] if own is not action else []
        curves = _Writer(keys, own)
        driven = _driven(keys)
        notes += _hidden_notes(item, [name for names in found[item.name].values() for name in names])
        for shape, names in found[item.name].items():
            if shape not in values or (shape in EYES and by_bones == "only"):
                continue
            for name in names:
                path = f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'
                if path in driven:
                    notes.append(f"{item.name}: {name} has a driver and is left to it.")
                    continue
                curves.put(path, 0, timing.frames, values[shape], "Shape Keys")
                count += 1
    moved: list[str] = []
    if carrier is not None and (turned is not None or by_bones):
        curves = _Writer(carrier, action, action_slot(carrier.animation_data) if carrier.animation_data else None)
        heads = [] if turned is None or (rig is not None and "head" not in bones) else [(bones.get("head", ""), turned)]
        for bone, turns in [*heads, *(_eyes(track, timing, bones) if by_bones else [])]:
            if _turn(curves, carrier, bone, timing, turns):
                moved.append(bone or carrier.name)
            else:
                notes.append(f"{bone or carrier.name} is turned by a driver and is left to it.")
    _finish(actions, timing)
    there = {shape for shapes in found.values() for shape in shapes}
    stirs = [name for name, column in zip(track.header["shapes"], track.weights.T, strict=True) if column.max() > 0.05]
    covered = set(EYES) if by_bones else set()
    missing = tuple(name for name in stirs if name not in there | covered)
    return Applied(action.name, tuple(item.name for item in meshes), count, missing, tuple(moved), tuple(notes))


class _Writer:
    """Puts keys into an action's slot of a datablock, in place of those that are there."""

    def __init__(self, datablock: bpy.types.ID, action: bpy.types.Action, played: Any = None) -> None:
        self._curves = Curves(datablock, action, played)
        self._there = {(curve.data_path, curve.array_index): curve for curve in self._curves}

    def put(self, path: str, index: int, frames: Array, values: Array, group: str) -> None:
        """Write one F-curve."""
        old = self._there.pop((path, index), None)
        if old is not None:
            self._curves.remove(old)
        fill(self._curves.new(path, index, group), frames, values)

    def drop(self, path: str) -> None:
        """Take all F-curves of a property away."""
        for key in [key for key in self._there if key[0] == path]:
            self._curves.remove(self._there.pop(key))


def _takes_slots(action: bpy.types.Action) -> bool:
    """Whether one action can animate several datablocks; in 4.2 it cannot."""
    return hasattr(action, "slots")


def _values(track: FaceTrack, timing: Timing, options: FaceOptions) -> dict[str, Array]:
    """(K,) keys of each shape, and of each viseme that was captured."""
    weights = track.weights_raw if options.raw and track.weights_raw is not None else track.weights
    names = [str(name) for name in track.header["shapes"]]
    columns = dict(zip(names, sample_values(weights, timing).T * options.strength, strict=True))
    if track.visemes is not None:
        shown = sample_values(track.visemes, timing).T * options.strength
        columns |= dict(zip(map(str, track.header["visemes"]), shown, strict=True))
    return columns


def _turned(track: FaceTrack, options: FaceOptions, timing: Timing) -> Array:
    """(K, 4) how the head turns, in its own axes: x left, y backwards, z up."""
    rotations = track.rotations_raw if options.raw and track.rotations_raw is not None else track.rotations
    if options.head == "RELATIVE":
        seen = np.flatnonzero(track.confidence > 0)
        rotations = multiply(rotations, conjugate(rotations[seen[0] if len(seen) else 0])[None])
    return sample_rotations(continuous(rotations), timing)


def _eyes_by_bones(options: FaceOptions, found: dict[str, dict[str, list[str]]], bones: dict[str, str]) -> str:
    """Whether bones turn the eyes: "" for no, "only" where shapes then must not, "too" where both do."""
    has_bones = "eye.L" in bones or "eye.R" in bones
    has_shapes = any(name in shapes for shapes in found.values() for name in EYES)
    if options.eyes == "NONE" or not has_bones:
        return "only" if options.eyes == "NONE" else ""
    if options.eyes == "BOTH":
        return "too"
    return "only" if options.eyes == "BONES" or (options.eyes == "AUTO" and not has_shapes) else ""


def _bones(rig: bpy.types.Object | None, options: FaceOptions) -> dict[str, str]:
    """Which bones turn with head and eyes.

    Raises:
        InputError: a bone that was named is not there.
    """
    if rig is None:
        return {}
    bones = find_bones(bone.name for bone in rig.data.bones)
    for role, name in (("head", options.head_bone), ("eye.L", options.eye_left), ("eye.R", options.eye_right)):
        if name and name not in rig.data.bones:
            raise InputError(f"{rig.name} has no bone {name!r}.", "Choose one of its bones.")
        if name:
            bones[role] = name
    if options.eyes == "NONE":
        bones = {role: name for role, name in bones.items() if role == "head"}
    return bones


def _carrier(
    meshes: Sequence[bpy.types.Object], rig: bpy.types.Object | None, turned: Array | None, bones: dict[str, str]
) -> bpy.types.Object | None:  # fmt: skip
    """What is turned: the armature, or with none the one mesh, or what all meshes hang on."""
    if rig is not None:
        return rig if bones else None
    if turned is None:
        return None
    tops = {_top(item).name: _top(item) for item in meshes}
    return next(iter(tops.values())) if len(tops) == 1 else None


def _top(item: bpy.types.Object) -> bpy.types.Object:
    while item.parent is not None:
        item = item.parent
    return item


def _check_editable(objects: Sequence[bpy.types.Object]) -> None:
    for item in objects:
        held = [block for block in (item, item.data, getattr(item.data, "shape_keys", None)) if block is not None]
        if any(block.library is not None and block.override_library is None for block in held[:1]) or (
            len(held) > 2 and held[2].library is not None
        ):
            hint = "Make it local, or a library override that can be edited."
            raise InputError(f"{item.name} is linked from another file and cannot be animated.", hint)
        if any(block.animation_data and block.animation_data.use_tweak_mode for block in held):
            raise InputError(f"{item.name} is in the NLA's tweak mode.", "Leave it (Tab in the NLA editor).")


def _eyes(track: FaceTrack, timing: Timing, bones: dict[str, str]) -> list[tuple[str, Array]]:
    """Which bones turn with the eyes, and how (K, 4)."""
    there = [(index, role) for index, role in enumerate(("eye.L", "eye.R")) if role in bones]
    return [(bones[role], sample_rotations(track.eyes[:, index], timing)) for index, role in there]


def _driven(block: bpy.types.ID) -> set[str]:
    """Paths of what drivers have a say in, keys or not."""
    return {curve.data_path for curve in block.animation_data.drivers} if block.animation_data else set()


def _turn(curves: _Writer, item: bpy.types.Object, bone: str, timing: Timing, turned: Array) -> bool:
    """Key the turning (K, 4) of a bone, or of an object where no bone is named, in its own rotation mode.

    Nothing is keyed that has a driver; tells whether it was.
    """
    if bone:
        pose = item.pose.bones[bone]
        rest = quaternion_from_matrix(_upright(item, bone) @ np.array(item.data.bones[bone].matrix_local.to_3x3()))
        local = multiply(multiply(conjugate(rest)[None], turned), rest[None])
        target, path = pose, f'pose.bones["{bpy.utils.escape_identifier(bone)}"].'
    else:
        own = np.array(item.animation_data.action[HELD])
        ahead = _heading(own)
        local = multiply(multiply(ahead[None], turned), multiply(conjugate(ahead), own)[None])
        target, path = item, ""
    channel, values, _ = rotation_channel(target.rotation_mode, continuous(local))
    if path + channel in _driven(item):
        return False
    for name in ("rotation_quaternion", "rotation_euler", "rotation_axis_angle"):
        curves.drop(path + name)
    for index in range(values.shape[1]):
        curves.put(path + channel, index, timing.frames, values[:, index], bone or "Object Transforms")
    return True


def _heading(rotation: Array) -> Array:
    """(4,) the part of a rotation (4,) that is about the vertical: which way a head faces, whatever its mesh's up."""
    w, _, _, z = rotation
    length = np.hypot(w, z)
    return np.array([w / length, 0.0, 0.0, z / length]) if length > 1e-6 else np.array([1.0, 0.0, 0.0, 0.0])


def _upright(rig: bpy.types.Object, bone: str) -> Array:
    """(3, 3) from the armature's axes to those of heads; armatures of Y-up programs stand by their object's turning."""
    lowest = [rig.data.bones[bone], *rig.data.bones[bone].parent_recursive][-1]
    up = np.array(rig.data.bones[bone].tail_local - lowest.head_local)
    stands = find_up((np.array(rig.matrix_world.to_3x3()) @ up)[None]) == "+Z"
    return to_z_up("+Y") if stands and find_up(up[None]) == "+Y" else np.eye(3)


def _finish(actions: Sequence[bpy.types.Action], timing: Timing) -> None:
    """Let actions last as long as their keys."""
    low, high = float(timing.frames[0]), float(timing.frames[-1])
    for action in actions:
        start, end = action.frame_range  # its own, or else that of all keys, the body's included
        action.use_frame_range = True
        action.frame_start, action.frame_end = min(low, start), max(high, end)


def _timing_notes(track: FaceTrack, timing: Timing) -> list[str]:
    if not timing.resampled:
        return []
    return [f"The film's {track.fps:.4g} frames a second were resampled to the scene's."]


def _hidden_notes(item: bpy.types.Object, names: Sequence[str]) -> list[str]:
    """What keeps the keys of a mesh from being seen whatever their values are."""
    keys = item.data.shape_keys
    if item.show_only_shape_key:
        return [f"{item.name} is pinned to one shape key; take the pin away to see the face move."]
    if not keys.use_relative:
        return [f"The shape keys of {item.name} are absolute: their values change nothing."]
    muted = [name for name in names if keys.key_blocks[name].mute]
    if not muted:
        return []
    more = f" and {len(muted) - 1} more" if len(muted) > 1 else ""
    return [f"{item.name}: {muted[0]}{more} is muted and does not show."]


def _head_notes(
    turned: Array | None, rig: bpy.types.Object | None, carrier: bpy.types.Object | None, bones: dict[str, str]
) -> list[str]:
    if turned is None or (carrier is not None and (rig is None or "head" in bones)):
        return []
    return ["The head does not turn: no bone or single object was found for it. Choose its bone."]
