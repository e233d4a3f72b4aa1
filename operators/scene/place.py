"""Where objects stand, and where a character does apart from the travelling that an action of ours gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

Array = np.ndarray
PLACE = "understudy_place"  # custom property of actions that move the object
_ROTATION = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}


@contextmanager
def alone(*items: bpy.types.Object) -> Iterator[bpy.types.Scene]:
    """Give a scene with nothing but some objects, shown in it also where they are off in viewports; it goes again.

    What is off in viewports is neither evaluated nor edited.
    """
    scene, hidden = bpy.data.scenes.new("Understudy"), [item for item in items if item.hide_viewport]
    try:
        for item in dict.fromkeys(items):
            item.hide_viewport = False
            scene.collection.objects.link(item)
        yield scene
    finally:
        for item in hidden:
            item.hide_viewport = True
        bpy.data.scenes.remove(scene)


@contextmanager
def evaluated(item: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """Give an object as it is on the present frame, also where it is off in viewports or in no view layer.

    Blender does not evaluate those, and a file that is opened has them at the world's origin.
    """
    seen = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    if seen.is_evaluated:
        yield seen
        return
    present = bpy.context.scene
    with alone(item) as scene:
        scene.frame_set(present.frame_current, subframe=present.frame_subframe)
        yield item.evaluated_get(scene.view_layers[0].depsgraph)


def world_of(item: bpy.types.Object) -> Array:
    """(4, 4) where an object is on the present frame, whether it is shown or not."""
    depsgraph = bpy.context.view_layer.depsgraph
    if depsgraph is not None and item.evaluated_get(depsgraph).is_evaluated:
        return np.array(item.matrix_world, float)  # without an update, which poses bones
    with evaluated(item) as seen:
        return np.array(seen.matrix_world, float)


def place_of(item: bpy.types.Object) -> Array:
    """(4, 4) the matrix that an object has in the scene, or would have without our action."""
    kept = _kept(item)
    return np.array(kept["matrix"], float).reshape(4, 4) if kept else world_of(item)


def read_place(item: bpy.types.Object) -> dict[str, Any]:
    """Give what `keep_place` keeps and `put_back` needs."""
    kept = _kept(item)
    if kept:
        return {name: list(values) for name, values in kept.items()}
    rotation = getattr(item, _ROTATION.get(item.rotation_mode, "rotation_euler"))
    return {"matrix": world_of(item).ravel().tolist(), "location": list(item.location), "rotation": list(rotation)}


def keep_place(item: bpy.types.Object, action: bpy.types.Action, place: dict[str, Any], *, travels: bool) -> None:
    """Let an action that moves the object know its place, and one that does not give the object back to it."""
    if travels:
        action[PLACE] = place
        return
    if PLACE in action:
        del action[PLACE]
    item.location = place["location"]
    setattr(item, _ROTATION.get(item.rotation_mode, "rotation_euler"), place["rotation"])


def _kept(item: bpy.types.Object) -> Any:
    action = item.animation_data.action if item.animation_data else None
    return action.get(PLACE) if action is not None else None
