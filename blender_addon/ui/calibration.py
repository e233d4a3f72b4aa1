"""The cameras: where they come from, what is wrong with them, and how well they see what was captured."""

from __future__ import annotations

from typing import Any

import bpy

from ...operators.calibration import last_calibration
from ...operators.reprojection import OVERLAY, capture_cameras
from ...operators.session import SESSION
from .jobs import draw_job, draw_text
from .motion import Sidebar, draw_optional

_WIDE = 400  # pixels of a sidebar in which a list has room for all figures
_ICONS = {"error": "ERROR", "warning": "ERROR", "note": "INFO"}


class UNDERSTUDY_UL_cameras(bpy.types.UIList):
    """The cameras of the scene's calibration."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw a camera's name and error, and whether something is wrong with it; in a wide region size and lens."""
        is_wide = context.region.width > _WIDE * context.preferences.system.ui_scale
        row = layout.split(factor=0.4 if is_wide else 0.65)
        row.prop(item, "name", text="", emboss=False, icon=_camera_icon(data, item.name))
        figures = row.row()
        if is_wide:
            figures.label(text=_size(item))
            figures.label(text=f"{item.lens_mm:.0f} mm")
        figures.label(text=_error(item))


def _size(item: Any) -> str:
    return f"{item.size[0]}\u00d7{item.size[1]}"


def _error(item: Any) -> str:
    return "\u2013" if item.error_px < 0 else f"{item.error_px:.1f} px"


def _camera_icon(settings: Any, name: str) -> str:
    found = [item.severity for item in settings.findings if item.camera == name]
    if "error" in found or "warning" in found:
        return "ERROR"
    return "CHECKMARK" if settings.is_checked else "CAMERA_DATA"


class UNDERSTUDY_PT_calibration(Sidebar):
    """The cameras of the scene's calibration, and how they are made."""

    bl_label = "Calibration"
    bl_order = 1
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the list of cameras and what can be done with it."""
        settings = context.scene.understudy.calibration
        row = layout.row()
        row.template_list("UNDERSTUDY_UL_cameras", "", settings, "cameras", settings, "active_camera", rows=4)
        buttons = row.column(align=True)
        buttons.operator("understudy.import_calibration", text="", icon="FILE_FOLDER")
        buttons.operator("understudy.read_cameras", text="", icon="VIEW_CAMERA")
        buttons.operator("understudy.export_calibration", text="", icon="EXPORT")
        buttons.operator("understudy.clear_calibration", text="", icon="X")
        if settings.active_camera < len(settings.cameras):
            item = settings.cameras[settings.active_camera]
            text = f"{_size(item)} px, lens {item.lens_mm:.1f} mm"
            draw_text(layout, text, icon=_camera_icon(settings, item.name))
        for note in settings.notes.splitlines()[:4]:
            draw_text(layout, note, icon="INFO")
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("understudy.check_calibration", icon="VIEWZOOM")
        row.operator("understudy.refine_calibration", icon="MOD_SMOOTH")
        row = column.row(align=True)
        row.operator("understudy.create_cameras", icon="OUTLINER_OB_CAMERA")
        row.operator("understudy.use_calibration", icon="FORWARD")
        job = SESSION.latest_of("calibrate")
        if job is not None:
            draw_job(layout, job)
        made = last_calibration()
        if made is not None and settings.source != str(made.calibration):
            layout.operator("understudy.take_calibration", icon="IMPORT").folder = str(made.folder)


class UNDERSTUDY_PT_findings(Sidebar):
    """What is wrong with the cameras."""

    bl_label = "Findings"
    bl_parent_id = "UNDERSTUDY_PT_calibration"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show the panel once the cameras were checked."""
        return context.scene.understudy.calibration.is_checked

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw each finding as a sentence, with its button."""
        settings = context.scene.understudy.calibration
        if not settings.findings:
            layout.label(text="Nothing was found wrong", icon="CHECKMARK")
        last = [(found.severity == "note", index) for index, found in enumerate(settings.findings)]
        for _, index in sorted(last):
            found = settings.findings[index]
            box = layout.box().column()
            draw_text(box, found.text, icon=_ICONS.get(found.severity, "INFO"), inset=2)
            if found.change:
                draw_text(box, found.change, icon="BLANK1", inset=2)
                box.operator("understudy.fix_calibration", icon="MODIFIER").finding = index


class UNDERSTUDY_PT_calibrate(Sidebar):
    """How cameras are calibrated."""

    bl_label = "Calibrate from Clips"
    bl_parent_id = "UNDERSTUDY_PT_calibration"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what the clips show, how large it is, and the button."""
        settings = context.scene.understudy.calibration
        column = layout.column()
        column.enabled = SESSION.running is None
        column.row().prop(settings, "method", expand=True)
        if settings.method == "PEOPLE":
            _draw_scale(column, settings)
            draw_optional(column, settings, "focal_px")
        else:
            _draw_board(column, settings)
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.calibrate", icon="PLAY")


def _draw_scale(layout: bpy.types.UILayout, settings: Any) -> None:
    layout.row().prop(settings, "scale", expand=True)
    if settings.scale == "HEIGHT":
        draw_optional(layout, settings, "height_m")
        return
    for name in ("distance_from", "distance_to", "distance_m"):
        layout.prop(settings, name)


def _draw_board(layout: bpy.types.UILayout, settings: Any) -> None:
    layout.row().prop(settings, "board_kind", expand=True)
    column = layout.column(align=True)
    column.prop(settings, "board_columns")
    column.prop(settings, "board_rows")
    layout.prop(settings, "board_square_m")
    if settings.board_kind == "charuco":
        layout.prop(settings, "board_marker_m")
        layout.prop(settings, "board_dictionary")


class UNDERSTUDY_PT_reprojection(Sidebar):
    """What is drawn over the footage."""

    bl_label = "Reprojection"
    bl_parent_id = "UNDERSTUDY_PT_calibration"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the switch, how it is drawn, and the mean error of each camera."""
        scene = context.scene
        layout.operator("understudy.show_reprojection", icon="OVERLAY", depress=OVERLAY.is_shown)
        if OVERLAY.message:
            draw_text(layout, OVERLAY.message, icon="ERROR")
        if not OVERLAY.is_shown:
            return
        settings = scene.understudy.reprojection
        layout.prop(settings, "limit_px")
        layout.prop(settings, "hands")
        camera = scene.camera
        if camera not in capture_cameras(scene):
            draw_text(layout, "Look through a camera of a capture to see it.", icon="INFO")
            return
        for shown in camera.data.background_images:
            if shown.source == "MOVIE_CLIP":
                layout.prop(shown.clip_user, "use_render_undistorted", text="Undistorted Footage")
        column = layout.column(align=True)
        for name, mean in OVERLAY.means_px(camera):
            row = column.split(factor=0.6)
            row.label(text=name, icon="CAMERA_DATA")
            row.label(text=f"{mean:.1f} px")


PANELS = (
    UNDERSTUDY_PT_calibration,
    UNDERSTUDY_PT_findings,
    UNDERSTUDY_PT_calibrate,
    UNDERSTUDY_PT_reprojection,
)
CLASSES = (UNDERSTUDY_UL_cameras, *PANELS)
