"""`batch plan|run|status|clean|export`: the one command that every engine runs, and what stands around it.

Exit codes of `run`: 0 all done, 2 request, 3 some items failed (their .error.json says why), 75 some failed and may not
at another time, 130 cancelled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ..protocol import schema
from ..protocol.errors import EXIT_DONE, Cancelled, RequestError, UnderstudyError
from ..protocol.folder import JobFolder, JobReporter, new_run_id
from ..protocol.requests import Order
from ..protocol.schema import About
from ..runtime import guard
from .ledger import EXIT_SOME_FAILED, RETRIES, Ledger
from .local import SILENCE_S, run_local, seats
from .manifest import MAX_ITEMS, Item, Manifest, read_manifest, select, write_manifest
from .plan import Wishes, plan, read_settings
from .progress import Narrator, State
from .record import Records

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunRequest:
    """The items of a batch that are not done yet are done."""

    manifest: Annotated[Path, About("The batch.")]
    items: Annotated[str, About("Only these, as in 1-10 or 3,5-7; without it, all.")] = ""
    retry_failed: Annotated[bool, About("Also items that failed before, whatever the reason.")] = False
    retries: Annotated[int, About("How often an item whose process died is tried again.", 0, 20)] = RETRIES
    workers: Annotated[int, About("How many work at once; 0 for one on each device.", 0, 256)] = 0
    devices: Annotated[str, About("auto, cpu, or numbers of cards as in 0,1.")] = "auto"
    silence_s: Annotated[float, About("A process that says nothing for so long is replaced.", 1, 86_400, "s")] = (
        SILENCE_S
    )
    engine: Annotated[Literal["local", "ray"], About("What runs them.")] = "local"
    blender: Annotated[
        str, About("Program for batches of Blender: blender, or a Python with bpy; also $UNDERSTUDY_BLENDER.")
    ] = ""


def add(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, Say, Say], int]) -> None:
    """Describe the sub-commands; `run` does `batch run` with what it is to say to stdout and to stderr."""
    commands = parser.add_subparsers(required=True, metavar="ACTION", parser_class=type(parser))

    def command(name: str, act: Callable[[argparse.Namespace, Say, Say], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(act=act)
        return sub

    sub = command("plan", _plan, "Write a batch from folders of clips, photos, captures, or from shots.")
    sub.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help="Files and folders; for shots a .csv.")
    sub.add_argument("--kind", choices=("clips", "apply", "retarget", "export", "render"), default="clips",
                     help="What is made of them (default clips: captures of clips and heads of photos).")  # fmt: skip
    sub.add_argument("--out", type=Path, required=True, metavar="MANIFEST", help="The batch, a .json.")
    sub.add_argument("--results", type=Path, metavar="FOLDER", help="Where results go (default: beside the batch).")
    sub.add_argument("--settings", default="", metavar="JSON", help='By task, as in {"motion": {"smoothing": 0.2}}.')
    sub.add_argument("--blend", type=Path, metavar="FILE", help="The character's file (apply, retarget).")
    sub.add_argument("--frames", default="", metavar="A-B", help="Frames of a shot (render).")
    sub.add_argument("--capture", type=Path, metavar="JOB", help="What the character performs (render).")
    sub.add_argument("--camera", default="", metavar="NAME", help="The camera (render).")
    sub.add_argument("--overwrite", action="store_true", help="Replace another batch of this name.")
    sub = command("run", run, "Do what is not done yet; may be called again and by many at once.")
    sub.add_argument("manifest", metavar="MANIFEST")
    schema.add_flags(sub, _without_manifest())
    sub.add_argument("--progress", choices=("text", "openjd", "none"), default="text", help="How it says how it goes.")
    sub.add_argument("--job", type=Path, metavar="JOB", help="Also say it in this folder, as a job.")
    sub.add_argument("--parent", type=int, metavar="PID", help="Die with this process' main thread.")
    sub.add_argument("--with-parent", type=int, nargs="?", const=0, default=None, metavar="PID",
                     help="End when the process that started this is gone.")  # fmt: skip
    sub = command("status", _status, "Say what is done, open and failed. Exit code 0 if all is done, else 3.")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("--items", default="", metavar="A-B", help="Only these.")
    sub.add_argument("--json", action="store_true", help="Every item, as JSON.")
    sub = command("clean", _clean, "Remove what killed runs left; with --work also unfinished work.")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("--work", action="store_true", help="Also unfinished work that a next run would go on from.")
    sub = command("export", _export, "Write a batch as a job of a render manager.")
    sub.add_argument("format", choices=("openjd", "flamenco"), help="Open Job Description, or Flamenco.")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="Where the job is written.")
    sub.add_argument("--chunk", type=int, default=10, metavar="N", help="Items of one task (default 10).")
    sub.add_argument("--python", default="", help="Python of the environment there (default: this one).")
    sub.add_argument("--blender", default="", help="Blender there (default: the one found here).")


def _without_manifest() -> type:
    """Give the settings that are flags: the batch itself is named without one."""
    fields = {name: kind for name, kind in RunRequest.__annotations__.items() if name != "manifest"}
    space: dict[str, Any] = {name: getattr(RunRequest, name) for name in fields}
    return dataclass(frozen=True)(type("RunFlags", (), {**space, "__annotations__": fields, "__module__": __name__}))


def _plan(options: argparse.Namespace, say: Say, _: Say) -> int:
    program = "inference" if options.kind == "clips" else "blender"
    settings = schema.load_json(options.settings) if options.settings else {}
    wishes = Wishes(
        read_settings(settings, program), options.blend, options.frames, options.capture, options.camera
    )  # fmt: skip
    rows = plan(options.kind, options.sources, wishes)
    results = options.results or options.out.with_suffix("")
    manifest = write_manifest(options.out, program, results, rows, overwrite=options.overwrite)
    counts = Counter(item.task for item in manifest.items)
    say(f"{manifest.path}: {', '.join(f'{count} x {task}' for task, count in counts.items())}")
    say(f"Next: {_next_command(manifest)}")
    return EXIT_DONE


def _next_command(manifest: Manifest) -> str:
    if manifest.program == "blender":
        return f'blender -b -c understudy batch run "{manifest.path}"'
    return f'python -m inference batch run "{manifest.path}"'


def _status(options: argparse.Namespace, say: Say, _: Say) -> int:
    manifest = read_manifest(options.manifest)
    records = Records(manifest)
    rows = [_row(records, item) for item in select(manifest, options.items)]
    counts = Counter(row["state"] for row in rows)
    if options.json:
        say(json.dumps({"batch": manifest.digest, "counts": counts, "items": rows}, indent=1))
    else:
        say(", ".join(f"{counts[word]} {word}" for word in ("done", "failed", "open")))
        for row in rows:
            if row["state"] == "failed":
                say(f"{row['item']:6} {row['out']}: {row['message']}")
    return EXIT_DONE if counts["done"] == len(rows) else EXIT_SOME_FAILED


def _row(records: Records, item: Item) -> dict[str, Any]:
    row = {"item": item.number, "out": item.out, "task": item.task}
    try:
        state = records.state(item, records.key_of(item))
    except UnderstudyError as error:
        return {**row, "state": "failed", "message": error.message}
    return {**row, "state": state.word, **({"message": state.message} if state.message else {})}


def _clean(options: argparse.Namespace, say: Say, _: Say) -> int:
    count = Records(read_manifest(options.manifest)).sweep(everything=options.work)
    say(f"{count} thing(s) removed")
    return EXIT_DONE


def _export(options: argparse.Namespace, say: Say, _: Say) -> int:
    from .export import EXPORTS

    if not 1 <= options.chunk <= MAX_ITEMS:
        raise RequestError(f"{options.chunk} is outside 1 to {MAX_ITEMS:,}", field="chunk")
    write, manifest = EXPORTS[options.format], read_manifest(options.manifest)
    say(f"Wrote {write(manifest, options.out, chunk=options.chunk, python=options.python, blender=options.blender)}")
    return EXIT_DONE


def read_request(options: argparse.Namespace) -> RunRequest:
    """Make a request of parsed flags.

    Raises:
        RequestError: a setting is wrong.
    """
    return schema.from_flags(RunRequest, options)


def run_batch(request: RunRequest, engine: Callable[[Ledger, Callable[[], bool]], None], narrator: Narrator) -> int:
    """Do the items of a request with an engine, sweep before and after, and give the exit code.

    Args:
        engine: does what a ledger holds, until its second argument says to stop.
    Raises:
        RequestError: there is no such batch, or no such items.
        ResourceError: the output folder cannot be written.
    """
    manifest = read_manifest(request.manifest)
    items = select(manifest, request.items)
    records = Records(manifest)
    records.sweep()
    ledger = Ledger(
        records, items, retry_failed=request.retry_failed, retries=request.retries, tell=narrator.tell
    )  # fmt: skip
    narrator.begin(ledger)
    with stoppable() as is_asked:
        engine(ledger, lambda: is_asked() or narrator.is_cancelled)
    records.sweep()
    narrator.end(ledger)
    return ledger.tally.exit_code


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish that the block can ask for; the second ends this process."""
    asked: list[int] = []

    def take(number: int, _: Any) -> None:
        if asked:
            os._exit(Cancelled.exit_code)
        asked.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_here(options: argparse.Namespace, say: Say, note: Say) -> int:
    """Do `batch run` outside Blender."""
    request = read_request(options)
    manifest = read_manifest(request.manifest)
    if options.parent is not None:
        guard.protect(options.parent)
    if options.with_parent is not None:
        guard.end_with_parent(options.with_parent)
    places = seats(request.devices, request.workers)
    if manifest.program == "blender" and request.engine == "ray":
        from .ray_engine import run_ray_blenders

        def engine(ledger: Ledger, should_stop: Callable[[], bool]) -> None:
            run_ray_blenders(
                ledger, request.blender, workers=request.workers, silence_s=request.silence_s, should_stop=should_stop
            )  # fmt: skip
    elif manifest.program == "blender":
        from .blenders import run_blenders

        def engine(ledger: Ledger, should_stop: Callable[[], bool]) -> None:
            run_blenders(ledger, request.blender, len(places), silence_s=request.silence_s, should_stop=should_stop)
    elif request.engine == "ray":
        from .ray_engine import run_ray

        def engine(ledger: Ledger, should_stop: Callable[[], bool]) -> None:
            run_ray(ledger, silence_s=request.silence_s, workers=request.workers, should_stop=should_stop)
    else:

        def engine(ledger: Ledger, should_stop: Callable[[], bool]) -> None:
            run_local(ledger, places, silence_s=request.silence_s, should_stop=should_stop)

    with as_job(options.job, request) as state:
        return run_batch(request, engine, Narrator(options.progress, say, note, state))


@contextlib.contextmanager
def as_job(folder: Path | None, request: RunRequest) -> Iterator[State]:
    """Let a folder show the run as a job; without one, nothing."""
    if folder is None:
        yield State(None)
        return
    job = JobFolder(folder)
    order = Order("batch", request, new_run_id(), "batch")
    job.prepare(order, overwrite=True)
    with job.lock(), JobReporter(job) as reporter:
        reporter.started(order)
        state = State(reporter)
        try:
            yield state
        except UnderstudyError as error:
            reporter.last_word("failed", code=error.code, message=error.message, hint=error.hint)
            raise
        state.last_word()
