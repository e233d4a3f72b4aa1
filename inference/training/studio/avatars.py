"""Clothed avatars with known joints: load, pose with motion capture, and read true keypoints off them.

The avatars are the VALID set (MIT, Tiffany Do), y up, facing +z, rest axes equal to world axes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.rotations import between, matrix_from_quaternion
from ...core.skeletons import BODY_25, LEFT_HAND, OPENPOSE_137, RIGHT_HAND

Array = np.ndarray
Z_UP_FROM_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])

_LEG = ("UpLeg", "Leg", "Foot", "ToeBase")
_ARM = ("Shoulder", "Arm", "ForeArm", "Hand")
# avatar joint -> joint of the SNU motion sets, whose rest pose is the same T-pose
SNU_NAMES = {
    "Hips": "Character1_Hips", "Spine": "Character1_Spine", "Spine1": "Character1_Spine1",
    "Neck": "Character1_Neck", "Head": "Character1_Head",
    **{f"{s}{part}": f"Character1_{s}{part}" for s in ("Left", "Right") for part in (*_ARM, *_LEG)},
}  # fmt: skip
_BVH = {
    "Hips": "Hips", "Spine": "LowerBack", "Spine1": "Spine", "Spine2": "Spine1", "Neck": "Neck", "Head": "Head",
    **{f"{s}{part}": f"{s}{part}" for s in ("Left", "Right") for part in (*_ARM, *_LEG)},
}  # fmt: skip
_ASF = {
    "Hips": "root", "Spine": "lowerback", "Spine1": "upperback", "Spine2": "thorax", "Neck": "lowerneck",
    "Head": "head",
    **{
        f"{s}{mine}": f"{s[0].lower()}{theirs}"
        for s in ("Left", "Right")
        for mine, theirs in zip(
            (*_ARM, *_LEG), ("clavicle", "humerus", "radius", "wrist", "femur", "tibia", "foot", "toes"), strict=True
        )
    },
}  # fmt: skip
_DAZ = {
    "Hips": "hip", "Spine": "abdomen", "Spine1": "chest", "Neck": "neck", "Head": "head",
    **{
        f"{s}{mine}": f"{s[0].lower()}{theirs}"
        for s in ("Left", "Right")
        for mine, theirs in zip(
            (*_ARM, *_LEG[:3]), ("Collar", "Shldr", "ForeArm", "Hand", "Thigh", "Shin", "Foot"), strict=True
        )
    },
}  # fmt: skip
# motion set -> names; only sets whose rest pose faces +z with its arms out
RIGS = {
    "motion_snu": SNU_NAMES, "motion_snu_b": SNU_NAMES, "motion_asf": _ASF, "motion_cmubvh": _BVH, "motion_daz": _DAZ,
}  # fmt: skip
_FINGERS = (("Thumb", "Thumb"), ("Index", "Index"), ("Middle", "Middle"), ("Ring", "Ring"), ("Pinky", "Little"))


@dataclass(frozen=True)
class Avatar:
    """One rigged, textured person in a T-pose; metres, y up."""

    name: str
    vertices: Array  # (V, 3)
    faces: Array  # (F, 3)
    uv: Array  # (V, 2), v down
    face_texture: Array  # (F,) index into textures
    textures: tuple[Array, ...]  # each (H, W, 3) uint8
    skin_joint: Array  # (V, 4)
    skin_weight: Array  # (V, 4), rows sum to one
    joints: tuple[str, ...]
    parents: Array  # (J,)
    rest: Array  # (J, 3)


def load_avatar(path: Path) -> Avatar:
    """Read one avatar of the VALID set as stored for training."""
    with np.load(path, allow_pickle=False) as data:
        weights = data["skin_weight_u8"].astype(float)
        textures = [
            np.asarray(Image.open(io.BytesIO(data[name].tobytes())).convert("RGB"))
            for name in sorted(data.files)
            if name.endswith("_webp")
        ]
        return Avatar(
            name=path.stem,
            vertices=data["verts_100um_i16"] * 1e-4,
            faces=data["faces"].astype(np.int32),
            uv=data["uv_u16"] / 65535.0,
            face_texture=data["face_tex"].astype(np.int32),
            textures=tuple(textures),
            skin_joint=data["skin_joint"].astype(np.int32),
            skin_weight=weights / weights.sum(axis=1, keepdims=True),
            joints=tuple(str(name) for name in data["joint_names"]),
            parents=data["joint_parent"].astype(int),
            rest=data["joint_pos"].astype(float),
        )


@dataclass(frozen=True)
class Motion:
    """Rotations of one clip: local (T, J, 4) wxyz, root (T, 3) metres, y up."""

    joints: tuple[str, ...]
    parents: Array
    offsets: Array
    rotations: Array
    root: Array
    fps: float


def load_motion(path: Path, clip: str) -> Motion:
    """Read one clip of a motion set by name."""
    with np.load(path, allow_pickle=False) as data:
        index = [str(name) for name in data["clip_names"]].index(clip)
        rows = slice(int(data["clip_start"][index]), int(data["clip_start"][index] + data["clip_len"][index]))
        xyzw = data["rot_xyzw_i16"][rows].astype(float) / 32767.0
        wxyz = xyzw[..., [3, 0, 1, 2]]
        return Motion(
            joints=tuple(str(name) for name in data["joint_names"]),
            parents=data["parents"].astype(int),
            offsets=data["offsets"][int(data["clip_skeleton"][index])].astype(float),
            rotations=wxyz / np.linalg.norm(wxyz, axis=-1, keepdims=True),
            root=data["root"][rows].astype(float),
            fps=float(data["fps"]),
        )


def global_rotations(rotations: Array, parents: Array) -> Array:
    """(T, J, 3, 3) global rotations of local (T, J, 4) quaternions."""
    out = matrix_from_quaternion(rotations)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            out[:, joint] = out[:, parent] @ out[:, joint]
    return out


def _direction(rest: Array, parents: Array, joint: int) -> Array | None:
    children = np.flatnonzero(parents == joint)
    return None if len(children) != 1 else rest[children[0]] - rest[joint]


def retarget(avatar: Avatar, motion: Motion, names: dict[str, str]) -> tuple[Array, Array]:
    """Global rotations (T, J, 3, 3) and joint positions (T, J, 3) of the avatar moving like `motion`.

    Global rotations are copied where a joint has a counterpart, after turning the avatar's rest bone onto the
    source's; all other joints follow their parent. The root travels in proportion to the leg length.
    """
    source_rest = np.zeros((len(motion.joints), 3))
    for joint, parent in enumerate(motion.parents):
        if parent >= 0:
            source_rest[joint] = source_rest[parent] + motion.offsets[joint]
    source = global_rotations(motion.rotations, motion.parents)
    turns = np.zeros((len(motion.root), len(avatar.joints), 3, 3))
    for joint, (name, parent) in enumerate(zip(avatar.joints, avatar.parents, strict=True)):
        if name not in names:
            turns[:, joint] = turns[:, parent]
            continue
        other = motion.joints.index(names[name])
        mine, theirs = _direction(avatar.rest, avatar.parents, joint), _direction(source_rest, motion.parents, other)
        fix = np.eye(3)
        if mine is not None and theirs is not None and np.linalg.norm(theirs) > 1e-6:
            fix = matrix_from_quaternion(between(mine, theirs))
        turns[:, joint] = source[:, other] @ fix
    hip, ankle = avatar.joints.index("LeftUpLeg"), avatar.joints.index("LeftFoot")
    other_hip, other_ankle = motion.joints.index(names["LeftUpLeg"]), motion.joints.index(names["LeftFoot"])
    scale = np.linalg.norm(avatar.rest[hip] - avatar.rest[ankle]) / np.linalg.norm(
        source_rest[other_hip] - source_rest[other_ankle]
    )
    return turns, joint_positions(avatar, turns, motion.root * scale)


def joint_positions(avatar: Avatar, turns: Array, root: Array) -> Array:
    """(T, J, 3) joints for global rotations (T, J, 3, 3) and root positions (T, 3)."""
    out = np.empty(turns.shape[:2] + (3,))
    for joint, parent in enumerate(avatar.parents):
        if parent < 0:
            out[:, joint] = root
        else:
            out[:, joint] = out[:, parent] + turns[:, parent] @ (avatar.rest[joint] - avatar.rest[parent])
    return out


def skin(avatar: Avatar, turns: Array, joints: Array) -> Array:
    """(V, 3) vertices of one frame by linear blend skinning: turns (J, 3, 3), joints (J, 3)."""
    moved = np.zeros_like(avatar.vertices)
    for k in range(4):
        index = avatar.skin_joint[:, k]
        local = avatar.vertices - avatar.rest[index]
        moved += avatar.skin_weight[:, k, None] * (np.einsum("vij,vj->vi", turns[index], local) + joints[index])
    return moved


def curl_fingers(avatar: Avatar, turns: Array, amount: Array) -> Array:
    """Bend all fingers of (T, J, 3, 3) `turns` by `amount` (T, 2) radians per joint (left, right hand)."""
    out = turns.copy()
    for joint, name in enumerate(avatar.joints):
        if "Hand" not in name or name.endswith("Hand") or "Thumb" in name:
            continue
        left = name.startswith("Left")
        depth = int(name[-1])
        angle = amount[:, 0 if left else 1] * depth * (1.0 if left else -1.0)
        # fingers point along +-x in the rest pose with the palm down: bending turns about z
        half = angle / 2
        bend = np.stack([np.cos(half), 0 * half, 0 * half, -np.sin(half)], -1)
        out[:, joint] = turns[:, joint] @ matrix_from_quaternion(bend)
    return out


def _surface_points(avatar: Avatar) -> dict[str, tuple[str, Array]]:
    """Points on head and feet, as (joint that carries them, rest position)."""
    rest = dict(zip(avatar.joints, avatar.rest, strict=True))
    head_joint = avatar.joints.index("Head")
    carried = (avatar.skin_joint == head_joint) & (avatar.skin_weight > 0.5)
    head = avatar.vertices[carried.any(axis=1)]
    middle = head[(np.abs(head[:, 0]) < 0.01) & (head[:, 1] < rest["LeftEye"][1])]
    nose = middle[np.argmax(middle[:, 2])]
    height = nose[1] + 0.25 * (rest["LeftEye"][1] - nose[1])
    band = head[np.abs(head[:, 1] - height) < 0.02]
    points = {"Nose": ("Head", nose)}
    for side, letter, sign in (("Left", "L", 1.0), ("Right", "R", -1.0)):
        points[f"{letter}Eye"] = ("Head", rest[f"{side}Eye"] + [0.0, 0.0, 0.012])
        ear = band[np.argmax(sign * band[:, 0])]
        points[f"{letter}Ear"] = ("Head", np.array([ear[0], height, rest["Head"][2] + 0.01]))
        foot, toe = rest[f"{side}Foot"], rest[f"{side}ToeBase"]
        near = avatar.vertices[(avatar.vertices[:, 0] * sign > 0) & (avatar.vertices[:, 1] < 0.06)]
        tip = near[np.argmax(near[:, 2])]
        points[f"{letter}BigToe"] = (f"{side}ToeBase", np.array([toe[0] - sign * 0.02, 0.02, tip[2] - 0.02]))
        points[f"{letter}SmallToe"] = (f"{side}ToeBase", np.array([toe[0] + sign * 0.04, 0.02, tip[2] - 0.06]))
        heel = near[np.argmin(near[:, 2])]
        points[f"{letter}Heel"] = (f"{side}Foot", np.array([foot[0], 0.02, heel[2] + 0.02]))
    return points


def true_keypoints(avatar: Avatar, turns: Array, joints: Array) -> Array:
    """(T, 137, 3) true OpenPose keypoints in the avatar's world; NaN for the face, which the rig does not mark."""
    out = np.full((len(joints), len(OPENPOSE_137), 3), np.nan)
    index = {name: i for i, name in enumerate(avatar.joints)}
    for name, (carrier, rest) in _surface_points(avatar).items():
        joint = index[carrier]
        out[:, BODY_25.index(name)] = joints[:, joint] + turns[:, joint] @ (rest - avatar.rest[joint])
    for letter, side, block in (("L", "Left", LEFT_HAND), ("R", "Right", RIGHT_HAND)):
        pairs = {"Shoulder": "Arm", "Elbow": "ForeArm", "Wrist": "Hand", "Hip": "UpLeg", "Knee": "Leg", "Ankle": "Foot"}
        for mine, theirs in pairs.items():
            out[:, BODY_25.index(letter + mine)] = joints[:, index[side + theirs]]
        out[:, block.start] = joints[:, index[side + "Hand"]]
        for finger, (theirs, _) in enumerate(_FINGERS):
            chain = [index[f"{side}Hand{theirs}{i}"] for i in (1, 2, 3)]
            for i, joint in enumerate(chain):
                out[:, block.start + 1 + 4 * finger + i] = joints[:, joint]
            last = avatar.rest[chain[2]] - avatar.rest[chain[1]]
            out[:, block.start + 4 + 4 * finger] = joints[:, chain[2]] + turns[:, chain[2]] @ (last * 0.9)
    out[:, 1] = (out[:, 2] + out[:, 5]) / 2
    out[:, 8] = (out[:, 9] + out[:, 12]) / 2
    return out
