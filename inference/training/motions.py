"""Motion capture of many rigs as one thing: global rotations of the 22 parts of `surface`, per frame.

Rotations take a part from the rest pose of `anny` (x left, y back, z up) to the world (z up). A source rig's own rest
pose is matched once: each part of anny's rest pose is turned, by the shortest arc and after its parent, until it points
where the source's bone points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.artifacts import read_npz
from ..core.rotations import between, matrix_from_quaternion, quaternion_from_matrix, slerp
from . import surface

Array = np.ndarray

_Y_UP_FACING_Z = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # to anny's axes
_Y_UP_FACING_X = np.array([[0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]])
_Z_UP_FACING_MINUS_Y = np.eye(3)

# part -> (joint, blended joint or "", joint the part points at or ""). Limbs are written for the left side.
_ASF = {
    "pelvis": "root", "spine_low": "lowerback", "spine_mid": "upperback", "chest": "thorax", "neck": "upperneck",
    "head": "head", "clavicle": "?clavicle>?humerus", "upperarm": "?humerus>?radius", "forearm": "?radius>?wrist",
    "hand": "?hand>?fingers", "thigh": "?femur>?tibia", "shin": "?tibia>?foot", "foot": "?foot>?toes",
    "toes": "?toes>?toes_End",
}  # fmt: skip
_CMUBVH = {
    "pelvis": "Hips", "spine_low": "LowerBack", "spine_mid": "Spine", "chest": "Spine1", "neck": "Neck1",
    "head": "Head", "clavicle": "?Shoulder>?Arm", "upperarm": "?Arm>?ForeArm", "forearm": "?ForeArm>?Hand",
    "hand": "?Hand>?HandIndex1", "thigh": "?UpLeg>?Leg", "shin": "?Leg>?Foot", "foot": "?Foot>?ToeBase",
    "toes": "?ToeBase>?ToeBase_End",
}  # fmt: skip
_DAZ = {
    "pelvis": "hip", "spine_low": "abdomen", "spine_mid": "abdomen+chest", "chest": "chest", "neck": "neck",
    "head": "head", "clavicle": "?Collar>?Shldr", "upperarm": "?Shldr>?ForeArm", "forearm": "?ForeArm>?Hand",
    "hand": "?Hand", "thigh": "?Thigh>?Shin", "shin": "?Shin>?Foot", "foot": "?Foot>?Foot_End", "toes": "?Foot",
}  # fmt: skip
_MB = {
    "pelvis": "Hips", "spine_low": "lowerback", "spine_mid": "Chest", "chest": "Chest2", "neck": "Neck", "head": "Head",
    "clavicle": "?Collar>?Shoulder", "upperarm": "?Shoulder>?Elbow", "forearm": "?Elbow>?Wrist",
    "hand": "?Wrist", "thigh": "?Hip>?Knee", "shin": "?Knee>?Ankle", "foot": "?Ankle>?Toe",
    "toes": "?Toe>?Toe_End",
}  # fmt: skip
_DM = {
    "pelvis": "root", "spine_low": "root+chest", "spine_mid": "chest", "chest": "chest", "neck": "neck",
    "head": "neck", "clavicle": "chest", "upperarm": "?_shoulder>?_elbow", "forearm": "?_elbow>?_wrist",
    "hand": "?_elbow", "thigh": "?_hip>?_knee", "shin": "?_knee>?_ankle", "foot": "?_ankle", "toes": "?_ankle",
}  # fmt: skip
_FAIR = {
    "pelvis": "Hips", "spine_low": "Spine", "spine_mid": "Spine1+Spine2", "chest": "Spine3", "neck": "Neck",
    "head": "Head", "clavicle": "?Shoulder>?Arm", "upperarm": "?Arm>?ForeArm", "forearm": "?ForeArm>?Hand",
    "hand": "?Hand", "thigh": "?UpLeg>?Leg", "shin": "?Leg>?Foot", "foot": "?Foot>?ToeBase",
    "toes": "?ToeBase>?ToeBase_End",
}  # fmt: skip
_SNU = {
    "pelvis": "Hips", "spine_low": "Spine", "spine_mid": "Spine+Spine1", "chest": "Spine1", "neck": "Neck",
    "head": "Head", "clavicle": "?Shoulder>?Arm", "upperarm": "?Arm>?ForeArm", "forearm": "?ForeArm>?Hand",
    "hand": "?Hand", "thigh": "?UpLeg>?Leg", "shin": "?Leg>?Foot", "foot": "?Foot>?ToeBase", "toes": "?ToeBase",
}  # fmt: skip
_SNU_B = _SNU | {"spine_mid": "Spine1", "chest": "Spine2"}


@dataclass(frozen=True)
class Rig:
    """How a source names its joints, and the axes its rest pose is written in."""

    parts: dict[str, str]
    axes: Array
    left: str
    right: str
    prefix: str = ""


# motion_cc is left out: its identity pose lays every bone along its own y axis, so no rest pose is known.
RIGS = {
    "asf": Rig(_ASF, _Y_UP_FACING_Z, "l", "r"),
    "cmubvh": Rig(_CMUBVH, _Y_UP_FACING_Z, "Left", "Right"),
    "daz": Rig(_DAZ, _Y_UP_FACING_Z, "l", "r"),
    "mb": Rig(_MB, _Y_UP_FACING_Z, "Left", "Right"),
    "dm": Rig(_DM, _Y_UP_FACING_X, "left", "right"),
    "fair": Rig(_FAIR, _Z_UP_FACING_MINUS_Y, "Left", "Right"),
    "snu": Rig(_SNU, _Y_UP_FACING_Z, "Left", "Right", "Character1_"),
    "snu_b": Rig(_SNU_B, _Y_UP_FACING_Z, "Left", "Right", "Character1_"),
}

# Who is never trained on. `val` chooses models; `test` is only reported.
VALIDATION = ("asf/02", "snu/", "snu_b/")
TEST = ("daz/indian", "mb/131", "mb/jumping_jacks", "fair/")
# Sampling weight of a source in training, per frame (acrobatics are rare, salsa is not).
WEIGHTS = (("dm/stealthy_walk", 0.7), ("dm/long", 0.7), ("dm/", 5.0), ("daz/salsa", 0.6), ("daz/martial", 1.5))


@dataclass(frozen=True)
class Motions:
    """Clips end to end.

    rotations (N, 22, 3, 3) float32; root (N, 3) in units of the leg's length; clip (N,) index of the clip;
    weights (N,) for sampling; names: "rig/clip" per clip; fps: 60 for all.
    """

    rotations: Array
    root: Array
    clip: Array
    weights: Array
    names: tuple[str, ...]
    fps: float = 60.0

    def select(self, keep: Array) -> Motions:
        """Keep the frames where (N,) `keep` is true."""
        return Motions(self.rotations[keep], self.root[keep], self.clip[keep], self.weights[keep], self.names)


def load(data: Path, split: str, rest_directions: Array) -> Motions:
    """Read every rig's clips of a split: "train", "val" or "test".

    `rest_directions` (22, 3) say where anny's parts point in its rest pose.
    """
    rotations, root, clips, weights, names = [], [], [], [], []
    for name in RIGS:
        file = read_npz(data / "motion" / f"motion_{name}.npz")
        for index, clip in enumerate(file["clip_names"]):
            label = f"{name}/{clip}"
            if split_of(label) != split:
                continue
            start, count = int(file["clip_start"][index]), int(file["clip_len"][index])
            frames = slice(start, start + count)
            turn, position = _retarget(RIGS[name], file, frames, int(file["clip_skeleton"][index]), rest_directions)
            rotations.append(turn.astype(np.float32))
            root.append(position.astype(np.float32))
            clips.append(np.full(count, len(names)))
            weights.append(np.full(count, next((w for p, w in WEIGHTS if label.startswith(p)), 1.0), np.float32))
            names.append(label)
    return Motions(*(np.concatenate(a) for a in (rotations, root, clips, weights)), names=tuple(names))


def read_clip(data: Path, label: str, rest_directions: Array) -> tuple[Array, Array]:
    """Read one clip, "rig/clip": rotations (N, 22, 3, 3), and root (N, 3) in units of the leg's length; 60 fps."""
    name, _, clip = label.partition("/")
    file = read_npz(data / "motion" / f"motion_{name}.npz")
    index = [str(known) for known in file["clip_names"]].index(clip)
    start = int(file["clip_start"][index])
    frames = slice(start, start + int(file["clip_len"][index]))
    return _retarget(RIGS[name], file, frames, int(file["clip_skeleton"][index]), rest_directions)


def split_of(label: str) -> str:
    """Tell the split of "rig/clip"."""
    if label.startswith(VALIDATION):
        return "val"
    return "test" if label.startswith(TEST) else "train"


def _retarget(
    rig: Rig, file: dict[str, Array], frames: slice, skeleton: int, rest_directions: Array
) -> tuple[Array, Array]:
    names, parents = [str(n) for n in file["joint_names"]], file["parents"]
    local = file["rot_xyzw_i16"][frames].astype(float)[..., [3, 0, 1, 2]]
    local = matrix_from_quaternion(local)
    turn = np.empty_like(local)
    rest = np.zeros((len(names), 3))
    for joint, parent in enumerate(parents):
        turn[:, joint] = local[:, joint] if parent < 0 else turn[:, parent] @ local[:, joint]
        rest[joint] = 0.0 if parent < 0 else rest[parent] + file["offsets"][skeleton][joint]
    out = np.empty((len(local), len(surface.PARTS), 3, 3))
    match: list[Array] = []
    for part, (name, parent, _) in enumerate(surface.PARTS):
        joints, blend, aim = _resolve(rig, name, names)
        source = turn[:, joints]
        if blend is not None:
            source = _halfway(source, turn[:, blend])
        direction = None if aim is None else rig.axes @ (rest[aim] - rest[joints])
        match.append(_match(name, match[parent] if parent >= 0 else np.eye(3), rest_directions[part], direction))
        out[:, part] = _Y_UP_FACING_Z @ source @ rig.axes.T @ match[part]
    leg = _leg_length(rig, names, rest)
    return out, file["root"][frames] @ _Y_UP_FACING_Z.T / leg


def _resolve(rig: Rig, name: str, names: list[str]) -> tuple[int, int | None, int | None]:
    base, _, side = name.partition(".")
    text = rig.parts[base].replace("?", rig.left if side == "L" else rig.right)
    source, _, aim = text.partition(">")
    first, _, second = source.partition("+")

    def index(joint: str) -> int | None:
        if not joint:
            return None
        return names.index(rig.prefix + joint)

    found = index(first)
    assert found is not None
    return found, index(second), index(aim)


def _match(name: str, before: Array, now: Array, wanted: Array | None) -> Array:
    """(3, 3) turn of a part of anny's rest pose that makes it point where the source's bone points.

    It starts from the parent's turn `before`; `now` is the part's own rest direction. Torso, clavicles and feet stand
    alike in every rest pose and are not turned.
    """
    if not name.startswith(("upperarm", "forearm", "hand", "thigh", "shin")):
        return np.eye(3)
    if wanted is None:
        return before
    return matrix_from_quaternion(between(before @ now, wanted)) @ before


def _halfway(a: Array, b: Array) -> Array:
    return matrix_from_quaternion(slerp(quaternion_from_matrix(a), quaternion_from_matrix(b), 0.5))


def _leg_length(rig: Rig, names: list[str], rest: Array) -> float:
    hip, _, knee = _resolve(rig, "thigh.L", names)
    knee2, _, ankle = _resolve(rig, "shin.L", names)
    assert knee is not None and ankle is not None
    return float(np.linalg.norm(rest[knee] - rest[hip]) + np.linalg.norm(rest[ankle] - rest[knee2]))
