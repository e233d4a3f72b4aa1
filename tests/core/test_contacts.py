"""Ground and contacts against feet whose steps are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.contacts import (
    estimate_up,
    find_contacts,
    find_floor,
    floor_transform,
    foot_points,
    hold_contacts,
    penetration,
    slide_speed,
)
from inference.core.rotations import unit
from inference.core.skeletons import OPENPOSE_137

FPS = 30.0


def stepping(frames=180, floor=0.0):
    """(T, 4, 3) foot points that stand for half a second and swing for half a second, and (T, 4) whether they stand."""
    time = np.arange(frames) / FPS
    points, standing = np.zeros((frames, 4, 3)), np.zeros((frames, 4), bool)
    for i in range(4):
        phase = time + (0.5 if i >= 2 else 0.0)
        part = phase % 1.0
        swing = np.clip((part - 0.5) * 2, 0.0, 1.0)
        points[:, i, 1] = np.floor(phase) + swing * swing * (3 - 2 * swing)
        points[:, i, 2] = floor + 0.02 + 0.15 * np.sin(np.pi * swing)
        standing[:, i] = part <= 0.5
    return points, standing


def noisy(points, sigma=0.005):
    return points + sigma * np.random.default_rng(0).standard_normal(points.shape)


@pytest.mark.parametrize("height", [-1.3, 0.0, 0.41])
def test_the_floor_is_found_within_a_centimetre(height):
    points, _ = stepping(floor=height)
    floor = find_floor(noisy(points), np.ones(points.shape[:2]), FPS, clearance=0.02)
    assert floor is not None
    assert floor.height == pytest.approx(height, abs=0.01)


def test_contacts_agree_with_the_steps():
    points, standing = stepping()
    weights = np.ones(points.shape[:2])
    found = find_contacts(noisy(points, 0.003), weights, FPS, find_floor(points, weights, FPS)) > 0.5
    assert (found & standing).sum() / found.sum() > 0.9
    assert (found & standing).sum() / standing.sum() > 0.85


def test_unseen_feet_touch_nothing():
    points, _ = stepping()
    weights = np.zeros(points.shape[:2])
    assert find_floor(points, weights, FPS) is None
    assert find_contacts(points, weights, FPS, None).max() == 0.0


def test_contacts_do_not_flicker():
    points, standing = stepping()
    weights = np.ones(points.shape[:2])
    found = find_contacts(noisy(points, 0.01), weights, FPS, find_floor(points, weights, FPS)) > 0.5
    changes = np.abs(np.diff(found.astype(int), axis=0)).sum()
    assert changes <= 1.5 * np.abs(np.diff(standing.astype(int), axis=0)).sum()


def test_held_contacts_do_not_slide():
    points, standing = stepping()
    sliding = points + np.linspace(0, 0.2, len(points))[:, None, None] * [1.0, 0.0, 0.0]
    held = sliding + hold_contacts(sliding, standing.astype(float), FPS)
    assert slide_speed(held, standing.astype(float), FPS) < 0.5 * slide_speed(sliding, standing.astype(float), FPS)
    assert np.abs(held - sliding).max() <= 0.06 + 1e-9


def test_penetration_is_the_depth_of_the_deepest_point():
    points = np.zeros((2, 4, 3))
    points[0, 1, 2] = -0.04
    mean, deepest = penetration(points)
    assert (mean, deepest) == (pytest.approx(0.02), pytest.approx(0.04))


def test_toes_are_the_middle_of_the_seen_ones():
    positions, weights = np.zeros((1, 137, 3)), np.zeros((1, 137))
    big, small = OPENPOSE_137.index("LBigToe"), OPENPOSE_137.index("LSmallToe")
    positions[0, big], positions[0, small] = [1.0, 0, 0], [3.0, 0, 0]
    weights[0, [big, small]] = 0.5
    points, seen = foot_points(positions, weights)
    np.testing.assert_allclose(points[0, 1], [2.0, 0, 0])
    np.testing.assert_allclose(seen[0], [0, 0.5, 0, 0])


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.35, 0.35), st.floats(-0.35, 0.35))
def test_upright_trunk_and_footholds_give_the_tilt_of_the_camera(pitch, roll):
    up = unit(np.array([roll, -1.0, pitch]))
    side = unit(np.cross(up, [0.0, 0.0, 1.0]))
    flat = np.stack([side, np.cross(side, up)])
    holds = np.random.default_rng(0).uniform(-2, 2, (8, 2)) @ flat
    found = estimate_up(np.tile(up, (50, 1)), holds, guess=np.array([0.0, -1.0, 0.0]))
    assert np.degrees(np.arccos(np.clip(found @ up, -1, 1))) < 3.0


def test_a_camera_is_level_when_nothing_is_known():
    guess = np.array([0.0, -1.0, 0.0])
    found = estimate_up(np.zeros((0, 3)), np.zeros((0, 3)), guess=guess)
    np.testing.assert_allclose(found, guess)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_the_floor_transform_is_rigid_and_takes_up_to_z(direction):
    up, origin = unit(np.array(direction)), np.array([0.3, 1.0, 4.0])
    transform = floor_transform(up, np.array([0.0, 0.0, 1.0]), origin, 0.2)
    np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(transform[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(transform[:3, :3] @ up, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose((transform @ [*origin, 1.0])[:2], 0.0, atol=1e-9)


def test_a_floor_is_found_where_no_height_is_near_the_tenth_percentile() -> None:
    points = np.ones((10, 4, 3))
    points[0, :, 2], points[1, :, 2] = 0.0, 0.5  # a tenth of the way up lies between these two
    floor = find_floor(points, np.ones((10, 4)), fps=0.1, clearance=0.0)
    assert floor is not None and floor.height == 0 and np.isfinite(floor.levels).all()
