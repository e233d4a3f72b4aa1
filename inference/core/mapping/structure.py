"""A humanoid read from where its joints are and how they hang together, without one name.

Two chains that mirror each other and end on the ground are the legs; two that mirror each other and hang higher, the
arms; what lies between them is the spine, what rises above the arms the neck and head. The feet say where forward is,
and forward and up say which side is left. Joints along a limb are told apart by a person's proportions, each deviation
weighed, none of them required.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...protocol.errors import InputError
from ..rig import SIDES, Rig
from .structure_joints import Array, Limbs, NotAPersonError, Tree, make_tree, middle_of
from .structure_limbs import UP, find_arm, find_leg, find_twists
from .structure_trunk import find_spine, find_trunk, refuse_two_heads

_MIRRORED = 0.3  # how far two limbs may be from each other's mirror image, as a share of their reach
_BENT = 1.5  # the same for limbs that are copies of each other and only stand otherwise


@dataclass(frozen=True)
class Structure:
    """What was found: rows of the bones of each role, how well it fits a person in [0, 1], and what is worth saying.

    forward (3,), left (3,): unit vectors in the world; facing: whether the feet told forward, or nothing did.
    """

    bones: dict[str, tuple[int, ...]]
    score: float
    forward: Array
    left: Array
    facing: bool
    notes: tuple[str, ...] = ()


def find_structure(rig: Rig, allowed: Array | None = None) -> Structure:
    """Find a humanoid's roles among the bones of a rig, or among the `allowed` (B,) of them.

    Raises:
        InputError: there is no humanoid; the sentence names the bones that stand against it.
    """
    tree = make_tree(rig, np.ones(len(rig.names), bool) if allowed is None else allowed)
    legs, arms = _limbs(tree)
    trunk = find_trunk(tree, legs, arms)
    forward, facing = _forward(tree, legs)
    left = np.cross(UP, forward)
    bones: dict[str, tuple[int, ...]] = {}
    centre = _centre(tree, legs, arms)
    scores = []
    for side, leg, arm in _sides(tree, legs, arms, left):
        found, score = find_leg(tree, leg, centre, left)
        more, other = find_arm(tree, arm, centre, left)
        bones |= {f"{role}.{side}": rows for role, rows in {**found, **more}.items() if rows}
        scores += [score, other]
    bones |= find_spine(tree, trunk, arms, bones)
    refuse_two_heads(tree, arms, left, centre)
    for side in SIDES:
        bones |= find_twists(tree, bones, side)
    fit = float(np.clip(np.mean(scores) - legs.error - arms.error, 0.05, 1.0))
    notes = [] if facing else ["Nothing tells where the character faces: it is taken to look along -Y."]
    return Structure({role: rows for role, rows in bones.items() if rows}, fit, forward, left, facing, tuple(notes))


def _limbs(tree: Tree) -> tuple[Limbs, Limbs]:
    """The legs and the arms: of all pairs of mirrored chains, the two that make the best person."""
    pairs = _pairs(tree)
    floor = float(tree.heads[tree.rows, 2].min())
    low = [pair for pair in pairs if _end_height(tree, pair) < floor + 0.2 * tree.height]
    standing = [pair for pair in low if _drop(tree, pair) > 0.15 * tree.height]
    if not standing:
        raise InputError(
            f"No two legs were found among {len(tree.rows)} bones: no mirrored chains end near the ground.",
            "Pick the bones of the legs in the mapping list.",
        )
    options = [
        (_worth(tree, legs, arms), legs, arms)
        for legs in standing
        for arms in pairs
        if arms is not legs and _are_apart(tree, legs, arms)
    ]
    if not options:
        names = " and ".join(f"'{tree.rig.names[path[0]]}'" for path in standing[0].paths)
        raise InputError(
            f"Only one pair of limbs was found, {names}: no second pair of chains mirror each other.",
            "A person has two legs and two arms; pick their bones in the mapping list.",
        )
    _, legs, arms = max(options, key=lambda option: option[0])
    _refuse_four_legs(tree, legs, arms, floor)
    _refuse_lying(tree, legs, arms)
    return legs, arms


def _pairs(tree: Tree) -> list[Limbs]:
    found = []
    for parent, children in tree.children.items():
        long = [child for child in children if tree.reach[child] > 0.12 * tree.height]
        for a, b in combinations(long[:24], 2):
            if min(tree.reach[a], tree.reach[b]) > 0.4 * max(tree.reach[a], tree.reach[b]):
                pair = _mirrored(tree, parent, a, b)
                if pair is not None:
                    found.append(pair)
    return found


def _mirrored(tree: Tree, parent: int, a: int, b: int) -> Limbs | None:
    paths = tree.path(a), tree.path(b)
    reach = min(tree.reach[a], tree.reach[b])  # one may go on, into a sword
    points = [_along(tree.heads[list(path)], reach) for path in paths]
    gap = points[0] - points[1]  # (S, 3), all of them across the body where the two mirror each other
    joints = [tree.heads[list(path)] for path in paths]
    start = next((x - y for x, y in zip(*joints, strict=False) if np.linalg.norm((x - y)[:2]) > 0.12 * reach), gap[0])
    for way, most in ((start, _BENT if _are_twins(*joints) else _MIRRORED), (gap.mean(axis=0), _MIRRORED)):
        across = way * [1.0, 1.0, 0.0]
        if np.linalg.norm(across) < 0.05 * reach:
            continue
        across /= np.linalg.norm(across)
        aside = gap - (gap @ across)[:, None] * across
        middle = 0.5 * (points[0] + points[1]) @ across
        error = float(np.linalg.norm(aside, axis=1).mean() + np.ptp(middle)) / max(reach, 1e-9)
        if error < most and (gap @ across).max() > 0:
            return Limbs(parent, paths, across, min(error, _MIRRORED), reach)
    return None


def _are_twins(a: Array, b: Array) -> bool:
    """Whether two chains have joints at the same distances, however they are bent."""
    steps = [np.linalg.norm(np.diff(points, axis=0), axis=1) for points in (a, b)]
    return len(a) == len(b) > 2 and bool(np.allclose(*steps, rtol=0.1, atol=0.01 * steps[0].sum()))


def _along(points: Array, length: float, count: int = 5) -> Array:
    """(count, 3) points in even steps along so much of a chain, without its beginning, which both sides may share."""
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.2, 1.0, count) * length
    return np.stack([np.interp(at, steps, points[:, axis]) for axis in range(3)], axis=1)


def _end_height(tree: Tree, pair: Limbs) -> float:
    return float(max(tree.heads[list(path), 2].min() for path in pair.paths))


def _drop(tree: Tree, pair: Limbs) -> float:
    return float(np.mean([tree.heads[path[0], 2] - tree.heads[list(path), 2].min() for path in pair.paths]))


def _are_apart(tree: Tree, legs: Limbs, arms: Limbs) -> bool:
    """Whether two pairs can be one body's legs and arms: neither hangs from the other, both lie across one plane."""
    roots = {path[0] for path in legs.paths}, {path[0] for path in arms.paths}
    if roots[1] & set(tree.ancestors(legs.parent)) or roots[0] & set(tree.ancestors(arms.parent)):
        return False
    return not (roots[0] & roots[1]) and abs(float(legs.across @ arms.across)) > 0.8


def _worth(tree: Tree, legs: Limbs, arms: Limbs) -> float:
    """How much two pairs look like legs and arms."""
    height = tree.height
    floor = float(tree.heads[tree.rows, 2].min())
    hips, chest = (float(np.mean([tree.heads[path[0], 2] for path in pair.paths])) for pair in (legs, arms))
    above = chest > hips or legs.parent in tree.ancestors(arms.parent)[1:]
    legs_end, arms_end = ((_end_height(tree, pair) - floor) / height for pair in (legs, arms))
    fans = [min(tree.leaves[path[0]], 8) / 8 for path in arms.paths]
    return (
        1.5 * min(legs.reach, 0.7 * height) / height
        + 1.0 * min(arms.reach, 0.6 * height) / height
        + 0.5 * float(np.mean(fans))
        + (0.5 if above else -1.0)
        + 0.3 * (len(set(tree.ancestors(arms.parent)) - set(tree.ancestors(legs.parent))) > 0)
        - 2.0 * legs_end
        - 0.5 * max(0.0, 0.15 - arms_end)
        - legs.error
        - arms.error
        - 1.0 * _is_last(tree, arms)
    )


def _is_last(tree: Tree, arms: Limbs) -> bool:
    """Whether nothing rises beside two chains, as above a head that two plaits of hair hang from."""
    ours = {path[0] for path in arms.paths}
    beside = [child for child in tree.children[arms.parent] if child not in ours]
    top = max((float(tree.heads[row, 2]) for child in beside for row in tree.below(child)), default=-np.inf)
    return top < float(np.mean([tree.heads[path[0], 2] for path in arms.paths]))


def _refuse_four_legs(tree: Tree, legs: Limbs, arms: Limbs, floor: float) -> None:
    spine = middle_of(tree, arms) - middle_of(tree, legs)
    stands = _end_height(tree, arms) < floor + 0.12 * tree.height and _drop(tree, arms) > 0.25 * tree.height
    if stands and abs(spine[2]) < 0.7 * np.linalg.norm(spine):
        feet = " and ".join(f"'{tree.rig.names[path[-1]]}'" for path in arms.paths)
        raise NotAPersonError(
            f"This character stands on four legs: {feet} reach the ground as the hind legs do.",
            "Only characters that stand on two legs can be given a person's performance.",
        )


def _refuse_lying(tree: Tree, legs: Limbs, arms: Limbs) -> None:
    spine = middle_of(tree, arms) - middle_of(tree, legs)
    if spine[2] < 0.25 * np.linalg.norm(spine):
        names = [tree.rig.names[pair.paths[0][0]] for pair in (arms, legs)]
        raise InputError(
            f"This character does not stand upright at rest: '{names[0]}' is hardly higher than '{names[1]}'.",
            "Give it a rest pose in which it stands or sits, or pick the bones in the mapping list.",
        )


def _centre(tree: Tree, legs: Limbs, arms: Limbs) -> Array:
    """A point of the plane of symmetry."""
    points = [tree.heads[path[0]] for pair in (legs, arms) for path in pair.paths]
    return np.mean(points, axis=0)


def _forward(tree: Tree, legs: Limbs) -> tuple[Array, bool]:
    """Where the feet point, across the line between the legs; -Y where they say nothing."""
    across = np.cross(legs.across, UP)
    lean = 0.0
    for path in legs.paths:
        points = tree.heads[list(path)]
        low = points[:, 2].min()
        near = np.flatnonzero(points[:, 2] < low + 0.15 * max(np.ptp(points[:, 2]), 1e-9))
        toe = points[near] @ across
        ankle = float(points[near[0]] @ across)
        lean += float(toe[np.argmax(np.abs(toe - ankle))] - ankle)
    if abs(lean) < 0.03 * legs.reach:
        lean, known = _bones_lean(tree, legs, across)
        if not known:
            return (across if across[1] < 0 else -across), False
    return across * np.sign(lean), True


def _bones_lean(tree: Tree, legs: Limbs, across: Array) -> tuple[float, bool]:
    """The same from the ends of the legs' last bones, where no joint of the toes is."""
    ends = [tree.rig.tail(path[-1]) - tree.heads[path[-1]] for path in legs.paths]
    lean = float(sum(end @ across for end in ends))
    alike = all(abs(end @ across) > 0.5 * np.linalg.norm(end) and (end @ across) * lean > 0 for end in ends)
    return lean, alike


def _sides(tree: Tree, legs: Limbs, arms: Limbs, left: Array) -> Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Side, leg and arm, the left first."""
    ordered = []
    for pair in (legs, arms):
        places = [float(tree.heads[list(path[:3])].mean(axis=0) @ left) for path in pair.paths]
        ordered.append(sorted(pair.paths, key=lambda path, places=places, pair=pair: -places[pair.paths.index(path)]))
    return zip(SIDES, *ordered, strict=True)
