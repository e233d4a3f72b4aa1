"""The warm worker: takes job folders from its stdin, one after the other, and keeps what it imported.

What libraries print goes to each job's `log.txt`; what the worker says goes to its `events.jsonl`.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ..protocol import schema
from ..protocol.errors import EXIT_DONE, Cancelled, RequestError, ResourceError, UnderstudyError
from ..protocol.events import Event, Reporter
from ..protocol.files import is_full, storage_error
from ..protocol.folder import JobFolder, JobReporter
from ..protocol.requests import PROTOCOL, Order, find_task, mismatch
from . import guard
from .console import divert

LOCK_WAIT_S = 2.0  # a reader that looks whether the job runs holds the lock for a moment


def main(parent: int | None, silence_s: float = guard.SILENCE_S) -> NoReturn:
    """Work until stdin ends, which ends this process."""
    guard.protect(parent, silence_s)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stream = os.fdopen(os.dup(0), "rb")
    _detach_stdin()
    os.chdir(tempfile.gettempdir())  # Windows cannot replace a folder in which somebody stands
    guard.follow(stream, orders.put)
    while True:
        try:
            _take_order(orders.get())
        except UnderstudyError as error:
            sys.stderr.write(f"{error.message}\n")
        except KeyboardInterrupt:  # told to end: threads of libraries must not delay it
            os._exit(Cancelled.exit_code)
        divert(os.devnull)


def _detach_stdin() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a library that reads must not eat orders
    os.close(nothing)


def _take_order(line: bytes) -> None:
    order = schema.load_json(line)
    if not isinstance(order, dict) or order.get("protocol") != PROTOCOL:
        raise mismatch("the add-on", order.get("protocol") if isinstance(order, dict) else None, "this worker")
    folder = JobFolder(str(order.get("job", "")))
    if not folder.path.is_dir():
        raise RequestError(f"there is no folder {folder.path}", field="job")
    try:
        divert(folder.log)
    except OSError as error:
        raise storage_error(folder.log, error) from error
    run_job(folder, run_id=str(order.get("run_id", "")))


def run_job(folder: JobFolder, *, run_id: str = "", listener: Callable[[Event], None] | None = None) -> int:
    """Run the job of a folder to its last word.

    Args:
        run_id: the run that was asked for; where the folder has since been given to another run, nothing is done.
        listener: is told each event.
    Returns:
        The exit code.
    Raises:
        RequestError: another process runs the job.
        ResourceError: the folder cannot be written.
        KeyboardInterrupt: this process is to end; the job has said that it is cancelled.
    """
    with folder.lock(LOCK_WAIT_S), JobReporter(folder, listener) as reporter:
        try:
            order = folder.read_order()
            if run_id not in ("", order.run_id):
                return RequestError.exit_code
            reporter.started(order)
            find_runner(order.task)(order.request, folder, reporter)
        except BaseException as error:  # noqa: BLE001 - the one boundary: whatever ends a job becomes its last word
            return _say_why(error, reporter)
        reporter.last_word("done")
        return EXIT_DONE


def follow_job(
    folder: JobFolder, order: Order, work: Callable[[Reporter], Any], listener: Callable[[Event], None] | None = None
) -> int:
    """Let work that is no task speak as a job; give the exit code.

    Raises:
        RequestError: another process has the folder.
        ResourceError: the folder cannot be written.
        KeyboardInterrupt: this process is to end; the job has said that it is cancelled.
    """
    with folder.lock(LOCK_WAIT_S), JobReporter(folder, listener) as reporter:
        try:
            reporter.started(order)
            work(reporter)
        except BaseException as error:  # noqa: BLE001 - as above
            return _say_why(error, reporter)
        reporter.last_word("done")
        return EXIT_DONE


def find_runner(task: str) -> Callable[..., Any]:
    """Import what runs a task.

    Raises:
        RequestError: there is no such task.
    """
    module, _, name = find_task(task).run.partition(":")
    return getattr(importlib.import_module(f"..{module}", __package__), name)


def _say_why(error: BaseException, reporter: JobReporter) -> int:
    known = explain(error)
    if isinstance(known, Cancelled):
        reporter.last_word("cancelled")
    else:
        if not isinstance(error, UnderstudyError):
            traceback.print_exception(error)
        reporter.last_word("failed", code=known.code, message=known.message, hint=known.hint)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return known.exit_code


def explain(error: BaseException) -> UnderstudyError:
    """Find the sentence for whatever ended a job."""
    text = str(error) or type(error).__name__
    if isinstance(error, UnderstudyError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Cancelled()
    if isinstance(error, OSError) and is_full(error):
        return ResourceError(f"The disk is full: {text}", "Free some space and start again.")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return ResourceError(f"Memory ran out: {text}", "Close other programs, or take a shorter or smaller clip.")
    hint = "This is a bug: please report it with the job folder, whose log.txt says more."
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("inference"):
        hint = "The environment is incomplete: set it up again (build_addon.py env)."
    bug = UnderstudyError(f"{type(error).__name__}: {text}", hint)
    bug.code = "bug"
    return bug
