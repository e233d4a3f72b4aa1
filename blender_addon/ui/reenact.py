"""The road of frames, top to bottom: who is shown, who drives, the frames, what becomes of them in the scene."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ...inference.protocol import schema
from ...inference.protocol.requests import ReenactRequest
from ...operators.poses import find_poses
from ...operators.reenact import live_job
from ...operators.session import SESSION, Job
from ...operators.settings import FRAMES
from ...operators.thumbnails import THUMBNAILS
from .jobs import draw_job
from .motion import Sidebar, draw_optional

_POSES = "understudy_poses"  # as in `operators/scene/poses.py`, which needs numpy
_FIRST = ("mode", "reference", "strength", "region")
_ELSEWHERE = ("driver", "camera", "frames", "fps", "driver_face")
_NAMES = tuple(item.name for item in schema.read(ReenactRequest) if None not in item.shape)
_FIRST_OPTIONS = ("take", "frame_start", "plane", "strip", "background", "compositor")
_PICTURE = 9.0  # of the picture's height, in rows


class UNDERSTUDY_UL_shown(bpy.types.UIList):
    """Pictures of the person who is shown."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw the name of a source."""
        path = item.image.name if item.image else item.path
        name = os.path.basename(path.rstrip("/\\")) or "No file chosen"  # noqa: PTH119 - Windows paths on any system
        layout.label(text=name, icon="IMAGE_DATA" if item.image else "FILE_IMAGE")


class UNDERSTUDY_PT_reenact(Sidebar):
    """Frames of a person who does what another does."""

    bl_label = "Reenact"
    bl_order = 7
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw who is shown, who drives, how, the button, and the job while it runs."""
        reenact = context.scene.understudy.reenact
        _draw_sources(layout, reenact)
        column = layout.column()
        column.enabled = SESSION.running is None
        _draw_driver(column, reenact)
        for name in _FIRST:
            if name != "reference" or reenact.mode == "relative":
                draw_optional(column, reenact, name)
        row = layout.row()
        row.scale_y = 1.4
        if live_job() is not None:
            row.operator("understudy.stop_reenact", icon="SNAP_FACE")
        else:
            row.operator("understudy.start_reenact", icon="PLAY")
        if reenact.by == "FILM":
            column = layout.column()
            column.prop(reenact, "head", text="Compare with")
            column.operator("understudy.mesh_frames", icon="MESH_MONKEY")
        job = SESSION.latest_of("reenact")
        if job is not None:
            _draw_picture(layout, job)
            draw_job(layout, job)


class UNDERSTUDY_PT_reenact_advanced(Sidebar):
    """The other settings of frames."""

    bl_label = "Advanced"
    bl_parent_id = "UNDERSTUDY_PT_reenact"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the request has beyond the first settings."""
        layout.enabled = SESSION.running is None
        for name in _NAMES:
            if name not in (*_FIRST, *_ELSEWHERE):
                draw_optional(layout, context.scene.understudy.reenact, name)


class UNDERSTUDY_PT_reenact_apply(Sidebar):
    """Frames in the scene."""

    bl_label = "Apply"
    bl_parent_id = "UNDERSTUDY_PT_reenact"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the options and the buttons."""
        options = context.scene.understudy.reenact.apply
        column = layout.column()
        for name in _FIRST_OPTIONS:
            column.prop(options, name)
        for name in FRAMES:
            if name not in _FIRST_OPTIONS and (name != "sound" or options.strip):
                column.prop(options, name)
        path = SESSION.last_frames
        row = layout.row()
        row.scale_y = 1.4
        text = "Apply" if path else "Apply from File..."
        row.operator("understudy.apply_frames", icon="IMAGE_PLANE", text=text).filepath = str(path or "")


class UNDERSTUDY_PT_reenact_poses(Sidebar):
    """Poses as sliders that are keyed."""

    bl_label = "Kept Poses"
    bl_parent_id = "UNDERSTUDY_PT_reenact"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the sliders of the object that keeps poses."""
        layout.prop(context.scene.understudy.reenact, "poses")
        layout.operator("understudy.keep_pose", icon="ADD")
        item = find_poses(context)
        kept = item.get(_POSES) if item is not None else None
        for name in str(kept["names"]).split("\n") if kept else ():
            if name:
                row = layout.row(align=True)
                row.use_property_decorate = True
                row.prop(item, f'["{bpy.utils.escape_identifier(name)}"]', text=name, slider=True)
                row.operator("understudy.key_pose", text="", icon="KEY_HLT").pose = name


class UNDERSTUDY_PT_control(Sidebar):
    """Captured people as control frames."""

    bl_label = "Control Frames"
    bl_parent_id = "UNDERSTUDY_PT_reenact"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the camera and the button."""
        layout.prop(context.scene, "camera")
        layout.operator("understudy.control_frames", icon="ARMATURE_DATA")


def _draw_sources(layout: bpy.types.UILayout, reenact: Any) -> None:
    row = layout.row()
    row.template_list("UNDERSTUDY_UL_shown", "", reenact, "sources", reenact, "active_source", rows=2)
    buttons = row.column(align=True)
    buttons.operator("understudy.add_shown", text="", icon="FILE_FOLDER")
    buttons.operator("understudy.remove_shown", text="", icon="REMOVE")
    if not reenact.sources:
        layout.operator("understudy.add_shown", icon="FILE_IMAGE")
    elif reenact.active_source < len(reenact.sources):
        source = reenact.sources[reenact.active_source]
        layout.prop(source, "image" if source.image else "path", text="Source")
        layout.prop(source, "face")


def _draw_driver(column: bpy.types.UILayout, reenact: Any) -> None:
    column.prop(reenact, "by")
    if reenact.by == "FILM":
        column.prop(reenact, "driver", text="Film")
        column.prop(reenact, "driver_face")
    elif reenact.by == "CAMERA":
        column.prop(reenact, "camera")
    elif reenact.by == "HEAD":
        column.prop(reenact, "head")
    else:
        column.prop(reenact, "poses")
    if reenact.by != "CAMERA":
        column.prop(reenact, "frames")


def _draw_picture(layout: bpy.types.UILayout, job: Job) -> None:
    """Draw the newest frame."""
    path = job.preview
    if path is not None:
        layout.template_icon(icon_value=THUMBNAILS.icon(path), scale=_PICTURE)


PANELS = (
    UNDERSTUDY_PT_reenact,
    UNDERSTUDY_PT_reenact_advanced,
    UNDERSTUDY_PT_reenact_apply,
    UNDERSTUDY_PT_reenact_poses,
    UNDERSTUDY_PT_control,
)
CLASSES = (UNDERSTUDY_UL_shown, *PANELS)
