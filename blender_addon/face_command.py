"""`blender -b [FILE] -c understudy face ...`: a filmed face, or one that is finished, on the meshes of a .blend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, InputError, RequestError
from ..inference.protocol.requests import FaceRequest
from ..operators import face, head
from ..operators.session import Job
from .command_flags import add_job_flags, add_timing_flags, check_files, open_empty_file, run_job, save_scene


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "face",
        help="capture a face and apply it to meshes and bones",
        description="Capture a filmed face and let meshes with ARKit's shape keys do what it does; or apply one that "
        "is finished, or a CSV of Live Link Face.",
    )
    schema.add_flags(parser, FaceRequest)
    add_job_flags(parser, "apply this job, face_track.npz or CSV instead of capturing", metavar="FILE")
    group = parser.add_argument_group("scene")
    group.add_argument("--head", type=Path, metavar="JOB", help="make this finished head's objects first, and use them")
    group.add_argument("--mesh", action="append", default=[], metavar="NAME",
                       help="a mesh that shows the face; may be repeated (default: all that can)")  # fmt: skip
    group.add_argument("--rig", default="", metavar="NAME", help="the armature whose head and eyes turn")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene here, a .blend")
    group.add_argument("--name", default="", help="name of the action")
    add_timing_flags(group)
    group.add_argument("--strength", type=float, default=1.0, metavar="X", help="of all weights (default 1)")
    group.add_argument("--turn", choices=("relative", "absolute", "none"), default="relative",
                       help="how the head turns: from the first frame, against the camera, not")  # fmt: skip
    group.add_argument("--eyes", choices=("auto", "shapes", "bones", "both", "none"), default="auto",
                       help="what turns the eyes (default: shapes where there are some, else bones)")  # fmt: skip
    group.add_argument("--unsmoothed", action="store_true", help="take each frame as it was fitted by itself")
    group.add_argument("--apart", action="store_true", help="leave the armature's own keys out of the new action")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    check_files(options.save)
    if not 0 <= options.strength <= 4:
        raise RequestError(f"{options.strength:g} is outside [0, 4]", field="strength")
    if options.finished is not None:
        return apply(options, face.face_file(str(options.finished.absolute())), say)
    request = schema.from_flags(FaceRequest, options)
    job = run_job("face", request, options, follow)
    say(f"Captured {job.folder}")
    return apply(options, face.face_file(str(job.folder)), say)


def apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Apply a finished face to the meshes of the file; save it."""
    meshes = [_named(name, "MESH") for name in options.mesh]
    rig = _named(options.rig, "ARMATURE") if options.rig else None
    if options.head is not None:
        open_empty_file()
        made_head = head.apply_head(head.head_file(str(options.head.absolute())), bpy.context.scene)
        meshes.append(bpy.data.objects[made_head.head])
    scene = bpy.context.scene
    rig = rig or next((item.find_armature() for item in meshes if item.find_armature()), None)
    rig = rig or (face.find_rig(bpy.context) if not meshes else None)
    made = face.apply_face(
        path, scene, meshes or face.find_meshes(bpy.context, rig), rig, take=options.name,
        frame_start=options.frame_start, rate=options.rate.upper(), raw=options.unsmoothed, strength=options.strength,
        head=options.turn.upper(), eyes=options.eyes.upper(), join=not options.apart,
    )  # fmt: skip
    for note in face.notes_of(made):
        say(note)
    say(face.describe(made))
    save_scene(options.save, say)
    return EXIT_DONE


def _named(name: str, kind: str) -> bpy.types.Object:
    item = bpy.data.objects.get(name)
    if item is None or item.type != kind:
        known = ", ".join(other.name for other in bpy.data.objects if other.type == kind) or "none"
        raise InputError(f"There is no {kind.lower()} {name!r}.", f"There are: {known}.")
    return item
