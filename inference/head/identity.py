"""The template brought near a head by a similarity, how people differ, and an expression: all linear but the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from .anchors import OUTLINE
from .frame import similarity
from .nearest import Meshed, vertex_normals
from .template import Template

Array = np.ndarray
_ROUNDS = 8
INWARD = 0.5  # at least, how far a surface is believed that lies inside: no skin is outside of hair and clothes
_NOISE, _OUTLINE_NOISE = 0.0045, 0.018  # metres, of landmarks, and of a face's outline, which has no fixed place
_USUAL = 2.5  # how much more a usual head is expected than by errors that are each their own; likewise, squared:
_STILL = 10.0  # how much less an expression is expected than a trait of the person
_LIMIT = 2.5  # standard deviations
_HAIR, _HAIR_SPREAD = 0.010, 0.010  # metres from the skull to the surface of hair, and how much that varies
_EXPRESSIVE = (
    "jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthStretchLeft", "mouthStretchRight", "mouthFrownLeft", "mouthFrownRight", "mouthPucker",
    "mouthFunnel", "mouthLeft", "mouthRight", "browInnerUp", "browDownLeft", "browDownRight", "browOuterUpLeft",
    "browOuterUpRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "cheekSquintLeft",
    "cheekSquintRight",
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """A template brought near a head.

    scale, turn, move: the similarity from the template's frame; neutral and posed: (V, 3) without and with the
    expression; weights: of its shapes by name.
    """

    scale: float
    turn: Array
    move: Array
    neutral: Array
    posed: Array
    weights: dict[str, float]


def fit_linear(template: Template, landmarks: Array, surface: Meshed, *, expressive: bool = True) -> Fit:
    """Fit to landmarks (478, 3), then to the surface too; `expressive`: the face may have an expression."""
    known = np.flatnonzero(np.isfinite(landmarks).all(1) & (np.arange(len(landmarks)) < 468))
    names = _EXPRESSIVE if expressive else ()
    modes = np.concatenate([template.identity, *(template.key(name)[None] for name in names)])
    marks, where = template.landmark_weights[known], template.landmark_vertices[known]
    seen = np.einsum("nk,mnkc->mnc", marks, modes[:, where])
    start = np.einsum("nk,nkc->nc", marks, template.vertices[where])
    noise = np.where(np.isin(known, OUTLINE), _OUTLINE_NOISE, _NOISE)
    sure, noise = 1 / noise**2, np.repeat(noise, 3)
    people = len(template.identity)
    values, posed = np.zeros(len(modes)), template.vertices
    limits = np.concatenate([np.full(people, _LIMIT), np.ones(len(names))])
    lower = np.concatenate([np.full(people, -_LIMIT), np.zeros(len(names))])
    pull = _USUAL * np.sqrt(np.concatenate([np.full(people, 1.0), np.full(len(names), _STILL)]))
    skin = template.vertices_of("skin")
    trust = template.trust
    skin = skin[trust[skin] > 0.05]
    triangles, crown = template.triangles, _crown(template)
    scale, turn, move = similarity(start, landmarks[known], sure)
    for step in range(_ROUNDS):
        moved = np.einsum("nk,nkc->nc", marks, posed[where])
        scale, turn, move = similarity(moved, landmarks[known], sure)
        target = (landmarks[known] - move) @ turn / scale
        rows = [seen.reshape(len(modes), -1).T / noise[:, None], np.diag(pull)]
        wanted = [(target - start).ravel() / noise, np.zeros(len(modes))]
        if step > 1:
            places = surface.nearest(scale * posed[skin] @ turn.T + move, 0.03)
            to = (places.points - move) @ turn / scale
            normal = vertex_normals(posed, triangles)[skin]
            off = to - posed[skin]
            far = np.abs((off * normal).sum(1))
            believed = np.where((off * normal).sum(1) < 0, np.maximum(trust[skin], INWARD), trust[skin])
            weight = np.sqrt(believed * (places.face >= 0) / (1 + (far / 0.002) ** 2)) / 0.002 / 4
            rows.append(np.einsum("mnc,nc->nm", modes[:, skin], normal) * weight[:, None])
            wanted.append(((to - template.vertices[skin]) * normal).sum(1) * weight)
            normal = vertex_normals(posed, triangles)[crown]
            places = surface.nearest(scale * posed[crown] @ turn.T + move, 0.06)
            to = (places.points - move) @ turn / scale - _HAIR * normal
            weight = (places.face >= 0) / _HAIR_SPREAD / 6
            rows.append(np.einsum("mnc,nc->nm", modes[:, crown], normal) * weight[:, None])
            wanted.append(((to - template.vertices[crown]) * normal).sum(1) * weight)
        values = lsq_linear(np.concatenate(rows), np.concatenate(wanted), (lower, limits + 1e-9), tol=1e-4).x
        posed = template.vertices + np.tensordot(values, modes, 1)
    neutral = template.vertices + np.tensordot(values[:people], modes[:people], 1)
    weights = {name: float(w) for name, w in zip(names, values[people:], strict=True) if w > 0.02}
    return Fit(scale, turn, move, scale * neutral @ turn.T + move, scale * posed @ turn.T + move, weights)


def _crown(template: Template) -> Array:
    """Vertices of the skull that hair may cover: above the eyes and behind the forehead."""
    skin = template.vertices_of("skin")
    points, eyes = template.vertices[skin], template.eye("L", template.vertices)[0]
    return skin[(points[:, 2] > eyes[2] + 0.02) & (points[:, 1] > eyes[1] + 0.03)]
