"""The road of several people, from keypoint files that show everybody to one motion each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from understudy.tests.motion.roads import NO_WEIGHTS, Road

from inference.bench.people import FPS, SIZE, CrowdNoise, Scene, make_scene
from inference.core.artifacts import BodyMotion, Crowd2D, Keypoints2D, Keypoints3D
from inference.core.formats.calibration import write_calibration
from inference.core.formats.keypoints2d import read_crowd
from inference.motion.company import _find_people as find_people
from inference.motion.job import Job, forget_people
from inference.protocol.events import SilentReporter
from inference.protocol.requests import MotionRequest
from inference.runtime import weights

CLEAN = CrowdNoise(pixels=0.5, missing=0.0, absent=0.0, mistaken=0.0, sides=0.0, calibration_px=0.0)
FRAMES = 40
has_lifter = pytest.mark.skipif(not (weights.FOLDER / "lifter.safetensors").is_file(), reason=NO_WEIGHTS)


def write_scene(folder: Path, scene: Scene, who: dict[int, set[int]] | None = None) -> MotionRequest:
    """Files as OpenPose writes them, people in any order; `who`: the people that a view shows, where not all."""
    rng = np.random.default_rng(0)
    for view, (camera, crowd) in enumerate(zip(scene.cameras, scene.crowds, strict=True)):
        (folder / camera.name).mkdir(parents=True)
        for frame in range(FRAMES):
            rows = [
                r for r in np.flatnonzero(crowd.frame == frame) if scene.who[view][r] in (who or {}).get(view, range(9))
            ]
            people = []
            for row in rng.permutation(rows) if rows else []:
                body = np.concatenate([crowd.positions[row, :25], crowd.confidence[row, :25, None]], 1)
                people.append({"pose_keypoints_2d": np.nan_to_num(body).ravel().round(2).tolist()})
            name = f"{camera.name}_{frame:012d}_keypoints.json"
            (folder / camera.name / name).write_text(json.dumps({"version": 1.3, "people": people}))
    write_calibration(folder / "rig.toml", scene.cameras)
    return request(folder, [camera.name for camera in scene.cameras], folder / "rig.toml")


def request(folder: Path, views: list[str], calibration: Path | None, **others: object) -> MotionRequest:
    given = {"people": 0, "image_size": SIZE, "fps": FPS, "overlay": False, "sync": "off", "triangulation": "ransac"}
    return MotionRequest(
        keypoints=tuple(folder / name for name in views), calibration=calibration, **{**given, **others}
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(np.random.default_rng(21), people=2, views=2, frames=FRAMES, noise=CLEAN)


@pytest.fixture(scope="module")
def files(scene, tmp_path_factory) -> tuple[Path, MotionRequest]:
    folder = tmp_path_factory.mktemp("company")
    return folder, write_scene(folder, scene)


@pytest.fixture(scope="module")
def walked(files, tmp_path_factory) -> Road:
    road = Road(tmp_path_factory.mktemp("job") / "job")
    assert road.run(files[1]) == 0, road.message
    return road


def test_everybody_gets_artifacts_of_their_own_and_the_first_ones_keep_their_names(walked):
    made = {name for name in walked.files() if name.startswith("artifacts/")}
    for name in ("keypoints_3d", "body_motion", "keypoints_2d_cam1", "keypoints_2d_cam2"):
        assert {f"artifacts/{name}.npz", f"artifacts/{name}_person2.npz"} <= made
    assert "artifacts/crowd_2d_cam1.npz" in made
    assert not walked.half_written()
    folder = walked.folder.path / "artifacts"
    assert Keypoints2D.load(folder / "keypoints_2d_cam1_person2.npz").header["view"] == "cam1"


def test_each_of_them_is_one_true_person_to_a_few_centimetres(walked, scene):
    folder, found = walked.folder.path / "artifacts", []
    for suffix in ("", "_person2"):
        keypoints = Keypoints3D.load(folder / f"keypoints_3d{suffix}.npz")
        frames = np.round(keypoints.times * FPS).astype(int)
        error = np.linalg.norm(keypoints.positions[:, :15] - scene.points[:, frames, :15], axis=-1)
        error = np.nanmedian(error, axis=(1, 2))
        found.append(int(error.argmin()))
        assert error.min() < 0.03
    assert sorted(found) == [0, 1]


def test_one_floor_holds_for_all(walked):
    folder = walked.folder.path / "artifacts"
    floors = [BodyMotion.load(folder / f"body_motion{s}.npz").header["floor_from_frame"] for s in ("", "_person2")]
    assert floors[0] == floors[1]


def test_the_report_lists_people_with_figures(walked):
    people = walked.report()["people"]
    assert [person["person"] for person in people] == [1, 2]
    assert [person["body_motion"] for person in people] == [
        "artifacts/body_motion.npz", "artifacts/body_motion_person2.npz",
    ]  # fmt: skip
    assert all(1.4 < person["height_m"] < 2.1 for person in people)
    assert all(person["reprojection_px"]["mean"] < 5 for person in people)
    page = (walked.folder.path / "report.html").read_text(encoding="utf-8")
    assert "<h2>People</h2>" in page
    assert page.count("cam1 100 %") == 2


def test_a_second_run_repeats_no_stage(files, walked):
    assert walked.run(files[1]) == 0
    assert not walked.stages & {"detect", "triangulate", "fit"}


def test_fewer_people_leave_nothing_stale(tmp_path):
    names = ["body_motion.npz", *(f"body_motion_person{n}.npz" for n in (2, 3, 11)), "body_motion_personal.npz"]
    for name in names:
        (tmp_path / name).touch()
    forget_people(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[1], names[4]]


def test_more_people_than_there_are_is_said(files, tmp_path):
    road = Road(tmp_path / "job")
    assert road.run(MotionRequest(**{**vars(files[1]), "people": 5})) == 0
    assert "5 people were asked for; 2 are seen long enough." in road.warnings


def test_nobody_is_an_error_that_names_the_file(tmp_path):
    for name in ("cam1", "cam2"):
        (tmp_path / name).mkdir()
        for frame in range(12):
            (tmp_path / name / f"{name}_{frame:012d}_keypoints.json").write_text('{"version": 1.3, "people": []}')
    scene = make_scene(np.random.default_rng(1), people=1, views=2, frames=12, noise=CLEAN)
    write_calibration(tmp_path / "rig.toml", scene.cameras)
    road = Road(tmp_path / "job")
    assert road.run(request(tmp_path, ["cam1", "cam2"], tmp_path / "rig.toml")) == 3
    assert "cam1" in road.message or "Nobody" in road.message


@has_lifter
def test_somebody_whom_one_camera_sees_is_lifted_into_the_world_of_all(tmp_path, scene):
    asked = write_scene(tmp_path, scene, who={1: {0}})
    road = Road(tmp_path / "job")
    assert road.run(asked) == 0, road.message
    assert "seen by cam1 alone" in road.warnings
    keypoints = Keypoints3D.load(road.folder.path / "artifacts" / "keypoints_3d_person2.npz")
    assert keypoints.header["frame"] == "world"
    place = np.nanmedian(keypoints.positions[:, 8], axis=0)
    assert np.linalg.norm(place - np.median(scene.points[1, :, 8], axis=0)) < 1.5  # one view guesses the distance
    assert len(road.report()["people"]) == 2


def test_clips_of_several_people_that_began_at_different_moments_are_put_in_step(tmp_path):
    scene = make_scene(np.random.default_rng(21), people=2, views=3, frames=240, noise=CLEAN)
    crowds = [replace(c, frame=c.frame - late) for c, late in zip(scene.crowds, (0, 45, 0), strict=True)]
    crowds = [_cut(crowd, 195).with_header(fingerprint=f"{view}") for view, crowd in enumerate(crowds)]
    asked = replace(request(tmp_path, ["cam1", "cam2", "cam3"], tmp_path / "rig.toml"), sync="motion")
    job = Job(asked, tmp_path / "artifacts", SilentReporter())
    find_people(job, crowds, scene.cameras)
    assert job.offsets is not None and job.offsets.seconds[1] == pytest.approx(1.5, abs=0.01)
    assert job.findings == []  # the rig is sound


def _cut(crowd: Crowd2D, frames: int) -> Crowd2D:
    kept = (crowd.frame >= 0) & (crowd.frame < frames)
    rows = {name: getattr(crowd, name)[kept] for name in ("frame", "track", "positions", "confidence", "look")}
    return replace(crowd, **rows, times=crowd.times[:frames])


@has_lifter
def test_one_view_gives_one_person_a_track(tmp_path, scene):
    write_scene(tmp_path, scene)
    road = Road(tmp_path / "job")
    assert road.run(request(tmp_path, ["cam1"], None, triangulation="auto")) == 0, road.message
    assert len(road.report()["people"]) == 2


def test_a_file_of_one_persons_keypoints_is_a_crowd_of_one(walked):
    crowd = read_crowd(walked.folder.path / "artifacts" / "keypoints_2d_cam1.npz")
    assert set(crowd.track) == {0}
    assert len(crowd.frame) <= FRAMES
