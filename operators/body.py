"""Bodies of performers: from a clip to a job, from its result to objects, their measures, and out to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError, RequestError
from . import settings as scene_settings
from .base import Guarded, ToFile, file_name
from .scene.compat import PATH_OPTIONS
from .session import SESSION

RESULT = Path("artifacts", "body_parameters.npz")
MESH = "body_mesh.npz"  # beside it
SOURCE = "understudy_body"  # custom property of our bodies: where they came from
MEASURES = ("height", "chest", "waist", "hips", "inseam")
SKELETONS = tuple(item[0] for item in scene_settings.SKELETONS)
_FORMATS = (
    ("FBX", "FBX", "For game engines and other animation programs"),
    ("GLTF", "glTF", "One .glb file with skin, shape keys and motion, for engines and the web"),
    ("USD", "USD", "One .usdc file, for pipelines"),
    ("USDZ", "USDZ", "One .usdz file, which phones show in the room"),
)


class UNDERSTUDY_OT_start_body(Guarded):
    """Make a body of the person in the clip, in their own shape and motion, in a process of its own"""

    bl_idname = "understudy.start_body"
    bl_label = "Make Body"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        body = context.scene.understudy.body
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        if body.from_capture:
            return "" if SESSION.last_result else "No capture is finished yet"
        return "" if body.video or body.keypoints or body.capture else "Choose a clip first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        settings, others = context.scene.understudy.body, {}
        if settings.from_capture and SESSION.last_result is not None:
            hidden = dict.fromkeys(("video", "keypoints", "keypoints_3d", "masks"))  # in the panel, then
            others = {**hidden, "capture": str(SESSION.last_result.parents[1])}
        job = SESSION.start("body", scene_settings.body_request(settings, **others))
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The body is done: {job.folder}")
        return {"FINISHED"}


class UNDERSTUDY_OT_apply_body(scene_settings.BodyOptions, Guarded, ImportHelper):
    """Turn a finished body into a skinned mesh with armature, shape keys and motion"""

    bl_idname = "understudy.apply_body"
    bl_label = "Apply Body"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: StringProperty(default="*.npz", options={"HIDDEN"})
    filepath: StringProperty(
        name="Result", description="A body_parameters.npz or a job folder; empty for the last body",
        subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take the panel's options; ask for a file where none is given and nothing was made."""
        for name in scene_settings.BODY:
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene.understudy.body.apply, name))
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def draw(self, context: bpy.types.Context) -> None:
        """Show the options in the redo panel and beside the file browser."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in scene_settings.BODY:
            layout.prop(self, name)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create the objects."""
        options = {name: getattr(self, name) for name in scene_settings.BODY}
        made = apply_body(body_file(self.filepath), context.scene, **options)
        for note in made.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{made.body} on {made.rig} in {made.collection}")
        return {"FINISHED"}


def body_file(text: str) -> Path:
    """Find the parameters that a path means: the file, its job folder, or with no path the last body's.

    Raises:
        InputError: there are none.
    """
    path = Path(bpy.path.abspath(text)) if text else SESSION.last_body
    if path is None:
        raise InputError("No body is finished yet.", "Make one first, or choose a body_parameters.npz.")
    for candidate in (path, path / RESULT, path.parent / RESULT):
        if candidate.is_file() and candidate.suffix == ".npz":
            return candidate
    raise InputError(f"{path} holds no {RESULT.name}.", "Choose a body_parameters.npz or the folder of a finished job.")


def apply_body(path: Path, scene: bpy.types.Scene, *, take: str = "", **options: Any) -> Any:
    """Read a body and create its objects; `options` are those of `scene.body.BodyOptions`.

    Raises:
        InputError: the file is no body, or what belongs to it is missing.
    """
    from ..inference.core.artifacts import BodyMesh, BodyParameters
    from .scene.body import BodyOptions, create_body

    file = path.parent / MESH
    if not file.is_file():
        raise InputError(f"{path.parent} holds no {MESH}.", "Apply from the folder that the job made.")
    mesh, parameters = BodyMesh.load(file), BodyParameters.load(path)
    if list(mesh.header["bones"]) != list(parameters.header["bones"]):
        raise InputError(f"{MESH} and {path.name} have different bones.", "Apply from the folder that one job made.")
    made = create_body(mesh, parameters, BodyOptions(take or _take_name(parameters.header, path), **options), scene)
    for name in (made.body, made.rig):
        bpy.data.objects[name][SOURCE] = str(path)
    for camera in made.cameras:
        bpy.data.objects[camera].data[SOURCE] = str(path)
    return made


def _take_name(header: dict[str, Any], path: Path) -> str:
    source = next((str(source) for source in header.get("sources", ()) if source), "")
    folder = path.parents[1].name if path.parent.name == RESULT.parent.name else path.stem
    return (Path(source).stem if source else folder) or "Body"


def _measure(name: str) -> Any:
    return FloatProperty(
        name=f"{name} (m)", description="Metres; 0 leaves it as it is", min=0, max=3, precision=3, options={"SKIP_SAVE"}
    )


class UNDERSTUDY_OT_adjust_body(Guarded):
    """Give the body the measures that were put in, by its shape keys, and put its bones where they belong"""

    bl_idname = "understudy.adjust_body"
    bl_label = "Adjust to Measures"
    bl_options = {"REGISTER", "UNDO"}

    body: StringProperty(name="Body", description="Empty for the active one or the newest", options={"SKIP_SAVE"})
    height: _measure("Height")
    chest: _measure("Chest")
    waist: _measure("Waist")
    hips: _measure("Hips")
    inseam: _measure("Inseam")

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return _unadjustable(context)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Solve, set keys, fit bones."""
        from .scene.body import adjust_body, changed_measures

        body = _named_body(context, self.body)
        wanted = {name: getattr(self, name) for name in MEASURES if getattr(self, name) > 0}
        found = adjust_body(body, wanted or changed_measures(body))
        self.report({"INFO"}, ", ".join(f"{name} {100 * value:.1f} cm" for name, value in found.items()))
        return {"FINISHED"}


class UNDERSTUDY_OT_fit_body(Guarded):
    """Put the body's bones where its shape keys have the joints, and measure it anew"""

    bl_idname = "understudy.fit_body"
    bl_label = "Fit Bones to Shape"
    bl_options = {"REGISTER", "UNDO"}

    body: StringProperty(name="Body", description="Empty for the active one or the newest", options={"SKIP_SAVE"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return _unadjustable(context)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Fit and measure."""
        from .scene.body import fit_bones

        fit_bones(_named_body(context, self.body))
        return {"FINISHED"}


class UNDERSTUDY_OT_export_body(Guarded, ToFile):
    """Write a body with its motion for other programs"""

    bl_idname = "understudy.export_body"
    bl_label = "Export Body"

    format: EnumProperty(name="Format", description="The kind of file", items=_FORMATS)
    body: StringProperty(name="Body", description="Empty for the active one or the newest", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.fbx;*.glb;*.usdc;*.usdz", options={"HIDDEN"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if find_body(context) else "There is no body to export; apply one first"

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest the body's name."""
        body = find_body(context, self.body)
        return file_name(body.name if body else "body")

    def endings(self) -> tuple[str, ...]:
        """Give the endings of the formats, the chosen one first."""
        from .scene.export import SUFFIXES

        return SUFFIXES[self.format], *SUFFIXES.values()

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file."""
        path = export_body(_named_body(context, self.body), self.file(), self.format)
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


def export_body(body: bpy.types.Object, path: Path, kind: str) -> Path:
    """Write a body, its armature and its motion; the suffix follows `kind` (FBX, GLTF, USD, USDZ).

    Raises:
        InputError: the body has no armature, or that does not move.
        ResourceError: the file was not written.
    """
    from .scene.export import export_rig

    rig = body.find_armature()
    if rig is None:
        raise InputError(f"{body.name} has no armature.", "Undo, or apply the body again.")
    return export_rig(rig, path, kind, bpy.context.scene, meshes=True)


def read_measures(words: list[str]) -> dict[str, float]:
    """Read NAME=METRES.

    Raises:
        RequestError: it is not that.
        InputError: no body has such a measure.
    """
    from ..inference.core.body_measures import check_wanted

    found: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise RequestError(f"{word!r} is not NAME=METRES", "For example height=1.72.", field="measure") from error
    check_wanted(found)
    return found


def find_body(context: bpy.types.Context, name: str = "") -> bpy.types.Object | None:
    """Look up a body: the named one, the active one or whose armature that is, or the newest that was made."""
    item = bpy.data.objects.get(name) if name else context.active_object
    if item is not None and item.type == "ARMATURE":
        item = next((child for child in item.children if _is_body(child)), None)
    if _is_body(item):
        return item
    made = [] if name else [item for item in context.scene.objects if _is_body(item)]
    return made[-1] if made else None


def _is_body(item: bpy.types.Object | None) -> bool:
    return item is not None and item.type == "MESH" and SOURCE in item


def _named_body(context: bpy.types.Context, name: str) -> bpy.types.Object:
    body = find_body(context, name)
    if body is None:
        raise InputError(f"There is no body {name or 'in this scene'}.", "Apply one first.")
    return body


def _unadjustable(context: bpy.types.Context) -> str:
    from .scene.body import is_adjustable

    body = find_body(context)
    if body is None:
        return "There is no body; apply one first"
    return "" if is_adjustable(body) else f"{body.name} was applied without its shape parameters"


CLASSES = (
    UNDERSTUDY_OT_start_body,
    UNDERSTUDY_OT_apply_body,
    UNDERSTUDY_OT_adjust_body,
    UNDERSTUDY_OT_fit_body,
    UNDERSTUDY_OT_export_body,
)
