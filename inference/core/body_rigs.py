"""A body of the model anny on the skeletons of other programs: fewer bones, other names, the same skin and motion.

Every bone of another skeleton takes the place of a bone of anny and of those that follow it; what no bone takes goes
to the nearest ancestor that has one. Rotations are those of the bone that is replaced, so motions stay what they are
where the replaced bones moved as one, as captured ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..protocol.errors import InputError
from .artifacts import BodyMesh, BodyParameters
from .body import global_turns, local_turns

Array = np.ndarray
Rig = Literal["anny", "rigify", "game-engine", "mixamo"]
RIGS: tuple[Rig, ...] = ("anny", "rigify", "game-engine", "mixamo")
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_TOES = tuple(f"toe{number}-{joint}" for number in range(1, 6) for joint in (1, 2, 3) if (number, joint) != (1, 3))


@dataclass(frozen=True)
class _Bone:
    """One bone: its name, the bone of anny it replaces, and the bone of anny at whose head it ends ("" its own end).

    type: of Rigify.
    """

    name: str
    source: str
    end: str = ""
    type: str = ""


def _middle(names: Sequence[str], types: dict[str, str] | None = None) -> list[_Bone]:
    """Hips, three of the spine, one or two of the neck, head."""
    sources = ["root", "spine05", "spine03", "spine01", "neck01", "neck02", "head"]
    if len(names) < len(sources):
        sources.remove("neck02")
    ends = ["spine05", *sources[2:], ""]
    given = types or {}
    rows = zip(names, sources, ends, strict=True)
    return [_Bone(name, source, end, given.get(name, "")) for name, source, end in rows]


def _sided(side: str, names: dict[str, str], types: dict[str, str]) -> list[_Bone]:
    sources = {
        "clavicle": ("clavicle", "upperarm01"), "upperarm": ("upperarm01", "lowerarm01"),
        "forearm": ("lowerarm01", "wrist"), "hand": ("wrist", "finger3-1"), "thigh": ("upperleg01", "lowerleg01"),
        "shin": ("lowerleg01", "foot"), "foot": ("foot", "toe2-1"), "toes": ("toe2-1", "toe2-3"),
    }  # fmt: skip
    bones = [
        _Bone(names[part], f"{source}.{side}", "" if part in ("hand",) else f"{end}.{side}", types.get(part, ""))
        for part, (source, end) in sources.items()
    ]
    for number in range(1, 5):
        if "palm" in names:
            kind = types.get("palm", "") if number == 1 else ""
            bones.append(_Bone(names["palm"].format(number), f"metacarpal{number}.{side}", "", kind))
    for finger, word in enumerate(_FINGERS, 1):
        for joint in (1, 2, 3):
            kind = types.get("finger", "") if joint == 1 else ""
            bones.append(
                _Bone(names["finger"].format(names.get(word, word), joint), f"finger{finger}-{joint}.{side}", "", kind)
            )
    return bones


def _mixamo() -> list[_Bone]:
    bones = _middle(["mixamorig:" + name for name in ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head")])
    words = {
        "clavicle": "Shoulder", "upperarm": "Arm", "forearm": "ForeArm", "hand": "Hand", "thigh": "UpLeg",
        "shin": "Leg", "foot": "Foot", "toes": "ToeBase", "finger": "Hand{}{}", "thumb": "Thumb", "index": "Index",
        "middle": "Middle", "ring": "Ring", "pinky": "Pinky",
    }  # fmt: skip
    for side, word in (("L", "Left"), ("R", "Right")):
        fingers = {name: words[name] for name in _FINGERS}
        names = {part: f"mixamorig:{word}{text}" for part, text in words.items() if part not in _FINGERS}
        bones += _sided(side, {**names, **fingers}, {})
    return bones


def _game_engine() -> list[_Bone]:
    bones = _middle(["pelvis", "spine_01", "spine_02", "spine_03", "neck_01", "head"])
    words = {
        "clavicle": "clavicle", "upperarm": "upperarm", "forearm": "lowerarm", "hand": "hand", "thigh": "thigh",
        "shin": "calf", "foot": "foot", "toes": "ball", "finger": "{}_0{}",
    }  # fmt: skip
    for side in ("L", "R"):
        bones += _sided(side, {part: f"{text}_{side.lower()}" for part, text in words.items()}, {})
    return bones


def _rigify() -> list[_Bone]:
    """The bones of Rigify's own human without its face, whose control rig is generated with one click."""
    spine = ["spine", *(f"spine.00{number}" for number in range(1, 7))]
    bones = _middle(spine, {"spine": "spines.basic_spine", "spine.004": "spines.super_head"})
    types = {
        "clavicle": "basic.super_copy", "upperarm": "limbs.arm", "thigh": "limbs.leg", "palm": "limbs.super_palm",
        "finger": "limbs.super_finger",
    }  # fmt: skip
    words = {
        "clavicle": "shoulder", "upperarm": "upper_arm", "forearm": "forearm", "hand": "hand", "thigh": "thigh",
        "shin": "shin", "foot": "foot", "toes": "toe", "palm": "palm.0{}", "finger": "{}.0{}",
    }  # fmt: skip
    fingers = {"index": "f_index", "middle": "f_middle", "ring": "f_ring", "pinky": "f_pinky"}
    for side in ("L", "R"):
        bones += _sided(side, {**{part: f"{text}.{side}" for part, text in words.items()}, **fingers}, types)
        bones.append(_Bone(f"heel.02.{side}", f"heel.{side}"))
    return bones


_MAKE = {"rigify": _rigify, "game-engine": _game_engine, "mixamo": _mixamo}


def convert(mesh: BodyMesh, rig: str) -> BodyMesh:
    """Put a body on another skeleton; its header's `sources` name the bones of anny that were replaced.

    Raises:
        InputError: there is no such skeleton, or the body is not one of anny's.
    """
    if rig == "anny":
        return mesh.with_header(sources=list(mesh.header["bones"]))
    if rig not in _MAKE:
        raise InputError(f"There is no skeleton {rig!r}; known are {', '.join(RIGS)}.")
    bones, index = _MAKE[rig](), {name: row for row, name in enumerate(mesh.header["bones"])}
    missing = [bone.source for bone in bones if bone.source not in index and not bone.source.startswith("heel")]
    if missing:
        raise InputError(f"This body has no bone {missing[0]!r}: only bodies of anny are put on other skeletons.")
    parents, owner = _hang(bones, mesh.parents, index)
    heads, tails = _ends(bones, index, mesh.heads, mesh.tails)
    moved = [
        _ends(bones, index, *ends, offset=0.0) for ends in zip(mesh.parameter_heads, mesh.parameter_tails, strict=True)
    ]
    shape = (len(moved), len(bones), 3)
    rolls = np.stack([mesh.rolls[index[_source(bone)]] for bone in bones])
    rolls[[bone.source.startswith("heel") for bone in bones]] = (0.0, 0.0, 1.0)
    bone_index = owner[mesh.bone_index].astype(np.int32)
    return replace(
        mesh, bone_index=bone_index, parents=parents, heads=heads, tails=tails, rolls=rolls,
        parameter_heads=np.array([ends[0] for ends in moved], np.float32).reshape(shape),
        parameter_tails=np.array([ends[1] for ends in moved], np.float32).reshape(shape),
    ).with_header(
        bones=[bone.name for bone in bones], sources=[_source(bone) for bone in bones], rig=rig,
        rigify_types={bone.name: bone.type for bone in bones if bone.type},
    )  # fmt: skip


def convert_motion(parameters: BodyParameters, mesh: BodyMesh, target: BodyMesh) -> BodyParameters:
    """Give the motion of `mesh` to the bones of `target`, which `convert` made of it."""
    if target.header.get("rig", "anny") == "anny":
        return parameters
    index = {name: row for row, name in enumerate(mesh.header["bones"])}
    turns = global_turns(parameters.pose, mesh.parents)
    chosen = turns[:, [index[name] for name in target.header["sources"]]]
    root = parameters.root + turns[:, 0] @ (target.heads[0] - mesh.heads[0])
    moved = replace(parameters, pose=local_turns(chosen, target.parents), root=root)
    return moved.with_header(bones=list(target.header["bones"]))


def _source(bone: _Bone) -> str:
    return f"foot{bone.source[4:]}" if bone.source.startswith("heel") else bone.source


def _hang(bones: Sequence[_Bone], parents: Array, index: dict[str, int]) -> tuple[Array, Array]:
    """Parents (B,) of the new bones, and (104,) which new bone each of anny's goes to."""
    taken = {index[bone.source]: row for row, bone in enumerate(bones) if bone.source in index}
    for side in (".L", ".R"):
        taken |= {index[f"{toe}{side}"]: taken[index[f"toe2-1{side}"]] for toe in _TOES}
    owner = np.zeros(len(parents), int)
    for bone in range(len(parents)):
        owner[bone] = taken[bone] if bone in taken else owner[parents[bone]]
    above = [
        index[_source(bone)] if bone.source.startswith("heel") else int(parents[index[bone.source]]) for bone in bones
    ]
    return np.array([-1 if row < 0 else owner[row] for row in above], np.int32), owner


def _ends(
    bones: Sequence[_Bone], index: dict[str, int], heads: Array, tails: Array, *, offset: float = 1.0
) -> tuple[Array, Array]:
    """Heads and tails (B, 3) of the new bones, linear in anny's; `offset` 0 for displacements."""
    first, last = [], []
    for bone in bones:
        row = index[_source(bone)]
        if bone.source.startswith("heel"):
            side = 1.0 if bone.source.endswith("L") else -1.0
            middle = heads[row] + offset * np.array([0.0, 0.06, -0.055])
            across = offset * np.array([0.03 * side, 0.0, 0.0])
            first.append(middle - across)
            last.append(middle + across)
            continue
        first.append(_hips(heads, index, offset) if bone.source == "root" else heads[row])
        last.append(heads[index[bone.end]] if bone.end else tails[row])
    return np.stack(first), np.stack(last)


def _hips(heads: Array, index: dict[str, int], offset: float) -> Array:
    """Where the hips begin: below anny's root, whose spine begins where it does itself."""
    thighs = 0.5 * (heads[index["upperleg01.L"]] + heads[index["upperleg01.R"]])
    return heads[index["root"]] * [1, 1, 0] + thighs * [0, 0, 1] - offset * np.array([0.0, 0.0, 0.06])
