"""Preferences: where the inference environment is, where jobs go, what the tab is called."""

from __future__ import annotations

import logging
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from ..operators import setup
from ..operators.base import LOG, ROOT, preference
from ..operators.scene.compat import PATH_OPTIONS
from ..operators.session import SESSION
from .ui import GROUPS, jobs

_LEVELS = (
    ("WARNING", "Warnings", "Only what needs attention"),
    ("INFO", "Information", "What is done, too"),
    ("DEBUG", "Everything", "For bug reports"),
)


_CONSOLE = logging.StreamHandler()
_CONSOLE.setFormatter(logging.Formatter("%(name)s: %(message)s"))


def begin() -> None:
    """Apply the preferences that need more than being read."""
    LOG.addHandler(_CONSOLE)
    LOG.setLevel(preference("log_level", "WARNING"))
    rename_tab()


def end() -> None:
    """Undo `begin`."""
    LOG.removeHandler(_CONSOLE)


def rename_tab() -> None:
    """Put the panels under the tab that the preferences name."""
    name = preference("tab", "") or "Understudy"
    panels = [panel for group in GROUPS for panel in group.PANELS]
    if all(panel.bl_category == name for panel in panels):
        return
    for panel in reversed(panels):
        bpy.utils.unregister_class(panel)
    for panel in panels:
        panel.bl_category = name
        bpy.utils.register_class(panel)


def _renamed(self: Any, context: bpy.types.Context) -> None:  # noqa: ARG001
    rename_tab()


def _log_level(self: Any, context: bpy.types.Context) -> None:  # noqa: ARG001
    LOG.setLevel(self.log_level)


class UNDERSTUDY_AP_preferences(bpy.types.AddonPreferences):
    """Settings that belong to the computer, not to a scene."""

    bl_idname = ROOT

    python: StringProperty(
        name="Python",
        description="The Python program of the inference environment; empty to look for it",
        subtype="FILE_PATH",
        options=PATH_OPTIONS,
    )
    output: StringProperty(
        name="Jobs",
        description="Folder of new jobs; empty for 'understudy' beside the saved file, or the add-on's own folder",
        subtype="DIR_PATH",
        options=PATH_OPTIONS,
    )
    notify: EnumProperty(
        name="Notify",
        description="How the end of long work is told",
        items=(
            ("OFF", "Off", "Only the job list shows it"),
            ("BLENDER", "In Blender", "A note in Blender's window"),
            ("DESKTOP", "On the Desktop", "Also a note of the system's, where it has a way"),
        ),
        default="BLENDER",
    )
    tab: StringProperty(name="Tab", description="Name of the tab in the sidebar", default="Understudy", update=_renamed)
    log_level: EnumProperty(
        name="Console",
        description="What the console is told",
        items=_LEVELS,
        default="WARNING",
        update=_log_level,
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Show the settings and the result of the last check."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        _draw_setup(layout)
        layout.prop(self, "python", placeholder="Found by itself")
        row = layout.row(align=True)
        row.operator("understudy.check_environment", text="Doctor", icon="CHECKMARK")
        row.operator("understudy.save_support_bundle", icon="FILE_ARCHIVE")
        _draw_check(layout)
        layout.prop(self, "output", placeholder="Beside the saved file")
        layout.prop(self, "notify")
        layout.prop(self, "tab")
        layout.prop(self, "log_level")


def _draw_setup(layout: bpy.types.UILayout) -> None:
    job = setup.running()
    if job is not None:
        row = layout.row(align=True)
        row.progress(factor=job.fraction, text=job.status, type="BAR")
        row.operator("understudy.cancel_job", text="", icon="CANCEL").folder = str(job.folder)
        return
    row = layout.row(align=True)
    row.operator_context = "INVOKE_DEFAULT"
    row.operator("understudy.set_up_inference", icon="IMPORT")
    last = SESSION.latest_of("setup")
    if last is not None and last.trouble:
        jobs.draw_text(layout, last.trouble, icon="ERROR")


def _draw_check(layout: bpy.types.UILayout) -> None:
    if SESSION.check is not None:
        layout.label(text="Checking the environment...", icon="SORTTIME")
    if SESSION.check_lines:
        box = layout.box().column(align=True)
        box.label(
            text="The environment works" if SESSION.check_passed else "The environment does not work",
            icon="CHECKMARK" if SESSION.check_passed else "ERROR",
        )
        for line in SESSION.check_lines:
            box.label(text=line)
