"""Mappings as files: which bones of a rig fill which roles, one JSON file a rig, to be shared.

    {
      "format": "understudy-mapping", "version": 1, "name": "My rig",
      "bones": {"hips": ["pelvis"], "spine": ["spine_01", "spine_02"], "upper_arm.L": ["upperarm_l"], ...},
      "ik": [{"role": "hand.L", "target": "hand_ik_l", "pole": "elbow_pole_l", "follow": ["wrist_roll_l"],
              "fk": [{"bone": "settings_l", "name": "IK_FK", "value": 1}],
              "ik": [{"bone": "settings_l", "name": "IK_FK", "value": 0}]}],
      "settings": [{"bone": "torso", "name": "neck_follow", "value": 1}]
    }

`bones` names roles (`core/rig.py: ROLES`) and the bones of each from the root outwards. A rig needs not have them all:
those that it lacks are passed over, so one file may serve several versions of a rig. `ik`, all of whose keys but `role`
and `target` may be left away, are the controls of inverse kinematics: what the limb's end follows, what its middle
joint points at, which controls have to be at rest beside them, and which custom properties of which bones (""
for the armature) mean FK and IK. `settings` are properties that must have a value while the mapped bones drive the rig.

Names that differ in prefix, in case, in spaces, points and underscores, or in how the side is written, still match
(`core/mapper.py`).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping as Table
from functools import cache
from pathlib import Path
from typing import Any

from ....protocol.errors import InputError
from ....protocol.files import atomic_write_text
from ...formats.text import read_json
from ...rig import ROLES, IkLimb, Mapping, Property

FORMAT, VERSION = "understudy-mapping", 1
FOLDER = Path(__file__).resolve().parent
MAX_BYTES = 1 << 20
MAX_CHAIN, MAX_ITEMS, MAX_NAME = 64, 256, 128  # Blender's bones have 63 bytes, other programs' more


@cache
def mappings() -> dict[str, Mapping]:
    """Read the mappings that come along, by name."""
    found = [read_mapping(path) for path in sorted(FOLDER.glob("*.json"))]
    return {mapping.name: mapping for mapping in found}


def user_mappings(folder: Path) -> tuple[dict[str, Mapping], list[str]]:
    """Read the mappings of a folder, by name, and say which files cannot be used."""
    found, problems = {}, []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            mapping = read_mapping(path)
        except InputError as error:
            problems.append(error.message)
        else:
            found[mapping.name] = mapping
    return found, problems


def read_mapping(path: Path) -> Mapping:
    """Read a mapping from its file.

    Raises:
        InputError: names the file and the key that is wrong.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name} has {path.stat().st_size:,} bytes; a mapping has at most {MAX_BYTES:,}.")
    try:
        return decode(read_json(path))
    except _WrongKey as error:
        raise InputError(f"{path.name}: {error.message}", error.hint) from error


def write_mapping(path: Path, mapping: Mapping) -> None:
    """Write a mapping whole or not at all, one role a line.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    decode(encode(mapping))  # nothing is written that could not be read again
    atomic_write_text(Path(path), dumps(mapping))


def dumps(mapping: Mapping) -> str:
    """Give a mapping as the text of its file."""
    table = encode(mapping)
    parts = [f'  "{key}": {json.dumps(table[key], ensure_ascii=False)}' for key in ("format", "version", "name")]
    roles = [f"    {json.dumps(role)}: {_line(chain)}" for role, chain in table["bones"].items()]
    parts.append('  "bones": {\n' + ",\n".join(roles) + "\n  }")
    lists = {key: [f"    {_line(item)}" for item in table.get(key, ())] for key in ("ik", "settings")}
    parts += [f'  "{key}": [\n' + ",\n".join(lines) + "\n  ]" for key, lines in lists.items() if lines]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def encode(mapping: Mapping) -> dict[str, Any]:
    """Turn a mapping into JSON values; what is empty is left away."""
    order = sorted(mapping.bones, key=lambda role: ROLES.index(role) if role in ROLES else len(ROLES))
    table: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": mapping.name}
    table["bones"] = {role: list(mapping.bones[role]) for role in order if mapping.bones[role]}
    if mapping.ik:
        table["ik"] = [_limb(limb) for limb in mapping.ik]
    if mapping.settings:
        table["settings"] = _properties(mapping.settings)
    return table


def _limb(limb: IkLimb) -> dict[str, Any]:
    table = {"role": limb.role, "target": limb.target, "pole": limb.pole, "follow": list(limb.follow)}
    table |= {"fk": _properties(limb.fk), "ik": _properties(limb.ik)}
    return {key: value for key, value in table.items() if value}


def _properties(properties: tuple[Property, ...]) -> list[dict[str, Any]]:
    return [{"bone": item.bone, "name": item.name, "value": item.value} for item in properties]


# Reading --------------------------------------------------------------------------------------------------------------


class _WrongKey(InputError):
    """A value that a mapping must not hold; the file's name is not known yet."""


def decode(value: Any) -> Mapping:
    """Make a mapping of JSON values.

    Raises:
        InputError: its message begins with the key, as in `bones.upperarm.L: there is no such role`.
    """
    table = _table(value, "", {"format", "version", "name", "bones", "ik", "settings"}, ("format", "name", "bones"))
    if table["format"] != FORMAT:
        raise _WrongKey(
            f"format: is {_shown(table['format'])}, not '{FORMAT}': the file is no mapping of Understudy's."
        )
    if type(table.get("version", VERSION)) is not int or table.get("version", VERSION) > VERSION:
        raise _WrongKey(
            f"version: {_shown(table['version'])} cannot be read, only {VERSION}.",
            "Update Understudy to read this file.",
        )
    name = _name(table["name"], "name")
    limbs = _items(table.get("ik", []), "ik", 16)
    return Mapping(
        name,
        _bones(table["bones"]),
        ik=tuple(_read_limb(item, f"ik[{row}]") for row, item in enumerate(limbs)),
        settings=_read_properties(table.get("settings", []), "settings"),
    )


def _bones(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Table):
        raise _WrongKey(f"bones: {_shown(value)} is not an object of roles.")
    chains: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for role, chain in value.items():
        _role(role, f"bones.{str(role)[:80]}")
        names = [
            _name(item, f"bones.{role}[{row}]") for row, item in enumerate(_items(chain, f"bones.{role}", MAX_CHAIN))
        ]
        for name in names:
            if name in seen:
                raise _WrongKey(f"bones.{role}: the bone '{name}' fills {seen[name]} already; a bone has one role.")
            seen[name] = role
        if names:
            chains[role] = tuple(names)
    return chains


def _role(role: Any, key: str) -> str:
    if role not in ROLES:
        close = difflib.get_close_matches(str(role)[:MAX_NAME], ROLES, 1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else f"Roles are {', '.join(ROLES)}."
        raise _WrongKey(f"{key}: there is no such role.", hint)
    return role


def _read_limb(value: Any, key: str) -> IkLimb:
    table = _table(value, key, {"role", "target", "pole", "follow", "fk", "ik"}, ("role", "target"))
    follow = _items(table.get("follow", []), f"{key}.follow", MAX_CHAIN)
    role = _role(table["role"], f"{key}.role")
    if not role.startswith(("hand.", "foot.", "toe.")):
        raise _WrongKey(f"{key}.role: {role} is not the end of a limb, which is a hand, a foot or a toe.")
    return IkLimb(
        role,
        _name(table["target"], f"{key}.target"),
        pole=_name(table["pole"], f"{key}.pole") if table.get("pole") else "",
        follow=tuple(_name(item, f"{key}.follow[{row}]") for row, item in enumerate(follow)),
        fk=_read_properties(table.get("fk", []), f"{key}.fk"),
        ik=_read_properties(table.get("ik", []), f"{key}.ik"),
    )


def _read_properties(value: Any, key: str) -> tuple[Property, ...]:
    out = []
    for row, item in enumerate(_items(value, key, MAX_ITEMS)):
        here = f"{key}[{row}]"
        table = _table(item, here, {"bone", "name", "value"}, ("bone", "name", "value"))
        number = table["value"]
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < math.inf:
            raise _WrongKey(f"{here}.value: {_shown(number)} is not a number.")
        bone = table["bone"]
        out.append(Property(_name(bone, f"{here}.bone") if bone else "", _name(table["name"], f"{here}.name"), number))
    return tuple(out)


def _table(value: Any, key: str, known: set[str], needed: tuple[str, ...]) -> dict[str, Any]:
    at = f"{key}." if key else ""
    if not isinstance(value, Table):
        raise _WrongKey(f"{key or 'the file'}: {_shown(value)} is not an object.")
    for name in value:
        if name not in known:
            close = difflib.get_close_matches(str(name)[:MAX_NAME], known, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(sorted(known))}."
            raise _WrongKey(f"{at}{str(name)[:80]}: there is no such key.", hint)
    for name in needed:
        if name not in value:
            raise _WrongKey(f"{at}{name}: is missing.")
    return dict(value)


def _items(value: Any, key: str, limit: int) -> list[Any]:
    if not isinstance(value, list):
        raise _WrongKey(f"{key}: {_shown(value)} is not a list.")
    if len(value) > limit:
        raise _WrongKey(f"{key}: has {len(value):,} items; at most {limit} are read.")
    return value


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME:
        raise _WrongKey(f"{key}: {_shown(value)} is not a name of 1 to {MAX_NAME} characters.")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
