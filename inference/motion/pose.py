"""First solution of a skeleton's pose: read off the keypoints bone by bone, from the trunk outwards.

What a keypoint does not show comes from anatomy and from neighbouring frames: the twist of a straight limb from before
and after, the palm of an unseen hand from the relaxed pose. Nothing here iterates; `core.ik` refines it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ..core import ik
from ..core.filters import fill_rotations, interpolate, moving_average, whittaker
from ..core.humanoid import FINGERS, FOOT_POINTS, HAND_POINTS, HEAD_POINTS, Skeleton, bone, keypoint
from ..core.rotations import (
    between,
    cross,
    frame_from_axes,
    matrix_from_quaternion,
    nearest_rotation,
    quaternion_from_matrix,
    rotate_onto,
    twist_angle,
    unit,
)
from ..core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS

Array = np.ndarray
_Y = np.array([0.0, 1.0, 0.0])
_TWIST_STRENGTH = 1.0  # penalty on changes of a limb's twist against certain evidence of weight 1
_TWIST_PRIOR = 0.01  # weight of the anatomical twist
KNEE, ELBOW = (-0.03, 2.7), (-0.05, 2.7)  # limits of flexion, radians
_TWIST_LIMIT = {"upper_arm": 1.9, "thigh": 0.9}
_RELAXED_FLEXION = {"forearm": 0.25, "thumb": 0.15, "index": 0.25, "middle": 0.3, "ring": 0.35, "little": 0.4}
_ARMS_DOWN = 1.25
_MOST_BENT = 0.4  # radians between the trunk's line and hips or chest


@dataclass
class Builder:
    """A pose that grows from the root: orientations in the world and in the bones' own frames.

    known (T, B): whether keypoints show the bone; `gap` and `decay` (frames) say how unseen bones are filled.
    """

    skeleton: Skeleton
    positions: Array  # (T, 137, 3), NaN where unknown
    weights: Array  # (T, 137)
    up: Array  # (3,)
    fps: float
    gap: int
    decay: float
    relaxed: Array = field(init=False)
    local: Array = field(init=False)
    world: Array = field(init=False)
    known: Array = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.positions), len(HUMANOID_NAMES))
        self.local = np.broadcast_to(np.eye(3), (*shape, 3, 3)).copy()
        self.world = self.local.copy()
        self.relaxed = relaxed_pose()
        self.known = np.zeros(shape, bool)

    def base(self, name: str) -> Array:
        """(T, 3, 3) orientation that a bone would have without a rotation of its own."""
        index = bone(name)
        parent = HUMANOID_PARENTS[index]
        turn = self.skeleton.local_turn[index]
        return np.broadcast_to(turn, self.world[:, 0].shape) if parent < 0 else self.world[:, parent] @ turn

    def set_local(self, name: str, turn: Array, known: Array) -> None:
        """Give a bone its rotation where it is known, and fill it elsewhere."""
        index = bone(name)
        self.known[:, index] = known
        if not known.any():
            turn = np.broadcast_to(matrix_from_quaternion(self.relaxed[index]), turn.shape)
        elif not known.all():
            quaternion = quaternion_from_matrix(np.where(known[:, None, None], turn, np.eye(3)))[:, None]
            relaxed = self.relaxed[index][None]
            filled = fill_rotations(quaternion, known[:, None], relaxed, max_gap=self.gap, decay=self.decay)
            turn = matrix_from_quaternion(filled[:, 0])
        self.local[:, index] = turn
        self.world[:, index] = self.base(name) @ turn

    def set_world(self, name: str, turn: Array, known: Array) -> None:
        """Give a bone its orientation in the world where it is known, and fill it elsewhere."""
        self.set_local(name, np.swapaxes(self.base(name), -1, -2) @ turn, known)

    def point(self, name: str) -> tuple[Array, Array]:
        """Positions (T, 3), zero where unknown, and weights (T,) of a keypoint."""
        index = keypoint(name)
        weight = self.weights[:, index]
        return np.where(weight[:, None] > 0, self.positions[:, index], 0.0), weight


@cache
def relaxed_pose() -> Array:
    """(B, 4) local rotations of a person who stands at ease."""
    turns = np.broadcast_to(np.eye(3), (len(HUMANOID_NAMES), 3, 3)).copy()
    for index, name in enumerate(HUMANOID_NAMES):
        part = name.split(".")[0]
        if part == "upper_arm":
            turns[index] = ik.turn_about(2, np.array(-_ARMS_DOWN if name.endswith("L") else _ARMS_DOWN))
        elif part in _RELAXED_FLEXION:
            turns[index] = ik.turn_about(0, np.array(_RELAXED_FLEXION[part]))
    return quaternion_from_matrix(turns)


def first_pose(builder: Builder, *, hands: bool) -> Array:
    """Fill the builder's pose; returns the root (T, 3)."""
    root = _trunk(builder)
    _head(builder)
    for side in "LR":
        _arm(builder, side, hands=hands)
        _leg(builder, side)
    return root


def _trunk(b: Builder) -> Array:
    across_hips, hips_known, middle, middle_known = _pair(b, "Hip", "MidHip")
    across_shoulders, shoulders_known, neck, neck_known = _pair(b, "Shoulder", "Neck")
    seen = (across_shoulders, shoulders_known) if shoulders_known.any() else (across_hips, hips_known)
    across_shoulders = interpolate(*seen)
    level = across_shoulders - (across_shoulders @ b.up)[:, None] * b.up
    across_hips = np.where(hips_known[:, None], across_hips, level)
    both = middle_known & neck_known
    chord = np.where(both[:, None], neck - middle, b.up)
    torso = float(np.linalg.norm(b.skeleton.rest[bone("upper_arm.L"), 2, 3] - b.skeleton.rest[0, 2, 3]))
    bend = _bend(b, chord, both, torso)
    hips = _sideways(across_hips, chord) @ ik.turn_about(0, -bend)
    chest = _sideways(across_shoulders, chord) @ ik.turn_about(0, bend)
    spine = nearest_rotation(hips + chest)
    b.set_world("hips", hips, np.ones(len(hips), bool))
    b.set_world("spine", spine, np.ones(len(hips), bool))
    b.set_world("chest", chest, np.ones(len(hips), bool))
    b.known[:, 0] = hips_known | middle_known
    b.known[:, 1] = both
    b.known[:, 2] = shoulders_known | neck_known
    root = np.where(middle_known[:, None], middle, neck - torso * unit(chord))
    return interpolate(root, middle_known | neck_known)


def _pair(b: Builder, part: str, centre: str) -> tuple[Array, Array, Array, Array]:
    """Vector from the right to the left joint, and the point between them, each with where it is known."""
    left, lw = b.point(f"L{part}")
    right, rw = b.point(f"R{part}")
    middle, mw = b.point(centre)
    both, either = (lw > 0) & (rw > 0), (lw > 0) | (rw > 0)
    half = np.where((lw > 0)[:, None], left - middle, middle - right)
    across = np.where(both[:, None], left - right, 2.0 * half)
    known = both | ((mw > 0) & either)
    middle = np.where(both[:, None], 0.5 * (left + right), middle)
    long = np.linalg.norm(across, axis=-1) > 0.02
    return np.where(known[:, None], across, 0.0), known & long, middle, (mw > 0) | both


def _bend(b: Builder, chord: Array, known: Array, torso: float) -> Array:
    """Angle (T,) by which hips and chest lean against the line between them, from how much shorter that line is.

    Length says little about a bend (its cosine), so that a tremor of the hips is not to nod the pelvis: it is averaged
    over half a second, and bounded.
    """
    stiff, bending = 0.34 * torso, 0.66 * torso
    length = moving_average(np.where(known, np.linalg.norm(chord, axis=-1), torso), round(0.25 * b.fps))
    cosine = (length + 0.01 * torso - stiff) / bending
    return 0.02 + np.arccos(np.clip(cosine, np.cos(_MOST_BENT), 1.0))


def _sideways(x: Array, y: Array) -> Array:
    """(T, 3, 3) frames whose first column is along `x` and whose second is as near to `y` as it can be."""
    swapped = frame_from_axes(x, y)
    return np.stack([swapped[..., 1], swapped[..., 0], -swapped[..., 2]], axis=-1)


def _carried(b: Builder, carrier: str, names: list[str]) -> tuple[Array, Array, Array]:
    """Points that a stiff part carries: in its bone's frame (K, 3) at rest, measured (T, K, 3), and their weights."""
    rest, skeleton = b.skeleton.rest, b.skeleton
    index = np.array([keypoint(name) for name in names])
    rows = np.array([int(np.flatnonzero(skeleton.marker_keypoints == i)[0]) for i in index])
    bones = skeleton.marker_bones[rows]
    at = rest[bones, :3, 3] + np.einsum("kij,kj->ki", rest[bones, :3, :3], skeleton.marker_offsets[rows])
    home = rest[bone(carrier)]
    weights = b.weights[:, index]
    return (at - home[:3, 3]) @ home[:3, :3], np.where(weights[..., None] > 0, b.positions[:, index], 0.0), weights


def _stiff(b: Builder, carrier: str, names: list[str], prior: Array) -> tuple[Array, Array, Array]:
    """Orientation (T, 3, 3) and head (T, 3) of a stiff part from its points, and where at least two of them show it."""
    shape, points, weights = _carried(b, carrier, names)
    count = 0.02 * float(np.sum(shape**2))
    shapes = np.broadcast_to(shape, points.shape)
    turn, centre, middle = rotate_onto(shapes, points, weights, towards=count * prior)
    head = middle - np.einsum("tij,tj->ti", turn, centre)
    return turn, head, np.sum(weights > 0, axis=1) >= 3


def _head(b: Builder) -> None:
    prior = b.world[:, bone("chest")]
    turn, joint, known = _stiff(b, "head", list(HEAD_POINTS), prior)
    neck, neck_known = b.point("Neck")
    base = neck + np.einsum("tij,j->ti", b.world[:, bone("chest")], b.skeleton.local_offset[bone("neck")] * [1, 0, 1])
    shared = turn[..., 0] + prior[..., 0]
    shared = np.where(np.abs(shared).sum(-1, keepdims=True) > 0.1, shared, prior[..., 0])
    neck_turn = frame_from_axes(joint - base, shared)
    b.set_world("neck", neck_turn, known & (neck_known > 0))
    b.set_world("head", turn, known)


def _arm(b: Builder, side: str, *, hands: bool) -> None:
    shoulder, sw = b.point(f"{side}Shoulder")
    elbow, ew = b.point(f"{side}Elbow")
    wrist, ww = b.point(f"{side}Wrist")
    still = np.broadcast_to(np.eye(3), (len(elbow), 3, 3))
    b.set_local(f"shoulder.{side}", still, np.ones(len(elbow), bool))
    b.known[:, bone(f"shoulder.{side}")] = sw > 0
    weights = np.stack([np.minimum(sw, ew), np.minimum(ew, ww)], axis=-1)
    flex = _limb(b, f"upper_arm.{side}", (elbow - shoulder, wrist - elbow), weights, pole=None)
    forearm, hand = f"forearm.{side}", f"hand.{side}"
    b.set_local(forearm, ik.turn_about(0, np.clip(flex, *ELBOW)), weights.min(axis=1) > 0)
    if not hands:
        b.set_local(hand, still, np.zeros(len(elbow), bool))
    else:
        turn, _, known = _stiff(b, hand, [f"{side}Hand{name}" for name in HAND_POINTS], b.base(hand))
        _pronate(b, side, turn, known)
    fingers = slice(first := bone(f"thumb.01.{side}"), first + 3 * len(FINGERS))
    b.local[:, fingers] = matrix_from_quaternion(b.relaxed[fingers])  # `hands.py` solves them


def _pronate(b: Builder, side: str, hand_turn: Array, known: Array) -> None:
    """Split the hand's orientation into the forearm's twist and the wrist's swing, as radius and wrist do."""
    forearm, hand = f"forearm.{side}", f"hand.{side}"
    local = quaternion_from_matrix(np.swapaxes(b.base(hand), -1, -2) @ hand_turn)
    twist = quaternion_from_matrix(ik.turn_about(1, twist_angle(local, _Y)))[:, None]
    untwisted = np.array([[1.0, 0.0, 0.0, 0.0]])
    twist = fill_rotations(twist, known[:, None], untwisted, max_gap=b.gap, decay=b.decay)
    seen = b.known[:, bone(forearm)]
    b.set_local(forearm, b.local[:, bone(forearm)] @ matrix_from_quaternion(twist[:, 0]), np.ones(len(known), bool))
    b.known[:, bone(forearm)] = seen
    b.set_world(hand, hand_turn, known)


def _leg(b: Builder, side: str) -> None:
    hip, hw = b.point(f"{side}Hip")
    knee, kw = b.point(f"{side}Knee")
    ankle, aw = b.point(f"{side}Ankle")
    weights = np.stack([np.minimum(hw, kw), np.minimum(kw, aw)], axis=-1)
    flex = _limb(b, f"thigh.{side}", (knee - hip, ankle - knee), weights, pole=_foot_pole(b, side, ankle - knee, aw))
    if not weights.any():  # legs out of view stand under the hips, however the pelvis leans
        across = b.world[:, 0, :, 0]
        b.set_world(f"thigh.{side}", frame_from_axes(np.broadcast_to(-b.up, across.shape), across), weights[:, 0] >= 0)
        b.known[:, bone(f"thigh.{side}")] = False
    b.set_local(f"shin.{side}", ik.turn_about(0, np.clip(flex, *KNEE)), weights.min(axis=1) > 0)
    names = [f"{side}{name}" for name in ("Ankle", *FOOT_POINTS)]
    turn, _, known = _stiff(b, f"foot.{side}", names, b.base(f"foot.{side}"))
    b.set_world(f"foot.{side}", turn, known)
    still = np.broadcast_to(np.eye(3), turn.shape)
    b.set_local(f"toe.{side}", still, known)


def _foot_pole(b: Builder, side: str, shin: Array, ankle_weight: Array) -> tuple[Array, Array]:
    """Sideways axis (T, 3) that the foot gives the knee, and how much it counts (T,)."""
    heel, heel_weight = b.point(f"{side}Heel")
    toe, toe_weight = b.point(f"{side}BigToe")
    small, small_weight = b.point(f"{side}SmallToe")
    ankle, _ = b.point(f"{side}Ankle")
    toe = np.where(small_weight[:, None] > 0, 0.5 * (toe + small), toe)
    forward = toe - np.where(heel_weight[:, None] > 0, heel, ankle)
    pole = cross(unit(forward), unit(shin))
    return pole, 0.05 * np.minimum(toe_weight, np.maximum(heel_weight, ankle_weight))


def _limb(
    b: Builder, upper: str, segments: tuple[Array, Array], weights: Array, *, pole: tuple[Array, Array] | None
) -> Array:
    """Turn the upper bone of a two-bone limb so that the hinge between them can do the rest; returns its flexion (T,).

    The bend itself shows the twist, in proportion to sin^2 of the flexion; else the `pole`, neighbours, and anatomy.
    """
    u, v = unit(segments[0]), unit(segments[1])
    base = b.base(upper)
    swing = matrix_from_quaternion(between(_Y, np.einsum("tji,tj->ti", base, u)))
    swung = base @ swing
    normal = cross(u, v)
    evidence = [(normal, weights.min(axis=1) * np.sum(normal**2, axis=-1))]
    if pole is not None:
        evidence.append((pole[0], pole[1] * (weights[:, 0] > 0)))
    hint, weight = np.zeros((len(u), 2)), np.zeros(len(u))
    for axis, count in evidence:
        flat = np.einsum("tji,tj->ti", swung, axis)[:, [0, 2]]
        hint += count[:, None] * unit(flat)
        weight += count
    hint = (hint + _TWIST_PRIOR * np.array([1.0, 0.0])) / (weight + _TWIST_PRIOR)[:, None]
    hint = whittaker(hint[:, None], (weight + _TWIST_PRIOR)[:, None], _TWIST_STRENGTH, order=2)[:, 0]
    limit = _TWIST_LIMIT[upper.split(".")[0]]
    twist = np.clip(np.arctan2(-hint[:, 1], hint[:, 0]), -limit, limit)
    turn = swing @ ik.turn_about(1, twist)
    b.set_local(upper, turn, weights[:, 0] > 0)
    hinge = b.world[:, bone(upper), :, 0]
    return np.arctan2(np.sum(normal * hinge, axis=-1), np.sum(u * v, axis=-1))
