"""Recorded motions of the shared data sets as performances, straight from their own skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.core.artifacts import read_npz
from inference.core.contacts import find_floor
from inference.core.retarget.feet import find_feet, sole_points
from inference.core.rig import Mapping, Performance, Rig
from inference.core.rotations import matrix_from_quaternion

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # from y up, facing z
_CMU = {
    "hips": ("Hips",), "spine": ("LowerBack", "Spine", "Spine1"), "neck": ("Neck", "Neck1"), "head": ("Head",),
    "shoulder": ("?Shoulder",), "upper_arm": ("?Arm",), "forearm": ("?ForeArm",), "hand": ("?Hand",),
    "thigh": ("?UpLeg",), "shin": ("?Leg",), "foot": ("?Foot",), "toe": ("?ToeBase",),
}  # fmt: skip
_DAZ = {
    "hips": ("hip",), "spine": ("abdomen", "chest"), "neck": ("neck",), "head": ("head",), "shoulder": ("?Collar",),
    "upper_arm": ("?Shldr",), "forearm": ("?ForeArm",), "hand": ("?Hand",), "thigh": ("?Thigh",), "shin": ("?Shin",),
    "foot": ("?Foot",),
}  # fmt: skip
_SNU = {
    "hips": ("Character1_Hips",), "spine": ("Character1_Spine", "Character1_Spine1"), "neck": ("Character1_Neck",),
    "head": ("Character1_Head",), "shoulder": ("Character1_?Shoulder",), "upper_arm": ("Character1_?Arm",),
    "forearm": ("Character1_?ForeArm",), "hand": ("Character1_?Hand",), "thigh": ("Character1_?UpLeg",),
    "shin": ("Character1_?Leg",), "foot": ("Character1_?Foot",), "toe": ("Character1_?ToeBase",),
}  # fmt: skip
_FILES = {"cmubvh": (_CMU, "Left", "Right"), "daz": (_DAZ, "l", "r"), "snu": (_SNU, "Left", "Right")}


def load(data: Path, file: str, clip: str, *, step: int = 2) -> Performance:
    """One clip, every `step`th of its 60 frames a second, standing on z = 0."""
    parts, left, right = _FILES[file]
    arrays = read_npz(data / "motion" / f"motion_{file}.npz")
    index = [str(name) for name in arrays["clip_names"]].index(clip)
    start, count = int(arrays["clip_start"][index]), int(arrays["clip_len"][index])
    offsets = arrays["offsets"][int(arrays["clip_skeleton"][index])].astype(float) @ Z_UP.T
    names, parents = tuple(str(name) for name in arrays["joint_names"]), arrays["parents"]
    local = arrays["rot_xyzw_i16"][start : start + count : step].astype(float)[..., [3, 0, 1, 2]]
    local = Z_UP @ matrix_from_quaternion(local) @ Z_UP.T
    turns, heads, rest = np.empty_like(local), np.empty(local.shape[:3]), np.tile(np.eye(4), (len(names), 1, 1))
    for joint, parent in enumerate(parents):
        if parent < 0:
            turns[:, joint], heads[:, joint] = local[:, joint], arrays["root"][start : start + count : step] @ Z_UP.T
            continue
        turns[:, joint] = turns[:, parent] @ local[:, joint]
        heads[:, joint] = heads[:, parent] + turns[:, parent] @ offsets[joint]
        rest[joint, :3, 3] = rest[parent, :3, 3] + offsets[joint]
    rest[:, 2, 3] -= rest[:, 2, 3].min()
    rig = Rig(names, parents, rest, np.full(len(names), 0.1), name=file)
    mapping = Mapping(file, _bones(parts, left, right))
    feet = find_feet(rig, mapping)
    fps = 60.0 / step
    points = sole_points(rig, feet, turns, heads)
    floor = find_floor(points, np.ones(points.shape[:2]), fps, clearance=0.0)
    assert floor is not None
    return Performance(rig, mapping, turns, heads - [0, 0, floor.height], np.arange(len(turns)) / fps, name=clip)


def _bones(parts: dict[str, tuple[str, ...]], left: str, right: str) -> dict[str, tuple[str, ...]]:
    out = {}
    for role, chain in parts.items():
        sides = (("", ""),) if "?" not in chain[0] else ((".L", left), (".R", right))
        for suffix, name in sides:
            out[role + suffix] = tuple(bone.replace("?", name) for bone in chain)
    return out
