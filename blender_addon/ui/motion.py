"""The road of a capture, top to bottom: clips, capture, apply."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import bpy

from ...inference.protocol import schema
from ...inference.protocol.requests import MotionRequest
from ...operators.motion import calibrated_cameras, draw_apply_options
from ...operators.session import SESSION
from ...operators.settings import APPLY
from .jobs import draw_job

# Shown at once; every other setting of the request stands under Advanced, in the request's order.
_FIRST = ("people", "smoothing", "height_m", "hands", "face", "floor")
_FIRST_OPTIONS = ("take", "rate")
_ELSEWHERE = ("calibration", "markers", "image_size", "fps")
_OTHER_PANELS = ("calibrate", "head", "face", "body", "coach", "reenact")  # tasks whose jobs they show
_NAMES = tuple(item.name for item in schema.read(MotionRequest) if None not in item.shape)


class Sidebar(bpy.types.Panel):
    """Base of the panels in the tab; unlike them it is not registered."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Understudy"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw with Blender's split layout."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        self.contents(layout, context)

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the panel shows."""
        raise NotImplementedError


class UNDERSTUDY_UL_views(bpy.types.UIList):
    """The views of a capture."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw the name of a view's file."""
        path = item.video or item.keypoints
        name = os.path.basename(path.rstrip("/\\")) or "No clip chosen"  # noqa: PTH119 - Windows paths on any system
        layout.label(text=f"{index + 1}  {name}", icon="FILE_MOVIE" if item.video else "POINTCLOUD_DATA")


class UNDERSTUDY_PT_clips(Sidebar):
    """Step 1: the clips."""

    bl_label = "Clips"
    bl_order = 0

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the list of views and the active one."""
        motion = context.scene.understudy.motion
        row = layout.row()
        row.template_list("UNDERSTUDY_UL_views", "", motion, "views", motion, "active_view", rows=3)
        buttons = row.column(align=True)
        buttons.operator("understudy.add_clips", text="", icon="FILE_FOLDER")
        buttons.operator("understudy.add_view", text="", icon="ADD")
        buttons.operator("understudy.remove_view", text="", icon="REMOVE")
        if motion.markers or not motion.views:
            layout.prop(motion, "markers")
        if not motion.views:
            layout.operator("understudy.add_clips", icon="FILE_MOVIE")
            return
        if motion.active_view < len(motion.views):
            _draw_view(layout, motion.views[motion.active_view])
        if len(motion.views) > 1 or motion.calibration:
            layout.prop(motion, "calibration")
        if any(view.keypoints for view in motion.views):
            draw_optional(layout, motion, "image_size")
            draw_optional(layout, motion, "fps")


class UNDERSTUDY_PT_capture(Sidebar):
    """Step 2: the capture."""

    bl_label = "Capture"
    bl_order = 2

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the settings used most, the button, and the job while it runs."""
        motion = context.scene.understudy.motion
        column = layout.column()
        column.enabled = SESSION.running is None
        for name in _FIRST:
            draw_optional(column, motion, name)
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.start_motion", icon="PLAY")
        job = next((job for job in SESSION.jobs if job.task not in _OTHER_PANELS), None)
        if job is not None:
            draw_job(layout, job)


class UNDERSTUDY_PT_advanced(Sidebar):
    """The other settings of the capture."""

    bl_label = "Advanced"
    bl_parent_id = "UNDERSTUDY_PT_capture"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the request has beyond the first settings."""
        motion = context.scene.understudy.motion
        layout.enabled = SESSION.running is None
        for name in _NAMES:
            if name not in (*_FIRST, *_ELSEWHERE):
                draw_optional(layout, motion, name)


class UNDERSTUDY_PT_apply(Sidebar):
    """Step 3: the result."""

    bl_label = "Apply"
    bl_order = 3

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the options, the button, and what can be done afterwards."""
        draw_apply_options(layout.column(), context.scene.understudy.apply, _FIRST_OPTIONS)
        if SESSION.last_result is not None:
            layout.label(text=SESSION.last_result.parents[1].name, icon="CHECKMARK")
        row = layout.row()
        row.scale_y = 1.4
        text = "Apply" if SESSION.last_result else "Apply from File..."
        button = row.operator("understudy.apply_motion", icon="ARMATURE_DATA", text=text)
        button.filepath = str(SESSION.last_result or "")
        column = layout.column(align=True)
        if calibrated_cameras(context.scene):
            column.operator("understudy.use_camera", icon="CAMERA_DATA")
        column.operator("understudy.export_motion", icon="EXPORT")


class UNDERSTUDY_PT_apply_options(Sidebar):
    """The other options of applying."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_apply"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        names = [name for name in APPLY if name not in _FIRST_OPTIONS]
        draw_apply_options(layout.column(), context.scene.understudy.apply, names)


def _draw_view(layout: bpy.types.UILayout, view: Any) -> None:
    column = layout.column()
    column.prop(view, "video")
    column.prop(view, "keypoints")
    row = column.row(align=True)
    row.prop(view, "follow")
    row.operator("understudy.pick_person", text="", icon="EYEDROPPER")
    if view.follow == "POINT":
        _draw_parts(column, view, "point", ("X", "Y"))
    elif view.follow == "BOX":
        _draw_parts(column, view, "box", ("Left", "Top", "Right", "Bottom"))


def _draw_parts(layout: bpy.types.UILayout, group: Any, name: str, labels: Sequence[str]) -> None:
    column = layout.column(align=True)
    for index, label in enumerate(labels):
        column.prop(group, name, index=index, text=label)


def draw_optional(layout: bpy.types.UILayout, group: Any, name: str, *, heading: str = "") -> None:
    """Draw a property; one that may be absent behind its switch, under a shorter heading where its own is too long."""
    switch = f"use_{name}"
    if not hasattr(group, switch):
        layout.prop(group, name)
        return
    row = layout.row(heading=heading or group.bl_rna.properties[name].name)
    row.prop(group, switch, text="")
    part = row.row()
    part.enabled = getattr(group, switch)
    part.prop(group, name, text="")


PANELS = (
    UNDERSTUDY_PT_clips,
    UNDERSTUDY_PT_capture,
    UNDERSTUDY_PT_advanced,
    UNDERSTUDY_PT_apply,
    UNDERSTUDY_PT_apply_options,
)
CLASSES = (UNDERSTUDY_UL_views, *PANELS)
