"""Measures against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inference.core import metrics


def _pose() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 17, 3))


def test_a_shift_counts_absolutely_and_not_relatively() -> None:
    pose = _pose()
    assert metrics.mpjpe(pose + [0.03, 0.0, 0.04], pose) == pytest.approx(0.05)
    assert metrics.relative_mpjpe(pose + [0.03, 0.0, 0.04], pose, 0) == pytest.approx(0.0, abs=1e-12)


def test_the_root_is_not_counted() -> None:
    pose = _pose()
    moved = pose.copy()
    moved[:, 0] += [0.1, 0.0, 0.0]
    assert metrics.relative_mpjpe(moved, pose, 0) == pytest.approx(0.1)


def test_a_similarity_is_aligned_away() -> None:
    pose = _pose()
    turned = 1.7 * pose @ Rotation.random(random_state=1).as_matrix().T + [1.0, 2.0, 3.0]
    assert metrics.pa_mpjpe(turned, pose) == pytest.approx(0.0, abs=1e-9)


def test_a_mirrored_pose_is_not_aligned_away() -> None:
    pose = _pose()
    assert metrics.pa_mpjpe(pose * [-1.0, 1.0, 1.0], pose) > 0.1


def test_constant_speed_has_no_second_difference() -> None:
    still = np.zeros((6, 2, 3)) + np.arange(6)[:, None, None]
    assert metrics.second_difference(still) == 0.0


def test_a_limb_that_breathes_by_a_centimetre_shows_it() -> None:
    poses = np.zeros((2, 25, 3))
    poses[0, 5:8, 0], poses[1, 5:8, 0] = [0.0, 0.30, 0.60], [0.0, 0.32, 0.62]
    assert metrics.limb_std(poses) == pytest.approx(0.01 / 8)
