"""The learned methods behind the triangulation stage."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from inference.bench import views as bench
from inference.core.artifacts import Keypoints2D
from inference.core.cameras import CameraSet
from inference.core.humanoid import motion_keypoints
from inference.core.skeletons import BODY
from inference.motion.triangulate import Method, TriangulateSettings, choose, locate, triangulate
from inference.motion.views import Located, Scene, assemble
from inference.protocol.events import SilentReporter
from inference.runtime import weights
from tests.motion import bodies

SETTINGS = TriangulateSettings()
LEARNED = [
    pytest.param(method, marks=pytest.mark.skipif(name not in weights.registry(), reason=f"no weights {name!r}"))
    for method, name in (("algebraic", "view-trust"), ("volumetric", "joint-volume"), ("temporal", "motion-prior"))
]


def captured(count: int, frames: int = 16, seed: int = 1) -> tuple[np.ndarray, list[Keypoints2D], CameraSet]:
    points = motion_keypoints(bodies.moving(frames, seed=seed))
    truth = points - np.nanmean(points, axis=(0, 1)) + [0.0, 0.0, 1.0]
    fallible = bench.SyntheticRig(views=count, noise=(0.005, 0.015), exchanged=0.0)
    return truth, *bench.capture(truth, fallible, np.random.default_rng(seed))


def located(method: Method, scene: Scene) -> Located:
    return locate(method, scene, SETTINGS, fps=30.0, height=1.7)


def off(found: Located, truth: np.ndarray) -> np.ndarray:
    """(T, 25) metres."""
    return np.linalg.norm(found.points[:, BODY] - truth[:, BODY], axis=-1)


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("count", [4, 6])
def test_learned_methods_err_less_than_a_plain_solution(method: Method, count: int) -> None:
    truth, views, cameras = captured(count)
    scene = assemble(views, cameras, 0.3)
    ours, plain = (off(located(m, scene), truth) for m in (method, "dlt"))
    assert np.nanmean(ours) < 0.9 * np.nanmean(np.minimum(plain, 1.0))


@pytest.mark.parametrize("method", ["dlt", "ransac", *LEARNED])
@pytest.mark.parametrize("count", [3, 4, 6])
def test_about_two_thirds_of_the_errors_are_smaller_than_expected(method: Method, count: int) -> None:
    inside = []
    for seed in range(3):
        truth, views, cameras = captured(count, frames=12, seed=seed)
        found = located(method, assemble(views, cameras, 0.3))
        expected, true = found.error[:, BODY], off(found, truth)
        known = np.isfinite(true) & np.isfinite(expected)
        inside.append((true[known] <= expected[known]).mean())
    assert 0.5 < np.mean(inside) < 0.95


@pytest.mark.parametrize("method", LEARNED)
def test_learned_methods_do_not_mind_where_the_world_is_or_which_way_is_up(method: Method) -> None:
    truth, views, cameras = captured(4, frames=12)
    turn = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # z up -> y up
    away = np.array([30.0, 2.0, -50.0])
    moved = CameraSet(
        tuple(
            replace(c, rotation=c.rotation @ turn.T, translation=c.translation - c.rotation @ turn.T @ away)
            for c in cameras
        )
    )
    here, there = (located(method, assemble(views, rig, 0.3)) for rig in (cameras, moved))
    back = (there.points - away) @ turn
    known = np.isfinite(here.points).all(-1)
    assert np.abs(back - here.points)[known].max() < 2e-3
    assert np.nanmedian(off(here, truth)) < 0.06


@pytest.mark.parametrize("method", LEARNED)
def test_the_order_of_the_views_does_not_matter(method: Method) -> None:
    _, views, cameras = captured(4, frames=8)
    order = [2, 0, 3, 1]
    one = located(method, assemble(views, cameras, 0.3))
    other = located(method, assemble([views[i] for i in order], CameraSet(tuple(cameras[i] for i in order)), 0.3))
    assert np.nanmax(np.abs(one.points - other.points)[:, BODY]) < 5e-3
    assert np.nanmax(np.abs(one.believed[order] - other.believed)[:, :, BODY]) < 0.1


@pytest.mark.parametrize("method", [m for m in get_args(Method) if m != "volumetric"])
def test_every_method_says_what_it_was_and_what_error_to_expect(method: Method) -> None:
    _, views, cameras = captured(4, frames=12)
    found = triangulate(views, cameras, TriangulateSettings(method=method), SilentReporter())
    said = found.header["triangulation"]
    assert said["reason"] and (method == "auto" or said["method"] == method)
    assert found.expected_error_m is not None
    known = np.isfinite(found.positions).all(-1)
    assert np.isfinite(found.expected_error_m[known]).all() and not found.validity[~known].any()


def test_more_cameras_are_left_to_the_least_expected_error() -> None:
    _, views, cameras = captured(6, frames=12)
    method, reason = choose(assemble(views, cameras, 0.3), SETTINGS, fps=30.0, height=1.7)
    assert method in get_args(Method) and "mm" in reason


def test_a_frame_that_nobody_sees_stays_empty() -> None:
    _, views, cameras = captured(4, frames=10)
    for view in views:
        view.confidence[4] = 0.0
    found = triangulate(views, cameras, TriangulateSettings(method="algebraic"), SilentReporter())
    assert np.isnan(found.positions[4]).all() and not found.validity[4].any() and found.confidence[4].max() == 0
