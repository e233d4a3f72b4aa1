"""One session: the warm worker and every job this Blender knows of.

The session lives in this module, so a job goes on while files are opened and closed; panels and operators only
look at it. A timer pumps it in the interface; in background mode, where timers never fire, `wait` does.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..inference.protocol import schema
from ..inference.protocol.client import Job as ClientJob
from ..inference.protocol.client import WorkerClient
from ..inference.protocol.errors import (
    Cancelled,
    InputError,
    RequestError,
    ResourceError,
    UnderstudyError,
    WeightsError,
)
from ..inference.protocol.folder import JobFolder
from ..inference.protocol.launched import Launched, LaunchedJob
from . import notice
from .base import sentence
from .environment import Check, find_python, output_folder

LOG = logging.getLogger("understudy")
PUMP_S = 0.1
_AT_MOST = 50
_STAMP = re.compile(r"_\d{8}_\d{6}(_\d+)?$")
_ERRORS = {cls.code: cls for cls in (RequestError, InputError, WeightsError, ResourceError, Cancelled)}


class Job:
    """A job as panels show it; everything is in memory."""

    def __init__(self, client: ClientJob | LaunchedJob, *, is_ours: bool) -> None:
        self._client = client
        self.is_ours = is_ours  # this Blender's worker runs it, or a process that this Blender launched
        self.has_worker = is_ours and isinstance(client, ClientJob)
        self.task, self.asked, _ = _read_order(client.folder.request)
        self.asked_to_stop = False
        self.since = time.monotonic()
        self.begun = _begun(client.folder.request) or time.time()
        self.then: Callable[[Job], None] | None = None  # what the session does once it is over
        self._then_trouble = ""  # what went wrong there

    @property
    def folder(self) -> Path:
        """Where the job lives."""
        return self._client.folder.path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def title(self) -> str:
        """Name of the folder without the time that `new_folder` puts behind it."""
        return _STAMP.sub("", self.name) or self.name

    @property
    def run_id(self) -> str:
        """Which run of the folder it is; "" where nobody began."""
        return self._client.watch.run_id

    @property
    def state(self) -> str:
        """One of "waiting", "running", "done", "cancelled", "failed", "crashed"."""
        return self._client.state

    @property
    def is_running(self) -> bool:
        """Whether the last word is still to come; a folder in which nobody ever began is not running."""
        return self._client.last is None and (self.is_ours or self.state == "running")

    @property
    def fraction(self) -> float:
        """How much of the present stage is done, 0 to 1."""
        return 1.0 if self.state == "done" else self._client.watch.pace.fraction

    @property
    def status(self) -> str:
        """What the job does or how it ended, in a few words."""
        if self.is_running:
            if self.asked_to_stop:
                return "Stopping..."
            text = self._client.watch.pace.text
            return text[:1].upper() + text[1:] if text else "Starting..."
        return "Never started" if self.state == "waiting" else self.state.capitalize()

    @property
    def trouble(self) -> str:
        """What went wrong and what to do about it."""
        last = self._client.last
        if last and self.state in ("failed", "crashed"):
            return f"{last['message']} {last['hint']}".strip()
        return self._then_trouble

    @property
    def warnings(self) -> list[str]:
        """What the job wants to be known."""
        return [event["text"] for event in self._client.watch.warnings]

    @property
    def result(self) -> Path | None:
        """The body motion of a finished job."""
        return self.artifact("body_motion") if self.state == "done" else None

    @property
    def calibration(self) -> Path | None:
        """The calibration that a finished job made."""
        return self.artifact("calibration") if self.state == "done" else None

    @property
    def head(self) -> Path | None:
        """The clean mesh of a finished head."""
        return self.artifact("head_mesh") if self.state == "done" else None

    @property
    def body(self) -> Path | None:
        """The parameters of a finished body."""
        return self.artifact("body_parameters") if self.state == "done" else None

    @property
    def face(self) -> Path | None:
        """The track of a finished face."""
        return self.artifact("face_track") if self.state == "done" else None

    @property
    def frames(self) -> Path | None:
        """What a finished job says of the frames that it made."""
        return self.artifact("reenactment") if self.state == "done" else None

    @property
    def preview(self) -> Path | None:
        """The newest picture of what takes shape; of a head, once it has, its portrait."""
        shown = [file for name, file in self.artifacts.items() if name.startswith("preview_")]
        file = self.artifacts.get("portrait") or max(shown, default="")
        return self.folder / file if file else None

    def artifact(self, name: str) -> Path | None:
        """Look up a file that the job has announced."""
        file = self._client.watch.artifacts.get(name)
        return self.folder / file if file else None

    @property
    def artifacts(self) -> dict[str, str]:
        """Files that the job has announced, by their names."""
        return self._client.watch.artifacts

    @property
    def logs(self) -> list[Path]:
        """What was printed, newest first; some may not be there."""
        files = [self.folder / name for name in ("log.txt", "train.log", "output.txt", "blender.txt")]
        return sorted((file for file in files if file.is_file()), key=lambda file: -file.stat().st_mtime)

    @property
    def report(self) -> Path | None:
        """The report page."""
        return self.artifact("report")

    def poll(self) -> bool:
        """Take in what was said; tell whether there was anything."""
        return bool(self._client.poll())

    def cancel(self) -> None:
        """Ask the job to stop."""
        self.asked_to_stop = True
        self._client.cancel()

    def go_on(self) -> None:
        """Do what follows, once; what goes wrong there is trouble of this job, and other jobs go on."""
        then, self.then = self.then, None
        try:
            if then:
                then(self)
        except UnderstudyError as error:
            self._then_trouble = sentence(error)
        except Exception as error:
            LOG.exception("bug in what follows %s", self.name)
            self._then_trouble = f"Unexpected {type(error).__name__}: {error}. The console holds the details."

    def raise_failure(self) -> None:
        """Raise what ended the job, unless it is done.

        Raises:
            UnderstudyError: as the worker raised it; a crash counts as a bug.
        """
        last = self._client.last
        if last is None or self.state == "done":
            return
        if self.state == "cancelled":
            raise Cancelled()
        code = last["code"] if self.state == "failed" else ""
        raise _ERRORS.get(code, UnderstudyError)(last["message"], last["hint"])


class Session:
    """Jobs, newest first, and the worker that runs them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.check: Check | None = None
        self.check_passed = False
        self.check_lines: list[str] = []
        self._client: WorkerClient | None = None
        self._python: Path | None = None
        self._launched: list[Launched] = []

    def open(self) -> None:
        """Begin with the registration: look for earlier jobs once Blender is idle."""
        bpy.app.handlers.load_post.append(_after_load)
        atexit.register(self.stop_worker)
        if not bpy.app.background:
            bpy.app.timers.register(_first_look, first_interval=0.5)

    def close(self) -> None:
        """End with the registration: the worker stops, and what it was doing counts as cancelled."""
        for timer in (_first_look, _tick):
            if bpy.app.timers.is_registered(timer):
                bpy.app.timers.unregister(timer)
        if _after_load in bpy.app.handlers.load_post:
            bpy.app.handlers.load_post.remove(_after_load)
        atexit.unregister(self.stop_worker)
        self.stop_worker()
        self.jobs.clear()

    def stop_worker(self) -> None:
        """End the worker, what was launched beside it, and a running check."""
        for process in self._launched:
            process.kill()
        self._launched.clear()
        if self._client:
            self._client.close()
            self._client = None
        if self.check:
            self.check.stop()
            self.check = None

    @property
    def latest(self) -> Job | None:
        """The newest job."""
        return self.jobs[0] if self.jobs else None

    @property
    def running(self) -> Job | None:
        """The job that this Blender's worker has in hand."""
        return next((job for job in self.jobs if job.has_worker and job.is_running), None)

    @property
    def last_result(self) -> Path | None:
        """The body motion of the newest job that has one."""
        return next((job.result for job in self.jobs if job.result), None)

    @property
    def last_head(self) -> Path | None:
        """The clean mesh of the newest head."""
        return next((job.head for job in self.jobs if job.head), None)

    @property
    def last_body(self) -> Path | None:
        """The parameters of the newest body."""
        return next((job.body for job in self.jobs if job.body), None)

    @property
    def last_face(self) -> Path | None:
        """The track of the newest face."""
        return next((job.face for job in self.jobs if job.face), None)

    @property
    def last_frames(self) -> Path | None:
        """What is said of the newest frames of a reenactment."""
        return next((job.frames for job in self.jobs if job.frames), None)

    def latest_of(self, task: str) -> Job | None:
        """Give the newest job of one task."""
        return next((job for job in self.jobs if job.task == task), None)

    def find(self, folder: Path) -> Job | None:
        """Look a job up by its folder."""
        return next((job for job in self.jobs if job.folder == folder), None)

    def start(self, task: str, request: Any, *, folder: Path | None = None, overwrite: bool = False) -> Job:
        """Hand a request to the worker, which starts where it is not warm.

        Raises:
            UnderstudyError: no environment, or a folder that cannot be used.
        """
        folder = folder or new_folder(_stem(request))
        client = self._worker(find_python())
        job = Job(client.submit(folder, task, request, overwrite=overwrite), is_ours=True)
        self.jobs = [job, *(known for known in self.jobs if known.folder != job.folder)][:_AT_MOST]
        self._watch()
        return job

    def launch(self, task: str, words: Sequence[str], folder: Path, *, python: str = "") -> Job:
        """Start `python -m inference WORDS` as a process of its own that says how it goes in a job folder.

        It ends with this Blender; a cancel is asked for by its folder, and pressed for when it does not answer.

        Args:
            python: the interpreter; "" for Blender's own.
        Raises:
            ResourceError: the folder cannot be written.
            InputError: there is no such program.
        """
        process = Launched.start(python or sys.executable, words, folder)
        job = Job(LaunchedJob(process, JobFolder(folder)), is_ours=True)
        job.task = task  # its folder says so only once the process runs
        self._launched = [known for known in self._launched if known.is_alive] + [process]
        self.jobs = [job, *(known for known in self.jobs if known.folder != job.folder)][:_AT_MOST]
        self._watch()
        return job

    def _worker(self, python: Path) -> WorkerClient:
        if self._client is None or python != self._python:
            if self._client:
                self._client.close()
            self._client = WorkerClient(python, app=f"Blender {bpy.app.version_string}")
            self._python = python
        return self._client

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; the pump presses on until it has."""
        job.cancel()
        self._watch()

    def wait(self, job: Job, listen: Callable[[Job], None] | None = None) -> None:
        """Follow a job to its end, blocking; `listen` is told when something was said."""
        while job.is_running:
            if job.poll() and listen:
                listen(job)
            time.sleep(PUMP_S / 2)

    def pump(self) -> bool:
        """Take in what jobs and the check said, without waiting; tell whether anything changed."""
        changed = [self._poll(job) for job in self.jobs if job.is_running]
        for job in self.jobs:
            if job.then and not job.is_running:
                job.go_on()
        return self._pump_check() or any(changed)

    def _poll(self, job: Job) -> bool:
        changed = job.poll()
        if not job.is_running:
            notice.tell_end(job, time.monotonic() - job.since)
        return changed

    @property
    def is_busy(self) -> bool:
        """Whether pumping is of use."""
        return self.check is not None or any(job.is_running for job in self.jobs)

    def scan(self, folder: Path | None = None) -> int:
        """Find earlier jobs in a folder, or the one that it is; a job that still runs elsewhere is followed.

        A folder in which a job that is over began anew, as trainings go on, is found again.
        """
        folder = folder or output_folder()
        for job in self.jobs:
            if job.state == "waiting":
                job.poll()  # somebody may have begun by now
        known = {job.folder: job for job in self.jobs}
        paths = sorted((*folder.glob("request.json"), *folder.glob("*/request.json")), key=_begun, reverse=True)
        found = [path.parent.absolute() for path in paths[:_AT_MOST] if _is_news(path, known)]
        client = self._client or WorkerClient("")
        jobs = [Job(client.attach(path), is_ours=False) for path in found]
        for job in jobs:
            job.poll()
        kept = [job for job in self.jobs if job.folder not in found]
        self.jobs = sorted([*jobs, *kept], key=lambda job: -job.begun)[:_AT_MOST]
        self._watch()
        return len(found)

    def forget(self, job: Job) -> None:
        """Take a job that is over out of the list; its folder stays."""
        if job in self.jobs:
            self.jobs.remove(job)

    def start_check(self, check: Check) -> None:
        """Follow a check of the environment."""
        self.check, self.check_lines = check, []
        self._watch()

    def wait_check(self) -> None:
        """Follow the check to its end, blocking."""
        while self.check:
            self._pump_check()
            time.sleep(PUMP_S / 2)

    def _pump_check(self) -> bool:
        result = self.check.result() if self.check else None
        if result is None:
            return False
        self.check = None
        self.check_passed, self.check_lines = result
        return True

    def _watch(self) -> None:
        if self.is_busy and not bpy.app.background and not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=PUMP_S, persistent=True)


def new_folder(stem: str) -> Path:
    """Choose a folder for a new job that does not exist yet."""
    name = f"{stem}_{time.strftime('%Y%m%d_%H%M%S')}"
    folder = output_folder() / name
    number = 2
    while folder.exists():
        folder, number = folder.with_name(f"{name}_{number}"), number + 1
    return folder


def _stem(request: Any) -> str:
    names = ("photo", "source", "video", "keypoints", "capture", "trainee")
    given = [getattr(request, name, None) or () for name in names]
    paths = [path for value in given for path in ([value] if isinstance(value, Path) else value)]
    return bpy.path.clean_name(paths[0].stem)[:60] if paths else "job"


def _read_order(file: Path) -> tuple[str, dict[str, Any], str]:
    """Read what a folder was made for, with which settings, and for which run; nothing where it does not say."""
    try:
        order = schema.load_json(file.read_bytes())
        return str(order["task"]), dict(order["request"]), str(order.get("run_id", ""))
    except (OSError, RequestError, KeyError, TypeError, ValueError):
        return "", {}, ""


def _begun(request: Path) -> float:
    """When a job was asked for, in seconds since 1970; 0 where that is not known."""
    try:
        return request.stat().st_mtime
    except OSError:
        return 0.0


def _is_news(request: Path, known: Mapping[Path, Job]) -> bool:
    job = known.get(request.parent.absolute())
    return job is None or (not job.is_running and job.run_id not in ("", _read_order(request)[2]))


def _tick() -> float | None:
    """Pump the session from Blender's timer, and redraw the panels that show it."""
    if SESSION.pump():
        redraw()
    return PUMP_S if SESSION.is_busy else None


def _first_look() -> None:
    SESSION.scan()
    redraw()


@persistent
def _after_load(*_: Any) -> None:
    for job in SESSION.jobs:
        job.then = None  # it was meant for the file that was open
    SESSION.scan()


def redraw() -> None:
    """Draw the panels that show jobs again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                for region in area.regions:
                    if region.type in ("UI", "WINDOW"):
                        region.tag_redraw()


SESSION = Session()
