"""A performance on the animator's own character: source, sliders, feet, and which bone does what."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ...inference.protocol import schema
from ...inference.protocol.retarget import RetargetSettings
from ...operators.landing import LANDINGS, Landed
from ...operators.mapping import RECOGNISER, count_roles, target_rig
from ...operators.session import SESSION
from .jobs import draw_text
from .motion import Sidebar, draw_optional

_GROUPS = {
    "body": (
        "scale", "hip_height", "arm_reach", "leg_reach", "arm_spread", "leg_spread", "spine_bend", "shoulders",
        "fingers", "twist",
    ),
    "feet": ("lock_feet", "floor"),
    "root": ("root", "root_axes", "root_turn"),
    "keys": ("fk", "ik", "mode", "reduce", "tolerance_deg", "tolerance_mm"),
}  # fmt: skip
_SLIDERS = {item.name for item in schema.read(RetargetSettings) if item.kind == "float" and item.name != "scale"}
_NEEDED = ("hips", "thigh.L", "thigh.R", "shin.L", "shin.R", "upper_arm.L", "upper_arm.R", "spine")


class UNDERSTUDY_UL_sources(bpy.types.UIList):
    """Clips and folders that are to be retargeted."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw the name of a file or folder."""
        name = os.path.basename(item.path.rstrip("/\\")) or "No clip chosen"  # noqa: PTH119 - Windows paths anywhere
        layout.label(text=name, icon="FILE" if "." in name else "FILE_FOLDER")


class UNDERSTUDY_UL_bones(bpy.types.UIList):
    """Roles of a body, and the bones that fill them."""

    def draw_item(  # noqa: PLR0913, PLR0917 - Blender's signature
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int,
        active_data: Any, active_property: str, index: int = 0, flag: int = 0,
    ) -> None:  # fmt: skip
        """Draw a role and the field of its bone; a hole shows as a sign."""
        rig = item.id_data
        row = layout.split(factor=0.33)
        row.label(text=role_name(item.role))
        field = row.row(align=True)
        field.alert = _is_wrong(item, rig)
        field.prop_search(item, "bone", rig.pose, "bones", text="", icon="ERROR" if field.alert else "NONE")


def role_name(role: str) -> str:
    """Write a role for people: `upper_arm.L` is Upper Arm L."""
    return role.replace("_", " ").replace(".", " ").title()


def _is_wrong(item: Any, rig: bpy.types.Object) -> bool:
    """Tell whether a row names a bone that is not there, or lacks one that nothing can do without."""
    return item.bone not in rig.pose.bones if item.bone else item.role in _NEEDED


class UNDERSTUDY_PT_retarget(Sidebar):
    """Step 4: the character."""

    bl_label = "Retarget"
    bl_order = 4

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw who is to move and how, the button, and how it went."""
        retarget, rig = context.scene.understudy.retarget, target_rig(context)
        layout.prop(retarget, "rig", **_placeholder(rig))
        _draw_recognised(layout, rig)
        layout.prop(retarget, "source")
        _draw_source(layout, retarget)
        row = layout.row()
        row.scale_y = 1.4
        row.operator("understudy.retarget", icon="ARMATURE_DATA")
        landed = LANDINGS.of(rig)
        if landed is not None:
            _draw_landed(layout, landed)
        if LANDINGS.trouble:
            draw_text(layout, LANDINGS.trouble, icon="ERROR")


def _placeholder(rig: bpy.types.Object | None) -> dict[str, str]:
    """Show who moves where nobody is chosen, in versions whose fields can."""
    can = "placeholder" in bpy.types.UILayout.bl_rna.functions["prop"].parameters
    return {"placeholder": rig.name if rig else "The active armature"} if can else {}


def _draw_recognised(layout: bpy.types.UILayout, rig: bpy.types.Object | None) -> None:
    """Say what the character was recognised as, or what is wrong with it."""
    if rig is None:
        layout.label(text="Select a character's armature", icon="INFO")
        return
    filled = {row.role for row in rig.understudy.bones if row.bone}
    if filled:
        layout.label(text=f"{rig.name}: {count_roles(rig.understudy.mapping or 'by hand', filled)}", icon="BONE_DATA")
        return
    known = RECOGNISER.ask(rig)
    if known is None:
        layout.label(text=f"Looking at {rig.name}...", icon="SORTTIME")
    elif known.trouble:
        draw_text(layout, known.trouble, icon="ERROR")
    else:
        draw_text(layout, f"{rig.name}: {known.text}", icon="CHECKMARK")


def _draw_source(layout: bpy.types.UILayout, retarget: Any) -> None:
    if retarget.source == "ARMATURE":
        layout.prop(retarget, "armature")
    elif retarget.source == "FILES":
        row = layout.row()
        row.template_list("UNDERSTUDY_UL_sources", "", retarget, "files", retarget, "active_file", rows=3)
        buttons = row.column(align=True)
        buttons.operator("understudy.add_sources", text="", icon="FILE_FOLDER")
        buttons.operator("understudy.remove_source", text="", icon="REMOVE")
    elif SESSION.last_result is not None:
        layout.label(text=SESSION.last_result.parents[1].name, icon="CHECKMARK")


def _draw_landed(layout: bpy.types.UILayout, landed: Landed) -> None:
    """Draw the action and the feet before and after."""
    layout.label(text=landed.action, icon="ACTION")
    if landed.before is not None and landed.after is not None:
        box = layout.box()
        box.active = landed.is_measured
        table = box.column(align=True)
        _figures(table, ("Feet", "Before", "After"))
        for name, before, after, unit in landed.figures():
            _figures(table, (name, f"{before:.1f} {unit}", f"{after:.1f} {unit}"))
        box.operator("understudy.open_contacts", icon="GRAPH")
    for note in landed.notes[:3]:
        draw_text(layout, note, icon="INFO")


def _figures(column: bpy.types.UILayout, words: tuple[str, str, str]) -> None:
    row = column.split(factor=0.4)
    row.label(text=words[0])
    rest = row.row()
    rest.alignment = "EXPAND"
    for word in words[1:]:
        rest.label(text=word)


class _Sliders(Sidebar):
    """Base of the panels of sliders."""

    group = ""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show sliders where there is a character to tune."""
        return target_rig(context) is not None

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the sliders of the group."""
        rig = target_rig(context)
        assert rig is not None
        tuning = rig.understudy.tuning
        column = layout.column()
        for name in _GROUPS[self.group]:
            row = column.row()
            row.active = _matters(tuning, name)
            if name in _SLIDERS:
                row.prop(tuning, name, slider=True)
            else:
                draw_optional(row, tuning, name)


def _matters(tuning: Any, name: str) -> bool:
    """Tell whether a setting has any effect beside the others."""
    if name == "root_axes":
        return tuning.root != "hips"
    return tuning.reduce if name.startswith("tolerance") else True


class UNDERSTUDY_PT_retarget_body(_Sliders):
    """How the body is carried over."""

    bl_label = "Body"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    group = "body"

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the sliders, and the way back."""
        super().contents(layout, context)
        layout.operator("understudy.reset_tuning", icon="LOOP_BACK")


class UNDERSTUDY_PT_retarget_feet(_Sliders):
    """How feet stand."""

    bl_label = "Feet"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    group = "feet"


class UNDERSTUDY_PT_retarget_root(_Sliders):
    """Where the travelling goes."""

    bl_label = "Root Motion"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}
    group = "root"


class UNDERSTUDY_PT_retarget_keys(_Sliders):
    """Which keys are set."""

    bl_label = "Keys"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}
    group = "keys"


class UNDERSTUDY_PT_retarget_mapping(Sidebar):
    """Which bone does what."""

    bl_label = "Mapping"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show it where there is a character."""
        return target_rig(context) is not None

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw the roles and their bones, and what can be done with them."""
        rig = target_rig(context)
        assert rig is not None
        row = layout.row(align=True)
        row.operator("understudy.detect_mapping", text="Detect", icon="VIEWZOOM")
        row.menu("UNDERSTUDY_MT_mappings", text="Presets", icon="PRESET")
        kept = rig.understudy
        if not kept.bones:
            draw_text(layout, "Detect it to see and correct which bone does what.")
            return
        layout.template_list("UNDERSTUDY_UL_bones", "", kept, "bones", kept, "active_bone", rows=10)
        row = layout.row(align=True)
        row.operator("understudy.pick_bone", text="Pick", icon="EYEDROPPER")
        row.operator("understudy.add_bone", text="", icon="ADD")
        row.operator("understudy.clear_bone", text="", icon="REMOVE")
        row.operator("understudy.forget_mapping", text="", icon="TRASH")
        row.use_property_split = False
        row.prop(context.scene.understudy.retarget, "mirror", text="Mirror", toggle=True, icon="MOD_MIRROR")


class UNDERSTUDY_PT_retarget_options(Sidebar):
    """What becomes of the action."""

    bl_label = "Options"
    bl_parent_id = "UNDERSTUDY_PT_retarget"
    bl_options = {"DEFAULT_CLOSED"}

    def contents(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        """Draw what is changed seldom."""
        retarget = context.scene.understudy.retarget
        for name in ("take", "rate", "frame_start", "stash", "asset"):
            layout.prop(retarget, name)


PANELS = (
    UNDERSTUDY_PT_retarget,
    UNDERSTUDY_PT_retarget_body,
    UNDERSTUDY_PT_retarget_feet,
    UNDERSTUDY_PT_retarget_root,
    UNDERSTUDY_PT_retarget_keys,
    UNDERSTUDY_PT_retarget_mapping,
    UNDERSTUDY_PT_retarget_options,
)
CLASSES = (UNDERSTUDY_UL_sources, UNDERSTUDY_UL_bones, *PANELS)
