"""The road of a body, top to bottom: clip, body, what it becomes in the scene, its measures."""

from __future__ import annotations

import bpy

from ...inference.protocol import schema
from ...inference.protocol.requests import BodyRequest, CoachRequest
from ...operators.body import MEASURES, find_body
from ...operators.session import SESSION
from ...operators.settings import BODY
from .jobs import draw_job
from .motion import Sidebar, draw_optional

_FIRST = ("height_m", "sex", "loose_clothes")
_CLIP = ("video", "keypoints", "masks", "keypoints_3d", "capture", "view")
_NAMES = tuple(item.name for item in schema.read(BodyRequest) if None not in item.shape)
_FIRST_OPTIONS = ("take", "skeleton")


class UNDERSTUDY_PT_body(Sidebar):
    """A body from a clip."""

    bl_label = "Body"
    bl_order = 5
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the clip, the settings used most, the button, and the job while it runs."""
        body = context.scene.understudy.body
        column = layout.column()
        column.enabled = SESSION.running is None
        column.prop(body, "from_capture")
        if not body.from_capture:
            column.prop(body, "video")
        for name in _FIRST:
            draw_optional(column, body, name)
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.start_body", icon="PLAY")
        job = SESSION.latest_of("body")
        if job is not None:
            draw_job(layout, job)


class UNDERSTUDY_PT_body_advanced(Sidebar):
    """The other settings of a body."""

    bl_label = "Advanced"
    bl_parent_id = "UNDERSTUDY_PT_body"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the request has beyond the first settings."""
        body = context.scene.understudy.body
        layout.enabled = SESSION.running is None
        for name in _NAMES:
            if name not in _FIRST and name != "video" and not (body.from_capture and name in _CLIP[1:-1]):
                draw_optional(layout, body, name)


class UNDERSTUDY_PT_body_apply(Sidebar):
    """The body in the scene."""

    bl_label = "Apply"
    bl_parent_id = "UNDERSTUDY_PT_body"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the options, the button, and the way out."""
        options, path = context.scene.understudy.body.apply, SESSION.last_body
        column = layout.column()
        for name in _FIRST_OPTIONS:
            column.prop(options, name)
        row = layout.row()
        row.scale_y = 1.4
        text = "Apply" if path else "Apply from File..."
        button = row.operator("understudy.apply_body", icon="OUTLINER_OB_ARMATURE", text=text)
        button.filepath = str(path or "")
        exports = layout.row(align=True)
        exports.label(text="Export")
        exports.enabled = find_body(context) is not None
        for kind, label in (("FBX", "FBX"), ("GLTF", "glTF"), ("USD", "USD"), ("USDZ", "USDZ")):
            exports.operator("understudy.export_body", text=label).format = kind


class UNDERSTUDY_PT_body_options(Sidebar):
    """The other options of applying."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_body_apply"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        for name in BODY:
            if name not in _FIRST_OPTIONS:
                layout.prop(context.scene.understudy.body.apply, name)


class UNDERSTUDY_PT_body_measures(Sidebar):
    """The measures of the body in the scene."""

    bl_label = "Measures"
    bl_parent_id = "UNDERSTUDY_PT_body"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the measures, which can be changed, and what puts them into effect."""
        body = find_body(context)
        if body is None:
            layout.label(text="Apply a body first", icon="INFO")
            return
        layout.label(text=body.name, icon="OUTLINER_OB_MESH")
        column = layout.column(align=True)
        for name in MEASURES:
            if f"measure_{name}" in body:
                column.prop(body, f'["measure_{name}"]', text=f"{name.capitalize()} (m)")
        layout.operator("understudy.adjust_body", icon="CHECKMARK")
        layout.operator("understudy.fit_body", icon="BONE_DATA")


class UNDERSTUDY_PT_coaching(Sidebar):
    """A trainee beside a trainer."""

    bl_label = "Coaching"
    bl_parent_id = "UNDERSTUDY_PT_body"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw whose bodies are compared, the buttons, and the job while it runs."""
        coach = context.scene.understudy.coach
        column = layout.column()
        column.enabled = SESSION.running is None
        for item in schema.read(CoachRequest):
            draw_optional(column, coach, item.name)
        layout.operator("understudy.start_coaching", icon="PLAY")
        job = SESSION.latest_of("coach")
        if job is not None:
            draw_job(layout, job)
        layout.operator("understudy.apply_coaching", icon="ARROW_LEFTRIGHT")
        row = layout.row(align=True)
        row.label(text="Export")
        for kind, label in (("GLTF", "glTF"), ("USDZ", "USDZ")):
            row.operator("understudy.export_coaching", text=label).format = kind


PANELS = (
    UNDERSTUDY_PT_body,
    UNDERSTUDY_PT_body_advanced,
    UNDERSTUDY_PT_body_apply,
    UNDERSTUDY_PT_body_options,
    UNDERSTUDY_PT_body_measures,
    UNDERSTUDY_PT_coaching,
)
CLASSES = PANELS
