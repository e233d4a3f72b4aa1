"""Where a character's travelling goes: the hips, the root bone, the object, or nowhere.

The travelling is a rigid motion of the ground: chosen axes of where the hips are, since rest, and perhaps the heading.
Whatever carries it, everything in the world stays where it was, except in place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...protocol.errors import InputError
from ...protocol.retarget import RetargetSettings
from ..filters import moving_average
from ..rig import RigMotion
from ..rotations import cross, unit
from .planting import UP, about_up
from .posing import repose, tree_of

Array = np.ndarray
_CALM_S = 0.15  # on either side: over which a heading is averaged


def move(motion: RigMotion, settings: RetargetSettings) -> RigMotion:
    """Move the travelling of a motion to where the settings say.

    With the object, `placement` (T, 4, 4) moves the armature object: object.matrix_world becomes placement @ itself, in
    the frame of `Rig.rest`; rotations and locations are then relative to the moved object, turns and heads are not.
    Raises:
        InputError: the root bone is wanted, and the mapping has none or it does not carry the hips.
    """
    if settings.root == "hips" or not len(motion.times):
        return motion
    turn = about_up(heading(motion)) if settings.root_turn else None
    if settings.root == "bone":
        return _to_bone(motion, turn, settings.root_axes)
    place = _travel(motion, turn, settings.root_axes, np.zeros(3))
    placement = np.tile(np.eye(4), (len(place), 1, 1))
    placement[:, :3, 3] = place
    if turn is not None:
        placement[:, :3, :3] = turn
    still = _without(motion, placement)
    if settings.root == "in-place":
        return still
    turns = placement[:, None, :3, :3] @ still.turns
    heads = np.einsum("tij,tbj->tbi", placement[:, :3, :3], still.heads) + placement[:, None, :3, 3]
    return replace(still, turns=turns, heads=heads, placement=placement)


def heading(motion: RigMotion) -> Array:
    """(T,) which way the pelvis faces since rest, about Z, radians: without leaps of a turn, and calm."""
    rig, hips = motion.rig, _hips(motion)
    legs = [motion.mapping.first(f"thigh.{side}", rig) for side in "LR"]
    left = np.array([1.0, 0.0, 0.0])
    if legs[0] is not None and legs[1] is not None:
        left = unit((rig.heads[legs[0]] - rig.heads[legs[1]]) * [1.0, 1.0, 0.0])
    side = motion.turns[:, hips] @ (rig.rest[hips, :3, :3].T @ left)
    # where the pelvis lies on its side this is short, and counts less
    span = float(motion.times[-1] - motion.times[0])
    half = round(_CALM_S * (len(side) - 1) / span) if span > 0 else 0
    calm = moving_average(moving_average(side[:, :2], half), half)
    ahead = cross(UP, left)
    return np.unwrap(np.arctan2(calm @ ahead[:2], calm @ left[:2]))


def _hips(motion: RigMotion) -> int:
    hips = motion.mapping.first("hips", motion.rig)
    if hips is None:
        raise InputError(f"{motion.rig.name or 'The rig'} has no hips.", hint="Choose the hips in the mapping.")
    return hips


def _travel(motion: RigMotion, turn: Array | None, axes: str, base: Array) -> Array:
    """(T, 3) where something at `base` (3,) at rest goes with the hips, along some axes; 0 along the others."""
    hips = _hips(motion)
    arm = motion.rig.heads[hips] - base
    place = motion.heads[:, hips] - (arm if turn is None else turn @ arm)
    chosen = np.array([float(axis in axes) for axis in "xyz"])
    return base + (place - base) * chosen


def _to_bone(motion: RigMotion, turn: Array | None, axes: str) -> RigMotion:
    rig, hips = motion.rig, _hips(motion)
    root = motion.mapping.first("root", rig)
    if root is None:
        raise InputError(
            f"{rig.name or 'The rig'} has no root bone to carry the travelling.",
            hint='Choose "object" for the root motion, or pick a root bone in the mapping.',
        )
    if root not in rig.ancestors(hips):
        raise InputError(
            f'The root bone "{rig.names[root]}" does not carry the hips "{rig.names[hips]}".',
            hint='Choose "object" for the root motion, or pick another root bone in the mapping.',
        )
    rest = rig.rest[root, :3, :3]
    facing = np.tile(rest, (len(motion.times), 1, 1)) if turn is None else turn @ rest
    turns, heads = {root: facing}, {root: _travel(motion, turn, axes, rig.heads[root])}
    tree = tree_of(rig, np.union1d(np.union1d(motion.keyed, motion.moved), [root]))
    for piece, row in enumerate(tree.rows.tolist()):
        if row == root or tree.above[piece] < 0 or tree.rows[tree.above[piece]] != root:
            continue
        if row in motion.keyed:
            turns[row] = motion.turns[:, row]
        if row in motion.moved:
            heads[row] = motion.heads[:, row]
    return repose(motion, turns, heads)


def _without(motion: RigMotion, placement: Array) -> RigMotion:
    """The motion as seen from something that goes along with (T, 4, 4) `placement`."""
    back = np.swapaxes(placement[:, :3, :3], -1, -2)
    tree = tree_of(motion.rig, np.union1d(motion.keyed, motion.moved))
    turns, heads = {}, {}
    for piece, row in enumerate(tree.rows.tolist()):
        top = tree.above[piece] < 0
        carried = tree.turned[piece] and tree.rows[tree.above[piece]] in motion.keyed
        if row in motion.keyed and not carried:
            turns[row] = back @ motion.turns[:, row]
        if row in motion.moved and top:
            heads[row] = np.einsum("tij,tj->ti", back, motion.heads[:, row] - placement[:, :3, 3])
    return repose(motion, turns, heads)
