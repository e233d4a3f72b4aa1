"""Looks, outlines and what photos have in common say where cameras stood and how far a head reaches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from understudy.tests.head import balls

from inference.core.cameras import project
from inference.head.camera import Placed, nearest, stand
from inference.head.frame import CENTRE
from inference.head.outlines import outline
from inference.head.seen import Seen
from inference.head.settle import Outline, settle
from inference.nets.head_shape import about, directions
from inference.protocol.errors import WeightsError


def plain(photo: Seen) -> Seen:
    """With nothing to be seen but its outline."""
    return replace(photo, image=np.full_like(photo.image, 128))


@pytest.mark.parametrize("focal", [True, False])
def test_a_head_is_found_by_its_outlines(focal: bool) -> None:
    truth = balls.radii(0.6, 1.0, 1.2)
    photos = [plain(balls.photo_of(truth, degrees, focal=focal)) for degrees in (0.0, 60.0, -60.0)]
    placed = settle(photos, balls.guessed(3), balls.SPAN)
    assert placed.radii is not None
    above = (directions()[:, 1] > 0.2) & (directions()[:, 2] > 0)
    before, after = (np.abs(one - truth)[above].mean() for one in (balls.radii(0, 0, 0), placed.radii))
    assert after < 0.3 * before
    for camera, degrees in zip(placed.cameras, (0.0, 60.0, -60.0), strict=True):
        assert np.linalg.norm(camera.centre - balls.camera_at(degrees).centre) < (0.05 if focal else 0.2)
    assert np.array_equal(placed.face, balls.FACE) and np.abs(placed.z).max() < 1e-6


def test_something_beside_the_head_hardly_moves_it() -> None:
    truth = balls.radii(0.0, 0.5, 0.5)
    photo = balls.photo_of(truth)
    alone = settle([photo], balls.guessed(), balls.SPAN).radii
    beside = photo.mask.copy()
    cv2.circle(beside, (310, 210), 40, (1.0,), -1)
    assert beside.sum() > 1.05 * photo.mask.sum()
    disturbed = settle([replace(photo, mask=beside)], balls.guessed(), balls.SPAN).radii
    assert alone is not None and disturbed is not None
    assert np.abs(disturbed - alone)[directions()[:, 2] > 0.5].mean() < 0.0025


def test_a_picture_without_an_outline_leaves_the_look_as_it_is() -> None:
    photo = balls.photo_of(balls.radii(0, 0, 0))
    for mask in (np.ones_like(photo.mask), np.zeros_like(photo.mask)):
        placed = settle([replace(photo, mask=mask)], balls.guessed(), balls.SPAN)
        assert placed.radii is not None and np.abs(placed.radii - 0.1).max() < 1e-3


@pytest.mark.parametrize("degrees", [30.0, 55.0, -65.0])
def test_heads_that_are_turned_come_out_no_larger(degrees: float) -> None:
    """The detector has their points too near together, and cameras would stand too far away."""
    placed = settle([plain(balls.photo_of(balls.radii(0, 0, 0), degrees))], balls.guessed(), balls.SPAN)
    assert placed.radii is not None and np.abs(placed.radii - 0.1).mean() < 1e-3
    assert np.linalg.norm(placed.cameras[0].centre - balls.camera_at(degrees).centre) < 0.01


def test_the_likeliest_head_of_points_is_near_them() -> None:
    wanted = np.array([0.8, 0.0])
    face = balls.FACE + 0.21 * 0.01 * wanted.sum()
    found = nearest(balls.SPAN, face)
    assert found.sum() == pytest.approx(wanted.sum(), abs=0.02) and found[0] == pytest.approx(found[1])


def test_what_a_picture_was_cut_to_is_no_outline() -> None:
    photo = balls.photo_of(balls.radii(1.0, 0.5, 0.5))
    placed = settle([replace(photo, edge=np.zeros(photo.mask.shape, bool))], balls.guessed(), balls.SPAN)
    assert placed.radii is not None and np.abs(placed.radii - 0.1).max() < 1e-3


def test_a_camera_far_off_is_found() -> None:
    photo = balls.photo_of(balls.radii(0, 0, 0), distance_m=20.0)
    placed = settle([photo], balls.guessed(), balls.SPAN)
    assert np.linalg.norm(placed.cameras[0].centre) == pytest.approx(20.0, rel=0.1)


def dented(depth: float = 0.0015) -> np.ndarray:
    """(V,) metres: a ball whose face is dented, in no way that modes know."""
    return balls.radii(0, 0, 0) - depth * (-directions()[:, 1]).clip(0) ** 12


def test_what_photos_have_in_common_bends_the_face() -> None:
    truth, front = dented(), directions()[:, 1] < -0.9
    photos = [balls.photo_of(truth, degrees) for degrees in (0.0, 40.0, -40.0)]
    alone, three = settle(photos[:1], balls.guessed(), balls.SPAN), settle(photos, balls.guessed(3), balls.SPAN)
    assert alone.radii is not None and three.radii is not None
    before, after = ((found.radii - truth)[front].std() for found in (alone, three))  # faces know no size
    assert after < 0.5 * before
    towards = balls.FACE - CENTRE
    moved = three.face - balls.FACE
    assert np.abs(np.cross(moved, towards)).max() < 1e-9 and (moved * towards).sum(1).mean() < 0


def test_a_photo_of_something_else_has_nothing_in_common() -> None:
    photos = [balls.photo_of(dented(), degrees) for degrees in (0.0, 40.0)]
    noise = np.random.default_rng(0).integers(0, 255, photos[1].image.shape, np.uint8)
    placed = settle([photos[0], replace(photos[1], image=noise)], balls.guessed(2), balls.SPAN)
    assert placed.alone == (0, 1) and settle(photos, balls.guessed(2), balls.SPAN).alone == ()
    assert placed.radii is not None and np.abs(placed.radii - 0.1)[directions()[:, 1] < -0.8].max() < 1.5e-3


def test_a_cancel_is_heard_while_cameras_are_found() -> None:
    def heard() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settle([balls.photo_of(balls.radii(0, 0, 0))], balls.guessed(), balls.SPAN, heard)


def test_the_last_digits_of_a_look_hardly_matter() -> None:
    look = balls.guessed(2)
    lumps = 0.003 * np.random.default_rng(1).normal(size=len(directions()))  # a look's surface is not smooth
    photos = [balls.photo_of(balls.radii(0.5, 0.8, 0.3), degrees) for degrees in (0.0, 40.0)]
    first = settle(photos, replace(look, radii=look.radii + lumps), balls.SPAN)
    again = settle(photos, replace(look, radii=look.radii + lumps + 1e-10), balls.SPAN)
    assert first.radii is not None and again.radii is not None
    assert np.abs(first.radii - again.radii).mean() < 5e-5
    for one, other in zip(first.cameras, again.cameras, strict=True):
        assert np.linalg.norm(one.centre - other.centre) < 5e-3


def test_derivatives_of_outlines_are_those_of_their_values() -> None:
    look = balls.guessed()
    look = replace(look, radii=look.radii + 0.002 * np.random.default_rng(1).normal(size=len(look.radii)))
    photo = balls.photo_of(balls.radii(0.5, 0.8, 0.3))
    pose = stand(photo, balls.FACE, 1.0)
    evidence = Outline((0,), photo, outline(photo, pose))
    found = evidence.missed([pose], look.radii)
    assert found.towards is not None and found.by_metre is not None
    corners, counts = about(found.towards)
    expected = (counts * found.by_metre) * look.errors[corners, 0]
    there, back = (
        evidence.missed([pose], look.radii + way * look.errors[:, 0], found.steep).values for way in (0.01, -0.01)
    )
    assert np.median(np.abs((there - back)[:, 0] / 0.02 - expected.sum(1))) < 0.03 * np.abs(expected.sum(1)).mean()


def test_what_was_placed_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    photos = [balls.photo_of(balls.radii(0.5, 0.2, 0), degrees) for degrees in (0.0, 40.0)]
    placed = settle(photos, balls.guessed(2), balls.SPAN)
    placed.save(tmp_path / "placed.safetensors")
    kept = Placed.load(tmp_path / "placed.safetensors", photos)
    for one, other in ((placed.z, kept.z), (placed.face, kept.face), (placed.radii, kept.radii)):
        assert one is not None and other is not None and np.array_equal(one, other)
    for camera, other in zip(placed.cameras, kept.cameras, strict=True):
        assert np.array_equal(project(camera, balls.FACE), project(other, balls.FACE)) and camera.size == other.size
    with pytest.raises(WeightsError, match="damaged"):
        Placed.load(tmp_path / "placed.safetensors", photos[:1])
