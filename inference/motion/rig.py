"""The cameras of a capture: as a file says, refined on the very clip, or found from the people alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.artifacts import Artifact, Keypoints2D
from ..core.cameras import Camera, CameraSet
from ..core.formats.calibration import read_calibration, write_calibration
from ..protocol.errors import InputError
from ..protocol.events import Reporter, SilentReporter
from .job import Job
from .views import check_image_sizes, match_cameras, synchronise

CALIBRATION = "calibration.toml"
_SAID = ("camera", "code", "severity", "text", "change")  # of a finding, in reports
_SAID_LATER = ("biased", "size")  # by triangulation


@dataclass(frozen=True)
class Rig(Artifact):
    """Cameras that were calibrated on a clip. Header: cameras, how ("refine" or "people"), figures, notes."""

    kind: ClassVar[str] = "rig"
    required_header: ClassVar[tuple[str, ...]] = ("fps", "cameras", "how", "figures", "notes")

    @property
    def cameras(self) -> CameraSet:
        """The cameras, in the order of the views."""
        return CameraSet(tuple(Camera.from_header(header) for header in self.header["cameras"]))


def read_rig(path: Path | None, report: Reporter) -> CameraSet | None:
    """Read a calibration and say what its reader took for granted."""
    if path is None:
        return None
    cameras = read_calibration(path)
    for note in cameras.notes:
        report.warning("calibration", note)
    return cameras


def settle_rig(job: Job, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> CameraSet | None:
    """Calibrate on the clip where that is asked for, or where several views come without a calibration.

    What is found is written to `artifacts/calibration.toml`, for the next take of the same cameras.
    """
    request = job.request
    if len(views) < 2 and request.refine:
        job.warning("calibration", "One view says nothing about its calibration: it is used as it is, not refined.")
    if len(views) < 2 or (cameras is not None and not request.refine):
        return cameras
    how = "people" if cameras is None else "refine"
    given = None if cameras is None else [camera.to_header() for camera in cameras]
    inputs = [how, [view.header["fingerprint"] for view in views], given, request.min_confidence]
    inputs += [request.height_m, request.focal_px] if cameras is None else []
    rig = job.stage(Rig, "rig", "calibrate", inputs, lambda: _calibrated(job, views, cameras))
    write_calibration(job.artifacts / CALIBRATION, rig.cameras)
    job.artifact("calibration", f"artifacts/{CALIBRATION}")
    return rig.cameras


def _calibrated(job: Job, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> Rig:
    request = job.request
    least = request.min_confidence
    if cameras is None:
        from ..calibration.people import calibrate_from_people

        found = calibrate_from_people(
            views, job, height_m=request.height_m, focal_px=request.focal_px, min_confidence=least
        )
    else:
        from ..calibration.refine import refine_calibration

        found = refine_calibration(views, cameras, job, min_confidence=least)
    for note in found.notes:
        job.warning("calibration", note)
    header = {
        "fps": views[0].fps, "how": "people" if cameras is None else "refine", "figures": found.figures,
        "cameras": [camera.to_header() for camera in found.cameras], "notes": list(found.notes),
    }  # fmt: skip
    return Rig(header)


def check_rig(job: Job, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> None:
    """Look for what is wrong with the calibration; what triangulation finds by itself is left to it."""
    if cameras is None or len(views) < 2:
        return
    from ..calibration.checks import check_calibration, report_findings

    start = time.perf_counter()
    rig = match_cameras(views, cameras)
    found = check_calibration(rig, views=synchronise(views, SilentReporter()))
    job.findings = [{name: getattr(finding, name) for name in _SAID} for finding in found]
    report_findings([finding for finding in found if finding.code not in _SAID_LATER], job)
    job.seconds["check"] = time.perf_counter() - start


def camera_of_view(cameras: CameraSet, view: Keypoints2D, report: Reporter) -> Camera:
    """Find the one camera of a single view.

    Raises:
        InputError: there are several and none has the view's name, or its images have another size.
    """
    named = [camera for camera in cameras if camera.name == view.header.get("view")]
    if not named and len(cameras) > 1:
        raise InputError(
            f"The calibration holds {len(cameras)} cameras and none is called {view.header.get('view')!r}.",
            "Name the clip after its camera, or keep one camera in the file.",
        )
    camera = named[0] if named else cameras[0]
    check_image_sizes([view], CameraSet((camera,)), report)
    return camera
