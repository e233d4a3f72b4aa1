"""A film played to a real worker as if it were a camera: what it publishes, what it keeps, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from inference.core.artifacts import BodyMotion
from inference.core.humanoid import bone
from inference.core.kinematics import forward, transformed
from inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS
from inference.motion.live import at_rate
from inference.motion.live_fit import MEASURED_AT, LiveFit
from inference.protocol.client import Job, WorkerClient
from inference.protocol.errors import InputError, RequestError
from inference.protocol.requests import LiveRequest
from inference.protocol.stream import STAGES, LiveFrame, StreamReader, clock_ns
from inference.runtime.video import read_frames, write_movie
from inference.sight import live_source
from inference.sight.live_source import open_camera, open_film

DEMO = Path(__file__).resolve().parents[2] / "inference/demo/front.mp4"
FRAMES = 96
LIMBS = [i for i, name in enumerate(HUMANOID_NAMES) if name.split(".")[0] in (
    "head", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    client = WorkerClient(sys.executable, app="tests", grace_s=2.0)
    yield client
    client.close()


@dataclass
class Shown:
    """A frame, the skeleton it is of, and how long ago its picture was there when it was read."""

    frame: LiveFrame
    head: dict
    age_ms: float

    def joints(self) -> np.ndarray:
        """(B, 3) metres on the floor."""
        rotations = np.array(self.frame.rotations).reshape(1, -1, 4)
        root = np.array([self.frame.root])
        return forward(np.array(self.head["rest"]), self.head["parents"], rotations, root)[0, :, :3, 3]


def watch(job: Job, *, enough: int = 10_000, timeout_s: float = 120.0) -> list[Shown]:
    """Read the job's stream until it ends or so many frames were seen."""
    reader, shown, deadline = StreamReader(job.folder.stream), [], time.monotonic() + timeout_s
    while job.last is None and len(shown) < enough:
        assert time.monotonic() < deadline, (job.state, len(shown))
        frame = reader.read()
        if frame is not None:
            shown.append(Shown(frame, reader.head, (clock_ns() - frame.captured_ns) / 1e6))
        else:
            job.poll()
            time.sleep(0.002)
    reader.close()
    return shown


@pytest.fixture(scope="module")
def recorded(client, tmp_path_factory) -> tuple[Job, list[Shown], BodyMotion]:
    """The whole film, every picture of it, recorded."""
    folder = tmp_path_factory.mktemp("live") / "job"
    job = client.submit(folder, "live", LiveRequest(video=DEMO, pace="all", record=True))
    shown = watch(job)
    assert job.wait(60) and job.state == "done", job.last
    return job, shown, BodyMotion.load(folder / job.watch.artifacts["body_motion"])


def test_the_stream_shows_what_the_whole_capture_finds_later(recorded):
    _, shown, motion = recorded
    floor = np.array(motion.header["floor_from_frame"])
    rotations, root = transformed(motion.rest, motion.rotations, motion.root, floor)
    truth = forward(motion.rest, motion.parents, rotations, root)[..., :3, 3]
    warm = [one for one in shown if one.frame.sequence > MEASURED_AT[2]]
    assert len(warm) > 40
    live, whole = np.stack([one.joints() for one in warm]), truth[[one.frame.sequence - 1 for one in warm]]
    away = np.linalg.norm((live - live[:, :1] - whole + whole[:, :1])[:, LIMBS], axis=-1)
    assert away.mean() < 0.035, "metres, relative to the hips"
    assert np.abs(live[:, 0, 2] - whole[:, 0, 2]).mean() < 0.06, "height of the hips"
    soles = live[:, [bone("toe.L"), bone("toe.R")], 2].min(axis=1)
    assert -0.03 < np.median(soles) < 0.08


def test_every_frame_says_where_its_time_went(recorded):
    _, shown, _ = recorded
    stages = np.array([one.frame.timings for one in shown])
    assert stages.shape[1] == len(STAGES) and (stages >= 0).all()
    detect, lift, fit = (stages[:, STAGES.index(name)] for name in ("detect", "lift", "fit"))
    assert np.median(detect) > 1.0
    assert np.quantile(lift + fit, 0.1) < 60.0, "milliseconds, on a busy machine; `bench live` has the true figures"
    assert all(one.age_ms < 10_000 for one in shown)


def test_the_skeleton_is_measured_better_a_few_times_and_then_stays(recorded):
    _, shown, motion = recorded
    generations = [one.frame.generation for one in shown]
    assert generations == sorted(generations) and generations[-1] == len(MEASURED_AT)
    assert {one.head["generation"] for one in shown} == set(generations)
    thigh = bone("thigh.L")
    assert abs(shown[-1].head["lengths"][thigh] / motion.header["lengths_m"][thigh] - 1.0) < 0.05


def test_a_recording_is_an_ordinary_capture_of_every_frame(recorded):
    job, shown, motion = recorded
    assert len(motion.root) == FRAMES and motion.fps == pytest.approx(30.0)
    assert shown[-1].frame.recorded == shown[-1].frame.sequence - 1
    assert {"body_motion", "report", "keypoints_2d"} <= set(job.watch.artifacts)
    assert not (job.folder.path / "footage.mp4").exists(), "pictures are kept only where that is asked for"


def test_without_recording_nothing_is_kept_and_a_stop_ends_well(client, tmp_path):
    job = client.submit(tmp_path / "job", "live", LiveRequest(video=DEMO))
    shown = watch(job, enough=3)
    start = time.monotonic()
    job.folder.ask_to_stop()
    last = job.wait(10)
    assert last and last.kind == "done" and time.monotonic() - start < 5.0
    assert shown[0].frame.recorded == 0 and job.watch.artifacts == {}
    files = {path.name for path in (tmp_path / "job").rglob("*") if path.is_file()}
    assert files == {"request.json", "events.jsonl", "log.txt", "lock", "stop"}


def test_a_film_in_time_leaves_out_pictures_rather_than_lag(client, tmp_path):
    job = client.submit(tmp_path / "job", "live", LiveRequest(video=DEMO))
    shown = watch(job)
    assert job.wait(10) and job.state == "done"
    ages = np.array([one.age_ms for one in shown])
    assert np.median(ages[len(ages) // 2 :]) < 500, "the second half is not further behind than one busy frame"
    span = (shown[-1].frame.captured_ns - shown[0].frame.captured_ns) / 1e9
    assert span < 3.4, "3.2 seconds of film"


def test_recording_can_begin_and_end_in_the_middle(client, tmp_path):
    job = client.submit(tmp_path / "job", "live", LiveRequest(video=DEMO, pace="all", hands=False))
    watch(job, enough=20)
    job.folder.ask_to_record()
    middle = watch(job, enough=30)
    job.folder.ask_to_record(wanted=False)
    watch(job)
    assert job.wait(60) and job.state == "done", job.last
    motion = BodyMotion.load(tmp_path / "job" / "artifacts" / "body_motion.npz")
    assert 20 <= len(motion.root) < 60
    assert middle[-1].frame.recorded > 0


def test_a_cancel_is_answered_within_a_fifth_of_a_second(client, tmp_path):
    taken = []  # beyond the look at one picture, which nobody can interrupt and which takes long on a busy machine
    for attempt in range(3):  # the machine may be busy once
        job = client.submit(tmp_path / str(attempt), "live", LiveRequest(video=DEMO, record=True))
        look_s = max(one.frame.timings[STAGES.index("detect")] for one in watch(job, enough=2)) / 1e3
        start = time.monotonic()
        job.cancel()
        while job.last is None:
            job.poll()
            time.sleep(0.002)
        taken.append(time.monotonic() - start - look_s)
        assert job.last.kind == "cancelled"
        assert not list((tmp_path / str(attempt) / "artifacts").iterdir()), "a cancelled recording is gone"
        if taken[-1] < 0.2:
            return
    assert min(taken) < 0.2


def test_a_camera_that_is_not_there_is_one_sentence_with_its_number_and_what_to_try(client, tmp_path):
    last = client.submit(tmp_path / "job", "live", LiveRequest(camera="97")).wait(60)
    assert last and last.kind == "failed" and last["code"] == "input"
    assert last["message"] == "Camera 97 cannot be opened."
    assert "plugged in" in last["hint"] and "no other program" in last["hint"]


def test_a_recording_of_nobody_is_refused(client, tmp_path):
    with write_movie(tmp_path / "empty.mp4", 30.0, (320, 240)) as movie:
        for _ in range(12):
            movie.write(np.full((240, 320, 3), 90, np.uint8))
    request = LiveRequest(video=tmp_path / "empty.mp4", pace="all", record=True)
    last = client.submit(tmp_path / "job", "live", request).wait(60)
    assert last and last.kind == "failed"
    assert "0 of 12 recorded frames show a person" in last["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_noticed_and_the_stream_stays_readable(tmp_path):
    client = WorkerClient(sys.executable, app="tests")
    job = client.submit(tmp_path / "job", "live", LiveRequest(video=DEMO))
    watch(job, enough=2)
    assert client.pid
    reader = StreamReader(job.folder.stream)
    os.kill(client.pid, signal.SIGKILL)
    last = job.wait(10)
    assert last and last.kind == "crashed" and "SIGKILL" in last["message"]
    frame = reader.read()
    assert frame is not None and np.isfinite(frame.rotations).all()
    reader.close()
    client.close()


def test_a_request_without_a_source_is_refused():
    with pytest.raises(RequestError, match="no camera and no film"):
        LiveRequest(camera=" ")


def test_a_camera_gives_its_newest_picture_with_its_colours_right():
    first = next(read_frames(DEMO))[2]
    with open_camera(str(DEMO), None) as camera:  # what OpenCV opens counts as a camera
        time.sleep(0.3)
        picture = camera.next()
        assert picture is not None and camera.size == (540, 720) and camera.fps == pytest.approx(30.0)
        assert picture.rgb.shape == (720, 540, 3) and picture.rgb.dtype == np.uint8
        background = (slice(0, 60), slice(0, 60))
        assert np.abs(picture.rgb[background].mean((0, 1)) - first[background].mean((0, 1))).max() < 6


def test_a_camera_that_falls_silent_is_a_sentence(monkeypatch):
    monkeypatch.setattr(live_source, "_SILENT_S", 0.3)
    with open_camera(str(DEMO), None) as camera, pytest.raises(InputError, match="gave no picture for 0.3 seconds"):
        while True:  # the film ends
            camera.next()


def test_a_film_that_is_late_skips_to_the_picture_that_is_due():
    with open_film(DEMO, in_time=True) as film:
        first = film.next()
        time.sleep(0.5)
        second = film.next()
        assert first is not None and second is not None
        assert first.time_s == 0.0 and 0.4 < second.time_s < 1.5
        assert (second.captured_ns - first.captured_ns) / 1e9 == pytest.approx(second.time_s, abs=1e-6)
    with pytest.raises(InputError, match="no file"), open_film(Path("/no/film.mp4"), in_time=True):
        pass


def test_recorded_keypoints_come_to_a_steady_rate_in_straight_lines():
    times = np.array([0.0, 0.1, 0.3, 0.4, 1.4])
    positions = np.stack([times * 100, times * 0], axis=-1)[:, None]
    confidence = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    points, sure = at_rate(positions, confidence, times, 10.0)
    assert points.shape == (15, 1, 2)
    np.testing.assert_allclose(points[:5, 0, 0], [0, 10, 20, 30, 40], atol=1e-9)
    np.testing.assert_allclose(sure[:5, 0], [0.9, 0.8, 0.7, 0.7, 0.6])
    assert np.isnan(points[6:13]).all() and not sure[6:13].any(), "a second without a picture shows nobody"
    assert sure[14, 0] == 0.5 and points[14, 0, 0] == pytest.approx(140.0)


def standing(shift: float = 0.0) -> np.ndarray:
    """(137, 3) keypoints of the average person, upright before a camera."""
    from inference.core.humanoid import make_skeleton, place_markers

    skeleton = make_skeleton()
    points = np.full((137, 3), np.nan)
    markers = place_markers(skeleton, skeleton.rest[None, :, :3, :3], skeleton.rest[None, :, :3, 3])[0]
    points[skeleton.marker_keypoints] = markers @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
    return points + [shift, 1.0, 3.0]


def test_a_limb_that_is_lost_stays_and_then_relaxes_without_a_leap():
    fit, points = LiveFit(30.0), standing()
    sure, seen = np.where(np.isfinite(points[:, 0]), 0.9, 0.0), np.isfinite(points[:, 0])
    arm, elbow = bone("upper_arm.L"), [6, 7]
    turns = []
    for frame in range(120):
        if frame == 40:
            sure[elbow] = 0.0
            sure[95:116] = 0.0
            seen = sure > 0
        pose = fit.push(points, sure, seen, 1 / 30)
        assert pose is not None
        turns.append(pose.rotations[arm])
        assert (pose.confidence[arm] > 0) == (frame < 40)
    steps = 2 * np.arccos(np.clip(np.abs(np.sum(np.array(turns[1:]) * np.array(turns[:-1]), axis=1)), 0, 1))
    assert np.degrees(steps[40:]).max() < 8.0
    away = 2 * np.degrees(np.arccos(np.clip(np.abs(np.array(turns) @ turns[39]), 0, 1)))
    assert away[45] < 2.0, "it stays for a moment"
    assert away[119] > 40.0, "and then hangs down"


def test_nobody_in_view_leaves_the_pose_and_takes_its_confidence():
    fit, points = LiveFit(30.0), standing()
    sure, seen = np.where(np.isfinite(points[:, 0]), 0.9, 0.0), np.isfinite(points[:, 0])
    nothing = np.zeros(137, bool)
    assert fit.push(np.full((137, 3), np.nan), np.zeros(137), nothing, 1 / 30) is None, "nobody was seen yet"
    before = [fit.push(points, sure, seen, 1 / 30) for _ in range(20)][-1]
    after = fit.push(points, np.zeros(137), nothing, 1 / 30)
    assert before is not None and after is not None
    np.testing.assert_allclose(after.root, before.root, atol=0.02)
    np.testing.assert_allclose(after.rotations, before.rotations, atol=0.05)
    assert before.confidence.max() > 0.5 and not after.confidence.any()


def test_feet_that_stand_are_in_contact_and_a_jump_leaves_the_floor():
    fit = LiveFit(30.0)
    heights, contacts = [], []
    for frame in range(60):
        points = standing()
        rise = 0.0 if frame < 45 else 0.3 * np.sin((frame - 44) / 15 * np.pi)
        points[:, 1] -= rise
        sure = np.where(np.isfinite(points[:, 0]), 0.9, 0.0)
        pose = fit.push(points, sure, sure > 0, 1 / 30)
        assert pose is not None
        joints = forward(fit.skeleton.rest, HUMANOID_PARENTS, pose.rotations[None], pose.root[None])
        heights.append(joints[0, bone("toe.L"), 2, 3])
        contacts.append(pose.contacts)
    assert (np.array(contacts)[30:44] > 0.5).all() and not (np.array(contacts)[50:54] > 0.5).any()
    assert abs(heights[40]) < 0.05 and heights[53] > 0.2
