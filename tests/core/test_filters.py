"""Filters against signals whose truth, noise and gaps are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.filters import (
    OneEuro,
    fill_gaps,
    fill_rotations,
    find_spikes,
    interpolate,
    median,
    moving_average,
    noise_level,
    smooth_positions,
    smooth_rotations,
    whittaker,
)
from inference.core.rotations import conjugate, multiply, quaternion_from_rotvec, rotvec_from_quaternion

FPS = 30.0


def wave(frames=150, channels=4):
    time = np.arange(frames)[:, None] / FPS
    phases = np.arange(channels)
    return 0.3 * np.stack([np.sin(2 * time + phases), np.cos(3 * time + phases), 0.5 * time + 0 * phases], axis=-1)


def noise(shape, sigma=0.01, seed=0):
    return sigma * np.random.default_rng(seed).standard_normal(shape)


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(5, 40), order=st.integers(1, 3), strength=st.floats(1e-3, 1e4), seed=st.integers(0, 1000))
def test_the_banded_solution_is_the_dense_one(frames, order, strength, seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.standard_normal((frames, 2, 3)), rng.uniform(0.1, 1.0, (frames, 2))
    strengths = strength * rng.uniform(0.1, 1.0, (frames - order, 2))
    found = whittaker(values, weights, strengths, order=order)
    differences = np.diff(np.eye(frames), order, axis=0)
    for channel in range(2):
        left = np.diag(weights[:, channel]) + differences.T @ (strengths[:, channel, None] * differences)
        wanted = np.linalg.solve(left, weights[:, channel, None] * values[:, channel])
        np.testing.assert_allclose(found[:, channel], wanted, rtol=1e-5, atol=1e-6)


def test_clean_motion_stays_as_it_is():
    truth = wave()
    assert np.abs(smooth_positions(truth, np.ones(truth.shape[:2]), FPS) - truth).max() < 1e-4


def test_noise_and_second_differences_fall():
    truth = wave()
    noisy = truth + noise(truth.shape)
    smooth = smooth_positions(noisy, np.ones(truth.shape[:2]), FPS)
    assert rms(smooth - truth) < 0.65 * rms(noisy - truth)
    assert rms(np.diff(smooth, 2, axis=0)) ** 2 < rms(np.diff(noisy, 2, axis=0)) ** 2 / 5


def test_smoothing_has_no_delay():
    truth = wave()
    smooth = smooth_positions(truth + noise(truth.shape), np.ones(truth.shape[:2]), FPS)
    ahead, behind = rms(smooth[1:] - truth[:-1]), rms(smooth[:-1] - truth[1:])
    assert ahead == pytest.approx(behind, rel=0.1)


def test_more_smoothing_is_smoother_and_none_is_none():
    noisy = wave() + noise(wave().shape)
    weights = np.ones(noisy.shape[:2])
    energies = [rms(np.diff(smooth_positions(noisy, weights, FPS, amount=a), 2, axis=0)) for a in (0, 0.25, 0.5, 1)]
    assert energies == sorted(energies, reverse=True)
    np.testing.assert_array_equal(smooth_positions(noisy, weights, FPS, amount=0.0), noisy)


def test_a_sudden_stop_stays_sudden():
    time = np.arange(120) / FPS
    truth = np.where(time < 2.0, 3.0 * time, 6.0)[:, None, None] * np.ones((1, 1, 3))
    noisy = truth + noise(truth.shape, 0.005)
    smooth = smooth_positions(noisy, np.ones((120, 1)), FPS)
    assert np.abs(smooth - truth).max() < 0.04


def test_samples_of_little_confidence_count_little():
    truth = wave()
    doubtful = truth + noise(truth.shape, 0.005)
    doubtful[60:66, 0] += 0.05
    weights = np.ones(truth.shape[:2])
    blind = np.abs(smooth_positions(doubtful, weights, FPS) - truth)[60:66, 0].mean()
    weights[60:66, 0] = 0.02
    assert np.abs(smooth_positions(doubtful, weights, FPS) - truth)[60:66, 0].mean() < 0.6 * blind


def test_rotations_are_smoothed_across_half_turns():
    time = np.arange(150) / FPS
    truth = quaternion_from_rotvec(np.stack([0 * time, 4 * time, 0 * time], axis=-1))[:, None]
    noisy = multiply(truth, quaternion_from_rotvec(noise((150, 1, 3), 0.05)))
    noisy *= np.where(np.random.default_rng(1).random((150, 1, 1)) < 0.5, -1.0, 1.0)
    smooth = smooth_rotations(noisy, np.ones((150, 1)), FPS)
    left = np.linalg.norm(rotvec_from_quaternion(multiply(conjugate(truth), smooth)), axis=-1)
    assert left.mean() < 0.05
    assert np.sum(smooth[1:] * smooth[:-1], axis=-1).min() > 0.9


def test_the_noise_level_is_measured():
    truth = wave(400)
    known = np.random.default_rng(0).random(truth.shape[:2]) < 0.9
    np.testing.assert_allclose(noise_level(truth + noise(truth.shape, 0.02), known), 0.02, rtol=0.15)


def test_spikes_are_found_and_fast_motion_is_not():
    truth = wave() * 4.0
    broken = truth + noise(truth.shape, 0.002)
    broken[50, 0] += 0.4
    broken[80:82, 1] -= 0.3
    spikes = find_spikes(broken, np.ones(truth.shape[:2], bool))
    assert [tuple(p) for p in np.argwhere(spikes)] == [(50, 0), (80, 1), (81, 1)]


def test_short_gaps_are_filled_and_long_ones_left():
    truth = wave()
    known = np.ones(truth.shape[:2], bool)
    known[40:48, 0] = known[60:100, 1] = known[:5, 2] = False
    known[:, 3] = False
    filled, there = fill_gaps(np.where(known[..., None], truth, np.nan), known, 10)
    assert np.abs(filled[:, 0] - truth[:, 0]).max() < 0.005
    assert np.isnan(filled[60:100, 1]).all()
    np.testing.assert_allclose(filled[:5, 2], np.broadcast_to(truth[5, 2], (5, 3)))
    assert not there[:, 3].any()
    np.testing.assert_array_equal(there, np.isfinite(filled).all(axis=-1))


def test_rotations_in_a_long_gap_relax_and_return():
    turn = quaternion_from_rotvec(np.tile([1.0, 0.0, 0.0], (100, 1, 1)))
    relaxed = quaternion_from_rotvec(np.array([[0.0, 0.0, 0.5]]))
    known = np.ones((100, 1), bool)
    known[20:80] = False
    filled = fill_rotations(turn, known, relaxed, max_gap=10, decay=6.0)
    np.testing.assert_allclose(filled[50, 0], relaxed[0], atol=0.02)
    steps = rotvec_from_quaternion(multiply(conjugate(filled[:-1]), filled[1:]))
    assert np.linalg.norm(steps, axis=-1).max() < 0.3
    never = fill_rotations(turn, np.zeros((100, 1), bool), relaxed, max_gap=10, decay=6.0)
    np.testing.assert_allclose(never, np.broadcast_to(relaxed, never.shape))


def test_rotations_in_a_short_gap_are_interpolated():
    truth = quaternion_from_rotvec(np.linspace(0, 2, 50)[:, None, None] * [0.0, 1.0, 0.0])
    known = np.ones((50, 1), bool)
    known[20:26] = False
    filled = fill_rotations(truth, known, truth[:1, 0], max_gap=10, decay=6.0)
    np.testing.assert_allclose(filled, truth, atol=1e-9)


def test_medians_count_only_what_is_known():
    values, known = np.array([[1.0], [2.0], [3.0], [np.nan]]), np.array([[True], [True], [True], [False]])
    assert median(values, known)[0] == 2.0
    assert median(values, np.zeros_like(known))[0] == 0.0


def test_moving_averages_are_shorter_at_the_ends():
    np.testing.assert_allclose(moving_average(np.arange(5.0), 1), [0.5, 1.0, 2.0, 3.0, 3.5])


def test_interpolation_holds_the_ends():
    values = np.array([[0.0], [1.0], [0.0], [3.0], [0.0]])
    known = np.array([False, True, False, True, False])
    np.testing.assert_allclose(interpolate(values, known)[:, 0], [1.0, 1.0, 2.0, 3.0, 3.0])


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_a_few_frames_pass_through(frames):
    values = wave(frames)
    np.testing.assert_array_equal(smooth_positions(values, np.ones(values.shape[:2]), FPS), values)
    assert not find_spikes(values, np.ones(values.shape[:2], bool)).any()


def followed(values, step_s, **options):
    """(T,) values through a causal filter."""
    euro, now, out = OneEuro(**options), values[0], []
    for value in values:
        now = now + float(euro.gain(np.abs(np.array([value - now])), step_s)[0]) * (value - now)
        out.append(now)
    return np.array(out)


def test_a_causal_filter_calms_what_rests_and_follows_what_moves():
    noise = np.random.default_rng(0).normal(scale=0.01, size=300)
    options = {"cutoff_hz": 1.0, "rise_hz": 3.0}
    still = followed(noise, 1 / FPS, **options)
    assert still[30:].std() < 0.5 * noise.std()
    moving = np.arange(300) * 0.1  # three units a second
    assert np.abs(followed(moving, 1 / FPS, **options) - moving)[60:].max() < 0.1 * 1.5, "little more than a frame late"


def test_a_causal_filter_is_the_same_at_any_rate():
    ends = [followed(np.ones(round(2 * fps)) * np.r_[0.0, np.ones(round(2 * fps) - 1)], 1 / fps,
                     cutoff_hz=1.0, rise_hz=0.0)[round(fps / 4)] for fps in (30, 60, 240)]  # fmt: skip
    assert np.ptp(ends) < 0.03


def test_a_leap_opens_a_causal_filter_no_further_than_the_fastest_motion():
    leap = np.zeros(60)
    leap[30] = 5.0
    wild = followed(leap, 1 / FPS, cutoff_hz=1.0, rise_hz=1.0).max()
    tame = followed(leap, 1 / FPS, cutoff_hz=1.0, rise_hz=1.0, fastest=5.0).max()
    assert tame < 0.6 * wild
