"""Blenders that work through a batch under a supervisor: one that dies is replaced, one that is silent is ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ..protocol.client import GRACE_S, ROOT, clean_environment, kill_session
from ..protocol.errors import EXIT_DONE, Cancelled, RequestError, ResourceError, UnderstudyError
from ..protocol.folder import JobFolder
from ..protocol.watch import JobWatch
from .ledger import EXIT_SOME_FAILED, EXIT_TRY_AGAIN, Ledger
from .manifest import Item, in_ranges

VARIABLE = "UNDERSTUDY_BLENDER"
HEADLESS = ROOT / "blender_addon" / "headless.py"
POLL_S = 0.1
_LOOK_S = 1.0
_ENDED_WELL = (EXIT_DONE, EXIT_SOME_FAILED, EXIT_TRY_AGAIN)


def find_blender(chosen: str) -> list[str]:
    """Give the beginning of a command that runs `headless.py` in Blender.

    Args:
        chosen: a program; "" for the one of the environment variable, or `blender` on the path.
    Raises:
        RequestError: there is none.
    """
    name = chosen or os.environ.get(VARIABLE, "") or "blender"
    program = shutil.which(name)
    if program is None:
        hint = f"Give --blender PROGRAM, or set {VARIABLE}; a Python with the module bpy will do."
        raise RequestError(f"there is no program {name[:200]!r}", hint, field="blender")
    if Path(program).name.lower().startswith("python"):
        return [program, "-E", "-s", "-X", "utf8", str(HEADLESS)]
    flags = ["-b", "--factory-startup", "--disable-autoexec", "--python-exit-code", "1"]
    return [program, *flags, "--python", str(HEADLESS), "--"]


class Running(Protocol):
    """A Blender that runs, here or on another machine."""

    def poll(self) -> int | None:
        """Give its exit code once it has ended."""
        ...

    def kill(self) -> None:
        """End it and whatever it started."""
        ...


Launch = Callable[[list[str], Path], Running]  # a command, and the file for what it prints


class _Here:
    """A Blender on this computer; it dies with this process."""

    def __init__(self, command: list[str], log: Path) -> None:
        if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
            command = [*command, "--parent", str(os.getpid())]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=sys.platform != "win32",
            )  # fmt: skip
        self.poll = self._process.poll

    def kill(self) -> None:
        """End it and whatever it started."""
        kill_session(self._process)
        self._process.wait()


class _Child:
    """One Blender and the items it was given."""

    def __init__(self, begin: list[str], ledger: Ledger, items: Sequence[Item], launch: Launch, number: int) -> None:
        records = ledger.records
        self.items = list(items)
        self.job = JobFolder(records.work / f"blender_{os.getpid()}_{number}")
        self.heard = time.monotonic()
        self.is_silent = False
        self._asked = 0.0
        self.job.path.mkdir(parents=True, exist_ok=True)
        self._watch = JobWatch(self.job)
        words = ["batch", "run", str(records.manifest.path), "--items", in_ranges([item.number for item in items])]
        words += ["--retry-failed", "--progress", "none", "--job", str(self.job.path)]
        self.process = launch([*begin, *words], self.job.path / "blender.txt")

    def is_over(self, silence_s: float) -> bool:
        """Look whether it has ended; one that has been silent for too long is ended."""
        if self._watch.poll():
            self.heard = time.monotonic()
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self.heard > silence_s:
            self.is_silent = True
            self.process.kill()
        return False

    def stop(self) -> None:
        """Ask it to stop; what renders does not listen, so it is killed soon."""
        if not self._asked:
            self._asked = time.monotonic()
            with contextlib.suppress(ResourceError):
                self.job.ask_to_cancel()
        elif time.monotonic() - self._asked > GRACE_S:
            self.process.kill()

    def log_tail(self) -> str:
        """Give the end of what it printed."""
        with contextlib.suppress(OSError):
            return (self.job.path / "blender.txt").read_bytes()[-2000:].decode("utf-8", "replace")
        return ""

    def remove(self) -> None:
        """Remove what it said."""
        shutil.rmtree(self.job.path, ignore_errors=True)


def run_blenders(
    ledger: Ledger,
    chosen: str,
    count: int,
    *,
    silence_s: float,
    should_stop: Callable[[], bool],
    launch: Launch = _Here,
) -> None:
    """Do what is left of a batch of Blender's; call from the main thread.

    Args:
        chosen: which Blender, as `find_blender` takes it.
        count: how many at once.
        launch: starts one.
    Raises:
        RequestError: there is no Blender, or it does not know what to do.
        ResourceError: the output folder cannot be written.
    """
    left = ledger.survey()
    deaths: Counter[int] = Counter()
    begin = find_blender(chosen) if left else []
    while left and not ledger.tally.is_cancelled:
        children = _start(begin, ledger, left, count, launch)
        try:
            _wait(children, ledger, left, silence_s, should_stop)
        finally:
            for child in children:
                child.process.kill()
        ledger.tally.is_cancelled = should_stop()
        try:
            for child in children:
                _take_end(child, ledger, left, deaths)
        finally:
            for child in children:
                child.remove()


def _start(begin: list[str], ledger: Ledger, left: Sequence[Item], count: int, launch: Launch) -> list[_Child]:
    count = min(count, len(left))
    parts = [left[n * len(left) // count : (n + 1) * len(left) // count] for n in range(count)]
    try:
        return [_Child(begin, ledger, part, launch, number) for number, part in enumerate(parts)]
    except OSError as error:
        raise ResourceError(f"{begin[0]} cannot be started: {error.strerror or error}.") from error


def _wait(
    children: list[_Child], ledger: Ledger, left: list[Item], silence_s: float, should_stop: Callable[[], bool]
) -> None:
    began, next_look = time.time(), 0.0
    while True:
        over = [child.is_over(silence_s) for child in children]
        if all(over):
            break
        if should_stop():
            for child in children:
                child.stop()
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _LOOK_S
            ledger.settle(left, since=began, first_only=True)
        time.sleep(POLL_S)
    ledger.settle(left, since=began)


def _take_end(child: _Child, ledger: Ledger, left: list[Item], deaths: Counter[int]) -> None:
    """Draw the conclusions of how a Blender ended for the item that it had in hand."""
    code = child.process.poll()
    theirs = [item for item in child.items if item in left]
    if not theirs:
        return
    if code in _ENDED_WELL:  # others have the rest in hand
        time.sleep(_LOOK_S)
        return
    if code == Cancelled.exit_code:
        ledger.tally.is_cancelled = True
        return
    if code in (RequestError.exit_code, 1) and not deaths:
        raise UnderstudyError(f"Blender ended with exit code {code}: {child.log_tail()[-600:].strip()}")
    item = theirs[0]
    deaths[item.number] += 1
    why = "said nothing for too long" if child.is_silent else f"ended with {code}"
    if ledger.died_elsewhere(item, deaths[item.number], f"Blender {why}.", child.log_tail()):
        left.remove(item)
