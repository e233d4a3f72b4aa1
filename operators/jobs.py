"""Operators on jobs of any kind, and on the environment they run in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..inference.protocol.errors import InputError
from ..inference.protocol.events import EventReader
from ..inference.protocol.folder import JobFolder
from .base import Guarded
from .environment import Check, find_python
from .session import SESSION

LOG_TEXT = "Understudy Log"
_SAID = ("stage", "name", "file", "text", "message", "hint")
_LOG_LINES, _LOG_BYTES = 24, 256 << 10


class _OfJob(Guarded):
    folder: StringProperty(name="Job", description="The job's folder; empty for the latest", options={"SKIP_SAVE"})

    def chosen(self) -> Path:
        """Give the folder that is meant.

        Raises:
            InputError: there is no job.
        """
        if self.folder:
            return Path(self.folder)
        if SESSION.latest is None:
            raise InputError("There is no job yet.", "Capture a clip first.")
        return SESSION.latest.folder


class UNDERSTUDY_OT_cancel_job(_OfJob):
    """Stop the running job; finished stages are kept"""

    bl_idname = "understudy.cancel_job"
    bl_label = "Cancel"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if any(job.is_running for job in SESSION.jobs) else "No job is running"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Ask the job to stop; the timer sees it end, and background mode waits for it."""
        job = SESSION.find(self.chosen())
        if job is None or not job.is_running:
            raise InputError("That job is not running here.")
        SESSION.cancel(job)
        if bpy.app.background:
            SESSION.wait(job)
        return {"FINISHED"}


class UNDERSTUDY_OT_open_report(_OfJob):
    """Open the report page with plots and numbers in the browser"""

    bl_idname = "understudy.open_report"
    bl_label = "Open Report"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Open the page."""
        page = self.chosen() / "report.html"
        if not page.is_file():
            raise InputError(f"{self.chosen().name} has no report.", "A report is written when a job is done.")
        bpy.ops.wm.url_open(url=page.as_uri())
        return {"FINISHED"}


class UNDERSTUDY_OT_open_job(_OfJob):
    """Open the folder with the results and the log"""

    bl_idname = "understudy.open_job"
    bl_label = "Open Folder"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Open the folder in the system's file browser."""
        folder = self.chosen()
        if not folder.is_dir():
            raise InputError(f"The folder {folder} is not there any more.")
        bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}


class UNDERSTUDY_OT_view_log(_OfJob):
    """Show the end of what was printed, and keep it as a text of this file"""

    bl_idname = "understudy.view_log"
    bl_label = "View Log"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Show it in a window of its own."""
        result = self.execute(context)
        if result == {"FINISHED"}:
            context.window_manager.popup_menu(self._draw_lines, title=self.chosen().name, icon="TEXT")
        return result

    def _draw_lines(self, menu: Any, context: bpy.types.Context) -> None:
        for line in bpy.data.texts[LOG_TEXT].as_string().splitlines()[-_LOG_LINES:]:
            menu.layout.label(text=line[:140])
        menu.layout.label(text=f"All of it: text {LOG_TEXT!r} in the Text Editor", icon="INFO")

    def work(self, context: bpy.types.Context) -> set[str]:
        """Put the end of the newest log into a text datablock."""
        folder = self.chosen()
        job = SESSION.find(folder)
        files = job.logs if job else [file for file in (folder / "log.txt",) if file.is_file()]
        said = _said(JobFolder(folder))
        if not files and not said:
            raise InputError(f"{folder.name} has said and printed nothing.")
        text = bpy.data.texts.get(LOG_TEXT) or bpy.data.texts.new(LOG_TEXT)
        text.clear()
        for file in reversed(files):
            text.write(f"--- {file.name}\n{_tail(file)}\n")
        text.write("--- what the job said\n" + "\n".join(said))
        return {"FINISHED"}


def _said(folder: JobFolder) -> list[str]:
    """When each stage of a job began, what came out, what it warned of, and how it ended."""
    lines, stage = [], ""
    for event in EventReader(folder.events).read():
        values = event.values
        if event.kind == "progress" and values["stage"] == stage:
            continue
        stage = values.get("stage", stage)
        words = [event.kind] if event.kind != "progress" else []
        words += [str(values[name]) for name in _SAID if values.get(name)]
        lines.append(f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {' '.join(words)}")
    return lines


def _tail(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(stream.seek(0, 2) - _LOG_BYTES, 0))
        return stream.read(_LOG_BYTES).decode("utf-8", "replace").replace("\0", "")


class UNDERSTUDY_OT_find_jobs(Guarded):
    """Look for earlier jobs in the folder where new ones go"""

    bl_idname = "understudy.find_jobs"
    bl_label = "Find Jobs"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Read the folder."""
        count = SESSION.scan()
        self.report({"INFO"}, f"{count} more job(s) found")
        return {"FINISHED"}


class UNDERSTUDY_OT_add_jobs(Guarded):
    """Show what runs or ran in another folder: a training, a batch, a capture of the command line"""

    bl_idname = "understudy.add_jobs"
    bl_label = "Jobs of a Folder"

    directory: StringProperty(
        name="Folder", description="A job's folder, or one that holds some", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the folder."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Read the folder."""
        folder = Path(bpy.path.abspath(self.directory))
        if not self.directory or not folder.is_dir():
            raise InputError(f"There is no folder {self.directory or '(none is named)'}.", "Choose a job's folder.")
        count = SESSION.scan(folder)
        if not count and not any(folder in (job.folder, job.folder.parent) for job in SESSION.jobs):
            raise InputError(f"{folder.name} holds no job.", "A job's folder holds a request.json.")
        self.report({"INFO"}, f"{count} more job(s) found")
        return {"FINISHED"}


class UNDERSTUDY_OT_check_environment(Guarded):
    """Find out whether the inference environment works and what it computes on"""

    bl_idname = "understudy.check_environment"
    bl_label = "Check Environment"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "The check is running" if SESSION.check else ""

    def work(self, context: bpy.types.Context) -> set[str]:
        """Start the check; the timer shows its end, and background mode waits for it."""
        SESSION.start_check(Check.start(find_python()))
        if bpy.app.background:
            SESSION.wait_check()
            self.report({"INFO"} if SESSION.check_passed else {"WARNING"}, "; ".join(SESSION.check_lines))
        return {"FINISHED"}


CLASSES = (
    UNDERSTUDY_OT_cancel_job,
    UNDERSTUDY_OT_open_report,
    UNDERSTUDY_OT_open_job,
    UNDERSTUDY_OT_view_log,
    UNDERSTUDY_OT_find_jobs,
    UNDERSTUDY_OT_add_jobs,
    UNDERSTUDY_OT_check_environment,
)
