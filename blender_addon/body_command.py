"""`blender -b -c understudy body ...`: what `python -m inference body` makes, as objects in a .blend and as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, RequestError
from ..inference.protocol.requests import BodyRequest
from ..operators import body
from ..operators.session import Job
from .command_flags import add_job_flags, add_timing_flags, check_files, open_empty_file, run_job, save_scene

_KINDS = {".fbx": "FBX", ".glb": "GLTF", ".usdc": "USD", ".usdz": "USDZ"}


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "body",
        help="make a body of the person in a clip and create its objects",
        description="Make a skinned body in motion of a filmed person, or apply one that is finished.",
    )
    schema.add_flags(parser, BodyRequest)
    add_job_flags(parser, "apply this finished job instead of making a body")
    group = parser.add_argument_group("scene")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene with the body here, a .blend")
    group.add_argument("--export", type=Path, metavar="FILE", action="append", default=[],
                       help="write body and motion: .fbx, .glb, .usdc or .usdz; may be repeated")  # fmt: skip
    group.add_argument("--name", default="", help="name of the body")
    group.add_argument("--skeleton", choices=body.SKELETONS, default="anny", help="whose bones (default anny)")
    add_timing_flags(group)
    group.add_argument("--measure", action="append", default=[], metavar="NAME=METRES",
                       help=f"adjust to a measure: {', '.join(body.MEASURES)}; may be repeated")  # fmt: skip
    group.add_argument("--no-expressions", action="store_true", help="leave the shape keys of the face out")
    group.add_argument("--no-parameters", action="store_true", help="leave the shape keys of the shape out")
    group.add_argument("--no-motion", action="store_true", help="leave the body in its rest pose")
    group.add_argument("--no-cameras", action="store_true", help="create no cameras")
    group.add_argument("--no-footage", action="store_true", help="show no footage behind the cameras")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    options.measure = body.read_measures(options.measure)
    _check_names(options)
    if options.finished is not None:
        return apply(options, body.body_file(str(options.finished.absolute())), say)
    request = schema.from_flags(BodyRequest, options)
    job = run_job("body", request, options, follow)
    say(f"Made {job.folder}")
    return apply(options, body.body_file(str(job.folder)), say)


def _check_names(options: argparse.Namespace) -> None:
    """Refuse what cannot be made before minutes are spent.

    Raises:
        RequestError: a file is of an unknown kind, or flags contradict each other.
    """
    check_files(options.save, options.export, _KINDS)
    if options.export and options.no_motion:
        raise RequestError("what is exported moves", "Leave --no-motion out.", field="export")
    if options.measure and options.no_parameters:
        raise RequestError("measures need the shape's keys", "Leave --no-parameters out.", field="measure")


def apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Create a finished body's objects; adjust, save and export them."""
    from ..operators.motion import use_camera

    is_new = open_empty_file()
    scene = bpy.context.scene
    made = body.apply_body(
        path, scene, take=options.name, skeleton=options.skeleton, frame_start=options.frame_start,
        rate=options.rate.upper(), cameras=not options.no_cameras, footage=not options.no_footage,
        expressions=not options.no_expressions, parameters=not options.no_parameters, action=not options.no_motion,
    )  # fmt: skip
    for note in made.notes:
        say(f"Note: {note}")
    item, rig = bpy.data.objects[made.body], bpy.data.objects[made.rig]
    if is_new and made.action:
        scene.frame_start, scene.frame_end = (round(value) for value in rig.animation_data.action.frame_range)
        if made.cameras:
            use_camera(bpy.data.objects[made.cameras[0]], scene)
    say(f"{made.collection}: {made.body} on {made.rig}")
    if options.measure:
        from ..operators.scene.body import adjust_body

        found = adjust_body(item, options.measure)
        say(", ".join(f"{name} {value:.3f} m" for name, value in found.items()))
    for file in options.export:
        say(f"Wrote {body.export_body(item, file.absolute(), _KINDS[file.suffix.lower()])}")
    save_scene(options.save, say)
    return EXIT_DONE
