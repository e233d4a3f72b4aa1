"""Members are grouped by what speaks for and against, and never against a conflict."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.core.clustering import Weights, add, cluster


def weights_of(count: int, pairs: dict[tuple[int, int], float]) -> Weights:
    weights: Weights = [{} for _ in range(count)]
    for (i, j), value in pairs.items():
        add(weights, i, j, value)
    return weights


def groups(label: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(label == k).tolist()) for k in np.unique(label)}


def test_two_groups_that_repel_each_other_stay_apart():
    weights = weights_of(4, {(0, 1): 2.0, (2, 3): 2.0, (1, 2): 1.0, (0, 3): -3.0})
    assert groups(cluster(weights, [set()] * 4)) == {frozenset({0, 1}), frozenset({2, 3})}


def test_without_a_conflict_weak_evidence_adds_up():
    weights = weights_of(3, {(0, 1): 2.0, (1, 2): 1.0, (0, 2): -0.5})
    assert groups(cluster(weights, [set()] * 3)) == {frozenset({0, 1, 2})}


def test_a_conflict_is_stronger_than_any_evidence_and_passes_on_to_groups():
    weights = weights_of(3, {(0, 1): 9.0, (1, 2): 8.0, (0, 2): 9.0})
    label = cluster(weights, [{2}, set(), {0}])
    assert label[0] != label[2]
    assert label[1] == label[0]


def test_somebody_without_evidence_is_alone():
    assert len(set(cluster(weights_of(3, {}), [set()] * 3).tolist())) == 3
    assert len(cluster([], [])) == 0


@given(st.integers(0, 10_000), st.integers(2, 14))
def test_groups_are_never_torn_by_conflicts_and_are_worth_at_least_nothing(seed, count):
    rng = np.random.default_rng(seed)
    pairs = {(i, j): float(rng.normal()) for i in range(count) for j in range(i) if rng.uniform() < 0.6}
    conflicts: list[set[int]] = [set() for _ in range(count)]
    for i in range(count):
        for j in range(i):
            if rng.uniform() < 0.2:
                conflicts[i].add(j)
                conflicts[j].add(i)
    label = cluster(weights_of(count, pairs), conflicts)
    assert not any(label[i] == label[j] for i in range(count) for j in conflicts[i])
    assert sum(value for (i, j), value in pairs.items() if label[i] == label[j]) >= -1e-9
