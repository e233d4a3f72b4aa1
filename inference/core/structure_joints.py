"""A rig's bones as a tree of joints, for `core/structure.py` to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..protocol.errors import InputError
from .rig import Rig

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
    children: dict[int, list[int]] = {int(row): [] for row in (-1, *rows)}
    for row in rows:
        children[parents[int(row)]].append(int(row))
    tree = Tree(rig, rows, rig.heads, parents, children)
    for row in [*rows[::-1], -1]:
        below = children[int(row)]
        tree.reach[int(row)] = max((tree.step(child) + tree.reach[child] for child in below), default=0.0)
        tree.leaves[int(row)] = sum(tree.leaves[child] for child in below) or 1
    return tree


def middle_of(tree: Tree, pair: Limbs) -> Array:
    """(3,) the point between two limbs' beginnings."""
    return np.mean([tree.heads[path[0]] for path in pair.paths], axis=0)
