"""`blender -b -c understudy batch ...`: items of a batch that Blender itself does, in this process, one by one.

What a crash of Blender leaves is an item that is not done; whoever started this starts it again
(`python -m inference batch run`, a farm, or the user).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..inference.batch import command
from ..inference.batch.ledger import Ledger, Work
from ..inference.batch.manifest import read_manifest
from ..inference.batch.progress import Narrator, State
from ..inference.batch.tasks import ApplyItem, ExportItem, RenderItem, RetargetItem
from ..inference.protocol.errors import InputError, RequestError, ResourceError, UnderstudyError
from ..inference.runtime import guard

Say = Callable[[str], None]
_WAIT_S = 0.2
_Run = Callable[[list[str]], int]


def add(commands: Any, say: Say, run_words: _Run) -> None:
    """Describe the sub-command; `run_words` does another sub-command, and raises what it cannot do."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "batch",
        help="apply, retarget, export and render many items, each whole or not at all",
        description="The items of a batch that are not done yet. May be called again, and by many at once.",
    )
    command.add(parser, lambda options, say, _: _run(options, say, run_words))
    parser.set_defaults(run=lambda options: options.act(options, say, say))


def _run(options: argparse.Namespace, say: Say, run_words: _Run) -> int:
    request = command.read_request(options)
    program = read_manifest(request.manifest).program
    if program != "blender":
        hint = f'Run it outside Blender: python -m inference batch run "{request.manifest}"'
        raise RequestError(f"this batch is for {program}", hint, field="manifest")
    if options.parent is not None:
        guard.protect(options.parent)

    def engine(ledger: Ledger, should_stop: Callable[[], bool]) -> None:
        _do_all(ledger, should_stop, _Desk(run_words))

    with command.as_job(options.job, request) as state, _alive(state):
        return command.run_batch(request, engine, Narrator(options.progress, say, say, state))


def _do_all(ledger: Ledger, should_stop: Callable[[], bool], desk: _Desk) -> None:
    while not ledger.is_finished and not should_stop():
        work = ledger.take()
        if work is None:
            time.sleep(_WAIT_S)
            continue
        try:
            desk.do(ledger, work)
        except UnderstudyError as error:
            ledger.fail(work, error)
        except Exception as error:  # noqa: BLE001 - whatever one item does must not end the others
            bug = UnderstudyError(f"{type(error).__name__}: {error}", "This is a bug: please report it with the item.")
            bug.code = "bug"
            ledger.fail(work, bug)
        else:
            ledger.succeed(work, blender=bpy.app.version_string, pid=os.getpid())
    ledger.tally.is_cancelled = ledger.tally.is_cancelled or not ledger.is_finished


@contextlib.contextmanager
def _alive(state: State) -> Any:
    """Let the renderer's own progress be a sign of life."""

    @persistent  # a file that is opened takes other handlers away
    def tell(*_: Any) -> None:
        state.beat()

    bpy.app.handlers.render_stats.append(tell)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # unloaded with everything else
            bpy.app.handlers.render_stats.remove(tell)


class _Desk:
    """Does items; the file and the performance of the last frame stay open for the next."""

    def __init__(self, run_words: _Run) -> None:
        self._run_words = run_words
        self._opened: tuple[Any, ...] = ()

    def do(self, ledger: Ledger, work: Work) -> None:
        """Make one item in its working place."""
        made = ledger.records.work_path(work.item)
        request = ledger.records.manifest.request(work.item)
        if isinstance(request, RenderItem):
            self._render(request, made)
            return
        self._opened = ()
        made.mkdir(parents=True, exist_ok=True)
        if isinstance(request, ApplyItem):
            self._apply(request, made)
        elif isinstance(request, RetargetItem):
            self._retarget(request, made)
        elif isinstance(request, ExportItem):
            _export(request, made)

    def _render(self, wishes: RenderItem, made: Path) -> None:
        from ..operators.scene.render import render_frame

        shot = (wishes.blend, wishes.capture, wishes.rig)
        if shot != self._opened:
            self._opened = ()
            _open(wishes.blend)
            if wishes.capture:
                _perform(wishes.rig, wishes.capture)
            self._opened = shot
        render_frame(wishes, made)

    def _apply(self, wishes: ApplyItem, made: Path) -> None:
        capture = wishes.capture
        if wishes.blend:
            _open(wishes.blend)
        else:
            bpy.ops.wm.read_homefile(use_empty=True, load_ui=False)
        copy = _copied(capture, made)
        words = ["apply", str(copy), "--frame-start", str(wishes.frame_start), "--rate", wishes.rate]
        words += [] if wishes.cameras else ["--no-cameras"]
        words += ["--name", wishes.take or capture.parent.parent.name] if capture.is_file() else []
        for kind in wishes.kinds:
            words += ["--blend", str(made / "scene.blend")] if kind == "blend" else ["--export", kind]
        self._run_words(words)
        copy.unlink()

    def _retarget(self, wishes: RetargetItem, made: Path) -> None:
        _open(wishes.blend)
        words = ["retarget", "--save", str(made / "animated.blend"), "--report", str(made / "report.json")]
        for source in wishes.source:
            words += ["--source", str(source)]
        for kind in wishes.export:
            words += ["--export", str(made / f"character.{kind}")]
        words += ["--rig", wishes.rig] if wishes.rig else []
        words += ["--mapping", wishes.mapping] if wishes.mapping else []
        self._run_words(words)


def _copied(capture: Path, made: Path) -> Path:
    """Copy a capture beside what is made of it, since exports are written beside their capture."""
    source = capture if capture.is_file() else capture / "artifacts" / "body_motion.npz"
    try:
        return Path(shutil.copyfile(source, made / "body_motion.npz"))
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}.") from error


def _export(wishes: ExportItem, made: Path) -> None:
    from ..operators.scene.export import export_rig
    from .retarget_command import sole_character

    _open(wishes.blend)
    rig = sole_character(wishes.rig)
    for kind in wishes.kinds:
        name = {"glb": "GLTF"}.get(kind, kind.upper())
        export_rig(rig, made / f"character.{kind}", name, bpy.context.scene, meshes=True)


def _open(blend: Path) -> None:
    try:
        bpy.ops.wm.open_mainfile(filepath=str(blend), load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise InputError(f"{blend.name} cannot be opened: {str(error).strip()[:400]}") from error


def _perform(rig: str, capture: Path) -> None:
    from ..operators.landing import land
    from ..operators.retarget import read_clips
    from .retarget_command import sole_character

    performances, _ = read_clips([capture])
    if len(performances) != 1:
        raise InputError(f"{capture.name} holds {len(performances)} clips; a shot is of one.", "Name one of them.")
    try:
        land(sole_character(rig), performances[0], bpy.context.scene)
    except MemoryError as error:
        raise ResourceError(f"Memory ran out: {error}") from error
