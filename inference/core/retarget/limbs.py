"""Limbs of many frames at once: turning shared out along them, and arms that reach for a place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..rotations import between, conjugate, cross, multiply, quaternion_from_rotvec, rotate, twist_angle, unit
from .body import Body

Array = np.ndarray
_STRETCH = 0.999  # of an arm's length: a straight elbow has no plane
_BELIEVED, _ABSURD = np.radians(137.0), np.pi  # a limb turned further than this is not shared out further
_SWUNG, _OVER = np.cos(np.radians(60.0)), np.cos(np.radians(85.0))  # of half the angle between a limb and its rest


@dataclass(frozen=True)
class Segment:
    """One bone of a limb, or beside it: a piece of a target's `posing.Tree`.

    axis (3,): where it points at rest; at: how much of the limb's turning it takes, 0 to 1, by where it sits.
    """

    piece: int
    axis: Array
    at: float


@dataclass(frozen=True)
class Limb:
    """One arm or leg.

    above: the piece that the upper bones hang from; upper, lower: along the limb; beside_upper, beside_lower: bones
    that only turn with it; end: the piece of the hand or foot, None where there is none. `same`: the source is this
    very limb, whose turning stays as it is.
    """

    arm: bool
    above: int
    upper: tuple[Segment, ...]
    lower: tuple[Segment, ...]
    beside_upper: tuple[Segment, ...]
    beside_lower: tuple[Segment, ...]
    end: int | None
    same: bool = False

    @property
    def upper_pieces(self) -> list[int]:
        """Everything that turns with the upper bone."""
        return [segment.piece for segment in (*self.upper, *self.beside_upper)]

    @property
    def lower_pieces(self) -> list[int]:
        """Everything that turns with the lower bone."""
        return [segment.piece for segment in (*self.lower, *self.beside_lower)]


def limb_of(body: Body, pieces: dict[int, int], side: str, *, arm: bool) -> Limb | None:
    """Describe a limb; `pieces` by row. None where its bones are not driven."""
    upper, lower, end = ("upper_arm", "forearm", "hand") if arm else ("thigh", "shin", "foot")
    above = (f"shoulder.{side}", "spine") if arm else ("hips",)
    row = next(body.chains[role][-1] for role in above if role in body.chains and body.chains[role][-1] in pieces)
    parts = []
    for role in (upper, lower):
        along = _along(body, f"{role}.{side}", pieces)
        parts.append((along, _beside(body, f"{role}.{side}", body.chains.get(f"{role}_twist.{side}", []), pieces)))
    ends = [pieces[r] for r in body.chains.get(f"{end}.{side}", []) if r in pieces]
    (upper_bones, upper_beside), (lower_bones, lower_beside) = parts
    if not upper_bones or not lower_bones:
        return None
    last = upper_bones[-1].at  # the bone that carries the elbow turns as the limb does
    upper_bones = tuple(replace(bone, at=bone.at / last) for bone in upper_bones)
    if len(lower_bones) == 1:
        lower_bones = (replace(lower_bones[0], at=0.0 if lower_beside else 0.5),)
    return Limb(
        arm, pieces[row], upper_bones, lower_bones, upper_beside, lower_beside, ends[0] if ends else None
    )  # fmt: skip


def _along(body: Body, role: str, pieces: dict[int, int]) -> tuple[Segment, ...]:
    """The bones of a chain, by their middles."""
    if role not in body.chains:
        return ()
    joints = body.joints(role)
    steps = np.diff(joints, axis=0)
    axes = np.where(np.linalg.norm(steps, axis=-1, keepdims=True) < 1e-6, body.direction(role), unit(steps))
    at = np.maximum(_places(body, role, (joints[1:] + joints[:-1]) / 2), 0.02)
    rows = body.chains[role]
    return tuple(Segment(pieces[r], a, float(s)) for r, a, s in zip(rows, axes, at, strict=True) if r in pieces)


def _beside(body: Body, role: str, rows: list[int], pieces: dict[int, int]) -> tuple[Segment, ...]:
    """Bones beside a limb, by their heads."""
    if role not in body.chains or not rows:
        return ()
    at = _places(body, role, body.rig.heads[rows])
    if np.ptp(at) < 1e-3 and (len(at) > 1 or (at[0] < 0.05 and role.startswith(("forearm", "shin")))):
        at = (np.arange(len(at)) + 0.5) / len(at)  # all in one place: bones as long as the limb
    axis = body.direction(role)
    return tuple(Segment(pieces[r], axis, float(s)) for r, s in zip(rows, at, strict=True) if r in pieces)


def _places(body: Body, role: str, points: Array) -> Array:
    """(n,) where (n, 3) points are along a role, 0 to 1."""
    joints = body.joints(role)
    step = joints[-1] - joints[0]
    return np.clip((points - joints[0]) @ step / max(float(step @ step), 1e-12), 0.0, 1.0)


def still(limb: Limb) -> Limb:
    """The same limb, with the turning left as the source has it."""
    return replace(limb, same=True)


def share_twist(deltas: Array, limb: Limb, amount: float) -> None:
    """Share the turning of a limb about itself along its bones, in place.

    deltas: (N, T, 4) world rotations from rest. Only turns about the limb change, so that it points where it did, and
    neither its hand nor the bone that carries its elbow is touched.
    """
    if limb.same:
        return
    carrier = limb.upper[-1]
    upper = deltas[carrier.piece].copy()
    if len(limb.upper) > 1 or limb.beside_upper:
        turning = multiply(conjugate(deltas[limb.above]), upper)
        counter = amount * _tapered(twist_angle(turning, carrier.axis)) * _near_rest(turning, carrier.axis)
        for bone in limb.upper[:-1]:
            deltas[bone.piece] = _turned(deltas[bone.piece], bone.axis, (bone.at - 1.0) * counter)
        for bone in limb.beside_upper:
            deltas[bone.piece] = _turned(upper, carrier.axis, (bone.at - 1.0) * counter)
    alone = len(limb.lower) == 1 and not limb.beside_lower
    if alone and (limb.end is None or not limb.arm):
        return
    first, last = limb.lower[0], limb.lower[-1]
    lower = deltas[first.piece].copy()
    own = twist_angle(multiply(conjugate(upper), lower), first.axis)
    whole = twist_angle(multiply(conjugate(upper), deltas[last.piece]), last.axis)
    if limb.end is not None:
        whole = whole + twist_angle(multiply(conjugate(deltas[last.piece]), deltas[limb.end]), last.axis)
    whole = _tapered((whole + np.pi) % (2.0 * np.pi) - np.pi)
    for bone in limb.lower:
        now = twist_angle(multiply(conjugate(upper), deltas[bone.piece]), bone.axis)
        deltas[bone.piece] = _turned(deltas[bone.piece], bone.axis, amount * (bone.at * whole - now))
    for bone in limb.beside_lower:
        deltas[bone.piece] = _turned(lower, first.axis, amount * (bone.at * whole - own))


def _turned(deltas: Array, axis: Array, angle: Array) -> Array:
    """Turn (T, 4) by (T,) angles about an axis of the rest pose, first of all."""
    half = angle / 2
    return multiply(deltas, np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * axis], axis=-1))


def _tapered(angle: Array) -> Array:
    """Angles in (-pi, pi], let go towards a half turn, where their sign is arbitrary."""
    size = np.abs(angle)
    return angle * np.where(
        size > _BELIEVED, (_ABSURD - size) / (_ABSURD - _BELIEVED) * _BELIEVED / np.maximum(size, 1e-9), 1.0
    )


def _near_rest(turning: Array, axis: Array) -> Array:
    """(T,) 1 where a limb is swung less than 120 degrees from its rest, 0 where it points against it."""
    swing = np.hypot(turning[..., 0], np.sum(turning[..., 1:] * axis, axis=-1))
    u = np.clip((swing - _OVER) / (_SWUNG - _OVER), 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u)


def reach(joints: tuple[Array, Array, Array], goal: Array, bend: Array) -> tuple[Array, Array]:
    """Turn the two bones of a limb so that its end comes to a place, as far as it is long, the elbow in its plane.

    Args:
        joints: (T, 3) shoulder, elbow and wrist; goal: (T, 3) where the wrist is wanted.
        bend: (T, 3) axis about which the elbow bends, for where it is straight.
    Returns:
        (T, 4) world rotations to be done after those of the upper and of the lower bone.
    """
    shoulder, elbow, wrist = joints
    upper, lower, straight = elbow - shoulder, wrist - elbow, wrist - shoulder
    a, b = np.linalg.norm(upper, axis=-1), np.linalg.norm(lower, axis=-1)
    to_goal = goal - shoulder
    far = np.linalg.norm(to_goal, axis=-1)
    distance = np.clip(
        far, np.abs(a - b) * 1.001 + 1e-6, np.maximum(_STRETCH * (a + b), np.linalg.norm(straight, axis=-1))
    )
    distance = np.minimum(distance, np.maximum(_soft(far, a + b), np.abs(a - b) * 1.001 + 1e-6))
    along, towards = unit(straight), unit(np.where(far[:, None] > 1e-6, to_goal, straight))
    axis = cross(unit(upper), unit(lower)) + 0.02 * bend
    axis = unit(axis - np.sum(axis * along, axis=-1, keepdims=True) * along)
    angle = np.arccos(np.clip((a * a + distance * distance - b * b) / (2 * a * distance), -1.0, 1.0))
    new_upper = rotate(quaternion_from_rotvec(-angle[:, None] * axis), along)
    new_lower = unit(distance[:, None] * along - a[:, None] * new_upper)
    aim = between(along, towards)
    return _bent(aim, upper, new_upper), _bent(aim, lower, new_lower)


def _bent(aim: Array, before: Array, after: Array) -> Array:
    return multiply(aim, between(before, after))


def _soft(far: Array, longest: Array) -> Array:
    """Distance that a limb of the given length goes for a goal so far away: it straightens without a jerk."""
    bound, start = _STRETCH * longest, 0.96 * longest
    beyond = np.maximum(far - start, 0.0) / (bound - start)
    return np.where(far > start, start + (bound - start) * (1.0 - np.exp(-beyond)), far)
