"""Entries in File > Import and File > Export."""

from __future__ import annotations

import bpy


def _draw_import(self: bpy.types.Menu, context: bpy.types.Context) -> None:  # noqa: ARG001
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("understudy.add_clips", text="Clips to Capture (Understudy)")
    self.layout.operator("understudy.apply_motion", text="Captured Motion (Understudy, .npz)")
    self.layout.operator("understudy.add_photos", text="Photos of a Head (Understudy)")
    self.layout.operator("understudy.apply_head", text="Head (Understudy, .npz)")
    self.layout.operator("understudy.import_calibration", text="Camera Calibration (Understudy)")


def _draw_export(self: bpy.types.Menu, context: bpy.types.Context) -> None:  # noqa: ARG001
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("understudy.export_motion", text="Motion (Understudy, .bvh/.fbx/.glb)")
    self.layout.operator("understudy.export_head", text="Head (Understudy, .glb/.fbx/.obj/.usdc)")
    self.layout.operator("understudy.export_calibration", text="Camera Calibration (Understudy)")


def add() -> None:
    """Put the entries into the menus."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)
    bpy.types.TOPBAR_MT_file_export.append(_draw_export)


def remove() -> None:
    """Take the entries out again."""
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
    bpy.types.TOPBAR_MT_file_export.remove(_draw_export)
