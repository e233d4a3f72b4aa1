"""A user's armature as a character: its bones at rest in the world's axes and in metres, and whether it can be keyed.

A character performs at its own place: the object's location and its heading stay out of `Rig.rest`, and only how its
bones are laid out, upright and in metres, goes in. `Character.world` is the rest of the way to the scene.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...inference.core.retarget.posing import rehung
from ...inference.core.rig import Mapping, Rig
from ...inference.core.rotations import nearest_rotation
from ...inference.protocol.errors import InputError
from .hanging import effective_parents
from .place import place_of, world_of
from .take import units_per_m

Array = np.ndarray
_UNEVEN = 0.01  # difference of scales along the axes that nobody sees
_FLOOR = 0.12  # of the height: bones whose lowest end is so near above zero stand on it
_DANGLING = 0.05  # of the height: what hangs lower under the lowest bone is no foot
_BONE = re.compile(r'pose\.bones\["((?:[^"\\]|\\.)*)"\]\.(location|rotation_\w+)')
_STEERING = {"COPY_ROTATION", "COPY_TRANSFORMS", "COPY_LOCATION", "DAMPED_TRACK", "TRACK_TO", "LOCKED_TRACK",
             "CHILD_OF", "ARMATURE", "TRANSFORM", "ACTION", "STRETCH_TO", "SPLINE_IK", "PIVOT"}  # fmt: skip


@dataclass(frozen=True)
class Character:
    """An armature object, by its name, in numbers.

    rig: bones at rest; unit: the armature's own units in a metre; world (4, 4): from the rig's frame to the scene's, in
    metres, a heading and a place; matrix (4, 4): the object's own matrix in the scene, in the scene's units;
    local_location (B,) False where a bone's location is told in its parent's axes; connected (B,) where it cannot
    move away from its parent; deform (B,) where it moves skin; held (B,) where a constraint or a driver moves it;
    modes: its rotation mode.
    """

    name: str
    rig: Rig
    unit: float
    world: Array
    matrix: Array
    local_location: Array
    connected: Array
    deform: Array
    held: Array
    modes: tuple[str, ...]

    @property
    def units_per_m(self) -> float:
        """The scene's units in a metre."""
        return self.unit * float(np.linalg.norm(self.matrix[:3, 0]))

    def location_axes(self, row: int) -> Array:
        """(3, 3) from a bone's own axes at rest to those that its location is told in: its parent's for some."""
        if self.local_location[row]:
            return np.eye(3)
        bone = bpy.data.objects[self.name].data.bones[self.rig.names[row]]
        own = np.array(bone.matrix_local, float)[:3, :3]
        return np.array(bone.parent.matrix_local, float)[:3, :3].T @ own if bone.parent else own


def read_character(item: bpy.types.Object, mapping: Mapping | None = None) -> Character:
    """Read an armature; with a mapping, bones hang from whatever carries the mapped ones, constraints included.

    Raises:
        InputError: it cannot be used as it is; the sentence says why and what to do.
    """
    if item is None or item.type != "ARMATURE":
        raise InputError(f"{item.name if item else 'Nothing'} is not an armature.", "Choose the character's armature.")
    if item.library is not None:
        hint = "Make a library override: Object > Library Override > Make."
        raise InputError(f"{item.name} is linked from {item.library.name} and cannot be animated.", hint)
    if not item.users_collection:  # a panel's choice keeps what was deleted
        raise InputError(f"{item.name} was deleted.", "Choose another character in the panel.")
    if item.mode == "EDIT":
        raise InputError(f"{item.name} is in Edit Mode.", "Leave it (Tab), then try again.")
    bones = _parents_first(item)
    if not bones:
        raise InputError(f"{item.name} has no bones.", "Choose the character's armature.")
    matrix = place_of(item)
    scale, turn = _scale_and_turn(matrix, item.name)
    heading = _heading(turn)
    per_m = units_per_m(bpy.context.scene)
    to_world = heading.T @ turn * (scale / per_m)
    rest = np.tile(np.eye(4), (len(bones), 1, 1))
    for row, bone in enumerate(bones):
        own = np.array(bone.matrix_local, float)
        rest[row, :3, :3], rest[row, :3, 3] = heading.T @ turn @ own[:3, :3], to_world @ own[:3, 3]
    index = {bone.name: row for row, bone in enumerate(bones)}
    parents = np.array([index[bone.parent.name] if bone.parent else -1 for bone in bones])
    rig = Rig(
        tuple(index), parents, rest, np.array([bone.length for bone in bones]) * (scale / per_m),
        np.array([bone.use_inherit_rotation for bone in bones]), name=item.name,
    )  # fmt: skip
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = heading, matrix[:3, 3] / per_m
    driven = _driven(item)
    rig = replace(rig, ground=_ground(item, rig, world, per_m))
    character = Character(
        item.name, rig, per_m / scale, world, matrix, np.array([bone.use_local_location for bone in bones]),
        np.array([bone.use_connect and bone.parent is not None for bone in bones]),
        np.array([bone.use_deform for bone in bones]),
        np.array([bone.name in driven or _is_held(item.pose.bones[bone.name]) for bone in bones]),
        tuple(item.pose.bones[bone.name].rotation_mode for bone in bones),
    )  # fmt: skip
    return character if mapping is None else _hung(item, character, mapping)


def check_character(character: Character, mapping: Mapping) -> list[str]:
    """What the user should know before this character's mapped bones are keyed.

    Raises:
        InputError: a mapped bone has a driver that no key could overrule; names the bone and says what to do.
    """
    item = bpy.data.objects[character.name]
    mapped = [name for chain in mapping.bones.values() for name in chain if name in character.rig.index]
    controls = [name for limb in mapping.ik for name in (limb.target, limb.pole) if name in character.rig.index]
    everyone = set(mapped) | set(controls)
    for driver in _drivers(item):
        match = _BONE.fullmatch(driver.data_path)
        name = bpy.utils.unescape_identifier(match[1]) if match else ""
        if match and name in everyone:
            raise InputError(
                f"{name}: its {match[2]} has a driver, which overrules every key.",
                "Delete the driver, or take the bone out of the mapping.",
            )
    notes = []
    locked = [name for name in mapped if _is_locked(item.pose.bones[name])]
    if locked:
        notes.append(f"{_some(locked)}: locked channels were keyed all the same; the locks stay.")
    for name in mapped:
        steering = [c.name for c in item.pose.bones[name].constraints if _steers(c)]
        if steering:
            notes.append(f"{name} has the constraint {steering[0]!r}, which may keep it from following its keys.")
    return notes


def _parents_first(item: bpy.types.Object) -> list[bpy.types.Bone]:
    """Bones in the armature's order, but never before their parents."""
    out: list[bpy.types.Bone] = []
    seen: set[str] = set()
    for bone in item.data.bones:
        chain = [above for above in (bone, *bone.parent_recursive) if above.name not in seen]
        out += reversed(chain)
        seen.update(above.name for above in chain)
    return out


def _scale_and_turn(matrix: Array, name: str) -> tuple[float, Array]:
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) <= 0:
        hint = "Apply it (Object > Apply > Scale) or make it positive."
        raise InputError(f"{name} has a mirrored scale ({_three(lengths, matrix)}).", hint)
    turn = nearest_rotation(matrix[:3, :3])
    if np.ptp(lengths) > _UNEVEN * lengths.max() or np.abs(turn * lengths.mean() - matrix[:3, :3]).max() > (
        _UNEVEN * lengths.max()
    ):
        hint = "Apply it (Object > Apply > Scale), also on its parents."
        raise InputError(f"{name} is scaled unevenly ({', '.join(f'{s:.3g}' for s in lengths)}).", hint)
    return float(lengths.mean()), turn


def _three(lengths: Array, matrix: Array) -> str:
    signs = np.sign(np.diag(matrix[:3, :3]))
    return ", ".join(f"{sign * length:.3g}" for sign, length in zip(signs, lengths, strict=True))


def _heading(turn: Array) -> Array:
    """(3, 3) the part of a rotation that turns about the vertical."""
    w, z = 1.0 + np.trace(turn), turn[1, 0] - turn[0, 1]  # of the quaternion, up to a factor
    angle = 2.0 * np.arctan2(z, w) if abs(w) + abs(z) > 1e-6 else 0.0
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _ground(item: bpy.types.Object, rig: Rig, world: Array, per_m: float) -> float:
    """Height of the floor under a character at rest, metres in the rig's frame.

    Under the lowest vertex of its skin; without a skin, zero for bones that end a little above it, else their lowest.
    """
    ends = np.concatenate([rig.heads[:, 2], [rig.tail(row)[2] for row in range(len(rig.names))]])
    lowest, height = float(ends.min()), float(np.ptp(ends))
    back = place_of(item) @ np.linalg.inv(world_of(item))  # from where it has travelled to
    soles = [_lowest_vertex(mesh, back, per_m) for mesh in _skins(item)]
    if soles:
        sole = min(soles) - float(world[2, 3])
        if abs(sole - lowest) < _FLOOR * height or lowest - sole < _DANGLING * height:
            return sole
    return 0.0 if 0.0 <= lowest < _FLOOR * height else lowest


def _skins(item: bpy.types.Object) -> Iterable[bpy.types.Object]:
    for mesh in bpy.data.objects:
        if mesh.type != "MESH" or not mesh.data.vertices:
            continue
        is_child = mesh.parent == item and mesh.parent_type == "ARMATURE"
        if is_child or any(m.type == "ARMATURE" and m.object == item for m in mesh.modifiers):
            yield mesh


def _lowest_vertex(mesh: bpy.types.Object, back: Array, per_m: float) -> float:
    points = np.empty(3 * len(mesh.data.vertices), np.float32)
    mesh.data.vertices.foreach_get("co", points)
    down = (back @ world_of(mesh))[2]
    return float((points.reshape(-1, 3) @ down[:3] + down[3]).min() / per_m)


def _hung(item: bpy.types.Object, character: Character, mapping: Mapping) -> Character:
    """The character with its mapped bones and controls hanging from the mapped bones that carry them."""
    carriers = effective_parents(item, mapping)
    if not carriers:
        return character
    rig, order = rehung(character.rig, carriers)
    return replace(
        character, rig=rig, local_location=character.local_location[order], connected=character.connected[order],
        deform=character.deform[order], held=character.held[order],
        modes=tuple(character.modes[row] for row in order),
    )  # fmt: skip


def _driven(item: bpy.types.Object) -> set[str]:
    """Names of the bones whose location or rotation has a driver."""
    found = [_BONE.fullmatch(driver.data_path) for driver in _drivers(item)]
    return {bpy.utils.unescape_identifier(match[1]) for match in found if match}


def _drivers(item: bpy.types.Object) -> Iterable[bpy.types.FCurve]:
    return item.animation_data.drivers if item.animation_data else ()


def _is_held(bone: bpy.types.PoseBone) -> bool:
    return any(not constraint.mute and constraint.influence > 0 for constraint in bone.constraints)


def _is_locked(bone: bpy.types.PoseBone) -> bool:
    return any(bone.lock_rotation) or (bone.lock_rotations_4d and bone.lock_rotation_w)


def _steers(constraint: bpy.types.Constraint) -> bool:
    return constraint.type in _STEERING and not constraint.mute and constraint.influence > 0


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
