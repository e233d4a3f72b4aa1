"""The road of a face, top to bottom: film, capture, what it moves in the scene."""

from __future__ import annotations

import bpy

from ...inference.protocol import schema
from ...inference.protocol.requests import FaceRequest
from ...operators.face import UNDERSTUDY_OT_apply_face
from ...operators.session import SESSION
from ...operators.settings import FACE
from .jobs import draw_job, draw_text
from .motion import Sidebar, draw_optional

_FIRST = ("smoothing", "neutral")
_FILES = ("video", "live_link")
_NAMES = tuple(item.name for item in schema.read(FaceRequest) if None not in item.shape)
_FIRST_OPTIONS = ("head", "eyes", "strength")


class UNDERSTUDY_PT_face(Sidebar):
    """A face from a film."""

    bl_label = "Face"
    bl_order = 7
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the film, the settings used most, the button, and the job while it runs."""
        face = context.scene.understudy.face
        column = layout.column()
        column.enabled = SESSION.running is None
        for name in _FILES:
            if getattr(face, name) or not any(getattr(face, other) for other in _FILES):
                column.prop(face, name)
        for name in _FIRST:
            draw_optional(column, face, name)
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.start_face", icon="PLAY")
        job = SESSION.latest_of("face")
        if job is not None:
            draw_job(layout, job)


class UNDERSTUDY_PT_face_advanced(Sidebar):
    """The other settings of a face."""

    bl_label = "Advanced"
    bl_parent_id = "UNDERSTUDY_PT_face"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the request has beyond the first settings."""
        layout.enabled = SESSION.running is None
        for name in _NAMES:
            if name not in (*_FIRST, *_FILES):
                draw_optional(layout, context.scene.understudy.face, name)


class UNDERSTUDY_PT_face_apply(Sidebar):
    """The face on meshes and bones."""

    bl_label = "Apply"
    bl_parent_id = "UNDERSTUDY_PT_face"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the armature, the options used most, and the button."""
        face, path = context.scene.understudy.face, SESSION.last_face
        column = layout.column()
        column.prop(face, "rig")
        for name in _FIRST_OPTIONS:
            column.prop(face.apply, name)
        row = layout.row()
        row.scale_y = 1.4
        button = row.operator(
            "understudy.apply_face", icon="SHAPEKEY_DATA", text="Apply" if path else "Apply from File..."
        )
        button.filepath = str(path or "")
        reason = UNDERSTUDY_OT_apply_face.reason(context) if path else ""
        if reason:
            draw_text(layout, reason, icon="INFO", inset=3)


class UNDERSTUDY_PT_face_options(Sidebar):
    """The other options of applying."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_face_apply"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        face = context.scene.understudy.face
        for name in FACE:
            if name in _FIRST_OPTIONS:
                continue
            if name in ("head_bone", "eye_left", "eye_right") and face.rig is not None:
                layout.prop_search(face.apply, name, face.rig.data, "bones")
            else:
                layout.prop(face.apply, name)


PANELS = (UNDERSTUDY_PT_face, UNDERSTUDY_PT_face_advanced, UNDERSTUDY_PT_face_apply, UNDERSTUDY_PT_face_options)
CLASSES = PANELS
