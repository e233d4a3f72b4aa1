"""Pictures of a finished head, by rays: the dense surface, in its colours and as clay, and the clean mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.artifacts import HeadMesh, HeadSurface
from ..core.cameras import level_rotation, pinhole, rays
from .frame import CENTRE
from .nearest import Meshed, Places, vertex_normals
from .wrap import posed

Array = np.ndarray
_AWAY_M, _LENS = 1.1, 2.4  # of the camera: distance, and focal length in widths of the picture
_LAMP = np.array([0.4, -0.8, 0.5]) / np.linalg.norm([0.4, -0.8, 0.5])
_BEHIND = 128
_FINER = 2  # rays each way in a pixel


def picture_surface(surface: HeadSurface, turn_deg: float, size: int, *, clay: bool = False) -> Array:
    """(size, size, 3) uint8 of the dense surface seen from `turn_deg` to the person's left, on grey."""
    meshed = Meshed(surface.vertices, surface.faces)
    seen = _look(meshed, turn_deg, size)
    if clay:
        return _picture(seen, _shade(meshed.at(seen, surface.normals))[:, None] * np.full(3, 225.0), size)
    return _picture(seen, meshed.at(seen, surface.colors.astype(float)), size)


def picture_mesh(mesh: HeadMesh, color: Array, turn_deg: float, size: int) -> Array:
    """(size, size, 3) uint8 of the clean mesh as it was photographed, with its texture (H, W, 4), lightly shaded."""
    triangles, uv = _triangles(mesh)
    meshed = Meshed(posed(mesh), triangles)
    seen = _look(meshed, turn_deg, size)
    at = np.einsum("nk,nkc->nc", seen.weights, uv[seen.face.clip(0)])
    height, width = color.shape[:2]
    columns = np.clip(at[:, 0] * width, 0, width - 1).astype(int)
    rows = np.clip((1.0 - at[:, 1]) * height, 0, height - 1).astype(int)
    normals = meshed.at(seen, vertex_normals(meshed.vertices, triangles))
    return _picture(seen, color[rows, columns, :3] * (0.55 + 0.5 * _shade(normals)[:, None]), size)


def _triangles(mesh: HeadMesh) -> tuple[Array, Array]:
    """(T, 3) vertices and (T, 3, 2) texture coordinates of all faces, quads cut in two."""
    second = mesh.faces[:, 3] >= 0
    triangles = np.concatenate([mesh.faces[:, :3], mesh.faces[second][:, [0, 2, 3]]])
    return triangles, np.concatenate([mesh.uv[:, :3], mesh.uv[second][:, [0, 2, 3]]])


def _look(meshed: Meshed, turn_deg: float, size: int) -> Places:
    """What the rays of a picture meet."""
    turn, count = np.radians(turn_deg), size * _FINER
    eye = CENTRE + _AWAY_M * np.array([np.sin(turn), -np.cos(turn), 0.05])
    camera = replace(pinhole("view", (count, count), _LENS * count), rotation=level_rotation(CENTRE - eye))
    v, u = np.mgrid[:count, :count]
    seen = rays(camera, np.stack([u.ravel(), v.ravel()], -1))
    return meshed.cast(np.broadcast_to(eye, seen.shape), seen)


def _shade(normals: Array) -> Array:
    """(N,) light from the front, above and the left."""
    return 0.3 + 0.7 * np.clip(normals @ _LAMP, 0.0, 1.0)


def _picture(seen: Places, colors: Array, size: int) -> Array:
    """Average the rays of each pixel."""
    out = np.where(seen.face[:, None] >= 0, colors, _BEHIND)
    out = out.reshape(size, _FINER, size, _FINER, 3).mean((1, 3))
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)
