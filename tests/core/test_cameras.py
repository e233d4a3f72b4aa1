"""Projection agrees with OpenCV, an independent implementation."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.core.cameras import (
    Camera,
    as_brown,
    distort,
    look_at_rotation,
    normalise,
    pinhole,
    project,
    turned,
    undistort,
    unproject,
)


def _camera(seed: int) -> Camera:
    rng = np.random.default_rng(seed)
    matrix = np.array([[rng.uniform(700, 1800), 0, rng.uniform(400, 700)], [0, rng.uniform(700, 1800), 900], [0, 0, 1]])
    distortion = rng.normal(scale=[0.1, 0.05, 0.002, 0.002, 0.01])
    rotation = Rotation.random(random_state=seed).as_matrix()
    return Camera("cam", (1080, 1920), matrix, distortion, rotation, np.array([*rng.normal(size=2), 5.0]))


@given(st.integers(0, 10_000))
def test_projection_is_opencvs(seed: int) -> None:
    camera = _camera(seed)
    points = np.random.default_rng(seed + 1).normal(scale=0.5, size=(20, 3))
    rotvec = cv2.Rodrigues(camera.rotation)[0]
    expected = cv2.projectPoints(points, rotvec, camera.translation, camera.matrix, camera.distortion)[0][:, 0]
    assert np.allclose(project(camera, points), expected, atol=1e-6)


@given(st.integers(0, 10_000))
def test_undistortion_reverses_distortion(seed: int) -> None:
    camera = _camera(seed)
    straight = np.random.default_rng(seed).uniform(-0.4, 0.4, size=(30, 2))
    pixels = distort(camera, straight) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
    assert np.allclose(normalise(camera, pixels), straight, atol=1e-4)
    assert np.allclose(undistort(camera, pixels), straight @ camera.matrix[:2, :2].T + camera.matrix[:2, 2], atol=0.2)


@given(st.integers(0, 10_000), st.integers(-3, 5))
def test_a_turned_camera_sees_the_turned_picture(seed: int, turns: int) -> None:
    camera = _camera(seed)
    points = np.random.default_rng(seed + 1).normal(scale=0.3, size=(20, 3))
    there, other = turned(camera, turns), project(camera, points)
    expected, (width, height) = other, camera.size
    for _ in range(turns % 4):
        expected = np.stack([expected[:, 1], width - 1 - expected[:, 0]], 1)
        width, height = height, width
    assert there.size == (width, height) and np.allclose(project(there, points), expected, atol=1e-6)
    assert np.allclose(there.centre, camera.centre)


@given(st.integers(0, 10_000))
def test_a_pixel_and_a_depth_are_a_place(seed: int) -> None:
    camera = replace(_camera(seed), distortion=np.zeros(5))
    points = np.random.default_rng(seed + 1).normal(scale=0.5, size=(4, 5, 3))
    depth = (points @ camera.rotation.T + camera.translation)[..., 2]
    assert np.allclose(unproject(camera, project(camera, points), depth), points, atol=1e-9)


def test_an_action_cameras_outer_picture_has_its_rays() -> None:
    lens = np.array([-0.264, 0.077, 0.0003, -0.0002, -0.0108])
    camera = replace(pinhole("cam", (2704, 1520), 1350.0), distortion=lens)
    straight = np.stack(np.meshgrid(np.linspace(-1.2, 1.2, 25), np.linspace(-0.6, 0.6, 13)), -1)
    pixels = distort(camera, straight) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
    assert (np.abs(pixels - camera.matrix[:2, 2]) < [1352, 760]).all()  # all of it is seen
    assert np.allclose(normalise(camera, pixels), straight, atol=2e-3)


def _wide(seed: int, kind: str) -> Camera:
    rng = np.random.default_rng(seed)
    if kind == "fisheye":
        lens = rng.normal(scale=[0.03, 0.01, 0.003, 0.001])
    else:
        lens = rng.normal(scale=[0.05, 0.03, 0.001, 0.001, 0.005, 0.05, 0.02, 0.005, 1e-3, 1e-3, 1e-3, 1e-3])
    return replace(_camera(seed), distortion=lens[: {"rational": 8, "prism": 12, "fisheye": 4}[kind]],
                   fisheye=kind == "fisheye")  # fmt: skip


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["rational", "prism", "fisheye"]))
def test_other_lenses_are_opencvs_too(seed: int, kind: str) -> None:
    camera = _wide(seed, kind)
    points = np.random.default_rng(seed + 1).normal(scale=0.5, size=(20, 3))
    rotvec = cv2.Rodrigues(camera.rotation)[0]
    by = cv2.fisheye.projectPoints if camera.fisheye else cv2.projectPoints
    given_points = points[:, None] if camera.fisheye else points
    arguments = (rotvec, camera.translation, camera.matrix, camera.distortion)
    assert np.allclose(project(camera, points), by(given_points, *arguments)[0].reshape(-1, 2), atol=1e-6)


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["rational", "prism", "fisheye"]))
def test_other_lenses_are_reversed_and_kept(seed: int, kind: str) -> None:
    camera = _wide(seed, kind)
    reach = 1.5 if kind == "fisheye" else 0.5
    straight = np.random.default_rng(seed).uniform(-reach, reach, size=(30, 2))
    pixels = distort(camera, straight) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
    assert np.allclose(normalise(camera, pixels), straight, atol=1e-5)
    again = Camera.from_header(camera.to_header())
    assert again.fisheye == camera.fisheye and np.array_equal(again.distortion, camera.distortion)


def test_a_fisheye_that_bends_nothing_is_still_one() -> None:
    camera = replace(pinhole("cam", (640, 480), 300.0), distortion=np.zeros(4), fisheye=True)
    pixels = np.array([[319.5 + 300.0 * np.pi / 4, 239.5], [319.5, 239.5], [319.5 + 300.0 * 1.6, 239.5]])
    assert np.allclose(normalise(camera, pixels)[:2], [[1.0, 0.0], [0.0, 0.0]], atol=1e-6)
    assert np.isnan(normalise(camera, pixels)[2]).all()


def test_the_nearest_brown_lens_says_how_near_it_is() -> None:
    camera = _wide(3, "rational")
    brown, off = as_brown(camera)
    assert brown.distortion.shape == (5,) and 0 < off < 5 and not brown.fisheye
    assert as_brown(_camera(1))[1] == 0
    gentle = replace(pinhole("cam", (640, 480), 900.0), distortion=np.zeros(4), fisheye=True)
    assert as_brown(gentle)[1] < 0.5


def test_points_behind_the_camera_have_no_pixel() -> None:
    assert np.isnan(project(pinhole("cam", (640, 480), 500.0), np.array([[0.0, 0.0, -1.0]]))).all()


def test_the_middle_of_the_picture_is_between_pixels_of_an_even_image() -> None:
    assert project(pinhole("cam", (640, 480), 500.0), np.array([0.0, 0.0, 2.0])) == pytest.approx([319.5, 239.5])


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_a_virtual_camera_looks_along_its_direction(x: float, y: float) -> None:
    direction = np.array([x, y, 1.0])
    rotation = look_at_rotation(direction)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.allclose(rotation @ direction, np.array([0, 0, np.linalg.norm(direction)]), atol=1e-12)


def test_a_header_brings_the_camera_back() -> None:
    camera = _camera(3)
    again = Camera.from_header(camera.to_header())
    assert np.allclose(again.matrix, camera.matrix) and np.allclose(again.rotation, camera.rotation)
    assert (again.name, again.size) == (camera.name, camera.size)
