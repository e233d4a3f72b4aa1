"""The mesh route: the same driver on a head of the scene, rendered by Blender, to be compared with made frames."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import bpy
from bpy.props import IntProperty

from ..inference.protocol.errors import InputError, UnderstudyError
from ..inference.protocol.files import atomic_write_text
from ..inference.protocol.folder import JobFolder
from ..inference.protocol.requests import PHOTOS, FaceRequest, ReenactRequest
from .base import Guarded, Told, sentence
from .face import RESULT, apply_face, describe, notes_of
from .reenact import MANIFEST, apply_frames, driving_head
from .scene.datablocks import found_again
from .session import SESSION, Job

LOG = logging.getLogger("understudy")
_SHARED = ("frame_start", "match_rate", "plane", "strip", "sound", "background", "compositor")
_BESIDE = 1.1  # sides of a plane between the two routes
_NO_FILMS = ("", ".npz", *(suffix for suffix in PHOTOS if suffix != ".gif"))  # a folder's, kept poses', a picture's


class UNDERSTUDY_OT_mesh_frames(Guarded):
    """Capture the driver's face, let the head of the scene do the same, and render it under the same frame numbers"""

    bl_idname = "understudy.mesh_frames"
    bl_label = "Mesh Route"

    size: IntProperty(name="Size", description="Side of the frames", default=256, min=16, max=4096, subtype="PIXEL")

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        reenact = context.scene.understudy.reenact
        if SESSION.running is not None:
            return "A job is running; wait for it or cancel it"
        if reenact.by != "FILM" or not reenact.driver:
            return "Choose a film as driver"
        driver = Path(reenact.driver)
        if driver.suffix.lower() in _NO_FILMS:
            return f"The mesh route needs a film; choose one as driver in place of {driver.name}"
        return "" if driving_head(context) else "There is no head; apply one first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Start the capture; what follows is done once it is over, in background mode at once."""
        reenact, scene, head, size = context.scene.understudy.reenact, context.scene, driving_head(context), self.size
        if head is None:
            raise InputError("There is no head.", "Apply one first.")
        film = Path(bpy.path.abspath(reenact.driver))
        job = SESSION.start("face", face_request(film, reenact.frames, reenact.driver_face))
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
            self.report({"INFO"}, render_route(job.folder, head, scene, size))
        else:
            job.then = partial(_finish, scene.session_uid, head.session_uid, size)
        return {"FINISHED"}


def face_request(film: Path, frames: str, face: int) -> FaceRequest:
    """Ask for the face of a film's frames, named as those of a reenactment are.

    Raises:
        InputError: pictures or kept poses drive, no film.
        RequestError: the frames are no range.
    """
    if film.is_dir() or film.suffix.lower() in _NO_FILMS:
        text = f"The mesh route needs a film, and {film.name} is none."
        raise InputError(text, "Choose one as driver; pictures in a folder can be made one.")
    wanted = ReenactRequest(source=(film,), driver=film, frames=frames).frame_range() if frames else None
    first, last = wanted or (1, None)
    return FaceRequest(video=film, start=max(first - 1, 0), stop=last, face=face, overlay=False)


def _finish(scene_uid: int, head_uid: int, size: int, job: Job) -> None:
    """Go on after the capture, in the scene and with the head that it was asked for."""
    scene, head = found_again(bpy.data.scenes, scene_uid), found_again(bpy.data.objects, head_uid)
    if job.state != "done" or scene is None or head is None:
        return
    try:
        bpy.ops.ed.undo_push(message=render_route(job.folder, head, scene, size))
    except UnderstudyError as error:
        text = sentence(error)
        LOG.info("%s", text)
        bpy.context.window_manager.popup_menu(
            lambda menu, _: menu.layout.label(text=text), title="Mesh Route", icon="ERROR"
        )


def render_route(folder: Path, head: bpy.types.Object, scene: bpy.types.Scene, size: int) -> str:
    """Let a head do what was captured, render it, and show it beside what the scene shows; says what was made.

    Raises:
        UnderstudyError: the head has none of the shapes, or a frame was not written.
    """
    manifest, said = render_mesh(folder, head, scene, size)
    options = {name: getattr(scene.understudy.reenact.apply, name) for name in _SHARED}
    made = apply_frames(manifest, scene, take=f"{head.name} Mesh", **options)
    plane = bpy.data.objects.get(made.plane)
    if plane is not None:
        plane.location.x = _BESIDE * plane.dimensions.x
    return said


def render_mesh(folder: Path, head: bpy.types.Object, scene: bpy.types.Scene, size: int) -> tuple[Path, str]:
    """Put the face of a finished capture onto a head, one frame a frame, and render these beside the capture.

    Returns:
        What describes the frames, as for a reenactment, and what was animated.

    Raises:
        UnderstudyError: the head has none of the shapes, or a frame was not written.
    """
    from ..inference.core.artifacts import FaceTrack
    from .scene.head_frames import HeadFrames, render_head

    track = FaceTrack.load(folder / RESULT)
    first = _first_number(folder)
    last = first + len(track.times) - 1
    made = perform(folder / RESULT, head, scene, first)
    with Told(last - first + 1) as told:
        wishes = HeadFrames((first, last), size, transparent=True)
        files = render_head(head, (folder / MANIFEST).with_name("frames"), wishes, scene, told=told)
    manifest: dict[str, Any] = {
        "folder": "frames", "stem": "frame_", "digits": len(files[0].stem) - len("frame_"), "suffix": ".png",
        "size": size, "frames": list(range(first, last + 1)), "fps": track.fps, "start_s": float(track.times[0]),
        "times": track.times.tolist(), "driver": str(track.header.get("source", "")), "is_film": True, "unseen": [],
    }  # fmt: skip
    path = folder / MANIFEST
    atomic_write_text(path, json.dumps(manifest, indent=1, allow_nan=False))
    return path, "; ".join([describe(made), *notes_of(made)])


def perform(path: Path, head: bpy.types.Object, scene: bpy.types.Scene, first: int) -> Any:
    """Let a head, what hangs on it and the armature that it hangs on do what a face did, from a frame on.

    Raises:
        InputError: the file is no face, or the head has none of the shapes.
    """
    from .scene.face import find_faces

    rig = head.find_armature() or (head.parent if head.parent and head.parent.type == "ARMATURE" else None)
    meshes = find_faces([head, *head.children_recursive])
    return apply_face(path, scene, meshes, rig, frame_start=first, rate="FRAMES", take=f"{head.name} Face")


def _first_number(folder: Path) -> int:
    """Number, from 1, of the first frame that was read."""
    return int(JobFolder(folder).read_order().request.start) + 1


CLASSES = (UNDERSTUDY_OT_mesh_frames,)
