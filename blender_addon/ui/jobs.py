"""What runs and has run: captures, heads, batches, set-ups, trainings, whoever started them."""

from __future__ import annotations

import textwrap
import time

import bpy

from ...operators.session import SESSION, Job

_ICONS = {
    "waiting": "SORTTIME", "running": "PLAY", "done": "CHECKMARK",
    "cancelled": "X", "failed": "ERROR", "crashed": "ERROR",
}  # fmt: skip
_TASKS = {
    "motion": "ARMATURE_DATA", "head": "USER", "calibrate": "CAMERA_DATA", "tune": "MODIFIER", "live": "REC",
    "batch": "PRESET", "body": "OUTLINER_OB_ARMATURE", "coach": "ARROW_LEFTRIGHT", "reenact": "RENDER_ANIMATION",
    "setup": "IMPORT", "sync": "TIME", "face": "MONKEY", "training": "GRAPH", "bench": "LINENUMBERS_ON",
}  # fmt: skip
_APPLY = {
    "result": "understudy.apply_motion", "head": "understudy.apply_head", "body": "understudy.apply_body",
    "face": "understudy.apply_face", "frames": "understudy.apply_frames",
}  # fmt: skip
_SHOWN = 8
_COLUMNS, _LETTER = 44, 6.2  # characters in a sidebar of usual width; pixels of one
_MARGINS = {"UI": 46.0, "WINDOW": 90.0}  # pixels beside them, in a sidebar and in the preferences


def draw_job(layout: bpy.types.UILayout, job: Job, *, when: str = "") -> None:
    """Draw one job: its bar and Cancel while it runs, then how it ended, and `when` behind that."""
    if job.is_running:
        row = layout.row(align=True)
        row.progress(factor=job.fraction, text=job.status, type="BAR")
        row.operator("understudy.view_log", text="", icon="TEXT").folder = str(job.folder)
        row.operator("understudy.cancel_job", text="", icon="CANCEL").folder = str(job.folder)
    else:
        row = layout.row(align=True)
        row.label(text=f"{job.status}{when}", icon=_ICONS.get(job.state, "QUESTION"))
        row.operator("understudy.view_log", text="", icon="TEXT").folder = str(job.folder)
        if job.report is not None:
            row.operator("understudy.open_report", text="", icon="HELP").folder = str(job.folder)
        row.operator("understudy.open_job", text="", icon="FILE_FOLDER").folder = str(job.folder)
    if job.trouble:
        draw_text(layout, job.trouble)
    for text in job.warnings[:3]:
        draw_text(layout, text, icon="INFO")


def draw_text(layout: bpy.types.UILayout, text: str, *, icon: str = "NONE", inset: int = 0) -> None:
    """Draw a sentence over as many lines as it needs; `inset` characters are taken by what it stands in."""
    column = layout.column(align=True)
    columns = _columns() - inset - (3 if icon != "NONE" else 0)
    for number, line in enumerate(textwrap.wrap(text, max(columns, 12))[:8]):
        column.label(text=line, icon=icon if number == 0 else "BLANK1" if icon != "NONE" else "NONE")


def _columns() -> int:
    """How many characters fit beside each other in the region that is drawn."""
    region = bpy.context.region
    margin = _MARGINS.get(region.type if region else "")
    if region is None or margin is None:
        return _COLUMNS
    return int((region.width / bpy.context.preferences.system.ui_scale - margin) / _LETTER)


class UNDERSTUDY_PT_jobs(bpy.types.Panel):
    """Earlier jobs."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Understudy"
    bl_label = "Jobs"
    bl_order = 9
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the newest jobs; a finished one can be applied again."""
        layout = self.layout
        for job in SESSION.jobs[:_SHOWN]:
            box = layout.box().column()
            found = [(getattr(job, name), operator) for name, operator in _APPLY.items()]
            path, operator = next((pair for pair in found if pair[0] is not None), (None, ""))
            row = box.split(factor=1.0 if path is None else 0.72, align=True)
            row.label(text=job.title, icon=_TASKS.get(job.task, "NONE"))
            if path is not None:
                row.operator(operator, text="Apply").filepath = str(path)
            draw_job(box, job, when=time.strftime(", %d %b %H:%M", time.localtime(job.begun)))
        if not SESSION.jobs:
            layout.label(text="No jobs yet")
        elif len(SESSION.jobs) > _SHOWN:
            layout.label(text=f"{len(SESSION.jobs) - _SHOWN} earlier ones are in their folder")
        row = layout.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator("understudy.batch_folder", icon="FILE_FOLDER")
        row.operator("understudy.run_batch", icon="PRESET")
        row = layout.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator("understudy.find_jobs", icon="VIEWZOOM")
        row.operator("understudy.add_jobs", icon="FILEBROWSER")


PANELS = (UNDERSTUDY_PT_jobs,)
CLASSES = PANELS
