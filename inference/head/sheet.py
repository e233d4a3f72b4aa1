"""A sheet of texture: which place of the mesh each texel shows, and how colours fill what none shows.

Pictures are (H, W, C) with the first row on top; texture coordinates are v up.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from ..core.artifacts import HeadMesh
from .nearest import Meshed
from .template import triangulate

Array = np.ndarray


@dataclass(frozen=True)
class Sheet:
    """Texels that show the mesh.

    size: of the sheet's side; texel (N,) flat indices; triangle (N,); weights (N, 3) of its corners; quad (N,) the
    face it is part of; triangles (T, 3) of vertices; uv (T, 3, 2).
    """

    size: int
    texel: Array
    triangle: Array
    weights: Array
    quad: Array
    triangles: Array
    uv: Array

    def at(self, values: Array) -> Array:
        """(N, C) of values of vertices (V, C)."""
        return np.einsum("nk,nkc->nc", self.weights, values[self.triangles[self.triangle]])

    def picture(self, values: Array, empty: float = 0.0) -> Array:
        """(H, W, C) with values (N, C) at their texels."""
        values = values.reshape(len(values), -1)
        out = np.full((self.size * self.size, values.shape[1]), empty, np.float32)
        out[self.texel] = values
        return out.reshape(self.size, self.size, -1)

    @property
    def covered(self) -> Array:
        """(H, W) bool."""
        out = np.zeros(self.size * self.size, bool)
        out[self.texel] = True
        return out.reshape(self.size, self.size)


def unroll(mesh: HeadMesh, size: int) -> Sheet:
    """Find what every texel of a sheet shows."""
    four = mesh.faces[:, 3] >= 0
    triangles = triangulate(mesh.faces)
    uv = np.concatenate([mesh.uv[:, :3], mesh.uv[four][:, [0, 2, 3]]]).astype(np.float64)
    quad = np.concatenate([np.arange(len(mesh.faces)), np.flatnonzero(four)])
    flat = np.concatenate([uv.reshape(-1, 2), np.zeros((3 * len(uv), 1))], 1)
    lying = Meshed(flat, np.arange(len(flat)).reshape(-1, 3))
    rows, columns = np.divmod(np.arange(size * size), size)
    above = np.stack([(columns + 0.5) / size, 1 - (rows + 0.5) / size, np.ones(size * size)], -1)
    places = lying.cast(above, np.broadcast_to([0.0, 0.0, -1.0], above.shape), 2.0)
    texel = np.flatnonzero(places.face >= 0)
    face = places.face[texel]
    return Sheet(size, texel, face, places.weights[texel], quad[face], triangles, uv)


def tangents(sheet: Sheet, vertices: Array, normals: Array) -> tuple[Array, Array]:
    """(N, 3) tangents along u and (N, 3) bitangents along v of each texel, square to its normal (N, 3)."""
    corner = vertices[sheet.triangles]
    edge = corner[:, 1:] - corner[:, :1]
    step = sheet.uv[:, 1:] - sheet.uv[:, :1]
    size = step[:, 0, 0] * step[:, 1, 1] - step[:, 0, 1] * step[:, 1, 0]
    along = (edge[:, 0] * step[:, 1, 1:] - edge[:, 1] * step[:, 0, 1:]) * np.sign(size)[:, None]
    total = np.zeros_like(vertices, float)
    for k in range(3):
        np.add.at(total, sheet.triangles[:, k], along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-20))
    tangent = sheet.at(total)
    tangent -= normals * (tangent * normals).sum(1, keepdims=True)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    hand = np.sign(size)[sheet.triangle][:, None]
    return tangent, np.cross(normals, tangent) * hand


def fill(picture: Array, weight: Array) -> Array:
    """(H, W, C) colours where there is weight, spread smoothly into where there is none (push and pull)."""
    top = np.concatenate([picture * weight[..., None], weight[..., None]], -1).astype(np.float32)
    levels = [top]
    while max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        half *= np.minimum(1.0, 4.0 * half[..., -1:]) / np.maximum(half[..., -1:], 1e-8)
        levels.append(half)
    below = levels[-1]
    below = below[..., :-1] / np.maximum(below[..., -1:], 1e-6)
    for level in reversed(levels[:-1]):
        up = cv2.resize(below, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR)
        up = up.reshape(*level.shape[:2], -1)
        below = level[..., :-1] + (1 - np.minimum(level[..., -1:], 1.0)) * up
    return below


def bleed(picture: Array, covered: Array) -> Array:
    """Continue colours past the borders of islands, so that no filter brings in what is between them."""
    rows, columns = np.asarray(distance_transform_edt(~covered, return_distances=False, return_indices=True))
    return picture[rows, columns]
