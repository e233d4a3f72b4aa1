"""A walk whose footfalls are known exactly: feet are flat and still while they stand, and swing in an arc."""

from __future__ import annotations

import numpy as np

from inference.core.retarget import legs
from inference.core.retarget.feet import find_feet
from inference.core.retarget.posing import repose
from inference.core.rig import Mapping, Performance, Rig, RigMotion

FPS = 30.0
STRIDE_S, STANCE = 1.2, 0.6  # seconds a stride, and the share of it for which a foot stands


def rest_motion(rig: Rig, mapping: Mapping, frames: int) -> RigMotion:
    """A rig that stays at rest, its hips keyed."""
    hips = mapping.first("hips", rig)
    assert hips is not None
    turns, heads = (np.tile(part, (frames, 1, 1, 1)[: part.ndim + 1]) for part in (rig.rest[:, :3, :3], rig.heads))
    still = np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1, 1))
    return RigMotion(
        rig, mapping, turns, heads, np.array([hips]), still, np.array([hips]), np.zeros((frames, 1, 3)),
        np.arange(frames) / FPS,
    )  # fmt: skip


def walk(rig: Rig, mapping: Mapping, frames: int = 90, *, speed: float = 0.8) -> tuple[RigMotion, np.ndarray]:
    """A rig that walks along -Y, and its (T, 4) contacts."""
    motion = rest_motion(rig, mapping, frames)
    leg = find_feet(rig, mapping)[0].sole.leg
    time = np.arange(frames) / FPS
    speed *= leg / 0.85
    shift = np.stack([0 * time, -speed * time, -0.07 * leg + 0 * time], axis=-1)
    contacts = np.zeros((frames, 4))
    hips = int(motion.moved[0])
    turns, heads = {}, {hips: motion.heads[:, hips] + shift}
    for foot, start in zip(find_feet(rig, mapping), (0.0, 0.5), strict=True):
        phase = time / STRIDE_S + start
        stride, within = np.floor(phase), phase % 1.0
        standing = within < STANCE
        swing = np.clip((within - STANCE) / (1.0 - STANCE), 0.0, 1.0)
        smooth = swing * swing * (3.0 - 2.0 * swing)
        ahead = speed * STRIDE_S * (stride - start + STANCE / 2 + smooth)
        lift = 0.12 * leg * np.sin(np.pi * swing) ** 2
        rows = foot.thigh[0], foot.shin[0], foot.foot[0]
        hip, knee, ankle = (motion.heads[:, row] for row in rows)
        place = ankle + np.stack([0 * time, -ahead, lift], axis=-1)
        hinge = np.tile([1.0, 0.0, 0.0], (frames, 1))
        upper, lower = legs.bend(legs.Leg(hip, knee, ankle, hinge), hip + shift, place)
        turns.update({row: upper @ motion.turns[:, row] for row in foot.thigh})
        turns.update({row: lower @ motion.turns[:, row] for row in foot.shin})
        turns[foot.foot[0]] = motion.turns[:, foot.foot[0]]
        contacts[:, foot.columns] = standing[:, None]
    return repose(motion, turns, heads), contacts


def performance(rig: Rig, mapping: Mapping, frames: int = 90, *, speed: float = 0.8) -> Performance:
    """The walk as a performance, with its contacts."""
    motion, contacts = walk(rig, mapping, frames, speed=speed)
    return Performance(rig, mapping, motion.turns, motion.heads, motion.times, contacts=contacts, name="walk")
