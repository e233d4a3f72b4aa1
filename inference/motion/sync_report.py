"""The task `sync`: when each clip of a take started, without capturing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.formats.calibration import read_calibration
from ..core.skeletons import OPENPOSE_137
from ..protocol.events import Reporter
from ..protocol.requests import MotionRequest, SyncRequest
from ..runtime.video import probe
from .job import Job
from .pipeline import put_in_step
from .report import write_sync_report
from .see import capture_views, view_names
from .sync import Offsets, find_offsets


def run(request: SyncRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Find when each clip started.

    Writes `artifacts/sync.npz`, `report.json` and `report.html`, and `artifacts/keypoints_2d*.npz` where the person
    had to be looked at.
    Returns:
        The numbers of `report.json`.
    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    folder = Path(folder)
    offsets, views = _by_sound(request, folder, report) if request.by == "sound" else _seen(request, folder, report)
    numbers = write_sync_report(folder, offsets, views)
    report.artifact("report", "report.html")
    return numbers


def _by_sound(request: SyncRequest, folder: Path, report: Reporter) -> tuple[Offsets, list[Keypoints2D]]:
    views = []
    for video, name in zip(request.video, view_names(request.video), strict=True):
        film = probe(video)
        header = {
            "unit": "px", "frame": "image", "fps": film.fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(film.size), "view": name, "source": str(video.resolve()),
        }  # fmt: skip
        views.append(Keypoints2D(header, np.full((1, 137, 2), np.nan), np.zeros((1, 137)), np.zeros(1)))
    offsets = find_offsets(views, request.video, "sound", report)
    offsets.save(folder / "artifacts" / "sync.npz")
    report.artifact("sync", "artifacts/sync.npz")
    return offsets, views


def _seen(request: SyncRequest, folder: Path, report: Reporter) -> tuple[Offsets, list[Keypoints2D]]:
    seen = MotionRequest(
        video=request.video, keypoints=request.keypoints, calibration=request.calibration, sync=request.by,
        image_size=request.image_size, fps=request.fps, min_confidence=request.min_confidence, hands=False, face=False,
        threads=request.threads, overlay=False,
    )  # fmt: skip
    job = Job(seen, folder / "artifacts", report)
    cameras = None if request.calibration is None else read_calibration(request.calibration)
    views = capture_views(job)
    put_in_step(job, views, cameras)
    assert job.offsets is not None, "two views are compared"
    return job.offsets, views
