"""A motion in the channels of a character's bones and controls: forward and inverse kinematics of the same pose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import bpy
import numpy as np

from ...inference.core.retarget.reduce import Track, location_track, rotation_track
from ...inference.core.rig import IkLimb, Mapping, Property, RigMotion
from ...inference.core.rotations import (
    continuous,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_from_rotvec,
    rotvec_from_quaternion,
    unit,
)
from ...inference.core.timing import Timing, sample_rotations, sample_values
from ...inference.protocol.retarget import RetargetSettings
from .place import world_of
from .rig import Character

Array = np.ndarray
_UPPER = {"hand": ("upper_arm", "forearm"), "foot": ("thigh", "shin")}
_STRAIGHT, _BENT = 0.002, 0.012  # of a limb's length: how far its middle joint stands out


@dataclass(frozen=True)
class Curve:
    """Values (K, C) of one property at the keys' frames; one row where it stays. `track` tells how to thin it out."""

    path: str
    values: Array
    group: str
    track: Track | None = None


def limbs_of(item: bpy.types.Object, mapping: Mapping) -> tuple[IkLimb, ...]:
    """The mapping's inverse-kinematics controls, or those that the armature's own IK constraints name."""
    if mapping.ik:
        return mapping.ik
    return tuple(_constrained_limbs(item, mapping))


def curves_of(
    item: bpy.types.Object, character: Character, motion: RigMotion, settings: RetargetSettings, timing: Timing
) -> list[Curve]:
    """Everything that is keyed, in the order of the armature's bones."""
    limbs = limbs_of(item, motion.mapping) if settings.ik else ()
    spared = set() if settings.fk else _limb_bones(motion, limbs)
    tolerance = _Tolerance(np.radians(settings.tolerance_deg), settings.tolerance_mm / 1000 * character.unit)
    turned = sample_rotations(motion.rotations, timing)
    moved = {int(row): sample_values(motion.locations[:, m], timing) for m, row in enumerate(motion.moved)}
    curves = []
    for k, row in enumerate(motion.keyed.tolist()):
        if row in spared:
            continue
        curves.append(_rotation(character, row, turned[:, k], tolerance))
        if row in moved:
            curves.append(_location(character, row, moved.pop(row), tolerance))
    curves += [_location(character, row, values, tolerance) for row, values in moved.items()]
    bent = _bent_by_keys(item, motion, settings)
    curves += _ik_curves(character, motion, [(limb, limb.role in bent) for limb in limbs], timing, tolerance)
    curves += _switches(item, motion.mapping, limbs, settings)
    if motion.placement is not None:
        curves += _placement(item, character, sample_placement(motion.placement, timing), tolerance)
    return curves


@dataclass(frozen=True)
class _Tolerance:
    radians: float
    distance: float  # in the armature's units


def _limb_bones(motion: RigMotion, limbs: tuple[IkLimb, ...]) -> set[int]:
    """Rows of the bones that inverse kinematics would place."""
    rows: set[int] = set()
    for limb in limbs:
        part, _, side = limb.role.partition(".")
        for role in (*_UPPER.get(part, ()), part):
            rows.update(motion.mapping.chain(f"{role}.{side}", motion.rig))
    return rows


def _rotation(character: Character, row: int, quaternions: Array, tolerance: _Tolerance) -> Curve:
    """Keys of a bone's rotation in the bone's own mode."""
    mode, name = character.modes[row], character.rig.names[row]
    path, values, back = rotation_channel(mode, quaternions)
    track = rotation_track(values, quaternions, back, tolerance.radians)
    return Curve(f"{bone_path(name)}.{path}", values, name, track)


def rotation_channel(mode: str, quaternions: Array):  # noqa: ANN201 - a path, values and a function
    """Property, values (K, C) and the way back to quaternions of rotations (K, 4) in a rotation mode."""
    if mode == "QUATERNION":
        return "rotation_quaternion", quaternions, lambda values: values
    if mode == "AXIS_ANGLE":
        return (
            "rotation_axis_angle", _angle_and_axis(rotvec_from_quaternion(quaternions)),
            lambda values: quaternion_from_rotvec(values[..., :1] * unit(values[..., 1:])),
        )  # fmt: skip
    angles = euler_from_matrix(matrix_from_quaternion(quaternions), mode)
    return "rotation_euler", angles, lambda values: quaternion_from_matrix(matrix_from_euler(values, mode))


def _angle_and_axis(vectors: Array) -> Array:
    """(K, 4) of rotation vectors (K, 3): axes that do not flip, angles that go on past a turn and through zero."""
    lengths = np.linalg.norm(vectors, axis=-1)
    out = np.empty((len(vectors), 4))
    angle, axis = 0.0, None
    for frame, length in enumerate(lengths.tolist()):
        if length > 1e-9:
            way = vectors[frame] / length
            side = -1.0 if axis is not None and way @ axis < 0 else 1.0
            axis, now = side * way, side * length
        else:
            axis, now = np.array([0.0, 1.0, 0.0]) if axis is None else axis, 0.0
        angle = now + 2 * np.pi * round((angle - now) / (2 * np.pi))
        out[frame, 0], out[frame, 1:] = angle, axis
    return out


def _location(character: Character, row: int, metres: Array, tolerance: _Tolerance) -> Curve:
    """Keys of a bone's location: (K, 3) metres in its rest axes."""
    values = metres @ character.location_axes(row).T * character.unit
    name = character.rig.names[row]
    return Curve(f"{bone_path(name)}.location", values, name, location_track(values, tolerance.distance))


class _World:
    """Where bones are: the motion's, and those of controls that were placed since."""

    def __init__(self, motion: RigMotion) -> None:
        self._motion, self.rig = motion, motion.rig
        self._placed: dict[int, tuple[Array, Array]] = {}

    def __getitem__(self, row: int) -> tuple[Array, Array]:
        """Orientations (T, 3, 3) and heads (T, 3)."""
        return self._placed.get(row) or (self._motion.turns[:, row], self._motion.heads[:, row])

    def delta(self, row: int) -> Array:
        """(T, 3, 3) how a bone is turned since rest."""
        return self[row][0] @ self.rig.rest[row, :3, :3].T

    def carried(self, row: int, point: Array, turn: Array) -> tuple[Array, Array]:
        """Where a point (3,) and axes (3, 3) at rest are when a bone carries them."""
        delta = self.delta(row)
        return delta @ turn, self[row][1] + delta @ (point - self.rig.heads[row])

    def place(self, row: int, turn: Array, head: Array) -> tuple[Array, Array]:
        """Put a control somewhere; gives its own rotation (T, 3, 3) and location (T, 3) for that, metres."""
        self._placed[row] = (turn, head)
        rest, above = self.rig.rest[row], int(self.rig.parents[row])
        turned = carried = np.broadcast_to(rest[:3, :3], turn.shape)
        at = np.broadcast_to(rest[:3, 3], head.shape)
        if above >= 0:
            carried, at = self.carried(above, rest[:3, 3], rest[:3, :3])
            turned = carried if self.rig.inherit_rotation is None or self.rig.inherit_rotation[row] else turned
        shift = np.swapaxes(carried, -1, -2) @ (head - at)[..., None]  # a parent's turning always carries locations
        return np.swapaxes(turned, -1, -2) @ turn, shift[..., 0]


def _ik_curves(
    character: Character, motion: RigMotion, limbs: list[tuple[IkLimb, bool]], timing: Timing, tolerance: _Tolerance
) -> Iterator[Curve]:
    rig, world = motion.rig, _World(motion)
    for limb, carried in limbs:
        end = motion.mapping.first(limb.role, rig)
        if end is None or limb.target not in rig.index:
            continue
        row = rig.index[limb.target]
        turn, head = world.carried(end, rig.heads[row], rig.rest[row, :3, :3])
        own, shift = world.place(row, turn, head)
        quaternions = sample_rotations(quaternion_from_matrix(own), timing)
        yield _location(character, row, sample_values(shift, timing), tolerance)
        yield _rotation(character, row, quaternions, tolerance)
        pole = _pole_place(world, motion, limb, carried=carried)
        if pole is not None:
            row = rig.index[limb.pole]
            _, shift = world.place(row, world[row][0], pole)
            yield _location(character, row, sample_values(shift, timing), tolerance)
        for name in limb.follow:
            if name in rig.index:
                path, values, _ = rotation_channel(character.modes[rig.index[name]], np.array([[1.0, 0.0, 0.0, 0.0]]))
                yield Curve(f"{bone_path(name)}.{path}", values, name)
                yield Curve(f"{bone_path(name)}.location", np.zeros((1, 3)), name)


def _bent_by_keys(item: bpy.types.Object, motion: RigMotion, settings: RetargetSettings) -> set[str]:
    """Roles of the limbs whose inverse kinematics starts from bones that are keyed, too."""
    return {limb.role for limb in _constrained_limbs(item, motion.mapping)} if settings.fk else set()


def _pole_place(world: _World, motion: RigMotion, limb: IkLimb, *, carried: bool) -> Array | None:
    """(T, 3) where the pole stands, as far from the middle joint as at rest.

    It points the way the limb bends. Of a straight limb, and where the solver starts from the pose itself
    (`carried`), it stands where it would if the upper bone carried it: Blender turns the limb until an axis of its
    upper bone points at the pole.
    """
    part, _, side = limb.role.partition(".")
    rig, mapping = motion.rig, motion.mapping
    if not limb.pole or limb.pole not in rig.index or part not in _UPPER:
        return None
    rows = [mapping.first(f"{role}.{side}", rig) for role in (*_UPPER[part], part)]
    if None in rows:
        return None
    upper, middle, end = (int(row) for row in rows if row is not None)
    a, b, c = (world[row][1] for row in (upper, middle, end))
    pole, (rest_a, rest_b, rest_c) = rig.heads[rig.index[limb.pole]], rig.heads[[upper, middle, end]]
    out, bend = (
        unit(_across(world.delta(upper) @ _across(pole - rest_a, rest_c - rest_a), c - a)),
        _across(b - a, c - a),
    )
    if not carried:
        length = np.linalg.norm(rest_b - rest_a) + np.linalg.norm(rest_c - rest_b)
        share = np.linalg.norm(bend, axis=-1, keepdims=True) / length
        share = np.clip((share - _STRAIGHT) / (_BENT - _STRAIGHT), 0, 1)
        share = share * share * (3 - 2 * share)
        out = unit(share * unit(bend) + (1 - share) * out)
    away = np.maximum(np.sum(bend * out, axis=-1, keepdims=True), 0.0) + np.linalg.norm(pole - rest_b)
    return b - bend + out * away  # across from the line between the limb's ends


def _across(vector: Array, line: Array) -> Array:
    """What of a vector stands across a line."""
    along = unit(line)
    return vector - np.sum(vector * along, axis=-1, keepdims=True) * along


def _switches(
    item: bpy.types.Object, mapping: Mapping, limbs: tuple[IkLimb, ...], settings: RetargetSettings
) -> Iterator[Curve]:
    """One key each for the properties that have to hold, and for the switches between the two kinematics."""
    wanted = list(mapping.settings)
    if settings.mode != "keep":
        wanted += [switch for limb in limbs or mapping.ik for switch in getattr(limb, settings.mode)]
    for switch in wanted:
        owner = item.pose.bones.get(switch.bone) if switch.bone else item
        if owner is not None and switch.name in owner:
            yield Curve(_property_path(switch), np.array([[switch.value]]), switch.bone)


def _property_path(switch: Property) -> str:
    own = f'["{bpy.utils.escape_identifier(switch.name)}"]'
    return f"{bone_path(switch.bone)}{own}" if switch.bone else own


def bone_path(name: str) -> str:
    """Data path of a pose bone."""
    return f'pose.bones["{bpy.utils.escape_identifier(name)}"]'


def sample_placement(placement: Array, timing: Timing) -> Array:
    """(K, 4, 4) motions of an object at the keys, from (T, 4, 4)."""
    turns = sample_rotations(quaternion_from_matrix(placement[:, :3, :3]), timing)
    out = np.tile(np.eye(4), (len(turns), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = matrix_from_quaternion(turns), sample_values(placement[:, :3, 3], timing)
    return out


def _placement(item: bpy.types.Object, character: Character, moves: Array, tolerance: _Tolerance) -> Iterator[Curve]:
    """Keys of the object itself, from its motion (K, 4, 4) in the rig's frame, metres."""
    per_m = character.units_per_m
    world = character.world @ moves @ np.linalg.inv(character.world)
    world[:, :3, 3] *= per_m
    above = np.eye(4)
    if item.parent is not None:
        above = world_of(item.parent) @ np.array(item.matrix_parent_inverse, float)
    local = np.linalg.inv(above) @ world @ character.matrix
    turns = local[:, :3, :3] / np.linalg.norm(local[:, :3, :1], axis=1, keepdims=True)
    path, values, back = rotation_channel(item.rotation_mode, continuous(quaternion_from_matrix(turns)))
    places = local[:, :3, 3]
    yield Curve("location", places, "Object Transforms", location_track(places, tolerance.distance))
    track = rotation_track(values, quaternion_from_matrix(turns), back, tolerance.radians)
    yield Curve(path, values, "Object Transforms", track)


def _constrained_limbs(item: bpy.types.Object, mapping: Mapping) -> Iterator[IkLimb]:
    """Limbs whose middle bone has an IK constraint with a target in the same armature."""
    for role in ("hand.L", "hand.R", "foot.L", "foot.R"):
        part, side = role.split(".")
        lower = mapping.bones.get(f"{_UPPER[part][1]}.{side}", ())
        for name in lower:
            bone = item.pose.bones.get(name)
            for constraint in bone.constraints if bone else ():
                if constraint.type == "IK" and not constraint.mute and constraint.target == item:
                    pole = constraint.pole_subtarget if constraint.pole_target == item else ""
                    if constraint.subtarget:
                        yield IkLimb(role, constraint.subtarget, pole)


def stretching(item: bpy.types.Object, poles: set[str]) -> list[str]:
    """Bones that Blender's solver may make longer or shorter rather than bend, in the limbs with these poles."""
    found = []
    for bone in item.pose.bones:
        for constraint in bone.constraints:
            if constraint.type == "IK" and constraint.pole_subtarget in poles and constraint.use_stretch:
                chain = [bone, *bone.parent_recursive][: constraint.chain_count or None]
                found += [link.name for link in chain if link.ik_stretch > 0]
    return list(dict.fromkeys(found))
