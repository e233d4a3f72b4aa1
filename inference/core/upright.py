"""Motions of unknown origin put into metres, Z up, on the floor, by what a person is like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .contacts import find_floor
from .rig import Mapping, Performance, Rig
from .rotations import between, matrix_from_quaternion, unit

Array = np.ndarray
# Metres in the units that files of motion come in; CMU's skeletons are in inches of 0.45.
UNITS = {
    "metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254, "units of CMU's skeletons": 0.056444,
    "decimetres": 0.1, "feet": 0.3048,
}  # fmt: skip
USUAL_HEIGHT_M, _LIKELY_M, _PEOPLE_M = 1.70, (1.2, 2.2), (0.8, 2.5)
_LEG_OF_HEIGHT = 0.486  # hip to ankle, of the average person
_CLEAR = np.cos(np.radians(40.0))
_OFF_FLOOR_M = 0.05
_AXES = {(0, 1): "+X", (0, -1): "-X", (1, 1): "+Y", (1, -1): "-Y", (2, 1): "+Z", (2, -1): "-Z"}
# What takes an axis to Z; Y up is turned as Blender's importers turn it, so that +Z faces -Y.
_TO_Z = {
    "+Y": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]), "-Y": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "+Z": np.eye(3), "-Z": np.diag([1.0, -1.0, -1.0]),
}  # fmt: skip


def find_up(directions: Array, *, share: float = 0.3) -> str:
    """Tell the axis, as in "+Y", along which (T, 3) directions from feet or hips to the head lie most of the time.

    "" where they favour none: their mean, each of length 1, is shorter than `share` along it.
    """
    length = np.linalg.norm(directions, axis=-1)
    known = np.isfinite(length) & (length > 0)
    if not known.any():
        return ""
    mean = unit(directions[known]).mean(axis=0)
    axis = int(np.argmax(np.abs(mean)))
    clear = np.linalg.norm(mean) > 0 and abs(unit(mean)[axis]) > _CLEAR and abs(mean[axis]) > share
    return _AXES[axis, int(np.sign(mean[axis]))] if clear else ""


def to_z_up(axis: str) -> Array:
    """(3, 3) rotation that takes an axis such as "+Y" to +Z."""
    if axis in _TO_Z:
        return _TO_Z[axis]
    up = np.eye(3)["XYZ".index(axis[1])] * (1.0 if axis[0] == "+" else -1.0)
    return matrix_from_quaternion(between(up, np.array([0.0, 0.0, 1.0])))


def guess_unit(height: float) -> tuple[str, float]:
    """Name the unit in which a person of this height is one, and give its metres; "" where none fits."""
    for low, high in (_LIKELY_M, _PEOPLE_M):
        for name, metres in UNITS.items():
            if low <= height * metres <= high:
                return name, metres
    return "", USUAL_HEIGHT_M / max(height, 1e-9)


def standing_height(rig: Rig, mapping: Mapping) -> float:
    """Height of whoever has these legs, in the rig's own unit; of a rig without legs, its extent."""
    legs = []
    for side in "LR":
        found = [mapping.first(f"{role}.{side}", rig) for role in ("thigh", "shin", "foot")]
        joints = [row for row in found if row is not None]
        if len(joints) == 3:
            legs.append(float(np.linalg.norm(np.diff(rig.heads[joints], axis=0), axis=-1).sum()))
    return float(np.mean(legs)) / _LEG_OF_HEIGHT if legs else float(np.ptp(rig.heads, axis=0).max())


def trunks(heads: Array, rig: Rig, mapping: Mapping) -> Array:
    """(T, 3) of (T, B, 3) joints: from the hips to the head or, without one, to the last joint of neck or spine."""
    chains = [mapping.chain(role, rig) for role in ("head", "neck", "spine")]
    top = next((chain[-1] for chain in chains if chain), None)
    hips = mapping.first("hips", rig)
    if top is None or hips is None:
        return np.zeros((len(heads), 3))
    return heads[:, top] - heads[:, hips]


def turned(performance: Performance, turn: Array) -> Performance:
    """The same performance, everything in it turned by a (3, 3) rotation, the rest pose too."""
    whole = np.eye(4)
    whole[:3, :3] = turn
    rig = replace(performance.rig, rest=whole @ performance.rig.rest)
    return replace(
        performance, rig=grounded(rig, performance.mapping), turns=turn @ performance.turns,
        heads=performance.heads @ turn.T,
    )  # fmt: skip


def scaled(performance: Performance, factor: float) -> Performance:
    """The same performance, `factor` times as large."""
    rest = np.array(performance.rig.rest)
    rest[:, :3, 3] *= factor
    rig = replace(
        performance.rig, rest=rest, lengths=performance.rig.lengths * factor, ground=performance.rig.ground * factor
    )
    return replace(performance, rig=rig, heads=performance.heads * factor)


def grounded(rig: Rig, mapping: Mapping) -> Rig:
    """Put the ground of a rig without a skin under the lowest end of its feet, or of all bones where it has none."""
    roles = [f"{role}.{side}" for side in "LR" for role in ("foot", "toe")]
    rows = [row for role in roles for row in mapping.chain(role, rig)] or list(range(len(rig.names)))
    ends = [z for row in rows for z in (rig.rest[row, 2, 3], rig.tail(row)[2])]
    return replace(rig, ground=float(min(ends)))


def made_upright(performance: Performance) -> tuple[Performance, list[str]]:
    """Turn Z up what stands along another axis in most frames, and not along Z at rest; also give what was done.

    Who lies or crawls in every frame stands at rest.
    """
    rig, mapping = performance.rig, performance.mapping
    axis = find_up(trunks(performance.heads, rig, mapping))
    if axis in ("", "+Z") or find_up(trunks(rig.heads[None], rig, mapping)) == "+Z":
        return performance, []
    note = f"{performance.name} stands along {axis} in most of its frames; it was turned to stand along Z."
    return turned(performance, to_z_up(axis)), [note]


def upright_rest(rig: Rig, mapping: Mapping) -> Rig:
    """Turn a rest pose that lies, as some files have it, upright; how bones move in the world does not depend on it."""
    axis = find_up(trunks(rig.heads[None], rig, mapping))
    if axis in ("", "+Z"):
        return rig
    whole = np.eye(4)
    whole[:3, :3] = to_z_up(axis)
    return replace(rig, rest=whole @ rig.rest)


def made_metric(performance: Performance, *, said: bool) -> tuple[Performance, list[str]]:
    """Scale a performance to a person's size where it is none; `said`: the file claims to be in metres."""
    height = standing_height(performance.rig, performance.mapping)
    name, factor = guess_unit(height)
    if factor == 1.0:
        return performance, []
    if not name:
        text = f"taken for a person of {USUAL_HEIGHT_M:.2f} m, since no unit makes it one of {_PEOPLE_M[0]:.1f} to "
        text += f"{_PEOPLE_M[1]:.1f} m"
    else:
        text = f"taken to be in {name}, which makes a person of {height * factor:.2f} m"
    claim = " metres" if said else ""
    note = f"{performance.name} shows somebody {height:.4g}{claim} high; it was {text}."
    return scaled(performance, factor), [note]


def stood(performance: Performance) -> tuple[Performance, list[str]]:
    """Put the ground that the feet stand on at z = 0 where it is clearly elsewhere; also give what was done."""
    rig, mapping = performance.rig, performance.mapping
    rows, high = [], []
    for side in "LR":
        foot, toe = mapping.first(f"foot.{side}", rig), mapping.first(f"toe.{side}", rig)
        if foot is None:
            return performance, []
        rows += [foot, foot if toe is None else toe]
        high += [rig.rest[row, 2, 3] - rig.ground for row in rows[-2:]]
    points = performance.heads[:, rows]
    floor = find_floor(points, np.ones(points.shape[:2]), performance.fps, clearance=np.array(high))
    if floor is None or abs(floor.height) < _OFF_FLOOR_M:
        return performance, []
    shift = np.array([0.0, 0.0, floor.height])
    note = f"The feet of {performance.name} stand at {floor.height:+.2f} m; its floor was moved to 0."
    return replace(performance, heads=performance.heads - shift), [note]


def settled(performance: Performance, *, said: bool) -> Performance:
    """Make a performance a person's size, upright and standing on z = 0; its header's notes say what was guessed.

    `said`: the file says in which unit and along which axis it is; then who lies is left lying.
    """
    notes = list(performance.header.get("notes", ()))
    performance, turned_notes = (performance, []) if said else made_upright(performance)
    performance, size_notes = made_metric(performance, said=said)
    performance, floor_notes = stood(performance)
    header = {**performance.header, "notes": [*notes, *turned_notes, *size_notes, *floor_notes]}
    return replace(performance, header=header)
