"""`blender -b character.blend -c understudy retarget ...`: performances onto a character, from a terminal or a farm.

Everything is landed and measured first and written last, under other names beside their places; where anything
fails, nothing is written at all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import EXIT_DONE, InputError, RequestError, ResourceError
from ..inference.protocol.files import storage_error
from ..inference.protocol.retarget import RetargetSettings
from ..operators.base import file_name
from ..operators.landing import Landed, Landing, land
from ..operators.mapping import given_match
from ..operators.retarget import find_character, read_clips
from ..operators.settings import retarget_settings
from .command_flags import add_timing_flags, check_files

_KINDS = {".bvh": "BVH", ".fbx": "FBX", ".glb": "GLTF"}
_VERIFIED = 5  # frames at which Blender's own evaluation is compared with what was meant


def add(commands: Any, say: Callable[[str], None]) -> None:
    """Describe the sub-command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "retarget",
        help="carry performances over to a character of the opened file",
        description="Carry performances over to a character of the opened file: a new action for each clip. "
        "Settings that are not given are those of the character's sliders, as saved in the file.",
    )
    parser.add_argument("--rig", default="", metavar="NAME",
                        help="the character's armature (default: the only one of the file)")  # fmt: skip
    parser.add_argument("--source", type=Path, action="append", required=True, metavar="FILE",
                        help="a body_motion.npz, .bvh, .fbx, .glb, SMPL .npz, or a folder of them; "
                        "may be repeated")  # fmt: skip
    parser.add_argument("--mapping", default="", metavar="FILE|NAME",
                        help="a mapping's file or the name of a preset "
                        "(default: the character's own, or what is recognised)")  # fmt: skip
    schema.add_flags(parser, RetargetSettings)
    group = parser.add_argument_group("action")
    group.add_argument("--name", default="", help="name of the action (default: the clip's)")
    add_timing_flags(group)
    group.add_argument("--asset", action="store_true", help="mark the actions for the Asset Browser")
    group.add_argument("--no-stash", action="store_true", help="do not keep the previous action in the NLA")
    output = parser.add_argument_group("output")
    output.add_argument("--save", type=Path, metavar="FILE", help="save the scene here, a .blend")
    output.add_argument("--export", type=Path, action="append", default=[], metavar="FILE",
                        help="write the whole character (.fbx, .glb) or its bones (.bvh); may be repeated; "
                        "of several clips, each gets a file with its name behind")  # fmt: skip
    output.add_argument("--report", type=Path, metavar="FILE",
                        help="figures as JSON, with a plot of the feet (.svg) for each clip beside it")  # fmt: skip
    parser.set_defaults(run=lambda options: _run(options, say))


@dataclass(frozen=True)
class _Outcome:
    """One clip on the character, and how far Blender's own pose is from what was meant."""

    landed: Landed
    errors: dict[str, Any]


def _run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    _check(options)
    rig = sole_character(options.rig)
    settings = _settings(options, rig)
    match = given_match(options.mapping, rig) if options.mapping else None
    performances, skipped = read_clips([path.absolute() for path in options.source])
    for text in skipped:
        say(f"Skipped: {text}")
    with _all_or_nothing() as files:
        outcomes = [
            _land(options, rig, performance, settings, match, several=len(performances) > 1, files=files)
            for performance in performances
        ]
        for text in dict.fromkeys(note for item in outcomes for note in item.landed.notes):
            say(f"Note: {text}")
        if options.report:
            _write_report(options.report, outcomes, skipped, files)
        if options.save:
            _save(files.place(options.save))
    for item in outcomes:
        slide = item.landed.after.slide_mm[0] if item.landed.after else 0.0
        say(f"{item.landed.rig}: action {item.landed.action}, feet slide {slide:.2f} mm a frame")
    for path in files.written:
        say(f"Wrote {path}")
    return EXIT_DONE


def _check(options: argparse.Namespace) -> None:
    """Refuse what could not be written, before anything is read."""
    check_files(options.save, options.export, _KINDS)
    if not (options.save or options.export or options.report):
        raise RequestError("nothing would be kept", "Give --save, --export or --report.")


def sole_character(name: str) -> bpy.types.Object:
    """Look up an armature by its name, or the only one of the scene.

    Raises:
        InputError: there is none.
        RequestError: there are several and none is named.
    """
    if name:
        return find_character(name)
    rigs = [item for item in bpy.context.scene.objects if item.type == "ARMATURE"]
    if not rigs:
        raise InputError(
            "The opened file has no armature.", "Open the character's file: blender -b character.blend -c ..."
        )
    if len(rigs) > 1:
        names = ", ".join(item.name for item in rigs)
        raise RequestError(f"{len(rigs)} armatures to choose from: {names}", "Name one of them.", field="rig")
    return rigs[0]


def _settings(options: argparse.Namespace, rig: bpy.types.Object) -> RetargetSettings:
    """Take the character's sliders, and above them the flags that were given."""
    given = schema.from_flags(RetargetSettings, options)
    names = [item.name for item in schema.read(RetargetSettings) if hasattr(options, item.name)]
    return replace(retarget_settings(rig.understudy.tuning), **{name: getattr(given, name) for name in names})


def _land(
    options: argparse.Namespace, rig: bpy.types.Object, performance: Any, settings: RetargetSettings,
    match: Any, *, several: bool, files: _Files,
) -> _Outcome:  # fmt: skip
    take = f"{options.name} {performance.name}" if several and options.name else options.name
    landing = Landing(take, options.frame_start, options.rate.upper(), stash=not options.no_stash, asset=options.asset)
    landed = land(rig, performance, bpy.context.scene, landing=landing, settings=settings, match=match)
    for path in options.export:
        place = path.with_stem(f"{path.stem} {file_name(landed.action)}") if several else path
        _export(rig, files.place(place))
    return _Outcome(landed, landed.verify(_VERIFIED))


def _export(rig: bpy.types.Object, path: Path) -> None:
    from ..operators.scene.export import export_rig

    export_rig(rig, path, _KINDS[path.suffix.lower()], bpy.context.scene, meshes=True)


def _save(path: Path) -> None:
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(path), check_existing=False, copy=True)
    except RuntimeError as error:
        raise ResourceError(f"The scene could not be saved in {path.parent}: {error}") from error


def _write_report(path: Path, outcomes: list[_Outcome], skipped: tuple[str, ...], files: _Files) -> None:
    clips = []
    for item in outcomes:
        landed = item.landed
        plot = path.with_name(f"{path.stem} {file_name(landed.action)}.svg")
        files.place(plot).write_text(landed.plot(), encoding="utf-8")
        clips.append({**landed.report(), "errors": item.errors, "plot": plot.name})
    table = {"rig": outcomes[0].landed.rig, "file": bpy.data.filepath, "clips": clips, "skipped": list(skipped)}
    files.place(path).write_text(json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


class _Files:
    """Files that are made beside their places, under other names, and put into them together."""

    def __init__(self) -> None:
        self.written: list[Path] = []
        self._made: list[tuple[Path, Path]] = []

    def place(self, path: Path) -> Path:
        """Give the name to write under; in the same folder, since a .blend holds relative paths."""
        path = path.absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        made = path.with_name(f".{secrets.token_hex(4)} {path.name}")
        self._made.append((made, path))
        return made

    def put(self) -> None:
        """Put all files into their places."""
        for made, path in self._made:
            try:
                made.replace(path)
            except OSError as error:
                raise storage_error(path, error) from error
            self.written.append(path)

    def drop(self) -> None:
        """Remove what was made and not put."""
        for made, _ in self._made:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[_Files]:
    files = _Files()
    try:
        yield files
        files.put()
    finally:
        files.drop()
