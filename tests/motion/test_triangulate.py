"""Triangulation: geometry with known truth, everything that detectors and calibrations do wrong, and real footage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from understudy.tests.motion import bodies

from inference.bench import views as bench
from inference.core.artifacts import Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, CameraSet, project
from inference.core.humanoid import motion_keypoints
from inference.core.metrics import limb_std
from inference.core.skeletons import BODY, MIRROR_137, OPENPOSE_137
from inference.core.triangulation import Rays, consensus, distances, intersect, refine
from inference.motion.sides import agree_on_sides, exchange
from inference.motion.triangulate import TriangulateSettings, triangulate
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter

MILLIMETRE = 1e-3


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def warning(self, code: str, text: str) -> None:
        self.said.append((code, text))


def rig(count: int, seed: int = 0) -> CameraSet:
    return bench.random_rig(count, np.array([0.0, 0.0, 1.0]), np.random.default_rng(seed))


def person(frames: int = 40, seed: int = 0) -> np.ndarray:
    points = motion_keypoints(bodies.moving(frames, seed=seed))
    return points - np.nanmean(points, axis=(0, 1)) + [0.0, 0.0, 1.0]


def film(truth: np.ndarray, cameras: CameraSet, *, noise_px: float = 0.0, fps: float = 30.0) -> list[Keypoints2D]:
    generator = np.random.default_rng(7)
    views = []
    for camera in cameras:
        positions = project(camera, truth)
        positions = positions + generator.normal(0.0, 1.0, positions.shape) * noise_px
        confidence = np.where(np.isfinite(positions).all(-1), 0.9, 0.0)
        header = {
            "unit": "px", "frame": "image", "fps": fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "source": f"{camera.name}.mp4", "view": camera.name,
        }  # fmt: skip
        views.append(Keypoints2D(header, positions, confidence, np.arange(len(truth)) / fps))
    return views


def solved(views: list[Keypoints2D], cameras: CameraSet, **chosen: object) -> Keypoints3D:
    """By the robust method, which is exact where views are; the learned ones have tests of their own."""
    return triangulate(views, cameras, TriangulateSettings(**{"method": "ransac", **chosen}), SilentReporter())  # type: ignore[arg-type]


def furthest(points: np.ndarray, truth: np.ndarray) -> float:
    known = np.isfinite(truth).all(-1)
    assert np.isfinite(points[known]).all()
    return float(np.linalg.norm(points[known] - truth[known], axis=-1).max())


# Geometry


@pytest.mark.parametrize("count", range(2, 9))
def test_exact_projections_of_a_distorted_rig_give_the_points_back(count: int) -> None:
    truth, cameras = person(12), rig(count, seed=count)
    found = solved(film(truth, cameras), cameras)
    assert furthest(found.positions, truth) < 1e-3 * MILLIMETRE
    assert found.error_px is not None
    assert np.nanmax(found.error_px) < 1e-3


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), count=st.integers(2, 12))
def test_rays_meet_where_they_were_cast_from(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    cameras, truth = rig(count, seed), generator.uniform([-1, -1, 0], [1, 1, 2], (50, 3))
    pixels = np.stack([project(camera, truth) for camera in cameras])
    rays = Rays.of(tuple(cameras), pixels, generator.uniform(0.1, 1.0, pixels.shape[:2]))
    for points in (intersect(rays), consensus(rays, scale=0.1), refine(truth + 0.05, rays, scale=10.0, steps=6)):
        np.testing.assert_allclose(points, truth, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), metres=st.floats(-5.0, 5.0), angle=st.floats(-3.0, 3.0))
def test_moving_the_world_moves_the_result_with_it(seed: int, metres: float, angle: float) -> None:
    generator = np.random.default_rng(seed)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([metres, -metres, 0.3])
    cameras, truth = rig(4, seed), generator.uniform([-1, -1, 0], [1, 1, 2], (20, 3))
    pixels = np.stack([project(camera, truth) for camera in cameras]) + generator.normal(0, 3, (4, 20, 2))
    moved = [
        replace(c, rotation=c.rotation @ turn.T, translation=c.translation - c.rotation @ turn.T @ shift)
        for c in cameras
    ]
    here = consensus(Rays.of(tuple(cameras), pixels, np.ones((4, 20))), scale=0.1)
    there = consensus(Rays.of(moved, pixels, np.ones((4, 20))), scale=0.1)
    np.testing.assert_allclose(there, here @ turn.T + shift, atol=1e-8)


def test_the_closed_form_solution_equals_a_point_by_point_singular_value_decomposition_in_ray_distance() -> None:
    generator = np.random.default_rng(3)
    cameras, truth = rig(4), generator.uniform([-1, -1, 0], [1, 1, 2], (30, 3))
    pixels = np.stack([project(camera, truth) for camera in cameras]) + generator.normal(0, 2, (4, 30, 2))
    weight = generator.uniform(0.2, 1.0, (4, 30))
    rays = Rays.of(tuple(cameras), pixels, weight)
    together = intersect(rays)
    for index in range(30):
        alone = rays.points(slice(index, index + 1))
        rows, values = [], []
        for view, camera in enumerate(cameras):
            for axis in (0, 1):
                u, root = alone.directions[view, 0, axis], np.sqrt(weight[view, index])
                rows.append(root * (camera.rotation[axis] - u * camera.rotation[2]))
                values.append(root * (u * camera.translation[2] - camera.translation[axis]))
        expected = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
        np.testing.assert_allclose(together[index], expected, atol=1e-9)
        np.testing.assert_allclose(intersect(alone)[0], together[index], atol=1e-12)


def test_refinement_reaches_the_least_reprojection_error() -> None:
    generator = np.random.default_rng(5)
    cameras, truth = rig(4), generator.uniform([-1, -1, 0], [1, 1, 2], (50, 3))
    pixels = np.stack([project(camera, truth) for camera in cameras]) + generator.normal(0, 8, (4, 50, 2))
    rays = Rays.of(tuple(cameras), pixels, np.ones((4, 50)))
    best = refine(intersect(rays), rays, scale=10.0, steps=8)
    least = (distances(best, rays) ** 2).sum(0)
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        # Depth is held where the steps hold it, so only a clear descent would be a mistake.
        assert ((distances(best + 0.003 * direction, rays) ** 2).sum(0) > 0.98 * least).all()


def test_parallel_rays_give_no_point() -> None:
    one = rig(2)[0]
    rays = Rays.of((one, one), np.full((2, 3, 2), 500.0), np.ones((2, 3)))
    assert np.isnan(intersect(rays)).all()


# What is seen and what is not


def test_an_outlier_without_confidence_changes_nothing() -> None:
    truth, cameras = person(10), rig(4)
    views = film(truth, cameras, noise_px=2.0)
    lost = replace(views[2], confidence=views[2].confidence.copy(), positions=views[2].positions.copy())
    lost.confidence[:, 4] = 0.0
    moved = replace(lost, positions=lost.positions.copy())
    moved.positions[:, 4] = 1e6
    blank = replace(lost, positions=lost.positions.copy())
    blank.positions[:, 4] = np.nan
    results = [solved([*views[:2], third, views[3]], cameras).positions for third in (lost, moved, blank)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_no_joint_that_two_cameras_see_is_dropped_however_much_they_disagree() -> None:
    truth, cameras = person(20), rig(4)
    views = film(truth, cameras, noise_px=2.0)
    generator = np.random.default_rng(1)
    for view in views:
        view.positions[generator.random(view.confidence.shape) < 0.3] += 150.0
        view.confidence[generator.random(view.confidence.shape) < 0.4] = 0.0
    seen = sum((view.confidence >= 0.3).astype(int) for view in views)
    found = solved(views, cameras, unswap=False)  # which would change who sees what
    assert np.isfinite(found.positions[seen >= 2]).all()
    assert found.validity[seen >= 2].all()
    assert np.isnan(found.positions[seen < 2]).all()
    assert (found.confidence[seen < 2] == 0).all()


@pytest.mark.parametrize("absurd", [np.inf, -np.inf, np.nan, 1e300, -40_000.0])
def test_a_position_that_no_camera_can_have_seen_is_not_listened_to(absurd: float) -> None:
    truth, cameras = person(10), rig(4)
    views = film(truth, cameras)
    views[1].positions[4, 5] = absurd
    views[2].positions[:, 6, 0] = absurd
    views[3].confidence[2, 7] = np.nan
    assert furthest(solved(views, cameras).positions, truth) < MILLIMETRE


def test_hands_that_one_camera_sees_are_absent_and_the_body_is_not() -> None:
    truth, cameras = person(10), rig(3)
    views = film(truth, cameras)
    for view in views[:2]:
        view.positions[:, 95:] = np.nan
        view.confidence[:, 95:] = 0.0
    found = solved(views, cameras)
    assert np.isnan(found.positions[:, 95:]).all()
    assert furthest(found.positions[:, :95], truth[:, :95]) < MILLIMETRE


def test_joints_placed_by_low_scores_are_marked_as_guessed() -> None:
    truth, cameras = person(10), rig(3)
    views = film(truth, cameras)
    for view in views:
        view.confidence[:, 7] = 0.1
    found = solved(views, cameras)
    assert furthest(found.positions[:, 7], truth[:, 7]) < MILLIMETRE
    assert not found.validity[:, 7].any()
    assert found.validity[:, 6].all()
    assert found.confidence[:, 7].max() < found.confidence[:, 6].min()


def test_errors_are_told_of_views_that_were_not_believed() -> None:
    truth, cameras = person(10), rig(4)
    views = film(truth, cameras, noise_px=1.0)
    views[1].positions[:, 3] += [120.0, 0.0]
    found = solved(views, cameras)
    assert found.error_px is not None
    assert found.views_used is not None
    assert np.abs(found.error_px[1, :, 3] - 120.0).max() < 15.0
    assert not found.views_used[1, :, 3].any()
    assert found.views_used[[0, 2, 3], :, 3].all()
    assert np.linalg.norm(found.positions[:, 3] - truth[:, 3], axis=-1).max() < 15 * MILLIMETRE


def test_confidence_falls_with_disagreement_and_with_the_detector() -> None:
    truth, cameras = person(20), rig(4)
    views = film(truth, cameras, noise_px=1.0)
    generator = np.random.default_rng(2)
    for view in views:
        view.positions[:, 10] += generator.normal(0, 25, (20, 2))
        view.confidence[:, 11] = 0.4
    found = solved(views, cameras)
    assert found.confidence.min() >= 0.0
    assert found.confidence.max() <= 1.0
    assert found.confidence[:, 13].min() > 0.6
    assert np.median(found.confidence[:, 10]) < 0.75 * np.median(found.confidence[:, 13])
    assert found.confidence[:, 11].max() <= 0.4


def test_more_views_are_believed_more() -> None:
    truth, cameras = person(20), rig(6)
    views = film(truth, cameras, noise_px=6.0)
    two = solved([views[0], views[1]], CameraSet(cameras.cameras[:2]))
    six = solved(views, cameras)
    assert np.median(six.confidence) > np.median(two.confidence)


# Robustness


@pytest.mark.parametrize("count", [3, 4, 6])
def test_outliers_cost_less_than_with_a_plain_solution(count: int) -> None:
    truth, cameras = person(60), rig(count, seed=count)
    views = film(truth, cameras, noise_px=3.0)
    generator = np.random.default_rng(count)
    for view in views:
        wrong = generator.random(view.confidence.shape) < 0.12
        view.positions[wrong] += generator.normal(0, 90, (int(wrong.sum()), 2))
    ours, plain = solved(views, cameras), solved(views, cameras, method="dlt", steady=False)
    error = [np.linalg.norm(k.positions - truth, axis=-1) for k in (ours, plain)]
    assert np.nanmean(error[0]) < 0.6 * np.nanmean(error[1])


def test_a_glitch_of_one_frame_is_left_to_the_views_that_agree_with_time() -> None:
    truth, cameras = person(30), rig(3, seed=4)
    views = film(truth, cameras, noise_px=1.0)
    views[0].positions[15, 4] += [0.0, 140.0]
    views[2].positions[15, 4] += [20.0, -60.0]
    views[2].confidence[15, 4] = 0.5
    error = np.linalg.norm(solved(views, cameras).positions[15, 4] - truth[15, 4])
    unsteady = np.linalg.norm(solved(views, cameras, steady=False).positions[15, 4] - truth[15, 4])
    assert error <= unsteady + MILLIMETRE


def test_a_camera_that_is_off_by_a_constant_is_named_with_its_offset() -> None:
    truth, cameras = person(60), rig(4, seed=9)
    views = film(truth, cameras, noise_px=4.0)
    views[2] = replace(views[2], positions=views[2].positions + [28.0, 19.0])
    listener = Listener()
    found = triangulate(views, cameras, TriangulateSettings(), listener)
    (warning,) = [text for code, text in listener.said if code == "calibration"]
    assert "cam03" in warning
    said = found.header["diagnostics"]["cameras"][2]
    assert said["biased"]
    np.testing.assert_allclose(said["offset_from_others_px"], [28.0, 19.0], atol=4.0)
    assert [camera["biased"] for camera in found.header["diagnostics"]["cameras"]] == [False, False, True, False]


def test_a_sound_rig_is_not_warned_of() -> None:
    truth, cameras = person(60), rig(4, seed=9)
    listener = Listener()
    triangulate(film(truth, cameras, noise_px=6.0), cameras, TriangulateSettings(), listener)
    assert listener.said == []


# Left and right


def exchanged_by_hand(views: list[Keypoints2D], sides: np.ndarray) -> list[Keypoints2D]:
    positions = exchange(np.stack([view.positions for view in views]), sides)
    confidence = exchange(np.stack([view.confidence for view in views]), sides)
    return [replace(v, positions=p, confidence=c) for v, p, c in zip(views, positions, confidence, strict=True)]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 9])
def test_exchanged_sides_are_put_right(count: int) -> None:
    truth, cameras = person(90), rig(count, seed=count + 20)
    sides = np.zeros((count, 90, 2), bool)
    sides[0, 20:45] = True
    sides[1, 60:70, 1] = True
    sides[count - 1, 75:85, 0] = True
    wrong = exchanged_by_hand(film(truth, cameras, noise_px=3.0), sides)
    positions, confidence = np.stack([v.positions for v in wrong]), np.stack([v.confidence for v in wrong])
    found = agree_on_sides(Rays.of(tuple(cameras), positions, confidence), 137, fps=30.0, height=1.75)
    assert (found != sides).mean() < 0.01


def test_exchanged_sides_do_no_harm() -> None:
    truth, cameras = person(90), rig(3, seed=23)
    sides = np.zeros((3, 90, 2), bool)
    sides[0, 20:45] = sides[2, 30:80] = True
    wrong = exchanged_by_hand(film(truth, cameras, noise_px=3.0), sides)
    known = np.isfinite(truth)
    error = [np.abs(solved(wrong, cameras, unswap=u).positions - truth)[known].mean() for u in (True, False)]
    assert error[0] < 0.02
    assert error[0] < 0.5 * error[1]


def test_frames_in_which_most_views_are_wrong_do_not_mirror_the_person() -> None:
    truth, cameras = person(90), rig(4, seed=30)
    sides = np.zeros((4, 90, 2), bool)
    sides[0, 30:60] = sides[1, 35:60] = sides[2, 32:50] = True
    wrong = exchanged_by_hand(film(truth, cameras, noise_px=3.0), sides)
    error = np.linalg.norm(solved(wrong, cameras).positions[:, BODY] - truth[:, BODY], axis=-1)
    assert np.nanmean(error) < 0.03


def test_a_view_with_a_bad_calibration_does_not_spoil_the_others_sides() -> None:
    truth, cameras = person(60), rig(4, seed=31)
    sides = np.zeros((4, 60, 2), bool)
    sides[1, 10:40] = True
    views = film(truth, cameras, noise_px=3.0)
    views[3] = replace(views[3], positions=views[3].positions + [60.0, -40.0])
    wrong = exchanged_by_hand(views, sides)
    found = solved(wrong, cameras).header["diagnostics"]["cameras"][1]["exchanged_frames"]
    assert abs(found["arms"] - 30) <= 2
    assert abs(found["legs"] - 30) <= 2


def test_nothing_is_exchanged_where_nothing_is_wrong() -> None:
    truth, cameras = person(60), rig(4, seed=32)
    views = film(truth, cameras, noise_px=3.0)
    rays = Rays.of(tuple(cameras), np.stack([v.positions for v in views]), np.stack([v.confidence for v in views]))
    assert not agree_on_sides(rays, 137, fps=30.0, height=1.75).any()


def test_exchanging_twice_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    values, sides = generator.normal(size=(3, 8, 137, 2)), generator.random((3, 8, 2)) < 0.5
    np.testing.assert_array_equal(exchange(exchange(values, sides), sides), values)
    everything = exchange(values, np.ones((3, 8, 2), bool))
    body_and_hands = [*range(25), *range(95, 137)]
    np.testing.assert_array_equal(everything[:, :, body_and_hands], values[:, :, np.array(MIRROR_137)[body_and_hands]])


# What does not fit together


def told(views: list[Keypoints2D], cameras: CameraSet) -> str:
    with pytest.raises(InputError) as caught:
        solved(views, cameras)
    return f"{caught.value.message} {caught.value.hint}"


def test_an_image_size_that_is_not_the_calibrated_one_is_refused_and_both_are_named() -> None:
    truth, cameras = person(12), rig(3)
    views = film(truth, cameras)
    views[1] = views[1].with_header(image_size=[1280, 720])
    text = told(views, cameras)
    assert "1280 x 720" in text
    assert "1920 x 1080" in text


def test_a_few_pixels_of_codec_padding_are_only_warned_of() -> None:
    truth, cameras = person(12), rig(3)
    views = film(truth, cameras)
    views[1] = views[1].with_header(image_size=[1920, 1088])
    listener = Listener()
    triangulate(views, cameras, TriangulateSettings(), listener)
    assert any("1920 x 1088" in text and "1920 x 1080" in text for _, text in listener.said)


def test_a_calibration_in_millimetres_is_refused_with_the_height_it_would_give() -> None:
    truth, cameras = person(12), rig(3)
    views = film(truth, cameras)
    giant = CameraSet(tuple(replace(camera, translation=1000 * camera.translation) for camera in cameras))
    text = told(views, giant)
    assert "m tall" in text
    assert "millimetres" in text


def test_a_calibration_in_kilometres_is_refused() -> None:
    truth, cameras = person(12), rig(3)
    small = CameraSet(tuple(replace(camera, translation=0.001 * camera.translation) for camera in cameras))
    assert "cannot be in metres" in told(film(truth, cameras), small)


def test_a_mirrored_rotation_is_refused() -> None:
    truth, cameras = person(12), rig(3)
    views = film(truth, cameras)
    flip = np.diag([-1.0, 1.0, 1.0])
    mirrored = CameraSet(tuple(replace(c, rotation=c.rotation @ flip) for c in cameras))
    assert "mirrored" in told(views, mirrored)


def test_a_rig_that_sees_everything_behind_it_is_refused() -> None:
    truth, cameras = person(12), rig(4)
    views = film(truth, cameras)
    turn = np.diag([-1.0, -1.0, 1.0])  # still a rotation, but of cameras that look away, as t -> -t gives
    inverted = CameraSet(tuple(replace(c, rotation=turn @ c.rotation, translation=-c.translation) for c in cameras))
    text = told(views, inverted)
    assert "behind" in text
    assert "mirrored or inverted" in text


@pytest.mark.parametrize("seed", range(3))
def test_a_calibration_of_camera_poses_instead_of_world_to_camera_is_refused(seed: int) -> None:
    truth, cameras = person(12), rig(4, seed=seed)
    views = film(truth, cameras)
    inverse = CameraSet(tuple(replace(c, rotation=c.rotation.T, translation=c.centre) for c in cameras))
    assert told(views, inverse)


def test_cameras_in_the_wrong_order_are_refused() -> None:
    truth, cameras = person(30), rig(4)
    views = [view.with_header(view="") for view in film(truth, cameras)]
    text = told(views, CameraSet((cameras[2], cameras[0], cameras[3], cameras[1])))
    assert "cam0" in text


def test_views_find_their_cameras_by_name() -> None:
    truth, cameras = person(12), rig(4)
    views = film(truth, cameras)
    shuffled = CameraSet((cameras[2], cameras[0], cameras[3], cameras[1]))
    found = solved(views, shuffled)
    assert furthest(found.positions, truth) < 1e-3 * MILLIMETRE
    assert [camera["name"] for camera in found.header["cameras"]] == ["cam01", "cam02", "cam03", "cam04"]


def test_some_of_the_calibrated_cameras_are_enough_when_they_are_named() -> None:
    truth, cameras = person(12), rig(4)
    views = film(truth, cameras)
    assert furthest(solved([views[3], views[1]], cameras).positions, truth) < 1e-3 * MILLIMETRE


def test_numbers_of_views_and_cameras_that_differ_are_named() -> None:
    truth, cameras = person(12), rig(4)
    views = [view.with_header(view="a clip") for view in film(truth, cameras)]
    text = told(views[:3], cameras)
    assert "3 views" in text
    assert "4 cameras" in text


def test_one_view_is_refused() -> None:
    truth, cameras = person(12), rig(2)
    assert "at least 2" in told(film(truth, cameras)[:1], cameras)


def shortened(view: Keypoints2D, frames: int) -> Keypoints2D:
    return replace(
        view, positions=view.positions[:frames], confidence=view.confidence[:frames], times=view.times[:frames]
    )


def test_clips_of_unequal_length_are_cut_with_a_warning() -> None:
    truth, cameras = person(40), rig(3)
    views = film(truth, cameras)
    views[1] = shortened(views[1], 33)
    listener = Listener()
    found = triangulate(views, cameras, TriangulateSettings(), listener)
    assert len(found.positions) == len(found.times) == 33
    assert any(code == "sync" and "33" in text for code, text in listener.said)


def test_clips_that_hardly_overlap_are_refused() -> None:
    truth, cameras = person(40), rig(3)
    views = film(truth, cameras)
    views[1] = shortened(views[1], 15)
    text = told(views, cameras)
    assert "15 frames" in text
    assert "40" in text


def test_a_view_at_twice_the_rate_gives_every_second_frame() -> None:
    truth, cameras = person(40), rig(3)
    views = film(truth[::2], cameras, fps=15.0)
    views[1] = film(truth, cameras, fps=30.0)[1]
    listener = Listener()
    found = triangulate(views, cameras, TriangulateSettings("ransac"), listener)
    assert found.fps == 15.0
    assert furthest(found.positions, truth[::2]) < 1e-3 * MILLIMETRE
    assert any(code == "sync" for code, _ in listener.said)


def test_views_that_show_nobody_are_refused_with_counts() -> None:
    truth, cameras = person(20), rig(3)
    views = film(truth, cameras)
    for view in views[1:]:
        view.confidence[:] = 0.0
    text = told(views, cameras)
    assert "cam02 in 0 of 20 frames" in text


def test_a_single_frame_is_enough() -> None:
    truth, cameras = person(1), rig(4)
    assert furthest(solved(film(truth, cameras), cameras).positions, truth) < 1e-3 * MILLIMETRE


def test_the_result_can_be_saved_and_read_again(tmp_path) -> None:
    truth, cameras = person(8), rig(3)
    found = solved(film(truth, cameras), cameras)
    found.save(tmp_path / "keypoints_3d.npz")
    again = Keypoints3D.load(tmp_path / "keypoints_3d.npz")
    np.testing.assert_array_equal(again.positions, found.positions)
    assert again.header["frame"] == "world"
    assert again.header["sources"] == ["cam01.mp4", "cam02.mp4", "cam03.mp4"]
    assert Camera.from_header(again.header["cameras"][1]).name == "cam02"


# Real footage, with the detections that came with it


@pytest.fixture(scope="module")
def footage(data_dir) -> tuple[list[Keypoints2D], CameraSet]:
    """Pose2Sim's demo as its own OpenPose (BODY_25B) detections see it."""
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as demo:
        names = {name: index for index, name in enumerate(demo["body25b_names"].tolist())} | {"Neck": 17}
        cameras = CameraSet(
            tuple(
                Camera(f"cam{i + 1:02d}", (1088, 1920), demo["K"][i], np.append(demo["dist_k1k2p1p2"][i], 0.0),
                       demo["R_w2c"][i], demo["t_w2c"][i])
                for i in range(4)
            )
        )  # fmt: skip
        views = []
        for index, camera in enumerate(cameras):
            positions, confidence = np.full((100, 137, 2), np.nan), np.zeros((100, 137))
            for joint, name in enumerate(OPENPOSE_137[:25]):
                if name in names:
                    positions[:, joint] = demo["pose2d"][:, index, names[name], :2]
                    confidence[:, joint] = demo["pose2d"][:, index, names[name], 2]
            header = {
                "unit": "px", "frame": "image", "fps": 60.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
                "image_size": [1088, 1920], "source": "", "view": camera.name,
            }  # fmt: skip
            views.append(Keypoints2D(header, positions, confidence, np.arange(100) / 60.0))
    return views, cameras


def test_real_footage_keeps_its_limbs_better_than_a_plain_solution(footage) -> None:
    views, cameras = footage
    listener = Listener()
    ours = triangulate(views, cameras, TriangulateSettings(), listener)
    plain = solved(views, cameras, method="dlt", unswap=False, steady=False)
    assert limb_std(ours.positions) <= limb_std(plain.positions)
    assert 1.5 < ours.header["diagnostics"]["height_m"] < 2.0
    assert any("cam03 disagrees" in text for _, text in listener.said)


def test_the_benchmark_compares_four_ways(footage) -> None:
    views, cameras = footage
    rows = bench.evaluate_multiview(views, cameras)
    assert list(rows) == ["plain DLT", "dropping views to 15 px", "unswap + DLT", "understudy"]
    assert rows["understudy"]["dropped_percent"] == 0.0
