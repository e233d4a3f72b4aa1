"""`blender -b -c understudy coach ...`: a trainee beside a trainer, as objects in a .blend and as files for viewers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE
from ..inference.protocol.requests import CoachRequest
from ..operators import coaching
from ..operators.session import Job
from .command_flags import add_job_flags, check_files, open_empty_file, run_job, save_scene

_KINDS = {".glb": "GLTF", ".usdz": "USDZ"}


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "coach",
        help="hold a trainee's body against a trainer's and create both",
        description="Put a trainer's motion in step and in place with a trainee's, coloured by what differs.",
    )
    schema.add_flags(parser, CoachRequest)
    add_job_flags(parser, "apply this finished comparison")
    group = parser.add_argument_group("scene")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene here, a .blend")
    group.add_argument("--export", type=Path, metavar="FILE", action="append", default=[],
                       help="write both with their motion: .glb or .usdz; may be repeated")  # fmt: skip
    group.add_argument("--name", default="Coaching", help="name of collection and bodies")
    group.add_argument("--beside", type=float, default=0.0, metavar="METRES", help="how far apart the two stand")
    group.add_argument("--no-marks", action="store_true", help="no balls at joints that swell with the difference")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    check_files(options.save, options.export, _KINDS)
    folder = options.finished
    if folder is None:
        request = schema.from_flags(CoachRequest, options)
        folder = run_job("coach", request, options, follow).folder
        say(f"Made {folder}")
    return _apply(options, coaching.coaching_file(str(folder.absolute())), say)


def _apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    open_empty_file()
    scene = bpy.context.scene
    made = coaching.apply_coaching(path, scene, name=options.name, beside=options.beside, marks=not options.no_marks)
    say(f"{made.collection}: {made.trainee}, {made.trainer}")
    body = bpy.data.objects[made.trainee]
    for file in options.export:
        say(f"Wrote {coaching.export_coaching(body, file.absolute(), _KINDS[file.suffix.lower()])}")
    save_scene(options.save, say)
    return EXIT_DONE
