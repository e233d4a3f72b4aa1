"""Heads: from photos to a job, from its result to objects, and out to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.props import CollectionProperty, EnumProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError
from ..inference.protocol.requests import MAX_PHOTOS, PHOTOS
from . import settings as scene_settings
from .base import Guarded, ToFile, chosen_files, file_name, preference
from .environment import output_folder
from .scene.compat import PATH_OPTIONS, shown_tab
from .session import SESSION

FILMS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
RESULT = Path("artifacts", "head_mesh.npz")
BODY = "body_mesh.npz"  # beside it, where the job made one
SOURCE = "understudy_head"  # custom property of our heads: where they came from
_FORMATS = (
    ("GLB", "glTF", "One .glb file with shape keys and textures, for engines and the web"),
    ("FBX", "FBX", "For game engines and other animation programs"),
    ("OBJ", "OBJ", "Shape and textures alone, for sculpting programs"),
    ("USD", "USD", "One .usdc file with shape keys, for pipelines"),
)


class UNDERSTUDY_OT_add_photos(Guarded, ImportHelper):
    """Add photos of one person, up to eight"""

    bl_idname = "understudy.add_photos"
    bl_label = "Add Photos"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in PHOTOS), options={"HIDDEN"})
    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take what was dropped, or ask for files."""
        return self.execute(context) if self.files else ImportHelper.invoke(self, context, event)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append an entry for each file."""
        paths, head = chosen_files(self), context.scene.understudy.head
        for path in paths:
            if path.suffix.lower() not in PHOTOS:
                raise InputError(f"{path.name} is not a photo.", "Choose a JPEG, PNG, TIFF or WebP picture.")
        _check_room(head, len(paths))
        for path in paths:
            head.photos.add().path = str(path)
        head.active_photo = len(head.photos) - 1
        return {"FINISHED"}


class UNDERSTUDY_OT_add_image(Guarded):
    """Add a picture of this .blend as a photo"""

    bl_idname = "understudy.add_image"
    bl_label = "Add Image"
    bl_options = {"REGISTER", "UNDO"}

    image: StringProperty(name="Image", description="Name of the picture", options={"SKIP_SAVE"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if any(_has_pixels(image) for image in bpy.data.images) else "This file holds no picture"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask which picture."""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the list of pictures."""
        self.layout.prop_search(self, "image", bpy.data, "images")

    def work(self, context: bpy.types.Context) -> set[str]:
        """Append an entry for the picture."""
        image, head = bpy.data.images.get(self.image), context.scene.understudy.head
        if image is None:
            raise InputError(f"There is no picture {self.image!r}.", "Choose one of the list.")
        if not _has_pixels(image):
            raise InputError(f"{image.name} holds no pixels.", "Save the render as a picture first.")
        _check_room(head, 1)
        head.photos.add().image = image
        head.active_photo = len(head.photos) - 1
        return {"FINISHED"}


def _has_pixels(image: bpy.types.Image) -> bool:
    return image.source in ("FILE", "GENERATED") and image.type not in ("RENDER_RESULT", "COMPOSITING")


def _check_room(head: Any, more: int) -> None:
    count = len(head.photos) + more
    if count > MAX_PHOTOS:
        raise InputError(f"{count} photos would be listed; at most {MAX_PHOTOS} are used.", "Remove some first.")


class UNDERSTUDY_OT_remove_photo(Guarded):
    """Remove the active photo from the list; its file stays"""

    bl_idname = "understudy.remove_photo"
    bl_label = "Remove Photo"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if context.scene.understudy.head.photos else "There is no photo to remove"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Remove the active entry."""
        head = context.scene.understudy.head
        head.photos.remove(head.active_photo)
        head.active_photo = max(0, min(head.active_photo, len(head.photos) - 1))
        return {"FINISHED"}


class UNDERSTUDY_OT_start_head(Guarded):
    """Make a head of the person in the photos, in a process of its own"""

    bl_idname = "understudy.start_head"
    bl_label = "Make Head"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        head = context.scene.understudy.head
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        if head.photos and head.video:
            return "Remove the photos, or the film"
        if not head.photos:
            return "" if head.video else "Add a photo first"
        missing = [place for place, photo in enumerate(head.photos, 1) if not photo.path and photo.image is None]
        return f"Photo {missing[0]} has no file" if missing else ""

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        head = context.scene.understudy.head
        job = SESSION.start("head", scene_settings.head_request(head, tuple(map(photo_file, head.photos))))
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The head is done: {job.folder}")
        return {"FINISHED"}


def photo_file(photo: Any) -> Path:
    """Give a listed photo's file; a picture that is only in the .blend is written beside the jobs.

    Raises:
        InputError: the picture cannot be written.
    """
    image = photo.image
    if image is None:
        return Path(bpy.path.abspath(photo.path))
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    if image.source == "FILE" and not image.packed_file and not image.is_dirty and path.is_file():
        return path
    path = output_folder() / "photos" / f"{file_name(image.name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty(len(image.pixels), np.float32)
    if not pixels.size or image.channels != 4:
        raise InputError(f"{image.name} holds no pixels.", "Choose another picture.")
    image.pixels.foreach_get(pixels)
    copy = bpy.data.images.new(path.stem, *image.size, alpha=True, float_buffer=image.is_float)  # its own edits stay
    try:
        copy.colorspace_settings.name = image.colorspace_settings.name
        copy.pixels.foreach_set(pixels)
        copy.filepath_raw, copy.file_format = str(path), "PNG"
        copy.save()
    except RuntimeError as error:
        raise InputError(f"{image.name} cannot be written as a picture: {error}", "Save it as a file first.") from error
    finally:
        bpy.data.images.remove(copy)
    return path


class UNDERSTUDY_OT_apply_head(scene_settings.HeadOptions, Guarded, ImportHelper):
    """Turn a finished head into objects with material and shape keys"""

    bl_idname = "understudy.apply_head"
    bl_label = "Apply Head"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    filepath: StringProperty(
        name="Result", description="A head_mesh.npz or a job folder; empty for the last head", subtype="FILE_PATH",
        options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options; ask for a file where none is given and nothing was made."""
        for name in scene_settings.HEAD:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.head.apply, name))
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel and beside the file browser."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in scene_settings.HEAD:
            layout.prop(self, name)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create the objects."""
        options = {name: getattr(self, name) for name in scene_settings.HEAD}
        made = apply_head(head_file(self.filepath), context.scene, **options)
        self.report({"INFO"}, f"{made.head} in {made.collection}")
        return {"FINISHED"}


def head_file(text: str) -> Path:
    """Find the clean mesh that a path means: the file, its job folder, or with no path the last head's.

    Raises:
        InputError: there is none.
    """
    path = Path(bpy.path.abspath(text)) if text else SESSION.last_head
    if path is None:
        raise InputError("No head is finished yet.", "Make one first, or choose a head_mesh.npz.")
    for candidate in (path, path / RESULT, path.parent / RESULT):
        if candidate.is_file() and candidate.suffix == ".npz":
            return candidate
    raise InputError(f"{path} holds no {RESULT.name}.", "Choose a head_mesh.npz or the folder of a finished job.")


def apply_head(path: Path, scene: bpy.types.Scene, *, take: str = "", body: bool = False, **options: Any) -> Any:
    """Read a head and create its objects; `options` are those of `scene.head.HeadOptions`.

    Raises:
        InputError: the file is no head, or what belongs to it is missing.
    """
    from ..inference.core.artifacts import HeadMesh, HeadSurface
    from .scene.head import HeadFiles, HeadOptions, create_head

    folder = path.parent
    textures = folder / "texture.png", folder / "normal.png"
    missing = [file.name for file in textures if not file.is_file()]
    if missing:
        raise InputError(f"{folder} holds no {' and no '.join(missing)}.", "Apply from the folder that the job made.")
    if body and not (folder / BODY).is_file():
        raise InputError(f"{folder} holds no {BODY}.", "Make the head with a body, or apply it without.")
    dense, portrait = folder / "head_surface.npz", folder / "portrait.png"
    files = HeadFiles(
        HeadMesh.load(folder / BODY if body else path), HeadSurface.load(dense) if dense.is_file() else None, *textures,
        portrait if portrait.is_file() else None,
    )  # fmt: skip
    made = create_head(files, HeadOptions(name=take or _take_name(path), **options), scene)
    bpy.data.objects[made.head][SOURCE] = str(path)
    return made


def _take_name(path: Path) -> str:
    """Name a head after its job, whose folder is named after the photo and the time."""
    job = SESSION.find(path.parents[1]) if len(path.parents) > 1 else None
    photos = job.asked.get("photo") if job else None
    if photos:
        return Path(photos[0]).stem
    return path.parents[1].name if path.parent.name == RESULT.parent.name else "Head"


class UNDERSTUDY_OT_export_head(Guarded, ToFile):
    """Write a head for other programs"""

    bl_idname = "understudy.export_head"
    bl_label = "Export Head"

    format: EnumProperty(name="Format", description="The kind of file", items=_FORMATS)
    head: StringProperty(name="Head", description="Empty for the active one or the newest", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.glb;*.fbx;*.obj;*.usdc", options={"HIDDEN"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if find_head(context) else "There is no head to export; apply one first"

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest the head's name."""
        head = find_head(context, self.head)
        return file_name(head.name if head else "head")

    def endings(self) -> tuple[str, ...]:
        """Give the endings of the formats, the chosen one first."""
        from .scene.export import HEAD_SUFFIXES

        return HEAD_SUFFIXES[self.format], *HEAD_SUFFIXES.values()

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file."""
        from .scene.export import export_head

        head = find_head(context, self.head)
        if head is None:
            raise InputError(f"There is no head {self.head or 'to export'}.", "Apply one first.")
        path = export_head(head, self.file(), self.format, context.scene)
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


def find_head(context: bpy.types.Context, name: str = "") -> bpy.types.Object | None:
    """Look up a head: the named one, the active one or whose part that is, or the newest that was made."""
    item = bpy.data.objects.get(name) if name else context.active_object
    if item is not None and SOURCE not in item and item.parent is not None:
        item = item.parent
    if item is not None and SOURCE in item:
        return item
    made = [] if name else [item for item in context.scene.objects if SOURCE in item]
    return made[-1] if made else None


class UNDERSTUDY_FH_photo(bpy.types.FileHandler):
    """Drop pictures into the 3D view while the tab is open: they become photos of a head."""

    bl_idname = "UNDERSTUDY_FH_photo"
    bl_label = "Photo of a Head"
    bl_import_operator = "understudy.add_photos"
    bl_file_extensions = ";".join(PHOTOS)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on a 3D view whose sidebar shows our tab: elsewhere Blender makes empties of pictures."""
        area, tab = context.area, preference("tab", "") or "Understudy"
        return bool(area and area.type == "VIEW_3D" and shown_tab(area) == tab)


CLASSES = (
    UNDERSTUDY_FH_photo,
    UNDERSTUDY_OT_add_photos,
    UNDERSTUDY_OT_add_image,
    UNDERSTUDY_OT_remove_photo,
    UNDERSTUDY_OT_start_head,
    UNDERSTUDY_OT_apply_head,
    UNDERSTUDY_OT_export_head,
)
