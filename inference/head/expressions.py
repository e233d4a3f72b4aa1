"""The template's shapes on another head: deformation transfer, and what must hold where parts meet.

A shape deforms the template's triangles; on the other head the same deformations are wanted, turned and sized as its
triangles are (Sumner 2004), which is one sparse system for all shapes. Eyeballs turn, teeth move as they are.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from .nearest import face_normals
from .seams import Lining, push_out, seen_when_closed
from .template import PARTS, Template

Array = np.ndarray
_FURTHER = (1.1, 1.2, 1.3, 1.4, 1.5, 1.65, 1.8)  # of a blink
_SEEN = 0.005
_HELD = 1e-3  # weight of where a vertex would go by itself, against the triangles


def transfer(template: Template, vertices: Array, frame: Array) -> Array:
    """(S, V, 3) offsets of the template's shapes on a head.

    frame: (3, 3) scale and rotation from the template's frame to the head's.
    """
    source, keys = template.vertices.astype(float), template.shape_keys.astype(float)
    out = keys @ frame.T
    chosen = np.isin(template.face_part, [PARTS.index(name) for name in ("skin", "mouth", "socket")])
    quads = template.faces[chosen]
    triangles = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]], quads[:, [0, 1, 3]], quads[:, [1, 2, 3]]])
    rows = np.unique(triangles)
    local = np.searchsorted(rows, triangles)
    system, lining = _Poisson(vertices[rows], local), Lining(template)
    for index in range(len(keys)):
        gradients = _gradients(source[rows], source[rows] + keys[index][rows], local)
        still = np.linalg.norm(keys[index][rows], axis=1) < 1e-6
        out[index][rows] = system.solve(gradients, out[index][rows], still)
        out[index] = _eyes(template, vertices, index, out[index])
        if template.shape_key_names[index].startswith("eyeBlink"):
            out[index] = _closed(template, vertices, index, out[index])
        if np.abs(keys[index][lining.rows]).max() > 1e-5:
            out[index] = lining.tuck(vertices + out[index]) - vertices
    return out


class _Poisson:
    """Places of vertices whose triangles deform as asked."""

    def __init__(self, vertices: Array, triangles: Array) -> None:
        self._vertices, self._triangles = vertices, triangles
        edges = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        ends = vertices[edges[:, 1]] - vertices[edges[:, 0]]
        self._weights = 1.0 / np.maximum(np.linalg.norm(ends, axis=1), 2e-4)
        self._weights /= self._weights.mean()
        count = len(edges)
        self._edges = sparse.coo_matrix(
            (np.tile([-1.0, 1.0], count), (np.repeat(np.arange(count), 2), edges.ravel())), (count, len(vertices))
        ).tocsr()
        self._ends = ends
        self._normal = (self._edges.T @ sparse.diags(self._weights) @ self._edges).tocsc()

    def solve(self, gradients: Array, guess: Array, still: Array) -> Array:
        """(V, 3) offsets; `gradients` (T, 3, 3) of the triangles, `still` (V,) where nothing moves."""
        each = np.tile(gradients, (3, 1, 1))
        change = np.einsum("nij,nj->ni", each, self._ends) - self._ends
        held = sparse.diags(np.where(still, 10.0, _HELD))
        right = self._edges.T @ (self._weights[:, None] * change) + held @ np.where(still[:, None], 0.0, guess)
        return splu((self._normal + held).tocsc()).solve(right)


def _frames(vertices: Array, triangles: Array) -> Array:
    """(T, 3, 3) two edges and the normal of each triangle, as columns."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.stack([b - a, c - a, face_normals(vertices, triangles) * 1e-3], -1)


def _gradients(start: Array, end: Array, triangles: Array) -> Array:
    """(T, 3, 3) what each triangle does between two states."""
    before, after = _frames(start, triangles), _frames(end, triangles)
    flat = np.abs(np.linalg.det(before)) < 1e-14
    before[flat] = after[flat] = np.eye(3)
    return after @ np.linalg.inv(before)


def _closed(template: Template, vertices: Array, index: int, offsets: Array) -> Array:
    """Move the lids further until nothing is seen between them: eyes may be opened wider than the template's."""
    side, out = template.shape_key_names[index][len("eyeBlink")], offsets
    for more in _FURTHER:
        if seen_when_closed(template, vertices, vertices + out, side) < _SEEN:
            break
        out = _eyes(template, vertices, index, offsets * more)
    return out


def _eyes(template: Template, vertices: Array, index: int, offsets: Array) -> Array:
    """Turn eyeballs as the template's turn, and keep lids outside of them."""
    for side in "LR":
        rows = template.vertices_of(f"eye.{side}")
        start = template.vertices[rows].astype(float)
        moved = template.shape_keys[index][rows]
        if np.abs(moved).max() > 1e-5:
            middle = (start[0] + start[-1]) / 2
            u, _, vt = np.linalg.svd((start + moved - middle).T @ (start - middle))
            turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
            centre, _ = template.eye(side, vertices)
            offsets[rows] = (vertices[rows] - centre) @ turn.T + centre - vertices[rows]
        offsets = push_out(template, vertices + offsets, side, vertices) - vertices
    return offsets
