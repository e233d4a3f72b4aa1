"""Legs that reach: two bones, solved exactly, in the plane in which the knee bends already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rotations import between, cross, matrix_from_quaternion, multiply, quaternion_from_rotvec, unit

Array = np.ndarray
_STRAIGHT, _STRAIGHTEST = 0.995, 0.9998  # of a leg's length: how far it reaches, and where it went that far before
_PLANE = 0.25  # sine of a knee's angle from which its plane is its own
_DEEPEST = 0.35  # of the leg: hips are not lowered further


@dataclass(frozen=True)
class Leg:
    """Hip, knee and ankle (T, 3) of a leg, metres, and the (T, 3) axis about which its knee bends."""

    hip: Array
    knee: Array
    ankle: Array
    hinge: Array

    @property
    def length(self) -> Array:
        """(T,) length of the straight leg."""
        return _size(self.knee - self.hip) + _size(self.ankle - self.knee)

    @property
    def reach(self) -> Array:
        """(T,) how far the ankle may be from the hip: a straight knee has no plane, and snaps."""
        length = self.length
        return np.clip(_size(self.ankle - self.hip), _STRAIGHT * length, _STRAIGHTEST * length)


def hinge(thigh: Array, upper: Array, lower: Array, left: Array) -> Array:
    """(T, 3) axis about which a knee bends, as its motion shows; `left` (3,) at rest where it never bends.

    thigh: (T, 3, 3) world rotations since rest; upper, lower: (T, 3) from hip to knee and on to the ankle.
    """
    seen = np.einsum("tji,tj->ti", thigh, cross(unit(upper), unit(lower))).sum(axis=0)
    return thigh @ unit(seen + 0.02 * len(thigh) * left)


def lowering(leg: Leg, ankle: Array) -> Array:
    """(T,) metres by which a hip has to come down for the ankle to reach (T, 3) its place."""
    away = leg.hip - ankle
    reach = leg.reach
    across = np.minimum(_size(away[:, :2]), 0.95 * reach)
    need = away[:, 2] - np.sqrt(reach**2 - across**2)
    return np.clip(need, 0.0, _DEEPEST * leg.length)


def bend(leg: Leg, hip: Array, ankle: Array) -> tuple[Array, Array]:
    """World rotations (T, 3, 3) of thigh and shin that bring hip and ankle to (T, 3) new places, or nearest to them."""
    upper, lower, whole = leg.knee - leg.hip, leg.ankle - leg.knee, leg.ankle - leg.hip
    along, normal = unit(whole), _normal(leg, upper, lower)
    u, v = np.sum(upper * normal, axis=-1), np.sum(lower * normal, axis=-1)
    a = np.sqrt(np.maximum(np.sum(upper * upper, axis=-1) - u * u, 1e-12))  # what lies in the plane
    b = np.sqrt(np.maximum(np.sum(lower * lower, axis=-1) - v * v, 1e-12))
    ahead = cross(along, normal)
    wanted = ankle - hip
    distance = np.clip(_size(wanted), np.abs(a - b) * 1.001 + 1e-4 * (a + b), np.minimum(leg.reach, a + b))
    bent_a = np.arccos(np.clip((a * a + distance**2 - b * b) / (2 * a * distance), -1.0, 1.0))
    bent_b = -np.arccos(np.clip((b * b + distance**2 - a * a) / (2 * b * distance), -1.0, 1.0))
    turn_a = bent_a - np.arctan2(np.sum(upper * ahead, axis=-1), np.sum(upper * along, axis=-1))
    turn_b = bent_b - np.arctan2(np.sum(lower * ahead, axis=-1), np.sum(lower * along, axis=-1))
    aim = between(along, wanted)
    turned = [multiply(aim, quaternion_from_rotvec(-turn[:, None] * normal)) for turn in (turn_a, turn_b)]
    return matrix_from_quaternion(turned[0]), matrix_from_quaternion(turned[1])


def _normal(leg: Leg, upper: Array, lower: Array) -> Array:
    """(T, 3) normal of the plane of the leg: its own where the knee is bent, else across its hinge."""
    along = unit(leg.ankle - leg.hip)
    own = cross(unit(upper), unit(lower))
    u = np.clip(_size(own) / _PLANE, 0.0, 1.0)[:, None]
    mixed = own / np.maximum(_size(own), 1e-9)[:, None] * u * u * (3.0 - 2.0 * u) + leg.hinge * (1.0 - u) ** 2 * (
        1 + 2 * u
    )
    return unit(mixed - np.sum(mixed * along, axis=-1, keepdims=True) * along)


def _size(vectors: Array) -> Array:
    return np.sqrt(np.sum(vectors * vectors, axis=-1))
