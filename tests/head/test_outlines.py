"""Outlines say where cameras stood and how far a head reaches."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from inference.core.cameras import Camera, level_rotation, pinhole, project
from inference.head.camera import nearest, stand
from inference.head.frame import CENTRE, to_sphere
from inference.head.guess import Guessed
from inference.head.outlines import clearance, outline, settle, share_known
from inference.head.prior import Span
from inference.head.seen import Seen
from inference.nets.head_shape import about, directions

SIZE = 400
FACE = CENTRE + np.random.default_rng(0).normal(size=(478, 3)) * [0.03, 0.015, 0.04] + [0.0, -0.08, -0.02]
SPAN = Span(torch.zeros(2), torch.eye(2), torch.from_numpy(to_sphere(FACE)).float(), torch.full((478, 3, 2), 0.01))


def modes() -> np.ndarray:
    """(V, 3) metres: larger all over, higher above, deeper behind; each by a centimetre."""
    rays = directions()
    return 0.01 * np.stack([np.ones(len(rays)), rays[:, 2].clip(0) ** 2, rays[:, 1].clip(0) ** 2], 1)


def radii(*errors: float) -> np.ndarray:
    """(V,) metres: a ball of 100 mm, changed by the modes."""
    return 0.1 + modes() @ np.array(errors)


def guessed(count: int = 1) -> Guessed:
    return Guessed(radii(0, 0, 0), FACE, (FACE,) * count, modes())


def camera_at(degrees: float, distance_m: float = 0.9) -> Camera:
    at = np.radians(degrees)
    eye = CENTRE + [distance_m * np.sin(at), -distance_m * np.cos(at), 0.04]
    rotation = level_rotation(CENTRE - eye)
    return replace(
        pinhole("p", (SIZE, SIZE), 1.9 / 0.9 * distance_m * SIZE), rotation=rotation, translation=-rotation @ eye
    )


def photo_of(reach: np.ndarray, degrees: float = 0.0, *, focal: bool = True, distance_m: float = 0.9) -> Seen:
    """A head that reaches so far (V,), and its face points, photographed from a side."""
    camera = camera_at(degrees, distance_m)
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2)
    local = np.concatenate([(pixels - camera.matrix[:2, 2]) / camera.matrix[0, 0], np.ones((len(pixels), 1))], 1)
    rays = local @ camera.rotation / np.linalg.norm(local, axis=1, keepdims=True)
    mask = (clearance(reach, camera.centre, rays)[0] < 0).reshape(SIZE, SIZE)
    depth = (FACE @ camera.rotation.T + camera.translation)[:, 2]
    return Seen(
        "p", np.zeros((SIZE, SIZE, 3), np.uint8), mask.astype(np.float32), project(camera, FACE),
        (depth - depth.mean()) * camera.matrix[0, 0] / depth.mean(), float(camera.matrix[0, 0]) if focal else None,
        camera.matrix[:2, 2], degrees,
    )  # fmt: skip


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
    apart, where, steep = clearance(radii(0, 0, 0), eye, rays)
    passed = np.linalg.norm(np.cross(CENTRE - eye, rays), axis=1) - 0.1
    assert apart == pytest.approx(passed, abs=1e-4) and steep == pytest.approx(1.0, abs=1e-3)
    assert where[1] @ [0, 0, 1] > 0.98


@pytest.mark.parametrize("focal", [True, False])
def test_a_head_is_found_by_its_outlines(focal: bool) -> None:
    truth = radii(0.6, 1.0, 1.2)
    placed = settle([photo_of(truth, degrees, focal=focal) for degrees in (0.0, 60.0, -60.0)], guessed(3), SPAN)
    assert placed.radii is not None
    above = (directions()[:, 1] > 0.2) & (directions()[:, 2] > 0)
    before, after = (np.abs(one - truth)[above].mean() for one in (radii(0, 0, 0), placed.radii))
    assert after < 0.3 * before
    for camera, degrees in zip(placed.cameras, (0.0, 60.0, -60.0), strict=True):
        assert np.linalg.norm(camera.centre - camera_at(degrees).centre) < (0.05 if focal else 0.2)
    assert np.array_equal(placed.face, FACE) and np.abs(placed.z).max() < 1e-6


def test_something_beside_the_head_hardly_moves_it() -> None:
    truth = radii(0.0, 0.5, 0.5)
    photo = photo_of(truth)
    alone = settle([photo], guessed(), SPAN).radii
    beside = photo.mask.copy()
    cv2.circle(beside, (310, 210), 40, (1.0,), -1)
    assert beside.sum() > 1.05 * photo.mask.sum()
    disturbed = settle([replace(photo, mask=beside)], guessed(), SPAN).radii
    assert alone is not None and disturbed is not None
    assert np.abs(disturbed - alone)[directions()[:, 2] > 0.5].mean() < 0.0025


def test_a_picture_without_an_outline_leaves_the_look_as_it_is() -> None:
    photo = photo_of(radii(0, 0, 0))
    for mask in (np.ones_like(photo.mask), np.zeros_like(photo.mask)):
        placed = settle([replace(photo, mask=mask)], guessed(), SPAN)
        assert placed.radii is not None and np.abs(placed.radii - 0.1).max() < 1e-3


def test_edges_of_the_picture_and_shoulders_are_no_outline() -> None:
    photo = photo_of(radii(0, 0, 0))
    mask = photo.mask.copy()
    mask[240:310, 160:240] = mask[300:, :] = 1.0
    mask[20:120, 10:60] = 1.0  # somebody else
    places = outline(replace(photo, mask=mask), stand(photo, FACE, 1.0))
    assert len(places) > 100 and places[:, 1].max() < 300 and places.min() > 60


def test_the_likeliest_head_of_points_is_near_them() -> None:
    wanted = np.array([0.8, 0.0])
    face = FACE + 0.21 * 0.01 * wanted.sum()
    found = nearest(SPAN, face)
    assert found.sum() == pytest.approx(wanted.sum(), abs=0.02) and found[0] == pytest.approx(found[1])


def test_what_a_picture_was_cut_to_is_no_outline() -> None:
    photo = photo_of(radii(1.0, 0.5, 0.5))
    placed = settle([replace(photo, edge=np.zeros(photo.mask.shape, bool))], guessed(), SPAN)
    assert placed.radii is not None and np.abs(placed.radii - 0.1).max() < 1e-3


def test_a_camera_far_off_is_found() -> None:
    photo = photo_of(radii(0, 0, 0), distance_m=20.0)
    placed = settle([photo], guessed(), SPAN)
    assert np.linalg.norm(placed.cameras[0].centre) == pytest.approx(20.0, rel=0.1)


def test_necks_are_not_known_and_heads_are() -> None:
    share, height = share_known(np.full(len(directions()), 0.16)), CENTRE[2] + 0.16 * directions()[:, 2]
    assert (share[height > -0.06] == 1).all() and (share[height < -0.11] == 0).all()
