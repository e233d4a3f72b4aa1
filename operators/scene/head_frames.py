"""A head of the scene as frames, from the front: what drives a reenactment, and the mesh beside its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ...inference.protocol.errors import InputError, ResourceError
from .compat import eevee_name, set_movie_output
from .render import has_opengl

Array = np.ndarray
_LENS_MM = 85.0
_WIDER = 1.6  # of the picture over the head's height
_LOOKS = 9  # moments at which it is found out where the head is
_SAMPLES = 4
_GREY = (0.45, 0.45, 0.45)
_KINDS = ("objects", "cameras", "lights", "worlds", "scenes")


@dataclass(frozen=True)
class HeadFrames:
    """Which frames are rendered, and how: size px; camera: name of one of the scene's, else one before the head."""

    frames: tuple[int, int]
    size: int = 256
    camera: str = ""
    transparent: bool = False


def render_head(
    head: bpy.types.Object, folder: Path, wishes: HeadFrames, scene: bpy.types.Scene, *,
    told: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Render `frame_0001.png` and so on of a head and what hangs on it; nothing of the scene changes.

    Args:
        told: hears how many of how many frames are done.

    Raises:
        InputError: there is no such camera, or the head is hidden from renders or has no size.
        ResourceError: a frame was not written.
    """
    if head.hide_render:
        raise InputError(f"{head.name} is hidden from renders.", "Show it there in the Outliner, then try again.")
    first, last = wishes.frames
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"frame_{frame:04d}.png" for frame in range(first, last + 1)]
    with (
        _studio(head, wishes, scene) as studio,
        bpy.context.temp_override(scene=studio, view_layer=studio.view_layers[0]),
    ):
        for place, (frame, file) in enumerate(zip(range(first, last + 1), files, strict=True)):
            if told:
                told(place, len(files))
            file.unlink(missing_ok=True)
            studio.frame_set(frame)
            studio.render.filepath = str(file)
            with bpy.context.temp_override(scene=studio, view_layer=studio.view_layers[0]):  # else the user's is drawn
                bpy.ops.render.render(write_still=True)
            if not file.is_file():
                raise ResourceError(f"Frame {frame} was not written to {folder}.", "Look into the console.")
    return files


@contextmanager
def _studio(head: bpy.types.Object, wishes: HeadFrames, scene: bpy.types.Scene) -> Iterator[bpy.types.Scene]:
    """A scene with the head alone, a light and a camera, that goes away again with all that was made for it."""
    before = {kind: set(getattr(bpy.data, kind)) for kind in _KINDS}
    try:
        studio = bpy.data.scenes.new("Understudy Studio")
        for item in (head, *head.children_recursive):
            if item.type == "MESH" and not item.hide_render:
                studio.collection.objects.link(item)
        _set_up(studio, wishes, scene)
        studio.camera = _camera(studio, head, wishes, scene)
        yield studio
    finally:
        made = [item for kind in _KINDS for item in getattr(bpy.data, kind) if item not in before[kind]]
        bpy.data.batch_remove(made)


def _set_up(studio: bpy.types.Scene, wishes: HeadFrames, scene: bpy.types.Scene) -> None:
    render = studio.render
    if not bpy.app.background or has_opengl():
        render.engine = eevee_name()
        studio.eevee.taa_render_samples = _SAMPLES
    else:
        render.engine, studio.cycles.samples, studio.cycles.use_denoising = "CYCLES", _SAMPLES, False
    render.resolution_x = render.resolution_y = wishes.size
    render.resolution_percentage, render.use_persistent_data = 100, True
    render.fps, render.fps_base = scene.render.fps, scene.render.fps_base
    render.film_transparent = wishes.transparent
    studio.view_settings.view_transform = "Standard"
    set_movie_output(render.image_settings, movie=False)
    render.image_settings.color_mode = "RGBA" if wishes.transparent else "RGB"
    studio.world = bpy.data.worlds.new("Understudy Studio")
    studio.world.color = _GREY


def _camera(
    studio: bpy.types.Scene, head: bpy.types.Object, wishes: HeadFrames, scene: bpy.types.Scene
) -> bpy.types.Object:
    """The camera that is asked for, or one that sees the whole head in all frames, from where it mostly looks."""
    sun = bpy.data.objects.new("Understudy Sun", bpy.data.lights.new("Understudy Sun", "SUN"))
    sun.data.energy = 2.5
    studio.collection.objects.link(sun)
    if wishes.camera:
        camera = scene.objects.get(wishes.camera)
        if camera is None or camera.type != "CAMERA":
            raise InputError(f"There is no camera {wishes.camera!r}.", "Choose one of the scene.")
        studio.collection.objects.link(camera)
        sun.matrix_world = camera.matrix_world @ Matrix.Rotation(0.5, 4, "X")
        return camera
    camera = bpy.data.objects.new("Understudy Camera", bpy.data.cameras.new("Understudy Camera"))
    studio.collection.objects.link(camera)
    middle, front, height = _whereabouts(studio, head, wishes.frames)
    camera.data.lens, camera.data.sensor_fit = _LENS_MM, "HORIZONTAL"
    away = _WIDER * height * _LENS_MM / camera.data.sensor_width
    camera.data.clip_start, camera.data.clip_end = 0.05 * away, 10 * away
    camera.location = Vector((middle + away * front).tolist())
    camera.rotation_euler = Vector((-front).tolist()).to_track_quat("-Z", "Y").to_euler()
    studio.view_layers[0].update()
    sun.matrix_world = camera.matrix_world @ Matrix.Rotation(-0.5, 4, "X") @ Matrix.Rotation(0.3, 4, "Y")
    return camera


def _whereabouts(studio: bpy.types.Scene, head: bpy.types.Object, frames: Sequence[int]) -> tuple[Array, Array, float]:
    """Middle (3,) of the head, the direction (3,) in which it mostly looks, and its height, over the frames.

    Raises:
        InputError: it has no size.
    """
    middles, fronts, heights = [], [], []
    for frame in np.unique(np.linspace(frames[0], frames[-1], _LOOKS).round()):
        studio.frame_set(int(frame))
        item = head.evaluated_get(studio.view_layers[0].depsgraph)
        world = np.array(item.matrix_world)
        corners = np.array([corner[:] for corner in item.bound_box]) @ world[:3, :3].T + world[:3, 3]
        middles.append(0.5 * (corners.min(0) + corners.max(0)))
        fronts.append(-world[:3, 1] / max(float(np.linalg.norm(world[:3, 1])), 1e-9))
        heights.append(np.linalg.norm(world[:3, 2]) * np.ptp(np.array([corner[2] for corner in item.bound_box])))
    front, height = np.mean(fronts, 0), float(np.max(heights))
    if height <= 0 or np.linalg.norm(front) < 1e-3:
        raise InputError(f"{head.name} has no size, or turns all the way round.", "Choose a camera of the scene.")
    return np.mean(middles, 0), front / np.linalg.norm(front), height
