"""The floor under a moving body: which way is up, and how high the soles stand."""

from __future__ import annotations

import numpy as np

from ..core.artifacts import BodyMesh, BodyParameters
from ..core.body import place_bones
from ..core.contacts import estimate_up, find_floor, floor_transform, speeds

Array = np.ndarray
_LEVEL = np.array([0.0, -1.0, 0.0])  # up, of a camera that is held level
_UP = np.array([0.0, 0.0, 1.0])  # and of a calibrated world
_UPRIGHT = np.cos(np.radians(25.0))  # of a trunk that says where up is
_STANDS = 0.25  # metres a second of a foot that bears weight
_SOLE_M = 0.02  # height of vertices at rest that are soles


def floor_under(mesh: BodyMesh, parameters: BodyParameters) -> Array:
    """(4, 4) from the frame of `parameters` to Z up, with the floor at zero and the body's first place above it."""
    turns, heads = place_bones(mesh, parameters.pose, parameters.root)
    seen = parameters.confidence > 0
    soles = sole_points(mesh, turns, heads)
    camera = parameters.header["frame"] == "camera"
    guess = _LEVEL if camera else _UP
    trunk = turns[seen][:, 0] @ _UP
    upright = trunk @ guess > _UPRIGHT
    slow = (speeds(soles, parameters.fps) < _STANDS) & seen[:, None]
    lowest = soles @ guess <= (soles @ guess).min(1, keepdims=True) + 0.03
    up = estimate_up(trunk[upright], soles[slow & lowest], guess=guess)
    level = soles @ floor_transform(up, np.eye(3)[2 if camera else 1], np.zeros(3), 0.0)[:3, :3].T
    floor = find_floor(level, np.repeat(seen[:, None], 4, 1).astype(float), parameters.fps, clearance=0.0)
    heading = np.array([0.0, 0.0, 1.0]) if camera else np.array([0.0, 1.0, 0.0])
    first = heads[int(np.argmax(seen)), 0]
    return floor_transform(up, heading, first, 0.0 if floor is None else floor.height)


def sole_points(mesh: BodyMesh, turns: Array, heads: Array) -> Array:
    """(T, 4, 3) left heel, left toe, right heel, right toe: the ends of the soles at rest, carried by their bones."""
    vertices, bones = mesh.vertices, mesh.header["bones"]
    points = []
    for side, sign in (("L", 1.0), ("R", -1.0)):
        sole = np.flatnonzero((vertices[:, 2] < vertices[:, 2].min() + _SOLE_M) & (vertices[:, 0] * sign > 0))
        foot = _bone_of(bones, f"foot.{side}", mesh)
        for end in (np.argmax, np.argmin):  # people face -y at rest
            place = vertices[sole[end(vertices[sole, 1])]]
            points.append(heads[:, foot] + turns[:, foot] @ (place - mesh.heads[foot]))
    return np.stack(points, 1)


def _bone_of(bones: list[str], name: str, mesh: BodyMesh) -> int:
    """The bone of this name, or the one that begins nearest to where a foot's sole is."""
    if name in bones:
        return bones.index(name)
    side = 1.0 if name.endswith("L") else -1.0
    low = np.where(mesh.heads[:, 0] * side > 0, mesh.heads[:, 2], np.inf)
    return int(np.argmin(low))
