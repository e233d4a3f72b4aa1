"""The whole road: clips or keypoints become artifacts, report and pictures, near the truth, and are made once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from understudy.tests.motion import roads
from understudy.tests.motion.roads import CALIBRATION, DEMO, FPS, FRAMES, SIZE, Road, from_keypoints, write_views
from understudy.tests.openpose_files import write_openpose

from inference.core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, project
from inference.core.humanoid import motion_keypoints
from inference.core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, RIGHT_HAND
from inference.motion import see
from inference.protocol.events import Event
from inference.protocol.folder import new_run_id
from inference.protocol.requests import MotionRequest, Order
from inference.runtime import weights
from inference.runtime.video import probe, read_frames, write_movie
from inference.runtime.worker import run_job

TRUTH = roads.truth()
START = 10
JOINTS = [i for i, name in enumerate(BODY_25) if "SmallToe" not in name]  # the detector does not know these


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Both clips of the demo, from pixels to pictures."""
    road = Road(tmp_path_factory.mktemp("filmed") / "job")
    request = MotionRequest(
        video=(DEMO / "front.mp4", DEMO / "side.mp4"), calibration=CALIBRATION, start=START, stop=START + FRAMES
    )
    assert road.run(request) == 0, road.message
    return road


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """True 2D of both views, as OpenPose files."""
    return write_views(tmp_path_factory.mktemp("openpose"))


@pytest.fixture(scope="module")
def read(folders: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Road:
    """The road from those files."""
    road = Road(tmp_path_factory.mktemp("read") / "job")
    assert road.run(from_keypoints(folders, triangulation="ransac")) == 0, road.message
    return road


def need_weights() -> None:
    """Skip, and say so, where the weights of the lifter are not in place."""
    if "lifter" not in weights.registry() or not (weights.FOLDER / "lifter.safetensors").is_file():
        pytest.skip(roads.NO_WEIGHTS)


def error_mm(road: Road, start: int = 0) -> float:
    """Mean distance of the body's joints from the truth."""
    found = Keypoints3D.load(road.folder.artifacts / "keypoints_3d.npz")
    there = TRUTH["positions"][start : start + len(found.positions)]
    return float(1000 * np.nanmean(np.linalg.norm(found.positions - there, axis=-1)[:, JOINTS]))


def test_two_clips_become_all_that_is_promised(filmed: Road) -> None:
    promised = {f"artifacts/{name}.npz" for name in ("keypoints_2d_front", "keypoints_2d_side", "keypoints_3d")}
    promised |= {"artifacts/body_motion.npz", "report.json", "report.html"}
    promised |= {f"overlay_{view}{end}" for view in ("front", "side") for end in (".mp4", ".png")}
    assert promised <= filmed.files() and not filmed.half_written()
    announced = {event["file"] for event in filmed.events if event.kind == "artifact"}
    assert announced >= {name for name in promised if not name.endswith(("json", "png"))}


@pytest.mark.parametrize("name", ["keypoints_2d_front", "keypoints_2d_side", "keypoints_3d"])
def test_keypoints_can_be_read_by_numpy_alone(filmed: Road, name: str) -> None:
    with np.load(filmed.folder.artifacts / f"{name}.npz", allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        positions, confidence = archive["positions"], archive["confidence"]
    plane = name.startswith("keypoints_2d")
    assert header["kind"] == name.removesuffix("_front").removesuffix("_side") and header["schema"] == 1
    assert header["fps"] == FPS and header["skeleton"] == "openpose137"
    assert (header["unit"], header["frame"]) == (("px", "image") if plane else ("m", "world"))
    assert tuple(header["joints"][:25]) == BODY_25 and len(header["joints"]) == 137
    assert positions.shape == (FRAMES, 137, 2 if plane else 3) and confidence.shape == (FRAMES, 137)
    assert confidence.min() >= 0 and confidence.max() <= 1
    assert np.isfinite(positions[confidence > 0]).all()


def test_the_skeleton_can_be_read_by_numpy_alone(filmed: Road) -> None:
    with np.load(filmed.folder.artifacts / "body_motion.npz", allow_pickle=False) as archive:
        header, arrays = json.loads(str(archive["header"])), dict(archive)
    bones = len(header["bones"])
    assert (header["kind"], header["unit"], header["frame"], header["fps"]) == ("body_motion", "m", "world", FPS)
    assert arrays["rotations"].shape == (FRAMES, bones, 4) and arrays["root"].shape == (FRAMES, 3)
    assert arrays["rest"].shape == (bones, 4, 4) and arrays["parents"].shape == (bones,)
    assert header["joints"][:25] == list(BODY_25) and arrays["confidence"].shape == (FRAMES, len(header["joints"]))
    assert arrays["positions"].shape == (FRAMES, len(header["joints"]), 3)
    assert np.isfinite(arrays["positions"][:, [0, 1, 4, 8, 11]]).all()
    assert np.allclose(np.linalg.norm(arrays["rotations"], axis=-1), 1, atol=1e-4)
    assert [camera["name"] for camera in header["cameras"]] == ["front", "side"]
    assert header["sources"] == [str(DEMO / "front.mp4"), str(DEMO / "side.mp4")]


def test_what_two_cameras_saw_is_near_the_truth(filmed: Road) -> None:
    assert error_mm(filmed, START) < 60


def test_the_skeleton_is_near_the_truth_and_its_picture_lies_on_the_person(filmed: Road) -> None:
    motion = BodyMotion.load(filmed.folder.artifacts / "body_motion.npz")
    points, frames = motion_keypoints(motion)[:, JOINTS], slice(START, START + FRAMES)
    assert 1000 * np.nanmean(np.linalg.norm(points - TRUTH["positions"][frames][:, JOINTS], axis=-1)) < 70
    for view, header in enumerate(motion.header["cameras"]):
        off = project(Camera.from_header(header), points) - TRUTH["positions_px"][view][frames][:, JOINTS]
        assert np.nanmedian(np.linalg.norm(off, axis=-1)) < 15


def test_overlays_have_the_frames_of_the_clip(filmed: Road) -> None:
    for view in ("front", "side"):
        info = probe(filmed.folder.path / f"overlay_{view}.mp4")
        assert sum(1 for _ in read_frames(info.path)) == FRAMES and info.size == SIZE and info.fps == FPS


def test_true_keypoints_give_the_same_artifacts_and_the_truth_itself(read: Road, filmed: Road) -> None:
    artifacts = {name for name in filmed.files() if name.startswith("artifacts/")}
    assert {name for name in read.files() if name.startswith("artifacts/")} == artifacts
    for name, kind in (("keypoints_2d_side", Keypoints2D), ("keypoints_3d", Keypoints3D), ("body_motion", BodyMotion)):
        ours, theirs = (kind.load(road.folder.artifacts / f"{name}.npz") for road in (read, filmed))
        assert set(theirs.header) - set(ours.header) == set()
        assert {k: v.shape for k, v in vars(ours).items() if isinstance(v, np.ndarray) and k != "world_m"} == {
            k: v.shape for k, v in vars(theirs).items() if isinstance(v, np.ndarray) and k != "world_m"
        }
    assert error_mm(read) < 2


def test_one_command_does_the_same(folders: tuple[Path, ...], read: Road, tmp_path: Path) -> None:
    job = tmp_path / "a job $(touch x) 'ジョブ' \"2\""
    words = [word for folder in folders for word in ("--keypoints", folder)]
    done = roads.command_line(
        *words, "--image-size", "540", "720", "--fps", "30", "--calibration", CALIBRATION, "--no-overlay",
        "--triangulation", "ransac", "--out", job,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, other = (Keypoints3D.load(f / "artifacts/keypoints_3d.npz") for f in (job, read.folder.path))
    assert np.allclose(one.positions, other.positions, equal_nan=True)
    assert not (roads.ROOT / "x").exists()


def test_footage_beside_keypoints_is_drawn_on_and_says_what_files_do_not(
    folders: tuple[Path, ...], tmp_path: Path
) -> None:
    road = Road(tmp_path / "job")
    request = from_keypoints(
        folders, video=(DEMO / "front.mp4", DEMO / "side.mp4"), image_size=None, fps=None, overlay=True, stop=12
    )
    assert road.run(request) == 0, road.message
    seen = Keypoints2D.load(road.folder.artifacts / "keypoints_2d_side.npz")
    assert seen.image_size == SIZE and seen.fps == FPS and seen.header["source"] == str(DEMO / "side.mp4")
    assert "30 frames and side.mp4 96" in road.warnings
    picture = next(read_frames(road.folder.path / "overlay_front.mp4"))[2].astype(float)
    footage = next(read_frames(DEMO / "front.mp4"))[2].astype(float)
    assert np.median(np.abs(picture[100:] - footage[100:])) < 4


def test_only_what_a_setting_changes_is_made_again(folders: tuple[Path, ...], tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    request = from_keypoints(folders)
    assert road.run(request) == 0 and {"triangulate", "fit"} <= road.stages
    first, said = road.report(), road.warnings
    assert road.run(request) == 0 and not road.stages
    assert road.warnings == said
    assert road.report()["reprojection_px"] == first["reprojection_px"]
    assert road.run(replace(request, smoothing=0.9)) == 0 and road.stages == {"fit"}
    assert road.report()["jitter_mm"]["smoothed"] < first["jitter_mm"]["smoothed"]
    assert road.run(replace(request, min_confidence=0.5)) == 0 and "triangulate" in road.stages


def test_detection_is_not_repeated_when_only_smoothing_changes(filmed: Road) -> None:
    request = filmed.folder.read_order().request
    again = Road(filmed.folder.path)
    assert again.run(replace(request, smoothing=0.2, overlay=False)) == 0 and again.stages == {"fit"}


def test_keypoints_that_changed_on_disk_are_read_again(folders: tuple[Path, ...], tmp_path: Path) -> None:
    own = write_views(tmp_path)
    road = Road(tmp_path / "job")
    assert road.run(from_keypoints(own)) == 0
    last = sorted(own[0].iterdir())[-1]
    last.write_text(last.read_text().replace("0.9", "0.6"), encoding="utf-8")
    assert road.run(from_keypoints(own)) == 0 and "triangulate" in road.stages


class _CancelAt:
    """Asks the job to stop when a stage has come so far."""

    def __init__(self, road: Road, stage: str, done: int) -> None:
        self.road, self.stage, self.done = road, stage, done

    def __call__(self, event: Event) -> None:
        self.road.events.append(event)
        if event.kind == "progress" and event["stage"] == self.stage and event["done"] >= self.done:
            self.road.folder.ask_to_cancel()


@pytest.mark.parametrize("stage", ["triangulate", "overlay"])
def test_a_cancel_loses_nothing_that_was_made_and_the_next_run_finishes(
    folders: tuple[Path, ...], tmp_path: Path, stage: str
) -> None:
    road = Road(tmp_path / "job")
    request = from_keypoints(folders, overlay=True)
    order = Order("motion", request, new_run_id(), "test")
    road.folder.prepare(order)
    assert run_job(road.folder, run_id=order.run_id, listener=_CancelAt(road, stage, 0)) == 130
    assert road.events[-1].kind == "cancelled" and not road.half_written()
    assert "artifacts/keypoints_2d_front.npz" in road.files() and "overlay_side.mp4" not in road.files()
    assert road.run(request) == 0, road.message
    assert {"overlay_side.mp4", "report.html"} <= road.files()
    if stage == "overlay":
        assert road.stages == {"overlay"}


def _hidden(folders: tuple[Path, ...], parts: list[int]) -> Iterator[tuple[Path, Keypoints2D]]:
    for index, folder in enumerate(folders):
        view = roads.true_view(index)
        view.confidence[:, parts] = 0.0
        view.positions[:, parts] = np.nan
        yield folder, view


@pytest.mark.parametrize("cameras", [1, 2])
@pytest.mark.parametrize("names", [("hands",), ("face", "arms"), ("hands", "face", "legs")], ids="+".join)
def test_absent_parts_are_normal(tmp_path: Path, names: tuple[str, ...], cameras: int) -> None:
    if cameras == 1:
        need_weights()
    blocks = {
        "hands": [*range(LEFT_HAND.start, LEFT_HAND.stop), *range(RIGHT_HAND.start, RIGHT_HAND.stop)],
        "face": list(range(FACE.start, FACE.stop)),
        "legs": [i for i, n in enumerate(BODY_25) if n[1:] in ("Knee", "Ankle", "BigToe", "SmallToe", "Heel")],
        "arms": [i for i, n in enumerate(BODY_25) if n[1:] in ("Elbow", "Wrist")],
    }
    absent = [joint for name in names for joint in blocks[name]]
    folders = (tmp_path / "front", tmp_path / "side")
    for folder, view in _hidden(folders, absent):
        write_openpose(folder, view)
    road = Road(tmp_path / "job")
    assert road.run(from_keypoints(folders[:cameras])) == 0, road.message
    found = Keypoints3D.load(road.folder.artifacts / "keypoints_3d.npz")
    unseen = [joint for joint in absent if cameras > 1 or joint >= BODY.stop]  # one camera guesses the body's joints
    assert found.confidence[:, unseen].max() < 0.1 < found.confidence[:, 1].min()  # two views guess the body's as well
    assert not found.validity[:, absent].any()
    assert np.isfinite(BodyMotion.load(road.folder.artifacts / "body_motion.npz").rotations).all()
    assert (road.report()["confidence"]["left hand"] == 0) == ("hands" in names)


def test_hands_and_face_that_nobody_asked_for_are_left_out(folders: tuple[Path, ...], tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    assert road.run(from_keypoints(folders, hands=False, face=False)) == 0
    found = Keypoints3D.load(road.folder.artifacts / "keypoints_3d.npz")
    assert not found.confidence[:, BODY.stop :].any()


def test_views_of_one_name_get_names_of_their_own(folders: tuple[Path, ...], tmp_path: Path) -> None:
    long = "長" * 80
    moved = (tmp_path / "a" / long, tmp_path / "b" / long)
    for index, folder in enumerate(moved):
        write_openpose(folder, roads.true_view(index))
    road = Road(tmp_path / "job")
    assert road.run(from_keypoints(moved, triangulation="ransac")) == 0, road.message
    assert error_mm(road) < 2
    assert {f"artifacts/keypoints_2d_{'長' * 60}.npz", f"artifacts/keypoints_2d_{'長' * 60}_2.npz"} <= road.files()


def test_a_rate_given_by_hand_overrules_the_films(tmp_path: Path, folders: tuple[Path, ...]) -> None:
    road = Road(tmp_path / "job")
    assert road.run(from_keypoints(folders, video=(DEMO / "front.mp4", DEMO / "side.mp4"), fps=60.0)) == 0
    motion = BodyMotion.load(road.folder.artifacts / "body_motion.npz")
    assert motion.fps == 60 and np.isclose(motion.times[-1], (FRAMES - 1) / 60)


def test_start_and_stop_mean_the_same_moments_of_clips_of_two_rates(tmp_path: Path) -> None:
    films, frames = [], (slice(0, 80), slice(0, 80, 2))
    for index, (name, rate) in enumerate((("front", 30.0), ("side", 15.0))):
        films.append(tmp_path / f"{name}.mp4")
        with write_movie(films[-1], rate, SIZE) as movie:
            for _ in range(80)[frames[index]]:
                movie.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        write_openpose(tmp_path / name, roads.true_view(index, frames[index]))
    road, given = Road(tmp_path / "job"), {"fps": None, "sync": "off", "triangulation": "ransac"}
    folders = [tmp_path / "front", tmp_path / "side"]
    assert road.run(from_keypoints(folders, video=tuple(films), start=10, stop=30, **given)) == 0, road.message
    found = Keypoints3D.load(road.folder.artifacts / "keypoints_3d.npz")
    truth = TRUTH["positions"][20:60:2, :25][:, JOINTS]
    assert len(found.times) == 20 and found.fps == 15.0
    assert 1000 * np.nanmean(np.linalg.norm(found.positions[:, JOINTS] - truth, axis=-1)) < 4  # a frame aside: 70


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, folders: tuple[Path, ...]) -> Road:
    """The road of one camera, from true 2D."""
    need_weights()
    road = Road(tmp_path_factory.mktemp("one") / "job")
    assert road.run(from_keypoints(folders[:1], overlay=True)) == 0, road.message
    return road


def test_one_camera_gives_the_same_artifacts_in_its_own_frame(one: Road) -> None:
    assert {"artifacts/keypoints_2d.npz", "artifacts/keypoints_3d.npz", "artifacts/body_motion.npz"} <= one.files()
    found = Keypoints3D.load(one.folder.artifacts / "keypoints_3d.npz")
    motion = BodyMotion.load(one.folder.artifacts / "body_motion.npz")
    assert found.header["frame"] == motion.header["frame"] == "camera" and len(found.header["cameras"]) == 1
    assert found.positions.shape == (FRAMES, 137, 3) and (found.positions[:, 8, 2] > 1).all()


def test_one_camera_is_near_the_truth_and_its_picture_lies_on_the_person(one: Road) -> None:
    found = Keypoints3D.load(one.folder.artifacts / "keypoints_3d.npz")
    camera = Camera.from_header(TRUTH["header"]["cameras"][0])
    there = TRUTH["positions"][:FRAMES] @ camera.rotation.T + camera.translation
    relative = (found.positions - found.positions[:, 8:9]) - (there - there[:, 8:9])
    assert 1000 * np.nanmean(np.linalg.norm(relative[:, JOINTS], axis=-1)) < 120
    off = project(Camera.from_header(found.header["cameras"][0]), found.positions) - TRUTH["positions_px"][0][:FRAMES]
    assert np.nanmedian(np.linalg.norm(off[:, JOINTS], axis=-1)) < 20
    assert probe(one.folder.path / "overlay.mp4").frames == FRAMES


def test_a_clip_of_one_camera_needs_no_calibration(tmp_path: Path) -> None:
    need_weights()
    road = Road(tmp_path / "job")
    assert road.run(MotionRequest(video=(DEMO / "side.mp4",), stop=15, overlay=False)) == 0, road.message
    motion = BodyMotion.load(road.folder.artifacts / "body_motion.npz")
    assert len(motion.root) == 15 and motion.header["sources"] == [str(DEMO / "side.mp4")]


def test_frames_cut_off_are_cut_off_every_array() -> None:
    frames = np.arange(20.0)
    header = {"unit": "px", "frame": "image", "fps": FPS, "skeleton": "openpose137", "joints": [], "image_size": [4, 4]}
    points = np.broadcast_to(frames[:, None, None], (20, 137, 3))
    whole = Keypoints2D(header, points[..., :2], points[..., 0], frames, world_m=points)
    cut = see.trimmed(whole, 5, 9)
    assert cut.world_m is not None
    arrays = (cut.positions, cut.confidence, cut.times, cut.world_m)
    assert {len(array) for array in arrays} == {4} and all((array[0] == 5).all() for array in arrays)
