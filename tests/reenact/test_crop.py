"""Crops: where they lie, one scale for a shot, at rest unless the head travels, and borders that fade."""

from __future__ import annotations

import numpy as np
import pytest

from inference.protocol.errors import InputError
from inference.reenact.crop import ENLARGE, Crop, crop_of, crops_of_shot


def ramp(width: int = 300, height: int = 200) -> np.ndarray:
    """A picture whose red is the column and whose green is the row, half of either."""
    rows, columns = np.indices((height, width))
    return np.stack([columns // 2, rows // 2, np.zeros_like(rows)], -1).astype(np.uint8)


def test_a_crop_is_square_about_the_landmarks_and_enlarged() -> None:
    points = np.array([[100.0, 50.0], [140.0, 50.0], [120.0, 130.0], [np.nan, np.nan]])
    crop = crop_of(points)
    assert (crop.x, crop.y, crop.side) == (120.0, 90.0, pytest.approx(ENLARGE * 80.0))
    assert crop_of(np.array([100.0, 50.0, 140.0, 130.0])) == crop


def test_a_crop_of_its_own_size_is_the_picture_itself() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.array_equal(Crop(31.5, 31.5, 64.0).cut(picture, 64), picture)


@pytest.mark.parametrize(("side", "size"), [(40.0, 80), (120.0, 60), (160.0, 20)])
def test_a_cut_shows_what_lies_there_at_any_size(side: float, size: int) -> None:
    cut = Crop(150.0, 100.0, side).cut(ramp(), size).astype(float)
    centres = (np.arange(size) + 0.5) * side / size - 0.5 * side
    assert np.abs(cut[..., 0] - (150.0 + centres) / 2).max() < 1.6
    assert np.abs(cut[..., 1] - ((100.0 + centres) / 2)[:, None]).max() < 1.6


def test_beyond_the_border_a_picture_fades_to_its_middle_tone_and_a_mask_ends_above() -> None:
    picture = np.full((100, 100, 3), 200, np.uint8)
    picture[:, :50] = 40
    cut = Crop(50.0, -150.0, 220.0).cut(picture, 110)
    inside = picture[:10].reshape(-1, 3)
    assert np.abs(cut[0].astype(float) - np.median(inside, 0)).max() < 3
    mask = Crop(50.0, 20.0, 160.0).cut(np.full((100, 100), 255, np.uint8), 80)
    assert (mask[:29] == 0).all() and (mask[31:] == 255).all()


def test_a_head_that_stays_is_seen_by_a_crop_at_rest() -> None:
    rng = np.random.default_rng(1)
    faces = np.array([200.0, 100.0, 300.0, 200.0]) + rng.normal(size=(50, 1)) * 3
    crops = crops_of_shot(faces, np.arange(50) / 25)
    assert len(set(crops)) == 1 and crops[0].side == pytest.approx(ENLARGE * 100)


def test_a_head_that_travels_is_followed_smoothly_in_one_scale() -> None:
    times = np.arange(100) / 25
    faces = np.array([0.0, 100.0, 100.0, 200.0]) + np.stack([200 * times, 0 * times] * 2, 1)
    faces += np.random.default_rng(2).normal(size=(100, 1)) * 4
    faces[40:45] = np.nan
    crops = crops_of_shot(faces, times)
    x = np.array([crop.x for crop in crops])
    assert len({crop.side for crop in crops}) == 1
    assert np.abs(x - (50 + 200 * times)).max() < 4
    assert np.abs(np.diff(x, 2)).max() < 1.0


def test_a_shot_without_a_face_is_refused_with_its_number_of_frames() -> None:
    with pytest.raises(InputError, match="None of 7 frames"):
        crops_of_shot(np.full((7, 478, 2), np.nan), np.arange(7.0))
    with pytest.raises(InputError, match="no face"):
        crop_of(np.full((478, 2), np.nan))
