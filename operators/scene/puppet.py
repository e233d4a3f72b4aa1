"""A character whose pose is set from outside, frame after frame, and given back as it was.

Bones are kept by name: neither undo nor a deleted bone leaves us with a pointer into nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Quaternion

from ...inference.core.rig import Property
from ...inference.protocol.errors import InputError
from .datablocks import found_again

Array = np.ndarray
_ROTATION = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}


@dataclass
class Puppet:
    """An armature object, whatever its name becomes, bones that turn and that move, and properties that are to hold."""

    rig: str
    turned: Sequence[str]
    moved: Sequence[str]
    properties: Sequence[Property] = ()
    uid: int = field(init=False)
    _before: dict[tuple[str, str], Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.uid = bpy.data.objects[self.rig].session_uid

    def take(self) -> None:
        """Remember the pose, and set the properties.

        Raises:
            InputError: the armature or one of the bones is not there.
        """
        rig = self.find()
        for name in self.turned:
            bone = _bone(rig, name)
            channel = _channel(bone)
            self._before[name, channel] = tuple(getattr(bone, channel))
        for name in self.moved:
            self._before[name, "location"] = tuple(_bone(rig, name).location)
        for item in self.properties:
            owner = _bone(rig, item.bone) if item.bone else rig
            if item.name in owner:
                self._before[item.bone, f'["{item.name}"]'] = owner[item.name]
                _set(owner, item.name, item.value)
        rig.update_tag()  # custom properties do not tell their drivers

    def pose(self, rotations: Array, locations: Array) -> None:
        """Turn the bones by (K, 4) wxyz quaternions and move them to (M, 3) locations, each in its own axes.

        Raises:
            InputError: the armature or one of the bones is not there any more.
        """
        rig = self.find()
        for name, rotation in zip(self.turned, rotations.tolist(), strict=True):
            _turn(_bone(rig, name), rotation)
        for name, location in zip(self.moved, locations.tolist(), strict=True):
            _bone(rig, name).location = location

    def give_back(self) -> None:
        """Put back what is still there; rotation modes that were changed meanwhile stay as they are."""
        rig = found_again(bpy.data.objects, self.uid)
        for (name, channel), value in self._before.items():
            owner = rig.pose.bones.get(name) if rig and rig.pose and name else rig
            if owner is None:
                continue
            if channel.startswith("["):
                _set(owner, channel[2:-2], value)
            else:
                setattr(owner, channel, value)
        if rig is not None:
            rig.update_tag()
        self._before.clear()

    def find(self) -> bpy.types.Object:
        """The armature.

        Raises:
            InputError: it is not there any more.
        """
        rig = found_again(bpy.data.objects, self.uid)
        if rig is None:
            raise InputError(f"The armature {self.rig} is not there any more.", "Choose a character and start again.")
        self.rig = rig.name
        return rig


def _bone(rig: bpy.types.Object, name: str) -> bpy.types.PoseBone:
    bone = rig.pose.bones.get(name)
    if bone is None:
        raise InputError(f"{rig.name} has no bone {name!r} any more.", "Undo its removal, or start again.")
    return bone


def _channel(bone: bpy.types.PoseBone) -> str:
    return _ROTATION.get(bone.rotation_mode, "rotation_euler")


def _turn(bone: bpy.types.PoseBone, rotation: Sequence[float]) -> None:
    """Turn a bone in its own rotation mode; Euler angles stay near to what they were."""
    mode = bone.rotation_mode
    if mode == "QUATERNION":
        bone.rotation_quaternion = rotation
    elif mode == "AXIS_ANGLE":
        axis, angle = Quaternion(rotation).to_axis_angle()
        bone.rotation_axis_angle = (angle, *axis)
    else:
        bone.rotation_euler = Quaternion(rotation).to_euler(mode, bone.rotation_euler)


def _set(owner: Any, name: str, value: Any) -> None:
    """Set a custom property in its own type: a float put into a whole number would change what drivers read."""
    before = owner[name]
    owner[name] = type(before)(value) if isinstance(before, bool | int | float) else value
