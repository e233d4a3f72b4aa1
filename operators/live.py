"""Live: a running capture drives a character, frame after frame, until it is stopped.

The worker publishes poses (`inference/protocol/stream.py`); a timer takes the newest one and puts it onto the
character. Nothing is kept unless it is recorded; a recording is fitted as a whole by the worker and then becomes an
action.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.handlers import persistent

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, UnderstudyError
from ..inference.protocol.folder import JobFolder
from ..inference.protocol.requests import LiveRequest
from ..inference.protocol.stream import LiveFrame, StreamReader, clock_ns
from .base import Guarded, sentence
from .scene.datablocks import found_again
from .session import SESSION, Job, new_folder, redraw
from .settings import retarget_settings

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.protocol.retarget import RetargetSettings
    from .scene.driver import Driver

LOG = logging.getLogger("understudy")
PUMP_S = 1 / 120
_SHOWN_S = 0.25  # how often the panel's figures change
_COUNTED = 30  # frames over which they are measured
_PATIENCE_S = 0.5  # for a worker that is to let go of its folder


class Figures:
    """How many poses a second, and how late they are, over the last second or so."""

    def __init__(self) -> None:
        self.frames = 0
        self.recorded = 0
        self._shown_ns: deque[int] = deque(maxlen=_COUNTED)
        self._latencies: deque[float] = deque([0.0], maxlen=_COUNTED)
        self._costs: deque[float] = deque([0.0], maxlen=_COUNTED)

    def add(self, frame: LiveFrame, start_ns: int) -> None:
        """Count a frame that was asked for at `start_ns` and is on the character now."""
        now_ns = clock_ns()
        self.frames, self.recorded = self.frames + 1, frame.recorded
        self._shown_ns.append(now_ns)
        self._latencies.append((now_ns - frame.captured_ns) / 1e6)
        self._costs.append((now_ns - start_ns) / 1e6)

    @property
    def fps(self) -> float:
        """Poses a second."""
        span = (self._shown_ns[-1] - self._shown_ns[0]) / 1e9 if len(self._shown_ns) > 1 else 0.0
        return (len(self._shown_ns) - 1) / span if span > 0 else 0.0

    @property
    def latency_ms(self) -> float:
        """Median time from the picture to the character's pose."""
        return _median(self._latencies)

    @property
    def cost_ms(self) -> float:
        """Median time that a pose takes in Blender itself: reading, retargeting and setting it."""
        return _median(self._costs)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


class Live:
    """One live capture at a time: its job, the character it drives, and what the panel says of it."""

    def __init__(self) -> None:
        self.message = ""  # why the last one ended, where nobody asked for it
        self.is_recording = False
        self.figures = Figures()
        self._job: Job | None = None
        self._reader: StreamReader | None = None
        self._driver: Driver | None = None
        self._target: tuple[int, int] | None = None  # uids of the scene and of the character, 0 for one of ours
        self._discarded: list[Job] = []
        self._drawn_ns = 0

    def open(self) -> None:
        """Begin with the registration."""
        bpy.app.handlers.load_pre.append(_before_load)

    def close(self) -> None:
        """End with the registration; a recording that is still being fitted stays in its folder."""
        self.stop()
        self._job = None
        deadline = time.monotonic() + _PATIENCE_S
        while self._discarded and time.monotonic() < deadline:
            SESSION.pump()
            self._sweep()
            time.sleep(PUMP_S)
        if bpy.app.timers.is_registered(_tick):
            bpy.app.timers.unregister(_tick)
        if _before_load in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.remove(_before_load)

    @property
    def is_running(self) -> bool:
        """Whether a camera or a film is being watched."""
        return self._driver is not None

    @property
    def is_finishing(self) -> bool:
        """Whether a recording is being fitted."""
        return self._driver is None and self._job is not None

    @property
    def rig(self) -> str:
        """Name of the armature that is driven."""
        return self._driver.rig if self._driver else ""

    @property
    def status(self) -> str:
        """What is going on, in a few words."""
        if self.is_finishing:
            return f"Fitting the recording: {self._job.status}" if self._job else ""
        if not self.is_running:
            return ""
        figures = self.figures
        if not figures.frames:
            return "Starting..." if self._job and self._job.status == "Starting..." else "Looking for a person..."
        recording = f", {figures.recorded} frames recorded" if figures.recorded else ""
        return f"{figures.fps:.0f} fps, {figures.latency_ms:.0f} ms behind{recording}"

    def start(self, request: LiveRequest, scene: bpy.types.Scene, *, rig: str = "") -> None:
        """Watch a camera or a film, and drive the armature of that name; without one, a new one.

        Raises:
            UnderstudyError: the armature cannot be driven, or there is no environment.
        """
        if self.is_running or self.is_finishing:
            raise InputError("A live capture is running.", "Stop it first.")
        driver = _driver(rig, scene)
        try:
            job = SESSION.start("live", request, folder=new_folder("live"))
        except UnderstudyError:
            driver.release(keep_pose=False)
            raise
        self._job, self._driver, self._target = job, driver, (scene.session_uid, driver.uid if rig else 0)
        self._reader = StreamReader(JobFolder(job.folder).stream)
        self.message, self.figures, self.is_recording = "", Figures(), request.record
        if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=PUMP_S, persistent=True)

    def pump(self) -> bool:
        """Take in what there is without waiting; tell whether the character got a new pose."""
        if bpy.app.background:
            SESSION.pump()  # in the interface its own timer does
        self._sweep()
        if self._job is None:
            return False
        try:
            if self.is_finishing:
                self._finish()
                return False
            if not self._job.is_running:
                self._end_with_job()
                return False
            return self._show()
        except UnderstudyError as error:
            self._fail(sentence(error))
        except Exception as error:
            LOG.exception("bug in the live preview")
            self._fail(f"Unexpected {type(error).__name__}: {error}. The console holds the details.")
        return False

    def _show(self) -> bool:
        assert self._reader and self._driver
        self._driver.check()
        start = clock_ns()
        frame = self._reader.read()
        if frame is None:
            return False
        self._driver.drive(frame, self._reader.head, _sliders(self._driver.rig))
        self.figures.add(frame, start)
        return True

    @property
    def is_news(self) -> bool:
        """Whether it is time to draw the figures again."""
        now = clock_ns()
        if now - self._drawn_ns < 1e9 * _SHOWN_S:
            return False
        self._drawn_ns = now
        return True

    def record(self, *, wanted: bool) -> None:
        """Begin to record, or pause; what was recorded becomes an action when the capture is stopped.

        Raises:
            UnderstudyError: nothing is running, or the folder cannot be written.
        """
        if not self.is_running or self._job is None:
            raise InputError("No live capture is running.", "Start one first.")
        JobFolder(self._job.folder).ask_to_record(wanted=wanted)
        self.is_recording = wanted

    def stop(self, *, keep_pose: bool = False) -> None:
        """Let go of the character at once; a recording goes on to be fitted, everything else is forgotten."""
        if not self.is_running or self._job is None:
            return
        job, is_recorded = self._job, self.figures.recorded > 0 or self.is_recording
        self._release(keep_pose=keep_pose)
        if is_recorded and job.is_running:
            JobFolder(job.folder).ask_to_stop()
            return
        if job.is_running:
            SESSION.cancel(job)
        self._job = None
        self._discarded.append(job)

    def leave_file(self) -> None:
        """Stop because another file is about to be opened: a recording is fitted, and waits among the jobs."""
        self.stop()
        self._target = None

    def _release(self, *, keep_pose: bool) -> None:
        """Give the character back."""
        if self._reader:
            self._reader.close()
        if self._driver:
            self._driver.release(keep_pose=keep_pose)
        self._reader = self._driver = None
        self.is_recording = False

    def _end_with_job(self) -> None:
        """Take in that the film is over, or that the worker failed."""
        assert self._job
        self._release(keep_pose=False)
        self._finish()

    def _finish(self) -> None:
        """Once the job is over, make an action of what was recorded; a job that recorded nothing is forgotten."""
        job = self._job
        if job is None or job.is_running:
            return
        self._job, self.message = None, job.trouble
        if job.result is not None:
            if self._target:
                scene, rig = self._target
                apply_recording(job.result, found_again(bpy.data.scenes, scene) or bpy.context.scene, _name_of(rig))
                bpy.ops.ed.undo_push(message="Live Recording")
        elif not job.trouble:
            self._discarded.append(job)
        else:
            JobFolder(job.folder).stream.unlink(missing_ok=True)  # a worker that died left its last pose

    def _fail(self, why: str) -> None:
        self.stop()
        self.message = why

    def _sweep(self) -> None:
        """Remove the folders of captures that kept nothing, once the worker has let go of them."""
        for job in [job for job in self._discarded if not job.is_running]:
            self._discarded.remove(job)
            SESSION.forget(job)
            shutil.rmtree(job.folder, ignore_errors=True)

    @property
    def is_busy(self) -> bool:
        """Whether pumping is of use."""
        return self._job is not None or bool(self._discarded)


def _name_of(rig: int) -> str:
    """Name of the armature that was driven, of whichever name it is now; none where it was a new one."""
    if not rig:
        return ""
    item = found_again(bpy.data.objects, rig)
    if item is None:
        raise InputError("The armature is not there any more.", "The recording waits among the jobs.")
    return str(item.name)


def apply_recording(result: Path, scene: bpy.types.Scene, rig: str) -> None:
    """Make an action of a fitted recording, for the character of that name or for an armature of its own.

    Raises:
        UnderstudyError: the character cannot take it.
    """
    if rig:
        from .retarget import retarget_result

        retarget_result(result, rig, scene)
    else:
        from .motion import apply_result

        apply_result(result, scene)


def _driver(rig: str, scene: bpy.types.Scene) -> Driver:
    """Get the armature of that name ready to be driven, or a new one."""
    from .scene.driver import Driver

    if not rig:
        return Driver.create(scene)
    from .mapping import mapping_of

    item = bpy.data.objects.get(rig)
    if item is None:
        raise InputError(f"There is no armature {rig}.", "Choose another character, or none for a new one.")
    return Driver.prepare(item, mapping_of(item))


def _sliders(rig: str) -> RetargetSettings:
    """How performances land on the character, as its sliders stand."""
    return retarget_settings(bpy.data.objects[rig].understudy.tuning)


def _tick() -> float | None:
    """Drive the character from Blender's timer."""
    LIVE.pump()
    if LIVE.is_news or not LIVE.is_busy:
        redraw()
    return PUMP_S if LIVE.is_busy else None


@persistent
def _before_load(*_: Any) -> None:
    LIVE.leave_file()


LIVE = Live()


class UNDERSTUDY_OT_live(Guarded):
    """Drive the character from a camera or a film while it runs; Esc stops"""

    bl_idname = "understudy.live"
    bl_label = "Start Live"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        if LIVE.is_running:
            return "A live capture is running"
        if LIVE.is_finishing:
            return "The recording is still being fitted"
        return "A capture is running; wait for it or cancel it" if SESSION.running is not None else ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Start, and listen for Esc."""
        if self.execute(context) != {"FINISHED"}:
            return {"CANCELLED"}
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Live: Esc stops")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Let everything pass but Esc; leave when the capture has ended."""
        if LIVE.is_running and not (event.type == "ESC" and event.value == "PRESS"):
            return {"PASS_THROUGH"}
        was_running = LIVE.is_running
        bpy.ops.understudy.stop_live() if was_running else None
        context.workspace.status_text_set(None)
        if LIVE.message:
            self.report({"WARNING"}, LIVE.message)
        return {"FINISHED"} if was_running else {"FINISHED", "PASS_THROUGH"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Start; in background mode, go on until the film ends."""
        live = context.scene.understudy.live
        rig = live.rig.name if live.rig else ""
        LIVE.start(live_request(live), context.scene, rig=rig)
        if bpy.app.background:
            while LIVE.is_busy:
                LIVE.pump()
                time.sleep(PUMP_S)
            if LIVE.message:
                raise InputError(LIVE.message)
        return {"FINISHED"}


class UNDERSTUDY_OT_stop_live(Guarded):
    """Stop the live capture; the character gets its pose back, and a recording becomes an action"""

    bl_idname = "understudy.stop_live"
    bl_label = "Stop"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if LIVE.is_running else "No live capture is running"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Stop."""
        keep = context.scene.understudy.live.keep_pose
        LIVE.stop(keep_pose=keep)
        if keep:
            bpy.ops.ed.undo_push(message="Live Pose")
        return {"FINISHED"}


class UNDERSTUDY_OT_record_live(Guarded):
    """Record the live capture, or pause recording; it becomes an action when the capture is stopped"""

    bl_idname = "understudy.record_live"
    bl_label = "Record"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if LIVE.is_running else "Start a live capture first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Switch recording on or off."""
        LIVE.record(wanted=not LIVE.is_recording)
        return {"FINISHED"}


def live_request(settings: Any) -> LiveRequest:
    """Make the request of a scene's settings.

    Raises:
        RequestError: a setting is wrong.
    """
    video = bpy.path.abspath(settings.video) if settings.video else None
    return schema.from_properties(
        LiveRequest, lambda name: getattr(settings, name), **({"video": Path(video)} if video else {})
    )


CLASSES = (UNDERSTUDY_OT_live, UNDERSTUDY_OT_stop_live, UNDERSTUDY_OT_record_live)
