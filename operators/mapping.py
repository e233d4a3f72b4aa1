"""Mappings: which bone of a character does what, recognised, kept with the character, and as presets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, UnderstudyError
from .base import sentence
from .session import redraw

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.core.mapping.mapper import Match
    from ..inference.core.rig import Mapping

_ALIKE = 0.1  # share of a bone's length by which its mirror image may lie elsewhere


def target_rig(context: bpy.types.Context) -> bpy.types.Object | None:
    """Give the armature that is to move: the chosen one, or the active one."""
    chosen = context.scene.understudy.retarget.rig
    if chosen is not None:
        return chosen
    active = context.active_object
    if active is not None and active.type == "MESH":  # a click on a character hits its skin
        active = active.find_armature()
    return active if active is not None and active.type == "ARMATURE" else None


def mapping_of(rig: bpy.types.Object) -> Mapping:
    """Give the mapping that the user has made or corrected; without one, what is recognised.

    Raises:
        InputError: a bone fills two roles, or nothing is recognised; names the bone.
    """
    return match_of(rig).mapping


def match_of(rig: bpy.types.Object) -> Match:
    """Give `mapping_of` with how it was found, and notes.

    Raises:
        InputError: a bone fills two roles, or nothing is recognised; names the bone.
    """
    from ..inference.core.mapping.mapper import Match

    stored = stored_mapping(rig)
    return recognise(rig) if stored is None else Match(stored, 1.0, "kept")


def given_match(name: str, rig: bpy.types.Object) -> Match:
    """Lay the mapping of that name, or of that file, onto an armature.

    Raises:
        InputError: there is no such mapping, or the armature lacks its bones.
    """
    from ..inference.core.mapping.mapper import Match

    return Match(fit(find_mapping(name), rig), 1.0, "given")


def recognise(rig: bpy.types.Object, *, presets: Iterable[Mapping] | None = None) -> Match:
    """Find out which bones of an armature do what.

    Args:
        presets: mappings to try before those that come along; the user's own unless given.
    Raises:
        InputError: it is no humanoid; names the bone.
    """
    from ..inference.core.mapping.mapper import map_rig
    from ..inference.core.mapping.presets import user_mappings
    from .scene.rig import read_character

    if presets is None:
        presets = user_mappings(preset_folder())[0].values()
    character = read_character(rig)
    return map_rig(character.rig, deform=character.deform, held=character.held, presets=presets)


def stored_mapping(rig: bpy.types.Object) -> Mapping | None:
    """Read the mapping that is kept with an armature; None where none is.

    Raises:
        InputError: a bone fills two roles.
    """
    from ..inference.core.mapping.presets import FORMAT, decode

    kept = rig.understudy
    chains: dict[str, list[str]] = {}
    for row in kept.bones:
        if row.bone:
            chains.setdefault(row.role, []).append(row.bone)
    if not chains:
        return None
    controls = schema.load_json(kept.controls) if kept.controls else {}
    return decode({"format": FORMAT, "name": kept.mapping or rig.name, "bones": chains, **controls})


def store(rig: bpy.types.Object, mapping: Mapping) -> None:
    """Keep a mapping with an armature: a row for each bone, and one for each role that has none."""
    from ..inference.core.mapping.presets import encode
    from ..inference.core.rig import ROLES

    kept, table = rig.understudy, encode(mapping)
    kept.mapping = mapping.name
    kept.controls = json.dumps({key: table[key] for key in ("ik", "settings") if key in table})
    wanted = [(role, bone) for role in ROLES for bone in mapping.bones.get(role, ()) or ("",)]
    while len(kept.bones) > len(wanted):
        kept.bones.remove(len(kept.bones) - 1)
    with _MIRRORING:  # rows are used again: those that come from a library cannot be removed for good
        for index, (role, bone) in enumerate(wanted):
            row = kept.bones[index] if index < len(kept.bones) else kept.bones.add()
            row.role, row.bone = role, bone
    kept.active_bone = min(kept.active_bone, len(kept.bones) - 1)


class _Mirroring:
    """Tells the bones that the user gives from those that follow from them."""

    def __init__(self) -> None:
        self.is_on = False

    def __enter__(self) -> None:
        self.is_on = True

    def __exit__(self, *_: object) -> None:
        self.is_on = False


_MIRRORING = _Mirroring()


def bone_changed(row: Any) -> None:
    """Give the other side the mirrored bone of a row that was changed, where that is wanted."""
    from ..inference.core.rig import other_side

    role = other_side(row.role)
    if _MIRRORING.is_on or role == row.role or not bpy.context.scene.understudy.retarget.mirror:
        return
    rig = row.id_data
    rows = [index for index, item in enumerate(rig.understudy.bones) if item.role == row.role]
    place = next(n for n, index in enumerate(rows) if rig.understudy.bones[index] == row)
    bone = mirrored_bone(rig, row.bone) if row.bone else ""
    with _MIRRORING:
        _row(rig, role, place).bone = bone


def mirrored_bone(rig: bpy.types.Object, name: str) -> str:
    """Find the bone on the other side: by its name, else by its place; empty where there is none."""
    from mathutils import Vector

    from ..inference.core.mapping.bone_names import mirror_name

    bones = rig.data.bones
    other = mirror_name(name)
    if other in bones and other != name:
        return other
    if name not in bones:
        return ""
    bone, flip = bones[name], Vector((-1, 1, 1))

    def distance(item: bpy.types.Bone) -> float:
        return (item.head_local - bone.head_local * flip).length + (item.tail_local - bone.tail_local * flip).length

    near = min((item for item in bones if item != bone), key=distance, default=None)
    return near.name if near is not None and distance(near) < _ALIKE * bone.length else ""


def _row(rig: bpy.types.Object, role: str, place: int) -> Any:
    """Give the row of a role's bone number `place`, and make it where there is none."""
    rows = [index for index, row in enumerate(rig.understudy.bones) if row.role == role]
    return rig.understudy.bones[rows[place] if place < len(rows) else add_row(rig, role)]


def add_row(rig: bpy.types.Object, role: str) -> int:
    """Add a row behind the last one of its role, and give its index."""
    from ..inference.core.rig import ROLES

    bones = rig.understudy.bones
    known = {name: order for order, name in enumerate(ROLES)}
    bones.add().role = role
    place = sum(known.get(row.role, len(ROLES)) <= known[role] for row in bones) - 1
    bones.move(len(bones) - 1, place)
    return place


def set_chain(rig: bpy.types.Object, role: str, bones: list[str]) -> None:
    """Put a chain of bones into a role, and its mirror image into the other side's where that is wanted."""
    _keep_rows(rig, role, len(bones))
    for place, bone in enumerate(bones):
        _row(rig, role, place).bone = bone


def _keep_rows(rig: bpy.types.Object, role: str, count: int) -> None:
    """Remove the rows of a role, and with mirroring of the other side's, beyond the first `count`."""
    from ..inference.core.rig import other_side

    roles = {role, other_side(role)} if bpy.context.scene.understudy.retarget.mirror else {role}
    bones = rig.understudy.bones
    for name in roles:
        rows = [index for index, row in enumerate(bones) if row.role == name]
        for index in reversed(rows[count:]):
            bones.remove(index)


def active_row(rig: bpy.types.Object | None) -> Any:
    """Give the active row of an armature's mapping; None where it has none."""
    kept = rig.understudy if rig is not None else None
    return kept.bones[kept.active_bone] if kept and 0 <= kept.active_bone < len(kept.bones) else None


def preset_folder() -> Path:
    """Give the folder of the user's mappings, which may not exist yet."""
    return Path(bpy.utils.user_resource("SCRIPTS", path="presets/understudy/mappings"))


def presets() -> Iterator[tuple[str, bool]]:
    """Names of the mappings to choose from, and whether each is the user's own; no file is read."""
    from ..inference.core.mapping.presets import FOLDER

    for folder, own in ((preset_folder(), True), (FOLDER, False)):
        names = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else ()
        yield from ((name, own) for name in names)


def find_mapping(name: str) -> Mapping:
    """Read a mapping: a file, a preset of the user's, or one that comes along, by the name of its file or its own.

    Raises:
        InputError: there is none, or its file is damaged.
    """
    from ..inference.core.mapping.presets import FOLDER, mappings, read_mapping

    path = Path(bpy.path.abspath(name))
    for candidate in (path, preset_folder() / f"{name}.json", FOLDER / f"{name}.json"):
        if candidate.suffix == ".json" and candidate.is_file():
            return read_mapping(candidate)
    if name in mappings():
        return mappings()[name]
    known = ", ".join(dict.fromkeys(name for name, _ in presets()))
    raise InputError(f"There is no mapping {name!r}.", f"Give a file, or one of {known}.")


def fit(mapping: Mapping, rig: bpy.types.Object) -> Mapping:
    """Give a mapping with the names that an armature's bones have, without those that it lacks.

    Raises:
        InputError: it has none of them.
    """
    names = rig.data.bones.keys()
    bones = {role: tuple(name for name in chain if name in names) for role, chain in mapping.bones.items()}
    bones = {role: chain for role, chain in bones.items() if chain}
    if 2 * len(bones) >= len(mapping.bones):
        return replace(mapping, bones=bones)
    match = recognise(rig, presets=[mapping])  # names may differ in their prefix and the like
    if match.mapping.name == mapping.name and match.how == "preset":
        return match.mapping
    example = next(bone for role, chain in mapping.bones.items() if role not in bones for bone in chain)
    raise InputError(
        f"{rig.name} lacks most bones of the mapping {mapping.name!r}, {example!r} for one.", "Choose another mapping."
    )


@dataclass(frozen=True)
class Recognised:
    """What the panel says of an armature: a few words, or why it is no character."""

    text: str
    trouble: str = ""
    notes: tuple[str, ...] = ()


_FAILED = Recognised("", "It could not be looked at; the console says why.")


class Recogniser:
    """Looks at armatures for the panel, outside of drawing, and once for each."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Recognised] = {}
        self._wanted: list[str] = []

    def forget(self) -> None:
        """Forget everything, where the registration begins and ends."""
        if bpy.app.timers.is_registered(_look):
            bpy.app.timers.unregister(_look)
        self._known.clear()

    def ask(self, rig: bpy.types.Object) -> Recognised | None:
        """Give what is known of an armature; None where it is being looked at."""
        known = self._known.get(_key(rig))
        if known is None and rig.name not in self._wanted:
            self._wanted.append(rig.name)
            if not bpy.app.background and not bpy.app.timers.is_registered(_look):
                bpy.app.timers.register(_look)
        return known

    def look(self) -> None:
        """Look at the armatures that were asked for."""
        while self._wanted:
            rig = bpy.data.objects.get(self._wanted.pop())
            if rig is not None and rig.type == "ARMATURE":
                self._known[_key(rig)] = _FAILED  # should it end in a bug: it is not to come with every redraw
                self._known[_key(rig)] = describe(rig)


def _key(rig: bpy.types.Object) -> tuple[Any, ...]:
    return bpy.data.filepath, rig.name, rig.data.name, len(rig.data.bones), tuple(rig.scale)


def _look() -> None:
    RECOGNISER.look()
    redraw()


RECOGNISER = Recogniser()


def describe(rig: bpy.types.Object) -> Recognised:
    """Say in a few words what an armature is recognised as."""
    try:
        match = recognise(rig)
    except UnderstudyError as error:
        return Recognised("", sentence(error))
    return Recognised(count_roles(match.mapping.name, match.mapping.bones), notes=tuple(match.notes))


def count_roles(name: str, bones: Any) -> str:
    """Say how many roles of a body are filled, as in `Rigify, 40 of 41 roles`."""
    from ..inference.core.rig import ROLES

    counted = [role for role in ROLES if role != "root" and "_twist" not in role]
    return f"{name}, {sum(role in bones for role in counted)} of {len(counted)} roles"
