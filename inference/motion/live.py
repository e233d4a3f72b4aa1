"""Live: a camera or a film to a stream of poses, one frame at a time; what is recorded goes the ordinary road.

Nothing of what is seen is kept, unless recording is asked for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.skeletons import BODY, HUMANOID_NAMES, HUMANOID_PARENTS, MIN_FRAMES, MIN_JOINTS, OPENPOSE_137
from ..protocol.errors import Cancelled, InputError
from ..protocol.events import Reporter
from ..protocol.folder import JobFolder
from ..protocol.requests import LiveRequest, MotionRequest
from ..protocol.stream import StreamWriter, clock_ns
from ..runtime.device import choose
from ..runtime.video import MovieWriter, write_movie
from ..sight.blaze import Landmarks
from ..sight.detect import DetectSettings, follow
from ..sight.lift import LiftSettings, StreamingLifter, load_net
from ..sight.live_source import Picture, Source, open_camera, open_film
from .live_fit import LiveFit, LivePose

Array = np.ndarray
RECORDED = "keypoints_2d_recorded.npz"
FOOTAGE = "footage.mp4"
_RATE_FRAMES = 12  # over which the rate at which pictures are seen is measured
_RATE_OFF = 1.25  # the lifter is made anew for a rate that differs so much from the one it was made for
_REPLAYED = 8  # frames that a new lifter is shown again
_LONGEST_STEP_S = 0.5
_BRIDGED_S = 0.25  # of a recording: longer spans without a picture show nobody
_PAUSE_S = 1.0  # what is left of a longer pause between two recordings


def run(request: LiveRequest, folder: JobFolder, report: Reporter) -> dict[str, Any]:
    """Publish poses in `live.bin` until the source ends or the folder's `stop` appears; then fit what was recorded.

    Raises:
        InputError: the camera or the film cannot be opened, or a recording shows nobody.
        Cancelled: somebody asked to stop; a recording is lost.
    """
    choose("cpu", request.threads or 1)
    load_net()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open(request))
        settings = DetectSettings(min_confidence=request.min_confidence, hands=request.hands, face=False)
        see = stack.enter_context(follow(source.fps, settings, report))
        see(np.zeros((source.size[1], source.size[0], 3), np.uint8))  # the first look takes longest: before time counts
        stack.callback(_forget, folder.stream)
        stream = stack.enter_context(StreamWriter(folder.stream, len(HUMANOID_NAMES)))
        recording = _Recording(request, folder, source)
        stack.callback(recording.close)
        show = _Show(request, source, see, stream, recording)
        _play(source, show, folder, report)
    if not recording.frames:
        return {"frames": show.frames, "recorded": 0}
    return {"frames": show.frames, "recorded": recording.frames, **recording.finish(report)}


def _open(request: LiveRequest) -> contextlib.AbstractContextManager[Source]:
    if request.video is not None:
        return open_film(request.video.resolve(), in_time=request.pace == "real-time")
    return open_camera(request.camera, request.camera_size)


def _play(source: Source, show: _Show, folder: JobFolder, report: Reporter) -> None:
    if show.request.record:
        folder.ask_to_record()
    while not source.has_ended and not folder.stop.exists():
        if folder.cancel.exists():  # `progress` looks more seldom
            raise Cancelled()
        report.progress("live", show.frames, source.frames)
        picture = source.next()
        if picture is not None:
            show.take(picture, is_recording=folder.record.exists())


def _forget(path: Path) -> None:
    """Remove the last pose; a system that does not allow it while somebody reads leaves it in the folder."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


class _Show:
    """What happens to each picture: seen, lifted, fitted, published, and recorded where that is wanted."""

    def __init__(
        self,
        request: LiveRequest,
        source: Source,
        see: Callable[[Array], Landmarks | None],
        stream: StreamWriter,
        recording: _Recording,
    ) -> None:
        self.request, self.frames = request, 0
        self._see, self._stream, self._recording = see, stream, recording
        lifting = LiftSettings(
            min_confidence=request.min_confidence, focal_px=request.focal_px, height_m=request.height_m
        )
        self._lifter = _SteadyLifter(source, lifting)
        self._fit = LiveFit(source.fps, smoothing=request.smoothing, hands=request.hands)
        self._generation = 0
        self._time_s: float | None = None
        self._other_ms = 0.0

    def take(self, picture: Picture, *, is_recording: bool) -> None:
        """Turn a picture into a published pose."""
        marks = [picture.captured_ns, clock_ns()]
        rgb = np.ascontiguousarray(picture.rgb[:, ::-1]) if self.request.mirror else picture.rgb
        kept = rgb.copy() if is_recording and self.request.footage else None
        seen = self._see(rgb)
        positions = np.full((len(OPENPOSE_137), 2), np.nan) if seen is None else seen.positions
        confidence = np.zeros(len(OPENPOSE_137)) if seen is None else seen.confidence
        marks.append(clock_ns())
        points, sure = self._lifter.push(positions, confidence, picture.time_s)
        marks.append(clock_ns())
        step_s = 1.0 / self._lifter.fps if self._time_s is None else picture.time_s - self._time_s
        self._time_s = picture.time_s
        measured = confidence >= max(self.request.min_confidence, 1e-6)
        pose = self._fit.push(points, sure, measured, min(max(step_s, 1e-3), _LONGEST_STEP_S))
        marks.append(clock_ns())
        if pose is not None:
            self._publish(pose, marks)
        if is_recording:
            self._recording.add(_Seen(picture.time_s, positions, confidence), kept)
        self._other_ms = (clock_ns() - marks[-1]) / 1e6
        self.frames += 1

    def _publish(self, pose: LivePose, marks: list[int]) -> None:
        if self._fit.generation != self._generation:
            self._generation = self._fit.generation
            self._stream.describe(_head(self._fit))
        self._stream.write(
            captured_ns=marks[0], generation=self._generation, recorded=self._recording.frames,
            rotations=pose.rotations.ravel().tolist(), root=pose.root.tolist(), confidence=pose.confidence.tolist(),
            contacts=pose.contacts.tolist(), timings=[*(np.diff(marks) / 1e6).tolist(), self._other_ms],
        )  # fmt: skip


def _head(fit: LiveFit) -> dict[str, Any]:
    skeleton = fit.skeleton
    return {
        "generation": fit.generation, "bones": list(HUMANOID_NAMES), "parents": list(HUMANOID_PARENTS),
        "rest": np.round(skeleton.rest, 6).tolist(), "lengths": np.round(skeleton.lengths, 6).tolist(),
    }  # fmt: skip


class _SteadyLifter:
    """The streaming lifter, made for the rate at which pictures are seen, which only shows while it runs."""

    def __init__(self, source: Source, settings: LiftSettings) -> None:
        self.fps = source.fps
        self._size, self._settings = source.size, settings
        self._lifter = StreamingLifter(source.size, self.fps, settings)
        self._past: deque[_Seen] = deque(maxlen=max(_RATE_FRAMES, _REPLAYED))

    def push(self, positions: Array, confidence: Array, time_s: float) -> tuple[Array, Array]:
        """(137, 3) metres in the camera's frame and (137,) confidence of the next frame."""
        self._past.append(_Seen(time_s, positions, confidence))
        self._adapt()
        return self._lifter.push(positions, confidence)

    def _adapt(self) -> None:
        if len(self._past) < _RATE_FRAMES:
            return
        span = self._past[-1].time_s - self._past[0].time_s
        rate = (len(self._past) - 1) / span if span > 0 else self.fps
        if max(rate / self.fps, self.fps / rate) < _RATE_OFF:
            return
        self.fps = rate
        self._lifter = StreamingLifter(self._size, rate, self._settings)
        for seen in list(self._past)[-_REPLAYED - 1 : -1]:
            self._lifter.push(seen.positions, seen.confidence)


@dataclass(frozen=True)
class _Seen:
    """What one picture showed."""

    time_s: float
    positions: Array
    confidence: Array


@dataclass
class _Recording:
    """What is kept while recording is wanted, in memory until the capture ends; footage goes to the disk."""

    request: LiveRequest
    folder: JobFolder
    source: Source
    seen: list[_Seen] = field(default_factory=list, init=False)
    _shift_s: float = field(default=0.0, init=False)  # by which pauses were shortened
    _last_s: float = field(default=0.0, init=False)
    _movie: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    _writer: MovieWriter | None = field(default=None, init=False)
    _pictures: int = field(default=0, init=False)

    @property
    def frames(self) -> int:
        """How many frames were kept."""
        return len(self.seen)

    def add(self, seen: _Seen, picture: Array | None) -> None:
        """Keep a frame; long pauses are shortened."""
        if self.seen:
            self._shift_s += max(0.0, seen.time_s - self._last_s - _PAUSE_S)
        self._last_s = seen.time_s
        self.seen.append(_Seen(seen.time_s - self._shift_s, seen.positions, seen.confidence))
        if picture is not None:
            self._film(picture)

    def _film(self, picture: Array) -> None:
        """Write the picture as often as the film's steady rate asks for."""
        if self._writer is None:
            size = (picture.shape[1], picture.shape[0])
            path = self.folder.path / FOOTAGE
            self._writer = self._movie.enter_context(write_movie(path, self.source.fps, size))
        due = round((self.seen[-1].time_s - self.seen[0].time_s) * self.source.fps) + 1
        for _ in range(self._pictures, due):
            self._writer.write(picture)
        self._pictures = max(self._pictures, due)

    def close(self) -> None:
        """Finish the footage."""
        self._movie.close()

    def finish(self, report: Reporter) -> dict[str, Any]:
        """Write the keypoints and send them along the ordinary road to `body_motion.npz`."""
        from . import pipeline

        keypoints = self._keypoints()
        path = self.folder.artifacts / RECORDED
        keypoints.save(path)
        report.artifact("keypoints_2d_recorded", f"artifacts/{RECORDED}")
        footage = (self.folder.path / FOOTAGE,) if self._pictures else ()
        if footage:
            report.artifact("footage", FOOTAGE)
        request = MotionRequest(
            video=footage, keypoints=(path,), smoothing=self.request.smoothing, hands=self.request.hands, face=False,
            min_confidence=self.request.min_confidence, focal_px=self.request.focal_px, overlay=bool(footage),
            height_m=self.request.height_m, threads=self.request.threads, device="cpu",
        )  # fmt: skip
        return pipeline.run(request, self.folder.path, report)

    def _keypoints(self) -> Keypoints2D:
        times = np.array([seen.time_s for seen in self.seen])
        positions = np.stack([seen.positions for seen in self.seen])
        confidence = np.stack([seen.confidence for seen in self.seen])
        least = max(self.request.min_confidence, 1e-6)
        shown = int(((confidence[:, BODY] >= least).sum(axis=1) >= MIN_JOINTS).sum())
        if shown < MIN_FRAMES:
            raise InputError(
                f"{shown} of {len(times)} recorded frames show a person; at least {MIN_FRAMES} are needed.",
                "Record for longer, with one person in view, whole and in good light.",
            )
        positions, confidence = at_rate(positions, confidence, times, self.source.fps)
        size = [side // 2 * 2 if self._pictures else side for side in self.source.size]  # as films are
        header = {
            "unit": "px", "frame": "image", "fps": self.source.fps, "skeleton": "openpose137", "source": "",
            "joints": list(OPENPOSE_137), "image_size": size, "view": "live",
        }  # fmt: skip
        return Keypoints2D(header, positions, confidence, np.arange(len(positions)) / self.source.fps)


def at_rate(positions: Array, confidence: Array, times: Array, fps: float) -> tuple[Array, Array]:
    """Bring (T, J, 2) keypoints with (T, J) confidences, seen at any (T,) times, to a steady rate.

    In straight lines between two pictures, with the lesser confidence; nothing where they are far apart.
    """
    at = times[0] + np.arange(round((times[-1] - times[0]) * fps) + 1) / fps
    after = np.clip(np.searchsorted(times, at), 1 if len(times) > 1 else 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    gap = times[after] - times[before]
    share = np.clip((at - times[before]) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)
    share = np.where(np.abs(share - share.round()) < 0.05, share.round(), share)  # a picture as good as there
    share = share[:, None]
    low = np.where(share < 1.0, confidence[before], np.inf)
    high = np.where(share > 0.0, confidence[after], np.inf)
    merged = np.minimum(low, high)
    merged[((gap > _BRIDGED_S)[:, None] & (share > 0.0) & (share < 1.0))[:, 0]] = 0.0
    a = np.where(np.isfinite(positions[before]), positions[before], 0.0)
    b = np.where(np.isfinite(positions[after]), positions[after], 0.0)
    points = a * (1.0 - share[..., None]) + b * share[..., None]
    return np.where(merged[..., None] > 0, points, np.nan), merged
