"""A performance lands on a character: world rotations since rest are carried over, bone by bone.

    target(t) = delta_source(t) @ correction @ target_rest

Rolls, axes and the facing of either rest pose do not matter. What does not depend on a slider is computed once; what
a slider changes is computed for all frames at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...protocol.retarget import RetargetSettings
from ..rig import FINGERS, SIDES, Mapping, Performance, Rig, RigMotion
from ..rotations import (
    conjugate,
    cross,
    matrix_from_quaternion,
    multiply,
    quaternion_from_rotvec,
    rotate,
    rotvec_from_quaternion,
    unit,
)
from . import feet, travel
from .body import Body, checked_body
from .correspondence import corrections, follow_chains
from .limbs import Limb, limb_of, reach, share_twist, still
from .posing import Tree, keys_of, location_of, on_whole, part_of, spread, tree_of
from .transfer import Transfer, check_frames, differences, hinges_in_motion, same_skeleton

Array = np.ndarray
_ARM = ("upper_arm", "forearm", "hand", *FINGERS, "upper_arm_twist", "forearm_twist")
_POSE = (
    "scale", "hip_height", "arm_reach", "leg_reach", "arm_spread", "leg_spread", "spine_bend", "shoulders", "fingers",
    "twist",
)  # fmt: skip
_DEFAULTS = RetargetSettings()


@dataclass(frozen=True)
class _Source:
    """What is read off a performance: world rotations (N, T, 4) of the target's pieces since rest, corrected.

    pelvis (T, 3); tips: (T, 3) by limb, where it should reach, seen from between the limb and its counterpart.
    """

    deltas: Array
    pelvis: Array
    tips: dict[str, Array]


class Retargeter:
    """Carries one performance over to one rig, again and again as settings change.

    keyed (K,) and moved (M,) are the rows of the bones that get rotations and locations. notes: what the user should
    know. Raises InputError where a role that nothing can do without is missing.
    """

    def __init__(self, performance: Performance, rig: Rig, mapping: Mapping) -> None:
        self.rig, self.mapping, self._performance = rig, mapping, performance
        self._rows = _needed(rig, mapping)
        self._part = part_of(rig, self._rows) if len(self._rows) < len(rig.names) else rig
        self._theirs = checked_body(performance.rig, performance.mapping, "performance")
        self._ours = checked_body(self._part, mapping, "character")
        check_frames(performance, self._theirs)
        self._kept: dict[str, tuple[tuple[Any, ...], Any]] = {}
        theirs, ours = self._theirs, self._ours
        follows = sorted(follow_chains(theirs, ours), key=lambda f: f.row)
        beside = [row for role, chain in ours.chains.items() if "_twist" in role for row in chain]
        self._keyed = np.array(sorted({f.row for f in follows} | set(beside)))
        self._tree: Tree = tree_of(self._part, self._keyed)
        self._piece = {int(row): n for n, row in enumerate(self._tree.rows)}
        turned = corrections(theirs, ours, hinges_in_motion(performance, theirs))
        self._transfer = Transfer(follows, turned, (theirs, ours), self._piece)
        self._limbs = self._find_limbs()
        self._moved = self._find_moved()
        self.keyed, self.moved = self._rows[self._keyed], self._rows[self._moved]
        self.ratio = ours.leg / theirs.leg
        self.notes = differences(theirs, ours, mapping)
        self._source = self._read(performance.turns, performance.heads)

    @classmethod
    def for_rig(cls, source_rig: Rig, source_mapping: Mapping, rig: Rig, mapping: Mapping) -> Retargeter:
        """Make one for a performance that is still to come; it goes through `pose`, frame by frame."""
        bones = len(source_rig.names)
        nothing = Performance(
            source_rig, source_mapping, np.zeros((0, bones, 3, 3)), np.zeros((0, bones, 3)), np.zeros(0)
        )  # fmt: skip
        return cls(nothing, rig, mapping)

    def pose(self, turns: Array, heads: Array, settings: RetargetSettings = _DEFAULTS) -> tuple[Array, Array]:
        """Rotations (K, 4) of `keyed` and locations (M, 3) of `moved` for one frame: turns (B, 3, 3), heads (B, 3).

        Feet are not held and the root is not moved, since both need to know what comes next.
        """
        source = self._read(np.asarray(turns)[None], np.asarray(heads)[None])
        deltas, _, _, locations = self._place(source, settings)
        return keys_of(self._tree, deltas, self._keyed)[0], locations[0]

    def solve(self, settings: RetargetSettings) -> RigMotion:
        """Pose, hold the feet and move the root; a stage whose settings have not changed is not repeated."""
        if settings.lock_feet > 0 or settings.floor:
            key = (*_key(settings), settings.lock_feet, settings.floor)
            motion = self._stage("feet", key, lambda: self._whole(self._on_feet(settings)))
        else:
            key, motion = _key(settings), self.unlocked(settings)
        if settings.root == "hips":
            return motion
        key = (*key, settings.root, settings.root_axes, settings.root_turn)
        return self._stage("root", key, lambda: travel.move(motion, settings))

    def unlocked(self, settings: RetargetSettings) -> RigMotion:
        """The motion before feet are held and the root is moved."""
        return self._stage("unlocked", _key(settings), lambda: self._whole(self._posed(settings)))

    def _posed(self, settings: RetargetSettings) -> RigMotion:
        return self._stage("pose", _key(settings), lambda: self._motion(settings))

    def _on_feet(self, settings: RetargetSettings) -> RigMotion:
        motion = self._posed(settings)
        soles = self._stage("soles", (), lambda: feet.find_feet(self._part, self.mapping))
        levels = self._stage("levels", (), lambda: feet.source_levels(self._performance) * self.ratio)
        return feet.settle(motion, soles, self.contacts, settings.lock_feet, floor=settings.floor, levels=levels)

    def _whole(self, motion: RigMotion) -> RigMotion:
        return on_whole(motion, self.rig, self._rows)

    @property
    def contacts(self) -> Array:
        """(T, 4) contacts of the performance, its own or found."""
        return self._stage("contacts", (), lambda: feet.source_contacts(self._performance))

    @property
    def feet(self) -> tuple[feet.Foot, ...]:
        """The target's feet."""
        return self._stage("found feet", (), lambda: feet.find_feet(self.rig, self.mapping))

    def _stage(self, name: str, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        kept = self._kept.get(name)
        if kept is None or kept[0] != key:
            kept = self._kept[name] = (key, make())
        return kept[1]

    def _find_limbs(self) -> dict[str, Limb]:
        same = same_skeleton(self._theirs, self._ours)
        found: dict[str, Limb] = {}
        for side in SIDES:
            for name, arm in (("arm", True), ("leg", False)):
                limb = limb_of(self._ours, self._piece, side, arm=arm)
                if limb is not None:
                    found[f"{name}.{side}"] = still(limb) if same else limb
        return found

    def _find_moved(self) -> Array:
        """The hips, and whatever mapped bone does not hang from them."""
        hips = self._ours.chains["hips"][0]
        loose = [
            int(row) for row in self._keyed
            if row != hips and hips not in (above := list(self._part.ancestors(int(row))))
            and not any(int(other) in self._piece for other in above)
        ]  # fmt: skip
        return np.array(sorted([hips, *loose]))

    def _read(self, turns: Array, heads: Array) -> _Source:
        theirs = self._theirs

        def middle(role: str) -> Array:
            return (heads[:, theirs.chains[f"{role}.L"][0]] + heads[:, theirs.chains[f"{role}.R"][0]]) / 2

        pelvis, shoulders = middle("thigh"), middle("upper_arm")
        tips = {
            name: self._tip_of(theirs, name, turns, heads) - (shoulders if limb.arm else pelvis)
            for name, limb in self._limbs.items()
        }
        return _Source(self._transfer(turns, len(self._tree.rows)), pelvis, tips)

    def _tip_of(self, body: Body, limb: str, turns: Array, heads: Array) -> Array:
        """(T, 3) the fingertip that should reach, or the end of the hand or forearm; of a leg, where the toes bend."""
        row, point = _reaching(body, self._reaching_role(limb))
        local = body.rig.rest[row, :3, :3].T @ (point - body.rig.heads[row])
        return heads[:, row] + turns[:, row] @ local

    def _reaching_role(self, limb: str) -> str:
        kind, side = limb.split(".")
        parts = ("middle", "index", "ring", "hand", "forearm") if kind == "arm" else ("toe", "foot", "shin")

        def is_there(body: Body, part: str) -> bool:
            return f"{part}.{side}" in body.chains and (part != "toe" or f"foot.{side}" in body.chains)

        return next(f"{part}.{side}" for part in parts if is_there(self._ours, part) and is_there(self._theirs, part))

    def _motion(self, settings: RetargetSettings) -> RigMotion:
        deltas, matrices, heads, locations = self._place(self._source, settings)
        turns, all_heads = spread(self._tree, matrices, heads)
        return RigMotion(
            self._part, self.mapping, turns, all_heads, self._keyed, keys_of(self._tree, deltas, self._keyed),
            self._moved, locations, self._performance.times, confidence=self._confidence(),
        )  # fmt: skip

    def _place(self, source: _Source, settings: RetargetSettings) -> tuple[Array, Array, Array, Array]:
        """World rotations since rest (N, T, 4) and as matrices, heads (N, T, 3), and locations (T, M, 3)."""
        deltas = source.deltas.copy()
        self._bend(deltas, settings)
        self._spread_limbs(deltas, settings)
        if settings.arm_reach > 0 or settings.leg_reach > 0:
            matrices = matrix_from_quaternion(deltas)
            heads, _ = self._stand(source, settings, matrices)
            for name, limb in self._limbs.items():
                amount = settings.arm_reach if limb.arm else settings.leg_reach
                if amount > 0:
                    self._reach(deltas, name, source, amount, (matrices, heads))
        for limb in self._limbs.values():
            share_twist(deltas, limb, settings.twist)
        matrices = matrix_from_quaternion(deltas)
        heads, locations = self._stand(source, settings, matrices)
        return deltas, matrices, heads, locations

    def _pieces(self, *roles: str) -> list[int]:
        rows = [row for role in roles for row in self._ours.chains.get(role, [])]
        return [self._piece[row] for row in rows if row in self._piece]

    def _bend(self, deltas: Array, settings: RetargetSettings) -> None:
        """Take over more or less of the bending of the spine, the shoulders and the fingers."""
        chest = self._pieces("spine")[-1]
        if settings.spine_bend != 1.0:
            before = deltas[chest].copy()
            _scale_chain(deltas, [self._pieces("hips")[-1], *self._pieces("spine")], settings.spine_bend)
            carry = multiply(deltas[chest], conjugate(before))
            above = [f"{role}.{side}" for side in SIDES for role in ("shoulder", *_ARM)]
            pieces = self._pieces("neck", "head", *above)
            deltas[pieces] = multiply(carry, deltas[pieces])
        for side in SIDES:
            if settings.shoulders != 1.0:
                _scale_chain(deltas, [chest, *self._pieces(f"shoulder.{side}")], settings.shoulders)
            hand = self._pieces(f"hand.{side}")
            if settings.fingers != 1.0 and hand:
                for finger in FINGERS:
                    _scale_chain(deltas, [hand[-1], *self._pieces(f"{finger}.{side}")], settings.fingers)

    def _spread_limbs(self, deltas: Array, settings: RetargetSettings) -> None:
        """Turn arms and thighs away from the body, about the way that chest and hips face."""
        legs = ("thigh", "shin", "thigh_twist", "shin_twist")
        for angle, above, parts in (
            (settings.arm_spread, self._pieces("spine")[-1], _ARM),
            (settings.leg_spread, self._pieces("hips")[-1], legs),
        ):
            if angle == 0.0:
                continue
            ahead = rotate(deltas[above], self._ahead)
            for side, sign in (("L", 1.0), ("R", -1.0)):
                turn = quaternion_from_rotvec(sign * angle * ahead)
                pieces = self._pieces(*(f"{part}.{side}" for part in parts))
                deltas[pieces] = multiply(turn, deltas[pieces])

    @property
    def _ahead(self) -> Array:
        """(3,) the way that the target faces at rest."""
        ours = self._ours
        return unit(cross(ours.hip_line, unit(ours.shoulders - ours.pelvis)))

    def _stand(self, source: _Source, settings: RetargetSettings, matrices: Array) -> tuple[Array, Array]:
        """Heads (N, T, 3) of all pieces, and locations (T, M, 3): the pelvis is where the legs' lengths put it."""
        tree, ours = self._tree, self._ours
        chain = self._pieces("hips")
        wanted = source.pelvis * self.ratio
        if settings.scale is not None:
            wanted[:, :2] = source.pelvis[:, :2] * settings.scale
        wanted[:, 2] += self._part.ground + settings.hip_height * ours.leg
        below = matrices[chain[-1]] @ (ours.pelvis - self._part.heads[tree.rows[chain[-1]]])
        piece = chain[-1]
        while piece != chain[0]:  # upwards as the rig hangs together, which need not be straight from role to role
            above = int(tree.above[piece])
            above = chain[0] if above < 0 else above
            below = below + matrices[above] @ (self._part.heads[tree.rows[piece]] - self._part.heads[tree.rows[above]])
            piece = above
        return self._hang_all(matrices, chain[0], wanted - below)

    def _hang_all(self, matrices: Array, hips: int, head: Array) -> tuple[Array, Array]:
        tree, rest = self._tree, self._part.heads
        heads = np.empty((*matrices.shape[:2], 3))
        locations = np.zeros((matrices.shape[1], len(self._moved), 3))
        moved = {int(row): m for m, row in enumerate(self._moved)}
        heads[hips] = head
        for n, row in enumerate(tree.rows.tolist()):
            if n == hips:
                locations[:, moved[row]] = location_of(tree, matrices, heads, row, head)
                continue
            above = int(tree.above[n])
            if row in moved:  # it hangs from nothing that moves: let it go along with the hips
                above = hips
            if above < 0:
                heads[n] = rest[row]
                continue
            heads[n] = heads[above] + matrices[above] @ (rest[row] - rest[tree.rows[above]])
            if row in moved:
                locations[:, moved[row]] = location_of(tree, matrices, heads, row, heads[n])
        return heads, locations

    def _reach(self, deltas: Array, name: str, source: _Source, amount: float, posed: tuple[Array, Array]) -> None:
        """Bring a hand or foot to the source's place, scaled, as seen from between the shoulders or the hips."""
        matrices, heads = posed
        limb, side = self._limbs[name], name[-1]
        first, second = ("upper_arm", "forearm") if limb.arm else ("thigh", "shin")
        tree, ours, rest = self._tree, self._ours, self._part.heads
        row, point = _reaching(ours, self._reaching_role(name))
        holder = self._piece[row]
        tip = heads[holder] + matrices[holder] @ (point - rest[row])
        upper, lower, last = limb.upper[0].piece, limb.lower[0].piece, limb.lower[-1].piece
        wrist = heads[limb.end] if limb.end is not None else (
            heads[last] + matrices[last] @ (ours.joints(f"{second}.{side}")[-1] - rest[tree.rows[last]])
        )  # fmt: skip
        if limb.end is None:
            tip = wrist
        both = [heads[self._pieces(f"{first}.{other}")[0]] for other in SIDES]
        place = (both[0] + both[1]) / 2 + self.ratio * source.tips[name]
        goal = wrist + amount * (place - tip)
        bend = matrices[limb.upper[-1].piece] @ self._elbow(matrices, limb)
        turn_upper, turn_lower = reach((heads[upper], heads[lower], wrist), goal, bend)
        deltas[limb.upper_pieces] = multiply(turn_upper, deltas[limb.upper_pieces])
        deltas[limb.lower_pieces] = multiply(turn_lower, deltas[limb.lower_pieces])

    def _elbow(self, matrices: Array, limb: Limb) -> Array:
        """(3,) axis at rest about which the target's elbow bends: as its motion shows, else forwards."""
        upper = matrices[limb.upper[-1].piece]
        directions = upper @ limb.upper[-1].axis, matrices[limb.lower[0].piece] @ limb.lower[0].axis
        local = np.einsum("tji,tj->ti", upper, cross(*directions)).sum(axis=0)
        if np.linalg.norm(local) > 1e-3:
            return unit(local)
        ahead = self._ahead if limb.arm else -self._ahead  # knees bend the other way
        return unit(cross(limb.upper[-1].axis, ahead))

    def _confidence(self) -> Array | None:
        """(T, K) of the source bones that the keyed bones follow."""
        if self._performance.confidence is None:
            return None
        nearest = self._transfer.nearest(len(self._tree.rows))[[self._piece[int(row)] for row in self._keyed]]
        return np.where(nearest >= 0, self._performance.confidence[:, np.maximum(nearest, 0)], 1.0)


def retarget(performance: Performance, rig: Rig, mapping: Mapping, settings: RetargetSettings = _DEFAULTS) -> RigMotion:
    """Carry a performance over to a rig."""
    return Retargeter(performance, rig, mapping).solve(settings)


def _needed(rig: Rig, mapping: Mapping) -> Array:
    """(R,) rows that matter: mapped bones, what tells where they end, and bones that turn by themselves.

    A production rig has ten times as many, which go along rigidly and are placed last. All rows where most matter.
    """
    mapped = np.zeros(len(rig.names), bool)
    for role in mapping.bones:
        mapped[mapping.chain(role, rig)] = True
    needed = mapped | (mapped[rig.parents] & (np.asarray(rig.parents) >= 0))
    if rig.inherit_rotation is not None:
        needed |= ~np.asarray(rig.inherit_rotation, bool)
    return np.flatnonzero(needed) if needed.mean() < 0.6 else np.arange(len(needed))


def _key(settings: RetargetSettings) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in _POSE)


def _scale_chain(deltas: Array, pieces: list[int], amount: float) -> None:
    """Scale how far each piece of a chain is turned against the one before, in place; the first is left as it is."""
    before = deltas[pieces[0]].copy()
    for last, piece in itertools.pairwise(pieces):
        now = deltas[piece].copy()
        bend = rotvec_from_quaternion(multiply(conjugate(before), now))
        deltas[piece] = multiply(deltas[last], quaternion_from_rotvec(bend * amount))
        before = now


def _reaching(body: Body, role: str) -> tuple[int, Array]:
    """The bone, and the (3,) point of it at rest, that should come to the source's place."""
    if role.startswith("toe"):
        return body.chains[f"foot{role[3:]}"][-1], body.joints(role)[0]
    return body.chains[role][-1], body.joints(role)[-1]
