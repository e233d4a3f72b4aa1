"""Published poses on a character: from the skeleton of the person to the bones of the armature."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ...inference.core import ik
from ...inference.core.artifacts import BodyMotion
from ...inference.core.humanoid import make_skeleton
from ...inference.core.kinematics import local_rest
from ...inference.core.retarget import Retargeter
from ...inference.core.rig import HUMANOID_MAPPING, Mapping, Rig
from ...inference.core.rotations import matrix_from_quaternion
from ...inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS
from ...inference.protocol.retarget import RetargetSettings
from ...inference.protocol.stream import LiveFrame
from .armature import Placement, create_armature
from .datablocks import found_again
from .puppet import Puppet
from .rig import Character, check_character, read_character
from .take import units_per_m

Array = np.ndarray
_NAME = "Live"


class Driver:
    """Drives one armature; made by `prepare`."""

    def __init__(self, character: Character, mapping: Mapping, *, is_ours: bool) -> None:
        self._character, self._mapping, self._is_ours = character, mapping, is_ours
        self._way = _Way(_average_person(), character, mapping)
        self._puppet = self._way.puppet()
        self._has_taken = False

    @property
    def rig(self) -> str:
        """Name of the armature, as it was when it was last driven."""
        return self._puppet.rig

    @property
    def uid(self) -> int:
        """What the armature is found again by."""
        return self._puppet.uid

    @classmethod
    def prepare(cls, rig: bpy.types.Object, mapping: Mapping) -> Driver:
        """Get an armature ready.

        Raises:
            InputError: it cannot be driven; the sentence names the bone.
        """
        character = read_character(rig, mapping)
        check_character(character, mapping)
        return cls(character, mapping, is_ours=False)

    @classmethod
    def create(cls, scene: bpy.types.Scene) -> Driver:
        """Get a new armature ready; it goes when it is released."""
        return cls(read_character(_new_armature(scene)), HUMANOID_MAPPING, is_ours=True)

    def drive(self, frame: LiveFrame, head: dict[str, Any], settings: RetargetSettings) -> None:
        """Put a frame's pose onto the character, as the sliders say.

        Raises:
            InputError: it, or one of its bones, is not there any more.
        """
        if self._way.generation != frame.generation:
            self._way = _Way(head, self._character, self._mapping)
        if not self._has_taken:
            self._puppet.take()
            self._has_taken = True
        self._puppet.pose(*self._way.pose(frame, settings))

    def check(self) -> None:
        """Raise InputError where the armature is gone."""
        self._puppet.find()

    def release(self, *, keep_pose: bool) -> None:
        """Give the character its pose back, or leave it in the last one."""
        if keep_pose:
            return
        if self._is_ours:
            _remove(self.uid)
        else:
            self._puppet.give_back()


class _Way:
    """From one generation of the source's skeleton to the character's bones."""

    def __init__(self, head: dict[str, Any], character: Character, mapping: Mapping) -> None:
        rest, parents = np.array(head["rest"], float), np.array(head["parents"], int)
        source = Rig(tuple(head["bones"]), parents, rest, np.array(head["lengths"], float), name="Understudy")
        local = local_rest(rest, parents)
        self.generation = head["generation"]
        self._tree = ik.Tree(head["parents"], local[:, :3, :3], local[:, :3, 3])
        self._character, self._mapping = character, mapping
        self._retargeter = Retargeter.for_rig(source, HUMANOID_MAPPING, character.rig, mapping)
        self._units_from_m = np.stack([character.location_axes(row) for row in self._retargeter.moved])
        self._units_from_m *= character.unit

    def puppet(self) -> Puppet:
        """The character's bones that are driven, and what its switches have to be."""
        names, mapping = self._character.rig.names, self._mapping
        switches = [item for limb in mapping.ik for item in limb.fk]
        turned, moved = ([names[row] for row in rows] for rows in (self._retargeter.keyed, self._retargeter.moved))
        return Puppet(self._character.name, turned, moved, (*mapping.settings, *switches))

    def pose(self, frame: LiveFrame, settings: RetargetSettings) -> tuple[Array, Array]:
        """Rotations (K, 4) and locations (M, 3), in the armature's units, of the puppet's bones."""
        turns = matrix_from_quaternion(np.array(frame.rotations).reshape(1, -1, 4))
        turns, heads = ik.place(self._tree, ik.Pose(turns, np.array([frame.root])))
        rotations, locations = self._retargeter.pose(turns[0], heads[0], settings)
        return rotations, np.einsum("mij,mj->mi", self._units_from_m, locations)


def _average_person() -> dict[str, Any]:
    """What a stream would say of the average person, who stands in until somebody is measured."""
    skeleton = make_skeleton()
    return {
        "generation": 0, "bones": HUMANOID_NAMES, "parents": HUMANOID_PARENTS, "rest": skeleton.rest,
        "lengths": skeleton.lengths,
    }  # fmt: skip


def _new_armature(scene: bpy.types.Scene) -> bpy.types.Object:
    """An armature of the average person, to be driven where no character was chosen."""
    skeleton, bones = make_skeleton(), len(HUMANOID_NAMES)
    nothing = np.zeros((0, bones))
    motion = BodyMotion(
        {"bones": list(HUMANOID_NAMES), "lengths_m": skeleton.lengths.tolist(), "fps": 30.0},
        rotations=np.zeros((0, bones, 4)), root=np.zeros((0, 3)), rest=skeleton.rest,
        parents=np.array(HUMANOID_PARENTS), bone_confidence=nothing, times=np.zeros(0), contacts=np.zeros((0, 4)),
    )  # fmt: skip
    return create_armature(motion, _NAME, scene.collection, Placement(np.eye(4), units_per_m(scene)))


def _remove(uid: int) -> None:
    rig = found_again(bpy.data.objects, uid)
    if rig is not None:
        bpy.data.armatures.remove(rig.data)  # the object goes with it
