"""The job folder: the whole protocol between whoever asks and the process that works.

request.json    what is asked; written whole
events.jsonl    what the worker says; appended, one JSON object a line
artifacts/      what comes out; each file written whole, then announced
log.txt         what libraries print
cancel          its existence asks the job to stop
live.bin        the newest pose of a live capture (see `stream.py`)
record, stop    their existence asks a live capture to record, and to end well
lock            held by the process that works, and dropped by the system when that process dies
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import schema
from .errors import Cancelled, RequestError
from .events import Event, encode, make_event
from .files import FileLock, atomic_write_bytes, storage_error
from .requests import PROTOCOL, Order

# Together at most 20 a second, and the first word of a stage is not lost because the stage before had just spoken.
PROGRESS_INTERVAL_S = 0.07
SAID_A_SECOND = 20
CANCEL_INTERVAL_S = 0.05  # between two looks whether somebody asked to stop
RESERVE_BYTES = 8192


def new_run_id() -> str:
    """Make a name for one run of a folder, told apart from any other."""
    return secrets.token_hex(16)


class JobFolder:
    """A job's folder; can be used wherever a path can."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.request = self.path / "request.json"
        self.events = self.path / "events.jsonl"
        self.artifacts = self.path / "artifacts"
        self.log = self.path / "log.txt"
        self.cancel = self.path / "cancel"
        self.stream = self.path / "live.bin"
        self.record = self.path / "record"
        self.stop = self.path / "stop"
        self._lock = FileLock(self.path / "lock")

    def __fspath__(self) -> str:
        return str(self.path)

    def prepare(self, order: Order, *, overwrite: bool = False) -> None:
        """Put a request into the folder and take away what an earlier run said; its artifacts stay.

        Raises:
            RequestError: the folder holds something else, or is in use.
            ResourceError: it cannot be written.
        """
        text = json.dumps(order.to_json(), indent=1, allow_nan=False).encode("ascii")
        self._make()
        try:
            if not overwrite:
                self._refuse_others(order)
            with self.lock():
                for path in (self.events, self.cancel, self.log, self.stream, self.record, self.stop):
                    path.unlink(missing_ok=True)
                atomic_write_bytes(self.request, text)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise RequestError(f"{self.path} is a file", "Give a folder.", field="out") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RequestError(
                f"{self.path} cannot be made: {reason}", "Choose another folder.", field="out"
            ) from error

    def _refuse_others(self, order: Order) -> None:
        names = {entry.name for entry in self.path.iterdir()} - {"lock", "log.txt"}
        if not names:
            return
        hint = "Choose another folder, or let it be overwritten (--overwrite)."
        if "request.json" not in names:
            raise RequestError(f"{self.path} holds other files", hint, field="out")
        try:
            theirs = self.read_json()
        except RequestError as error:
            raise RequestError(f"{self.path} holds another job", hint, field="out") from error
        ours = order.to_json()
        if not isinstance(theirs, dict) or any(theirs.get(name) != ours[name] for name in ("task", "request")):
            raise RequestError(f"{self.path} holds a job with other settings", hint, field="out")

    def read_json(self) -> Any:
        """Read `request.json` as it stands.

        Raises:
            RequestError: it is missing or is not JSON.
        """
        try:
            with self.request.open("rb") as stream:
                text = stream.read(schema.MAX_JSON_BYTES + 1)
        except OSError as error:
            raise RequestError(f"{self.request} cannot be read: {error.strerror}.") from error
        return schema.load_json(text)

    def read_order(self) -> Order:
        """Read the request.

        Raises:
            RequestError: it is missing, or a setting of it is wrong.
        """
        return Order.from_json(self.read_json())

    @contextlib.contextmanager
    def lock(self, wait_s: float = 0.0) -> Iterator[None]:
        """Keep other processes from running or changing the job.

        Raises:
            RequestError: another process holds the lock.
        """
        if not self._lock.acquire(wait_s):
            raise RequestError(f"{self.path} is in use by another process", "Wait, or choose another.", field="out")
        try:
            yield
        finally:
            self._lock.release()

    def is_running(self) -> bool:
        """Tell whether a living process works on the job."""
        return self._lock.is_held()

    def ask_to_cancel(self) -> None:
        """Ask whoever runs the job to stop at its next step.

        Raises:
            ResourceError: the folder cannot be written.
        """
        try:
            self.cancel.touch()
        except OSError as error:
            raise storage_error(self.cancel, error) from error

    def ask_to_record(self, *, wanted: bool = True) -> None:
        """Ask a live capture to keep what it sees from now on, or to keep no more.

        Raises:
            ResourceError: the folder cannot be written.
        """
        try:
            self.record.touch() if wanted else self.record.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.record, error) from error

    def ask_to_stop(self) -> None:
        """Ask a live capture to end and to keep what was recorded.

        Raises:
            ResourceError: the folder cannot be written.
        """
        try:
            self.stop.touch()
        except OSError as error:
            raise storage_error(self.stop, error) from error

    def sweep(self) -> None:
        """Remove half-written files of a run that died; call with the lock held."""
        for path in (*self.path.rglob(".*.tmp"), *self.path.glob(".reserve")):
            path.unlink(missing_ok=True)

    def log_tail(self, size: int = 2000) -> str:
        """Give the end of what was printed."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(stream.seek(0, os.SEEK_END) - size, 0))
                return stream.read(size).decode("utf-8", "replace")
        except OSError:
            return ""


class JobReporter:
    """Writes what a running job says, and looks for a wish to cancel.

    Args:
        listener: is also told each event.
    """

    def __init__(self, folder: JobFolder, listener: Callable[[Event], None] | None = None) -> None:
        self._folder = folder
        self._listener = listener
        self._handle = -1
        self._next_progress = 0.0
        self._stage, self._next_look = "", -math.inf
        self._said_at: deque[float] = deque([-math.inf] * SAID_A_SECOND, SAID_A_SECOND)
        self._is_torn = False

    def __enter__(self) -> JobReporter:
        """Open the event file.

        Raises:
            ResourceError: it cannot be written.
        """
        self._reserve = self._folder.path / ".reserve"
        try:
            self._folder.sweep()
            self._folder.artifacts.mkdir(exist_ok=True)
            self._reserve.write_bytes(os.urandom(RESERVE_BYTES))  # so that a full disk still takes the last word
            self._handle = os.open(self._folder.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise storage_error(self._folder.events, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._reserve.unlink(missing_ok=True)
        os.close(self._handle)

    def started(self, order: Order) -> None:
        """Say who works on what."""
        self._say("started", protocol=PROTOCOL, task=order.task, run_id=order.run_id, pid=os.getpid())

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is, at most 20 times a second.

        Raises:
            Cancelled: somebody asked to stop.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + CANCEL_INTERVAL_S
            if self._folder.cancel.exists():
                raise Cancelled()
        if now <= self._said_at[0] + 1 or (stage == self._stage and now < self._next_progress):
            return
        self._said_at.append(now)
        self._stage, self._next_progress = stage, now + PROGRESS_INTERVAL_S
        self._say("progress", stage=str(stage), done=int(done), total=int(total))

    def warning(self, code: str, text: str) -> None:
        """Say something the user should know."""
        self._say("warning", code=code, text=text)

    def artifact(self, name: str, file: str) -> None:
        """Say that an output is complete."""
        self._say("artifact", name=name, file=file)

    def last_word(self, kind: str, **values: str) -> None:
        """Say how the job ended."""
        self._reserve.unlink(missing_ok=True)
        self._say(kind, **values)

    def _say(self, kind: str, **values: Any) -> None:
        event = make_event(kind, **values)
        line = (b"\n" if self._is_torn else b"") + encode(event)
        try:
            self._is_torn = os.write(self._handle, line) < len(line)
        except OSError as error:
            raise storage_error(self._folder.events, error) from error
        if self._listener:
            self._listener(event)
