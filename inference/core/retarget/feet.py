"""Feet of any rig: where their soles are, when they stand, and keeping them still, on the floor and within reach.

The target's floor is the plane z = rig.ground. Contacts come from the source; what they demand is decided in
`planting`, and legs are brought there by `legs`. Hips are lowered where a leg would be too short, never raised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..contacts import find_contacts, find_floor, speeds
from ..rig import SIDES, Mapping, Performance, Rig, RigMotion
from ..rotations import cross, matrix_from_rotvec, rotvec_from_matrix, unit
from . import legs
from .body import Body
from .planting import UP, Sole, Steps, envelope, plant, turned
from .posing import repose

Array = np.ndarray
_HEEL = 0.35  # how far behind the ankle the heel is, in lengths from ankle to ball
_STRICT = 1.75  # joints of a skeleton are steadier than keypoints of a film: they stand when they are slower and lower
_LEG_M = 0.85  # of the people whose contacts the thresholds were made for
_TOES_UP = np.radians(50.0)  # toes do not turn up further to clear the floor; then the foot is raised
_LIFT_S, _LOWER_S = 0.1, 0.12  # how long before it must a foot is lifted, or are the hips lowered


@dataclass(frozen=True)
class Foot:
    """One leg and its sole: rows of the bones of each part from the hip outwards; `toe` may be empty."""

    side: str
    thigh: tuple[int, ...]
    shin: tuple[int, ...]
    foot: tuple[int, ...]
    toe: tuple[int, ...]
    sole: Sole

    @property
    def columns(self) -> tuple[int, int]:
        """Columns of heel and toe in arrays of contacts."""
        first = 2 * SIDES.index(self.side)
        return first, first + 1


def find_feet(rig: Rig, mapping: Mapping) -> tuple[Foot, ...]:
    """Find the legs that have feet, and the points of their soles on the rig's floor; there may be none."""
    body = Body(rig, mapping)
    out = []
    for side in SIDES:
        parts = [tuple(body.chains.get(f"{part}.{side}", ())) for part in ("thigh", "shin", "foot", "toe")]
        if all(parts[:3]):
            out.append(Foot(side, parts[0], parts[1], parts[2], parts[3], _sole(body, side)))
    return tuple(out)


def _sole(body: Body, side: str) -> Sole:
    foot, toe, ground = f"foot.{side}", f"toe.{side}", body.rig.ground
    ankle, joint = body.joints(foot)[0], body.joints(foot)[-1]
    leg = body.length(f"thigh.{side}") + body.length(f"shin.{side}")
    step = (joint - ankle) * [1.0, 1.0, 0.0]
    size = float(np.linalg.norm(step))
    if size < 0.02 * leg:  # a foot that hangs, or a bone that runs up or down
        size = 0.16 * leg
        left = body.hip_line if "thigh.L" in body.chains and "thigh.R" in body.chains else np.array([1.0, 0.0, 0.0])
        step = size * unit(cross(left, UP))
    ahead = step / size
    ball, tip = ankle + step, body.joints(toe)[-1] if toe in body.chains else ankle + step
    if toe not in body.chains:
        ball, tip = _toes(body, side, ball, ahead)
    tip = ball + max(0.0, float((tip - ball) @ ahead)) * ahead
    heel, ball, tip = (np.array([*p[:2], ground]) for p in (ankle - _HEEL * (ball - ankle), ball, tip))
    return Sole(ankle, joint if toe in body.chains else ankle, heel, ball, tip, cross(UP, ahead), ground, leg)


def _toes(body: Body, side: str, ball: Array, ahead: Array) -> tuple[Array, Array]:
    """Ball and tip (3,) of a foot whose toes are no part of the mapping, from the bones that hang from it."""
    rig, foot = body.rig, body.chains[f"foot.{side}"][-1]
    ankle = rig.heads[foot]
    knuckles = [
        row
        for row in rig.children(foot)
        if (rig.heads[row] - ankle) @ ahead > 0.5 * (ball - ankle) @ ahead and rig.heads[row, 2] < ankle[2]
    ]
    if not knuckles:
        return ball, ball
    below = [row for row in range(len(rig.names)) if foot in tuple(rig.ancestors(row))]
    ball = rig.heads[knuckles].mean(axis=0)
    return ankle + ((ball - ankle) @ ahead) * ahead, max((rig.tail(row) for row in below), key=lambda end: end @ ahead)


def steps_of(rig: Rig, foot: Foot, turns: Array, heads: Array) -> Steps:
    """Read a foot off (T, B, 3, 3) world orientations and (T, B, 3) heads."""
    turned = [turns[:, rows[0]] @ rig.rest[rows[0], :3, :3].T for rows in (foot.foot, foot.toe) if rows]
    return Steps(turned[0], turned[-1], heads[:, foot.foot[0]])


def sole_points(rig: Rig, feet: tuple[Foot, ...], turns: Array, heads: Array) -> Array:
    """(T, 4, 3) heels and balls, left and right; NaN where there is no foot."""
    out = np.full((len(heads), 4, 3), np.nan)
    for foot in feet:
        steps = steps_of(rig, foot, turns, heads)
        heel, ball = foot.columns
        out[:, heel], out[:, ball] = steps.heel(foot.sole), steps.ball(foot.sole)
    return out


def source_contacts(performance: Performance) -> Array:
    """(T, 4) contacts in [0, 1]: the performance's own, else found where its heels and balls are low and slow.

    Where a bone's confidence is 0, nobody saw the foot, and nothing is held.
    """
    if performance.contacts is not None:
        return np.asarray(performance.contacts, float)
    rig = performance.rig
    feet = find_feet(rig, performance.mapping)
    points = sole_points(rig, feet, performance.turns, performance.heads)
    weights = np.isfinite(points[..., 0]).astype(float)
    if not feet or not len(points):
        return np.zeros(weights.shape)
    if performance.confidence is not None:
        for foot in feet:
            for column, row in zip(foot.columns, (foot.foot[0], (foot.toe or foot.foot)[0]), strict=True):
                weights[:, column] *= np.clip(performance.confidence[:, row], 0.0, 1.0)
    points = np.nan_to_num(points - [0.0, 0.0, rig.ground]) * (_LEG_M / feet[0].sole.leg)
    floor = find_floor(points, weights, performance.fps, clearance=0.0)
    if floor is not None:
        points[..., 2] += (_STRICT - 1.0) * (points[..., 2] - floor.levels)
    moving = _STRICT * speeds(points, performance.fps)
    return find_contacts(points, weights, performance.fps, floor, speed=moving)


def source_levels(performance: Performance) -> Array:
    """(T, 4) metres above the performance's floor of its heels and balls; NaN where it has no foot."""
    rig = performance.rig
    return sole_points(rig, find_feet(rig, performance.mapping), performance.turns, performance.heads)[..., 2]


def lock(motion: RigMotion, feet: tuple[Foot, ...], contacts: Array, strength: float = 1.0) -> RigMotion:
    """Hold feet where they stand; `strength` in [0, 1]."""
    return settle(motion, feet, contacts, strength, floor=False)


def lift(motion: RigMotion, feet: tuple[Foot, ...]) -> RigMotion:
    """Lift feet out of the floor; feet that are locked already stay."""
    return settle(motion, feet, motion.contacts, 0.0, floor=True)


def settle(
    motion: RigMotion, feet: tuple[Foot, ...], contacts: Array | None, strength: float = 1.0, *,
    floor: bool = True, levels: Array | None = None,
) -> RigMotion:  # fmt: skip
    """Lock feet and lift them out of the floor, in one go.

    Args:
        contacts: (T, 4) of `CONTACT_ROLES`, above 0.5 where a point stands.
        strength: how firmly, 0 to 1.
        levels: (T, 4) metres above the target's floor at which they stand; None reads it off the motion.
    """
    frames = len(motion.times)
    standing = np.zeros((frames, 4), bool) if contacts is None else np.asarray(contacts) > 0.5
    fps = _fps(motion.times)
    if not feet or not frames:
        return motion if contacts is None else replace(motion, contacts=contacts)
    before = [steps_of(motion.rig, foot, motion.turns, motion.heads) for foot in feet]
    after = []
    for foot, steps in zip(feet, before, strict=True):
        down = standing[:, foot.columns]
        level = None if levels is None else levels[:, foot.columns]
        held = plant(steps, foot.sole, down, fps, levels=level) if strength > 0 else steps
        held = held if strength >= 1 or held is steps else _blend(steps, held, strength)
        after.append(_lifted(held, foot, down.any(axis=1), fps) if floor else held)
    if strength > 0:
        motion = replace(motion, contacts=contacts)
    moved = [not _same(a, b) for a, b in zip(before, after, strict=True)]
    return _step(motion, feet, after, fps) if any(moved) else motion


def _fps(times: Array) -> float:
    span = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span > 0 else 30.0


def _same(a: Steps, b: Steps) -> bool:
    return all(np.allclose(x, y, rtol=0, atol=1e-9) for x, y in ((a.foot, b.foot), (a.toe, b.toe), (a.ankle, b.ankle)))


def _blend(before: Steps, after: Steps, strength: float) -> Steps:
    def part(a: Array, b: Array) -> Array:
        return matrix_from_rotvec(strength * rotvec_from_matrix(b @ np.swapaxes(a, -1, -2))) @ a

    ankle = before.ankle + strength * (after.ankle - before.ankle)
    return Steps(part(before.foot, after.foot), part(before.toe, after.toe), ankle)


def _lifted(steps: Steps, foot: Foot, still: Array, fps: float) -> Steps:
    """Raise a foot whose heel or ball is in the floor, and turn up toes whose tip is."""
    sole, reach = foot.sole, max(1, round(_LIFT_S * fps))
    steps = _raised(steps, steps.heights(sole)[: 2 if foot.toe else 3], still, reach)
    if not foot.toe:
        return steps
    joint = steps.joint(sole)
    toes, up = steps.tip(sole) - joint, -(steps.toe @ sole.left)
    rise = cross(up, toes)[:, 2]  # height of the tip over the angle: toes cos + rise sin
    far = np.maximum(np.hypot(toes[:, 2], rise), 1e-9)
    phase = (np.arctan2(rise, toes[:, 2]) + 0.5 * np.pi) % (2.0 * np.pi) - 0.5 * np.pi
    angle = phase - np.arccos(np.clip((sole.ground - joint[:, 2]) / far, -1.0, 1.0))
    turn = envelope(np.clip(angle, 0.0, _TOES_UP), reach, still=still)
    if not turn.any():
        return steps
    steps = replace(steps, toe=turned(turn[:, None] * up, steps.toe))
    return _raised(steps, steps.heights(sole), still, reach)  # toes that turn up push their ball down


def _raised(steps: Steps, points: tuple[Array, ...], still: Array, reach: int) -> Steps:
    """Raise a foot by what the lowest of some (T,) heights of it is below the floor."""
    rise = envelope(np.maximum(0.0, -np.min(points, axis=0)), reach, still=still)
    return replace(steps, ankle=steps.ankle + rise[:, None] * UP) if rise.any() else steps


def _step(motion: RigMotion, feet: tuple[Foot, ...], after: list[Steps], fps: float) -> RigMotion:
    """Bring feet to where they are wanted: lower the hips where a leg is too short, bend legs, turn feet and toes."""
    rig, turns, heads = motion.rig, motion.turns, motion.heads
    found = [_leg(motion, foot) for foot in feet]
    needs = np.max([legs.lowering(leg, step.ankle) for leg, step in zip(found, after, strict=True)], axis=0)
    drop = envelope(needs, max(1, round(_LOWER_S * fps)))[:, None] * UP
    new_turns: dict[int, Array] = {}
    new_heads: dict[int, Array] = {}
    for foot, leg, step in zip(feet, found, after, strict=True):
        upper, lower = legs.bend(leg, leg.hip - drop, step.ankle)
        own, toe = (rig.rest[row, :3, :3] for row in (foot.foot[0], (foot.toe or foot.foot)[0]))
        foot_turn = step.foot @ np.swapaxes(turns[:, foot.foot[0]] @ own.T, -1, -2)
        toe_turn = step.toe @ np.swapaxes(turns[:, (foot.toe or foot.foot)[0]] @ toe.T, -1, -2)
        for rows, turn in ((foot.thigh, upper), (foot.shin, lower), (foot.foot, foot_turn), (foot.toe, toe_turn)):
            new_turns.update({row: turn @ turns[:, row] for row in rows})
        knee = leg.hip - drop + (upper @ (leg.knee - leg.hip)[..., None])[..., 0]
        ankle = knee + (lower @ (leg.ankle - leg.knee)[..., None])[..., 0]
        joint = ankle + step.foot @ (foot.sole.joint - foot.sole.ankle)
        places = zip((foot.thigh, foot.shin, foot.foot, foot.toe), (leg.hip - drop, knee, ankle, joint), strict=True)
        new_heads.update({rows[0]: place for rows, place in places if rows and rows[0] in motion.moved})
    if drop.any():
        hips = motion.mapping.first("hips", rig)
        for row in motion.moved.tolist():
            if row == hips or hips not in tuple(rig.ancestors(row)):
                new_heads.setdefault(row, heads[:, row] - drop)
    return repose(motion, new_turns, new_heads)


def _leg(motion: RigMotion, foot: Foot) -> legs.Leg:
    turns, heads, row = motion.turns, motion.heads, foot.thigh[0]
    hip, knee, ankle = heads[:, row], heads[:, foot.shin[0]], heads[:, foot.foot[0]]
    thigh = turns[:, row] @ motion.rig.rest[row, :3, :3].T
    return legs.Leg(hip, knee, ankle, legs.hinge(thigh, knee - hip, ankle - knee, foot.sole.left))


@dataclass(frozen=True)
class FootMeasure:
    """One foot: what it slid from frame to frame while it stood, how deep it went, how straight its knee became.

    slide (N,) mm a frame, one for every frame in which heel or ball stood and had stood, the larger of the two;
    depth (T,) mm below the floor of its deepest point; knee: largest distance from hip to ankle, as a share of the leg.
    """

    side: str
    slide: Array
    depth: Array
    knee: float


@dataclass(frozen=True)
class FootMeasures:
    """What feet do to the floor; millimetres, a frame."""

    feet: tuple[FootMeasure, ...]

    def _all(self, name: str) -> Array:
        return np.concatenate([getattr(foot, name) for foot in self.feet] or [np.zeros(0)])

    @property
    def slide_mm(self) -> tuple[float, float, float]:
        """Mean, 95th percentile and largest of what feet slide in a frame in which they stand."""
        return summary(self._all("slide"))

    @property
    def depth_mm(self) -> tuple[float, float, float]:
        """Mean, 95th percentile and largest of how deep a foot is in the floor."""
        return summary(self._all("depth"))

    @property
    def knee(self) -> float:
        """How straight a knee becomes at most: distance from hip to ankle, as a share of the leg's length."""
        return max((foot.knee for foot in self.feet), default=0.0)


def summary(values: Array) -> tuple[float, float, float]:
    """Mean, 95th percentile and largest; zeros of nothing."""
    if not len(values):
        return 0.0, 0.0, 0.0
    return float(values.mean()), float(np.quantile(values, 0.95)), float(values.max())


def measure(motion: RigMotion, feet: tuple[Foot, ...], contacts: Array) -> FootMeasures:
    """Measure how feet slide across the floor while (T, 4) `contacts` say they stand, and how deep they are in it."""
    standing = np.asarray(contacts) > 0.5
    out = []
    for foot in feet:
        steps = steps_of(motion.rig, foot, motion.turns, motion.heads)
        points = np.stack([steps.heel(foot.sole), steps.ball(foot.sole), steps.tip(foot.sole)], axis=1)
        down = standing[1:, foot.columns] & standing[:-1, foot.columns]
        speed = np.where(down, np.linalg.norm(np.diff(points[:, :2, :2], axis=0), axis=-1), 0.0).max(
            axis=1, initial=0.0
        )
        depth = np.maximum(0.0, foot.sole.ground - points[..., 2]).max(axis=1, initial=0.0)
        leg = _leg(motion, foot)
        stretch = np.linalg.norm(leg.ankle - leg.hip, axis=-1) / leg.length
        out.append(FootMeasure(foot.side, 1e3 * speed[down.any(axis=1)], 1e3 * depth, float(stretch.max(initial=0.0))))
    return FootMeasures(tuple(out))
