"""A rig's bones as a tree of joints, for `core/structure.py` to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ...protocol.errors import InputError
from ..rig import Rig

Array = np.ndarray


class NotAPersonError(InputError):
    """The bones are those of a body that a person's performance does not fit."""


@dataclass(frozen=True)
class Limbs:
    """Two chains that mirror each other: the bone they hang from, their joints, the way from one to the other."""

    parent: int
    paths: tuple[tuple[int, ...], tuple[int, ...]]
    across: Array
    error: float
    reach: float


@dataclass
class Tree:
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


def make_tree(rig: Rig, allowed: Array) -> Tree:
    """Hang each of the allowed bones (B,) from the next allowed one above it, and measure what hangs from it."""
    rows = np.flatnonzero(allowed)
    parents: dict[int, int] = {-1: -1}
    nearest = np.full(len(rig.names), -1)
    for row in range(len(rig.names)):  # parents come first
        above = int(rig.parents[row])
        parents[row] = int(nearest[above]) if above >= 0 else -1
        nearest[row] = row if allowed[row] else parents[row]
    for row in rows.tolist():
        if parents[row] < 0 <= rig.parents[row]:
            parents[row] = _through_copies(rig, row, allowed, parents)
    children: dict[int, list[int]] = {int(row): [] for row in (-1, *rows)}
    for row in rows.tolist():
        children[parents[row]].append(row)
    tree = Tree(rig, rows, rig.heads, parents, children)
    for row in reversed(list(tree.below(-1))):
        below = children[row]
        tree.reach[row] = max((tree.step(child) + tree.reach[child] for child in below), default=0.0)
        tree.leaves[row] = sum(tree.leaves[child] for child in below) or 1
    return tree


def _through_copies(rig: Rig, row: int, allowed: Array, parents: dict[int, int]) -> int:
    """The allowed bone that stands where one above another does: rigs hang skin from a copy of the skin's own bones."""
    near = 1e-3 * max(float(np.ptp(rig.heads[:, 2])), 1e-9)
    for above in rig.ancestors(row):
        apart = np.linalg.norm(rig.heads - rig.heads[above], axis=1)
        alike = rig.rest[:, :3, 1] @ rig.rest[above, :3, 1]
        for copy in np.flatnonzero(allowed & (apart < near) & (alike > 0.999)).tolist():
            if copy != row and not _hangs_from(parents, copy, row):
                return copy
    return -1


def _hangs_from(parents: dict[int, int], row: int, above: int) -> bool:
    while row >= 0 and row != above:
        row = parents[row]
    return row == above


def middle_of(tree: Tree, pair: Limbs) -> Array:
    """(3,) the point between two limbs' beginnings."""
    return np.mean([tree.heads[path[0]] for path in pair.paths], axis=0)
