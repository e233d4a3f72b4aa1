"""Faces: from a film to a job, from its track, or a file of a phone, to keys of meshes and bones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError
from . import settings as scene_settings
from .base import Guarded
from .scene.compat import PATH_OPTIONS
from .session import SESSION

RESULT = Path("artifacts", "face_track.npz")
PHONE = ".csv"
_MANY = 4  # names that a message lists


class UNDERSTUDY_OT_start_face(Guarded):
    """Capture the face in the film, in a process of its own"""

    bl_idname = "understudy.start_face"
    bl_label = "Capture Face"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        face = context.scene.understudy.face
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        if face.video and face.live_link:
            return "Remove the film, or the file of Live Link Face"
        return "" if face.video or face.live_link else "Choose a film first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        job = SESSION.start("face", scene_settings.face_request(context.scene.understudy.face))
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The face is done: {job.folder}")
        return {"FINISHED"}


class UNDERSTUDY_OT_apply_face(scene_settings.FaceOptions, Guarded, ImportHelper):
    """Let meshes with ARKit's shape keys, and bones of head and eyes, do what a captured face does"""

    bl_idname = "understudy.apply_face"
    bl_label = "Apply Face"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz;*.csv", options={"HIDDEN"})
    filepath: StringProperty(
        name="Result", description="A face_track.npz, a job folder or a CSV of Live Link Face; empty for the last face",
        subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        has_face = any(item.type == "MESH" and item.data.shape_keys for item in context.scene.objects)
        return "" if has_face or find_rig(context) else "No mesh has shape keys, and there is no armature"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options; ask for a file where none is given and nothing was captured."""
        for name in scene_settings.FACE:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.face.apply, name))
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel and beside the file browser."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in scene_settings.FACE:
            layout.prop(self, name)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the keys."""
        options = {name: getattr(self, name) for name in scene_settings.FACE}
        rig = find_rig(context)
        made = apply_face(face_file(self.filepath), context.scene, find_meshes(context, rig), rig, **options)
        for note in notes_of(made):
            self.report({"WARNING"}, note)
        self.report({"INFO"}, describe(made))
        return {"FINISHED"}


def face_file(text: str) -> Path:
    """Find the track that a path means: the file, its job folder, or with no path the last face's.

    Raises:
        InputError: there is none.
    """
    path = Path(bpy.path.abspath(text)) if text else SESSION.last_face
    if path is None:
        raise InputError("No face is captured yet.", "Capture one first, or choose a face_track.npz.")
    for candidate in (path, path / RESULT, path.parent / RESULT):
        if candidate.is_file() and candidate.suffix.lower() in (".npz", PHONE):
            return candidate
    raise InputError(f"{path} holds no {RESULT.name}.", "Choose a face_track.npz or the folder of a finished job.")


def apply_face(
    path: Path, scene: bpy.types.Scene, meshes: list[bpy.types.Object], rig: bpy.types.Object | None, *,
    take: str = "", **options: Any,
) -> Any:  # fmt: skip
    """Read a face and let meshes and an armature do what it does; `options` are those of `scene.face.FaceOptions`.

    Raises:
        InputError: the file is no face, or nothing can show it.
    """
    from ..inference.core.artifacts import FaceTrack
    from ..inference.core.formats.live_link import read_live_link
    from .scene.face import FaceOptions
    from .scene.face import apply_face as write

    track = read_live_link(path) if path.suffix.lower() == PHONE else FaceTrack.load(path)
    source = Path(str(track.header.get("source", ""))).stem or path.stem
    return write(track, meshes, rig, FaceOptions(name=take or f"{source} Face", **options), scene)


def find_meshes(context: bpy.types.Context, rig: bpy.types.Object | None) -> list[bpy.types.Object]:
    """Meshes that show faces: of the selection, else those that hang on the armature, else all of the scene."""
    from .scene.face import find_faces

    chosen = find_faces(context.selected_objects)
    if not chosen and rig is not None:
        chosen = find_faces(item for item in context.scene.objects if rig in (item.parent, item.find_armature()))
    return chosen or find_faces(context.scene.objects)


def find_rig(context: bpy.types.Context) -> bpy.types.Object | None:
    """The armature whose bones turn: the chosen one, the active one, or that of the active or a selected mesh."""
    chosen = context.scene.understudy.face.rig
    if chosen is not None:
        return chosen
    for item in (context.active_object, *context.selected_objects):
        if item is not None and item.type == "ARMATURE":
            return item
        if item is not None and item.type == "MESH":
            rig = item.find_armature() or (item.parent if item.parent and item.parent.type == "ARMATURE" else None)
            if rig is not None:
                return rig
    return None


def describe(made: Any) -> str:
    """What was made, in a sentence."""
    bones = f", turned: {', '.join(made.bones)}" if made.bones else ""
    return f"{made.action}: {made.keys} shape keys of {', '.join(made.meshes) or 'no mesh'}{bones}"


def notes_of(made: Any) -> list[str]:
    """What the user should know."""
    notes = list(made.notes)
    if made.missing:
        more = f" and {len(made.missing) - _MANY} more" if len(made.missing) > _MANY else ""
        notes.append(f"No mesh has {', '.join(made.missing[:_MANY])}{more}, which the face moves.")
    return notes


class UNDERSTUDY_FH_live_link(bpy.types.FileHandler):
    """Drop a CSV of Live Link Face into the 3D view: it is applied."""

    bl_idname = "UNDERSTUDY_FH_live_link"
    bl_label = "Face of a Phone"
    bl_import_operator = "understudy.apply_face"
    bl_file_extensions = PHONE

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on the 3D view."""
        return bool(context.area and context.area.type == "VIEW_3D")


CLASSES = (UNDERSTUDY_OT_start_face, UNDERSTUDY_OT_apply_face, UNDERSTUDY_FH_live_link)
