"""An armature with its action, a character or a head to other programs' files, by Blender's own exporters."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.core.rotations import continuous, quaternion_from_matrix
from ...inference.protocol.errors import InputError, ResourceError
from ...inference.protocol.files import storage_error
from .action import fill
from .compat import Curves, action_slot, assign_action, curves_in
from .evaluate import bone_order, world_matrices
from .take import units_per_m

Array = np.ndarray
SUFFIXES = {"BVH": ".bvh", "FBX": ".fbx", "GLTF": ".glb", "USD": ".usdc", "USDZ": ".usdz"}
_METRES = {"GLTF", "GLB", "USD", "USDZ"}  # formats that know no other unit, or whose readers do not
HEAD_SUFFIXES = {"GLB": ".glb", "FBX": ".fbx", "OBJ": ".obj", "USD": ".usdc"}


# BVH files are read with y up and facing +z; Blender's writer knows no axes.
_Y_UP = Matrix.Rotation(-math.pi / 2, 4, "X")


def export_rig(rig: bpy.types.Object, path: Path, kind: str, scene: bpy.types.Scene, *, meshes: bool = False) -> Path:
    """Write one armature and its action; the suffix follows `kind` (BVH, FBX, GLTF, USD, USDZ).

    With `meshes`, what the armature deforms and carries comes along, where the format has meshes. The exporters act
    on a selection, so they get a scene of their own, and the user's stays as it is.

    Raises:
        InputError: the armature has no action.
        ResourceError: the file was not written.
    """
    action = rig.animation_data.action if rig.animation_data else None
    if action is None:
        raise InputError(f"{rig.name} has no action to export.", "Apply a capture first.")
    path = path.with_name(path.name.removesuffix(SUFFIXES[kind]) + SUFFIXES[kind])
    others = skins(rig) if meshes and kind != "BVH" else []
    with (
        _written(path),
        _turned(rig, _Y_UP) if kind == "BVH" else nullcontext(rig) as item,
        _alone([item, *others], action, scene, kind),
    ):
        _EXPORTERS[kind](str(path), action)
    return path


def export_group(
    rigs: list[bpy.types.Object], path: Path, kind: str, scene: bpy.types.Scene, actions: Iterable[bpy.types.Action]
) -> Path:
    """Write several armatures with all that they deform, and everything's own motion; GLTF, USD or USDZ.

    The frames are those of the `actions`. Colours that move stand still in these files: as viewports show them.

    Raises:
        ResourceError: the file was not written.
    """
    path = path.with_name(path.name.removesuffix(SUFFIXES[kind]) + SUFFIXES[kind])
    longest = max(actions, key=lambda action: action.frame_range[1] - action.frame_range[0])
    items = [*rigs, *(skin for rig in rigs for skin in skins(rig))]
    with _written(path), _alone(items, longest, scene, kind), _still_colours(items):
        _EXPORTERS[kind](str(path), longest)
    return path


@contextmanager
def _still_colours(items: Iterable[bpy.types.Object]) -> Iterator[None]:
    """Give materials whose nodes are animated their viewport's colour for a while."""
    slots = {slot.material for item in items if item.type == "MESH" for slot in item.material_slots if slot.material}
    held: list[tuple[Any, Any, Any]] = []
    for material in slots:
        animation = material.node_tree.animation_data if material.node_tree else None
        shader = next((node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
        if animation is None or animation.action is None or shader is None:
            continue
        colour = shader.inputs["Base Color"]
        held.append((animation, animation.action, action_slot(animation)))
        assign_action(animation, None, None)
        colour.default_value = material.diffuse_color
    try:
        yield
    finally:
        for animation, action, slot in held:
            assign_action(animation, action, slot)


def export_head(head: bpy.types.Object, path: Path, kind: str, scene: bpy.types.Scene) -> Path:
    """Write a head, with its eyes where they are objects of their own; the suffix follows `kind` (GLB, FBX, OBJ, USD).

    What is hidden from renders, as the dense surface is, stays at home.

    Raises:
        ResourceError: the file was not written.
    """
    path = path.with_name(path.name.removesuffix(HEAD_SUFFIXES[kind]) + HEAD_SUFFIXES[kind])
    items = [head, *(item for item in head.children if item.type == "MESH" and not item.hide_render)]
    with _written(path), _alone(items, None, scene, kind):
        _HEAD_EXPORTERS[kind](str(path))
    return path


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Make the folder, and make sure afterwards that the file is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    before = path.stat().st_mtime_ns if path.exists() else None
    yield
    if not path.exists() or path.stat().st_mtime_ns == before or path.stat().st_size == 0:
        raise ResourceError(f"{path.name} was not written.", "Look into the console for the exporter's own words.")


@contextmanager
def _turned(rig: bpy.types.Object, turn: Matrix) -> Iterator[bpy.types.Object]:
    """Give a copy whose rest pose is turned and as large as the object shows it, and whose roots move as that does.

    Blender's BVH writer reads nothing but bones in the armature's own axes.
    """
    theirs = rig.animation_data.action
    first, last = (round(value) for value in theirs.frame_range)
    frames = np.arange(first, last + 1.0)
    bones, here = world_matrices(rig, None, frames)
    copy = rig.copy()
    copy.data, action = rig.data.copy(), theirs.copy()
    try:
        copy.animation_data.use_tweak_mode = False  # in which no action can be assigned
        copy.data.transform(turn @ Matrix(here[0].tolist()))
        curves = Curves(copy, action, action_slot(rig.animation_data))
        _scale_locations(copy, curves, float(np.linalg.norm(here[0, :3, 0])))
        for row, bone in enumerate(bone_order(rig)):
            if bone.parent is None:
                _key_root(copy.pose.bones[bone.name], curves, frames, np.array(turn) @ bones[:, row])
        yield copy
    finally:
        bpy.data.armatures.remove(copy.data)  # and the copy with it
        bpy.data.actions.remove(action)


def _scale_locations(rig: bpy.types.Object, curves: Curves, scale: float) -> None:
    """Make what bones move away from their rest as much larger as the bones were made."""
    for bone in rig.pose.bones:
        bone.location *= scale
    for curve in curves:
        if curve.data_path.endswith("].location"):
            for point in curve.keyframe_points:
                point.co.y, point.handle_left.y, point.handle_right.y = (
                    scale * value for value in (point.co.y, point.handle_left.y, point.handle_right.y)
                )


def _key_root(bone: bpy.types.PoseBone, curves: Curves, frames: Array, places: Array) -> None:
    """Key a bone without parent so that it stands at (T, 4, 4) places of the armature's own space."""
    path = bone.path_from_id()
    for curve in [curve for curve in curves if curve.data_path.startswith(f"{path}.")]:
        curves.remove(curve)
    for constraint in bone.constraints:
        constraint.mute = True
    bone.rotation_mode, bone.scale = "QUATERNION", (1.0, 1.0, 1.0)
    turned = places[:, :3, :3] / np.linalg.norm(places[:, :3, :3], axis=1, keepdims=True)
    rest = np.array(bone.bone.matrix_local)
    local = np.swapaxes(rest[:3, :3], 0, 1) @ turned
    moved = (places[:, :3, 3] - rest[:3, 3]) @ rest[:3, :3]
    channels = ("location", moved), ("rotation_quaternion", continuous(quaternion_from_matrix(local)))
    for name, values in channels:
        for index in range(values.shape[1]):
            fill(curves.new(f"{path}.{name}", index, bone.name), frames, values[:, index])


def skins(rig: bpy.types.Object) -> list[bpy.types.Object]:
    """Meshes of the present scene that an armature deforms or carries."""
    return [
        item for item in bpy.context.scene.objects
        if item.type == "MESH" and (item.find_armature() == rig or item.parent == rig) and not item.hide_render
        and not item.name.startswith("WGT-")
    ]  # fmt: skip


@contextmanager
def _alone(
    items: list[bpy.types.Object], action: bpy.types.Action | None, scene: bpy.types.Scene, kind: str
) -> Iterator[None]:
    """Show exporters a scene with nothing else, all of it selected; its frames are the action's.

    What is written in metres is as large as in the scene that it comes from, whatever its units are; FBX tells these.
    """
    rig, theirs = items[0], bpy.context.view_layer
    selected = [item.name in theirs.objects and item.select_get() for item in items]
    locked = [(item.hide_select, item.hide_viewport) for item in items]
    own = bpy.data.scenes.new("Understudy Export")
    layer = own.view_layers[0]
    try:
        own.render.fps, own.render.fps_base = scene.render.fps, scene.render.fps_base
        if action is not None:
            own.frame_start, own.frame_end = (round(value) for value in action.frame_range)
        for item in items:
            own.collection.objects.link(item)
            item.hide_select = item.hide_viewport = False  # such objects are never selected, and so not written
        layer.update()
        for item in items:
            item.select_set(True, view_layer=layer)
        layer.objects.active = rig
        if kind == "FBX":
            own.unit_settings.system = scene.unit_settings.system
            own.unit_settings.scale_length = scene.unit_settings.scale_length
        shown = {"scene": own, "view_layer": layer, "active_object": rig, "object": rig, "selected_objects": items}
        with (
            _smaller(items, own, 1.0 / units_per_m(scene)) if kind in _METRES else nullcontext(),
            bpy.context.temp_override(**shown),
        ):
            yield
    finally:
        for item, was_selected in zip(items, selected, strict=True):
            item.select_set(was_selected, view_layer=layer)  # what is selected here would be so everywhere
        bpy.data.scenes.remove(own)
        bpy.context.view_layer.update()
        for item, was_selected in zip(items, selected, strict=True):
            if item.name in bpy.context.view_layer.objects:
                item.select_set(was_selected)
        for item, (is_locked, is_hidden) in zip(items, locked, strict=True):
            item.hide_select, item.hide_viewport = is_locked, is_hidden


@contextmanager
def _smaller(items: list[bpy.types.Object], scene: bpy.types.Scene, scale: float) -> Iterator[None]:
    """Hang all that is written, and what that hangs from, from something that is scaled."""
    if scale == 1.0:
        yield
        return
    root = bpy.data.objects.new("Understudy Units", None)
    tops = {_top(item) for item in items}
    try:
        root.scale = (scale, scale, scale)
        scene.collection.objects.link(root)
        for top in tops:
            top.parent = root
        yield
    finally:
        for top in tops:
            top.parent = None
        bpy.data.objects.remove(root)


def _top(item: bpy.types.Object) -> bpy.types.Object:
    while item.parent is not None:
        item = item.parent
    return item


def _bvh(path: str, action: bpy.types.Action) -> None:
    start, end = (round(value) for value in action.frame_range)
    rig = bpy.context.object
    only_root = not _travels_below_root(rig, rig.animation_data.action)
    bpy.ops.export_anim.bvh(filepath=path, frame_start=start, frame_end=end, root_transform_only=only_root)


def _travels_below_root(rig: bpy.types.Object, action: bpy.types.Action) -> bool:
    """Whether a bone that hangs from another has location keys: hips below a root bone, say, or a torso control."""
    moved = {
        curve.data_path.split('"')[1] for curve in curves_in(action, rig) if curve.data_path.endswith("].location")
    }
    bones = (rig.data.bones.get(bpy.utils.unescape_identifier(name)) for name in moved)
    return any(bone is not None and bone.parent is not None for bone in bones)


def _fbx(path: str, action: bpy.types.Action) -> None:
    """The exporter calls rest what it finds at the current frame, unless a skin says better."""
    scene = bpy.context.scene
    with _at_rest_before(bpy.context.object, action):
        scene.frame_set(scene.frame_start - 1)
        bpy.ops.export_scene.fbx(
            filepath=path, use_selection=True, object_types={"ARMATURE", "MESH"}, add_leaf_bones=False, bake_anim=True,
            bake_anim_use_all_bones=True, bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0,
        )  # fmt: skip


@contextmanager
def _at_rest_before(rig: bpy.types.Object, action: bpy.types.Action) -> Iterator[None]:
    """Play the action as a strip that holds nothing, so that before its first frame every bone that it moves rests."""
    animation = rig.animation_data
    slot, used, (first, last) = action_slot(animation), animation.use_nla, action.frame_range
    if last <= first or animation.use_tweak_mode:
        yield  # a single pose is no strip
        return
    track = animation.nla_tracks.new()
    strip = track.strips.new(action.name, math.floor(first), action)
    if slot is not None:
        strip.action_slot = slot
    strip.action_frame_start, strip.action_frame_end = first, last
    strip.frame_start_raw, strip.frame_end_raw = first, last
    strip.extrapolation, strip.blend_type = "NOTHING", animation.action_blend_type
    animation.action, animation.use_nla = None, True
    try:
        yield
    finally:
        animation.nla_tracks.remove(track)
        animation.use_nla = used
        assign_action(animation, action, slot)


def _gltf(path: str, action: bpy.types.Action) -> None:  # noqa: ARG001
    bpy.ops.export_scene.gltf(
        filepath=path, export_format="GLB", use_selection=True, use_active_scene=True, export_animations=True,
        export_animation_mode="ACTIVE_ACTIONS", export_optimize_animation_size=False, export_extras=True,
    )  # fmt: skip


def _usd(path: str, action: bpy.types.Action) -> None:  # noqa: ARG001
    with _keys_of_usd():
        bpy.ops.wm.usd_export(
            filepath=path, selected_objects_only=True, export_animation=True, export_armatures=True,
            export_shapekeys=True, export_materials=True, generate_preview_surface=True,
        )  # fmt: skip


@contextmanager
def _keys_of_usd() -> Iterator[None]:
    """Give shape keys of the selected names that USD knows; others become alike in a file, and none is read."""
    held: list[tuple[Any, str]] = []
    for item in bpy.context.selected_objects:
        keys = item.data.shape_keys if item.type == "MESH" else None
        taken = {key.name for key in keys.key_blocks} if keys else set()
        for key in keys.key_blocks if keys else ():
            plain = re.sub(r"\W", "_", key.name.replace("+", "_more").replace("-", "_less"), flags=re.ASCII)
            if plain == key.name:
                continue
            name = next(name for k in itertools.count() if (name := f"{plain}_{k}" if k else plain) not in taken)
            taken.add(name)
            held.append((key, key.name))
            key.name = name
    try:
        yield
    finally:
        for key, name in held:
            key.name = name


_EXPORTERS: dict[str, Callable[[str, bpy.types.Action], None]] = {
    "BVH": _bvh, "FBX": _fbx, "GLTF": _gltf, "USD": _usd, "USDZ": _usd,
}  # fmt: skip


def _head_glb(path: str) -> None:
    bpy.ops.export_scene.gltf(
        filepath=path, export_format="GLB", use_selection=True, use_active_scene=True, export_animations=False,
        export_morph=True, export_morph_normal=False,
    )  # fmt: skip


def _head_fbx(path: str) -> None:
    bpy.ops.export_scene.fbx(
        filepath=path, use_selection=True, object_types={"MESH"}, bake_anim=False, path_mode="COPY",
        embed_textures=True, mesh_smooth_type="FACE",
    )  # fmt: skip


def _head_obj(path: str) -> None:
    bpy.ops.wm.obj_export(filepath=path, export_selected_objects=True, export_materials=True, path_mode="COPY")


def _head_usd(path: str) -> None:
    with _keys_of_usd():
        bpy.ops.wm.usd_export(filepath=path, selected_objects_only=True, export_materials=True, export_shapekeys=True)


_HEAD_EXPORTERS: dict[str, Callable[[str], None]] = {
    "GLB": _head_glb, "FBX": _head_fbx, "OBJ": _head_obj, "USD": _head_usd,
}  # fmt: skip
