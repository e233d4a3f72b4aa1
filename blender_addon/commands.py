"""`blender -b -c understudy ...`: the panel's road from a terminal or a render farm."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_BUG, EXIT_DONE, Cancelled, UnderstudyError
from ..inference.protocol.requests import MotionRequest
from ..operators import motion
from ..operators.base import file_name, sentence
from ..operators.session import SESSION, Job
from .command_flags import add_timing_flags

if TYPE_CHECKING:
    import argparse

LOG = logging.getLogger("understudy")
NAME = "understudy"
_HANDLES: list[Any] = []


def add() -> None:
    """Let Blender's command line know."""
    _HANDLES.append(bpy.utils.register_cli_command(NAME, run))


def remove() -> None:
    """Take the command away."""
    while _HANDLES:
        bpy.utils.unregister_cli_command(_HANDLES.pop())


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say and give the exit code (see `protocol.errors`)."""
    try:
        options = make_parser().parse_args(arguments)
        with _windowed():
            return options.run(options)
    except SystemExit as leave:  # argparse has said why
        return int(leave.code or EXIT_DONE)
    except KeyboardInterrupt:
        return Cancelled.exit_code
    except UnderstudyError as error:
        _say(sentence(error))
        return error.exit_code
    except Exception as error:
        LOG.exception("bug in a command")
        _say(f"Unexpected {type(error).__name__}: {error}")
        return EXIT_BUG


def _run_words(words: Sequence[str]) -> int:
    """Do a sub-command as part of another; what it cannot do is raised."""
    options = make_parser().parse_args(words)
    return options.run(options)


def _windowed() -> contextlib.AbstractContextManager[Any]:
    """Give a context with a window: behind `-b FILE` there is none, and the glTF exporter asks for it."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is not None or not windows:
        return contextlib.nullcontext()
    return bpy.context.temp_override(window=windows[0])


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line; the flags of a capture come from its request."""
    import argparse

    from . import (
        batch_command,
        body_command,
        calibrate_command,
        coach_command,
        face_command,
        head_command,
        reenact_command,
        retarget_command,
    )

    parser = argparse.ArgumentParser(prog=f"blender -b -c {NAME}", description="A filmed person becomes an action.")
    commands = parser.add_subparsers(dest="command", required=True)
    capture = commands.add_parser("motion", help="capture clips and apply the result")
    schema.add_flags(capture, MotionRequest)
    capture.add_argument("--out", type=Path, required=True, metavar="JOB", help="the job's folder")
    capture.add_argument("--overwrite", action="store_true", help="use the folder even if it holds another job")
    capture.set_defaults(run=_capture)
    apply = commands.add_parser("apply", help="apply the result of a finished job")
    apply.add_argument("out", type=Path, metavar="JOB", help="the job's folder or its body_motion.npz")
    apply.set_defaults(run=_apply)
    for command in (capture, apply):
        _add_scene_flags(command)
    retarget_command.add(commands, _say)
    calibrate_command.add(commands, _say, _follow)
    head_command.add(commands, _say, _follow)
    face_command.add(commands, _say, _follow)
    body_command.add(commands, _say, _follow)
    coach_command.add(commands, _say, _follow)
    reenact_command.add(commands, _say, _follow)
    batch_command.add(commands, _say, _run_words)
    return parser


def _add_scene_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scene")
    group.add_argument("--blend", type=Path, metavar="FILE", help="save the scene here")
    group.add_argument("--export", action="append", choices=("bvh", "fbx", "gltf"), default=[],
                       help="write the action beside the result; may be repeated")  # fmt: skip
    group.add_argument("--preview", type=Path, metavar="FILE", action="append", default=[],
                       help="the armature over the footage: .png (middle frame) or .mp4; may be repeated")  # fmt: skip
    group.add_argument("--name", default="", help="name of the take")
    add_timing_flags(group)
    group.add_argument("--unsmoothed", action="store_true", help="take the motion before smoothing")
    group.add_argument("--first-only", action="store_true", help="of several people, take the first one alone")
    group.add_argument("--no-cameras", action="store_true", help="create no cameras")
    group.add_argument("--no-footage", action="store_true", help="show no footage behind the cameras")
    group.add_argument("--no-colours", action="store_true", help="leave the bones in the theme's colours")


def _capture(options: argparse.Namespace) -> int:
    request = schema.from_flags(MotionRequest, options)
    job = SESSION.start("motion", request, folder=options.out.absolute(), overwrite=options.overwrite)
    _follow(job)
    return _apply(options)


def _follow(job: Job) -> None:
    """Wait for a job, saying how it goes, and raise what ended it."""
    try:
        SESSION.wait(job, listen=_Progress())
    except KeyboardInterrupt:
        SESSION.cancel(job)
        SESSION.wait(job)
        raise
    for text in job.warnings:
        _say(f"Note: {text}")
    job.raise_failure()


def _apply(options: argparse.Namespace) -> int:
    path = motion.result_file(str(options.out))
    is_new = not bpy.data.filepath
    if is_new:
        bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    take = motion.apply_result(
        path, scene, take=options.name, frame_start=options.frame_start, rate=options.rate.upper(),
        raw=options.unsmoothed, everybody=not options.first_only, cameras=not options.no_cameras,
        footage=not options.no_footage, colours=not options.no_colours,
    )  # fmt: skip
    for note in take.notes:
        _say(f"Note: {note}")
    rig = bpy.data.objects[take.rig]
    if is_new:
        _frame(scene, take, rig)
    _write(options, path, take, rig)
    return EXIT_DONE


def _frame(scene: bpy.types.Scene, take: Any, rig: bpy.types.Object) -> None:
    """Give a new file the take's frames and its first camera; a file of the user's keeps its own."""
    scene.frame_start, scene.frame_end = (round(value) for value in rig.animation_data.action.frame_range)
    if take.cameras:
        motion.use_camera(bpy.data.objects[take.cameras[0]], scene)


def _write(options: argparse.Namespace, path: Path, take: Any, rig: bpy.types.Object) -> None:
    for kind in options.export:
        from ..operators.scene.export import export_rig

        for name in (take.rig, *take.others):
            file = export_rig(bpy.data.objects[name], path.with_name(file_name(name)), kind.upper(), bpy.context.scene)
            _say(f"Wrote {file}")
    if options.blend:
        options.blend.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(options.blend.absolute()), check_existing=False)
        _say(f"Wrote {options.blend}")
    for preview in options.preview:
        from ..operators.scene.preview import render_preview

        _say(f"Wrote {render_preview(rig, preview.absolute(), take.cameras)}")


class _Progress:
    """Says each stage once, and every tenth of it."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, job: Job) -> None:
        mark = f"{job.status.split(' ')[0]} {job.fraction:.1f}"
        if job.is_running and mark != self._said:
            self._said = mark
            _say(job.status)


def _say(text: str) -> None:
    sys.stdout.write(f"understudy: {text}\n")
    sys.stdout.flush()
