"""Skeletons of rigs that no free package brings, as text: hierarchies and names from their makers' documents.

A line is `name < parent @ where`. `where` is a landmark of `LANDMARKS`, or `a>b:0.4`, a point on the way from one to
another. A line with `{}` stands twice, for both sides, with the side's words of the rig in the braces: `{0}`, `{1}`.
A bone points at its first child that is elsewhere. Positions are those of an average person, not the makers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inference.core.rotations import frame_from_axes, matrix_from_rotvec

# T-pose, left side, metres, Z up, facing -Y, palm down.
LANDMARKS: dict[str, tuple[float, float, float]] = {
    "floor": (0.0, 0.0, 0.0),
    "hips": (0.0, 0.01, 0.98),
    "back": (0.0, 0.015, 1.04),
    "nape": (0.0, 0.02, 1.47),
    "skull": (0.0, 0.0, 1.57),
    "crown": (0.0, -0.01, 1.78),
    "jaw": (0.0, -0.03, 1.58),
    "eye": (0.032, -0.09, 1.66),
    "hair": (0.0, 0.07, 1.74),
    "hair_end": (0.0, 0.14, 1.2),
    "breast": (0.09, -0.12, 1.3),
    "weapon": (0.82, -0.3, 1.43),
    "clavicle": (0.02, -0.01, 1.43),
    "shoulder": (0.18, 0.02, 1.44),
    "elbow": (0.455, 0.03, 1.44),
    "wrist": (0.71, 0.02, 1.44),
    "palm": (0.80, 0.015, 1.44),
    "hip": (0.09, 0.0, 0.93),
    "knee": (0.095, -0.01, 0.50),
    "ankle": (0.1, 0.025, 0.085),
    "ball": (0.11, -0.105, 0.02),
    "toe_end": (0.115, -0.185, 0.015),
    "heel": (0.1, 0.07, 0.02),
    "skirt": (0.12, -0.08, 1.0),
    "hem": (0.16, -0.12, 0.45),
    "thumb0": (0.735, -0.012, 1.43),
    "thumb1": (0.765, -0.05, 1.42),
    "thumb2": (0.79, -0.078, 1.415),
    "thumb3": (0.81, -0.1, 1.41),
    "index0": (0.735, 0.0, 1.44),
    "index1": (0.80, -0.015, 1.44),
    "index2": (0.843, -0.017, 1.44),
    "index3": (0.868, -0.018, 1.44),
    "index4": (0.89, -0.018, 1.44),
    "middle0": (0.735, 0.014, 1.44),
    "middle1": (0.803, 0.008, 1.44),
    "middle2": (0.85, 0.008, 1.44),
    "middle3": (0.88, 0.008, 1.44),
    "middle4": (0.902, 0.008, 1.44),
    "ring0": (0.733, 0.028, 1.44),
    "ring1": (0.796, 0.03, 1.44),
    "ring2": (0.838, 0.031, 1.44),
    "ring3": (0.865, 0.032, 1.44),
    "ring4": (0.886, 0.032, 1.44),
    "little0": (0.73, 0.04, 1.438),
    "little1": (0.784, 0.05, 1.438),
    "little2": (0.815, 0.053, 1.438),
    "little3": (0.835, 0.055, 1.438),
    "little4": (0.853, 0.056, 1.438),
}
ARM = ("shoulder", "elbow", "wrist", "palm", "weapon", "thumb", "index", "middle", "ring", "little")
FINGERS = ("thumb", "index", "middle", "ring", "little")


@dataclass(frozen=True)
class Written:
    """A rig as text: its bones, its words for the sides, how it stands and how its bones' axes lie.

    arms: downwards from the T-pose, rad; axes: "y" or "x" along the bone, "world", or "odd" (anything).
    """

    name: str
    text: str
    sides: tuple[tuple[str, ...], tuple[str, ...]]
    arms: float = 0.0
    axes: str = "y"
    height: float = 1.0


def skeletons() -> Iterator[tuple[str, list[tuple[str, str, np.ndarray, float]]]]:
    """Every rig of `RIGS`: its name, and name, parent, matrix and length of its bones."""
    from tests.rigs.texts import RIGS

    for rig in RIGS:
        yield rig.name, build(rig)


def build(rig: Written) -> list[tuple[str, str, np.ndarray, float]]:
    """Place the bones of a rig."""
    names, parents, points, signs = [], [], [], []
    for line in (line.strip() for line in rig.text.strip().splitlines()):
        for side in (0, 1) if "{" in line else (None,):
            left, _, where = line.partition("@")
            name, _, parent = (part.strip() for part in left.partition("<"))
            words = rig.sides[side or 0]
            names.append(name.format(*words))
            parents.append(parent.format(*words))
            signs.append({None: 0, 0: 1, 1: -1}[side])
            points.append(place(where.strip(), rig, signs[-1]))
    order = _parents_first(names, parents)
    heads = np.array(points)
    ends = _ends(names, parents, heads)
    rng = np.random.default_rng(len(names))
    out = []
    for row in order:
        matrix = np.eye(4)
        matrix[:3, :3] = axes(rig.axes, ends[row] - heads[row], signs[row], rng)
        matrix[:3, 3] = heads[row]
        out.append((names[row], parents[row], matrix, float(np.linalg.norm(ends[row] - heads[row]))))
    return out


def place(where: str, rig: Written, sign: int) -> np.ndarray:
    """Where a landmark, or a point between two, is in the pose of a rig."""
    way, _, part = where.partition(":")
    ends = [_posed(name.strip(), rig) for name in way.split(">")]
    point = ends[0] if len(ends) == 1 else ends[0] + float(part) * (ends[1] - ends[0])
    return point * [sign or 1, 1, 1] * rig.height


def _posed(name: str, rig: Written) -> np.ndarray:
    point = np.array(LANDMARKS[name])
    if not name.startswith(ARM):
        return point
    shoulder = np.array(LANDMARKS["shoulder"])
    return shoulder + matrix_from_rotvec(np.array([0.0, rig.arms, 0.0])) @ (point - shoulder)


def _parents_first(names: list[str], parents: list[str]) -> list[int]:
    order: list[int] = []
    while len(order) < len(names):
        done = {names[row] for row in order}
        ready = [row for row, name in enumerate(names) if name not in done and parents[row] in {"", *done}]
        assert ready, f"no parent of {[name for name in names if name not in done][:3]}"
        order += ready
    return order


def _ends(names: list[str], parents: list[str], heads: np.ndarray) -> np.ndarray:
    """(B, 3) what the bones point at: a child, or on as the parent does."""
    ends = np.full(heads.shape, np.nan)
    for row in _parents_first(names, parents):
        away = [child for child, parent in enumerate(parents) if parent == names[row] and _apart(heads, row, child)]
        # a twist bone lies on the limb: it is no end of it
        away = [child for child in away if "wist" not in names[child] and "oll" not in names[child]] or away
        if away:
            ends[row] = heads[away[0]]
        elif parents[row]:
            above = names.index(parents[row])
            way = ends[above] - heads[above]
            ends[row] = heads[row] + 0.08 * way / np.linalg.norm(way)
        else:
            ends[row] = heads[row] + [0.0, 0.0, 0.1]
    return ends


def _apart(heads: np.ndarray, a: int, b: int) -> bool:
    return bool(np.linalg.norm(heads[a] - heads[b]) > 1e-3)


def axes(kind: str, along: np.ndarray, sign: int, rng: np.random.Generator) -> np.ndarray:
    """(3, 3) a bone's axes by the rig's convention."""
    way = along / np.linalg.norm(along)
    if kind == "world":
        return np.eye(3)
    if kind == "odd":
        return matrix_from_rotvec(rng.normal(size=3))
    hint = np.array([0.0, -1.0, 0.0]) if abs(way[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    frame = frame_from_axes(way, hint)
    if kind == "y":
        return frame
    x = way if sign >= 0 else -way  # mirrored: the right side's x points back along the bone
    y = frame[:, 0]
    return np.stack([x, y, np.cross(x, y)], axis=1)
