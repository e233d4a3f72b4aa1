"""`blender -b -c understudy head ...`: what `python -m inference head` makes, as objects in a .blend and as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE
from ..inference.protocol.requests import HeadRequest
from ..operators import head
from ..operators.session import Job
from .command_flags import add_job_flags, check_files, open_empty_file, run_job, save_scene

_KINDS = {".glb": "GLB", ".fbx": "FBX", ".obj": "OBJ", ".usdc": "USD"}


def add(commands: Any, say: Callable[[str], None], follow: Callable[[Job], None]) -> None:
    """Describe the sub-command; `follow` waits for a job and raises what ended it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "head",
        help="make a head from photos and create its objects",
        description="Make a textured head with shape keys from photos of somebody, or apply one that is finished.",
    )
    schema.add_flags(parser, HeadRequest)
    add_job_flags(parser, "apply this finished job instead of making a head")
    group = parser.add_argument_group("scene")
    group.add_argument("--save", type=Path, metavar="FILE", help="save the scene with the head here, a .blend")
    group.add_argument("--export", type=Path, metavar="FILE", action="append", default=[],
                       help="write the head: .glb, .fbx, .obj or .usdc; may be repeated")  # fmt: skip
    group.add_argument("--name", default="", help="name of the head")
    group.add_argument("--asset", action="store_true", help="mark the head as an asset")
    group.add_argument("--separate-eyes", action="store_true", help="make each eye an object of its own")
    group.add_argument("--expression", action="store_true", help="set the shape keys to what the photo shows")
    group.add_argument("--no-dense", action="store_true", help="leave the dense surface out")
    group.add_argument("--no-pack", action="store_true", help="leave the textures beside the .blend")
    parser.set_defaults(run=lambda options: _run(options, say, follow))


def _run(options: argparse.Namespace, say: Callable[[str], None], follow: Callable[[Job], None]) -> int:
    check_files(options.save, options.export, _KINDS)
    if options.finished is not None:
        return apply(options, head.head_file(str(options.finished.absolute())), say)
    request = schema.from_flags(HeadRequest, options)
    job = run_job("head", request, options, follow)
    say(f"Made {job.folder}")
    options.body = request.body
    return apply(options, head.head_file(str(job.folder)), say)


def apply(options: argparse.Namespace, path: Path, say: Callable[[str], None]) -> int:
    """Create a finished head's objects; save and export them."""
    open_empty_file()
    scene = bpy.context.scene
    made = head.apply_head(
        path, scene, take=options.name, body=getattr(options, "body", False), asset=options.asset,
        eyes=options.separate_eyes, expression=options.expression, dense=not options.no_dense,
        pack=not options.no_pack,
    )  # fmt: skip
    say(f"{made.collection}: {made.head}")
    for file in options.export:
        from ..operators.scene.export import export_head

        item = bpy.data.objects[made.head]
        say(f"Wrote {export_head(item, file.absolute(), _KINDS[file.suffix.lower()], scene)}")
    save_scene(options.save, say)
    return EXIT_DONE
