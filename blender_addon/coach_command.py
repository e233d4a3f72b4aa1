"""`blender -b -c understudy coach ...`: a trainee beside a trainer, as objects in a .blend and as files for viewers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, RequestError
from ..inference.protocol.requests import CoachRequest
from ..operators import coaching
from ..operators.session import SESSION, Job

_KINDS = {".glb": "GLTF", ".usdz": "USDZ"}


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "coach",
        help="hold a trainee's body against a trainer's and create both",
        description="Put a trainer's motion in step and in place with a trainee's, coloured by what differs.",
    )
    schema.add_flags(parser, CoachRequest)
    parser.add_argument("--out", type=Path, metavar="JOB", help="the job's folder (default: a new one)")
    parser.add_argument("--overwrite", action="store_true", help="use the folder even if it holds another job")
    parser.add_argument("--finished", type=Path, metavar="JOB", help="apply this finished comparison")
    group = parser.add_argument_group("scene")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene here, a .blend")
    group.add_argument("--export", type=Path, metavar="FILE", action="append", default=[],
                       help="write both with their motion: .glb or .usdz; may be repeated")  # fmt: skip
    group.add_argument("--name", default="Coaching", help="name of collection and bodies")
    group.add_argument("--beside", type=float, default=0.0, metavar="METRES", help="how far apart the two stand")
    group.add_argument("--no-marks", action="store_true", help="no balls at joints that swell with the difference")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    for file in options.export:
        if file.suffix.lower() not in _KINDS:
            raise RequestError(f"{file.name} is none of {', '.join(_KINDS)}", field="export")
    if options.save and options.save.suffix.lower() != ".blend":
        raise RequestError(f"{options.save.name} is no .blend", field="save")
    folder = options.finished
    if folder is None:
        request = schema.from_flags(CoachRequest, options)
        out = options.out.absolute() if options.out else None
        job = SESSION.start("coach", request, folder=out, overwrite=options.overwrite)
        follow(job)
        folder = job.folder
        say(f"Made {folder}")
    return _apply(options, coaching.coaching_file(str(folder.absolute())), say)


def _apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    if not bpy.data.filepath:
        bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    made = coaching.apply_coaching(path, scene, name=options.name, beside=options.beside, marks=not options.no_marks)
    say(f"{made.collection}: {made.trainee}, {made.trainer}")
    body = bpy.data.objects[made.trainee]
    for file in options.export:
        say(f"Wrote {coaching.export_coaching(body, file.absolute(), _KINDS[file.suffix.lower()])}")
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(options.save.absolute()), check_existing=False)
        say(f"Wrote {options.save}")
    return EXIT_DONE
