"""Rigs made from our own humanoid: turned, lengthened, split and robbed of bones, and motions for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from inference.core.humanoid import Proportions, make_skeleton
from inference.core.kinematics import forward
from inference.core.rig import HUMANOID_MAPPING, Mapping, Performance, Rig
from inference.core.rotations import cross, matrix_from_quaternion, quaternion_from_rotvec, unit
from inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS

Array = np.ndarray
IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def humanoid(scale: float = 1.0) -> Rig:
    """Our own skeleton, T-pose."""
    person = make_skeleton()
    rest = person.rest.copy()
    rest[:, :3, 3] *= scale
    return Rig(HUMANOID_NAMES, np.array(HUMANOID_PARENTS), rest, person.lengths * scale, name="humanoid")


def person(kind: str) -> Rig:
    """An adult, a child and a giant, each with proportions of its own; T-pose."""
    adult = Proportions()
    foot, palm, fingers, head = (adult.table(name) for name in ("foot", "palm", "fingers", "head"))
    people = {
        "adult": Proportions(torso=0.52, shoulders=0.38, upper_arm=0.30, forearm=0.26, thigh=0.45, shin=0.41),
        "child": Proportions(
            torso=0.34, hips=0.13, shoulders=0.24, upper_arm=0.16, forearm=0.14, thigh=0.22, shin=0.21, neck=0.08,
            head=head * 0.9, palm=palm * 0.6, foot=foot * 0.6, fingers=fingers * 0.6,
        ),
        "giant": Proportions(
            torso=1.7, hips=0.55, shoulders=1.3, upper_arm=1.1, forearm=1.0, thigh=1.0, shin=1.2, neck=0.3,
            head=head * 2.0, palm=palm * 3.0, foot=foot * 3.0, fingers=fingers * 3.0,
        ),
    }  # fmt: skip
    body = make_skeleton(people[kind])
    rest = body.rest.copy()
    rest[:, 2, 3] -= rest[HUMANOID_NAMES.index("foot.L"), 2, 3] + people[kind].table("foot")[0, 2]
    return Rig(HUMANOID_NAMES, np.array(HUMANOID_PARENTS), rest, body.lengths, name=kind)


def scaled(rig: Rig, scale: float) -> Rig:
    """A rig of another size."""
    rest = rig.rest.copy()
    rest[:, :3, 3] *= scale
    return replace(rig, rest=rest, lengths=rig.lengths * scale, ground=rig.ground * scale)


def posed(rig: Rig, rotations: dict[str, Any]) -> Rig:
    """A rig whose rest pose is another one: rotation vectors (3,) by bone, in the world's axes."""
    local = np.tile(IDENTITY, (1, len(rig.names), 1))
    for name, vector in rotations.items():
        bone = rig.index[name]
        local[0, bone] = quaternion_from_rotvec(rig.rest[bone, :3, :3].T @ np.asarray(vector, float))
    return replace(rig, rest=forward(rig.rest, rig.parents, local, rig.rest[None, 0, :3, 3])[0])


def a_pose(rig: Rig, degrees: float = 45.0) -> Rig:
    """Arms lowered to the sides."""
    angle = np.radians(degrees)
    return posed(rig, {"upper_arm.L": [0.0, angle, 0.0], "upper_arm.R": [0.0, -angle, 0.0]})


def faced(rig: Rig, degrees: float) -> Rig:
    """A rig that looks another way at rest."""
    turn = np.eye(4)
    turn[:3, :3] = matrix_from_quaternion(quaternion_from_rotvec(np.radians([0.0, 0.0, degrees])))
    return replace(rig, rest=turn @ rig.rest)


def rolled(rig: Rig, seed: int, *, about: str = "any") -> Rig:
    """A rig whose bones have other axes: rolled about their own y, or turned any way as some importers do."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(len(rig.names), 3)) * 2.0
    if about == "y":
        vectors[:, [0, 2]] = 0.0
    rest = rig.rest.copy()
    rest[:, :3, :3] = rest[:, :3, :3] @ matrix_from_quaternion(quaternion_from_rotvec(vectors))
    return replace(rig, rest=rest)


def lengthened(rig: Rig, factors: Array) -> Rig:
    """A rig whose bones are (B,) times as long."""
    rest = rig.rest.copy()
    for bone, parent in enumerate(rig.parents):
        if parent >= 0:
            step = rig.rest[bone, :3, 3] - rig.rest[parent, :3, 3]
            rest[bone, :3, 3] = rest[parent, :3, 3] + factors[parent] * step
    return replace(rig, rest=rest, lengths=rig.lengths * factors)


def random_rig(seed: int, bend_deg: float = 40.0) -> Rig:
    """Random lengths, a random rest pose, random axes."""
    random = np.random.default_rng(seed)
    rig = lengthened(humanoid(), random.uniform(0.6, 1.6, len(HUMANOID_NAMES)))
    axes = unit(random.normal(size=(len(rig.names), 3)))
    angles = np.radians(bend_deg) * random.uniform(size=len(rig.names))
    rig = posed(rig, {name: axis * angle for name, axis, angle in zip(rig.names, axes, angles, strict=True)})
    return rolled(rig, seed, about="y" if seed % 2 else "any")


def split(rig: Rig, mapping: Mapping, bone: str, count: int) -> tuple[Rig, Mapping]:
    """Cut a bone into several, one after another, that share its role."""
    row = rig.index[bone]
    steps = rig.rest[row, :3, 1] * rig.lengths[row] / count
    names = [bone, *(f"{bone}.{i}" for i in range(1, count))]
    rest = np.repeat(rig.rest[row : row + 1], count, axis=0)
    rest[:, :3, 3] += np.arange(count)[:, None] * steps
    order = [*range(row + 1), *range(len(rig.names), len(rig.names) + count - 1), *range(row + 1, len(rig.names))]
    new = {old: place for place, old in enumerate(order)}
    last = row if count == 1 else len(rig.names) + count - 2
    parents = [last if p == row else int(p) for p in rig.parents]
    parents += [row if i == 1 else len(rig.names) + i - 2 for i in range(1, count)]
    all_names, all_rest = [*rig.names, *names[1:]], np.concatenate([rig.rest, rest[1:]])
    lengths = np.concatenate([rig.lengths, np.full(count - 1, rig.lengths[row] / count)])
    lengths[row] /= count
    out = replace(
        rig, names=tuple(all_names[i] for i in order), rest=all_rest[order], lengths=lengths[order],
        parents=np.array([new[parents[i]] if parents[i] >= 0 else -1 for i in order]),
    )  # fmt: skip
    chains = {
        role: tuple(n for b in chain for n in (names if b == bone else [b])) for role, chain in mapping.bones.items()
    }
    return out, replace(mapping, bones=chains)


def beside(rig: Rig, mapping: Mapping, bone: str, places: tuple[float, ...]) -> tuple[Rig, Mapping]:
    """Add twist bones as children of a bone, at places along it from 0 to 1."""
    row, role = rig.index[bone], mapping.role_of()[bone]
    rest = np.repeat(rig.rest[row : row + 1], len(places), axis=0)
    rest[:, :3, 3] += np.array(places)[:, None] * rig.rest[row, :3, 1] * rig.lengths[row]
    names = tuple(f"{bone} twist {i}" for i in range(len(places)))
    out = replace(
        rig, names=(*rig.names, *names), parents=np.concatenate([rig.parents, np.full(len(places), row)]),
        rest=np.concatenate([rig.rest, rest]), lengths=np.concatenate([rig.lengths, np.full(len(places), 0.05)]),
    )  # fmt: skip
    part, _, side = role.partition(".")
    return out, replace(mapping, bones={**mapping.bones, f"{part}_twist.{side}": names})


def without(rig: Rig, mapping: Mapping, *bones: str) -> tuple[Rig, Mapping]:
    """Take bones out; their children hang from what they hung from."""
    kept = [row for row, name in enumerate(rig.names) if name not in bones]
    new = {row: place for place, row in enumerate(kept)}

    def parent(row: int) -> int:
        return next((new[above] for above in rig.ancestors(row) if above in new), -1)

    out = replace(
        rig, names=tuple(rig.names[row] for row in kept), parents=np.array([parent(row) for row in kept]),
        rest=rig.rest[kept], lengths=rig.lengths[kept],
    )  # fmt: skip
    chains = {role: tuple(b for b in chain if b not in bones) for role, chain in mapping.bones.items()}
    return out, replace(mapping, bones={role: chain for role, chain in chains.items() if chain})


def performance(
    rotations: Array, *, rig: Rig | None = None, mapping: Mapping = HUMANOID_MAPPING, root: Array | None = None
) -> Performance:
    """Rotations (T, B, 4) relative to rest as a performance."""
    rig = rig or humanoid()
    if root is None:
        root = np.tile(rig.heads[0], (len(rotations), 1))
    placed = forward(rig.rest, rig.parents, rotations, root)
    return Performance(rig, mapping, placed[..., :3, :3], placed[..., :3, 3], np.arange(len(rotations)) / 30.0)


def random_performance(frames: int, seed: int = 0, spread: float = 0.5, *, rig: Rig | None = None) -> Performance:
    """Every bone turned at random, by `spread` radians or so."""
    random, rig = np.random.default_rng(seed), rig or humanoid()
    rotations = quaternion_from_rotvec(random.normal(size=(frames, len(rig.names), 3)) * spread)
    return performance(rotations, rig=rig, root=rig.heads[0] + random.normal(size=(frames, 3)) * 0.2)


def gesture(rotations: dict[str, Any], frames: int = 1, *, rig: Rig | None = None) -> Performance:
    """Some bones turned from the T-pose by rotation vectors (3,) or (T, 3), in the axes of their rest pose."""
    rig = rig or humanoid()
    local = np.tile(IDENTITY, (frames, len(rig.names), 1))
    for name, vector in rotations.items():
        local[:, rig.index[name]] = quaternion_from_rotvec(np.broadcast_to(np.asarray(vector, float), (frames, 3)))
    return performance(local, rig=rig)


def bend_axis(rig: Rig, first: str, second: str) -> Array:
    """(3,) axis about which a joint between two bones is bent at rest."""
    a, b = (rig.rest[rig.index[name], :3, 1] for name in (first, second))
    return unit(cross(a, b))
