"""Markers in a C3D or TRC file become a moving skeleton on the floor, by the road that clips take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from understudy.tests.core import skins
from understudy.tests.core.test_formats_markers import c3d
from understudy.tests.motion import bodies
from understudy.tests.motion.roads import Road

from inference.core.artifacts import BodyMotion, Keypoints3D
from inference.core.formats.trc import write_trc
from inference.core.humanoid import motion_keypoints
from inference.core.skeletons import HUMANOID_NAMES, OPENPOSE_137
from inference.protocol.errors import RequestError
from inference.protocol.requests import MotionRequest

JOINTS = [OPENPOSE_137.index(f"{s}{part}") for s in "LR" for part in ("Hip", "Knee", "Ankle", "Shoulder", "Wrist")]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Road, BodyMotion, np.ndarray]:
    """Three seconds of a walk, its markers a millimetre off and hidden now and then; and when its feet stand."""
    folder = tmp_path_factory.mktemp("markers")
    truth, standing = bodies.walking(240, fps=80.0)
    places = skins.plug_in_gait()
    rng = np.random.default_rng(0)
    positions = skins.worn(truth, places)
    positions += 0.001 * rng.normal(size=positions.shape)
    for column, start in enumerate(rng.integers(0, 220, len(places))):
        positions[start : start + 10, column] = np.nan
    road = Road(folder / "job")
    path = c3d(folder / "walk.c3d", list(places), 1000 * positions, fps=80.0)
    assert road.run(MotionRequest(markers=path)) == 0, road.message
    return road, truth, standing


def test_the_skeleton_moves_as_the_markers_did(walked: tuple[Road, BodyMotion, np.ndarray]) -> None:
    road, truth, _ = walked
    motion = BodyMotion.load(road.folder.path / "artifacts/body_motion.npz")
    off = motion_keypoints(motion)[:, JOINTS] - motion_keypoints(truth)[:, JOINTS]
    off -= off.mean(axis=(0, 1))  # the floor is found by the feet
    assert 1000 * np.linalg.norm(off, axis=-1).mean() < 15
    for name in ("thigh.L", "shin.R", "upper_arm.L", "forearm.R"):
        row = HUMANOID_NAMES.index(name)
        tail = motion.header["lengths_m"][row] / truth.header["lengths_m"][row]
        assert 0.93 < tail < 1.07, name
    assert motion.fps == 80 and motion.header["cameras"] == [] and len(motion.times) == 240


def test_feet_that_stand_are_found(walked: tuple[Road, BodyMotion, np.ndarray]) -> None:
    road, _, standing = walked
    motion = BodyMotion.load(road.folder.path / "artifacts/body_motion.npz")
    for foot in range(2):
        found = (motion.contacts[:, 2 * foot : 2 * foot + 2] > 0.5).any(axis=1)
        assert (found == standing[:, foot]).mean() > 0.85


def test_the_report_is_about_markers(walked: tuple[Road, BodyMotion, np.ndarray]) -> None:
    road, _, _ = walked
    numbers = json.loads((road.folder.path / "report.json").read_text(encoding="utf-8"))
    page = (road.folder.path / "report.html").read_text(encoding="utf-8")
    assert numbers["views"] == [] and numbers["frames"] == 240 and numbers["reprojection_px"]["mean"] is None
    assert "Views" not in page and "Limb lengths" in page and "Reprojection error by camera" not in page
    assert not list(road.folder.path.glob("overlay*"))


def test_a_trc_of_joints_is_fitted_and_cut(tmp_path: Path) -> None:
    truth = bodies.keypoints_of(bodies.moving(60))
    write_trc(tmp_path / "joints.trc", truth)
    road = Road(tmp_path / "job")
    assert road.run(MotionRequest(markers=tmp_path / "joints.trc", start=10, stop=40)) == 0, road.message
    found = Keypoints3D.load(road.folder.path / "artifacts/keypoints_3d.npz")
    assert len(found.times) == 30 and found.times[0] == pytest.approx(10 / 30)
    motion = BodyMotion.load(road.folder.path / "artifacts/body_motion.npz")
    off = motion_keypoints(motion)[:, JOINTS] - truth.positions[10:40, JOINTS]
    assert 1000 * np.linalg.norm(off, axis=-1).mean() < 20


def test_what_was_guessed_is_a_warning(tmp_path: Path) -> None:
    _, labels, metres = skins.walk()
    road = Road(tmp_path / "job")
    path = c3d(tmp_path / "walk.c3d", list(labels), metres, unit="")
    assert road.run(MotionRequest(markers=path)) == 0, road.message
    texts = [
        warning["text"]
        for warning in json.loads((road.folder.path / "report.json").read_text(encoding="utf-8"))["warnings"]
    ]
    assert any("does not say its unit; it was taken to be in metres" in text for text in texts)


def test_labels_that_are_not_understood_fail_the_job_with_a_sentence(tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    assert road.run(MotionRequest(markers=c3d(tmp_path / "x.c3d", ["A", "B"], np.ones((20, 2, 3))))) == 3
    assert "x.c3d has the labels A, B" in road.message


def test_markers_go_without_clips(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="markers: given beside clips"):
        MotionRequest(markers=tmp_path / "a.c3d", video=(tmp_path / "a.mp4",))
    with pytest.raises(RequestError, match="no clip and no keypoints"):
        MotionRequest()
