"""Limbs of many frames at once: turning shared out along them, and arms that reach for a place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .body import Body
from .rotations import between, conjugate, cross, multiply, quaternion_from_rotvec, rotate, twist_angle, unit

Array = np.ndarray
_STRETCH = 0.999  # of an arm's length: a straight elbow has no plane
_BELIEVED, _ABSURD = np.radians(137.0), np.pi  # a limb turned further than this is not shared out further
_SWUNG, _OVER = np.cos(np.radians(60.0)), np.cos(np.radians(85.0))  # of half the angle between a limb and its rest


@dataclass(frozen=True)
class Limb:
    """One arm or leg as pieces of a target's `posing.Tree`.

    above: what the upper bones hang from; upper, lower: segments; end: hand or foot, None where there is none;
    upper_twist, lower_twist: bones beside; *_axis (3,) rest directions; *_at: where each is along the limb, 0 to 1, as
    the share of the turning that it takes. `same`: the source is this very limb, whose turning stays as it is.
    """

    arm: bool
    above: int
    upper: list[int]
    lower: list[int]
    end: int | None
    upper_twist: list[int]
    lower_twist: list[int]
    upper_axis: Array
    lower_axis: Array
    upper_at: Array
    lower_at: Array
    upper_twist_at: Array
    lower_twist_at: Array
    same: bool = False


def limb_of(body: Body, pieces: dict[int, int], side: str, *, arm: bool) -> Limb | None:
    """Describe a limb; `pieces` by row. None where its bones are not driven."""
    names = ("upper_arm", "forearm", "hand") if arm else ("thigh", "shin", "foot")
    upper, lower, end = ([pieces[r] for r in body.chains.get(f"{n}.{side}", []) if r in pieces] for n in names)
    if not upper or not lower:
        return None
    above = (f"shoulder.{side}", "spine") if arm else ("hips",)
    row = next(body.chains[role][-1] for role in above if role in body.chains and body.chains[role][-1] in pieces)
    roles, twists = [f"{name}.{side}" for name in names[:2]], [f"{name}_twist.{side}" for name in names[:2]]
    upper_twist, lower_twist = ([pieces[r] for r in body.chains.get(t, []) if r in pieces] for t in twists)
    middles = [_places(body, role, body.chains[role], middle=True) for role in roles]
    lower_at = middles[1] if len(lower) > 1 else np.array([0.0 if lower_twist else 0.5])
    beside = [_places(body, role, body.chains.get(twist, [])) for role, twist in zip(roles, twists, strict=True)]
    return Limb(
        arm, pieces[row], upper, lower, end[0] if end else None, upper_twist, lower_twist,
        body.direction(roles[0]), body.direction(roles[1]), middles[0] / middles[0][-1], lower_at, beside[0], beside[1],
    )  # fmt: skip


def _places(body: Body, role: str, rows: list[int], *, middle: bool = False) -> Array:
    """(n,) where bones are along a role, 0 to 1: by their heads, or by their middles."""
    joints = body.joints(role)
    step = joints[-1] - joints[0]
    heads = body.rig.heads[rows]
    points = (joints[1:] + joints[:-1]) / 2 if middle else heads
    at = np.clip((points - joints[0]) @ step / max(float(step @ step), 1e-12), 0.0, 1.0)
    if not middle and len(at) and np.ptp(at) < 1e-3 and (len(at) > 1 or at[0] < 0.05):
        at = (np.arange(len(at)) + 0.5) / len(at)  # all in one place: bones as long as the limb
    return np.maximum(at, 0.02) if middle else at


def still(limb: Limb) -> Limb:
    """The same limb, with the turning left as the source has it."""
    return replace(limb, same=True)


def share_twist(deltas: Array, limb: Limb, amount: float) -> list[int]:
    """Share the turning of a limb about itself along its bones, in place; gives the pieces that were changed.

    deltas: (N, T, 4) world rotations from rest. Only turns about the limb change, so that it points where it did, and
    neither its hand nor the bone that carries its elbow is touched.
    """
    if limb.same:
        return []
    changed: list[int] = []
    upper = deltas[limb.upper[-1]].copy()
    if len(limb.upper) > 1 or limb.upper_twist:
        turning = conjugate(deltas[limb.above])
        turning = multiply(turning, upper)
        counter = amount * _tapered(twist_angle(turning, limb.upper_axis)) * _near_rest(turning, limb.upper_axis)
        for piece, at in [
            *zip(limb.upper, limb.upper_at, strict=True),
            *zip(limb.upper_twist, limb.upper_twist_at, strict=True),
        ]:
            deltas[piece] = _turned(upper, limb.upper_axis, -(1.0 - at) * counter)
        changed += [*limb.upper, *limb.upper_twist]
    alone = len(limb.lower) == 1 and not limb.lower_twist
    if alone and (limb.end is None or not limb.arm):
        return changed
    lower = deltas[limb.lower[0]].copy()
    own = twist_angle(multiply(conjugate(upper), lower), limb.lower_axis)
    whole = own
    if limb.end is not None:
        whole = whole + twist_angle(multiply(conjugate(lower), deltas[limb.end]), limb.lower_axis)
    whole = _tapered((whole + np.pi) % (2.0 * np.pi) - np.pi)
    for piece, at in [
        *zip(limb.lower, limb.lower_at, strict=True),
        *zip(limb.lower_twist, limb.lower_twist_at, strict=True),
    ]:
        deltas[piece] = _turned(lower, limb.lower_axis, amount * (at * whole - own))
    return [*changed, *limb.lower, *limb.lower_twist]


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
