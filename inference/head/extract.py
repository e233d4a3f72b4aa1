"""A field to a dense surface: marching cubes where the surface can be, its largest piece, normals and colours.

A coarse grid is asked everywhere, a fine one only where the distance is smaller than a cell is wide. The resolution
follows from the number of faces that is wanted, so nothing has to be thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from ..core.artifacts import HeadSurface
from ..nets.neus import Field
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .frame import from_sphere, to_sphere

Array = np.ndarray
_EDGE = 0.985  # of the unit sphere: what lies outside has never been seen
_COARSE = 48  # cells along the sphere's diameter
_CHUNK = 65536
_FLOOR = -0.80  # of the unit sphere: below, the neck ends


@dataclass(frozen=True)
class ExtractSettings:
    """faces: how many the dense surface should have, within a fifth."""

    faces: int = 60_000


def extract(field: Field, settings: ExtractSettings, report: Reporter) -> HeadSurface:
    """Turn a field into its surface.

    Raises:
        InputError: the field has no surface inside the sphere.
        Cancelled: from `report`.
    """
    report.progress("extract", 0, 4)
    cells = _COARSE
    grid = _dense_grid(field, cells)
    vertices, faces = _marched(grid, cells)
    report.progress("extract", 1, 4)
    wanted = round(cells * (settings.faces / max(len(faces), 1)) ** 0.5)
    wanted = int(np.clip(wanted, 32, 640))
    vertices, faces = _march_near(field, grid, cells, wanted)
    report.progress("extract", 2, 4)
    vertices, faces = _kept(vertices, faces)
    vertices = _onto_surface(field, vertices)
    report.progress("extract", 3, 4)
    normals, colors = _appearance(field, vertices)
    report.progress("extract", 4, 4)
    return HeadSurface(
        {"unit": "m", "frame": "heads"}, from_sphere(vertices).astype(np.float32), faces.astype(np.int32), colors,
        normals.astype(np.float32),
    )  # fmt: skip


def _places(field: Field) -> tuple[torch.device, torch.dtype]:
    weight = field.sdf[0][0]
    return weight.device, weight.dtype


@torch.no_grad()
def distances(field: Field, points: Array) -> Array:
    """(N,) signed distances of points (N, 3) of the unit sphere."""
    device, dtype = _places(field)
    out = np.empty(len(points), np.float32)
    for start in range(0, len(points), _CHUNK):
        part = torch.as_tensor(points[start : start + _CHUNK], dtype=dtype, device=device)
        out[start : start + _CHUNK] = field.distance(part)[0][:, 0].float().cpu().numpy()
    return out


def _lattice(cells: int) -> Array:
    return np.linspace(-1.0, 1.0, cells + 1, dtype=np.float32)


def _dense_grid(field: Field, cells: int) -> Array:
    """(C + 1, C + 1, C + 1) distances."""
    axis = _lattice(cells)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return _bounded(distances(field, points), points).reshape((cells + 1,) * 3)


def _bounded(distance: Array, points: Array) -> Array:
    """Cut off what lies outside the sphere, or below the neck, by a surface that faces outwards."""
    outside = np.linalg.norm(points, axis=-1) - _EDGE
    below = _FLOOR - points[..., 2]
    return np.maximum(distance, np.maximum(outside, below).astype(np.float32))


def _marched(grid: Array, cells: int) -> tuple[Array, Array]:
    if not (grid.min() < 0 < grid.max()):
        raise InputError(
            f"The field holds no surface: its distances lie between {grid.min():.3f} and {grid.max():.3f}.",
            "Fit again from another photo or with another seed.",
        )
    vertices, faces, _, _ = marching_cubes(grid, 0.0, spacing=(2.0 / cells,) * 3, gradient_direction="descent")
    return vertices - 1.0, faces


def _march_near(field: Field, coarse: Array, cells: int, wanted: int) -> tuple[Array, Array]:
    """Marching cubes on a grid of `wanted` cells, of which only those near the surface are asked."""
    axis = _lattice(wanted)
    at = (axis + 1) / 2 * cells
    low = np.clip(at.astype(int), 0, cells - 1)
    part = (at - low).astype(np.float32)
    guess = coarse
    for dimension in range(3):  # the coarse distances between their places
        shape = [1, 1, 1]
        shape[dimension] = -1
        share = part.reshape(shape)
        first, second = np.take(guess, low, dimension), np.take(guess, low + 1, dimension)
        guess = first + share * (second - first)
    reach = 1.8 * (2.0 / cells) + 1.8 * (2.0 / wanted)
    index = np.nonzero(np.abs(guess) < reach)
    points = np.stack([axis[rows] for rows in index], -1)
    guess[index] = _bounded(distances(field, points), points)
    return _marched(guess, wanted)


def _kept(vertices: Array, faces: Array) -> tuple[Array, Array]:
    """The largest piece, without its lid at the floor and at the sphere: a head that is open at the neck."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(vertices),) * 2)
    label = connected_components(graph, directed=False)[1]
    largest = np.argmax(np.bincount(label[faces[:, 0]]))
    chosen = label[faces[:, 0]] == largest
    lid = (vertices[:, 2] < _FLOOR + 1e-3) | (np.linalg.norm(vertices, axis=1) > _EDGE - 1e-3)
    chosen &= ~lid[faces].all(1)
    rows, inverse = np.unique(faces[chosen], return_inverse=True)
    return vertices[rows], inverse.reshape(-1, 3)


def _gradients(field: Field, points: Array) -> tuple[Array, Array, Array]:
    """Distances (N,), gradients (N, 3) and colours (N, 3) in 0 to 1, seen from in front of each point."""
    device, dtype = _places(field)
    parts: list[tuple[Array, Array, Array]] = []
    for start in range(0, len(points), _CHUNK // 4):
        at = torch.as_tensor(points[start : start + _CHUNK // 4], dtype=dtype, device=device)
        distance, gradient, features = field.surface(at, create_graph=False)
        gradient = gradient.detach()
        view = -torch.nn.functional.normalize(gradient, dim=-1)
        with torch.no_grad():
            color = field.radiance(at, gradient, view, features.detach())
        parts.append((distance.detach()[:, 0].cpu().numpy(), gradient.cpu().numpy(), color.cpu().numpy()))
    distance, gradient, color = (np.concatenate([part[k] for part in parts]) for k in range(3))
    return distance, gradient, color


def _onto_surface(field: Field, vertices: Array) -> Array:
    """One step of Newton's: marching cubes' vertices lie on edges of cells, this close to the surface."""
    distance, gradient, _ = _gradients(field, vertices)
    inner = (np.linalg.norm(vertices, axis=1) < _EDGE - 0.01) & (vertices[:, 2] > _FLOOR + 0.01)
    step = distance[:, None] * gradient / np.maximum((gradient**2).sum(1, keepdims=True), 1e-6)
    step *= np.minimum(1.0, 0.01 / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
    return vertices - step * inner[:, None]


def _appearance(field: Field, vertices: Array) -> tuple[Array, Array]:
    """Normals (V, 3) and colours (V, 3) uint8."""
    _, gradient, color = _gradients(field, vertices)
    normals = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
    return normals, (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8)


def color_at(field: Field, points_m: Array, normals: Array) -> Array:
    """(N, 3) colours in 0 to 1 that the field shows at points (N, 3) metres, looked at along -normals (N, 3)."""
    device, dtype = _places(field)
    out = np.empty((len(points_m), 3), np.float32)
    for start in range(0, len(points_m), _CHUNK // 4):
        rows = slice(start, start + _CHUNK // 4)
        at = torch.as_tensor(to_sphere(points_m[rows]), dtype=dtype, device=device)
        view = torch.as_tensor(-normals[rows], dtype=dtype, device=device)
        _, gradient, features = field.surface(at, create_graph=False)
        with torch.no_grad():
            out[rows] = field.radiance(at, gradient.detach(), view, features.detach()).cpu().numpy()
    return out
