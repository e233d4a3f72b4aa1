"""Poses of a rig: from keys to where every bone is, and from where bones are wanted to keys, as Blender evaluates them.

A bone that is keyed carries all bones below it, down to the next keyed one, as one rigid piece. Arrays are kept bone by
bone, (B, T, ...), and shown as (T, B, ...), so that one bone's frames lie side by side in memory.
"""

from __future__ import annotations

from collections.abc import Mapping as Named
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ..rig import Rig, RigMotion
from ..rotations import conjugate, continuous, matrix_from_quaternion, multiply, quaternion_from_matrix

Array = np.ndarray
_NOTHING: Named[int, Array] = MappingProxyType({})


@dataclass(frozen=True)
class Tree:
    """The rigid pieces that a rig falls into when some of its bones are keyed.

    rows (N,) bones that may turn by themselves, parents first: the keyed ones, and those that do not turn with their
    parent; above (N,) the piece that each hangs from, -1 for none; turned (N,) whether it turns with that; carrier (B,)
    the piece that each bone of the rig belongs to, -1 where nothing moves it.
    """

    rig: Rig
    rows: Array
    above: Array
    turned: Array
    carrier: Array


def tree_of(rig: Rig, keyed: Array) -> Tree:
    """Find the rigid pieces that `keyed` rows make of a rig."""
    count = len(rig.names)
    inherits = np.ones(count, bool) if rig.inherit_rotation is None else np.asarray(rig.inherit_rotation, bool)
    parents = np.asarray(rig.parents)
    own = ~inherits & (parents >= 0)
    own[np.asarray(keyed, int)] = True
    rows = np.flatnonzero(own)
    carrier = np.full(count, -1)
    carrier[rows] = np.arange(len(rows))
    for bone in np.flatnonzero(~own & (parents >= 0)):
        carrier[bone] = carrier[parents[bone]]
    above = np.where(parents[rows] >= 0, carrier[parents[rows]], -1)
    return Tree(rig, rows, above, inherits[rows] & (above >= 0), carrier)


def evaluate(rig: Rig, keyed: Array, rotations: Array, moved: Array, locations: Array) -> tuple[Array, Array]:
    """Place every bone of a rig.

    Args:
        keyed: (K,) rows with (T, K, 4) `rotations`, wxyz relative to rest.
        moved: (M,) rows with (T, M, 3) `locations`, metres in the bone's own rest axes.
    Returns:
        (T, B, 3, 3) world orientations and (T, B, 3) heads.
    """
    tree = tree_of(rig, np.union1d(keyed, moved))
    turn_of = {int(row): k for k, row in enumerate(keyed)}
    frames = len(rotations)
    deltas = np.empty((len(tree.rows), frames, 4))
    still = np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1))
    for n, row in enumerate(tree.rows):
        k = turn_of.get(int(row))
        own = still if k is None else out_of_rest(rig, row, rotations[:, k])
        deltas[n] = multiply(deltas[tree.above[n]], own) if tree.turned[n] else own
    return place(tree, matrix_from_quaternion(deltas), {int(row): locations[:, m] for m, row in enumerate(moved)})


def place(tree: Tree, deltas: Array, locations: Named[int, Array] = _NOTHING) -> tuple[Array, Array]:
    """Orientations (T, B, 3, 3) and heads (T, B, 3) of all bones, from how pieces are turned since rest.

    deltas: (N, T, 3, 3) world rotations from rest; locations: (T, 3) by row, metres in the bone's own rest axes.
    """
    return spread(tree, deltas, piece_heads(tree, deltas, locations))


def piece_heads(tree: Tree, deltas: Array, locations: Named[int, Array] = _NOTHING) -> Array:
    """(N, T, 3) heads of the pieces' first bones."""
    rest = tree.rig.heads
    heads = np.empty((*deltas.shape[:2], 3))
    for n, row in enumerate(tree.rows):
        heads[n] = _hang(tree, n, deltas, heads, rest[row])
        if row in locations:
            shift = np.asarray(locations[int(row)]) @ tree.rig.rest[row, :3, :3].T
            above = tree.above[n]
            heads[n] += shift if above < 0 else np.einsum("tij,tj->ti", deltas[above], shift)
    return heads


def spread(tree: Tree, deltas: Array, heads: Array) -> tuple[Array, Array]:
    """Orientations (T, B, 3, 3) and heads (T, B, 3) of all bones, from those of the pieces they belong to."""
    rig, frames = tree.rig, deltas.shape[1]
    all_turns, all_heads = np.empty((len(rig.names), frames, 3, 3)), np.empty((len(rig.names), frames, 3))
    still = np.flatnonzero(tree.carrier < 0)
    all_turns[still], all_heads[still] = rig.rest[still, None, :3, :3], rig.rest[still, None, :3, 3]
    columns = all_turns.reshape(len(rig.names), -1, 3)
    for n, row in enumerate(tree.rows):
        bones, delta = np.flatnonzero(tree.carrier == n), deltas[n].reshape(-1, 3)
        columns[bones] = delta @ rig.rest[bones, :3, :3]
        offsets = (rig.heads[bones] - rig.heads[row]) @ delta.T
        all_heads[bones] = offsets.reshape(len(bones), frames, 3) + heads[n]
    return all_turns.swapaxes(0, 1), all_heads.swapaxes(0, 1)


def keys_of(tree: Tree, deltas: Array, keyed: Array) -> Array:
    """(T, K, 4) rotations relative to rest, signs continuous, of pieces with (N, T, 4) world rotations from rest."""
    piece = np.searchsorted(tree.rows, keyed)
    own, above = deltas[piece], tree.above[piece]
    local = np.where(tree.turned[piece][:, None, None], multiply(conjugate(deltas[above]), own), own)
    local[..., 1:] = local[..., 1:] @ tree.rig.rest[keyed, :3, :3]
    return continuous(local.swapaxes(0, 1))


def location_of(tree: Tree, deltas: Array, heads: Array, row: int, wanted: Array) -> Array:
    """(T, 3) location, metres in the bone's own rest axes, that brings its head to `wanted` (T, 3).

    deltas (N, T, 3, 3) and heads (N, T, 3) of the pieces above it.
    """
    n = int(np.searchsorted(tree.rows, row))
    shift, above = wanted - _hang(tree, n, deltas, heads, tree.rig.heads[row]), tree.above[n]
    if above >= 0:
        shift = np.einsum("tji,tj->ti", deltas[above], shift)
    return shift @ tree.rig.rest[row, :3, :3]


def _hang(tree: Tree, n: int, deltas: Array, heads: Array, point: Array) -> Array:
    """(T, 3) where a point at rest is carried by the piece above piece n."""
    above = tree.above[n]
    if above < 0:
        return np.broadcast_to(point, heads.shape[1:])
    return heads[above] + deltas[above] @ (point - tree.rig.heads[tree.rows[above]])


def out_of_rest(rig: Rig, row: int, rotations: Array) -> Array:
    """(..., 4) rotations in a bone's rest axes, as seen in the world's axes."""
    return np.concatenate([rotations[..., :1], rotations[..., 1:] @ rig.rest[row, :3, :3].T], axis=-1)


def part_of(rig: Rig, rows: Array) -> Rig:
    """The rig of some bones, (R,) sorted rows: each hangs from the nearest bone above it that is kept.

    All bones that do not turn with their parents have to be among them.
    """
    new = {int(row): place for place, row in enumerate(rows)}
    parents = [next((new[above] for above in rig.ancestors(int(row)) if above in new), -1) for row in rows]
    return replace(
        rig, names=tuple(rig.names[row] for row in rows), parents=np.array(parents), rest=rig.rest[rows],
        lengths=rig.lengths[rows],
        inherit_rotation=None if rig.inherit_rotation is None else rig.inherit_rotation[rows],
    )  # fmt: skip


def on_whole(motion: RigMotion, rig: Rig, rows: Array) -> RigMotion:
    """A motion of `part_of(rig, rows)` as one of the whole rig."""
    if len(rows) == len(rig.names):
        return replace(motion, rig=rig)
    keyed, moved = rows[motion.keyed], rows[motion.moved]
    tree = tree_of(rig, np.union1d(keyed, moved))
    place = np.searchsorted(rows, tree.rows)
    deltas = np.empty((len(tree.rows), len(motion.times), 3, 3))
    heads = np.empty(deltas.shape[:3])
    for n, (row, small) in enumerate(zip(tree.rows, place, strict=True)):
        turns = motion.turns[:, small].reshape(-1, 3)
        np.matmul(turns, rig.rest[row, :3, :3].T, out=deltas[n].reshape(-1, 3))
        heads[n] = motion.heads[:, small]
    turns, heads = spread(tree, deltas, heads)
    return replace(motion, rig=rig, turns=turns, heads=heads, keyed=keyed, moved=moved)


def repose(motion: RigMotion, turns: Named[int, Array], heads: Named[int, Array] = _NOTHING) -> RigMotion:
    """Give some bones of a motion other world orientations (T, 3, 3) or heads (T, 3), by row.

    All other keyed bones keep their own rotations and locations, and are carried along. A row that was not keyed or
    moved before is so afterwards. A bone whose head is not named keeps its location.
    """
    rig = motion.rig
    keyed, moved = np.union1d(motion.keyed, [*turns]).astype(int), np.union1d(motion.moved, [*heads]).astype(int)
    tree = tree_of(rig, np.union1d(keyed, moved))
    deltas, local, changed = _changed_turns(tree, motion, turns)
    where, moves = _changed_heads(tree, deltas, motion, heads)
    all_turns = motion.turns.swapaxes(0, 1).copy()
    all_heads = np.empty_like(all_turns[..., 0])
    for bone, n in enumerate(tree.carrier):
        if n < 0:
            all_heads[bone] = rig.rest[bone, :3, 3]
            continue
        if changed[n]:
            np.matmul(deltas[n].reshape(-1, 3), rig.rest[bone, :3, :3], out=all_turns[bone].reshape(-1, 3))
        np.add(deltas[n] @ (rig.rest[bone, :3, 3] - rig.heads[tree.rows[n]]), where[n], out=all_heads[bone])
    rotations = np.empty((len(motion.times), len(keyed), 4))
    for k, row in enumerate(keyed):
        rotations[:, k] = local[int(row)]
    locations = np.zeros((len(motion.times), len(moved), 3))
    for m, row in enumerate(moved):
        locations[:, m] = moves.get(int(row), 0.0)
    return replace(
        motion, turns=all_turns.swapaxes(0, 1), heads=all_heads.swapaxes(0, 1), keyed=keyed, moved=moved,
        rotations=rotations, locations=locations, confidence=_confidence(motion, keyed),
    )  # fmt: skip


def _changed_turns(tree: Tree, motion: RigMotion, turns: Named[int, Array]) -> tuple[Array, dict[int, Array], Array]:
    """World rotations from rest (N, T, 3, 3), rotations (T, 4) by row, and which pieces turn otherwise than before."""
    rig, old = tree.rig, {int(row): k for k, row in enumerate(motion.keyed)}
    deltas = np.empty((len(tree.rows), len(motion.times), 3, 3))
    local: dict[int, Array] = {}
    changed = np.zeros(len(tree.rows), bool)
    identity = np.tile([1.0, 0.0, 0.0, 0.0], (len(motion.times), 1))
    for n, row in enumerate(tree.rows.tolist()):
        rest, above = rig.rest[row, :3, :3], int(tree.above[n])
        base = deltas[above] if tree.turned[n] else None
        moves_along = tree.turned[n] and changed[above]
        local[row] = motion.rotations[:, old[row]] if row in old else identity
        if row in turns:
            changed[n] = True
            deltas[n] = np.asarray(turns[row]) @ rest.T
            own = deltas[n] if base is None else np.swapaxes(base, -1, -2) @ deltas[n]
            local[row] = continuous(quaternion_from_matrix(rest.T @ own @ rest))
        elif moves_along and base is not None:
            changed[n] = True
            deltas[n] = base @ matrix_from_quaternion(out_of_rest(rig, row, local[row]))
        else:
            deltas[n] = motion.turns[:, row] @ rest.T
    return deltas, local, changed


def _changed_heads(
    tree: Tree, deltas: Array, motion: RigMotion, heads: Named[int, Array]
) -> tuple[Array, dict[int, Array]]:
    """Heads (N, T, 3) of the pieces, and locations (T, 3) by row."""
    moves = {int(row): motion.locations[:, m] for m, row in enumerate(motion.moved)}
    where = np.empty((len(tree.rows), len(motion.times), 3))
    for n, row in enumerate(tree.rows.tolist()):
        if row in heads:
            where[n] = heads[row]
            moves[row] = location_of(tree, deltas, where, row, where[n])
            continue
        where[n] = _hang(tree, n, deltas, where, tree.rig.heads[row])
        if row in moves:
            shift, above = moves[row] @ tree.rig.rest[row, :3, :3].T, int(tree.above[n])
            where[n] += shift if above < 0 else np.einsum("tij,tj->ti", deltas[above], shift)
    return where, moves


def _confidence(motion: RigMotion, keyed: Array) -> Array | None:
    """(T, K) of the rows keyed now; 1 for those that were not before."""
    if motion.confidence is None:
        return None
    out = np.ones((len(motion.times), len(keyed)))
    out[:, np.searchsorted(keyed, motion.keyed)] = motion.confidence
    return out


def rehung(rig: Rig, parents: Named[str, str]) -> tuple[Rig, Array]:
    """A rig some of whose bones hang from others, by name ("" for nothing), and (B,) the old row of each new one.

    Bones are put in another order where that is needed for parents to come first. What is hung from a bone turns with
    it, whatever it did before.
    """
    new, inherits = np.array(rig.parents), rig.inherit_rotation
    inherits = np.ones(len(new), bool) if inherits is None else np.array(inherits, bool)
    for name, above in parents.items():
        new[rig.index[name]] = rig.index[above] if above else -1
        inherits[rig.index[name]] |= bool(above)
    order: list[int] = []
    done = np.zeros(len(new), bool)
    for row in range(len(new)):
        line, above = [], row
        while above >= 0 and not done[above]:
            done[above] = True
            line.append(above)
            above = int(new[above])
        order += line[::-1]
    rows = np.array(order)
    place = np.empty(len(new), int)
    place[rows] = np.arange(len(rows))
    hung = replace(
        rig, names=tuple(rig.names[row] for row in rows), rest=rig.rest[rows], lengths=rig.lengths[rows],
        parents=np.where(new[rows] < 0, -1, place[new[rows]]), inherit_rotation=inherits[rows],
    )  # fmt: skip
    return hung, rows
