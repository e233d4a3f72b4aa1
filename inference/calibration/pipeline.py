"""The task `calibrate`: clips of people or of a board, or a calibration that is refined, checked, written anew."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.artifacts import Keypoints2D, Keypoints3D
from ..core.cameras import CameraSet
from ..core.formats.calibration import STYLES, is_plausible, read_calibration, style_for, write_calibration
from ..motion.job import Job
from ..motion.see import capture_views, view_names
from ..motion.triangulate import TriangulateSettings, triangulate
from ..motion.views import match_cameras, synchronise
from ..protocol.errors import InputError, RequestError
from ..protocol.events import Reporter, SilentReporter
from ..protocol.files import atomic_write_text
from ..protocol.requests import CalibrateRequest, MotionRequest
from ..runtime.device import set_threads
from ..runtime.video import probe
from .board import Board, calibrate_from_board
from .checks import Finding, apply_all, check_calibration, report_findings
from .people import calibrate_from_people
from .refine import refine_calibration
from .report import page
from .result import Calibrated

CALIBRATION = "calibration.toml"
_SAID = ("camera", "code", "severity", "text", "change")


def run(request: CalibrateRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Calibrate into a job folder.

    Writes `artifacts/calibration.toml`, `report.json` and `report.html`; where people were seen also
    `artifacts/keypoints_2d*.npz` and `artifacts/keypoints_3d.npz`, and the export that was asked for.
    Returns:
        The numbers of `report.json`.
    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    folder, start = Path(folder), time.perf_counter()
    board = Board.parse(request.board) if request.board else None
    distance = _distance(request.distance)
    style = _style(request)
    set_threads(request.threads)
    job = Job(_seen(request), folder / "artifacts", report)
    checks = request.check or request.fix  # what a capture refuses can be checked, and put right
    given = None if request.calibration is None else read_calibration(request.calibration, doubtful=checks)
    for note in given.notes if given is not None else ():
        job.warning("calibration", note)
    views: Sequence[Keypoints2D] = ()
    if (request.video or request.keypoints) and board is None:
        views = capture_views(job)
        if given is not None and len(views) > 1:
            given = match_cameras(views, given)
    findings: tuple[Finding, ...] = ()
    if board is not None:
        names = view_names(request.video)
        done = calibrate_from_board(request.video, board, job, names=names, start=request.start, stop=request.stop)
    elif given is None:
        done = calibrate_from_people(
            views, job, height_m=request.height_m, distance=distance, focal_px=request.focal_px,
            min_confidence=request.min_confidence,
        )  # fmt: skip
    else:
        done, findings = _with_given(request, given, views, job)
    for note in done.notes:
        job.warning("calibration", note)
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    keypoints = None
    if not checks or is_plausible(done.cameras):
        keypoints = _in_space(job, views, done.cameras) if len(views) > 1 else None
        write_calibration(artifacts / CALIBRATION, done.cameras)
        job.artifact("calibration", f"artifacts/{CALIBRATION}")
    if request.export is not None:
        write_calibration(request.export, done.cameras, style)
    numbers = {
        **done.figures,
        "findings": _told(findings),
        "notes": list(done.notes),
        "warnings": job.warnings,
        "seconds": round(time.perf_counter() - start, 2),
    }
    text = json.dumps(numbers, indent=1, allow_nan=False)
    before = given if request.refine or request.fix else None
    html = page(numbers, done.cameras, before, keypoints)
    atomic_write_text(folder / "report.html", html)
    job.artifact("report", "report.html")
    atomic_write_text(folder / "report.json", text)
    return numbers


def _with_given(
    request: CalibrateRequest, given: CameraSet, views: Sequence[Keypoints2D], job: Job
) -> tuple[Calibrated, tuple[Finding, ...]]:
    """Check, fix, refine or just rewrite a calibration, in this order."""
    findings: tuple[Finding, ...] = ()
    together: Sequence[Keypoints2D] = ()
    sizes = None
    if request.check or request.fix or request.refine:
        together = synchronise(views, SilentReporter()) if len(views) > 1 else ()
        sizes = None if together or not request.video else [probe(video).size for video in request.video]
        findings = check_calibration(given, views=together, sizes=sizes)
        report_findings(findings, job)
    cameras, left = given, {}
    if request.fix:
        cameras = apply_all(given, _chosen(request, findings))
        left = {"left": _told(check_calibration(cameras, views=together, sizes=sizes))}
    if request.refine:
        done = refine_calibration(views, cameras, job, lenses=request.lenses, min_confidence=request.min_confidence)
        return done, findings
    rows = [{"name": camera.name, "reprojection_px": None} for camera in cameras]
    method = "check" if request.check or request.fix else "convert"
    return Calibrated(cameras, {"method": method, "cameras": rows, "scale": "as given", **left}), findings


def _told(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [{name: getattr(finding, name) for name in _SAID} for finding in findings]


def _chosen(request: CalibrateRequest, findings: Sequence[Finding]) -> list[Finding]:
    """Take the findings that are to be put right.

    Raises:
        RequestError: one of those named was not found.
    """
    if not request.only:
        return list(findings)
    known = {name for finding in findings for name in (finding.code, f"{finding.code}@{finding.camera}")}
    missing = [name for name in request.only if name not in known]
    if missing:
        raise RequestError(f"nothing is called {missing[0]!r}", f"Found: {', '.join(sorted(known))}.", field="only")
    return [f for f in findings if f.code in request.only or f"{f.code}@{f.camera}" in request.only]


def _in_space(job: Job, views: Sequence[Keypoints2D], cameras: CameraSet) -> Keypoints3D | None:
    """What the cameras make of the people: for the report, and for what is drawn over the footage."""
    settings = TriangulateSettings("ransac", job.request.min_confidence)
    inputs = [[view.header["fingerprint"] for view in views], [camera.to_header() for camera in cameras], settings]
    names = [str(view.header.get("view", "")) for view in views]
    quiet = SilentReporter()
    try:
        return job.stage(
            Keypoints3D, "keypoints_3d", "triangulate", inputs,
            lambda: triangulate(views, cameras, settings, quiet).with_header(views=names),
        )  # fmt: skip
    except InputError as error:  # a calibration that was only checked may be hopeless
        job.warning("calibration", error.message)
        return None


def _seen(request: CalibrateRequest) -> MotionRequest:
    """How the clips are looked at: as `motion` would, so that nothing is detected twice."""
    nothing = () if request.video or request.keypoints else (Path("none"),)  # a file is only rewritten
    return MotionRequest(
        video=request.video, keypoints=request.keypoints or nothing, image_size=request.image_size, fps=request.fps,
        start=request.start, stop=request.stop, min_confidence=request.min_confidence, height_m=request.height_m,
        overlay=False, threads=request.threads,
    )  # fmt: skip


def _distance(words: Sequence[str]) -> tuple[str, str, float] | None:
    if not words:
        return None
    try:
        metres = float(words[2])
    except ValueError:
        raise RequestError(f"{words[2]!r} is no number of metres", field="distance") from None
    if not 0.01 <= metres <= 1000.0:
        raise RequestError(f"{metres:g} m is not a distance between cameras (0.01 to 1000)", field="distance")
    return words[0], words[1], metres


def _style(request: CalibrateRequest) -> Any:
    """Find the format of the export before anything is done.

    Raises:
        RequestError: there is none of this name.
    """
    if request.export is None:
        return "anipose"
    if not request.format:
        return style_for(request.export)
    if request.format not in STYLES:
        raise RequestError(f"{request.format!r} is not one of {', '.join(STYLES)}", field="format")
    return request.format
