"""What the sub-commands of `blender -c understudy` have in common: flags, checks of names, jobs, saving."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol.errors import RequestError
from ..operators.session import SESSION, Job


def add_job_flags(parser: argparse.ArgumentParser, finished: str, *, metavar: str = "JOB") -> None:
    """Say where the job goes, or that there is a finished one; `finished` is that flag's help."""
    parser.add_argument("--out", type=Path, metavar="JOB", help="the job's folder (default: a new one)")
    parser.add_argument("--overwrite", action="store_true", help="use the folder even if it holds another job")
    parser.add_argument("--finished", type=Path, metavar=metavar, help=finished)


def add_timing_flags(group: Any) -> None:
    """Say which frames of the scene a performance takes."""
    group.add_argument("--frame-start", type=int, default=1, metavar="N", help="frame of the first sample (default 1)")
    group.add_argument("--rate", choices=("scene", "clip", "frames"), default="scene",
                       help="match the scene's frames, keep the clip's times, or one clip frame a frame")  # fmt: skip


def check_files(save: Path | None, exports: Sequence[Path] = (), kinds: Collection[str] = ()) -> None:
    """Refuse files of unknown kinds before minutes are spent.

    Raises:
        RequestError: there is one.
    """
    if save and save.suffix.lower() != ".blend":
        raise RequestError(f"{save.name} is no .blend", field="save")
    for file in exports:
        if file.suffix.lower() not in kinds:
            raise RequestError(f"{file.name} is none of {', '.join(kinds)}", field="export")


def run_job(kind: str, request: Any, options: argparse.Namespace, follow: Callable[[Job], None]) -> Job:
    """Start a job where `add_job_flags` says, and wait for it; `follow` raises what ended it."""
    folder = options.out.absolute() if options.out else None
    job = SESSION.start(kind, request, folder=folder, overwrite=options.overwrite)
    follow(job)
    return job


def open_empty_file() -> bool:
    """Empty the scene where no file was opened; say whether that was so."""
    is_new = not bpy.data.filepath
    if is_new:
        bpy.ops.wm.read_homefile(use_empty=True)
    return is_new


def save_scene(file: Path | None, say: Callable[[str], None]) -> None:
    """Save the scene, where it was asked for."""
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(file.absolute()), check_existing=False)
        say(f"Wrote {file}")
