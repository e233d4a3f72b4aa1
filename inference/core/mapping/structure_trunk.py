"""What lies between the legs and the arms, and above: hips, spine, neck and head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...protocol.errors import InputError
from ..rig import SIDES
from .structure_joints import Array, Limbs, NotAPersonError, Tree, middle_of


def find_trunk(tree: Tree, legs: Limbs, arms: Limbs) -> tuple[int, ...]:
    """From the hips to the bone that the arms hang from."""
    hips = tree.meet(legs.parent, arms.parent)
    names = " and ".join(f"'{tree.rig.names[path[0]]}'" for path in (legs.paths[0], arms.paths[0]))
    if hips < 0:
        raise InputError(
            f"The legs and the arms have no bone in common above {names}.", "Parent both to one bone of the hips."
        )
    between = tree.ancestors(arms.parent)
    trunk = tuple(between[: between.index(hips) + 1][::-1])
    if len(trunk) < 2:
        raise InputError(
            f"There is no spine: legs and arms, {names}, hang from one bone, '{tree.rig.names[hips]}'.",
            "Add a bone between the hips and the shoulders, or pick the spine in the mapping list.",
        )
    return trunk


def find_spine(
    tree: Tree, trunk: tuple[int, ...], arms: Limbs, bones: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Root, hips, spine, neck and head, by the way from the hips to the bone of the arms and by the limbs."""
    shoulders = [bones[f"upper_arm.{side}"][0] for side in SIDES if bones.get(f"upper_arm.{side}")]
    level = float(np.mean(tree.heads[shoulders, 2])) if shoulders else float(middle_of(tree, arms)[2])
    hips, spine = trunk[0], list(trunk[1:])
    neck = []
    while len(spine) > 1 and tree.heads[spine[-1], 2] > level - 0.01 * tree.height:
        neck.insert(0, spine.pop())  # the arms hang from the neck, as in 3ds Max
    above, head = _head(tree, trunk, arms, level, float(tree.heads[hips, 2]))
    if neck and not head:
        head, neck = (neck[-1],), neck[:-1]
    if (pelvis := _pelvis(tree, hips, bones)) is not None:
        hips, spine = pelvis, [hips, *spine]
    ancestors = tree.ancestors(hips)[1:-1]
    root = (ancestors[-1],) if ancestors else ()
    return {"root": root, "hips": (hips,), "spine": tuple(spine), "neck": (*neck, *above), "head": head}


def _pelvis(tree: Tree, meet: int, bones: dict[str, tuple[int, ...]]) -> int | None:
    """The bone under the one that legs and spine hang from, where it is nearer to the legs, as in 3ds Max."""
    parent = tree.parents[meet]
    thighs = [bones[f"thigh.{side}"][0] for side in SIDES if bones.get(f"thigh.{side}")]
    if parent < 0 or not thighs or len(tree.children[parent]) > 1:
        return None
    middle = tree.heads[thighs].mean(axis=0)
    near, far = (float(np.linalg.norm(tree.heads[row] - middle)) for row in (parent, meet))
    return parent if near < far - 0.01 * tree.height else None


def _rising(tree: Tree, arms: Limbs, parent: int) -> list[tuple[float, int]]:
    """How high the branches beside the arms rise above the shoulders, the highest first."""
    ours = {path[0] for path in arms.paths}
    level = float(middle_of(tree, arms)[2])
    rise = [
        (max(float(tree.heads[row, 2]) for row in tree.below(child)) - level, child)
        for child in tree.children[parent]
        if child not in ours
    ]
    return sorted((item for item in rise if item[0] > 0.02 * tree.height), reverse=True)


def _head(
    tree: Tree, trunk: tuple[int, ...], arms: Limbs, level: float, hips: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Neck and head above the bone that the arms hang from, or above the next bone of the spine that has them."""
    plane = float(middle_of(tree, arms) @ arms.across)
    for chest in trunk[:0:-1]:
        aside = {
            child: max(abs(float(tree.heads[row] @ arms.across) - plane) for row in tree.path(child)[:2])
            for _, child in _rising(tree, arms, chest)[:6]
            if child not in trunk
        }
        middle = [(away - 0.5 * tree.reach[row], row) for row, away in aside.items() if away < 0.06 * tree.height]
        if middle:
            return _along_neck(tree, min(middle)[1], level, hips)
    return (), ()


def _along_neck(tree: Tree, row: int, level: float, hips: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    path = [row]
    while len(_beyond(tree, path[-1])) == 1:
        path += _beyond(tree, path[-1])
    if tree.children[path[-1]] and len(path) < 8:  # a face parts from it
        at = len(path) - 1
    else:
        at = _base_of_skull(tree, path, level, level - hips)
    while at > 0 and np.linalg.norm(tree.heads[path[at]] - tree.heads[path[at - 1]]) < 0.01 * tree.height:
        at -= 1
    return tuple(path[:at]), (path[at],)


def _beyond(tree: Tree, row: int) -> list[int]:
    """The bones that hang from one and lead on; not those that only stand where it does."""
    far = 0.005 * tree.height
    return [child for child in tree.children[row] if tree.children[child] or tree.step(child) > far]


def _base_of_skull(tree: Tree, path: Sequence[int], level: float, trunk: float) -> int:
    """Which joint of a neck the head begins with, by its height over the shoulders."""
    z = tree.heads[list(path), 2]
    error = ((z - level) / max(trunk, 1e-9) - 0.36) ** 2 / 0.15**2
    above = np.append(np.diff(z), tree.rig.lengths[path[-1]])  # a skull is longer than the neck's joints are apart
    return int(np.argmin(error - 0.6 * above / max(float(above.max()), 1e-9)))


def refuse_two_heads(tree: Tree, arms: Limbs, left: Array, centre: Array) -> None:
    """Two chains that rise beside each other from the chest, mirrored or alike, are two necks."""
    rising = [child for rise, child in _rising(tree, arms, arms.parent) if rise > 0.04 * tree.height]
    aside = {child: float((tree.heads[tree.path(child)[:2][-1]] - centre) @ left) for child in rising}
    if any(abs(value) < 0.03 * tree.height for value in aside.values()):
        return
    steep = [child for child in rising if _is_steep(tree, child)]
    if any(aside[child] > 0 for child in steep) and any(aside[child] < 0 for child in steep):
        names = " and ".join(f"'{tree.rig.names[tree.path(child)[-1]]}'" for child in steep[:2])
        raise NotAPersonError(
            f"This character has two heads: {names} rise beside each other from '{tree.rig.names[arms.parent]}'.",
            "Pick one of them in the mapping list.",
        )


def _is_steep(tree: Tree, row: int) -> bool:
    way = tree.heads[tree.path(row)[-1]] - tree.heads[row]
    return bool(way[2] > 0.6 * np.linalg.norm(way) and np.linalg.norm(way) > 0.03 * tree.height)
