"""Correlation clustering: things that speak for and against belonging together, and pairs that never do.

Groups are made greedily, the strongest evidence first (greedy additive edge contraction: Keuper et al. 2015, "Efficient
decomposition of image and mesh graphs by lifted multicuts"), and improved by moving single members.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Weights = list[dict[int, float]]  # for each member, what speaks for (> 0) or against being with others; symmetric


def add(weights: Weights, i: int, j: int, value: float) -> None:
    """Add evidence to a pair, in place."""
    weights[i][j] = weights[j][i] = weights[i].get(j, 0.0) + value


def cluster(weights: Weights, conflicts: Sequence[set[int]]) -> Array:
    """Group P members so that the evidence within groups is large.

    Args:
        conflicts: for each member, those that never share a group with it, whatever speaks for it.
    Returns:
        (P,) int, the group of each.
    """
    return _move(_contract(weights, conflicts), weights, conflicts)


def _contract(weights: Weights, conflicts: Sequence[set[int]]) -> Array:
    """Join members, the strongest evidence first, as long as it speaks for joining."""
    near = [dict(row) for row in weights]
    against = [set(row) for row in conflicts]
    members = {i: [i] for i in range(len(weights))}
    heap = [(-w, i, j) for i, row in enumerate(near) for j, w in row.items() if i < j and w > 0]
    heapq.heapify(heap)
    while heap:
        negative, i, j = heapq.heappop(heap)
        if i not in members or j not in members or near[i].get(j) != -negative or j in against[i]:
            continue
        if len(near[i]) < len(near[j]):
            i, j = j, i
        members[i] += members.pop(j)
        near[i].pop(j, None)
        for k, w in near[j].items():
            if k != i:
                del near[k][j]
                total = near[i].get(k, 0.0) + w
                near[i][k] = near[k][i] = total
                if total > 0:
                    heapq.heappush(heap, (-total, min(i, k), max(i, k)))
        for k in against[j]:
            against[k].discard(j)
            against[k].add(i)
            against[i].add(k)
    label = np.zeros(len(weights), int)
    for number, rows in enumerate(members.values()):
        label[rows] = number
    return label


def _move(label: Array, weights: Weights, conflicts: Sequence[set[int]], passes: int = 6) -> Array:
    """Move single members to the group that most speaks for, until nothing changes."""
    label = label.copy()
    for _ in range(passes):
        changed = False
        for i, row in enumerate(weights):
            pull = {int(label[i]): 0.0}
            for j, w in row.items():
                pull[int(label[j])] = pull.get(int(label[j]), 0.0) + w
            own, closed = int(label[i]), {int(label[j]) for j in conflicts[i]}
            best = max((w, k) for k, w in pull.items() if k not in closed or k == own)
            if best[0] > pull[own] + 1e-9:
                label[i], changed = best[1], True
        if not changed:
            break
    return label
