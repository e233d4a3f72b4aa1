"""Work beside the worker: a process of its own that says how it goes in a job folder, as batches and set-ups do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .client import GRACE_S, ROOT, Followed, clean_environment, command_line, exit_code, kill_session
from .errors import InputError, ResourceError
from .events import Event
from .files import storage_error
from .folder import JobFolder
from .watch import JobWatch

OUTPUT = "output.txt"


class Launched:
    """A running `python -m inference ...` and all that it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls, python: str, words: Sequence[str], folder: Path) -> Launched:
        """Start it; what it prints goes to `output.txt` in the folder. Words name the folder themselves.

        Raises:
            ResourceError: the folder cannot be written.
            InputError: there is no such program.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            out = (folder / OUTPUT).open("wb")
        except OSError as error:
            raise storage_error(folder / OUTPUT, error) from error
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0
        command = [*command_line(python, *words), "--with-parent", str(os.getpid())]
        with out:
            try:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=sys.platform != "win32", creationflags=flags,
                )  # fmt: skip
            except OSError as error:
                raise InputError(f"{python} cannot be started: {error.strerror}.") from error
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and what it started now."""
        if self.is_alive:
            kill_session(self._process)
        self._process.wait()

    def describe_end(self, wait_s: float = 0.0) -> str:
        """Say how it ended, if it does within `wait_s`; nothing while it lives."""
        code = exit_code(self._process, wait_s)
        return "" if code is None else f"The process ended with exit code {code}."


class LaunchedJob(Followed):
    """A job of a launched process; follows and stops it as `client.Job` does those of the worker."""

    def __init__(self, process: Launched, folder: JobFolder, grace_s: float = GRACE_S) -> None:
        super().__init__(JobWatch(folder), grace_s)
        self._process = process

    def poll(self) -> list[Event]:
        """Give what was said since the last call, without waiting, and press on with a cancel that is not answered."""
        events = self.watch.poll(self._describe_end)
        if self._cancelled_at and self.last is None:
            self._insist(self._process)
        return events

    def _describe_end(self, wait_s: float) -> str:
        told = self._process.describe_end(wait_s)
        if not told:
            return ""
        with contextlib.suppress(OSError):
            printed = (self.folder.path / OUTPUT).read_bytes()[-400:].decode("utf-8", "replace")
            told = f"{told} {' '.join(printed.split())}".strip()
        return told

    def cancel(self) -> None:
        """Ask the job to stop, once."""
        if self.last is None and not self._cancelled_at:
            with contextlib.suppress(ResourceError):
                self.folder.ask_to_cancel()
            self._cancelled_at = time.monotonic()
