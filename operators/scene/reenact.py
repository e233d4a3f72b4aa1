"""Frames of a reenactment in the scene: a plane, strips with sound, a background, the compositor.

Every frame stands where it belongs: the first one on the start frame, each of the others on the next one, or, matched
to the scene's rate, as many of them a second as the driver had.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...inference.core.timing import Timing, place, uneven_s
from ...inference.protocol.errors import InputError
from .action import Channel, write_action
from .compat import compositor_nodes, material_nodes, over_sockets, place_strip, strips_of, timing
from .take import all_or_nothing, scene_fps, units_per_m

Array = np.ndarray
SOURCE = "understudy_reenactment"  # custom property of planes: where their frames came from
PLANE_M = 0.4  # side of a plane: a head and shoulders at their size
_SAME_RATE = 0.005  # rates that differ by less are one
_MAX_JSON = 64 << 20


@dataclass(frozen=True)
class Frames:
    """What a finished job says of its frames: their numbers, how they are called, and what drove them.

    times: seconds of each after the first, as uneven films have them.
    """

    folder: Path
    stem: str
    digits: int
    suffix: str
    numbers: Sequence[int]
    times: Array
    fps: float
    start_s: float
    driver: str
    is_film: bool

    @classmethod
    def load(cls, manifest: Path) -> Frames:
        """Read `reenactment.json`.

        Raises:
            InputError: it is damaged, or frames are gone.
        """
        try:
            text = manifest.read_bytes()[: _MAX_JSON + 1]
            value = json.loads(text)
            numbers = [int(number) for number in value["frames"]]
            fps = float(value["fps"])
            found = cls(
                manifest.parent / Path(str(value["folder"])).name, str(value["stem"]), int(value["digits"]),
                str(value["suffix"]), numbers, _times(value.get("times"), numbers, fps), fps, float(value["start_s"]),
                str(value.get("driver", "")), bool(value.get("is_film", False)),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{manifest.name} does not describe frames: {str(error)[:80]}") from error
        if not numbers or not 0.05 < found.fps < 2000:
            raise InputError(f"{manifest.name} describes {len(numbers)} frames at {found.fps:g} a second.")
        missing = [number for number in numbers if not found.file(number).is_file()]
        if missing:
            text = f"{len(missing)} of {len(numbers)} frames are not in {found.folder}, the first is {missing[0]}."
            raise InputError(text, "Make them again: what is whole is kept.")
        return found

    @property
    def uneven_s(self) -> float:
        """How far frames are from where they would be if each lasted as long; 0 where hardly one is."""
        return uneven_s(self.times, np.array(self.numbers), self.fps)

    def file(self, number: int) -> Path:
        """Where a frame lies."""
        return self.folder / f"{self.stem}{number:0{self.digits}d}{self.suffix}"

    @property
    def first(self) -> Path:
        """Where the first frame lies."""
        return self.file(self.numbers[0])


def _times(told: Any, numbers: Sequence[int], fps: float) -> Array:
    """(T,) seconds after the first frame, as they are told, or by the rate where they are not.

    Raises:
        ValueError: they do not belong to the frames.
    """
    times = np.array(numbers) / max(fps, 1e-3) if told is None else np.array(told, float)
    if times.shape != (len(numbers),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"its {times.size} times are not those of {len(numbers)} frames")
    return times - times[:1]


@dataclass(frozen=True)
class FrameOptions:
    """What the redo panel offers."""

    name: str
    frame_start: int = 1
    match_rate: bool = True
    plane: bool = True
    strip: bool = False
    sound: bool = True
    background: bool = False
    compositor: bool = False


@dataclass(frozen=True)
class MadeFrames:
    """Names of what was made: datablocks do not survive an undo."""

    plane: str = ""
    image: str = ""
    strips: tuple[str, ...] = ()
    clip: str = ""
    node: str = ""
    notes: tuple[str, ...] = field(default=())


def show_frames(frames: Frames, options: FrameOptions, scene: bpy.types.Scene) -> MadeFrames:
    """Put frames into the scene: all of it or nothing.

    Raises:
        InputError: nothing is to be made, or a frame is damaged.
    """
    if not (options.plane or options.strip or options.background or options.compositor):
        raise InputError("Nothing is to be made of the frames.", "Choose a plane, strips, a background or nodes.")
    timing = _timing(frames, options, scene)
    notes, strips, plane, clip, node = [], (), "", "", ""
    with all_or_nothing():
        image = _sequence(frames, options.name)
        if options.plane:
            plane = _add_plane(frames, image, options, timing, scene).name
        if options.compositor:
            node = _add_nodes(frames, image, options, timing, scene)
        if options.background:
            clip = _add_background(frames, options, scene)
        if options.strip:  # last: strips are not among what is taken back
            strips, more = _add_strips(frames, options, scene)
            notes += more
        kept = image.name if image.users else ""
        if not kept:
            bpy.data.images.remove(image)
    if (options.strip or options.background or not options.match_rate) and _differs(frames.fps, scene):
        rate = f"{frames.fps:.4g} frames a second were made and the scene plays {scene_fps(scene):.4g}"
        notes.append(f"{rate}: one is shown a frame, so they run at another speed.")
    elif (options.strip or options.background or not options.match_rate) and frames.uneven_s:
        text = f"The driver's frames came unevenly; shown one a frame, they are up to {frames.uneven_s:.2g} s off."
        notes.append(text)
    return MadeFrames(plane, kept, strips, clip, node, tuple(notes))


def _differs(fps: float, scene: bpy.types.Scene) -> bool:
    return abs(fps / scene_fps(scene) - 1.0) > _SAME_RATE


def driver_pace(fps: float, scene: bpy.types.Scene, *, match_rate: bool) -> float:
    """How many of the driver's frames go by in one of the scene's."""
    return fps / scene_fps(scene) if match_rate and _differs(fps, scene) else 1.0


def _timing(frames: Frames, options: FrameOptions, scene: bpy.types.Scene) -> Timing:
    fps, times = scene_fps(scene), frames.times
    if not options.match_rate or not (_differs(frames.fps, scene) or frames.uneven_s):
        times = (np.array(frames.numbers) - frames.numbers[0]) / fps
    return place(times, scene_fps=fps, start=options.frame_start, rate="SCENE")


def _sequence(frames: Frames, name: str) -> bpy.types.Image:
    image = bpy.data.images.load(str(frames.first))
    if not image.size[0]:
        raise InputError(f"{frames.first.name} is damaged: it holds no picture.", "Make the frames again.")
    image.name, image.source = name, "SEQUENCE"
    return image


def _play(owner: Any, datablock: bpy.types.ID, path: str, frames: Frames, timing: Timing) -> None:
    """Let what shows a sequence show the frame that belongs to each frame of the scene, outside of them the nearest.

    `owner` holds the settings, at `path` of the datablock. Blender shows file number offset up to the frame before
    `frame_start`, then one more each frame, `frame_duration` times: so it is said to start at the second one.
    """
    numbers, start = np.array(frames.numbers), round(float(timing.frames[0]))
    at = np.arange(start, max(round(float(timing.frames[-1])), start + 1) + 1.0)
    wanted = numbers[np.round(np.interp(at, timing.frames, timing.samples)).astype(int)]
    offsets = wanted - (at - start)
    owner.frame_start, owner.frame_duration, owner.frame_offset = start + 1, len(at) - 1, int(wanted[0])
    if np.ptp(offsets):
        write_action(datablock, f"{datablock.name} frames", at, [Channel(f"{path}frame_offset", offsets)])


def _add_plane(
    frames: Frames, image: bpy.types.Image, options: FrameOptions, timing: Timing, scene: bpy.types.Scene
) -> bpy.types.Object:
    """An upright plane that faces -y, its light that of the picture, its shape that of the alpha."""
    half = 0.5 * PLANE_M * units_per_m(scene)
    mesh = bpy.data.meshes.new(options.name)
    mesh.from_pydata([(-half, 0, 0), (half, 0, 0), (half, 0, 2 * half), (-half, 0, 2 * half)], [], [(0, 1, 2, 3)])
    uv = np.array([0, 0, 1, 0, 1, 1, 0, 1], np.float32)
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", uv)
    mesh.materials.append(_material(frames, image, options.name, timing))
    item = bpy.data.objects.new(options.name, mesh)
    item[SOURCE] = str(frames.folder)
    scene.collection.objects.link(item)
    return item


def _material(frames: Frames, image: bpy.types.Image, name: str, timing: Timing) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    material.surface_render_method = "BLENDED"
    tree = material_nodes(material)
    tree.nodes.clear()
    nodes = [
        ("ShaderNodeTexImage", (-600, 0)), ("ShaderNodeEmission", (-260, -80)),
        ("ShaderNodeBsdfTransparent", (-260, 80)), ("ShaderNodeMixShader", (0, 0)),
        ("ShaderNodeOutputMaterial", (220, 0)),
    ]  # fmt: skip
    texture, light, clear, mix, output = (_node(tree, kind, where) for kind, where in nodes)
    texture.image, texture.extension = image, "CLIP"
    texture.image_user.use_auto_refresh = True
    links = [
        (texture.outputs["Color"], light.inputs["Color"]), (texture.outputs["Alpha"], mix.inputs[0]),
        (clear.outputs[0], mix.inputs[1]), (light.outputs[0], mix.inputs[2]), (mix.outputs[0], output.inputs[0]),
    ]  # fmt: skip
    for start, end in links:
        tree.links.new(start, end)
    tree.nodes.active = texture
    _play(texture.image_user, tree, f'nodes["{texture.name}"].image_user.', frames, timing)
    return material


def _node(tree: Any, kind: str, place: tuple[float, float]) -> Any:
    node = tree.nodes.new(kind)
    node.location = place
    return node


def _add_nodes(
    frames: Frames, image: bpy.types.Image, options: FrameOptions, timing: Timing, scene: bpy.types.Scene
) -> str:
    """The frames over what is rendered, in a compositor that is new; in the user's own, a node to connect."""
    tree, output, is_new = compositor_nodes(scene)
    node = _node(tree, "CompositorNodeImage", (-300, -200))
    node.name = node.label = options.name
    node.image = image
    node.use_auto_refresh = True
    _play(node, tree, f'nodes["{node.name}"].', frames, timing)
    if is_new:
        layers, over = _node(tree, "CompositorNodeRLayers", (-600, 200)), _node(tree, "CompositorNodeAlphaOver", (0, 0))
        below, above = over_sockets(over)
        output.location = (260, 0)
        tree.links.new(layers.outputs["Image"], below)
        tree.links.new(node.outputs["Image"], above)
        tree.links.new(over.outputs[0], output.inputs[0])
    return node.name


def _add_background(frames: Frames, options: FrameOptions, scene: bpy.types.Scene) -> str:
    """A movie clip behind the scene's camera; behind a new one where there is none."""
    if scene.camera is None:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(camera)
        unit = units_per_m(scene)
        camera.location, camera.rotation_euler = (0, -unit, 0.5 * PLANE_M * unit), (0.5 * np.pi, 0, 0)
        scene.camera = camera
    clip = bpy.data.movieclips.load(str(frames.first))
    clip.name, clip.frame_start = options.name, options.frame_start
    data = scene.camera.data
    data.show_background_images = True
    background = data.background_images.new()
    background.source, background.clip, background.alpha = "MOVIE_CLIP", clip, 1.0
    background.frame_method = "FIT"
    return clip.name


def _add_strips(frames: Frames, options: FrameOptions, scene: bpy.types.Scene) -> tuple[tuple[str, ...], list[str]]:
    """Pictures and the driver's sound on the lowest channels that are free."""
    strips = strips_of(scene)
    channel = max((strip.channel for strip in strips), default=0) + 1
    pictures = strips.new_image(
        name=options.name,
        filepath=str(frames.first),
        channel=channel,
        frame_start=options.frame_start,
        fit_method="FIT",
    )
    shown = frames.numbers[0]
    for number in range(frames.numbers[0] + 1, frames.numbers[-1] + 1):
        shown = number if frames.file(number).is_file() else shown  # a driver's folder may have gaps
        pictures.elements.append(frames.file(shown).name)
    pictures.blend_type = "ALPHA_OVER"
    if not (options.sound and frames.is_film and Path(frames.driver).is_file()):
        return (pictures.name,), []
    sound = _add_sound(frames, options, scene, channel + 1)
    if sound is None:
        return (pictures.name,), [f"{Path(frames.driver).name} has no sound."]
    return (pictures.name, sound), []


def _add_sound(frames: Frames, options: FrameOptions, scene: bpy.types.Scene, channel: int) -> str | None:
    """The driver's sound from the first frame that was made to the last; None where it has none."""
    fps, strips = scene_fps(scene), strips_of(scene)
    try:
        strip = strips.new_sound(
            name=f"{options.name} Sound", filepath=frames.driver, channel=channel, frame_start=options.frame_start
        )
    except RuntimeError:
        return None
    if timing(strip, "duration") <= 1:
        made = strip.sound
        strips.remove(strip)
        if made is not None and not made.users:
            bpy.data.sounds.remove(made)
        return None
    skipped = round(frames.start_s * fps)
    place_strip(strip, content_start=options.frame_start - skipped, left_handle_offset=skipped)
    seconds = (frames.numbers[-1] - frames.numbers[0] + 1) / frames.fps
    last = options.frame_start + max(round(seconds * fps), 1)
    place_strip(strip, right_handle=min(timing(strip, "right_handle"), last))
    return strip.name
