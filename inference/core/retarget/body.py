"""The joints of a rig at rest by role, read from where bones begin and not from their axes.

Importers give bones any axes, so a limb's direction is that from its joint to the next role's joint. Only the last bone
of a finger, of the toes and of the head has no next joint; there the end of the bone itself is used, if it is credible.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...protocol.errors import InputError
from ..rig import FINGERS, LIMBS, SIDES, Mapping, Rig
from ..rotations import cross, unit

Array = np.ndarray
UP = np.array([0.0, 0.0, 1.0])
_NEXT = {
    "upper_arm": "forearm",
    "forearm": "hand",
    "thigh": "shin",
    "shin": "foot",
    "foot": "toe",
    "shoulder": "upper_arm",
}
_ASTRAY = np.cos(np.radians(65.0))  # an end further off the chain's direction is an artefact of the importer
_RUNS_ALONG = np.cos(np.radians(30.0))
_BOTH_SIDES_ALIKE = 0.02  # shares of the trunk's length by which a symmetric rest pose may be off
_UPRIGHT = np.cos(np.radians(35.0))


class Body:
    """The chains of a rig by role, (n + 1, 3) joints along each, and whether the rest pose stands upright."""

    def __init__(self, rig: Rig, mapping: Mapping) -> None:
        self.rig = rig
        self.chains: dict[str, list[int]] = {}
        for role in mapping.bones:
            chain = mapping.chain(role, rig)
            if chain:
                self.chains[role] = chain
        for role, chain in self.chains.items():
            part, _, side = role.partition(".")
            after = self.chains.get(f"{_NEXT[part]}.{side}") if part in LIMBS else None
            if after:  # segments are told apart by where they are: not every rig has them in one line of parents
                far = np.linalg.norm(rig.heads[chain] - rig.heads[after[0]], axis=-1)
                self.chains[role] = [chain[i] for i in np.argsort(-far, kind="stable")]
        self._joints: dict[str, Array] = {}

    def head(self, role: str) -> Array:
        """(3,) joint at which a role begins."""
        return self.rig.heads[self.chains[role][0]]

    def joints(self, role: str) -> Array:
        """(n + 1, 3) joints along a role's n bones, metres; the last is where the next role begins, or its tip."""
        if role not in self._joints:
            chain = self.chains[role]
            end = self._end(role)
            self._joints[role] = np.concatenate([self.rig.heads[chain], end[None]])
        return self._joints[role]

    def direction(self, role: str) -> Array:
        """(3,) unit vector from a role's first joint to its end."""
        joints = self.joints(role)
        return unit(joints[-1] - joints[0])

    def length(self, role: str) -> float:
        """Length of a chain along its bones, metres; 0 where the role is absent."""
        return float(np.linalg.norm(np.diff(self.joints(role), axis=0), axis=-1).sum()) if role in self.chains else 0.0

    @cached_property
    def pelvis(self) -> Array:
        """(3,) middle of the hip joints."""
        return (self.head("thigh.L") + self.head("thigh.R")) / 2

    @cached_property
    def shoulders(self) -> Array:
        """(3,) middle of the shoulder joints."""
        return (self.head("upper_arm.L") + self.head("upper_arm.R")) / 2

    @cached_property
    def hip_line(self) -> Array:
        """(3,) unit vector from the right hip to the left."""
        return unit(self.head("thigh.L") - self.head("thigh.R"))

    @cached_property
    def shoulder_line(self) -> Array:
        """(3,) unit vector from the right shoulder to the left."""
        return unit(self.head("upper_arm.L") - self.head("upper_arm.R"))

    @cached_property
    def knuckles(self) -> dict[str, int]:
        """Where in the chain of a finger the knuckle is: 1 behind a bone of the palm, else 0."""
        found = {}
        for side in SIDES:
            for finger in FINGERS[1:]:
                role, hand = f"{finger}.{side}", f"hand.{side}"
                chain = self.chains.get(role, [])
                if not chain:
                    continue
                found[role] = int(hand in self.chains and _in_palm(self.rig.heads[chain], self.head(hand)))
        return found

    def knuckle(self, role: str) -> Array:
        """(3,) joint between a finger and the palm."""
        return self.rig.heads[self.chains[role][self.knuckles.get(role, 0)]]

    @cached_property
    def upright(self) -> bool:
        """Whether the trunk stands as a body does, left like right, so that its curve is anatomy and not a pose."""
        trunk = self.shoulders - self.pelvis
        size = float(np.linalg.norm(trunk))
        side = unit(self.hip_line * [1.0, 1.0, 0.0])
        if size < 1e-6 or abs(self.hip_line[2]) > 0.05 or unit(trunk) @ UP < _UPRIGHT:
            return False
        rows = [row for role in ("spine", "neck", "head") for row in self.chains.get(role, [])]
        off = np.abs((self.rig.heads[rows] - self.pelvis) @ side).max() / size
        bones = np.diff(self.joints("spine"), axis=0)
        bent = (unit(bones[np.linalg.norm(bones, axis=-1) > 1e-3 * size]) @ UP).min(initial=1.0)
        skew = float(np.linalg.norm(self.shoulder_line - side))
        return bool(off < _BOTH_SIDES_ALIKE and skew < _BOTH_SIDES_ALIKE and bent > 0.5)

    def mirrored(self, role: str) -> bool:
        """Whether a role points the same way on both sides, mirrored at the plane between the hips."""
        other = role[:-1] + ("R" if role.endswith("L") else "L")
        if other not in self.chains or role not in self.chains:
            return False
        a, b = self.direction(role), self.direction(other)
        return float(np.linalg.norm(a - (b - 2 * (b @ self.hip_line) * self.hip_line))) < 0.03

    @cached_property
    def frame(self) -> Array:
        """(3, 3) left, back and up of an upright body, as columns."""
        left = unit(self.hip_line * [1.0, 1.0, 0.0])
        return np.stack([left, cross(UP, left), UP], axis=-1)

    def flat(self, side: str) -> bool:
        """Whether a foot stands on the rig's floor at rest."""
        foot, shin = f"foot.{side}", f"shin.{side}"
        if foot not in self.chains or not self.upright or not self.mirrored(foot):
            return False
        ankle, ball = self.joints(foot)[0], self.joints(foot)[-1]
        leg = self.length(f"thigh.{side}") + self.length(shin)
        height, rise = ankle[2] - self.rig.ground, ball[2] - self.rig.ground
        other = self.head(f"foot.{'R' if side == 'L' else 'L'}")[2]
        flat = np.linalg.norm((ball - ankle)[:2]) > 0.3 * np.linalg.norm(ball - ankle)
        level = flat and abs(other - ankle[2]) < 0.02 * leg
        return bool(0 < height < 0.3 * leg and -0.05 * leg < rise < max(0.06 * leg, 0.75 * height) and level)

    @cached_property
    def leg(self) -> float:
        """Length of a leg from the hip to the floor, metres."""
        return float(np.mean([self._leg(side) for side in SIDES]))

    def _leg(self, side: str) -> float:
        foot, bones = f"foot.{side}", 0.0
        for role in ("thigh", "shin"):
            joints = self.joints(f"{role}.{side}")
            bones += float(np.linalg.norm(joints[-1] - joints[0]))
        if foot not in self.chains:
            return bones
        if self.flat(side):
            return bones + float(self.head(foot)[2] - self.rig.ground)
        return bones + 0.4 * float(np.linalg.norm(np.diff(self.joints(foot)[[0, -1]], axis=0)))

    def _end(self, role: str) -> Array:
        part, _, side = role.partition(".")
        last = self.chains[role][-1]
        if part == "hand":
            fingers = [f"{finger}.{side}" for finger in FINGERS[1:] if f"{finger}.{side}" in self.chains]
            if fingers:
                return np.mean([self.knuckle(finger) for finger in fingers], axis=0)
        after = {"hips": ("spine",), "spine": ("neck", "head"), "neck": ("head",)}.get(part)
        if after is None and part in _NEXT:
            after = (f"{_NEXT[part]}.{side}",)
        for other in after or ():
            if other in self.chains:
                return self.head(other)
        return self.shoulders if part == "spine" else self._tip(role, last)

    @cached_property
    def tails_tell(self) -> bool:
        """Whether the bones of this rig run along their y axis, as Blender's do and those of importers need not."""
        roles = [role for role in (f"{part}.{side}" for part in LIMBS for side in SIDES) if role in self.chains]
        along = [self.rig.rest[self.chains[role][0], :3, 1] @ self.direction(role) for role in roles]
        return bool(np.median(along) > _RUNS_ALONG)

    def _tip(self, role: str, bone: int) -> Array:
        """(3,) end of a chain's last bone: an only child's head, its own tail, or straight on."""
        along, step = self._before(role, bone)
        head = self.rig.heads[bone]
        ends = [self.rig.heads[child] for child in self.rig.children(bone)]
        if role.startswith("head"):
            ends = []  # eyes and jaws are no end
        ends = ends if len(ends) == 1 else []
        if along is None or self.tails_tell:
            ends = [*ends, self.rig.tail(bone)]
        for end in ends:
            if along is None or unit(end - head) @ along > _ASTRAY:
                return end
        return head + (along if along is not None else UP) * (step or self.rig.lengths[bone])

    def _before(self, role: str, bone: int) -> tuple[Array | None, float]:
        """Direction in which a chain comes to its last bone, and how long that bone should be."""
        chain, (part, _, side) = self.chains[role], role.partition(".")
        if len(chain) > 1:
            step = self.rig.heads[bone] - self.rig.heads[chain[-2]]
            return unit(step), 0.8 * float(np.linalg.norm(step))
        before = {"hand": f"forearm.{side}", "toe": f"foot.{side}", "head": "neck"}.get(part, "")
        if part in FINGERS:
            before = f"hand.{side}"
        if part == "foot":
            return unit(cross(self.hip_line, UP) * [1.0, 1.0, 0.0]), 0.5 * self.length(f"shin.{side}")
        if before in self.chains and np.linalg.norm(step := self.rig.heads[bone] - self.head(before)) > 1e-6:
            if part == "toe" and self.flat(side):
                step = step * [1.0, 1.0, 0.0]
            return unit(step), 0.6 * float(np.linalg.norm(step))
        return None, 0.0


def checked_body(rig: Rig, mapping: Mapping, whose: str) -> Body:
    """Read a rig that something is to be carried over to or from; InputError where that cannot be.

    `whose` rig it is, in a sentence: "performance" or "character".
    """
    missing = mapping.missing(rig)
    if missing:
        raise InputError(
            f"The {whose}'s skeleton {rig.name or mapping.name!r} has no bone for {', '.join(missing)}.",
            "Name these bones in the mapping; without them nothing can be carried over.",
        )
    taken: dict[str, str] = {}
    for role, chain in mapping.bones.items():
        for bone in chain:
            if taken.setdefault(bone, role) != role:
                raise InputError(
                    f"The bone {bone!r} is mapped to {taken[bone]} and to {role}.", "Take it out of one of the two."
                )
    body = Body(rig, mapping)
    for name in ("thigh", "shin", "upper_arm"):
        for side in SIDES:
            if body.length(f"{name}.{side}") < 1e-6:
                bone = rig.names[body.chains[f"{name}.{side}"][0]]
                raise InputError(
                    f"The bone {bone!r} ({name}.{side}) of the {whose} has no length: the next begins where it does.",
                    "Map another bone.",
                )
    for name, line in (("thigh", body.hip_line), ("upper_arm", body.shoulder_line)):
        if np.linalg.norm(line) < 0.5:
            bones = [rig.names[body.chains[f"{name}.{side}"][0]] for side in SIDES]
            raise InputError(
                f"The bones {bones[0]!r} and {bones[1]!r} of the {whose} begin in one place.", "Map other bones."
            )
    return body


def _in_palm(heads: Array, wrist: Array) -> bool:
    """Whether a finger's first bone lies in the palm: its joint is far nearer to the wrist than the next."""
    if len(heads) < 3:
        return False
    near, far = np.linalg.norm(heads[:2] - wrist, axis=-1)
    return bool(near < (0.45 if len(heads) == 3 else 0.6) * far)
