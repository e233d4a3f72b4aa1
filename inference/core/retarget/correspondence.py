"""What two skeletons have in common: which bone follows which, and how their rest poses differ.

A bone's correction turns the target's rest pose into the source's: the target's bone belongs where
`delta_source(t) @ correction @ target_rest` puts it. It is solved from joints alone, so that rolls do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rig import FINGERS, SIDES
from ..rotations import between, cross, matrix_from_quaternion, quaternion_from_matrix, slerp, unit
from .body import Body

Array = np.ndarray
_BENT = np.sin(np.radians(10.0))  # a limb at rest that is straighter does not tell its plane
_ROLLED = np.cos(np.radians(100.0))  # planes of bending that differ by more are not believed
_LOWER = {"upper_arm": "forearm", "thigh": "shin"}


@dataclass(frozen=True)
class Follow:
    """A target's bone turns like source bone `first`, by `share` like `second`; rows of the two rigs."""

    row: int
    role: str
    first: int
    second: int
    share: float


def follow_chains(source: Body, target: Body) -> list[Follow]:
    """Say for every mapped bone of the target whose motion it takes; bones without a counterpart are left out."""
    out = []
    for role, chain in target.chains.items():
        if role == "root":
            continue
        if role in source.chains:
            out += _along(source, target, role)
        elif role == "neck" and "head" in source.chains and "head" in target.chains:
            last, head = source.chains["spine"][-1], source.chains["head"][0]
            steps = (np.arange(len(chain)) + 1.0) / (len(chain) + 1.0)
            out += [Follow(row, role, last, head, float(s)) for row, s in zip(chain, steps, strict=True)]
        elif role == "head" and "neck" in source.chains:
            last = source.chains["neck"][-1]
            out += [Follow(row, role, last, last, 0.0) for row in chain]
    return out


def _along(source: Body, target: Body, role: str) -> list[Follow]:
    ours, theirs = target.chains[role], source.chains[role]
    if len(ours) == len(theirs):
        return [Follow(a, role, b, b, 0.0) for a, b in zip(ours, theirs, strict=True)]
    if role == "hips":
        return [Follow(row, role, theirs[-1], theirs[-1], 0.0) for row in ours]
    palm_ours, palm_theirs = target.knuckles.get(role, 0), source.knuckles.get(role, 0)
    side = role[-1]
    out = []
    if palm_ours:
        held = theirs[0] if palm_theirs else source.chains.get(f"hand.{side}", theirs)[0]
        out, ours = [Follow(ours[0], role, held, held, 0.0)], ours[1:]
    theirs = theirs[palm_theirs:]
    here, there = _middles(target, role, palm_ours), _middles(source, role, palm_theirs)
    if len(ours) == len(theirs):
        return out + [Follow(a, role, b, b, 0.0) for a, b in zip(ours, theirs, strict=True)]
    if role in (
        "spine",
        "neck",
    ):  # the last bones carry what comes after and agree; the first bends from the bone below
        below = source.chains["hips" if role == "spine" else "spine"][-1]
        here, there, theirs = here * there[-1] / here[-1], np.concatenate([[0.0], there]), [below, *theirs]
    for row, middle in zip(ours, here, strict=True):
        right = int(np.clip(np.searchsorted(there, middle), 1, max(1, len(theirs) - 1)))
        first, second = theirs[right - 1], theirs[min(right, len(theirs) - 1)]
        gap = there[min(right, len(theirs) - 1)] - there[right - 1]
        share = float(np.clip((middle - there[right - 1]) / gap, 0.0, 1.0)) if gap > 1e-9 else 0.0
        out.append(Follow(row, role, first, second, share))
    return out


def _middles(body: Body, role: str, skip: int) -> Array:
    """(n,) where the middles of a chain's bones are along it, as shares of its length."""
    marks = _marks(body.joints(role)[skip:])
    return (marks[1:] + marks[:-1]) / 2


def _marks(joints: Array) -> Array:
    """(n + 1,) shares of a chain's length at its joints."""
    lengths = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    total = lengths.sum()
    if total < 1e-9:
        return np.linspace(0.0, 1.0, len(joints))
    return np.concatenate([[0.0], np.cumsum(lengths)]) / total


def corrections(source: Body, target: Body, hinges: dict[str, Array]) -> dict[str, list[Array]]:
    """(3, 3) corrections of each role's bones.

    hinges: (3,) axes at rest about which the source's elbows and knees bend, where its motion tells, by role of the
    upper bone.
    """
    return _Corrections(source, target, hinges).all()


class _Corrections:
    """Solved from the hips outwards; a role's last correction is what the next begins with."""

    def __init__(self, source: Body, target: Body, hinges: dict[str, Array]) -> None:
        self.source, self.target, self.hinges = source, target, hinges
        self.upright = source.upright and target.upright
        self.found: dict[str, list[Array]] = {}

    def all(self) -> dict[str, list[Array]]:
        self._trunk()
        for side in SIDES:
            self._limb("arm", side)
            self._limb("leg", side)
        return self.found

    def _last(self, *roles: str) -> Array:
        return next(self.found[role][-1] for role in roles if role in self.found)

    def _trunk(self) -> None:
        source, target = self.source, self.target
        centre = ("hips", "spine", "neck", "head")
        if self.upright:
            turn = source.frame @ target.frame.T
            self.found = {role: [turn] * len(target.chains[role]) for role in centre if role in target.chains}
            return
        hips = _frame(source.hip_line, _rise(source)) @ _frame(target.hip_line, _rise(target)).T
        self.found["hips"] = [hips] * len(target.chains["hips"])
        bones = self._directions("spine")
        chest = _frame_y(bones[-1][0], source.shoulder_line) @ _frame_y(bones[-1][1], target.shoulder_line).T
        steps = (np.arange(len(bones)) + 1.0) / len(bones)
        a, b = quaternion_from_matrix(hips), quaternion_from_matrix(chest)
        blends = [matrix_from_quaternion(slerp(a, b, s)) for s in steps[:-1]]
        self.found["spine"] = [_turned(x, *d) for x, d in zip(blends, bones[:-1], strict=True)] + [chest]
        for role, before in (("neck", "spine"), ("head", "neck")):
            if role in target.chains:
                self._follow(role, before, "spine")

    def _limb(self, limb: str, side: str) -> None:
        arm = limb == "arm"
        upper, lower, end = ("upper_arm", "forearm", "hand") if arm else ("thigh", "shin", "foot")
        upper, lower, end = f"{upper}.{side}", f"{lower}.{side}", f"{end}.{side}"
        if arm and f"shoulder.{side}" in self.target.chains:
            self._shoulder(f"shoulder.{side}")
        base = self._last(f"shoulder.{side}", "spine") if arm else self._last("hips")
        self._upper(upper, lower, base)
        if lower in self.target.chains:
            self._follow(lower, upper)
        if end in self.target.chains:
            (self._hand if arm else self._foot)(side)
        for role in (f"{finger}.{side}" for finger in FINGERS if arm):
            if role in self.target.chains:
                self._finger(role, side)
        for role, twists in ((upper, f"{upper[:-2]}_twist.{side}"), (lower, f"{lower[:-2]}_twist.{side}")):
            if twists in self.target.chains and role in self.found:
                self.found[twists] = [self.found[role][-1]] * len(self.target.chains[twists])

    def _shoulder(self, role: str) -> None:
        alike = role in self.source.chains and self.source.mirrored(role)
        if self.upright and (role not in self.source.chains or (alike and self.target.mirrored(role))):
            self.found[role] = [self._last("spine")] * len(self.target.chains[role])  # its slope is anatomy
        else:
            self._follow(role, "spine")

    def _upper(self, role: str, lower: str, base: Array) -> None:
        """A limb's upper bones: their direction, and the plane in which the limb bends where both know it."""
        self._follow(role, base=base)
        ours, theirs = _hinge(self.target, role, lower), _hinge(self.source, role, lower)
        if theirs is None:
            theirs = self.hinges.get(role)
        if ours is None or theirs is None:
            return
        turn = self.found[role][-1]
        wanted, now = unit(_across(theirs, self.source.direction(role))), turn @ ours
        now = unit(_across(now, self.source.direction(role)))
        if wanted @ now > _ROLLED:
            roll = matrix_from_quaternion(between(now, wanted))
            self.found[role] = [roll @ x for x in self.found[role]]

    def _hand(self, side: str) -> None:
        role = f"hand.{side}"
        common = self._common(side)
        frames = [_palm(body, side, common) for body in (self.source, self.target)]
        if frames[0] is not None and frames[1] is not None:
            self.found[role] = [frames[0] @ frames[1].T] * len(self.target.chains[role])
            return
        base, long = self._last(f"forearm.{side}", f"upper_arm.{side}"), [f for f in common if f[:5] != "thumb"]
        if role in self.source.chains and long:
            there, here = (
                unit(np.mean([body.knuckle(finger) for finger in long], axis=0) - body.head(role))
                for body in (self.source, self.target)
            )
            self.found[role] = [_turned(base, there, here)] * len(self.target.chains[role])
        else:
            self._follow(role, base=base)

    def _common(self, side: str) -> list[str]:
        return [r for f in FINGERS if (r := f"{f}.{side}") in self.source.chains and r in self.target.chains]

    def _finger(self, role: str, side: str) -> None:
        hand = self._last(f"hand.{side}", f"forearm.{side}", f"upper_arm.{side}")
        palm = self.target.knuckles.get(role, 0)
        if palm and not self.source.knuckles.get(role, 0):
            self._follow(role, base=hand, skip=1)
            self.found[role] = [hand, *self.found[role]]
        else:
            self._follow(role, base=hand)

    def _foot(self, side: str) -> None:
        foot, toe = f"foot.{side}", f"toe.{side}"
        if foot in self.source.chains and self.source.flat(side) and self.target.flat(side):
            there, here = self.source.direction(foot) * [1.0, 1.0, 0.0], self.target.direction(foot) * [1.0, 1.0, 0.0]
            turn = matrix_from_quaternion(between(here, there))
            self.found[foot] = [turn] * len(self.target.chains[foot])
            if toe in self.target.chains:
                self.found[toe] = [turn] * len(self.target.chains[toe])
            return
        self._follow(foot, f"shin.{side}")
        if toe in self.target.chains:
            self._follow(toe, foot)

    def _follow(self, role: str, *before: str, base: Array | None = None, skip: int = 0) -> None:
        """The least turn, after that of the bone before, by which each bone points where the source's does."""
        now = self._last(*before) if base is None else base
        if role not in self.source.chains:
            self.found[role] = [now] * (len(self.target.chains[role]) - skip)
            return
        out = []
        for there, here in self._directions(role, skip):
            now = _turned(now, there, here)
            out.append(now)
        self.found[role] = out

    def _directions(self, role: str, skip: int = 0) -> list[tuple[Array, Array]]:
        """Where the source and the target point along each of the target's bones."""
        ours = self.target.joints(role)[skip:]
        theirs = self.source.joints(role)[min(skip, self.source.knuckles.get(role, 0)) :]
        if len(ours) != len(theirs):
            marks, along = _marks(ours), _marks(theirs)
            theirs = np.stack([np.interp(marks, along, theirs[:, i]) for i in range(3)], axis=-1)
        chord_ours, chord = ours[-1] - ours[0], theirs[-1] - theirs[0]
        steps = []
        for step, there in zip(np.diff(ours, axis=0), np.diff(theirs, axis=0), strict=True):
            short = min(np.linalg.norm(step), np.linalg.norm(there)) < 1e-6
            steps.append((unit(chord), unit(chord_ours)) if short else (unit(there), unit(step)))
        return steps


def _turned(base: Array, there: Array, here: Array) -> Array:
    return matrix_from_quaternion(between(base @ here, there)) @ base


def _frame(x: Array, y: Array) -> Array:
    """(3, 3) axes: x exactly, y as near as it can be."""
    y = unit(_across(y, x))
    return np.stack([x, y, cross(x, y)], axis=-1)


def _frame_y(y: Array, x: Array) -> Array:
    """(3, 3) axes: y exactly, x as near as it can be."""
    y = unit(y)
    x = unit(_across(x, y))
    return np.stack([x, y, cross(x, y)], axis=-1)


def _across(vector: Array, axis: Array) -> Array:
    return vector - (vector @ axis) * axis


def _rise(body: Body) -> Array:
    """(3,) the pelvis's own way up: along the hips' bone where that has a length, else from the middle of the hips."""
    up = body.head("spine") - body.head("hips")
    if np.linalg.norm(_across(up, body.hip_line)) > 0.05 * np.linalg.norm(body.shoulders - body.pelvis):
        return up
    up = body.head("spine") - body.pelvis
    far = np.linalg.norm(_across(up, body.hip_line)) > 0.05 * np.linalg.norm(body.shoulders - body.pelvis)
    return up if far else body.joints("spine")[-1] - body.pelvis


def _hinge(body: Body, upper: str, lower: str) -> Array | None:
    """(3,) axis about which a limb is bent at rest; None where it is too straight to tell."""
    if upper not in body.chains or lower not in body.chains:
        return None
    axis = cross(body.direction(upper), body.direction(lower))
    bent = float(np.linalg.norm(axis))
    return axis / bent if bent > _BENT else None


def _palm(body: Body, side: str, fingers: list[str]) -> Array | None:
    """(3, 3) axes of a hand from its knuckles: y to their middle, x across them; None where there are too few."""
    long = [finger for finger in fingers if not finger.startswith("thumb")]
    if f"hand.{side}" not in body.chains or not long:
        return None
    points = np.array([body.knuckle(finger) for finger in long])
    wrist = body.head(f"hand.{side}")
    along = points.mean(axis=0) - wrist
    across = points[0] - points[-1] if len(long) > 1 else None
    if across is None and f"thumb.{side}" in fingers:
        across = body.rig.heads[body.chains[f"thumb.{side}"][-1]] - wrist
    if across is None or np.linalg.norm(along) < 1e-6:
        return None
    if np.linalg.norm(cross(unit(along), unit(across))) < 0.1:
        return None
    return _frame_y(along, across)
