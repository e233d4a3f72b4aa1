"""Feet held where they stand: what is done to them while they stand, and how it fades before and after.

A foot is described by world rotations since rest of its foot and toe bones, and by where its ankle is. What a contact
demands is a correction of each; corrections are smooth over time even where contacts are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..filters import neighbours
from ..rotations import between, matrix_from_quaternion, matrix_from_rotvec, rotvec_from_matrix, unit

Array = np.ndarray
UP = np.array([0.0, 0.0, 1.0])
_FADE_S = 0.2  # how long before and after a contact its correction lasts
_STEP = 0.06  # of the leg: footholds that are less high are on the floor
_ENOUGH = 5  # frames in which a foot stands flat, to say how its sole lies
_CROOKED = np.cos(np.radians(20.0))  # of half the angle by which a skeleton's sole may be off
_FURTHEST = 0.25  # of the leg: contacts do not drag a foot further
_SLOPE = np.tan(np.radians(8.0))  # soles that are tilted less are flat


@dataclass(frozen=True)
class Sole:
    """The points of a foot at rest, (3,) metres, world: its ankle, toe joint, heel, ball and tip; `left` of the foot.

    ground: height of the floor; leg: length of the leg, metres. Without toes the toe joint is the ankle.
    """

    ankle: Array
    joint: Array
    heel: Array
    ball: Array
    tip: Array
    left: Array
    ground: float
    leg: float


@dataclass(frozen=True)
class Steps:
    """A foot over time: world rotations since rest of foot and toe (T, 3, 3), and the ankle (T, 3)."""

    foot: Array
    toe: Array
    ankle: Array

    def joint(self, sole: Sole) -> Array:
        """(T, 3) where the toes bend."""
        return self.ankle + self.foot @ (sole.joint - sole.ankle)

    def heel(self, sole: Sole) -> Array:
        """(T, 3) the heel, on the sole."""
        return self.ankle + self.foot @ (sole.heel - sole.ankle)

    def ball(self, sole: Sole) -> Array:
        """(T, 3) the ball of the foot, on the sole."""
        return self.joint(sole) + self.toe @ (sole.ball - sole.joint)

    def tip(self, sole: Sole) -> Array:
        """(T, 3) the tip of the toes."""
        return self.joint(sole) + self.toe @ (sole.tip - sole.joint)

    def heights(self, sole: Sole) -> tuple[Array, Array, Array]:
        """(T,) metres above the floor of heel, ball and tip."""
        heel, ball, tip = (point[:, 2] - sole.ground for point in (self.heel(sole), self.ball(sole), self.tip(sole)))
        return heel, ball, tip


def plant(steps: Steps, sole: Sole, standing: Array, fps: float, *, levels: Array | None = None) -> Steps:
    """Hold heel and ball where they stand.

    Args:
        standing: (T, 2) whether heel and ball stand. Both: the foot is flat and still. The ball alone: the foot turns
            about it over flat toes. The heel alone: the heel stays.
        levels: (T, 2) metres above the floor at which they stand; None, or NaN, reads it off the foot itself.
    """
    standing = _bridged(standing)
    if not standing.any():
        return steps
    steps = _calibrated(steps, standing.all(axis=1))
    heights = _levels(steps, sole, standing, levels)
    foot = _flattened(steps, sole, standing, heights, fps)
    toe = foot if np.array_equal(sole.joint, sole.ankle) else _flat_toes(steps, foot, sole, standing[:, 1], fps)
    turned = Steps(foot, toe, steps.ankle)
    shift = _anchored(turned, sole, standing, heights)
    return Steps(foot, toe, steps.ankle + fade(shift, standing.any(axis=1), fps))


def runs(mask: Array) -> list[tuple[int, int]]:
    """Starts and ends (exclusive) of the stretches where (T,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def fade(values: Array, known: Array, fps: float) -> Array:
    """Carry (T, C) corrections on beyond the (T,) frames that demand them: they leave with their own speed, and end.

    A cubic from value and slope at a contact's edge to nothing, within 0.2 s or up to the next contact.
    """
    count = len(known)
    before, after = (index[:, 0] for index in neighbours(known[:, None]))
    gap = np.where((before >= 0) & (after < count), after - before, count)
    longest = np.clip(gap, 1.0, max(1.0, _FADE_S * fps))
    frame = np.arange(count)
    out = np.where(known[:, None], values, 0.0)
    for nearest, inside, there in ((before, -1, before >= 0), (after, 1, after < count)):
        edge = np.clip(nearest, 0, count - 1)
        u = np.minimum(np.abs(frame - edge) / longest, 1.0)[:, None]
        slope, value = _slope(values, known, inside)[edge], values[edge]
        part = value * (1.0 + u * u * (2.0 * u - 3.0)) + slope * longest[:, None] * u * (1.0 - u) ** 2
        out += part * (there & ~known)[:, None]
    return out


def _slope(values: Array, known: Array, inside: int) -> Array:
    """(T, C) change a frame of the values out of a contact whose frames lie `inside` (-1 before, 1 after)."""
    frame = np.arange(len(known))
    near, far = (np.clip(frame + i * inside, 0, len(known) - 1) for i in (1, 2))
    one = values - values[near]
    two = np.where((known[far] & (far != near))[:, None], 0.5 * (values - values[far]), one)
    return np.where((known & known[near])[:, None], two, 0.0)


def envelope(needs: Array, reach: int, *, still: Array | None = None) -> Array:
    """A smooth (T,) line over `needs` >= 0, nowhere below them, that begins `2 * reach` frames before it must.

    Where (T,) `still`, it is no more than needed.
    """
    if not needs.any():
        return needs
    window = 2 * reach + 1
    padded = np.pad(needs, reach)
    most = np.lib.stride_tricks.sliding_window_view(padded, window).max(axis=1)
    kernel = np.hanning(window + 2)[1:-1]
    smooth = np.convolve(np.pad(most, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
    if still is None or not still.any():
        return smooth
    before, after = (index[:, 0] for index in neighbours(still[:, None]))
    frame = np.arange(len(needs))
    away = np.minimum(
        np.where(before >= 0, frame - before, window), np.where(after < len(needs), after - frame, window)
    )
    u = np.clip(away / window, 0.0, 1.0)
    return needs + (smooth - needs) * u * u * (3.0 - 2.0 * u)


def yaw(turns: Array, left: Array) -> Array:
    """(T,) heading, radians, of (T, 3, 3) world rotations since rest of something whose side is to the (3,) `left`."""
    side = turns @ left
    return np.arctan2(left[0] * side[:, 1] - left[1] * side[:, 0], side[:, :2] @ left[:2])


def about_up(angle: Array) -> Array:
    """(..., 3, 3) rotations about Z."""
    out = np.zeros((*np.shape(angle), 3, 3))
    out[..., 0, 0] = out[..., 1, 1] = np.cos(angle)
    out[..., 1, 0] = np.sin(angle)
    out[..., 0, 1] = -out[..., 1, 0]
    out[..., 2, 2] = 1.0
    return out


def _bridged(standing: Array) -> Array:
    """Where the weight goes from heel to ball, or back, between two frames, both stand in both."""
    out = standing.copy()
    for a, b in ((0, 1), (1, 0)):
        swap = standing[:-1, a] & ~standing[:-1, b] & standing[1:, b] & ~standing[1:, a]
        out[:-1][swap] = out[1:][swap] = True
    return out


def _calibrated(steps: Steps, flat: Array) -> Steps:
    """Feet and toes whose soles, where they stand, are level on average: skeletons of captures are often crooked."""
    if flat.sum() < _ENOUGH:
        return steps

    def level(turns: Array) -> Array:
        tilt = between(UP, unit(turns[flat, 2].mean(axis=0)))  # how the sole lies in the foot's own axes
        return turns @ matrix_from_quaternion(tilt) if tilt[0] > _CROOKED else turns

    foot = level(steps.foot)
    return Steps(foot, foot if steps.toe is steps.foot else level(steps.toe), steps.ankle)


def _middle(values: Array) -> Array:
    """(...) medians along the first axis; much faster than numpy's for few values."""
    ordered, half = np.sort(values, axis=0), len(values) // 2
    return ordered[half] if len(values) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _levels(steps: Steps, sole: Sole, standing: Array, levels: Array | None) -> Array:
    """(T, 2) heights at which heel and ball are to stand: one each for as long as the foot is down."""
    own = np.stack([steps.heel(sole)[:, 2], steps.ball(sole)[:, 2]], axis=1) - sole.ground
    levels = own if levels is None else np.where(np.isfinite(levels), levels, own)
    out = np.zeros(standing.shape)
    length = float(np.linalg.norm(sole.ball - sole.heel))
    for start, end in runs(standing.any(axis=1)):
        part = slice(start, end)
        found = [levels[part, i][standing[part, i]] for i in (0, 1)]
        heel, ball = (float(_middle(a if len(a) else b)) for a, b in (found, found[::-1]))
        heel, ball = (0.0 if abs(h) < _STEP * sole.leg else h for h in (heel, ball))
        if abs(ball - heel) < _SLOPE * length:
            heel = ball = (heel + ball) / 2
        out[part] = heel, ball
    return out + sole.ground


def _flattened(steps: Steps, sole: Sole, standing: Array, heights: Array, fps: float) -> Array:
    """(T, 3, 3) rotations of a foot that is flat where heel and ball stand, and never lower at its other end."""
    flat, down = standing.all(axis=1), standing.any(axis=1)
    length = float(np.linalg.norm(sole.ball - sole.heel))
    heading = np.unwrap(yaw(steps.foot, sole.left))
    wanted = np.zeros(len(flat))
    for start, end in runs(flat):
        wanted[start:end] = _middle(heading[start:end])
    slope = np.arcsin(np.clip((heights[:, 1] - heights[:, 0]) / length, -0.9, 0.9))
    target = about_up(wanted[flat])
    if slope.any():
        target = target @ matrix_from_rotvec(-slope[flat, None] * sole.left)
    foot = _corrected(steps.foot, target, flat, fps)
    tilt = np.arcsin(np.clip((foot @ (sole.ball - sole.heel))[:, 2] / length, -1.0, 1.0)) - slope
    tilt = np.where(standing[:, 0], np.minimum(tilt, 0.0), np.maximum(tilt, 0.0)) * (down & ~flat)
    return turned(fade(tilt[:, None], down, fps) * (foot @ sole.left), foot)


def _flat_toes(steps: Steps, foot: Array, sole: Sole, standing: Array, fps: float) -> Array:
    """(T, 3, 3) rotations of toes that lie flat where the ball stands, and else go on as they were."""
    return _corrected(steps.toe, about_up(yaw(foot[standing], sole.left)), standing, fps)


def _corrected(turns: Array, target: Array, known: Array, fps: float) -> Array:
    """(T, 3, 3) rotations that are the (N, 3, 3) target in the N frames that are known, and go there and back."""
    if not known.any():
        return turns
    correction = np.zeros((len(known), 3))
    correction[known] = rotvec_from_matrix(target @ np.swapaxes(turns[known], -1, -2))
    return turned(fade(_unwrapped(correction, known), known, fps), turns)


def turned(vectors: Array, turns: Array) -> Array:
    """(T, 3, 3) rotations, turned further by (T, 3) rotation vectors, most of which may be 0."""
    rows = np.flatnonzero(vectors.any(axis=1))
    out = turns.copy()
    out[rows] = matrix_from_rotvec(vectors[rows]) @ turns[rows]
    return out


def _unwrapped(vectors: Array, known: Array) -> Array:
    """Rotation vectors (T, 3) without leaps of a whole turn inside of contacts."""
    out = vectors.copy()
    for start, end in runs(known):
        angle = np.linalg.norm(out[start:end], axis=-1)
        if angle.max() < 2.5:
            continue
        for t in range(start + 1, end):
            a = np.linalg.norm(out[t])
            other = out[t] * (1.0 - 2.0 * np.pi / max(a, 1e-9))
            if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
                out[t] = other
    return out


def _anchored(steps: Steps, sole: Sole, standing: Array, heights: Array) -> Array:
    """(T, 3) shifts that keep heel and ball still while they stand; 0 in other frames.

    Contacts that overlap share one place: the ball is as far from the heel as the foot is long. A contact that would
    drag the foot far away is wrong, and only followed part of the way.
    """
    points = np.stack([steps.heel(sole), steps.ball(sole)], axis=1)
    apart = points[:, 1] - points[:, 0]
    away = np.concatenate([_places(standing, apart[:, :2]), heights[..., None]], axis=-1) - points
    shift = np.where(standing[:, :1], away[:, 0], away[:, 1])
    for start, end in runs(standing.any(axis=1)):
        part = slice(start, end)
        shift[part, :2] -= _middle(away[part, :, :2][standing[part]])
    shift *= standing.any(axis=1)[:, None]
    far = np.linalg.norm(shift, axis=-1, keepdims=True)
    return shift * np.minimum(1.0, _FURTHEST * sole.leg / np.maximum(far, 1e-9))


def _places(standing: Array, apart: Array) -> Array:
    """(T, 2, 2) places of heel and ball, up to a shift of all that overlap in time.

    standing (T, 2); apart (T, 2) from heel to ball.
    """
    out = np.zeros((len(standing), 2, 2))
    until = [0, 0]
    for start, end, i in sorted((*run, column) for column in (0, 1) for run in runs(standing[:, column])):
        if until[1 - i] > start:
            out[start:end, i] = out[start, 1 - i] + (apart[start] if i == 1 else -apart[start])
        until[i] = end
    return out
