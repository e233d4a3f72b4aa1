"""What the user can do with a mapping: detect, pick bones, keep, share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError
from .base import Guarded, ToFile, file_name
from .mapping import (
    active_row,
    add_row,
    count_roles,
    find_mapping,
    fit,
    preset_folder,
    presets,
    recognise,
    set_chain,
    store,
    stored_mapping,
    target_rig,
)  # fmt: skip
from .scene.compat import PATH_OPTIONS

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.core.rig import Mapping


def character(context: bpy.types.Context) -> bpy.types.Object:
    """Give the armature that is to move.

    Raises:
        InputError: there is none.
    """
    rig = target_rig(context)
    if rig is None:
        raise InputError("No character is chosen.", "Select its armature, or choose it in the panel.")
    return rig


class _OfCharacter(Guarded):
    """Base of operators on the mapping of the character that is to move."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        rig = target_rig(context)
        if rig is None:
            return "Select the character's armature, or choose it in the panel"
        return f"{rig.name} is linked; make a library override of it first" if rig.library else ""


class _OfRow(_OfCharacter):
    """Base of operators on the active row of the mapping."""

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        lacking = super().reason(context)
        if lacking:
            return lacking
        return "" if active_row(target_rig(context)) is not None else "Detect the mapping first"


class UNDERSTUDY_OT_detect_mapping(_OfCharacter):
    """Find out which bones of the character do what; what was mapped by hand is replaced"""

    bl_idname = "understudy.detect_mapping"
    bl_label = "Detect Mapping"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Look at the bones and keep what was found."""
        rig = character(context)
        match = recognise(rig)
        store(rig, match.mapping)
        _warn_of_override(self, rig)
        for note in match.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{rig.name}: {count_roles(match.mapping.name, match.mapping.bones)}")
        return {"FINISHED"}


class UNDERSTUDY_OT_forget_mapping(_OfRow):
    """Forget the mapping of the character; it is recognised anew when it is needed"""

    bl_idname = "understudy.forget_mapping"
    bl_label = "Forget Mapping"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Remove all rows."""
        kept = character(context).understudy
        kept.bones.clear()
        kept.mapping = kept.controls = ""
        return {"FINISHED"}


class UNDERSTUDY_OT_pick_bone(_OfRow):
    """Take the selected bone of the viewport for the active role; several become a chain from the root outwards"""

    bl_idname = "understudy.pick_bone"
    bl_label = "Pick Bone"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        lacking = super().reason(context)
        if lacking:
            return lacking
        rig = character(context)
        return "" if _picked(context, rig) else f"Select a bone of {rig.name} in Pose Mode"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Put the bone, or the chain, into the role and go on to the next row."""
        rig = character(context)
        kept, bones = rig.understudy, _picked(context, rig)
        row = active_row(rig)
        if len(bones) == 1:
            row.bone = bones[0]
        else:
            set_chain(rig, row.role, bones)
        kept.active_bone = min(kept.active_bone + 1, len(kept.bones) - 1)
        return {"FINISHED"}


def _picked(context: bpy.types.Context, rig: bpy.types.Object) -> list[str]:
    """Names of the bones of a rig that are selected in pose mode, from the root outwards; else the active one."""
    selected = [bone for bone in context.selected_pose_bones or () if bone.id_data == rig]
    if not selected and context.active_pose_bone is not None and context.active_pose_bone.id_data == rig:
        selected = [context.active_pose_bone]
    return [bone.name for bone in sorted(selected, key=lambda bone: len(bone.parent_recursive))]


class UNDERSTUDY_OT_add_bone(_OfRow):
    """Add a bone to the chain of the active role"""

    bl_idname = "understudy.add_bone"
    bl_label = "Add Bone"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Add an empty row."""
        rig = character(context)
        rig.understudy.active_bone = add_row(rig, active_row(rig).role)
        return {"FINISHED"}


class UNDERSTUDY_OT_clear_bone(_OfRow):
    """Take the bone out of the active role, and out of the other side's where both are mapped at once"""

    bl_idname = "understudy.clear_bone"
    bl_label = "Clear Bone"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Empty the row; one of several is removed."""
        rig = character(context)
        kept, row = rig.understudy, active_row(rig)
        role = row.role
        row.bone = ""
        while len(_empty(rig, role)) and len([item for item in kept.bones if item.role == role]) > 1:
            kept.bones.remove(_empty(rig, role)[0])
        kept.active_bone = min(kept.active_bone, len(kept.bones) - 1)
        return {"FINISHED"}


def _empty(rig: bpy.types.Object, role: str) -> list[int]:
    return [index for index, row in enumerate(rig.understudy.bones) if row.role == role and not row.bone]


class UNDERSTUDY_OT_load_mapping(_OfCharacter):
    """Use this mapping for the character"""

    bl_idname = "understudy.load_mapping"
    bl_label = "Load Mapping"

    name: StringProperty(name="Name", description="Name of a preset", options={"SKIP_SAVE"})

    def work(self, context: bpy.types.Context) -> set[str]:
        """Read the preset and keep it with the character."""
        _take(self, character(context), find_mapping(self.name))
        return {"FINISHED"}


def _take(operator: Guarded, rig: bpy.types.Object, mapping: Mapping) -> None:
    """Keep a mapping with a character, with the character's own names."""
    fitted = fit(mapping, rig)
    store(rig, fitted)
    _warn_of_override(operator, rig)
    operator.report({"INFO"}, f"{rig.name}: {count_roles(fitted.name, fitted.bones)}")


def _warn_of_override(operator: Guarded, rig: bpy.types.Object) -> None:
    """Tell that Blender keeps a group with an override only where the library's own file has it, too."""
    if rig.override_library and not rig.override_library.reference.understudy.bones:
        words = "corrections last for this session; keep them as a preset, or map it in the library's own file"
        operator.report({"WARNING"}, f"{rig.name} is a library override without a mapping in its file: {words}.")


class UNDERSTUDY_OT_save_mapping(_OfRow):
    """Keep the mapping as a preset, for other characters with the same bones"""

    bl_idname = "understudy.save_mapping"
    bl_label = "Save Mapping"
    bl_options = {"REGISTER"}

    name: StringProperty(name="Name", description="Name of the preset", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the name."""
        rig = character(context)
        self.name = self.name or rig.understudy.mapping or rig.name
        return context.window_manager.invoke_props_dialog(self)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the preset's file."""
        if not self.name.strip():
            raise InputError("The preset has no name.", "Give it one.")
        path = preset_folder() / f"{file_name(self.name)}.json"
        _write(path, character(context), self.name.strip())
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


def _write(path: Path, rig: bpy.types.Object, name: str = "") -> None:
    from ..inference.core.mapping.presets import write_mapping

    mapping = stored_mapping(rig)
    if mapping is None:
        raise InputError(f"The mapping of {rig.name} is empty.", "Detect it, or map a bone first.")
    write_mapping(path, replace(mapping, name=name or mapping.name))


class UNDERSTUDY_OT_export_mapping(_OfRow, ToFile):
    """Write the mapping to a file, to be shared"""

    bl_idname = "understudy.export_mapping"
    bl_label = "Export Mapping"
    bl_options = {"REGISTER"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest the mapping's name."""
        rig = character(context)
        return file_name(rig.understudy.mapping or rig.name)

    def endings(self) -> tuple[str, ...]:
        """Give the ending of mappings."""
        return (".json",)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file."""
        path = self.file()
        _write(path, character(context))
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


class UNDERSTUDY_OT_import_mapping(_OfCharacter, ImportHelper):
    """Read a mapping from a file and use it for the character"""

    bl_idname = "understudy.import_mapping"
    bl_label = "Import Mapping"

    filename_ext = ".json"
    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS})
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def work(self, context: bpy.types.Context) -> set[str]:
        """Read the file."""
        from ..inference.core.mapping.presets import read_mapping

        _take(self, character(context), read_mapping(Path(bpy.path.abspath(self.filepath))))
        return {"FINISHED"}


class UNDERSTUDY_MT_mappings(bpy.types.Menu):
    """Mappings to choose from: the user's, then those that come along"""

    bl_idname = "UNDERSTUDY_MT_mappings"
    bl_label = "Mappings"

    def draw(self, context: bpy.types.Context) -> None:
        """List the presets, and the ways in and out."""
        layout = self.layout
        was_own = True
        for name, own in presets():
            if was_own and not own:
                layout.separator()
            was_own = own
            title = name if own else name.replace("_", " ").title()
            layout.operator("understudy.load_mapping", text=title, icon="USER" if own else "NONE").name = name
        layout.separator()
        layout.operator("understudy.save_mapping", text="Save as Preset...", icon="ADD")
        layout.operator("understudy.import_mapping", text="Import...", icon="IMPORT")
        layout.operator("understudy.export_mapping", text="Export...", icon="EXPORT")


CLASSES = (
    UNDERSTUDY_OT_detect_mapping,
    UNDERSTUDY_OT_forget_mapping,
    UNDERSTUDY_OT_pick_bone,
    UNDERSTUDY_OT_add_bone,
    UNDERSTUDY_OT_clear_bone,
    UNDERSTUDY_OT_load_mapping,
    UNDERSTUDY_OT_save_mapping,
    UNDERSTUDY_OT_export_mapping,
    UNDERSTUDY_OT_import_mapping,
    UNDERSTUDY_MT_mappings,
)
