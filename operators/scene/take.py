"""A finished capture in the scene: one collection with the armature, its action, and the cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import bpy
import numpy as np

from ...inference.core.artifacts import BodyMotion
from ...inference.core.cameras import Camera
from ...inference.core.timing import Rate, Timing, place, uneven_s
from . import armature
from .armature import Placement
from .camera import Footage, create_camera, keep_step, show_footage

Array = np.ndarray
_COLLECTIONS = (
    "objects", "armatures", "cameras", "meshes", "actions", "collections", "materials", "images", "movieclips",
    "scenes",
)  # fmt: skip


@dataclass(frozen=True)
class TakeOptions:
    """What the redo panel offers."""

    name: str
    frame_start: int = 1
    rate: Rate = "SCENE"
    raw: bool = False
    cameras: bool = True
    footage: bool = True
    colours: bool = True


@dataclass(frozen=True)
class Take:
    """Names of what was made (datablocks do not survive an undo), and what the user should know."""

    collection: str
    rig: str
    action: str
    cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    others: tuple[str, ...] = ()  # armatures of other people


def create_take(
    motion: BodyMotion, options: TakeOptions, scene: bpy.types.Scene, others: Sequence[BodyMotion] = ()
) -> Take:
    """Put a motion into the scene, and those of other people beside it: all of it or nothing.

    Selection, mode, frame, frame rate, resolution and every existing datablock stay as they are.
    """
    placement = Placement(armature.floor_from_frame(motion.header), units_per_m(scene))
    timing = place(motion.times, scene_fps=scene_fps(scene), start=options.frame_start, rate=options.rate)
    with all_or_nothing():
        collection = bpy.data.collections.new(options.name)
        scene.collection.children.link(collection)
        rig = _create_rig(motion, options, collection, placement, timing)
        company = [
            _create_other(other, number, motion, options, (collection, scene)) for number, other in enumerate(others, 2)
        ]
        notes = _rate_notes(motion, scene, timing)
        take = Take(collection.name, rig.name, rig.animation_data.action.name, notes=notes, others=tuple(company))
        return _add_cameras(take, motion, options, scene, timing) if options.cameras else take


def _create_rig(
    motion: BodyMotion, options: TakeOptions, collection: bpy.types.Collection, placement: Placement, timing: Timing
) -> bpy.types.Object:
    rig = armature.create_armature(motion, options.name, collection, placement)
    armature.animate(rig, motion, timing, placement, raw=options.raw)
    if options.colours:
        armature.colour_by_confidence(rig, motion.header["bones"], motion.bone_confidence)
    return rig


def _create_other(
    other: BodyMotion, number: int, first: BodyMotion, options: TakeOptions,
    where: tuple[bpy.types.Collection, bpy.types.Scene],
) -> str:  # fmt: skip
    """Create the armature of somebody else, who may come later than the first person."""
    collection, scene = where
    placement = Placement(armature.floor_from_frame(other.header), units_per_m(scene))
    fps = scene_fps(scene)
    rate = first.fps if options.rate == "FRAMES" else fps
    start = options.frame_start + float(other.times[0] - first.times[0]) * rate
    timing = place(other.times, scene_fps=fps, start=round(start, 3), rate=options.rate)
    named = replace(options, name=f"{options.name} Person {number}")
    return _create_rig(other, named, collection, placement, timing).name


def scene_fps(scene: bpy.types.Scene) -> float:
    """Frames per second, the base included."""
    return scene.render.fps / scene.render.fps_base


def units_per_m(scene: bpy.types.Scene) -> float:
    """Blender units in a metre."""
    units = scene.unit_settings
    return 1.0 if units.system == "NONE" else 1.0 / units.scale_length


def scene_aspect(scene: bpy.types.Scene) -> float:
    """Width by height of the rendered picture."""
    render = scene.render
    return (render.resolution_x * render.pixel_aspect_x) / (render.resolution_y * render.pixel_aspect_y)


def _rate_notes(motion: BodyMotion, scene: bpy.types.Scene, timing: Timing) -> tuple[str, ...]:
    if not timing.resampled:
        return ()
    return (f"The clip's {motion.fps:.4g} frames a second were resampled to the scene's {scene_fps(scene):.4g}.",)


def _add_cameras(take: Take, motion: BodyMotion, options: TakeOptions, scene: bpy.types.Scene, timing: Timing) -> Take:
    placement = Placement(armature.floor_from_frame(motion.header), units_per_m(scene))
    cameras = [Camera.from_header(header) for header in motion.header.get("cameras", ())]
    sources = [str(source) for source in motion.header.get("sources", ())]
    names, notes = [], list(take.notes)
    for index, camera in enumerate(cameras):
        item = create_camera(camera, f"{take.rig} {camera.name}", bpy.data.collections[take.collection], placement)
        names.append(item.name)
        keep_step(item, index, timing)
        source = sources[index] if index < len(sources) else ""
        if not options.footage or not source:
            continue
        if not Path(source).is_file():
            notes.append(f"The footage {source} is not there any more; its camera has no background.")
            continue
        film = Footage(Path(source), _first_frame(motion), timing, _clip_seconds(motion, index, timing))
        show_footage(item, camera, film, scene_aspect(scene))
    return replace(take, cameras=tuple(names), notes=tuple(notes))


def _clip_seconds(motion: BodyMotion, view: int, timing: Timing) -> Array | None:
    """(K,) seconds of a view's own clip at each key; None where each of its frames is a sample, at an even rate.

    Frames that come unevenly are the film's own, at its own times: Blender finds frames by time.
    """
    clips = motion.header.get("clips") or ()
    start, rate = clips[view] if view < len(clips) else (None, 1.0)
    samples = np.arange(len(motion.times))
    if start is None:
        if not uneven_s(motion.times, samples, motion.fps):
            return None
        start = motion.times[0]
    times = np.interp(timing.samples, samples, motion.times)
    return start + (times - motion.times[0]) * (rate or 1.0)


def _first_frame(motion: BodyMotion) -> int:
    """Number, from 1, of the film's frame that the first sample was seen in."""
    start = motion.header.get("start")
    return 1 + (round(float(motion.times[0]) * motion.fps) if start is None else int(start))


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Remove every datablock that was made inside, should the work fail: a cancelled operator pushes no undo step."""
    before = {name: set(getattr(bpy.data, name).keys()) for name in _COLLECTIONS}
    try:
        yield
    except BaseException:
        made = [item for name in _COLLECTIONS for item in getattr(bpy.data, name) if item.name not in before[name]]
        bpy.data.batch_remove(made)
        raise
