"""What bones' names say in whatever convention: which side, which is the same bone elsewhere, which are no limbs.

mirror_name("Bip01 L UpperArm")   "Bip01 R UpperArm"
key("mixamorig:LeftArm")          ("mixamorigarm", "L")
key("upper_arm.L")                ("upperarm", "L")
"""

from __future__ import annotations

import re
from functools import lru_cache

_OTHER = {
    "l": "r", "r": "l", "L": "R", "R": "L", "left": "right", "right": "left", "Left": "Right", "Right": "Left",
    "LEFT": "RIGHT", "RIGHT": "LEFT", "左": "右", "右": "左",
}  # fmt: skip
# In this order: a word at an end or between separators, a letter there, a word within, a letter before a capital.
_SIDES = (
    re.compile(r"(?:(?<=[\W_])|^)(left|right|Left|Right|LEFT|RIGHT)(?=[\W_]|$)"),
    re.compile(r"(?:(?<=[\W_])|^)([lrLR])(?=[\W_]|$)"),
    re.compile(r"([左右])"),
    re.compile(r"(?:(?<=[\W_])|^)(left|right|Left|Right|LEFT|RIGHT)(?=[A-Z0-9])"),
    re.compile(r"(?<=[a-z0-9])(Left|Right|LEFT|RIGHT)(?=[A-Z0-9\W_]|$)"),
    re.compile(r"(?:(?<=[\W_])|^)([lrLR])(?=[A-Z][a-z])"),
    re.compile(r"(?<=[a-z0-9])([LR])(?=[\W_]|$)"),
)
_TIP = re.compile(r"(?i)(?:^|[\W_])(?:end|nub|tip|site|effector|null)[\W_\d]*(?:[\W_][lr])?$")
_HELPER = re.compile(
    r"(?i)(?:^|[\W_\d])(?:ik|mch|pole|target|tgt|wgt|vis|helper|corrective\w*|prop\d*|weapon\w*|gun|attach\w*|socket\w*|"
    r"sec|hair\w*|skirt\w*|cloth\w*|cape\w*|coat\w*|bust\w*|breast\w*|boob\w*|pectoral\w*|tail\w*|wing\w*|ponytail\w*|"
    r"ear\w*|eye\w*|lid\w*|jaw\w*|tongue\w*|teeth|brow\w*|lip\w*|cheek\w*|nose\w*|facial|face\w*|footsteps|interaction|"
    r"scabbard|sword|shield|belt\w*|bag\w*|tweak\w*|physics|jiggle\w*|dyn\w*)(?:$|[\W_\d])"
)
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_TWIST = re.compile(r"(?i)twist|roll(?!er|ed|up)")


@lru_cache(maxsize=8192)
def _side_at(name: str) -> tuple[int, int] | None:
    """Where in a name its side stands."""
    for pattern in _SIDES:
        found = list(pattern.finditer(name))
        if found:
            return found[-1].span(1) if pattern is _SIDES[1] else found[0].span(1)
    return None


def side_of(name: str) -> str:
    """Tell "L" or "R" as a name says it, "" where it says nothing."""
    at = _side_at(name)
    return ("L" if name[at[0] : at[1]].lower() in ("l", "left", "左") else "R") if at else ""


def mirror_name(name: str) -> str:
    """Give the name of the same bone on the other side; a name without a side is its own."""
    at = _side_at(name)
    return name if at is None else name[: at[0]] + _OTHER[name[at[0] : at[1]]] + name[at[1] :]


@lru_cache(maxsize=8192)
def key(name: str) -> tuple[str, str]:
    """Give what two spellings of one bone's name share: its letters and figures without the side, and the side."""
    at = _side_at(name)
    stem = name if at is None else name[: at[0]] + " " + name[at[1] :]
    return re.sub(r"[\W_]+", "", stem).lower(), side_of(name)


@lru_cache(maxsize=8192)
def is_tip(name: str) -> bool:
    """Tell whether a bone only marks where its parent ends, as in files of motion."""
    return _TIP.search(_HUMP.sub(" ", name)) is not None


@lru_cache(maxsize=8192)
def is_helper(name: str) -> bool:
    """Tell whether a name says that a bone is no limb, but a control, clothing, hair, part of a face or a thing."""
    return _HELPER.search(_HUMP.sub(" ", name)) is not None


def is_twist(name: str) -> bool:
    """Tell whether a name says that a bone shares a limb's turning about itself."""
    return _TWIST.search(name) is not None
