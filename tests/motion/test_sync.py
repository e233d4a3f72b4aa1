"""Clips that started at different moments: how much, to a part of a frame, and when nothing may be moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from understudy.tests.motion import bodies

from inference.bench.motion import footage
from inference.bench.views import random_rig
from inference.core.artifacts import Keypoints2D
from inference.core.cameras import Camera, CameraSet, project
from inference.core.correlation import Edge, settle
from inference.core.skeletons import OPENPOSE_137
from inference.motion.fit import motion_keypoints
from inference.motion.sync import Offsets, find_offsets, in_step, shifted
from inference.motion.sync_motion import match_by_motion
from inference.motion.sync_report import run
from inference.motion.sync_sound import match_by_sound
from inference.motion.views import synchronise
from inference.protocol.errors import InputError, RequestError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import SyncRequest
from inference.runtime.sound import RATE, Sound, read_sound
from inference.runtime.video import write_movie

Array = np.ndarray
FINE = 300  # frames a second of the motions, of which clips take every tenth


class Heard(SilentReporter):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, code: str, text: str) -> None:
        self.said.append(f"{text} ({code})")


@cache
def motion(seed: int, seconds: float) -> Array:
    """(T, 137, 3) at `FINE` frames a second."""
    return motion_keypoints(bodies.moving(round(seconds * FINE), fps=FINE, seed=seed))


def rig(points: Array, count: int, seed: int) -> CameraSet:
    return random_rig(count, np.nanmedian(points.reshape(-1, 3), axis=0), np.random.default_rng(seed))


def clip(
    points: Array, camera: Camera, frames: Array, *, fps: float = 30.0, seed: int = 0, noise: float = 0.01
) -> Keypoints2D:
    """What a detector sees of the fine `frames`: noise of 1 % of the height, some joints elsewhere, some unseen."""
    rng = np.random.default_rng(seed)
    pixels = project(camera, points[frames])
    height = np.nanmax(np.ptp(pixels[:, :25], axis=1))
    pixels = pixels + noise * height * rng.standard_normal(pixels.shape)
    wrong = rng.random(pixels.shape[:2]) < 0.04
    pixels = np.where(wrong[..., None], pixels + 0.15 * height * rng.standard_normal(pixels.shape), pixels)
    seen = np.isfinite(pixels).all(-1) & (rng.random(pixels.shape[:2]) > 0.05)
    header = {
        "unit": "px", "frame": "image", "fps": fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(camera.size), "view": camera.name, "source": "",
    }  # fmt: skip
    return Keypoints2D(
        header, np.where(seen[..., None], pixels, np.nan), np.where(seen, 0.9, 0.0), np.arange(len(frames)) / fps
    )


def clips(seed: int, starts: Sequence[int], *, seconds: float = 6.0, step: int = 10) -> tuple[list, CameraSet]:
    """Clips that start at `starts` fine frames, a tenth of a frame each."""
    points = motion(seed, 12.0)
    cameras = rig(points, len(starts), seed)
    frames = np.arange(0, round(seconds * FINE), step)
    made = [clip(points, c, frames + s, seed=i) for i, (c, s) in enumerate(zip(cameras, starts, strict=True))]
    return made, cameras


def errors(offsets: Offsets, starts: Sequence[int]) -> Array:
    """Frames by which offsets are wrong."""
    return np.abs(offsets.seconds - (np.array(starts) - starts[0]) / FINE) * 30


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("calibrated", "most"), [(True, 0.2), (False, 0.5)])
def test_clips_are_put_in_step_to_a_part_of_a_frame(seed: int, calibrated: bool, most: float) -> None:
    starts = [(100, 743), (655, 12), (300, 316)][seed - 1]
    views, cameras = clips(seed, starts)
    said = Heard()
    offsets = find_offsets(views, [], "auto", said, cameras=cameras if calibrated else None)
    assert offsets.moved and errors(offsets, starts).max() <= most
    assert "put in step by motion" in said.said[0] and "frames" in said.said[0]


def test_three_views_agree_and_become_the_same_moments() -> None:
    starts = (400, 133, 987)
    views, cameras = clips(4, starts)
    offsets = find_offsets(views, [], "auto", SilentReporter(), cameras=cameras)
    assert errors(offsets, starts).max() <= 0.2
    together = in_step(views, offsets, SilentReporter())
    assert len({len(view.times) for view in together}) == 1
    points, first = motion(4, 12.0), together[0].times[0]
    for view, camera in zip(together, cameras, strict=True):
        moments = np.round((view.times + starts[0] / FINE) * FINE).astype(int)
        truth = project(camera, points[moments])[:, :25]
        off = np.linalg.norm(view.positions[:, :25] - truth, axis=-1)
        assert np.nanmedian(off) < 0.02 * np.nanmax(np.ptp(truth, axis=1))
        assert view.header["clip_start_s"] == pytest.approx(
            first - (0 if camera is cameras[0] else offsets.seconds[list(cameras).index(camera)]), abs=1e-6
        )


def test_clips_that_start_together_are_left_alone() -> None:
    views, cameras = clips(5, (60, 60))
    said = Heard()
    offsets = find_offsets(views, [], "auto", said, cameras=cameras)
    assert not offsets.moved and "in step to within" in offsets.header["said"] and not said.said
    assert all(a is b for a, b in zip(shifted(views, offsets), views, strict=True))


@pytest.mark.parametrize("calibrated", [True, False])
def test_two_different_performances_move_nothing_by_themselves(calibrated: bool) -> None:
    for seed in range(2):
        views, cameras = clips(10 + seed, (0, 0))
        others, _ = clips(20 + seed, (0, 0))
        offsets = find_offsets(
            [views[0], others[1]], [], "auto", SilentReporter(), cameras=cameras if calibrated else None
        )
        assert not offsets.moved and "not clear" in offsets.header["said"]


def test_a_walk_that_repeats_itself_is_told() -> None:
    """Two cameras that move along with the walker see the same stride over and over."""
    walk, _ = bodies.walking(12 * FINE, fps=FINE)
    points = motion_keypoints(walk)
    points = points - points[:, 8:9] * [1, 1, 0]
    cameras = rig(points, 2, 3)
    views = [clip(points, c, np.arange(s, s + 8 * FINE, 10), seed=s) for c, s in zip(cameras, (0, 155), strict=True)]
    offsets = find_offsets(views, [], "auto", SilentReporter(), cameras=cameras)
    assert not offsets.moved and "almost as well" in offsets.header["said"]
    said = Heard()
    forced = find_offsets(views, [], "motion", said, cameras=cameras)
    stride = abs(forced.seconds[1] - 155 / FINE) / 1.2
    assert forced.moved and abs(stride - round(stride)) < 0.02 and "almost as well" in said.said[0]


def test_a_wrong_frame_rate_is_found() -> None:
    """25 frames a second in a file that claims 30."""
    points = motion(6, 12.0)
    cameras = rig(points, 2, 6)
    views = [clip(points, cameras[0], np.arange(0, 8 * FINE, 10)), clip(points, cameras[1], np.arange(600, 2900, 12))]
    offsets = find_offsets(views, [], "auto", SilentReporter(), cameras=cameras)
    assert offsets.moved
    assert offsets.rates[1] == pytest.approx(30 / 25, rel=5e-4)
    assert abs(offsets.seconds[1] - 600 / FINE) * 30 <= 0.3


def test_a_clock_that_runs_a_thousandth_faster_is_followed() -> None:
    """29.97 frames a second in a file that claims 30: most of a frame in half a minute."""
    points = motion(7, 50.0)
    cameras = rig(points, 2, 7)
    frames = np.arange(0, 40 * FINE, 10)
    shown = frames, np.round(900 + frames * 1.001).astype(int)
    views = [clip(points, c, f, noise=0.003) for c, f in zip(cameras, shown, strict=True)]
    offsets = find_offsets(views, [], "auto", SilentReporter(), cameras=cameras)
    assert offsets.rates[1] == pytest.approx(1.001, abs=1e-4)
    assert abs(offsets.seconds[1] - 900 / FINE) * 30 <= 0.3


def test_clips_of_different_rates_and_lengths_one_inside_the_other() -> None:
    points = motion(8, 12.0)
    cameras = rig(points, 2, 8)
    long = clip(points, cameras[0], np.arange(0, 11 * FINE, 5), fps=60.0)
    short = clip(points, cameras[1], np.arange(1203, 1203 + 4 * FINE, 10))
    offsets = find_offsets([long, short], [], "auto", SilentReporter(), cameras=cameras)
    assert abs(offsets.seconds[1] - 1203 / FINE) * 30 <= 0.3
    together = in_step([long, short], offsets, SilentReporter())
    assert {len(view.times) for view in together} == {120} and together[0].fps == 30.0


def test_clips_without_a_common_moment_are_refused() -> None:
    views, cameras = clips(9, (0, 1750), seconds=6.0)
    offsets = find_offsets(views, [], "auto", SilentReporter(), cameras=cameras)
    assert not offsets.moved
    apart = replace(offsets, seconds=np.array([0.0, 5.9])).with_header(moved=True)
    with pytest.raises(InputError, match="have 3 frames in common .*0.00 to 5.97"):
        in_step(views, apart, SilentReporter())


def test_a_person_who_does_not_move_says_nothing() -> None:
    points = motion_keypoints(bodies.still(round(6 * FINE), fps=FINE))
    cameras = rig(points, 2, 1)
    views = [clip(points, camera, np.arange(0, 6 * FINE, 10), seed=i) for i, camera in enumerate(cameras)]
    for calibrated in (cameras, None):
        assert not find_offsets(views, [], "auto", SilentReporter(), cameras=calibrated).moved


def test_an_empty_view_is_not_put_in_step() -> None:
    views, cameras = clips(2, (0, 30))
    nobody = replace(views[1], positions=np.full_like(views[1].positions, np.nan), confidence=0 * views[1].confidence)
    assert match_by_motion((views[0], nobody), (cameras[0], cameras[1])) is None
    with pytest.raises(InputError, match="cam02 cannot be put in step with cam01 by motion"):
        find_offsets([views[0], nobody], [], "motion", SilentReporter(), cameras=cameras)


def test_a_pair_that_contradicts_the_others_is_left_out() -> None:
    edges = [Edge(0, 1, 1.0, 0.01), Edge(1, 2, 2.0, 0.01), Edge(0, 2, 3.0, 0.01), Edge(1, 3, -1.0, 0.01),
             Edge(0, 3, 0.01, 0.01), Edge(2, 3, 4.0, 0.01)]  # fmt: skip
    delays, kept = settle(4, edges, tolerance=0.05)
    assert np.allclose(delays, [0, 1, 3, 0], atol=0.02) and kept.tolist() == [True] * 5 + [False]


def test_frames_that_come_unevenly_are_compared_at_their_times() -> None:
    """A phone that drops frames: the same count, other moments."""
    points = motion(3, 12.0)
    cameras = rig(points, 2, 3)
    even = np.arange(0, 6 * FINE, 10)
    uneven = np.sort(np.random.default_rng(0).choice(np.arange(0, 7 * FINE, 10), len(even), replace=False))
    views = [clip(points, cameras[0], even, noise=0.0), clip(points, cameras[1], uneven, noise=0.0)]
    views[1] = replace(views[1], times=uneven / FINE)
    together = synchronise(views, SilentReporter())
    truth = project(cameras[1], points[np.round(together[1].times * FINE).astype(int)])
    off = np.linalg.norm(together[1].positions - truth, axis=-1)[:, :25]
    assert np.nanmedian(off) < 0.01 * np.nanmax(np.ptp(truth[:, :25], axis=1))


# --------------------------------------------------------------------------- sound


def room(rng: np.random.Generator) -> Array:
    """An impulse response: the direct sound and 0.4 s of reverberation."""
    count = int(0.4 * RATE)
    tail = 0.3 * rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
    tail[0] += 3.0
    return tail


def noises(kind: str, seconds: float, rng: np.random.Generator) -> Array:
    """Claps, or syllables of coloured noise."""
    out = np.zeros(int(seconds * RATE))
    at = 0.3
    while at < seconds - 0.5:
        length = 0.03 if kind == "claps" else rng.uniform(0.05, 0.3)
        count = int(length * RATE)
        shape = np.exp(-np.arange(count) / 60) if kind == "claps" else np.hanning(count)
        burst = np.convolve(rng.standard_normal(count), [1, 0.9, 0.8, 0.7], "same")
        out[int(at * RATE) : int(at * RATE) + count] += rng.uniform(0.3, 1.0) * shape * burst
        at += rng.uniform(0.6, 2.0) if kind == "claps" else length + rng.uniform(0.02, 0.4)
    return out


def recorded(source: Array, start: float, seconds: float, *, gain: float, seed: int, rate: float = 1.0) -> Array:
    """What a phone records from `start`: its own room, loudness and hiss."""
    rng = np.random.default_rng(seed)
    heard = np.convolve(source, room(rng))[: len(source)]
    times = start + np.arange(int(seconds * RATE)) / RATE * rate
    taken = np.interp(times, np.arange(len(source)) / RATE, heard)
    return (gain * (taken / np.abs(heard).max() + 0.01 * rng.standard_normal(len(taken)))).astype(np.float32)


@pytest.mark.parametrize("kind", ["claps", "speech"])
@pytest.mark.parametrize("start", [1.2345, -3.21])
def test_sound_says_the_delay_to_a_millisecond(kind: str, start: float) -> None:
    source = noises(kind, 20.0, np.random.default_rng(3))
    first = Sound(recorded(source, max(-start, 0), 12.0, gain=0.8, seed=1), 0.0)
    second = Sound(recorded(source, max(start, 0), 9.0, gain=0.03, seed=2), 0.0)
    match = match_by_sound(first, second)
    assert match is not None and match.clear
    assert match.delay == pytest.approx(start, abs=1e-3)


def test_sound_follows_a_clock_that_runs_faster() -> None:
    source = noises("speech", 70.0, np.random.default_rng(3))
    first = Sound(recorded(source, 0, 60.0, gain=0.8, seed=1), 0.0)
    second = Sound(recorded(source, 2.0, 60.0, gain=0.3, seed=2, rate=1.001), 0.0)
    match = match_by_sound(first, second)
    assert match is not None and match.rate == pytest.approx(1.001, abs=3e-5)
    assert match.at[0] - match.at[1] * 1.001 == pytest.approx(2.0, abs=2e-3)


def test_two_different_rooms_are_not_matched() -> None:
    sounds = [Sound(recorded(noises("speech", 12, np.random.default_rng(s)), 0, 10, gain=1, seed=s), 0) for s in (1, 2)]
    match = match_by_sound(*sounds)
    assert match is None or not match.clear


def test_silence_says_nothing() -> None:
    silent = Sound(np.zeros(5 * RATE, np.float32), 0.0)
    loud = Sound(recorded(noises("claps", 8, np.random.default_rng(1)), 0, 5, gain=1, seed=1), 0.0)
    assert match_by_sound(silent, loud) is None


def film(path: Path, samples: Array | None, frames: int = 60, *, sound_from: float = 0.0) -> Path:
    """A grey film at 30 fps with a sound track at 48 kHz that begins `sound_from` seconds after the pictures."""
    if samples is None:
        with write_movie(path, 30.0, (64, 48)) as movie:
            for _ in range(frames):
                movie.write(np.full((48, 64, 3), 90, np.uint8))
        return path
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="stereo")
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        fine = np.interp(np.arange(len(samples) * 6) / 6, np.arange(len(samples)), samples).astype(np.float32)
        for start in range(0, len(fine), 1024):
            block = np.stack([fine[start : start + 1024]] * 2)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, start + round(sound_from * 48000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def test_sound_in_films_puts_clips_in_step_where_motion_cannot(tmp_path: Path) -> None:
    source = noises("claps", 12.0, np.random.default_rng(7))
    films = [
        film(tmp_path / "a.mp4", recorded(source, 1.0, 8.0, gain=0.5, seed=1), 240),
        film(tmp_path / "b.mp4", recorded(source, 2.5, 6.0, gain=0.1, seed=2), 180, sound_from=0.1),
    ]
    points = motion_keypoints(bodies.still(round(8 * FINE), fps=FINE))
    cameras = rig(points, 2, 1)
    views = [clip(points, c, np.arange(0, n * 10, 10), seed=n) for c, n in zip(cameras, (240, 180), strict=True)]
    said = Heard()
    offsets = find_offsets(views, films, "auto", said, cameras=cameras)
    assert offsets.moved and offsets.seconds[1] == pytest.approx(1.4, abs=0.003)
    assert "by sound" in said.said[0]


def test_sound_and_motion_that_contradict_each_other_move_nothing(tmp_path: Path) -> None:
    source = noises("claps", 12.0, np.random.default_rng(7))
    films = [
        film(tmp_path / "a.mp4", recorded(source, 1.0, 6.0, gain=0.5, seed=1), 180),
        film(tmp_path / "b.mp4", recorded(source, 2.5, 6.0, gain=0.1, seed=2), 180),
    ]
    views, cameras = clips(3, (300, 600))
    said = Heard()
    offsets = find_offsets(views, films, "auto", said, cameras=cameras)
    assert not offsets.moved and "contradict" in said.said[0] and "+1.50 s and +1.00 s" in said.said[0]
    assert find_offsets(views, films, "sound", said).seconds[1] == pytest.approx(1.5, abs=0.002)


def test_a_film_without_sound_says_so(tmp_path: Path) -> None:
    films = [film(tmp_path / f"{name}.mp4", None) for name in "ab"]
    views, _ = clips(1, (0, 0), seconds=2.0)
    assert read_sound(films[0]) is None
    with pytest.raises(InputError, match="cam01, cam02 cannot be put in step by sound"):
        find_offsets(views, films, "sound", SilentReporter())


def test_real_footage_that_is_shifted_is_put_back(data_dir: Path) -> None:
    """What OpenPose saw in four cameras, cut to start at different frames; 1.2 s are left in common."""
    clips_, cameras = footage(data_dir)
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as arrays:
        seen, fps = np.array(arrays["pose2d"], float), float(arrays["fps"])
    starts = [0, 11, 4, 17]
    views = []
    for index, start in enumerate(starts):
        positions, confidence = np.full((80, 137, 2), np.nan), np.zeros((80, 137))
        rows = seen[start : start + 80, index]
        there = rows[..., 2] > 0
        positions[:, :25], confidence[:, :25] = np.where(there[..., None], rows[..., :2], np.nan), rows[..., 2]
        header = {
            "unit": "px", "frame": "image", "fps": fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(cameras[index].size), "view": clips_[index].stem, "source": "",
        }  # fmt: skip
        views.append(Keypoints2D(header, positions, confidence, np.arange(80) / fps))
    assert not find_offsets(views, [], "auto", SilentReporter(), cameras=cameras).moved  # too short to be sure
    offsets = find_offsets(views, [], "motion", SilentReporter(), cameras=cameras)
    assert np.abs(offsets.seconds * fps - starts).max() < 1.0


def test_the_task_says_when_clips_started_by_sound_alone(tmp_path: Path) -> None:
    source = noises("claps", 12.0, np.random.default_rng(7))
    films = tuple(
        film(tmp_path / f"{name}.mp4", recorded(source, start, 6.0, gain=0.5, seed=index), 180)
        for index, (name, start) in enumerate((("a", 1.0), ("b", 2.5)))
    )
    folder = tmp_path / "job"
    (folder / "artifacts").mkdir(parents=True)
    numbers = run(SyncRequest(video=films, by="sound"), folder, SilentReporter())
    assert numbers["views"][1]["seconds"] == pytest.approx(1.5, abs=0.002)
    assert "put in step by sound" in (folder / "report.html").read_text() and (folder / "report.json").is_file()
    assert Offsets.load(folder / "artifacts" / "sync.npz").moved


def test_one_clip_alone_is_refused() -> None:
    with pytest.raises(RequestError, match="1 given"):
        SyncRequest(video=(Path("a.mp4"),))
