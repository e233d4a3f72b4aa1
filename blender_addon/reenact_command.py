"""`blender -b -c understudy reenact ...` and `control ...`: frames of a reenactment, and control frames."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, InputError, RequestError
from ..inference.protocol.requests import FaceRequest, ReenactRequest
from ..operators import control, mesh_route, poses, reenact
from ..operators.session import SESSION, Job
from .command_flags import add_job_flags, check_files, open_empty_file, run_job, save_scene

_MESH_PX = 256
_INTO = ("plane", "strip", "background", "compositor")


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-commands; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "reenact",
        help="make frames of a person who does what a driver does, and put them into a scene",
        description="Make frames from photos and a driver, or apply those that are finished.",
    )
    schema.add_flags(parser, ReenactRequest)
    add_job_flags(parser, "apply these frames instead of making some")
    parser.add_argument("--driver-head", metavar="OBJECT", help="a head of the opened .blend drives, rendered")
    parser.add_argument("--driver-track", type=Path, metavar="FILE",
                        help="a face_track.npz or Live Link CSV moves that head first")  # fmt: skip
    parser.add_argument("--driver-poses", metavar="OBJECT", help="kept poses of the opened .blend drive, as keyed")
    parser.add_argument("--mesh-head", metavar="OBJECT",
                        help="a head of the opened .blend does the same, rendered under the same numbers")  # fmt: skip
    group = parser.add_argument_group("scene")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene with the frames here, a .blend")
    group.add_argument("--into", choices=_INTO, action="append", default=[],
                       help="what becomes of the frames; may be repeated (default: plane)")  # fmt: skip
    group.add_argument("--name", default="", help="name of what is made")
    group.add_argument("--frame-start", type=int, default=1, metavar="N", help="frame that shows the first one")
    group.add_argument("--no-sound", action="store_true", help="leave the driver's sound out of the sequencer")
    group.add_argument("--frame-by-frame", action="store_true", help="one frame a frame, whatever the scene's rate")
    parser.set_defaults(run=lambda options: _run(options, say, follow))
    drawn: argparse.ArgumentParser = commands.add_parser(
        "control", help="draw captured people of the opened .blend as control frames, seen by any camera"
    )
    drawn.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where pictures go")
    drawn.add_argument("--camera", default="", metavar="OBJECT", help="the camera (default: the scene's)")
    drawn.add_argument("--frames", default="", metavar="A-B", help="frames of the scene (default: all)")
    drawn.add_argument("--style", choices=("openpose", "stickman"), default="openpose", help="what is drawn")
    drawn.add_argument("--no-hands", action="store_true", help="leave the fingers out")
    drawn.add_argument("--no-face", action="store_true", help="leave the face out")
    drawn.set_defaults(run=lambda options: _draw(options, say))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    check_files(options.save)
    if options.finished is not None:
        return apply(options, reenact.manifest_file(str(options.finished.absolute())), say)
    request = _request(options)
    head = _head(options.mesh_head) if options.mesh_head else None
    asked = None if head is None else _face(request)
    job = run_job("reenact", request, options, follow)
    say(f"Made {job.folder}")
    if head is not None and asked is not None:
        beside = SESSION.start("face", asked, folder=job.folder.with_name(f"{job.folder.name}_mesh"), overwrite=True)
        follow(beside)
        say(mesh_route.render_route(beside.folder, head, bpy.context.scene, request.size or _MESH_PX))
        say(f"Made {beside.folder}")
    return apply(options, reenact.manifest_file(str(job.folder)), say)


def _request(options: argparse.Namespace) -> ReenactRequest:
    """Make the request; what the opened file drives with is made first.

    Raises:
        UnderstudyError: a setting does not fit, or there is no such object.
    """
    given = [name for name in ("driver_head", "driver_poses") if getattr(options, name)]
    if options.driver_track and not options.driver_head:
        raise RequestError("a track moves a head", "Give --driver-head, too.", field="driver-track")
    if not given:
        return schema.from_flags(ReenactRequest, options)
    if len(given) > 1 or hasattr(options, "driver") or hasattr(options, "camera"):
        raise RequestError("several drivers are given", "Give one of them.", field="driver")
    frames, scene = getattr(options, "frames", ""), bpy.context.scene
    options.driver, options.frames = ".", ""
    request = schema.from_flags(ReenactRequest, options)
    span = reenact.frame_range(frames, scene)
    if options.driver_poses:
        item = poses.find_poses(bpy.context, options.driver_poses)
        return replace(request, driver=poses.write_keyed_poses(item, scene, span))
    head = _head(options.driver_head)
    if options.driver_track is not None:
        mesh_route.perform(options.driver_track.absolute(), head, scene, span[0])
    folder, fps = reenact.render_driver(head, scene, span)
    return replace(request, driver=folder, fps=fps)


def _head(name: str) -> bpy.types.Object:
    head = bpy.context.scene.objects.get(name)
    if head is None or head.type != "MESH":
        raise InputError(f"The opened file has no mesh {name!r}.", "Name one of its heads.")
    return head


def _face(request: ReenactRequest) -> FaceRequest:
    """Ask for the face that a head of the opened file is to follow, beside the frames.

    Raises:
        UnderstudyError: no film drives.
    """
    if request.driver is None:
        raise RequestError("a head follows a film", "Give --driver FILM.", field="mesh-head")
    return mesh_route.face_request(request.driver, request.frames, request.driver_face)


def apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Put finished frames into the scene; save it."""
    open_empty_file()
    scene = bpy.context.scene
    into = options.into or ["plane"]
    made = reenact.apply_frames(
        path, scene, take=options.name, frame_start=options.frame_start, match_rate=not options.frame_by_frame,
        sound=not options.no_sound, **{name: name in into for name in _INTO},
    )  # fmt: skip
    for note in made.notes:
        say(f"Note: {note}")
    say(", ".join(word for word in (made.plane, *made.strips, made.clip, made.node) if word))
    save_scene(options.save, say)
    return EXIT_DONE


def _draw(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    scene = bpy.context.scene
    files = control.write_control(
        scene, options.out.absolute(), reenact.frame_range(options.frames, scene), camera=options.camera,
        style=options.style, hands=not options.no_hands, face=not options.no_face,
    )  # fmt: skip
    say(f"Wrote {len(files)} frames to {options.out}")
    return EXIT_DONE
