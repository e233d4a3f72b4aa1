"""What really carries a bone: its parent, or a bone that its parent follows by constraints.

The controls of a generated rig hang from helpers that copy other controls, so that the hierarchy does not tell. Each
control is turned a little, and whatever is carried along by it rigidly hangs from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.core.rig import FINGERS, SIDES, Mapping
from .place import alone
from .puppet import Puppet

Array = np.ndarray
_AXIS, _ANGLE = (0.48, 0.60, 0.64), 0.3  # about no axis of any bone
_LIMBS = (("shoulder", "upper_arm", "forearm", "hand"), ("thigh", "shin", "foot", "toe"))
_RIGID, _MOVED = 1e-3, 1e-4  # of matrices in the armature's units and of rotations, relative to its size


def effective_parents(rig: bpy.types.Object, mapping: Mapping) -> dict[str, str]:
    """Find the mapped bone that carries each mapped bone while the rig is switched as the mapping says, "" for none.

    Animation is put aside meanwhile; pose, properties and action are given back. Empty where the hierarchy tells all.
    The trials happen in a scene of their own with nothing but the armature in it: no skin has to be deformed for them.
    """
    names = [name for chain in mapping.bones.values() for name in chain]
    names += [name for limb in mapping.ik for name in (limb.target, limb.pole)]
    names = list(dict.fromkeys(name for name in names if name in rig.pose.bones))
    if not _follows_constraints(rig, set(names)):
        return {}
    puppet = Puppet(rig.name, names, names, [*mapping.settings, *(item for limb in mapping.ik for item in limb.fk)])
    scales = [rig.pose.bones[name].scale.copy() for name in names]
    with _without_animation(rig), _stage(rig, names) as matrices:
        puppet.take()
        try:
            found = _probe(_Trials(rig, names, matrices), _together(mapping, names), names)
        finally:
            puppet.give_back()
            for name, scale in zip(names, scales, strict=True):
                rig.pose.bones[name].scale = scale  # which a matrix does not give back to the last digit
    bpy.context.view_layer.update()  # the bones' matrices still show the last trial
    return found


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


@contextlib.contextmanager
def _stage(rig: bpy.types.Object, names: list[str]) -> Iterator[Callable[[], Array]]:
    """A scene of its own, and where Blender puts the named bones there now: (N, 4, 4) in the armature's space."""
    rows = [rig.pose.bones.find(name) for name in names]
    flat = np.empty(16 * len(rig.pose.bones), np.float32)

    with alone(rig) as scene:
        layer = scene.view_layers[0]

        def matrices() -> Array:
            layer.update()
            rig.evaluated_get(layer.depsgraph).pose.bones.foreach_get("matrix", flat)
            return np.swapaxes(flat.reshape(-1, 4, 4), -1, -2)[rows].astype(float)

        yield matrices


def _together(mapping: Mapping, names: list[str]) -> list[list[int]]:
    """Rows of bones to be tried at once: alike parts of different limbs and fingers, which hardly carry one another."""
    step: dict[str, tuple[str, int | str]] = {}
    for side in SIDES:
        for limb in _LIMBS:
            chain = [name for part in limb for name in mapping.bones.get(f"{part}.{side}", ())]
            step.update((name, ("limb", place)) for place, name in enumerate(chain))
        for finger in FINGERS:
            chain = mapping.bones.get(f"{finger}.{side}", ())
            step.update((name, ("finger", place)) for place, name in enumerate(chain))
    for limb in mapping.ik:
        step[limb.target] = ("target", limb.role.startswith("toe"))
        step[limb.pole] = ("pole", 0)
    groups: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(step.get(name, name), []).append(row)
    return list(groups.values())


class _Trials:
    """Which of the named bones move, and which are carried along rigidly, when one of them is turned."""

    def __init__(self, rig: bpy.types.Object, names: list[str], matrices: Callable[[], Array]) -> None:
        self._bones, self._matrices = [rig.pose.bones[name] for name in names], matrices
        self._base = matrices()
        self._scale = np.ones((4, 4))
        self._scale[:3, 3] = max(float(np.ptp(self._base[:, :3, 3], axis=0).max()), 1e-6)
        self.carries, self.moves = np.zeros((2, len(names), len(names)), bool)  # (bone turned, bone carried)

    def run(self, rows: list[int]) -> None:
        """Turn some bones at once, each by an angle of its own; one by one, should they carry one another."""
        trials = {row: Matrix.Rotation(_ANGLE * (1 + 0.1 * k), 4, _AXIS) for k, row in enumerate(rows)}
        rest = {row: self._bones[row].matrix_basis.copy() for row in rows}
        for row, trial in trials.items():
            self._bones[row].matrix_basis = rest[row] @ trial
        now = self._matrices()
        for row in rows:
            self._bones[row].matrix_basis = rest[row]
        if len(rows) > 1 and any(self._far(now[r], self._base[r] @ trials[r]) > _RIGID for r in rows):
            for row in rows:
                self.run([row])
            return
        for row in rows:
            expected = now[row] @ np.linalg.inv(self._base[row]) @ self._base
            self.moves[row] = self._far(now, self._base) > _MOVED
            self.moves[row, rows] = False  # these turned by themselves
            self.carries[row] = self.moves[row] & (self._far(now, expected) < _RIGID)

    def _far(self, one: Array, other: Array) -> Array:
        return (np.abs(one - other) / self._scale).max(axis=(-2, -1))


def _probe(trials: _Trials, groups: list[list[int]], names: list[str]) -> dict[str, str]:
    for rows in groups:
        trials.run(rows)
    carries, moves = trials.carries, trials.moves
    depth = carries.sum(axis=0)  # how many carry it
    out = {}
    for column, name in enumerate(names):
        above = np.flatnonzero(carries[:, column])
        if len(above):
            out[name] = names[max(above, key=lambda row: depth[row])]
        elif not moves[:, column].any():  # else it is carried in some other way: its parent is the best there is
            out[name] = ""
    return out
