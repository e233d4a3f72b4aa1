"""A picture or movie of the armature over the footage, by Cycles on the processor: no window and no OpenGL needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.protocol.errors import InputError, ResourceError
from .action import Channel, write_action
from .camera import PIXEL_ASPECT, SIZE
from .compat import Curves, material_nodes, set_movie_output

Array = np.ndarray
LONGEST = {".png": 960, ".mp4": 640}
MOVIE_FRAMES = 96
SAMPLES = 8
_BEHIND = 1.3  # the footage hangs this much farther away than the farthest bone
# A bone as Blender draws it, head at the origin, tail at (0, 1, 0).
_CORNERS = ((0, 0, 0), (0.1, 0.1, 0.1), (-0.1, 0.1, 0.1), (-0.1, 0.1, -0.1), (0.1, 0.1, -0.1), (0, 1, 0))
_FACES = ((0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (5, 2, 1), (5, 3, 2), (5, 4, 3), (5, 1, 4))
_KINDS = ("objects", "meshes", "materials", "lights", "worlds", "images", "actions", "scenes")


def render_preview(rig: bpy.types.Object, path: Path, cameras: Sequence[str] = (), *, longest: int = 0) -> Path:
    """Render a .png of the action's middle, or an .mp4 of all of it, seen by the first of `cameras`.

    Nothing of it stays in the file; the longer side gets `longest` pixels (0: 960, or 640 in movies). The lens
    distortion of the footage stays in the picture.

    Raises:
        InputError: no calibrated camera, no action, or a file that is neither .png nor .mp4.
        ResourceError: the picture was not written.
    """
    camera = next((item for item in map(bpy.data.objects.get, cameras) if item), None)
    if camera is None:
        raise InputError("A preview needs a calibrated camera.", "Apply the capture with its cameras.")
    if path.suffix not in LONGEST:
        raise InputError(f"{path.name} is neither .png nor .mp4.")
    action = rig.animation_data.action if rig.animation_data else None
    if action is None:
        raise InputError(f"{rig.name} has no action.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with _temporary() as scene:
        _set_up(scene, camera, action, path, longest)
        _add_bones(scene, rig)
        _add_footage(scene, camera, rig)
        movie = path.suffix == ".mp4"
        with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):  # else the user's frame is drawn
            bpy.ops.render.render(animation=movie, write_still=not movie)
    if not path.is_file():
        raise ResourceError(f"{path.name} was not written.", "Look into the console for the renderer's own words.")
    return path


@contextmanager
def _temporary() -> Iterator[bpy.types.Scene]:
    """Give a scene that goes away again with all that was made for it."""
    before = {kind: set(getattr(bpy.data, kind)) for kind in _KINDS}
    try:
        yield bpy.data.scenes.new("Understudy Preview")
    finally:
        bpy.data.batch_remove([item for kind in _KINDS for item in getattr(bpy.data, kind) if item not in before[kind]])


def _set_up(
    scene: bpy.types.Scene, camera: bpy.types.Object, action: bpy.types.Action, path: Path, longest: int
) -> None:
    user, render = bpy.context.scene, scene.render
    render.engine, render.use_persistent_data = "CYCLES", True
    scene.cycles.samples, scene.cycles.use_denoising = SAMPLES, False
    scene.view_settings.view_transform = "Standard"
    scene.world = bpy.data.worlds.new("Understudy Preview")
    scene.world.color = (0.6, 0.6, 0.6)
    size, aspect = camera.data[SIZE], camera.data[PIXEL_ASPECT]
    scale, render.resolution_percentage = (longest or LONGEST[path.suffix]) / max(size), 100
    render.resolution_x, render.resolution_y = (round(side * scale / 2) * 2 for side in size)  # H.264 wants even sizes
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1.0 / aspect), max(1.0, aspect)
    start, end = (round(value) for value in action.frame_range)
    scene.frame_start, scene.frame_end = start, min(end, start + MOVIE_FRAMES - 1)
    scene.frame_set((start + end) // 2)
    render.fps, render.fps_base = user.render.fps, user.render.fps_base
    set_movie_output(render.image_settings, movie=path.suffix == ".mp4")
    if path.suffix == ".mp4":
        render.ffmpeg.format, render.ffmpeg.codec = "MPEG4", "H264"
    render.filepath, render.use_file_extension = str(path), False
    scene.collection.objects.link(camera)
    scene.camera = camera


def _add_bones(scene: bpy.types.Scene, rig: bpy.types.Object) -> None:
    mesh = bpy.data.meshes.new("bone")
    mesh.from_pydata(_CORNERS, [], _FACES)
    mesh.materials.append(_bone_material())
    scene.collection.objects.link(rig)
    for bone in rig.data.bones:
        item = bpy.data.objects.new(bone.name, mesh)
        item.parent, item.parent_type, item.parent_bone = rig, "BONE", bone.name
        item.location, item.scale = (0, -bone.length, 0), (bone.length,) * 3  # a bone's children hang at its tail
        item.color = (*bone.color.custom.normal, 1.0) if bone.color.palette == "CUSTOM" else (0.8, 0.8, 0.8, 1.0)
        scene.collection.objects.link(item)
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = 2.5
    sun.matrix_world = scene.camera.matrix_world @ Matrix.Rotation(0.6, 4, "Y")
    scene.collection.objects.link(sun)


def _bone_material() -> bpy.types.Material:
    material, tree = _new_material("bone")
    shader = tree.nodes.new("ShaderNodeBsdfDiffuse")
    tree.links.new(tree.nodes.new("ShaderNodeObjectInfo").outputs["Color"], shader.inputs["Color"])
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def _new_material(name: str) -> tuple[bpy.types.Material, Any]:
    material = bpy.data.materials.new(name)
    tree = material_nodes(material)
    tree.nodes.clear()
    return material, tree


def _add_footage(scene: bpy.types.Scene, camera: bpy.types.Object, rig: bpy.types.Object) -> None:
    """Hang the film behind the bones, filling the camera's frame."""
    backgrounds = camera.data.background_images
    if not backgrounds:
        return
    corners = np.array([corner[:] for corner in camera.data.view_frame(scene=scene)])
    depth = _farthest(scene, camera, rig) * _BEHIND
    mesh = bpy.data.meshes.new("footage")
    mesh.from_pydata((corners * (depth / -corners[:, 2:])).tolist(), [], [(0, 1, 2, 3)])
    # The frame's corners come right top first and go clockwise.
    turns = round(-backgrounds[0].rotation / (np.pi / 2))  # that Blender does not make of the film
    corners = np.roll(np.array([(1, 1), (1, 0), (0, 0), (0, 1)], np.float32), -turns, axis=0)
    mesh.uv_layers.new().uv.foreach_set("vector", corners.ravel())
    item = bpy.data.objects.new("footage", mesh)
    item.matrix_world = camera.matrix_world
    mesh.materials.append(_film_material(camera, backgrounds[0]))
    scene.collection.objects.link(item)


def _farthest(scene: bpy.types.Scene, camera: bpy.types.Object, rig: bpy.types.Object) -> float:
    """Distance of the farthest bone along the camera's axis, over the frames that are rendered."""
    current, depths = scene.frame_current, [1e-3]
    for frame in np.linspace(scene.frame_start, scene.frame_end, 9):
        scene.frame_set(round(frame))
        posed = rig.evaluated_get(scene.view_layers[0].depsgraph)
        view = np.array(camera.matrix_world.inverted() @ posed.matrix_world)
        heads = np.array([bone.head[:] for bone in posed.pose.bones])
        depths.append(-(heads @ view[2, :3] + view[2, 3]).min())
    scene.frame_set(current)
    return max(depths)


def _film_material(camera: bpy.types.Object, background: Any) -> bpy.types.Material:
    material, tree = _new_material("footage")
    texture, light = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeEmission")
    tree.links.new(texture.outputs["Color"], light.inputs["Color"])
    tree.links.new(light.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    user = texture.image_user
    user.use_auto_refresh = True
    if background.source == "MOVIE_CLIP":
        texture.image = bpy.data.images.load(background.clip.filepath)
        user.frame_start, user.frame_duration = background.clip.frame_start, background.clip.frame_duration
        return material
    texture.image = background.image
    user.frame_start, user.frame_duration = background.image_user.frame_start, background.image_user.frame_duration
    keys = next(iter(Curves(camera.data, camera.data.animation_data.action))).keyframe_points
    points = np.empty(2 * len(keys), np.float32)
    keys.foreach_get("co", points)
    path = f'nodes["{texture.name}"].image_user.frame_offset'
    write_action(tree, "footage", points[::2], [Channel(path, points[1::2])])
    return material
