"""Motion: from clips to a job, from its result to an armature, and out to other programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import CollectionProperty, EnumProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError
from . import settings as scene_settings
from .base import Guarded, ToFile, chosen_files
from .scene.compat import PATH_OPTIONS
from .session import SESSION

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mts", ".mpg", ".wmv")
RESULT = Path("artifacts", "body_motion.npz")
OTHERS = "body_motion_person*.npz"  # beside it, of other people
SOURCE = "understudy_source"  # custom property of our armatures: where the motion came from
_FORMATS = (
    ("BVH", "BVH", "Skeleton and rotations as text, Y up"),
    ("FBX", "FBX", "For game engines and other animation programs"),
    ("GLTF", "glTF", "One .glb file, Y up"),
)


class UNDERSTUDY_OT_add_clips(Guarded, ImportHelper):
    """Add clips to the capture, one for each camera"""

    bl_idname = "understudy.add_clips"
    bl_label = "Add Clips"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in VIDEOS), options={"HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take what was dropped, or ask for files."""
        return self.execute(context) if self.files else ImportHelper.invoke(self, context, event)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append a view for each file."""
        paths = chosen_files(self)
        for path in paths:
            if path.suffix.lower() not in VIDEOS:
                raise InputError(f"{path.name} is not a film.", f"Known are {', '.join(VIDEOS)}.")
        motion = context.scene.understudy.motion
        for path in paths:
            motion.views.add().video = str(path)
        motion.active_view = len(motion.views) - 1
        return {"FINISHED"}


class UNDERSTUDY_OT_add_view(Guarded):
    """Add an empty view, to be given a clip or keypoints"""

    bl_idname = "understudy.add_view"
    bl_label = "Add View"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append a view."""
        motion = context.scene.understudy.motion
        motion.views.add()
        motion.active_view = len(motion.views) - 1
        return {"FINISHED"}


class UNDERSTUDY_OT_remove_view(Guarded):
    """Remove the active view from the capture; its files stay"""

    bl_idname = "understudy.remove_view"
    bl_label = "Remove View"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if context.scene.understudy.motion.views else "There is no view to remove"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Remove the active view."""
        motion = context.scene.understudy.motion
        motion.views.remove(motion.active_view)
        motion.active_view = max(0, min(motion.active_view, len(motion.views) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_start_motion(Guarded):
    """Capture the motion of the person in the clips, in a process of its own"""

    bl_idname = "understudy.start_motion"
    bl_label = "Capture Motion"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        motion = context.scene.understudy.motion
        if SESSION.running is not None:
            return "A capture is running; wait for it or cancel it"
        if not motion.views:
            return "" if motion.markers else "Add a clip first"
        if motion.markers:
            return "Remove the views, or the file of markers"
        return _lacking(motion.views)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        request = scene_settings.motion_request(context.scene.understudy.motion)
        job = SESSION.start("motion", request)
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The capture is done: {job.folder}")
        return {"FINISHED"}


def _lacking(views: Any) -> str:
    """Say which view lacks a file that it needs; nothing where none does."""
    given = [(bool(view.video), bool(view.keypoints)) for view in views]
    if not any(map(any, given)):
        return "Choose a clip or keypoints for the view"
    if (False, False) in given:
        return f"View {given.index((False, False)) + 1} has neither clip nor keypoints"
    return "" if len(set(given)) == 1 else "Give every view the same: a clip, keypoints, or both"


class UNDERSTUDY_OT_apply_motion(scene_settings.ApplyOptions, Guarded, ImportHelper):
    """Turn a finished capture into an armature with an action, and cameras with the footage"""

    bl_idname = "understudy.apply_motion"
    bl_label = "Apply Motion"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    filepath: StringProperty(
        name="Result", description="A body_motion.npz or a job folder; empty for the last capture", subtype="FILE_PATH",
        options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options; ask for a file where none is given and nothing was captured."""
        for name in scene_settings.APPLY:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.apply, name))
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel and beside the file browser."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        draw_apply_options(layout, self)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create the take."""
        options = {name: getattr(self, name) for name in scene_settings.APPLY}
        take = apply_result(result_file(self.filepath), context.scene, **options)
        for note in take.notes:
            self.report({"WARNING"}, note)
        company = f" and {len(take.others)} other(s)" if take.others else ""
        self.report({"INFO"}, f"{take.rig}{company}: {len(take.cameras)} camera(s), action {take.action}.")
        return {"FINISHED"}


def draw_apply_options(layout: bpy.types.UILayout, options: Any, names: Iterable[str] = scene_settings.APPLY) -> None:
    """Draw what both the panel and the redo panel offer."""
    for name in names:
        row = layout.row()
        row.enabled = name != "footage" or options.cameras
        row.prop(options, name)


class UNDERSTUDY_OT_export_motion(Guarded, ToFile):
    """Write an armature and its action for other programs"""

    bl_idname = "understudy.export_motion"
    bl_label = "Export Motion"

    format: EnumProperty(name="Format", description="The kind of file", items=_FORMATS)
    rig: StringProperty(name="Armature", description="Empty for the active one or the newest", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.bvh;*.fbx;*.glb", options={"HIDDEN"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        rig = find_rig(context)
        if rig is None:
            return "There is no armature to export; apply a capture first"
        has_action = rig.animation_data and rig.animation_data.action
        return "" if has_action else f"{rig.name} has no action"

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest the armature's name."""
        rig = find_rig(context, self.rig)
        return bpy.path.clean_name(rig.name if rig else "motion")

    def endings(self) -> tuple[str, ...]:
        """Give the endings of the formats, the chosen one first."""
        from .scene.export import SUFFIXES

        return SUFFIXES[self.format], *SUFFIXES.values()

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file."""
        from .scene.export import export_rig

        rig = find_rig(context, self.rig)
        if rig is None:
            raise InputError(f"There is no armature {self.rig or 'to export'}.", "Apply a capture first.")
        path = export_rig(rig, self.file(), self.format, context.scene)
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


class UNDERSTUDY_OT_use_camera(Guarded):
    """Look through the active calibrated camera and give the scene its resolution"""

    bl_idname = "understudy.use_camera"
    bl_label = "Look Through Camera"
    bl_options = {"REGISTER", "UNDO"}

    camera: StringProperty(name="Camera", description="Empty for the active object", options={"SKIP_SAVE"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if calibrated_cameras(context.scene) else "There is no calibrated camera; apply a capture first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Set camera, resolution and pixel aspect of the scene."""
        cameras = calibrated_cameras(context.scene)
        named = bpy.data.objects.get(self.camera) if self.camera else context.active_object
        use_camera(named if named in cameras else cameras[0], context.scene)
        if context.space_data and context.space_data.type == "VIEW_3D":
            context.space_data.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}


def use_camera(camera: bpy.types.Object, scene: bpy.types.Scene) -> None:
    """Render what a calibrated camera filmed, pixel for pixel."""
    from .scene.camera import PIXEL_ASPECT, SIZE

    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = camera.data[SIZE]
    scene.render.resolution_percentage = 100
    scene.render.pixel_aspect_x = max(1.0, 1.0 / camera.data[PIXEL_ASPECT])
    scene.render.pixel_aspect_y = max(1.0, camera.data[PIXEL_ASPECT])


def calibrated_cameras(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Cameras of the scene that a capture made, the newest first."""
    # `reversed` would look each object up by its number: a second in a scene of ten thousand, and panels ask this
    made = [item for item in scene.objects if item.type == "CAMERA" and "understudy_size" in item.data]
    return made[::-1]


def find_rig(context: bpy.types.Context, name: str = "") -> bpy.types.Object | None:
    """Look up an armature: the named one, the active one, or the newest that a capture made."""
    if name:
        item = bpy.data.objects.get(name)
        return item if item and item.type == "ARMATURE" else None
    active = context.active_object
    if active and active.type == "ARMATURE":
        return active
    made = [item for item in context.scene.objects if item.type == "ARMATURE" and SOURCE in item]
    return made[-1] if made else None


def result_file(text: str) -> Path:
    """Find the body motion that a path means: the file, its job folder, or with no path the last capture's.

    Raises:
        InputError: there is none.
    """
    path = Path(bpy.path.abspath(text)) if text else SESSION.last_result
    if path is None:
        raise InputError("No capture is finished yet.", "Capture a clip first, or choose a body_motion.npz.")
    for candidate in (path, path / RESULT, path.parent / RESULT):
        if candidate.is_file() and candidate.suffix == ".npz":
            return candidate
    raise InputError(f"{path} holds no {RESULT.name}.", "Choose a body_motion.npz or the folder of a finished job.")


def others_of(path: Path) -> list[Path]:
    """Body motions of the other people of a capture, given the first person's, in order."""
    if path.name != RESULT.name:
        return []
    numbered = [(found.stem.removeprefix(f"{path.stem}_person"), found) for found in path.parent.glob(OTHERS)]
    return [found for number, found in sorted((int(n), found) for n, found in numbered if n.isdecimal())]


def apply_result(path: Path, scene: bpy.types.Scene, *, take: str = "", everybody: bool = True, **options: Any) -> Any:
    """Read a body motion, and those of the other people of the capture, and create their take.

    `options` are those of `TakeOptions`.

    Raises:
        InputError: the file is not a body motion.
    """
    from ..inference.core.artifacts import BodyMotion
    from .scene.take import TakeOptions, create_take

    motion = BodyMotion.load(path)
    files = others_of(path) if everybody else []
    named = TakeOptions(name=take or _take_name(motion.header, path), **options)
    made = create_take(motion, named, scene, [BodyMotion.load(file) for file in files])
    for rig, file in zip((made.rig, *made.others), (path, *files), strict=True):
        bpy.data.objects[rig][SOURCE] = str(file)
    for camera in made.cameras:
        bpy.data.objects[camera].data[SOURCE] = str(path)
    return made


def _take_name(header: dict[str, Any], path: Path) -> str:
    source = next((str(source) for source in header.get("sources", ()) if source), "")
    folder = path.parents[1].name if path.parent.name == RESULT.parent.name else path.stem
    return (Path(source).stem if source else folder) or "Motion"


class UNDERSTUDY_FH_video(bpy.types.FileHandler):
    """Drop films into the 3D view: they become clips of the capture."""

    bl_idname = "UNDERSTUDY_FH_video"
    bl_label = "Clip to Capture"
    bl_import_operator = "understudy.add_clips"
    bl_file_extensions = ";".join(VIDEOS)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on the 3D view."""
        return bool(context.area and context.area.type == "VIEW_3D")


class UNDERSTUDY_FH_motion(bpy.types.FileHandler):
    """Drop a body motion into the 3D view: it is applied."""

    bl_idname = "UNDERSTUDY_FH_motion"
    bl_label = "Captured Motion"
    bl_import_operator = "understudy.apply_motion"
    bl_file_extensions = ".npz"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on the 3D view."""
        return bool(context.area and context.area.type == "VIEW_3D")


CLASSES = (
    UNDERSTUDY_OT_add_clips,
    UNDERSTUDY_OT_add_view,
    UNDERSTUDY_OT_remove_view,
    UNDERSTUDY_OT_start_motion,
    UNDERSTUDY_OT_apply_motion,
    UNDERSTUDY_OT_export_motion,
    UNDERSTUDY_OT_use_camera,
    UNDERSTUDY_FH_video,
    UNDERSTUDY_FH_motion,
)
