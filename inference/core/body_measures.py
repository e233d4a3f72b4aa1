"""What a tailor measures on a body at rest, and what of its shape parameters gives wanted measures.

Girths are those of a tape: the convex outline of the trunk at the height of a landmark (ISO 8559-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..protocol.errors import InputError
from .artifacts import BodyMesh
from .body import dense_weights

Array = np.ndarray
MEASURES = ("height", "chest", "waist", "hips", "inseam")
LIMITS_M = {"height": (0.45, 2.4), "chest": (0.35, 1.8), "waist": (0.3, 1.9), "hips": (0.35, 1.9), "inseam": (0.1, 1.2)}
_GIRTHS = ("chest", "waist", "hips")
_ARM = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
# What is turned to reach a measure, in parameters with two keys, name+ and name-.
_TURNED = (
    "height", "weight", "measure-bust-circ", "measure-waist-circ", "measure-hips-circ", "measure-upperleg-height",
    "measure-lowerleg-height", "torso-scale-vert",
)  # fmt: skip
_WHOLE = ("height", "weight")  # of these, which are of the whole person
FARTHEST = 2.0  # that local changes go: as much again as the model was made for
_PULL = 0.02  # towards a change of nothing, metres for a whole parameter
_STAY = 0.15  # how much a measure counts that nobody wants changed
_STEPS, _STEP = 12, 0.05
_CLOSE_M = 0.002


@dataclass(frozen=True)
class Ruler:
    """Measures bodies of one topology.

    trunk (E, 2): edges that a tape round the trunk meets; landmarks: vertices whose mean height is where it lies.
    """

    trunk: Array
    landmarks: Mapping[str, Array]

    def measure(self, vertices: Array) -> dict[str, float]:
        """Metres of each of MEASURES, of (V, 3) vertices at rest."""
        heights = vertices[:, 2]
        floor = float(heights.min())
        out = {"height": float(heights.max()) - floor}
        for name in _GIRTHS:
            out[name] = self._girth(vertices, float(heights[self.landmarks[name]].mean()))
        out["inseam"] = float(heights[self.landmarks["crotch"]].mean()) - floor
        return {name: out[name] for name in MEASURES}

    def _girth(self, vertices: Array, level: float) -> float:
        ends = vertices[self.trunk]
        above = ends[..., 2] - level
        ends, above = ends[crossing := above[:, 0] * above[:, 1] < 0], above[crossing]
        if len(ends) < 3:
            return 0.0
        share = above[:, :1] / (above[:, :1] - above[:, 1:])
        return outline(ends[:, 0, :2] + share * (ends[:, 1, :2] - ends[:, 0, :2]))


@dataclass(frozen=True)
class Adjustable:
    """What a body's measures can be changed by: vertices (V, 3), and names (P,) of keys (P, V, 3) that move them."""

    ruler: Ruler
    vertices: Array
    names: tuple[str, ...]
    keys: Array

    def shaped(self, amounts: Mapping[str, float]) -> Array:
        """(V, 3) with keys set."""
        rows = {name: row for row, name in enumerate(self.names)}
        used = [rows[name] for name in amounts]
        return self.vertices + np.tensordot(np.array(list(amounts.values())), self.keys[used], 1)


def adjustable_of(mesh: BodyMesh) -> Adjustable:
    """Give what of a body can be changed.

    Raises:
        InputError: the body does not say where its landmarks are.
    """
    names = tuple(str(name) for name in mesh.parameter_names)
    return Adjustable(ruler_of(mesh), mesh.vertices, names, mesh.parameter_keys)


def ruler_of(mesh: BodyMesh) -> Ruler:
    """Make the ruler of a body's topology.

    Raises:
        InputError: the body does not say where its landmarks are.
    """
    closed = np.where(mesh.faces < 0, mesh.faces[:, :1], mesh.faces)
    edges = np.stack([closed, np.roll(closed, -1, 1)], -1).reshape(-1, 2)
    return ruler(np.unique(np.sort(edges, 1), axis=0), arms_of(mesh), mesh.header.get("landmarks"))


def ruler(edges: Array, arms: Array, landmarks: Any) -> Ruler:
    """Make the ruler of a mesh of (E, 2) edges, (V,) of whose vertices are of arms.

    Raises:
        InputError: the landmarks are not those of a body.
    """
    if not isinstance(landmarks, dict) or any(name not in landmarks for name in (*_GIRTHS, "crotch")):
        raise InputError("This body names no landmarks, so it cannot be measured.", "Use a body of the model anny.")
    rows = {str(name): np.array(vertices, int) for name, vertices in landmarks.items()}
    if any(not len(found) or found.min() < 0 or found.max() >= len(arms) for found in rows.values()):
        raise InputError(f"This body's landmarks are not among its {len(arms)} vertices.", "Make the body again.")
    return Ruler(edges[~arms[edges].any(1)], rows)


def arms_of(mesh: BodyMesh) -> Array:
    """(V,) which vertices are of arms, that no tape goes round."""
    bones = [index for index, bone in enumerate(mesh.header["bones"]) if bone.startswith(_ARM)]
    return dense_weights(mesh)[:, bones].sum(1) >= 0.5


def outline(points: Array) -> float:
    """Length of the convex hull of (N, 2) points (monotone chain, Andrew 1979)."""
    order = points[np.lexsort((points[:, 1], points[:, 0]))]
    hull: list[Array] = []
    for chain in (order, order[::-1]):
        side: list[Array] = []
        for point in chain:
            while len(side) > 1 and _turn(side[-2], side[-1], point) <= 0:
                side.pop()
            side.append(point)
        hull += side[:-1]
    closed = np.array([*hull, hull[0]])
    return float(np.linalg.norm(np.diff(closed, axis=0), axis=1).sum())


def _turn(a: Array, b: Array, c: Array) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def reach(body: Adjustable, wanted: Mapping[str, float], given: Mapping[str, float] | None = None) -> dict[str, float]:
    """Find the keys of shape parameters that give a body wanted measures, as little as can be turned.

    Args:
        wanted: metres of some of MEASURES; the others stay near what they are.
        given: the amounts of keys that are set already.
    Returns:
        The amount of each key, in [0, 2]: what is set already and is not turned, and what is.
    Raises:
        InputError: a measure no body has, or that this one does not reach.
    """
    check_wanted(wanted)
    before = dict(given or {})
    turned = [name for name in _TURNED if f"{name}+" in body.names and f"{name}-" in body.names]
    if not turned:
        raise InputError("This body has no shape keys that could change its measures.", "Apply it with shape keys.")
    fixed = {name: value for name, value in before.items() if name[:-1] not in turned and value}

    def measured(values: Array) -> Array:
        found = body.ruler.measure(body.shaped({**fixed, **_signed(turned, values)}))
        return np.array([found[name] for name in MEASURES])

    amounts = np.array([before.get(f"{name}+", 0.0) - before.get(f"{name}-", 0.0) for name in turned])
    begun, now = amounts.copy(), measured(amounts)
    aim = np.array([wanted.get(name, now[row]) for row, name in enumerate(MEASURES)])
    farthest = np.array([1.0 if name in _WHOLE else FARTHEST for name in turned])
    trust = np.array([1.0 if name in wanted else _STAY for name in MEASURES])
    for _ in range(_STEPS):
        columns = [(measured(_nudged(amounts, k)) - now) / _step(amounts, k) for k in range(len(turned))]
        slope = np.stack(columns, 1) * trust[:, None]
        rows = np.concatenate([slope, _PULL * np.eye(len(turned))])
        left = np.concatenate([(aim - now) * trust, _PULL * (begun - amounts)])
        amounts = np.clip(amounts + np.linalg.lstsq(rows, left, rcond=None)[0], -farthest, farthest)
        begun = 0.5 * (begun + amounts)  # what is wanted counts more than where it began
        now = measured(amounts)
        if np.abs((now - aim)[trust == 1.0]).max(initial=0.0) < 0.5 * _CLOSE_M:
            break
    _check_reached(dict(zip(MEASURES, now, strict=True)), wanted)
    return {**fixed, **_signed(turned, amounts)}


def check_wanted(wanted: Mapping[str, float]) -> None:
    """Refuse measures that no body has.

    Raises:
        InputError: there is one.
    """
    for name, value in wanted.items():
        if name not in LIMITS_M:
            raise InputError(f"There is no measure {name!r}; known are {', '.join(MEASURES)}.")
        low, high = LIMITS_M[name]
        if not low <= value <= high:
            raise InputError(f"A {name} of {value:.2f} m is no body's; {low:g} to {high:g} m are possible.")


def _check_reached(found: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    far = [name for name in wanted if abs(found[name] - wanted[name]) > 5 * _CLOSE_M]
    if far:
        said = ", ".join(f"{name} {found[name]:.2f} m in place of {wanted[name]:.2f}" for name in far)
        hint = "Change less at once, or shape the body by its shape keys first."
        raise InputError(f"These measures do not go together on this body: {said}.", hint)


def _signed(names: list[str], amounts: Array) -> dict[str, float]:
    pairs = zip(names, amounts, strict=True)
    return {f"{name}{'+' if value >= 0 else '-'}": abs(float(value)) for name, value in pairs if abs(value) > 1e-6}


def _step(amounts: Array, row: int) -> float:
    return -_STEP if amounts[row] > 0.5 else _STEP


def _nudged(amounts: Array, row: int) -> Array:
    out = amounts.copy()
    out[row] += _step(amounts, row)
    return out
