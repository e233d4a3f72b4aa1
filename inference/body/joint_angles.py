"""Joints of a body and their angles, as people speak of them: how far a knee is bent, where an arm points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.artifacts import BodyMesh
from ..core.rotations import quaternion_from_matrix, slerp, unit

Array = np.ndarray


@dataclass(frozen=True)
class Joint:
    """A joint: the bone that moves, the bone it moves against, how its angle is read, and the bones it stands for.

    kind: "hinge" how far it is bent; "limb" where it points; "turn" how it is turned.
    """

    name: str
    bone: str
    base: str
    kind: str
    bones: tuple[str, ...]


def _sided(side: str) -> list[Joint]:
    return [
        Joint(f"shoulder.{side}", f"upperarm01.{side}", "spine01", "limb",
              tuple(f"{b}.{side}" for b in ("clavicle", "shoulder01", "upperarm01", "upperarm02"))),
        Joint(f"elbow.{side}", f"lowerarm01.{side}", f"upperarm01.{side}", "hinge",
              tuple(f"{b}.{side}" for b in ("lowerarm01", "lowerarm02", "wrist"))),
        Joint(f"hip.{side}", f"upperleg01.{side}", "root", "limb",
              tuple(f"{b}.{side}" for b in ("pelvis", "upperleg01", "upperleg02"))),
        Joint(f"knee.{side}", f"lowerleg01.{side}", f"upperleg01.{side}", "hinge",
              tuple(f"{b}.{side}" for b in ("lowerleg01", "lowerleg02"))),
        Joint(f"ankle.{side}", f"foot.{side}", f"lowerleg01.{side}", "limb", (f"foot.{side}",)),
    ]  # fmt: skip


JOINTS = (
    Joint("spine", "spine01", "root", "turn", ("root", "spine05", "spine04", "spine03", "spine02", "spine01")),
    Joint("head", "head", "spine01", "turn", ("neck01", "neck02", "neck03", "head")),
    *_sided("L"), *_sided("R"),
)  # fmt: skip


def looks(mesh: BodyMesh, turns: Array) -> list[Array]:
    """What each of JOINTS shows, given (T, B, 3, 3) turns of bones from rest.

    (T,) radians of a hinge, (T, 3) direction of a limb, (T, 4) turn of the trunk; rotations about a limb do not count.
    """
    index = {name: row for row, name in enumerate(mesh.header["bones"])}
    out = []
    for joint in JOINTS:
        bone, base = index[joint.bone], index[joint.base]
        local = np.swapaxes(turns[:, base], -1, -2) @ turns[:, bone]
        along = unit(mesh.tails[bone] - mesh.heads[bone])
        if joint.kind == "hinge":
            before = unit(mesh.heads[bone] - mesh.heads[base])
            out.append(np.arccos(np.clip((local @ along) @ before, -1.0, 1.0)))
        elif joint.kind == "limb":
            out.append(local @ along)
        else:
            out.append(quaternion_from_matrix(local))
    return out


def angle_between(a: Array, b: Array, kind: str) -> Array:
    """Angles, radians, between two looks of a joint, broadcast over frames."""
    if kind == "hinge":
        return np.abs(a - b)
    cosine = np.clip(np.sum(a * b, axis=-1), -1.0, 1.0)
    return np.arccos(cosine) if kind == "limb" else 2.0 * np.arccos(np.abs(cosine))


def amount(look: Array, kind: str) -> Array:
    """(T,) radians: how far a joint is bent or turned; of a limb, how far it is away from hanging straight down."""
    if kind == "hinge":
        return look
    if kind == "limb":
        return np.arccos(np.clip(-look[:, 2], -1.0, 1.0))
    return 2.0 * np.arccos(np.clip(np.abs(look[:, 0]), 0.0, 1.0))


def at(look: Array, frames: Array) -> Array:
    """A look at fractional frames."""
    low = np.clip(np.floor(frames).astype(int), 0, len(look) - 1)
    high, share = np.minimum(low + 1, len(look) - 1), frames - low
    if look.ndim == 1:
        return look[low] * (1 - share) + look[high] * share
    if look.shape[1] == 4:
        return slerp(look[low], look[high], share)
    return unit(look[low] * (1 - share)[:, None] + look[high] * share[:, None])
