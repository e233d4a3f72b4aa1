"""Calibration: cameras in and out of the scene's settings, and the jobs that make, refine and check them.

The scene keeps its calibration itself (`settings.UNDERSTUDY_PG_calibration`): files that were imported are never
written to, and every change is one undo step.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, RequestError, UnderstudyError
from . import settings as scene_settings
from .base import Guarded, ToFile
from .environment import user_folder
from .motion import SOURCE
from .scene.compat import PATH_OPTIONS
from .scene.datablocks import found_again
from .session import SESSION, Job, redraw

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.core.cameras import CameraSet
    from .scene.cameras import Film, Rig

_SENSOR_MM = 36.0
_FIRST_PERSON = re.compile(r"keypoints_2d(?!.*_person\d+$)")  # artifacts of others end in _person2, _person3 ...
_EMPTY = "Import or calibrate cameras first"
_BUSY = "A job is running; wait for it or cancel it"
_READABLE = "*.toml;*.json;*.yml;*.yaml;*.xml;*.xcp;*.txt;*.calib;*.pickle"
_FORMATS = (
    ("anipose", "TOML (anipose)", "One .toml file with all there is to know", ".toml"),
    ("pose2sim", "TOML (Pose2Sim)", "One .toml file with four numbers of distortion", ".toml"),
    ("caliscope", "TOML (Caliscope)", "One .toml file", ".toml"),
    ("freemocap", "TOML (FreeMoCap)", "One .toml file in millimetres", ".toml"),
    ("qualisys", "Qualisys", "One .qca.txt file", ".qca.txt"),
    ("vicon", "Vicon", "One .xcp file", ".xcp"),
    ("panoptic", "CMU Panoptic", "One .json file in centimetres", ".json"),
    ("opencv", "OpenCV", "One .yml file", ".yml"),
    ("projection", "Projection Matrices", "One .txt file", ".txt"),
    ("easymocap", "EasyMocap", "A folder with intri.yml and extri.yml", ""),
    ("ros", "ROS camera_info", "A folder with one .yaml file a camera; lenses alone", ""),
    ("biocv", "BioCV", "A folder with one .calib file a camera", ""),
)


def cameras_in(settings: Any) -> CameraSet:
    """Give the cameras that a scene's calibration holds."""
    from ..inference.core.cameras import Camera, CameraSet

    return CameraSet(
        tuple(Camera.from_header({**json.loads(item.header), "name": item.name}) for item in settings.cameras)
    )


def set_cameras(settings: Any, cameras: CameraSet, source: str) -> None:
    """Let a scene's calibration hold these cameras; what was found out about others is forgotten."""
    settings.cameras.clear()
    for camera in cameras:
        item = settings.cameras.add()
        item.name, item.header = camera.name, json.dumps(camera.to_header())
        item.size = camera.size
        item.lens_mm = float(camera.matrix[0, 0]) * _SENSOR_MM / max(camera.size[0], 1)
    settings.active_camera = 0
    settings.source, settings.notes = source, "\n".join(cameras.notes)
    settings.findings.clear()
    settings.is_checked = False


def take_findings(settings: Any, findings: Sequence[dict[str, Any]]) -> None:
    """Take in what a check found."""
    settings.findings.clear()
    for found in findings:
        item = settings.findings.add()
        for name in ("camera", "code", "severity", "text", "change"):
            setattr(item, name, str(found.get(name) or ""))
    settings.is_checked = True


def take_errors(settings: Any, folder: Path, report: dict[str, Any]) -> None:
    """Take each camera's reprojection error from a job's keypoints, or else from what it reports."""
    from .scene.residuals import POINTS, Residuals

    errors = {str(item.get("name")): item.get("reprojection_px") for item in report.get("cameras", ())}
    if (folder / "artifacts" / POINTS).is_file():
        found = Residuals.load(folder / "artifacts")
        errors.update(found.mean_by_name)
    for item in settings.cameras:
        value = errors.get(item.name)
        item.error_px = float(value) if isinstance(value, (int, float)) else -1.0


def take_job(settings: Any, folder: Path, *, calibration: Path | None = None, is_checked: bool = False) -> None:
    """Take what a finished job says of the cameras, and the cameras themselves where `calibration` names their file.

    Raises:
        UnderstudyError: its files are damaged.
    """
    if calibration is not None:
        from ..inference.core.formats.calibration import read_calibration

        set_cameras(settings, read_calibration(calibration), str(calibration))
    report = read_report(folder)
    take_errors(settings, folder, report)
    if is_checked:
        take_findings(settings, report.get("findings" if calibration is None else "left") or ())


def read_report(folder: Path) -> dict[str, Any]:
    """Read the numbers of a job; nothing where it wrote none."""
    try:
        report = schema.load_json((folder / "report.json").read_bytes())
    except (OSError, RequestError):
        return {}
    return report if isinstance(report, dict) else {}


def read_any(path: Path) -> tuple[CameraSet, str]:
    """Read a calibration, also one that no capture would take, so that it can be checked and put right.

    Returns:
        The cameras, and what is wrong with them; nothing where nothing is.
    Raises:
        UnderstudyError: no cameras can be made of it.
    """
    from ..inference.core.formats.calibration import read_calibration

    try:
        return read_calibration(path), ""
    except InputError as error:
        cameras = read_calibration(path, doubtful=True)
        return cameras, f"{error.message} Check the calibration before it is used."


def calibration_file(settings: Any) -> Path:
    """Give a file that holds the scene's calibration: where it comes from, or one of our own.

    Raises:
        UnderstudyError: it cannot be written.
    """
    from ..inference.core.formats.calibration import write_calibration

    cameras = cameras_in(settings)
    headers = [camera.to_header() for camera in cameras]
    source = Path(bpy.path.abspath(settings.source)) if settings.source else None
    if source is not None and source.exists():
        try:
            if [camera.to_header() for camera in read_any(source)[0]] == headers:
                return source
        except UnderstudyError:
            pass  # it was changed since: what the scene holds counts
    digest = hashlib.sha256(json.dumps(headers).encode()).hexdigest()[:12]
    path = user_folder("calibrations") / f"calibration_{digest}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_calibration(path, cameras)
    return path


class UNDERSTUDY_OT_import_calibration(Guarded, ImportHelper):
    """Read calibrated cameras from a file of any program that is known, or from a folder of files"""

    bl_idname = "understudy.import_calibration"
    bl_label = "Import Calibration"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".toml"
    filter_glob: StringProperty(default=_READABLE, options={"HIDDEN"})
    filepath: StringProperty(
        name="Calibration", description="A file, or a folder of files", subtype="FILE_PATH",
        options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take what was dropped, or ask for a file."""
        return self.execute(context) if self.filepath else ImportHelper.invoke(self, context, event)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Let the scene hold the cameras of the file."""
        path = Path(bpy.path.abspath(self.filepath))
        cameras, doubt = read_any(path)
        set_cameras(context.scene.understudy.calibration, cameras, str(path))
        for note in (*cameras.notes, *([doubt] if doubt else [])):
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{len(cameras)} camera(s) of {path.name}")
        return {"FINISHED"}


class _OnCameras(Guarded):
    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if context.scene.understudy.calibration.cameras else _EMPTY


class UNDERSTUDY_OT_export_calibration(_OnCameras, ToFile):
    """Write the cameras for other programs"""

    bl_idname = "understudy.export_calibration"
    bl_label = "Export Calibration"

    filter_glob: StringProperty(default=_READABLE, options={"HIDDEN"})
    format: EnumProperty(
        name="Format", description="Which program is to read it", items=[item[:3] for item in _FORMATS]
    )

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest a name."""
        return "calibration"

    def endings(self) -> tuple[str, ...]:
        """Give the endings of the formats, the chosen one first; folders have none."""
        chosen = next(item[3] for item in _FORMATS if item[0] == self.format)
        return chosen, *(item[3] for item in _FORMATS)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the file, or the folder of files."""
        from ..inference.core.formats.calibration import write_calibration

        path = self.file()
        write_calibration(path, cameras_in(context.scene.understudy.calibration), self.format)
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


class UNDERSTUDY_OT_clear_calibration(_OnCameras):
    """Let the scene hold no calibration; files and cameras in the scene stay"""

    bl_idname = "understudy.clear_calibration"
    bl_label = "Clear"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Empty the list."""
        from ..inference.core.cameras import CameraSet

        set_cameras(context.scene.understudy.calibration, CameraSet(()), "")
        return {"FINISHED"}


class UNDERSTUDY_OT_create_cameras(_OnCameras):
    """Add the calibrated cameras to the scene, in a collection, with the clips behind them"""

    bl_idname = "understudy.create_cameras"
    bl_label = "Create Cameras"
    bl_options = {"REGISTER", "UNDO"}

    footage: BoolProperty(name="Footage", description="Show each camera's clip behind it", default=True)
    frame_start: IntProperty(name="Start Frame", description="Frame of each clip's first picture", default=1)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Create the collection."""
        settings, views = context.scene.understudy.calibration, context.scene.understudy.motion.views
        clips = [Path(bpy.path.abspath(view.video)) for view in views if view.video] if self.footage else []
        rig, note = create_cameras(cameras_in(settings), clips, context.scene, settings.source, start=self.frame_start)
        if note:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{rig.collection}: {len(rig.cameras)} camera(s)")
        return {"FINISHED"}


def create_cameras(
    cameras: CameraSet, clips: Sequence[Path], scene: bpy.types.Scene, source: str = "", *, start: int = 1
) -> tuple[Rig, str]:
    """Create a calibration's cameras, with the clips behind them; those of a job know its keypoints.

    Returns:
        What was made, and what the user should know.
    Raises:
        UnderstudyError: a clip cannot be read.
    """
    from .scene.cameras import create_rig

    films, note = match_films(cameras.names, clips)
    rig = create_rig(cameras, "Cameras", scene, films=films, start=start)
    if source and (Path(source).parent / "keypoints_3d.npz").is_file():
        for name in rig.cameras:
            bpy.data.objects[name].data[SOURCE] = source
    return rig, note


def match_films(names: Sequence[str], clips: Sequence[Path]) -> tuple[dict[str, Film], str]:
    """Give each camera its clip: by name where every clip is called after a camera, else by order.

    Returns:
        The films by the cameras' names, and what the user should know.
    """
    from .scene.cameras import probe

    stems = [clip.stem for clip in clips]
    if not clips or (len(set(stems)) == len(stems) and set(stems) <= set(names)):
        return {clip.stem: probe(clip) for clip in clips}, ""
    if len(clips) != len(names):
        return {}, f"{len(clips)} clips and {len(names)} cameras: name the clips after their cameras to see them."
    return {name: probe(clip) for name, clip in zip(names, clips, strict=True)}, ""


class UNDERSTUDY_OT_read_cameras(Guarded):
    """Take the scene's own cameras, the selected ones where any are, as the calibration"""

    bl_idname = "understudy.read_cameras"
    bl_label = "From Scene Cameras"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if any(item.type == "CAMERA" for item in context.scene.objects) else "The scene has no camera"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Let the scene's calibration hold them."""
        from .scene.cameras import read_rig

        cameras = read_rig(meant_cameras(context), context.scene)
        set_cameras(context.scene.understudy.calibration, cameras, "")
        for note in cameras.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"{len(cameras)} camera(s): {', '.join(cameras.names)}")
        return {"FINISHED"}


def meant_cameras(context: bpy.types.Context) -> list[bpy.types.Object]:
    """Choose cameras of the scene: the selected, else those beside the active one, else all."""
    every = sorted((item for item in context.scene.objects if item.type == "CAMERA"), key=lambda item: item.name)
    selected = [item for item in every if item.select_get(view_layer=context.view_layer)]
    if len(selected) > 1:
        return selected
    beside = selected[0].users_collection if selected else ()
    return [item for item in every if set(item.users_collection) & set(beside)] or every


class UNDERSTUDY_OT_use_calibration(_OnCameras):
    """Let captures use these cameras"""

    bl_idname = "understudy.use_calibration"
    bl_label = "Use for Capture"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Name the calibration's file to the capture."""
        understudy = context.scene.understudy
        understudy.motion.calibration = str(calibration_file(understudy.calibration))
        self.report({"INFO"}, f"Captures use {understudy.motion.calibration}")
        return {"FINISHED"}


class _Job(Guarded):
    """Base of operators that start a job of the task `calibrate`."""

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        if SESSION.running is not None:
            return _BUSY
        return cls.lacking(context.scene.understudy)

    @classmethod
    def lacking(cls, understudy: Any) -> str:
        """Say what is missing; nothing where nothing is."""
        raise NotImplementedError

    def start(self, context: bpy.types.Context, *, is_taken: bool, **others: Any) -> set[str]:
        """Submit the job; its result is taken as one undo step where `is_taken`, else once the user asks for it."""
        understudy = context.scene.understudy
        views = understudy.motion.views
        known = seen_before([Path(bpy.path.abspath(view.video)) for view in views])
        if known and not any(view.keypoints for view in views):
            others = {"keypoints": known, **others}
        request = scene_settings.calibrate_request(understudy.calibration, views, **others)
        job = SESSION.start("calibrate", request)
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            _take(context.scene.session_uid, self.bl_label, job)
        elif is_taken:
            job.then = partial(_take, context.scene.session_uid, self.bl_label)
        return {"FINISHED"}


def _take(scene_uid: int, label: str, job: Job) -> None:
    """Take in a job that is over."""
    scene = found_again(bpy.data.scenes, scene_uid)
    if job.state != "done" or scene is None:
        return
    settings = scene.understudy.calibration
    is_check = _is_check(job)
    made = None if is_check and not job.asked.get("fix") else job.calibration
    take_job(settings, job.folder, calibration=made, is_checked=is_check)
    if not bpy.app.background:
        bpy.ops.ed.undo_push(message=label)
        redraw()


def seen_before(clips: Sequence[Path]) -> tuple[Path, ...]:
    """Find the 2D keypoints that an earlier job of this list saw in each of the clips; empty unless in all."""
    for job in SESSION.jobs:
        files = [job.folder / file for name, file in job.artifacts.items() if _FIRST_PERSON.match(name)]
        is_whole = not job.asked.get("start") and job.asked.get("fps") is None
        if job.state == "done" and is_whole and len(files) >= len(clips) > 0:
            sources = {_footage_of(path): path for path in files}
            found = [sources.get(str(clip.resolve())) for clip in clips]
            if all(found):
                return tuple(path for path in found if path)
    return ()


def _footage_of(path: Path) -> str:
    """Read which film an artifact was seen in, and nothing else of it."""
    import numpy as np

    from ..inference.core.artifacts import UNREADABLE

    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(json.loads(str(archive["header"])).get("source", ""))
    except UNREADABLE:
        return ""


class UNDERSTUDY_OT_calibrate(_Job):
    """Find out where the cameras stand and what their lenses do, from the people or the board in the clips"""

    bl_idname = "understudy.calibrate"
    bl_label = "Calibrate"

    @classmethod
    def lacking(cls, understudy: Any) -> str:
        board = understudy.calibration.method == "BOARD"
        count = sum(bool(view.video or (view.keypoints and not board)) for view in understudy.motion.views)
        if count < 2:
            return "Add the clips of at least two cameras first"
        if count < len(understudy.motion.views):
            return "Give every view a clip"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job."""
        board = context.scene.understudy.calibration.method == "BOARD"
        return self.start(context, is_taken=False, **({"keypoints": ()} if board else {}))


class UNDERSTUDY_OT_refine_calibration(_Job):
    """Move the cameras until they agree about the people in the clips; the calibration's world stays"""

    bl_idname = "understudy.refine_calibration"
    bl_label = "Refine"

    @classmethod
    def lacking(cls, understudy: Any) -> str:
        if not understudy.calibration.cameras:
            return _EMPTY
        return "" if len(understudy.motion.views) > 1 else "Add the clips of at least two cameras first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job."""
        path = calibration_file(context.scene.understudy.calibration)
        return self.start(context, is_taken=False, calibration=path, refine=True, **_SCALE_GIVEN)


class UNDERSTUDY_OT_check_calibration(_Job):
    """Look for what calibrations get wrong: units, axes, sizes, mirrored or exchanged cameras, ones that have moved"""

    bl_idname = "understudy.check_calibration"
    bl_label = "Check"

    @classmethod
    def lacking(cls, understudy: Any) -> str:
        return "" if understudy.calibration.cameras else _EMPTY

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; its findings are shown once it is done."""
        path = calibration_file(context.scene.understudy.calibration)
        return self.start(context, is_taken=True, calibration=path, check=True, **_SCALE_GIVEN)


class UNDERSTUDY_OT_fix_calibration(_Job):
    """Put this right, and before it what stands above it; then check again. The imported file stays as it is"""

    bl_idname = "understudy.fix_calibration"
    bl_label = "Fix"

    finding: IntProperty(name="Finding", description="Number of the finding, from 0", options={"SKIP_SAVE"})

    @classmethod
    def lacking(cls, understudy: Any) -> str:
        return "" if understudy.calibration.findings else "Check the calibration first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Submit the job; its cameras are taken once it is done."""
        settings = context.scene.understudy.calibration
        if not 0 <= self.finding < len(settings.findings):
            raise InputError(f"There is no finding {self.finding}.", "Check the calibration again.")
        found = settings.findings[self.finding]
        if not found.change:
            raise InputError("Nothing can put this right.", "Calibrate again.")
        above = [item for item in settings.findings[: self.finding + 1] if item.change]
        which = tuple(f"{item.code}@{item.camera}" if item.camera else item.code for item in above)
        path = calibration_file(settings)
        return self.start(
            context, is_taken=True, calibration=path, check=True, fix=True, only=which, **_SCALE_GIVEN
        )  # fmt: skip


# What a calibration that is there already does not need: its size is its own.
_SCALE_GIVEN: dict[str, Any] = {"board": "", "distance": (), "height_m": None}


class UNDERSTUDY_OT_take_calibration(Guarded):
    """Let the scene hold the cameras of a finished calibration"""

    bl_idname = "understudy.take_calibration"
    bl_label = "Take Result"
    bl_options = {"REGISTER", "UNDO"}

    folder: StringProperty(name="Job", description="The job's folder; empty for the latest", options={"SKIP_SAVE"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if last_calibration() else "No calibration is finished yet"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Take them."""
        job = SESSION.find(Path(self.folder)) if self.folder else last_calibration()
        if job is None or job.calibration is None:
            raise InputError("That job made no calibration.", "Calibrate first.")
        settings = context.scene.understudy.calibration
        take_job(settings, job.folder, calibration=job.calibration)
        self.report({"INFO"}, f"{len(settings.cameras)} camera(s) of {job.name}")
        return {"FINISHED"}


def last_calibration() -> Job | None:
    """Give the newest finished job that made a calibration."""
    jobs = (job for job in SESSION.jobs if job.task == "calibrate" and not _is_check(job))
    return next((job for job in jobs if job.calibration), None)


def _is_check(job: Job) -> bool:
    """Whether a job only looked for what is wrong, or put that right."""
    return bool(job.asked.get("check"))


class UNDERSTUDY_FH_calibration(bpy.types.FileHandler):
    """Drop a calibration into the 3D view: the scene holds its cameras."""

    bl_idname = "UNDERSTUDY_FH_calibration"
    bl_label = "Camera Calibration"
    bl_import_operator = "understudy.import_calibration"
    bl_file_extensions = ".toml;.xcp;.calib"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept drops on the 3D view."""
        return bool(context.area and context.area.type == "VIEW_3D")


CLASSES = (
    UNDERSTUDY_FH_calibration,
    UNDERSTUDY_OT_import_calibration,
    UNDERSTUDY_OT_export_calibration,
    UNDERSTUDY_OT_clear_calibration,
    UNDERSTUDY_OT_create_cameras,
    UNDERSTUDY_OT_read_cameras,
    UNDERSTUDY_OT_use_calibration,
    UNDERSTUDY_OT_calibrate,
    UNDERSTUDY_OT_refine_calibration,
    UNDERSTUDY_OT_check_calibration,
    UNDERSTUDY_OT_fix_calibration,
    UNDERSTUDY_OT_take_calibration,
)
