"""A humanoid read from where its joints are and how they hang together, without one name.

Two chains that mirror each other and end on the ground are the legs; two that mirror each other and hang higher, the
arms; what lies between them is the spine, what rises above the arms the neck and head. The feet say where forward is,
and forward and up say which side is left. Joints along a limb are told apart by a person's proportions, each deviation
weighed, none of them required.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ..protocol.errors import InputError
from .rig import FINGERS, LIMBS, SIDES, Rig

Array = np.ndarray
UP = np.array([0.0, 0.0, 1.0])
_MIRRORED = 0.3  # how far two limbs may be from each other's mirror image, as a share of their reach


class NotAPersonError(InputError):
    """The bones are those of a body that a person's performance does not fit."""


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


@dataclass(frozen=True)
class _Limbs:
    """Two chains that mirror each other: the bone they hang from, their joints, the way from one to the other."""

    parent: int
    paths: tuple[tuple[int, ...], tuple[int, ...]]
    across: Array
    error: float
    reach: float


@dataclass
class _Tree:
    """The bones that count, as a tree of joints."""

    rig: Rig
    rows: Array
    heads: Array
    parents: dict[int, int]
    children: dict[int, list[int]]
    reach: dict[int, float] = field(default_factory=dict)
    leaves: dict[int, int] = field(default_factory=dict)

    @property
    def height(self) -> float:
        z = self.heads[self.rows, 2]
        return float(max(np.ptp(z), 1e-6))

    def ancestors(self, row: int) -> list[int]:
        """From a bone to its root, itself first; -1, which holds the roots, last."""
        out = [row]
        while out[-1] >= 0:
            out.append(self.parents[out[-1]])
        return out

    def meet(self, a: int, b: int) -> int:
        """The lowest bone that two hang from, or one of them."""
        above = set(self.ancestors(a))
        return next(row for row in self.ancestors(b) if row in above)

    def below(self, row: int) -> Iterable[int]:
        """A bone and all that hang from it."""
        stack = [row]
        while stack:
            row = stack.pop()
            yield row
            stack += self.children[row]

    def path(self, row: int) -> tuple[int, ...]:
        """From a bone along the way that reaches farthest."""
        out = [row]
        while self.children[out[-1]]:
            out.append(max(self.children[out[-1]], key=lambda child: self.step(child) + self.reach[child]))
        return tuple(out)

    def step(self, row: int) -> float:
        """Distance of a joint from its parent's."""
        return float(np.linalg.norm(self.heads[row] - self.heads[self.parents[row]])) if self.parents[row] >= 0 else 0.0


def find_structure(rig: Rig, allowed: Array | None = None) -> Structure:
    """Find a humanoid's roles among the bones of a rig, or among the `allowed` (B,) of them.

    Raises:
        InputError: there is no humanoid; the sentence names the bones that stand against it.
    """
    tree = _tree(rig, np.ones(len(rig.names), bool) if allowed is None else allowed)
    legs, arms = _limbs(tree)
    trunk = _trunk(tree, legs, arms)
    forward, facing = _forward(tree, legs)
    left = np.cross(UP, forward)
    bones: dict[str, tuple[int, ...]] = {}
    centre = _centre(tree, legs, arms)
    scores = []
    for side, leg, arm in _sides(tree, legs, arms, left):
        found, score = _leg(tree, leg, centre, left)
        more, other = _arm(tree, arm, centre, left)
        bones |= {f"{role}.{side}": rows for role, rows in {**found, **more}.items() if rows}
        scores += [score, other]
    bones |= _spine(tree, trunk, arms, bones)
    _refuse_two_heads(tree, arms, bones, left, centre)
    for side in SIDES:
        bones |= _twists(tree, bones, side)
    fit = float(np.clip(np.mean(scores) - legs.error - arms.error, 0.05, 1.0))
    notes = [] if facing else ["Nothing tells where the character faces: it is taken to look along -Y."]
    return Structure({role: rows for role, rows in bones.items() if rows}, fit, forward, left, facing, tuple(notes))


def _tree(rig: Rig, allowed: Array) -> _Tree:
    rows = np.flatnonzero(allowed)
    parents: dict[int, int] = {-1: -1}
    nearest = np.full(len(rig.names), -1)
    for row in range(len(rig.names)):  # parents come first
        above = int(rig.parents[row])
        parents[row] = int(nearest[above]) if above >= 0 else -1
        nearest[row] = row if allowed[row] else parents[row]
    children: dict[int, list[int]] = {int(row): [] for row in (-1, *rows)}
    for row in rows:
        children[parents[int(row)]].append(int(row))
    tree = _Tree(rig, rows, rig.heads, parents, children)
    for row in [*rows[::-1], -1]:
        below = children[int(row)]
        tree.reach[int(row)] = max((tree.step(child) + tree.reach[child] for child in below), default=0.0)
        tree.leaves[int(row)] = sum(tree.leaves[child] for child in below) or 1
    return tree


# Legs and arms --------------------------------------------------------------------------------------------------------


def _limbs(tree: _Tree) -> tuple[_Limbs, _Limbs]:
    """The legs and the arms: of all pairs of mirrored chains, the two that make the best person."""
    pairs = _pairs(tree)
    floor = float(tree.heads[tree.rows, 2].min())
    low = [pair for pair in pairs if _end_height(tree, pair) < floor + 0.2 * tree.height]
    standing = [pair for pair in low if _drop(tree, pair) > 0.15 * tree.height]
    if not standing:
        raise InputError(
            f"No two legs were found among the {len(tree.rows)} bones: no two chains that mirror each other end near the "
            "ground.",
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
            f"No two arms were found beside the legs {names}: no second pair of chains mirror each other.",
            "Pick the bones of the arms in the mapping list.",
        )
    _, legs, arms = max(options, key=lambda option: option[0])
    _refuse_four_legs(tree, legs, arms, floor)
    return legs, arms


def _pairs(tree: _Tree) -> list[_Limbs]:
    found = []
    for parent, children in tree.children.items():
        long = [child for child in children if tree.reach[child] > 0.12 * tree.height]
        for a, b in combinations(long[:24], 2):
            if abs(tree.reach[a] - tree.reach[b]) < _MIRRORED * max(tree.reach[a], tree.reach[b]):
                pair = _mirrored(tree, parent, a, b)
                if pair is not None:
                    found.append(pair)
    return found


def _mirrored(tree: _Tree, parent: int, a: int, b: int) -> _Limbs | None:
    paths = tree.path(a), tree.path(b)
    reach = 0.5 * (tree.reach[a] + tree.reach[b])
    points = [_along(tree.heads[list(path)]) for path in paths]
    gap = points[0] - points[1]  # (S, 3), all of them across the body where the two mirror each other
    across = gap.mean(axis=0) * [1.0, 1.0, 0.0]
    if np.linalg.norm(across) < 0.05 * reach:
        return None
    across /= np.linalg.norm(across)
    aside = gap - (gap @ across)[:, None] * across
    middle = 0.5 * (points[0] + points[1]) @ across
    error = float(np.linalg.norm(aside, axis=1).mean() + np.ptp(middle)) / max(reach, 1e-9)
    if error > _MIRRORED or (gap @ across).max() < 0:
        return None
    return _Limbs(parent, paths, across, error, reach)


def _along(points: Array, count: int = 5) -> Array:
    """(count, 3) points in even steps along a chain, without its beginning, which both sides may share."""
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.2, 1.0, count) * steps[-1]
    return np.stack([np.interp(at, steps, points[:, axis]) for axis in range(3)], axis=1)


def _end_height(tree: _Tree, pair: _Limbs) -> float:
    return float(max(tree.heads[list(path), 2].min() for path in pair.paths))


def _drop(tree: _Tree, pair: _Limbs) -> float:
    return float(np.mean([tree.heads[path[0], 2] - tree.heads[list(path), 2].min() for path in pair.paths]))


def _are_apart(tree: _Tree, legs: _Limbs, arms: _Limbs) -> bool:
    """Whether two pairs can be one body's legs and arms: neither hangs from the other, both lie across one plane."""
    roots = {path[0] for path in legs.paths}, {path[0] for path in arms.paths}
    if roots[1] & set(tree.ancestors(legs.parent)) or roots[0] & set(tree.ancestors(arms.parent)):
        return False
    return not (roots[0] & roots[1]) and abs(float(legs.across @ arms.across)) > 0.8


def _worth(tree: _Tree, legs: _Limbs, arms: _Limbs) -> float:
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


def _is_last(tree: _Tree, arms: _Limbs) -> bool:
    """Whether nothing rises beside two chains, as above a head that two plaits of hair hang from."""
    ours = {path[0] for path in arms.paths}
    beside = [child for child in tree.children[arms.parent] if child not in ours]
    top = max((float(tree.heads[row, 2]) for child in beside for row in tree.below(child)), default=-np.inf)
    return top < float(np.mean([tree.heads[path[0], 2] for path in arms.paths]))


def _refuse_four_legs(tree: _Tree, legs: _Limbs, arms: _Limbs, floor: float) -> None:
    spine = _middle(tree, arms) - _middle(tree, legs)
    stands = _end_height(tree, arms) < floor + 0.12 * tree.height and _drop(tree, arms) > 0.25 * tree.height
    if stands and abs(spine[2]) < 0.7 * np.linalg.norm(spine):
        feet = " and ".join(f"'{tree.rig.names[path[-1]]}'" for path in arms.paths)
        raise NotAPersonError(
            f"This character stands on four legs: {feet} reach the ground as the hind legs do.",
            "Only characters that stand on two legs can be given a person's performance.",
        )


def _middle(tree: _Tree, pair: _Limbs) -> Array:
    return np.mean([tree.heads[path[0]] for path in pair.paths], axis=0)


def _centre(tree: _Tree, legs: _Limbs, arms: _Limbs) -> Array:
    """A point of the plane of symmetry."""
    points = [tree.heads[path[0]] for pair in (legs, arms) for path in pair.paths]
    return np.mean(points, axis=0)


def _forward(tree: _Tree, legs: _Limbs) -> tuple[Array, bool]:
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


def _bones_lean(tree: _Tree, legs: _Limbs, across: Array) -> tuple[float, bool]:
    """The same from the ends of the legs' last bones, where no joint of the toes is."""
    ends = [tree.rig.tail(path[-1]) - tree.heads[path[-1]] for path in legs.paths]
    lean = float(sum(end @ across for end in ends))
    alike = all(abs(end @ across) > 0.5 * np.linalg.norm(end) and (end @ across) * lean > 0 for end in ends)
    return lean, alike


def _sides(
    tree: _Tree, legs: _Limbs, arms: _Limbs, left: Array
) -> Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Side, leg and arm, the left first."""
    ordered = []
    for pair in (legs, arms):
        places = [float(tree.heads[list(path)].mean(axis=0) @ left) for path in pair.paths]
        ordered.append(sorted(pair.paths, key=lambda path, places=places, pair=pair: -places[pair.paths.index(path)]))
    return zip(SIDES, *ordered, strict=True)


# Along a limb ---------------------------------------------------------------------------------------------------------


def _leg(tree: _Tree, path: Sequence[int], centre: Array, left: Array) -> tuple[dict[str, tuple[int, ...]], float]:
    """Thigh, shin, foot and toe among the joints of a leg."""
    points = tree.heads[list(path)]
    rest = _remaining(points)
    best, chosen = -np.inf, (0, 1, 2)
    for hip, knee, ankle in combinations(range(len(path)), 3):
        upper, lower = (float(np.linalg.norm(points[b] - points[a])) for a, b in ((hip, knee), (knee, ankle)))
        if min(upper, lower) < 0.02 * tree.height:
            continue
        size = upper + lower
        aside = abs(float((points[hip] - centre) @ left)) / size
        score = -((np.log(upper / lower) - 0.05) ** 2) / 0.35**2 - (aside - 0.11) ** 2 / 0.08**2
        score -= min((rest[ankle] / size - 0.22) ** 2 / 0.15**2, 4.0) + ((rest[0] - rest[hip]) / size / 0.15) ** 2
        if ankle + 1 < len(path):
            score -= (_turn(points[ankle] - points[knee], points[ankle + 1] - points[ankle]) - 1.2) ** 2 / 0.7**2
        if score > best:
            best, chosen = score, (hip, knee, ankle)
    if not np.isfinite(best):
        return _short_leg(path)
    hip, knee, ankle = chosen
    ball = _ball(tree, path, ankle)
    parts = {
        "thigh": tuple(path[hip:knee]),
        "shin": tuple(path[knee:ankle]),
        "foot": (path[ankle],),
        "toe": (path[ball],) if ball else (),
    }
    return parts, _fit(best)


def _short_leg(path: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], float]:
    """A leg of two bones: thigh and shin."""
    return {"thigh": tuple(path[:1]), "shin": tuple(path[1:2])}, 0.3


def _ball(tree: _Tree, path: Sequence[int], ankle: int) -> int | None:
    """Where the toes bend, two thirds of the way from the ankle; nowhere on a foot whose toes are several bones."""
    if ankle + 1 >= len(path) or _fan(tree, path[ankle], share=0.5) >= 3:
        return None
    points = tree.heads[list(path[ankle:])]
    way = np.linalg.norm(points - points[0], axis=1)
    shares = way[1:] / max(way[-1], 1e-9)
    return ankle + 1 + int(np.argmin(np.abs(shares - 0.68)))


def _arm(tree: _Tree, path: Sequence[int], centre: Array, left: Array) -> tuple[dict[str, tuple[int, ...]], float]:
    """Shoulder, arm, hand and fingers among the joints of an arm."""
    points = tree.heads[list(path)]
    rest = _remaining(points)
    fans = [_fan(tree, row) for row in path]
    best, chosen = -np.inf, (0, 1, 2)
    for shoulder, elbow, wrist in combinations(range(len(path)), 3):
        upper, lower = (float(np.linalg.norm(points[b] - points[a])) for a, b in ((shoulder, elbow), (elbow, wrist)))
        if min(upper, lower) < 0.01 * tree.height:
            continue
        size = upper + lower
        aside = abs(float((points[shoulder] - centre) @ left)) / size
        score = -((np.log(upper / lower) - 0.08) ** 2) / 0.3**2 - (aside - 0.33) ** 2 / 0.13**2
        score -= max(rest[wrist] / size - 0.5, 0.0) ** 2 / 0.15**2
        # a hand is where the fingers part
        score += 4.0 * (fans[wrist] >= 2) - 4.0 * (max(fans[wrist + 1 :], default=0) > max(2, fans[wrist]))
        score -= 2.0 * sum(fan >= 3 for fan in fans[:wrist])
        if score > best:
            best, chosen = score, (shoulder, elbow, wrist)
    if not np.isfinite(best):
        return {"upper_arm": tuple(path[:1]), "forearm": tuple(path[1:2])}, 0.3
    shoulder, elbow, wrist = chosen
    parts = {
        "shoulder": tuple(path[:shoulder]),
        "upper_arm": tuple(path[shoulder:elbow]),
        "forearm": tuple(path[elbow:wrist]),
        "hand": (path[wrist],),
    }
    return {**parts, **find_fingers(tree, path[wrist])}, _fit(best - 4.0 * (fans[wrist] >= 2))


def _fit(score: float) -> float:
    return float(np.exp(min(score, 0.0) / 6.0))


def _remaining(points: Array) -> Array:
    """(N,) length of a chain from each joint to its end."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])


def _turn(a: Array, b: Array) -> float:
    """Angle between two ways, rad."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.arccos(np.clip(a @ b / size, -1.0, 1.0))) if size > 1e-9 else 1.2


def _fan(tree: _Tree, row: int, share: float = 0.2) -> int:
    """How many chains of like length part at a joint."""
    spans = [tree.step(child) + tree.reach[child] for child in tree.children[row] if tree.reach[child] > 1e-6]
    return sum(span > share * max(spans) for span in spans)


def find_fingers(tree: _Tree, hand: int) -> dict[str, tuple[int, ...]]:
    """Chains below a hand, told apart by where they lie; metacarpal bones are left to the hand."""
    chains = _finger_chains(tree, hand)
    if not chains:
        return {}
    longest = max(len(chain) for chain in chains)
    full = [chain for chain in chains if len(chain) == longest > 1]
    if longest != 3 and full and np.mean([_begins_in_palm(tree, hand, chain) for chain in full]) > 0.5:
        chains = [chain[1:] if chain in full else chain for chain in chains]
    if len(chains) == 1:
        return {"middle": chains[0][:3]} if len(chains[0]) > 1 else {}
    bases = np.array([tree.heads[chain[0]] for chain in chains])
    tips = np.array([tree.heads[chain[-1]] for chain in chains])
    thumb = _thumb(tree.heads[hand], bases, tips)
    others = [row for row in range(len(chains)) if row != thumb]
    line = bases[others] - bases[others].mean(axis=0)
    axis = np.linalg.svd(line)[2][0] if len(others) > 1 else UP
    order = sorted(others, key=lambda row: float((bases[row] - bases[others].mean(axis=0)) @ axis))
    if np.linalg.norm(bases[order[-1]] - bases[thumb]) < np.linalg.norm(bases[order[0]] - bases[thumb]):
        order.reverse()
    names = FINGERS[1:] if len(order) > 1 else ("middle",)
    return {"thumb": chains[thumb][:3], **{name: chains[row][:3] for name, row in zip(names, order, strict=False)}}


def _finger_chains(tree: _Tree, hand: int) -> list[tuple[int, ...]]:
    """The bones that lead to each tip and to no longer finger's tip, for the five longest."""
    tips = [row for row in tree.below(hand) if not tree.children[row] and row != hand]
    far = {tip: tree.ancestors(tip) for tip in tips}
    far = {tip: above[: above.index(hand)][::-1] for tip, above in far.items()}
    taken: set[int] = set()
    chains = []
    for tip in sorted(tips, key=lambda tip: -_length(tree, hand, far[tip])):
        chain = tuple(row for row in far[tip] if row not in taken)
        taken |= set(chain)
        if len(chain) >= 2 or (len(far[tip]) == 1 and tree.step(tip) > 1e-4):
            chains.append(chain)
    if not chains:
        return []
    longest = max(len(chain) for chain in chains)
    few = len([chain for chain in chains if len(chain) > 1]) < 2  # mittens: a thumb of one bone is welcome
    return [chain for chain in chains if len(chain) >= (1 if few else min(2, longest))][:5]


def _length(tree: _Tree, hand: int, chain: Sequence[int]) -> float:
    return float(np.linalg.norm(np.diff(tree.heads[[hand, *chain]], axis=0), axis=1).sum())


def _begins_in_palm(tree: _Tree, hand: int, chain: tuple[int, ...]) -> bool:
    """Whether a chain begins nearer to the wrist than its first bone is long."""
    first, second = np.linalg.norm(np.diff(tree.heads[[hand, *chain[:2]]], axis=0), axis=1)
    return bool(first < (1.0 if len(chain) > 3 else 0.25) * second)


def _thumb(wrist: Array, bases: Array, tips: Array) -> int:
    """The finger that begins nearest to the wrist and points away from the others."""
    ways = tips - bases
    ways /= np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
    alike = (ways @ ways.T).sum(axis=1) / len(ways)
    near = np.linalg.norm(bases - wrist, axis=1)
    tip = np.linalg.norm(tips - wrist, axis=1)
    if len(bases) == 2:
        return int(np.argmin(tip))
    return int(np.argmin(near / max(near.max(), 1e-9) + 0.7 * alike + 0.7 * tip / max(tip.max(), 1e-9)))


# Along the trunk ------------------------------------------------------------------------------------------------------


def _trunk(tree: _Tree, legs: _Limbs, arms: _Limbs) -> tuple[int, ...]:
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


def _spine(
    tree: _Tree, trunk: tuple[int, ...], arms: _Limbs, bones: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    shoulders = [bones[f"upper_arm.{side}"][0] for side in SIDES if bones.get(f"upper_arm.{side}")]
    level = float(np.mean(tree.heads[shoulders, 2])) if shoulders else float(_middle(tree, arms)[2])
    hips, spine = trunk[0], list(trunk[1:])
    neck = []
    while len(spine) > 1 and tree.heads[spine[-1], 2] > level - 0.01 * tree.height:
        neck.insert(0, spine.pop())  # the arms hang from the neck, as in 3ds Max
    above, head = _head(tree, trunk[-1], arms, level, float(tree.heads[hips, 2]))
    if neck and not head:
        head, neck = (neck[-1],), neck[:-1]
    if (pelvis := _pelvis(tree, hips, bones)) is not None:
        hips, spine = pelvis, [hips, *spine]
    ancestors = tree.ancestors(hips)[1:-1]
    root = (ancestors[-1],) if ancestors else ()
    return {"root": root, "hips": (hips,), "spine": tuple(spine), "neck": (*neck, *above), "head": head}


def _pelvis(tree: _Tree, meet: int, bones: dict[str, tuple[int, ...]]) -> int | None:
    """The bone under the one that legs and spine hang from, where it is nearer to the legs, as in 3ds Max."""
    parent = tree.parents[meet]
    thighs = [bones[f"thigh.{side}"][0] for side in SIDES if bones.get(f"thigh.{side}")]
    if parent < 0 or not thighs or len(tree.children[parent]) > 1:
        return None
    middle = tree.heads[thighs].mean(axis=0)
    near, far = (float(np.linalg.norm(tree.heads[row] - middle)) for row in (parent, meet))
    return parent if near < far - 0.01 * tree.height else None


def _rising(tree: _Tree, arms: _Limbs, parent: int) -> list[tuple[float, int]]:
    """How high the branches beside the arms rise above the shoulders, the highest first."""
    ours = {path[0] for path in arms.paths}
    level = float(_middle(tree, arms)[2])
    rise = [
        (max(float(tree.heads[row, 2]) for row in tree.below(child)) - level, child)
        for child in tree.children[parent]
        if child not in ours
    ]
    return sorted((item for item in rise if item[0] > 0.01 * tree.height), reverse=True)


def _head(tree: _Tree, chest: int, arms: _Limbs, level: float, hips: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Neck and head above the bone that the arms hang from."""
    plane = float(_middle(tree, arms) @ arms.across)
    branches = [child for _, child in _rising(tree, arms, chest)]
    if not branches:
        return (), ()
    row = min(branches[:6], key=lambda child: _off_plane(tree, child, arms.across, plane) - 0.5 * tree.reach[child])
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


def _beyond(tree: _Tree, row: int) -> list[int]:
    """The bones that hang from one and lead on; not those that only stand where it does."""
    far = 0.005 * tree.height
    return [child for child in tree.children[row] if tree.children[child] or tree.step(child) > far]


def _base_of_skull(tree: _Tree, path: Sequence[int], level: float, trunk: float) -> int:
    """Which joint of a neck the head begins with, by its height over the shoulders."""
    z = tree.heads[list(path), 2]
    error = ((z - level) / max(trunk, 1e-9) - 0.35) ** 2 / 0.15**2
    top = max(z[-1], float(tree.rig.tail(path[-1])[2]))
    if top - z[-1] > 0.3 * (z[-1] - level):  # the last bone points up: its end is the crown
        error += ((z - level) / max(top - level, 1e-9) - 0.42) ** 2 / 0.25**2
    return int(np.argmin(error))


def _off_plane(tree: _Tree, row: int, across: Array, plane: float) -> float:
    return float(max(abs(float(tree.heads[item] @ across) - plane) for item in tree.path(row)))


def _refuse_two_heads(tree: _Tree, arms: _Limbs, bones: dict[str, tuple[int, ...]], left: Array, centre: Array) -> None:
    """Two chains that rise beside each other from the chest, mirrored or alike, are two necks."""
    rising = _rising(tree, arms, arms.parent)
    necks = [
        child
        for rise, child in rising
        if tree.children[child] and rise > 0.6 * rising[0][0] and rise > 0.06 * tree.height
    ]
    steep = [child for child in necks if _is_steep(tree, child)]
    if len(steep) < 2:
        return
    aside = [float((tree.heads[tree.path(child)[-1]] - centre) @ left) for child in steep]
    apart = max(aside) - min(aside)
    if apart > 0.04 * tree.height and not any(abs(value) < 0.25 * apart for value in aside):
        names = " and ".join(f"'{tree.rig.names[tree.path(child)[-1]]}'" for child in steep[:2])
        raise NotAPersonError(
            f"This character has two heads: {names} rise beside each other from '{tree.rig.names[arms.parent]}'.",
            "Pick one of them in the mapping list.",
        )


def _is_steep(tree: _Tree, row: int) -> bool:
    way = tree.heads[tree.path(row)[-1]] - tree.heads[row]
    return bool(way[2] > 0.6 * np.linalg.norm(way) and np.linalg.norm(way) > 0.03 * tree.height)


# Beside the limbs -----------------------------------------------------------------------------------------------------


def _twists(tree: _Tree, bones: dict[str, tuple[int, ...]], side: str) -> dict[str, tuple[int, ...]]:
    """Bones without children that lie on a limb, beside its own chain."""
    ends = {"upper_arm": "forearm", "forearm": "hand", "thigh": "shin", "shin": "foot"}
    found = {}
    for limb in LIMBS:
        chain, after = bones.get(f"{limb}.{side}", ()), bones.get(f"{ends[limb]}.{side}", ())
        if not chain or not after:
            continue
        start, end = tree.heads[chain[0]], tree.heads[after[0]]
        beside = [child for row in chain for child in tree.children[row] if child not in {*chain, *after}]
        rows = [(at, row) for row in beside if (at := _on_segment(tree, row, start, end)) is not None]
        found[f"{limb}_twist.{side}"] = tuple(row for _, row in sorted(rows)[:4])
    return found


def _on_segment(tree: _Tree, row: int, start: Array, end: Array) -> float | None:
    """Where a childless bone lies on a limb, as a share of it; None where it does not."""
    if tree.children[row]:
        return None
    way = end - start
    at = float((tree.heads[row] - start) @ way / (way @ way))
    off = float(np.linalg.norm(tree.heads[row] - start - at * way)) / float(np.linalg.norm(way))
    return at if 0.05 < at < 0.95 and off < 0.05 else None
