"""Live: what is watched, who is driven, and how far behind."""

from __future__ import annotations

import bpy

from ...operators.live import LIVE
from .jobs import draw_text
from .motion import Sidebar, draw_optional

_MORE = ("mirror", "hands", "smoothing", "height_m", "focal_px", "camera_size", "footage")


class UNDERSTUDY_PT_live(Sidebar):
    """A camera drives a character."""

    bl_label = "Live"
    bl_order = 5
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the source and the character, or, while it runs, what is going on."""
        live = context.scene.understudy.live
        if LIVE.is_running:
            self._running(layout, live)
            return
        column = layout.column()
        column.enabled = not LIVE.is_finishing
        column.prop(live, "video", text="Film", placeholder="None: the camera is watched")
        row = column.row()
        row.enabled = not live.video
        row.prop(live, "camera")
        column.prop(live, "rig")
        row = column.row()
        row.scale_y = 1.4
        row.operator("understudy.live", icon="PLAY", text="Play Film" if live.video else "Turn Camera On")
        if LIVE.status:
            layout.label(text=LIVE.status, icon="SORTTIME")
        if LIVE.message:
            draw_text(layout, LIVE.message, icon="ERROR")

    @staticmethod
    def _running(layout: bpy.types.UILayout, live: bpy.types.PropertyGroup) -> None:
        row = layout.row()
        row.alert = not live.video  # red, as the light beside a lens
        row.label(text="Film plays" if live.video else "Camera is on", icon="RADIOBUT_ON")
        layout.label(text=LIVE.status)
        layout.label(text=f"{LIVE.figures.cost_ms:.1f} ms of it in Blender" if LIVE.figures.frames else "")
        row = layout.row(align=True)
        row.scale_y = 1.4
        row.operator(
            "understudy.record_live", icon="PAUSE" if LIVE.is_recording else "REC", depress=LIVE.is_recording,
            text="Pause Recording" if LIVE.is_recording else "Record",
        )  # fmt: skip
        row.operator("understudy.stop_live", icon="SNAP_FACE", text="Stop (Esc)")
        layout.prop(live, "keep_pose")


class UNDERSTUDY_PT_live_options(Sidebar):
    """How it is watched."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_live"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        layout.enabled = not LIVE.is_running
        for name in _MORE:
            draw_optional(layout, context.scene.understudy.live, name)


PANELS = (UNDERSTUDY_PT_live, UNDERSTUDY_PT_live_options)
CLASSES = PANELS
