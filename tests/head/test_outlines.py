"""Outlines say how far a head reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from understudy.tests.head import balls

from inference.head.camera import stand
from inference.head.frame import CENTRE
from inference.head.outlines import clearance, outline
from inference.nets.head_shape import about, directions


def test_values_between_directions_are_those_of_a_slope() -> None:
    rays = np.random.default_rng(1).normal(size=(200, 3)) - [0, 1, 0]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rays = rays[np.abs(np.degrees(np.arccos(-rays[:, 1])) - 80) < 70]
    corners, counts = about(rays)
    assert counts.sum(1) == pytest.approx(1) and counts.min() >= 0
    assert np.abs((directions()[corners] * counts[..., None]).sum(1) - rays).max() < 0.01


def test_rays_pass_a_ball_by_what_they_pass_it() -> None:
    eye = CENTRE + [0.0, -1.0, 0.0]
    aims = CENTRE + np.array([[0.08, 0, 0], [0.0, 0, 0.13], [0.3, 0, 0]])
    rays = (aims - eye) / np.linalg.norm(aims - eye, axis=1, keepdims=True)
    apart, where, steep = clearance(balls.radii(0, 0, 0), eye, rays)
    passed = np.linalg.norm(np.cross(CENTRE - eye, rays), axis=1) - 0.1
    assert apart == pytest.approx(passed, abs=1e-4) and steep == pytest.approx(1.0, abs=1e-3)
    assert where[1] @ [0, 0, 1] > 0.98


def test_edges_of_the_picture_and_shoulders_are_no_outline() -> None:
    photo = balls.photo_of(balls.radii(0, 0, 0))
    mask = photo.mask.copy()
    mask[240:310, 160:240] = mask[300:, :] = 1.0
    mask[20:120, 10:60] = 1.0  # somebody else
    places = outline(replace(photo, mask=mask), stand(photo, balls.FACE, 1.0))
    assert len(places) > 100 and places[:, 1].max() < 300 and places.min() > 60
