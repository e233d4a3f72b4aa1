"""What passes from one skeleton to another: corrected rotations, and what only a motion tells about its skeleton."""

from __future__ import annotations

import numpy as np

from ...protocol.errors import InputError
from ..rig import SIDES, Mapping, Performance
from ..rotations import cross, multiply, quaternion_from_matrix, slerp, unit
from .body import Body
from .correspondence import Follow

Array = np.ndarray
_CLEARLY_BENT = 0.5  # sine of the angle at an elbow or knee that shows its axis
_ALIKE = 1e-4  # shares of the body's size by which the joints of one skeleton may differ


class Transfer:
    """Reads a source's orientations and gives the corrected world rotations of the target's pieces."""

    def __init__(
        self, follows: list[Follow], turned: dict[str, list[Array]], bodies: tuple[Body, Body], piece: dict[int, int]
    ) -> None:
        theirs, ours = bodies
        self.rest = theirs.rig.rest[:, :3, :3]
        place = {row: i for chain in ours.chains.values() for i, row in enumerate(chain)}
        kept = [f for f in follows if "_twist" not in f.role or f.role in turned]
        self.rows = sorted({f.first for f in kept} | {f.second for f in kept})
        at = {row: i for i, row in enumerate(self.rows)}
        self.piece = np.array([piece[f.row] for f in kept])
        self.first, self.second = (np.array([at[getattr(f, end)] for f in kept]) for end in ("first", "second"))
        self.share = np.array([f.share for f in kept])
        self.correction = quaternion_from_matrix(np.array([turned[f.role][place[f.row]] for f in kept]))
        taken = {f.row for f in kept}
        self.beside = []  # bones beside a limb that the source has none of: rigid with the limb until turning is shared
        for role, chain in ours.chains.items():
            limb = role.replace("_twist", "")
            if "_twist" in role and limb in ours.chains:
                self.beside += [(piece[row], piece[ours.chains[limb][0]]) for row in chain if row not in taken]

    def __call__(self, turns: Array, pieces: int) -> Array:
        """(N, T, 4) of orientations (T, B, 3, 3)."""
        since_rest = np.empty((len(self.rows), len(turns), 3, 3))
        for i, row in enumerate(self.rows):
            np.matmul(turns[:, row].reshape(-1, 3), self.rest[row].T, out=since_rest[i].reshape(-1, 3))
        source = quaternion_from_matrix(since_rest)
        taken = source[self.first]
        mixed = np.flatnonzero(self.share > 0)
        if len(mixed):
            share = self.share[mixed, None]
            taken[mixed] = slerp(taken[mixed], source[self.second[mixed]], share)
        out = np.zeros((pieces, len(turns), 4))
        out[..., 0] = 1.0
        out[self.piece] = multiply(taken, self.correction[:, None])
        for piece, limb in self.beside:
            out[piece] = out[limb]
        return out

    def nearest(self, pieces: int) -> Array:
        """(N,) row of the source's bone that a piece follows most, -1 for none."""
        out = np.full(pieces, -1)
        out[self.piece] = np.array(self.rows)[np.where(self.share > 0.5, self.second, self.first)]
        for piece, limb in self.beside:
            out[piece] = out[limb]
        return out


def check_frames(performance: Performance, body: Body) -> None:
    """Raise InputError where a mapped bone is nowhere."""
    for chain in body.chains.values():
        for row in chain:
            parts = performance.turns[:, row].reshape(-1, 9), performance.heads[:, row]
            bad = ~(np.isfinite(parts[0]).all(axis=-1) & np.isfinite(parts[1]).all(axis=-1))
            if bad.any():
                raise InputError(
                    f"{bad.sum()} of {len(bad)} frames do not say where {performance.rig.names[row]!r} is, "
                    f"the first is frame {int(np.argmax(bad)) + 1}.",
                    "Fill the gaps, or leave these frames out.",
                )


def hinges_in_motion(performance: Performance, body: Body) -> dict[str, Array]:
    """(3,) axes at rest, by upper bone, about which elbows and knees that are straight at rest bend in a motion."""
    found: dict[str, Array] = {}
    for upper, lower, end in (("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")):
        for side in SIDES:
            roles = [f"{role}.{side}" for role in (upper, lower, end)]
            if not all(role in body.chains for role in roles):
                continue
            first, last = body.chains[roles[0]][0], body.chains[roles[0]][-1]
            a, b, c = (performance.heads[:, body.chains[role][0]] for role in roles)
            axis = cross(unit(b - a), unit(c - b))
            bent = np.linalg.norm(axis, axis=-1)
            clear = bent > _CLEARLY_BENT
            if clear.sum() < 5 or np.linalg.norm(body.rig.heads[first] - body.head(roles[1])) < 1e-6:
                continue
            since_rest = performance.turns[clear, last] @ body.rig.rest[last, :3, :3].T
            local = np.einsum("tji,tj->ti", since_rest, axis[clear]).mean(axis=0)
            if np.linalg.norm(local) > 0.8 * bent[clear].mean():
                found[roles[0]] = unit(local)
    return found


def same_skeleton(theirs: Body, ours: Body) -> bool:
    """Whether two rigs have the same joints, but for their size."""
    roles = {role for role in (*theirs.chains, *ours.chains) if role != "root"}
    if any(len(theirs.chains.get(role, ())) != len(ours.chains.get(role, ())) for role in roles):
        return False
    points = []
    for body in (theirs, ours):
        rows = [row for role in sorted(roles) for row in body.chains[role]]
        points.append(
            (body.rig.heads[rows] - body.pelvis) / max(float(np.linalg.norm(body.shoulders - body.pelvis)), 1e-9)
        )
    return bool(np.abs(points[0] - points[1]).max() < _ALIKE)


def differences(theirs: Body, ours: Body, mapping: Mapping) -> tuple[str, ...]:
    """Sentences about roles that one of the two lacks, and about names that the rig does not have."""
    notes = []
    skipped = {"root"}
    lacking = [r for r in ours.chains if r not in theirs.chains and r not in skipped and "_twist" not in r]
    lacking = [r for r in lacking if not (r in ("neck", "head") and {"neck", "head"} & set(theirs.chains))]
    if lacking:
        notes.append(f"The performance does not say how these move, so they stay as at rest: {', '.join(lacking)}.")
    lost = [r for r in theirs.chains if r not in ours.chains and r not in skipped and "_twist" not in r]
    if lost:
        notes.append(f"The character has no bones for {', '.join(lost)}; that motion is left out.")
    absent = [name for chain in mapping.bones.values() for name in chain if name not in ours.rig.index]
    if absent:
        notes.append(f"The mapping names bones that the character does not have: {', '.join(absent)}.")
    return tuple(notes)
