"""A whole rig of cameras: a calibration into the scene, and the scene's own cameras out as a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np

from ...inference.core.cameras import BlenderLens, Camera, CameraSet, from_blender
from ...inference.core.timing import place
from ...inference.protocol.errors import InputError
from .armature import Placement
from .camera import DISTORTION, FISHEYE, NAME, PIXEL_ASPECT, SIZE, Footage, create_camera, keep_step, show_footage
from .place import evaluated
from .take import all_or_nothing, scene_aspect, scene_fps, units_per_m

Array = np.ndarray
_SKEWED = 1e-4  # dot products of a camera's axes from which on it is not turned but sheared


@dataclass(frozen=True)
class Film:
    """A clip that a camera filmed: its rate, and how many frames it has."""

    path: Path
    fps: float
    frames: int


@dataclass(frozen=True)
class Rig:
    """Names of what was made."""

    collection: str
    cameras: tuple[str, ...]


def probe(path: Path) -> Film:
    """Ask Blender about a clip.

    Raises:
        InputError: it is not there, or Blender cannot play it.
    """
    if not path.is_file():
        raise InputError(f"There is no clip {path}.", "Choose it again, or create the cameras without footage.")
    clip = bpy.data.movieclips.load(str(path))
    film = Film(path, float(clip.fps), int(clip.frame_duration))
    size = tuple(clip.size)
    bpy.data.movieclips.remove(clip)
    if not min(size) or film.fps <= 0:
        raise InputError(f"Blender cannot play {path.name}.", "Create the cameras without footage.")
    return film


def create_rig(
    cameras: CameraSet, name: str, scene: bpy.types.Scene, *, films: Mapping[str, Film] | None = None, start: int = 1
) -> Rig:
    """Put a calibration into the scene as a collection of cameras: all of it or nothing.

    Args:
        films: by the name of a camera, the clip that is shown behind it, with its first frame on frame `start`.
    """
    films = films or {}
    placement = Placement(np.eye(4), units_per_m(scene))
    with all_or_nothing():
        collection = bpy.data.collections.new(name)
        scene.collection.children.link(collection)
        names = []
        for index, camera in enumerate(cameras):
            item = create_camera(camera, camera.name, collection, placement)
            names.append(item.name)
            film = films.get(camera.name)
            if film is None:
                continue
            times = np.arange(film.frames) / film.fps
            timing = place(times, scene_fps=scene_fps(scene), start=start, rate="SCENE")
            keep_step(item, index, timing)
            show_footage(item, camera, Footage(film.path, 1, timing), scene_aspect(scene))
        return Rig(collection.name, tuple(names))


def read_rig(items: Sequence[bpy.types.Object], scene: bpy.types.Scene) -> CameraSet:
    """Read cameras of Blender's as a calibration, as they stand on the present frame.

    A camera that a calibration made keeps the size and the distortion of that; any other has the size of the render.

    Raises:
        InputError: there is none, or one that is no pinhole: says which and why.
    """
    if not items:
        raise InputError("There is no camera to read.", "Add cameras, or select those that are meant.")
    cameras = [_read(item, scene) for item in items]
    names = [camera.name for camera in cameras]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise InputError(f"{names.count(twice)} cameras are called {twice}.", "Select the cameras of one calibration.")
    moving = [item.name for item in items if item.constraints or item.animation_data]
    notes = [f"{name} moves; it is taken as it stands on frame {scene.frame_current}." for name in moving]
    return CameraSet(tuple(cameras), tuple(notes))


def _read(item: bpy.types.Object, scene: bpy.types.Scene) -> Camera:
    with evaluated(item) as seen:
        return camera_of(seen, scene)


def camera_of(item: bpy.types.Object, scene: bpy.types.Scene) -> Camera:
    """Read an evaluated camera, in metres, for the picture that it was calibrated for or that the scene renders.

    Raises:
        InputError: it is no pinhole.
    """
    data = item.data
    if data.type != "PERSP":
        raise InputError(f"{item.name} is no perspective camera.", "Set its lens to Perspective.")
    matrix = np.array(item.matrix_world, float)
    _check_axes(item.name, matrix[:3, :3])
    matrix[:3, 3] /= units_per_m(scene)
    name = str(data.get(NAME, "")) or item.name
    camera = from_blender(name, lens_of(data, scene), matrix, _distortion(data))
    return replace(camera, fisheye=bool(data.get(FISHEYE, False)))


def lens_of(data: bpy.types.Camera, scene: bpy.types.Scene) -> BlenderLens:
    """Read a camera's lens, for the picture that it was calibrated for, or else for the scene's render."""
    render = scene.render
    scale = render.resolution_percentage / 100
    size = (int(render.resolution_x * scale), int(render.resolution_y * scale))
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    if SIZE in data:
        size, aspect = (int(data[SIZE][0]), int(data[SIZE][1])), float(data.get(PIXEL_ASPECT, 1.0))
    return BlenderLens(
        data.lens, (data.sensor_width, data.sensor_height), data.sensor_fit, (data.shift_x, data.shift_y), size, aspect
    )  # fmt: skip


def _check_axes(name: str, axes: Array) -> None:
    length = np.linalg.norm(axes, axis=0)
    if length.min() < 1e-9:
        raise InputError(f"{name} is scaled to nothing.", "Give it a scale of one.")
    unit = axes / length
    if np.abs(unit.T @ unit - np.eye(3)).max() > _SKEWED:
        raise InputError(f"{name} is sheared by its parent's scale.", "Clear its parent and keep the transformation.")
    if np.linalg.det(unit) < 0:
        raise InputError(f"{name} is mirrored by a negative scale.", "Give it a positive scale.")


def _distortion(data: bpy.types.Camera) -> Array | None:
    """(K,) coefficients that were kept with a camera, or those of the solved clip behind it."""
    if DISTORTION in data:
        return np.array([float(k) for k in data[DISTORTION]])
    clip = next((shown.clip for shown in data.background_images if shown.source == "MOVIE_CLIP" and shown.clip), None)
    if clip is None:
        return None
    lens = clip.tracking.camera
    if lens.distortion_model == "POLYNOMIAL":
        return np.array([lens.k1, lens.k2, 0.0, 0.0, lens.k3])
    if lens.distortion_model == "BROWN":
        return np.array([lens.brown_k1, lens.brown_k2, -lens.brown_p2, lens.brown_p1, lens.brown_k3])
    return None
