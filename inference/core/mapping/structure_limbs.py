"""Which joint of a leg or an arm is which, by a person's proportions, and which chain of a hand is which finger."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..rig import FINGERS, LIMBS
from .structure_joints import Array, Tree

UP = np.array([0.0, 0.0, 1.0])
_SEGMENT = 0.4  # rad by which a segment may turn off the rest of its limb


def find_leg(tree: Tree, path: Sequence[int], centre: Array, left: Array) -> tuple[dict[str, tuple[int, ...]], float]:
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
    hip = _socket(points, hip, knee)
    ball = _ball(tree, path, ankle)
    parts = {
        "thigh": tuple(path[hip:knee]),
        "shin": tuple(path[knee:ankle]),
        "foot": (path[ankle],),
        "toe": (path[ball],) if ball else (),
    }
    return parts, _fit(best)


def _socket(points: Array, hip: int, knee: int) -> int:
    """Leave out short joints inside the pelvis from which the thigh turns off: buttocks and the like."""
    while knee - hip > 1:
        first, rest = points[hip + 1] - points[hip], points[knee] - points[hip + 1]
        if np.linalg.norm(first) > 0.2 * np.linalg.norm(rest) or _turn(first, rest) < _SEGMENT:
            break
        hip += 1
    return hip


def _short_leg(path: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], float]:
    """A leg of two bones: thigh and shin."""
    return {"thigh": tuple(path[:1]), "shin": tuple(path[1:2])}, 0.3


def _ball(tree: Tree, path: Sequence[int], ankle: int) -> int | None:
    """Where the toes bend, two thirds of the way from the ankle; nowhere on a foot whose toes are several bones."""
    if ankle + 1 >= len(path) or _fan(tree, path[ankle], share=0.5) >= 3:
        return None
    points = tree.heads[list(path[ankle:])]
    way = np.linalg.norm(points - points[0], axis=1)
    shares = way[1:] / max(way[-1], 1e-9)
    return ankle + 1 + int(np.argmin(np.abs(shares - 0.68)))


def find_arm(tree: Tree, path: Sequence[int], centre: Array, left: Array) -> tuple[dict[str, tuple[int, ...]], float]:
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
        score -= min(max(rest[wrist] / size - 0.5, 0.0) ** 2 / 0.15**2, 2.0)
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


def _fan(tree: Tree, row: int, share: float = 0.2) -> int:
    """How many chains of like length part at a joint."""
    spans = [tree.step(child) + tree.reach[child] for child in tree.children[row] if tree.reach[child] > 1e-6]
    return sum(span > share * min(max(spans), 0.12 * tree.height) for span in spans)  # a sword is no finger


def find_fingers(tree: Tree, hand: int) -> dict[str, tuple[int, ...]]:
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


def _finger_chains(tree: Tree, hand: int) -> list[tuple[int, ...]]:
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


def _length(tree: Tree, hand: int, chain: Sequence[int]) -> float:
    return float(np.linalg.norm(np.diff(tree.heads[[hand, *chain]], axis=0), axis=1).sum())


def _begins_in_palm(tree: Tree, hand: int, chain: tuple[int, ...]) -> bool:
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


def find_twists(tree: Tree, bones: dict[str, tuple[int, ...]], side: str) -> dict[str, tuple[int, ...]]:
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


def _on_segment(tree: Tree, row: int, start: Array, end: Array) -> float | None:
    """Where a childless bone lies on a limb, as a share of it; None where it does not."""
    if tree.children[row]:
        return None
    way = end - start
    at = float((tree.heads[row] - start) @ way / (way @ way))
    off = float(np.linalg.norm(tree.heads[row] - start - at * way)) / float(np.linalg.norm(way))
    return at if 0.05 < at < 0.95 and off < 0.05 else None
