"""Kept pose descriptors on an object: a slider for each, keyed like any property; what lies between is slerped.

Every slider is a custom property of an empty, so that keys, drivers and the NLA move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from ...inference.core.artifacts import PoseDescriptors
from ...inference.core.descriptors import blend
from ...inference.protocol.errors import InputError
from .compat import curves_in
from .place import alone
from .take import scene_fps

Array = np.ndarray
POSES = "understudy_poses"  # custom property: names, descriptors and the network that they belong to
_MOST = 64  # poses of one object


def create_poses(name: str, network: str, scene: bpy.types.Scene) -> bpy.types.Object:
    """Add an empty that is to keep poses of one network."""
    item = bpy.data.objects.new(name, None)
    item.empty_display_type = "SPHERE"
    item[POSES] = {"network": network, "names": "", "numbers": 0}
    scene.collection.objects.link(item)
    return item


def add_pose(item: bpy.types.Object, name: str, descriptor: Array, network: str) -> str:
    """Keep a descriptor (D,) under a name and give it a slider; gives the name that it got.

    Raises:
        InputError: descriptors of another network, or too many.
    """
    kept = item[POSES]
    names = pose_names(item)
    if kept["network"] != network:
        raise InputError(f"{item.name} keeps poses of another network.", "Make a new object for these.")
    if len(names) >= _MOST:
        raise InputError(f"{item.name} keeps {len(names)} poses; that is as many as there can be.")
    wanted, number = name.strip()[:40] or "Pose", 2
    name = wanted
    while name in item:
        name, number = f"{wanted} {number}", number + 1
    kept["numbers"] = len(descriptor)
    kept[f"pose_{len(names)}"] = [float(value) for value in descriptor]
    kept["names"] = "\n".join([*names, name])
    item[name] = 0.0
    item.id_properties_ui(name).update(min=0.0, max=1.0, soft_min=0.0, soft_max=1.0, description="Share of this pose")
    return name


def pose_names(item: Any) -> list[str]:
    """Names of kept poses, in order; none for other objects."""
    kept = item.get(POSES) if item is not None else None
    return [name for name in str(kept["names"]).split("\n") if name] if kept else []


def key_pose(item: bpy.types.Object, name: str, frame: float) -> None:
    """Key one pose fully and all others not at all; one that was added since is not there at earlier keys."""
    paths = {other: f'["{bpy.utils.escape_identifier(other)}"]' for other in pose_names(item)}
    keys = _keys(item)
    before = {at for path in paths.values() for at in keys.get(path, ())}
    for other, path in paths.items():
        for at in before - keys.get(path, set()):
            item[other] = 0.0
            item.keyframe_insert(path, frame=at, group="Poses")
    for other, path in paths.items():
        item[other] = 1.0 if other == name else 0.0
        item.keyframe_insert(path, frame=frame, group="Poses")


def _keys(item: bpy.types.Object) -> dict[str, set[float]]:
    """Frames of keys by the path of what is keyed."""
    action = item.animation_data.action if item.animation_data else None
    curves = curves_in(action, item) if action is not None else []
    return {curve.data_path: {float(key.co[0]) for key in curve.keyframe_points} for curve in curves}


def keyed_descriptors(item: bpy.types.Object, frames: Sequence[int], scene: bpy.types.Scene) -> PoseDescriptors:
    """Mix what is kept as the sliders say on each of some frames; the scene's own frame stays.

    Raises:
        InputError: nothing is kept.
    """
    names = pose_names(item)
    if not names:
        raise InputError(f"{item.name} keeps no poses.", "Add some from a driver first.")
    kept = item[POSES]
    descriptors = np.array([list(kept[f"pose_{index}"]) for index in range(len(names))], float)
    weights = np.empty((len(frames), len(names)))
    with alone(item) as stage:
        stage.render.fps, stage.render.fps_base = scene.render.fps, scene.render.fps_base
        for row, frame in enumerate(frames):
            stage.frame_set(frame)
            seen = item.evaluated_get(stage.view_layers[0].depsgraph)
            weights[row] = [float(seen[name]) for name in names]
    fps = scene_fps(scene)
    header = {"fps": fps, "network": kept["network"], "source": ""}
    numbers = np.array(frames)
    return PoseDescriptors(
        header, blend(descriptors, weights).astype(np.float32), numbers, (numbers - numbers[0]) / fps,
        np.ones(len(numbers), bool),
    )  # fmt: skip
