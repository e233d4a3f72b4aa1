"""Files of other programs through Blender's own importers, and out again: nothing of them stays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ...inference.core.formats.bvh_guard import check_bvh
from ...inference.core.formats.fbx_guard import check_fbx
from ...inference.core.formats.gltf_guard import check_gltf
from ...inference.protocol.errors import InputError
from .compat import import_fbx
from .evaluate import channels

MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class Imported:
    """What a file brought: its scene (which has the file's frame rate), armatures, and actions."""

    scene: bpy.types.Scene
    armatures: tuple[bpy.types.Object, ...]
    actions: tuple[bpy.types.Action, ...]

    @property
    def has_skin(self) -> bool:
        """Whether a mesh is deformed by an armature."""
        meshes = [item for item in self.scene.collection.all_objects if item.type == "MESH"]
        return any(modifier.type == "ARMATURE" for item in meshes for modifier in item.modifiers)

    def takes(self) -> Iterator[tuple[bpy.types.Object, bpy.types.Action]]:
        """Each armature with each action that moves its bones, in the order of the file."""
        for rig in self.armatures:
            own = _own_actions(rig)
            others = set().union(*(_own_actions(item) for item in self.armatures if item != rig))
            for action in self.actions:
                keyed = {bone for bone, _ in channels(rig, action).curves if bone}
                if (action in own or action not in others) and any(bone in rig.data.bones for bone in keyed):
                    yield rig, action


def _own_actions(rig: bpy.types.Object) -> set[bpy.types.Action]:
    animation = rig.animation_data
    if animation is None:
        return set()
    strips = {strip.action for track in animation.nla_tracks for strip in track.strips}
    return {action for action in {animation.action, *strips} if action is not None}


@contextmanager
def imported(path: Path) -> Iterator[Imported]:
    """Import a BVH, FBX or glTF file into a scene of its own and remove all of it afterwards.

    Raises:
        InputError: no such file, too large, or the importer refuses it.
    """
    _check(path)
    before = {_address(item) for item in _datablocks()}
    scene = bpy.data.scenes.new("Understudy Import")
    try:
        yield _read(path, scene)
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.batch_remove([item for item in _datablocks() if _address(item) not in before])
        bpy.context.view_layer.update()


def _check(path: Path) -> None:
    if path.suffix.lower() not in IMPORTERS:
        raise InputError(f"{path.name} is none of {', '.join(IMPORTERS)}.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if size > MAX_BYTES:
        raise InputError(f"{path.name} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read.")
    if path.suffix.lower() in (".glb", ".gltf"):
        check_gltf(path)


def _read(path: Path, scene: bpy.types.Scene) -> Imported:
    known = {_address(action) for action in bpy.data.actions}
    try:
        with _shown(scene):
            done = IMPORTERS[path.suffix.lower()](path, scene)
    except RuntimeError as error:  # what bpy makes of any error inside an importer
        raise InputError(f"Blender cannot import {path.name}: {_last_line(error)}") from error
    if "FINISHED" not in done:
        raise InputError(f"Blender cannot import {path.name}; the console says why.")
    scene.view_layers[0].update()
    armatures = tuple(item for item in scene.collection.all_objects if item.type == "ARMATURE")
    if not armatures:
        raise InputError(f"{path.name} holds no armature.")
    actions = [action for action in bpy.data.actions if _address(action) not in known]
    return Imported(scene, armatures, tuple(actions))


@contextmanager
def _shown(scene: bpy.types.Scene) -> Iterator[None]:
    """Let the window show a scene: importers ask it, and not the context, for the active object."""
    window = bpy.context.window or bpy.context.window_manager.windows[0]  # a timer's context has none
    theirs = window.scene
    window.scene = scene
    try:
        with bpy.context.temp_override(window=window, scene=scene, view_layer=scene.view_layers[0]):
            yield
    finally:
        window.scene = theirs


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


def _datablocks() -> Iterator[bpy.types.ID]:
    for kind in bpy.data.bl_rna.properties:
        if kind.type == "COLLECTION":
            yield from getattr(bpy.data, kind.identifier)


def _address(item: bpy.types.ID) -> int:
    return item.as_pointer()


def _bvh(path: Path, scene: bpy.types.Scene) -> set[str]:
    """Import with one key a frame; the rate is the guard's, since the importer rounds it."""
    step = check_bvh(path)
    scene.render.fps = max(1, round(1.0 / step))
    scene.render.fps_base = scene.render.fps * step
    return bpy.ops.import_anim.bvh(
        filepath=str(path), axis_forward="-Z", axis_up="Y", rotate_mode="QUATERNION", global_scale=1.0,
        use_fps_scale=False, update_scene_fps=False, update_scene_duration=False,
    )  # fmt: skip


def _fbx(path: Path, scene: bpy.types.Scene) -> set[str]:  # noqa: ARG001
    """Import; where textures lie on other computers, a copy that does not say so."""
    shares = check_fbx(path)
    if not shares:
        return import_fbx(str(path))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        shutil.copyfile(path, copy)
        with copy.open("r+b") as stream:
            for where in shares:
                stream.seek(where.start)
                stream.write(b"_" * len(where))
        return import_fbx(str(copy))


def _gltf(path: Path, scene: bpy.types.Scene) -> set[str]:
    scene.render.fps = 120  # keys are in seconds; so fine a raster names their frames to the millisecond
    return bpy.ops.import_scene.gltf(filepath=str(path))


IMPORTERS: dict[str, Callable[[Path, Any], set[str]]] = {".bvh": _bvh, ".fbx": _fbx, ".glb": _gltf, ".gltf": _gltf}
