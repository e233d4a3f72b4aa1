"""What photos of a head have in common says how far it reaches."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from understudy.tests.head import balls

from inference.head.matches import Crossing, beyond, crossing, matches
from inference.nets.head_shape import directions

TRUTH = balls.radii(0, 0, 0)


def found(*degrees: float, reach: np.ndarray = TRUTH) -> list[Crossing]:
    """Crossings of photos of a ball from true cameras, as a head that reaches so far (V,) has them."""
    photos, cameras = [balls.photo_of(TRUTH, each) for each in degrees], [balls.camera_at(each) for each in degrees]
    return [crossing(m, cameras[m.first], cameras[m.second], reach) for m in matches(photos, cameras, reach)]


def test_lines_of_sight_cross_on_the_surface() -> None:
    both = found(0.0, 40.0)
    assert len(both) == 2
    for each in both:
        assert len(each.gap) > 300 and np.median(np.abs(each.gap)) < 2e-4 and np.median(np.abs(each.over)) < 3e-4
        assert each.sine == pytest.approx(np.sin(np.radians(40)), abs=0.1)


@pytest.mark.parametrize("wrong_m", [0.002, -0.002])
def test_they_cross_where_the_surface_is_and_not_where_it_was_believed(wrong_m: float) -> None:
    both = found(0.0, 40.0, reach=TRUTH + wrong_m)
    for each in both:
        assert np.median(each.over) == pytest.approx(-wrong_m, abs=4e-4)
    more = beyond(both, [1.0, 1.0], TRUTH + wrong_m)
    front = directions() @ [np.sin(np.radians(20)), -np.cos(np.radians(20)), 0] > 0.95
    assert more[front].mean() == pytest.approx(-wrong_m, abs=1e-3) and np.abs(more[directions()[:, 1] > 0]).max() < 1e-6


def test_sides_that_show_different_things_have_nothing_in_common() -> None:
    assert not found(0.0, 140.0) and not found(0.0, 3.0) and not found(0.0)


def test_where_nothing_is_to_be_seen_nothing_is_in_common() -> None:
    photos = [balls.photo_of(TRUTH, each) for each in (0.0, 40.0)]
    plain = [replace(photo, image=np.full_like(photo.image, 90)) for photo in photos]
    assert not matches(plain, [balls.camera_at(0.0), balls.camera_at(40.0)], TRUTH)


def test_coarse_photos_are_known_to_be_coarse() -> None:
    photos, cameras = (
        [balls.photo_of(TRUTH, each) for each in (0.0, 40.0)],
        [balls.camera_at(each) for each in (0.0, 40.0)],
    )
    half, smaller = np.diag([0.5, 0.5, 1.0]), (balls.SIZE // 2, balls.SIZE // 2)
    shrunk = [replace(p, image=cv2.resize(p.image, smaller), mask=cv2.resize(p.mask, smaller)) for p in photos]
    less = [replace(camera, matrix=half @ camera.matrix, size=smaller) for camera in cameras]
    fine, coarse = (matches(*both, TRUTH)[0].coarse for both in ((photos, cameras), (shrunk, less)))
    assert coarse == pytest.approx(2 * fine, rel=0.1) and fine < 2


def test_a_cancel_is_heard_at_every_pair() -> None:
    degrees, calls = (-40.0, 0.0, 40.0), []
    photos, cameras = [balls.photo_of(TRUTH, each) for each in degrees], [balls.camera_at(each) for each in degrees]
    matches(photos, cameras, TRUTH, lambda: calls.append(1))
    assert len(calls) == 3
