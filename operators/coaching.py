"""Coaching: a trainee's body beside a trainer's, from a job to the scene and out to viewers of augmented reality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty

from ..inference.protocol.errors import InputError
from . import settings as scene_settings
from .base import Guarded, ToFile, file_name
from .body import MESH
from .scene.compat import PATH_OPTIONS
from .session import SESSION

RESULT = Path("artifacts", "coaching.npz")
RIGS = "understudy_coaching"  # custom property of the trainee's body: the armatures that belong together
_FORMATS = (
    ("GLTF", "glTF", "One .glb file, for the web and for viewers of augmented reality"),
    ("USDZ", "USDZ", "One .usdz file, which phones show in the room"),
)


class UNDERSTUDY_OT_start_coaching(Guarded):
    """Hold the trainee's body against the trainer's, in a process of its own"""

    bl_idname = "understudy.start_coaching"
    bl_label = "Compare"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        coach = context.scene.understudy.coach
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        return "" if coach.trainee and coach.trainer else "Choose the finished bodies of a trainee and a trainer"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; in background mode, wait for it."""
        job = SESSION.start("coach", scene_settings.coach_request(context.scene.understudy.coach))
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, f"The comparison is done: {job.folder}")
        return {"FINISHED"}


class UNDERSTUDY_OT_apply_coaching(Guarded):
    """Put trainee and trainer into the scene, coloured by what differs"""

    bl_idname = "understudy.apply_coaching"
    bl_label = "Apply Comparison"
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(
        name="Result", description="A coaching.npz or a job folder; empty for the last comparison",
        subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip
    take: StringProperty(name="Name", description="Name of collection and bodies", default="Coaching")
    beside: FloatProperty(
        name="Beside (m)", description="How far apart the two stand; 0 for one in the other", default=0.0
    )
    marks: BoolProperty(name="Marks", description="Balls at joints that swell with the difference", default=True)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create the objects."""
        made = apply_coaching(
            coaching_file(self.filepath), context.scene, name=self.take, beside=self.beside, marks=self.marks
        )
        self.report({"INFO"}, f"{made.trainee} and {made.trainer} in {made.collection}")
        return {"FINISHED"}


def coaching_file(text: str) -> Path:
    """Find the comparison that a path means: the file, its job folder, or with no path the last one's.

    Raises:
        InputError: there is none.
    """
    last = next((job for job in SESSION.jobs if job.task == "coach" and job.state == "done"), None)
    path = Path(bpy.path.abspath(text)) if text else last.folder if last is not None else None
    if path is None:
        raise InputError("Nothing was compared yet.", "Compare two bodies first, or choose a coaching.npz.")
    for candidate in (path, path / RESULT, path.parent / RESULT):
        if candidate.is_file() and candidate.suffix == ".npz":
            return candidate
    raise InputError(f"{path} holds no {RESULT.name}.", "Choose a coaching.npz or the folder of a finished comparison.")


def apply_coaching(path: Path, scene: bpy.types.Scene, **options: Any) -> Any:
    """Read a comparison and create its objects; `options` are those of `scene.coaching.CoachingOptions`.

    Raises:
        InputError: the file is no comparison, or the trainee's body is not where it was.
    """
    from ..inference.core.artifacts import BodyMesh, BodyParameters, Coaching
    from .scene.coaching import CoachingOptions, create_coaching

    coaching = Coaching.load(path)
    trainee = Path(str(coaching.header.get("trainee", "")))
    if not trainee.is_file() or not trainee.with_name(MESH).is_file():
        raise InputError(f"The trainee's body is not at {trainee} any more.", "Compare the two again.")
    mesh, parameters = BodyMesh.load(trainee.with_name(MESH)), BodyParameters.load(trainee)
    if list(mesh.header["bones"]) != coaching.header["bones"] or len(parameters.times) != len(coaching.times):
        raise InputError(f"{trainee.name} has changed since it was compared.", "Compare the two again.")
    made = create_coaching(mesh, parameters, coaching, CoachingOptions(**options), scene)
    bpy.data.objects[made.trainee][RIGS] = [bpy.data.objects[name] for name in made.rigs]
    return made


class UNDERSTUDY_OT_export_coaching(Guarded, ToFile):
    """Write trainee, trainer and marks with their motion for viewers of augmented reality"""

    bl_idname = "understudy.export_coaching"
    bl_label = "Export Comparison"

    format: EnumProperty(name="Format", description="The kind of file", items=_FORMATS)
    filter_glob: StringProperty(default="*.glb;*.usdz", options={"HIDDEN"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if find_coaching(context) else "There is no comparison to export; apply one first"

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest the trainee's name."""
        body = find_coaching(context)
        return file_name(body.name if body else "coaching")

    def endings(self) -> tuple[str, ...]:
        """Give the endings of the formats, the chosen one first."""
        from .scene.export import SUFFIXES

        return SUFFIXES[self.format], *SUFFIXES.values()

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file."""
        body = find_coaching(context)
        if body is None:
            raise InputError("There is no comparison in this scene.", "Apply one first.")
        path = export_coaching(body, self.file(), self.format)
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


def export_coaching(body: bpy.types.Object, path: Path, kind: str) -> Path:
    """Write a comparison; the suffix follows `kind` (GLTF, USDZ).

    Raises:
        InputError: what belongs to it is gone.
        ResourceError: the file was not written.
    """
    from .scene.export import export_group

    rigs = [bpy.data.objects.get(rig) if isinstance(rig, str) else rig for rig in body[RIGS]]  # names in older files
    there = [rig for rig in rigs if rig is not None and rig.users_collection]
    whole = [rig for rig in there if rig.animation_data and rig.animation_data.action]
    if len(whole) != len(rigs):
        raise InputError(
            f"{len(rigs) - len(whole)} of {len(rigs)} armatures of {body.name} are gone.", "Apply it again."
        )
    return export_group(whole, path, kind, bpy.context.scene, [rig.animation_data.action for rig in whole])


def find_coaching(context: bpy.types.Context) -> bpy.types.Object | None:
    """The trainee's body of the active object's comparison, or of the newest."""
    item = context.active_object
    if item is not None and RIGS in item:
        return item
    made = [one for one in context.scene.objects if RIGS in one]
    return made[-1] if made else None


CLASSES = (UNDERSTUDY_OT_start_coaching, UNDERSTUDY_OT_apply_coaching, UNDERSTUDY_OT_export_coaching)
