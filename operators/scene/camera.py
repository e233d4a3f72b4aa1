"""Calibrated cameras with the footage behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.core.cameras import Camera, as_brown, to_blender, turned
from ...inference.core.timing import Timing
from .action import Channel, write_action
from .armature import Placement
from .compat import turns_left

Array = np.ndarray
SIZE = "understudy_size"
PIXEL_ASPECT = "understudy_pixel_aspect_y"
DISTORTION = "understudy_distortion"
FISHEYE = "understudy_fisheye"
STEP = "understudy_step"  # number of the view, frame of its first sample, samples a frame
_IN_STEP = 0.5  # frames that a clip may drift against the scene and still be played as it is
_PADDING = 16  # codecs round sizes up to multiples of this
NAME = "understudy_name"  # what the calibration calls it; Blender's own name must be the only one of the file


@dataclass(frozen=True)
class Footage:
    """A movie behind a camera: sample 0 is its frame number `first`, from 1; `timing` is that of the keys.

    `seconds` (K,): the movie's own second at each key, where it began at another moment or has another rate.
    """

    path: Path
    first: int
    timing: Timing
    seconds: Array | None = None


def create_camera(
    camera: Camera, name: str, collection: bpy.types.Collection, placement: Placement
) -> bpy.types.Object:
    """Add one camera that projects as the calibrated one does, principal point included.

    The scene's resolution is never changed; the camera's own is kept as custom property, as are the lens
    distortion (which Blender's cameras lack) and the pixel aspect where fx and fy differ.
    """
    data = bpy.data.cameras.new(name)
    _set_lens(data, camera)
    data.display_size = 0.3 * placement.units_per_m
    data[DISTORTION] = [float(k) for k in np.ravel(camera.distortion)]
    data[FISHEYE], data[NAME] = camera.fisheye, camera.name
    item = bpy.data.objects.new(name, data)
    matrix = placement.floor_from_frame @ to_blender(camera)["matrix_world"]
    matrix[:3, 3] *= placement.units_per_m
    item.matrix_world = Matrix(matrix.tolist())
    collection.objects.link(item)
    return item


def _set_lens(data: bpy.types.Camera, camera: Camera) -> None:
    terms = to_blender(camera)
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = terms["sensor_width"]
    data.lens = terms["lens"]
    data.shift_x, data.shift_y = terms["shift_x"], terms["shift_y"]
    data[SIZE] = list(camera.size)
    data[PIXEL_ASPECT] = terms["pixel_aspect_y"]


def keep_step(item: bpy.types.Object, view: int, timing: Timing) -> None:
    """Keep with a camera which view of a capture it is, and which sample belongs to which frame."""
    frames, samples = timing.frames, timing.samples
    pace = np.ptp(samples) / np.ptp(frames) if len(frames) > 1 else 1.0
    item.data[STEP] = [float(view), float(frames[0] - samples[0] / pace), float(pace)]


def show_footage(item: bpy.types.Object, camera: Camera, footage: Footage, scene_aspect: float) -> None:
    """Put the movie behind the camera, in step with the keys.

    Where one clip frame falls on one scene frame it is a movie clip, shown without lens distortion; elsewhere a
    movie image whose offset is keyed, because Blender cannot play a clip at another speed. What a phone filmed upright
    is turned where Blender does not do that.
    """
    data = item.data
    data.show_background_images = True
    background = data.background_images.new()
    background.alpha = 1.0
    clip = bpy.data.movieclips.load(str(footage.path))  # never one of the user's own: its start is set here
    turns = turns_left(footage.path)
    camera = _as_filmed(data, camera, _swapped(clip.size, turns))
    clip_frames = footage.first + footage.timing.samples
    if footage.seconds is not None and clip.fps > 0:
        clip_frames = 1 + footage.seconds * clip.fps
    steps = clip_frames - footage.timing.frames
    if np.ptp(steps) < _IN_STEP:
        _use_clip(background, turned(camera, -turns), clip, round(float(steps.mean())))
    else:
        bpy.data.movieclips.remove(clip)
        _use_image(item, background, footage, clip_frames)
    # The calibration is relative to the width, so the picture must fill the width of the scene's frame.
    width, height = _swapped(camera.size, turns)
    background.frame_method = "FIT" if width / height >= scene_aspect else "CROP"
    background.rotation = -turns * np.pi / 2
    if turns % 2:
        background.scale = width / height


def _swapped(size: Sequence[int], turns: int) -> tuple[int, int]:
    """A size (width, height) after so many quarter turns."""
    width, height = size
    return (height, width) if turns % 2 else (width, height)


def _as_filmed(data: bpy.types.Camera, camera: Camera, size: tuple[int, int]) -> Camera:
    """Leave away the rows and columns that a codec padded the calibrated images with; they lie right and below."""
    width, height = size
    padding = np.abs(np.subtract(camera.size, (width, height)))
    if not padding.any() or padding.max() > _PADDING:
        return camera
    camera = replace(camera, size=size)
    _set_lens(data, camera)
    return camera


def _use_clip(
    background: bpy.types.CameraBackgroundImage, camera: Camera, clip: bpy.types.MovieClip, ahead: int
) -> None:
    clip.frame_start = 1 - ahead
    background.source = "MOVIE_CLIP"
    background.clip = clip
    if np.any(camera.distortion) or camera.fisheye:
        _describe_lens(clip.tracking.camera, as_brown(camera)[0])
        background.clip_user.use_render_undistorted = True


def _describe_lens(lens: bpy.types.MovieTrackingCamera, camera: Camera) -> None:
    k1, k2, p1, p2, k3 = camera.distortion
    lens.distortion_model = "BROWN"
    lens.units = "PIXELS"
    lens.focal_length_pixels = float(camera.matrix[0, 0])
    lens.pixel_aspect = float(camera.matrix[0, 0] / camera.matrix[1, 1])
    lens.principal_point_pixels = (camera.matrix[0, 2] + 0.5, camera.size[1] - camera.matrix[1, 2] - 0.5)
    lens.brown_k1, lens.brown_k2, lens.brown_k3 = float(k1), float(k2), float(k3)
    lens.brown_p1, lens.brown_p2 = float(p2), -float(p1)  # Blender's y points up, and it names them the other way


def _use_image(
    item: bpy.types.Object, background: bpy.types.CameraBackgroundImage, footage: Footage, clip_frames: Array
) -> None:
    image, timing = bpy.data.images.load(str(footage.path)), footage.timing
    background.source = "IMAGE"
    background.image = image
    frames = np.arange(np.ceil(timing.frames[0]), np.floor(timing.frames[-1]) + 1.0)
    wanted = np.round(np.interp(frames, timing.frames, clip_frames))
    user = background.image_user
    user.frame_start = 1
    user.frame_duration = int(max(wanted.max(), frames.max()))
    user.use_auto_refresh = True
    channel = Channel("background_images[0].image_user.frame_offset", wanted - frames)
    write_action(item.data, f"{item.name} footage", frames, [channel])
