"""Retarget: from captures, armatures and files of motion to actions of the animator's own characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import CollectionProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError, UnderstudyError
from .base import Guarded, file_name, sentence
from .landing import LANDINGS, Landed, land, options_of
from .mapping import target_rig
from .motion import result_file
from .scene.compat import PATH_OPTIONS
from .session import SESSION
from .settings import RETARGET, RetargetOptions

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.core.rig import Performance

SUFFIXES = (".npz", ".bvh", ".fbx", ".glb", ".gltf")


class UNDERSTUDY_OT_retarget(RetargetOptions, Guarded):
    """Carry the performance over to the character: a new action, and the old one is kept"""

    bl_idname = "understudy.retarget"
    bl_label = "Retarget"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        rig = target_rig(context)
        if rig is None:
            return "Select the character's armature, or choose it in the panel"
        if context.mode == "EDIT_ARMATURE":
            return "Leave Edit Mode first"
        return _source_lacking(context, rig)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options."""
        for name in RETARGET:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.retarget, name))
        return self.execute(context)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in RETARGET:
            layout.prop(self, name)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Land every clip; one of several that cannot be landed is named and left out."""
        rig = target_rig(context)
        if rig is None:
            raise InputError("No character is chosen.", "Select its armature, or choose it in the panel.")
        performances, skipped = panel_performances(context.scene, rig)
        options, landed, failed = options_of(self), [], list(skipped)
        manager = context.window_manager
        manager.progress_begin(0, len(performances))
        try:
            for number, performance in enumerate(performances):
                manager.progress_update(number)
                take = f"{options.take} {performance.name}" if len(performances) > 1 and options.take else options.take
                try:
                    landed.append(land(rig, performance, context.scene, landing=replace(options, take=take)))
                except UnderstudyError as error:
                    if len(performances) == 1:
                        raise
                    failed.append(f"{performance.name}: {sentence(error)}")
        finally:
            manager.progress_end()
        if not landed:
            raise InputError(f"None of {len(performances)} clips could be retargeted. {failed[0]}")
        self._tell(landed, failed)
        return {"FINISHED"}

    def _tell(self, landed: list[Landed], failed: list[str]) -> None:
        for note in (*failed, *dict.fromkeys(note for item in landed for note in item.notes)):
            self.report({"WARNING"}, note)
        last = landed[-1]
        what = f"action {last.action}" if len(landed) == 1 else f"{len(landed)} actions"
        self.report({"INFO"}, f"{last.rig} ({last.recognised}): {what} in {sum(i.seconds for i in landed):.1f} s")


def _source_lacking(context: bpy.types.Context, rig: bpy.types.Object) -> str:
    """Say what the panel's source lacks; nothing where it can be used."""
    retarget = context.scene.understudy.retarget
    if retarget.source == "CAPTURE":
        return "" if SESSION.last_result else "No capture is finished yet; capture a clip or choose another source"
    if retarget.source == "FILES":
        return "" if any(item.path for item in retarget.files) else "Add a clip or a folder of clips first"
    if retarget.armature is None:
        return "Choose the armature whose motion is taken"
    if retarget.armature == rig:
        return "Source and character are the same armature"
    return ""


def find_character(name: str) -> bpy.types.Object:
    """Look up an armature by its name.

    Raises:
        InputError: there is none.
    """
    rig = bpy.data.objects.get(name)
    if rig is None or rig.type != "ARMATURE":
        known = ", ".join(item.name for item in bpy.data.objects if item.type == "ARMATURE")
        raise InputError(
            f"There is no armature {name!r}.", f"Known are {known}." if known else "The file has no armature at all."
        )
    return rig


def panel_performances(scene: bpy.types.Scene, rig: bpy.types.Object) -> tuple[list[Performance], tuple[str, ...]]:
    """Read what the panel names as the source, and say which files were left out.

    Raises:
        InputError: nothing can be read.
    """
    retarget = scene.understudy.retarget
    if retarget.source == "CAPTURE":
        return read_clips([result_file("")])
    if retarget.source == "FILES":
        return read_clips([Path(bpy.path.abspath(item.path)) for item in retarget.files if item.path])
    if retarget.armature is None:
        raise InputError("No armature is chosen as the source.", "Choose the one whose motion is taken.")
    return [_armature_performance(retarget.armature, rig)], ()


def _armature_performance(source: bpy.types.Object, rig: bpy.types.Object) -> Performance:
    from .scene.source import read_performance

    if source == rig:
        raise InputError(f"{rig.name} cannot be retargeted onto itself.", "Choose another armature as the source.")
    performance = read_performance(source)
    return replace(performance, name=performance.name or source.name)


def read_clips(paths: list[Path]) -> tuple[list[Performance], tuple[str, ...]]:
    """Read the clips of files and folders, and say which files of folders were left out.

    Raises:
        InputError: a file cannot be read, or a folder holds no clip.
    """
    from .scene.source import import_clips

    performances: list[Performance] = []
    skipped: list[str] = []
    for path in paths:
        clips = import_clips(_clip(path))
        performances += clips.performances
        skipped += clips.skipped
    return performances, tuple(skipped)


def _clip(path: Path) -> Path:
    """Give the body motion where a path is a job's folder; any other path as it is."""
    from .motion import RESULT

    return path / RESULT if (path / RESULT).is_file() else path


def retarget_result(path: Path, rig: str, scene: bpy.types.Scene) -> Landed:
    """Land a body motion on the character of that name, as the panel's options say.

    Raises:
        InputError: there is no such character, or it cannot take the motion.
    """
    from .scene.source import import_source

    return land(find_character(rig), import_source(path), scene, landing=options_of(scene.understudy.retarget))


class UNDERSTUDY_OT_add_sources(Guarded, ImportHelper):
    """Add clips or a folder of clips to be retargeted, an action for each clip"""

    bl_idname = "understudy.add_sources"
    bl_label = "Add Clips"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})
    filepath: StringProperty(name="Clip", subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS})

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append the chosen files; with none chosen, the folder."""
        retarget = context.scene.understudy.retarget
        paths = list(_chosen(self))
        for path in paths:
            if path.suffix.lower() not in SUFFIXES and not path.is_dir():
                raise InputError(f"{path.name} is no clip of motion.", f"Known are {', '.join(SUFFIXES)}, and folders.")
        for path in paths:
            retarget.files.add().path = str(path)
        retarget.source, retarget.active_file = "FILES", len(retarget.files) - 1
        return {"FINISHED"}


def _chosen(operator: Any) -> Iterator[Path]:
    names = [element.name for element in operator.files if element.name]
    if names:
        yield from (Path(operator.directory, name) for name in names)
    elif operator.filepath or operator.directory:
        yield Path(bpy.path.abspath(operator.filepath or operator.directory))
    else:
        raise InputError("No file was chosen.")


class UNDERSTUDY_OT_remove_source(Guarded):
    """Remove the active clip or folder from the list; the file stays"""

    bl_idname = "understudy.remove_source"
    bl_label = "Remove Clip"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if context.scene.understudy.retarget.files else "There is no clip to remove"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Remove the active one."""
        retarget = context.scene.understudy.retarget
        retarget.files.remove(retarget.active_file)
        retarget.active_file = max(0, min(retarget.active_file, len(retarget.files) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_reset_tuning(Guarded):
    """Put all sliders of the character back to what they were at first"""

    bl_idname = "understudy.reset_tuning"
    bl_label = "Reset Sliders"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if target_rig(context) is not None else "Select the character's armature, or choose it in the panel"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Reset them, and let the character follow once."""
        rig = target_rig(context)
        assert rig is not None
        tuning = rig.understudy.tuning
        with LANDINGS.hold():
            for name in tuning.bl_rna.properties.keys():  # noqa: SIM118 - no Python table
                tuning.property_unset(name)
        LANDINGS.follow(rig)
        return {"FINISHED"}


class UNDERSTUDY_OT_open_contacts(Guarded):
    """Open the plot of the feet in the browser: heights, speeds and contacts, before and after"""

    bl_idname = "understudy.open_contacts"
    bl_label = "Contact Plot"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if LANDINGS.of(target_rig(context)) else "Retarget the character first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the plot among the temporary files and open it."""
        landed = LANDINGS.of(target_rig(context))
        assert landed is not None
        path = Path(bpy.app.tempdir, f"{file_name(landed.action)} contacts.svg")
        path.write_text(landed.plot(), encoding="utf-8")
        if not bpy.app.background:
            bpy.ops.wm.url_open(url=path.as_uri())
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


class UNDERSTUDY_FH_sources(bpy.types.FileHandler):
    """Drop BVH into the 3D view: clips to be retargeted."""

    bl_idname = "UNDERSTUDY_FH_sources"
    bl_label = "Clip to Retarget"
    bl_import_operator = "understudy.add_sources"
    bl_file_extensions = ".bvh"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on the 3D view."""
        return bool(context.area and context.area.type == "VIEW_3D")


CLASSES = (
    UNDERSTUDY_OT_retarget,
    UNDERSTUDY_OT_add_sources,
    UNDERSTUDY_OT_remove_source,
    UNDERSTUDY_OT_reset_tuning,
    UNDERSTUDY_OT_open_contacts,
    UNDERSTUDY_FH_sources,
)
