"""The road of the motion wing: clips or keypoint files -> 2D -> 3D -> skeleton -> report.

Markers enter it at 3D. Every stage reads artifacts and writes one; an artifact that was made from the same inputs by
the same settings is used again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, CameraSet
from ..core.formats.markers import read_markers
from ..core.stages import content_of
from ..protocol.errors import InputError
from ..protocol.events import Reporter, SilentReporter
from ..protocol.requests import MotionRequest
from ..runtime import weights
from ..runtime.device import choose, set_threads
from ..runtime.video import probe
from .fit import FitSettings, fit
from .job import Job, forget_people
from .report import write_report
from .rig import camera_of_view, check_rig, read_rig, settle_rig
from .see import capture_views, trimmed, view_names
from .summary import Capture
from .sync import Offsets, find_offsets, in_step
from .views import check_image_sizes, check_rotations, match_cameras


def run(request: MotionRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Capture a motion into a job folder.

    Writes `artifacts/keypoints_2d*.npz`, `artifacts/keypoints_3d.npz`, `artifacts/body_motion.npz`, `overlay*.mp4`,
    `overlay*.png`, `report.json` and `report.html`.
    Returns:
        The numbers of `report.json`.
    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = Job(request, Path(folder) / "artifacts", report)
    if request.markers is not None:
        return present(job, to_skeleton(job, [], from_markers(job, request.markers)))
    cameras = read_rig(request.calibration, job)
    check_doors(request, cameras)
    if request.people != 1:
        from .company import run_people

        return run_people(job, cameras)
    forget_people(job.artifacts, 1)
    views = put_in_step(job, capture_views(job), cameras)
    cameras = settle_rig(job, views, cameras)
    check_rig(job, views, cameras)
    return present(job, to_skeleton(job, views, to_space(job, views, cameras)))


def to_skeleton(job: Job, views: Sequence[Keypoints2D], keypoints: Keypoints3D) -> Capture:
    """Fit a skeleton; what is known of the capture then is what is reported."""
    request = job.request
    settings = FitSettings(
        smoothing=request.smoothing, fill_gap_s=request.fill_gap_s, floor=request.floor, hands=request.hands
    )
    make = lambda: fit(keypoints, settings, job).with_header(start=request.start)  # noqa: E731
    motion = job.stage(BodyMotion, "body_motion", "fit", [settings, keypoints.header["fingerprint"]], make)
    return Capture(
        views, cameras_of(keypoints), keypoints, motion, job.seconds, job.warnings, offsets=job.offsets,
        findings=job.findings,
    )  # fmt: skip


def check_doors(request: MotionRequest, cameras: CameraSet | None) -> None:
    """Refuse what cannot work now, and not after minutes of detection: clips, sizes, device, weights."""
    footage = [probe(video) for video in request.video]
    for place, video in enumerate(request.video):
        if any(video.samefile(other) for other in request.video[:place]):
            raise InputError(f"{video.name} is given for two views.", "Give each view the clip of its own camera.")
    if cameras is not None and footage and not request.keypoints:
        _check_sizes([film.size for film in footage], view_names(request.video), cameras)
    set_threads(request.threads)
    if request.tuned is not None:
        from .learned import load_trust

        load_trust(request.tuned)
    one_view = max(len(request.video), len(request.keypoints)) == 1
    if one_view or request.device == "cuda":
        choose(request.device, request.threads)
    if one_view:
        from ..sight.lift import load_net

        load_net(device=_device(request))


def _device(request: MotionRequest) -> str:
    """Where one view is lifted. A processor takes 0.2 ms a frame: an accelerator is woken only when it is asked for."""
    return "cuda" if request.device == "cuda" else "cpu"


def _check_sizes(sizes: Sequence[tuple[int, int]], names: Sequence[str], cameras: CameraSet) -> None:
    nothing = {"positions": np.zeros((1, 0, 2)), "confidence": np.zeros((1, 0)), "times": np.zeros(1)}
    headers = [{"image_size": list(size), "view": name} for size, name in zip(sizes, names, strict=True)]
    views = [Keypoints2D(header=header, **nothing) for header in headers]
    if len(views) == 1:
        camera_of_view(cameras, views[0], SilentReporter())
    else:
        check_image_sizes(views, match_cameras(views, cameras), SilentReporter())


def put_in_step(job: Job, views: list[Keypoints2D], cameras: CameraSet | None) -> list[Keypoints2D]:
    """Shift clips that started at different moments; what says so is an artifact."""
    request = job.request
    if len(views) < 2 or request.sync == "off":
        return views
    rig = None if cameras is None else match_cameras(views, cameras)
    if rig is not None:
        check_rotations(rig)
    videos = request.video if request.fps is None else ()  # at another rate its sound tells another time
    header = None if rig is None else [camera.to_header() for camera in rig]
    inputs = [request.sync, [view.header["fingerprint"] for view in views], [str(v) for v in videos], header]
    make = lambda: find_offsets(views, videos, request.sync, job, cameras=rig)  # noqa: E731
    job.offsets = job.stage(Offsets, "sync", "sync", inputs, make)
    return in_step(views, job.offsets, job)


def to_space(job: Job, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> Keypoints3D:
    """Lift one view, or triangulate several."""
    request = job.request
    seen = [view.header["fingerprint"] for view in views]
    rig = None if cameras is None else [camera.to_header() for camera in cameras]
    if len(views) > 1:
        from .triangulate import TriangulateSettings, triangulate

        if cameras is None:
            raise InputError(f"{len(views)} views without a calibration.", "Give the calibration of their cameras.")
        method = "auto" if request.triangulation == "lift" else request.triangulation
        settings = TriangulateSettings(
            method,
            request.min_confidence,
            unswap=request.unswap,
            tuned=request.tuned,
            whole_clip=request.whole_clip,
            move_cameras=request.move_cameras,
        )
        tuned = None if request.tuned is None else content_of(request.tuned)
        nets = [tuned] + [weights.registry()[name].sha256 for name in ("view-trust", "joint-volume", "motion-prior")]
        names = [str(view.header.get("view", "")) for view in views]
        make = lambda: triangulate(views, cameras, settings, job).with_header(views=names)  # noqa: E731
        return job.stage(Keypoints3D, "keypoints_3d", "triangulate", [settings, seen, rig, nets], make)
    from ..sight.lift import LiftSettings, lift, load_net

    camera = None if cameras is None else camera_of_view(cameras, views[0], job)
    lifting = LiftSettings(min_confidence=request.min_confidence, focal_px=request.focal_px, height_m=request.height_m)
    make = lambda: lift(views[0], lifting, job, camera=camera, net=load_net(device=_device(request)))  # noqa: E731
    net = weights.registry()["lifter"].sha256
    return job.stage(Keypoints3D, "keypoints_3d", "lift", [lifting, seen, rig, net], make)


def from_markers(job: Job, path: Path) -> Keypoints3D:
    """Find the joints among markers; what had to be guessed becomes a warning."""
    request = job.request

    def make() -> Keypoints3D:
        found = read_markers(path, fps=request.fps)
        for note in found.header["notes"]:
            job.warning("markers", note)
        return trimmed(found, request.start, request.stop)

    inputs = [content_of(path), path.name, request.fps, request.start, request.stop]
    return job.stage(Keypoints3D, "keypoints_3d", "markers", inputs, make)


def present(job: Job, capture: Capture) -> dict[str, Any]:
    """Make what people look at: overlay movies and the report page."""
    folder, pictures = job.artifacts.parent, []
    if job.request.overlay:
        from .overlay import write_overlay

        start = time.perf_counter()
        for view, camera in zip(capture.views, capture.cameras, strict=True):
            name = "overlay" if len(capture.views) == 1 else f"overlay_{view.header['view']}"
            still = write_overlay(folder / f"{name}.mp4", view, capture.motion, camera, job, start=job.request.start)
            job.artifact(name, f"{name}.mp4")
            pictures += [still] if still else []
        job.seconds["overlay"] = time.perf_counter() - start
    numbers = write_report(folder, capture, pictures=pictures)
    job.artifact("report", "report.html")
    return numbers


def cameras_of(keypoints: Keypoints3D) -> list[Camera]:
    """The cameras of the views, in their order."""
    return [Camera.from_header(header) for header in keypoints.header["cameras"]]
