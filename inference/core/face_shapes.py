"""The 52 shapes of ARKit's faces, what other programs call them, and visemes made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

Array = np.ndarray
SHAPES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
EYES = tuple(name for name in SHAPES if name.startswith("eyeLook"))
VISEMES = (
    "viseme_sil", "viseme_PP", "viseme_FF", "viseme_TH", "viseme_DD", "viseme_kk", "viseme_CH", "viseme_SS",
    "viseme_nn", "viseme_RR", "viseme_aa", "viseme_E", "viseme_I", "viseme_O", "viseme_U",
)  # fmt: skip
# What a mouth does in each viseme, of the shapes below: jaw open, closed over an open jaw, lips pressed, funnel,
# pucker, smile, stretch, upper lip up, lower lip down, lower lip rolled in, tongue.
_MOUTH = (
    ("jawOpen",), ("mouthClose",), ("mouthPressLeft", "mouthPressRight"), ("mouthFunnel",), ("mouthPucker",),
    ("mouthSmileLeft", "mouthSmileRight"), ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthUpperUpLeft", "mouthUpperUpRight"), ("mouthLowerDownLeft", "mouthLowerDownRight"), ("mouthRollLower",),
    ("tongueOut",),
)  # fmt: skip
_VISEMES = np.array([
    [0.00, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.05, 0.1, 0.6, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0],
    [0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.3, 0.0, 0.6, 0.0],
    [0.15, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.2, 0.0, 0.4],
    [0.15, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.2, 0.3, 0.0, 0.0],
    [0.20, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.0, 0.0],
    [0.10, 0.0, 0.0, 0.7, 0.2, 0.0, 0.0, 0.2, 0.2, 0.0, 0.0],
    [0.05, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.2, 0.3, 0.0, 0.0],
    [0.12, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.2, 0.0, 0.0],
    [0.12, 0.0, 0.0, 0.4, 0.3, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0],
    [0.60, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.0, 0.0],
    [0.30, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.2, 0.2, 0.0, 0.0],
    [0.15, 0.0, 0.0, 0.0, 0.0, 0.5, 0.4, 0.1, 0.2, 0.0, 0.0],
    [0.40, 0.0, 0.0, 0.6, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.15, 0.0, 0.0, 0.4, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
])  # fmt: skip
_PREFIXES = frozenset({"def", "org", "bip", "mixamorig", "cc", "base", "rig", "jnt", "joint", "bone", "bn", "ctrl", "j",
                       "x", "c", "facial", "adj"})  # fmt: skip
_NO_BONES = frozenset({"lid", "lids", "brow", "end", "top", "nub", "target", "ik", "twist", "mch", "tweak", "aim",
                       "master", "socket", "lash"})  # fmt: skip
_SHARP = 24.0  # how clearly the nearest viseme wins over the others
_SIDES = {"l": "left", "r": "right"}
# What Live Link Face, MetaHuman, ICT-FaceKit and others write otherwise; as `_plain` gives it.
_ALIASES = {
    "cheekpuffleft": "cheekPuff", "browinnerupleft": "browInnerUp", "cheekpuffright": "cheekPuff",
    "browinnerupright": "browInnerUp",
}  # fmt: skip
_KNOWN = {name.replace("_", "").lower(): name for name in (*SHAPES, *VISEMES)}


def find_shape(name: str) -> str:
    """Give the ARKit (or viseme's) name that a shape key's name means, "" where it means none.

    Case, separators, prefixes of any kind ("head_", "ARKit.", "blendShape1.") and `_L`, `.R` for sides do not matter.
    """
    words = [word for word in re.split(r"[^0-9A-Za-z]+", name) if word]
    for start in range(len(words)):
        plain = _plain(words[start:])
        if plain in _KNOWN:
            return _KNOWN[plain]
        if plain in _ALIASES:
            return _ALIASES[plain]
    return _ending(_plain(words))


def _ending(plain: str) -> str:
    """The longest known name that a name without separators ends with, as "CC_Base_BodyjawOpen" does."""
    found = [known for known in _KNOWN if plain.endswith(known)]
    return _KNOWN[max(found, key=len)] if found else ""


def _plain(words: list[str]) -> str:
    """Join words in small letters, `L` and `R` at the end written out."""
    last = words[-1].lower() if words else ""
    text = "".join(words[:-1]).lower() + _SIDES.get(last, last) if len(words) > 1 else last
    match = re.fullmatch(r"(.*[a-z])([LR])", words[-1]) if words else None
    if match:  # eyeBlinkL
        text = ("".join(words[:-1]) + match[1]).lower() + _SIDES[match[2].lower()]
    return text


def find_bones(names: Iterable[str]) -> dict[str, str]:
    """Find the bones of the head and of the eyes by their names: "head", "eye.L" and "eye.R" -> a bone.

    Of several that fit, the shortest name is meant: bones of lids, helpers and targets have longer ones.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        last = re.split(r"[:|]", name)[-1]
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", last)]
        if not words or _NO_BONES & set(words):
            continue
        sides = {"left": "L", "l": "L", "right": "R", "r": "R"}
        side = next((sides[word] for word in words if word in sides), "")
        rest = "".join(word for word in words if word not in sides and not word.isdigit() and word not in _PREFIXES)
        if rest in ("head", "faceneckhead") and not side:
            found.setdefault("head", []).append(name)
        elif rest in ("eye", "eyeball", "faceeye") and side:
            found.setdefault(f"eye.{side}", []).append(name)
        elif rest in ("lefteye", "leye", "righteye", "reye"):
            found.setdefault("eye.L" if rest.startswith("l") else "eye.R", []).append(name)
    return {role: min(fitting, key=len) for role, fitting in found.items()}


def match_shapes(names: Iterable[str]) -> dict[str, list[str]]:
    """Find which shape keys mean which of the 52 shapes or visemes: ARKit's name -> names of keys, in order."""
    found: dict[str, list[str]] = {}
    for name in names:
        shape = find_shape(name)
        if shape:
            found.setdefault(shape, []).append(name)
    return found


def visemes_of(weights: Array) -> Array:
    """(T, 15) how much of each viseme a mouth shows, from (T, 52) weights; they sum to at most 1, silence included.

    Mouths are compared in the eleven movements that visemes differ in; each frame is shared among the nearest.
    """
    mouth = np.stack([weights[:, [SHAPES.index(name) for name in names]].mean(1) for names in _MOUTH], 1)
    apart = np.square(mouth[:, None] - _VISEMES).sum(-1)
    near = np.exp(-_SHARP * (apart - apart.min(1, keepdims=True)))
    return near / near.sum(1, keepdims=True)
