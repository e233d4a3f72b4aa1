"""The command line: `python -m inference motion|live|selftest|batch|worker|setup|doctor|bench`.

Exit codes: 0 done, 2 request, 3 input, 4 weights, 5 resources, 70 bug, 130 cancelled.
Nothing heavy is imported before a job runs, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from ..batch import command as batch_command
from ..protocol import schema
from ..protocol.errors import EXIT_DONE, Cancelled, RequestError, ResourceError, UnderstudyError
from ..protocol.events import Event, Pace, Reporter, encode
from ..protocol.folder import JobFolder, new_run_id
from ..protocol.requests import TASKS, Order
from ..protocol.schema import About
from ..setup.install import SetupRequest
from .console import Console, divert
from .device import let_idle_threads_sleep

INTERRUPT_GRACE_S = 2.0
STATUS_INTERVAL_S = 5.0  # where nobody watches: a log wants a line now and then


@dataclass(frozen=True)
class BenchRequest:
    """Something is measured."""

    name: Annotated[str, About("Which benchmark.")]
    arguments: Annotated[tuple[str, ...], About("Its own flags.")] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(message, f"See `{self.prog} --help`.")


def main(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    console = Console()
    let_idle_threads_sleep()
    try:
        options = _parser().parse_args(arguments)
        return options.run(options, console)
    except UnderstudyError as error:
        _complain(console, error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        console.note("Cancelled.")
        return Cancelled.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m inference", description="Understudy's inference.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace, Console], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    for name, task in TASKS.items():
        sub = command(name, _run_task, (task.request.__doc__ or "").strip())
        sub.set_defaults(task=name)
        schema.add_flags(sub, task.request)
        sub.add_argument("--out", metavar="JOB", required=True, help="The job folder, for all that comes out.")
        sub.add_argument("--overwrite", action="store_true", help="Use the folder even if it holds another job.")
        sub.add_argument("--json", action="store_true", help="Write the job's events to stdout, one JSON a line.")
    sub = command("worker", _run_worker, "Take job folders from stdin, until it ends. Blender starts this.")
    sub.add_argument("--parent", type=int, default=None, metavar="PID", help="Die with this process' main thread.")
    sub.add_argument("--silence-s", type=float, default=600.0, help="Period of the watchdog (default 600).")
    sub = command("batch", _run_batch, "Many clips, photos, shots: planned once, done whole, begun again anywhere.")
    batch_command.add(sub, batch_command.run_here)
    sub = command("doctor", _run_doctor, "Check the environment, the device, the weights, disk and memory.")
    sub.add_argument("--json", action="store_true", help="Write the findings as JSON.")
    sub.add_argument("--golden", action="store_true", help="Also compute something whose result is known.")
    sub.add_argument("--bundle", type=Path, metavar="ZIP", help="Write what support needs; no pictures, no motion.")
    sub.add_argument("--jobs", type=Path, metavar="FOLDER", help="Where jobs lie whose logs belong into the bundle.")
    sub = command("setup", _run_setup, (SetupRequest.__doc__ or "").strip())
    schema.add_flags(sub, SetupRequest)
    sub.add_argument("--plan", action="store_true", help="Only say what would be installed, and what it takes.")
    sub.add_argument("--job", type=Path, metavar="JOB", help="Say how it goes in this folder, as a job.")
    sub.add_argument("--with-parent", type=int, nargs="?", const=0, default=None, metavar="PID",
                     help="End when the process that started this is gone.")  # fmt: skip
    sub = command("convert-weights", _run_convert, "Turn a foreign checkpoint into safetensors, without running it.")
    sub.add_argument("checkpoint", type=Path, metavar="FILE", help="A .pt or .pth of tensors.")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="The .safetensors.")
    sub.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    sub = command("bench", _run_bench, "Measure what is promised.")
    sub.add_argument("--job", type=Path, metavar="JOB", help="Say how it goes in this folder, as a job.")
    sub.add_argument("name", help="Which benchmark.")
    sub.add_argument("rest", nargs=argparse.REMAINDER, help="Its own flags.")
    return parser


def _complain(console: Console, message: str, hint: str) -> None:
    console.note(f"Error: {message}")
    if hint:
        console.note(hint)


def _run_task(options: argparse.Namespace, console: Console) -> int:
    from .worker import run_job

    request = schema.from_flags(TASKS[options.task].request, options)
    folder = JobFolder(options.out)
    order = Order(options.task, request, new_run_id(), "command line")
    folder.prepare(order, overwrite=options.overwrite)
    divert(folder.log)
    narrator = _Narrator(console, folder, as_json=options.json)
    try:
        with _interruptible(folder):
            return run_job(folder, run_id=order.run_id, listener=narrator)
    except KeyboardInterrupt:  # the job has said so
        return Cancelled.exit_code


def _run_batch(options: argparse.Namespace, console: Console) -> int:
    return options.act(options, console.say, console.note)


def _run_worker(options: argparse.Namespace, console: Console) -> int:
    from .worker import main as work

    console.close()
    work(options.parent, options.silence_s)


def _run_doctor(options: argparse.Namespace, console: Console) -> int:
    from .doctor import examine, exit_code
    from .support import UNFINISHED, write_bundle

    if options.bundle:  # at once: what hangs is what support is to be asked about
        write_bundle(options.bundle, [UNFINISHED], options.jobs)
    findings = examine(golden=options.golden)
    if options.bundle:
        console.note(f"Wrote {write_bundle(options.bundle, findings, options.jobs)}")
    if options.json:
        console.say(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            console.say(f"{finding.verdict:8}{finding.name:22} {finding.text}")
            if finding.hint:
                console.say(" " * 31 + finding.hint)
    return exit_code(findings)


def _run_setup(options: argparse.Namespace, console: Console) -> int:
    from ..setup import install, recipe
    from . import guard
    from .worker import follow_job

    request = schema.from_flags(SetupRequest, options)
    if options.plan:
        choice = recipe.choose(recipe.read_recipe(request.recipe or recipe.FOLDER), request.backend, recipe.look())
        console.say(recipe.describe(choice))
        free = recipe.check_disk(request.into.absolute(), choice.option)
        console.say(f"{free / 1000:.1f} GB are free there.")
        return EXIT_DONE
    if options.with_parent is not None:
        guard.end_with_parent(options.with_parent)
    folder = JobFolder(options.job or request.into / "setup")
    order = Order("setup", request, new_run_id(), "set-up")
    folder.prepare(order, overwrite=True)
    listener = _Narrator(console, folder, as_json=False)
    with _interruptible(folder):
        return follow_job(folder, order, lambda report: install.run(request, report), listener)


def _run_convert(options: argparse.Namespace, console: Console) -> int:
    from . import convert

    work = convert.convert_here if options.here else convert.convert
    console.say(work(options.checkpoint, options.out))
    return EXIT_DONE


def _run_bench(options: argparse.Namespace, _: Console) -> int:
    try:
        bench = importlib.import_module("..bench", __package__)
    except ModuleNotFoundError as error:
        raise RequestError(
            "benchmarks are not shipped", "Run this in a checkout of the project.", field="bench"
        ) from error
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__))
    if options.name not in names:
        raise RequestError(f"{options.name!r} is not one of {', '.join(names) or 'none'}", field="bench")
    measure = importlib.import_module(f".{options.name}", bench.__name__).main
    if options.job is None:
        return int(measure(options.rest) or EXIT_DONE)
    return _bench_as_job(options, lambda: measure(options.rest))


def _bench_as_job(options: argparse.Namespace, measure: Callable[[], Any]) -> int:
    from .worker import follow_job

    def work(reporter: Reporter) -> None:
        importlib.import_module("..bench.table", __package__).REPORTER.set(reporter)
        measure()

    folder = JobFolder(options.job)
    order = Order("bench", BenchRequest(options.name, tuple(options.rest)), new_run_id(), "command line")
    folder.prepare(order, overwrite=True)
    with _interruptible(folder):
        return follow_job(folder, order, work)


class _Narrator:
    """Tells a person, or a program, what a job says."""

    def __init__(self, console: Console, folder: JobFolder, *, as_json: bool) -> None:
        self._console = console
        self._folder = folder
        self._as_json = as_json
        self._pace = Pace()
        self._start = time.monotonic()
        self._next_line = 0.0
        self._stage = ""

    def __call__(self, event: Event) -> None:
        self._pace.add(event)
        if self._as_json:
            self._console.say(encode(event).decode("ascii").rstrip())
        tell = getattr(self, f"_tell_{event.kind}", None)
        if tell:
            tell(event)

    def _tell_progress(self, _: Event) -> None:
        if self._console.is_terminal:
            self._console.status(self._pace.text)
        elif time.monotonic() >= self._next_line or self._pace.stage != self._stage:
            self._next_line, self._stage = time.monotonic() + STATUS_INTERVAL_S, self._pace.stage
            self._console.note(self._pace.text)

    def _tell_warning(self, event: Event) -> None:
        self._console.note(f"Warning: {event['text']}")

    def _tell_done(self, _: Event) -> None:
        self._console.note(f"Done in {time.monotonic() - self._start:.1f} s: {self._folder.artifacts}")

    def _tell_cancelled(self, _: Event) -> None:
        self._console.note("Cancelled.")

    def _tell_failed(self, event: Event) -> None:
        _complain(self._console, event["message"], event["hint"])
        if event["code"] == "bug":
            self._console.note(self._folder.log_tail().rstrip())


@contextlib.contextmanager
def _interruptible(folder: JobFolder) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM at the next Python instruction, and without one after two seconds.

    Python runs signal handlers between instructions; native code can keep the main thread from the next one for
    long. The wake-up descriptor is written by the C part of the handler, and a thread waits at its other end.
    """
    listening, waking = socket.socketpair()
    waking.setblocking(False)

    def insist() -> None:
        if not listening.recv(1):
            return
        with contextlib.suppress(ResourceError):
            folder.ask_to_cancel()  # so that whoever reads the folder knows that this was no crash
        time.sleep(INTERRUPT_GRACE_S)
        os._exit(Cancelled.exit_code)

    threading.Thread(target=insist, daemon=True, name="interrupt").start()
    before: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before)
