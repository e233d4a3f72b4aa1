"""Where a character stands apart from the travelling that an action of ours gives its object."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

Array = np.ndarray
PLACE = "understudy_place"  # custom property of actions that move the object
_ROTATION = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}


def place_of(item: bpy.types.Object) -> Array:
    """(4, 4) the matrix that an object has in the scene, or would have without our action."""
    kept = _kept(item)
    return np.array(kept["matrix"], float).reshape(4, 4) if kept else np.array(item.matrix_world, float)


def read_place(item: bpy.types.Object) -> dict[str, Any]:
    """Give what `keep_place` keeps and `put_back` needs."""
    kept = _kept(item)
    if kept:
        return {name: list(values) for name, values in kept.items()}
    rotation = getattr(item, _ROTATION.get(item.rotation_mode, "rotation_euler"))
    matrix = [float(value) for row in item.matrix_world for value in row]
    return {"matrix": matrix, "location": list(item.location), "rotation": list(rotation)}


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
