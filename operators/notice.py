"""Says that long work has ended: in Blender's window, and on the desktop where the system has a way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import bpy

from .base import preference

if TYPE_CHECKING:
    from .session import Job

LONG_S = 20.0  # who waits for less is still looking
_ICONS = {"done": "CHECKMARK", "cancelled": "X"}


def tell_end(job: Job, seconds: float) -> None:
    """Tell that a job is over, where it took long and the user wants to know."""
    wanted = preference("notify", "BLENDER")
    if wanted == "OFF" or seconds < LONG_S or bpy.app.background or job.asked_to_stop:
        return
    _pop_up(job)
    if wanted == "DESKTOP":
        command = desktop_command("Understudy", words(job))
        if command:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def words(job: Job) -> str:
    """Say which job ended and how."""
    return f"{job.title}: {job.trouble or job.status}"[:300]


def _pop_up(job: Job) -> None:
    def draw(menu: Any, _: bpy.types.Context) -> None:
        menu.layout.operator_context = "INVOKE_DEFAULT"  # else the log is made, and not shown
        menu.layout.label(text=words(job)[:120])
        operator = "understudy.open_job" if job.report is None else "understudy.open_report"
        menu.layout.operator(operator).folder = str(job.folder)
        menu.layout.operator("understudy.view_log").folder = str(job.folder)

    manager = bpy.context.window_manager
    if manager.windows:
        with bpy.context.temp_override(window=manager.windows[0]):
            manager.popup_menu(draw, title="Understudy", icon=_ICONS.get(job.state, "ERROR"))


def desktop_command(title: str, text: str) -> list[str]:
    """Give the words that show a note on the desktop, without a shell; none where there is no program for it."""
    if sys.platform == "darwin":
        script = "on run words\ndisplay notification (item 2 of words) with title (item 1 of words)\nend run"
        return ["osascript", "-e", script, title, text]
    program = shutil.which("notify-send")
    return [program, "--app-name", title, "--", title, text] if program else []
