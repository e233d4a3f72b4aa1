"""Exchanged sides: known motions projected, their names exchanged in known frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.core.skeletons import BODY_25, FACE, LEFT_HAND, MIRROR_137, OPENPOSE_137, RIGHT_HAND
from inference.sight.swap import ARMS, LEGS, WHOLE_BODY, find_swaps, swap_sides, unswap

JOINTS17 = {
    "Neck": 8, "RShoulder": 14, "RElbow": 15, "RWrist": 16, "LShoulder": 11, "LElbow": 12, "LWrist": 13, "MidHip": 0,
    "RHip": 1, "RKnee": 2, "RAnkle": 3, "LHip": 4, "LKnee": 5, "LAnkle": 6,
}  # fmt: skip


def walker(frames: int, turns: float, *, fps: float = 30.0) -> np.ndarray:
    """A stick figure (T, 137, 3) that walks on the spot, y up, metres, turning about itself."""
    phase = 2 * np.pi * 0.9 * np.arange(frames) / fps
    swing = 0.5 * np.sin(phase)
    out = np.full((frames, 137, 3), np.nan)

    def put(name: str, x: float, y: np.ndarray | float, z: np.ndarray | float) -> None:
        out[:, BODY_25.index(name)] = np.stack(np.broadcast_arrays(x + 0 * phase, y, z), -1)

    for side, sign in (("L", 1), ("R", -1)):
        put(f"{side}Shoulder", sign * 0.18, 1.42, 0)
        put(f"{side}Elbow", sign * 0.24, 1.42 - 0.28 * np.cos(swing), -sign * 0.28 * np.sin(swing))
        put(f"{side}Wrist", sign * 0.26, 1.42 - 0.52 * np.cos(swing), 0.1 - sign * 0.52 * np.sin(swing))
        put(f"{side}Hip", sign * 0.1, 0.92, 0)
        put(f"{side}Knee", sign * 0.1, 0.92 - 0.43 * np.cos(swing), sign * 0.43 * np.sin(swing))
        put(f"{side}Ankle", sign * 0.1, 0.92 - 0.83 * np.cos(swing), sign * 0.8 * np.sin(swing))
        put(f"{side}Heel", sign * 0.1, 0.86 - 0.83 * np.cos(swing), sign * 0.8 * np.sin(swing) - 0.05)
    put("Neck", 0, 1.45, 0)
    put("MidHip", 0, 0.92, 0)
    angle = 2 * np.pi * turns * np.arange(frames) / frames
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, z = out[..., 0] * cos + out[..., 2] * sin, out[..., 2] * cos - out[..., 0] * sin
    return np.stack([x, out[..., 1], z], -1)


def seen(points: np.ndarray, rng: np.random.Generator, *, noise: float = 0.01, missing: float = 0.0):
    """Project through a random camera that looks at the body; noise as a part of the body's height."""
    centre = np.nanmean(points, (0, 1))
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.8)
    x, y, z = np.moveaxis(points - centre, -1, 0)
    x, z = np.cos(azimuth) * x + np.sin(azimuth) * z, np.cos(azimuth) * z - np.sin(azimuth) * x
    depth = rng.uniform(4, 7) + np.nanmax(np.abs(points - centre)) - z
    positions = np.stack([960 + 1500 * x / depth, 540 - 1500 * (y + height) / depth], -1)
    tall = np.nanmedian(np.nanmax(positions[..., 1], 1) - np.nanmin(positions[..., 1], 1))
    positions += rng.normal(scale=noise * tall, size=positions.shape)
    positions[rng.random(positions.shape[:2]) < missing] = np.nan
    return positions, np.where(np.isfinite(positions).all(-1), 0.9, 0.0)


def blocks(frames: int, *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(frames, bool)
    for first, last in ranges:
        mask[first:last] = True
    return mask


def test_swapping_twice_changes_nothing():
    rng = np.random.default_rng(0)
    positions, confidence, mask = rng.random((5, 137, 2)), rng.random((5, 137)), blocks(5, (1, 3))
    twice = swap_sides(*swap_sides(positions, confidence, mask), mask)
    np.testing.assert_array_equal(twice[0], positions)
    np.testing.assert_array_equal(twice[1], confidence)


def test_a_swap_takes_hands_along_and_leaves_the_face():
    positions, confidence = np.random.default_rng(0).random((1, 137, 2)), np.ones((1, 137))
    swapped = swap_sides(positions, confidence, np.ones(1, bool))[0]
    np.testing.assert_array_equal(swapped[:, LEFT_HAND], positions[:, RIGHT_HAND])
    np.testing.assert_array_equal(swapped[:, FACE], positions[:, FACE])
    body = [i for i in range(25) if OPENPOSE_137[i][0] in "LR"]
    np.testing.assert_array_equal(swapped[:, body], positions[:, np.asarray(MIRROR_137)[body]])
    arms_only = swap_sides(positions, confidence, np.ones(1, bool), ARMS)[0]
    np.testing.assert_array_equal(arms_only[:, LEGS], positions[:, LEGS])


@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_swapped_frames_are_found_to_the_frame(seed):
    rng = np.random.default_rng(seed)
    truth = blocks(120, (30, 58), (90, 97))
    positions, confidence = seen(walker(120, 0.3), rng, missing=0.05)
    restored, _, found = unswap(*swap_sides(positions, confidence, truth))
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_array_equal(restored, positions)


@pytest.mark.parametrize("turns", [0.5, 1.0, 2.0, 4.0])
def test_a_person_who_turns_round_is_left_alone(turns):
    for seed in range(3):
        positions, confidence = seen(walker(120, turns), np.random.default_rng(seed), missing=0.05)
        _, _, found = unswap(positions, confidence)
        assert found.sum() <= 1, seed


def test_legs_are_found_swapped_when_arms_are_not():
    positions, confidence = seen(walker(90, 0.2), np.random.default_rng(3))
    truth = blocks(90, (20, 35))
    swaps = find_swaps(*swap_sides(positions, confidence, truth, LEGS))
    np.testing.assert_array_equal(swaps.legs, truth)
    assert not swaps.arms.any()


def test_frames_torn_between_both_sides_are_stepped_over_and_trusted_less():
    positions, confidence = seen(walker(100, 0.1), np.random.default_rng(1))
    truth = blocks(100, (40, 60))
    mixed, sure = swap_sides(positions, confidence, truth)
    mixed[[40, 60]] = 0.5 * (positions + swap_sides(positions, confidence, truth | True)[0])[[40, 60]]
    _, trusted, found = unswap(mixed, sure)
    np.testing.assert_array_equal(np.delete(found, [40, 60]), np.delete(truth, [40, 60]))
    assert (trusted[[40, 60]][:, [2, 4, 5, 7]] < 0.3).all()
    assert (trusted[[30, 50]][:, [2, 4, 5, 7]] > 0.8).all()


def test_the_face_decides_where_the_majority_is_wrong():
    positions, confidence = seen(walker(100, 0.0), np.random.default_rng(4))
    across = positions[:, 5] - positions[:, 2]
    for point, side in ((FACE.start + 68, -0.2), (FACE.start + 69, 0.2)):  # right and left pupil
        positions[:, point], confidence[:, point] = positions[:, 1] + side * across, 0.9
    truth = blocks(100, (0, 70))
    _, _, found = unswap(*swap_sides(positions, confidence, truth))
    np.testing.assert_array_equal(found, truth)


def test_a_clip_in_which_nobody_is_seen_is_returned_as_it_is():
    positions, confidence = np.full((20, 137, 2), np.nan), np.zeros((20, 137))
    restored, trusted, found = unswap(positions, confidence)
    assert np.isnan(restored).all()
    assert not trusted.any()
    assert not found.any()


def test_gaps_do_not_break_the_chain():
    positions, confidence = seen(walker(100, 0.2), np.random.default_rng(5))
    truth = blocks(100, (30, 50))
    mixed, sure = swap_sides(positions, confidence, truth)
    mixed[[20, 21, 44, 45, 46]], sure[[20, 21, 44, 45, 46]] = np.nan, 0.0
    swaps = find_swaps(mixed, sure)
    present = sure.any(1)
    np.testing.assert_array_equal(swaps.arms[present], truth[present])


@pytest.mark.data
def test_captured_motion_is_sorted_right_in_98_of_100_frames(data_dir: Path):
    with np.load(data_dir / "motion" / "joints17_30fps.npz", allow_pickle=False) as data:
        relative, root = data["rel_0p1mm_i16"] * 1e-4, data["root"]
        starts, lengths = data["clip_start"], data["clip_len"]
    rng = np.random.default_rng(0)
    right = hit = injected = reported = total = 0
    for clip in rng.choice(np.flatnonzero(lengths >= 90), 24, replace=False):
        frames = slice(starts[clip], starts[clip] + 90)
        points = np.full((90, 137, 3), np.nan)
        points[:, [BODY_25.index(name) for name in JOINTS17]] = (
            relative[frames][:, list(JOINTS17.values())] + root[frames][:, None]
        )
        truth = blocks(90, (first := int(rng.integers(5, 60)), first + int(rng.integers(3, 30))))
        swaps = find_swaps(*swap_sides(*seen(points, rng, missing=0.05), truth))
        for part in (swaps.arms, swaps.legs):
            right, total = right + (part == truth).sum(), total + 90
            hit, injected, reported = hit + (part & truth).sum(), injected + truth.sum(), reported + part.sum()
    assert right / total > 0.98
    assert hit / injected > 0.95
    assert hit / reported > 0.95


def test_every_sided_joint_of_the_body_is_swapped():
    sided = {i for i, name in enumerate(OPENPOSE_137) if name[0] in "LR"}
    assert set(WHOLE_BODY.tolist()) == sided
