"""Skeletons of the rigs that animators use, to try things on; `README.md` says which are real.

    rig = load("unreal5")

A file is {"name", "made_by", "bones": [{name, parent, head, turn, length, ...}]}: head (3) metres, world, Z up, facing
-Y; turn wxyz of the bone's own axes; `deform`, `held` (by a constraint or driver) and `free` (does not turn with its
parent) where they are true; `properties` the names of custom properties.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from inference.core.rig import Rig
from inference.core.rotations import matrix_from_quaternion, unit

FOLDER = Path(__file__).resolve().parent


def names() -> tuple[str, ...]:
    """Every skeleton there is."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def read(name: str) -> dict[str, Any]:
    """The file of a skeleton."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def load(name: str) -> Rig:
    """A skeleton at rest, standing on z = 0."""
    bones = read(name)["bones"]
    rows = {bone["name"]: row for row, bone in enumerate(bones)}
    rest = np.tile(np.eye(4), (len(bones), 1, 1))
    rest[:, :3, :3] = matrix_from_quaternion(unit(np.array([bone["turn"] for bone in bones], float)))
    rest[:, :3, 3] = [bone["head"] for bone in bones]
    return Rig(
        names=tuple(rows),
        parents=np.array([rows[bone["parent"]] if bone["parent"] else -1 for bone in bones]),
        rest=rest,
        lengths=np.array([bone["length"] for bone in bones], float),
        inherit_rotation=np.array([not bone.get("free", False) for bone in bones]),
        name=name,
    )


def deform(name: str) -> np.ndarray:
    """(B,) bones that move the skin; all of them where the file does not say."""
    marks = np.array([bone.get("deform", False) for bone in read(name)["bones"]])
    return marks if marks.any() else ~marks


def held(name: str) -> np.ndarray:
    """(B,) bones that a constraint or a driver moves."""
    return np.array([bone.get("held", False) for bone in read(name)["bones"]])


def properties(name: str) -> dict[str, tuple[str, ...]]:
    """Custom properties of each bone that has some."""
    return {bone["name"]: tuple(bone["properties"]) for bone in read(name)["bones"] if "properties" in bone}
