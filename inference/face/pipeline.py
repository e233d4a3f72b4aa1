"""The road of face capture: film -> points -> track -> overlay, report; or a file of Live Link Face -> track."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.artifacts import FacePoints, FaceTrack
from ..core.formats.live_link import read_live_link, write_live_link
from ..core.stages import Stages, content_of
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..protocol.requests import FaceRequest
from ..runtime.video import VideoInfo, probe, read_frames, squared
from .capture import CaptureSettings, capture, recorded
from .crop import SIDE, cut
from .pictures import load_pictures
from .report import numbers_of, write_report
from .response import load_response

Array = np.ndarray
_MIN_FPS = 8.0  # below, blinks and words fall between frames


class FaceJob(Stages):
    """One run."""

    algorithm: ClassVar[int] = 4
    request: FaceRequest


def run(request: FaceRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Capture a face in a job folder.

    Writes `artifacts/face_track.npz`, of a film also `face_points.npz` and, where asked for, `overlay.mp4`;
    `report.json`, `report.html`.

    Returns:
        The numbers of `report.json`.

    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = FaceJob(request, Path(folder) / "artifacts", report)
    job.artifacts.mkdir(parents=True, exist_ok=True)
    track = imported(job, request.live_link) if request.live_link is not None else filmed(job)
    if request.export is not None:
        write_live_link(request.export, track)
    movie = job.artifacts / "overlay.mp4"
    if request.overlay and request.video is not None:
        from .overlay import draw_overlay

        began = time.perf_counter()
        draw_overlay(request.video, track, movie, request.start, job)
        job.seconds["overlay"] = time.perf_counter() - began
        job.artifact("overlay", f"artifacts/{movie.name}")
    elif movie.exists():
        movie.unlink()
    numbers = numbers_of(track, job.seconds, job.warnings)
    write_report(job.artifacts.parent, numbers, track)
    job.artifact("report", "report.html")
    return numbers


def imported(job: FaceJob, path: Path) -> FaceTrack:
    """Read a file of Live Link Face."""
    request = job.request

    settings = _settings(request)

    def make() -> FaceTrack:
        whole = read_live_link(path, request.fps)
        part = slice(request.start, request.stop)
        if request.start >= len(whole.times):
            raise InputError(_beyond(path.name, len(whole.times), request.start), "Choose other start and stop frames.")
        track = replace(
            whole, weights=whole.weights[part], rotations=whole.rotations[part], positions=whole.positions[part],
            eyes=whole.eyes[part], confidence=whole.confidence[part], times=whole.times[part],
        ).with_header(start=request.start)  # fmt: skip
        _check_neutral(request, path.name, len(track.times))
        missing = track.header["missing"]
        if missing:
            job.warning("shapes", f"{path.name} lacks {len(missing)} of the 52 shapes: {', '.join(missing[:6])}.")
        if request.fps is None and len(whole.times) < whole.fps:
            text = f"{path.name} is shorter than a second and says no rate; {whole.fps:g} a second are assumed."
            job.warning("rate", f"{text} Another one is said by --fps.")
        return recorded(track, settings, job)

    inputs = [content_of(path), request.fps, request.start, request.stop, settings]
    return job.stage(FaceTrack, "face_track", "read", inputs, make)


def _settings(request: FaceRequest) -> CaptureSettings:
    neutral = None if request.neutral is None else request.neutral - request.start
    return CaptureSettings(request.smoothing, request.focal_px, neutral, request.hold_s, request.visemes)


def _beyond(name: str, frames: int, start: int) -> str:
    return f"{name} has {frames} frames; none of them lies from frame {start} on."


def _check_neutral(request: FaceRequest, name: str, count: int) -> None:
    """Refuse a neutral frame that is not among `count` frames.

    Raises:
        InputError: it is not.
    """
    if request.neutral is not None and request.neutral - request.start >= count:
        text = f"{name} ends at frame {request.start + count - 1}; frame {request.neutral} is not read."
        raise InputError(text, "Choose another neutral frame.")


def filmed(job: FaceJob) -> FaceTrack:
    """Follow a face through a film and fit it."""
    request = job.request
    assert request.video is not None
    info = probe(request.video)
    if request.start >= info.frames:
        text = _beyond(info.path.name, info.frames, request.start)
        raise InputError(text, "Choose other start and stop frames.")
    response = load_response()
    import torch

    from ..runtime.device import set_threads

    set_threads(request.threads)
    torch.set_num_threads(1)  # its pictures are too small to be shared among threads
    seen = [content_of(request.video), request.start, request.stop, request.face, request.readings, request.fps]
    points = job.stage(FacePoints, "face_points", "see", seen, lambda: see(job, info))
    settings = _settings(request)
    _check_neutral(request, info.path.name, len(points.times))
    make = lambda: capture(points, response, settings, job, load_pictures(response))  # noqa: E731
    return job.stage(FaceTrack, "face_track", "fit", [points.header["fingerprint"], settings], make)


def see(job: FaceJob, info: VideoInfo) -> FacePoints:
    """Follow a face through a film."""
    from ..sight.detect import ahead
    from ..sight.face_track import FaceTracker
    from ..sight.faces import Faces

    request = job.request
    total = min(info.frames, request.stop or info.frames) - request.start
    times, points, presence, crops, size = [], [], [], [], info.size
    with Faces() as faces:
        tracker = FaceTracker(faces, request.fps or info.fps, request.face, request.readings, job)
        for _, time_s, rgb in ahead(read_frames(info.path, start=request.start, stop=request.stop)):
            picture = squared(rgb, info.pixel_aspect)
            found, size = tracker.see(picture), picture.shape[1::-1]
            times.append(time_s)
            points.append(np.full((478, 3), np.nan, np.float32) if found is None else found.points.astype(np.float32))
            presence.append(0.0 if found is None else found.presence)
            crops.append(np.zeros((SIDE, SIDE), np.uint8) if found is None else cut(picture, found.points))
            job.progress("see", len(times), max(total, len(times)))
    if not times:
        text = f"{info.path.name} has no frame from {request.start} on."
        raise InputError(text, "Choose other start and stop frames.")
    if len(times) < 0.98 * total:
        job.warning(
            "truncated", f"{info.path.name} breaks off after {request.start + len(times)} of {info.frames} frames."
        )
    clock = np.array(times) if request.fps is None else np.arange(len(times)) / request.fps
    fps = request.fps or (1.0 / float(np.median(np.diff(clock))) if len(clock) > 1 else info.fps)
    if fps < _MIN_FPS:
        job.warning(
            "slow", f"{info.path.name} has {fps:.3g} frames a second: blinks and quick words fall between frames."
        )
    header = {
        "unit": "px", "frame": "image", "fps": fps, "skeleton": "mediapipe478", "image_size": list(size),
        "source": str(info.path), "start": request.start,
    }  # fmt: skip
    return FacePoints(header, np.array(points), np.array(presence), clock, np.array(crops))
