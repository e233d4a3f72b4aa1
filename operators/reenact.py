"""Reenactment: from sources and a driver to a job, from its frames to the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import CollectionProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError, RequestError, ResourceError
from ..inference.protocol.folder import JobFolder
from ..inference.protocol.requests import ReenactRequest
from . import settings as scene_settings
from .base import Guarded, Told, chosen_files, file_name
from .environment import output_folder
from .head import FILMS, PHOTOS, find_head, photo_file
from .poses import find_poses, write_keyed_poses
from .scene.compat import PATH_OPTIONS
from .session import SESSION, Job

MANIFEST = Path("artifacts", "reenactment.json")
_MAX_SOURCES = 64


class UNDERSTUDY_OT_add_shown(Guarded, ImportHelper):
    """Add photos and films of the person to be shown"""

    bl_idname = "understudy.add_shown"
    bl_label = "Add Sources"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in PHOTOS + FILMS), options={"HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append an entry for each file."""
        paths, reenact = chosen_files(self), context.scene.understudy.reenact
        for path in paths:
            if path.suffix.lower() not in PHOTOS + FILMS:
                raise InputError(f"{path.name} is neither a photo nor a film.", "Choose another file.")
        if len(reenact.sources) + len(paths) > _MAX_SOURCES:
            raise InputError(f"At most {_MAX_SOURCES} sources are listed.", "A film gives many pictures at once.")
        for path in paths:
            reenact.sources.add().path = str(path)
        reenact.active_source = len(reenact.sources) - 1
        return {"FINISHED"}


class UNDERSTUDY_OT_remove_shown(Guarded):
    """Remove the active source from the list; its file stays"""

    bl_idname = "understudy.remove_shown"
    bl_label = "Remove Source"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if context.scene.understudy.reenact.sources else "There is no source to remove"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Remove the active entry."""
        reenact = context.scene.understudy.reenact
        reenact.sources.remove(reenact.active_source)
        reenact.active_source = max(0, min(reenact.active_source, len(reenact.sources) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_start_reenact(Guarded):
    """Make frames of the person who does what the driver does, in a process of its own"""

    bl_idname = "understudy.start_reenact"
    bl_label = "Make Frames"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        reenact = context.scene.understudy.reenact
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        if not reenact.sources:
            return "Add a photo of the person first"
        if reenact.by == "FILM" and not reenact.driver:
            return "Choose the driver's film"
        if reenact.by == "POSES" and find_poses(context) is None:
            return "There is no object that keeps poses; keep some first"
        return "" if reenact.by != "HEAD" or driving_head(context) else "There is no head; apply one first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        job = SESSION.start("reenact", panel_request(context))
        if bpy.app.background and not job.asked.get("camera"):
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The frames are done: {job.folder}")
        return {"FINISHED"}


def panel_request(context: bpy.types.Context) -> ReenactRequest:
    """Make the request of the panel; a head is rendered and poses are mixed here, before the job starts.

    Raises:
        UnderstudyError: a setting does not fit, or what drives cannot be made.
    """
    reenact, scene = context.scene.understudy.reenact, context.scene
    sources = tuple(map(photo_file, reenact.sources))
    if reenact.by == "CAMERA":
        return scene_settings.reenact_request(reenact, sources, camera=reenact.camera or "0", frames="")
    if reenact.by == "HEAD":
        head = driving_head(context)
        if head is None:
            raise InputError("There is no head that could drive.", "Apply one first.")
        folder, fps = render_driver(head, scene, frame_range(reenact.frames, scene))
        return scene_settings.reenact_request(reenact, sources, driver=folder, fps=fps, frames="")
    if reenact.by == "POSES":
        path = write_keyed_poses(find_poses(context), scene, frame_range(reenact.frames, scene))
        return scene_settings.reenact_request(reenact, sources, driver=path, frames="")
    fps = round(scene.render.fps / scene.render.fps_base, 6)
    film = Path(bpy.path.abspath(reenact.driver))
    return scene_settings.reenact_request(reenact, sources, driver=film, fps=fps if film.is_dir() else None)


def frame_range(text: str, scene: bpy.types.Scene) -> tuple[int, int]:
    """Frames of the scene that are meant; without a text, all of them.

    Raises:
        RequestError: it is no range.
    """
    wanted = ReenactRequest(source=(Path(),), driver=Path(), frames=text).frame_range() if text else None
    first, last = wanted or (scene.frame_start, scene.frame_end)
    if first < 0:
        raise RequestError(f"{first} is below 0", "Files are named after frames from 0 on.", field="frames")
    return first, last


def driving_head(context: bpy.types.Context) -> bpy.types.Object | None:
    """The head that the panel names, or the active or newest one."""
    return context.scene.understudy.reenact.head or find_head(context)


def render_driver(head: bpy.types.Object, scene: bpy.types.Scene, frames: tuple[int, int]) -> tuple[Path, float]:
    """Render a head's frames as pictures that can drive; gives their folder and rate.

    Raises:
        UnderstudyError: they cannot be rendered.
    """
    from .scene.head_frames import HeadFrames, render_head
    from .scene.take import scene_fps

    folder = _driver_folder(head.name)
    with Told(frames[1] - frames[0] + 1) as told:
        render_head(head, folder, HeadFrames(frames), scene, told=told)
    return folder, scene_fps(scene)


def _driver_folder(name: str) -> Path:
    """A folder of pictures beside the jobs; those of an earlier time are removed."""
    folder = output_folder() / "drivers" / file_name(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("frame_*.png"):
            old.unlink()
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from error
    return folder


class UNDERSTUDY_OT_stop_reenact(Guarded):
    """Stop the camera and keep the frames"""

    bl_idname = "understudy.stop_reenact"
    bl_label = "Stop Camera"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if live_job() else "No camera drives anybody"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Ask the job to end well."""
        job = live_job()
        if job is not None:
            JobFolder(job.folder).ask_to_stop()
        return {"FINISHED"}


def live_job() -> Job | None:
    """The job that a camera drives now."""
    job = SESSION.running
    return job if job is not None and job.task == "reenact" and job.asked.get("camera") else None


class UNDERSTUDY_OT_apply_frames(scene_settings.FramesOptions, Guarded, ImportHelper):
    """Put finished frames to use: a plane, strips with sound, a background, the compositor"""

    bl_idname = "understudy.apply_frames"
    bl_label = "Apply Frames"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    filepath: StringProperty(
        name="Result", description="A reenactment.json or a job folder; empty for the last frames",
        subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options; ask for a file where none is given and nothing was made."""
        for name in scene_settings.FRAMES:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.reenact.apply, name))
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel and beside the file browser."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in scene_settings.FRAMES:
            layout.prop(self, name)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create what is asked for."""
        options = {name: getattr(self, name) for name in scene_settings.FRAMES}
        made = apply_frames(manifest_file(self.filepath), context.scene, **options)
        for note in made.notes:
            self.report({"WARNING"}, note)
        words = [made.plane, *made.strips, made.clip, made.node]
        self.report({"INFO"}, f"Made {', '.join(word for word in words if word)}")
        return {"FINISHED"}


def manifest_file(text: str) -> Path:
    """Find the description of frames that a path means: the file, its job folder, or with no path the last frames'.

    Raises:
        InputError: there is none.
    """
    path = Path(bpy.path.abspath(text)) if text else SESSION.last_frames
    if path is None:
        raise InputError("No frames are finished yet.", "Make some first, or choose a reenactment.json.")
    for candidate in (path, path / MANIFEST, path / MANIFEST.name):
        if candidate.is_file() and candidate.suffix == ".json":
            return candidate
    raise InputError(f"{path} holds no {MANIFEST.name}.", "Choose one, or the folder of a finished job.")


def apply_frames(path: Path, scene: bpy.types.Scene, *, take: str = "", **options: Any) -> Any:
    """Read what is said of frames and put them into the scene; `options` are those of `scene.reenact.FrameOptions`.

    Raises:
        InputError: it is damaged, frames are gone, or nothing is to be made.
    """
    from .scene.reenact import FrameOptions, Frames, show_frames

    frames = Frames.load(path)
    return show_frames(frames, FrameOptions(name=take or _take_name(path), **options), scene)


def _take_name(path: Path) -> str:
    """Name frames after their source, else after their job."""
    job = SESSION.find(path.parents[1]) if len(path.parents) > 1 else None
    sources = job.asked.get("source") if job else None
    return Path(sources[0]).stem if sources else path.parents[1].name


CLASSES = (
    UNDERSTUDY_OT_add_shown,
    UNDERSTUDY_OT_remove_shown,
    UNDERSTUDY_OT_start_reenact,
    UNDERSTUDY_OT_stop_reenact,
    UNDERSTUDY_OT_apply_frames,
)
