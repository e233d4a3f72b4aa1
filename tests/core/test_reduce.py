"""Keys that can go without anybody noticing more than was agreed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.retarget.reduce import location_track, needed_keys, rotation_track
from inference.core.rotations import (
    continuous,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_quaternion,
    multiply,
    quaternion_from_matrix,
    quaternion_from_rotvec,
)


def wander(seed: int, count: int, size: float) -> np.ndarray:
    """(T, 4) a rotation that walks about."""
    steps = np.random.default_rng(seed).normal(0, size, (count, 3)).cumsum(0)
    return continuous(quaternion_from_rotvec(0.2 * steps))


def between_keys(frames, keys, values):
    """What is played between keys."""
    return np.stack([np.interp(frames, frames[keys], column) for column in values[keys].T], -1)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 1.0, 5.0]), st.sampled_from([0.5, 2.0, 20.0]))
def test_no_frame_errs_by_more_than_the_tolerance(seed, degrees, millimetres):
    frames = np.arange(1.0, 61.0)
    quaternions = wander(seed, 60, 0.2)
    places = np.random.default_rng(seed + 1).normal(0, 0.01, (60, 3)).cumsum(0)
    tracks = [
        rotation_track(quaternions, quaternions, lambda v: v, np.radians(degrees)),
        location_track(places, millimetres / 1000),
    ]
    keys = needed_keys(frames, tracks)
    played = between_keys(frames, keys, quaternions)
    played /= np.linalg.norm(played, axis=-1, keepdims=True)
    angle = 2 * np.arccos(np.minimum(np.abs(np.sum(played * quaternions, -1)), 1))
    away = np.linalg.norm(between_keys(frames, keys, places) - places, axis=-1)
    assert np.degrees(angle.max()) <= degrees + 1e-6
    assert 1000 * away.max() <= millimetres + 1e-6
    assert keys[0] == 0


def test_a_steady_move_needs_two_keys_and_rest_needs_one():
    frames = np.arange(100.0)
    places = np.linspace(0, 1, 100)[:, None] * [1.0, 2.0, 0.0]
    assert needed_keys(frames, [location_track(places, 1e-3)]).tolist() == [0, 99]
    assert needed_keys(frames, [location_track(np.ones((100, 3)), 1e-3)]).tolist() == [0]


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_euler_angles_say_the_same_rotation_and_never_jump(order):
    quaternions = wander(4, 400, 0.3)
    angles = euler_from_matrix(matrix_from_quaternion(quaternions), order)
    assert np.allclose(matrix_from_euler(angles, order), matrix_from_quaternion(quaternions), atol=1e-9)
    slow = wander(5, 4000, 0.01)
    angles = euler_from_matrix(matrix_from_quaternion(slow), order)
    away = np.abs(np.cos(angles[:, "XYZ".index(order[1])]))
    steps = np.abs(np.diff(angles, axis=0)).max(axis=1)
    assert steps[np.minimum(away[1:], away[:-1]) > 0.3].max() < 0.2


def test_euler_angles_turn_on_past_half_a_turn():
    turns = np.linspace(0, 4 * np.pi, 90)
    spins = quaternion_from_rotvec(turns[:, None] * [0.0, 0.0, 1.0])
    tilt = quaternion_from_rotvec(np.array([[0.2, 0.0, 0.0]]))
    angles = euler_from_matrix(matrix_from_quaternion(multiply(spins, tilt)), "XYZ")
    assert angles[-1, 2] - angles[0, 2] == pytest.approx(4 * np.pi)
    again = quaternion_from_matrix(matrix_from_euler(angles, "XYZ"))
    assert np.allclose(matrix_from_quaternion(again), matrix_from_quaternion(multiply(spins, tilt)), atol=1e-9)


def test_a_single_frame_keeps_its_key():
    assert needed_keys(np.array([3.0]), [location_track(np.ones((1, 3)), 1e-3)]).tolist() == [0]


def test_bones_share_the_keys_that_any_of_their_channels_needs():
    frames = np.arange(41.0)
    quaternions = quaternion_from_rotvec(np.linspace(0, 0.5, 41)[:, None] * [0.0, 0.0, 1.0])
    hop = np.zeros((41, 3))
    hop[20, 2] = 0.1
    turning = rotation_track(quaternions, quaternions, lambda v: v, np.radians(0.5))
    together = needed_keys(frames, [turning, location_track(hop, 1e-3)])
    assert {19, 20, 21} <= set(together.tolist()) and len(together) < 8


def test_a_looser_tolerance_never_needs_many_more_keys():
    quaternions = wander(3, 300, 0.2)
    counts = [
        len(needed_keys(np.arange(300.0), [rotation_track(quaternions, quaternions, lambda v: v, np.radians(degrees))]))
        for degrees in (0.1, 0.5, 2.0, 10.0)
    ]
    assert counts == sorted(counts, reverse=True) and counts[-1] < counts[0] / 4


@given(st.integers(0, 10_000), st.sampled_from(["XYZ", "ZXY", "YZX"]))
def test_euler_keys_on_uneven_frames_play_within_the_tolerance(seed, order):
    frames = np.cumsum(np.random.default_rng(seed).uniform(0.2, 2.0, 60))
    quaternions = wander(seed, 60, 0.3)
    angles = euler_from_matrix(matrix_from_quaternion(quaternions), order)

    def back(values):
        return quaternion_from_matrix(matrix_from_euler(values, order))

    keys = needed_keys(frames, [rotation_track(angles, quaternions, back, np.radians(1.0))])
    played = back(between_keys(frames, keys, angles))
    angle = 2 * np.arccos(np.minimum(np.abs(np.sum(played * quaternions, -1)), 1))
    assert np.degrees(angle.max()) <= 1.0 + 1e-6
