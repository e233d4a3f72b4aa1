"""What really carries a bone: its parent, or a bone that its parent follows by constraints.

The controls of a generated rig hang from helpers that copy other controls, so that the hierarchy does not tell. Each
control is turned a little, and whatever is carried along by it rigidly hangs from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from ...inference.core.rig import Mapping
from .puppet import Puppet

Array = np.ndarray
_TRIAL = Quaternion((0.48, 0.60, 0.64), 0.3)  # about no axis of any bone
_RIGID, _MOVED = 1e-3, 1e-4  # of matrices in the armature's units and of rotations, relative to its size


def effective_parents(rig: bpy.types.Object, mapping: Mapping) -> dict[str, str]:
    """Find the mapped bone that carries each mapped bone while the rig is switched as the mapping says, "" for none.

    Animation is put aside meanwhile; pose, properties and action are given back. Empty where the hierarchy tells all.
    """
    names = [name for chain in mapping.bones.values() for name in chain]
    names += [name for limb in mapping.ik for name in (limb.target, limb.pole)]
    names = list(dict.fromkeys(name for name in names if name in rig.pose.bones))
    if not _follows_constraints(rig, set(names)):
        return {}
    puppet = Puppet(rig.name, names, names, [*mapping.settings, *(item for limb in mapping.ik for item in limb.fk)])
    with _without_animation(rig):
        puppet.take()
        try:
            return _probe(rig, names)
        finally:
            puppet.give_back()
            bpy.context.view_layer.update()


def _follows_constraints(rig: bpy.types.Object, names: set[str]) -> bool:
    """Whether a bone that is not mapped, is held by constraints, and has mapped bones below it, is there at all."""
    for name in names:
        for above in rig.pose.bones[name].parent_recursive:
            if above.name in names:
                break
            if any(not constraint.mute for constraint in above.constraints):
                return True
    return False


@contextlib.contextmanager
def _without_animation(rig: bpy.types.Object) -> Iterator[None]:
    animation = rig.animation_data
    if animation is None or animation.use_tweak_mode:
        yield
        return
    action, slot = animation.action, getattr(animation, "action_slot", None)
    used, animation.use_nla, animation.action = animation.use_nla, False, None
    try:
        yield
    finally:
        animation.use_nla, animation.action = used, action
        if slot is not None:
            animation.action_slot = slot


def _probe(rig: bpy.types.Object, names: list[str]) -> dict[str, str]:
    base = _matrices(rig, names)
    size = max(float(np.ptp(base[:, :3, 3], axis=0).max()), 1e-6)
    scale = np.ones((4, 4))
    scale[:3, 3] = size
    carries, moves = np.zeros((2, len(names), len(names)), bool)
    for row, name in enumerate(names):
        bone = rig.pose.bones[name]
        rest = bone.matrix_basis.copy()
        bone.matrix_basis = rest @ Matrix.Rotation(_TRIAL.angle, 4, _TRIAL.axis)
        now = _matrices(rig, names)
        bone.matrix_basis = rest
        expected = now[row] @ np.linalg.inv(base[row]) @ base
        rigid = (np.abs(now - expected) / scale).max(axis=(1, 2)) < _RIGID
        moves[row] = (np.abs(now - base) / scale).max(axis=(1, 2)) > _MOVED
        carries[row] = rigid & moves[row]
    np.fill_diagonal(carries, False)
    np.fill_diagonal(moves, False)
    depth = carries.sum(axis=0)  # how many carry it
    out = {}
    for column, name in enumerate(names):
        above = np.flatnonzero(carries[:, column])
        if len(above):
            out[name] = names[max(above, key=lambda row: depth[row])]
        elif not moves[:, column].any():  # else it is carried in some other way: its parent is the best there is
            out[name] = ""
    return out


def _matrices(rig: bpy.types.Object, names: list[str]) -> Array:
    bpy.context.view_layer.update()
    return np.array([rig.pose.bones[name].matrix for name in names])
