"""How Blender speaks to the warm worker: starts it, hands it job folders, follows and stops them. Nothing here waits.

The worker is `python -E -s -X utf8 -m inference worker`, started in the folder that holds the package. `-m` is what
puts that folder on the worker's path; `-I` would take it off again, so its other two halves are given one by one:
-E (no PYTHON* variables) and -s (no user site). The worker leaves the folder once it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from .errors import RequestError, ResourceError
from .events import Event
from .folder import JobFolder, new_run_id
from .requests import PROTOCOL, Order
from .watch import JobWatch

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.05
CLOSE_S = 2.0
GRACE_S = 1.2  # terminated after one and killed after two of it, a worker is free again within three seconds


class Worker:
    """A worker process; it ends when its stdin closes. What it prints before its first job goes to `log`.

    On Linux the kernel also kills it when the *thread* that started it ends, so that is asked for from the main
    thread alone (see `runtime/guard.py`).

    Raises:
        RequestError: there is no such Python.
    """

    def __init__(self, python: str, log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.is_ending = False  # it was told to end, and takes no more jobs
        try:
            self._process = _start(python, log, variables or {})
        except OSError as error:
            hint = "Set up the environment, or choose its Python in the preferences."
            raise RequestError(f"{python} cannot be started: {error.strerror}", hint, field="python") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, order: dict[str, Any]) -> None:
        """Hand it a job."""
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it died while starting: the next poll says so, with its log
            self._process.stdin.write(json.dumps(order).encode("ascii") + b"\n")

    def terminate(self) -> None:
        """Ask it to end, once."""
        if not self.is_ending:
            self.is_ending = True
            self._process.terminate()

    def kill(self) -> None:
        """End it and its children now."""
        self.is_ending = True
        if self.is_alive:  # a number that was given back may belong to somebody else by now
            kill_session(self._process)
        self._process.wait()
        self._close_stdin()

    def close(self) -> None:
        """Close its stdin, which ends it."""
        self.is_ending = True
        self._close_stdin()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _close_stdin(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()

    def describe_end(self, wait_s: float = 0.0) -> str:
        """Say how it ended, if it does within `wait_s`; nothing while it lives."""
        code = exit_code(self._process, wait_s)
        if code is None:
            return ""
        if code >= 0:
            return f"The worker ended with exit code {code}."
        known = {int(number): number.name for number in signal.Signals}
        cause = ", most likely because memory ran out" if known.get(-code) == "SIGKILL" and not self.is_ending else ""
        return f"The worker was ended by {known.get(-code, f'signal {-code}')}{cause}."


class Ended(Protocol):
    """A process that can be told to end, and made to."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Followed:
    """A job that is followed by its folder; `watch` holds what is known of it."""

    def __init__(self, watch: JobWatch, grace_s: float) -> None:
        self.watch = watch
        self._grace_s = grace_s
        self._cancelled_at = 0.0

    @property
    def folder(self) -> JobFolder:
        """Where the job lives."""
        return self.watch.folder

    @property
    def state(self) -> str:
        """As in `JobWatch`."""
        return self.watch.state

    @property
    def last(self) -> Event | None:
        """The last word, once it is said."""
        return self.watch.last

    def _insist(self, process: Ended) -> None:
        """Press on with a cancel that is not answered."""
        waited_s = time.monotonic() - self._cancelled_at
        if waited_s > 2 * self._grace_s:
            process.kill()
        elif waited_s > self._grace_s:
            process.terminate()


class Job(Followed):
    """One job that was submitted or found."""

    def __init__(self, watch: JobWatch, hand_over: Callable[[JobWatch], Worker] | None, grace_s: float) -> None:
        super().__init__(watch, grace_s)
        self._hand_over = hand_over  # None: another process runs it
        self._worker = hand_over(watch) if hand_over else None

    def poll(self) -> list[Event]:
        """Give what was said since the last call, without waiting, and press on with a cancel that is not answered."""
        if self._was_left_behind():
            self._worker = self._hand_over(self.watch) if self._hand_over else None
        events = self.watch.poll(self._worker.describe_end if self._worker else None)
        if self._cancelled_at and self.last is None:
            self._press()
        return events

    def _was_left_behind(self) -> bool:
        """Whether the worker was ended for the sake of another job while this one waited in line."""
        left = self.state == "waiting" and self._worker and self._worker.is_ending and not self._worker.is_alive
        return bool(left) and not self.folder.cancel.exists() and not self.folder.events.exists()

    def cancel(self) -> None:
        """Ask the job to stop; a worker of ours that does not answer is terminated and then killed."""
        if self.last is None and not self._cancelled_at:
            self.folder.ask_to_cancel()
            self._cancelled_at = time.monotonic()

    def _press(self) -> None:
        if self._worker is None or self.state != "running":  # never end a worker for a job that still waits in line
            self._cancelled_at = time.monotonic()
            return
        self._insist(self._worker)

    def wait(self, timeout_s: float | None = None, listen: Callable[[Event], None] | None = None) -> Event | None:
        """Follow the job to its last word; None where the time was up before.

        Args:
            listen: is told each event as it comes.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            for event in self.poll():
                if listen:
                    listen(event)
            if self.last or (deadline is not None and time.monotonic() > deadline):
                return self.last
            time.sleep(POLL_S)


class WorkerClient:
    """Keeps one warm worker. It starts with the first job and ends with this process or with `close`.

    Args:
        python: the interpreter of the environment that has torch.
        app: who asks, for the record; as in "Blender 5.0.1".
        grace_s: how long each step of a cancel waits for an answer: then the worker is terminated, then killed.
        variables: are added to the worker's environment.
    """

    def __init__(
        self,
        python: str | os.PathLike[str],
        *,
        app: str = "",
        grace_s: float = GRACE_S,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._python = os.fspath(python)
        self._variables = variables
        self._app = app
        self._grace_s = grace_s
        self._worker: Worker | None = None
        self._jobs: list[Job] = []

    @property
    def pid(self) -> int | None:
        """The worker's process id while it lives."""
        return self._worker.pid if self._worker and self._worker.is_alive else None

    def submit(self, folder: str | os.PathLike[str], task: str, request: Any, *, overwrite: bool = False) -> Job:
        """Put a request into a folder and hand it to the worker.

        Raises:
            RequestError: the folder holds something else or is in use, or there is no such Python.
            ResourceError: the folder cannot be written.
        """
        return self.hand_over(self.prepare(folder, task, request, overwrite=overwrite))

    def prepare(
        self, folder: str | os.PathLike[str], task: str, request: Any, *, overwrite: bool = False
    ) -> JobWatch:  # fmt: skip
        """Put a request into a folder, for `hand_over`.

        Raises:
            RequestError: the folder holds something else or is in use.
            ResourceError: the folder cannot be written.
        """
        job_folder = JobFolder(folder)
        order = Order(task, request, new_run_id(), self._app)
        job_folder.prepare(order, overwrite=overwrite)
        return JobWatch(job_folder, order.run_id)

    def hand_over(self, watch: JobWatch) -> Job:
        """Hand a job that was prepared to the worker.

        Raises:
            RequestError: there is no such Python.
        """
        job = Job(watch, self._hand_over, self._grace_s)
        self._jobs = [known for known in self._jobs if known.last is None] + [job]
        return job

    def _hand_over(self, watch: JobWatch) -> Worker:
        if self._worker and (self._worker.is_ending or not self._worker.is_alive):
            self._worker.kill()
            self._worker = None
        self._worker = self._worker or Worker(self._python, watch.folder.log, self._variables)
        self._worker.send({"protocol": PROTOCOL, "job": str(watch.folder.path), "run_id": watch.run_id})
        return self._worker

    def attach(self, folder: str | os.PathLike[str]) -> Job:
        """Follow a job that another process runs, or ran."""
        return Job(JobWatch(JobFolder(folder)), None, self._grace_s)

    def kill(self) -> None:
        """End the worker now: the job that it runs counts as crashed, and the next one starts another."""
        if self._worker:
            self._worker.kill()

    def close(self) -> None:
        """Stop the worker; a job that still runs counts as cancelled."""
        for job in self._jobs:
            job.poll()
            if job.last is None:
                with contextlib.suppress(ResourceError):  # its folder may be gone
                    job.folder.ask_to_cancel()
        if self._worker:
            self._worker.close()
            self._worker = None


def exit_code(process: subprocess.Popen[bytes], wait_s: float) -> int | None:
    """Give the exit code of a process that has ended, or does within `wait_s`."""
    if wait_s:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    return process.poll()


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and what it started, now; on Windows, itself."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def command_line(python: str | os.PathLike[str], *words: str) -> list[str]:
    """Give the command that runs `python -m inference` with these words; it is to start in `ROOT`."""
    return [os.fspath(python), "-E", "-s", "-X", "utf8", "-m", "inference", *words]


def clean_environment() -> dict[str, str]:
    """This process' environment without what leads Python to other packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _start(python: str, log: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = command_line(python, "worker")
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        command += ["--parent", str(os.getpid())]
    pipe, flags = subprocess.PIPE, 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    with log.open("ab") as out:
        return subprocess.Popen(
            command, cwd=ROOT, env={**clean_environment(), **variables}, stdin=pipe, stdout=out, stderr=out, bufsize=0,
            start_new_session=sys.platform != "win32", creationflags=flags,
        )  # fmt: skip
