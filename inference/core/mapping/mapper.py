"""Which bones of a rig do what: by a known mapping's names, by structure, and each checked against the other.

    match = map_rig(rig)            match.mapping, match.score, match.how, match.notes

Names are compared without prefix, case, separators and the way the side is written. Where no known mapping names the
bones without which nothing can be retargeted, `core/structure.py` reads the joints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ...protocol.errors import InputError
from ..rig import FINGERS, LIMBS, NEEDED_ROLES, SIDES, IkLimb, Mapping, Property, Rig, other_side
from .bone_names import is_helper, is_tip, is_twist, key, mirror_name
from .presets import mappings, read_mapping, user_mappings, write_mapping
from .structure import Structure, find_structure
from .structure_joints import NotAPersonError
from .structure_limbs import UP

__all__ = ["Match", "map_rig", "mappings", "mirror_name", "read_mapping", "user_mappings", "write_mapping"]

Array = np.ndarray
# Copies of a limb that rigs keep beside the one that is animated.
_COPIES = {"org", "mch", "wgt", "vis", "ik", "fk", "tweak", "tgt", "def"}
_NEXT = {"upper_arm": "forearm", "forearm": "hand", "thigh": "shin", "shin": "foot"}
_LINES = (  # roles that follow each other, and to whom an unnamed bone between two of them belongs
    (("hips", "spine"), "spine"), (("spine", "neck"), "spine"), (("neck", "head"), "neck"),
    *(((f"{a}.{side}", f"{b}.{side}"), f"{a}.{side}") for side in SIDES for a, b in _NEXT.items()),
)  # fmt: skip
_MINOR = ("root", *FINGERS)
_ARM = ("shoulder", "upper_arm", "upper_arm_twist", "forearm", "forearm_twist", "hand", *FINGERS)
_LEG = ("thigh", "thigh_twist", "shin", "shin_twist", "foot", "toe")


@dataclass(frozen=True)
class Match:
    """A rig's mapping, how much of it was found in [0, 1], by "preset" or "structure", and what to tell the user."""

    mapping: Mapping
    score: float
    how: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A known mapping laid onto a rig: its mapping in the rig's own names, and how well it fits."""

    mapping: Mapping
    preset: Mapping
    value: float
    score: float

    @property
    def drives(self) -> bool:
        """Whether its bones are controls, which need not hang together as the body does."""
        return bool(self.preset.ik or self.preset.settings)


def map_rig(
    rig: Rig,
    *,
    deform: Array | None = None,
    held: Array | None = None,
    evaluated: bool = False,
    presets: Iterable[Mapping] = (),
) -> Match:
    """Find the roles of a rig's bones.

    Args:
        deform: (B,) bones that move the skin, where that is known: structure is read off them where it is not on all.
        held: (B,) bones that a constraint or a driver moves, which keys would not.
        evaluated: the bones are read, not keyed (a source): those that move count, controls do not.
        presets: further mappings, tried before those that come along.
    Raises:
        InputError: no humanoid was found: no spine, two heads, four legs; the sentence names the bones.
    """
    found = _best(rig, [*presets, *mappings().values()], None if evaluated else held, evaluated=evaluated)
    if found is not None and found.drives:
        mapping, more = _sides_checked(rig, found.mapping)
        return Match(mapping, found.score, "preset", (*more, *_held_notes(rig, mapping, held, evaluated)))
    structure, problem = _structure(rig, deform, None if evaluated else held)
    if isinstance(problem, NotAPersonError) or (found is None and problem is not None):
        raise problem
    notes: tuple[str, ...] = ()
    if found is None:
        assert structure is not None
        mapping = _named(rig, structure)
        score, how, notes = structure.score, "structure", structure.notes
    else:
        mapping = _complete(rig, found.mapping)
        score, how = found.score, "preset"
        if structure is not None:
            mapping, notes = _filled(rig, mapping, structure)
    mapping, more = _sides_checked(rig, mapping)
    return Match(mapping, score, how, (*notes, *more, *_held_notes(rig, mapping, held, evaluated)))


def _held_notes(rig: Rig, mapping: Mapping, held: Array | None, evaluated: bool) -> list[str]:  # noqa: FBT001
    if held is None or evaluated:
        return []
    names = [bone for chain in mapping.bones.values() for bone in chain if held[rig.index[bone]]]
    if not names:
        return []
    return [f"Constraints or drivers move {_listed(names)}: keys may not show there. Map the controls instead."]


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# Names ----------------------------------------------------------------------------------------------------------------


def _best(rig: Rig, presets: Sequence[Mapping], held: Array | None, *, evaluated: bool) -> _Found | None:
    """The known mapping that names most of a rig's bones, if it names all that are needed."""
    rows: dict[tuple[str, str], str] = {}
    by_side: dict[str, list[tuple[str, str]]] = {}
    for name in rig.names:
        stem = key(name)
        rows.setdefault(stem, name)
        by_side.setdefault(stem[1], []).append(stem)
    found = [_lay(rig, preset, rows, by_side, held) for preset in presets]
    fitting = [item for item in found if not item.mapping.missing(rig)]
    if evaluated:  # what moves is asked for, and controls need not
        fitting = [item for item in fitting if not item.drives] or fitting
    return max(fitting, key=lambda item: item.value, default=None)


def _lay(
    rig: Rig,
    preset: Mapping,
    rows: dict[tuple[str, str], str],
    by_side: dict[str, list[tuple[str, str]]],
    held: Array | None,
) -> _Found:
    names = {bone for chain in preset.bones.values() for bone in chain}
    names |= {bone for limb in preset.ik for bone in (limb.target, limb.pole, *limb.follow)} - {""}
    names |= {item.bone for item in _properties(preset)} - {""}
    direct = {name: name if name in rig.index else rows.get(key(name), "") for name in names}
    best = _found(rig, preset, direct, held, exact=sum(name in rig.index for name in names) / len(names))
    if best.score > 0.9:
        return best
    for prefix, cut in _prefixes(preset, by_side):
        moved = {name: rows.get((prefix + key(name)[0][cut:], key(name)[1]), "") for name in names}
        other = _found(rig, preset, moved, held, exact=0.0)
        best = max(best, other, key=lambda item: item.value)
    return best


def _prefixes(preset: Mapping, by_side: dict[str, list[tuple[str, str]]]) -> list[tuple[str, int]]:
    """What a rig may have before a mapping's names, and how much of those is the mapping's own prefix."""
    stems = sorted(key(bone)[0] for role, chain in preset.bones.items() if role != "root" for bone in chain)
    cut = next((at for at, (a, b) in enumerate(zip(stems[0], stems[-1], strict=False)) if a != b), len(stems[0]))
    votes: Counter[str] = Counter()
    for role in ("head", *(f"{part}.{side}" for side in SIDES for part in ("forearm", "hand", "thigh", "foot"))):
        for bone in preset.bones.get(role, ())[:1]:
            stem, side = key(bone)
            tail = stem[cut:]
            votes.update({rest for other, _ in by_side.get(side, ()) if (rest := _before(other, tail)) is not None})
    return [(prefix, cut) for prefix, count in votes.most_common(3) if count >= 5 and prefix not in _COPIES]


def _before(stem: str, tail: str) -> str | None:
    return stem[: len(stem) - len(tail)] if tail and stem.endswith(tail) else None


def _properties(mapping: Mapping) -> list[Property]:
    return [*mapping.settings, *(item for limb in mapping.ik for item in (*limb.fk, *limb.ik))]


def _found(rig: Rig, preset: Mapping, names: dict[str, str], held: Array | None, *, exact: float) -> _Found:
    """Lay a known mapping onto a rig by its names in the rig ("" where it has none)."""
    taken: set[str] = set()
    bones: dict[str, tuple[str, ...]] = {}
    value = total = got = 0.0
    for role, chain in preset.bones.items():
        here = [names[bone] for bone in chain if names[bone] and names[bone] not in taken]
        taken |= set(here)
        weight = 2.0 if role in NEEDED_ROLES else 0.3 if role.startswith(_MINOR) or "_twist" in role else 1.0
        total += weight
        got += weight * bool(here)
        value += weight * (1.0 if here else -0.3) + 0.05 * len(here) - 0.02 * (len(chain) - len(here))
        if here:
            bones[role] = tuple(here)
    ik = tuple(_limb(limb, names) for limb in preset.ik if names[limb.target])
    settings = tuple(_property(item, names) for item in preset.settings if not item.bone or names[item.bone])
    mapping = Mapping(preset.name, bones, ik=ik, settings=settings)
    value += 0.5 * len(ik) + 0.5 * exact
    if held is not None and bones:
        rows = [rig.index[bone] for chain in bones.values() for bone in chain]
        value *= 1.0 - 0.7 * float(held[rows].mean())
    return _Found(mapping, preset, value, got / max(total, 1e-9))


def _limb(limb: IkLimb, names: dict[str, str]) -> IkLimb:
    return replace(
        limb,
        target=names[limb.target],
        pole=names.get(limb.pole, ""),
        follow=tuple(names[bone] for bone in limb.follow if names[bone]),
        fk=tuple(_property(item, names) for item in limb.fk if not item.bone or names[item.bone]),
        ik=tuple(_property(item, names) for item in limb.ik if not item.bone or names[item.bone]),
    )


def _property(item: Property, names: dict[str, str]) -> Property:
    return replace(item, bone=names[item.bone]) if item.bone else item


# Names and hierarchy --------------------------------------------------------------------------------------------------


def _complete(rig: Rig, mapping: Mapping) -> Mapping:
    """Give bones between two named ones to the first's chain, and bones beside a limb to its twist."""
    bones = dict(mapping.bones)
    mapped = set(mapping.role_of())

    def between(above: str, below: str) -> list[str]:
        found = [name for name in _between(rig, above, below) if name not in mapped and _is_segment(rig, name)]
        mapped.update(found)
        return found

    for (first, second), owner in _LINES:
        if bones.get(first) and bones.get(second):
            extra = between(bones[first][-1], bones[second][0])
            chain = bones.get(owner, ())
            bones[owner] = (*extra, *chain) if owner == second else (*chain, *extra)
    for role in ("spine", "neck", *(f"{limb}.{side}" for limb in LIMBS for side in SIDES)):
        chain = bones.get(role, ())
        inside = [name for a, b in pairwise(chain) for name in (a, *between(a, b))]
        bones[role] = (*inside, *chain[-1:])
    for side in SIDES:
        for limb, after in _NEXT.items():
            bones |= _split(rig, bones, f"{limb}.{side}", f"{limb}_twist.{side}", f"{after}.{side}")
    return _toes_checked(rig, replace(mapping, bones={role: chain for role, chain in bones.items() if chain}))


def _between(rig: Rig, above: str, below: str) -> list[str]:
    """Bones on the way from one to another, neither of them; none where one does not hang from the other."""
    way = []
    for row in rig.ancestors(rig.index[below]):
        if rig.names[row] == above:
            return way[::-1]
        way.append(rig.names[row])
    return []


def _is_segment(rig: Rig, name: str) -> bool:
    """Whether a bone can be part of a chain: it is no helper by name, and it has an extent of its own."""
    row = rig.index[name]
    ends = [np.linalg.norm(rig.heads[child] - rig.heads[row]) for child in rig.children(row)]
    return not is_helper(name) and not is_tip(name) and float(max(ends, default=0.0)) > 1e-4


def _split(
    rig: Rig, bones: dict[str, tuple[str, ...]], limb: str, twist: str, after: str
) -> dict[str, tuple[str, ...]]:
    """Tell a limb's segments, which the next joint hangs from, from bones that share its turning."""
    names = [*bones.get(limb, ()), *bones.get(twist, ())]
    if not names or not bones.get(after):
        return {}
    above = list(rig.ancestors(rig.index[bones[after][0]]))[::-1]
    chain = [rig.names[row] for row in above if rig.names[row] in names]
    if not chain:
        return {}
    start = rig.heads[rig.index[chain[0]]]
    beside = sorted(
        (name for name in names if name not in chain),
        key=lambda name: float(np.linalg.norm(rig.heads[rig.index[name]] - start)),
    )
    return {limb: tuple(chain), twist: tuple(beside)}


def _toes_checked(rig: Rig, mapping: Mapping) -> Mapping:
    """Leave the toes to the foot where each of them is a bone."""
    bones = dict(mapping.bones)
    for side in SIDES:
        foot, toe = bones.get(f"foot.{side}"), bones.get(f"toe.{side}")
        if foot and toe and int(rig.parents[rig.index[toe[0]]]) == rig.index[foot[-1]]:
            row = rig.index[toe[0]]
            near = 0.6 * np.linalg.norm(rig.heads[row] - rig.heads[rig.index[foot[-1]]])
            beside = [child for child in rig.children(rig.index[foot[-1]]) if rig.children(child)]
            if sum(np.linalg.norm(rig.heads[child] - rig.heads[row]) < near for child in beside) >= 3:
                del bones[f"toe.{side}"]
    return replace(mapping, bones=bones)


# Structure ------------------------------------------------------------------------------------------------------------


def _structure(rig: Rig, deform: Array | None, held: Array | None) -> tuple[Structure | None, InputError | None]:
    """Read the structure off the bones that are most likely the body's, and off all where that fails."""
    body = np.array([not is_helper(name) and not is_tip(name) for name in rig.names])
    everything = np.ones(len(rig.names), bool)
    free = everything if held is None else ~held
    skin = everything if deform is None else np.asarray(deform, bool)
    tries = [body & skin & free, body & free, body & skin, body, everything]
    problem: InputError | None = None
    done: list[bytes] = []
    for allowed in tries:
        if allowed.sum() < 8 or allowed.tobytes() in done:
            continue
        done.append(allowed.tobytes())
        try:
            return find_structure(rig, allowed), None
        except NotAPersonError as error:
            return None, error
        except InputError as error:
            problem = problem or error
    return None, problem or InputError(
        f"The armature has {len(rig.names)} bones; a person's has at least 8.", "Choose the armature of a character."
    )


def _named(rig: Rig, structure: Structure) -> Mapping:
    """Turn rows into a mapping; helpers beside a limb are twist bones unless names are there and say otherwise."""
    bones = {role: tuple(rig.names[row] for row in rows) for role, rows in structure.bones.items()}
    return Mapping(rig.name or "By structure", bones)


def _filled(rig: Rig, mapping: Mapping, structure: Structure) -> tuple[Mapping, tuple[str, ...]]:
    """Fill the roles that names left empty from the structure, where the two agree elsewhere."""
    bones = dict(mapping.bones)
    seen = {role: _standing(rig, rows) for role, rows in structure.bones.items()}
    crossed = {  # left and right are exchanged: the sides are judged later
        f"{role}.{side}"
        for first, group in (("thigh", _LEG), ("upper_arm", _ARM)) for role in group for side in SIDES
        if set(bones.get(f"{first}.L", ())) & seen.get(f"{first}.R", set())
    }  # fmt: skip
    seen = {other_side(role) if role in crossed else role: names for role, names in seen.items()}
    differ = [role for role in NEEDED_ROLES if role in seen and not seen[role] & set(bones.get(role, ()))]
    if len(differ) > 2:
        words = ", ".join(differ)
        return mapping, (f"By their names, other bones than by their place are {words}: look at these in the list.",)
    mapped = set(mapping.role_of())
    for place, rows in structure.bones.items():
        role = other_side(place) if place in crossed else place
        names = tuple(rig.names[row] for row in rows)
        if role in bones or mapped & set(names) or not _hangs_right(rig, bones, role, names):
            continue
        if role.startswith("toe") or ("_twist" in role and not all(is_twist(name) for name in names)):
            continue
        bones[role] = names
        mapped |= set(names)
    return replace(mapping, bones=bones), ()


def _standing(rig: Rig, rows: Sequence[int]) -> set[str]:
    """Names of some bones and of all that stand in their joints, as a rig's copies of a limb do."""
    near = 0.002 * max(float(np.ptp(rig.heads[:, 2])), 1e-6)
    apart = np.linalg.norm(rig.heads[:, None] - rig.heads[list(rows)], axis=-1).min(axis=1)
    return {rig.names[row] for row in np.flatnonzero(apart < near)}


def _hangs_right(rig: Rig, bones: dict[str, tuple[str, ...]], role: str, names: Sequence[str]) -> bool:
    """Whether bones that are to fill a role hang from the role before it."""
    stem, _, side = role.partition(".")
    before = {
        "root": "", "spine": "hips", "neck": "spine", "head": "spine", "shoulder": "spine", "hand": "forearm",
        "foot": "shin", "toe": "foot", **dict.fromkeys(FINGERS, "hand"), **{f"{limb}_twist": limb for limb in LIMBS},
    }.get(stem)  # fmt: skip
    if not before:
        return before == ""
    chain = bones.get(f"{before}.{side}" if side and before != "spine" else before, ())
    above = {rig.names[row] for row in rig.ancestors(rig.index[names[0]])}
    return bool(above & set(chain))


# Left and right -------------------------------------------------------------------------------------------------------


def _sides_checked(rig: Rig, mapping: Mapping) -> tuple[Mapping, list[str]]:
    """Exchange arms or legs whose names say the other side than their place does."""
    left = _left(rig, mapping)
    if left is None:
        return mapping, []
    notes = []
    for group, what in ((_LEG, "legs"), (_ARM, "arms")):
        gap = _gap(rig, mapping, group, left)
        if gap is not None and gap < 0:
            first = "thigh" if group is _LEG else "upper_arm"
            bone = mapping.bones[f"{first}.L"][0]
            mapping = _exchanged(mapping, group)
            notes.append(f"'{bone}' is on the character's right by its place, not its left: the {what} were exchanged.")
    return mapping, notes


def _left(rig: Rig, mapping: Mapping) -> Array | None:
    """(3,) towards the character's left, from where its feet point; None where they say nothing."""
    thighs = [mapping.first(f"thigh.{side}", rig) for side in SIDES]
    lean, size = np.zeros(3), 0.0
    for side, thigh in zip(SIDES, thighs, strict=True):
        foot, toe = mapping.first(f"foot.{side}", rig), mapping.first(f"toe.{side}", rig)
        if foot is None or thigh is None:
            return None
        way = rig.heads[toe] - rig.heads[foot] if toe is not None else rig.tail(foot) - rig.heads[foot]
        lean += way * [1.0, 1.0, 0.0]
        size += float(np.linalg.norm(rig.heads[foot] - rig.heads[thigh]))
    across = rig.heads[thighs[0]] - rig.heads[thighs[1]]
    lean -= across * float(lean @ across) / max(float(across @ across), 1e-12)
    if np.linalg.norm(lean) < 0.06 * size:
        return None
    return np.cross(UP, lean / np.linalg.norm(lean))


def _gap(rig: Rig, mapping: Mapping, group: Sequence[str], left: Array) -> float | None:
    """How far the left bones of a limb lie to the left of the right ones, metres."""
    gaps = []
    for role in group:
        rows = [mapping.first(f"{role}.{side}", rig) for side in SIDES]
        if None not in rows:
            gaps.append(float((rig.heads[rows[0]] - rig.heads[rows[1]]) @ left))
    return float(np.mean(gaps)) if gaps else None


def _exchanged(mapping: Mapping, group: Sequence[str]) -> Mapping:
    roles = {f"{role}.{side}" for role in group for side in SIDES}
    bones = {other_side(role) if role in roles else role: chain for role, chain in mapping.bones.items()}
    ends = {"hand.L", "hand.R"} if "hand" in group else {"foot.L", "foot.R"}
    limbs = tuple(replace(limb, role=other_side(limb.role)) if limb.role in ends else limb for limb in mapping.ik)
    return replace(mapping, bones=bones, ik=limbs)
