"""What lies between descriptors, and what is carried over from one person to another."""

from __future__ import annotations

import numpy as np
import pytest

from inference.core.descriptors import blend, carry_over, hold_and_fade, only, slerp, smooth
from inference.protocol.errors import InputError

RANDOM = np.random.default_rng(0)
A, B, C = RANDOM.standard_normal((3, 16))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


@pytest.mark.parametrize("along", [0.0, 0.25, 0.5, 1.0, 1.4])
def test_slerp_turns_evenly_and_changes_length_evenly(along: float) -> None:
    found = slerp(A, B, along)
    assert angle(A, found) == pytest.approx(along * angle(A, B), abs=1e-6)
    lengths = np.linalg.norm(A), np.linalg.norm(B)
    assert np.linalg.norm(found) == pytest.approx(lengths[0] + along * (lengths[1] - lengths[0]))


def test_slerp_between_equals_and_opposites_is_finite() -> None:
    assert np.allclose(slerp(A, A, 0.3), A)
    assert np.isfinite(slerp(A, -A, 0.5)).all()
    assert np.allclose(slerp(np.zeros(16), B, 1.0), B)


def test_keyed_weights_give_the_kept_descriptors_and_slerp_between_two() -> None:
    kept = np.stack([A, B, C])
    weights = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 2, 0], [0, 0, 0.3], [0, 0, 0]])
    mixed = blend(kept, weights)
    assert np.allclose(mixed[[0, 2, 3]], kept)
    assert np.allclose(mixed[1], slerp(A, B, 0.5))
    assert np.allclose(mixed[4], mixed[3])  # nothing is asked for: what was before stays


def test_without_any_weight_at_the_beginning_the_first_one_counts() -> None:
    assert np.allclose(blend(np.stack([A, B]), np.zeros((2, 2))), A)


def test_strength_goes_from_the_own_pose_to_the_drivers() -> None:
    driver = np.stack([B, C])
    assert np.allclose(carry_over(driver, A, strength=0.0, reference=None, keep=None), A)
    assert np.allclose(carry_over(driver, A, strength=1.0, reference=None, keep=None), driver)
    half = carry_over(driver, A, strength=0.5, reference=None, keep=None)
    assert angle(A, half[0]) == pytest.approx(0.5 * angle(A, B))


def test_relative_mode_leaves_the_own_pose_where_the_driver_is_at_rest() -> None:
    found = carry_over(np.stack([B, C]), A, strength=1.0, reference=B, keep=None)
    assert np.allclose(found, [A, A + C - B])


def test_a_region_moves_what_is_read_there_and_nothing_else() -> None:
    names = ["jawOpen", "mouthSmileLeft", "eyeBlinkLeft", "browDownLeft", "rotation_x"]
    weight = np.linalg.qr(RANDOM.standard_normal((16, 5)))[0].T
    keep = only("lips", weight, names)
    change = carry_over(B[None], A, strength=1.0, reference=None, keep=keep)[0] - A
    read, wanted = weight @ change, weight @ (B - A)
    assert np.allclose(read[:2], wanted[:2], rtol=0.02) and np.allclose(read[2:], 0, atol=1e-9)
    eyes = weight @ (only("eyes", weight, names) @ (B - A))
    assert np.allclose(eyes[[0, 1, 4]], 0, atol=1e-9) and np.allclose(eyes[2:4], wanted[2:4], rtol=0.02)


def test_a_region_that_nothing_reads_is_a_sentence() -> None:
    with pytest.raises(InputError, match="eyes"):
        only("eyes", np.ones((1, 16)), ["jawOpen"])


@pytest.mark.parametrize("fps", [4, 25, 120])
def test_smoothing_takes_jitter_out_and_keeps_what_is_slow_at_every_rate(fps: int) -> None:
    times = np.arange(4 * fps) / fps
    slow = np.sin(0.5 * times)[:, None]
    noisy = slow + 0.1 * RANDOM.standard_normal(slow.shape)
    found = smooth(noisy, times, 0.15)
    if fps > 4:
        assert np.abs(np.diff(found, 2, axis=0)).mean() < 0.5 * np.abs(np.diff(noisy, 2, axis=0)).mean()
    assert np.abs(smooth(slow, times, 0.15) - slow)[fps:-fps].max() < 0.02
    assert np.array_equal(smooth(noisy, times, 0.0), noisy)


def test_where_nothing_is_seen_the_last_is_held_and_fades_and_the_next_fades_in() -> None:
    seen = np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], bool)
    times = np.arange(9) / 10
    taken, opacity = hold_and_fade(seen, times, hold_s=0.15, fade_s=0.2)
    assert taken.tolist() == [1, 1, 2, 2, 2, 2, 7, 7, 7]
    assert np.allclose(opacity, [1, 1, 1, 1, 0.75, 0.25, 0.5, 1, 1])


def test_no_picture_appears_or_goes_at_once_and_a_short_gap_is_only_held() -> None:
    times = np.arange(60) / 10
    seen = (times < 0.95) | (times > 2.95)
    taken, opacity = hold_and_fade(seen, times, hold_s=0.5, fade_s=0.5)
    assert np.abs(np.diff(opacity)).max() < 0.21 and opacity[20] == 0
    assert set(taken[seen] - np.flatnonzero(seen)) == {0} and taken[10] == 9 and taken[29] == 30
    seen = (times < 0.95) | (times > 1.35)
    taken, opacity = hold_and_fade(seen, times, hold_s=0.5, fade_s=0.5)
    assert (opacity == 1).all() and (taken[10:14] == 9).all()


def test_without_an_end_to_holding_the_last_one_stands_for_all() -> None:
    taken, opacity = hold_and_fade(np.array([0, 1, 0, 0, 1], bool), np.arange(5.0), hold_s=np.inf, fade_s=0.5)
    assert taken.tolist() == [1, 1, 1, 1, 4] and (opacity == 1).all()
