"""`blender -b -c understudy calibrate ...`: what `python -m inference calibrate` makes, and cameras in a .blend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, RequestError
from ..inference.protocol.requests import CalibrateRequest
from ..operators import calibration
from ..operators.session import Job
from .command_flags import check_files, open_empty_file, run_job, save_scene


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="calibrate cameras from clips, refine or check a calibration, and create the cameras",
        description="Calibrate cameras from clips of people or of a board; refine, check or convert a calibration. "
        "With --from-scene the cameras of the opened file are the calibration.",
    )
    schema.add_flags(parser, CalibrateRequest)
    parser.add_argument("--out", type=Path, required=True, metavar="JOB", help="the job's folder")
    parser.add_argument("--overwrite", action="store_true", help="use the folder even if it holds another job")
    group = parser.add_argument_group("scene")
    group.add_argument("--from-scene", action="store_true", help="take the cameras of the opened file")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene with the cameras here, a .blend")
    group.add_argument("--frame-start", type=int, default=1, metavar="N", help="frame of the clips' first picture")
    group.add_argument("--no-footage", action="store_true", help="show no footage behind the cameras")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    check_files(options.save)
    if options.from_scene:
        options.calibration = _scene_calibration(options)
    request = schema.from_flags(CalibrateRequest, options)
    job = run_job("calibrate", request, options, follow)
    report = calibration.read_report(job.folder)
    for found in report.get("findings") or ():
        say(" ".join(str(found.get(name) or "") for name in ("severity", "text", "change")).strip())
    path = job.calibration or request.calibration
    if options.save and path is not None:
        _save(options, path, request, job, say)
    return EXIT_DONE


def _scene_calibration(options: argparse.Namespace) -> str:
    """Write the opened file's cameras as a calibration."""
    if "calibration" in options:
        raise RequestError("given beside --from-scene", "Give one or the other.", field="calibration")
    from ..operators.scene.cameras import read_rig

    settings = bpy.context.scene.understudy.calibration
    calibration.set_cameras(settings, read_rig(calibration.meant_cameras(bpy.context), bpy.context.scene), "")
    return str(calibration.calibration_file(settings))


def _save(
    options: argparse.Namespace, path: Path, request: CalibrateRequest, job: Job, say: Callable[[str], None]
) -> None:
    open_empty_file()
    scene = bpy.context.scene
    settings = scene.understudy.calibration
    calibration.take_job(settings, job.folder, calibration=path)
    cameras, clips = calibration.cameras_in(settings), () if options.no_footage else request.video
    rig, note = calibration.create_cameras(cameras, clips, scene, str(path), start=options.frame_start)
    if note:
        say(f"Note: {note}")
    say(f"{rig.collection}: {len(rig.cameras)} camera(s)")
    save_scene(options.save, say)
