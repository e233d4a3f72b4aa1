"""A character's skeleton, which of its bones does what, and a performance on such a skeleton.

Everything here is in one frame: the world, Z up, metres. Whoever reads an armature puts the object's rotation and
scale into `rest` (`operators/scene/rig.py`); local rotations do not depend on either.

A *role* is the job of bones in a humanoid. Each role is filled by a chain of bones from the root outwards: the spine
by any number of them, a thigh by one or, where the limb is cut into segments, by several. An absent role is normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .artifacts import BodyMotion
from .kinematics import forward, transformed

Array = np.ndarray
FINGERS = ("thumb", "index", "middle", "ring", "little")
LIMBS = ("upper_arm", "forearm", "thigh", "shin")
CENTRE_ROLES = ("root", "hips", "spine", "neck", "head")
# `*_twist` are bones beside a limb that share its turning about itself; segments of the limb are in the limb's chain.
SIDE_ROLES = (
    "shoulder", "upper_arm", "forearm", "hand", *FINGERS, "thigh", "shin", "foot", "toe",
    *(f"{limb}_twist" for limb in LIMBS),
)  # fmt: skip
SIDES = ("L", "R")
ROLES = (*CENTRE_ROLES, *(f"{role}.{side}" for side in SIDES for role in SIDE_ROLES))
# Without these nothing can be retargeted.
NEEDED_ROLES = ("hips", "thigh.L", "thigh.R", "shin.L", "shin.R", "upper_arm.L", "upper_arm.R", "spine")
CONTACT_ROLES = ("foot.L", "toe.L", "foot.R", "toe.R")  # columns of contacts: heel and toe, left and right


def other_side(role: str) -> str:
    """Give the role on the other side of the body; a central role is its own."""
    return role[:-1] + {"L": "R", "R": "L"}[role[-1]] if role.endswith((".L", ".R")) else role


@dataclass(frozen=True)
class Rig:
    """Bones at rest.

    names (B); parents (B,) with -1 for roots, parents before children; rest (B, 4, 4) world, metres, unit rotations:
    a bone's head is the last column, its own axes the first three (the axis y need not run along the limb);
    lengths (B,) metres; inherit_rotation (B,) False where a bone does not turn with its parent.
    ground: height of the floor under the soles at rest, metres.
    """

    names: tuple[str, ...]
    parents: Array
    rest: Array
    lengths: Array
    inherit_rotation: Array | None = None
    ground: float = 0.0
    name: str = ""

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each bone."""
        return {name: row for row, name in enumerate(self.names)}

    @property
    def heads(self) -> Array:
        """(B, 3) joints at rest."""
        return self.rest[:, :3, 3]

    def tail(self, bone: int) -> Array:
        """(3,) end of a bone along its own y."""
        return self.rest[bone, :3, 3] + self.rest[bone, :3, 1] * self.lengths[bone]

    def children(self, bone: int) -> list[int]:
        """Rows of the bones that hang from a bone."""
        return [int(row) for row in np.flatnonzero(self.parents == bone)]

    def ancestors(self, bone: int) -> Iterator[int]:
        """Rows of a bone's parent, its parent's parent, and so on."""
        while (bone := int(self.parents[bone])) >= 0:
            yield bone


@dataclass(frozen=True)
class Property:
    """A custom property of a bone ("" for the armature object) and the value that a bake gives it."""

    bone: str
    name: str
    value: float


@dataclass(frozen=True)
class IkLimb:
    """The controls of one limb's inverse kinematics.

    role: the limb's end ("hand.L", "foot.R"); target: bone that the end follows, rigidly as at rest; pole: bone that
    the middle joint points at, or ""; follow: bones to be keyed at rest beside it (heel rolls and the like);
    fk, ik: what the limb's switch is set to in either mode; empty where there is no switch.
    """

    role: str
    target: str
    pole: str = ""
    follow: tuple[str, ...] = ()
    fk: tuple[Property, ...] = ()
    ik: tuple[Property, ...] = ()


@dataclass(frozen=True)
class Mapping:
    """Which bones of a rig fill which roles.

    bones: role to chain of names, from the root outwards; ik: inverse-kinematics controls; settings: properties that
    have to hold while the mapped bones drive the rig (a neck that follows, say).
    """

    name: str
    bones: dict[str, tuple[str, ...]]
    ik: tuple[IkLimb, ...] = ()
    settings: tuple[Property, ...] = ()

    def chain(self, role: str, rig: Rig) -> list[int]:
        """Rows of the bones of a role that the rig has; empty where it has none."""
        return [rig.index[name] for name in self.bones.get(role, ()) if name in rig.index]

    def first(self, role: str, rig: Rig) -> int | None:
        """Row of the first bone of a role."""
        chain = self.chain(role, rig)
        return chain[0] if chain else None

    def missing(self, rig: Rig) -> list[str]:
        """Roles without which nothing can be retargeted, and that the rig lacks."""
        return [role for role in NEEDED_ROLES if not self.chain(role, rig)]

    def role_of(self) -> dict[str, str]:
        """Role of each mapped bone."""
        return {bone: role for role, chain in self.bones.items() for bone in chain}

    def with_chain(self, role: str, chain: Sequence[str], *, mirrored: Sequence[str] | None = None) -> Mapping:
        """Put other bones into a role and, where given, into the role on the other side."""
        bones = {**self.bones, role: tuple(chain)}
        if mirrored is not None:
            bones[other_side(role)] = tuple(mirrored)
        return replace(self, bones={role: chain for role, chain in bones.items() if chain})


@dataclass(frozen=True)
class Performance:
    """A motion on some skeleton.

    turns (T, B, 3, 3) world orientations of the bones' own axes, heads (T, B, 3) joints, metres, floor at z = 0;
    times (T,) seconds; contacts (T, 4) in [0, 1] of `CONTACT_ROLES`, above 0.5 where it stands, None where nobody
    has looked; confidence (T, B) in [0, 1] or None. header: what the source said of itself (cameras, sources, fps).
    """

    rig: Rig
    mapping: Mapping
    turns: Array
    heads: Array
    times: Array
    contacts: Array | None = None
    confidence: Array | None = None
    name: str = ""
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return (len(self.times) - 1) / float(self.times[-1] - self.times[0]) if len(self.times) > 1 else 30.0


@dataclass(frozen=True)
class RigMotion:
    """A motion for a target rig, as Blender evaluates it.

    turns (T, B, 3, 3) and heads (T, B, 3): where every bone of the rig ends up in the world, mapped or not.
    keyed (K,) rows of the bones that are to be keyed; rotations (T, K, 4) wxyz relative to rest, signs continuous;
    moved (M,) rows of bones with location keys; locations (T, M, 3) in the bone's own rest axes, metres;
    placement (T, 4, 4) motion of the armature object before its own transform, or None.
    contacts (T, 4) that were enforced; times (T,) seconds; confidence (T, K).
    """

    rig: Rig
    mapping: Mapping
    turns: Array
    heads: Array
    keyed: Array
    rotations: Array
    moved: Array
    locations: Array
    times: Array
    placement: Array | None = None
    contacts: Array | None = None
    confidence: Array | None = None


_FINGER_CHAINS = {
    f"{finger}.{side}": tuple(f"{finger}.{i:02d}.{side}" for i in (1, 2, 3)) for side in SIDES for finger in FINGERS
}
HUMANOID_MAPPING = Mapping(
    "Understudy",
    {
        "hips": ("hips",),
        "spine": ("spine", "chest"),
        "neck": ("neck",),
        "head": ("head",),
        **{
            f"{role}.{side}": (f"{role}.{side}",)
            for side in SIDES
            for role in ("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
        },
        **_FINGER_CHAINS,
    },
)


def performance_of(motion: BodyMotion, *, raw: bool = False) -> Performance:
    """Take a capture as a performance, standing on the floor; `raw` takes it before smoothing."""
    rotations, root = motion.rotations, motion.root
    if raw and motion.rotations_raw is not None and motion.root_raw is not None:
        rotations, root = motion.rotations_raw, motion.root_raw
    floor = np.array(motion.header.get("floor_from_frame", np.eye(4)), float)
    rotations, root = transformed(motion.rest, rotations, root, floor)
    globals_ = forward(motion.rest, motion.parents, rotations, root)
    names = tuple(motion.header["bones"])
    lengths = np.array(motion.header.get("lengths_m", np.full(len(names), 0.1)), float)
    rig = Rig(names, np.asarray(motion.parents), np.asarray(motion.rest, float), lengths, name="Understudy")
    return Performance(
        rig, HUMANOID_MAPPING, globals_[..., :3, :3], globals_[..., :3, 3], motion.times,
        contacts=motion.contacts, confidence=motion.bone_confidence,
        name=str(motion.header.get("name", "")), header=motion.header,
    )  # fmt: skip
