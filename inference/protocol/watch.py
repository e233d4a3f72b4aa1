"""What is known of a job from its folder alone, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PureWindowsPath

from .errors import RequestError
from .events import Event, EventReader, Pace, make_event
from .folder import JobFolder
from .requests import PROTOCOL, mismatch

_DYING_S = 0.5  # a process drops its locks a moment before its end can be seen


class JobWatch:
    """Follows one run of a job folder.

    `state` is "waiting", "running", or the last word: "done", "cancelled", "failed", "crashed".

    Args:
        run_id: the run that is meant; without it, the one the folder holds.
    """

    def __init__(self, folder: JobFolder, run_id: str = "") -> None:
        self.folder = folder
        self.state = "waiting"
        self.last: Event | None = None
        self.pace = Pace()
        self.artifacts: dict[str, str] = {}
        self.warnings: list[Event] = []
        self.run_id = run_id
        self._reader = EventReader(folder.events)

    def poll(self, ended: Callable[[float], str] | None = None) -> list[Event]:
        """Give what was said since the last call, without waiting.

        Args:
            ended: where the process is known, says in a sentence how it ended, "" while it lives; it is given the
                seconds for which it may wait for that.
        """
        if self.last:
            return []
        was_waiting = self.state == "waiting"
        worker_gone = ended(0.0) if ended else ""
        is_let_go = not worker_gone and self.state == "running" and not self.folder.is_running()
        events: list[Event] = []
        for event in self._reader.read():  # after the look at the process: its last word is in the file by then
            events.append(self._take(event))
            if self.last:
                return events
        if is_let_go:
            worker_gone = (ended(_DYING_S) if ended else "") or "The process that ran the job is gone."
        if worker_gone:
            events.append(self._take(self._epitaph(worker_gone)))
        elif was_waiting and self.state == "running":
            events += self.poll()  # a job that was found may have lost its process long ago
        return events

    def _take(self, event: Event) -> Event:
        if event.kind == "started":
            event = self._check_start(event)
        self.pace.add(event)
        if event.kind == "started":
            self.state = "running"
        elif event.kind == "artifact":
            if _stays_inside(event["file"]):
                self.artifacts[event["name"]] = event["file"]
        elif event.kind == "warning":
            self.warnings.append(event)
        elif event.is_last:
            self.state, self.last = event.kind, event
        return event

    def _check_start(self, event: Event) -> Event:
        if event["protocol"] != PROTOCOL:
            error = mismatch("the worker", event["protocol"], "this add-on")
            return make_event("failed", code=error.code, message=error.message, hint=error.hint)
        if self.run_id and event["run_id"] != self.run_id:
            message = f"Another process took over {self.folder.path}."
            return make_event("failed", code=RequestError.code, message=message, hint="Start again in another folder.")
        self.run_id = event["run_id"]
        return event

    def _epitaph(self, worker_gone: str) -> Event:
        if self.folder.cancel.exists():
            return make_event("cancelled")
        hint = f"See {self.folder.log}; start the job again."
        return make_event("crashed", message=worker_gone, hint=hint, log=self.folder.log_tail())


def _stays_inside(file: str) -> bool:
    """Whether a path given by a job folder, which may be a stranger's, lies in that folder."""
    path = PureWindowsPath(file)  # knows the separators of all systems
    return not path.anchor and ".." not in path.parts
