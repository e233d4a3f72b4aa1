"""A clip placed as a whole: exact where views are, better where they are not, and bounded in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from understudy.tests.motion import bodies

from inference.bench import views as bench
from inference.core.artifacts import Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, CameraSet, project
from inference.core.humanoid import motion_keypoints
from inference.core.metrics import limb_std
from inference.core.skeletons import BODY, LEFT_HAND, OPENPOSE_137
from inference.motion import whole_clip
from inference.motion.triangulate import TriangulateSettings, triangulate
from inference.motion.views import Located, assemble
from inference.protocol.errors import Cancelled
from inference.protocol.events import SilentReporter

HEIGHT = 1.7
SEEN = np.array([j for j in range(25) if j not in {1, 8}])


def rig(count: int, seed: int = 0) -> CameraSet:
    return bench.random_rig(count, np.array([0.0, 0.0, 1.0]), np.random.default_rng(seed))


def person(frames: int, seed: int = 0) -> np.ndarray:
    points = motion_keypoints(bodies.moving(frames, seed=seed))
    return points - np.nanmean(points, axis=(0, 1)) + [0.0, 0.0, 1.0]


def film(truth: np.ndarray, cameras: CameraSet, *, noise_px: float = 0.0, seed: int = 7) -> list[Keypoints2D]:
    generator, views = np.random.default_rng(seed), []
    for camera in cameras:
        positions = project(camera, truth)
        positions = positions + generator.normal(0.0, 1.0, positions.shape) * noise_px
        confidence = np.where(np.isfinite(positions).all(-1), 0.9, 0.0)
        header = {
            "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "source": f"{camera.name}.mp4", "view": camera.name,
        }  # fmt: skip
        views.append(Keypoints2D(header, positions, confidence, np.arange(len(truth)) / 30.0))
    return views


def knocked(cameras: CameraSet) -> CameraSet:
    """The third of them is turned by 0.7 degrees about its centre."""
    angle = np.radians(0.7)
    turn = np.array([[np.cos(angle), 0.0, np.sin(angle)], [0.0, 1.0, 0.0], [-np.sin(angle), 0.0, np.cos(angle)]])
    wrong = replace(cameras[2], rotation=turn @ cameras[2].rotation, translation=turn @ cameras[2].translation)
    return CameraSet(tuple(wrong if index == 2 else camera for index, camera in enumerate(cameras)))


def solved(views: list[Keypoints2D], cameras: CameraSet, *, whole: bool = True, move: bool = True) -> Keypoints3D:
    settings = TriangulateSettings("ransac", unswap=False, whole_clip=whole, move_cameras=move)
    return triangulate(views, cameras, settings, SilentReporter())


def off(found: Keypoints3D, truth: np.ndarray, joints: np.ndarray = SEEN) -> np.ndarray:
    return np.linalg.norm(found.positions[:, joints] - truth[:, joints], axis=-1)


def without(views: list[Keypoints2D], joint: int, frames: slice) -> list[Keypoints2D]:
    out = []
    for view in views:
        confidence = np.array(view.confidence)
        confidence[frames, joint] = 0.0
        out.append(replace(view, confidence=confidence))
    return out


def test_noise_is_more_than_halved_and_bones_keep_their_length() -> None:
    truth, cameras = person(40), rig(4)
    views = film(truth, cameras, noise_px=6.0)
    alone, together = solved(views, cameras, whole=False), solved(views, cameras)
    assert off(together, truth).mean() < 0.6 * off(alone, truth).mean()
    assert limb_std(together.positions) < 2e-3 < limb_std(alone.positions)
    assert off(together, truth, np.arange(95, 137)).mean() < off(alone, truth, np.arange(95, 137)).mean()


def test_two_thirds_of_the_errors_are_smaller_than_expected_or_more() -> None:
    truth, cameras = person(40), rig(3)
    found = solved(film(truth, cameras, noise_px=6.0), cameras)
    assert found.expected_error_m is not None
    assert (off(found, truth) <= found.expected_error_m[:, SEEN]).mean() > 0.6


def test_views_without_error_are_kept_to() -> None:
    truth, cameras = person(40), rig(4)
    assert off(solved(film(truth, cameras), cameras), truth).mean() < 0.005


def test_a_joint_that_no_camera_sees_for_a_while_stays_on_its_limb() -> None:
    truth, cameras = person(40), rig(4)
    views = without(film(truth, cameras, noise_px=2.0), 4, slice(10, 16))
    found = solved(views, cameras)
    assert np.isnan(solved(views, cameras, whole=False).positions[10:16, 4]).all()
    assert off(found, truth)[10:16, SEEN.tolist().index(4)].max() < 0.12
    assert not found.validity[10:16, 4].any()


def test_a_camera_that_is_turned_is_found_and_does_less_harm() -> None:
    truth, cameras = person(40), rig(4)
    lied = knocked(cameras)
    views = film(truth, cameras, noise_px=2.0)
    alone, together = solved(views, lied, whole=False), solved(views, lied)
    moves = together.header["triangulation"]["cameras"]
    assert [camera["name"] for camera in moves] == cameras.names
    assert int(np.argmax([camera["turned_deg"] for camera in moves])) == 2
    assert int(np.argmax([camera["moved_px"] for camera in moves])) == 2
    assert off(together, truth).mean() < off(alone, truth).mean()


def test_the_result_holds_the_cameras_that_its_points_were_found_with() -> None:
    truth, cameras = person(40), rig(4)
    lied = knocked(cameras)
    views = film(truth, lied, noise_px=2.0)
    moved, kept = solved(views, cameras), solved(views, cameras, move=False)
    assert [Camera.from_header(header) for header in kept.header["cameras"]][2].rotation == pytest.approx(
        cameras[2].rotation, abs=1e-12
    )
    assert all(camera["turned_deg"] == 0.0 for camera in kept.header["triangulation"]["cameras"])
    assert moved.error_px is not None and kept.error_px is not None
    assert np.nanmean(moved.error_px[:, :, :25]) < 0.6 * np.nanmean(kept.error_px[:, :, :25])
    third = Camera.from_header(moved.header["cameras"][2])
    again = np.linalg.norm(project(third, moved.positions[:, :25]) - views[2].positions[:, :25], axis=-1)
    assert again == pytest.approx(moved.error_px[2, :, :25], abs=1e-3)


def test_few_frames_say_nothing_of_cameras() -> None:
    truth, cameras = person(4), rig(4)
    found = solved(film(truth, knocked(cameras), noise_px=2.0), cameras)
    assert all(camera["moved_mm"] == 0.0 for camera in found.header["triangulation"]["cameras"])


def test_windows_meet_without_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, cameras = person(120), rig(3)
    views = film(truth, cameras, noise_px=3.0)
    whole = solved(views, cameras).positions[:, BODY]
    monkeypatch.setattr(whole_clip, "_WINDOW", 50)
    assert np.abs(solved(views, cameras).positions[:, BODY] - whole).max() < 2e-3


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_clips_are_placed(frames: int) -> None:
    truth, cameras = person(40)[:frames], rig(3)
    assert off(solved(film(truth, cameras, noise_px=2.0), cameras), truth).mean() < 0.02


def test_frames_that_show_nobody_stay_empty() -> None:
    truth, cameras = person(40), rig(3)
    views = film(truth, cameras, noise_px=2.0)
    for joint in range(137):
        views = without(views, joint, slice(15, 25))
    found = solved(views, cameras)
    assert np.isnan(found.positions[15:25]).all()
    assert not found.validity[15:25].any()
    assert np.isfinite(found.positions[:15, BODY]).all()


def test_what_is_not_a_number_is_never_valid() -> None:
    truth, cameras = person(40), rig(2)
    views = film(truth, cameras, noise_px=2.0)
    for joint in range(LEFT_HAND.start, LEFT_HAND.stop):
        views = [views[0], *without(views[1:], joint, slice(None))]
    found = solved(views, cameras)
    assert not (found.validity & ~np.isfinite(found.positions).all(-1)).any()
    assert not found.validity[:, LEFT_HAND].any()


def test_it_can_be_cancelled_while_it_works() -> None:
    class Impatient(SilentReporter):
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage == "whole clip" and 2 * done >= total:
                raise Cancelled

    truth, cameras = person(40), rig(3)
    settings = TriangulateSettings("ransac", whole_clip=True)
    with pytest.raises(Cancelled):
        triangulate(film(truth, cameras), cameras, settings, Impatient())


def test_a_method_without_an_answer_is_helped_by_rays_and_bones() -> None:
    truth, cameras = person(40), rig(4)
    scene = assemble(film(truth, cameras, noise_px=2.0), cameras, 0.3)
    points, error = np.full(truth.shape, np.nan), np.full(truth.shape[:2], np.nan)
    points[:, 8], error[:, 8] = truth[:, 8], 0.05
    located = Located(points, error, np.ones(scene.weight.shape))
    found = whole_clip.place(scene, located, fps=30.0, height=HEIGHT).located
    assert np.linalg.norm(found.points[:, SEEN] - truth[:, SEEN], axis=-1).mean() < 0.03
