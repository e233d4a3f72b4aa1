"""The road of a head, top to bottom: photos, the head, what it becomes in the scene."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ...inference.protocol import schema
from ...inference.protocol.requests import HeadRequest
from ...operators.head import find_head
from ...operators.session import SESSION, Job
from ...operators.settings import HEAD
from ...operators.thumbnails import THUMBNAILS
from .jobs import draw_job
from .motion import Sidebar, draw_optional

_FIRST = ("quality", "body", "pupil_distance_mm")
_HEADINGS = {"pupil_distance_mm": "Pupils (mm)"}  # what fits beside a switch
_ELSEWHERE = ("video",)
_NAMES = tuple(item.name for item in schema.read(HeadRequest) if None not in item.shape)
_FIRST_OPTIONS = ("take", "body", "asset")
_PICTURE = 9.0  # of the picture's height, in rows


class UNDERSTUDY_UL_photos(bpy.types.UIList):
    """The photos of a person."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw the name of a photo."""
        path = item.image.name if item.image else item.path
        name = os.path.basename(path.rstrip("/\\")) or "No photo chosen"  # noqa: PTH119 - Windows paths on any system
        layout.label(text=f"{index + 1}  {name}", icon="IMAGE_DATA" if item.image else "FILE_IMAGE")


class UNDERSTUDY_PT_head(Sidebar):
    """A head from photos."""

    bl_label = "Head"
    bl_order = 6
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the photos, the settings used most, the button, and the job while it runs."""
        head = context.scene.understudy.head
        _draw_photos(layout, head)
        column = layout.column()
        column.enabled = SESSION.running is None
        for name in _FIRST:
            draw_optional(column, head, name, heading=_HEADINGS.get(name, ""))
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.start_head", icon="PLAY")
        job = SESSION.latest_of("head")
        if job is not None:
            _draw_picture(layout, job)
            draw_job(layout, job)


class UNDERSTUDY_PT_head_advanced(Sidebar):
    """The other settings of a head."""

    bl_label = "Advanced"
    bl_parent_id = "UNDERSTUDY_PT_head"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the request has beyond the first settings."""
        layout.enabled = SESSION.running is None
        for name in _NAMES:
            if name not in (*_FIRST, *_ELSEWHERE):
                draw_optional(layout, context.scene.understudy.head, name)


class UNDERSTUDY_PT_head_apply(Sidebar):
    """The head in the scene."""

    bl_label = "Apply"
    bl_parent_id = "UNDERSTUDY_PT_head"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the options, the button, and the way out."""
        options = context.scene.understudy.head.apply
        column = layout.column()
        for name in _FIRST_OPTIONS:
            column.prop(options, name)
        path = SESSION.last_head
        row = layout.row()
        row.scale_y = 1.4
        text = "Apply" if path else "Apply from File..."
        button = row.operator("understudy.apply_head", icon="MESH_MONKEY", text=text)
        button.filepath = str(path or "")
        head = find_head(context)
        exports = layout.row(align=True)
        exports.enabled = head is not None
        exports.label(text="Export")
        for kind in ("GLB", "FBX", "OBJ", "USD"):
            exports.operator("understudy.export_head", text=kind).format = kind


class UNDERSTUDY_PT_head_options(Sidebar):
    """The other options of applying."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_head_apply"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        for name in HEAD:
            if name not in _FIRST_OPTIONS:
                layout.prop(context.scene.understudy.head.apply, name)


def _draw_photos(layout: bpy.types.UILayout, head: Any) -> None:
    row = layout.row()
    row.template_list("UNDERSTUDY_UL_photos", "", head, "photos", head, "active_photo", rows=3)
    buttons = row.column(align=True)
    buttons.operator("understudy.add_photos", text="", icon="FILE_FOLDER")
    buttons.operator("understudy.add_image", text="", icon="IMAGE_DATA")
    buttons.operator("understudy.remove_photo", text="", icon="REMOVE")
    if not head.photos:
        layout.operator("understudy.add_photos", icon="FILE_IMAGE")
        layout.prop(head, "video")
    elif head.active_photo < len(head.photos):
        photo = head.photos[head.active_photo]
        layout.prop(photo, "image" if photo.image else "path")
        layout.prop(photo, "face")


def _draw_picture(layout: bpy.types.UILayout, job: Job) -> None:
    """Draw the newest picture of a head that takes shape."""
    path = job.preview
    if path is not None:
        layout.template_icon(icon_value=THUMBNAILS.icon(path), scale=_PICTURE)


PANELS = (
    UNDERSTUDY_PT_head,
    UNDERSTUDY_PT_head_advanced,
    UNDERSTUDY_PT_head_apply,
    UNDERSTUDY_PT_head_options,
)
CLASSES = (UNDERSTUDY_UL_photos, *PANELS)
