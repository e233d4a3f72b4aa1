"""What a job says while it works: the lines of `events.jsonl`, and the interface that stages speak to."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MAX_TEXT = 8000  # keeps a line under 64 KiB, which systems append in one piece
MAX_READ = 4 << 20

# The events and what each carries. `crashed` is never written: a reader adds it when the process is gone.
FIELDS: dict[str, dict[str, type]] = {
    "started": {"protocol": int, "task": str, "run_id": str, "pid": int},
    "progress": {"stage": str, "done": int, "total": int},
    "artifact": {"name": str, "file": str},
    "warning": {"code": str, "text": str},
    "done": {},
    "cancelled": {},
    "failed": {"code": str, "message": str, "hint": str},
    "crashed": {"message": str, "hint": str, "log": str},
}
LAST_WORDS = ("done", "cancelled", "failed", "crashed")


class Reporter(Protocol):
    """How a stage tells what it does. `progress` is also where a cancel takes effect."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say that `done` of `total` steps of a stage are finished.

        Raises:
            Cancelled: somebody asked to stop.
        """

    def warning(self, code: str, text: str) -> None:
        """Say something the user should know that does not stop the job."""

    def artifact(self, name: str, file: str) -> None:
        """Say that an output is complete; `file` is relative to the job folder."""


class SilentReporter:
    """A reporter for library use: nothing is said and nothing is cancelled."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Do nothing."""

    def warning(self, code: str, text: str) -> None:
        """Do nothing."""

    def artifact(self, name: str, file: str) -> None:
        """Do nothing."""


class Part:
    """A reporter for one of several like pieces of work, as views are: what each does counts for all of them."""

    def __init__(self, report: Reporter, index: int, count: int) -> None:
        self._report, self._index, self._count = report, index, count

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far all pieces are, in thousandths of a piece, since the pieces differ in length."""
        share = min(done / total, 1.0) if total > 0 else 0.0
        self._report.progress(stage, round(1000 * (self._index + share)), 1000 * self._count)

    def warning(self, code: str, text: str) -> None:
        """Hand it on."""
        self._report.warning(code, text)

    def artifact(self, name: str, file: str) -> None:
        """Hand it on."""
        self._report.artifact(name, file)


@dataclass(frozen=True)
class Event:
    """One thing that a job said, `time` in seconds since 1970."""

    kind: str
    time: float
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return self.kind in LAST_WORDS


def make_event(kind: str, **values: Any) -> Event:
    """Make an event that happens now; long texts are cut."""
    assert values.keys() == FIELDS[kind].keys(), (kind, values)
    cut = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in values.items()}
    return Event(kind, time.time(), cut)


def encode(event: Event) -> bytes:
    """Make a line of an event. What is not ASCII is escaped, so that a torn line is never torn inside a letter."""
    text = json.dumps({"event": event.kind, "time": round(event.time, 3), **event.values}, allow_nan=False)
    return text.encode("ascii") + b"\n"


def decode(line: bytes) -> Event | None:
    """Read a line; None where it is not an event that this version knows."""
    try:
        values = json.loads(line)
        kind, seconds = values.pop("event"), float(values.pop("time"))
        known = {name: values[name] for name in FIELDS[kind]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    if not math.isfinite(seconds) or any(type(known[name]) is not FIELDS[kind][name] for name in known):
        return None
    return Event(kind, seconds, known)


class EventReader:
    """Follows an event file that is being written, from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """Give the events that were completed since the last call; a line without its end waits."""
        events: list[Event] = []
        while chunk := self._read_chunk():
            end = chunk.rfind(b"\n") + 1
            if not end and len(chunk) < MAX_READ:
                break
            self._offset += end or len(chunk)  # a line of 4 MiB is none of ours
            events += [event for line in chunk[:end].splitlines() if (event := decode(line))]
        return events

    def _read_chunk(self) -> bytes:
        try:
            with self._path.open("rb") as stream:
                stream.seek(0, 2)
                if stream.tell() < self._offset:  # the folder was used for another run
                    self._offset = 0
                stream.seek(self._offset)
                return stream.read(MAX_READ)
        except OSError:
            return b""


class Pace:
    """How far the current stage is, and how long it may still take."""

    def __init__(self) -> None:
        self.stage = ""
        self.done = 0
        self.total = 0
        self._first = (0.0, 0)
        self._latest = 0.0

    def add(self, event: Event) -> None:
        """Take in a `progress` event; others are let pass."""
        if event.kind != "progress":
            return
        if event["stage"] != self.stage or event["done"] < self.done:
            self._first = (event.time, event["done"])
        self.stage, self.done, self.total, self._latest = event["stage"], event["done"], event["total"], event.time

    @property
    def fraction(self) -> float:
        """How much of the stage is done, 0 to 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What the stage still needs at the pace it had so far; None where that cannot be known yet."""
        seconds, steps = self._latest - self._first[0], self.done - self._first[1]
        return seconds / steps * max(self.total - self.done, 0) if steps > 0 and seconds > 0 else None

    @property
    def text(self) -> str:
        """As in `detect 45 %, 12 s left`."""
        if not self.stage:
            return ""
        left = self.seconds_left
        return f"{self.stage} {self.fraction:.0%}".replace("%", " %") + (f", {_duration(left)} left" if left else "")


def _duration(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min {whole % 60:02d} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
