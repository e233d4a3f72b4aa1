"""Cameras from people alone, and calibrations put right by them: known truth, noise, outliers, and hopeless clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from understudy.tests.calibration.filming import SIZE, Listener, film, looking, rig, walk
from understudy.tests.motion import bodies

from inference.calibration.alignment import Similarity, angle, difference, lay_over
from inference.calibration.bundle import FIXED, Bundle, Lens, adjust, changed, reprojection
from inference.calibration.people import calibrate_from_people
from inference.calibration.refine import refine_calibration
from inference.calibration.scene import bundled, footage
from inference.core.cameras import Camera, CameraSet, project
from inference.core.humanoid import motion_keypoints
from inference.core.rotations import matrix_from_rotvec
from inference.motion.rig_checks import measured_height
from inference.protocol.errors import Cancelled, InputError
from inference.protocol.events import SilentReporter


def knocked(camera: Camera, degrees: float, metres: float) -> Camera:
    turn = matrix_from_rotvec(np.radians(degrees) * np.array([0.6, 0.8, 0.0]))
    return replace(camera, rotation=turn @ camera.rotation, translation=turn @ camera.translation + [metres, 0, 0])


def test_derivatives_of_the_projection_are_those_of_finite_steps() -> None:
    camera = replace(rig(1)[0], distortion=np.array([-0.1, 0.05, 1e-3, -2e-3, 0.01]))
    points = np.random.default_rng(0).normal(0, 0.5, (5, 3)) + [0, 0, 1]
    pixels, by_point, by_camera, depth = reprojection(camera, points)
    assert np.allclose(pixels, project(camera, points)) and (depth > 0).all()
    for axis in range(3):
        step = 1e-6 * np.eye(3)[axis]
        slope = (project(camera, points + step) - project(camera, points - step)) / 2e-6
        assert np.allclose(by_point[..., axis], slope, atol=1e-3)
    for parameter in range(11):
        step = 1e-6 * np.eye(12)[parameter]
        slope = (project(changed(camera, step), points) - project(changed(camera, -step), points)) / 2e-6
        assert np.allclose(by_camera[..., parameter], slope, atol=2e-3), parameter


def test_exact_sightings_bring_moved_cameras_back_to_their_places() -> None:
    truth, cameras = walk(40)[:, :25], rig(3)
    positions = np.stack([project(camera, truth) for camera in cameras])
    weight = np.where(np.isfinite(positions).all(-1), 1.0, 0.0)
    moved = CameraSet(tuple(knocked(camera, 2.0, 0.05) for camera in cameras))
    bundle = Bundle(np.nan_to_num(positions), weight, np.full(3, 1.0), np.array([(9, 10)]), 0.02, [FIXED] * 3)
    done = adjust(bundle, moved, np.nan_to_num(truth) + 0.02, steps=60)
    back = lay_over(done.cameras, cameras).cameras(done.cameras)
    assert difference(tuple(back), tuple(cameras)).metres.max() < 1e-4
    assert done.costs[-1] < 1e-4


def test_rays_that_meet_by_chance_do_not_stretch_a_limb() -> None:
    truth, cameras, wrist = walk(40), rig(2), 4
    views = film(truth, cameras, noise_px=1.0)
    ahead = truth[10:16, wrist] - cameras[1].centre
    wrong = np.array(views[0].positions)
    wrong[10:16, wrist] = project(cameras[0], truth[10:16, wrist] + 0.25 * ahead)  # a metre off, and both views agree
    found = footage([replace(views[0], positions=wrong), views[1]], cameras, 0.3)
    done = bundled(found, cameras, moved=np.zeros((2, 2)), report=SilentReporter())
    assert np.linalg.norm(done.points[10:16, wrist] - truth[10:16, wrist], axis=-1).max() < 0.1


def test_lenses_are_found_with_the_poses() -> None:
    truth, cameras = walk(60)[:, :25], rig(4)
    positions = np.stack([project(camera, truth) for camera in cameras])
    weight = np.where(np.isfinite(positions).all(-1), 1.0, 0.0)
    off = CameraSet(tuple(changed(c, np.array([0, 0, 0, 0, 0, 0, 0.03, 8.0, -5.0, 0, 0, 0])) for c in cameras))
    bones = np.array([(9, 10), (10, 11), (12, 13), (13, 14), (3, 4), (6, 7)])
    bundle = Bundle(np.nan_to_num(positions), weight, np.full(4, 1.0), bones, 0.02, [Lens(0.2, 0.1)] * 4)
    done = adjust(bundle, off, np.nan_to_num(truth), steps=100)
    found = np.array([camera.matrix[0, 0] for camera in done.cameras])
    assert np.allclose(found, [camera.matrix[0, 0] for camera in cameras], rtol=0.02)


def test_a_rig_laid_over_another_keeps_the_cameras_that_did_not_move() -> None:
    cameras = rig(4)
    turn = matrix_from_rotvec(np.array([0.3, -0.2, 1.0]))
    elsewhere = Similarity(2.5, turn, np.array([3.0, -1.0, 0.5])).cameras(cameras)
    moved = CameraSet((knocked(elsewhere[0], 5.0, 0.7), *elsewhere.cameras[1:]))
    off = difference(tuple(lay_over(moved, cameras).cameras(moved)), tuple(cameras))
    assert off.metres[1:].max() < 0.02 and off.degrees[1:].max() < 0.2
    assert off.degrees[0] > 4.0


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_cameras_are_found_from_a_walk_alone(count: int) -> None:
    cameras, listener = rig(count), Listener()
    truth = walk(80)
    height = measured_height(truth[:, :25])
    focal = None
    if count != 4:
        cameras = CameraSet(tuple(replace(camera, matrix=rig(1)[0].matrix) for camera in cameras))
        focal = float(cameras[0].matrix[0, 0])
    views = film(truth, cameras, noise_px=1.5, outliers=0.05)
    found = calibrate_from_people(views, listener, height_m=height, focal_px=focal)
    moved = lay_over(found.cameras, cameras)
    off = difference(tuple(moved.cameras(found.cameras)), tuple(cameras))
    assert off.share.max() < (0.08 if count == 2 else 0.03), off.share
    assert off.degrees.max() < (2.5 if count == 2 else 1.5), off.degrees
    assert moved.scale == pytest.approx(1.0, abs=0.1 if count == 2 else 0.04)
    assert np.degrees(np.arccos(moved.turn[2, 2])) < 3.0  # gravity
    assert abs(moved.points(np.zeros(3))[2]) < 0.12  # the floor
    assert not listener.said or count == 2


def test_known_focal_lengths_make_two_views_exact() -> None:
    cameras = CameraSet(tuple(replace(camera, matrix=rig(1)[0].matrix) for camera in rig(2)))
    focal = float(cameras[0].matrix[0, 0])
    found = calibrate_from_people(film(walk(), cameras, noise_px=1.0), SilentReporter(), focal_px=focal)
    off = difference(tuple(lay_over(found.cameras, cameras).cameras(found.cameras)), tuple(cameras))
    assert off.degrees.max() < 0.7 and off.share.max() < 0.02


def test_one_measured_distance_gives_the_size() -> None:
    cameras = rig(3)
    metres = float(np.linalg.norm(cameras[0].centre - cameras[2].centre))
    found = calibrate_from_people(
        film(walk(60), cameras), SilentReporter(), distance=("cam1", "cam3", metres), focal_px=1100.0
    )
    own = np.linalg.norm(found.cameras[0].centre - found.cameras[2].centre)
    assert own == pytest.approx(metres, rel=1e-6)
    assert found.figures["height_m"] == pytest.approx(measured_height(walk(60)[:, :25]), rel=0.15)


def test_a_size_that_is_only_assumed_is_told() -> None:
    found = calibrate_from_people(film(walk(50), rig(3)), SilentReporter(), focal_px=1100.0)
    assert any("1.70 m" in note for note in found.notes)


def test_a_camera_that_was_knocked_is_put_right_and_the_others_stay() -> None:
    cameras = rig(4)
    given = CameraSet((*cameras.cameras[:2], knocked(cameras[2], 1.5, 0.02), cameras[3]))
    done = refine_calibration(film(walk(), cameras, outliers=0.05), given, SilentReporter())
    off = difference(tuple(done.cameras), tuple(cameras))
    assert off.degrees.max() < 0.35 and off.metres.max() < 0.04
    assert done.figures["reprojection_px"] < 0.5 * done.figures["reprojection_before_px"]
    assert [row["turned_deg"] > 1.0 for row in done.figures["cameras"]] == [False, False, True, False]


def test_a_sound_calibration_is_left_where_it_is() -> None:
    cameras = rig(4)
    done = refine_calibration(film(walk(), cameras), cameras, SilentReporter())
    off = difference(tuple(done.cameras), tuple(cameras))
    assert off.degrees.max() < 0.25 and off.metres.max() < 0.03


def test_clips_that_are_out_of_step_by_a_part_of_a_frame_are_told_by_how_much() -> None:
    cameras, fine = rig(4), walk(480)  # 480 frames of a walk four times too slow for 30 fps: quarters of a frame
    fine = fine - fine[:, 8:9] * [0, 0.7, 0]
    views = film(fine[:440:4], cameras, noise_px=0.5)
    late = film(fine[2:442:4], cameras, noise_px=0.5)
    done = refine_calibration([*views[:3], late[3]], cameras, SilentReporter())
    assert done.figures["cameras"][3]["clock_ms"] == pytest.approx(-0.5e3 / 30, abs=6)


def refused(views: list, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        calibrate_from_people(views, SilentReporter(), **settings)  # type: ignore[arg-type]
    return f"{caught.value.message} {caught.value.hint}"


def test_somebody_who_stands_still_is_refused_with_numbers() -> None:
    truth = np.repeat(motion_keypoints(bodies.still(1)), 60, axis=0)
    told = refused(film(truth, rig(4), noise_px=1.0), focal_px=1100.0)
    assert "stands still" in told and "%" in told


def test_cameras_at_one_place_are_refused_with_the_angle() -> None:
    place = np.array([4.0, 0.5, 1.5])
    cameras = CameraSet(tuple(looking(f"cam{i}", place, np.array([0, 0.1 * i, 1.0])) for i in range(2)))
    told = refused(film(walk(), cameras, noise_px=1.0), focal_px=1100.0)
    assert "degrees" in told


def test_one_view_is_refused() -> None:
    assert "at least 2" in refused(film(walk(20), rig(1)))


def test_a_distance_between_unknown_cameras_is_refused_with_their_names() -> None:
    told = refused(film(walk(50), rig(2)), focal_px=1100.0, distance=("cam1", "left", 2.0))
    assert "'left'" in told and "cam2" in told


def test_a_run_can_be_cancelled() -> None:
    class Stopped(SilentReporter):
        def progress(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrate_from_people(film(walk(30), rig(2)), Stopped())


def test_angles_between_rotations_are_in_degrees() -> None:
    assert angle(np.eye(3), matrix_from_rotvec(np.array([0, 0, np.pi / 6]))) == pytest.approx(30.0)
    assert SIZE[0] > SIZE[1]
